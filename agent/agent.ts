/**
 * The agent's shell: joins the master's messages, systemd's units and the checkpoints to the core, and performs what
 * the core decides. It can be killed at any point: the next one finds every task again (`recovery.ts`).
 */
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import { Mailbox } from '../io/mailbox.ts';
import type { Store } from '../io/store.ts';
import { KaonError, messageOf } from '../protocol/errors.ts';
import type { FrameworkId, TaskId } from '../protocol/ids.ts';
import { taskKey } from '../protocol/ids.ts';
import { agentName } from '../protocol/keys.ts';
import type { Message } from '../protocol/messages.ts';
import { isTerminal } from '../protocol/task-state.ts';
import type { AgentInfo, LeaderInfo } from '../protocol/task.ts';
import type { Systemd } from '../systemd/port.ts';
import type { Fetcher } from './artifacts/index.ts';
import { Adopter } from './adopt.ts';
import type { AgentHooks, AgentView } from './agent-service.ts';
import type { Checkpoints } from './checkpoint.ts';
import type { AgentState, UnitEntry } from './core/state.ts';
import { createAgentState, isOver, registrationOf } from './core/state.ts';
import type { AgentEffect, AgentEvent } from './core/events.ts';
import { step } from './core/step.ts';
import { agentSlicePatterns, keeperUnit, ROOT_SLICE } from './core/unit-names.ts';
import { DirectoryKeeper } from './directories.ts';
import { ExecutorHost } from './executor-host.ts';
import type { ExecutorIntroduction } from './executor-introduction.ts';
import type { ExecutorJournals } from './executor-journal.ts';
import { Fences } from './fences.ts';
import { agentTagOf, type Identity, nodeOf } from './identity.ts';
import { recover } from './recovery.ts';
import { resize } from './resizing.ts';
import { collectSandboxes, findSandbox, sandboxPath } from './sandbox.ts';
import type { SandboxPolicy } from './sandboxing.ts';
import { serveOutput } from './output.ts';
import { createTaskLog } from './task-log.ts';
import { TaskRunner } from './task-runner.ts';
import type { OwnUser } from './user-mode.ts';
import { UnitWatch } from './unit-watch.ts';

const TICK_MS = 200;
/** The list of units is the truth; signals only make it known sooner, milliseconds. */
const RELIST_MS = 30_000;
const COLLECT_MS = 60_000;
/** How often running tasks are looked at for processes that the kernel has ended for memory, milliseconds. */
const OOM_LOOK_MS = 1000;

/** What an agent works with: its ports, and who it is. */
export interface AgentDependencies {
  readonly store: Store;
  readonly systemd: Systemd;
  readonly clock: Clock;
  readonly log: Log;
  readonly checkpoints: Checkpoints;
  readonly journals: ExecutorJournals;
  readonly fetcher: Fetcher;
  readonly introduction: ExecutorIntroduction;
  /** What tasks of this node may do. */
  readonly policy: SandboxPolicy;
  /** Variables by which a task finds Kaon on this node: `KAON_NODE` and `KAON_PROGRAM`. */
  readonly programs: Readonly<Record<string, string>>;
  /** Absolute path of the socket that executors connect to. */
  readonly socketPath: string;
  readonly identity: Identity;
  readonly cluster: string;
  /** State directory, absolute. */
  readonly directory: string;
  readonly info: AgentInfo;
  /** Of the running kernel, `/proc/sys/kernel/random/boot_id`. */
  readonly bootId: string;
  /** It is an agent of this user, and starts tasks as nobody else. */
  readonly ofUser?: OwnUser;
  /** What the service wants to know, and may change. */
  readonly hooks?: AgentHooks;
}

/**
 * Runs until `signal` is aborted. Stopping touches no task.
 *
 * @returns `moved` if another agent has registered with this id, else `stopped`
 * @throws KaonError with the master's own code if it refuses this agent; its tasks go on all the same
 */
export async function runAgent(
  dependencies: AgentDependencies,
  signal: AbortSignal,
): Promise<'stopped' | 'moved'> {
  return new Agent(dependencies).run(signal);
}

class Agent {
  readonly #dependencies: AgentDependencies;
  readonly #state: AgentState;
  readonly #mailbox: Mailbox;
  readonly #runner: TaskRunner;
  readonly #fences: Fences;
  readonly #adopter: Adopter;
  readonly #stop = new AbortController();
  readonly #watch: UnitWatch;
  readonly #host: ExecutorHost;
  readonly #directories: DirectoryKeeper;
  readonly #logTask: ReturnType<typeof createTaskLog>;
  #info: AgentInfo;
  #end: 'stopped' | 'moved' = 'stopped';
  #refusal: KaonError | undefined;

