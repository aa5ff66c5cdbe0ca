/**
 * Users of Redis for the processes of a cluster: what each role may do, and nothing else. Redis checks commands inside a
 * script against the user that runs it, so a right that a script needs can also be used without the script; therefore
 * every right here is a command together with the keys that it is for (selectors of Redis 7, acl(7)).
 *
 * Nobody but a master may load a script or run the text of one: clients run what masters have loaded, by its digest.
 * Pure: makes rules, and asks no Redis.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { ClientName } from '../protocol/keys.ts';
import { keysOf } from '../protocol/keys.ts';
import { BULLMQ_COMMANDS } from './acl-bullmq.ts';

/** What a user of Redis can be for. */
export const ACL_ROLES = ['agent', 'framework', 'bullmq', 'viewer', 'operator', 'master'] as const;
/** One of them. */
export type AclRole = (typeof ACL_ROLES)[number];

/** Whom rules are made for. */
export interface AclSubject {
  readonly role: AclRole;
  readonly cluster: string;
  /** Id of an agent; a framework's name: its ids are the name alone, or the name, a dot, and anything. */
  readonly name: string;
  /** Of the keys of BullMQ, for the role `bullmq`. Default `bull`. */
  readonly prefix?: string;
}

/** The first version of Redis with rights by command and key together. */
export const ACL_REDIS_MAJOR_MIN = 7;

/** Every connection: to be asked whether it lives, what server this is, and what its name is. None of them has a key. */
const CONNECTION = 'ping info time select client|setname client|id cluster|slots';
/** Redis Cluster and Sentinel ask for it on every node, INFO for what ioredis waits for before the first command. */
const READ_STREAM = 'xrange xrevrange xread xlen';

/**
 * @returns rules as ACL SETUSER takes them, each one argument; without the password and without `reset`
 */
export function aclRulesOf(subject: AclSubject): string[] {
  return [
    '-@all',
    'resetkeys',
    'resetchannels',
    ...plus(CONNECTION),
    ...grantsOf(subject).map(({ commands, keys = [], channels = [] }) => {
      const may = [...plus(commands), ...keys, ...channels.map((channel) => `&${channel}`)];
      return `(${may.join(' ')})`;
    }),
  ];
}

/** Commands, and the keys or channels that they are for; `%R~` may be read, `%W~` written, `~` both. */
interface Grant {
  readonly commands: string;
  readonly keys?: readonly string[];
  readonly channels?: readonly string[];
}

function grantsOf(subject: AclSubject): Grant[] {
  const { role, cluster, name, prefix = 'bull' } = subject;
  switch (role) {
    case 'agent':
      return agentGrants(cluster, name);
    case 'framework':
      return frameworkGrants(cluster, [`framework:${name}`, `framework:${name}.*`]);
    case 'bullmq':
      return [
        ...frameworkGrants(cluster, [`framework:${name}`, `framework:${name}.*`]),
        { commands: BULLMQ_COMMANDS, keys: [`~${prefix}:*`, `~${prefix}-kaon:*`] },
      ];
    case 'viewer':
      return viewerGrants(cluster);
    case 'operator':
      return operatorGrants(cluster);
    case 'master':
      return masterGrants(cluster);
  }
}

/** What a client of the master does: sessions, entries, heartbeats, and the reading of its own streams. */
function clientGrants(cluster: string, clients: readonly string[]): Grant[] {
  const keys = keysOf(cluster);
  const own = (pattern: (client: ClientName) => string): string[] =>
    clients.map((client) => pattern(client as ClientName));
  const any = '*' as never;
  const texts = [
    ...own((client) => `~${keys.alive(client)}`),
    ...own((client) => `~${keys.sessionNumber(client)}`),
    ...own((client) => `~${keys.sequence(client, any)}`),
  ];
  return [
    // The keys that a script was given are asked for here, what it does with them in the other grants.
    { commands: 'evalsha', keys: [`~${keys.prefix}*`] },
    { commands: 'get set expire', keys: texts },
    { commands: 'get', keys: [`%R~${keys.sessionFloor}`] },
    { commands: 'hget', keys: [`%R~${keys.sessions}`] },
    { commands: 'xadd xlen', keys: [`%W~${keys.inbox}`] },
    { commands: 'xread', keys: own((client) => `%R~${keys.client(client, any)}`) },
    { commands: 'xtrim', keys: own((client) => `%W~${keys.client(client, any)}`) },
  ];
}

function agentGrants(cluster: string, agentId: string): Grant[] {
  const keys = keysOf(cluster);
  return [
    ...clientGrants(cluster, [`agent:${agentId}`]),
    { commands: 'xdel', keys: [`%W~${keys.agentRequests(agentId as never)}`] },
    {
      commands: 'xadd xlen expire',
      keys: [`%W~${keys.output('*' as never)}`, `%W~${keys.direct('framework:*', '*' as never)}`],
    },
  ];
}

