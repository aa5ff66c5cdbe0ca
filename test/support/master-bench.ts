/**
 * A master's core on the bench: messages go in as if their senders had registered, each one as a batch of its own, and
 * the invariants are checked after each. Time passes only by `wait`.
 */
import type { MasterEffect } from '../../master/core/effects.ts';
import type { MasterOptions, MasterState } from '../../master/core/state.ts';
import { loadRecords } from '../../master/core/books.ts';
import {
  createMasterState,
  findExecutor,
  MASTER_OPTIONS_DEFAULT,
  takeChanges,
} from '../../master/core/state.ts';
import type { MasterEvent } from '../../master/core/step.ts';
import { offerResources, step } from '../../master/core/step.ts';
import type { AgentExecutor } from '../../protocol/executor.ts';
import type { LaunchId } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import type { Message, MessageOf, MessageType } from '../../protocol/messages.ts';
import type { Principal } from '../../protocol/principals.ts';
import type {
  ClusterEvent,
  EndedTask,
  ExecutorRecord,
  OfferRecord,
  TaskRecord,
} from '../../protocol/records.ts';
import type { Resources } from '../../protocol/resources.ts';
import { NO_RESOURCES } from '../../protocol/resources.ts';
import type { AgentInfo, AgentTask, FrameworkInfo, TaskStatus } from '../../protocol/task.ts';
import {
  agentIdOf,
  agentInfo,
  executorIdOf,
  frameworkIdOf,
  frameworkInfo,
  launchIdOf,
  offerIdOf,
  sessionOf,
  taskIdOf,
  taskStatus,
} from './builders.ts';
import { assertInvariants } from './invariants.ts';
import { recordsOf } from './records.ts';

export interface MasterBench {
  readonly state: MasterState;
  nowMs: number;
  /** Who speaks from now on, in a secured cluster; undefined: an open one. */
  principal: Principal | undefined;
  /** Any other event, and the offers that follow. */
  happen(event: MasterEvent): MasterEffect[];
  /** One message of a client, in the session that it has registered (or the given one), and the offers that follow. */
  say(from: string, message: Message, session?: string): MasterEffect[];
  /** Ends a session, as the liveness check does. */
  silence(...clients: string[]): MasterEffect[];
  overflow(...clients: string[]): MasterEffect[];
  /** Redis has failed over to a copy of what this master has stored. */
  loseData(): MasterEffect[];
  /** Lets time pass, and then a tick. */
  wait(ms: number): MasterEffect[];
  registerFramework(id: string, more?: Partial<FrameworkInfo>, session?: string): MasterEffect[];
  registerAgent(id: string, more?: Partial<AgentInfo> & AgentWords): MasterEffect[];
  launch(
    frameworkId: string,
    offerIds: string | string[],
    tasks: unknown[],
    refuseMs?: number,
  ): MasterEffect[];
  decline(frameworkId: string, offerId: string, refuseMs?: number): MasterEffect[];
  update(agentId: string, status: TaskStatus): MasterEffect[];
  acknowledge(frameworkId: string, taskId: string, updateId: string): MasterEffect[];
  kill(from: string, frameworkId: string, taskId: string): MasterEffect[];
  /** The wish has the id `wish-of-TASK`, or the given one; of a framework, or of `operator:NAME`. */
  resize(from: string, taskId: string, resources: Resources, resizeId?: string): MasterEffect[];
  /** The agent answers the wish for a task of f1. */
  resized(taskId: string, said: Partial<MessageOf<'TaskResized'>>): MasterEffect[];
  /** The agent says that the executor of f1 has ended. */
  exited(agentId: string, executorId: string, launchId?: LaunchId): MasterEffect[];
  task(frameworkId: string, taskId: string): TaskRecord | undefined;
  executor(agentId: string, frameworkId: string, executorId: string): ExecutorRecord | undefined;
  /** What an agent's tasks and executors use, as `CPUS MIB`. */
  usedOn(agentId: string): string;
  /** Offers that a framework holds, as `AGENT CPUS MIB`. */
  offersOf(frameworkId: string): string[];
  offerOf(frameworkId: string): OfferRecord;
  /** Another leader, with what this one has stored. */
  failOver(): MasterBench;
  /** What is stored now. The leader that it makes has come to power on it: Redis has lost what was stored later. */
  replica(): (nowMs: number) => MasterBench;
}

