// Manual pages and shell completion, written from the definitions of the commands: the build calls this.

import { build } from 'esbuild';

/** What runs the commands is loaded when one is run; for the pages none is. */
const WITHOUT_ACTIONS = {
  name: 'without-actions',
  setup({ onResolve }) {
    onResolve({ filter: /./ }, ({ kind, path }) =>
      kind === 'dynamic-import' ? { path, external: true } : undefined,
    );
  },
};

/** @returns the files as `{ path, text }`, by their path below dist/ */
export async function packagePages({ root, version }) {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: ['cli/package-pages.ts'],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    plugins: [WITHOUT_ACTIONS],
    logLevel: 'warning',
    banner: {
      js: "import { createRequire as r } from 'node:module'; const require = r(process.execPath);",
    },
  });
  const code = Buffer.from(outputFiles[0].contents).toString('base64');
  const { packagePages: pages } = await import(`data:text/javascript;base64,${code}`);
  return pages(version);
}
