/** Broken variants of the master's core. */
import { addOffer } from '../../master/core/books.ts';
import type { MasterState } from '../../master/core/state.ts';
import type { MasterEvent } from '../../master/core/step.ts';
import { step as masterStep } from '../../master/core/step.ts';
import type { AgentId, OfferId, SessionId } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import type { MessageOf, MessageType } from '../../protocol/messages.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { AgentTask } from '../../protocol/task.ts';
import type { MasterStep, Seams } from './mutation.ts';
import { CALM } from './faults.ts';
import { PRODUCTION } from './mutation.ts';
import type { Mutation } from './mutations.ts';
import type { Wishes } from './plan.ts';

const master = (step: MasterStep): Seams => ({
  ...PRODUCTION,
  master: { ...PRODUCTION.master, step },
});

function messageOf<T extends MessageType>(event: MasterEvent, type: T): MessageOf<T> | undefined {
  if (event.type !== 'message' || event.message.type !== type) return undefined;
  return event.message as MessageOf<T>;
}

/** Before any that the store gives out. */
const OLDEST_SESSION = 's00000000001' as SessionId;

/** The offers that there were before stay. */
const keepOffers = (
  state: MasterState,
  step: () => ReturnType<MasterStep>,
): ReturnType<MasterStep> => {
  const offers = [...state.offers.values()];
  const effects = step();
  for (const offer of offers) if (!state.offers.has(offer.offerId)) addOffer(state, offer);
  return effects;
};

const usedOffersStay = master((state, event, nowMs) => {
  const ids: readonly OfferId[] = messageOf(event, 'LaunchTasks')?.offerIds ?? [];
  const offers = ids.flatMap((offerId) => state.offers.get(offerId) ?? []);
  const effects = masterStep(state, event, nowMs);
  for (const offer of offers) if (!state.offers.has(offer.offerId)) addOffer(state, offer);
  return effects;
});

const silentAgentsAreLost = master((state, event, nowMs) => {
  if (event.type !== 'clients.silent') return masterStep(state, event, nowMs);
  return event.clients.flatMap(({ client }) => {
    const agentId = client.replace('agent:', '') as AgentId;
    const session = state.agents.get(agentId)?.record.session;
    if (session === undefined) return [];
    const message = { type: 'UnregisterAgent' as const, agentId };
    return masterStep(state, { type: 'message', from: client, session, message }, nowMs);
  });
});

const updatesAreNotSentAgain = master((state, event, nowMs) => {
  const effects = masterStep(state, event, nowMs);
  if (!messageOf(event, 'RegisterFramework')) return effects;
  return effects.filter(
    (effect) => effect.type !== 'send' || effect.message.type !== 'StatusUpdate',
  );
});

const offersOutliveTheirAgent = master((state, event, nowMs) =>
  event.type === 'clients.silent'
    ? keepOffers(state, () => masterStep(state, event, nowMs))
    : masterStep(state, event, nowMs),
);

const offersOutliveALoss = master((state, event, nowMs) =>
  event.type === 'data.lost'
    ? keepOffers(state, () => masterStep(state, event, nowMs))
    : masterStep(state, event, nowMs),
);

const lateRegistrationsAreTaken = master((state, event, nowMs) => {
  const agentId = messageOf(event, 'RegisterAgent')?.agent.agentId;
  const known = agentId === undefined ? undefined : state.agents.get(agentId);
  if (known) known.record = { ...known.record, newestSession: OLDEST_SESSION };
  return masterStep(state, event, nowMs);
});

const launchIdsAreIgnored = master((state, event, nowMs) => {
  const status = messageOf(event, 'StatusUpdate')?.status;
  const task = status && state.tasks.get(taskKey(status.frameworkId, status.taskId));
  if (!status || !task || event.type !== 'message') return masterStep(state, event, nowMs);
  const message = {
    type: 'StatusUpdate' as const,
    status: { ...status, launchId: task.launchId },
  };
  return masterStep(state, { ...event, message }, nowMs);
});

const unknownIsSaidTooSoon = master((state, event, nowMs) => {
  const isQuestion = messageOf(event, 'ReconcileTasks') ?? messageOf(event, 'KillTask');
  if (!isQuestion) return masterStep(state, event, nowMs);
  const { recoveringUntilMs } = state.cluster;
  state.cluster = { ...state.cluster, recoveringUntilMs: 0 };
  const effects = masterStep(state, event, nowMs);
  state.cluster = { ...state.cluster, recoveringUntilMs };
  return effects;
});

const fencesAreNotWaitedFor = master((state, event, nowMs) => {
  const effects = masterStep(state, event, nowMs);
  if (event.type === 'clients.silent') {
    for (const task of state.tasks.values())
      if (task.stoppedByMs !== undefined) task.stoppedByMs = Math.min(task.stoppedByMs, nowMs);
  }
  return effects;
});

const exclusiveIsNotChecked = master((state, event, nowMs) => {
  if (!messageOf(event, 'LaunchTasks')) return masterStep(state, event, nowMs);
  const names = [...state.tasks.values()].map((task) => ({ task, name: task.name }));
  for (const { task } of names) task.name = `${task.name}'`;
  const effects = masterStep(state, event, nowMs);
  for (const { task, name } of names) task.name = name;
  return effects;
});

