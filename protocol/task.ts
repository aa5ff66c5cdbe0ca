/**
 * Shapes that messages share: what a framework, an agent, an offer, a task and a status are.
 * Objects ignore keys that they do not know, because a newer peer may send more.
 */
import { z } from 'zod';
import {
  CommandInfo,
  HealthCheck,
  KILL_GRACE_DEFAULT_MS,
  Uri,
  WhenUnreachable,
} from './command.ts';
import { ExecutorInfo, PositiveResources } from './executor.ts';
import { DurationMs, Labels, Text, TimestampMs } from './fields.ts';
import {
  AgentId,
  ExecutorId,
  FrameworkId,
  LaunchId,
  OfferId,
  ReservationId,
  TaskGroupId,
  TaskId,
  UpdateId,
} from './ids.ts';
import { DATA_MAX_CHARS, TEXT_MAX_CHARS, URIS_MAX_ITEMS } from './limits.ts';
import { AssignedNumbers, NumberRanges } from './numbers.ts';
import { OfferConstraints } from './offer-constraints.ts';
import { OfferReservation, StaticReservations } from './reservations.ts';
import { Amounts, Resources } from './resources.ts';
import { ROLE_DEFAULT, RoleName } from './roles.ts';
import { TaskReason, TaskSource, TaskState } from './task-state.ts';

/** More than anybody has been seen to need: each is asked in every round. */
export const FRAMEWORK_ROLES_MAX = 100;
/** Seconds-to-live of a framework that is away: one week, as Mesos's users end up choosing; its default of 0 kills tasks. */
export const FAILOVER_TIMEOUT_DEFAULT_MS = 604_800_000;

/** A framework as it describes itself when it registers. */
export const FrameworkInfo = z.object({
  frameworkId: FrameworkId,
  name: z.string().min(1).max(128),
  /** For people: who runs it, and where. */
  user: Text.default(''),
  hostname: Text.default(''),
  /** Under which it works; of one with several, the first of `roles`. */
  role: RoleName.default(ROLE_DEFAULT),
  /** All of its roles. Absent: `role` alone. */
  roles: z.array(RoleName).min(1).max(FRAMEWORK_ROLES_MAX).optional(),
  /** How long its tasks go on without it; then it is removed and they are killed. */
  failoverTimeoutMs: DurationMs.default(FAILOVER_TIMEOUT_DEFAULT_MS),
  labels: Labels.default({}),
  /** What agents must be like to be offered to it, role by role. Absent: it may be offered any. */
  offerConstraints: OfferConstraints.optional(),
  /** Name of the principal that has registered it, by the word of the master; what a framework says here does not count. */
  principal: z.string().max(64).optional(),
});
export type FrameworkInfo = z.infer<typeof FrameworkInfo>;

/** @returns all roles of a framework, each once; the first is that of requests that name none */
export function rolesOf({ role, roles }: Pick<FrameworkInfo, 'role' | 'roles'>): readonly string[] {
  return roles ? [...new Set(roles)] : [role];
}

/** Of tasks and of what is asked for; a higher one goes first. */
export const Priority = z.int().min(-1000).max(1000);
/** Of a task that does not say. */
export const PRIORITY_DEFAULT = 0;

/** An agent as it describes itself when it registers. */
export const AgentInfo = z.object({
  agentId: AgentId,
  hostname: z.string().min(1).max(255),
  /** What the agent gives to tasks: the node's, less what is reserved for the system. */
  resources: Resources,
  /** `os`, `kernel`, `arch`, `hostname`, `systemd`, `cgroup`, and the operator's own. */
  attributes: Labels,
  /** Which units it has of what is numbered: as many as `resources` says. */
  numbers: NumberRanges.optional(),
  /** What of it is kept for roles, by its own settings. Absent: nothing. */
  reservations: StaticReservations.optional(),
});
export type AgentInfo = z.infer<typeof AgentInfo>;

/**
 * A task to launch: a command alone in its own unit (`command`), or a task of an executor (`executor`). Of the default
 * executor it has both. Fixed once it is launched, but for its resources. See `problemOf` for what goes together.
 */
export const TaskInfo = z.object({
  taskId: TaskId,
  name: z.string().min(1).max(128),
  resources: PositiveResources.extend({ others: Amounts.optional() }),
  command: CommandInfo.optional(),
  executor: ExecutorInfo.optional(),
  /** Tasks of one launch and one executor with the same group start together, and fail together. */
  groupId: TaskGroupId.optional(),
  /** For the executor's own use. */
  data: z.string().max(DATA_MAX_CHARS).optional(),
  /** Put into the sandbox before the start. */
  uris: z.array(Uri).max(URIS_MAX_ITEMS).default([]),
  /** Done by the default executor. */
  healthCheck: HealthCheck.optional(),
  /** Wall-clock limit, enforced by systemd or the default executor; absent: none. */
  maxCompletionTimeMs: DurationMs.min(1).optional(),
  killGracePeriodMs: DurationMs.max(3_600_000).default(KILL_GRACE_DEFAULT_MS),
  whenUnreachable: WhenUnreachable.default('keep'),
  /**
   * Of the exclusive tasks of one name in a framework at most one runs: another is refused while the first may still be
   * running, on a node that cannot be reached for example.
   */
  exclusive: z.boolean().default(false),
  /** Where the master preempts, a task of a lower one may have to make room for one of a higher one below the same role. */
  priority: Priority.optional(),
  labels: Labels.default({}),
  /** Of a framework with several: under which it is counted. The master sets it, by the offer. */
  role: RoleName.optional(),
  /** Which ports, GPUs and the like it has. The agent sets it, when it takes the task. */
  numbers: AssignedNumbers.optional(),
  /** Reservations whose directories it has. The agent sets it, by what the master says of the launch. */
  directories: z.array(ReservationId).optional(),
});
export type TaskInfo = z.infer<typeof TaskInfo>;

