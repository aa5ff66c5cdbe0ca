/**
 * What a map task emits, by key, in bounded memory: combined as it comes, written out as a sorted run when it has become
 * too much, and in the end as one sorted file a partition.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { TextWriter } from './lines.mjs';
import { forEachGroup, mergeRuns, recordLine, runIn } from './sorted.mjs';

/** About what V8 needs for an entry of a Map and its arrays. */
const KEY_BYTES = 150;
const VALUE_BYTES = 16;
/** So many values of a key are combined at once. */
const COMBINE_COUNT = 256;
/** Of longer strings V8 keeps a reference to the text that they were cut from. */
const COPIED_CHARS = 12;

/** Which partition, of so many, a key belongs to: FNV-1a over its code units, the same on every node. */
export function partitionOf(key, partitions) {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at += 1) {
    hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  }
  return (hash >>> 0) % partitions;
}

/** What has been emitted and not been written yet, and the runs that have. */
export class SortBuffer {
  #directory;
  #partitions;
  #combine;
  #limitBytes;
  /** key -> {values, bytes, combineAt} */
  #entries = new Map();
  #bytes = 0;
  /** Each is a list of runs, one a partition, in one file. */
  #spills = [];
  #emitted = 0;
  #written = 0;
  #writtenBytes = 0;

  /**
   * @param options.combine `(key, values, emit)` or undefined
   * @param options.limitBytes about so much memory is used
   */
  constructor({ directory, partitions, combine, limitBytes }) {
    this.#directory = directory;
    this.#partitions = partitions;
    this.#combine = combine;
    this.#limitBytes = limitBytes;
  }

  /** @throws Error if the key is no string, or the value no JSON */
  emit(key, value) {
    const valueBytes = checkRecord(key, value);
    this.#emitted += 1;
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = { values: [], bytes: 0, combineAt: COMBINE_COUNT };
      this.#entries.set(ownCopy(key), entry);
      this.#bytes += KEY_BYTES + 2 * key.length;
    }
    entry.values.push(typeof value === 'string' ? ownCopy(value) : value);
    entry.bytes += valueBytes;
    this.#bytes += valueBytes;
    if (this.#combine && entry.values.length >= entry.combineAt) this.#combineEntry(key, entry);
    if (this.#bytes >= this.#limitBytes) this.#spill();
  }

  /** Writes one sorted file a partition, `0`, `1`, ..., into the directory. @returns numbers for people */
  finish() {
    if (this.#spills.length > 0) this.#spill();
    const keys = this.#sortedKeys();
    for (let partition = 0; partition < this.#partitions; partition += 1) {
      const writer = new TextWriter(join(this.#directory, String(partition)), 'utf8');
      if (this.#spills.length > 0) this.#mergeInto(writer, partition);
      else for (const key of keys[partition]) this.#written += this.#write(writer, key);
      writer.close();
      this.#writtenBytes += writer.bytes;
    }
    for (const [{ path }] of this.#spills) rmSync(path);
    return {
      emitted: this.#emitted,
      written: this.#written,
      writtenBytes: this.#writtenBytes,
      spills: this.#spills.length,
    };
  }

  #combineEntry(key, entry) {
    const { values } = entry;
    this.#bytes -= entry.bytes;
    entry.values = [];
    entry.bytes = 0;
    this.#combine(key, values.values(), (emittedKey, value) => {
      if (emittedKey !== key) {
        throw new Error(`combine(${JSON.stringify(key)}, ...) has emitted another key`);
      }
      entry.bytes += checkRecord(key, value);
      entry.values.push(value);
    });
    this.#bytes += entry.bytes;
    // One that does not make it less is not asked for each value.
    entry.combineAt = Math.max(COMBINE_COUNT, 2 * entry.values.length);
  }

  /** @returns of each partition the keys that are in memory, sorted */
  #sortedKeys() {
    const keys = Array.from({ length: this.#partitions }, () => []);
    for (const key of this.#entries.keys()) keys[partitionOf(key, this.#partitions)].push(key);
    for (const list of keys) list.sort();
    return keys;
  }

  /** @returns how many records */
  #write(writer, key) {
    const entry = this.#entries.get(key);
    if (this.#combine && entry.values.length > 1) this.#combineEntry(key, entry);
    for (const value of entry.values) writer.write(recordLine(key, value));
    return entry.values.length;
  }

  #spill() {
    const path = join(this.#directory, `spill-${this.#spills.length}`);
    const writer = new TextWriter(path, 'utf8');
    const runs = this.#sortedKeys().map((keys) => {
      const start = writer.bytes;
      for (const key of keys) this.#write(writer, key);
      writer.flush();
      return runIn(path, start, writer.bytes);
    });
    writer.close();
    this.#spills.push(runs);
    this.#entries = new Map();
    this.#bytes = 0;
  }

  #mergeInto(writer, partition) {
    const write = (key, value) => {
      checkRecord(key, value);
      writer.write(recordLine(key, value));
      this.#written += 1;
    };
    const records = mergeRuns(
      this.#spills.map((runs) => runs[partition]),
      this.#directory,
    );
    if (!this.#combine) for (const [key, value] of records) write(key, value);
    else forEachGroup(records, (key, values) => this.#combine(key, values, write));
  }
}

/** @returns about how much memory the value needs */
function checkRecord(key, value) {
  if (typeof key !== 'string') {
    throw new Error(`emit(key, value) needs a string as its key, not ${describe(key)}`);
  }
  switch (typeof value) {
    case 'string':
      return VALUE_BYTES + 24 + 2 * value.length;
    case 'boolean':
      return VALUE_BYTES;
    case 'number':
      if (Number.isFinite(value)) return VALUE_BYTES;
      break;
    case 'object':
      return VALUE_BYTES + 64 + 2 * JSON.stringify(value).length;
    default:
  }
  throw new Error(`emit(key, value) needs a value that is JSON, not ${describe(value)}`);
}

const describe = (value) => (typeof value === 'object' ? JSON.stringify(value) : String(value));

/** A string that holds nothing but itself in memory: a word, and not the line that it was cut from. */
function ownCopy(text) {
  return text.length <= COPIED_CHARS ? text : Buffer.from(text, 'utf16le').toString('utf16le');
}
