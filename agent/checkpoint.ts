/**
 * What must outlive the agent: who it is, and for each task that it has not finished with, what was launched and how
 * it ended. One small file a task, written before the unit is started, removed once the framework knows the end.
 * systemd keeps the rest. Files are replaced whole, so a reader never sees half of one.
 */
import { randomBytes } from 'node:crypto';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Log } from '../io/log.ts';
import { decodeWith } from '../protocol/codec.ts';
import { codeOf, KaonError } from '../protocol/errors.ts';
import { AgentId, FrameworkId } from '../protocol/ids.ts';
import { DeathCertificate, TaskInfo } from '../protocol/task.ts';

const VERSION = 1;

const AgentFile = z.object({ version: z.literal(VERSION), agentId: AgentId });

/** What is kept on disk of one launch until its framework knows its end. */
export const TaskCheckpoint = z.object({
  version: z.literal(VERSION),
  frameworkId: FrameworkId,
  frameworkName: z.string(),
  task: TaskInfo,
  launchId: z.string(),
  unit: z.string(),
  sandbox: z.string(),
  /** The boot during which it was launched: after another one its unit cannot be there. */
  bootId: z.string(),
  kill: z.enum(['framework', 'operator']).optional(),
  ended: z.object({ result: z.string(), certificate: DeathCertificate }).optional(),
  /** What is known of an end that nobody saw: the unit was gone. */
  lost: z.string().optional(),
  /** Why there was never a process. */
  failed: z.object({ exitStatus: z.int().optional(), message: z.string() }).optional(),
});
export type TaskCheckpoint = z.infer<typeof TaskCheckpoint>;

/** The agent's small files. Every write is whole or not at all. */
export interface Checkpoints {
  /** The agent's id: the stored one, or a new one that is stored now. */
  agentId(make: () => AgentId): Promise<AgentId>;
  /** @throws the operating system's error, e.g. ENOSPC */
  write(checkpoint: TaskCheckpoint): void;
  remove(launchId: string): void;
  /** All that can be read; one that cannot is named in the log and set aside as `*.bad`. */
  readAll(): Promise<TaskCheckpoint[]>;
}

/** @param directory the agent's state directory; made if it is missing */
export async function openCheckpoints(directory: string, log: Log): Promise<Checkpoints> {
  const live = join(directory, 'live');
  await mkdir(live, { recursive: true, mode: 0o700 });
  const pathOf = (launchId: string): string => join(live, `${launchId}.json`);
  return {
    agentId: (make) => readAgentId(join(directory, 'agent.json'), make),
    write: (checkpoint) => {
      replaceFile(pathOf(checkpoint.launchId), JSON.stringify(checkpoint));
    },
    remove: (launchId) => {
      rmSync(pathOf(launchId), { force: true });
    },
    readAll: () => readCheckpoints(live, log),
  };
}

async function readAgentId(path: string, make: () => AgentId): Promise<AgentId> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if (codeOf(cause) !== 'ENOENT') throw cause;
    const agentId = make();
    replaceFile(path, JSON.stringify({ version: VERSION, agentId }));
    return agentId;
  }
  const decoded = decodeWith(AgentFile, text);
  if (!decoded.ok) {
    throw new KaonError('agent-state', `${path} is not an agent's identity: ${decoded.message}`, {
      hint: 'move the file away to make this node a new agent',
    });
  }
  return decoded.value.agentId;
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

/**
 * Synchronous on purpose: a small file into the page cache takes some 50 us this way, and ten times that in hand-overs
 * between threads, which a launch would wait for. Nothing is flushed: what a power cut loses was on a node that lost
 * its tasks too.
 */
function replaceFile(path: string, text: string): void {
  const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`;
  writeFileSync(temporary, text, { mode: 0o600 });
  renameSync(temporary, path);
}
