/**
 * What processors want of their jobs, done in BullMQ: the scheduler's end of the channel of `processor-messages.ts`. Each call
 * of a task is done once and in order, whatever is lost or comes twice on the way; its answer is kept until the next one.
 */
import type { Job } from 'bullmq';
import type { Log } from '../../io/log.ts';
import { messageOf } from '../../protocol/errors.ts';
import {
  createAssembler,
  dropFrames,
  FRAMED_TEXT_MAX_CHARS,
  splitIntoFrames,
  takeFrame,
} from './core/frames.ts';
import {
  Frame,
  NumberedCall,
  ProcessorEnd,
  ProcessorOutcome,
  type CallAnswer,
  type ProcessorCall,
} from './processor-messages.ts';

/** Calls of which something has come, but not all: each task has one at most, and most calls are one frame. */
const UNFINISHED_MAX = 200;
/** Of an error's stack on its way to a processor nobody needs the whole. */
const STACK_MAX_CHARS = 16_000;

/** Ways out, and who hears of what is dropped. */
export interface ProcessorCallsOptions {
  /** Sends one framework message to the executor of that task, best effort. */
  readonly send: (taskId: string, data: string) => void;
  /** Its processor is about to put the job of that task elsewhere; `false`: it has not done so after all. */
  readonly noteMoved: (taskId: string, isMoved: boolean) => Promise<void>;
  readonly log: Log;
}

/** What is known of a job when its task has ended. */
export interface FinishedJob {
  /** Absent if the processor has not said how it ended. */
  readonly outcome?: ProcessorOutcome;
  readonly output: string;
  /** The processor has put the job elsewhere (to wait, for example): it is not the task's any more. */
  readonly moved: boolean;
}

interface Tracked {
  readonly job: Job;
  readonly token: string;
  /** The processor, compressed; undefined if the nodes have it. */
  readonly code: string | undefined;
  readonly noteMoved: (isMoved: boolean) => Promise<void>;
  /** Of the newest call that was taken; 0 for none. */
  lastSequence: number;
  /** To that call; undefined as long as it is being done. */
  lastAnswer: string | undefined;
  /** Resolves when all calls that were taken are done. */
  done: Promise<void>;
  outcome: ProcessorOutcome | undefined;
  /** The job has been put elsewhere, or just now is: whether it has been is known later than that others can take it. */
  isMoved: boolean;
}

/** The calls of all tasks that are tracked. */
export class ProcessorCalls {
  readonly #options: ProcessorCallsOptions;
  readonly #tasks = new Map<string, Tracked>();
  readonly #texts = createAssembler({ unfinishedMax: UNFINISHED_MAX });

  constructor(options: ProcessorCallsOptions) {
    this.#options = options;
  }

  /** From now on calls of this task are done, to this job. @param code the processor, if the nodes do not have it */
  track(taskId: string, job: Job, token: string, code?: string): void {
    this.forget(taskId);
    this.#tasks.set(taskId, {
      ...{ job, token, code, lastSequence: 0, lastAnswer: undefined },
      ...{ done: Promise.resolve(), outcome: undefined, isMoved: false },
      noteMoved: (isMoved) => this.#options.noteMoved(taskId, isMoved),
    });
  }

  /** Takes a framework message. What is of no task that is tracked comes again. */
  receive(data: string): void {
    const frame = decode(Frame, data);
    if (!frame) {
      this.#options.log.warn('call.ignored', { problem: 'not a frame', chars: data.length });
      return;
    }
    const { taskId, sequence } = frame;
    const tracked = this.#tasks.get(taskId);
    if (!tracked || sequence < tracked.lastSequence) return;
    const text = takeFrame(this.#texts, frame);
    if (text === undefined) return;
    if (sequence === tracked.lastSequence) {
      if (tracked.lastAnswer !== undefined) this.#answer(taskId, sequence, tracked.lastAnswer);
      return;
    }
    const numbered = decode(NumberedCall, text);
    if (numbered?.sequence === sequence) void this.#take(taskId, tracked, numbered);
    else this.#refuse(taskId, tracked, sequence);
  }

  /**
   * Does what the task had not been told to be done, after all that was taken before.
   *
   * @param data of the task's terminal update
   */
  async finish(taskId: string, data: string | undefined): Promise<FinishedJob> {
    const end = this.#readEnd(taskId, data);
    const tracked = this.#tasks.get(taskId);
    if (!tracked) return finishedJob(end, undefined);
    for (const numbered of end?.calls ?? []) {
      if (numbered.sequence > tracked.lastSequence) await this.#take(taskId, tracked, numbered);
    }
    await tracked.done;
    return finishedJob(end, tracked);
  }

  /** Whether the processor has put its job elsewhere, where it may be taken before the task has ended. */
  hasMoved(taskId: string): boolean {
    return this.#tasks.get(taskId)?.isMoved === true;
  }

  /** Calls of this task are ignored. */
  forget(taskId: string): void {
    const tracked = this.#tasks.get(taskId);
    if (!tracked) return;
    this.#tasks.delete(taskId);
    dropFrames(this.#texts, { taskId, sequence: tracked.lastSequence + 1 });
  }

  #readEnd(taskId: string, data: string | undefined): ProcessorEnd | undefined {
    if (data === undefined) return undefined;
    const end = decode(ProcessorEnd, data);
    if (!end) {
      this.#options.log.warn('call.ignored', { taskId, problem: 'not the end of a processor' });
    }
    return end;
  }

  /** Resolves when the call is done; it never rejects. */
  #take(taskId: string, tracked: Tracked, { sequence, call }: NumberedCall): Promise<void> {
    tracked.lastSequence = sequence;
    tracked.lastAnswer = undefined;
    tracked.done = tracked.done.then(async () => {
      const answer = await this.#do(taskId, tracked, call);
      // Meanwhile another call can have been taken only if this one's answer is not waited for any more.
      if (tracked.lastSequence !== sequence) return;
      tracked.lastAnswer = writeAnswer(answer);
      this.#answer(taskId, sequence, tracked.lastAnswer);
    });
    return tracked.done;
  }

  async #do(taskId: string, tracked: Tracked, call: ProcessorCall): Promise<CallAnswer> {
    try {
      return { ok: true, value: await perform(tracked, call) };
    } catch (error) {
      this.#options.log.warn('call.failed', { taskId, call: call.call, error: messageOf(error) });
      return { ok: false, error: errorOf(error) };
    }
  }

  /** It would come again for ever, and nothing else of its task. */
  #refuse(taskId: string, tracked: Tracked, sequence: number): void {
    const message = 'this call is not understood by the scheduler';
    this.#options.log.warn('call.ignored', { taskId, sequence, problem: 'not a call' });
    tracked.lastSequence = sequence;
    tracked.done = tracked.done.then(() => {
      tracked.lastAnswer = writeAnswer({ ok: false, error: { name: 'Error', message } });
      this.#answer(taskId, sequence, tracked.lastAnswer);
    });
  }

  #answer(taskId: string, sequence: number, text: string): void {
    if (!this.#tasks.has(taskId)) return;
    for (const frame of splitIntoFrames({ taskId, sequence }, text)) {
      this.#options.send(taskId, frame);
    }
  }
}

