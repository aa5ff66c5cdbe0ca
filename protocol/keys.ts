/**
 * Names of everything that Kaon keeps in Redis. All keys of a cluster share one hash tag, so they live in one
 * slot of a Redis Cluster and one script may touch all of them.
 *
 * What belongs to one client begins with its name, so that one pattern gives it to the client's own user of Redis. A name
 * of a session or a client never has a slash: what the client writes itself is behind one, where the master never
 * writes a stream.
 */
import type { AgentId, FrameworkId, SessionId } from './ids.ts';

/** Who may write to the inbox: the client's kind and id, as it stands in each entry for people to read. */
export type ClientName = `agent:${string}` | `framework:${string}` | `operator:${string}`;

/** The hashes of the registry; each has the records of one kind. */
export type RegistryName =
  'cluster' | 'roles' | 'agents' | 'frameworks' | 'executors' | 'tasks' | 'offers';
/** All of them, in the order in which they are loaded. */
export const REGISTRY_NAMES: readonly RegistryName[] = [
  'cluster',
  'roles',
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
  /** string: numbers of sessions are above it. Of a Redis that lost data: above all that were given out before */
  readonly sessionFloor: string;
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
  /**
   * sorted set of client names, scored with the time of Redis in milliseconds: written by the master alone, when a session
   * begins and when it has looked at `alive`; so a client may have been heard of later
   */
  readonly liveness: string;
  /** hash client name -> session that the master has registered */
  readonly sessions: string;
  readonly registry: Readonly<Record<RegistryName, string>>;
  /** hash name -> signed record of a principal of a secured cluster; `kaon token` writes it, the master reads it */
  readonly principals: string;
  /** string, counts the changes of `principals`: the master reads them again when it has changed */
  readonly principalChanges: string;
  /** hash: of a session whose entries are signed, how far the master has heard it; no entry is taken twice */
  readonly heard: string;
  /** string, time of the client's last heartbeat in milliseconds; expires after a day */
  alive(name: ClientName): string;
  /** string, the last number that a session of the client got; expires after a day, when time has overtaken it */
  sessionNumber(name: ClientName): string;
  /** string, last sequence number that was appended in a session; expires when it has been silent for a day */
  sequence(name: ClientName, session: SessionId): string;
  /** stream that the master writes to a client */
  client(name: ClientName, session: SessionId): string;
  /** stream past the master: what executors say to a framework; agents write it */
  direct(name: ClientName, session: SessionId): string;
  /** stream past the master: what frameworks and operators ask of an agent */
  agentRequests(agentId: AgentId): string;
  /** stream of an answer to such a request. Its id is made by chance and nobody may list keys: who knows it has asked */
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
    sessionFloor: key('session-floor'),
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
      roles: key('registry:roles'),
      agents: key('registry:agents'),
      frameworks: key('registry:frameworks'),
      executors: key('registry:executors'),
      tasks: key('registry:tasks'),
      offers: key('registry:offers'),
    },
    principals: key('principals'),
    principalChanges: key('principal-changes'),
    heard: key('heard'),
    alive: (name) => key(`${name}:/alive`),
    sessionNumber: (name) => key(`${name}:/session-number`),
    sequence: (name, session) => key(`${name}:/sequence:${session}`),
    client: (name, session) => key(`${name}:${session}`),
    direct: (name, session) => key(`${name}:/direct:${session}`),
    agentRequests: (agentId) => key(`agent:${agentId}:/requests`),
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
