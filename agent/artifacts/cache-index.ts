/**
 * Which downloads are kept on the node, and in which order they go when there are too many bytes of them. Each is two files in
 * a directory that only the agent's user may enter: the bytes, and a record that names them with their digest. The record is
 * written last and replaced whole, so what a crash leaves is either complete or not there.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Clock } from '../../io/clock.ts';
import type { Log } from '../../io/log.ts';
import { messageOf } from '../../protocol/errors.ts';
import { replaceFile } from '../files.ts';

/** Read at a time when a file is checked, bytes. */
const CHUNK_BYTES = 1024 * 1024;

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const Facts = z.object({
  /** Its name in messages. */
  label: z.string(),
  bytes: z.int().min(0),
  sha256: Sha256,
  etag: z.string().optional(),
  lastModified: z.string().optional(),
  /** Digest of the address that gave it: only that one is shown the validators, and it may hold secrets. */
  addressSha256: Sha256,
});
const CacheRecord = Facts.extend({
  version: z.literal(1),
  /** Name of the file with the bytes: another one each time, so that a record never speaks of later bytes. */
  file: z.string().regex(/^[0-9a-f]{64}\.[0-9a-f]{16}$/),
  usedAtMs: z.int().min(0),
});
type CacheRecord = z.infer<typeof CacheRecord>;

/** What is known of a download. */
export type CacheFacts = z.infer<typeof Facts>;

/** A download that is kept. */
export interface CacheEntry {
  readonly key: string;
  record: CacheRecord;
  /** Fetches that have it open. */
  users: number;
  /** The file as it was when its digest was found right, by this process. */
  checked?: { readonly ino: number; readonly ctimeMs: number };
}

/** How it is made. */
export interface CacheIndexOptions {
  /** Absolute; made if it is missing. */
  readonly directory: string;
  readonly maxBytes: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** The downloads that are kept. One process at a time may have it. */
export class CacheIndex {
  readonly #options: CacheIndexOptions;
  readonly #entries = new Map<string, CacheEntry>();
  #bytes = 0;

