/**
 * Agents that do what they are told and say what is so, frameworks that come and go, and a master that loses contact,
 * leadership and sessions in between: what a framework is told of one launch never contradicts itself, no launch is
 * started twice, and the master stops on its own word only what it has said to be over.
 */
import assert from 'node:assert/strict';
import { test } from '@jest/globals';
import fc from 'fast-check';
import type { MasterEffect } from '../../master/core/effects.ts';
import type { MasterEvent } from '../../master/core/step.ts';
import type { MasterState } from '../../master/core/state.ts';
import { createMasterState, loadRecords, takeChanges } from '../../master/core/state.ts';
import { offerResources, step } from '../../master/core/step.ts';
import type { LaunchId } from '../../protocol/ids.ts';
import { numberedSession, taskKey } from '../../protocol/ids.ts';
import type { Message, MessageOf } from '../../protocol/messages.ts';
import type { TaskState } from '../../protocol/task-state.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { FrameworkInfo, LeaderInfo, TaskInfo, TaskStatus } from '../../protocol/task.ts';
import {
  agentIdOf,
  agentInfo,
  frameworkIdOf,
  frameworkInfo,
  sessionOf,
  taskIdOf,
  taskInfo,
  updateIdOf,
} from '../support/builders.ts';
import { assertInvariants } from '../support/invariants.ts';
import { recordsOf } from '../support/records.ts';

const AGENTS = ['a1', 'a2', 'a3'] as const;
const FRAMEWORKS = ['f1', 'f2'] as const;
type AgentName = (typeof AGENTS)[number];
type FrameworkName = (typeof FRAMEWORKS)[number];

type Action =
  | { readonly do: 'launch'; readonly pick: number; readonly task: string; readonly stops: boolean }
  | { readonly do: 'agent registers'; readonly agent: AgentName }
  | { readonly do: 'agent reads'; readonly agent: AgentName; readonly count: number }
  | { readonly do: 'agent leaves'; readonly agent: AgentName }
  | {
      readonly do: 'task goes';
      readonly agent: AgentName;
      readonly pick: number;
      readonly to: TaskState;
    }
  | { readonly do: 'framework registers'; readonly framework: FrameworkName }
  | { readonly do: 'framework reads'; readonly framework: FrameworkName; readonly count: number }
  | {
      readonly do: 'framework says';
      readonly framework: FrameworkName;
      readonly what: FrameworkWord;
    }
  | { readonly do: 'kill' | 'reconcile'; readonly framework: FrameworkName; readonly task: string }
  | { readonly do: 'silence' | 'overflow'; readonly client: string }
  | { readonly do: 'gone'; readonly agent: AgentName }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'fail over' | 'lose data' };
type FrameworkWord =
  'DetachFramework' | 'UnregisterFramework' | 'DeactivateFramework' | 'ReviveOffers';

const agent = fc.constantFrom(...AGENTS);
const framework = fc.constantFrom(...FRAMEWORKS);
const pick = fc.nat(100);
const count = fc.integer({ min: 1, max: 5 });
const task = fc.constantFrom('t1', 't2', 't3');
const just = <T extends string>(value: T): fc.Arbitrary<T> => fc.constant(value);

const anyAction: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: just('launch'), pick, task, stops: fc.boolean() }),
  },
  { weight: 5, arbitrary: fc.record({ do: just('agent registers'), agent }) },
  { weight: 8, arbitrary: fc.record({ do: just('agent reads'), agent, count }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: just('task goes'),
      agent,
      pick,
      to: fc.constantFrom<TaskState[]>('TASK_RUNNING', 'TASK_FINISHED', 'TASK_FAILED'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: just('framework registers'), framework }) },
  { weight: 8, arbitrary: fc.record({ do: just('framework reads'), framework, count }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: just('framework says'),
      framework,
      what: fc.constantFrom<FrameworkWord[]>(
        'DetachFramework',
        'UnregisterFramework',
        'DeactivateFramework',
        'ReviveOffers',
        'ReviveOffers',
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('kill' as const, 'reconcile' as const),
      framework,
      task,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('silence' as const, 'silence' as const, 'overflow' as const),
      client: fc.constantFrom('agent:a1', 'agent:a2', 'agent:a3', 'framework:f1', 'framework:f2'),
    }),
  },
  fc.record({ do: just('gone'), agent }),
  fc.record({ do: just('agent leaves'), agent }),
  {
    weight: 3,
    arbitrary: fc.record({
      do: just('wait'),
      ms: fc.constantFrom(1, 1000, 6000, 20_000, 35_000, 80_000),
    }),
  },
  fc.record({ do: fc.constantFrom('fail over' as const, 'lose data' as const) }),
);

