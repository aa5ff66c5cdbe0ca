/**
 * The reading of tasks' output by a driver. All readers share the store of the driver, whose connection for output none of
 * them blocks; the driver's own messages have connections of their own. When the driver ends, so do they.
 */
import type { Clock } from '../io/clock.ts';
import type { Store } from '../io/store.ts';
import { AgentId } from '../protocol/ids.ts';
import type { FrameworkId, TaskId } from '../protocol/ids.ts';
import type { Message } from '../protocol/messages.ts';
import { isTerminal } from '../protocol/task-state.ts';
import { checkedMessage } from './calls.ts';
import { driverError } from './driver-errors.ts';
import { readTaskOutput } from './output-reader.ts';
import type { OutputKind, ReadTaskOutputOptions } from './output-reader.ts';

export type { OutputKind };

/** What to read of a task's output, and whom to give it. */
export interface OutputRequest {
  readonly taskId: string;
  /** Where the task runs or has run; each status of it says so. */
  readonly agentId: string;
  /** Go on until the task has ended; default false: to what is there now. */
  readonly follow?: boolean | undefined;
  /** Default true. */
  readonly stdout?: boolean | undefined;
  /** Default true. */
  readonly stderr?: boolean | undefined;
  /** Begin so many bytes before the end of each of the two; default: from the beginning. */
  readonly lastBytes?: number | undefined;
  /** Gets each byte once, in order within its kind. The next piece (at most 64 KiB) waits for its promise. */
  readonly onChunk: (kind: OutputKind, bytes: Buffer) => Promise<void> | void;
  /** Bytes that the agent never sent: what comes next begins after a hole. */
  readonly onGap?: ((kind: OutputKind, missingBytes: number) => void) | undefined;
  /** Ends the reading. Nobody else does if the agent is gone for good: abort it when a status says so. */
  readonly signal?: AbortSignal | undefined;
}

/** How a reading ended. */
export interface OutputEnd {
  /** Why it is not complete: the sandbox is gone, the driver has ended; '' if it is, or `signal` was aborted. */
  readonly error: string;
}

type Checked = Pick<
  ReadTaskOutputOptions,
  'agentId' | 'frameworkId' | 'taskId' | 'follow' | 'stdout' | 'stderr' | 'lastBytes'
>;

/** A driver that ends waits so long for answers to be taken out of Redis, milliseconds; they expire without it. */
const CLOSE_MS = 1000;
const DRIVER_ENDED: OutputEnd = { error: 'the driver has ended' };

/** All readings of one driver. */
export class OutputReadings {
  readonly #frameworkId: FrameworkId;
  readonly #clock: Clock;
  readonly #readings = new Map<Reading, Promise<OutputEnd>>();
  #isClosed = false;

  constructor(frameworkId: FrameworkId, clock: Clock) {
    this.#frameworkId = frameworkId;
    this.#clock = clock;
  }

  /**
   * @param store that of the driver; undefined if it has none (yet, or any more)
   * @returns when everything has been given away, or `signal` was aborted
   * @throws KaonError `invalid-argument`; what `onChunk` throws; errors of the store
   */
  async read(store: Store | undefined, request: OutputRequest): Promise<OutputEnd> {
    const what = this.#checked(request);
    if (!store || this.#isClosed) return { error: 'the driver is not connected' };
    const reading = new Reading(what.taskId, this.#clock);
    const { signal, onChunk, onGap } = request;
    const onAbort = (): void => {
      reading.end();
    };
    if (isAborted(signal)) onAbort();
    signal?.addEventListener('abort', onAbort);
    const pause = reading.pause.bind(reading);
    const more = { store, pause, onChunk, ...(onGap && { onGap }), signal: reading.signal };
    const reads = readTaskOutput({ ...what, ...more });
    this.#readings.set(reading, reads);
    try {
      const end = await reads;
      return reading.signal.aborted && !isAborted(signal) ? DRIVER_ENDED : end;
    } catch (error) {
      // A request that waits for Redis fails when its connection is closed.
      if (this.#isClosed) return DRIVER_ENDED;
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.#readings.delete(reading);
    }
  }

  /** Takes from what the framework is told which tasks have ended: the rest of their output is there in a moment. */
  learn(message: Message): void {
    if (message.type !== 'StatusUpdate' || !isTerminal(message.status.state)) return;
    for (const reading of this.#readings.keys()) {
      if (reading.taskId === message.status.taskId) reading.hurry();
    }
  }

  /** Ends all of them, before the store is closed. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const reading of this.#readings.keys()) reading.end();
    const patience = new AbortController();
    const ended = Promise.allSettled(this.#readings.values());
    await Promise.race([ended, this.#clock.sleep(CLOSE_MS, patience.signal)]);
    patience.abort();
  }

  #checked({ agentId, onChunk, onGap: _gap, signal: _signal, ...rest }: OutputRequest): Checked {
    const agent = AgentId.safeParse(agentId);
    if (!agent.success) {
      throw driverError('invalid-argument', `${JSON.stringify(agentId)} is no id of an agent`);
    }
    if (typeof onChunk !== 'function') {
      throw driverError('invalid-argument', 'onChunk of a reading is not a function');
    }
    const { taskId, follow, stdout, stderr, lastBytes } = checkedMessage<'ReadOutput'>({
      ...rest,
      stdout: rest.stdout ?? true,
      stderr: rest.stderr ?? true,
      follow: rest.follow ?? false,
      type: 'ReadOutput',
      readId: 'checked',
      frameworkId: this.#frameworkId,
    });
    return {
      agentId: agent.data,
      frameworkId: this.#frameworkId,
      ...{ taskId, follow, stdout, stderr },
      ...(lastBytes !== undefined && { lastBytes }),
    };
  }
}

/** What ends one reading, and its pauses between two looks. */
class Reading {
  readonly taskId: TaskId;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  #pausing: AbortController | undefined;
  #isHurried = false;

  constructor(taskId: TaskId, clock: Clock) {
    this.taskId = taskId;
    this.#clock = clock;
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  end(): void {
    this.#stop.abort();
    this.#pausing?.abort();
  }

  hurry(): void {
    this.#isHurried = true;
    this.#pausing?.abort();
  }

  /** @returns true if there is a reason to look more often from now on */
  async pause(ms: number): Promise<boolean> {
    if (!this.#isHurried && !this.signal.aborted) {
      this.#pausing = new AbortController();
      await this.#clock.sleep(ms, this.#pausing.signal);
    }
    const isHurried = this.#isHurried;
    this.#isHurried = false;
    return isHurried;
  }
}

function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}
