/** `kaon status`: is the cluster alive, who leads, and how full is it. */
import { readStatus, SILENT_MS } from '../../io/cluster-status.ts';
import type { AgentCounts, ClusterStatus } from '../../io/cluster-status.ts';
import { formatCpus, formatDuration, formatMib } from '../../protocol/quantities.ts';
import { withStore } from '../connection.ts';
import { EXIT_FAILED, EXIT_OK } from '../failure.ts';
import type { ListOptions } from '../options.ts';
import { printJson } from '../print.ts';
import { tellUnreadable } from '../registry.ts';
import { paintFor } from '../style.ts';
import type { Paint } from '../style.ts';
import { countOf, formatBar, formatPercent, shortState } from '../words.ts';

/** @returns the exit code: 1 if no master leads, because then nothing is placed */
export async function status(options: ListOptions): Promise<number> {
  const { found, unreadable } = await withStore(options, { name: 'status' }, (store) =>
    readStatus(store, options),
  );
  tellUnreadable(unreadable);
  if (options.json) printJson(found);
  else process.stdout.write(describeStatus(found, paintFor(process.stdout)));
  return found.leader ? EXIT_OK : EXIT_FAILED;
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
