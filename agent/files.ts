/** Where the agent keeps what is its own, and small files that are replaced whole, so that a reader never sees half of one. */
import { randomBytes } from 'node:crypto';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Synchronous on purpose: a small file into the page cache takes some 50 us this way, and ten times that in hand-overs
 * between threads, which a launch would wait for. Nothing is flushed: what a power cut loses was on a node that lost
 * its tasks too.
 *
 * @throws the operating system's error, e.g. ENOSPC; the old file is as it was
 */
export function replaceFile(path: string, text: string): void {
  const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    writeFileSync(temporary, text, { mode: 0o600 });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** The directory that holds the agent's state below `stateDir`. */
export function agentDirectory(stateDir: string): string {
  return join(stateDir, 'agent');
}
