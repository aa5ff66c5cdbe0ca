/**
 * Safety: what must hold at every moment, whatever goes wrong. Written against what was seen of Redis, of the processes
 * on the nodes and of what frameworks were told, and never against the sums that the cores keep.
 *
 * After Redis has lost data some promises cannot be kept, and these are the exact limits:
 * - A node is *settled* once its agent has registered with the Redis that is the primary now. Until then the master may
 *   not know what runs there, so it promises nothing there, and may say that a task of it is unknown, but not before
 *   every agent has had its timeout to come back.
 * - What was written and is not in the memory of the primary is *forgotten*. A forgotten end may be followed by another
 *   one; a forgotten exclusive task does not keep another one from running, until its agent has said that it runs.
 */
import type { Append, AppendResult, Commit, CommitResult, Lease } from '../../io/store.ts';
import type { ExecutorTaskState, LaunchedTask } from '../../protocol/executor-messages.ts';
import type { FrameworkId, LaunchId, SessionId, TaskId } from '../../protocol/ids.ts';
import type { ClientName } from '../../protocol/keys.ts';
import type { TaskRecord } from '../../protocol/records.ts';
import type { Message } from '../../protocol/messages.ts';
import type { Resources } from '../../protocol/resources.ts';
import { addResources, fits, formatResources, NO_RESOURCES } from '../../protocol/resources.ts';
import { isTerminal } from '../../protocol/task-state.ts';
import type { LeaderInfo, Offer, TaskStatus } from '../../protocol/task.ts';
import type { AgentObserver } from './agent.ts';
import type { Gift } from './executor.ts';
import { ExecutorBook } from './executor-book.ts';
import type { FrameworkObserver } from './framework-run.ts';
import type { CommitFacts } from './host-book.ts';
import { HostBook } from './host-book.ts';
import type { ProcessFacts } from './processes.ts';
import { Processes } from './processes.ts';
import type { Memory, RedisHost, RedisObserver } from './redis.ts';
import { remembers } from './redis.ts';
import type { Ender, SimEnd, SimUnitSpec } from './systemd.ts';
import type { Timing } from './timing.ts';
import { Told } from './told.ts';
import { fail } from './violation.ts';
import type { World } from './world.ts';

/** Clocks of Redis hosts differ by up to twice their skew, and a Redis that is slow answers late. */
const CLOCK_SLACK_MS = 5000;

/** Reasons of ends that the master has decided. */
const ENDS_BY_MASTER: ReadonlySet<string> = new Set([
  'REASON_AGENT_REMOVED',
  'REASON_AGENT_REMOVED_BY_OPERATOR',
  'REASON_STOPPED_WHEN_UNREACHABLE',
  'REASON_RECONCILIATION',
]);

/** A launch that a commit has brought into the registry. */
export interface LaunchFacts {
  readonly launchId: LaunchId;
  readonly key: string;
  readonly frameworkId: string;
  readonly agentId: string;
  readonly exclusiveName: string | undefined;
  /** By which Redis it was taken, the first time or again from its agent. */
  memory: Memory;
  atMs: number;
}

export class Checks implements RedisObserver, AgentObserver, FrameworkObserver {
  readonly world: World;
  readonly timing: Timing;
  readonly #books = new Map<RedisHost, HostBook>();
  #primary: RedisHost | undefined;
  readonly #nodes = new Map<string, { readonly agentId: string; readonly resources: Resources }>();
  /** Agents whose registration the primary has taken. */
  readonly #settled = new Set<string>();
  /** When Redis last lost data or became another one. */
  lossAtMs = -Infinity;
  /** When that, or an old one that some still talked to, was last over. */
  lossOverAtMs = -Infinity;
  readonly launches = new Map<LaunchId, LaunchFacts>();
  readonly launchesOf = new Map<string, Set<LaunchId>>();
  /** Launches that their nodes may have forgotten. */
  readonly lostCheckpoints = new Set<LaunchId>();
  /** By launch and update: when ends were written, and by which Redis. */
  readonly #endWrites = new Map<string, { memory: Memory; atMs: number }[]>();
  /** Launches that the master has ended on its own word: their agents could not be asked. */
  readonly #endedByMaster = new Set<LaunchId>();
  /** Frameworks and keys of tasks whose end somebody has asked for. */
  readonly endAskedFor = new Set<string>();
  /** Agents that an operator has given up or taken out. */
  readonly givenUp = new Set<string>();
  readonly #heardAtMs = new Map<string, number>();
  readonly #offerIds = new Set<string>();
  readonly #appended = new Map<Memory, Set<string>>();
  /** Frameworks that have left, and whose tasks go on. */
  readonly detached = new Set<string>();
  readonly processes: Processes;
  readonly executors: ExecutorBook;
  readonly told: Told;
  tasks = 0;
  executorLaunches = 0;
  losses = 0;
  /** Also told of the offers that frameworks see. */
  onOffers: FrameworkObserver['offersSeen'] = () => undefined;

