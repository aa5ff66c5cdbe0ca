/** Broken variants, each a mistake that somebody could make, put in at the simulator's seams. */
import type { AgentState } from '../../agent/core/state.ts';
import { step as agentStep } from '../../agent/core/step.ts';
import { addOffer } from '../../master/core/state.ts';
import { step as masterStep } from '../../master/core/step.ts';
import type { AgentId, OfferId } from '../../protocol/ids.ts';
import { taskKey } from '../../protocol/ids.ts';
import type { Seams } from './mutation.ts';
import { PRODUCTION } from './mutation.ts';
import { passThrough } from './redis.ts';

/** What is wrong, and the parts that make it so. */
export interface Mutation {
  readonly name: string;
  readonly seams: Seams;
}

const redis = (change: Seams['redis']): Seams => ({ ...PRODUCTION, redis: change });
const master = (step: Seams['masterStep']): Seams => ({ ...PRODUCTION, masterStep: step });
const agent = (step: Seams['agentStep']): Seams => ({ ...PRODUCTION, agentStep: step });

const commitsAreNotFenced = redis((inner) => ({
  ...passThrough(inner),
  commit: (commit) => {
    const lease = inner.leader() ?? commit.lease;
    return inner.commit({ ...commit, lease, number: inner.loadSnapshot().commitNumber + 1 });
  },
}));

const cursorIsNotAdvanced = redis((inner) => ({
  ...passThrough(inner),
  commit: (commit) => inner.commit({ ...commit, cursor: '0-0' }),
}));

const leaseIsGivenToTwo = redis((inner) => ({
  ...passThrough(inner),
  acquireLease: (masterId, leaseMs) => {
    const held = inner.leader();
    if (held) inner.releaseLease(held);
    return inner.acquireLease(masterId, leaseMs);
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

const usedOffersStay = master((state, event, nowMs) => {
  const { message } = event.type === 'message' ? event : { message: undefined };
  const ids: readonly OfferId[] = message?.type === 'LaunchTasks' ? message.offerIds : [];
  const offers = ids.flatMap((offerId) => state.offers.get(offerId) ?? []);
  const effects = masterStep(state, event, nowMs);
  for (const offer of offers) if (!state.offers.has(offer.offerId)) addOffer(state, offer);
  return effects;
});

const silentAgentsAreLost = master((state, event, nowMs) => {
  if (event.type !== 'clients.silent') return masterStep(state, event, nowMs);
  return event.clients.flatMap((client) => {
    const agentId = client.replace('agent:', '') as AgentId;
    const session = state.agents.get(agentId)?.record.session;
    if (session === undefined) return [];
    const message = { type: 'UnregisterAgent' as const, agentId };
    return masterStep(state, { type: 'message', from: client, session, message }, nowMs);
  });
});

const updatesAreNotSentAgain = master((state, event, nowMs) => {
  const effects = masterStep(state, event, nowMs);
  if (event.type !== 'message' || event.message.type !== 'RegisterFramework') return effects;
  return effects.filter(
    (effect) => effect.type !== 'send' || effect.message.type !== 'StatusUpdate',
  );
});

const offersOutliveTheirAgent = master((state, event, nowMs) => {
  const offers = event.type === 'clients.silent' ? [...state.offers.values()] : [];
  const effects = masterStep(state, event, nowMs);
  for (const offer of offers) if (!state.offers.has(offer.offerId)) addOffer(state, offer);
  return effects;
});

const acknowledgementsAreDropped = agent((state, event, nowMs) =>
  event.type === 'message' && event.message.type === 'StatusUpdateAcknowledgement'
    ? []
    : agentStep(state, event, nowMs),
);

const repeatedLaunchesStart = agent((state, event, nowMs) => {
  if (event.type === 'message' && event.message.type === 'RunTask') {
    forget(state, taskKey(event.message.frameworkId, event.message.task.taskId));
  }
  return agentStep(state, event, nowMs);
});

const killsAreForgotten = agent((state, event, nowMs) =>
  agentStep(state, event, nowMs).filter((effect) => effect.type !== 'unit.signal'),
);

function forget(state: AgentState, key: ReturnType<typeof taskKey>): void {
  state.tasks.delete(key);
}

/** Each must be noticed by some checker. */
export const MUTATIONS: readonly Mutation[] = [
  { name: 'commits of a deposed leader are taken', seams: commitsAreNotFenced },
  { name: 'the cursor is not advanced by a commit', seams: cursorIsNotAdvanced },
  { name: 'the lease is given to two masters', seams: leaseIsGivenToTwo },
  { name: 'an append that is sent again is taken again', seams: repeatedAppendsAreTaken },
  { name: 'an offer stays after it was accepted', seams: usedOffersStay },
  { name: 'tasks of a silent agent are declared lost', seams: silentAgentsAreLost },
  { name: 'a new session does not get the updates of the old one', seams: updatesAreNotSentAgain },
  { name: 'offers of an agent that has gone silent stay', seams: offersOutliveTheirAgent },
  { name: 'an agent drops acknowledgements', seams: acknowledgementsAreDropped },
  { name: 'a launch that comes twice is started twice', seams: repeatedLaunchesStart },
  { name: 'an agent sends no signals', seams: killsAreForgotten },
];
