/** From what was typed to the configuration of `kaon bullmq`: flags are the fields of its file. */
import { readFileSync } from 'node:fs';
import type { LogLevel } from '../io/log.ts';
import { KaonError, messageOf } from '../protocol/errors.ts';
import type { BullmqConfig } from '../schedulers/bullmq/config.ts';
import { parseConfig } from '../schedulers/bullmq/config.ts';
import { SETTINGS_DEFAULT } from '../schedulers/bullmq/settings.ts';
import type { Given } from './daemon.ts';
import { usageError } from './failure.ts';
import { pairsOf } from './flags.ts';
import type { ConnectionOptions, ListOptions } from './options.ts';
import type { RawOptions } from './parse-options.ts';
import { ATTRIBUTES, parseListOptions } from './parse-options.ts';
import { amountsOf } from './resource-flags.ts';

/** `kaon bullmq`. */
export interface BullmqOptions extends ConnectionOptions {
  readonly config: BullmqConfig;
  readonly queueRedis: string;
  readonly logLevel: LogLevel;
}

/** `kaon bullmq status` and `kaon bullmq why`. */
export interface BullmqStatusOptions extends ListOptions {
  readonly queueRedis: string;
  readonly prefix: string;
}

/** `kaon bullmq cancel`. */
export interface BullmqCancelOptions {
  readonly queueRedis: string;
  readonly prefix: string;
  readonly queue: string;
  readonly jobId: string;
  readonly reason: string;
}

/** Flags that are fields of a queue, under these names. */
const QUEUE_FIELDS = [
  ...['cpus', 'mem', 'timeout', 'killGrace', 'user', 'executor', 'processor', 'processorOnNodes'],
  ...['warm', 'concurrency', 'groupLimit', 'rate', 'priority'],
];
/** Fields of a queue whose flags have other names. */
const FIELD_NAMES: Readonly<Record<string, string>> = {
  attribute: 'attributes',
  resource: 'resources',
  'allow-user': 'allowedUsers',
};
const CONFIG_FIELDS = ['name', 'prefix', 'queueRedis', 'drain'];

/** @throws KaonError `usage`, `config-invalid` */
export function parseBullmqOptions({ raw, connection, structured }: Given): BullmqOptions {
  const { config: path } = raw;
  const file = typeof path === 'string' ? readConfigFile(path) : fieldsOf(structured);
  const queues = [...listOf(file['queues']), ...queuesOf(raw)];
  if (queues.length === 0) {
    throw usageError('which queues? --queue NAME[,NAME...], or --config FILE');
  }
  const config = parseConfig({
    ...file,
    ...given(raw, CONFIG_FIELDS),
    defaults: { ...recordOf(file['defaults']), ...defaultsOf(raw) },
    queues,
  });
  return {
    ...connection,
    config,
    queueRedis: config.queueRedis ?? connection.redis,
    logLevel: (raw['logLevel'] ?? 'info') as LogLevel,
  };
}

/** Keys of the TOML file are named as flags are; here they get the names that the JSON file has. */
function fieldsOf(structured: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { queues, ...rest } = structured;
  return { ...renamed(rest), ...(queues !== undefined && { queues: listOf(queues).map(renamed) }) };
}

function renamed(value: unknown): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(recordOf(value)).map(([key, field]) => [
      FIELD_NAMES[key] ?? key.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase()),
      field,
    ]),
  );
}

function queuesOf(raw: RawOptions): string[] {
  const given = raw['queue'];
  const texts = Array.isArray(given) ? (given as string[]) : [];
  return texts.flatMap((text) => text.split(',').map((name) => name.trim()));
}

function defaultsOf(raw: RawOptions): Record<string, unknown> {
  const attributes = pairsOf('--attribute', (raw['attribute'] ?? []) as string[], ATTRIBUTES);
  const allowedUsers = (raw['allowUser'] ?? []) as string[];
  const resources = amountsOf('--resource', (raw['resource'] ?? []) as string[]);
  const { quota, role } = raw;
  return {
    ...given(raw, QUEUE_FIELDS),
    ...(Object.keys(attributes).length > 0 && { attributes }),
    ...(resources && { resources }),
    ...(allowedUsers.length > 0 && { allowedUsers }),
    ...(typeof role === 'string' && role !== '*' && { role }),
    ...(typeof quota === 'string' && { quota: quotaOf(quota) }),
  };
}

function quotaOf(text: string): Record<string, string> {
  const parts = text.split(',').map((part) => part.split('='));
  if (parts.some((part) => part.length !== 2)) {
    throw usageError(`--quota ${JSON.stringify(text)}: it is written cpus=4,mem=8G`);
  }
  return Object.fromEntries(parts) as Record<string, string>;
}

function given(raw: RawOptions, names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(
    names.flatMap((name) => (raw[name] === undefined ? [] : [[name, raw[name]]])),
  );
}

function readConfigFile(path: string): Record<string, unknown> {
  try {
    const read = JSON.parse(readFileSync(path, 'utf8')) as unknown;
    if (typeof read === 'object' && read !== null && !Array.isArray(read)) {
      return read as Record<string, unknown>;
    }
  } catch (cause) {
    const message = `--config ${path} cannot be read: ${messageOf(cause)}`;
    throw new KaonError('config-invalid', message, { cause });
  }
  throw new KaonError('config-invalid', `--config ${path} is not an object`);
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [];
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** @throws KaonError `usage` */
export function parseBullmqCancelOptions(
  raw: RawOptions,
  connection: ConnectionOptions,
  queue: string,
  jobId: string,
): BullmqCancelOptions {
  if (queue === '' || queue.includes(':')) throw usageError(`${JSON.stringify(queue)} is no queue`);
  const { reason } = raw;
  return {
    ...{ queue, jobId, ...whereOf(raw, connection) },
    reason: typeof reason === 'string' ? reason : '',
  };
}

/** What was typed for `kaon bullmq status` and `kaon bullmq why`. */
export function parseBullmqStatusOptions(
  raw: RawOptions,
  connection: ConnectionOptions,
): BullmqStatusOptions {
  return { ...parseListOptions(raw, connection), ...whereOf(raw, connection) };
}

function whereOf(
  { queueRedis, prefix }: RawOptions,
  { redis }: ConnectionOptions,
): { readonly queueRedis: string; readonly prefix: string } {
  return {
    queueRedis: typeof queueRedis === 'string' ? queueRedis : redis,
    prefix: typeof prefix === 'string' ? prefix : SETTINGS_DEFAULT.prefix,
  };
}
