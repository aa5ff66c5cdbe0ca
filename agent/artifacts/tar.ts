/**
 * Reads tar archives, plain and gzipped, by node-tar's parser alone: that leaves out what it finds odd, and a task would
 * start without files that it counts on. Here the first odd entry ends it.
 */
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { Parser, type ReadEntry } from 'tar';
import { codeOf, messageOf } from '../../protocol/errors.ts';
import { describeFailure, refused, shorten } from './failure.ts';
import type { Extraction, OpenFile } from './placing.ts';

/** Read at a time, bytes. */
const CHUNK_BYTES = 256 * 1024;
/** Entries that describe the archive or what is in it, and are no files themselves. */
const DESCRIPTIONS = new Set<string>(['TapeVolumeHeader', 'SolarisACL', 'Inode']);

/** An archive to be extracted. */
export interface TarSource {
  /** Open for reading; read from its beginning, wherever it stands. */
  readonly file: number;
  readonly isGzip: boolean;
  /** The archive itself, decompressed, bytes. */
  readonly maxBytes: number;
}

/** @throws KaonError `artifact-refused` that names the entry, if there is one to blame */
export async function extractTar(source: TarSource, into: Extraction): Promise<void> {
  const { file, isGzip, maxBytes } = source;
  const reader = new TarReader(into);
  const input = createReadStream('', {
    fd: file,
    start: 0,
    autoClose: false,
    highWaterMark: CHUNK_BYTES,
  });
  let failure: unknown;
  const read = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
    let bytes = 0;
    try {
      for await (const chunk of chunks) {
        bytes += chunk.length;
        if (bytes > maxBytes) throw refused('it is too large: a fetch may not write so much');
        reader.write(chunk);
      }
      reader.end();
    } catch (error) {
      failure = error;
      throw error;
    }
  };
  try {
    if (isGzip) await pipeline(input, createGunzip({ chunkSize: CHUNK_BYTES }), read);
    else await pipeline(input, read);
  } catch (error) {
    reader.abandon();
    // The pipeline may tell of streams that were stopped in the middle, and not why they were.
    const cause = failure ?? error;
    throw codeOf(cause)?.startsWith('Z_') === true ? refused(describeBroken(cause), cause) : cause;
  }
}

/** Everything happens within the calls: writing to disk is synchronous, so the parser never holds more than a chunk. */
class TarReader {
  readonly #into: Extraction;
  readonly #parser: Parser;
  #failure: Error | undefined;
  #current: OpenFile | undefined;
  #hasEntries = false;
  /** The next entry is. */
  #isSparse = false;
  #isDone = false;

  constructor(into: Extraction) {
    this.#into = into;
    // A ratio of 0 refuses what is compressed once more: the parser would decompress that behind the count of bytes.
    const parser = new Parser({
      strict: true,
      brotli: false,
      zstd: false,
      maxDecompressionRatio: 0,
    });
    this.#parser = parser;
    parser.on('error', (error: unknown) => {
      this.#fail(this.#hasEntries ? describeBroken(error) : 'it is neither tar nor zip', error);
    });
    // Of a sparse file in this format the parser would make one that holds the map as well.
    parser.on('meta', (text: string) => {
      this.#isSparse ||= /^\d+ GNU\.sparse\./m.test(text);
    });
    parser.on('ignoredEntry', ({ path, type }: ReadEntry) => {
      if (!DESCRIPTIONS.has(type)) this.#failEntry(path, refused(`${kindOf(type)} not supported`));
    });
    parser.on('entry', (entry: ReadEntry) => {
      this.#begin(entry);
    });
    parser.on('end', () => {
      this.#isDone = true;
    });
  }

  /** @throws KaonError `artifact-refused` for what is in the chunk */
  write(chunk: Buffer): void {
    this.#parser.write(chunk);
    this.#check();
  }

  /** @throws KaonError `artifact-refused` if the archive is cut off */
  end(): void {
    this.#parser.end();
    if (!this.#isDone) this.#fail(this.#hasEntries ? 'it is cut off' : 'it is neither tar nor zip');
    this.#check();
  }

  /** Removes the file that is not whole, if there is one. */
  abandon(): void {
    this.#current?.abandon();
  }

  #check(): void {
    if (this.#failure) throw this.#failure;
  }

  #begin(entry: ReadEntry): void {
    this.#hasEntries = true;
    try {
      if (this.#failure) entry.resume();
      else this.#place(entry);
    } catch (error) {
      this.#failEntry(entry.path, error);
      entry.resume();
    }
  }

  #place(entry: ReadEntry): void {
    const { path, type } = entry;
    if (this.#isSparse) throw refused('sparse files are not supported');
    switch (type) {
      case 'File':
      case 'OldFile':
      case 'ContiguousFile':
        this.#receive(entry);
        return;
      case 'Directory':
        this.#into.directory(path, modeOf(entry));
        break;
      case 'SymbolicLink':
        this.#into.symbolicLink(path, entry.linkpath ?? '');
        break;
      case 'Link':
        this.#into.hardLink(path, entry.linkpath ?? '');
        break;
      default:
        throw refused(`${kindOf(type)} not supported`);
    }
    entry.resume();
  }

  #receive(entry: ReadEntry): void {
    const file = this.#into.file(entry.path, modeOf(entry));
    this.#current = file;
    const attempt = (change: () => void): void => {
      if (this.#failure) return;
      try {
        change();
      } catch (error) {
        this.#failEntry(entry.path, error);
      }
    };
    entry.on('data', (chunk: Buffer) => {
      attempt(() => {
        file.write(chunk);
      });
    });
    entry.on('end', () => {
      attempt(() => {
        if (entry.remain > 0) throw refused('it is cut off');
        file.finish(entry.mtime);
        this.#current = undefined;
      });
    });
  }

  #failEntry(name: string, error: unknown): void {
    this.#fail(`entry ${JSON.stringify(shorten(name))}: ${describeFailure(error)}`, error);
  }

  #fail(words: string, cause?: unknown): void {
    this.#failure ??= refused(words, cause);
  }
}

/** The header may hold anything. */
function modeOf({ mode }: ReadEntry): number | undefined {
  return mode !== undefined && Number.isInteger(mode) ? mode & 0o7777 : undefined;
}

function kindOf(type: string): string {
  switch (type) {
    case 'CharacterDevice':
    case 'BlockDevice':
      return 'devices are';
    case 'FIFO':
      return 'named pipes are';
    case 'SparseFile':
      return 'sparse files are';
    case 'ExtendedHeader':
    case 'GlobalExtendedHeader':
    case 'OldExtendedHeader':
    case 'NextFileHasLongPath':
    case 'NextFileHasLongLinkpath':
    case 'OldGnuLongPath':
      return 'headers of more than 1 MiB are';
    default:
      return `entries of type ${JSON.stringify(type)} are`;
  }
}

function describeBroken(error: unknown): string {
  return `the archive is damaged: ${messageOf(error)}`;
}
