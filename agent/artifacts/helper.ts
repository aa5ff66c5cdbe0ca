/**
 * Runs the helper that touches the sandbox: as the task's user, with an empty environment and no supplementary groups, and
 * with nothing open but the files that it is to place. What it answers is not to be trusted with more than words: another
 * process of the same user may have changed it.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { Clock } from '../../io/clock.ts';
import { codeOf, KaonError, messageOf } from '../../protocol/errors.ts';
import { TEXT_MAX_CHARS } from '../../protocol/limits.ts';
import { HELPER_MAX_MS } from './limits.ts';
import type { HelperAnswer, HelperRequest } from './request.ts';

/** More than any answer has, bytes. */
const OUTPUT_MAX_BYTES = 64 * 1024;
/** The first descriptor after the standard ones. */
const FIRST_FD = 3;

const Answer = z.union([
  z.object({ ok: z.literal(true) }),
  z.object({
    ok: z.literal(false),
    artifact: z.int().min(0).optional(),
    message: z.string().transform((text) => text.slice(0, TEXT_MAX_CHARS / 2)),
  }),
]);

/** How to run it. */
export interface HelperOptions {
  readonly argv: readonly string[];
  readonly clock: Clock;
  /** Absent: the agent's own user. */
  readonly ids: { readonly uid: number; readonly gid: number } | undefined;
  /** Where it is started. */
  readonly cwd: string;
  /** Of the agent, and will be 3, 4, ... of the helper. */
  readonly files: readonly number[];
  /** Ends the helper at once. */
  readonly signal: AbortSignal;
}

/** @returns the number that the helper knows the file at `index` of `HelperOptions.files` by */
export function helperFd(index: number): number {
  return FIRST_FD + index;
}

/** The helper beside the bundle that this code is in. */
export function builtHelperArgv(): string[] {
  const bundle = fileURLToPath(import.meta.url);
  return [process.execPath, bundle.replace(/(chunks\/)?[^/]*$/, 'artifact-fetcher.js')];
}

/**
 * @returns what the helper says came of it
 * @throws KaonError `artifact-helper` if it says nothing that can be understood; then the temporary file may still be there
 */
export async function runHelper(
  request: HelperRequest,
  options: HelperOptions,
): Promise<HelperAnswer> {
  const { argv, clock, ids, cwd, files, signal } = options;
  const [program = '', ...args] = argv;
  const child = start(program, args, { ids, cwd, files });
  const over = new AbortController();
  const stop = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  let isLate = false;
  void clock.sleep(HELPER_MAX_MS, over.signal).then(() => {
    isLate = !over.signal.aborted;
    if (isLate) stop();
  });
  try {
    const { end, stdout, stderr } = await converse(child, `${JSON.stringify(request)}\n`);
    if (isLate) throw helperFailed(`it took longer than ${String(HELPER_MAX_MS / 1000)} s`);
    return readAnswer(stdout) ?? refuseAnswer(end, stderr);
  } finally {
    over.abort();
    signal.removeEventListener('abort', stop);
  }
}

function start(
  program: string,
  args: readonly string[],
  { ids, cwd, files }: Pick<HelperOptions, 'ids' | 'cwd' | 'files'>,
): ChildProcess {
  try {
    // The agent's environment may have the password of Redis in it, and its working directory may be closed to the user.
    return spawn(program, args, {
      cwd,
      env: {},
      stdio: ['pipe', 'pipe', 'pipe', ...files],
      ...(ids && { uid: ids.uid, gid: ids.gid }),
    });
  } catch (error) {
    throw cannotStart(error);
  }
}

interface Conversation {
  /** `code 1`, `signal SIGKILL`. */
  readonly end: string;
  readonly stdout: string;
  readonly stderr: string;
}

/** Its input stays open until it has ended: that it closes tells the helper that the agent is gone. */
function converse(child: ChildProcess, line: string): Promise<Conversation> {
  const stdout = collect(child.stdout, child);
  const stderr = collect(child.stderr, child);
  const stdin = child.stdin as Writable;
  stdin.on('error', () => undefined); // It has ended without reading: its end says why.
  stdin.write(line);
  return new Promise((resolve, reject) => {
    child.once('error', (error) => {
      reject(cannotStart(error));
    });
    child.once('close', (code, signal) => {
      stdin.destroy();
      const end = signal === null ? `code ${String(code)}` : `signal ${signal}`;
      resolve({ end, stdout: stdout(), stderr: stderr() });
    });
  });
}

function collect(stream: Readable | null, child: ChildProcess): () => string {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream?.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= OUTPUT_MAX_BYTES) chunks.push(chunk);
    else child.kill('SIGKILL');
  });
  return () => Buffer.concat(chunks).toString();
}

function readAnswer(stdout: string): HelperAnswer | undefined {
  let value: unknown;
  try {
    value = JSON.parse(stdout);
  } catch {
    return undefined; // It was cut off, or is no answer at all: told by the caller, with what else it said.
  }
  const read = Answer.safeParse(value);
  if (!read.success) return undefined;
  if (read.data.ok) return { ok: true };
  const { artifact, message } = read.data;
  return { ok: false, message, ...(artifact !== undefined && { artifact }) };
}

/** Of what Node prints when it cannot go on, one line names the error. */
function refuseAnswer(end: string, stderr: string): never {
  const lines = stderr.split('\n').map((text) => text.trim());
  const line = lines.find((text) => /^\S*Error\b/.test(text)) ?? lines.find((text) => text !== '');
  throw helperFailed(`it ended with ${end}${line === undefined ? '' : `: ${line.slice(0, 500)}`}`);
}

function cannotStart(error: unknown): KaonError {
  const isUser = codeOf(error) === 'EPERM';
  const words = isUser ? 'the agent may not take on another user' : messageOf(error);
  return helperFailed(`it could not be started: ${words}`, error);
}

function helperFailed(words: string, cause?: unknown): KaonError {
  return new KaonError('artifact-helper', `helper for artifacts: ${words}`, {
    cause,
    hint: 'node and artifact-fetcher.js beside it must be readable by the user of the task',
  });
}
