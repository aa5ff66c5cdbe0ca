/** What a scheduler says of its queues, in their Redis: so that anybody can be told why a job waits. */
import type { Redis } from 'ioredis';
import type { FrameworkId } from '../../framework/index.ts';
import type { QueueSettings, SchedulerSettings } from './settings.ts';

/** One queue, as its scheduler has it. */
export interface PublishedQueue {
  readonly frameworkId: FrameworkId;
  readonly scheduler: string;
  readonly role: string;
  readonly prefix: string;
  readonly lockMs: number;
  /** Without the code of a processor. */
  readonly settings: Omit<QueueSettings, 'processor'>;
}

/** @returns key of the hash that has them by their names */
export function publishedKey(prefix: string): string {
  return `${prefix}-kaon:queues`;
}

/** Says which queues there are and how their jobs are run; it stays when the scheduler has gone. */
export async function publishQueues(
  redis: Redis,
  frameworkId: FrameworkId,
  { name, role, prefix, lockMs, queues }: SchedulerSettings,
): Promise<void> {
  const fields = queues.flatMap(({ processor: _processor, ...settings }) => {
    const published: PublishedQueue = {
      ...{ frameworkId, role, prefix, lockMs, settings },
      scheduler: name,
    };
    return [settings.name, JSON.stringify(published)];
  });
  await redis.hset(publishedKey(prefix), ...fields);
}

/** @returns those that were said, by name; what another version has written is left out */
export async function readPublished(
  redis: Redis,
  prefix: string,
): Promise<Map<string, PublishedQueue>> {
  const found = await redis.hgetall(publishedKey(prefix));
  const queues = new Map<string, PublishedQueue>();
  for (const [name, text] of Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const published = JSON.parse(text) as Partial<PublishedQueue>;
    const isComplete = published.settings?.defaults !== undefined && published.frameworkId;
    if (isComplete) queues.set(name, published as PublishedQueue);
  }
  return queues;
}
