/**
 * The master is told anything, in any order. Whatever it is told: it does not throw, gives nothing out twice, its sums
 * are those of its records, and what it stored is all that another leader needs.
 */
import assert from 'node:assert/strict';
import { test } from '@jest/globals';
import fc from 'fast-check';
import type { MasterEffect } from '../../master/core/effects.ts';
import type { Agent, Framework, MasterState } from '../../master/core/state.ts';
import { loadRecords } from '../../master/core/books.ts';
import { createMasterState, takeChanges } from '../../master/core/state.ts';
import { offerResources, step } from '../../master/core/step.ts';
import type { AgentId } from '../../protocol/ids.ts';
import type { Message } from '../../protocol/messages.ts';
import { reservationsOf } from '../../protocol/reservations.ts';
import type { Resources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { AgentTask, EndedLaunch } from '../../protocol/task.ts';
import { agentInfo, frameworkInfo, launchIdOf, sessionOf } from '../support/builders.ts';
import { answerToResize, executorsOn, wordsOnTask } from '../support/agent-words.ts';
import { anyMessage, anyResources, OF_OPERATORS } from '../support/arbitraries.ts';
import { assertInvariants } from '../support/invariants.ts';
import { recordsOf } from '../support/records.ts';

type Action =
  | { readonly do: 'say'; readonly message: Message; readonly as: 'sender' | 'stranger' | 'ghost' }
  /** Accepts an offer that is really out, with tasks that may fit. */
  | { readonly do: 'accept'; readonly pick: number; readonly tasks: readonly unknown[] }
  /** The same with all offers of one framework and role that are of the agent of that offer. */
  | { readonly do: 'accept all'; readonly pick: number; readonly tasks: readonly unknown[] }
  /** An operator reserves something of an agent, or of one of its reservations. */
  | {
      readonly do: 'reserve';
      readonly pick: number;
      readonly role: string;
      readonly resources: Resources;
      readonly isFurther: boolean;
    }
  | { readonly do: 'unreserve'; readonly pick: number }
  /** An agent reports a state of a task that it really has. */
  | { readonly do: 'report'; readonly pick: number; readonly state: TaskStateName }
  | { readonly do: 'acknowledge'; readonly pick: number }
  /** A framework or an operator wishes other resources for a task that it has. */
  | {
      readonly do: 'resize';
      readonly pick: number;
      readonly resources: Resources;
      readonly by: 'framework' | 'operator';
    }
  /** An agent does what it was asked to, or says that it could not. */
  | { readonly do: 'answer resize'; readonly pick: number; readonly isDone: boolean }
  /** An executor that is on an agent has ended. */
  | { readonly do: 'executor ends'; readonly pick: number }
  | { readonly do: 'silence'; readonly client: string }
  | { readonly do: 'wait'; readonly ms: number }
  /** An agent registers again, and says of each of its tasks what its fate was. */
  | { readonly do: 'come back'; readonly pick: number; readonly fates: readonly Fate[] }
  /** Redis has failed over to a replica that lacks the last writes. */
  | { readonly do: 'lose data'; readonly steps: number }
  | { readonly do: 'fail over' };
type Fate = 'runs' | 'runs as another launch' | 'has ended' | 'was acknowledged' | 'is forgotten';
type TaskStateName =
  'TASK_RUNNING' | 'TASK_KILLING' | 'TASK_FINISHED' | 'TASK_FAILED' | 'TASK_LOST';

const anyPick = fc.nat(1000);
const anyTasks = anyMessage
  .filter((message) => message.type === 'LaunchTasks')
  .map((message) => message.tasks);

const anyAction: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('say' as const),
      message: anyMessage,
      as: fc.oneof(
        { weight: 8, arbitrary: fc.constant('sender' as const) },
        fc.constantFrom('stranger' as const, 'ghost' as const),
      ),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('accept' as const), pick: anyPick, tasks: anyTasks }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('accept all' as const),
      pick: anyPick,
      tasks: anyTasks,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('reserve' as const),
      pick: anyPick,
      role: fc.constantFrom('*', 'eng', 'eng/prod', 'eng/prod/a'),
      resources: anyResources,
      isFurther: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('unreserve' as const), pick: anyPick }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('report' as const),
      pick: anyPick,
      state: fc.constantFrom<TaskStateName[]>(
        'TASK_RUNNING',
        'TASK_KILLING',
        'TASK_FINISHED',
        'TASK_FAILED',
        'TASK_LOST',
      ),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('acknowledge' as const), pick: anyPick }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('resize' as const),
      pick: anyPick,
      resources: anyResources,
      by: fc.constantFrom('framework' as const, 'operator' as const),
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
  fc.record({
    do: fc.constant('silence' as const),
    client: fc.constantFrom('agent:a1', 'agent:a2', 'framework:f1', 'framework:f2', 'x', 'agent:'),
  }),
  fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1, 100, 1000, 5000, 40_000) }),
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('come back' as const),
      pick: anyPick,
      fates: fc.array(
        fc.constantFrom<Fate[]>(
          'runs',
          'runs as another launch',
          'has ended',
          'was acknowledged',
          'is forgotten',
        ),
        { minLength: 1, maxLength: 5 },
      ),
    }),
  },
  fc.record({ do: fc.constant('lose data' as const), steps: fc.constantFrom(0, 0, 1, 5, 20) }),
  fc.constant({ do: 'fail over' as const }),
);

