// Jest's transformer: TypeScript to ES modules by esbuild, one file at a time. Types are not checked here;
// `tsc --noEmit` does that in the same gate. It never bundles, so jest still sees every module by itself.

import { createHash } from 'node:crypto';
import { transform, version } from 'esbuild';

const OPTIONS = { loader: 'ts', format: 'esm', target: 'node20', sourcemap: 'inline' };

export default {
  // Only the asynchronous form exists: the synchronous one would start an esbuild process per file.
  async processAsync(source, path) {
    const { code } = await transform(source, { ...OPTIONS, sourcefile: path });
    return { code };
  },
  // A new esbuild or other options must not be answered from jest's cache of the old ones.
  getCacheKey(source, path) {
    const parts = [version, JSON.stringify(OPTIONS), path, source];
    return createHash('sha256').update(parts.join('\0')).digest('hex');
  },
};
