/**
 * What a job asks for, in Kaon's units: read from its data, completed with what its queue says. The one place that knows the
 * fields which producers may write; docs/bullmq.md tells them. Pure.
 */
import { z } from 'zod';
import type { Uri } from '../../protocol/command.ts';
import { CommandInfo, Uri as UriSchema } from '../../protocol/command.ts';
import { Labels } from '../../protocol/fields.ts';
import { URIS_MAX_ITEMS } from '../../protocol/limits.ts';
import { formatBytes } from '../../protocol/quantities.ts';
import type { Amounts, Resources } from '../../protocol/resources.ts';
import { PRIORITY_DEFAULT } from '../../protocol/task.ts';
import { Cpus, duration, Mem, OtherResources, TaskPriority } from './job-quantities.ts';

/** Largest data of a job that becomes a command, bytes of JSON: it travels with the launch. */
export const COMMAND_DATA_MAX_BYTES = 128 * 1024;
/** Largest data of a job for a processor, bytes of JSON. */
export const PROCESSOR_DATA_MAX_BYTES = 1024 * 1024;
/** Up to here a command finds the data of its job in its environment, characters. */
const DATA_VARIABLE_MAX_CHARS = 64 * 1024;
/** Longest SIGKILL delay, as for any task. */
const GRACE_MAX_MS = 3_600_000;

/** What the jobs of a queue have unless they say otherwise, and who runs them. */
export interface JobDefaults {
  readonly resources: Resources;
  /** Of their tasks, as far as the master preempts; the order of the queue is BullMQ's. */
  readonly priority: number;
  readonly attributes: Readonly<Record<string, string>>;
  readonly user: string | undefined;
  readonly timeoutMs: number | undefined;
  readonly killGraceMs: number;
  /** Commands share the executor of this name; undefined: each has a unit of its own. */
  readonly executor: string | undefined;
  /** Jobs are run by a processor, and their data is its own. */
  readonly hasProcessor: boolean;
  /** Users that a job may name; undefined: any. */
  readonly allowedUsers: readonly string[] | undefined;
}

/** How a job is run. */
export interface JobSpec {
  readonly resources: Resources;
  readonly priority: number;
  readonly attributes: Readonly<Record<string, string>>;
  /** Whose turn it is among the jobs of a queue; '' for all that name none. */
  readonly group: string;
  readonly timeoutMs: number | undefined;
  readonly killGraceMs: number;
  readonly user: string | undefined;
  readonly executor: string | undefined;
  /** Absent: the queue's processor does it. */
  readonly command?: {
    readonly argv: readonly string[];
    readonly environment: Readonly<Record<string, string>>;
  };
  readonly uris: readonly Uri[];
}

/** Of a job that is not run. */
export const NO_SPEC: JobSpec = {
  resources: { cpuMillis: 0, memMib: 0 },
  priority: PRIORITY_DEFAULT,
  attributes: {},
  group: '',
  timeoutMs: undefined,
  killGraceMs: 0,
  user: undefined,
  executor: undefined,
  uris: [],
};

/** A job as far as its spec goes. */
export interface SpecifiedJob {
  readonly id: string;
  readonly name: string;
  readonly queue: string;
  /** JSON of its data, as it is in Redis; anything if that is too long. */
  readonly data: string;
  readonly dataBytes: number;
}

/** The spec, or why there is none: words for `failedReason`. */
export type SpecResult =
  { readonly ok: true; readonly spec: JobSpec } | { readonly ok: false; readonly message: string };

/** What a job may say besides its command. */
const ProcessorFields = z.strictObject({
  cpus: Cpus.optional(),
  mem: Mem.optional(),
  resources: OtherResources.optional(),
  priority: TaskPriority.optional(),
  timeout: duration(315_360_000_000).optional(),
  killGrace: duration(GRACE_MAX_MS).optional(),
  attributes: Labels.optional(),
  group: z
    .union([z.string().max(200), z.number()])
    .transform(String)
    .optional(),
});

/** What a job that is a command may say. */
const CommandFields = ProcessorFields.extend({
  /** A list is executed as it is, a string by `sh -c`. */
  command: z.union([
    z
      .string()
      .min(1)
      .transform((line) => ['sh', '-c', line]),
    CommandInfo.shape.argv,
  ]),
  env: CommandInfo.shape.environment,
  uris: z
    .array(
      z.union([
        z
          .string()
          .min(1)
          .transform((uri) => ({ uri })),
        z.looseObject({}),
      ]),
    )
    .max(URIS_MAX_ITEMS)
    .optional(),
  user: CommandInfo.shape.user,
  executor: z
    .union([z.literal(false), z.string().regex(/^[A-Za-z0-9][\w.-]{0,39}$/, 'not a name')])
    .optional(),
});
type Fields = z.infer<typeof ProcessorFields> & Partial<z.infer<typeof CommandFields>>;

/** JSON Schema of what producers may write, for docs and editors. */
export function jobSchemas(): { readonly command: unknown; readonly processor: unknown } {
  const options = { io: 'input', unrepresentable: 'any' } as const;
  return {
    command: z.toJSONSchema(CommandFields, options),
    processor: z.toJSONSchema(ProcessorFields, options),
  };
}

/**
 * Reads a job.
 *
 * @returns the spec with the defaults of its queue, or which field is wrong and how it should be
 */
