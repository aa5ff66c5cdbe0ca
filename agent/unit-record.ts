/**
 * What each unit says of itself: whose task it is, in a field of the unit that systemd keeps as long as the unit
 * (`LogExtraFields=`). It is what a task is known from when its checkpoint is lost: damaged, from another version, or
 * never written because the disk was full. Base64url, because systemd writes such fields into its own unit files and
 * reads them again on `daemon-reload`, where blanks and quotes would end a word.
 */
import { z } from 'zod';
import type { Decoded } from '../protocol/codec.ts';
import { decodeWith } from '../protocol/codec.ts';
import type { CommandInfo } from '../protocol/command.ts';
import type { ExecutorInfo } from '../protocol/executor.ts';
import { AgentId, LaunchId } from '../protocol/ids.ts';
import { FrameworkInfo, TaskInfo } from '../protocol/task.ts';

/** The journal field that holds the record. */
export const UNIT_RECORD_FIELD = 'KAON_UNIT';

const VERSION = 1;
/** Of the command line so much is kept, characters: enough to recognise it by. */
const ARGV_KEEP_CHARS = 1024;
/** Labels that take more than this are left out, characters of JSON. */
const LABELS_KEEP_CHARS = 1024;
const TEXT_KEEP_CHARS = 256;

/** Everything that an agent needs to go on with a task whose command has been executed. */
export const UnitRecord = z.object({
  version: z.literal(VERSION),
  cluster: z.string(),
  agentId: AgentId,
  framework: FrameworkInfo,
  detached: z.boolean(),
  /** Without its environment, and with the beginning of its command line only. */
  task: TaskInfo,
  launchId: LaunchId,
  bootId: z.string(),
  sandbox: z.string(),
});
export type UnitRecord = z.infer<typeof UnitRecord>;

/** @returns the value of `UNIT_RECORD_FIELD`, at most some 8 KiB */
export function encodeUnitRecord(record: Omit<UnitRecord, 'version'>): string {
  const { framework, task } = record;
  const short: UnitRecord = {
    ...record,
    version: VERSION,
    framework: {
      ...framework,
      user: framework.user.slice(0, TEXT_KEEP_CHARS),
      hostname: framework.hostname.slice(0, TEXT_KEEP_CHARS),
      labels: smallLabels(framework.labels),
    },
    task: shortTask(task),
  };
  return Buffer.from(JSON.stringify(short)).toString('base64url');
}

/** What is needed to go on with it; of an executor who it is, because its tasks are told apart by that. */
function shortTask(task: TaskInfo): TaskInfo {
  const { command, executor, data: _data, ...rest } = task;
  return {
    ...rest,
    ...(command && { command: shortCommand(command) }),
    ...(executor && { executor: shortExecutor(executor) }),
    uris: [],
    labels: smallLabels(task.labels),
  };
}

function shortExecutor(info: ExecutorInfo): ExecutorInfo {
  const { command, data: _data, ...rest } = info;
  const own = command && { command: shortCommand(command) };
  return { ...rest, ...own, uris: [], labels: smallLabels(info.labels) };
}

function shortCommand({ argv, user }: CommandInfo): CommandInfo {
  return { argv: firstOf(argv), environment: {}, ...(user !== undefined && { user }) };
}

/** @returns the record, or what is wrong with it */
export function decodeUnitRecord(text: string): Decoded<UnitRecord> {
  return decodeWith(UnitRecord, Buffer.from(text, 'base64url').toString());
}

function firstOf(argv: readonly string[]): string[] {
  let left = ARGV_KEEP_CHARS;
  const kept: string[] = [];
  for (const argument of argv) {
    if (left <= 0) break;
    kept.push(argument.slice(0, left));
    left -= Math.max(argument.length, 1);
  }
  return kept;
}

function smallLabels(labels: TaskInfo['labels']): TaskInfo['labels'] {
  return JSON.stringify(labels).length <= LABELS_KEEP_CHARS ? labels : {};
}
