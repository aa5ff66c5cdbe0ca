/**
 * The output of the tasks of one `kaon run` on this terminal: byte for byte for one task, line by line with a prefix
 * for several. Knows from the death certificates when it has everything.
 */
import type { AgentId, FrameworkId, TaskId, TaskStatus } from '../../framework/index.ts';
import { readTaskOutput } from '../../framework/output-reader.ts';
import type { RedisStore } from '../../io/redis-store.ts';

/**
 * After the end of a task its output may take so many seconds to arrive without a byte before it is given up. They are counted,
 * so that a time in which this process itself stood still is one of them and no more.
 */
const STALLED_LOOKS = 15;
const LOOK_MS = 1000;

type Kind = 'stdout' | 'stderr';

interface Follower {
  readonly stop: AbortController;
  /** Aborted when the agent is known to have the task, or to have had it: from then on it can say what is there. */
  readonly placed: AbortController;
  readonly received: Record<Kind, number>;
  readonly expected: Record<Kind, number | undefined>;
  readonly rest: Record<Kind, string>;
  /** Seconds in which nothing has come. */
  silentLooks: number;
  finished: Promise<void>;
}

/** What showing the output of a command's tasks takes. */
export interface OutputOfTasksOptions {
  readonly store: RedisStore;
  /** Several tasks need a connection each. */
  readonly openStore: () => Promise<RedisStore>;
  readonly frameworkId: FrameworkId;
  readonly taskIds: readonly TaskId[];
  readonly say: (text: string) => void;
}

/** Follows each task from its launch, and knows when all of its output has been shown. */
export class OutputOfTasks {
  readonly #options: OutputOfTasksOptions;
  readonly #followers = new Map<TaskId, Follower>();

  constructor(options: OutputOfTasksOptions) {
    this.#options = options;
  }

  /** Begins to show a task that is on its way to an agent. */
  follow(taskId: TaskId, agentId: AgentId): void {
    this.#followers.get(taskId)?.stop.abort(); // Its launch did not arrive.
    const follower: Follower = {
      stop: new AbortController(),
      placed: new AbortController(),
      received: { stdout: 0, stderr: 0 },
      expected: { stdout: undefined, stderr: undefined },
      rest: { stdout: '', stderr: '' },
      silentLooks: 0,
      finished: Promise.resolve(),
    };
    this.#followers.set(taskId, follower);
    follower.finished = this.#read(taskId, agentId, follower).catch((error: unknown) => {
      if (!follower.stop.signal.aborted) this.#options.say(`output of ${taskId}: ${String(error)}`);
    });
  }

  /** The task has arrived at its agent. */
  placed(taskId: TaskId): void {
    this.#followers.get(taskId)?.placed.abort();
  }

  /** The end of a task says how much output there is. */
  ended({ taskId, certificate }: TaskStatus): void {
    const follower = this.#followers.get(taskId);
    if (!follower) return;
    // Without a certificate there was no process, or nobody knows of one: nothing more will come.
    follower.expected.stdout = certificate?.stdoutBytes ?? 0;
    follower.expected.stderr = certificate?.stderrBytes ?? 0;
    follower.silentLooks = 0;
    follower.placed.abort();
    this.#stopIfComplete(follower);
  }

  /** Resolves when everything has been shown, or nothing has come for a while. */
  async complete(): Promise<void> {
    for (const [taskId, follower] of this.#followers) {
      const watch = setInterval(() => {
        follower.silentLooks += 1;
        if (follower.silentLooks < STALLED_LOOKS) return;
        this.#options.say(
          `output of ${taskId} is not complete: its agent does not answer; see kaon logs ${taskId}`,
        );
        follower.stop.abort();
      }, LOOK_MS);
      // A read that waits for more is not waited for: the certificate has said that there is none.
      await Promise.race([follower.finished, aborted(follower.stop.signal)]);
      clearInterval(watch);
      this.#flushRest(taskId, follower);
    }
  }

  async #read(taskId: TaskId, agentId: AgentId, follower: Follower): Promise<void> {
    const several = this.#options.taskIds.length > 1;
    const store = several ? await this.#options.openStore() : this.#options.store;
    try {
      for (;;) {
        const wasPlaced = follower.placed.signal.aborted;
        const error = await this.#readFromAgent(store, taskId, agentId, follower);
        if (error === '' || follower.stop.signal.aborted) return;
        if (wasPlaced) {
          this.#options.say(error);
          return;
        }
        // The launch was slower than an agent waits for the task of a request: what it has then is asked for again.
        await Promise.race([aborted(follower.placed.signal), aborted(follower.stop.signal)]);
      }
    } finally {
      if (several) await store.close();
    }
  }

  async #readFromAgent(
    store: RedisStore,
    taskId: TaskId,
    agentId: AgentId,
    follower: Follower,
  ): Promise<string> {
    const { error } = await readTaskOutput({
      store,
      agentId,
      frameworkId: this.#options.frameworkId,
      taskId,
      follow: true,
      stdout: true,
      stderr: true,
      signal: follower.stop.signal,
      onChunk: async (kind, bytes) => {
        follower.received[kind] += bytes.length;
        follower.silentLooks = 0;
        await this.#show(taskId, follower, kind, bytes);
        this.#stopIfComplete(follower);
      },
    });
    return error;
  }

  #stopIfComplete({ received, expected, stop }: Follower): void {
    const { stdout, stderr } = expected;
    if (stdout === undefined || stderr === undefined) return;
    if (received.stdout >= stdout && received.stderr >= stderr) stop.abort();
  }

  async #show(taskId: TaskId, follower: Follower, kind: Kind, bytes: Buffer): Promise<void> {
    if (this.#options.taskIds.length === 1) {
      await write(kind, bytes);
      return;
    }
    const lines = (follower.rest[kind] + bytes.toString('utf8')).split('\n');
    follower.rest[kind] = lines.pop() ?? '';
    const prefix = this.#prefixOf(taskId);
    if (lines.length > 0) await write(kind, lines.map((line) => `${prefix}${line}\n`).join(''));
  }

  #flushRest(taskId: TaskId, { rest }: Follower): void {
    for (const kind of ['stdout', 'stderr'] as const) {
      if (rest[kind] !== '') void write(kind, `${this.#prefixOf(taskId)}${rest[kind]}\n`);
    }
  }

  #prefixOf(taskId: TaskId): string {
    return `[${String(this.#options.taskIds.indexOf(taskId))}] `;
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => {
      resolve();
    });
  });
}

/** Waits for a slow reader, so that a pipe holds the task's output back and not this process's memory. */
function write(kind: Kind, data: Buffer | string): Promise<void> {
  return new Promise((resolve) => {
    process[kind].write(data, () => {
      resolve();
    });
  });
}