  constructor(world: World, timing: Timing) {
    this.world = world;
    this.timing = timing;
    this.processes = new Processes(this);
    this.executors = new ExecutorBook(this);
    this.told = new Told(this);
  }

  addNode(name: string, agentId: string, resources: Resources): void {
    this.#nodes.set(name, { agentId, resources });
  }

  agentOf(node: string): string {
    return this.#nodes.get(node)?.agentId ?? node;
  }

  /** The Redis that is the primary now, as it was seen. */
  get book(): HostBook {
    return this.#primary ? this.#bookOf(this.#primary) : fail('no Redis has been seen yet');
  }

  /** Is what was written then in the memory of the primary? */
  isRemembered(memory: Memory, atMs: number): boolean {
    return this.#primary !== undefined && remembers(this.#primary.memory, memory, atMs);
  }

  get memory(): Memory {
    return this.#primary?.memory ?? { parent: undefined, copiedAtMs: 0 };
  }

  /** Has another machine tried to be this agent? */
  isClaimed(agentId: string): boolean {
    return [...this.#nodes.values()].filter((node) => node.agentId === agentId).length > 1;
  }

  isSettled(agentId: string): boolean {
    return this.#settled.has(agentId);
  }

  // --- Redis -----------------------------------------------------------------------------------------------------

  #bookOf(host: RedisHost): HostBook {
    let book = this.#books.get(host);
    if (!book) this.#books.set(host, (book = new HostBook(host)));
    this.#primary ??= host;
    return book;
  }

