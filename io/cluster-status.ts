/** Is the cluster alive, who leads, and how full is it: what `kaon status --json` and the API say. */
import type { RedisStore } from './redis-store.ts';
import { hidePassword } from './redis-connection.ts';
import { readEventsBackwards } from './event-log.ts';
import { findSilent } from './liveness.ts';
import { readRedisFacts } from './redis-facts.ts';
import type { RedisFacts } from './redis-facts.ts';
import { countedOf, readCluster } from './registry.ts';
import type { Cluster, Unreadable } from './registry.ts';
import { agentName } from '../protocol/keys.ts';
import type { AgentRecord } from '../protocol/records.ts';
import { sumResources } from '../protocol/resources.ts';
import type { Resources } from '../protocol/resources.ts';
import { isTerminal } from '../protocol/task-state.ts';

/** Entries of the inbox that are counted: more than that is a backlog, whatever the number. */
const BACKLOG_MAX = 500;

/** Three heartbeats, milliseconds: an active agent that has missed so many may be cut off. */
export const SILENT_MS = 15_000;
/** Events that are looked through for a doubt of the master. */
const EVENTS_SEEN_MAX = 5000;

type Silence = Pick<AgentCounts, 'silent' | 'isSilenceDoubted'>;
const NO_SILENCE: Silence = { silent: 0, isSilenceDoubted: false };

/** What `--json` prints. */
export interface ClusterStatus {
  readonly cluster: string;
  /** The address without a password. */
  readonly redis: RedisFacts & { readonly url: string };
  /** Null if nobody leads. */
  readonly leader: {
    readonly masterId: string;
    readonly epoch: number;
    readonly leaseRemainingMs: number;
  } | null;
  readonly agents: AgentCounts;
  /** Redis has lost data, and agents have so long to come back with tasks that are not known; null: it has not. */
  readonly recovering: { readonly remainingMs: number } | null;
  readonly frameworks: Readonly<Record<string, number>>;
  /** Tasks that have not ended, by state. */
  readonly tasks: Readonly<Record<string, number>>;
  readonly executors: number;
  readonly offers: number;
  /** Of tasks on active agents that have not ended, and of executors there: comparable with `total`. */
  readonly used: Resources;
  readonly offered: Resources;
  /** Of active agents. */
  readonly total: Resources;
  /** Entries that the leader has not read; `isMore`: at least so many. */
  readonly inbox: { readonly backlog: number; readonly isMore: boolean };
}

/** How many agents are in each state, and what is in doubt. */
export interface AgentCounts {
  readonly active: number;
  /** Of the active ones: not heard of for some heartbeats. */
  readonly silent: number;
  /** So many are silent at once that the master does not believe it, and calls none of them unreachable. */
  readonly isSilenceDoubted: boolean;
  readonly unreachable: number;
  readonly gone: number;
}

/** The status, and the records that had to be left out of it. */
export interface FoundStatus {
  readonly found: ClusterStatus;
  readonly unreadable: readonly Unreadable[];
}

/**
 * Reads all that the status is made of; cost: one pass over the registry.
 *
 * @param where the address of Redis, of which no password is shown, and the name of the cluster
 * @param read for whoever reads the registry in a way of its own
 */
export async function readStatus(
  store: RedisStore,
  where: { readonly redis: string; readonly cluster: string },
  read: (source: RedisStore) => Promise<Cluster> = readCluster,
): Promise<FoundStatus> {
  const [cluster, leader, facts, inbox] = await Promise.all([
    read(store),
    store.leader(),
    readRedisFacts(store.redis),
    readBacklog(store),
  ]);
  const silence = await readSilence(store, cluster);
  const found = {
    cluster: where.cluster,
    redis: { url: hidePassword(where.redis), ...facts },
    leader: leaderStatus(leader),
    ...countsOf(cluster, silence),
    inbox,
  };
  return { found, unreadable: cluster.unreadable };
}

/** @returns who leads, as the status has it; null if nobody does */
export function leaderStatus(
  leader: Awaited<ReturnType<RedisStore['leader']>>,
): ClusterStatus['leader'] {
  if (!leader) return null;
  return { masterId: leader.masterId, epoch: leader.epoch, leaseRemainingMs: leader.remainingMs };
}

async function readBacklog({ redis, keys }: RedisStore): Promise<ClusterStatus['inbox']> {
  const cursor = ((await redis.get(keys.cursor)) ?? '0 0-0').split(' ')[1] ?? '0-0';
  // The inbox still has entries that were read, because trimming is approximate: its length says nothing.
  const entries = await redis.xrange(keys.inbox, `(${cursor}`, '+', 'COUNT', BACKLOG_MAX);
  return { backlog: entries.length, isMore: entries.length === BACKLOG_MAX };
}

/** Doubts of the master are rare, and told when they begin and end: the newest of either says which it is. */
async function readSilence(store: RedisStore, cluster: Cluster): Promise<Silence> {
  const found = await findSilent(store.redis, store.keys, cluster.nowMs - SILENT_MS);
  const clients = new Set<string>(found.silent.map(({ client }) => client));
  const silent = cluster.agents.filter(
    ({ info, state, session }) =>
      state === 'active' && session !== undefined && clients.has(agentName(info.agentId)),
  ).length;
  if (silent === 0) return NO_SILENCE;
  let seen = 0;
  for await (const { type } of readEventsBackwards(store, [])) {
    if (type === 'agents.silence-doubted') return { silent, isSilenceDoubted: true };
    if (type === 'agents.silence-believed' || (seen += 1) > EVENTS_SEEN_MAX) break;
  }
  return { silent, isSilenceDoubted: false };
}

/** @returns the part of the status that comes from the registry */
export function countsOf(
  cluster: Cluster,
  silence: Silence = NO_SILENCE,
): Pick<
  ClusterStatus,
  | 'agents'
  | 'recovering'
  | 'frameworks'
  | 'tasks'
  | 'executors'
  | 'offers'
  | 'used'
  | 'offered'
  | 'total'
> {
  const away = (state: AgentRecord['state']): number =>
    cluster.agents.filter((agent) => agent.state === state).length;
  const untilMs = Math.max(
    0,
    ...cluster.cluster.map((one) => (one.isNew ? 0 : one.recoveringUntilMs)),
  );
  const active = cluster.agents.filter(({ state }) => state === 'active');
  const live = cluster.tasks.filter(({ state }) => !isTerminal(state));
  const reachable = new Set<string>(active.map(({ info }) => info.agentId));
  const isHere = ({ agentId }: { readonly agentId: string }): boolean => reachable.has(agentId);
  const own = cluster.executors.filter(isHere).map(({ info }) => info.resources);
  return {
    agents: {
      active: active.length,
      ...silence,
      unreachable: away('unreachable'),
      gone: away('gone'),
    },
    recovering: untilMs === 0 ? null : { remainingMs: Math.max(0, untilMs - cluster.nowMs) },
    frameworks: countBy(cluster.frameworks),
    tasks: countBy(live),
    executors: cluster.executors.length,
    offers: cluster.offers.length,
    used: sumResources([...live.filter(isHere).map(countedOf), ...own]),
    offered: sumResources(cluster.offers.map(({ resources }) => resources)),
    total: sumResources(active.map(({ info }) => info.resources)),
  };
}

function countBy(records: readonly { readonly state: string }[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { state } of records) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
}
