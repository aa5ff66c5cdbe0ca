/**
 * A module with all that it imports as one file, made by esbuild; `kaon/*` stays outside, it is the Kaon of the node. esbuild
 * is loaded here and nowhere else, and Kaon works without it: it is looked for beside Kaon and beside the module.
 */
import { existsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, extname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type * as EsbuildModule from 'esbuild';
import { codeOf, KaonError, messageOf } from '../../protocol/errors.ts';

/** Modules that are bundled; anything else is a command. */
const EXTENSIONS: readonly string[] = ['.ts', '.mts', '.js', '.mjs'];

/** The program on the nodes: `require` and the names of CommonJS for what is bundled of it, which an ES module lacks. */
const BANNER = [
  "import { createRequire as kaonCreateRequire } from 'node:module';",
  "import { fileURLToPath as kaonFileOf } from 'node:url';",
  'globalThis.require ??= kaonCreateRequire(import.meta.url);',
  'globalThis.__filename ??= kaonFileOf(import.meta.url);',
  "globalThis.__dirname ??= kaonFileOf(new URL('.', import.meta.url));",
].join('\n');

type Esbuild = typeof EsbuildModule;

/** @returns whether it names a module to bundle, and not a command */
export function isModule(program: string): boolean {
  return EXTENSIONS.includes(extname(program));
}

/** @returns name of the program in the sandbox: that of the module, as an ES module */
export function bundledName(path: string): string {
  const name = basename(path, extname(path)).replaceAll(/[^\w.-]/g, '_');
  return `${name.replace(/^\.+/, '') || 'program'}.mjs`;
}

/**
 * @param path of the module
 * @returns the code of it all
 * @throws KaonError `usage` if there is no such file, `no-esbuild`, or `program-invalid` with what esbuild says
 */
export async function bundleModule(path: string): Promise<string> {
  if (!existsSync(path) || !statSync(path).isFile()) {
    throw new KaonError('usage', `${path}: there is no such file`, {
      hint: 'a command that is on the nodes is given after --, as kaon submit -- node /srv/app/main.mjs',
    });
  }
  const esbuild = await loadEsbuild(path);
  try {
    const { outputFiles } = await esbuild.build({
      entryPoints: [resolve(path)],
      bundle: true,
      write: false,
      platform: 'node',
      target: 'node20',
      format: 'esm',
      external: ['kaon/*'],
      legalComments: 'none',
      // Errors are told by the names of their classes, which bundling would change.
      keepNames: true,
      banner: { js: BANNER },
      logLevel: 'silent',
    });
    return outputFiles[0]?.text ?? '';
  } catch (error) {
    throw await explain(esbuild, path, error);
  } finally {
    await esbuild.stop();
  }
}

/** What esbuild finds wrong, with file, line and the line itself, as it says it. */
async function explain(esbuild: Esbuild, path: string, cause: unknown): Promise<KaonError> {
  const { errors } = cause as { errors?: Parameters<Esbuild['formatMessages']>[0] };
  const options = { kind: 'error', color: false } as const;
  const found = errors ? await esbuild.formatMessages(errors, options) : [messageOf(cause)];
  const words = found.map((text) => text.trimEnd()).join('\n');
  return new KaonError('program-invalid', `${path} cannot be bundled\n${words}`, { cause });
}

async function loadEsbuild(path: string): Promise<Esbuild> {
  // Not a literal: a bundler would put it into the command, where it does not find its own binary.
  const name = 'esbuild';
  try {
    return (await import(name)) as Esbuild;
  } catch (error) {
    if (codeOf(error) !== 'ERR_MODULE_NOT_FOUND') throw unusable(error);
  }
  try {
    const found = createRequire(pathToFileURL(resolve(path))).resolve(name);
    const loaded = (await import(pathToFileURL(found).href)) as Esbuild & { default?: Esbuild };
    return loaded.default ?? loaded;
  } catch (error) {
    if (codeOf(error) !== 'MODULE_NOT_FOUND') throw unusable(error);
    throw new KaonError('no-esbuild', 'esbuild is needed to send a module, and is not there', {
      cause: error,
      hint: `npm install esbuild beside ${path}, or give a command that is on the nodes`,
    });
  }
}

function unusable(cause: unknown): KaonError {
  return new KaonError('no-esbuild', `esbuild cannot be used: ${messageOf(cause)}`, { cause });
}
