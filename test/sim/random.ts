/** Seeded chance: the only source of it in the simulator, so that a seed is a run. */

/** Numbers that look random and follow from the seed alone. */
export interface Random {
  /** A number in [0, 1). */
  next(): number;
  /** A whole number in [min, max]. */
  int(min: number, max: number): number;
  /** True with the given probability. */
  chance(probability: number): boolean;
  pick<T>(items: readonly T[]): T;
  /** Exponentially distributed with this mean: how long until something that may happen at any time. */
  exponential(mean: number): number;
  /** A name of letters and digits. */
  name(length: number): string;
}

/** @param seed any whole number; neighbouring seeds give unrelated runs */
export function seededRandom(seed: number): Random {
  let state = scramble(seed | 0);
  // mulberry32: 32 bits of state, good enough to choose faults with and fast.
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
  const int = (min: number, max: number): number => min + Math.floor(next() * (max - min + 1));
  return {
    next,
    int,
    chance: (probability) => next() < probability,
    pick: (items) => {
      const item = items[int(0, items.length - 1)];
      if (item === undefined) throw new Error('pick from nothing');
      return item;
    },
    exponential: (mean) => -Math.log(1 - next()) * mean,
    name: (length) => {
      let name = '';
      for (let index = 0; index < length; index += 1) name += LETTERS.charAt(int(0, 31));
      return name;
    },
  };
}

const LETTERS = 'abcdefghijkmnpqrstuvwxyz23456789';

function scramble(seed: number): number {
  let value = Math.imul(seed ^ (seed >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return value ^ (value >>> 16);
}
