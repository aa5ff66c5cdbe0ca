/**
 * A virtual machine for one test file: qemu without KVM, without a network and with a disk whose changes nobody keeps. Its
 * programs are run through a port of virtio-serial (image/guest.sh is the other end), and what they print comes back
 * apart: standard output, standard error, exit code.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { type Socket, createConnection } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { pauseAfter } from '../support/pause.ts';
import type { Image } from './image.ts';

const MEMORY_MIB = 2048;
/** Half a minute where nothing else runs; machines of a build farm have been ten times as slow. */
const BOOT_TIMEOUT_MS = 6 * 60_000;
const RUN_TIMEOUT_S = 900;
/** After that time for the answer that a script was ended. */
const ANSWER_TIMEOUT_MS = (RUN_TIMEOUT_S + 60) * 1000;
const UNTIL_TIMEOUT_MS = 3 * 60_000;
const POLL_MS = 500;

/** What a script in the machine has ended with. */
export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running machine. One script at a time; a call waits for those before it. */
export interface Machine {
  /** Changes with every boot. */
  bootId(): string;
  /** Runs a script of `sh`, as root. Its code is 124 if it was ended, after 15 minutes. @throws Error if the machine is gone */
  run(script: string): Promise<Ended>;
  /** Like `run`, for a script that has to succeed. @returns its standard output. @throws Error with all that it printed */
  ok(script: string): Promise<string>;
  /** Runs a script until it succeeds. @throws Error with what it printed last if it does not within three minutes */
  until(script: string): Promise<string>;
  /** Restarts it by its own systemd, and waits for that. */
  reboot(): Promise<void>;
  /** Ends it at once; nothing is left. */
  stop(): Promise<void>;
}

/**
 * Boots an image.
 *
 * @param folder     for its socket, console.log, and scripts.log: what was run and how long it took
 * @param delivered  a file that the machine has as /dev/vdb, read only
 * @throws Error with the end of the console if it does not come up
 */
export async function boot(image: Image, folder: string, delivered: string): Promise<Machine> {
  const console = join(folder, 'console.log');
  const path = join(folder, 'port.sock');
  // If this process dies without a word, so does the machine.
  const child = spawn(
    'setpriv',
    [
      '--pdeathsig',
      'KILL',
      'qemu-system-x86_64',
      ...qemuArguments({ image, console, path, delivered }),
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaints += text));
  const wordsAtEnd = (): string => {
    const printed = existsSync(console) ? readFileSync(console, 'utf8').slice(-3000) : '';
    return `qemu said: ${complaints || 'nothing'}\nthe console ends with:\n${printed}`;
  };
  try {
    const port = await openPort(child, path);
    return await attach(child, port, { wordsAtEnd, diary: join(folder, 'scripts.log') });
  } catch (error) {
    await end(child);
    throw new Error(`the machine does not come up: ${String(error)}\n${wordsAtEnd()}`);
  }
}

interface Files {
  readonly image: Image;
  readonly console: string;
  readonly path: string;
  readonly delivered: string;
}

function qemuArguments({ image, console, path, delivered }: Files): string[] {
  const kernelArguments = [
    'console=ttyS0 root=/dev/vda rw quiet systemd.unit=multi-user.target',
    // Nothing to protect, and a second or more each in an emulator.
    'mitigations=off cryptomgr.notests random.trust_cpu=on',
  ];
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-nic', 'none'],
    // A CPU with little that has drivers of its own: AES and virtualization would load two dozen modules.
    ...['-accel', 'tcg,thread=multi', '-cpu', 'Nehalem', '-smp', '2', '-m', String(MEMORY_MIB)],
    ...['-kernel', image.kernel, '-initrd', image.initrd, '-append', kernelArguments.join(' ')],
    ...['-drive', `if=virtio,format=raw,snapshot=on,file=${image.disk}`],
    ...['-drive', `if=virtio,format=raw,readonly=on,file=${delivered}`],
    ...['-serial', `file:${console}`],
    ...['-device', 'virtio-serial', '-chardev', `socket,id=port,server=on,wait=off,path=${path}`],
    ...['-device', 'virtserialport,chardev=port,name=kaon'],
  ];
}

