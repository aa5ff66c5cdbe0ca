/** From what was typed to the options of a command; everything is checked here, once. */
import { hostname } from 'node:os';
import { readCredential, withPassword } from '../io/credentials.ts';
import type { LogLevel } from '../io/log.ts';
import { redisAddressOf } from '../io/redis-address.ts';
import { AgentId, MasterId, masterIdOfInvocation } from '../protocol/ids.ts';
import {
  ENVIRONMENT_MAX_ITEMS,
  EVENTS_MAX_ENTRIES,
  HISTORY_MAX_ENTRIES,
  LABELS_MAX_ITEMS,
  TASK_CPU_MILLIS_MIN,
  TASK_MEM_MIB_MIN,
  TASKS_PER_LAUNCH_MAX,
  UNREACHABLE_STOP_MIN_MS,
} from '../protocol/limits.ts';
import type { WhenUnreachable } from '../protocol/command.ts';
import { usageError } from './failure.ts';
import { parsePosition } from '../protocol/event-position.ts';
import { choiceOf, countFlagOf, cpusOf, DURATION_MAX_MS, durationOf } from './flags.ts';
import { flagError, memOf, momentOf, pairsOf, placeOf, sizeOf } from './flags.ts';
import { amountsOf, priorityOf, reserveOf, resourcesOf } from './resource-flags.ts';
import type { DurationRange, PairRule } from './flags.ts';
import type {
  AgentCommandOptions,
  AgentResourceOptions,
  ConnectionOptions,
  DevCommandOptions,
  EventsOptions,
  ExecutorsOptions,
  GoneOptions,
  KillOptions,
  ListOptions,
  LogsOptions,
  ReplayOptions,
  ResizeOptions,
  RunOptions,
  StepDownOptions,
  TasksOptions,
} from './options.ts';
import { parseReserveFor } from './reserve-for.ts';
import { checkRole } from './role-name.ts';
import { parseRunSandboxing, parseSandboxSettings } from './sandbox-options.ts';

/** What was typed, by commander's names of the flags. */
export type RawOptions = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

/** From the most to the least. */
export const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];
/** A millisecond at least: where no time at all makes no sense. */
const POSITIVE: DurationRange = { minMs: 1, maxMs: DURATION_MAX_MS };
/** An hour, as the messages have it. */
export const GRACE: DurationRange = { minMs: 0, maxMs: 3_600_000 };

/** Environment variables: `--env`. */
export const VARIABLES: PairRule = {
  key: /^[A-Za-z_][A-Za-z0-9_]*$/,
  keyIs: 'a variable name',
  maxItems: ENVIRONMENT_MAX_ITEMS,
  maxValueChars: 128 * 1024,
  example: 'HOME=/srv',
};
/** Attributes of agents: `--attribute`. */
export const ATTRIBUTES: PairRule = {
  key: /^\S{1,128}$/,
  keyIs: 'a name',
  maxItems: LABELS_MAX_ITEMS,
  maxValueChars: 1024,
  example: 'rack=a1',
};

/**
 * @param environment for `KAON_REDIS` and `KAON_CLUSTER`, and certificates for TLS; flags override them
 * @throws KaonError `usage` for a name that cannot be a cluster's, `redis-url`
 */
export function parseConnection(
  raw: RawOptions,
  environment: Readonly<Record<string, string | undefined>>,
): ConnectionOptions {
  const cluster = text(raw, 'cluster') ?? nonEmpty(environment['KAON_CLUSTER']) ?? 'default';
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(cluster)) {
    const flag = text(raw, 'cluster') === undefined ? 'KAON_CLUSTER' : '--cluster';
    throw flagError(
      { flag, value: cluster },
      'not a name of a cluster; it has 1 to 64 letters, digits, "_", "." and "-"',
    );
  }
  const redis = redisAddressOf(
    {
      redis: text(raw, 'redis'),
      ca: text(raw, 'redisCa'),
      cert: text(raw, 'redisCert'),
      key: text(raw, 'redisKey'),
    },
    environment,
  );
  return { redis: withPassword(redis, readCredential('redis-password', environment)), cluster };
}

