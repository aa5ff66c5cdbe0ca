import { describe, expect, test } from '@jest/globals';
import type { JobDefaults, JobSpec } from '../../../schedulers/bullmq/job-spec.ts';
import {
  COMMAND_DATA_MAX_BYTES,
  jobSchemas,
  PROCESSOR_DATA_MAX_BYTES,
  specOf,
} from '../../../schedulers/bullmq/job-spec.ts';

const DEFAULTS: JobDefaults = {
  resources: { cpuMillis: 1000, memMib: 256 },
  priority: 0,
  attributes: {},
  user: undefined,
  timeoutMs: undefined,
  killGraceMs: 5000,
  executor: undefined,
  hasProcessor: false,
  allowedUsers: undefined,
};
const PROCESSOR: JobDefaults = { ...DEFAULTS, hasProcessor: true };

const read = (data: unknown, given: Partial<JobDefaults> = {}): ReturnType<typeof specOf> => {
  const text = JSON.stringify(data);
  const dataBytes = Buffer.byteLength(text);
  return specOf(
    { id: '7', name: 'thumbnail', queue: 'images', data: text, dataBytes },
    { ...DEFAULTS, ...given },
  );
};
const good = (data: unknown, given: Partial<JobDefaults> = {}): JobSpec => {
  const result = read(data, given);
  if (!result.ok) throw new Error(result.message);
  return result.spec;
};
const fieldsOf = (fields: object, given: Partial<JobDefaults> = {}): JobSpec =>
  good({ command: ['true'], ...fields }, given);
/** Why it is not valid, without the words that all have in front. */
const problem = (data: unknown, given: Partial<JobDefaults> = {}): string => {
  const result = read(data, given);
  return result.ok ? '' : result.message.replace(/^the job is not valid: /, '');
};

describe('the command of a job', () => {
  test('is executed as it is if it is a list', () => {
    expect(good({ command: ['echo', '$HOME'] }).command?.argv).toEqual(['echo', '$HOME']);
  });

  test('is a line of the shell if it is a string', () => {
    expect(good({ command: 'echo $HOME' }).command?.argv).toEqual(['sh', '-c', 'echo $HOME']);
  });

  test('may be in a field of its own, beside what is not for Kaon', () => {
    const spec = good({ file: 'a.png', kaon: { command: ['true'], cpus: 2 } });
    expect(spec.command?.argv).toEqual(['true']);
    expect(spec.resources.cpuMillis).toBe(2000);
  });

  test('finds its job in its environment', () => {
    const data = { command: ['true'] };
    expect(good(data).command?.environment).toEqual({
      KAON_JOB_ID: '7',
      KAON_JOB_NAME: 'thumbnail',
      KAON_JOB_QUEUE: 'images',
      KAON_JOB_DATA: JSON.stringify(data),
    });
  });

  test('does not find long data in its environment', () => {
    const spec = good({ kaon: { command: ['true'] }, text: 'x'.repeat(70_000) });
    expect(Object.keys(spec.command?.environment ?? {})).not.toContain('KAON_JOB_DATA');
  });

  test('may have more in its environment, and other values', () => {
    const { environment } = fieldsOf({ env: { LANG: 'C', KAON_JOB_NAME: 'mine' } }).command ?? {};
    expect(environment).toMatchObject({ LANG: 'C', KAON_JOB_NAME: 'mine', KAON_JOB_ID: '7' });
  });
});

describe('what a job does not say', () => {
  test('is as its queue has it', () => {
    const defaults: JobDefaults = {
      resources: { cpuMillis: 300, memMib: 64, others: { gpus: 1 } },
      priority: -5,
      attributes: { disk: 'ssd' },
      user: 'www-data',
      timeoutMs: 60_000,
      killGraceMs: 1000,
      executor: 'shared',
      hasProcessor: false,
      allowedUsers: [],
    };
    const { command: _command, ...spec } = fieldsOf({}, defaults);
    expect(spec).toEqual({
      resources: { cpuMillis: 300, memMib: 64, others: { gpus: 1 } },
      priority: -5,
      attributes: { disk: 'ssd' },
      group: '',
      timeoutMs: 60_000,
      killGraceMs: 1000,
      user: 'www-data',
      executor: 'shared',
      uris: [],
    });
  });
});

