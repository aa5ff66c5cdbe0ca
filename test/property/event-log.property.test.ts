/**
 * Nothing happens to the cluster that the event log does not say: whatever a master is told, its events alone are enough
 * to know who is there and what is where.
 */
import { test } from '@jest/globals';
import fc from 'fast-check';
import type { MasterEffect } from '../../master/core/effects.ts';
import type { MasterState } from '../../master/core/state.ts';
import { loadRecords } from '../../master/core/books.ts';
import { createMasterState, takeChanges } from '../../master/core/state.ts';
import type { MasterEvent } from '../../master/core/step.ts';
import { offerResources, step } from '../../master/core/step.ts';
import { snapshotOf, sourceOf } from '../../master/snapshot.ts';
import type { AgentId } from '../../protocol/ids.ts';
import type { Message, MessageOf } from '../../protocol/messages.ts';
import type { Resources } from '../../protocol/resources.ts';
import type { TaskStatus } from '../../protocol/task.ts';
import { answerToResize, executorsOn, wordsOnTask } from '../support/agent-words.ts';
import { anyMessage, anyResources, anyState, OF_OPERATORS } from '../support/arbitraries.ts';
import {
  agentInfo,
  frameworkInfo,
  launchIdOf,
  sessionOf,
  updateIdOf,
} from '../support/builders.ts';
import type { EventLogCheck } from '../support/event-log-check.ts';
import { createEventLogCheck } from '../support/event-log-check.ts';
import { recordsOf } from '../support/records.ts';

type Action =
  | { readonly do: 'say'; readonly message: Message }
  /** Tasks on an offer that is out. */
  | { readonly do: 'accept'; readonly pick: number; readonly tasks: readonly unknown[] }
  /** An agent's word on a task that it has. */
  | { readonly do: 'report'; readonly pick: number; readonly state: TaskStatus['state'] }
  | { readonly do: 'acknowledge'; readonly pick: number }
  /** A wish for other resources of a task, or the agent's answer to one. */
  | { readonly do: 'resize'; readonly pick: number; readonly resources: Resources }
  | { readonly do: 'answer resize'; readonly pick: number; readonly isDone: boolean }
  | { readonly do: 'executor ends'; readonly pick: number }
  /** An agent registers again, with what it has, or with some states of it changed. */
  | { readonly do: 'return'; readonly pick: number; readonly state: TaskStatus['state'] }
  | { readonly do: 'silence' | 'overflow'; readonly client: string }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'lose data' | 'fail over' };

const anyPick = fc.nat(1000);
const anyClient = fc.constantFrom('agent:a1', 'agent:a2', 'framework:f1', 'framework:f2');
const anyAction: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 9,
    arbitrary: fc.record({ do: fc.constant('say' as const), message: anyMessage }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('accept' as const),
      pick: anyPick,
      tasks: anyMessage
        .filter((message) => message.type === 'LaunchTasks')
        .map((message) => message.tasks),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('report' as const), pick: anyPick, state: anyState }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('acknowledge' as const), pick: anyPick }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('resize' as const),
      pick: anyPick,
      resources: anyResources,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('answer resize' as const),
      pick: anyPick,
      isDone: fc.boolean(),
    }),
  },
  fc.record({ do: fc.constant('executor ends' as const), pick: anyPick }),
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('return' as const), pick: anyPick, state: anyState }),
  },
  fc.record({ do: fc.constantFrom('silence' as const, 'overflow' as const), client: anyClient }),
  fc.record({
    do: fc.constant('wait' as const),
    ms: fc.constantFrom(1, 1000, 40_000, 3_000_000_000),
  }),
  fc.record({ do: fc.constantFrom('lose data' as const, 'fail over' as const) }),
);

interface World {
  state: MasterState;
  nowMs: number;
  sessions: number;
  readonly stored: Map<string, string>;
  readonly log: EventLogCheck;
}

function pickOf<T>(items: Iterable<T>, pick: number): T | undefined {
  const list = [...items];
  return list[pick % Math.max(1, list.length)];
}