/** @throws KaonError `usage` naming the flag, its value and what would be right */
export function parseRunOptions(raw: RawOptions, connection: ConnectionOptions): RunOptions {
  const exclusive = raw['exclusive'] === true;
  if (exclusive && (text(raw, 'instances') ?? '1') !== '1') {
    throw usageError('--exclusive and --instances do not go together: at most one may run');
  }
  return {
    ...connection,
    cpuMillis: cpusOf({ flag: '--cpus', value: text(raw, 'cpus') ?? '0.5' }),
    memMib: memOf({ flag: '--mem', value: text(raw, 'mem') ?? '128M' }),
    ...optionalOthers(amountsOf('--resource', list(raw, 'resource'))),
    environment: pairsOf('--env', list(raw, 'env'), VARIABLES),
    attributes: pairsOf('--attribute', list(raw, 'attribute'), ATTRIBUTES),
    instances: countFlagOf(
      { flag: '--instances', value: text(raw, 'instances') ?? '1' },
      TASKS_PER_LAUNCH_MAX,
    ),
    distinctHosts: raw['distinctHosts'] === true,
    gang: raw['gang'] === true,
    ...optional('placement', text(raw, 'placement'), placementOf),
    detach: raw['detach'] === true,
    whenUnreachable: whenUnreachableOf(text(raw, 'whenUnreachable') ?? 'keep'),
    exclusive,
    ...optionalSandboxing(parseRunSandboxing(raw)),
    ...optional('name', text(raw, 'name'), checkName),
    ...optional('role', text(raw, 'role'), checkRole),
    ...optional('priority', text(raw, 'priority'), priorityOf),
    ...optional('user', text(raw, 'user'), checkUser),
    ...optional('workingDirectory', text(raw, 'workdir'), checkDirectory),
    ...optional('timeoutMs', text(raw, 'timeout'), (value) =>
      durationOf({ flag: '--timeout', value }, POSITIVE),
    ),
    ...optional('killGraceMs', text(raw, 'killGrace'), (value) =>
      durationOf({ flag: '--kill-grace', value }, GRACE),
    ),
  };
}

function optionalOthers(others: RunOptions['others']): Pick<RunOptions, 'others'> {
  return others ? { others } : {};
}

function placementOf(value: string): 'spread' | 'pack' {
  if (value === 'spread' || value === 'pack') return value;
  throw flagError({ flag: '--placement', value }, 'neither spread nor pack');
}

function optionalSandboxing(sandboxing: RunOptions['sandboxing']): Pick<RunOptions, 'sandboxing'> {
  return sandboxing ? { sandboxing } : {};
}

/** `keep`, or `stop:DURATION`. @throws KaonError `usage` */
export function whenUnreachableOf(value: string): WhenUnreachable {
  if (value === 'keep') return 'keep';
  const flag = { flag: '--when-unreachable', value };
  const [, duration] = /^stop:(.*)$/.exec(value) ?? [];
  if (duration === undefined) throw flagError(flag, 'not keep, or stop:DURATION as in stop:5m');
  const inner = { flag: flag.flag, value: duration, typed: value };
  return { stopAfterMs: durationOf(inner, { ...POSITIVE, minMs: UNREACHABLE_STOP_MIN_MS }) };
}

/** @throws KaonError `usage` */
export function parseAgentOptions(
  raw: RawOptions,
  connection: ConnectionOptions,
): AgentCommandOptions {
  return {
    ...connection,
    ...parseAgentResources(raw),
    ...parseUserMode(raw),
    sandboxing: parseSandboxSettings(raw),
    ...optional('stateDirectory', text(raw, 'stateDir'), checkStateDirectory),
    logLevel: choiceOf({ flag: '--log-level', value: text(raw, 'logLevel') ?? 'info' }, LOG_LEVELS),
    ...optional('agentId', text(raw, 'agentId'), checkAgentId),
    ...optional('bus', text(raw, 'bus'), (value) => value),
  };
}

function parseUserMode(raw: RawOptions): Pick<AgentCommandOptions, 'ofUser'> {
  const isUnlimited = raw['unlimited'] === true;
  if (raw['user'] === true) return { ofUser: { isUnlimited } };
  if (isUnlimited)
    throw usageError('--unlimited goes with --user: the agent of a node holds limits');
  return {};
}

