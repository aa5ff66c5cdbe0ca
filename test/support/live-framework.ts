/** A framework in the test process, on a real cluster: what it hears can be waited for, what it wants is launched as soon as it fits. */
import { resolve } from 'node:path';
import type {
  DriverOptions,
  ExecutorDescription,
  FrameworkDescription,
  Offer,
  ResizeOutcome,
  Resources,
  TaskDescription,
  TaskState,
  TaskStatus,
} from '../../framework/index.ts';
import { fits, isTerminal, SchedulerDriver, totalOf } from '../../framework/index.ts';
import { sumResources } from '../../protocol/resources.ts';
import type { Watch } from './watch.ts';
import { createWatch } from './watch.ts';

export interface LiveFramework {
  readonly driver: SchedulerDriver;
  readonly statuses: Watch<TaskStatus>;
  /** Every offer that has come; those that are valid still are in `held`. */
  readonly offers: Watch<Offer>;
  readonly held: Map<string, Offer>;
  readonly messages: Watch<ExecutorWord>;
  readonly lost: Watch<LostExecutor>;
  readonly resized: Watch<ResizeOutcome>;
  /** Times of `registered` and `reregistered`. */
  readonly registrations: Watch<'registered' | 'reregistered'>;
  /** What the driver could not go on for. */
  readonly errors: Watch<string>;
  /** Launches tasks in one call, as soon as the offers have room for all of them. */
  launch(...tasks: TaskDescription[]): void;
  /** The same with `launchTaskGroup`. */
  launchGroup(...tasks: TaskDescription[]): void;
  /** The first status with that state. @throws Error if the task ends in another one */
  reaches(taskId: string, state: TaskState): Promise<TaskStatus>;
  /** The status that the task has ended with. */
  endOf(taskId: string): Promise<TaskStatus>;
  /** The states that a task was reported in, repetitions left out. */
  statesOf(taskId: string): TaskState[];
  /** Once its executor is lost. */
  lossOf(executorId: string): Promise<LostExecutor>;
  /** The framework is over, and all that is its own. */
  stop(): Promise<void>;
}

export interface ExecutorWord {
  readonly executorId: string;
  readonly agentId: string;
  readonly data: string;
}

export interface LostExecutor {
  readonly executorId: string;
  readonly agentId: string;
  readonly message: string;
}

export interface LiveOptions extends Pick<DriverOptions, 'implicitAcknowledgements'> {
  /** It keeps whatever it is offered, and the test does with it what it likes. */
  readonly isHoarder?: boolean;
}

interface Batch {
  readonly tasks: readonly TaskDescription[];
  readonly isGroup: boolean;
}

