/** `kaon status`: is the cluster alive, who leads, and how full is it. */
import type { RedisStore } from '../../io/redis-store.ts';
import { hidePassword } from '../../io/redis-connection.ts';
import { formatCpus, formatDuration, formatMib } from '../../protocol/quantities.ts';
import { agentName } from '../../protocol/keys.ts';
import type { AgentRecord } from '../../protocol/records.ts';
import { sumResources } from '../../protocol/resources.ts';
import type { Resources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { withStore } from '../connection.ts';
import { readEventsBackwards } from '../event-log.ts';
import { EXIT_FAILED, EXIT_OK } from '../failure.ts';
import type { ListOptions } from '../options.ts';
import { printJson } from '../print.ts';
import { readRedisFacts } from '../redis-facts.ts';
import type { RedisFacts } from '../redis-facts.ts';
import { countedOf, readCluster, tellUnreadable } from '../registry.ts';
import type { Cluster } from '../registry.ts';
import { paintFor } from '../style.ts';
import type { Paint } from '../style.ts';
import { countOf, formatBar, formatPercent, shortState } from '../words.ts';

/** Entries of the inbox that are counted: more than that is a backlog, whatever the number. */
const BACKLOG_MAX = 500;

/** Three heartbeats: an active agent that has missed so many may be cut off. */
const SILENT_MS = 15_000;
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

/** @returns the exit code: 1 if no master leads, because then nothing is placed */
export async function status(options: ListOptions): Promise<number> {
  const { found, unreadable } = await withStore(options, { name: 'status' }, async (store) => {
    const [cluster, leader, facts, inbox] = await Promise.all([
      readCluster(store),
      store.leader(),
      readRedisFacts(store.redis),
      readBacklog(store),
    ]);
    const redis = { url: hidePassword(options.redis), ...facts };
    const silence = await readSilence(store, cluster);
    return {
      found: {
        cluster: options.cluster,
        redis,
        leader: toLeader(leader),
        ...countsOf(cluster, silence),
        inbox,
      },
      unreadable: cluster.unreadable,
    };
  });
  tellUnreadable(unreadable);
  if (options.json) printJson(found);
  else process.stdout.write(describeStatus(found, paintFor(process.stdout)));
  return found.leader ? EXIT_OK : EXIT_FAILED;
}

function toLeader(leader: Awaited<ReturnType<RedisStore['leader']>>): ClusterStatus['leader'] {
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
  const { redis, keys } = store;
  const before = String(cluster.nowMs - SILENT_MS);
  const clients = new Set(await redis.zrangebyscore(keys.liveness, '-inf', before));
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

/** @returns the status as lines of text */
export function describeStatus(found: ClusterStatus, paint: Paint): string {
  const { cluster, redis, leader, agents, frameworks, tasks, used, total, inbox } = found;
  const { executors, offers } = found;
  const lines: [string, string][] = [
    ['cluster', cluster],
    ['redis', `${redis.url}, version ${redis.version}, ${redis.persistence}`],
    ...redis.warnings.map((warning): [string, string] => ['', paint('yellow', warning)]),
    ['leader', describeLeader(leader, paint)],
    ...(found.recovering ? [describeRecovery(found.recovering, paint)] : []),
    ['agents', describeAgents(agents, paint)],
    ['frameworks', describeCounts(frameworks, 'framework')],
    ['tasks', describeCounts(tasks, 'task')],
    ...(executors > 0 ? [['executors', String(executors)] as [string, string]] : []),
    ['offers', `${String(offers)} outstanding`],
    ['cpus', describeUse(used.cpuMillis, total.cpuMillis, formatCpus)],
    ['mem', describeUse(used.memMib, total.memMib, (mib) => (mib === 0 ? '0' : formatMib(mib)))],
    ['inbox', describeInbox(inbox)],
  ];
  return lines.map(([label, text]) => `${paint('bold', label.padEnd(12))}${text}\n`).join('');
}

/** Standbys do not write anything, so nobody can count them. */
function describeLeader(leader: ClusterStatus['leader'], paint: Paint): string {
  if (!leader) {
    return `${paint('red', 'none')}: running tasks go on, nothing new is placed; start one with kaon master`;
  }
  const { masterId, epoch, leaseRemainingMs } = leader;
  return `${paint('green', masterId)}, epoch ${String(epoch)}, lease for ${formatDuration(Math.max(0, leaseRemainingMs))} more`;
}

function describeRecovery(
  { remainingMs }: NonNullable<ClusterStatus['recovering']>,
  paint: Paint,
): [string, string] {
  const left = `${String(Math.ceil(remainingMs / 1000))} s left`;
  const what = paint('yellow', `recovering after data loss, ${left}`);
  return ['state', `${what}: agents may still come back with tasks that are not listed`];
}

function describeAgents(counts: AgentCounts, paint: Paint): string {
  const { active, silent, isSilenceDoubted, unreachable, gone } = counts;
  const parts = [`${String(active)} active`];
  if (silent > 0) {
    const doubt = isSilenceDoubted ? ': too many at once to believe it, so none is given up' : '';
    const span = formatDuration(SILENT_MS);
    const words = `${String(silent)} of them not heard of for ${span} or more${doubt}`;
    parts[0] = `${String(active)} active (${paint('yellow', words)})`;
  }
  if (unreachable > 0) parts.push(paint('red', `${String(unreachable)} unreachable`));
  if (gone > 0) parts.push(paint('dim', `${String(gone)} gone`));
  return parts.join(', ');
}

function describeCounts(counts: Readonly<Record<string, number>>, noun: string): string {
  const entries = Object.entries(counts).sort(([, a], [, b]) => b - a);
  const total = entries.reduce((sum, [, count]) => sum + count, 0);
  if (total === 0) return '0';
  const parts = entries.map(
    ([state, count]) => `${String(count)} ${shortState(state as 'TASK_RUNNING')}`,
  );
  return entries.length === 1 ? (parts[0] ?? '') : `${countOf(total, noun)}: ${parts.join(', ')}`;
}

function describeUse(part: number, whole: number, format: (amount: number) => string): string {
  if (whole === 0)
    return part === 0 ? '0 of 0' : `${format(part)} of 0: its agents are unreachable`;
  return `${formatBar(part, whole)} ${format(part)} of ${format(whole)} used (${formatPercent(part, whole)})`;
}

function describeInbox({ backlog, isMore }: ClusterStatus['inbox']): string {
  if (backlog === 0) return 'empty';
  return `${isMore ? 'more than ' : ''}${countOf(backlog, 'entry').replace(/entrys$/, 'entries')} not read yet`;
}
