/**
 * Offers become tasks: first the jobs that have been taken and have no place, then whatever the selection picks of the queues.
 * A job is taken only when there is an offer that it fits.
 */
import type { Job } from 'bullmq';
import type { Offer, SchedulerDriver, TaskDescription, TaskId } from '../../framework/index.ts';
import { offersByAgent, totalOf } from '../../framework/index.ts';
import type { Clock } from '../../io/clock.ts';
import type { Log } from '../../io/log.ts';
import { decodeTask } from '../../protocol/codec.ts';
import { messageOf } from '../../protocol/errors.ts';
import { areEqual } from '../../protocol/resources.ts';
import type { Candidate, Pick, Room, SelectionRules } from './core/selection.ts';
import { occupy, roomFor, select, vacate } from './core/selection.ts';
import type { JobSpec, SpecResult } from './job-spec.ts';
import { NO_SPEC } from './job-spec.ts';
import type { JobTask, JobTasks } from './job-tasks.ts';
import { describeTask, namesOf } from './job-tasks.ts';
import type { QueueWindow } from './queue-window.ts';
import { untoldOf } from './recovery.ts';
import { deferredFailureOf, rejection } from './settling.ts';

/** What does not fit is not offered again for so long, milliseconds; by then something has changed, or not. */
const REFUSE_MS = 1000;
/** The same where a job would have fitted, and was gone or had to fail: the next one may fit as well. */
const REFUSE_SPARED_MS = 50;
/** Of all tasks of one call, and of a task without what its author can make large, characters. */
const LAUNCH_MAX_CHARS = 4 * 1024 * 1024;
const TASK_CHARS = 1000;

/** What placing works with. */
export interface PlacingOptions {
  readonly windows: readonly QueueWindow[];
  readonly tasks: JobTasks;
  readonly clock: Clock;
  readonly log: Log;
  readonly rules: () => SelectionRules;
  /** A job has to fail before it has run. */
  readonly reject: (task: JobTask, error: Error) => void;
  /** The job has been removed: there is another one of its id. */
  readonly removed: (task: JobTask) => void;
  /** Whether the processor of the task has put its job back by itself. */
  readonly hasMoved: (task: JobTask) => boolean;
  readonly onLaunched: (task: JobTask) => void;
}

/** The offers of one agent, and what has been placed on them. */
interface AgentRoom extends Room {
  readonly hostname: string;
  readonly offers: readonly Offer[];
  readonly launches: JobTask[];
  /** A job was picked for it that is not to be launched after all. */
  isSpared: boolean;
}

/** Offers that are there, and executors that run somewhere. */
export class Placing {
  readonly #options: PlacingOptions;
  readonly #offers = new Map<string, Offer>();
  readonly #executors = new Map<string, Set<string>>();
  /** Executors that an offer had no room for: they have to be asked for. */
  readonly #missed = new Set<string>();
  /** Earlier starts of jobs that were just taken. */
  readonly #unasked: TaskId[] = [];

  constructor(options: PlacingOptions) {
    this.#options = options;
  }

  addOffers(offers: readonly Offer[]): void {
    for (const offer of offers) {
      this.#offers.set(offer.offerId, offer);
      for (const id of offer.executorIds) this.#executorIsOn(id, offer.agentId);
    }
  }

  removeOffer(offerId: string): void {
    this.#offers.delete(offerId);
  }

  executorLost(executorId: string, agentId: string): void {
    const agents = this.#executors.get(executorId);
    agents?.delete(agentId);
    if (agents?.size === 0) this.#executors.delete(executorId);
  }

  agentLost(agentId: string): void {
    for (const executorId of this.#executors.keys()) this.executorLost(executorId, agentId);
  }

  /** Is there one that a job could share, as far as it matters for what to ask? */
  hasExecutor(executorId: string): boolean {
    return this.#executors.has(executorId) && !this.#missed.has(executorId);
  }

  #executorIsOn(executorId: string, agentId: string): void {
    const agents = this.#executors.get(executorId) ?? new Set();
    this.#executors.set(executorId, agents.add(agentId));
  }

