/** Clusters for the benchmark of the allocator: the master's state alone, without Redis, and what changes in it. */
import { allocateHierarchically } from '../master/core/allocator/hierarchical.ts';
import { removeOffer, setAgent, setFramework } from '../master/core/books.ts';
import type { MasterState } from '../master/core/state.ts';
import { createMasterState, MASTER_OPTIONS_DEFAULT } from '../master/core/state.ts';
import { offerResources } from '../master/core/step.ts';
import type { AgentId, FrameworkId, SessionId } from '../protocol/ids.ts';
import type { ResourceRequest } from '../protocol/task.ts';

/** What frameworks want: all that there is, or units of their own size, more of them than there is room for. */
export type Demand = 'anything' | 'stated';

/** A cluster. */
export interface Shape {
  readonly agents: number;
  readonly frameworks: number;
  readonly roles: number;
  readonly demand: Demand;
}

/** A cluster, and what its allocator has cost. */
export interface Cluster {
  readonly state: MasterState;
  /** CPU time in the allocator, milliseconds, and grants, since the last call. */
  readonly spent: () => { readonly ms: number; readonly grants: number };
}

/** The node of Mesos's own benchmark; where sizes of tasks matter one with memory for its cores. */
const NODES = {
  anything: { cpuMillis: 24_000, memMib: 4096 },
  stated: { cpuMillis: 24_000, memMib: 98_304 },
};

/**
 * CPU time of this process, milliseconds: of a shared machine others have a part, and time on the wall would be theirs. With
 * that of the threads that collect garbage.
 */
export function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** @returns a cluster in which nothing is offered yet */
export function createCluster({ agents, frameworks, roles, demand }: Shape): Cluster {
  let [ms, grants] = [0, 0];
  const state = createMasterState(
    { masterId: 'm1', epoch: 1, term: 't' },
    {
      ...MASTER_OPTIONS_DEFAULT,
      allocator: (round) => {
        const startedMs = cpuMs();
        const decided = allocateHierarchically(round);
        ms += cpuMs() - startedMs;
        grants += decided.length;
        return decided;
      },
    },
  );
  for (let index = 0; index < agents; index += 1) setAgent(state, agentRecord(index, demand));
  for (let index = 0; index < frameworks; index += 1) {
    const role = roles === 1 ? '*' : `group-${String(index % 10)}/role-${String(index % roles)}`;
    setFramework(state, frameworkRecord(index, role, demand));
  }
  const spent = (): { ms: number; grants: number } => {
    const was = { ms, grants };
    [ms, grants] = [0, 0];
    return was;
  };
  return { state, spent };
}

/** @returns a cluster whose agents are all out in offers */
export function settle(shape: Shape): Cluster {
  const cluster = createCluster(shape);
  offerResources(cluster.state, 0);
  cluster.spent();
  return cluster;
}

/** So many agents have everything free again, beginning at the agent of that number. */
export function freeAgents({ state }: Cluster, count: number, from: number): void {
  const { agentOrder } = state;
  for (let index = 0; index < count; index += 1) {
    const agentId = agentOrder[(from + index) % agentOrder.length] as AgentId;
    for (const offerId of [...(state.agents.get(agentId)?.offers ?? [])]) {
      const offer = state.offers.get(offerId);
      if (offer) removeOffer(state, offer);
    }
  }
}

function agentRecord(index: number, demand: Demand): Parameters<typeof setAgent>[1] {
  const agentId = `agent-${String(index)}` as AgentId;
  return {
    info: { agentId, hostname: agentId, resources: NODES[demand], attributes: {} },
    session: 's1' as SessionId,
    newestSession: 's1' as SessionId,
    node: '',
    state: 'active',
    registeredAtMs: 0,
    writtenOff: [],
  };
}

function frameworkRecord(
  index: number,
  role: string,
  demand: Demand,
): Parameters<typeof setFramework>[1] {
  const frameworkId = `framework-${String(index)}` as FrameworkId;
  return {
    info: {
      ...{ frameworkId, name: frameworkId, user: '', hostname: '', role },
      failoverTimeoutMs: 0,
      labels: {},
    },
    session: 's1' as SessionId,
    newestSession: 's1' as SessionId,
    state: 'active',
    registeredAtMs: index,
    suppressed: false,
    suppressedRoles: [],
    deferred: [],
    ...(demand === 'stated' && { demand: [unitsOf(index)] }),
  };
}

/** 1 to 4 cores, 1 to 8 GiB, no two alike; more units than any cluster here has room for. */
function unitsOf(index: number): ResourceRequest {
  const resources = {
    cpuMillis: 1000 + ((index * 389) % 3001),
    memMib: 1024 + ((index * 1741) % 7169),
  };
  return { resources, count: 1_000_000, attributes: {} };
}
