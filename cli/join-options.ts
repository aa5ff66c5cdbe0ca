/** What was asked of `kaon join-token` and `kaon acl`, checked. */
import type { AclRole, AclSubject } from '../io/acl.ts';
import { ACL_ROLES, problemOfName } from '../io/acl.ts';
import { randomName } from '../io/clock.ts';
import { parseRedisUrl } from '../io/redis-connection.ts';
import { usageError } from './failure.ts';
import { choiceOf, flagError } from './flags.ts';
import type { ConnectionOptions } from './options.ts';
import type { RawOptions } from './parse-options.ts';

/** `kaon join-token create`. */
export interface CreateOptions extends ConnectionOptions {
  readonly subject: AclSubject;
  /** Address of Redis as the node sees it; absent: as it is seen here. */
  readonly nodeRedis?: string | undefined;
  readonly isForced: boolean;
  /** File of the cluster's key; absent: the credential, if there is one. */
  readonly clusterKeyFile?: string | undefined;
  readonly json: boolean;
}

/** `kaon join-token revoke`. */
export interface RevokeOptions extends ConnectionOptions {
  readonly name: string;
  /** Absent: whichever role has that name. */
  readonly role?: AclRole | undefined;
  readonly clusterKeyFile?: string | undefined;
}

/** `kaon acl`. */
export interface AclOptions {
  readonly subjects: readonly AclSubject[];
  /** SHA-256 of the password; absent: a new one for each. */
  readonly passwordHash?: string | undefined;
}

/** @throws KaonError `usage` */
export function parseCreateOptions(raw: RawOptions, connection: ConnectionOptions): CreateOptions {
  const role = roleOf(raw);
  if (role === undefined) {
    throw usageError(`--role is missing; it is one of ${ACL_ROLES.join(', ')}`);
  }
  const name = text(raw, 'name') ?? `${role === 'agent' ? 'node' : role}-${randomName(6)}`;
  const nodeRedis = text(raw, 'nodeRedis');
  if (nodeRedis !== undefined) parseRedisUrl(nodeRedis);
  return {
    ...connection,
    subject: subjectOf({ role, name, cluster: connection.cluster }, raw),
    nodeRedis,
    isForced: raw['force'] === true,
    clusterKeyFile: text(raw, 'clusterKey'),
    json: raw['json'] === true,
  };
}

/** @throws KaonError `usage` */
export function parseRevokeOptions(
  raw: RawOptions,
  connection: ConnectionOptions,
  name: string,
): RevokeOptions {
  return { ...connection, name, role: roleOf(raw), clusterKeyFile: text(raw, 'clusterKey') };
}

/**
 * Without `--role` one of each, named after its role.
 *
 * @throws KaonError `usage`
 */
export function parseAclOptions(raw: RawOptions, { cluster }: ConnectionOptions): AclOptions {
  const only = roleOf(raw);
  const roles = only === undefined ? ACL_ROLES : [only];
  const named = text(raw, 'name');
  if (named !== undefined && only === undefined) {
    throw usageError('--name goes with --role: which of them has that name?');
  }
  const passwordHash = text(raw, 'passwordHash');
  if (passwordHash !== undefined && !/^[0-9a-f]{64}$/.test(passwordHash)) {
    const flag = { flag: '--password-hash', value: '...' };
    throw flagError(
      flag,
      "not a SHA-256 of 64 hexadecimal digits; printf %s 'PASSWORD' | sha256sum",
    );
  }
  const subjects = roles.map((role) => subjectOf({ role, name: named ?? role, cluster }, raw));
  return { subjects, passwordHash };
}

function subjectOf(subject: AclSubject, raw: RawOptions): AclSubject {
  const { role, name } = subject;
  const problem = problemOfName(role, name);
  if (problem !== undefined) throw flagError({ flag: '--name', value: name }, problem);
  if (role !== 'bullmq') return subject;
  const prefix = text(raw, 'prefix') ?? 'bull';
  if (!/^[A-Za-z0-9_.{}-]{1,64}$/.test(prefix)) {
    const what =
      'not a prefix for rules; it has 1 to 64 letters, digits, "_", ".", "-", "{" and "}"';
    throw flagError({ flag: '--prefix', value: prefix }, what);
  }
  return { ...subject, prefix };
}

function roleOf(raw: RawOptions): AclRole | undefined {
  const value = text(raw, 'role');
  return value === undefined ? undefined : choiceOf({ flag: '--role', value }, ACL_ROLES);
}

function text(raw: RawOptions, name: string): string | undefined {
  const value = raw[name];
  return typeof value === 'string' ? value : undefined;
}
