import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { describeFailure, exitCodeFor } from '../../../cli/failure.ts';
import type { Daemon, SettingsSource } from '../../../cli/daemon.ts';
import {
  checkSettings,
  configPath,
  connectionWith,
  settingsOf,
} from '../../../cli/daemon-settings.ts';
import { GROUPS } from '../../../cli/definitions.ts';
import type { Definition } from '../../../cli/definition.ts';
import { parseMasterOptions } from '../../../cli/master-options.ts';
import { parseAgentOptions } from '../../../cli/parse-options.ts';
import { connectionOptions } from '../../../cli/program.ts';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'kaon-settings-'));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

interface Started {
  /** As typed: `{ lease: '4s' }`. */
  readonly flags?: Readonly<Record<string, string | readonly string[]>>;
  readonly environment?: Readonly<Record<string, string>>;
  readonly file?: string;
}

function definitionOf(name: string): Definition & { daemon: Daemon } {
  const found = GROUPS.flatMap(([, group]) => group).find((one) => one.daemon?.name === name);
  if (!found?.daemon) throw new Error(`no daemon ${name}`);
  return { ...found, daemon: found.daemon };
}

/** What a daemon is started with: flags, variables, and a file of this text. */
function sourceOf(name: string, { flags = {}, environment = {}, file }: Started): SettingsSource {
  const all = [...connectionOptions(), ...definitionOf(name).options];
  const path = join(directory, `${name}.toml`);
  if (file !== undefined) writeFileSync(path, file);
  const defaults = all.map((flag) => [flag.attributeName(), flag.defaultValue as string]);
  return {
    flags: all,
    typed: {
      ...Object.fromEntries(defaults),
      ...flags,
      ...(file !== undefined && { config: path }),
    },
    sourceOf: (key) => (key in flags ? 'cli' : 'default'),
    environment,
  };
}

const master = (started: Started): ReturnType<typeof settingsOf<{ leaseMs: number }>> =>
  settingsOf({
    source: sourceOf('master', started),
    structured: [],
    parse: ({ raw, connection }) => parseMasterOptions(raw, connection),
  });

/** What `systemctl status` and a terminal show of a start that fails. */
function failureOf(started: Started): { text: string; exitCode: number } {
  try {
    master(started);
  } catch (error) {
    const text = describeFailure(error).replaceAll(directory, '');
    return { text, exitCode: exitCodeFor(error) };
  }
  throw new Error('it started');
}

describe('a setting', () => {
  test('is that of the flag, else of the environment, else of the file, else the default', () => {
    const file = 'redis = "redis://file"\ncluster = "file"\nlease = "5s"\nlog-level = "warn"';
    const environment = { KAON_REDIS: 'redis://environment', KAON_CLUSTER: 'environment' };
    const { options, list } = master({ flags: { cluster: 'flag' }, environment, file });
    expect(options).toMatchObject({
      redis: 'redis://environment',
      cluster: 'flag',
      leaseMs: 5000,
      logLevel: 'warn',
      offerTimeoutMs: 30_000,
    });
    const path = join(directory, 'master.toml');
    expect(list.filter(({ value }) => value !== undefined)).toEqual(
      expect.arrayContaining([
        { key: 'redis', value: 'redis://environment', source: 'environment KAON_REDIS' },
        { key: 'cluster', value: 'flag', source: 'flag' },
        { key: 'lease', value: '5s', source: `${path}:3` },
        { key: 'log-level', value: 'warn', source: `${path}:4` },
        { key: 'offer-timeout', value: '30s', source: 'default' },
      ]),
    );
  });

  test('that is secret is not shown, wherever it comes from', () => {
    const { list } = master({ file: 'redis = "redis://u:geheim@h"' });
    expect(list.find(({ key }) => key === 'redis')?.value).toBe('redis://u:***@h');
    const { list: ofEnvironment } = master({ environment: { KAON_REDIS: 'redis://:geheim@h' } });
    expect(JSON.stringify([list, ofEnvironment])).not.toContain('geheim');
  });

  test('of an agent may be a table', () => {
    const file = 'reserve = { mem = "1G" }\n[attribute]\nrack = "a1"';
    const { options } = settingsOf({
      source: sourceOf('agent', { file }),
      structured: [],
      parse: ({ raw, connection }) => parseAgentOptions(raw, connection),
    });
    expect(options).toMatchObject({ reserve: { memMib: 1024 }, attributes: { rack: 'a1' } });
  });
});

describe('a start with a wrong', () => {
  test('file tells all that is wrong with it, and is not tried again', () => {
    const file = 'leas = "3s"\nlease = "1x"\nlog-level = "loud"\nagent-timeout = "0s"';
    expect(failureOf({ file })).toEqual({
      text: [
        'kaon: /master.toml:1: unknown setting "leas"; did you mean "lease"?',
        '/master.toml:2: lease 1x: not a duration; write 30s, 5m or 1h30m',
        '/master.toml:4: agent-timeout 0s: must be more than 0; the minimum is 1s',
        '/master.toml:3: log-level loud: not one of debug, info, warn, error',
        '',
      ].join('\n'),
      exitCode: 78,
    });
  });

  test('address in the file names its line', () => {
    const { text, exitCode } = failureOf({ file: '\nredis = "http://h"' });
    expect(text).toMatch(/^kaon: \/master\.toml:2: not a Redis address: http:\/\/h: /);
    expect(exitCode).toBe(78);
  });

  test('flag is wrong usage, although there is a file', () => {
    expect(failureOf({ flags: { lease: '1x' }, file: 'cluster = "a"' })).toEqual({
      text: 'kaon: --lease 1x: not a duration; write 30s, 5m or 1h30m\n',
      exitCode: 2,
    });
  });

  test("value that a flag overrides is nobody's problem", () => {
    expect(master({ flags: { lease: '4s' }, file: 'lease = "1x"' }).options.leaseMs).toBe(4000);
  });
});

