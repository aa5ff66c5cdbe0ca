/** Lets so many through at a time; the others wait in the order in which they came. */
import { artifactCancelled } from './failure.ts';

/** A gate for things of one kind. */
export class Gate {
  readonly #count: number;
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#count = this.#free = count;
  }

  /** True if nobody is in it and nobody waits. */
  get isIdle(): boolean {
    return this.#free === this.#count && this.#waiting.length === 0;
  }

  /** Does it when there is room. @throws KaonError `artifact-cancelled` if `signal` is aborted before that */
  async run<T>(task: () => Promise<T>, signal: AbortSignal): Promise<T> {
    await this.#enter(signal);
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }

  #enter(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(artifactCancelled());
    if (this.#free > 0) {
      this.#free -= 1;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(artifactCancelled());
      };
      signal.addEventListener('abort', leave, { once: true });
      this.#waiting.push(enter);
    });
  }
}
