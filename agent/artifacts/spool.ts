/**
 * Files that are being downloaded, in a directory that only the agent's user may enter. One that is left over is of an
 * agent that was killed, and goes when the next one starts.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SharedFile } from './shared-file.ts';

/** A file that is being written. */
export interface SpoolFile {
  readonly path: string;
  readonly handle: FileHandle;
}

/** The directory of unfinished downloads. */
export class Spool {
  readonly #directory: string;

  /** Makes it, empty. @throws the operating system's error */
  constructor(directory: string) {
    this.#directory = directory;
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  async create(): Promise<SpoolFile> {
    const path = join(this.#directory, randomBytes(12).toString('hex'));
    return { path, handle: await open(path, 'wx', 0o600) };
  }

  /** It is not wanted after all. */
  async discard({ path, handle }: SpoolFile): Promise<void> {
    await handle.close();
    await rm(path, { force: true });
  }

  /**
   * Opens what has been written for reading alone: a helper that could write would change what others are given.
   *
   * @returns the file, which has no name any more and goes with its last holder
   */
  async finish({ path, handle }: SpoolFile): Promise<SharedFile> {
    try {
      await handle.close();
      return new SharedFile(await open(path, 'r'));
    } finally {
      await rm(path, { force: true });
    }
  }
}
