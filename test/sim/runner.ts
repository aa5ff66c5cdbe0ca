/** One launch from its checkpoint to its end: the steps of `agent/task-runner.ts`, in that order. */
import type { AgentTaskEntry } from '../../agent/core/state.ts';
import type { AgentEvent } from '../../agent/core/step.ts';
import type { SimNode } from './agent.ts';
import type { Checkpoint } from './disk.ts';
import type { SimUnit } from './systemd.ts';
import type { Process, World } from './world.ts';

export interface RunnerOptions {
  readonly node: SimNode;
  readonly process: Process;
  readonly world: World;
  /** Between any two steps the agent may die. */
  readonly strike: () => void;
  readonly onEvent: (event: AgentEvent) => void;
}

export interface SimRunner {
  start(entry: AgentTaskEntry): void;
  look(entry: AgentTaskEntry): void;
  release(entry: AgentTaskEntry): void;
  signal(entry: AgentTaskEntry, signal: number): void;
  forget(entry: AgentTaskEntry): void;
}

export function createRunner(options: RunnerOptions): SimRunner {
  const { node, process, strike, onEvent } = options;
  const { systemd, disk } = node;
  const looking = new Map<string, { again: boolean }>();

  /** An answer reaches the agent if it still lives. */
  const answered =
    <T>(then: (value: T) => void) =>
    (value: T): void => {
      process.after(0, () => {
        strike();
        if (process.isAlive) then(value);
      });
    };

  const checkpointOf = (entry: AgentTaskEntry): Checkpoint => ({
    frameworkId: entry.frameworkId,
    frameworkName: entry.frameworkName,
    task: entry.task,
    launchId: entry.launchId,
    unit: entry.unit,
    bootId: node.bootId,
    kill: entry.kill?.by,
  });

  const write = (checkpoint: Checkpoint, then: () => void): void => {
    disk.write(process, checkpoint, () => {
      answered(then)(undefined);
    });
  };

  const release = (entry: AgentTaskEntry, then: () => void): void => {
    systemd.releaseUnit(entry.unit, () => {
      answered(then)(undefined);
    });
    strike();
  };

  const start = (entry: AgentTaskEntry): void => {
    const { key, frameworkId, task, unit } = entry;
    write(checkpointOf(entry), () => {
      const started = (failure: string | undefined): void => {
        if (failure === undefined) onEvent({ type: 'unit.started', key });
        else
          release(entry, () => {
            write({ ...checkpointOf(entry), failed: failure }, () => {
              onEvent({ type: 'unit.failed', key, message: failure });
            });
          });
      };
      systemd.startUnit({ name: unit, frameworkId, task }, answered(started));
      strike();
    });
  };

  const look = (entry: AgentTaskEntry, done: () => void): void => {
    const { key } = entry;
    const found = (unit: SimUnit | undefined): void => {
      if (!unit) {
        onEvent({ type: 'unit.lost', key, message: 'its unit vanished' });
        done();
        return;
      }
      const { end } = unit;
      if (unit.state !== 'ended' || !end) {
        done();
        return;
      }
      write({ ...checkpointOf(entry), ended: end }, () => {
        release(entry, () => {
          onEvent({ type: 'unit.ended', key, ended: end });
          done();
        });
      });
    };
    systemd.readUnit(entry.unit, answered(found));
  };

  const lookSoon = (entry: AgentTaskEntry): void => {
    const running = looking.get(entry.unit);
    if (running) {
      running.again = true;
      return;
    }
    const mine = { again: false };
    looking.set(entry.unit, mine);
    look(entry, () => {
      looking.delete(entry.unit);
      if (mine.again) lookSoon(entry);
    });
  };

  return {
    start,
    look: lookSoon,
    release: (entry) => {
      systemd.releaseUnit(entry.unit, () => undefined);
    },
    signal: (entry, signal) => {
      systemd.killUnit(entry.unit, signal, () => undefined);
    },
    forget: (entry) => {
      disk.remove(process, entry.launchId);
    },
  };
}