/** One launch on a node. */
interface Launch {
  readonly task: TaskInfo;
  readonly framework: FrameworkInfo;
  detached: boolean;
  state: TaskState;
  /** All that were ever made; the id of the next one counts on. */
  updatesMade: number;
  unacknowledged: TaskStatus[];
  last?: TaskStatus;
}

/** A node with its agent, which forgets nothing. */
interface Node {
  session: string;
  /** It has read that it is registered in this session, and may speak. */
  isRegistered: boolean;
  inbox: Message[];
  contactMs: number;
  leaderSeen?: LeaderInfo;
  readonly launches: Map<LaunchId, Launch>;
}

interface World {
  state: MasterState;
  nowMs: number;
  sessions: number;
  readonly stored: Map<string, string>;
  readonly nodes: Map<string, Node>;
  readonly schedulers: Map<string, { session: string; inbox: TaskStatus[] }>;
  /** Launch -> the end that its framework was told. */
  readonly ends: Map<LaunchId, TaskState>;
  readonly updatesTold: Set<string>;
  /** Launches of which the history tells: their frameworks may not have been there to be told. */
  readonly history: Set<LaunchId>;
}

function feed(world: World, event: MasterEvent): void {
  perform(world, step(world.state, event, world.nowMs));
}

function say(world: World, from: string, session: string, message: Message): void {
  feed(world, { type: 'message', from, session, message });
}

function perform(world: World, effects: readonly MasterEffect[]): void {
  for (const effect of effects) {
    if (effect.type === 'history.append') world.history.add(effect.task.launchId);
    if (effect.type === 'send') deliver(world, effect);
    if (effect.type !== 'stream.end') continue;
    const [kind, id = ''] = effect.client.split(':');
    const client = kind === 'agent' ? world.nodes.get(id) : world.schedulers.get(id);
    if (client?.session === effect.session) client.inbox = [];
  }
}

function deliver(
  world: World,
  { client, session, message }: MasterEffect & { type: 'send' },
): void {
  const [kind, id = ''] = client.split(':');
  const node = kind === 'agent' ? world.nodes.get(id) : undefined;
  if (node?.session === session) node.inbox.push(message);
  if (kind !== 'framework' || message.type !== 'StatusUpdate') return;
  assertTold(world, message.status);
  const scheduler = world.schedulers.get(id);
  if (scheduler?.session === session) scheduler.inbox.push(message.status);
}

/** Answers are about now, and an update may be said again; every other word on a launch that has ended is its end. */
function assertTold(world: World, status: TaskStatus): void {
  const { launchId, updateId, state, reason } = status;
  if (reason === 'REASON_RECONCILIATION' && updateId === undefined) return;
  if (reason === 'REASON_TASK_UNKNOWN' || launchId === undefined) return;
  if (updateId !== undefined && world.updatesTold.has(updateId)) return;
  if (updateId !== undefined) world.updatesTold.add(updateId);
  if (reason === 'REASON_STOPPED_WHEN_UNREACHABLE') assertStopped(world, launchId);
  const end = world.ends.get(launchId);
  assert.equal(state, end ?? state, `${launchId} was said to be ${end ?? ''}, then ${state}`);
  if (isTerminal(state)) world.ends.set(launchId, state);
}

