/**
 * What one Redis has been seen to take: who leads it, its commits, and the registry and the event log that follow from
 * them. Kept from what Redis answered, and never from what the daemons believe.
 */
import type { Commit, CommitResult, Lease } from '../../io/store.ts';
import type { OfferId } from '../../protocol/ids.ts';
import type {
  AgentRecord,
  ClusterEvent,
  ExecutorRecord,
  FrameworkRecord,
  OfferRecord,
  TaskRecord,
} from '../../protocol/records.ts';
import type { Projection, ProjectionSource } from '../../protocol/replay.ts';
import { applyEvent, emptyProjection, projectionOf } from '../../protocol/replay.ts';
import type { Resources } from '../../protocol/resources.ts';
import { addResources, NO_RESOURCES, subtractResources } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { Memory, RedisHost } from './redis.ts';
import { fail } from './violation.ts';

/** What a commit has brought. */
export interface CommitFacts {
  readonly tasks: readonly TaskRecord[];
  /** Tasks that are gone, as they were before. */
  readonly removed: readonly TaskRecord[];
  /** Agents that have registered. */
  readonly registered: readonly string[];
  /** Agents on which something was promised. */
  readonly promisedOn: ReadonlySet<string>;
  readonly events: readonly ClusterEvent[];
}

export class HostBook {
  readonly #host: RedisHost;
  #memory: Memory;
  readonly tasks = new Map<string, TaskRecord>();
  readonly offers = new Map<OfferId, OfferRecord>();
  /** By path: `agentId/frameworkId/executorId`. */
  readonly executors = new Map<string, ExecutorRecord>();
  readonly #agents = new LazyRecords<AgentRecord>();
  /** Long with filters, and rarely looked at. */
  readonly #frameworks = new LazyRecords<FrameworkRecord>();
  /** By agent: offers; tasks that have not ended, and executors. */
  readonly #offered = new Map<string, Resources>();
  readonly #used = new Map<string, Resources>();
  #lease: { readonly lease: Lease; readonly untilMs: number } | undefined;
  #epoch = 0;
  /** Who has committed in an epoch. */
  readonly #committers = new Map<number, string>();
  #number = 0;
  #cursor = 0;
  #last: Commit | undefined;
  #followed: Projection = emptyProjection();

  constructor(host: RedisHost) {
    this.#host = host;
    this.#memory = host.memory;
    this.reload();
  }

