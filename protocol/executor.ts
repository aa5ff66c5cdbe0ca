/**
 * Executors: processes of a framework that run its tasks on one node, all in one container whose limits follow them. What
 * one is, and how it is told that two descriptions mean the same one.
 */
import { z } from 'zod';
import { CommandInfo, KILL_GRACE_DEFAULT_MS, Uri, WhenUnreachable } from './command.ts';
import { DurationMs, Labels } from './fields.ts';
import { ExecutorId, FrameworkId, LaunchId } from './ids.ts';
import { DATA_MAX_CHARS, TASK_CPU_MILLIS_MIN, TASK_MEM_MIB_MIN, URIS_MAX_ITEMS } from './limits.ts';
import { CPU_MILLIS_MAX, MEM_MIB_MAX } from './resources.ts';

/** Default time for an executor to register, as in Mesos: one minute. */
export const EXECUTOR_REGISTRATION_TIMEOUT_DEFAULT_MS = 60_000;

/** More than nothing: what a process and its cgroup need at least. */
export const PositiveResources = z.object({
  cpuMillis: z.int().min(TASK_CPU_MILLIS_MIN).max(CPU_MILLIS_MAX),
  memMib: z.int().min(TASK_MEM_MIB_MIN).max(MEM_MIB_MAX),
});

/**
 * An executor as its framework describes it. On one node there is at most one of each (framework, executor id); a task that
 * names the same id with another description is refused.
 */
export const ExecutorInfo = z.object({
  executorId: ExecutorId,
  name: z.string().min(1).max(128),
  /** Its own, on top of what its tasks have; held as long as it lives. */
  resources: PositiveResources,
  /** Absent: the default executor, which runs the commands of its tasks. */
  command: CommandInfo.optional(),
  /** User of the default executor and its tasks; an executor of one's own has it in `command`. */
  user: CommandInfo.shape.user,
  /** Of the default executor and its tasks, likewise. */
  sandboxing: CommandInfo.shape.sandboxing,
  uris: z.array(Uri).max(URIS_MAX_ITEMS).default([]),
  /**
   * `container`: its tasks share one set of limits, the sum of all. `task`: each has a cgroup of its own in the container as
   * well, with its own limits, so that a task which runs out of memory dies alone.
   */
  isolation: z.enum(['container', 'task']).default('container'),
  registrationTimeoutMs: DurationMs.min(1).default(EXECUTOR_REGISTRATION_TIMEOUT_DEFAULT_MS),
  /** From `ShutdownExecutor` to SIGKILL. */
  shutdownGracePeriodMs: DurationMs.max(3_600_000).default(KILL_GRACE_DEFAULT_MS),
  /** Without a task for so long it is shut down. Default: the default executor a minute, others never. */
  idleTimeoutMs: DurationMs.optional(),
  /** Of the container, and so of each task in it. */
  whenUnreachable: WhenUnreachable.default('keep'),
  /** For the executor's own use. */
  data: z.string().max(DATA_MAX_CHARS).optional(),
  labels: Labels.default({}),
});
export type ExecutorInfo = z.infer<typeof ExecutorInfo>;

/** True if both describe the same executor: every field, in whatever order. */
export function isSameExecutor(a: ExecutorInfo, b: ExecutorInfo): boolean {
  return canonical(a) === canonical(b);
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => {
    if (typeof part !== 'object' || part === null || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

/** What an agent says of an executor when it registers: enough for a master that has never heard of it. */
export const AgentExecutor = z.object({
  frameworkId: FrameworkId,
  info: ExecutorInfo,
  /** Of the executor's own launch. */
  launchId: LaunchId,
  unit: z.string().max(255).optional(),
});
export type AgentExecutor = z.infer<typeof AgentExecutor>;
