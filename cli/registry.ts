/** The registry as commands need it: what agents have to give, and what could not be read, told. */
import { readCluster, readRecords, sumUse, useOf } from '../io/registry.ts';
import type { Cluster, RegistrySource, Unreadable } from '../io/registry.ts';
import { AgentRecord } from '../protocol/records.ts';
import { addResources, subtractResources } from '../protocol/resources.ts';
import type { AgentRoom } from '../schedulers/run/why-waiting.ts';

export {
  countedOf,
  fieldOf,
  readAgent,
  readCluster,
  readClusterAtOnce,
  readHistory,
  readTask,
  sumUse,
  useOf,
} from '../io/registry.ts';
export type { Cluster, RegistrySource, Unreadable, Use } from '../io/registry.ts';

/** The agents that are there, and what each has in all. Cost: one pass over the agents alone. */
export async function readAgentSizes(
  source: RegistrySource,
): Promise<Pick<AgentRoom, 'hostname' | 'total' | 'attributes'>[]> {
  const agents = await readRecords(source, 'agents', AgentRecord, []);
  return agents
    .filter(({ state }) => state === 'active')
    .map(({ info }) => ({
      hostname: info.hostname,
      total: info.resources,
      attributes: info.attributes,
    }));
}

/** What the agents have to give, as far as placement goes. */
export async function readAgentRooms(source: RegistrySource): Promise<AgentRoom[]> {
  return readAgentRoomsOf(await readCluster(source));
}

/** The same of a cluster that has been read. */
export function readAgentRoomsOf(cluster: Cluster): AgentRoom[] {
  const uses = sumUse(cluster, 'agentId');
  return cluster.agents.map(({ info, state }) => {
    const { used, offered } = useOf(uses, info.agentId);
    return {
      hostname: info.hostname,
      active: state === 'active',
      total: info.resources,
      free: subtractResources(info.resources, addResources(used, offered)),
      attributes: info.attributes,
    };
  });
}

/** Says on standard error what had to be left out; nothing if everything was readable. */
export function tellUnreadable(unreadable: readonly Unreadable[]): void {
  const [first] = unreadable;
  if (!first) return;
  const records = unreadable.length === 1 ? 'record' : 'records';
  process.stderr.write(
    `kaon: left out ${String(unreadable.length)} ${records} that this version cannot read; ` +
      `the first is ${first.where}: ${first.problem}\n`,
  );
}
