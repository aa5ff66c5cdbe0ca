/**
 * Who asks, and whether it may. In a secured cluster by its token, whose key is checked in constant time before anything
 * else; in an open one whoever reaches the server may do everything, as everywhere else there.
 */
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { certificateFacts } from '../../io/certificate-facts.ts';
import { readPrincipals, verifyToken } from '../../io/principals.ts';
import type { Principals } from '../../io/principals.ts';
import type { RedisStore } from '../../io/redis-store.ts';
import type { PrincipalKind, PrincipalRecord } from '../../protocol/principals.ts';
import { wordsOf } from '../core/refusals.ts';
import { ApiError } from './answer.ts';

/** What a request needs: nothing at all, to read, or to change something. */
export type Need = 'nothing' | 'read' | 'change';

/** Who asks. */
export interface Caller {
  /** Of its token; in an open cluster what is known of it: `http`, or the name in its certificate. */
  readonly name: string;
  /** Absent in an open cluster. */
  readonly principal?: PrincipalRecord;
}

const MAY: Readonly<Record<Exclude<Need, 'nothing'>, readonly PrincipalKind[]>> = {
  read: ['viewer', 'operator', 'admin'],
  change: ['operator', 'admin'],
};

const NO_PRINCIPALS: Principals = { records: new Map(), forged: [] };
const CHALLENGE = 'Bearer realm="kaon"';

/** Verifies tokens; remembers the principals until they have changed. */
export class Gate {
  readonly #store: RedisStore;
  readonly #clusterKey: Buffer | undefined;
  #known: { readonly version: string; readonly principals: Principals } | undefined;

  /** @param clusterKey absent in an open cluster */
  constructor(store: RedisStore, clusterKey: Buffer | undefined) {
    this.#store = store;
    this.#clusterKey = clusterKey;
  }

  /** @throws ApiError 401, 403 */
  async admit(request: IncomingMessage, need: Exclude<Need, 'nothing'>): Promise<Caller> {
    if (!this.#clusterKey) return { name: nameInCertificate(request) ?? 'http' };
    const principal = await this.#verify(this.#clusterKey, tokenIn(request));
    const { name, kind } = principal;
    if (MAY[need].includes(kind)) return { name, principal };
    const what = need === 'read' ? 'read here' : 'change anything here';
    throw new ApiError(403, 'forbidden', {
      message: `token ${name} is of kind ${kind}, which may not ${what}`,
      hint: `it takes one of kind ${MAY[need].join(' or ')}: kaon token create`,
    });
  }

  async #verify(clusterKey: Buffer, token: string): Promise<PrincipalRecord> {
    // What the cluster has not made is refused without a look into Redis.
    const made = verifyToken(clusterKey, NO_PRINCIPALS, token, 0);
    if (!made.ok && (made.code === 'malformed' || made.code === 'forged')) {
      throw unauthorized('token-forged', wordsOf('forged'));
    }
    const [version, nowMs] = await Promise.all([
      this.#store.redis.get(this.#store.keys.principalChanges),
      this.#store.nowMs(),
    ]);
    const verdict = verifyToken(
      clusterKey,
      await this.#read(clusterKey, version ?? ''),
      token,
      nowMs,
    );
    if (verdict.ok) return verdict.principal;
    const code = verdict.code === 'malformed' ? 'forged' : verdict.code;
    throw unauthorized(`token-${code}`, wordsOf(code));
  }

  async #read(clusterKey: Buffer, version: string): Promise<Principals> {
    if (this.#known?.version === version) return this.#known.principals;
    const { redis, keys } = this.#store;
    const principals = await readPrincipals(redis, keys, clusterKey);
    this.#known = { version, principals };
    return principals;
  }
}

/** @throws ApiError 401 */
function tokenIn({ headers }: IncomingMessage): string {
  const [, token] = /^Bearer +([\w-]+) *$/i.exec(headers.authorization ?? '') ?? [];
  if (token !== undefined) return token;
  throw unauthorized('unauthenticated', wordsOf('unauthenticated'));
}

function unauthorized(code: string, words: string): ApiError {
  const [message = words, hint] = words.split('; hint: ');
  const sent = code === 'unauthenticated' ? CHALLENGE : `${CHALLENGE}, error="invalid_token"`;
  return new ApiError(401, code, {
    message,
    hint: hint ?? 'send it as Authorization: Bearer kaon1_...',
    headers: { 'WWW-Authenticate': sent },
  });
}

/** Of a client certificate that the server has asked for and found good. */
function nameInCertificate({ socket }: IncomingMessage): string | undefined {
  const { authorized, getPeerX509Certificate } = socket as Partial<TLSSocket>;
  if (authorized !== true) return undefined;
  const certificate = getPeerX509Certificate?.call(socket);
  return certificate && certificateFacts(certificate).subject;
}
