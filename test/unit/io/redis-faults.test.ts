import { beforeEach, expect, test } from '@jest/globals';
import { RedisFaults } from '../../../io/redis-faults.ts';
import { createWatchedLog } from '../../support/watch.ts';

const OOM = new Error("OOM command not allowed when used memory > 'maxmemory'.");
const REFUSED = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
const NOPERM = new Error("NOPERM User a has no permissions to run the 'evalsha' command");

let nowMs: number;
let log: ReturnType<typeof createWatchedLog>;
let faults: RedisFaults;
const events = (): string[] => log.lines.seen.map(({ event }) => event);

beforeEach(() => {
  nowMs = 1000;
  log = createWatchedLog();
  faults = new RedisFaults({ log, url: 'redis://cache', monotonicMs: () => nowMs });
});

test('a Redis that is gone is one line for all connections, and one when the last of them is back', () => {
  for (const name of ['master', 'master-inbox', 'master']) faults.connectionFailed(name, REFUSED);
  nowMs += 250;
  faults.connectionReady('master');
  expect(events()).toEqual(['redis.unreachable']);
  faults.connectionReady('master-inbox');
  expect(log.lines.seen.map(({ event, fields }) => [event, fields])).toEqual([
    [
      'redis.unreachable',
      {
        url: 'redis://cache',
        text: 'nobody listens at this address',
        hint: 'is it running, and is the address right?',
        error: 'connect ECONNREFUSED',
      },
    ],
    ['redis.reachable', { url: 'redis://cache', lastedMs: 250 }],
  ]);
});

test('a refusal is one line however many calls meet it, and over when one of these is answered', () => {
  faults.callFailed('append', OOM);
  faults.callFailed('commit', OOM);
  faults.callAnswered('renew');
  expect(events()).toEqual(['redis.memory-full']);
  nowMs += 500;
  faults.callAnswered('commit');
  faults.callAnswered('append');
  expect(log.lines.seen.at(-1)).toEqual({
    event: 'redis.recovered',
    fields: { url: 'redis://cache', fault: 'memory-full', lastedMs: 500 },
  });
  expect(events()).toHaveLength(2);
});

test('each forbidden call is a fault of its own', () => {
  faults.callFailed('append', NOPERM);
  faults.callFailed('commit', NOPERM);
  faults.callAnswered('append');
  expect(events()).toEqual(['redis.no-permission', 'redis.no-permission', 'redis.recovered']);
});

test('a call that fails because its connection does, or for a reason of its own, is no line', () => {
  faults.callFailed('append', new Error('Connection is closed.'));
  faults.callFailed('append', new Error('NOSCRIPT No matching script'));
  expect(events()).toEqual([]);
});

test('slow calls are one line in ten seconds, which counts those before it', () => {
  faults.callTook('xread', 999);
  faults.callTook('evalsha', 1200.4);
  faults.callTook('evalsha', 1300);
  nowMs += 10_000;
  faults.callTook('get', 5000);
  expect(log.lines.seen.map(({ fields }) => fields)).toEqual([
    { url: 'redis://cache', command: 'evalsha', tookMs: 1200, more: undefined },
    { url: 'redis://cache', command: 'get', tookMs: 5000, more: 1 },
  ]);
});

test('what somebody has to set right is said again every ten minutes, with how long it lasts', () => {
  const WRONGPASS = new Error('WRONGPASS invalid username-password pair or user is disabled.');
  for (let minute = 0; minute <= 21; minute += 1) {
    faults.connectionFailed('agent', WRONGPASS);
    faults.connectionFailed('agent', REFUSED);
    nowMs += 60_000;
  }
  const told = log.lines.seen.filter(({ event }) => event === 'redis.login-refused');
  expect(told.map(({ fields }) => fields['lastsMs'])).toEqual([undefined, 600_000, 1_200_000]);
  expect(events().filter((event) => event === 'redis.unreachable')).toHaveLength(1);
});
