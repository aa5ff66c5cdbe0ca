/**
 * Putting files, directories and links into the sandbox. Everything that an archive or a download wants to be there comes
 * through here, whatever format it had: names, links, rights, and the limits of the whole fetch. What is in the way is
 * replaced if it is a file or a link (the link itself, not what it leads to), never if it is a directory, and never if
 * another artifact of the same fetch has just put it there.
 */
import {
  closeSync,
  constants,
  futimesSync,
  fstatSync,
  lstatSync,
  openSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import type { Stats } from 'node:fs';
import { codeOf } from '../../protocol/errors.ts';
import { refused } from './failure.ts';
import { checkLinkTarget, splitName } from './names.ts';
import { Tree } from './tree.ts';

const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
/** Of files with these bits somebody else's rights could be borrowed. */
const SET_ID_BITS = 0o6000;

/** What a fetch may still write. */
export interface Budget {
  bytesLeft: number;
  entriesLeft: number;
}

/** A file that is being written. */
export interface OpenFile {
  write(chunk: Uint8Array): void;
  /** It is whole. @param modifiedAt kept as its time, if there is one */
  finish(modifiedAt?: Date): void;
  /** It will not be whole: it goes. */
  abandon(): void;
}

/** The sandbox during one fetch. */
export class Placing {
  readonly #tree: Tree;
  readonly #budget: Budget;
  /** Name of the one file that is being written and not yet in its place, in the sandbox itself. */
  readonly #temporary: string;
  /** Which artifact has made what, by inode number: a name may change hands meanwhile. */
  readonly #makers = new Map<number, number>();

  constructor(work: string, temporary: string, budget: Budget) {
    this.#tree = new Tree(work, () => {
      this.#takeEntry();
    });
    this.#temporary = temporary;
    this.#budget = budget;
  }

  /** Opens the temporary file for writing and reading; whoever does moves or removes it. */
  openTemporary(): number {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    return openSync(this.#tree.atRoot(this.#temporary), flags, 0o600);
  }

  /** Removes the temporary file, if there is one. */
  removeTemporary(): void {
    try {
      unlinkSync(this.#tree.atRoot(this.#temporary));
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
    }
  }

  /** Gives the temporary file its name: whoever looks sees the old file or all of the new one. */
  moveTemporary(parts: readonly string[], artifact: number): void {
    const path = this.#tree.locate(parts);
    const there = lstatSync(path, { throwIfNoEntry: false });
    if (there) this.#refuseInTheWay(there, artifact);
    const temporary = this.#tree.atRoot(this.#temporary);
    this.#makers.set(lstatSync(temporary).ino, artifact);
    renameSync(temporary, path);
  }

  takeBytes(count: number): void {
    this.#budget.bytesLeft -= count;
    if (this.#budget.bytesLeft < 0) throw refused('it is too large: a fetch may not write so much');
  }

  /** What an archive of that artifact may put below `parts`. */
  extraction(parts: readonly string[], artifact: number): Extraction {
    this.#tree.makeDirectory(parts);
    const name = (text: string): string[] => {
      this.#takeEntry();
      return splitName(text);
    };
    const placed = (below: readonly string[]): string[] => [...parts, ...below];
    return {
      directory: (text, mode) => {
        this.#tree.makeDirectory(placed(name(text)), ownMode(mode ?? 0o755) | 0o700);
      },
      file: (text, mode = 0o644) => {
        const below = name(text);
        if ((mode & SET_ID_BITS) !== 0) throw refused('it is setuid or setgid');
        if (below.length === 0) throw refused('it is a file in place of the directory');
        return this.#createFile(placed(below), ownMode(mode) | 0o600, artifact);
      },
      symbolicLink: (text, target) => {
        const below = name(text);
        if (below.length === 0) throw refused('it is a link in place of the directory');
        checkLinkTarget(below, target);
        this.#createSymbolicLink(placed(below), target, artifact);
      },
      hardLink: (text, target) => {
        const below = name(text);
        const from = splitName(target);
        if (below.length === 0 || from.length === 0) throw refused('it is a hard link to nothing');
        if (below.join('/') === from.join('/')) return;
        this.#createHardLink({ from: placed(from), to: placed(below), artifact });
      },
    };
  }

  close(): void {
    this.#tree.close();
  }

  #takeEntry(): void {
    this.#budget.entriesLeft -= 1;
    if (this.#budget.entriesLeft < 0) throw refused('there are too many entries in it');
  }

  #createFile(parts: readonly string[], mode: number, artifact: number): OpenFile {
    const path = this.#tree.locate(parts);
    const file = this.#create(path, artifact, () => openSync(path, NEW_FILE, mode));
    this.#makers.set(fstatSync(file).ino, artifact);
    return {
      write: (chunk) => {
        this.takeBytes(chunk.length);
        writeAll(file, chunk);
      },
      finish: (modifiedAt) => {
        if (modifiedAt && Number.isFinite(modifiedAt.getTime()))
          futimesSync(file, modifiedAt, modifiedAt);
        closeSync(file);
      },
      abandon: () => {
        closeSync(file);
        unlinkSync(this.#tree.locate(parts));
      },
    };
  }

  #createSymbolicLink(parts: readonly string[], target: string, artifact: number): void {
    const path = this.#tree.locate(parts);
    this.#create(path, artifact, () => {
      symlinkSync(target, path);
    });
    this.#makers.set(lstatSync(path).ino, artifact);
  }

  /** Only to a file that this archive has brought along: others may belong to somebody else, or be links themselves. */
  #createHardLink(link: {
    readonly from: readonly string[];
    readonly to: readonly string[];
    readonly artifact: number;
  }): void {
    const { from, to, artifact } = link;
    const isOurs = (ino: number): boolean => this.#makers.get(ino) === artifact;
    this.#create(this.#tree.locate(to), artifact, () => {
      this.#tree.link(from, to, isOurs);
    });
  }

  /** Makes something new at a place, and if there is something already, in its stead. */
  #create<T>(path: string, artifact: number, make: () => T): T {
    try {
      return make();
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    }
    const there = lstatSync(path, { throwIfNoEntry: false });
    if (there) {
      this.#refuseInTheWay(there, artifact);
      unlinkSync(path);
    }
    return make();
  }

  #refuseInTheWay(there: Stats, artifact: number): void {
    if (there.isDirectory()) throw refused('there is a directory in its place');
    const maker = this.#makers.get(there.ino);
    if (maker !== undefined && maker !== artifact) {
      throw refused('another artifact of the task has put a file in its place');
    }
  }
}

/** What an archive may make. Each throws KaonError `artifact-refused` or the operating system's error. */
export interface Extraction {
  directory(name: string, mode?: number): void;
  file(name: string, mode?: number): OpenFile;
  symbolicLink(name: string, target: string): void;
  hardLink(name: string, target: string): void;
}

/** What others may do with it is no more than what they could with a file of umask 022. */
function ownMode(mode: number): number {
  return mode & 0o755;
}

/** @throws the operating system's error; write(2) may take a part only */
export function writeAll(file: number, chunk: Uint8Array): void {
  for (let written = 0; written < chunk.length;) written += writeSync(file, chunk, written);
}
