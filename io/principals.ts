/**
 * The principals of a secured cluster in Redis: a hash of records, each signed with the cluster's key, so that whoever can
 * write to Redis but does not have the key cannot add one, nor change what one may do.
 */
import { createHmac } from 'node:crypto';
import type { Redis } from 'ioredis';
import { decodeWith } from '../protocol/codec.ts';
import { KaonError } from '../protocol/errors.ts';
import type { Keys } from '../protocol/keys.ts';
import type {
  Principal,
  PrincipalAct,
  PrincipalProblem,
  PrincipalRecord as Record,
} from '../protocol/principals.ts';
import { PRINCIPAL_ACTS_MAX, PrincipalRecord, problemOfPrincipal } from '../protocol/principals.ts';
import { readHash } from './redis-hash.ts';
import { REPLACE_PRINCIPAL } from './scripts.ts';
import { isSameKey, keyOf, parseToken } from './tokens.ts';

/** Somebody else changes the same principal: it is read and tried again so often. */
const CHANGE_TRIES = 5;

/** A principal to add; its generation and times are given by `addPrincipal`. */
export interface NewPrincipal extends Omit<Principal, 'generation' | 'roles' | 'users'> {
  /** Default: none. */
  readonly roles?: readonly string[];
  /** Default: none. */
  readonly users?: readonly string[];
  /** By the clock of Redis; absent: never. */
  readonly expiresAtMs?: number | undefined;
  /** Who adds it, for the event log: `root@host`, or the name of an admin. */
  readonly by: string;
}

/** All principals at one moment. */
export interface Principals {
  readonly records: ReadonlyMap<string, Record>;
  /** Names whose records are not signed with this cluster's key, or cannot be read: nobody is accepted as them. */
  readonly forged: readonly string[];
}

/**
 * Adds a principal, also one whose name was revoked before. Its token is `makeToken(clusterKey, name, generation)` of
 * what is returned.
 *
 * @throws KaonError `principal-exists`, and `principal-invalid` if its fields do not go together
 */
export async function addPrincipal(
  redis: Redis,
  keys: Keys,
  clusterKey: Buffer,
  principal: NewPrincipal,
): Promise<Record> {
  const { by, name, roles = [], users = [], expiresAtMs, ...rest } = principal;
  const problem = problemOfNew(principal);
  if (problem !== undefined) {
    throw new KaonError('principal-invalid', `cannot create ${name}: ${problem}`);
  }
  return change({ redis, keys, clusterKey }, { name, type: 'created', by }, (before, nowMs) => {
    if (before && before.revokedAtMs === undefined) {
      throw new KaonError('principal-exists', `there is a token with the name ${name}`, {
        hint: `choose another name, or give it a new token: kaon token rotate ${name}`,
      });
    }
    const generation = nextGeneration(before, nowMs);
    const given = { ...rest, name, roles: [...roles], users: [...users], generation };
    return { ...given, createdAtMs: nowMs, ...(expiresAtMs !== undefined && { expiresAtMs }) };
  });
}

/** A principal to change, and who does it. */
export interface PrincipalChange {
  readonly name: string;
  readonly by: string;
}

/**
 * Gives a principal a new token; the old one is refused as soon as the master has seen it, within a second or so.
 *
 * @throws KaonError `principal-unknown`, also if it was revoked
 */
export async function rotatePrincipal(
  redis: Redis,
  keys: Keys,
  clusterKey: Buffer,
  { name, by }: PrincipalChange,
): Promise<Record> {
  return change({ redis, keys, clusterKey }, { name, type: 'rotated', by }, (before, nowMs) => {
    if (before?.revokedAtMs !== undefined) {
      throw new KaonError('principal-unknown', `the token ${name} was revoked`, {
        hint: `kaon token create ${name} ... makes a new one`,
      });
    }
    if (!before) throw unknownPrincipal(name);
    return { ...before, ...renewed(before, nowMs), generation: nextGeneration(before, nowMs) };
  });
}

/**
 * Ends a principal: what says that it is it is refused, within a second or so. Its tasks go on.
 *
 * @throws KaonError `principal-unknown`; that it was revoked before is no error
 */
export async function revokePrincipal(
  redis: Redis,
  keys: Keys,
  clusterKey: Buffer,
  { name, by }: PrincipalChange,
): Promise<Record> {
  return change({ redis, keys, clusterKey }, { name, type: 'revoked', by }, (before, nowMs) => {
    if (!before) throw unknownPrincipal(name);
    return before.revokedAtMs === undefined ? { ...before, revokedAtMs: nowMs } : undefined;
  });
}

/** @returns all principals, also revoked ones; cost: one pass over the hash, and a signature each */
export async function readPrincipals(
  redis: Redis,
  keys: Keys,
  clusterKey: Buffer,
): Promise<Principals> {
  return openPrincipals(clusterKey, keys.principals, await readHash(redis, keys.principals));
}

/**
 * @param place key of the hash: a record of one cluster is none of another
 * @param sealed what the hash holds
 */
export function openPrincipals(
  clusterKey: Buffer,
  place: string,
  sealed: ReadonlyMap<string, string>,
): Principals {
  const records = new Map<string, Record>();
  const forged: string[] = [];
  for (const [name, text] of sealed) {
    const record = open(clusterKey, place, text);
    if (record?.name === name) records.set(name, record);
    else forged.push(name);
  }
  return { records, forged };
}

/** @returns a record as the hash holds it: its signature, a space, and its JSON */
export function sealPrincipal(clusterKey: Buffer, place: string, record: Record): string {
  const json = JSON.stringify(record);
  return `${signature(clusterKey, place, json).toString('base64url')} ${json}`;
}