function finishedJob(end: ProcessorEnd | undefined, tracked: Tracked | undefined): FinishedJob {
  const outcome = end?.outcome ?? tracked?.outcome;
  const moved = tracked?.isMoved ?? false;
  return { ...(outcome && { outcome }), output: end?.output ?? '', moved };
}

/** @returns what the processor gets for its call */
async function perform(tracked: Tracked, call: ProcessorCall): Promise<unknown> {
  const { job } = tracked;
  switch (call.call) {
    case 'getJob':
      return job.asJSONSandbox();
    case 'getProcessor':
      return tracked.code;
    case 'log':
      for (const row of call.rows) await job.log(row);
      return undefined;
    case 'updateProgress':
      await job.updateProgress(call.value as never);
      return undefined;
    case 'updateData':
      await job.updateData(call.data);
      return undefined;
    case 'getChildrenValues':
      return job.getChildrenValues();
    case 'getIgnoredChildrenFailures':
      return job.getIgnoredChildrenFailures();
    case 'getDependenciesCount':
      return job.getDependenciesCount(optionsOf(call.options));
    case 'getDependencies':
      return job.getDependencies(optionsOf(call.options));
    case 'moveToDelayed':
    case 'moveToWait':
    case 'moveToWaitingChildren':
      return move(tracked, call);
    case 'outcome':
      tracked.outcome = ProcessorOutcome.parse(JSON.parse(call.outcome));
      return undefined;
    default:
      return call satisfies never;
  }
}

type Move = Extract<ProcessorCall, { call: `moveTo${string}` }>;

async function move(tracked: Tracked, call: Move): Promise<unknown> {
  // A second call that fails takes nothing back of the first.
  const wasMoved = tracked.isMoved;
  let hasMoved: boolean | undefined = false;
  tracked.isMoved = true;
  try {
    if (!wasMoved) await tracked.noteMoved(true);
    hasMoved = await moved(tracked, call);
    return hasMoved;
  } finally {
    tracked.isMoved = wasMoved || hasMoved !== false;
    if (!tracked.isMoved) await tracked.noteMoved(false);
  }
}

/** @returns false if the job has no child to wait for, and stays */
async function moved({ job, token }: Tracked, call: Move): Promise<boolean | undefined> {
  switch (call.call) {
    case 'moveToDelayed':
      await job.moveToDelayed(call.timestamp, token);
      return undefined;
    case 'moveToWait':
      await job.moveToWait(token);
      return undefined;
    case 'moveToWaitingChildren':
      return job.moveToWaitingChildren(token, optionsOf(call.options));
    default:
      return call satisfies never;
  }
}

/** BullMQ says by itself what it does not understand. */
function optionsOf(options: unknown): Record<string, never> | undefined {
  return typeof options === 'object' && options !== null
    ? (options as Record<string, never>)
    : undefined;
}

function writeAnswer(answer: CallAnswer): string {
  const text = JSON.stringify(answer);
  if (text.length <= FRAMED_TEXT_MAX_CHARS) return text;
  const message = `the answer is too large: ${String(text.length)} characters of JSON, at most ${String(FRAMED_TEXT_MAX_CHARS)} are allowed`;
  return writeAnswer({ ok: false, error: { name: 'Error', message } });
}

function errorOf(thrown: unknown): { name: string; message: string; stack?: string } {
  const { name, stack } = (thrown ?? {}) as { name?: unknown; stack?: unknown };
  return {
    name: typeof name === 'string' ? name : 'Error',
    message: messageOf(thrown),
    ...(typeof stack === 'string' && { stack: stack.slice(0, STACK_MAX_CHARS) }),
  };
}

/** @returns undefined for what is no JSON, or JSON of something else */
function decode<T>(
  schema: { safeParse(value: unknown): { success: boolean; data?: T } },
  text: string,
): T | undefined {
  try {
    const parsed = schema.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : undefined;
  } catch {
    // No JSON: undefined says so.
    return undefined;
  }
}
