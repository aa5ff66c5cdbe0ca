/**
 * What runners read past the master: two records of the registry and a few facts, each by its key, so that it
 * costs the same however large the cluster is.
 */
import type { Redis } from 'ioredis';
import type { z } from 'zod';
import { decodeWith } from '../../protocol/codec.ts';
import { KaonError } from '../../protocol/errors.ts';
import type { FrameworkId } from '../../protocol/ids.ts';
import { TaskId, taskKey } from '../../protocol/ids.ts';
import type { Keys } from '../../protocol/keys.ts';
import { ClusterRecord, FrameworkRecord, TaskRecord } from '../../protocol/records.ts';
import type { HostRecord, HostView } from './core/takeover.ts';

/** As much of a `RedisStore` as this takes. */
export interface RegistryReader {
  readonly redis: Pick<Redis, 'hget'>;
  readonly keys: Keys;
  nowMs(): Promise<number>;
  leader(): Promise<unknown>;
}

/** What an active runner registers the hosting framework with, so that a standby knows it. */
export interface ActiveRunner {
  readonly activeId: TaskId;
  /** When it took over, by the clock of Redis. */
  readonly activeSinceMs: number;
  readonly failures: number;
}

/** The field of the registry `cluster`. */
const CLUSTER_FIELD = 'state';

/** @returns labels of the hosting framework */
export function labelsOf(active: ActiveRunner, hosted: FrameworkId): Record<string, string> {
  return {
    hosts: hosted,
    runner: active.activeId,
    since: String(active.activeSinceMs),
    failures: String(active.failures),
  };
}

/**
 * What the record of the hosting framework says; undefined if it is not there.
 *
 * @throws KaonError `registry-unreadable` for a record of another version, or the error of Redis
 */
export async function readHost(
  reader: RegistryReader,
  hostId: FrameworkId,
): Promise<HostRecord | undefined> {
  const record = await read(reader, FrameworkRecord, [reader.keys.registry.frameworks, hostId]);
  return record && hostOf(record);
}

/**
 * What a standby decides by. Cost: the record of a task may have a program in it, so this is for every few seconds.
 *
 * @throws as `readHost`
 */
export async function readHostView(reader: RegistryReader, hostId: FrameworkId): Promise<HostView> {
  const { registry } = reader.keys;
  const [nowMs, leader, cluster, host] = await Promise.all([
    reader.nowMs(),
    reader.leader(),
    read(reader, ClusterRecord, [registry.cluster, CLUSTER_FIELD]),
    readHost(reader, hostId),
  ]);
  const activeId = host?.activeId;
  const task =
    activeId === undefined
      ? undefined
      : await read(reader, TaskRecord, [registry.tasks, taskKey(hostId, activeId)]);
  return {
    nowMs,
    hasLeader: leader !== undefined,
    recoveringUntilMs: cluster?.recoveringUntilMs ?? 0,
    host,
    active: task && { state: task.state, reason: task.status?.reason },
  };
}

/** @returns whether the cluster has been asked to end that task */
export async function isKillRequested(
  reader: RegistryReader,
  hostId: FrameworkId,
  taskId: TaskId,
): Promise<boolean> {
  const key = taskKey(hostId, taskId);
  const task = await read(reader, TaskRecord, [reader.keys.registry.tasks, key]);
  return task?.killRequested !== undefined;
}

function hostOf({ state, disconnectedAtMs, info: { labels } }: FrameworkRecord): HostRecord {
  const active = TaskId.safeParse(labels['runner']);
  return {
    state,
    disconnectedAtMs,
    activeId: active.success ? active.data : undefined,
    activeSinceMs: numberOf(labels['since']),
    failures: numberOf(labels['failures']),
  };
}

function numberOf(text: string | undefined): number {
  const number = Number(text);
  return Number.isSafeInteger(number) && number >= 0 ? number : 0;
}

async function read<T>(
  { redis }: RegistryReader,
  schema: z.ZodType<T>,
  [key, field]: readonly [string, string],
): Promise<T | undefined> {
  const text = await redis.hget(key, field);
  if (text === null) return undefined;
  const decoded = decodeWith(schema, text);
  if (decoded.ok) return decoded.value;
  // Not "it is not there": from that a standby would draw conclusions.
  throw new KaonError('registry-unreadable', `record ${field} of ${key}: ${decoded.message}`);
}