/** Another may be started in its place now, so it must have ended, wherever it ran. */
function assertStopped(world: World, launchId: LaunchId): void {
  for (const [name, { launches }] of world.nodes) {
    const { state } = launches.get(launchId) ?? { state: 'TASK_GONE' };
    assert.ok(isTerminal(state), `${launchId} was said to be stopped, and is ${state} on ${name}`);
  }
}

function isOver(world: World, launch: Launch, launchId: LaunchId): boolean {
  if (world.ends.has(launchId) || world.history.has(launchId)) return true;
  const { frameworkId } = launch.framework;
  const known = world.state.tasks.get(taskKey(frameworkId, launch.task.taskId));
  return known?.launchId === launchId && isTerminal(known.state);
}

/** A node hears a message of the master. */
function hear(world: World, name: string, node: Node, message: Message): void {
  switch (message.type) {
    case 'AgentRegistered':
      node.isRegistered = true;
      node.leaderSeen = message.master;
      for (const launchId of message.resend) {
        const launch = node.launches.get(launchId);
        if (launch?.last && launch.unacknowledged.length === 0) {
          launch.unacknowledged.push(launch.last);
        }
      }
      for (const launch of node.launches.values()) {
        for (const status of [...launch.unacknowledged]) report(world, name, node, status);
      }
      return;
    case 'RunTask': {
      const { launchId } = message;
      assert.ok(!node.launches.has(launchId), `${launchId} is started twice on ${name}`);
      node.launches.set(launchId, {
        task: message.task,
        framework: message.framework,
        detached: false,
        state: 'TASK_STAGING',
        updatesMade: 0,
        unacknowledged: [],
      });
      return;
    }
    case 'UpdateFramework':
      for (const launch of node.launches.values()) {
        const isIts = launch.framework.frameworkId === message.framework.frameworkId;
        if (isIts) launch.detached = message.detached;
      }
      return;
    case 'KillTask':
      hearKill(world, name, node, message);
      return;
    case 'ShutdownFramework':
      for (const [launchId, launch] of node.launches) {
        const isIts = launch.framework.frameworkId === message.frameworkId;
        if (isIts) become(world, name, node, launchId, 'TASK_KILLED');
      }
      return;
    case 'StatusUpdateAcknowledgement':
      for (const launch of node.launches.values()) {
        launch.unacknowledged = launch.unacknowledged.filter(
          ({ updateId }) => updateId !== message.updateId,
        );
      }
      return;
    default:
  }
}

function hearKill(world: World, name: string, node: Node, message: MessageOf<'KillTask'>): void {
  const { launchId } = message;
  const launch = launchId && node.launches.get(launchId);
  if (!launchId || !launch) return;
  if (message.by === 'master') {
    assert.ok(isOver(world, launch, launchId), `${launchId} is stopped without a word`);
  }
  become(world, name, node, launchId, 'TASK_KILLED');
}

/** A launch changes its state, and the agent says so as soon as it may. */
function become(
  world: World,
  name: string,
  node: Node,
  launchId: LaunchId,
  state: TaskState,
): void {
  const launch = node.launches.get(launchId);
  if (!launch || isTerminal(launch.state) || launch.state === state) return;
  launch.state = state;
  launch.updatesMade += 1;
  const { frameworkId } = launch.framework;
  const { taskId } = launch.task;
  const updateId = updateIdOf(`${launchId}.${String(launch.updatesMade)}`);
  const agentId = agentIdOf(name);
  const status: TaskStatus = {
    ...{ frameworkId, taskId, agentId, launchId, updateId, state },
    source: 'SOURCE_AGENT',
  };
  launch.last = status;
  launch.unacknowledged.push(status);
  report(world, name, node, status);
}

function report(world: World, name: string, node: Node, status: TaskStatus): void {
  if (!node.isRegistered) return;
  say(world, `agent:${name}`, node.session, { type: 'StatusUpdate', status });
}