  dataChanged(host: RedisHost): void {
    this.#bookOf(host).reload();
    this.#primary = host;
    this.#settled.clear();
    this.lossAtMs = this.world.nowMs;
    this.lossOverAtMs = this.world.nowMs;
    this.losses += 1;
    // Only the primary and the one before it are talked to.
    for (const old of [...this.#books.keys()].slice(0, -2)) this.#books.delete(old);
  }

  appended(host: RedisHost, append: Append, result: AppendResult): void {
    if (result !== 'appended') return;
    let seen = this.#appended.get(host.memory);
    if (!seen) this.#appended.set(host.memory, (seen = new Set()));
    const entry = `entry ${append.sequence} of session ${append.session} of ${append.client}`;
    if (seen.has(entry)) fail(`${entry} was taken twice`);
    seen.add(entry);
  }

  heartbeat(_host: RedisHost, client: ClientName, _session: SessionId): void {
    this.#heardAtMs.set(client, this.world.nowMs);
  }

  leaseHeld(host: RedisHost, lease: Lease, leaseMs: number, mayReplace: boolean): void {
    this.#bookOf(host).leaseHeld(lease, leaseMs, mayReplace);
  }

  leaseRaised(host: RedisHost, from: Lease, to: Lease): void {
    this.#bookOf(host).leaseRaised(from, to);
  }

  leaseReleased(host: RedisHost, lease: Lease): void {
    this.#bookOf(host).leaseReleased(lease);
  }

  committed(host: RedisHost, commit: Commit, result: CommitResult, isRepeated: boolean): void {
    const book = this.#bookOf(host);
    const facts = book.committed(commit, result, isRepeated);
    if (!facts) return;
    for (const { registry, key, value } of commit.changes) {
      if (registry !== 'offers' || value === undefined) continue;
      if (this.#offerIds.has(key)) fail(`offer ${key} was written twice`);
      this.#offerIds.add(key);
    }
    for (const { client, session } of commit.sessions)
      if (session !== undefined) this.#heardAtMs.set(client, this.world.nowMs);
    for (const task of facts.tasks) {
      this.#noteLaunch(host, task);
      if (isTerminal(task.state)) this.#noteEnd(host, task);
    }
    this.#noteSilentEnds(facts);
    this.#checkRemovals(facts);
    this.#noteExecutors(host, facts);
    if (host === this.#primary) {
      for (const agentId of facts.registered) this.#settled.add(agentId);
      for (const agentId of facts.promisedOn) this.#checkPromises(agentId);
    }
    for (const { client, messages } of commit.sends) {
      if (!client.startsWith('framework:')) continue;
      this.told.answered(host === this.#primary, messages);
      if (messages.includes('"ExecutorLost"')) checkLost(book, facts, client.slice(10), messages);
    }
  }

  /** The master knows this launch of a task or an executor for over: it is being ended, or is no more. */
  isEndedByMaster(launchId: LaunchId): boolean {
    return this.#endedByMaster.has(launchId);
  }

  /** An executor that runs is not forgotten, unless its node is given up; one that must not run is ended. */
  #noteExecutors(host: RedisHost, { events }: CommitFacts): void {
    for (const { type, launchId, agentId = '', reason = '' } of events) {
      if (launchId === undefined) continue;
      if (type === 'executor.superseded') this.#endedByMaster.add(launchId);
      if (type === 'executor.launched') this.executorLaunches += 1;
      if (type !== 'executor.removed') continue;
      if (this.givenUp.has(agentId)) this.#endedByMaster.add(launchId);
      const facts = this.executors.isRunning(launchId);
      if (!facts || host !== this.#primary || this.isEndedByMaster(launchId)) continue;
      if (this.lostCheckpoints.has(launchId) || this.isClaimed(agentId)) continue;
      fail(
        `executor ${facts.key} (${launchId}) runs on ${facts.node}, and is forgotten: ${reason}`,
      );
    }
  }

  #noteEnd({ memory }: RedisHost, { launchId, status }: TaskRecord): void {
    if (status?.source === 'SOURCE_MASTER') this.#endedByMaster.add(launchId);
    const key = `${launchId} ${status?.updateId ?? ''}`;
    const writes = this.#endWrites.get(key) ?? [];
    this.#endWrites.set(key, [...writes.slice(-3), { memory, atMs: this.world.nowMs }]);
  }

  /** Is that end of a launch, which a framework was told, in the memory of the primary? As it was written until `untilMs`. */
  isEndRemembered({ launchId, updateId }: TaskStatus, untilMs = Infinity): boolean {
    const writes = this.#endWrites.get(`${launchId ?? ''} ${updateId ?? ''}`) ?? [];
    return writes.some(({ memory, atMs }) => atMs <= untilMs && this.isRemembered(memory, atMs));
  }

  /** What the master ends there without a record of it, or with one that is gone with the same commit. */
  #noteSilentEnds({ removed, events }: CommitFacts): void {
    for (const { type, frameworkId, taskId, agentId } of events) {
      if (type !== 'task.superseded') continue;
      for (const { spec, node } of this.processes.runningOf(`${frameworkId}/${taskId}`))
        if (this.agentOf(node) === agentId) this.#endedByMaster.add(spec.launchId);
    }
    for (const { frameworkId, taskId, launchId, state } of removed) {
      if (isTerminal(state)) continue;
      const isByMaster = events.some(
        (event) =>
          event.type === 'task.updated' &&
          event.frameworkId === frameworkId &&
          event.taskId === taskId &&
          ENDS_BY_MASTER.has(event.reason ?? ''),
      );
      if (isByMaster) this.#endedByMaster.add(launchId);
    }
  }

  #noteLaunch(host: RedisHost, task: TaskRecord): void {
    const { launchId, frameworkId, taskId, agentId, info } = task;
    const known = this.launches.get(launchId);
    const { nowMs } = this.world;
    if (known) {
      if (!this.isRemembered(known.memory, known.atMs)) {
        known.memory = host.memory;
        known.atMs = nowMs;
      }
      return;
    }
    const key = `${frameworkId}/${taskId}`;
    const exclusiveName = info?.exclusive ? `${frameworkId}/${info.name}` : undefined;
    const { memory } = host;
    const facts = { launchId, key, frameworkId, agentId, exclusiveName, memory, atMs: nowMs };
    this.launches.set(launchId, facts);
    let ofKey = this.launchesOf.get(key);
    if (!ofKey) this.launchesOf.set(key, (ofKey = new Set()));
    ofKey.add(launchId);
    this.tasks += 1;
  }

  /** A framework that is there, or has not been away for long enough, is not torn down. */
  #checkRemovals({ events }: CommitFacts): void {
    for (const { type, frameworkId = '', reason = '' } of events) {
      if (type !== 'framework.removed') continue;
      this.endAskedFor.add(frameworkId);
      if (!reason.startsWith('failover timeout')) continue;
      const awayMs = this.world.nowMs - (this.#heardAtMs.get(`framework:${frameworkId}`) ?? 0);
      const timeoutMs = this.failoverTimeouts.get(frameworkId) ?? 0;
      if (awayMs + CLOCK_SLACK_MS < timeoutMs)
        fail(
          `${frameworkId} was torn down after ${awayMs} ms, its failover timeout is ${timeoutMs}`,
        );
    }
  }

  /** How far the clocks of Redis hosts are apart. */
  clockSkewMs = 0;
  /** Each framework's own. */
  readonly failoverTimeouts = new Map<string, number>();

  /**
   * What is promised on a node, as offers and as tasks that have not ended, is at most what it has. With what an agent
   * brings back it may be more for a while, as long as nothing is offered: ended tasks count until their ends are told.
   */
  #checkPromises(agentId: string): void {
    const { book } = this;
    const { cpuMillis, memMib } = book.offeredOn(agentId);
    if (cpuMillis > 0 || memMib > 0)
      this.#checkFits(agentId, book.promisedOn(agentId), () => 'offers and tasks of the registry');
    this.checkRunning(agentId);
  }

