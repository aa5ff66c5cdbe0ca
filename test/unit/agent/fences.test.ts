import { beforeEach, describe, expect, test } from '@jest/globals';
import { wasFenced } from '../../../agent/core/fences.ts';
import { Fences } from '../../../agent/fences.ts';
import { createFakeSystemd, type FakeSystemd } from '../../../systemd/fake.ts';
import { createManualClock, type ManualClock } from '../../support/manual-clock.ts';
import { createWatchedLog } from '../../support/watch.ts';

const FENCE = 'kaon-fence-a1-20000ms';

let systemd: FakeSystemd;
let clock: ManualClock;
let log: ReturnType<typeof createWatchedLog>;
let inUse: Set<number>;
let fences: Fences;

beforeEach(() => {
  systemd = createFakeSystemd();
  clock = createManualClock();
  log = createWatchedLog();
  inUse = new Set([20_000]);
  fences = new Fences({ systemd, clock, log, agentTag: 'a1', inUse: () => inUse });
});

describe('a heartbeat sets the timer again', () => {
  test('if it was answered in time', async () => {
    fences.onHeartbeat(true, 1000);
    await clock.pass(0);
    expect(systemd.armsOf(FENCE)).toBe(1);
  });

  test.each([
    ['was not answered ok', false, 10],
    ['was answered late', true, 1001],
  ])('not if it %s', async (_how, isOk, tookMs) => {
    fences.onHeartbeat(isOk, tookMs);
    await clock.pass(0);
    expect(systemd.armsOf(FENCE)).toBe(0);
  });

  test('no more often than four times in its length', async () => {
    for (let count = 0; count < 11; count += 1) {
      fences.onHeartbeat(true, 10);
      await clock.pass(1000);
    }
    expect(systemd.armsOf(FENCE)).toBe(3);
  });

  test('for each time that a task has, and no other', async () => {
    inUse = new Set([20_000, 60_000]);
    fences.onHeartbeat(true, 10);
    inUse = new Set();
    await clock.pass(60_000);
    fences.onHeartbeat(true, 10);
    await clock.pass(0);
    expect([systemd.armsOf(FENCE), systemd.armsOf('kaon-fence-a1-60000ms')]).toEqual([1, 1]);
  });

  test('at once after a try that failed', async () => {
    const { armFence } = systemd;
    Object.assign(systemd, { armFence: () => Promise.reject(new Error('bus down')) });
    fences.onHeartbeat(true, 10);
    await log.lines.first(({ event }) => event === 'fence.set-failed');
    Object.assign(systemd, { armFence });
    fences.onHeartbeat(true, 10);
    await clock.pass(0);
    expect(systemd.armsOf(FENCE)).toBe(1);
  });
});

describe('a launch', () => {
  test('does not set a timer that runs: it is no proof of contact for the others', async () => {
    await fences.ensure(20_000);
    await fences.ensure(20_000);
    expect(systemd.armsOf(FENCE)).toBe(1);
  });

  test('sets one that has elapsed', async () => {
    await fences.ensure(20_000);
    systemd.fireFence(FENCE);
    await fences.ensure(20_000);
    expect(systemd.armsOf(FENCE)).toBe(2);
  });

  test('fails if its timer cannot be set', async () => {
    Object.assign(systemd, { armFence: () => Promise.reject(new Error('no')) });
    await expect(fences.ensure(20_000)).rejects.toThrow('no');
  });
});

test('a timer that no task needs is removed, and one that is needed stays', async () => {
  await fences.ensure(20_000);
  await fences.ensure(60_000);
  inUse = new Set([60_000]);
  await fences.tidy();
  expect((await systemd.listUnits('kaon-fence-*')).map(({ name }) => name)).toEqual([
    'kaon-fence-a1-60000ms.timer',
  ]);
});

describe('a unit whose fence has fired', () => {
  const FIRED_AT_MS = 1_000_000;

  test.each([
    [-1000, true],
    [0, true],
    [45_000, true],
    [-5000, false],
    [120_000, false],
  ])('and that was stopped %i ms after that was stopped by it: %s', (sinceMs, is) => {
    const leftActiveAtMs = FIRED_AT_MS + sinceMs;
    const times = { leftActiveAtMs, exitedAtMs: leftActiveAtMs + 10 };
    expect(wasFenced(times, FIRED_AT_MS)).toBe(is);
  });

  test('and that had ended by itself was not stopped by it', () => {
    const times = { leftActiveAtMs: FIRED_AT_MS + 10, exitedAtMs: FIRED_AT_MS };
    expect(wasFenced(times, FIRED_AT_MS)).toBe(false);
    expect(wasFenced({ leftActiveAtMs: 0, exitedAtMs: 0 }, FIRED_AT_MS)).toBe(false);
  });
});