/** @throws KaonError `usage` */
export function parseDevOptions(raw: RawOptions, connection: ConnectionOptions): DevCommandOptions {
  return {
    cluster: connection.cluster,
    ...parseAgentResources(raw),
    sandboxing: parseSandboxSettings(raw),
    ...optional('redis', text(raw, 'redis'), () => connection.redis),
    ...optional('stateDirectory', text(raw, 'stateDir'), checkStateDirectory),
  };
}

function parseAgentResources(raw: RawOptions): AgentResourceOptions {
  const least = { cpuMillis: TASK_CPU_MILLIS_MIN, memMib: TASK_MEM_MIB_MIN };
  const stated = text(raw, 'resources');
  const { numbers, ...resources } =
    stated === undefined ? {} : resourcesOf({ flag: '--resources', value: stated }, least, true);
  return {
    resources,
    ...(numbers && { numbers }),
    reserve: reserveOf(text(raw, 'reserve')),
    attributes: pairsOf('--attribute', list(raw, 'attribute'), ATTRIBUTES),
    reserveFor: parseReserveFor(list(raw, 'reserveFor')),
  };
}

/** @throws KaonError `usage` */
export function parseTasksOptions(raw: RawOptions, connection: ConnectionOptions): TasksOptions {
  const limit = { flag: '--limit', value: text(raw, 'limit') ?? '50' };
  return {
    ...parseListOptions(raw, connection),
    all: raw['all'] === true,
    limit: countFlagOf(limit, HISTORY_MAX_ENTRIES),
  };
}

/** Options of the tables that take nothing else. */
export function parseListOptions(raw: RawOptions, connection: ConnectionOptions): ListOptions {
  return { ...connection, json: raw['json'] === true, wide: raw['wide'] === true };
}

/** Nothing of it can be wrong. */
export function parseExecutorsOptions(
  raw: RawOptions,
  connection: ConnectionOptions,
): ExecutorsOptions {
  const framework = optional('framework', nonEmpty(text(raw, 'framework')), (value) => value);
  return { ...parseListOptions(raw, connection), ...framework };
}

/** @param id as it was typed @throws KaonError `usage` */
export function parseResizeOptions(
  raw: RawOptions,
  connection: ConnectionOptions,
  id: string,
): ResizeOptions {
  const [cpus, mem, framework] = [text(raw, 'cpus'), text(raw, 'mem'), text(raw, 'framework')];
  if (cpus === undefined && mem === undefined) {
    throw usageError('nothing to change: give --cpus, --mem or both');
  }
  if (framework !== undefined && id.includes('/')) {
    throw usageError(`--framework and ${id} do not go together: both name a framework`);
  }
  return {
    ...connection,
    resources: {
      ...optional('cpuMillis', cpus, (value) => cpusOf({ flag: '--cpus', value })),
      ...optional('memMib', mem, (value) => memOf({ flag: '--mem', value })),
    },
    ...optional('framework', framework, (value) => value),
  };
}

/** Neither or both of `--stdout` and `--stderr` mean both. @throws KaonError `usage` */
export function parseLogsOptions(raw: RawOptions, connection: ConnectionOptions): LogsOptions {
  const isOneChosen = (raw['stdout'] === true) !== (raw['stderr'] === true);
  return {
    ...connection,
    follow: raw['follow'] === true,
    stdout: !isOneChosen || raw['stdout'] === true,
    stderr: !isOneChosen || raw['stderr'] === true,
    raw: raw['raw'] === true,
    ...optional('lastBytes', text(raw, 'tail'), (value) => sizeOf({ flag: '--tail', value })),
  };
}

/** @throws KaonError `usage` */
export function parseKillOptions(raw: RawOptions, connection: ConnectionOptions): KillOptions {
  const grace = (value: string): number => durationOf({ flag: '--grace', value }, GRACE);
  return { ...connection, ...optional('graceMs', text(raw, 'grace'), grace) };
}

/**
 * @param asked the id on the command line; without it, and without `--current`, that of the start of the unit that runs this
 * @throws KaonError `usage`
 */