/** The message as its rightful sender says it. */
function say({ state, nowMs }: World, message: Message): MasterEffect[] {
  const told = (from: string, session = 's1'): MasterEffect[] =>
    step(state, { type: 'message', from, session, message }, nowMs);
  if (message.type === 'RegisterAgent')
    return told(`agent:${message.agent.agentId}`, message.session);
  if (message.type === 'RegisterFramework') {
    return told(`framework:${message.framework.frameworkId}`, message.session);
  }
  if (OF_OPERATORS.includes(message.type)) return told('operator:ann');
  if (message.type === 'KillTask' && message.by === 'operator') return told('operator:ann');
  if (message.type === 'UnregisterAgent') {
    return told(`agent:${message.agentId}`, state.agents.get(message.agentId)?.record.session);
  }
  if (!('frameworkId' in message) || message.frameworkId === undefined) {
    return told('framework:f1');
  }
  const framework = state.frameworks.get(message.frameworkId);
  return told(`framework:${message.frameworkId}`, framework?.record.session);
}

/** In the session that the agent has, if it has one. */
function sayOfAgent({ state, nowMs }: World, agentId: AgentId, message: Message): MasterEffect[] {
  const session = state.agents.get(agentId)?.record.session;
  if (session === undefined) return [];
  return step(state, { type: 'message', from: `agent:${agentId}`, session, message }, nowMs);
}

function report(world: World, action: Extract<Action, { do: 'report' }>): MasterEffect[] {
  const task = pickOf(world.state.tasks.values(), action.pick);
  if (!task) return [];
  const { frameworkId, taskId, launchId, agentId } = task;
  const updateId = updateIdOf(`${launchId}.${action.state}`);
  const status: TaskStatus = {
    frameworkId,
    taskId,
    launchId,
    updateId,
    state: action.state,
    source: 'SOURCE_AGENT',
  };
  return sayOfAgent(world, agentId, { type: 'StatusUpdate', status });
}

function comeBack(world: World, action: Extract<Action, { do: 'return' }>): MasterEffect[] {
  const { state } = world;
  const agent = pickOf(state.agents.values(), action.pick);
  if (!agent) return [];
  world.sessions += 1;
  const tasks = [...agent.tasks].flatMap((key, index) => {
    const task = state.tasks.get(key);
    if (!task || (action.pick + index) % 4 === 0) return [];
    const resources = (action.pick + index) % 3 === 0 ? agentInfo('a1').resources : task.resources;
    return [{ ...wordsOnTask(task), resources, state: action.state }];
  });
  const executors = executorsOn(state, agent.record.info.agentId).flatMap((executor, index) => {
    const fate = (action.pick + index) % 4;
    if (fate === 0) return [];
    return [fate === 1 ? { ...executor, launchId: launchIdOf('0.x.1') } : executor];
  });
  const message: MessageOf<'RegisterAgent'> = {
    type: 'RegisterAgent',
    agent: agent.record.info,
    session: sessionOf(`s${String(world.sessions).padStart(11, '0')}`),
    node: agent.record.node,
    tasks,
    frameworks: [],
    executors,
    ended: [],
  };
  return say(world, message);
}