  /**
   * What runs on a settled node and what is offered of it is at most what it has. Without the launches that the master has
   * ended on its own word: these are being ended, and are not counted while that takes.
   */
  checkRunning(agentId: string): void {
    if (!this.#settled.has(agentId)) return;
    const isCounted = ({ spec }: { spec: SimUnitSpec }): boolean =>
      !this.#endedByMaster.has(spec.launchId);
    const running = this.processes.runningOn(agentId).filter(isCounted);
    const executors = this.executors.runningOn(agentId).filter(isCounted);
    // Another machine may have got the agent's id; what runs on the first one is then nobody's.
    if (this.isClaimed(agentId)) return;
    const used = sum([
      ...running.map((process) => this.#believed(process)),
      ...executors.map(({ info }) => info),
    ]);
    const taken = addResources(used, this.book.offeredOn(agentId));
    const what = (): string =>
      `offers and running processes ${[...running, ...executors].map(({ spec }) => spec.launchId).join(',')}`;
    this.#checkFits(agentId, taken, what);
  }

  /** An agent that has lost the file of a unit does not know that it was resized, and says what it believes. */
  #believed({ spec, resources, reported, executor }: ProcessFacts): {
    readonly resources: Resources;
  } {
    if (!this.lostCheckpoints.has(spec.launchId)) return { resources };
    // Without its journal it does not even know that the task is there.
    if (executor !== undefined) return { resources: NO_RESOURCES };
    return { resources: smallerOf(resources, reported ?? spec.limits) };
  }

  #checkFits(agentId: string, promised: Resources, what: () => string): void {
    const has = [...this.#nodes.values()].find((node) => node.agentId === agentId)?.resources;
    if (fits(promised, has ?? NO_RESOURCES)) return;
    const text = `${formatResources(promised)} of ${formatResources(has ?? NO_RESOURCES)}`;
    fail(`${agentId} is over-committed: ${what()} take ${text}`);
  }

  // --- nodes -----------------------------------------------------------------------------------------------------

  processStarted(node: string, spec: SimUnitSpec): void {
    const { executor } = spec.task;
    if (executor) this.executors.started(node, spec, executor);
    else this.processes.started(node, spec);
    this.checkRunning(this.agentOf(node));
  }

  processEnded(node: string, spec: SimUnitSpec, end: SimEnd | 'killed', ender: Ender): void {
    if (spec.task.executor) this.executors.ended(node, spec, ender);
    else this.processes.ended(node, spec, end, ender);
  }

  limitsChanged(node: string, spec: SimUnitSpec, limits: Resources): void {
    if (spec.task.executor) {
      this.executors.limitsChanged(node, spec, limits);
      return;
    }
    const process = this.processes.all.get(spec.launchId);
    if (process) process.resources = limits;
    this.checkRunning(this.agentOf(node));
  }

  executorSpoke(node: string, spec: SimUnitSpec): void {
    this.executors.spoke(node, spec);
  }

  tasksGiven(node: string, spec: SimUnitSpec, gift: Gift): void {
    this.executors.given(node, spec, gift);
  }

  hostedStarted(node: string, spec: SimUnitSpec, launched: LaunchedTask): void {
    this.executors.hostedStarted(node, spec, launched);
    this.checkRunning(this.agentOf(node));
  }

  hostedEnded(node: string, launchId: LaunchId, end: SimEnd | 'killed', ender: Ender): void {
    this.executors.hostedEnded(node, launchId, end, ender);
  }

  endAcknowledged(launchId: LaunchId, state: ExecutorTaskState): void {
    this.executors.endAcknowledged(launchId, state);
  }

  taskSized(launchId: LaunchId, resources: Resources): void {
    this.#resize(launchId, () => resources);
  }

  taskReported(launchId: LaunchId, resources: Resources): void {
    const process = this.processes.all.get(launchId);
    if (process) process.reported = resources;
    this.#resize(launchId, (before) => smallerOf(before, resources));
  }

  resizeAsked(launchId: LaunchId, resources: Resources): void {
    this.#resize(launchId, (before) => smallerOf(before, resources));
  }

  /** Of a task of an executor; what another has the kernel says. */
  #resize(launchId: LaunchId, change: (before: Resources) => Resources): void {
    const process = this.processes.all.get(launchId);
    if (!process || process.executor === undefined || process.ender !== undefined) return;
    process.resources = change(process.resources);
    this.executors.resized(process);
    this.checkRunning(this.agentOf(process.node));
  }