function registerNode(world: World, name: string, node: Node): void {
  const session = numberedSession(++world.sessions);
  Object.assign(node, { session, isRegistered: false, inbox: [] });
  const isLeft = ([, { state, unacknowledged }]: [LaunchId, Launch]): boolean =>
    !isTerminal(state) || unacknowledged.length > 0;
  const left = [...node.launches].filter(isLeft);
  const frameworks = new Map(
    left.map(([, { framework: info, detached }]) => [info.frameworkId, { info, detached }]),
  );
  const idsOf = ([launchId, launch]: [
    LaunchId,
    Launch,
  ]): MessageOf<'RegisterAgent'>['ended'][0] => ({
    launchId,
    frameworkId: launch.framework.frameworkId,
    taskId: launch.task.taskId,
  });
  say(world, `agent:${name}`, session, {
    type: 'RegisterAgent',
    agent: agentInfo(name),
    session,
    node: `node-${name}`,
    tasks: left.map((each) => {
      const { name: taskName, resources } = each[1].task;
      return { ...idsOf(each), name: taskName, resources, state: each[1].state };
    }),
    frameworks: [...frameworks.values()],
    ended: [...node.launches].filter((each) => !isLeft(each)).map(idsOf),
    ...(node.leaderSeen && { leaderSeen: node.leaderSeen }),
  });
}

function registerScheduler(world: World, name: string): void {
  const session = numberedSession(++world.sessions);
  world.schedulers.set(name, { session, inbox: [] });
  const info = frameworkInfo(name, { failoverTimeoutMs: 30_000 });
  const message = { type: 'RegisterFramework', framework: info, session } as const;
  say(world, `framework:${name}`, session, message);
}

/** Time passes; nodes stop what they are to stop when they have been without contact for too long. */
function pass(world: World, ms: number): void {
  world.nowMs += ms;
  for (const [name, node] of world.nodes) {
    const registered = world.state.agents.get(agentIdOf(name))?.record.session;
    if (registered === node.session && node.isRegistered) node.contactMs = world.nowMs;
    for (const [launchId, launch] of node.launches) {
      const when = launch.task.whenUnreachable;
      const isOut = when !== 'keep' && world.nowMs - node.contactMs >= when.stopAfterMs;
      if (isOut) become(world, name, node, launchId, 'TASK_KILLED');
    }
  }
  feed(world, { type: 'tick' });
}

function launchOnOffer(world: World, action: Action & { do: 'launch' }): void {
  const offers = [...world.state.offers.values()];
  const offer = offers[action.pick % Math.max(1, offers.length)];
  if (!offer) return;
  const { frameworkId, offerId } = offer;
  const whenUnreachable = action.stops ? { stopAfterMs: 15_000 } : ('keep' as const);
  const wanted = taskInfo(action.task, { whenUnreachable });
  sayAs(world, frameworkId, {
    type: 'LaunchTasks',
    frameworkId,
    offerIds: [offerId],
    tasks: [wanted],
    filters: { refuseMs: 0 },
  });
}

/** What a scheduler says in the session that it believes to have. */
function sayAs(world: World, name: string, message: Message): void {
  const scheduler = world.schedulers.get(name);
  if (scheduler) say(world, `framework:${name}`, scheduler.session, message);
}

function readUpdates(world: World, name: string, howMany: number): void {
  const frameworkId = frameworkIdOf(name);
  for (const { taskId, updateId } of world.schedulers.get(name)?.inbox.splice(0, howMany) ?? []) {
    if (updateId === undefined) continue;
    const type = 'StatusUpdateAcknowledgement';
    sayAs(world, name, { type, frameworkId, taskId, updateId });
  }
}

function takeOver(world: World): void {
  const { epoch, options } = world.state;
  const identity = { masterId: `m${String(epoch + 1)}`, epoch: epoch + 1, term: 't' };
  const next = createMasterState(identity, options);
  loadRecords(next, recordsOf(world.stored));
  world.state = next;
}

