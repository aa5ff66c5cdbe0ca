/**
 * What a daemon tells systemd: that it is ready, reads its settings again, stops; a line of status for `systemctl status`; and
 * that it lives (sd_notify(3)). Node has no datagram sockets of the Unix kind, and a compiled addon is not wanted on nodes, so
 * the program `systemd-notify` does the sending: one at a time, because order matters, and each is gone only when process 1
 * has read its message. Without the latter, process 1 would look for the cgroup of a process that is gone, and drop it.
 */
import { spawn } from 'node:child_process';
import { messageOf } from '../protocol/errors.ts';
import type { Clock } from './clock.ts';
import { systemClock } from './clock.ts';
import type { Log } from './log.ts';

/** systemd is told so often in the time of its watchdog: two may fail. */
const FEEDS_PER_WATCHDOG = 4;
/** The program waits for process 1 to read, for 5 s at most; then something is wrong, milliseconds. */
const SEND_TIMEOUT_MS = 10_000;

/** Says one message of `KEY=VALUE` lines to systemd. */
export type SendNotification = (variables: readonly string[]) => Promise<void>;

/** What a daemon says of itself. Nothing waits for systemd to have heard it. */
export interface Notifier {
  /** The settings are right and the main loop runs; also after `reloading`. */
  ready(): void;
  /** The settings are being read again. */
  reloading(): void;
  stopping(): void;
  /** One line for people; the same one again costs nothing. */
  status(text: string): void;
  /** The main loop has come round. Nothing else may call it: what it feeds is the watchdog. */
  alive(): void;
  /** Resolves when all that was said has been sent. */
  sent(): Promise<void>;
}

/** What systemd has given to the process: where to, and how often it wants a sign of life. */
export interface NotifySetup {
  readonly socket: string;
  /** Absent: no watchdog. */
  readonly watchdogMs?: number;
}

type Environment = Record<string, string | undefined>;

/**
 * Takes the setup out of the environment: what this process starts must not speak for it.
 *
 * @returns absent if systemd does not wait for this process, also if the variables are those of another one
 */
export function takeNotifySetup(environment: Environment, pid: number): NotifySetup | undefined {
  const { NOTIFY_SOCKET: socket = '', WATCHDOG_USEC: usec = '', WATCHDOG_PID } = environment;
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) {
    Reflect.deleteProperty(environment, name);
  }
  if (socket === '') return undefined;
  const isForUs = WATCHDOG_PID === undefined || WATCHDOG_PID === String(pid);
  const watchdogMs = Number(usec) / 1000;
  return { socket, ...(isForUs && watchdogMs > 0 && { watchdogMs }) };
}

/** What a notifier needs. */
export interface NotifierOptions {
  /** Absent: nobody wants to know, and nothing is sent. */
  readonly setup: NotifySetup | undefined;
  readonly log: Log;
  /** Default: `systemd-notify`. */
  readonly send?: SendNotification;
  readonly clock?: Pick<Clock, 'monotonicMs'>;
}

/** @returns what tells systemd, in the order in which it is called */
export function createNotifier({ setup, log, ...options }: NotifierOptions): Notifier {
  const { clock = systemClock, send = setup && sendByProgram(setup.socket) } = options;
  const queue = new Outbox(send, log);
  const feedMs = (setup?.watchdogMs ?? Infinity) / FEEDS_PER_WATCHDOG;
  let fedAtMs = -Infinity;
  let said = '';
  return {
    ready: () => {
      queue.say('READY=1');
    },
    reloading: () => {
      queue.say('RELOADING=1');
    },
    stopping: () => {
      queue.say('STOPPING=1');
    },
    status: (text) => {
      const line = text.replaceAll(/\p{Cc}+/gu, ' ');
      if (line !== said) queue.say(`STATUS=${line}`);
      said = line;
    },
    alive: () => {
      const nowMs = clock.monotonicMs();
      if (nowMs - fedAtMs < feedMs) return;
      fedAtMs = nowMs;
      queue.say('WATCHDOG=1');
    },
    sent: () => queue.sent,
  };
}

/** One message after the other. While one is on its way, a newer status replaces one that waits. */
class Outbox {
  readonly #send: SendNotification | undefined;
  readonly #log: Log;
  #waiting: string[] = [];
  #sending: Promise<void> | undefined;
  #isFailing = false;

  constructor(send: SendNotification | undefined, log: Log) {
    this.#send = send;
    this.#log = log;
  }

  get sent(): Promise<void> {
    return this.#sending ?? Promise.resolve();
  }

  say(variable: string): void {
    if (!this.#send) return;
    const [key = ''] = variable.split('=');
    // States stay in their order: RELOADING=1 and READY=1 mean nothing in one message.
    if (key === 'STATUS' || key === 'WATCHDOG') {
      this.#waiting = this.#waiting.filter((other) => !other.startsWith(`${key}=`));
    }
    this.#waiting.push(variable);
    this.#sending ??= this.#sendAll(this.#send).finally(() => {
      this.#sending = undefined;
    });
  }

  async #sendAll(send: SendNotification): Promise<void> {
    await Promise.resolve(); // What is said in the same turn travels in one message.
    while (this.#waiting.length > 0) {
      try {
        await send(this.#next());
        this.#isFailing = false;
      } catch (error) {
        // The watchdog is fed again in a while; a lost state shows in `systemctl`, and this line says why.
        if (!this.#isFailing) this.#log.warn('systemd.not-notified', { error: messageOf(error) });
        this.#isFailing = true;
      }
    }
  }

  /** Up to and with the next state. */
  #next(): string[] {
    const isState = (variable: string): boolean => /^(READY|RELOADING|STOPPING)=/.test(variable);
    const states = this.#waiting.flatMap((variable, index) => (isState(variable) ? [index] : []));
    return this.#waiting.splice(0, states[1] ?? this.#waiting.length);
  }
}

function sendByProgram(socket: string): SendNotification {
  return (variables) =>
    new Promise((resolve, reject) => {
      const child = spawn('systemd-notify', variables, {
        env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', NOTIFY_SOCKET: socket },
        stdio: ['ignore', 'ignore', 'pipe'],
        timeout: SEND_TIMEOUT_MS,
        killSignal: 'SIGKILL',
      });
      let said = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
      child.on('error', reject);
      child.on('close', (code, signal) => {
        if (code === 0) resolve();
        else
          reject(new Error(said.trim() || `systemd-notify ended with ${String(code ?? signal)}`));
      });
    });
}
