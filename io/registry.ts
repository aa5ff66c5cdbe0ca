/**
 * Reads what the leader has written: registry, history, events. Changes nothing. Pages through what may be long, so
 * that nobody else waits for it; what it returns is therefore a picture over some milliseconds and not of one moment.
 * A record that cannot be read (written by another version) is left out, counted, and told.
 */
import type { Redis } from 'ioredis';
import type { z } from 'zod';
import { decodeWith } from '../protocol/codec.ts';
import type { Keys, RegistryName } from '../protocol/keys.ts';
import { REGISTRY_NAMES } from '../protocol/keys.ts';
import {
  AgentRecord,
  ClusterRecord,
  EndedTask,
  ExecutorRecord,
  FrameworkRecord,
  OfferRecord,
  TaskRecord,
} from '../protocol/records.ts';
import type { RegistryRecords } from '../protocol/records.ts';
import { RoleRecord } from '../protocol/roles.ts';
import { addResources, largerOf, NO_RESOURCES } from '../protocol/resources.ts';
import type { Resources } from '../protocol/resources.ts';
import { isTerminal } from '../protocol/task-state.ts';

/** Fields of a hash, or entries of a stream, that one call asks for. */
const PAGE = 500;

/** As much of `RedisStore` as reading takes. */
export interface RegistrySource {
  readonly redis: Redis;
  readonly keys: Keys;
  nowMs(): Promise<number>;
}

/** A record that was left out, and why. */
export interface Unreadable {
  readonly where: string;
  readonly problem: string;
}

/** Everything that the registry holds, at about one moment. */
export interface Cluster extends RegistryRecords {
  /** By the clock of Redis, as all times in the records. */
  readonly nowMs: number;
  readonly unreadable: readonly Unreadable[];
}

/** @returns all registries; cost: one pass over each */
export async function readCluster(source: RegistrySource): Promise<Cluster> {
  const unreadable: Unreadable[] = [];
  const read = <T>(name: RegistryName, schema: z.ZodType<T>): Promise<T[]> =>
    readRecords(source, name, schema, unreadable);
  const [nowMs, cluster, roles, agents, frameworks, offers, executors, tasks] = await Promise.all([
    source.nowMs(),
    read('cluster', ClusterRecord),
    read('roles', RoleRecord),
    read('agents', AgentRecord),
    read('frameworks', FrameworkRecord),
    read('offers', OfferRecord),
    read('executors', ExecutorRecord),
    read('tasks', TaskRecord),
  ]);
  return { nowMs, cluster, roles, agents, frameworks, offers, executors, tasks, unreadable };
}

/**
 * The records of one registry. Each page is decoded before the next one is asked for, so that a process which does other
 * things too gets to do them.
 *
 * @param unreadable what cannot be read is added here
 */
export async function readRecords<T>(
  { redis, keys }: RegistrySource,
  name: RegistryName,
  schema: z.ZodType<T>,
  unreadable: Unreadable[],
): Promise<T[]> {
  // HSCAN may return a field twice while the hash changes.
  const records = new Map<string, T>();
  let cursor = '0';
  do {
    const [next, fields] = await redis.hscan(keys.registry[name], cursor, 'COUNT', PAGE);
    cursor = next;
    for (let index = 0; index + 1 < fields.length; index += 2) {
      const [key = '', text = ''] = fields.slice(index, index + 2);
      const [record] = decodeRecords(name, [[key, text]], schema, unreadable);
      if (record !== undefined) records.set(key, record);
    }
  } while (cursor !== '0');
  return [...records.values()];
}

function decodeRecords<T>(
  name: RegistryName,
  records: Iterable<readonly [string, string]>,
  schema: z.ZodType<T>,
  unreadable: Unreadable[],
): T[] {
  const readable: T[] = [];
  for (const [key, text] of records) {
    const decoded = decodeWith(schema, text);
    if (decoded.ok) readable.push(decoded.value);
    else unreadable.push({ where: `registry:${name} ${key}`, problem: decoded.message });
  }
  return readable;
}

/**
 * All registries and the newest entry of the event log, as of one moment. Redis does nothing else meanwhile: for a busy
 * cluster only, whose registry cannot be read in pages between two commits.
 */