describe('a field', () => {
  test.each([
    [0.5, 500],
    [2, 2000],
    ['1.5', 1500],
    ['250m', 250],
  ])('cpus: %j is %i thousandths', (cpus, expected) => {
    expect(fieldsOf({ cpus }).resources).toEqual({ cpuMillis: expected, memMib: 256 });
  });

  test.each([
    [512, 512],
    ['512', 512],
    ['256M', 256],
    ['1.5G', 1536],
  ])('mem: %j is %i MiB', (mem, expected) => {
    expect(fieldsOf({ mem }).resources).toEqual({ cpuMillis: 1000, memMib: expected });
  });

  test.each([
    [
      { gpus: 1, 'license.matlab': 2 },
      { gpus: 1, 'license.matlab': 2 },
    ],
    [{ ports: '2' }, { ports: 2 }],
    [{ disk: 100 }, { disk: 100 }],
    [{ disk: '10G' }, { disk: 10_240 }],
  ])('resources: %j are so many of each, and MiB of disk', (resources, expected) => {
    expect(fieldsOf({ resources }).resources).toEqual({
      ...{ cpuMillis: 1000, memMib: 256, others: expected },
    });
  });

  test('resources come to those of the queue, win, and are taken away by 0', () => {
    const queue = { resources: { cpuMillis: 1, memMib: 1, others: { gpus: 1, ports: 1, a: 5 } } };
    const { resources } = fieldsOf({ resources: { ports: 2, gpus: 0 } }, queue);
    expect(resources.others).toEqual({ ports: 2, a: 5 });
    expect(fieldsOf({ resources: { gpus: 0, ports: 0, a: 0 } }, queue).resources).toEqual({
      ...{ cpuMillis: 1, memMib: 1 },
    });
  });

  test.each([
    [10, 10],
    [-1000, -1000],
    ['5', 5],
    [0, 0],
  ])('priority: %j is %i, whatever its queue has', (priority, expected) => {
    expect(fieldsOf({ priority }, { priority: 7 }).priority).toBe(expected);
  });

  test.each([
    [1500, 1500],
    ['30s', 30_000],
    ['10m', 600_000],
  ])('timeout: %j is %i ms', (timeout, expected) => {
    expect(fieldsOf({ timeout }).timeoutMs).toBe(expected);
  });

  test('killGrace is a duration', () => {
    expect(fieldsOf({ killGrace: '2s' }).killGraceMs).toBe(2000);
  });

  test('attributes come to those of the queue, and win', () => {
    const attributes = { disk: 'ssd', rack: '1' };
    expect(fieldsOf({ attributes: { rack: '2' } }, { attributes }).attributes).toEqual({
      ...{ disk: 'ssd', rack: '2' },
    });
  });

  test.each([
    ['a', 'a'],
    [17, '17'],
  ])('group: %j is the group "%s"', (group, expected) => {
    expect(fieldsOf({ group }).group).toBe(expected);
  });

  test('uris are addresses, or objects with more to say', () => {
    const uris = ['http://files/a', { uri: 'http://files/b', executable: true }];
    expect(fieldsOf({ uris }).uris).toMatchObject([
      { uri: 'http://files/a' },
      { uri: 'http://files/b', executable: true },
    ]);
  });

  test('user is one of those that are allowed, or any if nobody says', () => {
    expect(fieldsOf({ user: 'nobody' }, { allowedUsers: ['nobody'] }).user).toBe('nobody');
    expect(fieldsOf({ user: 'anybody' }).user).toBe('anybody');
  });

  test('executor names a shared one, and false none', () => {
    expect(fieldsOf({ executor: 'mine' }, { executor: 'shared' }).executor).toBe('mine');
    expect(fieldsOf({ executor: false }, { executor: 'shared' }).executor).toBeUndefined();
  });
});

