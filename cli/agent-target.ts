/** The agent that an operator's command is about. */
import type { RedisStore } from '../io/redis-store.ts';
import type { AgentRecord } from '../protocol/records.ts';
import { isTerminal } from '../protocol/task-state.ts';
import { pickAgent } from './agent-view.ts';
import { readCluster, tellUnreadable } from './registry.ts';
import type { Cluster } from './registry.ts';
import { countOf, escapeControls } from './words.ts';

/** @throws KaonError as `pickAgent` */
export async function findAgent(
  store: RedisStore,
  asked: string,
): Promise<{ agent: AgentRecord; cluster: Cluster }> {
  const cluster = await readCluster(store);
  tellUnreadable(cluster.unreadable);
  return { agent: pickAgent(asked, cluster.agents), cluster };
}

/** @returns how many tasks are on it: `2 tasks on it now` */
export function tasksOn({ tasks }: Cluster, { info }: AgentRecord): string {
  const live = tasks.filter(({ agentId, state }) => agentId === info.agentId && !isTerminal(state));
  return live.length === 0 ? 'no task is on it' : `${countOf(live.length, 'task')} on it now`;
}

/** @returns its id, and its host name if that is another */
export function agentTitle({ info }: AgentRecord): string {
  const host = escapeControls(info.hostname);
  return info.agentId === info.hostname ? `agent ${host}` : `agent ${info.agentId} (${host})`;
}