const writtenOffIsForgotten = master((state, event, nowMs) => {
  const agentId = messageOf(event, 'RegisterAgent')?.agent.agentId;
  const known = agentId === undefined ? undefined : state.agents.get(agentId);
  if (known) known.record = { ...known.record, writtenOff: [] };
  return masterStep(state, event, nowMs);
});

/** As if the agent had said that it has everything that the master believes. */
const believedTasksAreNotSettled = master((state, event, nowMs) => {
  const registration = messageOf(event, 'RegisterAgent');
  const agent = registration && state.agents.get(registration.agent.agentId);
  if (!registration || !agent || event.type !== 'message') return masterStep(state, event, nowMs);
  const reported = new Set(registration.tasks.map(({ launchId }) => launchId));
  const believed = [...agent.tasks].flatMap((key): AgentTask[] => {
    const task = state.tasks.get(key);
    if (!task || isTerminal(task.state) || reported.has(task.launchId)) return [];
    const { frameworkId, taskId, launchId, name, resources } = task;
    return [
      {
        frameworkId,
        taskId,
        launchId,
        name,
        resources,
        state: 'TASK_RUNNING',
      },
    ];
  });
  const message = { ...registration, tasks: [...registration.tasks, ...believed] };
  return masterStep(state, { ...event, message }, nowMs);
});

const recoveredFrameworksGoAtOnce = master((state, event, nowMs) => {
  const effects = masterStep(state, event, nowMs);
  if (!messageOf(event, 'RegisterAgent')) return effects;
  for (const { record } of state.frameworks.values()) {
    if (record.newestSession === undefined) record.info = { ...record.info, failoverTimeoutMs: 0 };
  }
  return effects;
});

const supersededTasksGoOn = master((state, event, nowMs) =>
  masterStep(state, event, nowMs).filter(
    (effect) =>
      effect.type !== 'send' ||
      effect.message.type !== 'KillTask' ||
      effect.message.by !== 'master',
  ),
);

const CUTS = { partitionEveryMs: 15_000, partitionMs: 40_000, deafShare: 0 };

/** Little happens but that what dead agents have sent arrives after their successors have begun to work. */
const LATE: Wishes = {
  faults: {
    ...CALM,
    latencyMs: 20,
    breakCall: 0.1,
    lateCall: 1,
    slowCall: 0.02,
    slowCallMs: 3000,
    agentCrashAtStep: 0.02,
    agentCrashEveryMs: 2000,
  },
  character: {
    executors: 0,
    leave: 0,
    kill: 0,
    statesDemand: false,
    accept: 0.8,
    hesitateMs: 5,
  },
  faultsMs: 90_000,
};

export const masterMutations: readonly Mutation[] = [
  { name: 'an offer stays after it was accepted', seams: usedOffersStay },
  { name: 'tasks of a silent agent are declared lost', seams: silentAgentsAreLost },
  { name: 'a new session does not get the updates of the old one', seams: updatesAreNotSentAgain },
  { name: 'offers of an agent that has gone silent stay', seams: offersOutliveTheirAgent },
  {
    name: 'offers are kept after a loss of data',
    seams: offersOutliveALoss,
    wishes: {
      faults: { redisFailoverEveryMs: 8000, replicaLagMs: 6000, splitBrainMs: 0 },
      character: { hesitateMs: 500, accept: 0.8 },
    },
  },
  {
    name: 'late registrations are taken',
    seams: lateRegistrationsAreTaken,
    wishes: LATE,
  },
  {
    name: 'the launch that an update speaks of is not looked at',
    seams: launchIdsAreIgnored,
    wishes: {
      faults: { agentCrashEveryMs: 3000, agentCrashAtStep: 0.1 },
      character: { reuse: 1, acknowledgeMs: 0 },
    },
  },
  {
    name: 'a task is said to be unknown while agents may come back with it',
    seams: unknownIsSaidTooSoon,
    wishes: {
      faults: { redisFlushEveryMs: 10_000 },
      character: { reconcile: 'both', kill: 0.4 },
    },
  },
  {
    name: 'the fence of an unreachable node is not waited for',
    seams: fencesAreNotWaitedFor,
    wishes: { faults: CUTS, character: { stopAfter: 1 }, faultsMs: 90_000 },
  },
  {
    name: 'exclusive tasks are not held against each other',
    seams: exclusiveIsNotChecked,
    wishes: { faults: CUTS, character: { exclusive: 0.8 }, faultsMs: 90_000 },
  },
  {
    name: 'launches that were given up are forgotten',
    seams: writtenOffIsForgotten,
    wishes: { faults: { agentGivenUpEveryMs: 10_000 } },
  },
  {
    name: 'what an agent does not know is not settled',
    seams: believedTasksAreNotSettled,
    wishes: { faults: { agentCrashEveryMs: 4000, breakCall: 0.1 } },
  },
  {
    name: 'a framework that is known from its tasks only is torn down at once',
    seams: recoveredFrameworksGoAtOnce,
    wishes: {
      faults: { redisFlushEveryMs: 10_000, frameworkCrashEveryMs: 8000 },
      character: { failoverTimeoutMs: 20_000 },
    },
  },
  {
    name: 'a task that was given up goes on when its agent is back',
    seams: supersededTasksGoOn,
    wishes: { faults: { agentGivenUpEveryMs: 10_000 } },
  },
];
