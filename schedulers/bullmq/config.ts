/**
 * What an operator writes, as flags or as a file, read into settings. A name that does not exist is an error: a limit that is
 * misspelt must not be one that is not there.
 */
import { z } from 'zod';
import type { RateLimiterOptions } from 'bullmq';
import { KaonError } from '../../protocol/errors.ts';
import { CommandInfo, KILL_GRACE_DEFAULT_MS } from '../../protocol/command.ts';
import { Labels } from '../../protocol/fields.ts';
import type { PartialResources } from '../../protocol/roles.ts';
import { PRIORITY_DEFAULT } from '../../protocol/task.ts';
import { Cpus, duration, Mem, OtherResources, TaskPriority } from './job-quantities.ts';
import type { ProcessorSettings, QueueSettings, SchedulerSettings } from './settings.ts';
import { SETTINGS_DEFAULT } from './settings.ts';

const WEEK_MS = 604_800_000;

const Count = z.coerce.number().pipe(z.int().min(1).max(1_000_000));
const Rate = z
  .string()
  .transform((text, cx): RateLimiterOptions => {
    const [, max = '', per = ''] = /^(\d+)\/(.+)$/.exec(text.trim()) ?? [];
    const parsed = duration(WEEK_MS).safeParse(per);
    if (!parsed.success || !/^[1-9]\d{0,8}$/.test(max)) {
      cx.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is not a rate: "100/1m"` });
      return z.NEVER;
    }
    return { max: Number(max), duration: parsed.data };
  })
  .optional();
/** CPU and memory, and any other resource beside them. */
const Quota = z
  .object({ cpus: Cpus.optional(), mem: Mem.optional() })
  .catchall(z.unknown())
  .transform(({ cpus, mem, ...rest }, cx): PartialResources => {
    const others = OtherResources.safeParse(rest);
    for (const { path, message } of others.error?.issues ?? []) {
      cx.addIssue({ code: 'custom', path: [...path], message });
    }
    return {
      ...(cpus !== undefined && { cpuMillis: cpus }),
      ...(mem !== undefined && { memMib: mem }),
      ...(Object.keys(rest).length > 0 && { others: others.data ?? {} }),
    };
  });
const RoleName = z.string().min(1).max(128);

/** What a queue may be told; as flags these are the defaults of all queues. */
export const QueueFields = z.strictObject({
  cpus: Cpus.optional(),
  mem: Mem.optional(),
  resources: OtherResources.optional(),
  priority: TaskPriority.optional(),
  timeout: duration(315_360_000_000).optional(),
  killGrace: duration(3_600_000).optional(),
  attributes: Labels.optional(),
  user: CommandInfo.shape.user,
  allowedUsers: z.array(z.string()).optional(),
  /** Commands share the executor of this name. */
  executor: z
    .string()
    .regex(/^[A-Za-z0-9][\w.-]{0,39}$/, 'not a name')
    .optional(),
  role: RoleName.optional(),
  weight: z.coerce.number().min(0.001).max(1_000_000).optional(),
  quota: Quota.optional(),
  concurrency: Count.optional(),
  groupLimit: Count.optional(),
  rate: Rate,
  /** A file to be sent to the nodes. */
  processor: z.string().min(1).optional(),
  /** A file that the nodes have. */
  processorOnNodes: z.string().startsWith('/', 'must be an absolute path').optional(),
  warm: z.coerce.number().pipe(z.int().min(0).max(64)).optional(),
});
type QueueFields = z.infer<typeof QueueFields>;

const QueueName = z
  .string()
  .min(1)
  .max(200)
  .regex(/^[^:]+$/, 'the name of a queue has no ":"');

/** The whole of a configuration. */
export const BullmqConfig = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][\w-]{0,39}$/, 'has letters, digits, "_" and "-", 40 at most')
    .default(SETTINGS_DEFAULT.name),
  /** Address of the queues' Redis; default: that of the cluster. */
  queueRedis: z.string().optional(),
  prefix: z.string().min(1).max(100).default(SETTINGS_DEFAULT.prefix),
  lockDuration: duration(86_400_000).default(SETTINGS_DEFAULT.lockMs),
  placementTimeout: duration(WEEK_MS).default(SETTINGS_DEFAULT.placementTimeoutMs),
  patience: duration(WEEK_MS).default(SETTINGS_DEFAULT.patienceMs),
  lostMax: z.coerce.number().pipe(z.int().min(0).max(1000)).default(SETTINGS_DEFAULT.lostMax),
  /** On a stop, wait for the jobs that run. */
  drain: z.boolean().default(false),
  defaults: QueueFields.default({}),
  queues: z
    .array(z.union([QueueName, QueueFields.extend({ name: QueueName })]))
    .min(1, 'there must be at least one queue'),
});
export type BullmqConfig = z.infer<typeof BullmqConfig>;

/** Reads the code of a processor and gives it a version. */
export type LoadProcessor = (file: string) => Promise<{ version: string; code: string }>;

/**
 * @param raw as it was written
 * @throws KaonError `config-invalid` naming the first field that is wrong
 */
export function parseConfig(raw: unknown): BullmqConfig {
  const parsed = BullmqConfig.safeParse(raw);
  if (parsed.success) return parsed.data;
  const words = parsed.error.issues.map(({ path, message }) =>
    path.length === 0 ? message : `${path.map(String).join('.')}: ${message}`,
  );
  throw new KaonError('config-invalid', `the configuration is not valid: ${words.join('; ')}`);
}

/**
 * @returns one for each role that the queues have: a framework has one role
 * @throws what `load` throws; KaonError `config-invalid`
 */
export async function settingsOf(
  config: BullmqConfig,
  load: LoadProcessor,
): Promise<SchedulerSettings[]> {
  const byRole = new Map<string, QueueSettings[]>();
  const names = new Set<string>();
  for (const each of config.queues) {
    const { name, ...own } = typeof each === 'string' ? { name: each } : each;
    if (names.has(name)) throw new KaonError('config-invalid', `queue ${name} is there twice`);
    names.add(name);
    const fields = { ...config.defaults, ...own };
    const { role = SETTINGS_DEFAULT.role } = fields;
    byRole.set(role, [...(byRole.get(role) ?? []), await queueSettings(name, fields, load)]);
  }
  const { name, prefix, lockDuration, placementTimeout, patience, lostMax } = config;
  return [...byRole].map(([role, queues]) => ({
    ...{ name, role, prefix, queues, lostMax },
    lockMs: lockDuration,
    placementTimeoutMs: placementTimeout,
    patienceMs: patience,
  }));
}

async function queueSettings(
  name: string,
  fields: QueueFields,
  load: LoadProcessor,
): Promise<QueueSettings> {
  const processor = await processorOf(name, fields, load);
  const { resources } = SETTINGS_DEFAULT;
  return {
    name,
    processor,
    weight: fields.weight ?? SETTINGS_DEFAULT.weight,
    concurrency: fields.concurrency ?? SETTINGS_DEFAULT.concurrency,
    groupLimit: fields.groupLimit,
    limiter: fields.rate,
    quota: fields.quota,
    defaults: {
      resources: {
        cpuMillis: fields.cpus ?? resources.cpuMillis,
        memMib: fields.mem ?? resources.memMib,
        ...(fields.resources && { others: fields.resources }),
      },
      priority: fields.priority ?? PRIORITY_DEFAULT,
      attributes: fields.attributes ?? {},
      user: fields.user,
      timeoutMs: fields.timeout,
      killGraceMs: fields.killGrace ?? KILL_GRACE_DEFAULT_MS,
      executor: fields.executor,
      hasProcessor: processor !== undefined,
      allowedUsers: fields.allowedUsers,
    },
  };
}

async function processorOf(
  queue: string,
  { processor, processorOnNodes, warm = SETTINGS_DEFAULT.warm }: QueueFields,
  load: LoadProcessor,
): Promise<ProcessorSettings | undefined> {
  if (processor !== undefined && processorOnNodes !== undefined) {
    throw new KaonError(
      'config-invalid',
      `queue ${queue} has both a processor that is sent and one that is on the nodes`,
    );
  }
  if (processorOnNodes !== undefined) {
    return { version: processorOnNodes, source: { path: processorOnNodes }, warm };
  }
  if (processor === undefined) return undefined;
  const { version, code } = await load(processor);
  return { version, source: { code }, warm };
}