  /** Reads what there is and removes what is not whole. @throws the operating system's error */
  constructor(options: CacheIndexOptions) {
    this.#options = options;
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
    const names = readdirSync(options.directory);
    for (const name of names) this.#load(name);
    const files = new Set([...this.#entries.values()].map(({ record }) => record.file));
    const isKnown = (name: string): boolean =>
      files.has(name) || this.#entries.has(name.replace(/\.json$/, ''));
    for (const name of names.filter((each) => !isKnown(each))) {
      rmSync(this.#path(name), { recursive: true, force: true });
    }
    void this.#remove(this.#surplus(0));
  }

  get(key: string): CacheEntry | undefined {
    return this.#entries.get(key);
  }

  /**
   * Opens an entry and counts as one of its users. Its digest is checked once by each process, and again if the file has
   * changed since.
   *
   * @returns undefined if it is not what it was: then it is kept no longer
   */
  async open(entry: CacheEntry): Promise<FileHandle | undefined> {
    entry.users += 1;
    let handle: FileHandle | undefined;
    try {
      handle = await open(this.#path(entry.record.file), 'r');
      if (await isWhole(handle, entry)) return handle;
      this.#options.log.warn('artifact.cache-damaged', { artifact: entry.record.label });
    } catch (error) {
      const { label } = entry.record;
      this.#options.log.warn('artifact.cache-failed', { artifact: label, error: messageOf(error) });
    }
    await handle?.close();
    entry.users -= 1;
    await this.drop(entry);
    return undefined;
  }

  /** It is used now, and what was not used for longest goes first. */
  touch(entry: CacheEntry): void {
    entry.record = { ...entry.record, usedAtMs: this.#options.clock.wallMs() };
    try {
      this.#write(entry);
    } catch (error) {
      // The disk is full: it only looks older than it is to the next agent.
      const { label } = entry.record;
      this.#options.log.warn('artifact.cache-failed', { artifact: label, error: messageOf(error) });
    }
  }

  /**
   * Keeps a file instead of what was kept under its key, if there is room or can be made.
   *
   * @param path on the same file system; it is moved away if it is kept
   * @returns its entry, with one user; undefined if it is not kept
   */
  async add(key: string, path: string, facts: CacheFacts): Promise<CacheEntry | undefined> {
    const { log, clock } = this.#options;
    const old = this.#entries.get(key);
    if (old) await this.drop(old);
    const surplus = this.#surplus(facts.bytes);
    if (!surplus) {
      log.info('artifact.not-kept', { artifact: facts.label, bytes: facts.bytes });
      return undefined;
    }
    const file = `${key}.${randomBytes(8).toString('hex')}`;
    const record = { version: 1 as const, ...facts, file, usedAtMs: clock.wallMs() };
    const entry: CacheEntry = { key, record, users: 1 };
    try {
      renameSync(path, this.#path(file));
      this.#write(entry);
      const { ino, ctimeMs } = statSync(this.#path(file));
      entry.checked = { ino, ctimeMs };
    } catch (error) {
      log.warn('artifact.cache-failed', { artifact: facts.label, error: messageOf(error) });
      await this.#unlink(entry);
      return undefined;
    }
    this.#entries.set(key, entry);
    this.#bytes += facts.bytes;
    await this.#remove(surplus);
    return entry;
  }

  /** Keeps it no longer. Who has it open reads on. */
  async drop(entry: CacheEntry): Promise<void> {
    if (this.#forget(entry)) await this.#unlink(entry);
  }

  #forget(entry: CacheEntry): boolean {
    if (this.#entries.get(entry.key) !== entry) return false;
    this.#entries.delete(entry.key);
    this.#bytes -= entry.record.bytes;
    return true;
  }

  /** @returns what has to go for so many bytes more, oldest first; undefined if that is not enough */
  #surplus(bytes: number): CacheEntry[] | undefined {
    let excess = this.#bytes + bytes - this.#options.maxBytes;
    const surplus: CacheEntry[] = [];
    const unused = [...this.#entries.values()].filter(({ users }) => users === 0);
    for (const entry of unused.sort((a, b) => a.record.usedAtMs - b.record.usedAtMs)) {
      if (excess <= 0) break;
      excess -= entry.record.bytes;
      surplus.push(entry);
    }
    return excess > 0 ? undefined : surplus;
  }

  async #remove(entries: readonly CacheEntry[] | undefined): Promise<void> {
    // All at once: while one file is removed, nobody may begin to use the next.
    const gone = (entries ?? []).filter((entry) => this.#forget(entry));
    for (const entry of gone) {
      const { label, bytes } = entry.record;
      this.#options.log.info('artifact.evicted', { artifact: label, bytes });
      await this.#unlink(entry);
    }
  }

  /** The record first: bytes without a record are removed by the next process. */
  async #unlink({ key, record }: CacheEntry): Promise<void> {
    try {
      if (!this.#entries.has(key)) rmSync(this.#path(`${key}.json`), { force: true });
      await rm(this.#path(record.file), { force: true });
    } catch (error) {
      const { label } = record;
      this.#options.log.warn('artifact.cache-failed', { artifact: label, error: messageOf(error) });
    }
  }

  #load(name: string): void {
    const key = /^([0-9a-f]{64})\.json$/.exec(name)?.[1];
    if (key === undefined) return;
    try {
      const record = CacheRecord.parse(JSON.parse(readFileSync(this.#path(name), 'utf8')));
      if (statSync(this.#path(record.file)).size !== record.bytes) return;
      this.#entries.set(key, { key, record, users: 0 });
      this.#bytes += record.bytes;
    } catch (error) {
      // Not whole or of another version: the caller removes what is not loaded.
      this.#options.log.info('artifact.cache-failed', { artifact: key, error: messageOf(error) });
    }
  }

  #write({ key, record }: CacheEntry): void {
    replaceFile(this.#path(`${key}.json`), JSON.stringify(record));
  }

  #path(name: string): string {
    return join(this.#options.directory, name);
  }
}

async function isWhole(handle: FileHandle, entry: CacheEntry): Promise<boolean> {
  const { ino, ctimeMs, size } = await handle.stat();
  const { checked, record } = entry;
  if (checked?.ino === ino && checked.ctimeMs === ctimeMs) return true;
  if (size !== record.bytes || (await digestOf(handle)) !== record.sha256) return false;
  entry.checked = { ino, ctimeMs };
  return true;
}

async function digestOf(handle: FileHandle): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.alloc(CHUNK_BYTES);
  for (let position = 0; ;) {
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
}