  constructor(dependencies: AgentDependencies) {
    this.#dependencies = dependencies;
    const { clock, log, info, identity, cluster, systemd } = dependencies;
    const { agentId, hostname } = info;
    this.#info = info;
    this.#logTask = createTaskLog(log);
    const agentTag = agentTagOf(cluster, agentId);
    this.#state = createAgentState({ agentId, agentTag, hostname });
    this.#state.numbers = info.numbers ?? {};
    if (identity.leaderSeen) this.#state.leaderSeen = identity.leaderSeen;
    const inUse = (): ReadonlySet<number> => this.#fencesInUse();
    this.#fences = new Fences({ systemd, clock, log, agentTag, inUse });
    this.#mailbox = this.#openMailbox();
    const onEvent = (event: AgentEvent): void => {
      this.#step(event);
    };
    this.#runner = new TaskRunner({
      ...dependencies,
      agentId,
      agentTag,
      fences: this.#fences,
      executors: dependencies.introduction,
      signal: this.#stop.signal,
      onEvent,
    });
    const common = { ...dependencies, state: this.#state, runner: this.#runner, tell: onEvent };
    this.#adopter = new Adopter(common);
    this.#watch = new UnitWatch({ ...common, adopter: this.#adopter });
    this.#host = new ExecutorHost(common);
    this.#directories = new DirectoryKeeper(common);
  }

  #openMailbox(): Mailbox {
    const { store, clock, log, info, directory, hooks } = this.#dependencies;
    const node = nodeOf(directory);
    hooks?.watchInfo((changed) => {
      this.#info = changed;
      this.#state.numbers = changed.numbers ?? {};
      this.#mailbox.registerAgain();
    });
    return new Mailbox({
      store,
      clock,
      log,
      client: agentName(info.agentId),
      register: (session) => [
        { type: 'RegisterAgent', agent: this.#info, session, node, ...registrationOf(this.#state) },
      ],
      onMessages: (messages) => {
        this.#receive(messages);
      },
      onMoved: () => {
        this.#end = 'moved';
        this.#stop.abort();
      },
      onHeartbeat: (isOk, tookMs) => {
        this.#fences.onHeartbeat(isOk, tookMs);
      },
    });
  }

  async run(signal: AbortSignal): Promise<'stopped' | 'moved'> {
    const { systemd, log, info } = this.#dependencies;
    signal.addEventListener('abort', () => {
      this.#stop.abort();
    });
    await systemd.ensureKeeper(keeperUnit(this.#state.agentTag), ROOT_SLICE);
    systemd.onUnitChanged((unit, ended) => {
      this.#watch.look(unit, ended);
    });
    systemd.onConnection((connection) => {
      log.info('systemd.connection', { state: connection });
      if (connection === 'up') this.#relist();
    });
    await this.#directories.load();
    const recovering = { state: this.#state, runner: this.#runner, adopter: this.#adopter };
    const news = await recover({ ...this.#dependencies, ...recovering });
    this.#watch.addAll();
    await this.#host.listen();
    for (const effect of news.effects) this.#perform(effect);
    for (const event of news.events) this.#step(event);
    systemd.sweepSlices(agentSlicePatterns(this.#state.agentTag));
    await this.#ensureFences();
    this.#mailbox.start();
    const { agentId, resources } = info;
    log.info('agent.started', { agentId, ...resources, recovered: this.#state.tasks.size });
    this.#relist();
    const serving = serveOutput(
      {
        ...this.#dependencies,
        agentId,
        findSandbox: (frameworkId, taskId) => this.#findSandbox(frameworkId, taskId),
        isLive: (frameworkId, taskId) => this.#isLive(frameworkId, taskId),
        session: () => this.#mailbox.session,
        onMessage: (message) => {
          this.#step({ type: 'message', message });
        },
      },
      this.#stop.signal,
    );
    await this.#everySoOften();
    this.#mailbox.stop();
    this.#host.close();
    await this.#dependencies.store.close();
    await Promise.all([this.#mailbox.stopped(), serving]);
    log.info('agent.stopped', { agentId, tasks: this.#state.tasks.size });
    if (this.#refusal) throw this.#refusal;
    return this.#end;
  }

  async #everySoOften(): Promise<void> {
    const { clock, hooks } = this.#dependencies;
    let oomLookAtMs = 0;
    let relistAtMs = clock.monotonicMs() + RELIST_MS;
    let collectAtMs = clock.monotonicMs() + COLLECT_MS;
    while (!this.#stop.signal.aborted) {
      await clock.sleep(TICK_MS, this.#stop.signal);
      const nowMs = clock.monotonicMs();
      this.#step({ type: 'tick' });
      hooks?.onTick(() => this.#view());
      if (nowMs >= oomLookAtMs) {
        oomLookAtMs = nowMs + OOM_LOOK_MS;
        this.#watch.lookForOom();
      }
      if (nowMs >= relistAtMs) {
        relistAtMs = nowMs + RELIST_MS;
        this.#relist();
      }
      if (nowMs >= collectAtMs) {
        collectAtMs = nowMs + COLLECT_MS;
        this.#collect();
      }
    }
  }

  #view(): AgentView {
    const tasks = [...this.#state.tasks.values()].filter(({ state }) => !isTerminal(state)).length;
    return { tasks, isRegistered: this.#mailbox.isRegistered };
  }

  #receive(messages: readonly Message[]): void {
    for (const message of messages) this.#step({ type: 'message', message });
  }

  #step(event: AgentEvent): void {
    const effects = step(this.#state, event, this.#dependencies.clock.monotonicMs());
    for (const effect of effects) this.#perform(effect);
    if (event.type === 'unit.started' || event.type === 'unit.failed') {
      this.#watch.startAnswered(event.key);
    }
  }

  #perform(effect: AgentEffect): void {
    switch (effect.type) {
      case 'task.start':
        this.#watch.add(effect.entry);
        this.#runner.start(effect.entry);
        return;
      case 'unit.signal':
        this.#runner.signal(effect.entry, effect.signal);
        return;
      case 'unit.resize':
        void this.#resize(effect);
        return;
      case 'message.send':
        if (effect.message.type === 'StatusUpdate') this.#logTask(effect.message.status);
        this.#mailbox.send(effect.message);
        return;
      case 'checkpoint.update':
        this.#runner.update(effect.entry);
        return;
      case 'checkpoint.retire':
        this.#watch.remove(effect.entry);
        this.#runner.forget(effect.entry);
        return;
      case 'ended.forget':
        this.#tryFile('ended.forget', () => {
          this.#dependencies.checkpoints.forgetEnded(effect.launchId);
        });
        return;
      case 'directory.note':
      case 'directory.remove':
        this.#directories.perform(effect);
        return;
      case 'leader.remember':
        this.#rememberLeader(effect.leader);
        return;
      case 'agent.stop':
        this.#refuse(effect);
        return;
      case 'journal.append':
      case 'journal.remove':
      case 'executor.send':
      case 'hosted.give':
      case 'hosted.prepare':
      case 'hosted.close':
      case 'hosted.kill':
      case 'container.resize':
        this.#host.perform(effect);
        return;
      default:
        effect satisfies never;
    }
  }

  async #resize(effect: Extract<AgentEffect, { type: 'unit.resize' }>): Promise<void> {
    const { systemd, log } = this.#dependencies;
    const { agentTag } = this.#state;
    this.#step(await resize({ systemd, log, host: this.#host, agentTag }, effect));
  }

  #rememberLeader(leader: LeaderInfo): void {
    this.#tryFile('leader.remember', () => {
      this.#dependencies.identity.rememberLeader(leader);
    });
  }

  /** What fails here is remembered in memory all the same. */
  #tryFile(what: string, change: () => void): void {
    try {
      change();
    } catch (error) {
      this.#dependencies.log.warn(`${what}-failed`, { error: messageOf(error) });
    }
  }

  #refuse({ code, message }: { readonly code: string; readonly message: string }): void {
    const { info } = this.#dependencies;
    this.#refusal = new KaonError(code, `agent ${info.agentId} was refused: ${message}`);
    this.#stop.abort();
  }

  /** They outlive the agent, unless somebody has removed them. */
  async #ensureFences(): Promise<void> {
    for (const stopAfterMs of this.#fencesInUse()) {
      try {
        await this.#fences.ensure(stopAfterMs);
      } catch (error) {
        // The first heartbeat tries again; its tasks run meanwhile, and must not stay without an agent for this.
        const { log } = this.#dependencies;
        log.error('fence.set-failed', { stopAfterMs, error: messageOf(error) });
      }
    }
  }

  /** Of tasks that may have a process: also of one that is being started. */
  #fencesInUse(): ReadonlySet<number> {
    const times = new Set<number>();
    for (const entry of this.#watch.entries()) {
      const { whenUnreachable } = entry.task;
      if (whenUnreachable !== 'keep' && !isOver(entry)) times.add(whenUnreachable.stopAfterMs);
    }
    return times;
  }

  #relist(): void {
    this.#lookAtAll().catch((error: unknown) => {
      this.#dependencies.log.warn('systemd.list-failed', { error: messageOf(error) });
    });
  }

  async #lookAtAll(): Promise<void> {
    await this.#watch.lookAtAll();
    await this.#fences.tidy();
  }

  #collect(): void {
    const { directory, clock, log } = this.#dependencies;
    const { tasks, executors } = this.#state;
    const entries = [...executors.values(), ...tasks.values()];
    const inUse = new Set(entries.map((entry) => this.#sandboxOf(entry)));
    collectSandboxes(directory, inUse, clock.wallMs(), log).catch((error: unknown) => {
      log.warn('sandboxes.collect-failed', { error: messageOf(error) });
    });
  }

  async #findSandbox(frameworkId: FrameworkId, taskId: TaskId): Promise<string | undefined> {
    const entry = this.#state.tasks.get(taskKey(frameworkId, taskId));
    return entry
      ? this.#sandboxOf(entry)
      : findSandbox(this.#dependencies.directory, frameworkId, taskId);
  }

  #isLive(frameworkId: FrameworkId, taskId: TaskId): boolean {
    const entry = this.#state.tasks.get(taskKey(frameworkId, taskId));
    return entry !== undefined && !isTerminal(entry.state);
  }

  #sandboxOf({ framework: { frameworkId }, task: { taskId }, launchId }: UnitEntry): string {
    return sandboxPath(this.#dependencies.directory, { frameworkId, taskId, launchId });
  }
}
