/**
 * The children of an executor: one that has nothing to do takes the next job, and is only made if there is none. Those that
 * have had nothing to do for a while are ended, but for a few that stay warm.
 */
import { ChildHandle } from './child-handle.ts';
import type { Program } from './program.ts';

/** How long a child that is one too many stays for the next job. */
const IDLE_MAX_MS = 1000;

/** What the children run, and how many of them stay. */
export interface PoolOptions {
  readonly childPath: string;
  readonly program: Program;
  /** Children without a job that are kept. */
  readonly warmCount: number;
}

interface Idle {
  readonly child: ChildHandle;
  readonly sinceMs: number;
}

/** Children of one processor file. */
export class ChildPool {
  readonly #options: PoolOptions;
  readonly #all = new Set<ChildHandle>();
  /** Longest idle first. */
  #idle: Idle[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /**
   * @returns the child that was idle for the shortest time, so that the others get old; a new one if there is none
   * @throws as `fork`
   */
  take(): ChildHandle {
    return this.#idle.pop()?.child ?? this.fork();
  }

  /**
   * @returns a child that has had no job
   * @throws what the making of a process throws
   */
  fork(): ChildHandle {
    const { childPath, program } = this.#options;
    const child = new ChildHandle({
      childPath,
      // Nobody asks for a child before it is there.
      file: program.file ?? '',
      exited: () => {
        this.#all.delete(child);
        this.#idle = this.#idle.filter((idle) => idle.child !== child);
      },
    });
    this.#all.add(child);
    return child;
  }

  /** Takes a child back that has no job any more. */
  give(child: ChildHandle): void {
    if (!child.isUsable) {
      child.leave();
      return;
    }
    this.#idle.push({ child, sinceMs: performance.now() });
    this.#watch();
  }

  /** Ends all of them. */
  end(): void {
    clearTimeout(this.#timer);
    this.#idle = [];
    for (const child of this.#all) child.kill();
  }

  #watch(): void {
    if (this.#timer !== undefined || this.#idle.length <= this.#options.warmCount) return;
    const [oldest] = this.#idle;
    const waitMs = (oldest?.sinceMs ?? 0) + IDLE_MAX_MS - performance.now();
    // Rounded up, or it would come early by a part of a millisecond, again and again.
    this.#timer = setTimeout(() => this.#endIdle(), Math.max(1, Math.ceil(waitMs)));
  }

  #endIdle(): void {
    this.#timer = undefined;
    const untilMs = performance.now() - IDLE_MAX_MS;
    while (this.#idle.length > this.#options.warmCount) {
      const [oldest] = this.#idle;
      if (!oldest || oldest.sinceMs > untilMs) break;
      this.#idle.shift();
      oldest.child.leave();
    }
    this.#watch();
  }
}
