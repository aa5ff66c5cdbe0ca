/**
 * Users of one cluster on a real Redis: made, listed, and taken away, by whoever may use ACL there. Redis keeps only a
 * digest of a password. Users are not replicated and not in the append-only file: they last as long as the process,
 * unless it has an ACL file.
 */
import type { Redis } from 'ioredis';
import { KaonError, messageOf } from '../protocol/errors.ts';
import type { AclSubject } from './acl.ts';
import {
  ACL_REDIS_MAJOR_MIN,
  aclRulesOf,
  hashedPassword,
  redisUserOf,
  subjectOfUser,
} from './acl.ts';
import { explainRedisError } from './redis-errors.ts';

/** What became of a change: whether it outlives a restart of this Redis. */
export interface AclChange {
  readonly user: string;
  /** False: Redis has no ACL file. */
  readonly isSaved: boolean;
}

/** A user of this cluster, as `kaon join-token ls` shows it. */
export interface AclUser extends AclSubject {
  readonly user: string;
  /** Connections that it has at this moment. */
  readonly connections: number;
}

/** What the server is, as far as it matters for its users. */
export interface AclServer {
  /** Whoever reaches this Redis may do everything: the user `default` has no password. */
  readonly isOpen: boolean;
  /** Other servers that need the same users: replicas, or the rest of a Redis Cluster. */
  readonly hasOthers: boolean;
}

/** @throws KaonError `acl-too-old`, `acl-forbidden` */
export async function readAclServer(redis: Redis): Promise<AclServer> {
  const info = await redis.info();
  const field = (name: string): string =>
    new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? '';
  const version = field('redis_version');
  if (Number(version.split('.')[0]) < ACL_REDIS_MAJOR_MIN) {
    const needed = `users with rights by command and key need Redis ${String(ACL_REDIS_MAJOR_MIN)}`;
    throw new KaonError('acl-too-old', `this Redis is version ${version}, and ${needed}`, {
      hint: 'install a newer redis-server; until then all processes share one user and its password',
    });
  }
  const flags = await call(redis, 'read the users', 'GETUSER', 'default');
  const hasOthers =
    Number(field('connected_slaves')) > 0 ||
    field('cluster_enabled') === '1' ||
    field('role') === 'slave';
  return { isOpen: isOpenUser(flags), hasOthers };
}

/** `ACL GETUSER`: a flat list in which the value of `flags` is a list of words. */
function isOpenUser(reply: unknown): boolean {
  const list = Array.isArray(reply) ? (reply as unknown[]) : [];
  const flags = list[list.indexOf('flags') + 1];
  return Array.isArray(flags) && flags.includes('on') && flags.includes('nopass');
}

/**
 * @param hash of the password, as `hashedPassword` makes it
 * @returns the rules of a user in full, as ACL SETUSER takes them
 */
export function userRulesOf(subject: AclSubject, hash: string): string[] {
  return ['reset', 'on', hash, ...aclRulesOf(subject)];
}

/** @returns the user as a line of an ACL file or of redis.conf; the password is only a digest there */
export function aclFileLine(subject: AclSubject, hash: string): string {
  // `user` lines of a file begin from nothing: there is no `reset` in them.
  const [, ...rules] = userRulesOf(subject, hash);
  return `user ${redisUserOf(subject)} ${rules.join(' ')}`;
}

/** @returns the user as a command for redis-cli */
export function aclCommand(subject: AclSubject, hash: string): string {
  const rules = userRulesOf(subject, hash).map((rule) =>
    /[()~&#*]/.test(rule) ? `'${rule}'` : rule,
  );
  return `ACL SETUSER ${redisUserOf(subject)} ${rules.join(' ')}`;
}

/**
 * Makes the user, or gives it these rights and this password alone; then its connections with an old password are cut.
 *
 * @throws KaonError `acl-forbidden`
 */
export async function setUser(
  redis: Redis,
  subject: AclSubject,
  password: string,
): Promise<AclChange> {
  const user = redisUserOf(subject);
  const what = `make the user ${user}`;
  await call(redis, what, 'SETUSER', user, ...userRulesOf(subject, hashedPassword(password)));
  await cut(redis, user);
  return { user, isSaved: await save(redis) };
}

/**
 * Takes the user away; Redis closes its connections.
 *
 * @returns undefined if there is none
 * @throws KaonError `acl-forbidden`
 */
export async function deleteUser(
  redis: Redis,
  subject: AclSubject,
): Promise<AclChange | undefined> {
  const user = redisUserOf(subject);
  const deleted = await call(redis, `delete the user ${user}`, 'DELUSER', user);
  return Number(deleted) === 0 ? undefined : { user, isSaved: await save(redis) };
}

/**
 * Users of the cluster, by role and name.
 *
 * @throws KaonError `acl-forbidden`
 */
export async function listUsers(redis: Redis, cluster: string): Promise<AclUser[]> {
  const names = (await call(redis, 'list the users', 'USERS')) as string[];
  const clients = await clientsOf(redis);
  return names
    .flatMap((user) => {
      const subject = subjectOfUser(user, cluster);
      return subject ? [{ ...subject, user, connections: clients.get(user) ?? 0 }] : [];
    })
    .sort((a, b) => a.role.localeCompare(b.role) || a.name.localeCompare(b.name));
}

/** How many connections each user has; none is known where CLIENT LIST is forbidden. */
async function clientsOf(redis: Redis): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  const list = await redis.call('CLIENT', 'LIST').catch(() => '');
  for (const [, user = ''] of String(list).matchAll(/ user=(\S+)/g)) {
    counts.set(user, (counts.get(user) ?? 0) + 1);
  }
  return counts;
}

/** Whoever is connected by the old password would stay so. */
async function cut(redis: Redis, user: string): Promise<void> {
  try {
    await redis.call('CLIENT', 'KILL', 'USER', user);
  } catch (error) {
    throw refused(error, `cut the connections of ${user}`);
  }
}

/** @returns false if Redis has no ACL file */
async function save(redis: Redis): Promise<boolean> {
  try {
    await redis.acl('SAVE');
    return true;
  } catch (error) {
    if (/not configured to use an ACL file/i.test(messageOf(error))) return false;
    throw refused(error, 'save the users of Redis');
  }
}

async function call(redis: Redis, what: string, ...args: string[]): Promise<unknown> {
  try {
    return await redis.call('ACL', ...args);
  } catch (error) {
    throw refused(error, what);
  }
}

/** What forbids it is not always a right: services that rent out Redis rename ACL, or do without it. */
function refused(error: unknown, what: string): unknown {
  const said = messageOf(error);
  const isForbidden = explainRedisError(error).code === 'no-permission';
  if (!isForbidden && !/unknown command|not allowed/i.test(said)) {
    return new KaonError('acl-failed', `cannot ${what}: ${said}`, { cause: error });
  }
  return new KaonError('acl-forbidden', `cannot ${what}: ${said}`, {
    cause: error,
    hint: 'give the address of a user that may use ACL: --redis redis://default:PASSWORD@HOST; or put what kaon acl file prints into the ACL file of Redis',
  });
}
