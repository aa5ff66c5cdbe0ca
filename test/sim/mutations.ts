/** Broken variants, each a mistake that somebody could make, put in at the simulator's seams. */
import { executorMutations } from './mutations-executor.ts';
import { masterMutations } from './mutations-master.ts';
import type { AgentSeams, AgentStep, Seams } from './mutation.ts';
import { PRODUCTION } from './mutation.ts';
import type { Wishes } from './plan.ts';
import { passThrough } from './redis.ts';
import { step as agentStep } from '../../agent/core/step.ts';
import { taskKey } from '../../protocol/ids.ts';

/** What is wrong, the parts that make it so, and what a run needs for it to show soon. */
export interface Mutation {
  readonly name: string;
  readonly seams: Seams;
  readonly wishes?: Wishes;
}

const FAILOVERS: Wishes = {
  faults: { redisFailoverEveryMs: 12_000, replicaLagMs: 4000, clockSkewMs: 0, splitBrainMs: 0 },
};
/** And led by another each time, in an epoch that there has been before. */
const EMPTIED_OFTEN: Wishes = {
  faults: {
    redisFlushEveryMs: 4000,
    redisFailoverEveryMs: 0,
    redisCrashEveryMs: 0,
    redisRestartEveryMs: 0,
    splitBrainMs: 0,
    clockSkewMs: 0,
    masterCrashEveryMs: 2000,
    partitionEveryMs: 0,
  },
  faultsMs: 90_000,
};

const redis = (change: Seams['redis']): Seams => ({ ...PRODUCTION, redis: change });
const agent = (change: Partial<AgentSeams>): Seams => ({
  ...PRODUCTION,
  agent: { ...PRODUCTION.agent, ...change },
});
const agentSteps = (step: AgentStep): Seams => agent({ step });

const commitsAreNotFenced = redis((inner) => ({
  ...passThrough(inner),
  commit: (commit) => {
    const lease = inner.leader() ?? commit.lease;
    return inner.commit({ ...commit, lease, number: inner.loadSnapshot().commitNumber + 1 });
  },
}));

const commitsDoNotAskWhichServer = redis((inner) => ({
  ...passThrough(inner),
  renewLease: (lease, leaseMs, connection) => {
    const renewed = inner.renewLease(lease, leaseMs, connection);
    if (renewed !== 'server-changed') return renewed;
    inner.beginTerm(lease);
    return inner.renewLease(lease, leaseMs, connection);
  },
  commit: (commit) => {
    const result = inner.commit(commit);
    if (result.ok || result.code === 'fenced') return result;
    inner.beginTerm(commit.lease);
    return inner.commit({ ...commit, number: inner.loadSnapshot().commitNumber + 1 });
  },
}));

const cursorIsNotAdvanced = redis((inner) => ({
  ...passThrough(inner),
  commit: (commit) => inner.commit({ ...commit, cursor: '0-0' }),
}));

const cursorIsMovedByReading = redis((inner) => {
  let read = '0-0';
  return {
    ...passThrough(inner),
    readInbox: (cursor, count) => {
      const entries = inner.readInbox(cursor, count);
      read = entries.at(-1)?.id ?? read;
      return entries;
    },
    loadSnapshot: () => ({ ...inner.loadSnapshot(), cursor: read }),
  };
});

const leaseIsGivenToTwo = redis((inner) => ({
  ...passThrough(inner),
  acquireLease: (masterId, leaseMs) => {
    const held = inner.leader();
    if (held) inner.releaseLease(held);
    return inner.acquireLease(masterId, leaseMs);
  },
}));

const leaseKeepsItsEpoch = redis((inner) => ({
  ...passThrough(inner),
  acquireLease: (masterId, leaseMs, instead, connection) => {
    const lease = inner.acquireLease(masterId, leaseMs, instead, connection);
    return lease && { ...lease, epoch: 1 };
  },
}));