/**
 * What of a task does not go together.
 *
 * @returns words for who has described it; undefined if all is well
 */
export function problemOf(task: TaskInfo): string | undefined {
  const { command, executor } = task;
  if (!executor) return problemOfCommand(task);
  const problem = executor.command
    ? problemOfCustom(task, executor)
    : problemOfDefault(command, executor);
  if (problem !== undefined) return problem;
  if (JSON.stringify(task.whenUnreachable) !== JSON.stringify(executor.whenUnreachable)) {
    return 'a task has the whenUnreachable of its executor, because they share one container';
  }
  return undefined;
}

function problemOfDefault(
  command: CommandInfo | undefined,
  { user }: ExecutorInfo,
): string | undefined {
  if (!command) return 'a task of the default executor must have a command';
  if (command.user !== undefined && command.user !== user) {
    return 'a task of the default executor runs as the user of its executor';
  }
  if (command.sandboxing) {
    return 'a task of the default executor is in the sandbox of its executor: say there what it needs';
  }
  return undefined;
}

function problemOfCustom(
  { command, healthCheck }: TaskInfo,
  { user, sandboxing }: ExecutorInfo,
): string | undefined {
  if (command) {
    return 'a task must have either an executor with a command of its own or a command, not both';
  }
  if (user !== undefined || sandboxing) {
    const what = sandboxing ? 'sandboxing' : 'user';
    return `the ${what} of an executor with a command of its own belongs into that command`;
  }
  return healthCheck && 'health checks are done by the default executor only';
}

function problemOfCommand(task: TaskInfo): string | undefined {
  if (!task.command) return 'a task must have either an executor or a command';
  if (task.healthCheck) return 'a health check needs the default executor: name an executor';
  if (task.groupId !== undefined) return 'a group of tasks needs an executor';
  return undefined;
}

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
  priority: true,
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
  /** Of a task of an executor. */
  executorId: ExecutorId.optional(),
  /** Of a task with a health check, what the last change was to. */
  healthy: z.boolean().optional(),
  /** From the executor, for the framework. */
  data: z.string().max(DATA_MAX_CHARS).optional(),
  /** systemd unit of the task, so that `systemctl status` is one paste away. */
  unit: z.string().max(255).optional(),
  /** Which ports, GPUs and the like it has. */
  numbers: AssignedNumbers.optional(),
  certificate: DeathCertificate.optional(),
});
export type TaskStatus = z.infer<typeof TaskStatus>;

/** Resources of one agent, for one framework, until `expiresAtMs`. */
export const Offer = z.object({
  offerId: OfferId,
  frameworkId: FrameworkId,
  /** Of the framework: under which it is made, and what is launched on it counts. */
  role: RoleName.default(ROLE_DEFAULT),
  agentId: AgentId,
  hostname: z.string(),
  resources: Resources,
  attributes: Labels,
  /** All of it is of this reservation; absent: it is not reserved. */
  reservation: OfferReservation.optional(),
  /** Executors of the framework that are on this agent already: a task of one needs no resources for it. */
  executorIds: z.array(ExecutorId).default([]),
  expiresAtMs: TimestampMs,
});
export type Offer = z.infer<typeof Offer>;

/** How long a framework does not want what it declines. Default as in Mesos: 5 s. */
export const REFUSE_DEFAULT_MS = 5000;
export const Filters = z.object({ refuseMs: DurationMs.default(REFUSE_DEFAULT_MS) });
export type Filters = z.infer<typeof Filters>;

/** Agents that a request may exclude. */
export const REQUEST_NOT_ON_MAX = 1000;

/** In which order agents are looked at for a request. */
export const Placement = z.enum(['spread', 'pack']);
export type Placement = z.infer<typeof Placement>;

/** What a framework still needs: `count` times `resources`, on agents that have all of `attributes`. */
export const ResourceRequest = z.object({
  resources: Resources,
  count: z.int().min(1).max(1_000_000).default(1),
  attributes: Labels.default({}),
  /** One of the framework's; absent: its first. */
  role: RoleName.optional(),
  /** Of the tasks that it is for. Default 0. */
  priority: Priority.optional(),
  /** Units of it in outstanding offers of one agent, at most; absent: what fits. */
  maxPerAgent: z.int().min(1).max(1_000_000).optional(),
  /** Agents that will not do: where it runs one already, for example. */
  notOn: z.array(AgentId).max(REQUEST_NOT_ON_MAX).optional(),
  /** Which agents come first: those with the least that is free (`pack`) or the most (`spread`); absent: in turn. */
  placement: Placement.optional(),
  /** All units of it in one round, or none. Default false. */
  gang: z.boolean().optional(),
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
  /** Of a task of an executor, and the launch of that executor. */
  executorId: ExecutorId.optional(),
  executorLaunchId: LaunchId.optional(),
  /** What has been promised of its end; absent from an agent that does not know (any more). */
  rules: TaskRules.optional(),
  /** Absent: the framework's. */
  role: RoleName.optional(),
  /** Reservations whose directories it has. Absent: none. */
  directories: z.array(ReservationId).optional(),
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