function act(world: World, action: Action): MasterEffect[] {
  const { state } = world;
  const tell = (event: MasterEvent): MasterEffect[] => step(state, event, world.nowMs);
  switch (action.do) {
    case 'say':
      return say(world, action.message);
    case 'accept': {
      const offer = pickOf(state.offers.values(), action.pick);
      if (!offer) return [];
      const { frameworkId, offerId } = offer;
      const tasks = [...action.tasks];
      return say(world, { type: 'LaunchTasks', frameworkId, offerIds: [offerId], tasks });
    }
    case 'report':
      return report(world, action);
    case 'return':
      return comeBack(world, action);
    case 'acknowledge': {
      const task = pickOf(state.tasks.values(), action.pick);
      const updateId = task?.unacknowledged[0]?.updateId;
      if (!task || updateId === undefined) return [];
      const { frameworkId, taskId } = task;
      return say(world, { type: 'StatusUpdateAcknowledgement', frameworkId, taskId, updateId });
    }
    case 'resize': {
      const task = pickOf(state.tasks.values(), action.pick);
      if (!task) return [];
      const { frameworkId, taskId } = task;
      const resizeId = sessionOf(`wish-${String(action.pick)}`);
      const { resources } = action;
      return say(world, { type: 'ResizeTask', resizeId, frameworkId, taskId, resources });
    }
    case 'answer resize': {
      const task = pickOf(
        [...state.tasks.values()].filter(({ resize }) => resize),
        action.pick,
      );
      const message = task && answerToResize(task, action.isDone);
      return message ? sayOfAgent(world, task.agentId, message) : [];
    }
    case 'executor ends': {
      const executor = pickOf(state.executors.values(), action.pick);
      if (!executor) return [];
      const { agentId, frameworkId, launchId, info } = executor;
      const { executorId } = info;
      const ids = { frameworkId, executorId, launchId };
      return sayOfAgent(world, agentId, { type: 'ExitedExecutor', ...ids, message: 'ended' });
    }
    case 'silence': {
      const clients = [{ client: action.client, seenMs: world.nowMs - 75_000 }];
      return tell({ type: 'clients.silent', clients });
    }
    case 'overflow':
      return tell({ type: 'clients.overflowing', clients: [action.client] });
    case 'lose data':
      return tell({ type: 'data.lost' });
    case 'wait':
      world.nowMs += action.ms;
      return tell({ type: 'tick' });
    case 'fail over':
      world.state = reload(world);
      return [];
    default:
      return action satisfies never;
  }
}

function reload({ state, stored }: World): MasterState {
  const epoch = state.epoch + 1;
  const next = createMasterState({ masterId: 'm2', epoch, term: 't' }, state.options);
  loadRecords(next, recordsOf(stored));
  return next;
}

/** What the shell would do with a batch. @param isSnapshot with the state of the whole cluster */
function commit(world: World, effects: readonly MasterEffect[], isSnapshot: boolean): void {
  const events = effects.flatMap((effect) =>
    effect.type === 'event.append' ? [JSON.stringify(effect.event)] : [],
  );
  for (const { registry, key, value } of takeChanges(world.state)) {
    if (value === undefined) world.stored.delete(`${registry} ${key}`);
    else world.stored.set(`${registry} ${key}`, value);
  }
  const snapshot = isSnapshot ? snapshotOf(world.state) : undefined;
  world.log.committed(events, sourceOf(world.state), snapshot);
}

/** A cluster that begins, as after a loss of everything. */
function createEmptyWorld(): World {
  const world: World = {
    state: createMasterState({ masterId: 'm1', epoch: 1, term: 't' }),
    nowMs: 1_000_000,
    sessions: 100,
    stored: new Map(),
    log: createEventLogCheck(),
  };
  commit(world, step(world.state, { type: 'data.lost' }, world.nowMs), false);
  return world;
}

/** Two agents and two frameworks, with offers. */
function createWorld(): World {
  const world = createEmptyWorld();
  const effects = ['1', '2'].flatMap((id) => [
    ...say(world, {
      type: 'RegisterAgent',
      agent: agentInfo(`a${id}`),
      session: sessionOf('s0'),
      node: 'n1',
      tasks: [],
      frameworks: [],
      executors: [],
      ended: [],
    }),
    ...say(world, {
      type: 'RegisterFramework',
      framework: frameworkInfo(`f${id}`, { failoverTimeoutMs: 1000, role: `r${id}` }),
      session: sessionOf('s0'),
    }),
  ]);
  commit(world, [...effects, ...offerResources(world.state, world.nowMs)], false);
  return world;
}

const anyActions = fc.array(anyAction, { minLength: 5, maxLength: 60, size: 'max' });

test('the events of each commit bring a projection to what the registry holds after it', () => {
  fc.assert(
    fc.property(anyActions, fc.boolean(), (actions, isEmpty) => {
      const world = isEmpty ? createEmptyWorld() : createWorld();
      for (const action of actions) {
        const effects = act(world, action);
        effects.push(...offerResources(world.state, world.nowMs));
        commit(world, effects, action.do === 'wait' && action.ms === 1);
      }
    }),
    { numRuns: 400 },
  );
});