/** @returns once it has registered */
export async function startFramework(
  redis: string,
  description: FrameworkDescription,
  { isHoarder = false, ...options }: LiveOptions = {},
): Promise<LiveFramework> {
  const held = new Map<string, Offer>();
  const waiting: Batch[] = [];
  const watches = {
    statuses: createWatch<TaskStatus>(),
    offers: createWatch<Offer>(),
    messages: createWatch<ExecutorWord>(),
    lost: createWatch<LostExecutor>(),
    resized: createWatch<ResizeOutcome>(),
    registrations: createWatch<'registered' | 'reregistered'>(),
    errors: createWatch<string>(),
  };
  const { statuses, offers, registrations, errors } = watches;
  const place = (): void => {
    const [batch] = waiting;
    const own = [...held.values()];
    if (!batch) {
      // Others on this cluster want something, too.
      driver.declineOffer(own.map(({ offerId }) => offerId));
      driver.suppressOffers();
      held.clear();
    } else if (fits(needOf(batch, own), totalOf(own))) {
      waiting.shift();
      held.clear();
      const offerIds = own.map(({ offerId }) => offerId);
      if (batch.isGroup) driver.launchTaskGroup(offerIds, batch.tasks, { refuseMs: 0 });
      else driver.launchTasks(offerIds, batch.tasks, { refuseMs: 0 });
      if (waiting.length === 0) driver.suppressOffers();
    }
  };
  const driver = new SchedulerDriver(
    {
      registered: () => registrations.push('registered'),
      reregistered: () => registrations.push('reregistered'),
      resourceOffers: (_driver, list) => {
        for (const offer of list) {
          held.set(offer.offerId, offer);
          offers.push(offer);
        }
        if (!isHoarder) place();
      },
      offerRescinded: (_driver, offerId) => void held.delete(offerId),
      statusUpdate: (_driver, status) => statuses.push(status),
      frameworkMessage: (_driver, executorId, agentId, data) =>
        watches.messages.push({ executorId, agentId, data }),
      executorLost: (_driver, executorId, agentId, message) =>
        watches.lost.push({ executorId, agentId, message }),
      taskResized: (_driver, outcome) => watches.resized.push(outcome),
      error: (_driver, message) => errors.push(message),
    },
    description,
    { redis, cluster: 'default', environment: {}, ...options },
  );
  const add = (batch: Batch): void => {
    waiting.push(batch);
    driver.reviveOffers();
  };
  const isEnd = (taskId: string) => (status: TaskStatus) =>
    status.taskId === taskId && isTerminal(status.state);
  await driver.start();
  if (!isHoarder) driver.suppressOffers();
  await Promise.race([
    registrations.count(1),
    errors.first(() => true).then((message) => Promise.reject(new Error(message))),
  ]);
  return {
    driver,
    held,
    ...watches,
    launch: (...tasks) => {
      add({ tasks, isGroup: false });
    },
    launchGroup: (...tasks) => {
      add({ tasks, isGroup: true });
    },
    reaches: async (taskId, state) => {
      const isIt = isEnd(taskId);
      const status = await statuses.first(
        (each) => (each.taskId === taskId && each.state === state) || isIt(each),
      );
      if (status.state === state) return status;
      throw new Error(`${taskId} did not become ${state}: ${wordsOf(status)}`);
    },
    endOf: (taskId) => statuses.first(isEnd(taskId)),
    statesOf: (taskId) => {
      const states = statuses.seen.filter((each) => each.taskId === taskId);
      return [...new Set(states.map(({ state }) => state))];
    },
    lossOf: (executorId) => watches.lost.first((each) => each.executorId === executorId),
    stop: async () => {
      await driver.stop();
    },
  };
}

/** Of all tasks, and of the executors that they would start. */
function needOf({ tasks }: Batch, offers: readonly Offer[]): Resources {
  const there = new Set<string>(offers.flatMap(({ executorIds }) => executorIds));
  const executors = new Map(
    tasks.flatMap(({ executor }) => (executor ? [[executor.executorId, executor]] : [])),
  );
  const missing = [...executors.values()].filter(({ executorId }) => !there.has(executorId));
  return sumResources([...tasks, ...missing].map(({ resources }) => resources));
}

function wordsOf({ state, reason, message }: TaskStatus): string {
  return [state, reason, message].filter((each) => each !== undefined).join(', ');
}

/** What a test does not care about of a task that runs a shell script. */
export function shellTask(
  taskId: string,
  script: string,
  more: Partial<TaskDescription> = {},
): TaskDescription {
  return {
    taskId,
    name: taskId,
    resources: { cpuMillis: 100, memMib: 16 },
    command: { argv: ['/bin/sh', '-c', script] },
    ...more,
  };
}

/** What each executor below has of its own. */
export const EXECUTOR_RESOURCES = { cpuMillis: 100, memMib: 96 };

/** Kaon's own. */
export function defaultExecutor(
  executorId: string,
  more: Partial<ExecutorDescription> = {},
): ExecutorDescription {
  return { executorId, name: executorId, resources: EXECUTOR_RESOURCES, ...more };
}

/** One that does as the `data` of its tasks says. */
export function actingExecutor(
  executorId: string,
  more: Partial<ExecutorDescription> = {},
): ExecutorDescription {
  const command = { argv: [process.execPath, resolve('test/support/acting-executor.mjs')] };
  return defaultExecutor(executorId, { command, ...more });
}

/** What a test does not care about of a task of an executor of the framework's own. */
export function dataTask(
  taskId: string,
  data: string,
  executor: ExecutorDescription,
): TaskDescription {
  const resources = { cpuMillis: 100, memMib: 16 };
  return { taskId, name: taskId, resources, executor, data };
}
