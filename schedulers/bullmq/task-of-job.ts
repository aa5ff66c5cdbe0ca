/** A job as a task: its own unit, a task of an executor that several commands share, or one of its queue's processor. */
import { createHash } from 'node:crypto';
import type {
  ExecutorDescription,
  Resources,
  TaskDescription,
  TaskId,
} from '../../framework/index.ts';
import { PRIORITY_DEFAULT } from '../../protocol/task.ts';
import type { JobRef } from './job-ids.ts';
import { taskNameOf } from './job-ids.ts';
import type { JobSpec } from './job-spec.ts';
import type { ProcessorTask } from './processor-messages.ts';
import type { ProcessorSettings, QueueSettings } from './settings.ts';

/** Of an executor that runs commands, beside those. */
const SHARED_RESOURCES: Resources = { cpuMillis: 50, memMib: 96 };
/** Of the executor of a processor: its own process, and one for each warm process that waits for a job. */
const PROCESSOR_MEM_MIB = 96;
const WARM_MEM_MIB = 64;
const PROCESSOR_CPU_MILLIS = 50;
/** Commands that are over so soon are never reported as running, milliseconds. */
const QUIET_MS = 20;
/** Without a job for so long an executor ends, milliseconds. */
const IDLE_MS = 60_000;
/** Job that travels with its task, characters; a longer one is asked for. */
const JOB_MAX_CHARS = 48_000;
const LABEL_MAX_CHARS = 256;

/** Starts Kaon's executor of processors as the Kaon of the node has it. */
const PROCESSOR_SCRIPT = [
  'program="${KAON_PROGRAM:-$(command -v kaon)}"',
  'exec "${KAON_NODE:-node}" --max-semi-space-size=4 "$(dirname "$(readlink -f "$program")")/processor-executor.js" "$@"',
].join('\n');

/** The job itself, for a processor. */
export interface JobText {
  /** JSON of BullMQ's sandboxed job. */
  readonly json: string;
  readonly token: string;
}

/** @returns the executor that a job of this spec needs; undefined for one with a unit of its own */
export function executorOf(
  spec: JobSpec,
  { name, processor }: QueueSettings,
): ExecutorDescription | undefined {
  if (spec.command) return spec.executor === undefined ? undefined : sharedExecutor(spec);
  return processor && processorExecutor(name, processor, spec.user);
}

function sharedExecutor({ executor = '', user }: JobSpec): ExecutorDescription {
  return {
    executorId: `commands.${executor}${user === undefined ? '' : `.${user}`}`,
    name: executor,
    resources: SHARED_RESOURCES,
    isolation: 'task',
    idleTimeoutMs: IDLE_MS,
    // That a short command runs is nothing that anybody waits for; its job is active since it was taken.
    data: JSON.stringify({ quietMs: QUIET_MS }),
    ...(user !== undefined && { user }),
  };
}

function processorExecutor(
  queueName: string,
  { version, source, warm }: ProcessorSettings,
  user: string | undefined,
): ExecutorDescription {
  const file = 'path' in source ? [source.path] : [];
  const argv = ['/bin/sh', '-c', PROCESSOR_SCRIPT, 'processor', ...file, '--warm', String(warm)];
  const facts = createHash('sha256').update(JSON.stringify([queueName, version, argv, user ?? '']));
  return {
    executorId: `processor.${queueName.replaceAll(/[^\w-]/g, '_').slice(0, 40)}.${facts.digest('hex').slice(0, 10)}`,
    name: queueName.slice(0, 128),
    resources: {
      cpuMillis: PROCESSOR_CPU_MILLIS,
      memMib: PROCESSOR_MEM_MIB + warm * WARM_MEM_MIB,
    },
    command: { argv, ...(user !== undefined && { user }) },
    isolation: 'task',
    idleTimeoutMs: IDLE_MS,
  };
}

/**
 * @param text what a processor gets; not used for a command
 * @returns the task; of two tasks of one job the master lets only one run
 */
export function taskOf(
  {
    taskId,
    ref,
    settings,
    spec,
  }: {
    readonly taskId: TaskId;
    readonly ref: JobRef;
    readonly settings: QueueSettings;
    readonly spec: JobSpec;
  },
  text: () => JobText,
): TaskDescription & { readonly taskId: TaskId } {
  const { resources, priority, timeoutMs, killGraceMs, group, command, uris } = spec;
  const executor = executorOf(spec, settings);
  const clip = (value: string): string => value.slice(0, LABEL_MAX_CHARS);
  return {
    taskId,
    name: taskNameOf(ref, settings.name),
    resources,
    ...(priority !== PRIORITY_DEFAULT && { priority }),
    ...(timeoutMs !== undefined && { maxCompletionTimeMs: timeoutMs }),
    killGracePeriodMs: killGraceMs,
    exclusive: true,
    labels: {
      queue: clip(settings.name),
      job: clip(ref.jobId),
      ...(group !== '' && { group: clip(group) }),
    },
    ...(executor && { executor }),
    ...(command ? { command: commandOf(spec), uris: [...uris] } : { data: dataOf(text()) }),
  };
}

function commandOf({ command, user, executor }: JobSpec): TaskDescription['command'] {
  return {
    argv: [...(command?.argv ?? [])],
    environment: { ...command?.environment },
    // In a shared executor it is the executor that has a user.
    ...(user !== undefined && executor === undefined && { user }),
  };
}

function dataOf({ json, token }: JobText): string {
  const task: ProcessorTask = { token, ...(json.length <= JOB_MAX_CHARS && { job: json }) };
  return JSON.stringify(task);
}