  /** Uses the offers that there are; what is left of them goes back. @returns whether anything was launched */
  async place(driver: SchedulerDriver): Promise<boolean> {
    if (this.#offers.size === 0) return false;
    const rooms = this.#openRooms();
    const held = this.#options.tasks.held(this.#options.clock.monotonicMs());
    for (const task of held) this.#placeHeld(rooms, task);
    const windows = new Map(this.#options.windows.map((window) => [window.queue.name, window]));
    const states = this.#options.windows.map((window) => window.state());
    const picks = select(states, rooms, this.#options.rules());
    await Promise.all(
      [...windows].map(([name, window]) =>
        this.#take(
          rooms,
          window,
          picks.filter(({ queue }) => queue.name === name),
        ),
      ),
    );
    this.#askForEarlier(driver);
    const isWanted = held.length > 0 || states.some(({ candidates }) => candidates.length > 0);
    for (const room of rooms) this.#answer(driver, room, isWanted);
    return rooms.some(({ launches }) => launches.length > 0);
  }

  #openRooms(): AgentRoom[] {
    const offers = [...this.#offers.values()];
    this.#offers.clear();
    return [...offersByAgent(offers)].map(([agentId, own]) => ({
      agentId,
      hostname: own[0]?.hostname ?? agentId,
      attributes: own[0]?.attributes ?? {},
      executorIds: new Set(own.flatMap(({ executorIds }) => executorIds)),
      offers: own,
      launches: [],
      isSpared: false,
      free: totalOf(own),
    }));
  }

  #placeHeld(rooms: readonly AgentRoom[], task: JobTask): boolean {
    const candidate = task.window.candidate(task.job.id ?? '', task.spec);
    const room = roomFor(rooms, candidate);
    if (!room) {
      this.#miss(candidate);
      return false;
    }
    occupy(room, candidate);
    this.#assign(room as AgentRoom, task);
    return true;
  }

  /** Takes what was picked; what comes instead of it is placed where it fits, or waits for its own offer. */
  async #take(
    rooms: readonly AgentRoom[],
    window: QueueWindow,
    picks: readonly Pick[],
  ): Promise<void> {
    if (picks.length === 0) return;
    const places = new Map(picks.map((pick) => [pick.candidate.jobId, pick]));
    const jobs = await window.take([...places.keys()]);
    const untold = await untoldOf(window, jobs);
    const others: JobTask[] = [];
    for (const job of jobs) {
      const task = this.#accept(window, job, untold.has(job));
      if (task?.phase !== 'held') continue;
      const pick = places.get(job.id ?? '');
      if (pick && isSame(pick.candidate, window.candidate(job.id ?? '', task.spec))) {
        this.#assign(pick.room as AgentRoom, task);
        places.delete(job.id ?? '');
      } else others.push(task);
    }
    // What was reserved for jobs that did not come is free again.
    for (const { room, candidate } of places.values()) {
      (room as AgentRoom).isSpared = true;
      vacate(room, candidate);
    }
    for (const task of others) this.#placeHeld(rooms, task);
  }

