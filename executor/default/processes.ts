/**
 * Processes of tasks: started as leaders of their own sessions, and so of process groups that can be signalled as one. What
 * is left in the group of a process that has ended is ended with it.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import {
  accessSync,
  closeSync,
  constants as fsConstants,
  fstatSync,
  openSync,
  readSync,
} from 'node:fs';
import { constants } from 'node:os';
import type { LaunchedTask } from '../../protocol/executor-messages.ts';
import { codeOf, messageOf } from '../../protocol/errors.ts';
import { joinedCommand, startFailureOf } from './core/joined-command.ts';
import type { Exit, StartFailure } from './core/verdict.ts';
import { workingDirectory } from './environment.ts';

/** Enough for the last words of a shell. */
const TAIL_BYTES = 1024;

/** Errors of execve(2) that say that the program is not there, or is no program. */
const NOT_EXECUTABLE: readonly (string | undefined)[] = [
  'ENOENT',
  'EACCES',
  'ENOTDIR',
  'ELOOP',
  'ENAMETOOLONG',
];

/** Who is told what becomes of a process: either `failed`, or `started` at once and `exited` later. */
export interface ProcessListener {
  started(pid: number): void;
  failed(failure: StartFailure): void;
  exited(exit: Exit, failure: StartFailure | undefined): void;
}

/** Starts the command of a task. */
export function startTask(
  launched: LaunchedTask,
  environment: Readonly<Record<string, string>>,
  listener: ProcessListener,
): void {
  const { launchId, task, sandbox, cgroupProcs = [] } = launched;
  const argv = task.command?.argv ?? [];
  const command = joinedCommand({ argv, environment }, { launchId, cgroupProcs });
  const cwd = workingDirectory(launched);
  const explain = (error: unknown): StartFailure => startFailure(error, argv[0] ?? '', cwd);
  let child: ChildProcess;
  try {
    child = spawnInto(command.argv, { cwd, env: command.environment }, sandbox);
  } catch (error) {
    listener.failed(explain(error));
    return;
  }
  const { pid } = child;
  if (pid === undefined) {
    child.once('error', (error) => {
      listener.failed(explain(error));
    });
    return;
  }
  // Of a signal that could not be sent, for example; nothing that this listener has not been told.
  child.on('error', () => undefined);
  child.once('exit', (code, signal) => {
    // First of all: as long as this is the same turn of the event loop, no other process has got the number.
    signalGroup(pid, 'SIGKILL');
    const exit = exitOf(code, signal);
    const failure =
      cgroupProcs.length > 0 && sandbox
        ? startFailureOf(exit.exitCode, readTail(sandbox.stderr), launched)
        : undefined;
    listener.exited(exit, failure);
  });
  listener.started(pid);
}

/** @throws what openSync and spawn throw */
function spawnInto(
  argv: readonly string[],
  options: { readonly cwd: string; readonly env: Readonly<Record<string, string>> },
  output: { readonly stdout: string; readonly stderr: string } | undefined,
): ChildProcess {
  const [file = '', ...args] = argv;
  const opened: number[] = [];
  try {
    for (const path of [output?.stdout, output?.stderr])
      opened.push(openSync(path ?? '/dev/null', 'a'));
    return spawn(file, args, { ...options, detached: true, stdio: ['ignore', ...opened] });
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/**
 * Sends a signal to all processes of a group; one that is gone gets none.
 *
 * @param leader the process id of its first process, which names the group as long as anything is left of it
 */
export function signalGroup(leader: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-leader, signal);
  } catch (error) {
    // ESRCH: nothing is left of it. EPERM: what is left runs as another user, and only the container can end it.
    if (codeOf(error) !== 'ESRCH' && codeOf(error) !== 'EPERM') throw error;
  }
}

/** The kernel's word in the terms of a status update. */
export function exitOf(code: number | null, signal: NodeJS.Signals | null): Exit {
  if (signal !== null) {
    const number = constants.signals[signal] as number | undefined;
    return number === undefined ? {} : { signal: number };
  }
  return code === null ? {} : { exitCode: code };
}

function startFailure(error: unknown, program: string, cwd: string): StartFailure {
  if (!NOT_EXECUTABLE.includes(codeOf(error))) {
    return { kind: 'other', message: `no process could be made: ${messageOf(error)}` };
  }
  // Node opens the output files, and does not say which of the rest it was.
  const path = (error as { path?: unknown }).path;
  if ((error as { syscall?: unknown }).syscall === 'open') {
    return { kind: 'other', message: `the file for its output cannot be opened: ${String(path)}` };
  }
  try {
    accessSync(cwd, fsConstants.X_OK);
  } catch {
    return { kind: 'other', message: `working directory ${cwd} cannot be entered` };
  }
  return {
    kind: 'command',
    message: `command ${JSON.stringify(program)} cannot be executed: it does not exist there, or is not executable`,
  };
}

function readTail(path: string): string {
  let fd: number | undefined;
  try {
    fd = openSync(path, 'r');
    const { size } = fstatSync(fd);
    const buffer = Buffer.alloc(Math.min(size, TAIL_BYTES));
    const read = readSync(fd, buffer, 0, buffer.length, Math.max(0, size - TAIL_BYTES));
    return buffer.toString('utf8', 0, read);
  } catch {
    // Without it the exit code is all that is known of the command.
    return '';
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
