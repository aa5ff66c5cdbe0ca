/**
 * The leader's lease on a real Redis: who holds it, with which epoch, and by which connection it writes. That connection
 * is how a standby sees a leader die: the kernel closes it with the process, long before the lease is over.
 */
import type { Redis } from 'ioredis';
import type { MasterId } from '../protocol/ids.ts';
import type { Keys } from '../protocol/keys.ts';
import type { Script } from './define-script.ts';
import { defineScript } from './define-script.ts';
import { ACQUIRE, BEGIN_TERM, RAISE_EPOCH, RELEASE, RENEW } from './scripts.ts';
import type { Lease, TermBegin } from './store.ts';
import { CLOCK_SKEW_MAX_MS } from './store.ts';

/** The lease as it stands in the key `leader`. */
export function tokenOf(lease: Lease): string {
  return `${String(lease.epoch)} ${lease.masterId}`;
}

/** The lease of one cluster, as one process sees it. */
export class RedisLease {
  readonly #redis: Redis;
  readonly #keys: Keys;
  readonly #onReconnected: () => void;
  readonly #scripts: Readonly<Record<'acquire' | 'begin' | 'renew' | 'raise' | 'release', Script>>;
  /** Id of the command connection; '' while it is not known, and where it would say nothing. */
  #connection = '';
  #isTracking = false;

  /** @param onReconnected the leader should renew: its connection is another one, and the lease names the old one */
  constructor(redis: Redis, keys: Keys, onReconnected: () => void) {
    this.#redis = redis;
    this.#keys = keys;
    this.#onReconnected = onReconnected;
    this.#scripts = {
      acquire: defineScript(redis, ACQUIRE, 3),
      begin: defineScript(redis, BEGIN_TERM, 4),
      renew: defineScript(redis, RENEW, 3),
      raise: defineScript(redis, RAISE_EPOCH, 3),
      release: defineScript(redis, RELEASE, 2),
    };
  }

  async acquire(masterId: MasterId, leaseMs: number, instead?: Lease): Promise<Lease | undefined> {
    if (this.#connection === '') await this.#identify();
    const { leader, epoch: epochKey, leaderConnection, leaderChannel } = this.#keys;
    const replaced = instead ? tokenOf(instead) : '';
    const args = [masterId, leaseMs, replaced, this.#connection, leaderChannel];
    const epoch = await this.#scripts.acquire([leader, epochKey, leaderConnection, ...args]);
    return epoch === null ? undefined : { masterId, epoch: Number(epoch) };
  }

  async begin(lease: Lease): Promise<TermBegin> {
    const { leader, server, sessions, sessionFloor } = this.#keys;
    const args = [tokenOf(lease), CLOCK_SKEW_MAX_MS];
    const reply = await this.#scripts.begin([leader, server, sessions, sessionFloor, ...args]);
    if (reply === null) return { ok: false };
    const [time, lost, from] = reply as [string, number, string | undefined];
    return { ok: true, storeMs: Number(time), lostBefore: lost === 1 ? Number(from) : undefined };
  }

  async renew(lease: Lease, leaseMs: number): Promise<number | 'server-changed' | undefined> {
    const { leader, server, leaderConnection } = this.#keys;
    const args = [tokenOf(lease), leaseMs, this.#connection];
    const reply = await this.#scripts.renew([leader, server, leaderConnection, ...args]);
    if (reply === null) return undefined;
    return reply === 'server-changed' ? reply : Number(reply);
  }

  async raise(lease: Lease, epoch: number): Promise<Lease | undefined> {
    const raised = { masterId: lease.masterId, epoch };
    const { leader, epoch: epochKey, leaderConnection } = this.#keys;
    const args = [tokenOf(lease), epoch, tokenOf(raised)];
    const done = await this.#scripts.raise([leader, epochKey, leaderConnection, ...args]);
    return done === 1 ? raised : undefined;
  }

  async release(lease: Lease): Promise<void> {
    await this.#release(tokenOf(lease), lease.masterId);
  }

  async releaseOf(masterId: MasterId): Promise<boolean> {
    return this.#release('', masterId);
  }

  async #release(token: string, masterId: MasterId): Promise<boolean> {
    const { leader, leaderConnection, leaderChannel } = this.#keys;
    const args = [token, masterId, leaderChannel];
    return (await this.#scripts.release([leader, leaderConnection, ...args])) === 1;
  }

  async holder(): Promise<(Lease & { readonly remainingMs: number }) | undefined> {
    // Both on one connection without waiting: an expiry in between only makes the rest of the lease negative.
    const [token, remainingMs] = await Promise.all([
      this.#redis.get(this.#keys.leader),
      this.#redis.pttl(this.#keys.leader),
    ]);
    const match = /^(\d+) (.*)$/.exec(token ?? '');
    if (!match) return undefined;
    return { epoch: Number(match[1]), masterId: match[2] as MasterId, remainingMs };
  }

  async isHolderGone(lease: Lease): Promise<boolean> {
    const text = await this.#redis.get(this.#keys.leaderConnection);
    const [, id = '', token] = /^(\d+) (.*)$/.exec(text ?? '') ?? [];
    if (token !== tokenOf(lease)) return false;
    try {
      const clients = await this.#redis.call('CLIENT', 'LIST', 'ID', id);
      return !String(clients).includes(`id=${id} `);
    } catch {
      return false; // Not permitted, or older than Redis 6.2: who stands by waits for the end of the lease instead.
    }
  }

  /** Learns which connection this is, and from the first time on learns it again after each reconnection. */
  async #identify(): Promise<void> {
    if (!this.#isTracking) {
      this.#isTracking = true;
      this.#redis.on('close', () => {
        this.#connection = '';
      });
      this.#redis.on('ready', () => {
        void this.#identify().then(this.#onReconnected);
      });
    }
    try {
      this.#connection = String(await this.#redis.call('CLIENT', 'ID'));
    } catch {
      this.#connection = ''; // Not permitted, or closed: a lease without it is one that lasts until it is over.
    }
  }
}