export function parseStepDownOptions(
  raw: RawOptions,
  connection: ConnectionOptions,
  asked: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): StepDownOptions {
  if (raw['current'] === true) {
    if (asked === undefined) return connection;
    throw usageError('a master id and --current exclude each other');
  }
  if (asked !== undefined) return { ...connection, masterId: checkMasterId(asked) };
  const invocationId = nonEmpty(environment['INVOCATION_ID']);
  if (invocationId !== undefined)
    return { ...connection, masterId: masterIdOfInvocation(hostname(), invocationId) };
  throw usageError(
    'no master named, and this is no unit of systemd whose master could be meant',
    'kaon status names the leader; kaon step-down --current means it, whoever it is',
  );
}

/** @throws KaonError `usage` */
export function parseEventsOptions(raw: RawOptions, connection: ConnectionOptions): EventsOptions {
  const limit = { flag: '--limit', value: text(raw, 'limit') ?? '50' };
  const [since, from] = [text(raw, 'since'), text(raw, 'from')];
  if (since !== undefined && from !== undefined) {
    throw usageError('--since and --from do not go together: both say where to begin');
  }
  return {
    ...connection,
    json: raw['json'] === true,
    follow: raw['follow'] === true,
    limit: countFlagOf(limit, EVENTS_MAX_ENTRIES),
    ...optional('since', since, (value) => {
      const after = parsePosition(value);
      return after ? { after } : { agoMs: durationOf({ flag: '--since', value }, POSITIVE) };
    }),
    ...optional('since', from, (value) => ({ after: placeOf({ flag: '--from', value }) })),
    ...optional('task', text(raw, 'task'), (value) => value),
  };
}

/** @throws KaonError `usage` */
export function parseReplayOptions(raw: RawOptions, connection: ConnectionOptions): ReplayOptions {
  return {
    ...parseListOptions(raw, connection),
    ...optional('at', text(raw, 'at'), (value) => momentOf({ flag: '--at', value })),
  };
}

/** Nothing of it can be wrong. */
export function parseGoneOptions(raw: RawOptions, connection: ConnectionOptions): GoneOptions {
  return { ...connection, force: raw['force'] === true };
}

function checkName(value: string): string {
  if (value.length >= 1 && value.length <= 128) return value;
  throw flagError({ flag: '--name', value }, 'not a name; it has 1 to 128 characters');
}

/** @returns the name or number of a user. @throws KaonError `usage` */
export function checkUser(value: string): string {
  if (/^[A-Za-z_][A-Za-z0-9_.-]{0,31}$|^\d{1,10}$/.test(value)) return value;
  throw flagError({ flag: '--user', value }, 'not a user name or number');
}

function checkDirectory(value: string): string {
  if (value.startsWith('/') && !value.includes('\0')) return value;
  throw flagError(
    { flag: '--workdir', value },
    'not an absolute path; it is a directory of the agent, write /srv/app',
  );
}

function checkStateDirectory(value: string): string {
  if (value !== '') return value;
  throw flagError({ flag: '--state-dir', value }, 'not a directory');
}

function checkMasterId(value: string): MasterId {
  const id = MasterId.safeParse(value);
  if (id.success) return id.data;
  throw usageError(`not the id of a master: ${value}`, 'kaon status names the leader');
}

function checkAgentId(value: string): AgentId {
  const id = AgentId.safeParse(value);
  if (id.success) return id.data;
  throw flagError({ flag: '--agent-id', value }, id.error.issues[0]?.message ?? 'not an id');
}

/** @returns the value of a flag that takes one; undefined if it was not given */
export function text(raw: RawOptions, key: string): string | undefined {
  const value = raw[key];
  return typeof value === 'string' ? value : undefined;
}

/** @returns the values of a flag that may be repeated */
export function list(raw: RawOptions, key: string): readonly string[] {
  const value = raw[key];
  return Array.isArray(value) ? (value as readonly string[]) : [];
}

function nonEmpty(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}

/** An option that was not given is absent and not undefined (`exactOptionalPropertyTypes`). */
export function optional<K extends string, T>(
  key: K,
  value: string | undefined,
  parse: (value: string) => T,
): Partial<Record<K, T>> {
  return value === undefined ? {} : ({ [key]: parse(value) } as Record<K, T>);
}