test('the file is read again, with the same flags', () => {
  const first = master({ flags: { cluster: 'flag' }, file: 'lease = "3s"\ncluster = "a"' });
  writeFileSync(join(directory, 'master.toml'), 'lease = "9s"\ncluster = "b"');
  expect(first.reread?.().options).toMatchObject({ leaseMs: 9000, cluster: 'flag' });
  writeFileSync(join(directory, 'master.toml'), 'lease = 9s');
  expect(() => first.reread?.()).toThrow('master.toml:1: not TOML: ');
  expect(master({}).reread).toBeUndefined();
});

test('FILE.json is read where there is no FILE.toml', () => {
  const path = join(directory, 'queues.toml');
  expect(configPath(path)).toBe(path);
  writeFileSync(join(directory, 'queues.json'), '{}');
  expect(configPath(path)).toBe(join(directory, 'queues.json'));
  writeFileSync(path, '');
  expect(configPath(path)).toBe(path);
});

test('what runs beside a daemon finds the cluster in the file of the daemon', () => {
  const path = join(directory, 'beside.toml');
  writeFileSync(path, 'redis = "redis://file"\ncluster = "c1"\nlease = "1x"');
  const given = { redis: 'redis://127.0.0.1:6379', cluster: 'default' };
  const found = (environment: Record<string, string>, raw = {}): unknown =>
    connectionWith({ config: path, ...raw }, given, environment);
  expect(found({})).toEqual({ redis: 'redis://file', cluster: 'c1' });
  expect(found({ KAON_REDIS: 'redis://variable' }, { cluster: 'flag' })).toEqual({
    redis: 'redis://variable',
    cluster: 'flag',
  });
});

describe('kaon bullmq', () => {
  const check = (file: string): Promise<readonly string[]> =>
    definitionOf('bullmq')
      .daemon.check(sourceOf('bullmq', { file }))
      .then(({ problems }) => problems.map((problem) => problem.replaceAll(directory, '')));

  test('takes queues as tables, named as flags are', async () => {
    const file = `cpus = 0.5
lock-duration = "30s"
[[queues]]
name = "mail"
group-limit = 2
allow-user = ["www-data"]
attribute = { gpu = "a100" }
quota = { cpus = 16 }`;
    expect(await check(file)).toEqual([]);
  });

  test('tells a field of a queue that does not exist', async () => {
    const [problem = ''] = await check('[[queues]]\nname = "mail"\ncpu = 1');
    expect(problem).toMatch(/^\/bullmq\.toml: the configuration is not valid: queues\.0/);
  });

  test('needs a queue', async () => {
    expect(await check('cpus = 1')).toEqual([
      'which queues? --queue NAME[,NAME...], or --config FILE',
    ]);
  });
});

describe('the file that is shipped for', () => {
  test.each(['master', 'agent', 'bullmq'])(
    '%s is right, with and without its comments',
    async (name) => {
      const text = readFileSync(`systemd/config/${name}.toml`, 'utf8');
      // Certificates are for another address than the one that is shown.
      const used = text.replaceAll(/^#(?=[a-z[]|$)/gm, '').replaceAll(/^redis-.*/gm, '');
      const { daemon } = definitionOf(name);
      const { list, problems } = await daemon.check(sourceOf(name, { file: used }));
      expect(problems).toEqual([]);
      // What is shown as a default is the default.
      const defaults = checkSettings({
        source: sourceOf(name, {}),
        structured: [],
        parse: () => undefined,
      });
      for (const { key, value } of defaults.list) {
        const shown = list.find((one) => one.key === key && one.source !== 'default');
        if (value !== undefined && shown)
          expect({ key, value: shown.value }).toEqual({ key, value });
      }
      if (name !== 'bullmq') {
        expect((await daemon.check(sourceOf(name, { file: text }))).problems).toEqual([]);
      }
    },
  );

  test.each([
    ['master', []],
    // For agents of users, who have no such file.
    ['agent', ['user', 'unlimited']],
    // Code belongs to a command line; queues have their own form.
    ['bullmq', ['queue', 'processor', 'processor-on-nodes', 'warm']],
  ])('%s has each setting', (name, without) => {
    const text = readFileSync(`systemd/config/${name}.toml`, 'utf8');
    const all = checkSettings({
      source: sourceOf(name, {}),
      structured: [],
      parse: () => undefined,
    });
    const missing = all.list.filter(
      ({ key }) => !new RegExp(`^#\\[?${key}(?: =|\\])`, 'm').test(text),
    );
    expect(missing.map(({ key }) => key)).toEqual(without);
  });
});