  leaderSeen(node: string, before: LeaderInfo | undefined, leader: LeaderInfo): void {
    if (!before) return;
    const isSame = before.epoch === leader.epoch && before.masterId === leader.masterId;
    if (leader.epoch < before.epoch || (leader.epoch === before.epoch && !isSame))
      fail(
        `${node} was led by ${before.masterId} in epoch ${before.epoch}, then by ${leader.masterId} in epoch ${leader.epoch}`,
      );
  }

  /** Nobody else is this agent, so that is wrong, unless a loss has turned the order of sessions around. */
  agentMoved(node: string): void {
    const agentId = this.agentOf(node);
    if (this.isClaimed(agentId) || (this.losses > 0 && this.clockSkewMs > 0)) return;
    fail(`${node} was told that another process has registered as ${agentId}, and there is none`);
  }

  checkpointLost(launchId: LaunchId): void {
    this.lostCheckpoints.add(launchId);
  }

  // --- frameworks and operators ----------------------------------------------------------------------------------

  statusSeen(frameworkId: FrameworkId, status: TaskStatus): void {
    this.told.statusSeen(frameworkId, status);
  }

  endAsked(frameworkId: string, taskId: TaskId | undefined): void {
    this.endAskedFor.add(taskId === undefined ? frameworkId : `${frameworkId}/${taskId}`);
  }

  executorEndAsked(frameworkId: string, agentId: string, executorId: string): void {
    this.endAskedFor.add(`${agentId}/${frameworkId}/${executorId}`);
  }

  frameworkDetached(frameworkId: string): void {
    this.detached.add(frameworkId);
  }

  groupSent(frameworkId: string, groupId: string, taskIds: readonly string[]): void {
    this.executors.groupSent(frameworkId, groupId, taskIds);
  }

  offersSeen(frameworkId: FrameworkId, offers: readonly Offer[]): void {
    for (const { frameworkId: owner, offerId } of offers) {
      if (owner !== frameworkId) fail(`${frameworkId} got ${offerId}, an offer for ${owner}`);
      if (!this.#offerIds.has(offerId)) fail(`${offerId} was never committed`);
    }
    this.onOffers(frameworkId, offers);
  }
}

function sum(holders: readonly { readonly resources: Resources }[]): Resources {
  return holders.reduce((total, { resources }) => addResources(total, resources), NO_RESOURCES);
}

function smallerOf(a: Resources, b: Resources): Resources {
  return {
    cpuMillis: Math.min(a.cpuMillis, b.cpuMillis),
    memMib: Math.min(a.memMib, b.memMib),
  };
}

/** A framework is told that an executor is gone after all that there is to say of its tasks. */
function checkLost(
  book: HostBook,
  { events }: CommitFacts,
  frameworkId: string,
  messages: string,
): void {
  // For the next one of that name, with the same commit.
  const isNew = new Set(
    events.flatMap(({ type, launchId }) => (type === 'task.launched' ? launchId : [])),
  );
  for (const message of JSON.parse(messages) as Message[]) {
    if (message.type !== 'ExecutorLost') continue;
    const { agentId, executorId } = message;
    for (const task of book.tasks.values()) {
      if (task.executorId !== executorId || task.agentId !== agentId) continue;
      if (task.frameworkId !== frameworkId || isTerminal(task.state)) continue;
      if (!isNew.has(task.launchId))
        fail(`${frameworkId} is told that ${executorId} is lost before the end of ${task.taskId}`);
    }
  }
}
