/** One child process of the executor: started, given one job at a time, heard, ended. Its output is the executor's own. */
import { fork, type ChildProcess } from 'node:child_process';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { messageOf } from '../../../protocol/errors.ts';
import type { CallAnswer, ProcessorCall, ProcessorError } from '../processor-messages.ts';
import { lastLines } from '../core/output-tail.ts';
import type { FromChild, ToChild } from './child-messages.ts';

/** Of the output of a job. */
const TAIL_MAX_CHARS = 4000;
/** Kept of it while it runs: no character has more bytes. */
const TAIL_MAX_BYTES = 4 * TAIL_MAX_CHARS;
/** Until a child that was asked to leave is made to. */
const LEAVE_MAX_MS = 5000;
/** Not for tasks: where the agent is, and who the executor is. */
const SECRETS = ['KAON_EXECUTOR_SOCKET', 'KAON_EXECUTOR_TOKEN_FILE'];

/** How a process ended, in the terms of a status update. */
export interface ChildExit {
  readonly exitCode?: number;
  readonly signal?: number;
}

type Said<T extends FromChild['type']> = Extract<FromChild, { type: T }>;

/** Who is told what becomes of a job. One of `notStarted`, `done`, `importFailed` and `exited` comes last. */
export interface JobListener {
  started(): void;
  call(call: ProcessorCall, askId: number | undefined): void;
  /** Why nothing of the job was done. */
  notStarted(message: string): void;
  done(done: Said<'done'>): void;
  importFailed(error: ProcessorError): void;
  exited(exit: ChildExit): void;
}

/** What to start, and who is told that it is gone. */
export interface ChildOptions {
  readonly childPath: string;
  /** The processor file. */
  readonly file: string;
  readonly exited: (child: ChildHandle) => void;
}

type RunMessage = Extract<ToChild, { type: 'run' }>;

/** A process, from its start to its exit. */
export class ChildHandle {
  readonly #options: ChildOptions;
  readonly #process: ChildProcess;
  #isReady = false;
  /** It has been sent SIGKILL, or has ended, or was asked to leave: no job for it any more. */
  #isLost = false;
  /** To be sent when it is ready. */
  #pending: RunMessage | undefined;
  #listener: JobListener | undefined;
  /** It has said how its job ended; only its last words are waited for. */
  #isDone = false;
  #tail: Buffer[] = [];
  #tailBytes = 0;
  #jobCount = 0;

