import { describe, expect, test } from '@jest/globals';
import { parseMasterOptions } from '../../../cli/master-options.ts';
import {
  parseAgentOptions,
  parseConnection,
  parseEventsOptions,
  parseLogsOptions,
  parseResizeOptions,
  parseRunOptions,
  parseStepDownOptions,
} from '../../../cli/parse-options.ts';
import { parseExplain } from '../../../cli/role-options.ts';
import type { RawOptions } from '../../../cli/parse-options.ts';

const connection = { redis: 'redis://r', cluster: 'c' };
/** The defaults of `kaon master` that the parser is given. */
const MASTER = {
  ...{ lease: '3s', offerTimeout: '30s', agentTimeout: '75s', frameworkTimeout: '30s' },
  allocatorTimeout: '1s',
};
const run = (raw: RawOptions): ReturnType<typeof parseRunOptions> =>
  parseRunOptions(raw, connection);

describe('the connection', () => {
  test('is the flag, else the environment, else this machine', () => {
    const environment = { KAON_REDIS: 'redis://env', KAON_CLUSTER: 'env' };
    expect(parseConnection({ redis: 'redis://flag' }, environment)).toEqual({
      redis: 'redis://flag',
      cluster: 'env',
    });
    expect(parseConnection({}, { KAON_REDIS: '' })).toEqual({
      redis: 'redis://127.0.0.1:6379',
      cluster: 'default',
    });
  });

  test('a cluster name that could not be part of a key is refused by the name of what set it', () => {
    expect(() => parseConnection({}, { KAON_CLUSTER: 'a}b' })).toThrow(
      'KAON_CLUSTER a}b: not a name',
    );
    expect(() => parseConnection({ cluster: '' }, {})).toThrow("--cluster '': not a name");
  });
});

describe('kaon run', () => {
  test('has defaults for everything but the command', () => {
    expect(run({})).toEqual({
      ...connection,
      cpuMillis: 500,
      memMib: 128,
      environment: {},
      attributes: {},
      exclusive: false,
      instances: 1,
      distinctHosts: false,
      gang: false,
      whenUnreachable: 'keep',
      detach: false,
    });
  });

  test('takes quantities as people write them', () => {
    const options = run({
      cpus: '250m',
      mem: '1.5G',
      timeout: '1h30m',
      killGrace: '0s',
      instances: '3',
      env: ['A=1', 'B=x=y', 'A=2'],
      attribute: ['rack=a1'],
    });
    expect(options).toMatchObject({
      cpuMillis: 250,
      memMib: 1536,
      timeoutMs: 5_400_000,
      killGraceMs: 0,
      instances: 3,
      environment: { A: '2', B: 'x=y' },
      attributes: { rack: 'a1' },
    });
  });

  test.each<[RawOptions, string]>([
    [{ mem: '12x' }, '--mem 12x: not a size; write 128M or 1.5G'],
    [{ mem: '0' }, '--mem 0: must be more than 0; the minimum is 4M'],
    [{ mem: '3M' }, '--mem 3M: too little; the minimum is 4M'],
    [
      { mem: '128' },
      '--mem 128: too little; the minimum is 4M; a bare number is bytes, write 128M',
    ],
    [{ mem: '-5M' }, '--mem -5M: not a size; write 128M or 1.5G'],
    [{ mem: '' }, "--mem '': not a size; write 128M or 1.5G"],
    [{ cpus: '0' }, '--cpus 0: must be more than 0; the minimum is 0.01'],
    [{ cpus: '0.009' }, '--cpus 0.009: too little; the minimum is 0.01'],
    [{ cpus: 'two' }, '--cpus two: not a number of cores; write 0.5, 2 or 250m (thousandths)'],
    [{ cpus: '20000' }, '--cpus 20000: too much; the maximum is 16384'],
    [{ timeout: '0s' }, '--timeout 0s: must be more than 0; the minimum is 1ms'],
    [{ timeout: 'soon' }, '--timeout soon: not a duration; write 30s, 5m or 1h30m'],
    [{ killGrace: '2h' }, '--kill-grace 2h: too long; the maximum is 1h'],
    [{ env: ['PATH'] }, '--env PATH: not KEY=VALUE; write HOME=/srv'],
    [{ env: ['1A=b'] }, '--env 1A=b: "1A" is not a variable name; write HOME=/srv'],
    [{ attribute: ['=x'] }, '--attribute =x: "" is not a name; write rack=a1'],
    [{ placement: 'tight' }, '--placement tight: neither spread nor pack'],
    [{ instances: '0' }, '--instances 0: not a whole number from 1 to 10000'],
    [{ user: 'a b' }, '--user a b: not a user name or number'],
  ])('%j is refused: %s', (raw, message) => {
    expect(() => run(raw)).toThrow(expect.objectContaining({ code: 'usage', message }));
  });
});

