/**
 * Nodes whose agents do what they are told, say what is so and forget nothing, and frameworks that read what they are
 * told, around a master's core. What must never be said or asked is checked where it arrives.
 */
import assert from 'node:assert/strict';
import type { MasterEffect } from '../../master/core/effects.ts';
import type { MasterEvent } from '../../master/core/step.ts';
import type { MasterState } from '../../master/core/state.ts';
import { loadRecords } from '../../master/core/books.ts';
import { createMasterState, takeChanges } from '../../master/core/state.ts';
import { offerResources, step } from '../../master/core/step.ts';
import type { AgentExecutor, ExecutorInfo } from '../../protocol/executor.ts';
import { isSameExecutor } from '../../protocol/executor.ts';
import type { LaunchId } from '../../protocol/ids.ts';
import { numberedSession, taskKey } from '../../protocol/ids.ts';
import type { Message, MessageOf } from '../../protocol/messages.ts';
import { executorPath } from '../../protocol/replay.ts';
import type { Resources } from '../../protocol/resources.ts';
import type { TaskState } from '../../protocol/task-state.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { FrameworkInfo, LeaderInfo, TaskInfo, TaskStatus } from '../../protocol/task.ts';
import { agentIdOf, agentInfo, frameworkInfo, sessionOf, updateIdOf } from './builders.ts';
import { recordsOf } from './records.ts';

/** One launch of a task on a node. */
interface Launch {
  readonly task: TaskInfo;
  readonly framework: FrameworkInfo;
  readonly executorLaunchId: LaunchId | undefined;
  resources: Resources;
  detached: boolean;
  state: TaskState;
  /** All that were ever made; the id of the next one counts on. */
  updatesMade: number;
  unacknowledged: TaskStatus[];
  last?: TaskStatus;
}

/** One launch of an executor on a node. */
interface Hosted {
  readonly info: ExecutorInfo;
  readonly framework: FrameworkInfo;
  detached: boolean;
  isAlive: boolean;
}

/** A node with its agent, which forgets nothing. */
export interface Node {
  readonly name: string;
  session: string;
  /** It has read that it is registered in this session. */
  isRegistered: boolean;
  /** It has left the cluster, and says nothing until it registers again. */
  hasLeft: boolean;
  inbox: Message[];
  contactMs: number;
  leaderSeen?: LeaderInfo;
  readonly launches: Map<LaunchId, Launch>;
  readonly executors: Map<LaunchId, Hosted>;
}

export interface World {
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
  /** Launches of executors that frameworks have asked to be shut down, or that were torn down with them. */
  readonly unwanted: Set<LaunchId>;
}

export function feed(world: World, event: MasterEvent): void {
  perform(world, step(world.state, event, world.nowMs));
}

export function say(world: World, from: string, session: string, message: Message): void {
  feed(world, { type: 'message', from, session, message });
}

