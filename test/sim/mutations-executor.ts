/** Broken variants of what agent and master do for executors. */
import type { AgentEffect, AgentEvent } from '../../agent/core/events.ts';
import type { AgentState } from '../../agent/core/state.ts';
import { step as agentStep } from '../../agent/core/step.ts';
import type { MasterState } from '../../master/core/state.ts';
import { step as masterStep } from '../../master/core/step.ts';
import { executorKey } from '../../protocol/ids.ts';
import type { ExecutorRecord } from '../../protocol/records.ts';
import { addResources, subtractResources } from '../../protocol/resources.ts';
import type { AgentSeams, AgentStep, MasterStep, Seams } from './mutation.ts';
import { PRODUCTION } from './mutation.ts';
import type { Mutation } from './mutations.ts';

const agent = (change: Partial<AgentSeams>): Seams => ({
  ...PRODUCTION,
  agent: { ...PRODUCTION.agent, ...change },
});
const agentSteps = (step: AgentStep): Seams => agent({ step });
const master = (step: MasterStep): Seams => ({
  ...PRODUCTION,
  master: { ...PRODUCTION.master, step },
});

/** Effects are left out if they are not wanted. */
const withoutEffects = (isUnwanted: (effect: AgentEffect, event: AgentEvent) => boolean): Seams =>
  agentSteps((state, event, nowMs) =>
    agentStep(state, event, nowMs).filter((effect) => !isUnwanted(effect, event)),
  );

/** Something is done to the state before each step. */
const beforeSteps = (spoil: (state: AgentState, event: AgentEvent) => void): Seams =>
  agentSteps((state, event, nowMs) => {
    spoil(state, event);
    return agentStep(state, event, nowMs);
  });

const containersAreLargeEnough = beforeSteps(({ executors }) => {
  for (const executor of executors.values()) {
    executor.granted = { cpuMillis: 1_000_000, memMib: 1_000_000 };
    delete executor.resizing;
  }
});

const containersNeverShrink = beforeSteps(({ executors }) => {
  for (const executor of executors.values()) executor.shrinkAtMs = Infinity;
});

const endedExecutorsAreForgotten = beforeSteps(({ endedExecutors }) => {
  endedExecutors.clear();
});

const executorsAreReplaced = beforeSteps(({ executors }, event) => {
  if (event.type !== 'message' || event.message.type !== 'RunTask') return;
  const { framework, task, executorLaunchId } = event.message;
  if (!task.executor) return;
  const key = executorKey(framework.frameworkId, task.executor.executorId);
  if (executors.get(key)?.launchId !== executorLaunchId) executors.delete(key);
});

const comingBackLosesTasks = agentSteps((state, event, nowMs) =>
  event.type === 'executor.registered' && event.memory
    ? agentStep(state, { ...event, memory: { ...event.memory, tasks: [] } }, nowMs)
    : agentStep(state, event, nowMs),
);

const comingBackLosesUpdates = agentSteps((state, event, nowMs) =>
  event.type === 'executor.registered' && event.memory
    ? agentStep(state, { ...event, memory: { ...event.memory, updates: [] } }, nowMs)
    : agentStep(state, event, nowMs),
);

const goingAwayIsDeath = agentSteps((state, event, nowMs) => {
  const effects = agentStep(state, event, nowMs);
  const executor =
    event.type === 'executor.disconnected' ? state.executors.get(event.key) : undefined;
  if (!executor) return effects;
  const { framework, info, launchId } = executor;
  const message = {
    type: 'ShutdownExecutor' as const,
    frameworkId: framework.frameworkId,
    agentId: state.agentId,
    executorId: info.executorId,
    launchId,
  };
  return [...effects, ...agentStep(state, { type: 'message', message }, nowMs)];
});

const groupsAreTornApart = agentSteps((state, event, nowMs) =>
  event.type === 'message' && event.message.type === 'RunTask' && event.message.groupSize
    ? agentStep(state, { ...event, message: { ...event.message, groupSize: 1 } }, nowMs)
    : agentStep(state, event, nowMs),
);

const answersComeLast = agentSteps((state, event, nowMs) => {
  const effects = agentStep(state, event, nowMs);
  if (event.type !== 'executor.registered') return effects;
  const isAnswer = (effect: AgentEffect): boolean =>
    effect.type === 'executor.send' && effect.message.type.startsWith('Executor');
  return [...effects.filter((each) => !isAnswer(each)), ...effects.filter(isAnswer)];
});

const killsAreSaidOnce = withoutEffects(
  (effect, event) =>
    event.type === 'executor.registered' &&
    effect.type === 'executor.send' &&
    effect.message.type === 'KillTask',
);

/** Counts what an executor has for itself once more, or once less. */
function recount(
  state: MasterState,
  { agentId, frameworkId, info }: ExecutorRecord,
  how: typeof addResources,
): void {
  for (const holder of [state.agents.get(agentId), state.frameworks.get(frameworkId)])
    if (holder) holder.used = how(holder.used, info.resources);
}

