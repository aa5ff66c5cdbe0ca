/**
 * The agent's shell: joins the master's messages, systemd's units and the checkpoints to the core, and performs what
 * the core decides. It can be killed at any point: the next one finds every task again (`recovery.ts`).
 */
import { join } from 'node:path';
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import { Mailbox } from '../io/mailbox.ts';
import type { Store } from '../io/store.ts';
import { KaonError, messageOf } from '../protocol/errors.ts';
import type { FrameworkId, TaskId, TaskKey } from '../protocol/ids.ts';
import { taskKey } from '../protocol/ids.ts';
import { agentName } from '../protocol/keys.ts';
import type { Message } from '../protocol/messages.ts';
import { isTerminal } from '../protocol/task-state.ts';
import type { AgentInfo, LeaderInfo } from '../protocol/task.ts';
import type { Systemd, UnitStatus } from '../systemd/port.ts';
import { Adopter } from './adopt.ts';
import type { Checkpoints } from './checkpoint.ts';
import type { AgentState, AgentTaskEntry } from './core/state.ts';
import { createAgentState, registrationOf } from './core/state.ts';
import type { AgentEffect, AgentEvent } from './core/step.ts';
import { step } from './core/step.ts';
import {
  agentSlicePatterns,
  agentUnitPattern,
  frameworkSlice,
  keeperUnit,
  ROOT_SLICE,
} from './core/unit-names.ts';
import { Fences } from './fences.ts';
import { agentTagOf, type Identity, nodeOf } from './identity.ts';
import { recover } from './recovery.ts';
import { collectSandboxes, findSandbox, sandboxPath } from './sandbox.ts';
import { serveOutput } from './output.ts';
import { TaskRunner } from './task-runner.ts';

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
  readonly identity: Identity;
  readonly cluster: string;
  /** State directory, absolute. */
  readonly directory: string;
  readonly info: AgentInfo;
  /** Of the running kernel, `/proc/sys/kernel/random/boot_id`. */
  readonly bootId: string;
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
  /** Of each unit, whose it is. */
  readonly #keys = new Map<string, TaskKey>();
  /** Units that changed before their start was answered. */
  readonly #hinted = new Map<string, UnitStatus | undefined>();
  #end: 'stopped' | 'moved' = 'stopped';
  #refusal: KaonError | undefined;

  constructor(dependencies: AgentDependencies) {
    this.#dependencies = dependencies;
    const { clock, log, info, identity, cluster, systemd } = dependencies;
    const { agentId, hostname } = info;
    const agentTag = agentTagOf(cluster, agentId);
    this.#state = createAgentState({ agentId, agentTag, hostname });
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
      signal: this.#stop.signal,
      onEvent,
    });
    const adopting = { state: this.#state, runner: this.#runner, tell: onEvent };
    this.#adopter = new Adopter({ ...dependencies, ...adopting });
  }

  #openMailbox(): Mailbox {
    const { store, clock, log, info, directory } = this.#dependencies;
    const node = nodeOf(directory);
    return new Mailbox({
      store,
      clock,
      log,
      client: agentName(info.agentId),
      register: (session) => [
        { type: 'RegisterAgent', agent: info, session, node, ...registrationOf(this.#state) },
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
      this.#look(unit, ended);
    });
    systemd.onConnection((connection) => {
      log.info('systemd.connection', { state: connection });
      if (connection === 'up') this.#relist();
    });
    const recovering = { state: this.#state, runner: this.#runner, adopter: this.#adopter };
    await recover({ ...this.#dependencies, ...recovering });
    for (const { unit, key } of this.#state.tasks.values()) this.#keys.set(unit, key);
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
      },
      this.#stop.signal,
    );
    await this.#everySoOften();
    this.#mailbox.stop();
    await this.#dependencies.store.close();
    await Promise.all([this.#mailbox.stopped(), serving]);
    log.info('agent.stopped', { agentId, tasks: this.#state.tasks.size });
    if (this.#refusal) throw this.#refusal;
    return this.#end;
  }

  async #everySoOften(): Promise<void> {
    const { clock } = this.#dependencies;
    let oomLookAtMs = 0;
    let relistAtMs = clock.monotonicMs() + RELIST_MS;
    let collectAtMs = clock.monotonicMs() + COLLECT_MS;
    while (!this.#stop.signal.aborted) {
      await clock.sleep(TICK_MS, this.#stop.signal);
      const nowMs = clock.monotonicMs();
      this.#step({ type: 'tick' });
      if (nowMs >= oomLookAtMs) {
        oomLookAtMs = nowMs + OOM_LOOK_MS;
        this.#lookForOom();
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

  #receive(messages: readonly Message[]): void {
    for (const message of messages) this.#step({ type: 'message', message });
  }

  #step(event: AgentEvent): void {
    const effects = step(this.#state, event, this.#dependencies.clock.monotonicMs());
    for (const effect of effects) this.#perform(effect);
    if (event.type !== 'unit.started' && event.type !== 'unit.failed') return;
    const entry = this.#state.tasks.get(event.key);
    const ended = entry && this.#hinted.get(entry.unit);
    if (entry && this.#hinted.delete(entry.unit)) this.#look(entry.unit, ended);
  }

  #perform(effect: AgentEffect): void {
    switch (effect.type) {
      case 'task.start':
        this.#keys.set(effect.entry.unit, effect.entry.key);
        this.#runner.start(effect.entry);
        return;
      case 'unit.signal':
        this.#runner.signal(effect.entry, effect.signal);
        return;
      case 'message.send':
        this.#mailbox.send(effect.message);
        return;
      case 'checkpoint.update':
        this.#runner.update(effect.entry);
        return;
      case 'checkpoint.retire':
        this.#keys.delete(effect.entry.unit);
        this.#runner.forget(effect.entry);
        return;
      case 'ended.forget':
        this.#tryFile('ended.forget', () => {
          this.#dependencies.checkpoints.forgetEnded(effect.launchId);
        });
        return;
      case 'leader.remember':
        this.#rememberLeader(effect.leader);
        return;
      case 'agent.stop':
        this.#refuse(effect);
        return;
      default:
        effect satisfies never;
    }
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
    for (const { task, state } of this.#state.tasks.values()) {
      const { whenUnreachable } = task;
      if (whenUnreachable !== 'keep' && !isTerminal(state)) times.add(whenUnreachable.stopAfterMs);
    }
    return times;
  }

  /** A hint that a unit may have ended. For a short command it can come before the answer to its start. */
  #look(unit: string, ended?: UnitStatus): void {
    const key = this.#keys.get(unit);
    const entry = key === undefined ? undefined : this.#state.tasks.get(key);
    if (!entry || entry.unit !== unit || isTerminal(entry.state)) return;
    if (entry.started) this.#runner.look(entry, ended);
    else this.#hinted.set(unit, ended);
  }

  /** On cgroup v1 the kernel ends one process and systemd does not notice; the rest must not go on half dead. */
  #lookForOom(): void {
    const { systemd } = this.#dependencies;
    for (const entry of this.#state.tasks.values()) {
      if (!entry.started || isTerminal(entry.state)) continue;
      const { framework, unit, key, launchId } = entry;
      const slice = frameworkSlice(this.#state.agentTag, framework.frameworkId);
      const kills = systemd.countOomKills(slice, unit);
      if (kills > 0) this.#step({ type: 'unit.out-of-memory', key, launchId });
    }
  }

  #relist(): void {
    this.#lookAtAll().catch((error: unknown) => {
      this.#dependencies.log.warn('systemd.list-failed', { error: messageOf(error) });
    });
  }

  async #lookAtAll(): Promise<void> {
    const rows = await this.#dependencies.systemd.listUnits(agentUnitPattern(this.#state.agentTag));
    const listed = new Map(rows.map((row) => [row.name, row]));
    for (const entry of this.#state.tasks.values()) {
      if (!entry.started || isTerminal(entry.state)) continue;
      if (listed.get(entry.unit)?.subState !== 'running') this.#runner.look(entry);
    }
    await this.#adopter.adopt(rows);
    for (const { unit, key } of this.#state.tasks.values()) this.#keys.set(unit, key);
    await this.#fences.tidy();
  }

  #collect(): void {
    const { directory, clock, log } = this.#dependencies;
    const inUse = new Set([...this.#state.tasks.values()].map((entry) => this.#sandboxOf(entry)));
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

  #sandboxOf({ framework: { frameworkId }, task: { taskId }, launchId }: AgentTaskEntry): string {
    return sandboxPath(this.#dependencies.directory, { frameworkId, taskId, launchId });
  }
}

/** The directory that holds the agent's state below `stateDir`. */
export function agentDirectory(stateDir: string): string {
  return join(stateDir, 'agent');
}