/** Qemu makes the socket a moment after its start. */
async function openPort(child: ChildProcess, path: string): Promise<Socket> {
  while (!existsSync(path)) {
    if (child.exitCode !== null) throw new Error(`qemu has ended with ${child.exitCode}`);
    await pause(50);
  }
  const port = createConnection(path);
  await new Promise((resolve, reject) => port.once('connect', resolve).once('error', reject));
  return port;
}

/** Lines of the port, one at a time, and the end of the machine as a failure of whoever waits. */
async function attach(
  child: ChildProcess,
  port: Socket,
  { wordsAtEnd, diary }: { readonly wordsAtEnd: () => string; readonly diary: string },
): Promise<Machine> {
  const lines = createInterface({ input: port })[Symbol.asyncIterator]();
  const nextLine = async (what: string, timeoutMs: number): Promise<string> => {
    const timer = new AbortController();
    const late = pause(timeoutMs, 'late' as const, { signal: timer.signal });
    late.catch(() => undefined);
    const result = await Promise.race([lines.next(), late]);
    timer.abort();
    if (result === 'late') throw new Error(`no answer within ${timeoutMs / 1000} s: ${what}`);
    if (result.done === true) throw new Error(`the machine has gone: ${what}\n${wordsAtEnd()}`);
    return result.value;
  };
  const readBootId = async (): Promise<string> => {
    for (;;) {
      const [word, id = ''] = (await nextLine('booting', BOOT_TIMEOUT_MS)).split(' ');
      if (word === 'ready') return id;
    }
  };
  const ask = (script: string): string => {
    const id = String((count += 1));
    // 25 s, systemctl's own patience with systemd, have been too short in an emulator on a busy machine.
    const patient = Buffer.from(`export SYSTEMD_BUS_TIMEOUT=300s\n${script}`);
    port.write(`${id} ${RUN_TIMEOUT_S} ${patient.toString('base64')}\n`);
    return id;
  };

  let count = 0;
  let bootId = await readBootId();
  const run = async (script: string): Promise<Ended> => {
    const startedAtMs = performance.now();
    const id = ask(script);
    const line = await nextLine(script, ANSWER_TIMEOUT_MS);
    const tookS = ((performance.now() - startedAtMs) / 1000).toFixed(1);
    appendFileSync(diary, `${tookS} s: ${script.trim()}\n`);
    const [answered, code, stdout = '', stderr = ''] = line.split(' ');
    if (answered !== id) throw new Error(`answer to ${id} expected, it was ${line.slice(0, 80)}`);
    const decode = (text: string): string => Buffer.from(text.slice(1), 'base64').toString();
    return { code: Number(code), stdout: decode(stdout), stderr: decode(stderr) };
  };
  return {
    bootId: () => bootId,
    run,
    ok: async (script) => demand(script, await run(script)),
    until: async (script) => {
      const deadline = Date.now() + UNTIL_TIMEOUT_MS;
      for (;;) {
        const askedMs = performance.now();
        const ended = await run(script);
        if (ended.code === 0 || Date.now() >= deadline) return demand(script, ended);
        await pauseAfter(askedMs, POLL_MS);
      }
    },
    reboot: async () => {
      // Its answer may come, or not.
      ask('systemctl reboot');
      bootId = await readBootId();
    },
    stop: async () => {
      port.destroy();
      await end(child);
    },
  };
}

function demand(script: string, { code, stdout, stderr }: Ended): string {
  if (code === 0) return stdout;
  throw new Error(`exit code ${code} of: ${script}\nstdout: ${stdout}\nstderr: ${stderr}`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGKILL');
  await closed;
}
