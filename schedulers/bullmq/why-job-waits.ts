/** Why a job of a queue is not running yet, in one sentence. Pure. */
import type { Resources } from '../../framework/index.ts';
import { addResources, formatResources } from '../../framework/index.ts';
import { formatDuration } from '../../protocol/quantities.ts';
import { formatPartial, isBeyond } from '../../protocol/roles.ts';
import type { AgentRoom } from '../run/why-waiting.ts';
import { whyWaiting } from '../run/why-waiting.ts';
import type { JobSpec } from './job-spec.ts';
import type { QueueLook } from './queue.ts';
import type { QueueSettings } from './settings.ts';

/** Everything that may stand in the way of a job. */
export interface JobSituation {
  readonly look: QueueLook;
  readonly settings: Omit<QueueSettings, 'processor'>;
  readonly spec: JobSpec;
  /** With its executor, if that is not there. */
  readonly need: Resources;
  /** Jobs before it, of those that were looked at. */
  readonly before: number;
  readonly active: number;
  /** Active jobs of its group. */
  readonly activeInGroup: number;
  /** Held by the tasks of the queue. */
  readonly held: Resources;
  readonly rooms: readonly AgentRoom[];
}

/** @returns what stands in the way, the nearest first: the queue's own rules, then the cluster, then those before it */
export function whyJobWaits(situation: JobSituation): string {
  const { before, spec, need, rooms } = situation;
  const rule = ruleInTheWay(situation);
  if (rule !== undefined) return rule;
  const where = whyWaiting(rooms, need, spec.attributes);
  if (before === 0) return where;
  const jobs = before === 1 ? 'one job is' : `${String(before)} jobs are`;
  return `${jobs} before it; ${where}`;
}

function ruleInTheWay(situation: JobSituation): string | undefined {
  const { look, settings, spec, active, activeInGroup, held } = situation;
  if (look.isPaused) return 'the queue is paused';
  if (look.limitedMs > 0) {
    return `the rate limit is used up for ${formatDuration(look.limitedMs)} more`;
  }
  if (look.room === 0)
    return 'as many jobs are active as the global concurrency of the queue allows';
  if (active >= settings.concurrency) {
    return `${String(active)} jobs are active, and --concurrency allows ${String(settings.concurrency)}`;
  }
  const { groupLimit, quota } = settings;
  if (groupLimit !== undefined && activeInGroup >= groupLimit) {
    const group = spec.group === '' ? 'without a group' : `of group ${spec.group}`;
    return `${String(activeInGroup)} jobs ${group} are active, and --group-limit allows ${String(groupLimit)}`;
  }
  if (quota && isBeyond(addResources(held, spec.resources), quota, spec.resources)) {
    return `the jobs of the queue hold ${formatResources(held)}, and their quota is ${formatPartial(quota)}`;
  }
  return undefined;
}
