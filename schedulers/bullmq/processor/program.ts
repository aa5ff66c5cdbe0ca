/**
 * The processor file of an executor, if it is not on the node: one of the tasks that wait for it asks the scheduler, and it is
 * kept in the sandbox for all that come after. A task that ends while it waits leaves the asking to the next.
 */
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { messageOf } from '../../../protocol/errors.ts';
import type { CallAnswer } from '../processor-messages.ts';

/** Name of the file that was fetched: what is bundled is an ES module. */
const FETCHED_FILE = 'processor.mjs';

/** A task that cannot begin without the file. */
export interface ProgramWaiter {
  askForProgram(): void;
  /** There it is; or why it will not be. */
  programCame(problem: string | undefined): void;
}

/** The file, there or to be fetched. */
export class Program {
  #file: string | undefined;
  /** The first one asks. */
  readonly #waiting = new Set<ProgramWaiter>();

  /** @param file undefined: it has to be fetched */
  constructor(file: string | undefined) {
    this.#file = file;
  }

  /** Undefined as long as it is not there. */
  get file(): string | undefined {
    return this.#file;
  }

  wait(waiter: ProgramWaiter): void {
    this.#waiting.add(waiter);
    if (this.#waiting.size === 1) waiter.askForProgram();
  }

  /** A task does not wait any more. */
  leave(waiter: ProgramWaiter): void {
    const [asker] = this.#waiting;
    if (!this.#waiting.delete(waiter) || asker !== waiter) return;
    const [next] = this.#waiting;
    next?.askForProgram();
  }

  /** What the scheduler has answered; all that wait hear of it. */
  answered(answer: CallAnswer): void {
    const problem = answer.ok ? this.#keep(answer.value) : answer.error.message;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const waiter of waiting) waiter.programCame(problem);
  }

  #keep(code: unknown): string | undefined {
    try {
      if (typeof code !== 'string') return 'the scheduler has no processor for it';
      const file = resolve(FETCHED_FILE);
      writeFileSync(file, gunzipSync(Buffer.from(code, 'base64')));
      this.#file = file;
      return undefined;
    } catch (error) {
      return `the processor cannot be kept: ${messageOf(error)}`;
    }
  }
}
