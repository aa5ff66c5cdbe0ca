/**
 * Callbacks of an executor, one at a time and in order (rule L3). One that returns a promise holds up the next ones, and
 * nothing else; many in a row let the rest of the process have its turn now and then.
 */

/** What a callback may return: nothing, or a promise to wait for. */
export type Callback = () => void | Promise<void> | undefined;

/** So long callbacks are called in a row before the event loop goes on: updates leave, exits are seen. */
const SLICE_MS = 10;

/** The queue of one driver. */
export class CallbackQueue {
  readonly #failed: (error: unknown) => void;
  #waiting: Callback[] = [];
  #next = 0;
  /** A promise is waited for, or the next turn of the event loop. */
  #isHeld = false;
  #isCalling = false;
  #last: Callback | undefined;
  #isClosed = false;

  /** @param failed told of a callback that has thrown or was rejected; the next ones follow unless it closes the queue */
  constructor(failed: (error: unknown) => void) {
    this.#failed = failed;
  }

  push(callback: Callback): void {
    if (this.#isClosed) return;
    this.#waiting.push(callback);
    this.#run();
  }

  /** Nothing that waits is called any more; only `last`, when the callback that is being called has returned. */
  close(last?: Callback): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#waiting = [];
    this.#next = 0;
    this.#last = last;
    this.#run();
  }

  #run(): void {
    if (this.#isHeld || this.#isCalling) return;
    const sliceEndMs = performance.now() + SLICE_MS;
    for (let callback = this.#shift(); callback; callback = this.#shift()) {
      const promise = this.#call(callback);
      if (promise !== undefined) {
        this.#hold(promise);
        return;
      }
      if (performance.now() >= sliceEndMs) {
        this.#isHeld = true;
        setImmediate(() => {
          this.#release();
        });
        return;
      }
    }
  }

  #shift(): Callback | undefined {
    const last = this.#last;
    if (last) {
      this.#last = undefined;
      return last;
    }
    const callback = this.#waiting[this.#next];
    this.#next += 1;
    if (callback === undefined) {
      this.#waiting = [];
      this.#next = 0;
    }
    return callback;
  }

  #call(callback: Callback): Promise<void> | undefined {
    this.#isCalling = true;
    try {
      return callback() ?? undefined;
    } catch (error) {
      this.#failed(error);
      return undefined;
    } finally {
      this.#isCalling = false;
    }
  }

  #hold(promise: Promise<void>): void {
    this.#isHeld = true;
    Promise.resolve(promise).then(
      () => {
        this.#release();
      },
      (error: unknown) => {
        this.#failed(error);
        this.#release();
      },
    );
  }

  #release(): void {
    this.#isHeld = false;
    this.#run();
  }
}
