/** Finds the leading master, and tells of each new one and of its absence (steps F4 and F5 of a registration). */
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import type { Store } from '../io/store.ts';
import { isForbidden } from '../io/redis-errors.ts';
import { messageOf } from '../protocol/errors.ts';
import type { MasterInfo } from './scheduler.ts';

/** How often the leader is looked at, milliseconds; a change is announced, so this only catches a lost announcement. */
const LOOK_MS = 1000;
/** An absence shorter than this is a failover, which nobody needs to hear of, milliseconds. */
const ABSENT_MS = 10_000;

/** What a detector watches, and whom it tells. Each callback comes once a change. */
export interface MasterDetectorOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly newMasterDetected: (master: MasterInfo) => void;
  readonly noMasterDetected: () => void;
  /** The user of Redis may not look, and never could: the detector has stopped. Absent: it looks again. */
  readonly onForbidden?: (error: unknown) => void;
}

/** Watches the leader key until `stop`. It asks each second, so a new leader is seen within that time. */
export class MasterDetector {
  readonly #options: MasterDetectorOptions;
  readonly #stop = new AbortController();

  private constructor(options: MasterDetectorOptions) {
    this.#options = options;
  }

  /** Begins to look; `newMasterDetected` follows as soon as there is a leader. */
  static create(options: MasterDetectorOptions): MasterDetector {
    const detector = new MasterDetector(options);
    void detector.#run();
    return detector;
  }

  stop(): void {
    this.#stop.abort();
  }

  async #run(): Promise<void> {
    const { store, clock, newMasterDetected, noMasterDetected } = this.#options;
    let epoch = 0;
    let seenAtMs = clock.monotonicMs();
    let absent = false;
    while (!this.#stop.signal.aborted) {
      try {
        const leader = await store.leader();
        if (this.#stop.signal.aborted) return;
        if (leader) seenAtMs = clock.monotonicMs();
        if (leader && (leader.epoch !== epoch || absent)) {
          epoch = leader.epoch;
          absent = false;
          newMasterDetected({ masterId: leader.masterId, epoch });
        } else if (!leader && !absent && clock.monotonicMs() - seenAtMs > ABSENT_MS) {
          absent = true;
          noMasterDetected();
        }
      } catch (error) {
        this.#failed(error, epoch === 0);
      }
      await clock.sleep(LOOK_MS, this.#stop.signal);
    }
  }

  #failed(error: unknown, isFirst: boolean): void {
    const { log, onForbidden } = this.#options;
    if (this.#stop.signal.aborted) return;
    if (onForbidden && isFirst && isForbidden(error)) {
      this.stop();
      onForbidden(error);
    } else log.warn('master-detector.failed', { error: messageOf(error) });
  }
}