interface World {
  state: MasterState;
  nowMs: number;
  stored: Map<string, string>;
  /** What was stored after each step. */
  readonly past: Map<string, string>[];
  sessionsOpened: number;
  /** Client name -> session, as the store has them. */
  readonly sessions: Map<string, string>;
  /** Agents that came with tasks of their own or have shrunk: the master did not give these resources out. */
  readonly overCommitted: Set<string>;
}

/** Who would say this, in which session. */
function senderOf(
  state: MasterState,
  message: Message,
  as: 'sender' | 'stranger' | 'ghost',
): [string, string] {
  if (as === 'stranger') return ['framework:f9', 's1'];
  if (message.type === 'RegisterFramework') {
    return [`framework:${message.framework.frameworkId}`, as === 'ghost' ? 's9' : message.session];
  }
  if (message.type === 'RegisterAgent') {
    return [`agent:${message.agent.agentId}`, as === 'ghost' ? 's9' : message.session];
  }
  if (message.type === 'KillTask' && message.by === 'operator') return ['operator:ann', 's1'];
  if (OF_OPERATORS.includes(message.type)) return ['operator:ann', 's1'];
  if (message.type === 'UnregisterAgent') {
    const session = state.agents.get(message.agentId)?.record.session;
    return [`agent:${message.agentId}`, as === 'ghost' ? 's9' : (session ?? 's1')];
  }
  if (isAgentsWord(message)) {
    const [agent] = state.agents.values();
    return [`agent:${agent?.record.info.agentId ?? 'a1'}`, agent?.record.session ?? 's1'];
  }
  if (!('frameworkId' in message) || message.frameworkId === undefined) {
    return ['framework:f1', 's1'];
  }
  const session = state.frameworks.get(message.frameworkId)?.record.session;
  return [`framework:${message.frameworkId}`, as === 'ghost' ? 's9' : (session ?? 's1')];
}

function isAgentsWord({ type }: Message): boolean {
  const words = ['StatusUpdate', 'ExitedExecutor', 'TaskResized', 'ContainerShrink'];
  return words.includes(type);
}

function pickOf<T>(items: Iterable<T>, pick: number): T | undefined {
  const list = [...items];
  return list[pick % Math.max(1, list.length)];
}

function say(
  world: World,
  message: Message,
  as: 'sender' | 'stranger' | 'ghost' = 'sender',
): MasterEffect[] {
  const { state, nowMs } = world;
  const [from, session] = senderOf(state, message, as);
  // What an agent says that it has and runs is the truth, even if it is more than the master has given out.
  if (message.type === 'RegisterAgent') world.overCommitted.add(message.agent.agentId);
  if (message.type === 'TaskResized') world.overCommitted.add(from.replace(/^agent:/, ''));
  return step(state, { type: 'message', from, session, message }, nowMs);
}