describe('a job is not valid', () => {
  test.each<[string, unknown, string]>([
    ['no object', 'echo', 'it has no command: '],
    ['a list', ['echo'], 'it has no command: '],
    ['no command', { file: 'a' }, '{"command": ["echo", "hello"]} or {"command": "echo hello"}'],
    ['an empty command', { command: '' }, 'field command: '],
    ['a command of nothing', { command: [] }, 'field command: '],
    ['a command of numbers', { command: [1] }, 'field command: '],
  ])('with %s', (_what, data, words) => {
    expect(problem(data)).toContain(words);
  });

  test.each<[string, unknown, string]>([
    ['cpus', 0, '0 is not a number of cores from'],
    ['cpus', -1, '-1 is not a number of cores from'],
    ['cpus', 'many', '"many" is not a number of cores from'],
    ['cpus', 1e9, '1000000000 is not a number of cores from'],
    ['cpus', [], 'Invalid input'],
    ['mem', 0, '0 is not a size from'],
    ['mem', 'big', '"big" is not a size from'],
    ['mem', 1.5, '1.5 is not a size from'],
    ['resources', 'gpus=1', 'Invalid input'],
    ['resources', [1], 'Invalid input'],
    ['priority', 1001, '1001 is not a whole number from -1000 to 1000'],
    ['priority', 1.5, '1.5 is not a whole number'],
    ['priority', 'high', '"high" is not a whole number from -1000 to 1000'],
    ['priority', null, 'Invalid input'],
    ['timeout', 0, '0 is not a duration: "30s", "10m"; a number is milliseconds'],
    ['timeout', 'soon', '"soon" is not a duration'],
    ['killGrace', '2h', '"2h" is not a duration'],
    ['attributes', 'ssd', 'Invalid input'],
    ['group', {}, 'Invalid input'],
    ['group', 'x'.repeat(201), 'Too big'],
    ['env', { A: 1 }, 'Invalid input'],
    ['uris', [5], 'Invalid input'],
    ['uris', [{}], 'Invalid input'],
    ['user', '', ''],
    ['executor', true, 'Invalid input'],
    ['executor', 'two words', 'not a name'],
  ])('with %s: %j', (field, value, words) => {
    const said = problem({ command: ['true'], [field]: value });
    expect(said).toMatch(new RegExp(`^field ${field}`));
    expect(said).toContain(words);
  });

  test.each<[string, unknown, string]>([
    ['gpus', -1, '-1 is not a whole number up to 1073741824'],
    ['gpus', 1.5, '1.5 is not a whole number'],
    ['gpus', 'many', '"many" is not a whole number'],
    ['gpus', 2 ** 31, '2147483648 is not a whole number'],
    ['gpus', null, 'Invalid input'],
    ['disk', -5, '-5 is not a size up to 1024T: "10G"; a number is MiB'],
    ['disk', 'big', '"big" is not a size'],
    ['gpu', 1, 'gpu is no resource; did you mean gpus?'],
    ['cpus', 1, 'cpus is a field of its own'],
    ['mem', '1G', 'mem is a field of its own'],
    ['GPUS', 1, 'a resource is named with a-z'],
    ['constructor', 1, 'not a name of a resource'],
    ['two words', 1, 'a resource is named with a-z'],
  ])('with resources of %s: %j', (name, amount, words) => {
    const said = problem({ command: ['true'], resources: { [name]: amount } });
    expect(said).toContain(`field resources.${name}: `);
    expect(said).toContain(words);
    expect(problem({ kaon: { resources: { [name]: amount } } }, PROCESSOR)).toContain(
      `field kaon.resources.${name}: `,
    );
  });

  test('with more resources than there may be', () => {
    const resources = Object.fromEntries(
      Array.from({ length: 33 }, (_, n) => [`r${String(n)}`, 1]),
    );
    expect(problem({ command: 'true', resources })).toBe('field resources: more than 32 resources');
  });

  test('with a field that does not exist, and says which do', () => {
    expect(problem({ command: ['true'], cpu: 2 })).toBe(
      'there is no field "cpu"; there are attributes, command, cpus, env, executor, group, killGrace, mem, priority, resources, timeout, uris, user',
    );
    expect(problem({ kaon: { command: ['true'], cpu: 2 } })).toMatch(
      /^there is no field "cpu" in kaon; there are attributes,/,
    );
  });

  test('with a user that is not allowed, and says who is', () => {
    const data = { command: ['true'], user: 'root' };
    expect(problem(data, { allowedUsers: ['www', 'nobody'] })).toBe(
      'field user: jobs of this queue may not run as root; allowed: www, nobody',
    );
    expect(problem(data, { allowedUsers: [] })).toMatch(/allowed: none$/);
  });

  test('with data that is not JSON', () => {
    const job = { id: '1', name: 'n', queue: 'q', data: '{', dataBytes: 1 };
    expect(specOf(job, DEFAULTS)).toEqual({
      ...{ ok: false, message: 'the job is not valid: its data is not JSON' },
    });
  });

  test.each([
    [DEFAULTS, COMMAND_DATA_MAX_BYTES],
    [PROCESSOR, PROCESSOR_DATA_MAX_BYTES],
  ])('with more data than may travel', (defaults, max) => {
    const job = { id: '1', name: 'n', queue: 'q', data: '' };
    expect(specOf({ ...job, dataBytes: max + 1 }, defaults)).toMatchObject({
      ok: false,
      message: expect.stringMatching(/its data has .*, and may have .*; put it where/),
    });
    expect(specOf({ ...job, data: '{"command":"x"}', dataBytes: max }, defaults).ok).toBe(true);
  });
});