describe('kaon agent', () => {
  const agent = (raw: RawOptions): ReturnType<typeof parseAgentOptions> =>
    parseAgentOptions({ stateDir: '/s', ...raw }, connection);

  test('takes resources and reserve as lists of either or both', () => {
    expect(agent({ resources: 'cpus=4', reserve: 'mem=0, cpus=0.5' })).toMatchObject({
      resources: { cpuMillis: 4000 },
      reserve: { cpuMillis: 500, memMib: 0 },
    });
  });

  test.each<[RawOptions, string]>([
    [{ resources: 'cpus=4,mem=8X' }, '--resources mem=8X: not a size; write 128M or 1.5G'],
    [{ resources: 'cpus=0' }, '--resources cpus=0: must be more than 0; the minimum is 0.01'],
    [{ resources: 'cpus=1,cpus=2' }, '--resources cpus=1,cpus=2: cpus is given twice'],
    [
      { resources: 'Gpus=1' },
      '--resources Gpus=1: not a list of resources; write cpus=4,mem=8G, or one of the two',
    ],
    [{ logLevel: 'loud' }, '--log-level loud: not one of debug, info, warn, error'],
    [{ unlimited: true }, '--unlimited goes with --user: the agent of a node holds limits'],
  ])('%j is refused: %s', (raw, message) => {
    expect(() => agent(raw)).toThrow(message);
  });

  test('of a user holds limits unless it is said that it need not', () => {
    expect(agent({}).ofUser).toBeUndefined();
    expect(agent({ user: true }).ofUser).toEqual({ isUnlimited: false });
    expect(agent({ user: true, unlimited: true }).ofUser).toEqual({ isUnlimited: true });
  });
});