export const counts = new Map<string, number>();
export function perform(world: World, effects: readonly MasterEffect[]): void {
  for (const effect of effects) {
    if (effect.type === 'event.append') { const k = effect.event.type + (effect.event.type.startsWith('executor') ? ' ' + String(effect.event.reason) : ''); counts.set(k, (counts.get(k) ?? 0) + 1); }
    if (effect.type === 'send') { const k = 'send ' + effect.message.type + (effect.message.type==='StatusUpdate'? ' ' + String(effect.message.status.reason):''); counts.set(k, (counts.get(k) ?? 0) + 1); }
    if (effect.type === 'message.ignore') { const k = 'ignore ' + effect.messageType + effect.reason; counts.set(k, (counts.get(k) ?? 0) + 1); }
    if (effect.type === 'history.append') world.history.add(effect.task.launchId);
    if (effect.type === 'event.append' && effect.event.type === 'framework.removed') {
      for (const { frameworkId, launchId } of world.state.executors.values()) {
        if (frameworkId === effect.event.frameworkId) world.unwanted.add(launchId);
      }
    }
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
  if (message.type === 'ShutdownExecutor') assertMayShutDown(world, message);
  if (node?.session === session) node.inbox.push(message);
  if (kind !== 'framework') return;
  if (message.type === 'ExecutorLost') assertLost(world, id, message);
  if (message.type !== 'StatusUpdate') return;
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

/** An executor that the master counts for a framework that is there is shut down by the framework's wish only. */
function assertMayShutDown(world: World, message: MessageOf<'ShutdownExecutor'>): void {
  const { agentId, frameworkId, executorId, launchId } = message;
  const known = world.state.executors.get(executorPath(agentId, frameworkId, executorId));
  if (launchId === undefined || known?.launchId !== launchId) return;
  if (!world.state.frameworks.has(frameworkId)) return;
  assert.ok(world.unwanted.has(launchId), `executor ${launchId} is shut down without a word`);
}

/** It is not there any more, unless its node was given up; and of its tasks all has been said. */
function assertLost(world: World, frameworkName: string, message: MessageOf<'ExecutorLost'>): void {
  const { agentId, executorId } = message;
  const what = `${executorId} of ${frameworkName} on ${agentId} is said to be lost`;
  for (const task of world.state.tasks.values()) {
    if (task.agentId !== agentId || task.frameworkId !== frameworkName) continue;
    if (task.executorId !== executorId || task.unheard) continue;
    assert.ok(isTerminal(task.state), `${what}, and its task ${task.taskId} is ${task.state}`);
  }
  if (world.state.agents.get(agentId)?.record.state === 'gone') return;
  const node = world.nodes.get(agentId);
  for (const [launchId, hosted] of node?.executors ?? []) {
    if (!hosted.isAlive || hosted.info.executorId !== executorId) continue;
    if (hosted.framework.frameworkId !== frameworkName) continue;
    const isToEnd = node?.inbox.some(
      (each) => each.type === 'ShutdownExecutor' && each.launchId === launchId,
    );
    assert.ok(isToEnd, `${what}, and its launch ${launchId} is alive`);
  }
}

function isOver(world: World, launch: Launch, launchId: LaunchId): boolean {
  if (world.ends.has(launchId) || world.history.has(launchId)) return true;
  const { frameworkId } = launch.framework;
  const known = world.state.tasks.get(taskKey(frameworkId, launch.task.taskId));
  return known?.launchId === launchId && isTerminal(known.state);
}

/** A node reads what is next, one message after the other. */
export function read(world: World, node: Node, count: number): void {
  for (let left = count; left > 0; left -= 1) {
    const message = node.inbox.shift();
    if (!message) return;
    hear(world, node, message);
  }
}

function hear(world: World, node: Node, message: Message): void {
  switch (message.type) {
    case 'AgentRegistered':
      hearRegistered(world, node, message);
      return;
    case 'RunTask':
      hearRun(world, node, message);
      return;
    case 'UpdateFramework':
      for (const each of [...node.launches.values(), ...node.executors.values()]) {
        const isIts = each.framework.frameworkId === message.framework.frameworkId;
        if (isIts) each.detached = message.detached;
      }
      endIdle(world, node);
      return;
    case 'KillTask':
      hearKill(world, node, message);
      return;
    case 'ShutdownFramework':
      for (const [launchId, launch] of node.launches) {
        const isIts = launch.framework.frameworkId === message.frameworkId;
        if (isIts) become(world, node, launchId, 'TASK_KILLED');
      }
      for (const [launchId, { framework }] of node.executors) {
        if (framework.frameworkId === message.frameworkId)
          endExecutor(world, node, launchId, 'TASK_KILLED');
      }
      return;
    case 'ShutdownExecutor':
      if (message.launchId !== undefined) endExecutor(world, node, message.launchId, 'TASK_KILLED');
      return;
    case 'ResizeTask':
      hearResize(world, node, message);
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

function hearRegistered(world: World, node: Node, message: MessageOf<'AgentRegistered'>): void {
  node.isRegistered = true;
  node.leaderSeen = message.master;
  for (const launchId of message.resend) {
    const launch = node.launches.get(launchId);
    if (launch?.last && launch.unacknowledged.length === 0) launch.unacknowledged.push(launch.last);
  }
  for (const launch of node.launches.values()) {
    for (const status of [...launch.unacknowledged]) report(world, node, status);
  }
}

function hearRun(world: World, node: Node, message: MessageOf<'RunTask'>): void {
  const { launchId, executorLaunchId, framework, task } = message;
  assert.ok(!node.launches.has(launchId), `${launchId} is started twice on ${node.name}`);
  node.launches.set(launchId, {
    task,
    framework,
    executorLaunchId,
    resources: task.resources,
    detached: false,
    state: 'TASK_STAGING',
    updatesMade: 0,
    unacknowledged: [],
  });
  const { executor } = task;
  assert.equal(executorLaunchId === undefined, executor === undefined, `${launchId}: its executor`);
  if (!executor || executorLaunchId === undefined) return;
  const known = node.executors.get(executorLaunchId);
  if (known) {
    assert.ok(isSameExecutor(known.info, executor), `${executorLaunchId} is two executors`);
    // It has ended meanwhile, and is not started again.
    if (!known.isAlive) become(world, node, launchId, 'TASK_LOST');
    return;
  }
  for (const [otherId, other] of node.executors) {
    const isSame =
      other.framework.frameworkId === framework.frameworkId &&
      other.info.executorId === executor.executorId;
    assert.ok(!isSame || !other.isAlive, `${executorLaunchId} is started beside ${otherId}`);
  }
  const hosted = { info: executor, framework, detached: false, isAlive: true };
  node.executors.set(executorLaunchId, hosted);
}

function hearKill(world: World, node: Node, message: MessageOf<'KillTask'>): void {
  const { launchId } = message;
  const launch = launchId && node.launches.get(launchId);
  if (!launchId || !launch) return;
  if (message.by === 'master') {
    assert.ok(isOver(world, launch, launchId), `${launchId} is stopped without a word`);
  }
  become(world, node, launchId, 'TASK_KILLED');
}

function hearResize(world: World, node: Node, message: MessageOf<'ResizeTask'>): void {
  const { launchId, resizeId, frameworkId, taskId, resources } = message;
  const launch = launchId && node.launches.get(launchId);
  if (!launchId || !launch) return;
  const answer = { type: 'TaskResized' as const, resizeId, frameworkId, taskId, launchId };
  if (isTerminal(launch.state)) tell(world, node, { ...answer, error: 'it has ended' });
  else {
    launch.resources = resources;
    tell(world, node, { ...answer, resources });
  }
}

/** A launch changes its state, and the agent says so as soon as it may. */
export function become(world: World, node: Node, launchId: LaunchId, state: TaskState): void {
  const launch = node.launches.get(launchId);
  if (!launch || isTerminal(launch.state) || launch.state === state) return;
  launch.state = state;
  launch.updatesMade += 1;
  const { frameworkId } = launch.framework;
  const { taskId } = launch.task;
  const updateId = updateIdOf(`${launchId}.${String(launch.updatesMade)}`);
  const agentId = agentIdOf(node.name);
  const status: TaskStatus = {
    ...{ frameworkId, taskId, agentId, launchId, updateId, state },
    source: 'SOURCE_AGENT',
  };
  launch.last = status;
  launch.unacknowledged.push(status);
  report(world, node, status);
  if (isTerminal(state)) endIdle(world, node);
}

/** An executor ends with all of its tasks. */
export function endExecutor(world: World, node: Node, launchId: LaunchId, end: TaskState): void {
  const hosted = node.executors.get(launchId);
  if (!hosted?.isAlive) return;
  hosted.isAlive = false;
  for (const [each, { executorLaunchId }] of node.launches) {
    if (executorLaunchId === launchId) become(world, node, each, end);
  }
  const { frameworkId } = hosted.framework;
  const { executorId } = hosted.info;
  const type = 'ExitedExecutor';
  tell(world, node, { type, frameworkId, executorId, launchId, message: 'exited with code 3' });
}

/** Whose framework has left does not wait for more tasks. */
function endIdle(world: World, node: Node): void {
  for (const [launchId, { detached }] of node.executors) {
    const isBusy = [...node.launches.values()].some(
      ({ executorLaunchId, state }) => executorLaunchId === launchId && !isTerminal(state),
    );
    if (detached && !isBusy) endExecutor(world, node, launchId, 'TASK_KILLED');
  }
}

function report(world: World, node: Node, status: TaskStatus): void {
  tell(world, node, { type: 'StatusUpdate', status });
}

/** What is said before the answer to the registration is known follows the registration. */
function tell(world: World, node: Node, message: Message): void {
  if (!node.hasLeft) say(world, `agent:${node.name}`, node.session, message);
}

export function registerNode(world: World, node: Node): void {
  const { name } = node;
  const session = numberedSession(++world.sessions);
  Object.assign(node, { session, isRegistered: false, hasLeft: false, inbox: [] });
  const isLeft = ([, { state, unacknowledged }]: [LaunchId, Launch]): boolean =>
    !isTerminal(state) || unacknowledged.length > 0;
  const left = [...node.launches].filter(isLeft);
  const alive = [...node.executors].filter(([, { isAlive }]) => isAlive);
  const frameworks = new Map(
    [...left, ...alive].map(([, { framework: info, detached }]) => [
      info.frameworkId,
      { info, detached },
    ]),
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
      const { task, resources, state, executorLaunchId } = each[1];
      const executorId = task.executor?.executorId;
      return {
        ...idsOf(each),
        name: task.name,
        resources,
        state,
        ...(executorId !== undefined && { executorId }),
        ...(executorLaunchId !== undefined && { executorLaunchId }),
      };
    }),
    frameworks: [...frameworks.values()],
    executors: alive.map(([launchId, { info, framework }]): AgentExecutor => ({
      launchId,
      info,
      frameworkId: framework.frameworkId,
    })),
    ended: [...node.launches].filter((each) => !isLeft(each)).map(idsOf),
    ...(node.leaderSeen && { leaderSeen: node.leaderSeen }),
  });
}

export function registerScheduler(world: World, name: string): void {
  const session = numberedSession(++world.sessions);
  world.schedulers.set(name, { session, inbox: [] });
  const info = frameworkInfo(name, { failoverTimeoutMs: 30_000 });
  const message = { type: 'RegisterFramework', framework: info, session } as const;
  say(world, `framework:${name}`, session, message);
}

/** Time passes; nodes stop what they are to stop when they have been without contact for too long. */
export function pass(world: World, ms: number): void {
  world.nowMs += ms;
  for (const [name, node] of world.nodes) {
    const registered = world.state.agents.get(agentIdOf(name))?.record.session;
    if (registered === node.session && node.isRegistered) node.contactMs = world.nowMs;
    const isOut = (when: TaskInfo['whenUnreachable']): boolean =>
      when !== 'keep' && world.nowMs - node.contactMs >= when.stopAfterMs;
    for (const [launchId, { task }] of node.launches) {
      if (isOut(task.whenUnreachable)) become(world, node, launchId, 'TASK_KILLED');
    }
    for (const [launchId, { info }] of node.executors) {
      if (isOut(info.whenUnreachable)) endExecutor(world, node, launchId, 'TASK_KILLED');
    }
  }
  feed(world, { type: 'tick' });
}

/** Another leader on what is stored. */
export function takeOver(world: World): void {
  const { epoch, options } = world.state;
  const identity = { masterId: `m${String(epoch + 1)}`, epoch: epoch + 1, term: 't' };
  const next = createMasterState(identity, options);
  loadRecords(next, recordsOf(world.stored));
  world.state = next;
}

export function store({ state, stored }: World): void {
  for (const { registry, key, value } of takeChanges(state)) {
    if (value === undefined) stored.delete(`${registry} ${key}`);
    else stored.set(`${registry} ${key}`, value);
  }
}

/** All nodes and frameworks are registered, and all is offered. */
export function createWorld(nodes: readonly string[], frameworks: readonly string[]): World {
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
    unwanted: new Set(),
  };
  for (const name of nodes) {
    const node: Node = {
      name,
      session: sessionOf('none'),
      isRegistered: false,
      hasLeft: true,
      inbox: [],
      contactMs: world.nowMs,
      launches: new Map(),
      executors: new Map(),
    };
    world.nodes.set(name, node);
    registerNode(world, node);
  }
  for (const name of frameworks) registerScheduler(world, name);
  perform(world, offerResources(world.state, world.nowMs));
  store(world);
  return world;
}

/** Every node is in contact and has read everything: master and nodes know of the same executors and resources. */
export function assertSettled(world: World): void {
  for (let round = 1; round <= 4; round += 1) {
    for (const node of world.nodes.values()) {
      const registered = world.state.agents.get(agentIdOf(node.name))?.record.session;
      if (registered !== node.session) registerNode(world, node);
      read(world, node, Infinity);
    }
  }
  for (const node of world.nodes.values()) assertSame(world, node);
}

function assertSame({ state }: World, { name, launches, executors }: Node): void {
  const alive = [...executors].flatMap(([launchId, { isAlive }]) => (isAlive ? [launchId] : []));
  const counted = [...state.executors.values()].filter(({ agentId }) => agentId === name);
  assert.deepEqual(
    counted.map(({ launchId }) => launchId).sort(),
    alive.sort(),
    `executors that are counted on ${name}, and those that are there`,
  );
  for (const task of state.tasks.values()) {
    if (task.agentId !== name || isTerminal(task.state)) continue;
    const { launchId, resources, resize } = task;
    assert.deepEqual(
      [resources, resize],
      [launches.get(launchId)?.resources, undefined],
      `what ${launchId} is said to have on ${name}, and what it has`,
    );
  }
}
