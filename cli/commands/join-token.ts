/**
 * `kaon join-token`: gives a node or a program a user of its own in Redis, and of a secured cluster a token, in one line
 * to paste there. The line is said once: Redis has only a digest of the password, and the token is derived.
 */
import { readFileSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import type { AclRole, AclSubject } from '../../io/acl.ts';
import { hashedPassword, newRedisPassword, redisUserOf } from '../../io/acl.ts';
import type { AclChange, AclServer } from '../../io/acl-users.ts';
import { aclFileLine, deleteUser, listUsers, readAclServer, setUser } from '../../io/acl-users.ts';
import type { Join } from '../../io/join-line.ts';
import { addressAs, joinLineOf } from '../../io/join-line.ts';
import type { NewPrincipal } from '../../io/principals.ts';
import {
  addPrincipal,
  readPrincipals,
  revokePrincipal,
  rotatePrincipal,
} from '../../io/principals.ts';
import { hidePassword, parseRedisUrl } from '../../io/redis-connection.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { findClusterKey } from '../../io/secrets.ts';
import { makeToken } from '../../io/tokens.ts';
import { KaonError, messageOf } from '../../protocol/errors.ts';
import type { PrincipalKind } from '../../protocol/principals.ts';
import { ANY } from '../../protocol/principals.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { CreateOptions, RevokeOptions } from '../join-options.ts';
import type { ConnectionOptions } from '../options.ts';
import { printListing } from '../print.ts';
import { escapeControls } from '../words.ts';

/** @returns the exit code */
export async function createJoinToken(options: CreateOptions): Promise<number> {
  const { subject, isForced, redis: url } = options;
  const clusterKey = findClusterKey(options.clusterKeyFile);
  const address = options.nodeRedis ?? url;
  const caPem = readAuthority(address) ?? readAuthority(url);
  return withStore(options, { name: 'join-token' }, async (store) => {
    const server = await readAclServer(store.redis);
    const users = await listUsers(store.redis, subject.cluster);
    if (!isForced && users.some(({ user }) => user === redisUserOf(subject))) {
      throw new KaonError('user-exists', `there is a user for the ${titleOf(subject)} already`, {
        hint: '--force gives it a new password, and the old one ends; join-token revoke takes it away',
      });
    }
    const token = clusterKey && (await tokenFor(store, clusterKey, options));
    const password = newRedisPassword();
    const change = await setUser(store.redis, subject, password);
    const join: Join = {
      redis: addressAs(address, change.user),
      cluster: subject.cluster,
      agentId: subject.name,
      redisUser: change.user,
      redisPassword: password,
      ...(token !== undefined && { token }),
      ...(caPem !== undefined && { caPem }),
    };
    const line = pasteLine(subject.role, join);
    process.stdout.write(`${options.json ? JSON.stringify(join) : line}\n`);
    tellCreated(options, server, change, hashedPassword(password));
    return EXIT_OK;
  });
}

/** @returns the exit code */
export async function revokeJoinToken(options: RevokeOptions): Promise<number> {
  const clusterKey = findClusterKey(options.clusterKeyFile);
  return withStore(options, { name: 'join-token' }, async (store) => {
    const subject = await findUser(store, options);
    // The token first: a client that finds its user gone would else be told that it may try again.
    if (clusterKey) await endToken(store, clusterKey, subject.name);
    const change = await deleteUser(store.redis, subject);
    if (!change) throw notFound(options);
    process.stdout.write(`the ${titleOf(subject)} has no user any more; its connections are cut\n`);
    if (!change.isSaved) {
      say('Redis has no ACL file: take its line out of redis.conf too, if there is one');
    }
    if (subject.role === 'agent')
      say('its tasks run on, without anybody who could see or end them');
    return EXIT_OK;
  });
}

/** @returns the exit code */
export async function listJoinTokens(options: ConnectionOptions, isJson: boolean): Promise<number> {
  const { redis, cluster } = options;
  return withStore({ redis, cluster }, { name: 'join-token' }, async (store) => {
    const rows = await listUsers(store.redis, cluster);
    printListing(
      {
        rows,
        json: (row) => row,
        none: 'no users of this cluster; kaon join-token create makes one',
        unreadable: [],
        columns: () => [
          { title: 'ROLE', text: ({ role }) => role },
          { title: 'NAME', text: ({ name }) => name },
          { title: 'USER OF REDIS', text: ({ user }) => user },
          { title: 'CONNECTIONS', text: ({ connections }) => String(connections), align: 'right' },
        ],
      },
      { json: isJson, wide: false },
    );
    return EXIT_OK;
  });
}

/** Of the role that was named, or of the only one that has the name. */
async function findUser(store: RedisStore, options: RevokeOptions): Promise<AclSubject> {
  const { name, role, cluster } = options;
  const users = (await listUsers(store.redis, cluster)).filter(
    (user) => user.name === name && (role === undefined || user.role === role),
  );
  const [user] = users;
  if (!user) throw notFound(options);
  if (users.length > 1) {
    const roles = users.map((one) => one.role).join(', ');
    throw new KaonError('ambiguous', `several users have the name ${name}: ${roles}`, {
      hint: 'say which with --role',
    });
  }
  return user;
}

function notFound({ name, role, cluster }: RevokeOptions): KaonError {
  const what = `${role === undefined ? '' : `${role} `}${escapeControls(name)}`;
  return new KaonError('not-found', `no user for ${what} in cluster ${cluster}`, {
    hint: 'kaon join-token ls lists them; was it revoked before?',
  });
}

const KINDS: Readonly<Record<AclRole, PrincipalKind | undefined>> = {
  agent: 'agent',
  framework: 'framework',
  bullmq: 'framework',
  viewer: 'viewer',
  operator: 'operator',
  // It has the cluster's key itself.
  master: undefined,
};

/** @returns the token of the principal of that name, which is made, or renewed with `--force` */
async function tokenFor(
  { redis, keys }: RedisStore,
  clusterKey: Buffer,
  { subject, isForced }: CreateOptions,
): Promise<string | undefined> {
  const { name, role } = subject;
  const kind = KINDS[role];
  if (kind === undefined) return undefined;
  const by = author();
  const { records } = await readPrincipals(redis, keys, clusterKey);
  const before = records.get(name);
  const lives = before !== undefined && before.revokedAtMs === undefined;
  if (lives && before.kind !== kind) {
    throw new KaonError('principal-exists', `${name} is the name of a token for a ${before.kind}`, {
      hint: 'choose another name',
    });
  }
  const principal: NewPrincipal = {
    ...{ name, kind, by },
    ...(kind === 'agent' && { agentId: name as never }),
    ...(kind === 'framework' && { roles: [ANY] }),
  };
  const { generation } =
    lives && isForced
      ? await rotatePrincipal(redis, keys, clusterKey, { name, by })
      : await addPrincipal(redis, keys, clusterKey, principal);
  return makeToken(clusterKey, name, generation);
}

/** One that has none was made before the cluster was secured, or with another key. */
async function endToken(
  { redis, keys }: RedisStore,
  clusterKey: Buffer,
  name: string,
): Promise<void> {
  const { records } = await readPrincipals(redis, keys, clusterKey);
  if (records.has(name)) await revokePrincipal(redis, keys, clusterKey, { name, by: author() });
}

function author(): string {
  return `${userInfo().username}@${hostname()}`;
}

/** What is pasted: on a node a command, for a program the variables that it finds its cluster by. */
function pasteLine(role: AclRole, join: Join): string {
  if (role === 'agent') return `sh install.sh agent --join ${joinLineOf(join)}`;
  const { redis, cluster, redisPassword, token } = join;
  const variables = [
    `KAON_REDIS='${addressAs(redis, `${join.redisUser}:${redisPassword}`)}'`,
    `KAON_CLUSTER='${cluster}'`,
    ...(token === undefined ? [] : [`KAON_TOKEN='${token}'`]),
  ];
  return `export ${variables.join(' ')}`;
}

function tellCreated(
  { subject, nodeRedis, redis }: CreateOptions,
  { isOpen, hasOthers }: AclServer,
  { user, isSaved }: AclChange,
  hash: string,
): void {
  say(`this line is secret: whoever has it is the ${titleOf(subject)}; it is not shown again`);
  const line = aclFileLine(subject, hash);
  if (!isSaved) {
    say(`the user ${user} is lost with the next restart of Redis, which has no ACL file`);
    say('put this into its redis.conf, or into a file that aclfile names there:');
    process.stderr.write(`${line}\n`);
  } else if (hasOthers) {
    say('users are not replicated: put this into the ACL file of every other server too:');
    process.stderr.write(`${line}\n`);
  }
  if (isOpen) {
    say('the user default of Redis has no password: until it has one, anybody may do anything');
  }
  if (isOfThisHost(nodeRedis ?? redis)) {
    const shown = hidePassword(nodeRedis ?? redis);
    say(`${shown} leads to this host only; for another node give --node-redis`);
  }
}

function isOfThisHost(url: string): boolean {
  const { host, path } = parseRedisUrl(url);
  return path !== undefined || /^(?:127\.|localhost$|::1$)/.test(host ?? '');
}

/** The authority goes along: a node that has nothing yet could not know it. */
function readAuthority(url: string): string | undefined {
  const path = parseRedisUrl(url).tls?.ca;
  if (path === undefined) return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new KaonError('redis-tls-file', `cannot read ${String(path)}: ${messageOf(cause)}`, {
      cause,
      hint: 'it is the certificate of the authority of Redis, and goes into the line',
    });
  }
}

function titleOf({ role, name }: Pick<AclSubject, 'role' | 'name'>): string {
  return `${role} ${escapeControls(name)}`;
}

function say(text: string): void {
  process.stderr.write(`kaon: ${text}\n`);
}
