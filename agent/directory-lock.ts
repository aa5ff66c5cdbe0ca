/**
 * One agent a state directory. The lock is flock(2) on a file in it: it belongs to the open file and not to a name, so
 * the kernel gives it back however the process ends, and there is nothing stale to tell from what is alive. Node cannot
 * lock, so `flock` of util-linux (which systemd needs too) does it on the descriptor that it is handed; the lock stays as
 * long as ours is open.
 */
import { spawn } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { KaonError } from '../protocol/errors.ts';

/** Exit code of `flock --nonblock` for a lock that somebody else has. */
const HELD = 75;

/**
 * Takes the lock for as long as this process lives.
 *
 * @returns gives it back before that
 * @throws KaonError `agent-running` with the pid of the process that has it, `agent-state` if it cannot be taken
 */
export async function lockDirectory(directory: string): Promise<() => void> {
  const path = join(directory, 'lock');
  const file = openSync(path, 'a+', 0o600);
  const code = await runFlock(file);
  if (code === 0) {
    ftruncateSync(file);
    writeSync(file, `${String(process.pid)}\n`);
    return () => {
      closeSync(file);
    };
  }
  closeSync(file);
  if (code === HELD) {
    const pid = readFileSync(path, 'utf8').trim() || 'unknown';
    throw new KaonError('agent-running', `an agent runs on ${directory} already, pid ${pid}`, {
      hint: 'stop that one first, or give this one another --state-dir',
    });
  }
  throw new KaonError('agent-state', `${path} cannot be locked: flock ended with ${String(code)}`, {
    hint: 'util-linux has flock; the directory must be on a file system that can lock',
  });
}

function runFlock(file: number): Promise<number | string> {
  const child = spawn(
    'flock',
    ['--exclusive', '--nonblock', '--conflict-exit-code', String(HELD), '3'],
    {
      stdio: ['ignore', 'ignore', 'ignore', file],
    },
  );
  return new Promise((resolve) => {
    child.once('error', (error) => {
      resolve(error.message);
    });
    child.once('close', (code, signal) => {
      resolve(code ?? signal ?? 'nothing');
    });
  });
}
