/**
 * Units of this agent that no checkpoint speaks of: their own records say whose they are, and they are tasks again. What
 * cannot be read, or is another agent's, is left alone.
 */
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import type { AgentId } from '../protocol/ids.ts';
import type { Systemd, UnitRow } from '../systemd/port.ts';
import type { Checkpoints } from './checkpoint.ts';
import type { ExecutorLaunch } from './core/executors.ts';
import { addExecutor } from './core/executors.ts';
import { judgeFoundExecutor, judgeFoundUnit } from './core/recovery.ts';
import type { AgentState, AgentTaskEntry } from './core/state.ts';
import type { AgentEvent } from './core/events.ts';
import type { TaskRunner } from './task-runner.ts';
import { decodeUnitRecord, UNIT_RECORD_FIELD, type UnitRecord } from './unit-record.ts';

/** Whose units are adopted, and who is told. */
export interface AdoptOptions {
  readonly state: AgentState;
  readonly systemd: Systemd;
  readonly runner: TaskRunner;
  readonly clock: Clock;
  readonly log: Log;
  readonly cluster: string;
  readonly tell: (event: AgentEvent) => void;
}

/** Adopts units, and remembers which it has spoken of in the log. */
export class Adopter {
  readonly #options: AdoptOptions;
  readonly #leftAlone = new Set<string>();

  constructor(options: AdoptOptions) {
    this.#options = options;
  }

  /** @param rows units of this agent's name pattern, as listed just now */
  async adopt(rows: readonly UnitRow[]): Promise<void> {
    const { state } = this.#options;
    const entries = [...state.tasks.values(), ...state.executors.values()];
    const known = new Set(entries.map(({ unit }) => unit));
    for (const { name } of rows) {
      if (!known.has(name) && !this.#leftAlone.has(name)) await this.#judge(name);
    }
  }

  async #judge(unit: string): Promise<void> {
    const { state, systemd, runner, cluster } = this.#options;
    const fields = await systemd.readJournalFields(unit);
    if (!fields) return; // Released since it was listed.
    const decoded = decodeUnitRecord(fields[UNIT_RECORD_FIELD] ?? '');
    if (!decoded.ok) {
      this.#leave(unit, `its record cannot be read: ${decoded.message}`, true);
      return;
    }
    const { task, framework, launchId, detached } = decoded.value;
    if (task.executor) {
      const { executorId } = task.executor;
      const found = { ...decoded.value, unit, executorId };
      const verdict = judgeFoundExecutor(state, cluster, found);
      const { directories } = task;
      const launch = { framework, detached, info: task.executor, launchId, unit, directories };
      if (verdict.action === 'leave') this.#leave(unit, verdict.why, verdict.isFinal);
      else if (verdict.action === 'release') await systemd.releaseUnit(unit);
      else this.#addExecutor(launch);
      return;
    }
    const verdict = judgeFoundUnit(state, cluster, { ...decoded.value, unit });
    if (verdict.action === 'leave') this.#leave(unit, verdict.why, verdict.isFinal);
    else if (verdict.action === 'release') runner.release(verdict.entry);
    else this.#add(verdict.entry);
  }

  #add(entry: AgentTaskEntry): void {
    const { state, runner, log, tell } = this.#options;
    const { key, launchId, unit, task } = entry;
    state.tasks.set(key, entry);
    runner.adopt(entry);
    log.warn('unit.adopted', { unit, taskId: task.taskId, why: 'it had no checkpoint' });
    tell({ type: 'unit.started', key, launchId });
    runner.look(entry);
  }

  /** Its tasks are known again when it connects: nothing else knows of them. */
  #addExecutor(launch: ExecutorLaunch): void {
    const { state, runner, log, tell } = this.#options;
    const executor = addExecutor(state, launch, this.#options.clock.monotonicMs());
    const { key, launchId, unit } = executor;
    runner.adopt(executor);
    log.warn('unit.adopted', { unit, key, why: 'it had no checkpoint' });
    tell({ type: 'unit.started', key, launchId });
    runner.look(executor);
  }

  #leave(unit: string, why: string, isFinal: boolean): void {
    if (isFinal) this.#leftAlone.add(unit);
    this.#options.log.warn('unit.unknown', { unit, why, action: 'left alone' });
  }
}

/** Where an agent may have left its id. */
export interface TraceOptions {
  readonly directory: string;
  readonly cluster: string;
  readonly systemd: Systemd;
  readonly checkpoints: Checkpoints;
}

/**
 * The agents that have checkpoints in `directory`, or units with their sandboxes below it: who an agent was, if its own
 * file is lost. One call for each unit of Kaon on this node.
 */
export async function findTraces(options: TraceOptions): Promise<AgentId[]> {
  const { directory, cluster, systemd, checkpoints } = options;
  const found = (await checkpoints.readAll()).map(({ agentId }) => agentId);
  for (const { name } of await systemd.listUnits('kaon-*.service')) {
    const record = await readRecord(systemd, name);
    if (record?.cluster === cluster && record.sandbox.startsWith(`${directory}/`)) {
      found.push(record.agentId);
    }
  }
  return found;
}

async function readRecord(systemd: Systemd, unit: string): Promise<UnitRecord | undefined> {
  const text = (await systemd.readJournalFields(unit))?.[UNIT_RECORD_FIELD];
  const decoded = text === undefined ? undefined : decodeUnitRecord(text);
  return decoded?.ok ? decoded.value : undefined;
}
