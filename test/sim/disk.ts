/** A node's checkpoints, as `agent/checkpoint.ts` keeps them: files that are replaced whole. They may get lost, and the disk may be full. */
import type { RememberedTask } from '../../agent/core/recovery.ts';
import type { LaunchId } from '../../protocol/ids.ts';
import type { LeaderInfo } from '../../protocol/task.ts';
import type { SimEnd } from './systemd.ts';
import type { World } from './world.ts';

export interface Checkpoint extends RememberedTask {
  readonly bootId: number;
  readonly rebuilt: boolean;
  readonly ended?: SimEnd & { readonly fenced: boolean };
  readonly lost?: string;
  readonly failed?: string;
}

export interface EndedCheckpoint {
  readonly checkpoint: Checkpoint;
  readonly retiredAtMs: number;
}

/** Told of what is not on the disk though it should be. */
export interface DiskObserver {
  checkpointLost(launchId: LaunchId): void;
}

export class Disk {
  readonly live = new Map<LaunchId, Checkpoint>();
  readonly ended = new Map<LaunchId, EndedCheckpoint>();
  /** Launches whose command was executed: systemd has made the file of its output. */
  readonly executed = new Set<LaunchId>();
  leaderSeen: LeaderInfo | undefined;
  fullUntilMs = 0;
  readonly #world: World;
  readonly #observer: DiskObserver;

  constructor(world: World, observer: DiskObserver) {
    this.#world = world;
    this.#observer = observer;
  }

  /** @returns false if there is no room for it */
  write(checkpoint: Checkpoint): boolean {
    if (this.#isFull()) {
      this.#observer.checkpointLost(checkpoint.launchId);
      return false;
    }
    this.live.set(checkpoint.launchId, checkpoint);
    return true;
  }

  update(
    launchId: LaunchId,
    change: Pick<Checkpoint, 'framework' | 'detached' | 'kill' | 'killAtMs'>,
  ): void {
    const checkpoint = this.live.get(launchId);
    if (checkpoint) this.write({ ...checkpoint, ...change });
  }

  discard(launchId: LaunchId): void {
    this.live.delete(launchId);
  }

  /** A rename: no room is needed for it. */
  retire(launchId: LaunchId): void {
    const checkpoint = this.live.get(launchId);
    if (checkpoint) this.ended.set(launchId, { checkpoint, retiredAtMs: this.#world.nowMs });
    this.live.delete(launchId);
  }

  /** A file that cannot be read any more. */
  loseOne(): LaunchId | undefined {
    if (this.live.size === 0) return undefined;
    const launchId = this.#world.random.pick([...this.live.keys()]);
    this.live.delete(launchId);
    this.#observer.checkpointLost(launchId);
    return launchId;
  }

  #isFull(): boolean {
    return this.fullUntilMs > this.#world.nowMs;
  }
}
