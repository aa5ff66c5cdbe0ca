/** One launch from its checkpoint to its end: the steps of `agent/task-runner.ts`, in that order. */
import type { UnitEntry } from '../../agent/core/state.ts';
import { isExecutor, isOver } from '../../agent/core/state.ts';
import type { AgentEvent } from '../../agent/core/events.ts';
import { SIGKILL } from '../../agent/core/unit-kill.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { Resources } from '../../protocol/resources.ts';
import type { Checkpoint, Disk } from './disk.ts';
import type { SimSystemd, SimUnit } from './systemd.ts';
import type { Process } from './world.ts';

export interface RunnerOptions {
  readonly systemd: SimSystemd;
  readonly disk: Disk;
  readonly bootId: number;
  readonly process: Process;
  /** Between any two steps the agent may die. */
  readonly strike: () => void;
  readonly onEvent: (event: AgentEvent) => void;
}

export class SimRunner {
  readonly #options: RunnerOptions;
  readonly #looking = new Map<string, { again: boolean }>();
  readonly #unreleased = new Set<string>();

  constructor(options: RunnerOptions) {
    this.#options = options;
  }

  start(entry: UnitEntry): void {
    const { systemd } = this.#options;
    const { task, unit, framework, detached, launchId } = entry;
    this.#write(this.#checkpointOf(entry));
    const begin = this.#answered<undefined>(() => {
      // Tasks may have come for an executor while it was prepared.
      const limits = isExecutor(entry) ? entry.needed : task.resources;
      const spec = { name: unit, framework, detached, task, launchId, limits };
      const started = this.#answered<string | undefined>((failure) => {
        if (failure === undefined)
          this.#options.onEvent({ type: 'unit.started', key: entry.key, launchId, limits });
        else this.#fail(entry, failure);
      });
      systemd.startUnit(spec, started);
      this.#options.strike();
    });
    if (task.whenUnreachable === 'keep') begin(undefined);
    else
      systemd.ensureFence(task.whenUnreachable.stopAfterMs, () => {
        begin(undefined);
      });
  }

  #fail(entry: UnitEntry, message: string): void {
    const { systemd, disk, onEvent } = this.#options;
    const { key, launchId, unit } = entry;
    const released = this.#answered<undefined>(() => {
      if (!this.#write({ ...this.#checkpointOf(entry), failed: message })) disk.discard(launchId);
      onEvent({ type: 'unit.failed', key, launchId, message });
    });
    systemd.releaseUnit(unit, () => {
      released(undefined);
    });
  }

  look(entry: UnitEntry): void {
    const running = this.#looking.get(entry.unit);
    if (running) {
      running.again = true;
      return;
    }
    const mine = { again: false };
    this.#looking.set(entry.unit, mine);
    this.#look(entry, () => {
      this.#looking.delete(entry.unit);
      if (mine.again && !isOver(entry)) this.look(entry);
    });
  }

  #look(entry: UnitEntry, done: () => void): void {
    const { systemd, onEvent } = this.#options;
    const { key, launchId, unit } = entry;
    const found = (status: SimUnit | undefined): void => {
      if (!status) {
        const message = 'its unit vanished: somebody else stopped it';
        this.#write({ ...this.#checkpointOf(entry), lost: message });
        onEvent({ type: 'unit.lost', key, launchId, message });
        done();
        return;
      }
      const { end, state, ender } = status;
      if (state !== 'ended' || !end) {
        done();
        return;
      }
      const ended = { ...end, fenced: ender === 'fence' };
      const tell = this.#answered<undefined>(() => {
        onEvent({ type: 'unit.ended', key, launchId, ended });
        done();
      });
      if (this.#write({ ...this.#checkpointOf(entry), ended })) {
        systemd.releaseUnit(unit, () => {
          tell(undefined);
        });
        this.#options.strike();
      } else {
        this.#unreleased.add(unit);
        systemd.killUnit(unit, SIGKILL);
        tell(undefined);
      }
    };
    systemd.readUnit(unit, this.#answered(found));
  }

  release(entry: UnitEntry): void {
    this.#options.systemd.releaseUnit(entry.unit, () => undefined);
  }

  signal(entry: UnitEntry, signal: number): void {
    this.#options.systemd.killUnit(entry.unit, signal);
  }

  update({ launchId, framework, detached, kill, task }: UnitEntry): void {
    const kills = { kill: kill?.by, killAtMs: kill?.deadlineMs };
    const { resources } = task;
    this.#options.disk.update(launchId, { framework, detached, resources, ...kills });
  }

  /** Other limits for the unit of a task. */
  resize(entry: UnitEntry, resizeId: SessionId, limits: Resources): void {
    const { key, launchId, unit, task } = entry;
    const answered = this.#answered<Resources | undefined>((inForce) => {
      const wanted = inForce?.memMib === limits.memMib;
      const error = inForce ? 'its memory is in use' : 'it failed';
      this.#options.onEvent({
        ...{ type: 'unit.resized', key, launchId, resizeId },
        limits: inForce ?? task.resources,
        ...(!wanted && { error }),
      });
    });
    this.#options.systemd.resizeUnit(unit, limits, answered);
  }

  lose(entry: UnitEntry, message: string): void {
    this.#write({ ...this.#checkpointOf(entry), lost: message });
  }

  adopt(entry: UnitEntry): void {
    this.#write({ ...this.#checkpointOf(entry), rebuilt: true });
  }

  forget(entry: UnitEntry): void {
    this.#options.disk.retire(entry.launchId);
    if (this.#unreleased.delete(entry.unit)) this.release(entry);
  }

  /** An answer reaches the agent if it still lives. */
  #answered<T>(then: (value: T) => void): (value: T) => void {
    const { process, strike } = this.#options;
    return (value) => {
      process.run(() => {
        strike();
        if (process.isAlive) then(value);
      });
    };
  }

  #write(checkpoint: Checkpoint): boolean {
    return this.#options.disk.write(checkpoint);
  }

  #checkpointOf(entry: UnitEntry): Checkpoint {
    const { framework, detached, task, launchId, unit, kill } = entry;
    return {
      framework,
      detached,
      task,
      launchId,
      unit,
      bootId: this.#options.bootId,
      rebuilt: false,
      kill: kill?.by,
      killAtMs: kill?.deadlineMs,
    };
  }
}