type AgentWords = Partial<
  Pick<
    MessageOf<'RegisterAgent'>,
    | 'node'
    | 'tasks'
    | 'frameworks'
    | 'executors'
    | 'ended'
    | 'directories'
    | 'doomed'
    | 'leaderSeen'
  >
> & { readonly session?: string };

const FIRST_MS = 1_000_000;

export function createMasterBench(options: Partial<MasterOptions> = {}, epoch = 1): MasterBench {
  const state = createMasterState(
    { masterId: 'm1', epoch, term: 't' },
    { ...MASTER_OPTIONS_DEFAULT, ...options },
  );
  return benchOf(state, FIRST_MS);
}

function benchOf(
  state: MasterState,
  startMs: number,
  stored = new Map<string, string>(),
): MasterBench {
  const sessionNow = (from: string): string => {
    const id = from.replace(/^\w+:/, '');
    const holder = from.startsWith('agent:')
      ? state.agents.get(agentIdOf(id))
      : state.frameworks.get(frameworkIdOf(id));
    return holder?.record.session ?? 's1';
  };
  const settle = (effects: MasterEffect[]): MasterEffect[] => {
    const all = [...effects, ...offerResources(state, bench.nowMs)];
    assertInvariants(state);
    return all;
  };
  const frameworkSays = (frameworkId: string, message: Message): MasterEffect[] =>
    bench.say(`framework:${frameworkId}`, message);
  const bench: MasterBench = {
    state,
    nowMs: startMs,
    principal: undefined,
    happen: (event) => settle(step(state, event, bench.nowMs)),
    say: (from, message, session = sessionNow(from)) => {
      const by = bench.principal && { principal: bench.principal };
      return bench.happen({ type: 'message', from, session, message, ...by });
    },
    silence: (...names) => {
      const seenMs = bench.nowMs - state.options.agentTimeoutMs;
      const clients = names.map((client) => ({ client, seenMs }));
      return settle(step(state, { type: 'clients.silent', clients }, bench.nowMs));
    },
    loseData: () => settle(step(state, { type: 'data.lost' }, bench.nowMs)),
    overflow: (...clients) =>
      settle(step(state, { type: 'clients.overflowing', clients }, bench.nowMs)),
    wait: (ms) => {
      bench.nowMs += ms;
      return settle(step(state, { type: 'tick' }, bench.nowMs));
    },
    registerFramework: (id, more = {}, session = 's1') =>
      bench.say(
        `framework:${id}`,
        {
          type: 'RegisterFramework',
          framework: frameworkInfo(id, more),
          session: sessionOf(session),
        },
        session,
      ),
    registerAgent: (id, words = {}) => {
      const { session = 's1', node = 'n1', tasks = [], frameworks = [], ended = [] } = words;
      const { executors = [], directories, doomed, leaderSeen, ...rest } = words;
      const message: MessageOf<'RegisterAgent'> = {
        type: 'RegisterAgent',
        agent: agentInfo(id, infoOf(rest)),
        session: sessionOf(session),
        node,
        tasks: tasks.map((task) => ({ ...task, launchId: launchOf(state, task) })),
        frameworks,
        executors: executors.map((executor) => ({
          ...executor,
          launchId: executorLaunchOf(state, id, executor),
        })),
        ended,
        ...(directories && { directories }),
        ...(doomed && { doomed }),
        ...(leaderSeen && { leaderSeen }),
      };
      return bench.say(`agent:${id}`, message, session);
    },
    launch: (frameworkId, offerIds, tasks, refuseMs = 0) =>
      frameworkSays(frameworkId, {
        type: 'LaunchTasks',
        frameworkId: frameworkIdOf(frameworkId),
        offerIds: [offerIds].flat().map(offerIdOf),
        tasks,
        filters: { refuseMs },
      }),
    decline: (frameworkId, offerId, refuseMs) =>
      frameworkSays(frameworkId, {
        type: 'DeclineOffers',
        frameworkId: frameworkIdOf(frameworkId),
        offerIds: [offerIdOf(offerId)],
        ...(refuseMs !== undefined && { filters: { refuseMs } }),
      }),
    update: (agentId, status) =>
      bench.say(`agent:${agentId}`, {
        type: 'StatusUpdate',
        status: { launchId: launchOf(state, status), ...status, agentId: agentIdOf(agentId) },
      }),
    acknowledge: (frameworkId, taskId, updateId) =>
      frameworkSays(frameworkId, {
        type: 'StatusUpdateAcknowledgement',
        frameworkId: frameworkIdOf(frameworkId),
        taskId: taskIdOf(taskId),
        updateId: updateId as NonNullable<TaskStatus['updateId']>,
      }),
    kill: (from, frameworkId, taskId) =>
      bench.say(from, {
        type: 'KillTask',
        frameworkId: frameworkIdOf(frameworkId),
        taskId: taskIdOf(taskId),
        by: from.startsWith('operator:') ? 'operator' : 'framework',
      }),
    resize: (from, taskId, resources, resizeId = `wish-of-${taskId}`) =>
      bench.say(from, {
        type: 'ResizeTask',
        resizeId: sessionOf(resizeId),
        frameworkId: frameworkIdOf('f1'),
        taskId: taskIdOf(taskId),
        resources,
      }),
    resized: (taskId, said) => {
      const task = bench.task('f1', taskId);
      const { launchId, agentId = agentIdOf('a1') } = task ?? {};
      return bench.say(`agent:${agentId}`, {
        type: 'TaskResized',
        resizeId: sessionOf(`wish-of-${taskId}`),
        frameworkId: frameworkIdOf('f1'),
        taskId: taskIdOf(taskId),
        ...(launchId !== undefined && { launchId }),
        ...said,
      });
    },
    exited: (agentId, executorId, launchId) =>
      bench.say(`agent:${agentId}`, {
        type: 'ExitedExecutor',
        frameworkId: frameworkIdOf('f1'),
        executorId: executorIdOf(executorId),
        launchId:
          launchId ?? bench.executor(agentId, 'f1', executorId)?.launchId ?? launchIdOf('none'),
        message: 'exited with code 3',
      }),
    executor: (agentId, frameworkId, executorId) =>
      findExecutor(state, agentIdOf(agentId), frameworkIdOf(frameworkId), executorIdOf(executorId)),
    usedOn: (agentId) => {
      const { cpuMillis, memMib } = state.agents.get(agentIdOf(agentId))?.used ?? NO_RESOURCES;
      return `${String(cpuMillis / 1000)} ${String(memMib)}`;
    },
    task: (frameworkId, taskId) =>
      state.tasks.get(taskKey(frameworkIdOf(frameworkId), taskIdOf(taskId))),
    offersOf: (frameworkId) =>
      [...(state.frameworks.get(frameworkIdOf(frameworkId))?.offers ?? [])].flatMap((offerId) => {
        const offer = state.offers.get(offerId);
        if (!offer) return [];
        const { cpuMillis, memMib } = offer.resources;
        return [`${offer.agentId} ${String(cpuMillis / 1000)} ${String(memMib)}`];
      }),
    offerOf: (frameworkId) => {
      const [offerId] = state.frameworks.get(frameworkIdOf(frameworkId))?.offers ?? [];
      const offer = offerId === undefined ? undefined : state.offers.get(offerId);
      if (!offer) throw new Error(`${frameworkId} holds no offer`);
      return offer;
    },
    failOver: () => {
      store(state, stored);
      return leaderOn(stored, state, bench.nowMs);
    },
    replica: () => {
      store(state, stored);
      const copy = new Map(stored);
      return (nowMs) => {
        const next = leaderOn(copy, state, nowMs);
        next.loseData();
        return next;
      };
    },
  };
  return bench;
}