describe('other commands', () => {
  test('a lease too short to hold is refused', () => {
    expect(() => parseMasterOptions({ ...MASTER, lease: '1ms' }, connection)).toThrow(
      '--lease 1ms: too short; the minimum is 500ms',
    );
  });

  test.each<[RawOptions, object]>([
    [{}, { minimumOffer: { cpuMillis: 10, memMib: 4 }, whitelist: undefined }],
    [{ minimumOffer: 'mem=64M' }, { minimumOffer: { cpuMillis: 10, memMib: 64 } }],
    [{ whitelist: 'n1, rack7-*,*x' }, { whitelist: ['n1', 'rack7-*', '*x'] }],
    [{ whitelist: '*' }, { whitelist: ['*'] }],
  ])('a master takes %j as what it offers', (raw, options) => {
    expect(parseMasterOptions({ ...MASTER, ...raw }, connection)).toMatchObject(options);
  });

  test.each<[RawOptions, RegExp]>([
    [{ minimumOffer: 'cpus=0' }, /^--minimum-offer cpus=0: must be more than 0/],
    [{ minimumOffer: 'mem=1M' }, /^--minimum-offer mem=1M: too little/],
    [{ minimumOffer: 'gpus=1' }, /^--minimum-offer gpus=1: only cpus and mem/],
    [{ whitelist: '' }, /^--whitelist '': "" is neither the id of an agent nor a pattern/],
    [{ whitelist: 'n1,,n2' }, /"" is neither/],
    [{ whitelist: 'n1 n2' }, /"n1 n2" is neither/],
    [{ whitelist: '*'.repeat(300) }, /is neither/],
  ])('a master refuses %j in words', (raw, words) => {
    expect(() => parseMasterOptions({ ...MASTER, ...raw }, connection)).toThrow(words);
  });

  test('what is to be explained is a unit of anything', () => {
    const raw = { cpus: '2', mem: '4G', count: '3', resource: ['gpus=1'], attribute: ['rack=b'] };
    expect(parseExplain({ ...raw, role: 'eng' }, connection).need).toEqual({
      role: 'eng',
      resources: { cpuMillis: 2000, memMib: 4096, others: { gpus: 1 } },
      count: 3,
      attributes: { rack: 'b' },
    });
  });

  test.each<[RawOptions, object]>([
    [{ preemptAfter: '30s' }, { preemptAfterMs: 30_000 }],
    [{}, { preemptAfterMs: undefined }],
  ])('a master preempts after %j', (raw, options) => {
    expect(parseMasterOptions({ ...MASTER, ...raw }, connection)).toMatchObject(options);
  });

  test('a run says how urgent it is', () => {
    expect(run({ priority: '-5' })).toMatchObject({ priority: -5 });
    expect(() => run({ priority: '1.5' })).toThrow('not a whole number from -1000 to 1000');
    expect(() => run({ priority: '1001' })).toThrow('--priority 1001: not a whole number');
  });

  test('neither and both of --stdout and --stderr mean both', () => {
    const streams = (raw: RawOptions): boolean[] => {
      const { stdout, stderr } = parseLogsOptions(raw, connection);
      return [stdout, stderr];
    };
    expect(streams({})).toEqual([true, true]);
    expect(streams({ stdout: true, stderr: true })).toEqual([true, true]);
    expect(streams({ stderr: true })).toEqual([false, true]);
  });

  test('--since is a duration or the id of an event', () => {
    expect(parseEventsOptions({ since: '10m' }, connection).since).toEqual({ agoMs: 600_000 });
    expect(parseEventsOptions({ since: '1795204670845-0' }, connection).since).toEqual({
      after: { ms: 1_795_204_670_845, sequence: 0, index: Infinity },
    });
  });
});

describe('kaon step-down', () => {
  const invocation = { INVOCATION_ID: '0123456789abcdef0123456789abcdef' };
  const stepDown = (
    raw: RawOptions,
    asked?: string,
    environment: Record<string, string> = {},
  ): ReturnType<typeof parseStepDownOptions> =>
    parseStepDownOptions(raw, connection, asked, environment);

  test('is of the master that is named, else of that of the same start of the unit', () => {
    expect(stepDown({}, 'node1.abc', invocation).masterId).toBe('node1.abc');
    expect(stepDown({}, undefined, invocation).masterId).toMatch(/\.0123456789ab$/);
  });

  test('is of whoever leads only if that was said', () => {
    expect(stepDown({ current: true }, undefined, invocation)).toEqual(connection);
    expect(() => stepDown({})).toThrow('no master named');
    expect(() => stepDown({ current: true }, 'node1.abc')).toThrow('exclude each other');
    expect(() => stepDown({}, 'not an id')).toThrow('not the id of a master');
  });
});

describe('kaon task resize', () => {
  const resize = (raw: RawOptions, id = 'web'): ReturnType<typeof parseResizeOptions> =>
    parseResizeOptions(raw, connection, id);

  test('takes either limit, or both', () => {
    expect(resize({ cpus: '2' }).resources).toEqual({ cpuMillis: 2000 });
    expect(resize({ mem: '1G', cpus: '250m' }).resources).toEqual({
      cpuMillis: 250,
      memMib: 1024,
    });
  });

  test.each<[RawOptions, string, string]>([
    [{}, 'web', 'nothing to change: give --cpus, --mem or both'],
    [{ cpus: 'many' }, 'web', '--cpus many: not a number of cores'],
    [{ cpus: '0' }, 'web', '--cpus 0: must be more than 0'],
    [{ mem: '-1G' }, 'web', '--mem -1G: not a size'],
    [{ mem: '128' }, 'web', 'a bare number is bytes, write 128M'],
    [{ mem: '1G', framework: 'shop' }, 'ci/web', '--framework and ci/web do not go together'],
  ])('refuses %j for %s', (raw, id, problem) => {
    expect(() => resize(raw, id)).toThrow(problem);
  });
});
