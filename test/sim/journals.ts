/**
 * The journals of a node's executors, as `agent/executor-journal.ts` keeps them: lines of one turn are written together,
 * what a full disk does not take waits in memory, and is lost if the agent dies before there is room.
 */
import type { JournalLine } from '../../agent/core/events.ts';
import type { ExecutorEntry } from '../../agent/core/state.ts';
import type { ExecutorInfo } from '../../protocol/executor.ts';
import type { LaunchId } from '../../protocol/ids.ts';
import type { FrameworkInfo } from '../../protocol/task.ts';
import type { Disk } from './disk.ts';
import type { Process } from './world.ts';

/** A journal as it is on the disk. */
export interface DiskJournal {
  readonly head: JournalHead;
  readonly lines: JournalLine[];
}

export interface JournalHead {
  readonly framework: FrameworkInfo;
  readonly detached: boolean;
  readonly info: ExecutorInfo;
  readonly launchId: LaunchId;
  readonly unit: string;
}

interface OpenJournal {
  readonly head: JournalHead;
  pending: JournalLine[];
}

/** The journals as one agent has them open. */
export class SimJournals {
  readonly #disk: Disk;
  readonly #strike: () => void;
  readonly #process: Process;
  readonly #open = new Map<LaunchId, OpenJournal>();
  readonly #failing = new Set<LaunchId>();

  constructor(options: {
    readonly disk: Disk;
    readonly process: Process;
    /** Between any two writes the agent may die. */
    readonly strike: () => void;
  }) {
    this.#disk = options.disk;
    this.#strike = options.strike;
    this.#process = options.process;
    options.process.onDeath(() => {
      this.#lose();
    });
  }

  append(executor: ExecutorEntry, line: JournalLine): void {
    const { framework, detached, info, launchId, unit } = executor;
    let journal = this.#open.get(launchId);
    if (!journal) {
      journal = { head: { framework, detached, info, launchId, unit }, pending: [] };
      this.#open.set(launchId, journal);
    }
    journal.pending.push(line);
  }

  flush(): void {
    for (const [launchId, journal] of this.#open) {
      if (journal.pending.length === 0) continue;
      if (!this.#process.isAlive) return;
      if (this.#disk.addLines(journal.head, journal.pending)) {
        journal.pending = [];
        this.#failing.delete(launchId);
        this.#strike();
      } else this.#failing.add(launchId);
    }
  }

  isFailing(launchId?: LaunchId): boolean {
    return launchId === undefined ? this.#failing.size > 0 : this.#failing.has(launchId);
  }

  remove({ launchId }: ExecutorEntry): void {
    this.#open.delete(launchId);
    this.#failing.delete(launchId);
    this.#disk.removeJournal(launchId);
  }

  /** What has been said already and was never written. Of a turn that was cut short nothing has been said. */
  #lose(): void {
    for (const launchId of this.#failing) {
      const { head, pending } = this.#open.get(launchId) ?? { head: undefined, pending: [] };
      if (head) this.#disk.lost(head, pending);
    }
  }
}

/** The launch that a line is about; undefined: the executor itself. */
export function launchOf(line: JournalLine): LaunchId | undefined {
  switch (line.type) {
    case 'registered':
      return undefined;
    case 'update':
      return line.taken.update.launchId;
    case 'end':
      return line.status.launchId;
    default:
      return line.launchId;
  }
}