export async function readClusterAtOnce(
  source: RegistrySource,
): Promise<{ readonly cluster: Cluster; readonly entry: string }> {
  const { redis, keys } = source;
  const nowMs = await source.nowMs();
  const transaction = redis.multi();
  for (const name of REGISTRY_NAMES) transaction.hgetall(keys.registry[name]);
  const replies = await transaction.xrevrange(keys.events, '+', '-', 'COUNT', 1).exec();
  const values = (replies ?? []).map(([error, value]) => {
    if (error) throw error;
    return value;
  });
  const [newest] = (values.at(-1) ?? []) as readonly (readonly [string, unknown])[];
  const unreadable: Unreadable[] = [];
  const read = <T>(name: RegistryName, schema: z.ZodType<T>): T[] => {
    const records = (values[REGISTRY_NAMES.indexOf(name)] ?? {}) as Record<string, string>;
    return decodeRecords(name, Object.entries(records), schema, unreadable);
  };
  const cluster = {
    nowMs,
    cluster: read('cluster', ClusterRecord),
    roles: read('roles', RoleRecord),
    agents: read('agents', AgentRecord),
    frameworks: read('frameworks', FrameworkRecord),
    offers: read('offers', OfferRecord),
    executors: read('executors', ExecutorRecord),
    tasks: read('tasks', TaskRecord),
    unreadable,
  };
  return { cluster, entry: newest?.[0] ?? '0-0' };
}

/** @returns the record of one agent, or undefined if there is none (or it cannot be read) */
export async function readAgent(
  source: RegistrySource,
  agentId: string,
): Promise<AgentRecord | undefined> {
  const text = await source.redis.hget(source.keys.registry.agents, agentId);
  const decoded = text === null ? undefined : decodeWith(AgentRecord, text);
  return decoded?.ok === true ? decoded.value : undefined;
}

/** @returns the record of one live task, or undefined if there is none (or it cannot be read) */
export async function readTask(
  source: RegistrySource,
  key: string,
): Promise<TaskRecord | undefined> {
  const text = await source.redis.hget(source.keys.registry.tasks, key);
  if (text === null) return undefined;
  const decoded = decodeWith(TaskRecord, text);
  return decoded.ok ? decoded.value : undefined;
}

/**
 * Tasks that have ended, newest first.
 *
 * @param unreadable entries that were left out are added here
 * @param sinceMs nothing that ended before; default: everything that is kept
 */
export async function* readHistory(
  { redis, keys }: RegistrySource,
  unreadable: Unreadable[],
  sinceMs = 0,
): AsyncGenerator<EndedTask> {
  let end = '+';
  for (;;) {
    const entries = await redis.xrevrange(
      keys.history,
      end,
      String(Math.max(0, sinceMs)),
      'COUNT',
      PAGE,
    );
    for (const [id, fields] of entries) {
      end = `(${id}`;
      const decoded = decodeWith(EndedTask, fieldOf(fields, 'task'));
      if (decoded.ok) yield decoded.value;
      else unreadable.push({ where: `history ${id}`, problem: decoded.message });
    }
    if (entries.length < PAGE) return;
  }
}

/** @returns the value of a field in a stream entry's list of names and values; '' if it is not there */
export function fieldOf(fields: readonly string[], name: string): string {
  const at = fields.findIndex((field, index) => index % 2 === 0 && field === name);
  return at < 0 ? '' : (fields[at + 1] ?? '');
}

/** Resources of tasks that have not ended and of executors, and of outstanding offers, of an agent or a framework. */
export interface Use {
  readonly used: Resources;
  readonly offered: Resources;
  readonly taskCount: number;
  readonly executorCount: number;
}

const NO_USE: Use = {
  used: NO_RESOURCES,
  offered: NO_RESOURCES,
  taskCount: 0,
  executorCount: 0,
};

/**
 * What the master counts of a task that has not ended: its resources, or the larger of old and new while its agent has not
 * answered a resize.
 */
export function countedOf({ resources, resize }: TaskRecord): Resources {
  if (!resize) return resources;
  return largerOf(resources, resize.resources);
}

/** @returns what each agent (or each framework) holds; ask with `useOf` */
export function sumUse(
  { tasks, executors, offers }: Pick<Cluster, 'tasks' | 'executors' | 'offers'>,
  by: 'agentId' | 'frameworkId',
): ReadonlyMap<string, Use> {
  const uses = new Map<string, Use>();
  for (const executor of executors) {
    const use = uses.get(executor[by]) ?? NO_USE;
    uses.set(executor[by], {
      ...use,
      used: addResources(use.used, executor.info.resources),
      executorCount: use.executorCount + 1,
    });
  }
  for (const task of tasks) {
    if (isTerminal(task.state)) continue;
    const use = uses.get(task[by]) ?? NO_USE;
    uses.set(task[by], {
      ...use,
      used: addResources(use.used, countedOf(task)),
      taskCount: use.taskCount + 1,
    });
  }
  for (const offer of offers) {
    const use = uses.get(offer[by]) ?? NO_USE;
    uses.set(offer[by], { ...use, offered: addResources(use.offered, offer.resources) });
  }
  return uses;
}

/** @returns the use of one agent or framework; all zero if it has none */
export function useOf(uses: ReadonlyMap<string, Use>, id: string): Use {
  return uses.get(id) ?? NO_USE;
}
