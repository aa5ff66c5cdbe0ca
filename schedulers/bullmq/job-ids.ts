/**
 * Names of a job's task: always the same for the same start of the same job, so that a scheduler that comes back finds which
 * task belongs to which job, whatever it has forgotten.
 */
import { createHash } from 'node:crypto';
import type { FrameworkId, TaskId } from '../../framework/index.ts';

/** Characters of the digest: 60 bits, so that among a million jobs no two meet. */
const DIGEST_CHARS = 10;
const QUEUE_MAX_CHARS = 20;
const JOB_MAX_CHARS = 56;

/** Where a job is. */
export interface JobKey {
  /** BullMQ's qualified name: prefix and name. */
  readonly queue: string;
  readonly jobId: string;
}

/** One job of one queue. */
export interface JobRef extends JobKey {
  /** BullMQ's `timestamp`: another one of the same id, after this one was removed, is another job. */
  readonly createdAtMs: number;
}

/** What a task id says of its job. */
export interface TaskIdParts {
  /** Beginning of the name of its queue, or the like of it. */
  readonly queueLabel: string;
  /** The id of the job if that is made of letters, digits, `_`, `:` and `-` only, 56 at most; else the like of it. */
  readonly jobLabel: string;
  readonly digest: string;
  /** How often the job had been started. */
  readonly start: number;
}

/** @returns what tells this job from all others, in letters and digits */
export function jobDigest({ queue, jobId, createdAtMs }: JobRef): string {
  const text = [queue, jobId, String(createdAtMs)].join('\0');
  const bytes = createHash('sha256').update(text).digest();
  return BigInt(`0x${bytes.subarray(0, 8).toString('hex')}`)
    .toString(36)
    .padStart(13, '0')
    .slice(-DIGEST_CHARS);
}

/**
 * @param start how often the job had been started when this task was made, this time included (BullMQ's `attemptsStarted`)
 * @returns `QUEUE.JOB.DIGEST.START`
 */
export function taskIdOf(ref: JobRef, queueName: string, start: number): TaskId {
  const parts = [queueLabelOf(queueName), jobLabel(ref), jobDigest(ref), String(start)];
  return parts.join('.') as TaskId;
}

/** @returns name of the task: of two tasks with the same one only one may run */
export function taskNameOf(ref: JobRef, queueName: string): string {
  return [queueLabelOf(queueName), jobLabel(ref), jobDigest(ref)].join('.');
}

/** @returns how the ids of tasks of this queue begin */
export function queueLabelOf(queueName: string): string {
  return label(queueName, QUEUE_MAX_CHARS);
}

/** @returns undefined for the id of a task that is no job */
export function readTaskId(taskId: string): TaskIdParts | undefined {
  const match = /^([\w:-]+)\.([\w:-]+)\.([0-9a-z]{10})\.(\d+)$/.exec(taskId);
  if (!match) return undefined;
  const [, queueLabel = '', ownLabel = '', digest = '', start] = match;
  return { queueLabel, jobLabel: ownLabel, digest, start: Number(start) };
}

/** The lock of every job that a framework runs: a scheduler that takes over goes on with it. */
export function lockTokenOf(frameworkId: FrameworkId): string {
  return `kaon:${frameworkId}`;
}

function jobLabel({ jobId }: JobKey): string {
  return label(jobId, JOB_MAX_CHARS);
}

function label(text: string, maxChars: number): string {
  const plain = text.replaceAll(/[^A-Za-z0-9_:-]/g, '_').slice(0, maxChars);
  return /^[A-Za-z0-9]/.test(plain) ? plain : `j${plain}`.slice(0, maxChars);
}
