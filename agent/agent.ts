/**
 * The agent's shell: joins the master's messages, systemd's units and the checkpoints to the core, and performs what
 * the core decides. It can be killed at any point: the next one finds every task again (`recovery.ts`).
 */
import { join } from 'node:path';
import type { Clock } from '../io/clock.ts';
import { randomName } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import { Mailbox } from '../io/mailbox.ts';
import type { Store } from '../io/store.ts';
import { messageOf } from '../protocol/errors.ts';
import type { AgentId, FrameworkId, TaskId, TaskKey } from '../protocol/ids.ts';
import { taskKey } from '../protocol/ids.ts';
import { agentName } from '../protocol/keys.ts';
import type { Message } from '../protocol/messages.ts';
import { isTerminal } from '../protocol/task-state.ts';
import type { AgentInfo } from '../protocol/task.ts';
import type { Systemd, UnitStatus } from '../systemd/port.ts';
import type { Checkpoints } from './checkpoint.ts';
import type { AgentState, AgentTaskEntry } from './core/state.ts';
import { agentTasks, createAgentState } from './core/state.ts';
import type { AgentEffect, AgentEvent } from './core/step.ts';
import { step } from './core/step.ts';
import { agentUnitPattern, frameworkSlice, keeperUnit, ROOT_SLICE } from './core/unit-names.ts';
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
  readonly #stop = new AbortController();
  /** Of each unit, whose it is. */
  readonly #keys = new Map<string, TaskKey>();
  /** Units that changed before their start was answered. */
  readonly #hinted = new Map<string, UnitStatus | undefined>();
  #end: 'stopped' | 'moved' = 'stopped';

  constructor(dependencies: AgentDependencies) {
    this.#dependencies = dependencies;
    const { store, clock, log, info } = dependencies;
    this.#state = createAgentState({
      agentId: info.agentId,
      agentTag: tagOf(info.agentId),
      hostname: info.hostname,
      launchPrefix: randomName(4),
    });
    this.#mailbox = new Mailbox({
      store,
      clock,
      log,
      client: agentName(info.agentId),
      register: (session) => [
        { type: 'RegisterAgent', agent: info, session, tasks: agentTasks(this.#state) },
      ],
      onMessages: (messages) => {
        this.#receive(messages);
      },
      onMoved: () => {
        this.#end = 'moved';
        this.#stop.abort();
      },
    });
    this.#runner = new TaskRunner({
      ...dependencies,
      signal: this.#stop.signal,
      onEvent: (event) => {
        this.#step(event);
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
    await recover({ ...this.#dependencies, state: this.#state, runner: this.#runner });
    for (const { unit, key } of this.#state.tasks.values()) this.#keys.set(unit, key);
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
      },
      this.#stop.signal,
    );
    await this.#everySoOften();
    this.#mailbox.stop();
    await this.#dependencies.store.close();
    await Promise.all([this.#mailbox.stopped(), serving]);
    log.info('agent.stopped', { agentId, tasks: this.#state.tasks.size });
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
      case 'checkpoint.remove':
        this.#keys.delete(effect.entry.unit);
        this.#runner.forget(effect.entry);
        return;
      default:
        effect satisfies never;
    }
  }

  /** A hint that a unit may have ended. For a short command it can come before the answer to its start. */
  #look(unit: string, ended?: UnitStatus): void {
    const key = this.#keys.get(unit);
    const entry = key === undefined ? undefined : this.#state.tasks.get(key);
    if (!entry || isTerminal(entry.state)) return;
    if (entry.started) this.#runner.look(entry, ended);
    else this.#hinted.set(unit, ended);
  }

  /** On cgroup v1 the kernel ends one process and systemd does not notice; the rest must not go on half dead. */
  #lookForOom(): void {
    const { systemd } = this.#dependencies;
    for (const entry of this.#state.tasks.values()) {
      if (!entry.started || isTerminal(entry.state)) continue;
      const kills = systemd.countOomKills(frameworkSlice(entry.frameworkId), entry.unit);
      if (kills > 0) this.#step({ type: 'unit.out-of-memory', key: entry.key });
    }
  }

  #relist(): void {
    const { systemd, log } = this.#dependencies;
    systemd
      .listUnits(agentUnitPattern(this.#state.agentTag))
      .then((rows) => {
        const listed = new Map(rows.map((row) => [row.name, row]));
        for (const entry of this.#state.tasks.values()) {
          if (!entry.started || isTerminal(entry.state)) continue;
          if (listed.get(entry.unit)?.subState !== 'running') this.#runner.look(entry);
        }
        for (const unit of listed.keys()) {
          if (!this.#keys.has(unit)) log.warn('unit.unknown', { unit, action: 'left alone' });
        }
      })
      .catch((error: unknown) => {
        log.warn('systemd.list-failed', { error: messageOf(error) });
      });
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

  #sandboxOf({ frameworkId, task: { taskId }, launchId }: AgentTaskEntry): string {
    return sandboxPath(this.#dependencies.directory, { frameworkId, taskId, launchId });
  }
}

/** The part of the id that names units; ids of agents are made as `HOST.TAG`, or are the operator's own. */
function tagOf(agentId: AgentId): string {
  return agentId.slice(agentId.lastIndexOf('.') + 1).replaceAll(/[^A-Za-z0-9]/g, '_');
}

/** The directory that holds the agent's state below `stateDir`. */
export function agentDirectory(stateDir: string): string {
  return join(stateDir, 'agent');
}
