/**
 * A master's core on the bench: messages go in as if their senders had registered, each one as a batch of its own, and
 * the invariants are checked after each. Time passes only by `wait`.
 */
import type { MasterEffect } from '../../master/core/effects.ts';
import type { MasterOptions, MasterState } from '../../master/core/state.ts';
import { createMasterState, loadRecords, takeChanges } from '../../master/core/state.ts';
import { offerResources, step } from '../../master/core/step.ts';
import { taskKey } from '../../protocol/ids.ts';
import type { Message, MessageOf, MessageType } from '../../protocol/messages.ts';
import type { ClusterEvent, EndedTask, OfferRecord, TaskRecord } from '../../protocol/records.ts';
import type { AgentInfo, AgentTask, FrameworkInfo, TaskStatus } from '../../protocol/task.ts';
import {
  agentIdOf,
  agentInfo,
  frameworkIdOf,
  frameworkInfo,
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
  /** One message of a client, in the session that it has registered (or the given one), and the offers that follow. */
  say(from: string, message: Message, session?: string): MasterEffect[];
  /** Ends a session, as the liveness check does. */
  silence(...clients: string[]): MasterEffect[];
  overflow(...clients: string[]): MasterEffect[];
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
  task(frameworkId: string, taskId: string): TaskRecord | undefined;
  /** Offers that a framework holds, as `AGENT CPUS MIB`. */
  offersOf(frameworkId: string): string[];
  offerOf(frameworkId: string): OfferRecord;
  /** Another leader, with what this one has stored. */
  failOver(): MasterBench;
}

interface AgentWords {
  readonly session?: string;
  readonly tasks?: AgentTask[];
}

const FIRST_MS = 1_000_000;

export function createMasterBench(options: Partial<MasterOptions> = {}, epoch = 1): MasterBench {
  const state = createMasterState(
    { masterId: 'm1', epoch },
    { offerTimeoutMs: 30_000, ...options },
  );
  return benchOf(state, FIRST_MS, options);
}

function benchOf(
  state: MasterState,
  startMs: number,
  options: Partial<MasterOptions>,
): MasterBench {
  const stored = new Map<string, string>();
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
    say: (from, message, session = sessionNow(from)) =>
      settle(step(state, { type: 'message', from, session, message }, bench.nowMs)),
    silence: (...clients) => settle(step(state, { type: 'clients.silent', clients }, bench.nowMs)),
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
    registerAgent: (id, { session = 's1', tasks = [], ...more } = {}) =>
      bench.say(
        `agent:${id}`,
        { type: 'RegisterAgent', agent: agentInfo(id, more), session: sessionOf(session), tasks },
        session,
      ),
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
        status: { ...status, agentId: agentIdOf(agentId) },
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
      for (const { registry, key, value } of takeChanges(state)) {
        if (value === undefined) stored.delete(`${registry} ${key}`);
        else stored.set(`${registry} ${key}`, value);
      }
      const next = createMasterState({ masterId: 'm2', epoch: state.epoch + 1 }, state.options);
      loadRecords(next, recordsOf(stored));
      return benchOf(next, bench.nowMs, options);
    },
  };
  return bench;
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
