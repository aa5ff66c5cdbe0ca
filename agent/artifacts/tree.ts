/**
 * Paths below one directory that are walked part by part, each part opened in the one above it: no symbolic link is ever
 * followed, also if somebody swaps a directory for a link meanwhile. Node has no openat(2); `/proc/self/fd/N/NAME` of an
 * open directory does the same.
 */
import { closeSync, constants, linkSync, lstatSync, mkdirSync, openSync } from 'node:fs';
import { codeOf } from '../../protocol/errors.ts';
import { refused, shorten } from './failure.ts';

/** open(2), `O_PATH`: a handle to look things up in, which needs no right to read. Node has no name for it. */
const O_PATH = 0o10000000;
const DIRECTORY_FLAGS = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** A directory and what is below it. Its process should have the rights of whom it belongs to, and umask 0. */
export class Tree {
  readonly #root: number;
  readonly #onMake: () => void;
  /** The directory of the last path: archives name files of one directory one after the other. */
  #last: { readonly name: string; readonly directory: number } | undefined;

  /**
   * @param onMake called before a directory is made; what it throws prevents it
   * @throws the operating system's error if `path` is no directory
   */
  constructor(path: string, onMake: () => void) {
    this.#onMake = onMake;
    this.#root = openSync(path, DIRECTORY_FLAGS);
  }

  /**
   * Makes the directories above a place.
   *
   * @param parts at least one, as of `splitName`
   * @returns a path for system calls that do not follow its last part; good until the next call of this method
   * @throws KaonError `artifact-refused` if a part of the way is there and no directory; the operating system's error
   */
  locate(parts: readonly string[]): string {
    const above = parts.slice(0, -1);
    const name = above.join('/');
    if (this.#last?.name !== name) {
      const directory = this.#open(above);
      this.#forget();
      this.#last = { name, directory };
    }
    return pathIn(this.#last?.directory ?? this.#root, parts.at(-1) ?? '.');
  }

  /** @returns a path of `name` in the directory itself, as `locate` does, and good as long as the tree is open */
  atRoot(name: string): string {
    return pathIn(this.#root, name);
  }

  /**
   * Makes `parts` and the directories above it, and leaves those alone that are there.
   *
   * @param mode of the last one, if it is made
   */
  makeDirectory(parts: readonly string[], mode = 0o755): void {
    if (parts.length > 0) closeSync(this.#open(parts, mode));
  }

  /**
   * Gives a file a second name.
   *
   * @param isAllowed gets the inode number of the regular file; false refuses it
   * @throws KaonError `artifact-refused` if there is no such file, or it is not allowed
   */
  link(from: readonly string[], to: readonly string[], isAllowed: (ino: number) => boolean): void {
    const directory = this.#openExisting(from.slice(0, -1));
    try {
      const source = pathIn(directory, from.at(-1) ?? '.');
      const { ino, isFile } = look(source);
      if (!isFile || !isAllowed(ino)) throw noSuchFile(from);
      linkSync(source, this.locate(to));
    } finally {
      closeSync(directory);
    }
  }

  close(): void {
    this.#forget();
    closeSync(this.#root);
  }

  #forget(): void {
    if (this.#last) closeSync(this.#last.directory);
    this.#last = undefined;
  }

  #open(parts: readonly string[], lastMode = 0o755): number {
    return this.#walk(parts, (path, index) => {
      try {
        return openSync(path, DIRECTORY_FLAGS);
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') throw explain(error, path, parts.slice(0, index + 1));
      }
      this.#onMake();
      return makeAndOpen(path, index === parts.length - 1 ? lastMode : 0o755);
    });
  }

  #openExisting(parts: readonly string[]): number {
    return this.#walk(parts, (path) => {
      try {
        return openSync(path, DIRECTORY_FLAGS);
      } catch (error) {
        throw noSuchFile(parts, error);
      }
    });
  }

  /** Opens one part after the other; only the last one stays open. */
  #walk(parts: readonly string[], open: (path: string, index: number) => number): number {
    let directory = openSync(pathIn(this.#root, '.'), DIRECTORY_FLAGS);
    for (const [index, part] of parts.entries()) {
      const above = directory;
      try {
        directory = open(pathIn(above, part), index);
      } finally {
        closeSync(above);
      }
    }
    return directory;
  }
}

function pathIn(directory: number, name: string): string {
  return `/proc/self/fd/${String(directory)}/${name}`;
}

function explain(error: unknown, path: string, parts: readonly string[]): unknown {
  if (codeOf(error) !== 'ENOTDIR' && codeOf(error) !== 'ELOOP') return error;
  const isLink = lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
  const found = isLink ? 'a symbolic link' : 'not a directory';
  return refused(`${JSON.stringify(shorten(parts.join('/')))} is ${found}`, error);
}

function makeAndOpen(path: string, mode: number): number {
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error; // Made by somebody else since: it is opened as it is, or not.
  }
  return openSync(path, DIRECTORY_FLAGS);
}

function look(path: string): { ino: number; isFile: boolean } {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return { ino: found?.ino ?? 0, isFile: found?.isFile() ?? false };
}

function noSuchFile(parts: readonly string[], cause?: unknown): Error {
  const name = JSON.stringify(shorten(parts.join('/')));
  return refused(`it is a hard link to ${name}, which is no file of the archive`, cause);
}