  /** @throws what fork throws if the node has no room for a process; most of it comes later, as `notStarted` */
  constructor(options: ChildOptions) {
    this.#options = options;
    const { childPath, file } = options;
    this.#process = fork(childPath, [file], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: withoutSecrets(process.env),
      // The executor's own are chosen for a small process that only hands things on.
      execArgv: [],
    });
    this.#listen();
  }

  /** False of one that must not be given another job. */
  get isUsable(): boolean {
    return !this.#isLost;
  }

  /** Whether it has been given a job before the one that it has. */
  get isReused(): boolean {
    return this.#jobCount > 1;
  }

  /** Gives it a job, to be sent as soon as the processor has been loaded. */
  run(message: RunMessage, listener: JobListener): void {
    this.#listener = listener;
    this.#isDone = false;
    this.#jobCount += 1;
    this.#tail = [];
    this.#tailBytes = 0;
    if (this.#isReady) this.#send(message);
    else this.#pending = message;
  }

  /** @returns false if the job has been sent; else it is not going to be, and the child is free */
  takeBack(): boolean {
    if (!this.#pending) return false;
    this.#pending = undefined;
    this.#listener = undefined;
    this.#jobCount -= 1;
    return true;
  }

  abort(reason: string): void {
    this.#send({ type: 'abort', reason });
  }

  answer(askId: number, answer: CallAnswer): void {
    this.#send({ type: 'answer', askId, answer });
  }

  /** The last lines that it has written since it was given its job. */
  tail(): string {
    return lastLines(Buffer.concat(this.#tail).toString('utf8'), TAIL_MAX_CHARS);
  }

  /** Asks it to leave; it is made to if it does not. */
  leave(): void {
    this.#isLost = true;
    if (this.#process.connected) this.#process.disconnect();
    const timer = setTimeout(() => {
      this.kill();
    }, LEAVE_MAX_MS);
    timer.unref();
    this.#process.once('exit', () => {
      clearTimeout(timer);
    });
  }

  /** SIGKILL. */
  kill(): void {
    this.#isLost = true;
    this.#process.kill('SIGKILL');
  }

  #listen(): void {
    const child = this.#process;
    // Of a message that could not be sent, for example: the exit follows. Without a process there is no exit.
    child.on('error', (error) => {
      if (child.pid !== undefined) return;
      this.#isLost = true;
      this.#options.exited(this);
      this.#finish((who) => {
        who.notStarted(`no process could be made: ${messageOf(error)}`);
      });
    });
    child.on('message', (message) => {
      this.#receive(message as FromChild);
    });
    child.once('exit', (code, signal) => {
      this.#isLost = true;
      afterInput(() => {
        this.#exited(exitOf(code, signal));
      });
    });
    if (child.stdout) this.#passOn(child.stdout, process.stdout);
    if (child.stderr) this.#passOn(child.stderr, process.stderr);
  }

  #receive(message: FromChild): void {
    const listener = this.#listener;
    switch (message.type) {
      case 'ready':
        this.#isReady = true;
        if (this.#pending) this.#send(this.#pending);
        this.#pending = undefined;
        return;
      case 'started':
        listener?.started();
        return;
      case 'call':
        listener?.call(message.call, message.askId);
        return;
      case 'not-joined':
        this.#finish((who) => {
          who.notStarted(`its control group could not be joined: ${message.message}`);
        });
        return;
      case 'import-failed':
        this.#isLost = true;
        this.#finish((who) => {
          who.importFailed(message.error);
        });
        return;
      case 'done':
        this.#isDone = true;
        if (message.isSpent) this.#isLost = true;
        afterInput(() => {
          this.#finish((who) => {
            who.done(message);
          });
        });
        return;
      default:
        message satisfies never;
    }
  }

  #exited(exit: ChildExit): void {
    this.#isLost = true;
    this.#options.exited(this);
    if (this.#isDone) return;
    this.#finish((who) => {
      who.exited(exit);
    });
  }

  #finish(tell: (listener: JobListener) => void): void {
    const listener = this.#listener;
    this.#listener = undefined;
    if (listener) tell(listener);
  }

  #send(message: ToChild): void {
    // One that has ended is told of by its exit.
    if (this.#process.connected) this.#process.send(message, () => undefined);
  }

  #passOn(from: Readable, to: NodeJS.WritableStream): void {
    from.on('data', (bytes: Buffer) => {
      to.write(bytes);
      if (this.#listener) this.#remember(bytes);
    });
    // The process has ended, which is told otherwise.
    from.on('error', () => undefined);
  }

  #remember(bytes: Buffer): void {
    const kept = bytes.length > TAIL_MAX_BYTES ? bytes.subarray(-TAIL_MAX_BYTES) : bytes;
    this.#tail.push(kept);
    this.#tailBytes += kept.length;
    for (
      let first = this.#tail[0];
      first && this.#tailBytes - first.length >= TAIL_MAX_BYTES;
      first = this.#tail[0]
    ) {
      this.#tail.shift();
      this.#tailBytes -= first.length;
    }
  }
}

/**
 * Calls back when what the child has written so far has been read: output and messages come through pipes of their own, each
 * in its order. What was written is in them by now, so one whole turn of the event loop finds it; the first may be half over.
 */
function afterInput(callback: () => void): void {
  setImmediate(() => setImmediate(callback));
}

function withoutSecrets(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const rest = { ...environment };
  for (const name of SECRETS) delete rest[name];
  return rest;
}

function exitOf(code: number | null, signal: NodeJS.Signals | null): ChildExit {
  if (signal !== null) {
    const number = constants.signals[signal] as number | undefined;
    return number === undefined ? {} : { signal: number };
  }
  return code === null ? {} : { exitCode: code };
}
