/**
 * A simulated framework: a scheduler that accepts, declines, sits on offers, kills, acknowledges late, launches nonsense,
 * dies, comes back, and leaves. What it launched it has written down, so its next run knows it, as a good one would.
 */
import type { ExecutorInfo } from '../../protocol/executor.ts';
import type { FrameworkId, TaskGroupId, TaskId } from '../../protocol/ids.ts';
import type { Character, Launch } from './character.ts';
import { drawExecutors } from './executor-kinds.ts';
import type { FrameworkHost, FrameworkOptions } from './framework-run.ts';
import { FrameworkRun } from './framework-run.ts';
import { Process } from './world.ts';

/** Ended launches that it goes on knowing. */
const KEEP_ENDED = 200;

/** A framework over all its runs. */
export class SimFramework implements FrameworkHost {
  readonly name: string;
  readonly book = new Map<TaskId, Launch>();
  readonly character: Character;
  readonly executors: readonly ExecutorInfo[];
  readonly #options: FrameworkOptions;
  frameworkId: FrameworkId;
  run: FrameworkRun | undefined;
  /** All that live: also one that has been replaced and does not know it, which may be the last to speak for an old identity. */
  readonly #living = new Set<FrameworkRun>();
  /** No new work: what runs is brought to its end. */
  isDraining = false;
  #runs = 0;
  #nextTask = 1;
  #nextGroup = 1;
  #identities = 1;

  constructor(name: string, options: FrameworkOptions) {
    this.name = name;
    this.#options = options;
    this.character = options.character;
    this.frameworkId = name as FrameworkId;
    const { timing, network, character } = options;
    this.executors = drawExecutors(network.world.random, character, timing);
    this.start();
  }

  /** A new scheduler takes over; the last one may still be there and not know it. */
  start(): void {
    const { world } = this.#options.network;
    this.#runs += 1;
    const process = new Process(world, `${this.name}.${this.#runs}`);
    world.log(process.name, `starts as ${this.frameworkId}`);
    const run = new FrameworkRun(this, process, this.#options);
    this.run = run;
    this.#living.add(run);
    process.onDeath(() => this.#living.delete(run));
  }

  /** Those who speak for that identity. */
  runsOf(frameworkId: FrameworkId): FrameworkRun[] {
    return [...this.#living].filter((run) => run.frameworkId === frameworkId);
  }

  crash(downMs: number): void {
    if (!this.run?.process.isAlive) return;
    this.#options.network.world.log(this.run.process.name, 'crashes');
    this.run.process.kill();
    this.#restart(downMs);
  }

  /** Another scheduler has its place. If it was meant to be the one, it is started again. */
  deposed(run: FrameworkRun): void {
    run.process.kill();
    if (run === this.run) this.#restart(5000);
  }

  /** It has left: what it launched is not its business any more. It comes back, as itself or as another one. */
  left(process: Process): void {
    const { random } = this.#options.network.world;
    process.kill();
    for (const launch of this.book.values()) launch.isAbandoned = true;
    if (random.chance(0.5)) {
      this.#identities += 1;
      this.frameworkId = `${this.name}_${this.#identities}` as FrameworkId;
    }
    this.#restart(random.int(50, 4000));
  }

  #restart(downMs: number): void {
    const gone = this.run;
    this.#options.network.world.at(downMs, () => {
      if (this.run === gone) this.start();
    });
  }

  drain(): void {
    this.isDraining = true;
    this.run?.drain();
  }

  newGroup(): TaskGroupId {
    return `${this.name}g${this.#nextGroup++}` as TaskGroupId;
  }

  /** An id for a task: a new one, or one that is free again. */
  newTask(exclusiveName: string | undefined): TaskId {
    const { random } = this.#options.network.world;
    const isFree = (launch: Launch): boolean =>
      launch.isTerminal && !launch.isAbandoned && launch.exclusiveName === exclusiveName;
    const free = random.chance(this.character.reuse) ? [...this.book.values()].filter(isFree) : [];
    const old = free.length > 0 ? random.pick(free) : undefined;
    if (old) {
      old.isTerminal = false;
      old.isUnreachable = false;
      delete old.state;
      delete old.place;
      return old.taskId;
    }
    const taskId = `${this.name}t${this.#nextTask++}` as TaskId;
    this.book.set(taskId, {
      taskId,
      exclusiveName,
      ended: new Set(),
      isUnreachable: false,
      isTerminal: false,
      isAbandoned: false,
    });
    return taskId;
  }

  /** Ended launches are forgotten in the end, or a long run would carry them all. */
  tidy(): void {
    const over = [...this.book.values()].filter((launch) => launch.isTerminal);
    for (const { taskId } of over.slice(0, -KEEP_ENDED)) this.book.delete(taskId);
  }

  /** Tasks of which it waits to hear the end. */
  open(): Launch[] {
    return [...this.book.values()].filter((launch) => !launch.isTerminal && !launch.isAbandoned);
  }
}
