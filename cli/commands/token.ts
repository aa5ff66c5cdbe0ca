/**
 * `kaon token`: makes, lists and ends the tokens of a secured cluster. Standard output has the token and nothing else.
 * What is done is signed with the cluster's key, who has done it with it; a master that sees it writes it into the event log.
 */
import { hostname, userInfo } from 'node:os';
import {
  addPrincipal,
  readPrincipals,
  revokePrincipal,
  rotatePrincipal,
} from '../../io/principals.ts';
import { isForbidden } from '../../io/redis-errors.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import { findClusterKey, findToken } from '../../io/secrets.ts';
import { makeClusterKey, makeToken } from '../../io/tokens.ts';
import { decodeWith } from '../../protocol/codec.ts';
import { KaonError } from '../../protocol/errors.ts';
import type { PrincipalProblem } from '../../protocol/principals.ts';
import { PrincipalRecord, problemOfPrincipal } from '../../protocol/principals.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { ConnectionOptions } from '../options.ts';
import { printJson, printListing } from '../print.ts';
import type { CreateTokenOptions, TokenOptions } from '../token-options.ts';
import { escapeControls, formatTime } from '../words.ts';

const USE = { name: 'token' };

/** @returns the exit code */
export async function createToken(options: CreateTokenOptions): Promise<number> {
  const { name, kind, roles, users, agentId, lifeMs } = options;
  const clusterKey = demandKey(options);
  return withStore(options, USE, async (store) => {
    const { redis, keys } = store;
    const expiresAtMs = lifeMs === undefined ? undefined : (await store.nowMs()) + lifeMs;
    const record = await addPrincipal(redis, keys, clusterKey, {
      ...{ name, kind, roles, users, expiresAtMs, by: author() },
      ...(agentId !== undefined && { agentId }),
    });
    say(`token ${name}: ${purposeOf(record)}; ${lifeOf(record)}. It is not shown again`);
    printToken(clusterKey, record);
    return EXIT_OK;
  });
}

/** @returns the exit code */
export async function rotateToken(options: TokenOptions, name: string): Promise<number> {
  const clusterKey = demandKey(options);
  return withStore(options, USE, async ({ redis, keys }) => {
    const record = await rotatePrincipal(redis, keys, clusterKey, { name, by: author() });
    say(`token ${name}: the old one is refused from now on; ${lifeOf(record)}`);
    printToken(clusterKey, record);
    return EXIT_OK;
  });
}

/** @returns the exit code */
export async function revokeToken(options: TokenOptions, name: string): Promise<number> {
  const clusterKey = demandKey(options);
  return withStore(options, USE, async ({ redis, keys }) => {
    const { kind } = await revokePrincipal(redis, keys, clusterKey, { name, by: author() });
    const rest = kind === 'framework' || kind === 'agent' ? '; its tasks go on' : '';
    process.stdout.write(`token ${name} is revoked${rest}\n`);
    return EXIT_OK;
  });
}

