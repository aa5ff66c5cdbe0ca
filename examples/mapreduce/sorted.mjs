/**
 * Runs: files of records, `["key",value]` a line, sorted by key. What a map task makes in bounded memory, and how many of
 * them become one. Keys are compared as JavaScript compares strings, by UTF-16 code units, everywhere.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { linesIn, TextWriter } from './lines.mjs';

/** So many runs are read at a time; each has a buffer. More are merged in several passes. */
const FAN_IN_MAX = 64;
const RUN_READ_BYTES = 32 * 1024;

/** A part of a file that is a run. */
export const runIn = (path, start, end) => ({ path, start, end });

/** @returns an iterator of `[key, value]` */
export function* recordsIn({ path, start, end }) {
  if (start === end) return;
  const options = { start, end, encoding: 'utf8', readBytes: RUN_READ_BYTES };
  for (const line of linesIn(path, options)) yield JSON.parse(line);
}

/** One line of a run. JSON escapes whatever a line or UTF-8 could not hold. */
export const recordLine = (key, value) => `${JSON.stringify([key, value])}\n`;

/**
 * Merges sorted iterators of `[key, value]`. Equal keys come in the order of the iterators, so the result does not depend
 * on where and when its parts were made.
 */
export function* merge(iterators) {
  // A binary heap of [record, rank, iterator].
  const heap = [];
  iterators.forEach((iterator, rank) => {
    const { done, value } = iterator.next();
    if (!done) siftUp(heap, heap.push({ record: value, rank, iterator }) - 1);
  });
  while (heap.length > 0) {
    const [top] = heap;
    yield top.record;
    const { done, value } = top.iterator.next();
    if (!done) top.record = value;
    else {
      const last = heap.pop();
      if (heap.length === 0) return;
      heap[0] = last;
    }
    siftDown(heap);
  }
}

function isBefore(a, b) {
  const [keyA] = a.record;
  const [keyB] = b.record;
  return keyA < keyB || (keyA === keyB && a.rank < b.rank);
}

function siftUp(heap, at) {
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!isBefore(heap[at], heap[parent])) return;
    [heap[at], heap[parent]] = [heap[parent], heap[at]];
    at = parent;
  }
}

function siftDown(heap) {
  for (let at = 0; ;) {
    const left = 2 * at + 1;
    if (left >= heap.length) return;
    const right = left + 1;
    const child = right < heap.length && isBefore(heap[right], heap[left]) ? right : left;
    if (!isBefore(heap[child], heap[at])) return;
    [heap[at], heap[child]] = [heap[child], heap[at]];
    at = child;
  }
}

/**
 * Merges however many runs, in passes where one would need too many open files and buffers. Runs of passes are written
 * into the directory, and removed when they have been read.
 */
export function* mergeRuns(runs, directory) {
  let waiting = runs;
  const temporary = [];
  for (let pass = 0; waiting.length > FAN_IN_MAX; pass += 1) {
    const next = [];
    // Neighbours are merged with each other, so the order of equal keys stays.
    for (let from = 0; from < waiting.length; from += FAN_IN_MAX) {
      const path = join(directory, `pass-${pass}-${next.length}`);
      const some = waiting.slice(from, from + FAN_IN_MAX);
      next.push(writeRun(path, merge(some.map((run) => recordsIn(run)))));
    }
    for (const path of temporary.splice(0)) rmSync(path);
    temporary.push(...next.map(({ path }) => path));
    waiting = next;
  }
  yield* merge(waiting.map((run) => recordsIn(run)));
  for (const path of temporary) rmSync(path);
}

function writeRun(path, records) {
  const writer = new TextWriter(path, 'utf8');
  for (const [key, value] of records) writer.write(recordLine(key, value));
  writer.close();
  return runIn(path, 0, writer.bytes);
}

/**
 * Calls `take(key, values)` for each key of sorted records. `values` can be gone through once, while `take` runs; only one
 * of them is in memory.
 *
 * @throws Error if the records are not sorted
 */
export function forEachGroup(records, take) {
  let next = records.next();
  const isOf = (key) => !next.done && next.value[0] === key;
  function* valuesOf(key) {
    while (isOf(key)) {
      const [, value] = next.value;
      next = records.next();
      yield value;
    }
  }
  while (!next.done) {
    const [key] = next.value;
    take(key, valuesOf(key));
    // What `take` did not want.
    while (isOf(key)) next = records.next();
    if (!next.done && next.value[0] < key) throw new Error(`a run is not sorted at ${key}`);
  }
}
