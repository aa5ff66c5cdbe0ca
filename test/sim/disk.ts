/**
 * A node's checkpoints, as `agent/checkpoint.ts` keeps them: files that are replaced whole; and the journals of its
 * executors. They may get lost, and the disk may be full.
 */
import type { JournalLine } from '../../agent/core/events.ts';
import type { RememberedTask } from '../../agent/core/recovery.ts';
import type { LaunchId, ReservationId } from '../../protocol/ids.ts';
import type { Reservation } from '../../protocol/reservations.ts';
import type { Resources } from '../../protocol/resources.ts';
import type { LeaderInfo } from '../../protocol/task.ts';
import type { DiskJournal, JournalHead } from './journals.ts';
import { launchOf } from './journals.ts';
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

export type CheckpointChange = Pick<Checkpoint, 'framework' | 'detached' | 'kill' | 'killAtMs'> & {
  readonly resources: Resources;
};

/** Told of what is not on the disk though it should be. */
export interface DiskObserver {
  checkpointLost(launchId: LaunchId): void;
}

export class Disk {
  readonly live = new Map<LaunchId, Checkpoint>();
  readonly ended = new Map<LaunchId, EndedCheckpoint>();
  readonly journals = new Map<LaunchId, DiskJournal>();
  /** Journals that are lost, and that the agent goes on writing to: it does not look. */
  readonly #unlinked = new Set<LaunchId>();
  /** Launches whose command was executed: systemd has made the file of its output. */
  readonly executed = new Set<LaunchId>();
  /** Of reservations with disk: they are never lost. */
  readonly directories = new Map<ReservationId, Reservation>();
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

  update(launchId: LaunchId, { resources, ...change }: CheckpointChange): void {
    const checkpoint = this.live.get(launchId);
    if (!checkpoint) return;
    this.write({ ...checkpoint, ...change, task: { ...checkpoint.task, resources } });
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
    const files = [
      ...[...this.live.keys()].map((launchId) => ({ launchId, isJournal: false })),
      ...[...this.journals.keys()].map((launchId) => ({ launchId, isJournal: true })),
    ];
    if (files.length === 0) return undefined;
    const { launchId, isJournal } = this.#world.random.pick(files);
    const journal = isJournal ? this.journals.get(launchId) : undefined;
    if (journal) {
      this.journals.delete(launchId);
      this.#unlinked.add(launchId);
      this.lost(journal.head, journal.lines);
    } else {
      this.live.delete(launchId);
      this.#observer.checkpointLost(launchId);
    }
    return launchId;
  }

  /** @returns false if there is no room for them */
  addLines(head: JournalHead, lines: readonly JournalLine[]): boolean {
    if (this.#isFull()) return false;
    if (this.#unlinked.has(head.launchId)) {
      this.lost(head, lines);
      return true;
    }
    const journal = this.journals.get(head.launchId);
    if (journal) journal.lines.push(...lines);
    else this.journals.set(head.launchId, { head, lines: [...lines] });
    return true;
  }

  /** As a new agent finds them, which opens them anew. */
  readJournals(): DiskJournal[] {
    this.#unlinked.clear();
    return [...this.journals.values()].map(({ head, lines }) => ({ head, lines: [...lines] }));
  }

  removeJournal(launchId: LaunchId): void {
    this.journals.delete(launchId);
  }

  /** These lines of a journal are nowhere any more. */
  lost({ launchId }: JournalHead, lines: readonly JournalLine[]): void {
    this.#observer.checkpointLost(launchId);
    for (const line of lines) this.#observer.checkpointLost(launchOf(line) ?? launchId);
  }

  #isFull(): boolean {
    return this.fullUntilMs > this.#world.nowMs;
  }
}
