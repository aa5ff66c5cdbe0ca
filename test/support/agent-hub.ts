/**
 * A cluster as one agent sees it, without master and Redis: takes what the agent says, hands it what the test sends, and
 * answers its heartbeats as the test wants.
 */
import type { StreamEntry, StreamId, Store } from '../../io/store.ts';
import { decodeEntry, encodeEntries } from '../../protocol/codec.ts';
import type { ExecutorInfo } from '../../protocol/executor.ts';
import type { LaunchId } from '../../protocol/ids.ts';
import { numberedSession } from '../../protocol/ids.ts';
import type { Message, MessageOf, MessageType } from '../../protocol/messages.ts';
import type { TaskInfo, TaskStatus } from '../../protocol/task.ts';
import { frameworkIdOf, frameworkInfo, taskIdOf, taskInfo, updateIdOf } from './builders.ts';
import { createWatch } from './watch.ts';

export interface AgentHub {
  readonly store: Store;
  /** The first registration that it hears; answered by itself. */
  registered(): Promise<MessageOf<'RegisterAgent'>>;
  send(...messages: readonly Message[]): void;
  run(launchId: string, taskId: string, more?: Partial<TaskInfo>, frameworkId?: string): void;
  /** As `run`, of a task of an executor; the launch of that is `E.` and its id. */
  host(launchId: string, taskId: string, executor: ExecutorInfo, more?: Partial<TaskInfo>): void;
  /** The first message of that type for which `holds`. */
  heard<T extends MessageType>(
    type: T,
    holds?: (message: MessageOf<T>) => boolean,
  ): Promise<MessageOf<T>>;
  /** The first status of that launch and state. */
  status(launchId: string, state: TaskStatus['state']): Promise<TaskStatus>;
  /** All statuses of that state that have come. */
  statesOf(state: TaskStatus['state']): TaskStatus[];
  acknowledge(status: TaskStatus): void;
  /** How many messages of that type have come. */
  countOf(type: MessageType): number;
  /** When each heartbeat came that was answered, by `performance.now()`. */
  readonly heartbeatsMs: readonly number[];
  /** From now on heartbeats fail. */
  cutOff(): void;
}

export function createAgentHub(): AgentHub {
  const said = createWatch<Message>();
  const queue: StreamEntry[] = [];
  let wake: () => void = () => undefined;
  const heartbeatsMs: number[] = [];
  let isClosed = false;
  let isCutOff = false;
  let sessions = 0;

  const send = (...messages: readonly Message[]): void => {
    for (const text of encodeEntries(messages)) {
      queue.push({ id: `${String(queue.length + 1)}-0`, messages: text });
    }
    wake();
  };
  const sleep = (): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve;
    });
  const hear = (message: Message): void => {
    said.push(message);
    if (message.type !== 'RegisterAgent') return;
    const master = { masterId: 'm1', epoch: 1 };
    const { agentId } = message.agent;
    send({ type: 'AgentRegistered', agentId, master, resend: [] });
  };
  const store = {
    openSession: () => Promise.resolve(numberedSession((sessions += 1))),
    append: ({ messages }: { messages: string }) => {
      for (const decoded of decodeEntry(messages)) if (decoded.ok) hear(decoded.value);
      return Promise.resolve('appended');
    },
    heartbeat: () => {
      if (isCutOff) return Promise.reject(new Error('no connection'));
      heartbeatsMs.push(performance.now());
      return Promise.resolve('ok');
    },
    readClient: async (_client: string, _session: string, cursor: StreamId) => {
      const next = (): StreamEntry[] => queue.slice(Number.parseInt(cursor, 10));
      while (!isClosed && next().length === 0) await sleep();
      return next();
    },
    readAgentRequests: async () => {
      while (!isClosed) await new Promise((resolve) => setTimeout(resolve, 20));
      return [];
    },
    close: () => {
      isClosed = true;
      wake();
      return Promise.resolve();
    },
  };
  const isStatus =
    (launchId: string, state: TaskStatus['state']) =>
    (message: Message): boolean =>
      message.type === 'StatusUpdate' &&
      message.status.launchId === launchId &&
      message.status.state === state;

  return {
    // The agent uses no other part of the interface.
    store: store as unknown as Store,
    registered: async () =>
      (await said.first(({ type }) => type === 'RegisterAgent')) as MessageOf<'RegisterAgent'>,
    send,
    run: (launchId, taskId, more = {}, frameworkId = 'f1') => {
      send({
        type: 'RunTask',
        framework: frameworkInfo(frameworkId),
        launchId: launchId as LaunchId,
        task: taskInfo(taskId, more),
      });
    },
    host: (launchId, taskId, executor, more = {}) => {
      const { command: _command, ...task } = taskInfo(taskId);
      send({
        type: 'RunTask',
        framework: frameworkInfo('f1'),
        launchId: launchId as LaunchId,
        task: { ...task, executor, ...more },
        executorLaunchId: `E.${executor.executorId}` as LaunchId,
      });
    },
    heard: async <T extends MessageType>(
      type: T,
      holds: (message: MessageOf<T>) => boolean = () => true,
    ) =>
      (await said.first(
        (message) => message.type === type && holds(message as MessageOf<T>),
      )) as MessageOf<T>,
    status: async (launchId, state) => {
      const found = await said.first(isStatus(launchId, state));
      return (found as MessageOf<'StatusUpdate'>).status;
    },
    statesOf: (state) =>
      said.seen.flatMap((message) =>
        message.type === 'StatusUpdate' && message.status.state === state ? [message.status] : [],
      ),
    acknowledge: ({ frameworkId, taskId, updateId }) => {
      send({
        type: 'StatusUpdateAcknowledgement',
        frameworkId: frameworkIdOf(frameworkId),
        taskId: taskIdOf(taskId),
        updateId: updateIdOf(updateId ?? ''),
      });
    },
    countOf: (type) => said.seen.filter((message) => message.type === type).length,
    heartbeatsMs,
    cutOff: () => {
      isCutOff = true;
    },
  };
}
