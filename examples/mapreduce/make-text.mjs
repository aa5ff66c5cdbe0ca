/**
 * Makes text to try a MapReduce with: words as often as those of a language are (Zipf's law), the same for the same seed.
 *
 *   node examples/mapreduce/make-text.mjs 100M > text.txt
 */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

const SYLLABLES = ['ka', 're', 'mo', 'ti', 'lu', 'san', 'der', 'ing', 'pho', 'ent', 'or', 'bel'];
const WORDS_COUNT = 50_000;
const PIECE_CHARS = 256 * 1024;
const UNITS = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 };

/** The more often a word is to come, the shorter it is. */
function makeWord(rank) {
  let word = '';
  for (let rest = rank + 1; rest > 0; rest = Math.floor(rest / SYLLABLES.length)) {
    word += SYLLABLES[rest % SYLLABLES.length];
  }
  return word;
}

/** @returns numbers from 0 (inclusive) to 1: a linear congruential generator */
function createRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

function* textOf(bytes, seed) {
  const words = Array.from({ length: WORDS_COUNT }, (_, rank) => makeWord(rank));
  const random = createRandom(seed);
  // The inverse of the distribution function of 1 / rank.
  const nextWord = () => words[Math.floor(WORDS_COUNT ** random()) - 1];
  const nextLine = () => {
    const said = Array.from({ length: 3 + Math.floor(random() * 12) }, nextWord);
    const [first] = said;
    said[0] = first[0].toUpperCase() + first.slice(1);
    return `${said.join(random() < 0.05 ? ',\t' : ' ')}.\n`;
  };
  let piece = '';
  for (let made = 0; made < bytes;) {
    const line = nextLine();
    made += line.length;
    piece += line;
    if (piece.length < PIECE_CHARS && made < bytes) continue;
    yield piece;
    piece = '';
  }
}

const [size = '', seed = '1'] = process.argv.slice(2);
const [, digits, unit] = /^(\d+)([KMG]?)$/i.exec(size) ?? [];
if (digits === undefined) {
  console.error('Usage: node make-text.mjs SIZE [SEED] > FILE      SIZE such as 500K or 100M');
  process.exitCode = 2;
} else {
  const bytes = Number(digits) * UNITS[unit.toUpperCase()];
  await pipeline(Readable.from(textOf(bytes, Number(seed))), process.stdout);
}
