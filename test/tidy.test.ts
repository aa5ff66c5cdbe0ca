/**
 * What the linter cannot see, because it is about the tree and not about one file: who may import whom, no cycles,
 * a docstring on every export, no file that has grown too long, the words of the field. Reads sources as text; the
 * few regular expressions below rely on Prettier's layout, which the same gate checks.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from '@jest/globals';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const MAX_LINES = 400;

/** Folders that are not ours, or built. */
const IGNORED_FOLDERS = new Set(['node_modules', 'dist', 'coverage', '.git']);
/** Folders whose code nothing else may import, and which may import anything. */
const OUTSIDE = new Set(['test', 'bench', 'examples', 'scripts']);

/** Which of our folders a folder may import, besides itself. ARCHITECTURE.md, "Code map". */
const ALLOWED_FOLDERS: Readonly<Record<string, readonly string[]>> = {
  protocol: [],
  io: ['protocol'],
  systemd: ['protocol', 'io'],
  master: ['protocol', 'io'],
  agent: ['protocol', 'io', 'systemd'],
  executor: ['protocol', 'io'],
  framework: ['protocol', 'io'],
  schedulers: ['protocol', 'io', 'framework', 'executor'],
  mesos: ['protocol', 'io', 'framework'],
  // The command is how daemons and schedulers are started, so it reaches all of them.
  cli: ['protocol', 'io', 'framework', 'master', 'agent', 'executor', 'schedulers', 'mesos'],
  ui: ['protocol'],
};

/** Single doors through the walls above: `from` (a path prefix) may import `to` (likewise). */
const DOORS = [
  // `kaon dev` brings its own private systemd.
  { from: 'cli/dev', to: 'systemd/' },
  { from: 'cli/demo', to: 'systemd/' },
];

/** Files that decide without I/O: a core, and what the simulator shares with the agent. */
const PURE = /(^|\/)core\/|^systemd\/(properties|names|port|reread|sandboxing)\.ts$/;

interface Source {
  /** Relative to the root, with forward slashes. */
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
}

function listFiles(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory()) return IGNORED_FOLDERS.has(entry.name) ? [] : listFiles(path);
    return entry.isFile() ? [path] : [];
  });
}

function readSource(path: string): Source {
  const text = readFileSync(join(ROOT, path), 'utf8');
  return { path, text, lines: text.split('\n') };
}

function folderOf(path: string): string {
  return path.split('/')[0] ?? '';
}

const FILES = listFiles('').sort();
const SOURCES = FILES.filter((path) => path.endsWith('.ts')).map(readSource);
const PRODUCTION = SOURCES.filter(({ path }) => path.includes('/') && !OUTSIDE.has(folderOf(path)));

interface Import {
  /** As written: `../protocol/ids.ts`, `node:fs`, `zod`. */
  readonly specifier: string;
  /** The imported file of ours, relative to the root; undefined for packages and node's modules. */
  readonly target: string | undefined;
  /** Whether the import survives into the built code at load time; a cycle of types alone does not exist at run time. */
  readonly isLoaded: boolean;
}

