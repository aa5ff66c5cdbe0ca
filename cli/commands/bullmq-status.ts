/**
 * `kaon bullmq status`: the queues that schedulers work on, and why the first job of each waits; `kaon bullmq why`: the same for
 * one job. Reads, and changes nothing but what every look at a queue does: delayed jobs that are due wait from then on.
 */
import type { Redis } from 'ioredis';
import { endConnection } from '../../io/end-connection.ts';
import { silentLog } from '../../io/log.ts';
import { connectOrFail, connectRedis } from '../../io/redis-connection.ts';
import { addResources, NO_RESOURCES } from '../../protocol/resources.ts';
import { formatBytes } from '../../protocol/quantities.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import { PROCESSOR_DATA_MAX_BYTES, specOf } from '../../schedulers/bullmq/job-spec.ts';
import { lockTokenOf } from '../../schedulers/bullmq/job-ids.ts';
import type { PublishedQueue } from '../../schedulers/bullmq/published.ts';
import { readPublished } from '../../schedulers/bullmq/published.ts';
import type { QueueLook, WaitingJob } from '../../schedulers/bullmq/queue.ts';
import { JobQueue } from '../../schedulers/bullmq/queue.ts';
import { whyJobWaits } from '../../schedulers/bullmq/why-job-waits.ts';
import type { AgentRoom } from '../../schedulers/run/why-waiting.ts';
import type { BullmqStatusOptions } from '../bullmq-options.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import { printListing } from '../print.ts';
import { readAgentRoomsOf, readCluster } from '../registry.ts';
import type { Cluster } from '../registry.ts';
import type { Column } from '../table.ts';

/** Jobs that are looked at: one further behind has so many before it. */
const LOOK_MAX_JOBS = 1000;
const EXIT_NO_SUCH = 3;

interface QueueRow {
  readonly queue: string;
  readonly scheduler: string;
  readonly waiting: number;
  readonly active: number;
  readonly delayed: number;
  readonly failed: number;
  readonly why: string;
}

/** @returns the exit code */
export async function bullmqStatus(options: BullmqStatusOptions): Promise<number> {
  const rows = await withQueues(options, async (queues) => {
    const found: QueueRow[] = [];
    for (const view of queues.values()) found.push(await rowOf(view));
    return found;
  });
  printListing(
    {
      ...{ rows, columns: () => COLUMNS, json: (row: QueueRow) => row, unreadable: [] },
      none: `no kaon bullmq has worked on queues with prefix ${options.prefix}`,
    },
    options,
  );
  return EXIT_OK;
}

const COLUMNS: readonly Column<QueueRow>[] = [
  { title: 'QUEUE', text: ({ queue }) => queue },
  { title: 'SCHEDULER', text: ({ scheduler }) => scheduler },
  { title: 'WAITING', text: ({ waiting }) => String(waiting), align: 'right' },
  { title: 'ACTIVE', text: ({ active }) => String(active), align: 'right' },
  { title: 'DELAYED', text: ({ delayed }) => String(delayed), align: 'right' },
  { title: 'FAILED', text: ({ failed }) => String(failed), align: 'right' },
  { title: 'THE FIRST WAITS BECAUSE', text: ({ why }) => why },
];

/** @returns the exit code */
export async function bullmqWhy(
  options: BullmqStatusOptions,
  name: string,
  jobId: string,
): Promise<number> {
  const words = await withQueues(options, async (queues) => {
    const view = queues.get(name);
    return view ? await wordsOf(view, jobId) : undefined;
  });
  if (words === undefined) {
    process.stderr.write(
      `kaon: no kaon bullmq works on a queue ${name}, or it has no job ${jobId}\n`,
    );
    return EXIT_NO_SUCH;
  }
  process.stdout.write(`${words}\n`);
  return EXIT_OK;
}

/** A queue, and what there is in the cluster. */
interface QueueView {
  readonly published: PublishedQueue;
  readonly queue: JobQueue;
  readonly redis: Redis;
  readonly tasks: readonly TaskRecord[];
  readonly rooms: readonly AgentRoom[];
}

