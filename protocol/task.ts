/**
 * Shapes that messages share: what a framework, an agent, an offer, a task and a status are.
 * Objects ignore keys that they do not know, because a newer peer may send more.
 */
import { z } from 'zod';
import { AgentId, FrameworkId, LaunchId, OfferId, TaskId, UpdateId } from './ids.ts';
import {
  ARGV_MAX_ITEMS,
  ENVIRONMENT_MAX_ITEMS,
  LABELS_MAX_ITEMS,
  TASK_CPU_MILLIS_MIN,
  TASK_MEM_MIB_MIN,
  TEXT_MAX_CHARS,
  UNREACHABLE_STOP_MIN_MS,
} from './limits.ts';
import { CPU_MILLIS_MAX, MEM_MIB_MAX, Resources } from './resources.ts';
import { TaskReason, TaskSource, TaskState } from './task-state.ts';

/** Milliseconds since 1970 by the clock of Redis, the only one that the cluster compares. */
const TimestampMs = z.int().min(0);
/** At most ten years, so that a sum of a time and a duration stays a safe integer. */
const DurationMs = z.int().min(0).max(315_360_000_000);
const Text = z.string().max(TEXT_MAX_CHARS);
/** No NUL: neither execve(2) nor D-Bus can carry one. */
const ProgramText = z.string().regex(/^[^\0]*$/, 'must not contain a NUL character');

const atMost = (what: string, max: number) => (record: Record<string, string>) =>
  Object.keys(record).length <= max || `at most ${String(max)} ${what}`;

/** Names and values that mean something to their author only: labels of tasks, attributes of agents. */
export const Labels = z
  .record(z.string().min(1).max(128), z.string().max(1024))
  .refine((record) => atMost('labels', LABELS_MAX_ITEMS)(record) === true, {
    message: `at most ${String(LABELS_MAX_ITEMS)} labels`,
  });
export type Labels = z.infer<typeof Labels>;

/** Seconds-to-live of a framework that is away: one week, as Mesos's users end up choosing; its default of 0 kills tasks. */
export const FAILOVER_TIMEOUT_DEFAULT_MS = 604_800_000;

/** A framework as it describes itself when it registers. */
export const FrameworkInfo = z.object({
  frameworkId: FrameworkId,
  name: z.string().min(1).max(128),
  /** For people: who runs it, and where. */
  user: Text.default(''),
  hostname: Text.default(''),
  role: z.string().min(1).max(128).default('*'),
  /** How long its tasks go on without it; then it is removed and they are killed. */
  failoverTimeoutMs: DurationMs.default(FAILOVER_TIMEOUT_DEFAULT_MS),
  labels: Labels.default({}),
});
export type FrameworkInfo = z.infer<typeof FrameworkInfo>;

/** An agent as it describes itself when it registers. */
export const AgentInfo = z.object({
  agentId: AgentId,
  hostname: z.string().min(1).max(255),
  /** What the agent gives to tasks: the node's, less what is reserved for the system. */
  resources: Resources,
  /** `os`, `kernel`, `arch`, `hostname`, `systemd`, `cgroup`, and the operator's own. */
  attributes: Labels,
});
export type AgentInfo = z.infer<typeof AgentInfo>;

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
  /** Absent: the agent's own user. */
  user: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_.-]{0,31}$|^\d{1,10}$/, 'not a user name')
    .optional(),
  /** Absolute; absent: the sandbox. */
  workingDirectory: ProgramText.startsWith('/', 'must be an absolute path').optional(),
});
export type CommandInfo = z.infer<typeof CommandInfo>;

const TaskResources = z.object({
  cpuMillis: z.int().min(TASK_CPU_MILLIS_MIN).max(CPU_MILLIS_MAX),
  memMib: z.int().min(TASK_MEM_MIB_MIN).max(MEM_MIB_MAX),
});

/**
 * What becomes of a running task when its agent has had no contact with the cluster for some time: nothing (`keep`), or
 * systemd stops it on the node after `stopAfterMs`, agent alive or not. Only then can a replacement be safe.
 */
export const WhenUnreachable = z.union([
  z.literal('keep'),
  z.object({ stopAfterMs: DurationMs.min(UNREACHABLE_STOP_MIN_MS) }),
]);
export type WhenUnreachable = z.infer<typeof WhenUnreachable>;

/** A task to launch. Fixed once it is launched. */
export const TaskInfo = z.object({
  taskId: TaskId,
  name: z.string().min(1).max(128),
  resources: TaskResources,
  command: CommandInfo,
  /** Wall-clock limit, enforced by systemd; absent: none. */
  maxCompletionTimeMs: DurationMs.min(1).optional(),
  killGracePeriodMs: DurationMs.max(3_600_000).default(KILL_GRACE_DEFAULT_MS),
  whenUnreachable: WhenUnreachable.default('keep'),
  /**
   * Of the exclusive tasks of one name in a framework at most one runs: another is refused while the first may still be
   * running, on a node that cannot be reached for example.
   */
  exclusive: z.boolean().default(false),
  labels: Labels.default({}),
});
export type TaskInfo = z.infer<typeof TaskInfo>;

