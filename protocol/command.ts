/**
 * What a task or an executor is made of: its command, the files that it is given, and how it is looked after. No more
 * than that is known here of who runs it.
 */
import { z } from 'zod';
import { DurationMs, ProgramText } from './fields.ts';
import {
  ARGV_MAX_ITEMS,
  ENVIRONMENT_MAX_ITEMS,
  UNREACHABLE_STOP_MIN_MS,
  URI_MAX_CHARS,
} from './limits.ts';
import { Sandboxing } from './sandboxing.ts';

/** Seconds between SIGTERM and SIGKILL unless the task says otherwise. */
export const KILL_GRACE_DEFAULT_MS = 5000;

/** A command line; no shell is involved unless it names one. */
export const CommandInfo = z.object({
  /** `argv[0]`: a bare name is searched in PATH, a relative path starts at the working directory. */
  argv: z.array(ProgramText).min(1).max(ARGV_MAX_ITEMS),
  environment: z
    .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'not a variable name'), ProgramText)
    .refine((record) => Object.keys(record).length <= ENVIRONMENT_MAX_ITEMS, {
      message: `at most ${String(ENVIRONMENT_MAX_ITEMS)} variables`,
    })
    .default({}),
  /** Absent: the one that the node has for tasks. */
  user: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_.-]{0,31}$|^\d{1,10}$/, 'not a user name')
    .optional(),
  /** Absolute; absent: the sandbox. */
  workingDirectory: ProgramText.startsWith('/', 'must be an absolute path').optional(),
  /** Absent: the whole sandbox, and the whole network. */
  sandboxing: Sandboxing.optional(),
});
export type CommandInfo = z.infer<typeof CommandInfo>;

/** A path inside of the sandbox: relative, and never above it. */
const SandboxPath = ProgramText.min(1)
  .max(1024)
  .refine((path) => !path.startsWith('/') && !path.split('/').includes('..'), {
    message: 'must be a relative path inside of the sandbox',
  });

/** A file or an archive that is put into the sandbox before the command is started. */
export const Uri = z.object({
  /** `http:`, `https:`, `file:` or `data:`, or an absolute path on the node. */
  uri: ProgramText.min(1).max(URI_MAX_CHARS),
  /** Name in the sandbox, of a file or of the directory to extract into. Default: the last part of the URI; the sandbox. */
  path: SandboxPath.optional(),
  /** Extract tar (also compressed) and zip. Default: by the end of its name. */
  extract: z.boolean().optional(),
  executable: z.boolean().default(false),
  /** Digest of the file, 64 hexadecimal digits; another one fails the task. */
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits')
    .optional(),
  /** Keep it on the node for other tasks that name the same URI. */
  cache: z.boolean().default(false),
});
export type Uri = z.infer<typeof Uri>;

const Port = z.int().min(1).max(65_535);

/** How it is found out whether a task works. Addresses are of the task's own node. */
export const HealthCheck = z.object({
  check: z.discriminatedUnion('type', [
    /** Exit code 0 is healthy. */
    z.object({ type: z.literal('command'), argv: z.array(ProgramText).min(1).max(ARGV_MAX_ITEMS) }),
    /** Any status from 200 to 399 is healthy. */
    z.object({
      type: z.literal('http'),
      port: Port,
      path: ProgramText.startsWith('/').max(1024).default('/'),
      scheme: z.enum(['http', 'https']).default('http'),
    }),
    /** A connection that is accepted is healthy. */
    z.object({ type: z.literal('tcp'), port: Port }),
  ]),
  /** From the start of the task to the first check. */
  delayMs: DurationMs.default(0),
  /** From the end of one check to the beginning of the next. */
  intervalMs: DurationMs.min(10).default(10_000),
  /** A check that takes longer has failed. */
  timeoutMs: DurationMs.min(1).default(20_000),
  /** So many failures in a row end the task. */
  failuresMax: z.int().min(1).max(1000).default(3),
  /** For so long after the start failures do not count, unless it has been healthy before. */
  gracePeriodMs: DurationMs.default(10_000),
});
export type HealthCheck = z.infer<typeof HealthCheck>;

/**
 * What becomes of a running task when its agent has had no contact with the cluster for some time: nothing (`keep`), or
 * systemd stops it on the node after `stopAfterMs`, agent alive or not. Only then can a replacement be safe.
 */
export const WhenUnreachable = z.union([
  z.literal('keep'),
  z.object({ stopAfterMs: DurationMs.min(UNREACHABLE_STOP_MIN_MS) }),
]);
export type WhenUnreachable = z.infer<typeof WhenUnreachable>;