function store(state: MasterState, stored: Map<string, string>): void {
  for (const { registry, key, value } of takeChanges(state)) {
    if (value === undefined) stored.delete(`${registry} ${key}`);
    else stored.set(`${registry} ${key}`, value);
  }
}

function leaderOn(
  stored: Map<string, string>,
  { options, epoch }: MasterState,
  nowMs: number,
): MasterBench {
  const next = createMasterState({ masterId: 'm2', epoch: epoch + 1, term: 't' }, options);
  loadRecords(next, recordsOf(stored));
  return benchOf(next, nowMs, stored);
}

/** What an agent says of a task that the master has launched there names the master's launch. */
function launchOf(state: MasterState, said: AgentTask | TaskStatus): LaunchId {
  const { frameworkId, taskId, launchId } = said;
  const isMade = launchId !== undefined && launchId !== `launch-of-${taskId}`;
  if (isMade) return launchId;
  const task = state.tasks.get(taskKey(frameworkId, taskId));
  return task?.launchId ?? launchIdOf(`launch-of-${taskId}`);
}

/** The same of an executor. */
function executorLaunchOf(state: MasterState, agentId: string, said: AgentExecutor): LaunchId {
  const { frameworkId, info, launchId } = said;
  if (launchId !== `launch-of-${info.executorId}`) return launchId;
  const known = findExecutor(state, agentIdOf(agentId), frameworkId, info.executorId);
  return known?.launchId ?? launchId;
}

