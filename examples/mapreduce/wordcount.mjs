// How often each word occurs: what a user of the MapReduce writes. docs/mapreduce.md, "Programs of your own".

/** Bytes as they are, one character each: what is no text is counted too, and nothing is changed. */
export const encoding = 'latin1';

/** A word is what stands between white space of ASCII. */
export function map(line, emit) {
  for (const word of line.match(/[^\t\n\v\f\r ]+/g) ?? []) emit(word, 1);
}

export function reduce(word, counts, emit) {
  let sum = 0;
  for (const count of counts) sum += count;
  emit(word, sum);
}

/** The same on the node of the map task, so that less travels. */
export const combine = reduce;