function act(world: World, action: Action): MasterEffect[] {
  const { state, nowMs } = world;
  switch (action.do) {
    case 'say':
      return say(world, action.message, action.as);
    case 'accept': {
      const offer = pickOf(state.offers.values(), action.pick);
      if (!offer) return [];
      const { frameworkId, offerId } = offer;
      return say(world, {
        type: 'LaunchTasks',
        frameworkId,
        offerIds: [offerId],
        tasks: [...action.tasks],
      });
    }
    case 'accept all': {
      const { agentId, frameworkId, role } = pickOf(state.offers.values(), action.pick) ?? {};
      const offerIds = [...state.offers.values()]
        .filter((one) => one.agentId === agentId && one.frameworkId === frameworkId)
        .flatMap((one) => (one.role === role ? [one.offerId] : []));
      if (frameworkId === undefined) return [];
      const tasks = [...action.tasks];
      return say(world, { type: 'LaunchTasks', frameworkId, offerIds, tasks });
    }
    case 'reserve':
    case 'unreserve':
      return changeReservations(world, action);
    case 'report': {
      const task = pickOf(state.tasks.values(), action.pick);
      const session = task && state.agents.get(task.agentId)?.record.session;
      if (!task || session === undefined) return [];
      const { frameworkId, taskId, launchId, agentId } = task;
      const updateId = `${taskId}.${action.state}` as NonNullable<typeof task.status>['updateId'];
      const status = {
        frameworkId,
        taskId,
        launchId,
        updateId,
        state: action.state,
        source: 'SOURCE_AGENT' as const,
      };
      const message = { type: 'StatusUpdate' as const, status };
      return step(state, { type: 'message', from: `agent:${agentId}`, session, message }, nowMs);
    }
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
      const { resources } = action;
      const resizeId = sessionOf(`wish-${String(action.pick)}`);
      const message: Message = { type: 'ResizeTask', resizeId, frameworkId, taskId, resources };
      if (action.by === 'framework') return say(world, message);
      return step(state, { type: 'message', from: 'operator:ann', session: 's1', message }, nowMs);
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
    case 'silence':
      return step(
        state,
        { type: 'clients.silent', clients: [{ client: action.client, seenMs: nowMs - 75_000 }] },
        nowMs,
      );
    case 'come back':
      return comeBack(world, action);
    case 'lose data':
      // The store has forgotten all sessions before the new leader is told.
      world.sessions.clear();
      world.stored = new Map(world.past.at(-1 - action.steps) ?? world.stored);
      world.state = reload(world, state.epoch + 1);
      return step(world.state, { type: 'data.lost' }, nowMs);
    case 'wait':
      world.nowMs += action.ms;
      return step(state, { type: 'tick' }, world.nowMs);
    case 'fail over':
      return [];
    default:
      return action satisfies never;
  }
}

function changeReservations(
  { state, nowMs }: World,
  action: Action & { do: 'reserve' | 'unreserve' },
): MasterEffect[] {
  const requestId = sessionOf('wish');
  const all = [...state.agents.values()].flatMap(({ record }) =>
    reservationsOf(record).map((one) => ({ ...one, agentId: record.info.agentId })),
  );
  const known = pickOf(all, action.pick);
  const operator = { type: 'message', from: 'operator:ann', session: 's1' } as const;
  if (action.do === 'unreserve') {
    if (!known) return [];
    const { agentId, reservationId } = known;
    const message: Message = { type: 'Unreserve', requestId, agentId, reservationId };
    return step(state, { ...operator, message }, nowMs);
  }
  const { role, resources, isFurther } = action;
  const agentId = pickOf(state.agents.keys(), action.pick);
  const parent = isFurther ? known : undefined;
  if (agentId === undefined) return [];
  const message: Message = {
    ...{ type: 'Reserve', requestId, agentId: parent?.agentId ?? agentId, role },
    resources: { ...resources },
    ...(parent && { parentId: parent.reservationId }),
    labels: {},
  };
  return step(state, { ...operator, message }, nowMs);
}