async function withQueues<T>(
  options: BullmqStatusOptions,
  action: (queues: ReadonlyMap<string, QueueView>) => Promise<T>,
): Promise<T> {
  const cluster = await withStore(options, { name: 'bullmq-status' }, readCluster);
  const redis = connectRedis({ url: options.queueRedis, log: silentLog, name: 'bullmq-status' });
  await connectOrFail(redis, options.queueRedis);
  const views = new Map<string, QueueView>();
  try {
    for (const [name, published] of await readPublished(redis, options.prefix)) {
      views.set(name, viewOf(published, cluster, redis));
    }
    return await action(views);
  } finally {
    for (const { queue } of views.values()) await queue.close();
    endConnection(redis);
  }
}

function viewOf(published: PublishedQueue, cluster: Cluster, redis: Redis): QueueView {
  const { frameworkId, prefix, lockMs, settings } = published;
  const queue = new JobQueue({
    ...{ name: settings.name, prefix, redis, log: silentLog, lockMs, limiter: settings.limiter },
    token: lockTokenOf(frameworkId),
    workerName: 'kaon-status',
  });
  const tasks = cluster.tasks.filter(
    (task) =>
      task.frameworkId === frameworkId &&
      task.info?.labels['queue'] === settings.name &&
      !isTerminal(task.state),
  );
  return { published, queue, redis, tasks, rooms: readAgentRoomsOf(cluster) };
}

async function rowOf(view: QueueView): Promise<QueueRow> {
  const { published, queue, redis, tasks } = view;
  const look = await queue.look(1);
  const [delayed, failed] = await Promise.all(
    ['delayed', 'failed'].map((type) => redis.zcard(queue.keyOf(type))),
  );
  const [first] = await queue.read(look.ids, PROCESSOR_DATA_MAX_BYTES);
  return {
    queue: queue.name,
    scheduler: published.scheduler,
    waiting: look.waiting,
    active: tasks.length,
    delayed: delayed ?? 0,
    failed: failed ?? 0,
    why: first ? whyOf(view, look, first) : '',
  };
}

function whyOf(view: QueueView, look: QueueLook, job: WaitingJob): string {
  const { published, tasks, rooms } = view;
  const { settings } = published;
  const result = specOf({ ...job, queue: settings.name }, settings.defaults);
  if (!result.ok) return result.message;
  const { spec } = result;
  const groupOf = (task: TaskRecord): string => task.info?.labels['group'] ?? '';
  return whyJobWaits({
    ...{ look, settings, spec, rooms },
    need: spec.resources,
    before: Math.max(0, look.ids.indexOf(job.id)),
    active: tasks.length,
    activeInGroup: tasks.filter((task) => groupOf(task) === spec.group).length,
    held: tasks.reduce((sum, { resources }) => addResources(sum, resources), NO_RESOURCES),
  });
}

async function wordsOf(view: QueueView, jobId: string): Promise<string | undefined> {
  const { queue, tasks, published } = view;
  const job = await queue.job(jobId);
  if (!job) return undefined;
  const state = await job.getState();
  if (state === 'active') {
    const task = tasks.find(({ info }) => info?.labels['job'] === jobId);
    if (task)
      return `job ${jobId} runs as task ${task.taskId} on agent ${task.agentId}, ${task.state}`;
    return `job ${jobId} is active, and its task is not in the cluster: it is on its way, or was taken by another worker`;
  }
  if (state === 'failed') return `job ${jobId} has failed: ${job.failedReason}`;
  if (state !== 'waiting' && state !== 'prioritized') return `job ${jobId} is ${state}`;
  const look = await queue.look(LOOK_MAX_JOBS);
  if (!look.ids.includes(jobId))
    return `job ${jobId} waits behind more than ${String(look.ids.length)} others`;
  const [waiting] = await queue.read([jobId], PROCESSOR_DATA_MAX_BYTES);
  if (!waiting) return undefined;
  const size = published.settings.defaults.hasProcessor
    ? `, ${formatBytes(waiting.dataBytes)} of data`
    : '';
  return `job ${jobId} waits${size}: ${whyOf(view, look, waiting)}`;
}