function actOfNode(world: World, action: Extract<Action, { agent: AgentName }>): void {
  const { agent: name } = action;
  const node = world.nodes.get(name);
  const agentId = agentIdOf(name);
  if (!node) return;
  switch (action.do) {
    case 'agent registers':
      registerNode(world, name, node);
      return;
    case 'agent reads':
      for (const message of node.inbox.splice(0, action.count)) hear(world, name, node, message);
      return;
    case 'agent leaves':
      if (!node.isRegistered) return;
      say(world, `agent:${name}`, node.session, { type: 'UnregisterAgent', agentId });
      node.isRegistered = false;
      return;
    case 'task goes': {
      const live = [...node.launches].filter(([, { state }]) => !isTerminal(state));
      const [launchId] = live[action.pick % Math.max(1, live.length)] ?? [];
      if (launchId !== undefined) become(world, name, node, launchId, action.to);
      return;
    }
    case 'gone':
      say(world, 'operator:ann', 's1', { type: 'MarkAgentGone', agentId });
      return;
    default:
      action satisfies never;
  }
}

function act(world: World, action: Action): void {
  if ('agent' in action) {
    actOfNode(world, action);
    return;
  }
  switch (action.do) {
    case 'launch':
      launchOnOffer(world, action);
      return;
    case 'framework registers':
      registerScheduler(world, action.framework);
      return;
    case 'framework reads':
      readUpdates(world, action.framework, action.count);
      return;
    case 'framework says': {
      const frameworkId = frameworkIdOf(action.framework);
      sayAs(world, action.framework, { type: action.what, frameworkId });
      return;
    }
    case 'kill':
    case 'reconcile': {
      const frameworkId = frameworkIdOf(action.framework);
      const taskId = taskIdOf(action.task);
      const message: Message =
        action.do === 'kill'
          ? { type: 'KillTask', frameworkId, taskId, by: 'framework' }
          : { type: 'ReconcileTasks', frameworkId, taskIds: [taskId] };
      sayAs(world, action.framework, message);
      return;
    }
    case 'silence': {
      const { agentTimeoutMs } = world.state.options;
      const clients = [{ client: action.client, seenMs: world.nowMs - agentTimeoutMs }];
      feed(world, { type: 'clients.silent', clients });
      return;
    }
    case 'overflow':
      feed(world, { type: 'clients.overflowing', clients: [action.client] });
      return;
    case 'wait':
      pass(world, action.ms);
      return;
    case 'fail over':
      takeOver(world);
      return;
    case 'lose data':
      takeOver(world);
      feed(world, { type: 'data.lost' });
      return;
    default:
      action satisfies never;
  }
}

function store({ state, stored }: World): void {
  for (const { registry, key, value } of takeChanges(state)) {
    if (value === undefined) stored.delete(`${registry} ${key}`);
    else stored.set(`${registry} ${key}`, value);
  }
}

/** All nodes and frameworks are registered, and all is offered. */
function createWorld(): World {
  const world: World = {
    state: createMasterState({ masterId: 'm1', epoch: 1, term: 't' }),
    nowMs: 1_000_000,
    sessions: 0,
    stored: new Map(),
    nodes: new Map(),
    schedulers: new Map(),
    ends: new Map(),
    updatesTold: new Set(),
    history: new Set(),
  };
  for (const name of AGENTS) {
    const node: Node = {
      session: sessionOf('none'),
      isRegistered: false,
      inbox: [],
      contactMs: world.nowMs,
      launches: new Map(),
    };
    world.nodes.set(name, node);
    registerNode(world, name, node);
  }
  for (const name of FRAMEWORKS) registerScheduler(world, name);
  perform(world, offerResources(world.state, world.nowMs));
  store(world);
  return world;
}

test('what is said of one launch has one end, no launch is started twice or stopped without a word', () => {
  fc.assert(
    fc.property(fc.array(anyAction, { minLength: 20, maxLength: 150, size: 'max' }), (actions) => {
      const world = createWorld();
      for (const action of actions) {
        act(world, action);
        perform(world, offerResources(world.state, world.nowMs));
        assertInvariants(world.state);
        store(world);
      }
    }),
    { numRuns: 300 },
  );
});
