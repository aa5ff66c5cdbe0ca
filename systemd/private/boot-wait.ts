/**
 * Watches a boot from outside until it is ready, and lets it pass the point where systemd starts only from our cgroups.
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Hierarchy } from './cgroups.ts';

const BOOT_TIMEOUT_MS = 120_000;
/** A bus that has taken the connection and says nothing for so long is asked anew. */
const SILENCE_MS = 5_000;
const POLL_MS = 5;

/** A boot that has been spawned. */
export interface Booting {
  readonly unshare: ChildProcess;
  readonly hierarchies: readonly Hierarchy[];
  readonly cgroups: readonly string[];
  readonly state: string;
}

/**
 * @returns the pid of process 1 once systemd runs and the bus answers
 * @throws Error that says how far it came
 */
export async function waitForBoot(booting: Booting): Promise<number> {
  const { unshare, state } = booting;
  const errors: string[] = [];
  unshare.stderr?.on('data', (chunk: Buffer) => errors.push(chunk.toString()));
  const deadline = performance.now() + BOOT_TIMEOUT_MS;
  let movedOut = false;
  for (;;) {
    const end = unshare.exitCode ?? unshare.signalCode;
    if (end !== null) throw new Error(`it ended at once (${end}): ${errors.join('').trim()}`);
    const pid = firstChild(unshare.pid);
    if (pid !== undefined && movedOut && (await isReady(pid))) return pid;
    if (pid !== undefined && !movedOut && existsSync(join(state, 'entered'))) {
      moveOut(booting, pid);
      movedOut = true;
    }
    // After the look: a machine that has stood still past the deadline may have come up meanwhile.
    if (performance.now() > deadline)
      throw new Error(`not ready after ${BOOT_TIMEOUT_MS} ms: ${errors.join('')}`);
    await sleep(POLL_MS);
  }
}

/** Moves unshare, which stays outside of the PID namespace, out of the cgroups, and lets the boot go on. */
function moveOut({ unshare, hierarchies, cgroups, state }: Booting, pid: number): void {
  requireOwnCgroups(pid, cgroups);
  for (const { ownDirectory } of hierarchies) {
    writeFileSync(join(ownDirectory, 'cgroup.procs'), String(unshare.pid));
  }
  writeFileSync(join(state, 'moved'), '');
}

async function isReady(pid: number): Promise<boolean> {
  return isSystemd(pid) && (await answers(`/proc/${pid}/root/run/dbus/system_bus_socket`));
}

/**
 * The kernel's word that process 1 is in our cgroup of every hierarchy; systemd takes where it finds itself for the
 * root of its tree, so a boot from anywhere else would build that tree among the host's cgroups.
 */
function requireOwnCgroups(pid: number, cgroups: readonly string[]): void {
  for (const directory of cgroups) {
    const members = readFileSync(join(directory, 'cgroup.procs'), 'utf8').split('\n');
    if (!members.includes(String(pid)))
      throw new Error(`process ${pid} is not in ${directory}; nothing was started`);
  }
}

function firstChild(pid: number | undefined): number | undefined {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    return children === '' ? undefined : Number(children.split(' ')[0]);
  } catch {
    // Gone or not there yet: the caller looks at the exit code and comes again.
    return undefined;
  }
}

function isSystemd(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'systemd';
  } catch {
    // The process ended between two looks.
    return false;
  }
}

/** A bus daemon greets nobody, but it answers a null byte and AUTH; a socket without a daemon stays silent. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(SILENCE_MS, () => done(false));
    socket.once('connect', () => socket.write('\0AUTH EXTERNAL 30\r\n'));
    socket.once('data', (data) => done(data.toString().startsWith('OK')));
    socket.once('error', () => done(false));
  });
}