describe('a job for a processor', () => {
  test.each([[{ file: 'a.png' }], ['text'], [null], [[1, 2]], [7]])(
    'may have any data: %j',
    (data) => {
      const { command, resources } = good(data, PROCESSOR);
      expect(command).toBeUndefined();
      expect(resources).toEqual(DEFAULTS.resources);
    },
  );

  test('says what it needs in the field kaon', () => {
    const spec = good({ kaon: { cpus: 2, mem: '1G', group: 'g', timeout: '1m' } }, PROCESSOR);
    expect(spec).toMatchObject({
      resources: { cpuMillis: 2000, memMib: 1024 },
      group: 'g',
      timeoutMs: 60_000,
    });
  });

  test('has no command, user or executor of its own', () => {
    for (const field of ['command', 'user', 'executor', 'env', 'uris']) {
      expect(problem({ kaon: { [field]: 'x' } }, PROCESSOR)).toBe(
        `there is no field "${field}" in kaon; there are attributes, cpus, group, killGrace, mem, priority, resources, timeout`,
      );
    }
  });

  test('may have fields at the top that are those of a command', () => {
    expect(good({ command: 5, cpus: 'all' }, PROCESSOR).resources).toEqual(DEFAULTS.resources);
  });

  test.each([[5], ['x'], [null], [[]]])('is not valid with kaon: %j', (kaon) => {
    expect(problem({ kaon }, PROCESSOR)).toMatch(/^field kaon: Invalid input/);
  });
});

test('the schemas name every field', () => {
  const { command, processor } = jobSchemas() as Record<string, { properties: object }>;
  expect(Object.keys(command?.properties ?? {}).sort()).toEqual([
    ...['attributes', 'command', 'cpus', 'env', 'executor', 'group', 'killGrace', 'mem'],
    ...['priority', 'resources', 'timeout', 'uris', 'user'],
  ]);
  expect(Object.keys(processor?.properties ?? {}).sort()).toEqual([
    ...['attributes', 'cpus', 'group', 'killGrace', 'mem', 'priority', 'resources', 'timeout'],
  ]);
});
