/** The input of a job, and how it is cut into splits: one for each map task. */
import { readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** A last piece up to a tenth of a split longer is not cut again, as in Hadoop. */
const SLOP = 1.1;

/**
 * What `--input` names: `FILE`, or `FILE@HOST,HOST` with the nodes that have it (host names or ids of agents). Of a
 * directory all files in it, but those that begin with `_` or `.`: so the output of a job can be the input of the next.
 *
 * @returns `[{path, bytes, hosts}]`
 * @throws Error with what is wrong with it
 */
export function readInput(text) {
  const at = text.lastIndexOf('@');
  const isPlain = at === -1 || isThere(text);
  const path = resolve(isPlain ? text : text.slice(0, at));
  const hosts = isPlain ? [] : text.slice(at + 1).split(',');
  if (hosts.includes('')) throw new Error(`input ${text}: a name of a node is empty`);
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat) throw new Error(`input ${path}: there is no such file`);
  if (stat.isFile()) return [{ path, bytes: stat.size, hosts }];
  if (!stat.isDirectory()) throw new Error(`input ${path}: neither a file nor a directory`);
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isFile() && !/^[_.]/.test(entry.name))
    .map(({ name }) => ({ path: join(path, name), bytes: statSync(join(path, name)).size, hosts }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

const isThere = (path) => statSync(path, { throwIfNoEntry: false }) !== undefined;

/** @returns `[{path, start, end, hosts}]`: each byte of each file in one of them; of an empty file none */
export function splitsOf(inputs, splitBytes) {
  return inputs.flatMap(({ path, bytes, hosts }) => {
    const splits = [];
    for (let start = 0; start < bytes;) {
      const isLast = bytes - start <= splitBytes * SLOP;
      const end = isLast ? bytes : start + splitBytes;
      splits.push({ path, start, end, hosts });
      start = end;
    }
    return splits;
  });
}
