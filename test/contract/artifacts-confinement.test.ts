/**
 * Whatever an archive holds, and whatever links a task has made in its sandbox, nothing outside of the sandbox changes. Random
 * entries over few names, so that they meet; what is refused is left out, and the rest goes on: harsher than a fetch, which
 * ends with the first.
 */
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { Placing } from '../../agent/artifacts/placing.ts';
import { codeOf } from '../../protocol/errors.ts';

// Thousands of files, on a disk that may be busy.
jest.setTimeout(120_000);

interface Entry {
  readonly kind: 'file' | 'directory' | 'symbolicLink' | 'hardLink' | 'planted';
  readonly name: string;
  readonly target: string;
}

const down = fc.constantFrom('a', 'b', 'c');
const any = fc.oneof({ weight: 4, arbitrary: down }, fc.constantFrom('..', '.'));
const join3 = (arbitrary: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.array(arbitrary, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
const name = fc.oneof(
  { weight: 3, arbitrary: down },
  { weight: 3, arbitrary: join3(down) },
  join3(any),
);
/** Some lead to what is there, outside. */
const target = fc.oneof(
  join3(any),
  fc.constantFrom('..', '../..', '../b', '../../c', '../../../c'),
  fc.tuple(join3(down), down).map(([first, last]) => `${first}/../${last}`),
);
const entry = (kinds: readonly Entry['kind'][]): fc.Arbitrary<Entry> =>
  fc.record({ kind: fc.constantFrom(...kinds), name, target });

const REFUSALS = new Set(['artifact-refused', 'EEXIST', 'EISDIR', 'ENOTDIR', 'ENOENT', 'ELOOP']);

function attempt(change: () => void): void {
  try {
    change();
  } catch (error) {
    if (!REFUSALS.has(codeOf(error) ?? '')) throw error;
  }
}

/** What a task links outside of its sandbox is the task's doing: here it stays inside. */
function plant(root: string, name: string, target: string): void {
  const link = join(root, name);
  if (`${realpathSync(dirname(link))}/`.startsWith(`${root}/`)) symlinkSync(target, link);
}

function place(root: string, entries: readonly Entry[]): void {
  const budget = { bytesLeft: 1_000_000, entriesLeft: 10_000 };
  const placing = new Placing(root, '.temporary', budget);
  const into = placing.extraction([], 0);
  for (const one of entries) {
    attempt(() => {
      if (one.kind === 'planted') plant(root, one.name, one.target);
      else if (one.kind === 'directory') into.directory(one.name);
      else if (one.kind !== 'file') into[one.kind](one.name, one.target);
      else {
        const file = into.file(one.name);
        file.write(Buffer.from('new'));
        file.finish();
      }
    });
  }
  placing.close();
}

/** Paths below the directory, and those that are files with what they hold; the sandbox itself is left out. */
function describeAll(directory: string, root: string): string[] {
  return readdirSync(directory).flatMap((name) => {
    const each = join(directory, name);
    if (each === root) return [];
    const found = lstatSync(each);
    if (found.isDirectory()) return [each, ...describeAll(each, root)];
    return [`${each}: ${found.isFile() ? readFileSync(each, 'utf8') : 'link'}`];
  });
}

/** Runs a case in a sandbox whose surroundings have the names that the entries have. */
function inSandbox(change: (root: string) => void): { before: string[]; after: string[] } {
  const base = mkdtempSync(join(tmpdir(), 'kaon-confinement-'));
  try {
    const root = join(base, 'a/b/c');
    for (const directory of [root, join(base, 'b/a'), join(base, 'a/a'), join(base, 'a/b/a')]) {
      mkdirSync(directory, { recursive: true });
    }
    for (const file of ['c', 'a/c', 'a/b/b', 'b/a/c']) writeFileSync(join(base, file), 'old');
    const before = describeAll(base, root);
    change(root);
    return { before, after: describeAll(base, root) };
  } finally {
    rmSync(base, { recursive: true });
  }
}

function linksBelow(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((each) => {
    const name = join(directory, each.name);
    if (each.isDirectory()) return linksBelow(name);
    return each.isSymbolicLink() ? [name] : [];
  });
}

describe('whatever an archive holds', () => {
  test('writing through the links that it has made changes nothing outside', () => {
    const kinds = ['file', 'directory', 'symbolicLink', 'symbolicLink', 'hardLink'] as const;
    fc.assert(
      fc.property(fc.array(entry(kinds), { minLength: 2, maxLength: 12 }), (entries) => {
        const { before, after } = inSandbox((root) => {
          place(root, entries);
          for (const link of linksBelow(root)) {
            for (const way of [link, `${link}/a`, `${link}/b`, `${link}/c`]) {
              attempt(() => {
                writeFileSync(way, 'through a link');
              });
            }
          }
        });
        expect(after).toEqual(before);
      }),
      { numRuns: 500 },
    );
  });

  test('links that the task has planted lead it nowhere', () => {
    const kinds = ['file', 'directory', 'planted', 'symbolicLink', 'hardLink'] as const;
    fc.assert(
      fc.property(fc.array(entry(kinds), { minLength: 2, maxLength: 12 }), (entries) => {
        const { before, after } = inSandbox((root) => {
          place(root, entries);
        });
        expect(after).toEqual(before);
      }),
      { numRuns: 500 },
    );
  });
});