/** What became of a token that somebody has shown. */
export type TokenVerdict =
  | { readonly ok: true; readonly principal: Record }
  | { readonly ok: false; readonly code: 'malformed' | 'forged' | PrincipalProblem };

/**
 * Whether a token is good: for those who are shown one themselves, as an HTTP server is.
 *
 * @param nowMs by the clock of Redis
 */
export function verifyToken(
  clusterKey: Buffer,
  { records }: Principals,
  text: string,
  nowMs: number,
): TokenVerdict {
  const token = parseToken(text);
  if (!token) return { ok: false, code: 'malformed' };
  const { name, generation, key } = token;
  // First of all: of a token that the cluster has not made nothing more is said.
  if (!isSameKey(key, keyOf(clusterKey, name, generation))) return { ok: false, code: 'forged' };
  const principal = records.get(name);
  const code = problemOfPrincipal(principal, generation, nowMs);
  if (code !== undefined) return { ok: false, code };
  return principal ? { ok: true, principal } : { ok: false, code: 'unknown' };
}

/** Replaces a record as the hash holds it. @returns false if it is not `before` any more; '' stands for none */
export async function replacePrincipal(
  redis: Redis,
  keys: Keys,
  change: { readonly name: string; readonly before: string; readonly sealed: string },
): Promise<boolean> {
  const { name, before, sealed } = change;
  const args = [keys.principals, keys.principalChanges, name, before, sealed] as const;
  return (await redis.eval(REPLACE_PRINCIPAL, 2, ...args)) === 1;
}

interface Place {
  readonly redis: Redis;
  readonly keys: Keys;
  readonly clusterKey: Buffer;
}

/**
 * @param make the record without its acts; undefined: it stays as it is
 * @returns the record as it is now
 */
async function change(
  { redis, keys, clusterKey }: Place,
  act: Pick<PrincipalAct, 'type' | 'by'> & { readonly name: string },
  make: (before: Record | undefined, nowMs: number) => Omit<Record, 'acts'> | undefined,
): Promise<Record> {
  const { name } = act;
  for (let tries = 1; tries <= CHANGE_TRIES; tries += 1) {
    const text = (await redis.hget(keys.principals, name)) ?? '';
    const before = text === '' ? undefined : open(clusterKey, keys.principals, text);
    if (text !== '' && before?.name !== name) throw foreignRecord(name);
    const atMs = Number((await redis.time())[0]) * 1000;
    const made = make(before, atMs);
    if (made === undefined && before) return before;
    const after = PrincipalRecord.parse({ ...made, acts: actsWith(before, act, atMs) });
    const sealed = sealPrincipal(clusterKey, keys.principals, after);
    if (await replacePrincipal(redis, keys, { name, before: text, sealed })) return after;
  }
  throw new KaonError('principal-busy', `${name} is being changed by somebody else`, {
    hint: 'try again',
  });
}

function actsWith(
  before: Record | undefined,
  { type, by }: Pick<PrincipalAct, 'type' | 'by'>,
  atMs: number,
): PrincipalAct[] {
  const acts = before?.acts ?? [];
  const number = (acts.at(-1)?.number ?? 0) + 1;
  return [...acts, { number, type, by, atMs }].slice(-PRINCIPAL_ACTS_MAX);
}

/** A new token is good for as long as the last one was when it was made. */
function renewed(
  { acts, expiresAtMs, createdAtMs }: Record,
  nowMs: number,
): Partial<Pick<Record, 'expiresAtMs'>> {
  if (expiresAtMs === undefined) return {};
  const made = acts.findLast(({ type }) => type !== 'revoked')?.atMs ?? createdAtMs;
  return { expiresAtMs: nowMs + (expiresAtMs - made) };
}

/** Above every number that this name has had, also in a Redis that has lost the record: an old token stays dead. */
function nextGeneration(before: Record | undefined, nowMs: number): number {
  return Math.max((before?.generation ?? 0) + 1, Math.floor(nowMs / 1000));
}

function problemOfNew({ kind, roles = [], users = [], agentId }: NewPrincipal): string | undefined {
  if (kind === 'framework' && roles.length === 0) return 'a framework needs a role';
  if (kind === 'agent' && agentId === undefined) return 'an agent needs the id that it speaks for';
  if (kind !== 'agent' && agentId !== undefined) return 'only an agent has an agent id';
  if (kind !== 'framework' && roles.length + users.length > 0) {
    return 'roles and users are for frameworks';
  }
  return undefined;
}

function open(clusterKey: Buffer, place: string, text: string): Record | undefined {
  const at = text.indexOf(' ');
  const json = text.slice(at + 1);
  const given = Buffer.from(text.slice(0, Math.max(at, 0)), 'base64url');
  if (!isSameKey(given, signature(clusterKey, place, json))) return undefined;
  const decoded = decodeWith(PrincipalRecord, json);
  return decoded.ok ? decoded.value : undefined;
}

function signature(clusterKey: Buffer, place: string, json: string): Buffer {
  return createHmac('sha256', clusterKey).update(`kaon principal v1\0${place}\0${json}`).digest();
}

function unknownPrincipal(name: string): KaonError {
  return new KaonError('principal-unknown', `there is no token with the name ${name}`, {
    hint: 'kaon token ls lists them',
  });
}

function foreignRecord(name: string): KaonError {
  const message = `the record of ${name} in Redis is not signed with this cluster key`;
  return new KaonError('principal-forged', message, {
    hint: 'is it the key of this cluster? If it is, somebody has written to Redis',
  });
}
