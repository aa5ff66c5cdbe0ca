/** Frameworks: registration, failover, demand, leaving, and what becomes of their tasks. */
import type { SessionId } from '../../protocol/ids.ts';
import { agentName, frameworkName } from '../../protocol/keys.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { StepContext } from './effects.ts';
import { appendEvent, changeSession, send } from './effects.ts';
import { rescindOffersOf, sendOffers } from './offers.ts';
import type { Framework } from './state.ts';
import { removeFramework, setFramework } from './state.ts';
import { acknowledge, forgetFrameworkIfDone, forgetIfDone } from './tasks.ts';

/** Step F6: the framework is known from here on. With a known id this is a failover or a reconnection. */
export function registerFramework(cx: StepContext, message: MessageOf<'RegisterFramework'>): void {
  const { framework: info, session } = message;
  const { frameworkId } = info;
  const known = cx.state.frameworks.get(frameworkId);
  const sessionBefore = known?.record.session;
  if (sessionBefore === session) return; // Sent twice: the answer is in the stream already.
  const framework = setFramework(cx.state, {
    info,
    session,
    state: 'active',
    registeredAtMs: known?.record.registeredAtMs ?? cx.nowMs,
    // The new scheduler has said nothing yet of what it needs; it must not inherit a silence.
    suppressed: false,
    filters: [],
  });
  changeSession(cx, frameworkName(frameworkId), sessionBefore, session);
  cx.state.allocationDue = true;
  appendEvent(cx, {
    type: known ? 'framework.reregistered' : 'framework.registered',
    frameworkId,
    message: info.name,
  });
  send(cx, frameworkName(frameworkId), session, {
    type: 'FrameworkRegistered',
    frameworkId,
    known: known !== undefined,
    master: { masterId: cx.state.masterId, epoch: cx.state.epoch },
  });
  if (known) resendTo(cx, framework, session);
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

/** The framework leaves and its tasks stay to their end; from now on the master acknowledges for it. */
export function detachFramework(cx: StepContext, framework: Framework): void {
  const { record } = framework;
  const { frameworkId } = record.info;
  rescindOffersOf(cx, framework, 'the framework has left');
  changeSession(cx, frameworkName(frameworkId), record.session, undefined);
  const { session: _session, ...rest } = record;
  setFramework(cx.state, { ...rest, state: 'detached' });
  appendEvent(cx, { type: 'framework.detached', frameworkId });
  acknowledgeAll(cx, framework);
  forgetFrameworkIfDone(cx, framework);
}

/** The end of a framework: its tasks are killed; those that still run are counted until their agent says they ended. */
export function teardownFramework(cx: StepContext, framework: Framework, reason: string): void {
  const { frameworkId } = framework.record.info;
  rescindOffersOf(cx, framework, reason);
  const agentIds = new Set(
    [...framework.tasks].flatMap((key) => {
      const task = cx.state.tasks.get(key);
      return task && !isTerminal(task.state) ? [task.agentId] : [];
    }),
  );
  for (const agentId of agentIds) {
    const session = cx.state.agents.get(agentId)?.record.session;
    send(cx, agentName(agentId), session, { type: 'ShutdownFramework', frameworkId });
  }
  changeSession(cx, frameworkName(frameworkId), framework.record.session, undefined);
  acknowledgeAll(cx, framework);
  removeFramework(cx.state, frameworkId);
  appendEvent(cx, { type: 'framework.removed', frameworkId, reason });
  cx.state.allocationDue = true;
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

/** Frameworks that have been away for longer than they asked for are torn down. */
export function expireFrameworks(cx: StepContext): void {
  for (const framework of [...cx.state.frameworks.values()]) {
    const { record } = framework;
    if (record.state !== 'disconnected') continue;
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
  touchFramework(cx, framework);
}

/** No offers until the framework asks or revives; those that it holds stay valid. */
export function suppressOffers(cx: StepContext, framework: Framework): void {
  framework.record.suppressed = true;
  touchFramework(cx, framework);
}

/** Filters go, and offers come again. */
export function reviveOffers(cx: StepContext, framework: Framework): void {
  framework.record.suppressed = false;
  framework.record.filters = [];
  touchFramework(cx, framework);
}

function touchFramework(cx: StepContext, framework: Framework): void {
  cx.state.dirty.frameworks.add(framework.record.info.frameworkId);
  cx.state.allocationDue = true;
}
