/**
 * What is submitted: a program to be hosted, and how. It travels with each runner's task as a file in its sandbox, so that a
 * runner can launch the next one with nothing but its own sandbox, whatever the registry has lost.
 */
import { gzipSync } from 'node:zlib';
import { z } from 'zod';
import type { TaskDescription } from '../../framework/index.ts';
import { CommandInfo, KILL_GRACE_DEFAULT_MS, Uri } from '../../protocol/command.ts';
import { PositiveResources } from '../../protocol/executor.ts';
import { DurationMs, Labels, ProgramText } from '../../protocol/fields.ts';
import { AgentId, FrameworkId, TaskId } from '../../protocol/ids.ts';
import { ARGV_MAX_ITEMS, MESSAGE_MAX_BYTES, URI_MAX_CHARS } from '../../protocol/limits.ts';
import { KaonError } from '../../protocol/errors.ts';

/** Where a runner finds these in its sandbox. */
export const SUBMISSION_PATH = '.kaon/submission.json';
/** The program, compressed: half the way of what a `data:` URI may hold. */
export const PROGRAM_PATH = '.kaon/program.gz';

/** Times that a program is started again, in a row; `--max-restarts`. */
export const MAX_RESTARTS_DEFAULT = 10;
/** Name in front of the id of the framework that is hosted. */
const HOST_PREFIX = 'submit.';

const Argv = z.array(ProgramText).max(ARGV_MAX_ITEMS);

/** A program to host. */
export const Submission = z.object({
  /** The hosting framework, whose scheduler is the active runner. */
  hostId: FrameworkId,
  /** The program's own framework, the same for ever. */
  frameworkId: FrameworkId,
  name: z.string().min(1).max(64),
  /** Id of the first runner, see `core/family.ts`. */
  family: TaskId,
  program: z.discriminatedUnion('type', [
    /** A module that travels along; `file` is its name in the sandbox. */
    z.object({ type: z.literal('file'), file: z.string().regex(/^[\w.-]+$/), args: Argv }),
    /** A command that is on the nodes, or comes by a URI. */
    z.object({ type: z.literal('command'), argv: Argv.min(1) }),
  ]),
  /** Address of Redis as the nodes see it. */
  redis: z.string(),
  cluster: z.string(),
  environment: CommandInfo.shape.environment,
  user: CommandInfo.shape.user,
  uris: z.array(Uri).default([]),
  /** Runners run only on agents that have all of them. */
  attributes: Labels.default({}),
  resources: PositiveResources,
  killGraceMs: DurationMs.default(KILL_GRACE_DEFAULT_MS),
  isStandbyWanted: z.boolean().default(true),
  maxRestarts: z.int().min(0).default(MAX_RESTARTS_DEFAULT),
  /** The program is stopped when the cluster has not been seen for so long; absent: it goes on. */
  stopAfterMs: DurationMs.optional(),
});
export type Submission = z.infer<typeof Submission>;

/** A runner's own part. */
export const Assignment = z.object({
  /** `first`: takes over from the submitter at once; `standby`: when the active runner is gone. */
  role: z.enum(['first', 'standby']),
  taskId: TaskId,
  agentId: AgentId,
  hostname: z.string(),
});
export type Assignment = z.infer<typeof Assignment>;

/** The content of the file at `SUBMISSION_PATH`. */
export const RunnerFile = z.object({ submission: Submission, assignment: Assignment });
export type RunnerFile = z.infer<typeof RunnerFile>;

/**
 * Starts the command that the agent says it is itself, or the one in PATH. A shell, because at submission nobody knows the
 * node; it waits most of the time, so memory counts more than speed.
 */
const RUNNER_ARGV = [
  '/bin/sh',
  '-c',
  'if [ -n "$KAON_PROGRAM" ]; then exec "${KAON_NODE:-node}" --max-semi-space-size=1 --max-old-space-size=64 "$KAON_PROGRAM" submit-runner; fi; exec kaon submit-runner',
];

/** @returns id of the framework that hosts that one */
export function hostIdOf(frameworkId: FrameworkId): FrameworkId {
  return FrameworkId.parse(`${HOST_PREFIX}${frameworkId}`);
}

/** Longest id of a framework that can be hosted, characters. */
export const HOSTED_ID_MAX_CHARS = 100 - HOST_PREFIX.length;

/** @returns a program as its runners carry it */
export function packProgram(code: string | Buffer): Buffer {
  // The time of the packing would make the same program another one each time.
  return gzipSync(code, { level: 9 });
}

/**
 * The task of a runner.
 *
 * @param packed what `packProgram` has returned, for a program that is a file
 * @throws KaonError `program-too-large`
 */
export function runnerTask(
  submission: Submission,
  assignment: Assignment,
  packed: Buffer | undefined,
): TaskDescription & { readonly taskId: TaskId } {
  const { name, resources, killGraceMs, user, frameworkId } = submission;
  const { taskId, role } = assignment;
  const file = Buffer.from(JSON.stringify({ submission, assignment } satisfies RunnerFile));
  const uris: Uri[] = [dataUri(file, SUBMISSION_PATH)];
  if (packed) uris.push(programUri(packed));
  const task = {
    taskId,
    name,
    resources,
    command: { argv: RUNNER_ARGV, ...(user !== undefined && { user }) },
    uris: [...uris, ...submission.uris],
    killGracePeriodMs: killGraceMs,
    labels: { hosts: frameworkId, runner: role },
  };
  const { length } = JSON.stringify(task);
  if (length > MESSAGE_MAX_BYTES) {
    throw tooLarge(`the task would have ${kib(length)}, and may have ${kib(MESSAGE_MAX_BYTES)}`);
  }
  return task;
}

function programUri(packed: Buffer): Uri {
  const uri = dataUri(packed, PROGRAM_PATH);
  if (uri.uri.length <= URI_MAX_CHARS) return uri;
  const [is, may] = [packed.length, Math.floor(URI_MAX_CHARS / 4) * 3].map(kib);
  throw tooLarge(`the program has ${String(is)} compressed, and may have ${String(may)}`);
}

function tooLarge(message: string): KaonError {
  return new KaonError('program-too-large', message, {
    hint: 'put it where nodes can fetch it, kaon submit --uri http://HOST/program.mjs -- node program.mjs, or give a command that is on the nodes',
  });
}

function dataUri(bytes: Buffer, path: string): Uri {
  const uri = `data:application/octet-stream;base64,${bytes.toString('base64')}`;
  return { uri, path, extract: false, executable: false, cache: false };
}

function kib(bytes: number): string {
  return `${String(Math.ceil(bytes / 1024))} KiB`;
}
