/** A map task: the lines of its split, through the user's `map`, into one sorted file a partition. */
import { mkdirSync } from 'node:fs';
import { linesIn } from './lines.mjs';
import { callUser } from './program.mjs';
import { SortBuffer } from './sort-buffer.mjs';

/**
 * @param order.split `{path, start, end}`
 * @param order.directory to make, for the output
 * @param order.bufferBytes memory for what is emitted
 * @returns counters
 * @throws Error with the place in the input, if the user's functions fail
 */
export function runMap({ split, reduces, directory, bufferBytes }, program) {
  mkdirSync(directory, { recursive: true });
  const { map, combine, encoding } = program;
  const called = (name, user) => (key, values, emit) =>
    callUser(
      name,
      () => `the key ${JSON.stringify(key)}`,
      () => user(key, values, emit),
    );
  const buffer = new SortBuffer({
    directory,
    partitions: reduces,
    combine: combine && called('combine', combine),
    limitBytes: bufferBytes,
  });
  const emit = (key, value) => buffer.emit(key, value);
  const cursor = { offset: split.start };
  const where = () => `byte ${cursor.offset} of ${split.path}`;
  let lines = 0;
  for (const line of linesIn(split.path, { ...split, encoding, cursor })) {
    callUser('map', where, () => map(line, emit));
    lines += 1;
  }
  return { lines, ...buffer.finish() };
}
