/**
 * Redis as the simulator has it: hosts with the model on them, each with its own clock. It can be slow, out of memory,
 * restarted with or without its last second, emptied, and replaced by a replica that lacks the last writes, while some
 * clients still talk to the old one.
 */
import type { RedisCopy } from '../../io/fake/model.ts';
import { RedisModel } from '../../io/fake/model.ts';
import type { Append, AppendResult, Commit, CommitResult, Lease } from '../../io/store.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { ClientName } from '../../protocol/keys.ts';
import type { World } from './world.ts';

/** The calls of the model that the simulated daemons make. */
export type SimRedis = Pick<
  RedisModel,
  | 'nowMs'
  | 'openSession'
  | 'append'
  | 'heartbeat'
  | 'readClient'
  | 'acquireLease'
  | 'beginTerm'
  | 'renewLease'
  | 'raiseEpoch'
  | 'releaseLease'
  | 'leader'
  | 'isLeaderGone'
  | 'loadSnapshot'
  | 'readInbox'
  | 'commit'
  | 'silentClients'
>;

/**
 * What one Redis remembers: everything since it was empty, or what its copy had, and everything since. A time is that of
 * the simulated world.
 */
export interface Memory {
  readonly parent: Memory | undefined;
  /** Of what the parent had, all that was written until then. */
  readonly copiedAtMs: number;
}

/** Is something that was written at that time, by a Redis with the memory `by`, in `memory`? */
export function remembers(memory: Memory, by: Memory, atMs: number): boolean {
  if (memory === by) return true;
  for (let at: Memory = memory; at.parent; at = at.parent) {
    if (atMs > at.copiedAtMs) return false;
    if (at.parent === by) return true;
  }
  return false;
}

/** What a checker is told of Redis, host by host. */
export interface RedisObserver {
  appended(host: RedisHost, append: Append, result: AppendResult): void;
  heartbeat(host: RedisHost, client: ClientName, session: SessionId): void;
  /** `mayReplace`: it was asked for in the place of a holder that seemed to have died. */
  leaseHeld(host: RedisHost, lease: Lease, leaseMs: number, mayReplace: boolean): void;
  leaseRaised(host: RedisHost, from: Lease, to: Lease): void;
  leaseReleased(host: RedisHost, lease: Lease): void;
  committed(host: RedisHost, commit: Commit, result: CommitResult, isRepeated: boolean): void;
  /** The host has other data than before, or is a new one. */
  dataChanged(host: RedisHost): void;
}

/** A write that Redis did not take: out of memory. */
export class Refused extends Error {
  override readonly name = 'Refused';
}

/** One Redis process after the other on one host. */
export class RedisHost {
  readonly name: string;
  readonly model: RedisModel;
  readonly redis: SimRedis;
  readonly skewMs: number;
  memory: Memory = { parent: undefined, copiedAtMs: 0 };
  isUp = true;
  /** Until then nothing is executed. */
  slowUntilMs = 0;
  /** Until then writes are refused. */
  fullUntilMs = 0;
  /** Blocked reads, by what they wait for. */
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #world: World;

  constructor(
    name: string,
    options: {
      readonly world: World;
      readonly skewMs: number;
      readonly observer: RedisObserver;
      readonly seam: (inner: SimRedis) => SimRedis;
    },
  ) {
    const { world, skewMs, observer, seam } = options;
    this.name = name;
    this.skewMs = skewMs;
    this.#world = world;
    this.model = new RedisModel(() => Math.floor(world.nowMs + skewMs));
    this.redis = observe(this, seam(passThrough(this.model)), observer);
  }

  get nowMs(): number {
    return this.model.nowMs();
  }

  /** @throws Refused while there is no memory */
  demandMemory(): void {
    if (this.fullUntilMs > this.#world.nowMs)
      throw new Refused("OOM command not allowed when used memory > 'maxmemory'");
  }

  /** Those who wait for that look again. */
  wake(key: string): void {
    const waiting = this.#waiting.get(key);
    if (waiting) for (const look of [...waiting]) look();
  }

  /** Calls `done` with the first result that is not empty, or with the empty one after `blockMs`. */
  block(
    key: string,
    read: () => unknown[],
    blockMs: number,
    done: (result: unknown) => void,
  ): void {
    const first = read();
    if (first.length > 0 || blockMs <= 0) {
      done(first);
      return;
    }
    let waiting = this.#waiting.get(key);
    if (!waiting) this.#waiting.set(key, (waiting = new Set()));
    const mine = waiting;
    const finish = (result: unknown[]): void => {
      if (!mine.delete(look)) return;
      if (mine.size === 0 && this.#waiting.get(key) === mine) this.#waiting.delete(key);
      done(result);
    };
    const look = (): void => {
      const found = read();
      if (found.length > 0) finish(found);
    };
    mine.add(look);
    this.#world.at(blockMs, () => {
      finish([]);
    });
  }
}

/** Key that a reader of the inbox waits for. */
export const INBOX = 'inbox';
/** Key that a standby waits for. */
export const LEADER = 'leader';

/** Key that a client waits for. */
export function streamOf(client: ClientName, session: SessionId): string {
  return `${client}:${session}`;
}

