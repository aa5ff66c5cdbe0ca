/**
 * What nobody should send, and somebody will: jobs that make no sense, that are too large, or say too much. Each ends with a
 * reason that can be acted on, and the queue goes on. And what `kaon bullmq` is started with.
 */
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { Job, Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { bedReason } from '../beds/available.ts';
import type { BullmqBed, SchedulerChild } from '../beds/bullmq.ts';
import { ended, startBullmqBed, until } from '../beds/bullmq.ts';
import { giveModules } from '../beds/bullmq-faults.ts';
import type { Ended } from '../beds/cluster.ts';
import { startRedisBed } from '../beds/redis.ts';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;

const SMALL = ['--cpus', '0.1', '--mem', '32M'];
const TEST_TIMEOUT_MS = 120_000;
const BYTES_PER_MIB = 1_048_576;
/** JSON of a job's logs; the output is a hundred times that. */
const LOGS_MAX_CHARS = 1_000_000;

suite(`jobs that nobody wants${reason === undefined ? '' : ` (skipped: ${reason})`}`, () => {
  let bed: BullmqBed;
  let scheduler: SchedulerChild;
  let commands: Queue;
  let processed: Queue;
  let redis: Redis;

  beforeAll(async () => {
    bed = await startBullmqBed(['--resources', 'cpus=4,mem=2G']);
    redis = new Redis(bed.socketPath);
    giveModules(bed.directory);
    const processor = bed.file(
      'length.mjs',
      'export default async (job) => JSON.stringify(job.data)?.length;',
    );
    const config = bed.file(
      'bad.json',
      JSON.stringify({
        placementTimeout: '1s',
        queues: ['commands', { name: 'processed', processor, cpus: 0.2, mem: '64M' }],
      }),
    );
    scheduler = await bed.scheduler('--config', config, ...SMALL);
    commands = bed.queue('commands');
    processed = bed.queue('processed');
  }, 240_000);
  afterAll(async () => {
    redis.disconnect();
    await bed.stop();
  }, 120_000);
  /** Nothing is stuck, and nobody has had to restart anything. */
  afterEach(async () => {
    const good = await commands.add('good', { command: 'echo good' });
    expect((await ended(commands, good)).returnvalue).toMatchObject({ stdout: 'good\n' });
    expect(await commands.getActiveCount()).toBe(0);
  }, TEST_TIMEOUT_MS);

  const failureOf = async (data: unknown, queue = commands): Promise<string> => {
    const job = await ended(queue, await queue.add('bad', data, { attempts: 3 }));
    expect(await job.getState()).toBe('failed');
    expect(job.attemptsMade).toBe(1);
    return job.failedReason;
  };
  const run = async (data: unknown, queue = commands): Promise<Job> =>
    ended(queue, await queue.add('odd', data));
  const logsOf = async (queue: Queue, job: Job): Promise<string[]> =>
    (await queue.getJobLogs(job.id ?? '')).logs;
  /** Greatest memory that the scheduler has had, of /proc/PID/status. */
  const peakBytes = (): number => {
    const status = readFileSync(`/proc/${String(scheduler.pid)}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
  };

  test.each<[string, unknown, RegExp]>([
    ['nothing', undefined, /^the job is not valid: it has no command: data \{"command": /],
    ['null', null, /^the job is not valid: it has no command/],
    ['a list', ['true'], /^the job is not valid: it has no command/],
    ['a number', 7, /^the job is not valid: it has no command/],
    [
      'an unknown field',
      { command: 'true', memory: '1G' },
      /there is no field "memory"; there are attributes, command, cpus, /,
    ],
    ['an empty command', { command: '' }, /^the job is not valid: field command: /],
    ['an empty list as its command', { command: [] }, /^the job is not valid: field command: /],
    ['a number as its command', { command: 5 }, /^the job is not valid: field command: /],
    ['NUL in its command', { command: ['a\0b'] }, /field command.*NUL/],
    [
      'cpus of "1e9"',
      { command: 'true', cpus: '1e9' },
      /field cpus: "1e9" is not a number of cores/,
    ],
    ['negative cpus', { command: 'true', cpus: -1 }, /field cpus: -1 is not a number of cores/],
    ['cpus that JSON does not have', { command: 'true', cpus: NaN }, /field cpus: /],
    ['no cpus at all', { command: 'true', cpus: 0 }, /field cpus: 0 is not a number of cores/],
    ['memory without a number', { command: 'true', mem: 'G' }, /field mem: "G" is not a size/],
    [
      'more memory than there can be',
      { command: 'true', mem: '1e9G' },
      /field mem: "1e9G" is not a size/,
    ],
    ['a timeout of no time', { command: 'true', timeout: 0 }, /field timeout: 0 is not a duration/],
    [
      '99 cpus',
      { command: 'true', cpus: 99 },
      /^no agent is large enough for 99 cpus, 32M: the largest is \S+ with 4 cpus, 2G$/,
    ],
    [
      'an attribute that no agent has',
      { command: 'true', attributes: { rack: 'z' } },
      /^no agent has rack=z$/,
    ],
    [
      'bad names in its environment',
      { command: 'true', env: { '1A=B': 'x' } },
      /field env.*not a variable name/,
    ],
    ['numbers in its environment', { command: 'true', env: { A: 1 } }, /field env\.A: /],
    ['a user that is no name', { command: 'true', user: '../root' }, /field user: not a user name/],
    [
      'a path out of its sandbox',
      { command: 'true', uris: [{ uri: '/etc/hostname', path: '../../x' }] },
      /field uris\.0\.path: must be a relative path/,
    ],
  ])(
    'one with %s fails and says why',
    async (_what, data, words) => {
      expect(await failureOf(data)).toMatch(words);
    },
    TEST_TIMEOUT_MS,
  );

  test.each<[string, unknown, RegExp]>([
    ['an unknown user', { command: 'true', user: 'nobody-of-that-name' }, /nobody-of-that-name/],
    [
      'a file that is nowhere',
      { command: 'true', uris: ['file:///no/such/file'] },
      /no\/such\/file/,
    ],
    ['a URI of an unknown kind', { command: 'true', uris: ['gopher://x/y'] }, /gopher/],
  ])(
    'one with %s fails on the node, which may be another one at the next attempt, and says why',
    async (_what, data, words) => {
      const job = await ended(commands, await commands.add('bad', data, { attempts: 2 }));
      expect(job.failedReason).toMatch(words);
      expect(job.failedReason).toMatch(/ \(attempt 2 of 2, not tried again\)$/);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'one whose command does not exist fails and names it',
    async () => {
      const { failedReason } = await run({ command: ['no-such-command-here'] });
      expect(failedReason).toMatch(/no-such-command-here/);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'one with __proto__ in its data is no different from one with any other field',
    async () => {
      const id = await redis.incr(commands.toKey('id'));
      const data = '{"__proto__":{"command":"true"},"constructor":1}';
      await redis.hset(commands.toKey(String(id)), ...['name', 'bad', 'data', data, 'opts', '{}']);
      await redis.hset(commands.toKey(String(id)), ...['timestamp', Date.now(), 'delay', 0]);
      await redis.hset(commands.toKey(String(id)), 'priority', 0);
      await redis.lpush(commands.toKey('wait'), String(id));
      await redis.zadd(commands.toKey('marker'), 0, '0');
      const { failedReason } = await ended(commands, { id: String(id) });
      expect(failedReason).toMatch(/^the job is not valid: it has no command/);
      const value = await run(JSON.parse('{"__proto__":{"a":1}}'), processed);
      expect(value.returnvalue).toBe('{"__proto__":{"a":1}}'.length);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'one whose data is no JSON fails and says so',
    async () => {
      const job = await commands.add('bad', { command: 'true' }, { delay: 3_600_000 });
      await redis.hset(commands.toKey(job.id ?? ''), 'data', '{"command":');
      await redis.zadd(commands.toKey('delayed'), 0, job.id ?? '');
      const wakes = await commands.add('wakes', { command: 'true' });
      const key = commands.toKey(job.id ?? '');
      let failedReason: string | null = null;
      while (failedReason === null) failedReason = await redis.hget(key, 'failedReason');
      expect(failedReason).toBe('the job is not valid: its data is not JSON');
      await redis.hset(key, 'data', '{}');
      await ended(commands, wakes);
    },
    TEST_TIMEOUT_MS,
  );

  test.each([
    [
      'command',
      () => commands,
      /its data has 5M, and may have 128K; put it where the job can fetch it$/,
    ],
    [
      'processor',
      () => processed,
      /its data has 5M, and may have 1M; put it where the job can fetch it$/,
    ],
  ])(
    'one with 5 MB of data for a %s fails and says how much it may have',
    async (_what, queue, words) => {
      const text = 'x'.repeat(5 * BYTES_PER_MIB);
      expect(await failureOf({ command: 'true', text }, queue())).toMatch(words);
    },
    TEST_TIMEOUT_MS,
  );

  test.each([
    ['null', null, 'null'],
    ['a list', [1, 2], '[1,2]'],
    ['a number', 12.5, '12.5'],
    ['a text', 'ü', '"ü"'],
  ])(
    'one for a processor may have %s as its data',
    async (_what, data, json) => {
      expect((await run(data, processed)).returnvalue).toBe(json.length);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'one for a processor with limits that make no sense fails and says which',
    async () => {
      expect(await failureOf({ kaon: { cpus: 'many' } }, processed)).toMatch(
        /field kaon\.cpus: "many" is not/,
      );
      expect(await failureOf({ kaon: { command: 'true' } }, processed)).toMatch(
        /there is no field "command" in kaon/,
      );
    },
    TEST_TIMEOUT_MS,
  );

  describe('the output', () => {
    /** Runs a command that may end when its logs have that row. */
    const followed = async (
      name: string,
      row: string,
      commandWith: (gate: string) => string,
    ): Promise<Job> => {
      const gate = `${bed.directory}/${name}.gate`;
      const command = commandWith(`until [ -e ${gate} ]; do sleep 0.05; done`);
      const job = await commands.add('followed', { command });
      try {
        await until(async () => {
          return (await logsOf(commands, job)).some((each) => each.startsWith(row));
        }, row);
      } finally {
        bed.file(`${name}.gate`, '');
      }
      return ended(commands, job);
    };
    const ALL_BYTES = `perl -e 'print pack("C*", 0..255) x 8, "\\n"; exit shift' --`;

    test.each([
      ['value', 0],
      ['logs and stack', 3],
    ])(
      'of any bytes becomes text in %s',
      async (_where, exitCode) => {
        const job = await run({ command: `${ALL_BYTES} ${String(exitCode)}` });
        const texts = [...(await logsOf(commands, job)), ...(job.stacktrace ?? [])];
        const { stdout = '' } = (job.returnvalue ?? {}) as { stdout?: string };
        expect([stdout, ...texts].join('')).toContain('ABCDEFGHIJKLMNOPQRSTUVWXYZ');
        expect([stdout, ...texts].join('')).not.toMatch(/\p{Surrogate}/u);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'of 100 MB is not kept in memory, and what is kept of it in the job is little',
      async () => {
        const job = await followed('lines', 'kaon: it says more than that', (gate) => {
          return `yes "a line of some length" | head -c 100000000; ${gate}`;
        });
        expect(await job.getState()).toBe('completed');
        const logs = await logsOf(commands, job);
        expect(JSON.stringify(logs).length).toBeLessThan(LOGS_MAX_CHARS);
        expect(logs.at(-1)).toMatch(/^kaon: it says more than that: kaon logs -f commands\./);
        expect(JSON.stringify(job.returnvalue).length).toBeLessThan(20_000);
        expect(peakBytes()).toBeLessThan(250 * BYTES_PER_MIB);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'of 100 MB in one line is not kept in memory either',
      async () => {
        // What is read of it after the beginning cannot be told by its rows: there is only one.
        const job = await followed('line', 'kaon: runs on', (gate) => {
          return `head -c 100000000 /dev/zero | tr "\\0" x; ${gate}; sleep 2; exit 3`;
        });
        expect(job.failedReason).toBe('exited with code 3');
        expect(JSON.stringify(await logsOf(commands, job)).length).toBeLessThan(LOGS_MAX_CHARS);
        expect(JSON.stringify(job.stacktrace).length).toBeLessThan(LOGS_MAX_CHARS);
        expect(peakBytes()).toBeLessThan(250 * BYTES_PER_MIB);
      },
      TEST_TIMEOUT_MS,
    );
  });

  test.each([
    ['a path', '../../etc/passwd'],
    ['spaces and quotes', ` a "job' $(id) `],
    ['letters of everywhere', 'Größe-東京-🎉'],
    ['300 characters', 'x'.repeat(300)],
    ['dots alone', '..'],
    ['the name of a list of BullMQ', '0-wait'],
  ])(
    'an id of %s is one like any other',
    async (_what, jobId) => {
      const command = 'printf %s "$KAON_JOB_ID"';
      const job = await ended(commands, await commands.add('id', { command }, { jobId }));
      expect(job.returnvalue).toMatchObject({ exitCode: 0, stdout: jobId });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a queue with an odd name is one like any other',
    async () => {
      const name = `odd "queue' of $(id) ü/..\\`;
      await bed.scheduler('--name', 'odd', '--queue', name, ...SMALL);
      const odd = bed.queue(name);
      const job = await run({ command: 'printf %s "$KAON_JOB_QUEUE"' }, odd);
      expect(job.returnvalue).toMatchObject({ stdout: name });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a queue may be in another Redis than the cluster',
    async () => {
      const other = await startRedisBed();
      const args = ['--name', 'other', '--queue', 'other', '--queue-redis', other.url];
      const own = await bed.scheduler(...args, ...SMALL);
      const queue = bed.queue('other', { socketPath: other.socketPath });
      expect((await run({ command: 'echo there' }, queue)).returnvalue).toMatchObject({
        stdout: 'there\n',
      });
      await queue.close();
      expect(await own.stop()).toBe(0);
      await other.stop();
    },
    TEST_TIMEOUT_MS,
  );

  describe('kaon bullmq', () => {
    const bullmq = (...args: string[]): Promise<Ended> => bed.cluster.kaon('bullmq', ...args);
    const config = (text: string): string[] => ['--config', bed.file('wrong.json', text)];
    const queue = ['--queue', 'q'];

    test.each<[string, () => string[], number, RegExp]>([
      ['without a queue', () => [], 2, /which queues\? --queue NAME/],
      ['with a queue without a name', () => ['--queue', ''], 78, /queues/],
      [
        'with a colon in the name of a queue',
        () => ['--queue', 'a:b'],
        78,
        /the name of a queue has no ":"/,
      ],
      ['with a queue twice', () => ['--queue', 'q,q'], 78, /queue q is there twice/],
      [
        'with a rate that is none',
        () => [...queue, '--rate', 'nonsense'],
        78,
        /"nonsense" is not a rate: "100\/1m"/,
      ],
      ['with a rate of no jobs', () => [...queue, '--rate', '0/1m'], 78, /"0\/1m" is not a rate/],
      [
        'with cpus that are none',
        () => [...queue, '--cpus', 'x'],
        78,
        /cpus: "x" is not a number of cores/,
      ],
      [
        'with a quota that is none',
        () => [...queue, '--quota', 'cpus'],
        2,
        /--quota "cpus": it is written cpus=4,mem=8G/,
      ],
      [
        'with a processor that is not there',
        () => [...queue, '--processor', '/no/such.mjs'],
        2,
        /no\/such\.mjs/,
      ],
      [
        'with two processors',
        () => [...queue, '--processor', 'a', '--processor-on-nodes', '/a'],
        78,
        /queue q has both a processor/,
      ],
      ['with an unknown flag', () => [...queue, '--nonsense'], 2, /--nonsense/],
      [
        'with a configuration that is not there',
        () => ['--config', '/no/such.json'],
        78,
        /--config \/no\/such\.json cannot be read/,
      ],
      ['with a configuration that is no JSON', () => config('{'), 78, /wrong\.json cannot be read/],
      [
        'with a configuration that is a list',
        () => config('[]'),
        78,
        /wrong\.json is not an object/,
      ],
      [
        'with an unknown name in its configuration',
        () => config('{"queue":["q"],"queues":["q"]}'),
        78,
        /"queue"/,
      ],
      [
        'with an unknown name in a queue',
        () => config('{"queues":[{"name":"q","memory":"1G"}]}'),
        78,
        /memory/,
      ],
      ['with a bad name', () => [...queue, '--name', 'a b'], 78, /name: has letters, digits/],
      [
        'without a Redis of its queues',
        () => [...queue, '--queue-redis', 'unix:///no/such.sock'],
        4,
        /cannot use Redis at unix:\/\/\/no\/such\.sock/,
      ],
      [
        'without a Redis of its cluster',
        () => [...queue, '--redis', 'unix:///no/such.sock'],
        4,
        /cannot use Redis at unix:\/\/\/no\/such\.sock/,
      ],
    ])(
      '%s says what is wrong and ends',
      async (_what, args, exitCode, words) => {
        const ended = await bullmq(...args());
        expect({ said: ended.stderr, exitCode: ended.exitCode }).toEqual({
          said: expect.stringMatching(words),
          exitCode,
        });
        expect(ended.stderr).not.toMatch(/fault of Kaon/);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'refuses a Redis that drops keys',
      async () => {
        const evicts = ['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru'];
        const other = await startRedisBed({ args: evicts });
        const { stderr, exitCode } = await bullmq(...queue, '--queue-redis', other.url);
        await other.stop();
        expect({ exitCode, stderr }).toEqual({
          exitCode: 78,
          stderr: expect.stringMatching(/allkeys-lru/),
        });
      },
      TEST_TIMEOUT_MS,
    );
  });
});