const ownResourcesAreNotCounted = master((state, event, nowMs) => {
  const before = new Set(state.executors.values());
  const effects = masterStep(state, event, nowMs);
  for (const record of state.executors.values())
    if (!before.has(record)) recount(state, record, subtractResources);
  for (const record of before)
    if (!state.executors.has(pathOf(record))) recount(state, record, addResources);
  return effects;
});

const ownResourcesAreReleasedTwice = master((state, event, nowMs) => {
  const before = [...state.executors.values()];
  const effects = masterStep(state, event, nowMs);
  for (const record of before)
    if (!state.executors.has(pathOf(record))) recount(state, record, subtractResources);
  return effects;
});

function pathOf({ agentId, frameworkId, info }: ExecutorRecord): never {
  return `${agentId}/${frameworkId}/${info.executorId}` as never;
}

const reportedExecutorsAreIgnored = master((state, event, nowMs) =>
  event.type === 'message' && event.message.type === 'RegisterAgent'
    ? masterStep(state, { ...event, message: { ...event.message, executors: [] } }, nowMs)
    : masterStep(state, event, nowMs),
);

const exitsAreIgnored = master((state, event, nowMs) =>
  event.type === 'message' && event.message.type === 'ExitedExecutor'
    ? []
    : masterStep(state, event, nowMs),
);

const shutdownsAreNotSent = master((state, event, nowMs) =>
  masterStep(state, event, nowMs).filter(
    (effect) => effect.type !== 'send' || effect.message.type !== 'ShutdownExecutor',
  ),
);

/** Nearly everything is of executors. */
const MANY = { executors: 0.9, shutdown: 0 };
const BREAKS = { executorBreakEveryMs: 1000, executorCrashEveryMs: 0 };

export const executorMutations: readonly Mutation[] = [
  {
    name: 'a task is handed over before its container is large enough',
    seams: containersAreLargeEnough,
    wishes: { character: MANY },
  },
  {
    name: 'a container never gets smaller',
    seams: containersNeverShrink,
    wishes: { character: MANY },
  },
  {
    name: 'the launch of a task of an executor is not written down',
    seams: withoutEffects(
      (effect) => effect.type === 'journal.append' && effect.line.type === 'launch',
    ),
    wishes: { character: MANY, faults: { agentCrashEveryMs: 5000 } },
  },
  {
    name: 'an update is acknowledged before it is written down',
    seams: agent({ writesJournalFirst: false }),
    wishes: { character: MANY, faults: { agentCrashAtEffect: 0.02 } },
  },
  {
    name: 'the journal of an executor that is over stays',
    seams: withoutEffects((effect) => effect.type === 'journal.remove'),
    wishes: { character: MANY },
  },
  {
    name: 'an executor that has ended is started again for a late task',
    seams: endedExecutorsAreForgotten,
    wishes: { character: MANY, faults: { executorCrashEveryMs: 2000, latencyMs: 20 } },
  },
  {
    name: 'an executor is started beside another of its id',
    seams: executorsAreReplaced,
    wishes: { character: MANY, faults: { agentGivenUpEveryMs: 10_000 } },
  },
  {
    name: 'tasks are lost when their executor comes back',
    seams: comingBackLosesTasks,
    wishes: { character: MANY, faults: BREAKS },
  },
  {
    name: 'updates that an executor repeats are not taken',
    seams: comingBackLosesUpdates,
    wishes: { character: MANY, faults: BREAKS },
  },
  {
    name: 'an executor that has lost its connection is ended',
    seams: goingAwayIsDeath,
    wishes: { character: MANY, faults: BREAKS },
  },
  {
    name: 'a kill is not said again to an executor that was away',
    seams: killsAreSaidOnce,
    wishes: { character: { ...MANY, kill: 0.4 }, faults: { executorBreakEveryMs: 300 } },
  },
  {
    name: 'tasks of a group are handed over one by one',
    seams: groupsAreTornApart,
    wishes: { character: { ...MANY, groups: 0.8 } },
  },
  {
    name: 'tasks come before the answer to the registration',
    seams: answersComeLast,
    wishes: { character: MANY },
  },
  {
    name: 'what executors have for themselves is not counted',
    seams: ownResourcesAreNotCounted,
    wishes: { character: MANY },
  },
  {
    name: 'what executors have for themselves is released twice',
    seams: ownResourcesAreReleasedTwice,
    wishes: { character: MANY },
  },
  {
    name: 'executors that an agent reports are not counted',
    seams: reportedExecutorsAreIgnored,
    wishes: { character: MANY, faults: { agentCrashEveryMs: 5000 } },
  },
  {
    name: 'the end of an executor is not heard',
    seams: exitsAreIgnored,
    wishes: { character: MANY },
  },
  {
    name: 'the shutdown of an executor is not passed on',
    seams: shutdownsAreNotSent,
    wishes: { character: MANY },
  },
];