/** Redis and its replicas: which host is the one that clients are sent to. */
export class RedisHosts {
  primary: RedisHost;
  /** The one before it, while some clients still talk to it. */
  former: RedisHost | undefined;
  readonly #options: ConstructorParameters<typeof RedisHost>[1];
  readonly #world: World;
  #hosts = 1;
  #restarts = 0;

  constructor(options: ConstructorParameters<typeof RedisHost>[1]) {
    this.#options = options;
    this.#world = options.world;
    this.primary = new RedisHost('redis1', options);
  }

  copy(): { readonly data: RedisCopy; readonly memory: Memory } {
    const { model, memory } = this.primary;
    return { data: model.copy(), memory: { parent: memory, copiedAtMs: this.#world.nowMs } };
  }

  /** The process on the host is another one, with all its data or with what the copy has. */
  restart(copy?: ReturnType<RedisHosts['copy']>): void {
    const { primary } = this;
    this.#restarts += 1;
    if (copy) {
      primary.model.promote(copy.data);
      primary.memory = copy.memory;
    } else primary.model.restart(true);
    this.#options.observer.dataChanged(primary);
  }

  flush(): void {
    const { primary } = this;
    primary.model.flushAll();
    primary.memory = { parent: undefined, copiedAtMs: 0 };
    this.#options.observer.dataChanged(primary);
  }

  /** Another host with the copy is the primary now; the old one goes on until `former` is given up. */
  promote(copy: ReturnType<RedisHosts['copy']>, skewMs: number): void {
    this.#hosts += 1;
    const next = new RedisHost(`redis${this.#hosts}`, { ...this.#options, skewMs });
    // The model counts its processes from 1: no two hosts may have one of the same name.
    for (let index = 0; index < this.#restarts; index += 1) next.model.restart(false);
    this.#restarts += 1;
    next.model.promote(copy.data);
    next.memory = copy.memory;
    this.former = this.primary;
    this.primary = next;
    this.#options.observer.dataChanged(next);
  }
}

/** All methods of `inner`, to replace some of them. */
export function passThrough(inner: SimRedis): SimRedis {
  return {
    nowMs: () => inner.nowMs(),
    openSession: (client) => inner.openSession(client),
    append: (append) => inner.append(append),
    heartbeat: (client, session, cursor) => inner.heartbeat(client, session, cursor),
    readClient: (client, session, cursor) => inner.readClient(client, session, cursor),
    acquireLease: (masterId, leaseMs, instead, connection) =>
      inner.acquireLease(masterId, leaseMs, instead, connection),
    beginTerm: (lease) => inner.beginTerm(lease),
    renewLease: (lease, leaseMs, connection) => inner.renewLease(lease, leaseMs, connection),
    raiseEpoch: (lease, epoch) => inner.raiseEpoch(lease, epoch),
    releaseLease: (lease) => {
      inner.releaseLease(lease);
    },
    leader: () => inner.leader(),
    isLeaderGone: (lease) => inner.isLeaderGone(lease),
    loadSnapshot: () => inner.loadSnapshot(),
    readInbox: (cursor, count) => inner.readInbox(cursor, count),
    commit: (commit) => inner.commit(commit),
    silentClients: (beforeMs) => inner.silentClients(beforeMs),
  };
}

/** @returns `inner` with its readers woken, refusing what a full Redis refuses, and told to the observer */
function observe(host: RedisHost, inner: SimRedis, observer: RedisObserver): SimRedis {
  let last: Commit | undefined;
  return {
    ...passThrough(inner),
    openSession: (client) => {
      host.demandMemory();
      return inner.openSession(client);
    },
    append: (append) => {
      host.demandMemory();
      const result = inner.append(append);
      observer.appended(host, append, result);
      host.wake(INBOX);
      return result;
    },
    heartbeat: (client, session, cursor) => {
      host.demandMemory();
      const result = inner.heartbeat(client, session, cursor);
      if (result === 'ok') observer.heartbeat(host, client, session);
      return result;
    },
    acquireLease: (masterId, leaseMs, instead, connection) => {
      host.demandMemory();
      const lease = inner.acquireLease(masterId, leaseMs, instead, connection);
      if (lease) observer.leaseHeld(host, lease, leaseMs, instead !== undefined);
      host.wake(LEADER);
      return lease;
    },
    renewLease: (lease, leaseMs, connection) => {
      const nowMs = inner.renewLease(lease, leaseMs, connection);
      if (typeof nowMs === 'number') observer.leaseHeld(host, lease, leaseMs, false);
      return nowMs;
    },
    raiseEpoch: (lease, epoch) => {
      host.demandMemory();
      const raised = inner.raiseEpoch(lease, epoch);
      if (raised) observer.leaseRaised(host, lease, raised);
      return raised;
    },
    releaseLease: (lease) => {
      inner.releaseLease(lease);
      observer.leaseReleased(host, lease);
      host.wake(LEADER);
    },
    commit: (commit) => {
      host.demandMemory();
      const result = inner.commit(commit);
      const isRepeated = result.ok && commit === last;
      if (result.ok) last = commit;
      observer.committed(host, commit, result, isRepeated);
      if (!result.ok) return result;
      for (const { client, session } of commit.sends) host.wake(streamOf(client, session));
      for (const { client, session, farewell } of commit.endedStreams) {
        if (farewell !== undefined) host.wake(streamOf(client, session));
      }
      return result;
    },
  };
}
