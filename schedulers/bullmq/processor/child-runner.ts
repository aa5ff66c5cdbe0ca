/**
 * A child's life: one job at a time, run by a processor that was loaded once. Each job is run inside of the cgroups of its
 * task, and only the job: what comes before and after it belongs to the executor.
 */
import { messageOf } from '../../../protocol/errors.ts';
import type { CallAnswer, ProcessorCall } from '../processor-messages.ts';
import type { FromChild, ToChild } from './child-messages.ts';
import { joinCgroups, leaveCgroups, type Home, type Homes } from './cgroups.ts';
import { returned, threw, type WrittenOutcome } from './json.ts';
import { sandboxedJob, type JobChannel } from './sandboxed-job.ts';

/** Memory that a job has left behind and the next one would find in use belongs to nobody; beyond this the child ends. */
const GROWTH_MAX_BYTES = 64 * 1_048_576;

/** The signature of a sandboxed processor of BullMQ. */
export type Processor = (job: unknown, token: string, signal: AbortSignal) => unknown;

/** What a runner is made of. */
export interface RunnerOptions {
  readonly processor: Processor;
  /** Resolves when the message has left. */
  readonly send: (message: FromChild) => Promise<void>;
  readonly memoryBytes: () => number;
  /** Of this process: each job finds its own variables there, and those of no other. */
  readonly environment: Record<string, string | undefined>;
}

interface Asked {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** Of one job. */
interface Run {
  readonly home: Home;
  readonly abort: AbortController;
  readonly asked: Map<number, Asked>;
  readonly variables: readonly string[];
}

type RunMessage = Extract<ToChild, { type: 'run' }>;

/** Runs the jobs that it is sent. */
export class ChildRunner {
  readonly #options: RunnerOptions;
  readonly #baselineBytes: number;
  readonly #homes: Homes = new Map();
  #run: Run | undefined;
  #askCount = 0;

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.#baselineBytes = options.memoryBytes();
  }

  /** Takes a message of the executor. */
  receive(message: ToChild): void {
    switch (message.type) {
      case 'run':
        void this.#begin(message);
        return;
      case 'abort':
        this.#run?.abort.abort(message.reason);
        return;
      case 'answer':
        this.#answered(message.askId, message.answer);
        return;
      default:
        message satisfies never;
    }
  }

  /** Something was thrown that nobody has caught. The process ends then; resolves when its job, if it has one, is told of. */
  async crashed(error: unknown): Promise<void> {
    const run = this.#run;
    if (!run) return;
    await this.#end(run, threw(error), true);
  }

  async #begin(message: RunMessage): Promise<void> {
    let home: Home;
    try {
      home = joinCgroups(message.cgroupProcs, this.#homes);
    } catch (error) {
      await this.#options.send({ type: 'not-joined', message: messageOf(error) });
      return;
    }
    const variables = Object.keys(message.environment);
    const run: Run = { home, abort: new AbortController(), asked: new Map(), variables };
    Object.assign(this.#options.environment, message.environment);
    this.#run = run;
    // Not waited for: it leaves before whatever the job says, and nobody answers it.
    void this.#options.send({ type: 'started' });
    let written: WrittenOutcome;
    try {
      written = returned(await this.#process(message, run));
    } catch (error) {
      written = threw(error);
    }
    await this.#end(run, written, false);
  }

  async #process({ job, token }: RunMessage, run: Run): Promise<unknown> {
    const channel = this.#channelOf(run);
    const fields: unknown =
      job === undefined
        ? await unlessAborted(run, channel.ask({ call: 'getJob' }))
        : JSON.parse(job);
    const sandboxed = sandboxedJob(fields as Readonly<Record<string, unknown>>, channel);
    return this.#options.processor(sandboxed, token, run.abort.signal);
  }

  /** Only the first end of a job counts: one that has crashed may return all the same. */
  async #end(run: Run, written: WrittenOutcome, isCrashed: boolean): Promise<void> {
    if (this.#run !== run) return;
    this.#run = undefined;
    for (const { reject } of run.asked.values()) reject(overError());
    for (const variable of run.variables) {
      Reflect.deleteProperty(this.#options.environment, variable);
    }
    const hasLeft = leaveCgroups(run.home);
    const growthBytes = this.#options.memoryBytes() - this.#baselineBytes;
    const isSpent = isCrashed || !hasLeft || growthBytes > GROWTH_MAX_BYTES;
    await this.#options.send({ type: 'done', ...written, isSpent });
  }

  #channelOf(run: Run): JobChannel {
    const { send } = this.#options;
    const askId = (): number => (this.#askCount += 1);
    const isOver = (): boolean => this.#run !== run;
    return {
      tell: async (call: ProcessorCall) => {
        if (isOver()) throw overError();
        await send({ type: 'call', call });
      },
      ask: async (call: ProcessorCall) => {
        if (isOver()) throw overError();
        const id = askId();
        const answer = new Promise<unknown>((resolve, reject) => {
          run.asked.set(id, { resolve, reject });
        });
        // The job can be over before anybody waits for it.
        answer.catch(() => undefined);
        await send({ type: 'call', askId: id, call });
        return answer;
      },
    };
  }

  #answered(askId: number, answer: CallAnswer): void {
    const asked = this.#run?.asked.get(askId);
    if (!asked) return;
    this.#run?.asked.delete(askId);
    if (answer.ok) {
      asked.resolve(answer.value);
      return;
    }
    const { name, message } = answer.error;
    asked.reject(Object.assign(new Error(message), { name }));
  }
}

/** A job that has not begun need not wait for an answer in order to be cancelled. */
async function unlessAborted<T>({ abort: { signal } }: Run, promise: Promise<T>): Promise<T> {
  return Promise.race([
    promise,
    new Promise<never>((_resolve, reject) => {
      const fail = (): void => {
        reject(new Error(`not begun: ${String(signal.reason)}`));
      };
      signal.addEventListener('abort', fail, { once: true });
    }),
  ]);
}

/** What comes from a job after its end would be taken for the next one's. */
function overError(): Error {
  return new Error('the job is over: its processor has returned, or has thrown');
}