function infoOf({
  session: _session,
  node: _node,
  tasks: _tasks,
  frameworks: _frameworks,
  ended: _ended,
  ...info
}: Partial<AgentInfo> & AgentWords): Partial<AgentInfo> {
  return info;
}

/** Messages of one type that the effects send to a client. */
export function sent<T extends MessageType>(
  effects: readonly MasterEffect[],
  client: string,
  type: T,
): MessageOf<T>[] {
  return effects.flatMap((effect) =>
    effect.type === 'send' && effect.client === client && effect.message.type === type
      ? [effect.message as MessageOf<T>]
      : [],
  );
}

/** Types of all messages that the effects send, as `CLIENT TYPE`. */
export function sends(effects: readonly MasterEffect[]): string[] {
  return effects.flatMap((effect) =>
    effect.type === 'send' ? [`${effect.client} ${effect.message.type}`] : [],
  );
}

/** Statuses that a framework is told, as `TASK STATE REASON`. */
export function told(effects: readonly MasterEffect[], frameworkId: string): string[] {
  return sent(effects, `framework:${frameworkId}`, 'StatusUpdate').map(({ status }) =>
    [status.taskId, status.state, status.reason].filter((part) => part !== undefined).join(' '),
  );
}

/** Types of the events. */
export function events(effects: readonly MasterEffect[]): string[] {
  return eventsOf(effects).map(({ type }) => type);
}

export function eventsOf(effects: readonly MasterEffect[]): ClusterEvent[] {
  return effects.flatMap((effect) => (effect.type === 'event.append' ? [effect.event] : []));
}

export function history(effects: readonly MasterEffect[]): EndedTask[] {
  return effects.flatMap((effect) => (effect.type === 'history.append' ? [effect.task] : []));
}

/** Why messages were not acted on. */
export function ignored(effects: readonly MasterEffect[]): string[] {
  return effects.flatMap((effect) => (effect.type === 'message.ignore' ? [effect.reason] : []));
}

/** A bench with framework f1, agent a1 (4 cores, 8 GiB) and these tasks of f1 launched on it. */
export function benchWithTasks(...tasks: readonly object[]): MasterBench {
  const bench = createMasterBench();
  bench.registerAgent('a1');
  bench.registerFramework('f1');
  bench.launch('f1', bench.offerOf('f1').offerId, [...tasks]);
  return bench;
}

/** The same, and the task runs. */
export function benchWithRunning(task: { readonly taskId: string }): MasterBench {
  const bench = benchWithTasks(task);
  bench.update('a1', taskStatus('f1', task.taskId, 'TASK_RUNNING'));
  bench.acknowledge('f1', task.taskId, `${task.taskId}.TASK_RUNNING`);
  return bench;
}