function frameworkGrants(cluster: string, clients: readonly string[]): Grant[] {
  const keys = keysOf(cluster);
  const direct = clients.map((client) => `%W~${keys.direct(client as ClientName, '*' as never)}`);
  return [
    ...clientGrants(cluster, clients),
    { commands: 'xdel', keys: direct },
    { commands: 'xadd', keys: [`%W~${keys.agentRequests('*' as never)}`] },
    { commands: 'xread xdel unlink', keys: [`~${keys.output('*' as never)}`] },
    ...leaderGrants(cluster),
    // What nodes there are and how large; no tasks, which may have secrets in their environment.
    { commands: 'hget hscan', keys: [`%R~${keys.registry.agents}`] },
  ];
}

/** Who leads, and to hear that it has changed. */
function leaderGrants(cluster: string): Grant[] {
  const keys = keysOf(cluster);
  return [
    { commands: 'get pttl', keys: [`%R~${keys.leader}`] },
    { commands: 'subscribe unsubscribe', channels: [keys.leaderChannel] },
  ];
}

function viewerGrants(cluster: string): Grant[] {
  const keys = keysOf(cluster);
  const read = (...names: readonly string[]): string[] => names.map((name) => `%R~${name}`);
  const { inbox, events, history, quarantine, snapshots } = keys;
  return [
    { commands: 'multi exec discard' },
    { commands: 'hget hgetall hscan hlen', keys: read(`${keys.prefix}registry:*`) },
    { commands: READ_STREAM, keys: read(inbox, events, history, quarantine, snapshots) },
    { commands: 'get', keys: read(keys.cursor, keys.epoch) },
    { commands: 'zscore zrangebyscore', keys: read(keys.liveness) },
    { commands: 'get mget', keys: read(keys.alive('*' as never)) },
    ...leaderGrants(cluster),
  ];
}

/** Tells the master, reads output, and runs commands, which are frameworks of any name. */
function operatorGrants(cluster: string): Grant[] {
  return [...viewerGrants(cluster), ...frameworkGrants(cluster, ['operator:*', 'framework:*'])];
}

/** All keys of the cluster and no other; nothing about the server but who is connected, to see a leader go. */
function masterGrants(cluster: string): Grant[] {
  const keys = keysOf(cluster);
  const strings = 'get mget set del unlink exists incr expire pexpire pttl';
  const hashes = 'hget hgetall hscan hlen hset hdel';
  const streams = `${READ_STREAM} xadd xtrim xdel`;
  const sets = 'zadd zrem zscore zrangebyscore';
  return [
    { commands: 'script|load client|list multi exec discard' },
    {
      commands: `eval evalsha ${strings} ${hashes} ${streams} ${sets}`,
      keys: [`~${keys.prefix}*`],
    },
    { commands: 'publish subscribe unsubscribe', channels: [keys.leaderChannel] },
  ];
}

function plus(commands: string): string[] {
  return commands.split(' ').map((command) => `+${command}`);
}

/** A new password: 32 random bytes, in letters that need no quotes anywhere. */
export function newRedisPassword(): string {
  return randomBytes(32).toString('base64url');
}

/** @returns a password as Redis keeps it: `#` and its SHA-256 */
export function hashedPassword(password: string): string {
  return `#${createHash('sha256').update(password).digest('hex')}`;
}

/**
 * Name of a user of Redis. The cluster is behind a character that is in no name of one, so that no two clusters of one
 * Redis can share a user; and all of them need no encoding in an address.
 */
export function redisUserOf({ role, name, cluster }: AclSubject): string {
  return `kaon.${role}.${name}~${cluster}`;
}

/** @returns whom a user of Redis is for; undefined if it is none of this cluster */
export function subjectOfUser(user: string, cluster: string): AclSubject | undefined {
  const [, role = '', name = '', of] = /^kaon\.([a-z]+)\.(.+)~([^~]*)$/.exec(user) ?? [];
  const known = ACL_ROLES.find((one) => one === role);
  return known !== undefined && of === cluster ? { role: known, name, cluster } : undefined;
}

/**
 * @returns why that name cannot be one, for an error; undefined if it can. A colon would put it behind another name, and of
 * frameworks a dot does: what is given to `shop` is everything of `shop.` too
 */
export function problemOfName(role: AclRole, name: string): string | undefined {
  const isAgent = role === 'agent';
  const form = isAgent ? /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/ : /^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$/;
  if (form.test(name)) return undefined;
  return isAgent
    ? 'an agent has 1 to 64 letters, digits, "_", "." and "-", and begins with a letter or digit'
    : 'it has 1 to 40 letters, digits, "_" and "-", and begins with a letter or digit';
}