/**
 * The death certificate: what the kernel and systemd know of a task that has ended.
 * A number that the node could not read is absent, never 0.
 */
export const DeathCertificate = z.object({
  exitCode: z.int().min(0).max(255).optional(),
  signal: z.int().min(1).max(64).optional(),
  /** Processes of the task that the kernel ended for memory. */
  oomKills: z.int().min(0).optional(),
  memoryPeakBytes: z.int().min(0).optional(),
  memoryLimitBytes: z.int().min(0).optional(),
  cpuUsec: z.int().min(0).optional(),
  throttledUsec: z.int().min(0).optional(),
  startedAtMs: TimestampMs.optional(),
  endedAtMs: TimestampMs.optional(),
  /** Lengths of the output files, so that a reader knows when it has everything. */
  stdoutBytes: z.int().min(0).optional(),
  stderrBytes: z.int().min(0).optional(),
  /** Last output, decoded as UTF-8 for people (`kaon logs` has the bytes). */
  stdoutTail: z.string().optional(),
  stderrTail: z.string().optional(),
});
export type DeathCertificate = z.infer<typeof DeathCertificate>;

/** Of a task, what the master must know to keep its promises when it has lost the rest. */
export const TaskRules = TaskInfo.pick({
  killGracePeriodMs: true,
  whenUnreachable: true,
  exclusive: true,
});
export type TaskRules = z.infer<typeof TaskRules>;

/** What is known of a task at one moment, and who says so. */
export const TaskStatus = z.object({
  frameworkId: FrameworkId,
  taskId: TaskId,
  agentId: AgentId.optional(),
  /** Absent for a task that was never launched. */
  launchId: LaunchId.optional(),
  /** Present if the update wants an acknowledgement. */
  updateId: UpdateId.optional(),
  state: TaskState,
  source: TaskSource,
  reason: TaskReason.optional(),
  /** For people: what happened, with the numbers. */
  message: z.string().max(TEXT_MAX_CHARS).optional(),
  /** systemd unit of the task, so that `systemctl status` is one paste away. */
  unit: z.string().max(255).optional(),
  certificate: DeathCertificate.optional(),
});
export type TaskStatus = z.infer<typeof TaskStatus>;

/** Resources of one agent, for one framework, until `expiresAtMs`. */
export const Offer = z.object({
  offerId: OfferId,
  frameworkId: FrameworkId,
  agentId: AgentId,
  hostname: z.string(),
  resources: Resources,
  attributes: Labels,
  expiresAtMs: TimestampMs,
});
export type Offer = z.infer<typeof Offer>;

/** How long a framework does not want what it declines. Default as in Mesos: 5 s. */
export const REFUSE_DEFAULT_MS = 5000;
export const Filters = z.object({ refuseMs: DurationMs.default(REFUSE_DEFAULT_MS) });
export type Filters = z.infer<typeof Filters>;

/** What a framework still needs: `count` times `resources`, on agents that have all of `attributes`. */
export const ResourceRequest = z.object({
  resources: Resources,
  count: z.int().min(1).max(1_000_000).default(1),
  attributes: Labels.default({}),
});
export type ResourceRequest = z.infer<typeof ResourceRequest>;

/** What an agent says of a task when it registers: enough for a master that has never heard of it. */
export const AgentTask = z.object({
  frameworkId: FrameworkId,
  taskId: TaskId,
  launchId: LaunchId,
  name: z.string(),
  resources: Resources,
  state: TaskState,
  unit: z.string().max(255).optional(),
  /** What has been promised of its end; absent from an agent that does not know (any more). */
  rules: TaskRules.optional(),
});
export type AgentTask = z.infer<typeof AgentTask>;

/** A framework as an agent knows it by its tasks: enough to keep its promises when the cluster has lost its memory. */
export const AgentFramework = z.object({
  info: FrameworkInfo,
  /** It left, and its tasks go on to their end. */
  detached: z.boolean().default(false),
});
export type AgentFramework = z.infer<typeof AgentFramework>;

/** A launch that has ended and been acknowledged not long ago: the master may have lost both with its last writes. */
export const EndedLaunch = z.object({
  frameworkId: FrameworkId,
  taskId: TaskId,
  launchId: LaunchId,
});
export type EndedLaunch = z.infer<typeof EndedLaunch>;

/** The leader that a message speaks of. */
export const LeaderInfo = z.object({ masterId: z.string(), epoch: z.int() });
export type LeaderInfo = z.infer<typeof LeaderInfo>;
