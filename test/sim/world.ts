/**
 * The simulated world: one clock, one queue of what happens next, one source of chance, one log. Everything that
 * happens is an action at a time; two at the same time happen in the order in which they were put in.
 */
import type { Random } from './random.ts';
import { seededRandom } from './random.ts';

interface Action {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

/** When the simulation begins, by the clock of Redis: any moment that is not 0. */
export const EPOCH_MS = 1_000_000;

/** A run that does more in a second of its time does it in a circle. */
const ACTIONS_PER_SECOND_MAX = 20_000;

/** What is said of an event; a function if it takes work to say it. */
export type Said = string | (() => string);

export class World {
  readonly random: Random;
  /** Empty unless the run is logged: nearly all runs succeed, and one that fails is run again. */
  readonly lines: string[] = [];
  readonly isLogged: boolean;
  #nowMs = EPOCH_MS;
  #order = 0;
  #actions = 0;
  /** The second of now, and how many actions there were before it. */
  #second = 0;
  #actionsBefore = 0;
  /** A binary heap by time, then order. */
  readonly #heap: Action[] = [];

  #digest = 0;

  constructor(seed: number, isLogged: boolean) {
    this.random = seededRandom(seed);
    this.isLogged = isLogged;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /** How many actions there were. */
  get actions(): number {
    return this.#actions;
  }

  /** One line of the event log, `WHEN WHO WHAT`. */
  log(who: string, what: Said): void {
    if (!this.isLogged) return;
    const said = typeof what === 'string' ? what : what();
    this.lines.push(`${((this.#nowMs - EPOCH_MS) / 1000).toFixed(3)} ${who} ${said}`);
  }

  /** A digest of when everything happened, and of all chance: two runs with the same one were the same run. */
  digest(): string {
    return `${this.#actions}:${this.#digest}:${this.random.next()}`;
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
      this.#digest = (Math.imul(this.#digest, 31) + next.atMs * 1000 + next.order) | 0;
      this.#checkForCircles();
      next.run();
    }
    this.#nowMs = untilMs;
  }

  #checkForCircles(): void {
    const second = Math.floor(this.#nowMs / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#actionsBefore = this.#actions;
    }
    if (this.#actions - this.#actionsBefore > ACTIONS_PER_SECOND_MAX)
      throw new Error('no end of it: something runs in a circle');
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
  #isAlive = true;
  #resumesAtMs = 0;
  readonly #deathListeners: (() => void)[] = [];

  constructor(world: World, name: string) {
    this.#world = world;
    this.name = name;
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  /** Called once, when it dies; in the order in which they were added. */
  onDeath(listener: () => void): void {
    this.#deathListeners.push(listener);
  }

  /** Nothing that it has planned happens any more. */
  kill(): void {
    if (!this.#isAlive) return;
    this.#isAlive = false;
    for (const listener of this.#deathListeners) listener();
  }

  /** All that it has planned, and all that reaches it, waits. */
  pause(forMs: number): void {
    // A whole number, which a sum of fractions reaches exactly.
    this.#resumesAtMs = Math.max(this.#resumesAtMs, Math.ceil(this.#world.nowMs + forMs));
  }

  after(delayMs: number, run: () => void): void {
    this.#world.at(delayMs, () => {
      this.run(run);
    });
  }

  /** Now, or when it goes on. */
  run(run: () => void): void {
    if (!this.#isAlive) return;
    const waitMs = this.#resumesAtMs - this.#world.nowMs;
    if (waitMs > 0) {
      this.#world.at(waitMs, () => {
        this.run(run);
      });
    } else run();
  }
}