/** @returns the exit code */
export async function listTokens(options: TokenOptions, isJson: boolean): Promise<number> {
  const clusterKey = demandKey(options);
  return withStore(options, USE, async (store) => {
    const { records, forged } = await readPrincipals(store.redis, store.keys, clusterKey);
    const nowMs = await store.nowMs();
    for (const name of forged) {
      say(
        `the record of ${escapeControls(name)} is not signed with this cluster key; it counts nothing`,
      );
    }
    const rows = [...records.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    const stateOf = (record: PrincipalRecord): string =>
      problemOfPrincipal(record, record.generation, nowMs) ?? 'good';
    printListing(
      {
        rows,
        json: (record) => ({ ...record, state: stateOf(record) }),
        none: 'no tokens; kaon token create makes one',
        unreadable: [],
        columns: () => [
          { title: 'NAME', text: ({ name }) => name },
          { title: 'KIND', text: ({ kind }) => kind },
          { title: 'STATE', text: stateOf },
          { title: 'FOR', text: (record) => scopeOf(record).join('; '), shrinksTo: 20 },
          {
            title: 'EXPIRES',
            text: ({ expiresAtMs }) =>
              expiresAtMs === undefined ? 'never' : formatTime(expiresAtMs),
          },
          {
            title: 'LAST CHANGE',
            text: ({ acts }) =>
              acts
                .slice(-1)
                .map(({ type, by }) => `${type} by ${by}`)
                .join(),
            isSpare: true,
          },
        ],
      },
      { json: isJson, wide: false },
    );
    return EXIT_OK;
  });
}

/** @returns the exit code */
export function newClusterKey(): Promise<number> {
  process.stdout.write(`${makeClusterKey()}\n`);
  return Promise.resolve(EXIT_OK);
}

/** What became of a token, for those who have it. */
const WORDS: Readonly<Record<PrincipalProblem, string>> = {
  unknown: 'there is no token of this name in this cluster',
  revoked: 'it was revoked',
  rotated: 'it was replaced by a newer one',
  expired: 'it has expired',
};

/**
 * @returns the exit code
 * @throws KaonError `token-missing`; `token-unknown` and the like if it is not good
 */
export async function whoami(options: ConnectionOptions, isJson: boolean): Promise<number> {
  const token = findToken();
  if (!token) {
    throw new KaonError('token-missing', 'this process has no token', {
      hint: 'KAON_TOKEN_FILE=PATH names the file that has it; in an open cluster nobody needs one',
    });
  }
  const { name, generation } = token;
  return withStore(options, { name: 'whoami' }, async (store) => {
    const text = await readRecord(store, name);
    if (text === undefined) {
      process.stdout.write(`${name}\n`);
      say('this user of Redis may not read what the token is good for');
      return EXIT_OK;
    }
    const decoded = decodeWith(PrincipalRecord, text.slice(text.indexOf(' ') + 1));
    const record = decoded.ok ? decoded.value : undefined;
    const problem = problemOfPrincipal(record, generation, await store.nowMs());
    if (problem !== undefined || !record) {
      const code = `token-${problem ?? 'unknown'}`;
      throw new KaonError(code, `this is token ${name}: ${WORDS[problem ?? 'unknown']}`, {
        hint: "kaon token create or rotate on a master's host prints another",
      });
    }
    if (isJson) printJson(record);
    else process.stdout.write(`${name}: ${purposeOf(record)}; ${lifeOf(record)}\n`);
    return EXIT_OK;
  });
}

/** @returns '' if there is none; undefined if the rights of this user of Redis do not reach so far */
async function readRecord({ redis, keys }: RedisStore, name: string): Promise<string | undefined> {
  try {
    return (await redis.hget(keys.principals, name)) ?? '';
  } catch (error) {
    if (isForbidden(error)) return undefined;
    throw error;
  }
}

/** @throws KaonError `cluster-key`, `credential` */
function demandKey({ clusterKeyFile }: TokenOptions): Buffer {
  const key = findClusterKey(clusterKeyFile);
  if (key) return key;
  throw new KaonError('cluster-key', 'tokens are made from the cluster key, and none was given', {
    hint: "on a master's host: --cluster-key-file /etc/kaon/credentials/master/cluster-key",
  });
}

function printToken(clusterKey: Buffer, { name, generation }: PrincipalRecord): void {
  process.stdout.write(`${makeToken(clusterKey, name, generation)}\n`);
}

function purposeOf(record: PrincipalRecord): string {
  return [record.kind, ...scopeOf(record)].join('; ');
}

function scopeOf({ kind, roles, users, agentId }: PrincipalRecord): string[] {
  if (kind === 'agent') return [`agent ${agentId ?? ''}`];
  if (kind !== 'framework') return [];
  return [
    `role ${roles.join(', ')}`,
    users.length === 0 ? 'tasks name no user' : `tasks as ${users.join(', ')}`,
  ];
}

function lifeOf({ expiresAtMs }: PrincipalRecord): string {
  return expiresAtMs === undefined ? 'for ever' : `until ${formatTime(expiresAtMs)}`;
}

/** Never a name of a token: those have no `@`. A container may run under a user id that has no name. */
function author(): string {
  const uid = String(process.getuid?.() ?? 0);
  try {
    return `${userInfo().username}@${hostname()}`;
  } catch {
    return `uid${uid}@${hostname()}`;
  }
}

function say(text: string): void {
  process.stderr.write(`kaon: ${text}\n`);
}
