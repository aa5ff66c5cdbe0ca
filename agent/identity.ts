/**
 * Who an agent is, and the newest leader that it has heard of: `agent.json` in its state directory. A node whose file is
 * lost is still the same agent as long as a checkpoint or a unit says so; otherwise its tasks would have no agent.
 */
import { createHash } from 'node:crypto';
import { readFileSync, realpathSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { decodeWith } from '../protocol/codec.ts';
import { codeOf, KaonError } from '../protocol/errors.ts';
import { AgentId } from '../protocol/ids.ts';
import { LeaderInfo } from '../protocol/task.ts';
import { replaceFile } from './files.ts';

const VERSION = 1;

const AgentFile = z.object({
  version: z.literal(VERSION),
  agentId: AgentId,
  cluster: z.string().optional(),
  leaderSeen: LeaderInfo.optional(),
});

/** The stored identity of an agent. */
export interface Identity {
  readonly agentId: AgentId;
  readonly leaderSeen: LeaderInfo | undefined;
  /** Stores the leader that is the newest now. */
  rememberLeader(leader: LeaderInfo): void;
}

/** How to find out who an agent is. */
export interface IdentityOptions {
  /** The agent's state directory. */
  readonly directory: string;
  readonly cluster: string;
  /** The id that the operator has given, if any. */
  readonly wanted: AgentId | undefined;
  /** Ids of agents that have left something in this directory or in units of it; asked if there is no file. */
  readonly traces: () => Promise<readonly AgentId[]>;
  /** The id of a new agent. */
  readonly make: () => AgentId;
}

/**
 * Reads the identity, or makes and stores one.
 *
 * @throws KaonError `agent-state`: the file is damaged, another agent's or another cluster's, or it is lost and what is left names several
 */
export async function openIdentity(options: IdentityOptions): Promise<Identity> {
  const path = join(options.directory, 'agent.json');
  const stored = await readIdentity(path);
  const agentId = stored?.agentId ?? (await recoverId(options)) ?? options.wanted ?? options.make();
  refuseForeign(options, agentId, stored?.cluster);
  const write = (leaderSeen: LeaderInfo | undefined): void => {
    const { cluster } = options;
    replaceFile(path, JSON.stringify({ version: VERSION, agentId, cluster, leaderSeen }));
  };
  if (stored?.cluster === undefined) write(stored?.leaderSeen);
  return { agentId, leaderSeen: stored?.leaderSeen, rememberLeader: write };
}

async function readIdentity(path: string): Promise<z.infer<typeof AgentFile> | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return undefined;
    throw cause;
  }
  const decoded = decodeWith(AgentFile, text);
  if (decoded.ok) return decoded.value;
  throw new KaonError('agent-state', `${path} is not an agent's identity: ${decoded.message}`, {
    hint: 'move the file away: the agent is then known by its tasks, or is a new one if it has none',
  });
}

async function recoverId({ directory, traces }: IdentityOptions): Promise<AgentId | undefined> {
  const ids = [...new Set(await traces())].sort();
  if (ids.length <= 1) return ids[0];
  const found = `tasks of several agents: ${ids.join(', ')}`;
  throw new KaonError('agent-state', `${directory} has no agent.json, and ${found}`, {
    hint: `write {"version":${String(VERSION)},"agentId":"ID"} into it, with the right one of them`,
  });
}

function refuseForeign(
  { directory, cluster, wanted }: IdentityOptions,
  agentId: AgentId,
  storedCluster: string | undefined,
): void {
  const hint = 'give each agent a state directory of its own';
  if (wanted !== undefined && wanted !== agentId) {
    const message = `${directory} belongs to agent ${agentId}, not to ${wanted}`;
    throw new KaonError('agent-state', message, { hint });
  }
  if (storedCluster !== undefined && storedCluster !== cluster) {
    const message = `${directory} belongs to an agent of cluster ${storedCluster}, not of ${cluster}`;
    throw new KaonError('agent-state', message, { hint });
  }
}

/** Names the installation: two nodes with a copy of one state directory have different ones. */
export function nodeOf(directory: string): string {
  return sha256(machineId(), realpathSync(directory)).slice(0, 32);
}

/** Names the units of an agent, in 8 characters: no two agents on one node may have the same, also of different clusters. */
export function agentTagOf(cluster: string, agentId: AgentId): string {
  return sha256(cluster, agentId).slice(0, 8);
}

/** The tag of the agent that a state directory belongs to; undefined if there is none yet, or it cannot be read. */
export function storedAgentTag(directory: string): string | undefined {
  let text: string;
  try {
    text = readFileSync(join(directory, 'agent.json'), 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  const decoded = decodeWith(AgentFile, text);
  if (!decoded.ok || decoded.value.cluster === undefined) return undefined;
  return agentTagOf(decoded.value.cluster, decoded.value.agentId);
}

function sha256(...parts: readonly string[]): string {
  return createHash('sha256').update(parts.join('\0')).digest('hex');
}

/** machine-id(5); a container may have none. */
function machineId(): string {
  try {
    return readFileSync('/etc/machine-id', 'utf8').trim() || hostname();
  } catch {
    return hostname(); // Unreadable or not there: the name is the next best that differs between nodes.
  }
}
