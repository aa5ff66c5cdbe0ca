/** Frameworks: registration, failover, demand, leaving, and what becomes of their tasks. */
import type { AgentId, SessionId } from '../../protocol/ids.ts';
import { isOlderSession } from '../../protocol/ids.ts';
import { agentName, frameworkName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import type { FrameworkRecord } from '../../protocol/records.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { rolesOf } from '../../protocol/task.ts';
import { rescindExcluded } from './constraints.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, changeSession, send } from './effects.ts';
import { resendInverseOffers } from './drain.ts';
import { writeOff } from './executors.ts';
import { forgetFilters, rescindOffersOf, sendOffers } from './offers.ts';
import { answerDeferred } from './questions.ts';
import { isFromBeforeLoss, problemOfHolder } from './sessions.ts';
import type { Framework } from './state.ts';
import { removeFramework, setFramework, touchTask } from './books.ts';
import { isRecovering, setCluster } from './state.ts';
import { acknowledge, forgetFrameworkIfDone, forgetIfDone } from './tasks.ts';

/** Step F6: the framework is known from here on. With a known id this is a failover or a reconnection. */
export function registerFramework(cx: StepContext, message: MessageOf<'RegisterFramework'>): void {
  const { framework: info, session } = message;
  const { frameworkId } = info;
  const before = cx.state.frameworks.get(frameworkId)?.record;
  const newest = before?.newestSession;
  if (newest === session) return; // Sent twice: the answer is in the stream already.
  if (newest !== undefined && isOlderSession(session, newest)) {
    ignoreLate(cx, message, 'a newer session has been registered');
    return;
  }
  if (isFromBeforeLoss(cx.state, session, before !== undefined)) {
    ignoreLate(cx, message, 'its session was opened before the last loss of data');
    return;
  }
  const framework = setFramework(cx.state, recordOf(cx, message, before));
  framework.ignored = undefined;
  // What the scheduler before it has declined the new one may want.
  forgetFilters(cx, framework);
  changeSession(cx, frameworkName(frameworkId), before?.session, session);
  appendEvent(cx, {
    type: before ? 'framework.reregistered' : 'framework.registered',
    frameworkId,
    name: info.name,
    role: info.role,
  });
  send(cx, frameworkName(frameworkId), session, {
    type: 'FrameworkRegistered',
    frameworkId,
    known: before !== undefined,
    master: { masterId: cx.state.masterId, epoch: cx.state.epoch },
  });
  if (before) takeOver(cx, framework, before);
}

function recordOf(
  cx: StepContext,
  { framework, session }: MessageOf<'RegisterFramework'>,
  before: FrameworkRecord | undefined,
): FrameworkRecord {
  // What it says itself of whose it is does not count.
  const { principal: _claimed, offerConstraints, ...info } = framework;
  const [role = info.role] = rolesOf(info);
  const { principal } = cx;
  return {
    info: { ...info, role, ...(principal && { principal: principal.name }) },
    ...(principal && { generation: principal.generation }),
    session,
    newestSession: session,
    state: 'active',
    registeredAtMs: before?.registeredAtMs ?? cx.nowMs,
    // The new scheduler has said nothing yet of what it needs; it must not inherit a silence.
    suppressed: false,
    suppressedRoles: [],
    ...(offerConstraints && { offerConstraints }),
    deferred: before?.deferred ?? [],
  };
}

/** What agents remember of it is brought up to date, and the new scheduler gets what the old one had in hand. */
function takeOver(cx: StepContext, framework: Framework, before: FrameworkRecord): void {
  const { info, session } = framework.record;
  rescindExcluded(cx, framework);
  const isNews =
    before.state === 'detached' || before.info.failoverTimeoutMs !== info.failoverTimeoutMs;
  if (isNews) tellAgents(cx, framework, false);
  if (session !== undefined) resendTo(cx, framework, session);
  answerDeferred(cx, framework);
  resendInverseOffers(cx, framework);
}

/** Late, from a scheduler whose successor has registered: to listen to it would cut the living one off. */
function ignoreLate(
  cx: StepContext,
  { framework }: MessageOf<'RegisterFramework'>,
  reason: string,
): void {
  const from = frameworkName(framework.frameworkId);
  cx.effects.push({ type: 'message.ignore', from, messageType: 'RegisterFramework', reason });
}

/** Agents remember the frameworks of their tasks, for a cluster that has lost its memory. */
function tellAgents(cx: StepContext, framework: Framework, detached: boolean): void {
  const { info } = framework.record;
  for (const agentId of agentsOf(cx, framework)) {
    const session = cx.state.agents.get(agentId)?.record.session;
    send(cx, agentName(agentId), session, { type: 'UpdateFramework', framework: info, detached });
  }
}

/** Agents that have live tasks of the framework, or executors of it, which may be without. */
function agentsOf({ state }: StepContext, framework: Framework): Set<AgentId> {
  const withTasks = [...framework.tasks].flatMap((key) => {
    const task = state.tasks.get(key);
    return task && !isTerminal(task.state) ? [task.agentId] : [];
  });
  const withExecutors = [...framework.executors].flatMap(
    (path) => state.executors.get(path)?.agentId ?? [],
  );
  return new Set([...withTasks, ...withExecutors]);
}

/** What the old scheduler of this framework had in hand goes to the new one. */
function resendTo(cx: StepContext, framework: Framework, session: SessionId): void {
  const client = frameworkName(framework.record.info.frameworkId);
  const offers = [...framework.offers].flatMap((offerId) => cx.state.offers.get(offerId) ?? []);
  sendOffers(cx, framework, offers);
  for (const key of framework.tasks) {
    for (const status of cx.state.tasks.get(key)?.unacknowledged ?? []) {
      send(cx, client, session, { type: 'StatusUpdate', status });
    }
  }
}

/** The framework is not there: no offers, its tasks go on, and its failover timeout runs. */
export function disconnectFramework(cx: StepContext, framework: Framework, reason: string): void {
  const { record } = framework;
  if (record.state !== 'active') return;
  const { frameworkId } = record.info;
  rescindOffersOf(cx, framework, reason);
  changeSession(cx, frameworkName(frameworkId), record.session, undefined);
  const { session: _session, ...rest } = record;
  setFramework(cx.state, { ...rest, state: 'disconnected', disconnectedAtMs: cx.nowMs });
  appendEvent(cx, { type: 'framework.disconnected', frameworkId, reason });
}

/**
 * The framework leaves and its tasks stay to their end; from now on the master acknowledges for it. An executor of it that
 * has no task, or none any more, is ended by its agent, which is told here that the framework has left.
 */
export function detachFramework(cx: StepContext, framework: Framework): void {
  const { record } = framework;
  const { frameworkId } = record.info;
  rescindOffersOf(cx, framework, 'the framework has left');
  changeSession(cx, frameworkName(frameworkId), record.session, undefined);
  const { session: _session, ...rest } = record;
  setFramework(cx.state, { ...rest, state: 'detached' });
  appendEvent(cx, { type: 'framework.detached', frameworkId });
  tellAgents(cx, framework, true);
  acknowledgeAll(cx, framework);
  forgetFrameworkIfDone(cx, framework);
}

/**
 * The end of a framework: its tasks are killed and its executors shut down; those that are still there are counted until
 * their agent says that they have ended.
 */
export function teardownFramework(cx: StepContext, framework: Framework, reason: string): void {
  const { frameworkId } = framework.record.info;
  rescindOffersOf(cx, framework, reason);
  for (const agentId of agentsOf(cx, framework)) {
    const session = cx.state.agents.get(agentId)?.record.session;
    send(cx, agentName(agentId), session, { type: 'ShutdownFramework', frameworkId });
  }
  // For agents that cannot be reached now: they are told when they register again, also if it is back by then.
  for (const key of framework.tasks) {
    const task = cx.state.tasks.get(key);
    if (!task || isTerminal(task.state)) continue;
    task.killRequested ??= 'framework';
    touchTask(cx.state, task);
    const { taskId, agentId } = task;
    appendEvent(cx, {
      type: 'task.kill-requested',
      frameworkId,
      taskId,
      agentId,
      reason: 'framework',
      message: reason,
    });
  }
  for (const path of framework.executors) {
    const executor = cx.state.executors.get(path);
    const agent = executor && cx.state.agents.get(executor.agentId);
    if (agent) writeOff(cx, agent, executor.launchId);
  }
  changeSession(cx, frameworkName(frameworkId), framework.record.session, undefined);
  acknowledgeAll(cx, framework);
  if (isRecovering(cx.state, cx.nowMs)) {
    setCluster(cx.state, { tornDown: [...cx.state.cluster.tornDown, frameworkId] });
  }
  removeFramework(cx.state, frameworkId);
  appendEvent(cx, { type: 'framework.removed', frameworkId, reason });
}

/** Nobody is there to acknowledge any more, so the master does. */
function acknowledgeAll(cx: StepContext, framework: Framework): void {
  const { frameworkId } = framework.record.info;
  for (const key of [...framework.tasks]) {
    const task = cx.state.tasks.get(key);
    if (!task) continue;
    for (const { updateId } of [...task.unacknowledged]) {
      if (updateId === undefined) continue;
      acknowledge(cx, {
        type: 'StatusUpdateAcknowledgement',
        frameworkId,
        taskId: task.taskId,
        updateId,
      });
    }
    if (cx.state.tasks.has(key)) forgetIfDone(cx, task);
  }
}

/**
 * Frameworks that have been away for longer than they asked for are torn down; while the cluster is recovering none is:
 * that it is away may be old news.
 */
export function expireFrameworks(cx: StepContext): void {
  if (isRecovering(cx.state, cx.nowMs)) return;
  for (const framework of [...cx.state.frameworks.values()]) {
    const { record } = framework;
    if (record.state !== 'disconnected') continue;
    if (problemOfHolder(cx.state, framework, cx.nowMs) !== undefined) continue;
    const deadlineMs = (record.disconnectedAtMs ?? cx.nowMs) + record.info.failoverTimeoutMs;
    if (deadlineMs <= cx.nowMs)
      teardownFramework(cx, framework, 'failover timeout: it did not come back');
  }
}

/** Replaces the framework's demand. To ask is to want offers, so a suppression ends. */
export function requestResources(
  cx: StepContext,
  framework: Framework,
  message: MessageOf<'RequestResources'>,
): void {
  framework.record.demand = message.requests;
  framework.record.suppressed = false;
  framework.record.suppressedRoles = [];
  touchFramework(cx, framework);
}

/** No offers until the framework asks or revives, for all of its roles or for some; those that it holds stay valid. */
export function suppressOffers(
  cx: StepContext,
  framework: Framework,
  { roles }: MessageOf<'SuppressOffers'>,
): void {
  const { record } = framework;
  if (roles) record.suppressedRoles = [...new Set([...record.suppressedRoles, ...roles])];
  else record.suppressed = true;
  touchFramework(cx, framework);
}

/** Filters go, and offers come again, for all of its roles or for some. */
export function reviveOffers(
  cx: StepContext,
  framework: Framework,
  { roles }: MessageOf<'ReviveOffers'>,
): void {
  const { record } = framework;
  const suppressed = record.suppressed ? rolesOf(record.info) : record.suppressedRoles;
  record.suppressed = false;
  record.suppressedRoles = roles ? suppressed.filter((role) => !roles.includes(role)) : [];
  forgetFilters(cx, framework, roles);
  touchFramework(cx, framework);
}

function touchFramework(cx: StepContext, framework: Framework): void {
  cx.state.dirty.frameworks.add(framework.record.info.frameworkId);
  cx.state.changed.frameworks.add(framework.record.info.frameworkId);
}