/** In the session that the agent has, if it has one. */
function sayOfAgent({ state, nowMs }: World, agentId: AgentId, message: Message): MasterEffect[] {
  const session = state.agents.get(agentId)?.record.session;
  if (session === undefined) return [];
  return step(state, { type: 'message', from: `agent:${agentId}`, session, message }, nowMs);
}

function comeBack(world: World, { pick, fates }: Action & { do: 'come back' }): MasterEffect[] {
  const record = pickOf(world.state.agents.values(), pick)?.record;
  if (!record) return [];
  const { info, node } = record;
  const tasks: AgentTask[] = [];
  const ended: EndedLaunch[] = [];
  const own = [...world.state.tasks.values()].filter(({ agentId }) => agentId === info.agentId);
  for (const [index, task] of own.entries()) {
    const { frameworkId, taskId, launchId } = task;
    const reported = wordsOnTask(task);
    const fate = fates[index % fates.length];
    if (fate === 'runs') tasks.push(reported);
    if (fate === 'has ended') tasks.push({ ...reported, state: 'TASK_FAILED' });
    if (fate === 'was acknowledged') ended.push({ frameworkId, taskId, launchId });
    if (fate !== 'runs as another launch') continue;
    tasks.push({ ...reported, launchId: launchIdOf(`0.x.${String(index)}`) });
  }
  const session = sessionOf(`again-${String(++world.sessionsOpened)}`);
  const message = { type: 'RegisterAgent' as const, agent: info, session, node, tasks, ended };
  const executors = executorsOn(world.state, info.agentId).flatMap((executor, index) => {
    const fate = fates[(index + pick) % fates.length];
    const older = { ...executor, launchId: launchIdOf(`0.x.${String(index)}`) };
    if (fate === 'runs as another launch') return [older];
    return fate === 'runs' || fate === 'has ended' ? [executor] : [];
  });
  return say(world, { ...message, frameworks: [], executors });
}

/** What the next leader knows, less what it makes itself: its name and where the allocator begins. */
function essence(state: MasterState): unknown {
  const { agents, frameworks, offers, executors, tasks, total, orphans, cluster } = state;
  const byKey = <T>(map: ReadonlyMap<string, T>): [string, T][] =>
    [...map].sort(([a], [b]) => (a < b ? -1 : 1));
  const holders = (map: ReadonlyMap<string, Agent | Framework>): unknown =>
    byKey(map).map(([key, holder]) => [
      key,
      {
        ...holder,
        ...('pools' in holder && { pools: [...holder.pools].sort() }),
        executors: [...holder.executors].sort(),
        tasks: [...holder.tasks].sort(),
        offers: [...holder.offers].sort(),
        // In memory only, as filters are.
        ignored: undefined,
        waitingSinceMs: undefined,
        asked: undefined,
      },
    ]);
  const plain = {
    agents: holders(agents),
    frameworks: holders(frameworks),
    offers: byKey(offers),
    executors: byKey(executors),
    tasks: byKey(tasks),
    orphans: [...orphans].sort(),
    orphanExecutors: [...state.orphanExecutors].sort(),
    total,
    cluster,
  };
  // As JSON, because that is what is stored: an optional field that is undefined is one that is absent.
  return JSON.parse(JSON.stringify(plain));
}

function store({ state, stored, past }: World): void {
  for (const { registry, key, value } of takeChanges(state)) {
    if (value === undefined) stored.delete(`${registry} ${key}`);
    else stored.set(`${registry} ${key}`, value);
  }
  past.push(new Map(stored));
}

function reload({ state, stored }: World, epoch: number): MasterState {
  const identity = { masterId: `m${String(epoch)}`, epoch, term: 't' };
  const next = createMasterState(identity, state.options);
  loadRecords(next, recordsOf(stored));
  return next;
}

