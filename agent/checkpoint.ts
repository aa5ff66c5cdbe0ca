/**
 * What must outlive the agent of each task that it has not finished with: what was launched and how it ended. One small
 * file a launch in `live/`, written before the unit is started, moved to `ended/` once the framework knows the end, and
 * removed some minutes later. systemd keeps the rest; where a file is lost, the unit itself says whose it is
 * (`unit-record.ts`).
 */
import { readFileSync, renameSync, rmSync, utimesSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Log } from '../io/log.ts';
import { decodeWith } from '../protocol/codec.ts';
import { codeOf } from '../protocol/errors.ts';
import { AgentId, LaunchId } from '../protocol/ids.ts';
import type { Resources } from '../protocol/resources.ts';
import { DeathCertificate, FrameworkInfo, TaskInfo } from '../protocol/task.ts';
import { TaskReason } from '../protocol/task-state.ts';
import { ENDED_KEEP_COUNT, ENDED_KEEP_MS } from './core/ended.ts';
import { replaceFile } from './files.ts';

/** Version of the files; one that this agent does not know is set aside. */
export const CHECKPOINT_VERSION = 2;

/** What is kept on disk of one launch until its framework knows its end; of an executor as of the task that its unit is. */
export const TaskCheckpoint = z.object({
  version: z.literal(CHECKPOINT_VERSION),
  agentId: AgentId,
  framework: FrameworkInfo,
  detached: z.boolean(),
  task: TaskInfo,
  launchId: LaunchId,
  unit: z.string(),
  sandbox: z.string(),
  /** The boot during which it was launched: after another one its unit cannot be there. */
  bootId: z.string(),
  /** True if it was written again from the unit's own record: `task` lacks parts, and its command has been executed. */
  rebuilt: z.boolean().default(false),
  /** Who has asked for its end. */
  kill: z.enum(['framework', 'operator', 'preemption', 'master', 'agent']).optional(),
  /** When SIGKILL follows, milliseconds since 1970 by this node's clock. */
  killAtMs: z.number().optional(),
  ended: z
    .object({
      result: z.string(),
      certificate: DeathCertificate,
      fenced: z.boolean().optional(),
    })
    .optional(),
  /** What is known of an end that nobody saw: the unit was gone. */
  lost: z.string().optional(),
  /** Why there was never a process. */
  failed: z
    .object({
      exitStatus: z.int().optional(),
      message: z.string(),
      reason: TaskReason.optional(),
      isStopped: z.boolean().optional(),
    })
    .optional(),
});
export type TaskCheckpoint = z.infer<typeof TaskCheckpoint>;

/** What may change while a task runs. */
export type CheckpointChange = Pick<
  TaskCheckpoint,
  'framework' | 'detached' | 'kill' | 'killAtMs'
> & { readonly resources: Resources };

/** The checkpoint of a launch whose end was acknowledged. */
export interface EndedCheckpoint {
  readonly checkpoint: TaskCheckpoint;
  /** How long ago that was. */
  readonly agoMs: number;
}

/** The agent's small files. Every write is whole or not at all. */
export interface Checkpoints {
  /** @throws the operating system's error, e.g. ENOSPC */
  write(checkpoint: TaskCheckpoint): void;
  /** Changes what may change while a task runs; does nothing if there is no such checkpoint. @throws as `write` */
  update(launchId: LaunchId, change: CheckpointChange): void;
  /** Removes one whose task was never started: a full disk allows that when it does not allow to write. */
  discard(launchId: LaunchId): void;
  /** Moves one to those of ended launches. */
  retire(launchId: LaunchId): void;
  /** Removes the checkpoint of an ended launch. */
  forgetEnded(launchId: LaunchId): void;
  /** All that can be read; one that cannot is named in the log and set aside as `*.bad`. */
  readAll(): Promise<TaskCheckpoint[]>;
  /** Ended ones, oldest first; those that are too old or too many are removed. */
  readEnded(nowMs: number): Promise<EndedCheckpoint[]>;
}

/** @param directory the agent's state directory; made if it is missing */
export async function openCheckpoints(directory: string, log: Log): Promise<Checkpoints> {
  const live = join(directory, 'live');
  const ended = join(directory, 'ended');
  await mkdir(live, { recursive: true, mode: 0o700 });
  await mkdir(ended, { recursive: true, mode: 0o700 });
  const pathIn = (folder: string, launchId: LaunchId): string => join(folder, `${launchId}.json`);
  return {
    write: (checkpoint) => {
      replaceFile(pathIn(live, checkpoint.launchId), JSON.stringify(checkpoint));
    },
    update: (launchId, change) => {
      updateFile(pathIn(live, launchId), change);
    },
    discard: (launchId) => {
      rmSync(pathIn(live, launchId), { force: true });
    },
    retire: (launchId) => {
      retireFile(pathIn(live, launchId), pathIn(ended, launchId));
    },
    forgetEnded: (launchId) => {
      rmSync(pathIn(ended, launchId), { force: true });
    },
    readAll: () => readCheckpoints(live, log),
    readEnded: (nowMs) => readEnded(ended, nowMs, log),
  };
}

function updateFile(path: string, change: CheckpointChange): void {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return; // The disk was full when it was launched; its unit has the record.
    throw error;
  }
  const decoded = decodeWith(TaskCheckpoint, text);
  if (!decoded.ok) return;
  const { resources, ...rest } = change;
  const task = { ...decoded.value.task, resources };
  replaceFile(path, JSON.stringify({ ...decoded.value, ...rest, task }));
}

/** Its time is that of the acknowledgement from then on. */
function retireFile(from: string, to: string): void {
  try {
    const now = new Date();
    utimesSync(from, now, now);
    renameSync(from, to);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error; // Never written, because the disk was full.
  }
}

async function readCheckpoints(directory: string, log: Log): Promise<TaskCheckpoint[]> {
  const checkpoints: TaskCheckpoint[] = [];
  for (const name of (await readdir(directory)).sort()) {
    const path = join(directory, name);
    if (name.endsWith('.tmp')) await rm(path, { force: true });
    if (!name.endsWith('.json')) continue;
    const decoded = decodeWith(TaskCheckpoint, await readFile(path, 'utf8'));
    if (decoded.ok) checkpoints.push(decoded.value);
    else {
      log.error('checkpoint.bad', { path, error: decoded.message, keptAs: `${path}.bad` });
      await rename(path, `${path}.bad`);
    }
  }
  return checkpoints;
}

async function readEnded(directory: string, nowMs: number, log: Log): Promise<EndedCheckpoint[]> {
  const files: { path: string; agoMs: number }[] = [];
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    files.push({ path, agoMs: Math.max(0, nowMs - (await stat(path)).mtimeMs) });
  }
  files.sort((a, b) => a.agoMs - b.agoMs || (a.path < b.path ? 1 : -1));
  const kept: EndedCheckpoint[] = [];
  for (const { path, agoMs } of files) {
    const isWanted =
      path.endsWith('.json') && agoMs <= ENDED_KEEP_MS && kept.length < ENDED_KEEP_COUNT;
    const decoded = isWanted ? decodeWith(TaskCheckpoint, await readFile(path, 'utf8')) : undefined;
    if (decoded?.ok) kept.push({ checkpoint: decoded.value, agoMs });
    else {
      if (decoded) log.warn('checkpoint.bad', { path, error: decoded.message, action: 'removed' });
      await rm(path, { force: true });
    }
  }
  return kept.reverse();
}
