/** A file that several fetches read at once, each in its own time: it is closed when the last one has done. */
import type { FileHandle } from 'node:fs/promises';

/** A file to be handed to a helper. Reading goes by position, so many may share it. */
export interface ReadableFile {
  readonly fd: number;
  /** It is not needed any more; what the file is kept for ends with the last one. */
  release(): Promise<void>;
}

/** Begins with one holder, who made it. */
export class SharedFile implements ReadableFile {
  readonly #handle: FileHandle;
  readonly #onUnused: () => void;
  #holders = 1;

  constructor(handle: FileHandle, onUnused: () => void = () => undefined) {
    this.#handle = handle;
    this.#onUnused = onUnused;
  }

  get fd(): number {
    return this.#handle.fd;
  }

  /** @returns itself, with one holder more */
  hold(): this {
    this.#holders += 1;
    return this;
  }

  async release(): Promise<void> {
    this.#holders -= 1;
    if (this.#holders > 0) return;
    this.#onUnused();
    await this.#handle.close();
  }
}
