/**
 * Safety: what must hold at every moment, whatever goes wrong. Written against what was seen of Redis, of the processes
 * on the nodes and of what frameworks were told, and never against the sums that the cores keep.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Append, AppendResult, Commit, CommitResult, Lease } from '../../io/store.ts';
import type { FrameworkId, OfferId } from '../../protocol/ids.ts';
import type { AgentRecord, OfferRecord, TaskRecord } from '../../protocol/records.ts';
import type { Resources } from '../../protocol/resources.ts';
import { addResources, fits, formatResources, NO_RESOURCES } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { Offer, TaskStatus } from '../../protocol/task.ts';
import type { FrameworkObserver } from './framework.ts';
import type { RedisObserver } from './redis.ts';
import type { ProcessObserver, SimEnd, SimUnitSpec } from './systemd.ts';
import type { World } from './world.ts';

/** A rule was broken: the end of the run. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

export class Checks implements RedisObserver, ProcessObserver, FrameworkObserver {
  readonly #world: World;
  /** Node name to what it has. */
  readonly #nodes = new Map<string, Resources>();
  /** Processes that run, node by node and unit by unit. */
  readonly #running = new Map<string, Map<string, SimUnitSpec>>();
  /** How each task's process ended; undefined while it runs. */
  readonly #processes = new Map<string, SimEnd | 'killed' | undefined>();
  readonly offers = new Map<OfferId, OfferRecord>();
  readonly tasks = new Map<string, TaskRecord>();
  readonly #usedOfferIds = new Set<string>();
  /** Every task that a commit has brought into the registry. */
  readonly accepted = new Set<string>();
  /** Those of them whose framework was removed since: it is promised nothing more about them. */
  readonly #forgone = new Set<string>();
  /** Session that the registry has of each agent that it holds for reachable. */
  readonly agentSessions = new Map<string, string | undefined>();
  readonly #appended = new Set<string>();
  readonly #ends = new Map<string, TaskStatus>();
  readonly #seenUpdates = new Set<string>();
  /** Also told of the offers that frameworks see. */
  onOffers: FrameworkObserver['offersSeen'] = () => undefined;
  #lease: { readonly lease: Lease; readonly untilMs: number } | undefined;
  #epoch = 0;
  #cursor = 0;
  #lastCommit: Commit | undefined;

  constructor(world: World) {
    this.#world = world;
  }

  addNode(name: string, resources: Resources): void {
    this.#nodes.set(name, resources);
    this.#running.set(name, new Map());
  }

  runningOn(node: string): readonly SimUnitSpec[] {
    return [...(this.#running.get(node)?.values() ?? [])];
  }

  // --- Redis -----------------------------------------------------------------------------------------------------

  appended(append: Append, result: AppendResult): void {
    if (result !== 'appended') return;
    const entry = `entry ${append.sequence} of session ${append.session}`;
    if (this.#appended.has(entry)) this.#fail(`${entry} was taken twice`);
    this.#appended.add(entry);
  }

  leaseHeld(lease: Lease, leaseMs: number): void {
    const nowMs = Math.floor(this.#world.nowMs);
    const held = this.#lease;
    const isOther = held !== undefined && !isSameLease(held.lease, lease);
    if (isOther && held.untilMs > nowMs) {
      this.#fail(`${lease.masterId} got the lease that ${held.lease.masterId} still holds`);
    }
    if (lease.epoch < this.#epoch) this.#fail(`epoch ${lease.epoch} came after ${this.#epoch}`);
    this.#epoch = lease.epoch;
    this.#lease = { lease, untilMs: nowMs + leaseMs };
  }

  leaseReleased(lease: Lease): void {
    if (this.#lease && isSameLease(this.#lease.lease, lease)) this.#lease = undefined;
  }

  committed(
    commit: Commit,
    result: CommitResult,
    numbers: { before: number; after: number },
  ): void {
    const { before, after } = numbers;
    if (!result.ok || after === before) {
      if (after !== before) this.#fail(`commit ${commit.number} was refused and changed something`);
      if (result.ok && !isDeepStrictEqual(commit, this.#lastCommit)) {
        this.#fail(`commit ${commit.number} was taken for a repetition of another one`);
      }
      return;
    }
    const isLeader =
      this.#lease !== undefined &&
      isSameLease(this.#lease.lease, commit.lease) &&
      this.#lease.untilMs > Math.floor(this.#world.nowMs);
    if (!isLeader)
      this.#fail(`commit ${commit.number} of ${commit.lease.masterId}, which does not lead`);
    const cursor = Number(commit.cursor.split('-')[1]);
    if (cursor < this.#cursor) this.#fail(`the cursor went back to ${commit.cursor}`);
    this.#cursor = cursor;
    this.#lastCommit = commit;
    this.#applyChanges(commit);
    for (const node of this.#nodes.keys()) this.#checkPromises(node);
  }

  #applyChanges(commit: Commit): void {
    for (const { registry, key, value } of commit.changes) {
      if (registry === 'offers') this.#applyOffer(key as OfferId, value);
      if (registry === 'tasks') this.#applyTask(key, value);
      if (registry === 'agents') this.#applyAgent(key, value);
      if (registry === 'frameworks' && value === undefined) this.#forgo(key);
    }
  }

  #applyOffer(offerId: OfferId, value: string | undefined): void {
    if (value === undefined) {
      this.offers.delete(offerId);
      return;
    }
    if (this.#usedOfferIds.has(offerId)) this.#fail(`offer ${offerId} was written twice`);
    this.#usedOfferIds.add(offerId);
    this.offers.set(offerId, JSON.parse(value) as OfferRecord);
  }

  #applyTask(key: string, value: string | undefined): void {
    if (value === undefined) {
      this.tasks.delete(key);
      return;
    }
    if (!this.tasks.has(key) && this.accepted.has(key))
      this.#fail(`task ${key} came back after its end`);
    this.accepted.add(key);
    this.tasks.set(key, JSON.parse(value) as TaskRecord);
  }

  #applyAgent(agentId: string, value: string | undefined): void {
    const record = value === undefined ? undefined : (JSON.parse(value) as AgentRecord);
    this.agentSessions.set(agentId, record?.session);
  }

  #forgo(frameworkId: string): void {
    for (const key of this.accepted) if (key.startsWith(`${frameworkId}/`)) this.#forgone.add(key);
  }

  /** What is promised on a node, as offers and as tasks that have not ended, is at most what it has. */
  #checkPromises(node: string): void {
    const offered = this.#offeredOn(node);
    const tasks = [...this.tasks.values()].filter(
      (task) => task.agentId === node && !isTerminal(task.state),
    );
    this.#checkFits(node, addResources(offered, sum(tasks)), 'offers and tasks of the registry');
    const running = sum(this.runningOn(node).map(({ task }) => task));
    this.#checkFits(node, addResources(offered, running), 'offers and running processes');
  }

  #offeredOn(node: string): Resources {
    return sum([...this.offers.values()].filter((offer) => offer.agentId === node));
  }

  #checkFits(node: string, promised: Resources, what: string): void {
    const has = this.#nodes.get(node) ?? NO_RESOURCES;
    if (!fits(promised, has)) {
      this.#fail(
        `${node} is over-committed: ${what} take ${formatResources(promised)} of ${formatResources(has)}`,
      );
    }
  }

  // --- processes -------------------------------------------------------------------------------------------------

  processStarted(node: string, spec: SimUnitSpec): void {
    const key = keyOf(spec);
    if (this.#processes.has(key)) this.#fail(`task ${key} was started a second time, on ${node}`);
    this.#processes.set(key, undefined);
    this.#running.get(node)?.set(spec.name, spec);
    const running = sum(this.runningOn(node).map(({ task }) => task));
    this.#checkFits(
      node,
      addResources(running, this.#offeredOn(node)),
      'running processes and offers',
    );
  }

  processEnded(node: string, spec: SimUnitSpec, end: SimEnd | 'killed'): void {
    this.#processes.set(keyOf(spec), end);
    this.#running.get(node)?.delete(spec.name);
  }

  // --- frameworks ------------------------------------------------------------------------------------------------

  statusSeen(frameworkId: FrameworkId, status: TaskStatus): void {
    const key = `${frameworkId}/${status.taskId}`;
    const { state, reason = '' } = status;
    const known = this.#ends.get(key);
    const update = `${key} ${status.updateId}`;
    const isNew = !this.#seenUpdates.has(update);
    this.#seenUpdates.add(update);
    if (!isTerminal(state)) {
      if (known && isNew) this.#fail(`${key} is ${state} after ${known.state}`);
      return;
    }
    // A task that was never accepted has no end, only answers.
    if (!this.accepted.has(key) || this.#forgone.has(key)) return;
    // The answer to the kill of a task that has ended, by a scheduler that does not know it yet.
    if (known && reason === 'REASON_TASK_UNKNOWN') return;
    if (known && !(known.state === state && known.updateId === status.updateId)) {
      this.#fail(
        `${key} ended twice: ${known.state} ${known.reason ?? ''}, then ${state} ${reason}`,
      );
    }
    this.#ends.set(key, status);
    this.#checkTruth(key, status);
  }

  /** The end that is told is the one that was. */
  #checkTruth(key: string, { state, certificate }: TaskStatus): void {
    const hasProcess = this.#processes.has(key);
    const end = this.#processes.get(key);
    if (hasProcess && end === undefined) this.#fail(`${key} is said to be ${state} and still runs`);
    if (state !== 'TASK_FINISHED') return;
    if (!hasProcess) this.#fail(`${key} is said to have finished and never ran`);
    if (end === 'killed' || end?.certificate.exitCode !== certificate?.exitCode) {
      this.#fail(`${key} is said to have finished, its process ended with ${JSON.stringify(end)}`);
    }
  }

  offersSeen(frameworkId: FrameworkId, offers: readonly Offer[]): void {
    for (const offer of offers) {
      if (offer.frameworkId !== frameworkId) {
        this.#fail(`${frameworkId} got ${offer.offerId}, an offer for ${offer.frameworkId}`);
      }
      if (!this.#usedOfferIds.has(offer.offerId))
        this.#fail(`${offer.offerId} was never committed`);
    }
    this.onOffers(frameworkId, offers);
  }

  #fail(message: string): never {
    throw new Violation(message);
  }
}

function isSameLease(a: Lease, b: Lease): boolean {
  return a.epoch === b.epoch && a.masterId === b.masterId;
}

function keyOf({ frameworkId, task }: SimUnitSpec): string {
  return `${frameworkId}/${task.taskId}`;
}

function sum(holders: readonly { readonly resources: Resources }[]): Resources {
  return holders.reduce((total, { resources }) => addResources(total, resources), NO_RESOURCES);
}