const heartbeatsAreAlwaysOk = redis((inner) => ({
  ...passThrough(inner),
  heartbeat: (client, session, cursor) => {
    inner.heartbeat(client, session, cursor);
    return 'ok';
  },
}));

/** Numbers are moved up by what was appended twice, so that the model takes a repetition for something new. */
const repeatedAppendsAreTaken = redis((inner) => {
  const extra = new Map<string, number>();
  return {
    ...passThrough(inner),
    append: (append) => {
      const shift = extra.get(append.session) ?? 0;
      const result = inner.append({ ...append, sequence: append.sequence + shift });
      if (result !== 'duplicate') return result;
      extra.set(append.session, shift + 1);
      return inner.append({ ...append, sequence: append.sequence + shift + 1 });
    },
  };
});

const lossIsNotNoticed: Seams = {
  ...PRODUCTION,
  master: { ...PRODUCTION.master, noticesDataLoss: false },
};

const acknowledgementsAreDropped = agentSteps((state, event, nowMs) =>
  event.type === 'message' && event.message.type === 'StatusUpdateAcknowledgement'
    ? []
    : agentStep(state, event, nowMs),
);

const repeatedLaunchesStart = agentSteps((state, event, nowMs) => {
  if (event.type === 'message' && event.message.type === 'RunTask') {
    const { framework, task } = event.message;
    state.tasks.delete(taskKey(framework.frameworkId, task.taskId));
  }
  return agentStep(state, event, nowMs);
});

const killsAreForgotten = agentSteps((state, event, nowMs) =>
  agentStep(state, event, nowMs).filter((effect) => effect.type !== 'unit.signal'),
);

const endsAreForgotten = agent({
  remembersEnds: false,
  step: (state, event, nowMs) => {
    const effects = agentStep(state, event, nowMs);
    state.ended.clear();
    return effects;
  },
});

/** Each must be noticed by some checker. */
export const MUTATIONS: readonly Mutation[] = [
  { name: 'commits of a deposed leader are taken', seams: commitsAreNotFenced },
  {
    name: 'a commit is taken by another Redis than the term began with',
    seams: commitsDoNotAskWhichServer,
    wishes: FAILOVERS,
  },
  { name: 'the cursor is not advanced by a commit', seams: cursorIsNotAdvanced },
  { name: 'the cursor is moved by reading', seams: cursorIsMovedByReading },
  { name: 'the lease is given to two masters', seams: leaseIsGivenToTwo },
  { name: 'the epoch of a new lease is not a new one', seams: leaseKeepsItsEpoch },
  { name: 'heartbeats are answered ok whatever is registered', seams: heartbeatsAreAlwaysOk },
  { name: 'an append that is sent again is taken again', seams: repeatedAppendsAreTaken },
  { name: 'a loss of data is not noticed', seams: lossIsNotNoticed, wishes: FAILOVERS },
  { name: 'an agent drops acknowledgements', seams: acknowledgementsAreDropped },
  { name: 'a launch that comes twice is started twice', seams: repeatedLaunchesStart },
  { name: 'an agent sends no signals', seams: killsAreForgotten },
  {
    name: 'an agent does not remember recent ends',
    seams: endsAreForgotten,
    wishes: { ...FAILOVERS, character: { acknowledgeMs: 0 } },
  },
  {
    name: 'an agent does not say which leader it has seen',
    seams: agent({ registration: ({ leaderSeen: _leaderSeen, ...rest }) => rest }),
    wishes: EMPTIED_OFTEN,
  },
  {
    name: 'an agent does not say what runs on it',
    seams: agent({ registration: (registration) => ({ ...registration, tasks: [] }) }),
  },
  {
    name: 'fences are never set',
    seams: agent({ setsFences: false }),
    wishes: {
      faults: { partitionEveryMs: 15_000, partitionMs: 40_000, deafShare: 0 },
      character: { stopAfter: 1 },
      faultsMs: 90_000,
    },
  },
  ...masterMutations,
  ...executorMutations,
];