const STATIC_IMPORT = /^(import|export)( type)?\b(?:[^'";]*?\bfrom)?\s*'([^']+)'/gm;
const DYNAMIC_IMPORT = /\bimport\(\s*'([^']+)'\s*\)/g;

function resolveOurs(path: string, specifier: string): string | undefined {
  return specifier.startsWith('.') ? normalize(join(dirname(path), specifier)) : undefined;
}

function importsOf({ path, text }: Source): Import[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '');
  const loaded = [...code.matchAll(STATIC_IMPORT)].map(([, , type, specifier = '']) => ({
    specifier,
    target: resolveOurs(path, specifier),
    isLoaded: type === undefined,
  }));
  const lazy = [...code.matchAll(DYNAMIC_IMPORT)].map(([, specifier = '']) => ({
    specifier,
    target: resolveOurs(path, specifier),
    isLoaded: false,
  }));
  return [...loaded, ...lazy];
}

const IMPORTS = new Map(SOURCES.map((source) => [source.path, importsOf(source)]));

/** Why `path` may not import `target`, or undefined if it may. */
function layeringFault(path: string, target: string): string | undefined {
  const from = folderOf(path);
  const to = folderOf(target);
  if (DOORS.some((door) => path.startsWith(door.from) && target.startsWith(door.to)))
    return undefined;
  if (OUTSIDE.has(to)) return `nothing imports ${to}/`;
  if (target.endsWith('/main.ts') && from !== 'cli') return 'only the command starts a main.ts';
  if (from === to) return undefined;
  const allowed = ALLOWED_FOLDERS[from];
  if (allowed === undefined) return `${from}/ has no place in the layering of test/tidy.test.ts`;
  return allowed.includes(to)
    ? undefined
    : `${from}/ may import ${allowed.join(', ') || 'nothing of ours'}`;
}

/** Why a pure file may not import this, or undefined if it may. */
function purityFault(path: string, { specifier, target }: Import): string | undefined {
  if (target === undefined) {
    return specifier === 'node:assert/strict'
      ? undefined
      : 'pure code imports no package and nothing of node';
  }
  const isPure =
    folderOf(target) === 'protocol' || (PURE.test(target) && folderOf(path) === folderOf(target));
  return isPure ? undefined : 'pure code imports protocol/ and its own core only';
}

/** Every way round, each told once: `a.ts -> b.ts -> a.ts`. Depth-first, O(files + imports). */
function findCycles(): string[] {
  const cycles: string[] = [];
  const done = new Set<string>();
  const stack: string[] = [];
  const visit = (path: string): void => {
    const at = stack.indexOf(path);
    if (at !== -1) {
      cycles.push([...stack.slice(at), path].join(' -> '));
      return;
    }
    if (done.has(path)) return;
    stack.push(path);
    for (const { target, isLoaded } of IMPORTS.get(path) ?? []) {
      if (isLoaded && target !== undefined) visit(target);
    }
    stack.pop();
    done.add(path);
  };
  for (const { path } of PRODUCTION) visit(path);
  return cycles;
}

const EXPORT =
  /^export (?:default )?(?:declare )?(?:abstract )?(?:async )?(function\*?|class|interface|const|type) (\w+)/;

interface Exported {
  readonly where: string;
  readonly kind: string;
  readonly name: string;
  readonly hasDocstring: boolean;
}

/** The type that goes with a schema or a table of constants of the same name shares its docstring. */
function isTypeOfValueAbove({ lines }: Source, index: number, name: string): boolean {
  return lines.slice(0, index).some((line) => new RegExp(`^export const ${name}\\b`).test(line));
}

/** Constants of one line each, without a blank line between them, share the docstring above the first. */
function isInBlockOfConstants({ lines }: Source, index: number): boolean {
  const isConstant = (at: number): boolean => /^export const .*;$/.test(lines[at] ?? '');
  let first = index;
  while (isConstant(first) && isConstant(first - 1)) first -= 1;
  return first < index && (lines[first - 1] ?? '').trimEnd().endsWith('*/');
}

function exportsOf(source: Source): Exported[] {
  return source.lines.flatMap((line, index) => {
    const [, kind, name] = EXPORT.exec(line) ?? [];
    if (kind === undefined || name === undefined) return [];
    const above = source.lines[index - 1]?.trimEnd() ?? '';
    const isOverload = new RegExp(`^export (async )?function ${name}\\b.*;$`).test(above);
    const isDerived = kind === 'type' && isTypeOfValueAbove(source, index, name);
    const isCovered = isOverload || isDerived || isInBlockOfConstants(source, index);
    const hasDocstring = above.endsWith('*/') || isCovered;
    return [{ where: `${source.path}:${index + 1}`, kind, name, hasDocstring }];
  });
}

const EXPORTS = PRODUCTION.flatMap(exportsOf);

/** Lines of the given sources that match, as `path:line: text`. */
function grep(sources: readonly Source[], pattern: RegExp): string[] {
  return sources.flatMap(({ path, lines }) =>
    lines.flatMap((line, index) =>
      pattern.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [],
    ),
  );
}

describe('imports', () => {
  test('go one way: protocol <- io <- daemons <- schedulers, mesos, cli', () => {
    const faults = PRODUCTION.flatMap(({ path }) =>
      (IMPORTS.get(path) ?? []).flatMap(({ specifier, target }) => {
        const fault = target === undefined ? undefined : layeringFault(path, target);
        return fault === undefined ? [] : [`${path} imports ${specifier}: ${fault}`];
      }),
    );
    expect(faults).toEqual([]);
  });

  test('of a core stay in that core and protocol', () => {
    const faults = PRODUCTION.filter(({ path }) => PURE.test(path)).flatMap(({ path }) =>
      (IMPORTS.get(path) ?? []).flatMap((one) => {
        const fault = purityFault(path, one);
        return fault === undefined ? [] : [`${path} imports ${one.specifier}: ${fault}`];
      }),
    );
    expect(faults).toEqual([]);
  });

  test('have no cycle', () => {
    expect(findCycles()).toEqual([]);
  });

  test('name files that exist, with their extension', () => {
    const faults = [...IMPORTS].flatMap(([path, imports]) =>
      imports
        .filter(({ target }) => target !== undefined && !existsSync(join(ROOT, target)))
        .map(({ specifier }) => `${path} imports ${specifier}`),
    );
    expect(faults).toEqual([]);
  });
});

describe('exports', () => {
  test('have a docstring', () => {
    const faults = EXPORTS.filter((one) => !one.hasDocstring);
    expect(faults.map(({ where, kind, name }) => `${where} ${kind} ${name}`)).toEqual([]);
  });

  test('use the words of the field: agent, executor, task', () => {
    // `Worker` and `Job` of BullMQ are imported by schedulers/bullmq, but nothing of ours is called so.
    const faults = EXPORTS.filter(({ name }) => /slave|worker|minion/i.test(name));
    expect(faults.map(({ where, name }) => `${where} ${name}`)).toEqual([]);
  });
});

describe('files', () => {
  test(`outside tests have at most ${MAX_LINES} lines`, () => {
    const faults = PRODUCTION.filter(({ lines }) => lines.length > MAX_LINES + 1);
    expect(faults.map(({ path, lines }) => `${path}: ${lines.length - 1}`)).toEqual([]);
  });

  test('are named in kebab-case', () => {
    const faults = SOURCES.filter(
      ({ path }) => !/^([a-z0-9-]+\/)*[a-z0-9-]+(\.[a-z]+)*\.ts$/.test(path),
    );
    expect(faults.map(({ path }) => path)).toEqual([]);
  });

  test('of daemons and libraries do not write to the console', () => {
    const silent = PRODUCTION.filter(({ path }) => !['cli', 'ui'].includes(folderOf(path)));
    expect(grep(silent, /^[^/*]*\bconsole\./)).toEqual([]);
  });

  test('of tests use the fakes of the ports, not jest.mock', () => {
    const tests = SOURCES.filter(({ path }) => path.startsWith('test/'));
    expect(grep(tests, /\bjest\.(mock|unstable_mockModule|doMock)\(/)).toEqual([]);
  });

  test('name no folder of the machine they were written on', () => {
    const texts = FILES.filter((path) => /\.(ts|js|mjs|json|sh|md|service|ya?ml)$/.test(path));
    // Character classes, so that this line does not find itself.
    const pattern = /[/]work[/](main|shared)|[/]tmp[/]bash_jobs/;
    expect(grep(texts.map(readSource), pattern)).toEqual([]);
  });

  test('package-lock.json names versions and checksums, no download addresses', () => {
    expect(grep([readSource('package-lock.json')], /"resolved": "http/)).toEqual([]);
  });
});

describe('the scan itself', () => {
  test('sees the sources', () => {
    expect(relative(ROOT, fileURLToPath(import.meta.url))).toBe('test/tidy.test.ts');
    expect(PRODUCTION.length).toBeGreaterThan(5);
    expect([...IMPORTS.values()].flat().length).toBeGreaterThan(PRODUCTION.length);
  });
});
