/**
 * Looks after the units of an agent: what systemd hints at, what its list says, and what the kernel has ended for memory.
 * Signals are hints, and the list is the truth.
 */
import type { ExecutorKey, TaskKey } from '../protocol/ids.ts';
import type { Systemd, UnitStatus } from '../systemd/port.ts';
import type { AgentEvent } from './core/events.ts';
import type { AgentState, UnitEntry } from './core/state.ts';
import { isExecutor, isOver } from './core/state.ts';
import { agentUnitPattern, frameworkSlice } from './core/unit-names.ts';
import type { Adopter } from './adopt.ts';
import type { TaskRunner } from './task-runner.ts';

/** What is looked after, and who is told. */
export interface UnitWatchOptions {
  readonly state: AgentState;
  readonly systemd: Systemd;
  readonly runner: TaskRunner;
  readonly adopter: Adopter;
  readonly tell: (event: AgentEvent) => void;
}

/** The units of one agent. */
export class UnitWatch {
  readonly #options: UnitWatchOptions;
  /** Of each unit, whose it is. */
  readonly #keys = new Map<string, TaskKey | ExecutorKey>();
  /** Units that changed before their start was answered. */
  readonly #hinted = new Map<string, UnitStatus | undefined>();
  #hasRecovered = false;

  constructor(options: UnitWatchOptions) {
    this.#options = options;
  }

  /** Every entry that has a unit of its own. */
  entries(): UnitEntry[] {
    const { tasks, executors } = this.#options.state;
    return [...executors.values(), ...[...tasks.values()].filter(({ hosted }) => !hosted)];
  }

  add({ unit, key }: UnitEntry): void {
    this.#keys.set(unit, key);
  }

  remove({ unit }: UnitEntry): void {
    this.#keys.delete(unit);
  }

  /** The start of a unit has been answered: what was heard of it before is looked at now. */
  startAnswered(key: TaskKey | ExecutorKey): void {
    const entry = this.#find(key);
    const ended = entry && this.#hinted.get(entry.unit);
    if (entry && this.#hinted.delete(entry.unit)) this.look(entry.unit, ended);
  }

  /** A hint that a unit may have ended. For a short command it can come before the answer to its start. */
  look(unit: string, ended?: UnitStatus): void {
    const key = this.#keys.get(unit);
    const entry = key === undefined ? undefined : this.#find(key);
    if (!entry || entry.unit !== unit || isOver(entry)) return;
    if (entry.started) this.#options.runner.look(entry, ended);
    else this.#hinted.set(unit, ended);
  }

  /** On cgroup v1 the kernel ends one process and systemd does not notice; the rest must not go on half dead. */
  lookForOom(): void {
    const { systemd, state, tell } = this.#options;
    for (const entry of this.entries()) {
      if (!entry.started || isOver(entry)) continue;
      // There each task has a cgroup of its own, and the kernel's word is about that.
      if (isExecutor(entry) && entry.info.isolation === 'task') continue;
      const { framework, unit, key, launchId } = entry;
      const slice = frameworkSlice(state.agentTag, framework.frameworkId);
      if (systemd.countOomKills(slice, unit) > 0) {
        tell({ type: 'unit.out-of-memory', key, launchId });
      }
    }
  }

  /**
   * Compares with systemd's list: units that have ended, vanished, or that nobody speaks of. Before `addAll` nothing: a unit
   * whose checkpoint recovery has yet to read would be taken for one that has none.
   */
  async lookAtAll(): Promise<void> {
    if (!this.#hasRecovered) return;
    const { systemd, state, runner, adopter } = this.#options;
    const rows = await systemd.listUnits(agentUnitPattern(state.agentTag));
    const listed = new Map(rows.map((row) => [row.name, row]));
    for (const entry of this.entries()) {
      if (!entry.started || isOver(entry)) continue;
      if (listed.get(entry.unit)?.subState !== 'running') runner.look(entry);
    }
    await adopter.adopt(rows);
    this.addAll();
  }

  /** Those that recovery and adoption have found. */
  addAll(): void {
    this.#hasRecovered = true;
    for (const entry of this.entries()) this.add(entry);
  }

  #find(key: TaskKey | ExecutorKey): UnitEntry | undefined {
    const { tasks, executors } = this.#options.state;
    return executors.get(key as ExecutorKey) ?? tasks.get(key as TaskKey);
  }
}