  /** Redis has other data than before: what it has now is what counts. */
  reload(): void {
    const snapshot = this.#host.model.loadSnapshot();
    const { tasks, offers, executors } = this;
    for (const map of [tasks, offers, executors, this.#agents, this.#frameworks]) map.clear();
    this.#offered.clear();
    this.#used.clear();
    const { registry } = snapshot;
    for (const [key, value] of registry.tasks) this.#setTask(key, JSON.parse(value) as TaskRecord);
    for (const [key, value] of registry.executors)
      this.#setExecutor(key, JSON.parse(value) as ExecutorRecord);
    for (const [key, value] of registry.offers)
      this.#setOffer(key as OfferId, JSON.parse(value) as OfferRecord);
    for (const [key, value] of registry.agents) this.#agents.set(key, value);
    for (const [key, value] of registry.frameworks) this.#frameworks.set(key, value);
    const leader = this.#host.model.leader();
    this.#lease = leader && {
      lease: leader,
      untilMs: this.#host.nowMs + leader.remainingMs,
    };
    if (this.#memory !== this.#host.memory) this.#committers.clear();
    this.#memory = this.#host.memory;
    this.#epoch = leader?.epoch ?? 0;
    this.#number = snapshot.commitNumber;
    this.#cursor = positionOf(snapshot.cursor);
    this.#last = undefined;
    this.#followed = projectionOf(this.source());
    const cluster = registry.cluster.get('state');
    if (cluster !== undefined)
      this.#followed.recovering =
        (JSON.parse(cluster) as { recoveringUntilMs: number }).recoveringUntilMs !== 0;
  }

  source(): ProjectionSource {
    return {
      cluster: [],
      agents: this.#agents.values(),
      frameworks: this.#frameworks.values(),
      offers: this.offers.values(),
      executors: this.executors.values(),
      tasks: this.tasks.values(),
    };
  }

  promisedOn(agentId: string): Resources {
    return addResources(this.offeredOn(agentId), this.#used.get(agentId) ?? NO_RESOURCES);
  }

  offeredOn(agentId: string): Resources {
    return this.#offered.get(agentId) ?? NO_RESOURCES;
  }

  // --- the lease -------------------------------------------------------------------------------------------------

  leaseHeld(lease: Lease, leaseMs: number, mayReplace: boolean): void {
    const held = this.#lease;
    const isTaken = held !== undefined && held.lease.masterId !== lease.masterId;
    if (isTaken && held.untilMs > this.#host.nowMs && !mayReplace)
      fail(`${lease.masterId} got the lease that ${held.lease.masterId} still holds`);
    const isRenewal = held !== undefined && isSameLease(held.lease, lease);
    if (lease.epoch < this.#epoch || (!isRenewal && lease.epoch === this.#epoch))
      fail(`epoch ${lease.epoch} came after ${this.#epoch}`);
    this.#epoch = lease.epoch;
    this.#lease = { lease, untilMs: this.#host.nowMs + leaseMs };
  }

  leaseRaised(from: Lease, to: Lease): void {
    if (!this.#lease) return;
    if (isSameLease(this.#lease.lease, to)) return;
    if (!isSameLease(this.#lease.lease, from)) fail(`${to.masterId} raised the epoch of another`);
    this.#lease = { ...this.#lease, lease: to };
    this.#epoch = Math.max(this.#epoch, to.epoch);
  }

  leaseReleased(lease: Lease): void {
    if (this.#lease && isSameLease(this.#lease.lease, lease)) this.#lease = undefined;
  }

  // --- commits ---------------------------------------------------------------------------------------------------

  /** @returns what it brought; undefined if it was refused, or is a repetition */
  committed(commit: Commit, result: CommitResult, isRepeated: boolean): CommitFacts | undefined {
    if (!result.ok || isRepeated) return undefined;
    const { lease, number } = commit;
    if (number === this.#number && this.#last !== undefined && commit !== this.#last)
      fail(`commit ${number} was taken for a repetition of another one`);
    const held = this.#lease;
    if (!held || !isSameLease(held.lease, lease) || held.untilMs <= this.#host.nowMs)
      fail(`commit ${number} of ${lease.masterId} in epoch ${lease.epoch}, which does not lead`);
    const other = this.#committers.get(lease.epoch) ?? lease.masterId;
    if (other !== lease.masterId)
      fail(`${other} and ${lease.masterId} have both written in epoch ${lease.epoch}`);
    this.#committers.set(lease.epoch, lease.masterId);
    const cursor = positionOf(commit.cursor);
    if (cursor < this.#cursor) fail(`the cursor went back to ${commit.cursor}`);
    this.#cursor = cursor;
    this.#number = number;
    this.#last = commit;
    return this.#apply(commit);
  }

  #apply(commit: Commit): CommitFacts {
    const tasks: TaskRecord[] = [];
    const removed: TaskRecord[] = [];
    const registered: string[] = [];
    const promisedOn = new Set<string>();
    for (const { registry, key, value } of commit.changes) {
      if (registry === 'offers') {
        const offer = value === undefined ? undefined : (JSON.parse(value) as OfferRecord);
        this.#setOffer(key as OfferId, offer);
        if (offer) promisedOn.add(offer.agentId);
      } else if (registry === 'tasks') {
        const task = value === undefined ? undefined : (JSON.parse(value) as TaskRecord);
        const before = this.tasks.get(key);
        if (!task && before) removed.push(before);
        this.#setTask(key, task);
        if (task) tasks.push(task);
        if (task && !isTerminal(task.state)) promisedOn.add(task.agentId);
      } else if (registry === 'executors') {
        const executor = value === undefined ? undefined : (JSON.parse(value) as ExecutorRecord);
        this.#setExecutor(key, executor);
        if (executor) promisedOn.add(executor.agentId);
      } else if (registry === 'agents') this.#agents.set(key, value);
      else if (registry === 'frameworks') this.#frameworks.set(key, value);
    }
    for (const { client, session } of commit.sessions) {
      if (session !== undefined && client.startsWith('agent:')) registered.push(client.slice(6));
    }
    const events = commit.events.map((text) => JSON.parse(text) as ClusterEvent);
    this.#follow(commit, events);
    return { tasks, removed, registered, promisedOn, events };
  }

  #setOffer(offerId: OfferId, offer: OfferRecord | undefined): void {
    const before = this.offers.get(offerId);
    if (before) move(this.#offered, before.agentId, before.resources, subtractResources);
    if (offer) {
      this.offers.set(offerId, offer);
      move(this.#offered, offer.agentId, offer.resources, addResources);
    } else this.offers.delete(offerId);
  }

  #setTask(key: string, task: TaskRecord | undefined): void {
    const before = this.tasks.get(key);
    if (before && !isTerminal(before.state))
      move(this.#used, before.agentId, countedOf(before), subtractResources);
    if (task) {
      this.tasks.set(key, task);
      if (!isTerminal(task.state)) move(this.#used, task.agentId, countedOf(task), addResources);
    } else this.tasks.delete(key);
  }

  #setExecutor(path: string, executor: ExecutorRecord | undefined): void {
    const before = this.executors.get(path);
    if (before) move(this.#used, before.agentId, before.info.resources, subtractResources);
    if (executor) {
      this.executors.set(path, executor);
      move(this.#used, executor.agentId, executor.info.resources, addResources);
    } else this.executors.delete(path);
  }

  /** The event log says the same as the registry, of everything that the commit has touched. */
  #follow(commit: Commit, events: readonly ClusterEvent[]): void {
    for (const event of events) applyEvent(this.#followed, event);
    const hasAbout = (kind: string): boolean => events.some(({ type }) => type.startsWith(kind));
    const isLookedAt = {
      cluster: false,
      agents: hasAbout('agent.') || hasAbout('cluster.'),
      frameworks: hasAbout('framework.') || hasAbout('cluster.'),
      offers: true,
      executors: true,
      tasks: true,
    };
    for (const { registry, key } of commit.changes) {
      if (registry === 'cluster' || registry === 'roles' || !isLookedAt[registry]) continue;
      const record = this.#recordOf(registry, key);
      const alone = projectionOf({
        cluster: [],
        agents: [],
        frameworks: [],
        offers: [],
        executors: [],
        tasks: [],
        ...(record !== undefined && { [registry]: [record] }),
      });
      const [actual] = alone[registry].values();
      const followed = this.#followed[registry].get(key as never);
      if (!isSameEntry(followed, actual))
        fail(
          `the event log has ${registry} ${key} as ${JSON.stringify(followed)}, the registry as ${JSON.stringify(actual)}`,
        );
    }
  }

  #recordOf(
    registry: 'agents' | 'frameworks' | 'offers' | 'executors' | 'tasks',
    key: string,
  ): unknown {
    if (registry === 'executors') return this.executors.get(key);
    if (registry === 'agents') return this.#agents.get(key);
    if (registry === 'frameworks') return this.#frameworks.get(key);
    return registry === 'offers' ? this.offers.get(key as OfferId) : this.tasks.get(key);
  }

  agent(agentId: string): AgentRecord | undefined {
    return this.#agents.get(agentId);
  }

  /** The whole of both: what an event has changed and no record did shows here. */
  checkProjection(): void {
    const actual = projectionOf(this.source());
    for (const registry of ['agents', 'frameworks', 'offers', 'executors', 'tasks'] as const) {
      const keys = new Set<string>([
        ...this.#followed[registry].keys(),
        ...actual[registry].keys(),
      ]);
      for (const key of keys) {
        const followed = this.#followed[registry].get(key as never);
        const record = actual[registry].get(key as never);
        if (!isSameEntry(followed, record))
          fail(
            `the event log ends with ${registry} ${key} as ${JSON.stringify(followed)}, the registry as ${JSON.stringify(record)}`,
          );
      }
    }
  }
}

/** Records that are decoded when they are looked at. */
class LazyRecords<T> {
  readonly #texts = new Map<string, string>();

  set(key: string, text: string | undefined): void {
    if (text === undefined) this.#texts.delete(key);
    else this.#texts.set(key, text);
  }

  get(key: string): T | undefined {
    const text = this.#texts.get(key);
    return text === undefined ? undefined : (JSON.parse(text) as T);
  }

  values(): T[] {
    return [...this.#texts.values()].map((text) => JSON.parse(text) as T);
  }

  clear(): void {
    this.#texts.clear();
  }
}

function isSameEntry(a: object | undefined, b: object | undefined): boolean {
  if (!a || !b) return a === b;
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
  for (const key of keys) {
    if (left[key] === right[key]) continue;
    if (JSON.stringify(left[key]) !== JSON.stringify(right[key])) return false;
  }
  return true;
}

function move(
  sums: Map<string, Resources>,
  agentId: string,
  resources: Resources,
  how: typeof addResources,
): void {
  sums.set(agentId, how(sums.get(agentId) ?? NO_RESOURCES, resources));
}

/** Of a task whose agent has not answered a resize what is larger. */
export function countedOf({ resources, resize }: TaskRecord): Resources {
  if (!resize) return resources;
  return {
    cpuMillis: Math.max(resources.cpuMillis, resize.resources.cpuMillis),
    memMib: Math.max(resources.memMib, resize.resources.memMib),
  };
}

function positionOf(cursor: string): number {
  return Number(cursor.split('-')[1]);
}

function isSameLease(a: Lease, b: Lease): boolean {
  return a.epoch === b.epoch && a.masterId === b.masterId;
}