  /**
   * @param isUntold an earlier start of it may live, or have ended without anybody knowing: the job goes on with that
   * @returns undefined for a job that has to fail without having run
   */
  #accept(window: QueueWindow, job: Job, isUntold: boolean): JobTask | undefined {
    const { tasks, reject, removed, hasMoved, log } = this.#options;
    const known = tasks.ofJob({ queue: window.queue.qualifiedName, jobId: job.id ?? '' });
    if (known && hasMoved(known)) {
      // Its processor is about to end, and this is the next start. The two are exclusive, so it waits for that.
      tasks.orphan(known);
    } else if (known && known.job.timestamp === job.timestamp) {
      // Redis has forgotten that this job was taken: its task lives, and goes on with the job that is active again.
      log.warn('job.taken-again', namesOf(known));
      return undefined;
    } else if (known) removed(known);
    const result = window.specOf(job);
    const spec = result.ok ? result.spec : NO_SPEC;
    if (isUntold) return this.#goOn(window, job, spec);
    const task = tasks.add({ window, job, spec, phase: 'held' });
    const problem = deferredFailureOf(job) ?? problemOf(result);
    if (problem === undefined) return task;
    reject(task, rejection(problem));
    return undefined;
  }

  #goOn(window: QueueWindow, job: Job, spec: JobSpec): JobTask {
    const { tasks, log } = this.#options;
    const task = tasks.add({ window, job, spec, phase: 'recovering' }, job.attemptsStarted - 1);
    log.info('job.recovering', namesOf(task));
    this.#unasked.push(task.taskId);
    return task;
  }

  #askForEarlier(driver: SchedulerDriver): void {
    const taskIds = this.#unasked.splice(0);
    if (taskIds.length > 0) driver.reconcileTasks(taskIds);
  }

  #assign(room: AgentRoom, task: JobTask): void {
    room.launches.push(task);
    const executor = task.window.candidate(task.job.id ?? '', task.spec).executor;
    if (!executor) return;
    this.#executorIsOn(executor.executorId, room.agentId);
    this.#missed.delete(executor.executorId);
  }

  #miss({ executor }: Candidate): void {
    if (executor) this.#missed.add(executor.executorId);
  }

  #answer(driver: SchedulerDriver, room: AgentRoom, isWanted: boolean): void {
    const offerIds = room.offers.map(({ offerId }) => offerId);
    if (room.launches.length > 0) {
      this.#launch(driver, room, offerIds);
      return;
    }
    if (isWanted && !room.isSpared) this.#missAll(room);
    const wantedMs = room.isSpared ? REFUSE_SPARED_MS : REFUSE_MS;
    driver.declineOffer(offerIds, { refuseMs: isWanted ? wantedMs : 0 });
  }

  /** An offer that was made for jobs of an executor, and has no room to start it. */
  #missAll(room: AgentRoom): void {
    for (const window of this.#options.windows) {
      const [first] = window.state().candidates;
      if (first?.executor && !room.executorIds.has(first.executor.executorId)) this.#miss(first);
    }
  }

  #launch(driver: SchedulerDriver, room: AgentRoom, offerIds: Offer['offerId'][]): void {
    const { onLaunched } = this.#options;
    const described = this.#describe(driver, room.launches);
    try {
      const list = described.map(({ description }) => description);
      driver.launchTasks(offerIds, list, { refuseMs: 0 });
    } catch (error) {
      // One of them is not what a task may be: without it the others are launched on the next offer.
      this.#rejectInvalid(described, error);
      driver.declineOffer(offerIds, { refuseMs: 0 });
      return;
    }
    for (const { task } of described) {
      task.phase = 'launched';
      task.place = { agentId: room.agentId, hostname: room.hostname };
      onLaunched(task);
    }
  }

  /** What is too much for one call waits for the next offer. */
  #describe(driver: SchedulerDriver, tasks: readonly JobTask[]): Described[] {
    const described: Described[] = [];
    let chars = 0;
    for (const task of tasks) {
      const description = describeTask(task, driver.frameworkId);
      chars += charsOf(description);
      if (chars > LAUNCH_MAX_CHARS && described.length > 0) break;
      described.push({ task, description });
    }
    return described;
  }

  #rejectInvalid(described: readonly Described[], error: unknown): void {
    const { reject } = this.#options;
    for (const { task, description } of described) {
      const decoded = decodeTask(description);
      if (!decoded.ok) reject(task, rejection(`it cannot be a task: ${decoded.message}`));
      else if (described.length === 1) reject(task, rejection(messageOf(error)));
    }
  }
}

function problemOf(result: SpecResult): string | undefined {
  return result.ok ? undefined : result.message;
}

interface Described {
  readonly task: JobTask;
  readonly description: TaskDescription & { readonly taskId: TaskId };
}

/** About what a task has on the wire, characters: what its author can make large. */
function charsOf({ data = '', command, uris = [] }: TaskDescription): number {
  const words = [...(command?.argv ?? []), ...Object.values(command?.environment ?? {})];
  const texts = [data, ...words, ...uris.map(({ uri }) => uri)];
  return texts.reduce((sum, text) => sum + text.length, TASK_CHARS);
}

function isSame(a: Candidate, b: Candidate): boolean {
  return (
    areEqual(a.resources, b.resources) &&
    a.executor?.executorId === b.executor?.executorId &&
    JSON.stringify(a.attributes) === JSON.stringify(b.attributes)
  );
}