export function specOf(job: SpecifiedJob, defaults: JobDefaults): SpecResult {
  const max = defaults.hasProcessor ? PROCESSOR_DATA_MAX_BYTES : COMMAND_DATA_MAX_BYTES;
  if (job.dataBytes > max) {
    return invalid(
      `its data has ${formatBytes(job.dataBytes)}, and may have ${formatBytes(max)}; put it where the job can fetch it`,
    );
  }
  const data = parseJson(job.data);
  if (data === NOT_JSON) return invalid('its data is not JSON');
  return defaults.hasProcessor
    ? processorSpec(data, defaults)
    : commandSpec({ job, data, defaults });
}

function processorSpec(data: unknown, defaults: JobDefaults): SpecResult {
  const own = isRecord(data) && 'kaon' in data ? data['kaon'] : {};
  const fields = ProcessorFields.safeParse(own);
  if (!fields.success) return invalid(wordsOf(fields.error, 'kaon', ProcessorFields));
  return { ok: true, spec: { ...commonOf(fields.data, defaults), uris: [] } };
}

function commandSpec(given: {
  readonly job: SpecifiedJob;
  readonly data: unknown;
  readonly defaults: JobDefaults;
}): SpecResult {
  const { job, data, defaults } = given;
  const isWrapped = isRecord(data) && isRecord(data['kaon']);
  const own = isWrapped ? data['kaon'] : data;
  if (!isRecord(own) || !('command' in own)) return invalid(`it has no command: ${EXAMPLE}`);
  const fields = CommandFields.safeParse(own);
  if (!fields.success) {
    return invalid(wordsOf(fields.error, isWrapped ? 'kaon' : '', CommandFields));
  }
  const uris = z.array(UriSchema).safeParse(fields.data.uris ?? []);
  if (!uris.success) return invalid(wordsOf(uris.error, 'uris', undefined));
  const problem = problemOfUser(fields.data.user, defaults);
  if (problem !== undefined) return invalid(problem);
  return { ok: true, spec: { ...commandOf(job, fields.data, defaults), uris: uris.data } };
}

function commandOf(
  job: SpecifiedJob,
  fields: z.infer<typeof CommandFields>,
  defaults: JobDefaults,
): Omit<JobSpec, 'uris'> {
  const common = commonOf(fields, defaults);
  const { user = common.user, executor = common.executor, command, env } = fields;
  return {
    ...common,
    user,
    executor: executor === false ? undefined : executor,
    command: { argv: command, environment: { ...variablesOf(job), ...env } },
  };
}

const EXAMPLE = 'data {"command": ["echo", "hello"]} or {"command": "echo hello"}';

function problemOfUser(
  user: string | undefined,
  { allowedUsers }: JobDefaults,
): string | undefined {
  if (user === undefined || allowedUsers?.includes(user) !== false) return undefined;
  const allowed = allowedUsers.length === 0 ? 'none' : allowedUsers.join(', ');
  return `field user: jobs of this queue may not run as ${user}; allowed: ${allowed}`;
}

function commonOf(fields: Fields, defaults: JobDefaults): Omit<JobSpec, 'uris'> {
  return {
    resources: resourcesOf(fields, defaults.resources),
    priority: fields.priority ?? defaults.priority,
    attributes: { ...defaults.attributes, ...fields.attributes },
    group: fields.group ?? '',
    timeoutMs: fields.timeout ?? defaults.timeoutMs,
    killGraceMs: fields.killGrace ?? defaults.killGraceMs,
    user: defaults.user,
    executor: defaults.executor,
  };
}

/** Each resource that a job names is as the job has it; 0 takes away what its queue would give it. */
function resourcesOf(fields: Fields, defaults: Resources): Resources {
  const named = Object.entries({ ...defaults.others, ...fields.resources });
  const others: Amounts = Object.fromEntries(named.filter(([, amount]) => amount > 0));
  return {
    cpuMillis: fields.cpus ?? defaults.cpuMillis,
    memMib: fields.mem ?? defaults.memMib,
    ...(Object.keys(others).length > 0 && { others }),
  };
}

/** How a command finds its job. */
function variablesOf({ id, name, queue, data }: SpecifiedJob): Record<string, string> {
  const clean = (text: string): string => text.replaceAll('\0', '');
  return {
    KAON_JOB_ID: clean(id),
    KAON_JOB_NAME: clean(name),
    KAON_JOB_QUEUE: clean(queue),
    ...(data.length <= DATA_VARIABLE_MAX_CHARS && { KAON_JOB_DATA: data }),
  };
}

const NOT_JSON = Symbol('not JSON');

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return NOT_JSON; // The caller says so.
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function invalid(problem: string): SpecResult {
  return { ok: false, message: `the job is not valid: ${problem}` };
}

/** The first problem: its field, what is wrong, and for an unknown field what there is. */
function wordsOf({ issues }: z.ZodError, above: string, schema: z.ZodObject | undefined): string {
  const [issue] = issues;
  if (!issue) return 'nobody knows why';
  const path = [...(above === '' ? [] : [above]), ...issue.path.map(String)].join('.');
  if (issue.code === 'unrecognized_keys') {
    const known = schema ? Object.keys(schema.shape).sort().join(', ') : '';
    const unknown = issue.keys.map((key) => JSON.stringify(key.slice(0, 60))).join(', ');
    return `there is no field ${unknown}${path === '' ? '' : ` in ${path}`}; there are ${known}`;
  }
  const message = issueWords(issue);
  return `${path === '' ? 'its data' : `field ${path}`}: ${message}`;
}

function issueWords(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_union') return unionWords(issue);
  if (issue.code === 'invalid_key') return issue.issues[0]?.message ?? issue.message;
  return issue.message;
}

function unionWords(issue: z.core.$ZodIssueInvalidUnion): string {
  const messages = issue.errors.flat().map(({ message }) => message);
  return [...new Set(messages)].join(', or ');
}