/** Follows the effects as the store would: heartbeats of a session that is not there get the answer `moved`. */
function assertSessions(world: World, effects: readonly MasterEffect[]): void {
  for (const effect of effects) {
    if (effect.type === 'session.set') {
      if (effect.session === undefined) world.sessions.delete(effect.client);
      else world.sessions.set(effect.client, effect.session);
    }
    if (effect.type === 'stream.end') {
      const { client, session } = effect;
      assert.notEqual(world.sessions.get(client), session, `${client}: its stream has ended`);
    }
    if (effect.type === 'history.append') {
      assert.ok(isTerminal(effect.task.state), 'only ended tasks are history');
    }
  }
  const { agents, frameworks } = world.state;
  const registered = [
    ...[...agents].map(([id, { record }]) => [`agent:${id}`, record.session]),
    ...[...frameworks].map(([id, { record }]) => [`framework:${id}`, record.session]),
  ].filter(([, session]) => session !== undefined);
  assert.deepEqual([...world.sessions].sort(), registered.sort(), 'sessions of the store');
}

/** Long, and without fast-check's preference for short: what is interesting comes after some dozen steps. */
const anyActions = fc.array(anyAction, { minLength: 5, maxLength: 60, size: 'max' });

/** Two agents and two frameworks are there, so that what follows means something. */
function createWorld(): World {
  const world: World = {
    state: createMasterState({ masterId: 'm1', epoch: 1, term: 't' }),
    nowMs: 1_000_000,
    stored: new Map(),
    past: [],
    sessionsOpened: 0,
    sessions: new Map(),
    overCommitted: new Set(),
  };
  const session = sessionOf('s0');
  for (const id of ['1', '2']) {
    const agent = agentInfo(`a${id}`);
    const framework = frameworkInfo(`f${id}`, { failoverTimeoutMs: 1000 });
    assertSessions(world, [
      ...say(world, {
        type: 'RegisterAgent',
        agent,
        session,
        node: 'n1',
        tasks: [],
        frameworks: [],
        executors: [],
        ended: [],
      }),
      ...say(world, { type: 'RegisterFramework', framework, session }),
    ]);
  }
  world.overCommitted.clear();
  offerResources(world.state, world.nowMs);
  return world;
}

test('any messages in any order keep the books in order, and another leader finds all of it', () => {
  fc.assert(
    fc.property(anyActions, (actions) => {
      const world = createWorld();
      for (const action of actions) {
        const effects = act(world, action);
        effects.push(...offerResources(world.state, world.nowMs));
        assertInvariants(world.state, world.overCommitted);
        assertSessions(world, effects);
        store(world);
        const next = reload(world, world.state.epoch + 1);
        assert.deepEqual(essence(next), essence(world.state), 'what the next leader would load');
        if (action.do === 'fail over') world.state = next;
      }
    }),
    { numRuns: 300 },
  );
});

test('agents that only run what they are given are never given more than they have', () => {
  fc.assert(
    fc.property(anyActions, (actions) => {
      const world = createWorld();
      for (const action of actions) {
        act(world, honest(world.state, action));
        offerResources(world.state, world.nowMs);
        assertInvariants(world.state);
        store(world);
      }
    }),
    { numRuns: 300 },
  );
});

/** An agent that registers reports just what the master has given it, and has always the same resources. */
function honest(state: MasterState, action: Action): Action {
  if (action.do === 'come back') {
    const fates = action.fates.map((fate) => (fate === 'runs as another launch' ? 'runs' : fate));
    return { ...action, fates };
  }
  // It answers what it was asked, with what it was asked for.
  if (action.do === 'say' && action.message.type === 'TaskResized') {
    return { do: 'answer resize', pick: 0, isDone: true };
  }
  if (action.do !== 'say' || action.message.type !== 'RegisterAgent') return action;
  const { agent } = action.message;
  const tasks = [...state.tasks.values()]
    .filter((task) => task.agentId === agent.agentId && !isTerminal(task.state))
    .map(wordsOnTask);
  const info = { ...agent, resources: { cpuMillis: 4000, memMib: 8192 } };
  const executors = executorsOn(state, agent.agentId);
  return { ...action, message: { ...action.message, agent: info, tasks, executors } };
}
