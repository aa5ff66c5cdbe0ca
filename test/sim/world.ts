/**
 * The simulated world: one clock, one queue of what happens next, one source of chance, one log. Everything that
 * happens is an action at a time; two at the same time happen in the order in which they were put in.
 */
import { createHash } from 'node:crypto';
import type { Random } from './random.ts';
import { seededRandom } from './random.ts';

interface Action {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

/** When the simulation begins, by the clock of Redis: any moment that is not 0. */
export const EPOCH_MS = 1_000_000;

/** Ten times what the busiest run takes. */
const ACTIONS_MAX = 1_000_000;

export class World {
  readonly random: Random;
  readonly lines: string[] = [];
  #nowMs = EPOCH_MS;
  #order = 0;
  #actions = 0;
  /** A binary heap by time, then order. */
  readonly #heap: Action[] = [];

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /** One line of the event log, `WHEN WHO WHAT`. */
  log(who: string, what: string): void {
    this.lines.push(`${((this.#nowMs - EPOCH_MS) / 1000).toFixed(3)} ${who} ${what}`);
  }

  /** A digest of the whole log: two runs with the same one were the same run. */
  digest(): string {
    return createHash('sha256').update(this.lines.join('\n')).digest('hex');
  }

  /** Does something later. */
  at(delayMs: number, run: () => void): void {
    this.#order += 1;
    // Whole microseconds: sums of fractions must not depend on the order in which they were added.
    const atMs = Math.round((this.#nowMs + Math.max(0, delayMs)) * 1000) / 1000;
    this.#push({ atMs, order: this.#order, run });
  }

  /** Lets everything happen until that time, which it then is. */
  runUntil(untilMs: number): void {
    for (let next = this.#heap[0]; next && next.atMs <= untilMs; next = this.#heap[0]) {
      this.#pop();
      this.#nowMs = next.atMs;
      this.#actions += 1;
      if (this.#actions > ACTIONS_MAX) throw new Error('no end of it: something runs in a circle');
      next.run();
    }
    this.#nowMs = untilMs;
  }

  #push(action: Action): void {
    const heap = this.#heap;
    let index = heap.push(action) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(action, heap[parent] as Action)) break;
      heap[index] = heap[parent] as Action;
      index = parent;
    }
    heap[index] = action;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Action;
    if (heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Action, heap[child] as Action))
        child += 1;
      if (!isBefore(heap[child] as Action, last)) break;
      heap[index] = heap[child] as Action;
      index = child;
    }
    heap[index] = last;
  }
}

function isBefore(a: Action, b: Action): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

/** One run of a program: it can be killed, and it can be stopped for a while as by SIGSTOP or a stalled host. */
export class Process {
  readonly name: string;
  readonly #world: World;
  #diedAtMs = Infinity;
  #resumesAtMs = 0;

  constructor(world: World, name: string) {
    this.#world = world;
    this.name = name;
  }

  get isAlive(): boolean {
    return this.#diedAtMs === Infinity;
  }

  /** Infinity while it lives. */
  get diedAtMs(): number {
    return this.#diedAtMs;
  }

  /** Nothing that it has planned happens any more. */
  kill(): void {
    this.#diedAtMs = Math.min(this.#diedAtMs, this.#world.nowMs);
  }

  /** All that it has planned, and all that reaches it, waits. */
  pause(forMs: number): void {
    // A whole number, which a sum of fractions reaches exactly.
    this.#resumesAtMs = Math.max(this.#resumesAtMs, Math.ceil(this.#world.nowMs + forMs));
  }

  after(delayMs: number, run: () => void): void {
    this.#world.at(delayMs, () => {
      this.#runNow(run);
    });
  }

  #runNow(run: () => void): void {
    if (!this.isAlive) return;
    const waitMs = this.#resumesAtMs - this.#world.nowMs;
    if (waitMs > 0) {
      this.#world.at(waitMs, () => {
        this.#runNow(run);
      });
    } else run();
  }
}
