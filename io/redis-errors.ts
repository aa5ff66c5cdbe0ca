/** What an error of Redis, or of the way to it, means to the person who runs it. Pure: a table, and its look-up. */
import { codeOf, messageOf } from '../protocol/errors.ts';

/** The kinds of faults, by which log lines are named (`redis.memory-full`); `other` is none of Redis's own. */
export type RedisFaultCode =
  | 'unreachable'
  | 'tls'
  | 'login-refused'
  | 'no-permission'
  | 'scripts-missing'
  | 'memory-full'
  | 'read-only'
  | 'loading'
  | 'cannot-persist'
  | 'cluster-down'
  | 'sentinel'
  | 'not-a-cluster'
  | 'busy'
  | 'too-many-clients'
  | 'other';

/** A fault in words. */
export interface RedisErrorExplanation {
  readonly code: RedisFaultCode;
  /** What is wrong, in one clause. */
  readonly text: string;
  /** What to do about it. */
  readonly hint: string;
}

interface Rule {
  readonly code: RedisFaultCode;
  /** Of the message; an error inside a script of Redis 6 has its own words in the middle of others. */
  readonly pattern: RegExp;
  readonly text: string;
  readonly hint: string;
}

/** The first that fits counts. Messages: redis/src/server.c, acl.c, script.c, cluster.c; ioredis' connectors. */
const RULES: readonly Rule[] = [
  {
    code: 'login-refused',
    pattern: /\bWRONGPASS\b|invalid password|without any password configured|no password is set/i,
    text: 'Redis does not know this user, or the password is wrong',
    hint: 'correct the user and password in the address; one that was revoked is made anew: kaon join-token create',
  },
  {
    code: 'login-refused',
    pattern: /\bNOAUTH\b|-DENIED\b|^DENIED\b/,
    text: 'Redis wants a user and a password',
    hint: 'give them in the address: redis://USER:PASSWORD@HOST:PORT',
  },
  {
    code: 'scripts-missing',
    pattern: /\bNOPERM\b.*'eval'/,
    text: "Redis does not have Kaon's scripts (any more), and this user may not load them",
    hint: 'a master loads them as soon as it is connected: does one run? (kaon status)',
  },
  {
    code: 'no-permission',
    pattern:
      /\bNOPERM\b|ACL failure in script|executing the script can't (?:access|run)|can't run this command/i,
    text: 'the user of this address may not do that',
    hint: 'each role has its own rights: kaon join-token create --role ROLE; ACL LOG in Redis shows what was refused',
  },
  {
    code: 'memory-full',
    pattern: /\bOOM\b/,
    text: 'the memory of Redis is full (maxmemory), and it refuses writes',
    hint: 'raise maxmemory, or find who fills it: redis-cli --bigkeys',
  },
  {
    code: 'read-only',
    pattern: /\bREADONLY\b|\bUNBLOCKED\b/,
    text: 'this Redis is a replica and takes no writes',
    hint: 'use the address of the master, or redis+sentinel:// which finds it',
  },
  {
    code: 'cannot-persist',
    pattern: /\bMISCONF\b/,
    text: 'Redis cannot write to its disk, and refuses writes until it can',
    hint: 'look for a full disk or missing rights at the directory of Redis; its log says which',
  },
  {
    code: 'loading',
    pattern: /\bLOADING\b|\bMASTERDOWN\b/,
    text: 'Redis is loading its data and answers when it is done',
    hint: 'wait; how far it is stands in INFO persistence',
  },
  {
    code: 'cluster-down',
    pattern: /\bCLUSTERDOWN\b/,
    text: 'the Redis Cluster has nobody who serves the keys of this cluster',
    hint: 'look for nodes that are down: redis-cli --cluster check HOST:PORT',
  },
  {
    code: 'cluster-down',
    pattern: /\b(?:MOVED|ASK|TRYAGAIN)\b/,
    text: 'the Redis Cluster is moving the keys of this cluster to another node',
    hint: 'wait until it is done; an address with redis+cluster:// follows by itself',
  },
  {
    code: 'not-a-cluster',
    pattern: /cluster support disabled/,
    text: 'this Redis is not part of a Redis Cluster',
    hint: 'use redis:// for a single server',
  },
  {
    code: 'sentinel',
    pattern: /sentinel/i,
    text: 'no Sentinel says where the master is',
    hint: 'check the addresses of the Sentinels, the name of the master, and sentinelPassword',
  },
  {
    code: 'busy',
    pattern: /\bBUSY\b/,
    text: 'Redis runs a script of somebody and answers nobody else',
    hint: 'find it with SLOWLOG GET; SCRIPT KILL ends one that has not written yet',
  },
  {
    code: 'too-many-clients',
    pattern: /max number of clients/,
    text: 'Redis takes no more connections',
    hint: 'raise maxclients; CLIENT LIST shows who has them',
  },
];

/** Codes of Node for a way that leads nowhere, and what they mean. */
const UNREACHABLE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nobody listens at this address',
  ENOENT: 'the socket does not exist',
  EACCES: 'this user may not open the socket',
  ENOTFOUND: 'the host name is not known',
  EAI_AGAIN: 'the host name could not be looked up',
  ETIMEDOUT: 'the host does not answer',
  EHOSTUNREACH: 'there is no way to the host',
  ENETUNREACH: 'there is no way to the network',
  ECONNRESET: 'the connection was cut',
  EPIPE: 'the connection was cut',
};

const TLS_HINT =
  'check ca, cert and key in the address, and that the name in the certificate is that of the host';

const LOST = /Connection is closed|Socket timeout|Command timed out|max retries per request/;

/**
 * @param error what a call or a connection failed with
 * @returns `other` with the error's own message for what is not known
 */
export function explainRedisError(error: unknown): RedisErrorExplanation {
  const message = messageOf(error);
  if (codeOf(error) === 'redis-tls') {
    return { code: 'tls', text: message, hint: (error as { hint?: string }).hint ?? TLS_HINT };
  }
  const rule = RULES.find(({ pattern }) => pattern.test(message));
  if (rule) return { code: rule.code, text: rule.text, hint: rule.hint };
  const code = codeOf(error) ?? '';
  if (/^ERR_(?:TLS|SSL|OSSL)|CERT|SELF_SIGNED|UNABLE_TO_/.test(code)) {
    return {
      code: 'tls',
      text: `TLS failed: ${message}`,
      hint: TLS_HINT,
    };
  }
  const text = UNREACHABLE[code] ?? (LOST.test(message) ? 'Redis does not answer' : undefined);
  if (text !== undefined) {
    return { code: 'unreachable', text, hint: 'is it running, and is the address right?' };
  }
  return { code: 'other', text: message, hint: 'the log of Redis may say more' };
}

/** Whether sending the command again on a new connection may help: it went to a server that is not the right one now. */
export function isElsewhere(error: unknown): boolean {
  return /\b(?:READONLY|UNBLOCKED|MOVED|ASK|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|LOADING)\b/.test(
    messageOf(error),
  );
}

/** True if Redis knows the user, and its rights are what is missing: to try again does not help. */
export function isForbidden(error: unknown): boolean {
  return explainRedisError(error).code === 'no-permission';
}

/**
 * How loudly to log a failure after which the caller tries again. A fault of Redis, or of the way to it, begins and ends
 * in the log where the connection is (`redis-faults.ts`), so whoever tries again meanwhile need not say it each time.
 *
 * @returns `debug` for such a fault; `warn` for all that nobody else speaks of
 */
export function retryLevel(error: unknown): 'debug' | 'warn' {
  return explainRedisError(error).code === 'other' ? 'warn' : 'debug';
}
