/**
 * Downloads that tasks share. Whoever wants the same URI (and sha256) at the same time waits for one download or one question
 * to the server. With a sha256 the copy that is there is right; without one the server is asked whether it has changed, and
 * if it cannot be asked, the fetch fails: an old copy would be a guess.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { type CacheEntry, CacheIndex, type CacheIndexOptions } from './cache-index.ts';
import {
  download,
  type Downloaded,
  type DownloadSurroundings,
  type Validators,
} from './download.ts';
import { artifactCancelled, refuseOtherDigest } from './failure.ts';
import { type ReadableFile, SharedFile } from './shared-file.ts';
import type { Spool, SpoolFile } from './spool.ts';

/** A download that is wanted. */
export interface CacheRequest {
  readonly label: string;
  readonly url: URL;
  readonly sha256: string | undefined;
}

/** What one download or validation, for all who wait for it, is under way with. */
interface Flight {
  readonly file: Promise<SharedFile>;
  readonly abort: AbortController;
  waiting: number;
}

/** The downloads of an agent that are kept. */
export class ArtifactCache {
  readonly #index: CacheIndex;
  readonly #spool: Spool;
  readonly #around: DownloadSurroundings;
  readonly #flights = new Map<string, Flight>();

  constructor(options: CacheIndexOptions, spool: Spool, around: DownloadSurroundings) {
    this.#index = new CacheIndex(options);
    this.#spool = spool;
    this.#around = around;
  }

  /**
   * Opens what the URI holds now.
   *
   * @throws KaonError `artifact-cancelled` if `signal` is aborted; the download ends if nobody else waits for it
   */
  async open(wanted: CacheRequest, signal: AbortSignal): Promise<ReadableFile> {
    if (signal.aborted) throw artifactCancelled();
    const key = digest(`${wanted.sha256 ?? ''}\n${wanted.url.href}`);
    const flight = this.#flights.get(key) ?? this.#begin(key, wanted);
    flight.waiting += 1;
    try {
      return (await unlessAborted(flight.file, signal)).hold();
    } finally {
      flight.waiting -= 1;
      if (flight.waiting === 0) await this.#end(key, flight);
    }
  }

  #begin(key: string, wanted: CacheRequest): Flight {
    const abort = new AbortController();
    const file = this.#fetch(key, wanted, abort.signal).finally(() => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    });
    const flight: Flight = { file, abort, waiting: 0 };
    this.#flights.set(key, flight);
    return flight;
  }

  /** Nobody waits any more: those who got the file hold it themselves. */
  async #end(key: string, flight: Flight): Promise<void> {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
    flight.abort.abort();
    const file = await flight.file.catch(() => undefined); // Those who waited were told.
    await file?.release();
  }

  async #fetch(key: string, wanted: CacheRequest, signal: AbortSignal): Promise<SharedFile> {
    const known = this.#index.get(key);
    const opened = known && (await this.#index.open(known));
    if (!known || !opened) return this.#download(key, wanted, signal);
    const kept = shared(opened, known);
    if (wanted.sha256 === undefined) {
      let renewed: SharedFile | undefined;
      try {
        renewed = await this.#download(key, wanted, signal, known);
      } catch (error) {
        await kept.release();
        throw error;
      }
      if (renewed) {
        await kept.release();
        return renewed;
      }
    }
    this.#index.touch(known);
    return kept;
  }

  #download(key: string, wanted: CacheRequest, signal: AbortSignal): Promise<SharedFile>;
  #download(
    key: string,
    wanted: CacheRequest,
    signal: AbortSignal,
    known: CacheEntry,
  ): Promise<SharedFile | undefined>;
  /** @returns undefined if what is known is what the server still has */
  async #download(
    key: string,
    wanted: CacheRequest,
    signal: AbortSignal,
    known?: CacheEntry,
  ): Promise<SharedFile | undefined> {
    const part = await this.#spool.create();
    try {
      const outcome = await download(
        {
          label: wanted.label,
          url: wanted.url,
          hasSha256: wanted.sha256 !== undefined,
          validatorsFor: (url) => validatorsOf(known, url),
          file: part.handle,
        },
        this.#around,
        signal,
      );
      if (outcome.isUnchanged) return undefined;
      if (wanted.sha256 !== undefined) refuseOtherDigest(outcome.sha256, wanted.sha256);
      return await this.#keep({ key, label: wanted.label, part, outcome });
    } finally {
      await this.#spool.discard(part);
    }
  }

  async #keep(options: {
    readonly key: string;
    readonly label: string;
    readonly part: SpoolFile;
    readonly outcome: Extract<Downloaded, { isUnchanged: false }>;
  }): Promise<SharedFile> {
    const { key, label, part, outcome } = options;
    const { bytes, sha256, url, validators } = outcome;
    // For reading alone, and before it is moved: it may also not be kept.
    const handle = await open(part.path, 'r');
    const facts = { label, bytes, sha256, addressSha256: digest(url.href), ...validators };
    return shared(handle, await this.#index.add(key, part.path, facts));
  }
}

function shared(handle: FileHandle, entry: CacheEntry | undefined): SharedFile {
  return new SharedFile(handle, () => {
    if (entry) entry.users -= 1;
  });
}

function validatorsOf(entry: CacheEntry | undefined, url: URL): Validators | undefined {
  if (entry?.record.addressSha256 !== digest(url.href)) return undefined;
  const { etag, lastModified } = entry.record;
  return etag === undefined && lastModified === undefined ? undefined : { etag, lastModified };
}

function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      reject(artifactCancelled());
    };
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => {
      signal.removeEventListener('abort', abort);
    });
  });
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
