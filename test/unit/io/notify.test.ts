import { describe, expect, test } from '@jest/globals';
import { createLog, silentLog } from '../../../io/log.ts';
import { createNotifier, takeNotifySetup, type Notifier } from '../../../io/notify.ts';

const SOCKET = '/run/systemd/notify';

describe('what systemd has given', () => {
  test('is taken out of the environment: what the daemon starts must not speak for it', () => {
    const environment = {
      NOTIFY_SOCKET: SOCKET,
      WATCHDOG_USEC: '30000000',
      WATCHDOG_PID: '7',
      PATH: '/bin',
    };
    expect(takeNotifySetup(environment, 7)).toEqual({ socket: SOCKET, watchdogMs: 30_000 });
    expect(environment).toEqual({ PATH: '/bin' });
  });

  test('is nothing where systemd does not wait, and no watchdog where it is that of another process', () => {
    expect(takeNotifySetup({ WATCHDOG_USEC: '1' }, 7)).toBeUndefined();
    const ofOther = { NOTIFY_SOCKET: SOCKET, WATCHDOG_USEC: '1000', WATCHDOG_PID: '8' };
    expect(takeNotifySetup(ofOther, 7)).toEqual({ socket: SOCKET });
    expect(takeNotifySetup({ NOTIFY_SOCKET: SOCKET }, 7)).toEqual({ socket: SOCKET });
  });
});

/** A notifier whose messages are kept; the clock stands still until it is moved. */
function scene(fail?: () => Error | undefined): {
  notifier: Notifier;
  sent: string[];
  clock: { nowMs: number };
  lines: string[];
} {
  const sent: string[] = [];
  const lines: string[] = [];
  const clock = { nowMs: 1000 };
  const notifier = createNotifier({
    setup: { socket: SOCKET, watchdogMs: 40_000 },
    log: createLog({ journal: true, write: (line) => lines.push(line) }),
    clock: { monotonicMs: () => clock.nowMs },
    send: (variables) => {
      const error = fail?.();
      if (error) return Promise.reject(error);
      sent.push(variables.join(' '));
      return Promise.resolve();
    },
  });
  return { notifier, sent, clock, lines };
}

describe('a notifier', () => {
  test('sends what is said in one turn as one message', async () => {
    const { notifier, sent } = scene();
    notifier.ready();
    notifier.status('stands by');
    notifier.alive();
    await notifier.sent();
    expect(sent).toEqual(['READY=1 STATUS=stands by WATCHDOG=1']);
  });

  test('keeps states in their order and apart', async () => {
    const { notifier, sent } = scene();
    notifier.reloading();
    notifier.status('one');
    notifier.ready();
    notifier.stopping();
    await notifier.sent();
    expect(sent).toEqual(['RELOADING=1 STATUS=one', 'READY=1', 'STOPPING=1']);
  });

  test('says only the newest status, and the same one once', async () => {
    const { notifier, sent } = scene();
    notifier.status('1 task runs');
    notifier.status('2 tasks run');
    await notifier.sent();
    notifier.status('2 tasks run');
    await notifier.sent();
    expect(sent).toEqual(['STATUS=2 tasks run']);
  });

  test('makes one line of a status: nobody can say READY=1 with it', async () => {
    const { notifier, sent } = scene();
    notifier.status('waiting\nREADY=1');
    await notifier.sent();
    expect(sent).toEqual(['STATUS=waiting READY=1']);
  });

  test('feeds the watchdog a few times in its time, however often the loop comes round', async () => {
    const { notifier, sent, clock } = scene();
    for (; clock.nowMs < 41_000; clock.nowMs += 200) {
      notifier.alive();
      await notifier.sent();
    }
    expect(sent).toEqual(['WATCHDOG=1', 'WATCHDOG=1', 'WATCHDOG=1', 'WATCHDOG=1']);
  });

  test('says once that systemd cannot be told, and goes on trying', async () => {
    let error: Error | undefined = new Error('spawn systemd-notify ENOENT');
    const { notifier, sent, lines } = scene(() => error);
    notifier.status('one');
    await notifier.sent();
    notifier.status('two');
    await notifier.sent();
    error = undefined;
    notifier.status('three');
    await notifier.sent();
    expect(sent).toEqual(['STATUS=three']);
    expect(lines).toEqual(['<4>systemd.not-notified error="spawn systemd-notify ENOENT"\n']);
  });

  test('does nothing where systemd does not wait', async () => {
    const notifier = createNotifier({ setup: undefined, log: silentLog });
    notifier.ready();
    notifier.alive();
    await expect(notifier.sent()).resolves.toBeUndefined();
  });
});
