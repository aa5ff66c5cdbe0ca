/**
 * Names of everything that Kaon keeps in Redis. All keys of a cluster share one hash tag, so they live in one
 * slot of a Redis Cluster and one script may touch all of them.
 */
import type { AgentId, FrameworkId, SessionId } from './ids.ts';

/** Who may write to the inbox: the client's kind and id, as it stands in each entry for people to read. */
export type ClientName = `agent:${string}` | `framework:${string}` | `operator:${string}`;

/** The hashes of the registry; each has the records of one kind. */
export type RegistryName = 'cluster' | 'agents' | 'frameworks' | 'executors' | 'tasks' | 'offers';
/** All of them, in the order in which they are loaded. */
export const REGISTRY_NAMES: readonly RegistryName[] = [
  'cluster',
  'agents',
  'frameworks',
  'executors',
  'tasks',
  'offers',
];

/** Every key and channel of one cluster. */
export interface Keys {
  readonly prefix: string;
  /** string `EPOCH MASTERID`, expires with the lease */
  readonly leader: string;
  /** string `CONNECTION EPOCH MASTERID`: id of the Redis connection that the leader writes by; expires with the lease */
  readonly leaderConnection: string;
  /** pub/sub channel: somebody should look at `leader` now */
  readonly leaderChannel: string;
  /** string, `run_id` of the Redis process on which a leader has last begun its term: another one may lack writes */
  readonly server: string;
  /** string, the last number given to a session; grows with the time of Redis, so it grows even if it was lost */
  readonly sessionNumber: string;
  /** string, the last epoch given out */
  readonly epoch: string;
  /** string `COMMITS INBOXID`: number of commits so far, last inbox entry consumed */
  readonly cursor: string;
  readonly inbox: string;
  readonly events: string;
  readonly history: string;
  /** stream, capped: what a leader could not take, as JSON in field `record` */
  readonly quarantine: string;
  /** stream of the last few states of the whole cluster: JSON in field `state`, and the last entry of `events` in it */
  readonly snapshots: string;
  /** sorted set of client names, scored with the time of Redis in milliseconds */
  readonly liveness: string;
  /** hash client name -> session that the master has registered */
  readonly sessions: string;
  readonly registry: Readonly<Record<RegistryName, string>>;
  /** string, last sequence number that was appended in a session; expires when it has been silent for a day */
  sequence(session: SessionId): string;
  /** stream that the master writes to a client */
  client(name: ClientName, session: SessionId): string;
  agentRequests(agentId: AgentId): string;
  output(readId: SessionId): string;
}

/** @param cluster name of the cluster; letters, digits, `_`, `.` and `-` */
export function keysOf(cluster: string): Keys {
  const prefix = `kaon:{${cluster}}:`;
  const key = (name: string): string => prefix + name;
  return {
    prefix,
    leader: key('leader'),
    leaderConnection: key('leader-connection'),
    leaderChannel: key('leader-changed'),
    server: key('server'),
    sessionNumber: key('session-number'),
    epoch: key('epoch'),
    cursor: key('cursor'),
    inbox: key('inbox'),
    events: key('events'),
    history: key('history'),
    quarantine: key('quarantine'),
    snapshots: key('snapshots'),
    liveness: key('liveness'),
    sessions: key('sessions'),
    registry: {
      cluster: key('registry:cluster'),
      agents: key('registry:agents'),
      frameworks: key('registry:frameworks'),
      executors: key('registry:executors'),
      tasks: key('registry:tasks'),
      offers: key('registry:offers'),
    },
    sequence: (session) => key(`sequence:${session}`),
    client: (name, session) => key(`${name}:${session}`),
    agentRequests: (agentId) => key(`agent:${agentId}:requests`),
    output: (readId) => key(`output:${readId}`),
  };
}

/** Name of an agent as a client. */
export function agentName(agentId: AgentId): ClientName {
  return `agent:${agentId}`;
}

/** Name of a framework as a client. */
export function frameworkName(frameworkId: FrameworkId): ClientName {
  return `framework:${frameworkId}`;
}
