/** A node's checkpoints: files that are replaced whole, on a disk that takes its time. */
import type { AgentTaskEntry } from '../../agent/core/state.ts';
import type { TaskInfo } from '../../protocol/task.ts';
import type { Faults } from './faults.ts';
import type { SimEnd } from './systemd.ts';
import type { Process, World } from './world.ts';

/** What `agent/checkpoint.ts` keeps of a task, as far as the simulation goes. */
export interface Checkpoint {
  readonly frameworkId: AgentTaskEntry['frameworkId'];
  readonly frameworkName: string;
  readonly task: TaskInfo;
  readonly launchId: string;
  readonly unit: string;
  readonly bootId: number;
  readonly kill: 'framework' | 'operator' | undefined;
  readonly ended?: SimEnd;
  readonly failed?: string;
}

export interface Disk {
  readonly checkpoints: ReadonlyMap<string, Checkpoint>;
  /** `done` comes only if the writer still lives; the file may be there even if it does not. */
  write(process: Process, checkpoint: Checkpoint, done: () => void): void;
  remove(process: Process, launchId: string): void;
}

export function createDisk(world: World, faults: Faults): Disk {
  const checkpoints = new Map<string, Checkpoint>();
  const later = (process: Process, change: () => void, done: () => void): void => {
    world.at(world.random.next() * 2 * faults.slowDiskMs, () => {
      // The process that dies takes its unfinished work along: the new file was not renamed into its place.
      if (!process.isAlive) return;
      change();
      process.after(0, done);
    });
  };
  return {
    checkpoints,
    write: (process, checkpoint, done) => {
      later(process, () => checkpoints.set(checkpoint.launchId, checkpoint), done);
    },
    remove: (process, launchId) => {
      later(
        process,
        () => checkpoints.delete(launchId),
        () => undefined,
      );
    },
  };
}
