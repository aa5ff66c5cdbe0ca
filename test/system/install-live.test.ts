/** `install.sh` on a node that runs: services start, are upgraded while tasks go on, go back, and are gone at the end. */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { bedReason } from '../beds/available.ts';
import { type InstallNode, makeNodeMirror, startInstallNode } from '../beds/install-node.ts';
import { endProcess, freePorts, LOOPBACK, startRedisProcess } from '../beds/redis-process.ts';

const reason = bedReason('systemd') ?? bedReason('redis');
const suite = reason === undefined ? describe : describe.skip;
const TIMEOUT_MS = 240_000;

/** The real command, but its daemons do not start: what a check of the program does not see. */
const BROKEN_COMMAND = `#!/usr/bin/env node
if (process.argv[2] === 'agent' || process.argv[2] === 'master') process.exit(1);
await import(new URL('real.js', import.meta.url));
`;

suite(`install.sh on a node${reason === undefined ? '' : ` (${reason})`}`, () => {
  let directory: string;
  let node: InstallNode;
  let redis: ChildProcess;
  let url: string;
  let first: string;

  const kaon = (...args: string[]): string =>
    node.run(
      'env',
      'KAON_TOKEN_FILE=/run/token',
      'timeout',
      '60',
      '/usr/bin/kaon',
      '--redis',
      url,
      ...args,
    );

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kaon-install-live-'));
    const [port = 0] = await freePorts(1);
    url = `redis://${LOOPBACK}:${String(port)}`;
    const argv = ['--port', String(port), '--bind', LOOPBACK, '--dir', directory];
    redis = await startRedisProcess([...argv, '--appendonly', 'yes'], { host: LOOPBACK, port });
    node = await startInstallNode(directory);
    first = node.package('1.0.0');
  }, TIMEOUT_MS);

  afterAll(async () => {
    await node.stop();
    await endProcess(redis);
    rmSync(directory, { recursive: true, force: true });
  }, TIMEOUT_MS);

  test('without a Redis that answers nothing is changed', async () => {
    const { code, out } = await node.install([
      'master',
      '--from',
      first,
      '--redis',
      'redis://127.0.0.1:1',
      '--yes',
    ]);
    expect(code).toBe(69);
    expect(out).toMatch(
      /  FAIL  .*redis:\/\/127\.0\.0\.1:1.*\n        is it running, and is the address right\? --redis URL\n/,
    );
    expect(node.written().filter((path) => /kaon/.test(path))).toEqual([]);
  });

  test(
    'brings Node where the system has an old one, and starts a cluster',
    async () => {
      node.run(
        'sh',
        '-ec',
        'printf "#!/bin/sh\\necho v18.20.4\\n" >/run/old-node; chmod 755 /run/old-node; mount --bind /run/old-node /usr/bin/node',
      );
      mkdirSync(join(directory, 'mirror'));
      const args = [
        'all',
        '--from',
        first,
        '--redis',
        url,
        '--reserve',
        'cpus=0.5,mem=1G',
        '--yes',
      ];
      const path = '/usr/bin';
      const without = await node.install(args, {
        path,
        env: { KAON_NODE_MIRROR: 'file:///nowhere' },
      });
      expect(without.code).toBe(69);
      expect(without.err).toMatch(
        /cannot fetch file:.*SHASUMS256.txt: .*; without a network give --node TARBALL\n/,
      );

      const mirror = makeNodeMirror(join(directory, 'mirror'));
      const { code, out, err } = await node.install(args, {
        path,
        env: { KAON_NODE_MIRROR: mirror },
      });
      expect({ code, err }).toEqual({ code: 0, err: '' });
      expect(out).toContain('  warn  no node 20 or later (/usr/bin/node is 18.20.4)\n');
      expect(out.slice(out.indexOf('done:'))).toBe(`done: Kaon 1.0.0 is installed
  kaon-master   active
  kaon-agent    active
  kaon-bullmq   has no queues: name them in /etc/kaon/bullmq.toml, then systemctl enable --now kaon-bullmq
This cluster is secured: who wants something of it needs a token. All tokens come from
/etc/kaon/credentials/master/cluster-key: keep a copy; other masters need the same
(--cluster-key FILE); who has it may do anything.
next, a token for yourself:
  kaon --redis ${url} token create me --kind admin \\
    --cluster-key-file /etc/kaon/credentials/master/cluster-key >~/.kaon-token
  export KAON_TOKEN_FILE=~/.kaon-token
  kaon --redis ${url} status
`);
      // A Redis that was there is looked at, and left as it is.
      expect(node.written().filter((path) => /^etc\/.*redis/.test(path))).toEqual([]);
      const [, typed = ''] = /next, .*:\n(.*)\n {2}export/s.exec(out) ?? [];
      node.run('sh', '-ec', typed.replace('~/.kaon-token', '/run/token'));
      expect(kaon('run', '--', 'echo', 'hello')).toBe('hello\n');
    },
    TIMEOUT_MS,
  );

  test('a reserve is a limit of the slice of all tasks, and what the agent offers is what is left', () => {
    const total = Number(/MemTotal: +(\d+)/.exec(node.run('cat', '/proc/meminfo'))?.[1]);
    const cores = Number(node.run('nproc'));
    const memoryMib = Math.floor(total / 1024) - 1024;
    expect(node.show('kaon.slice', 'MemoryMax')).toBe(String(memoryMib * 1024 * 1024));
    expect(node.show('kaon.slice', 'CPUQuotaPerSecUSec')).toBe(spanOf(cores - 0.5));
    const [agent] = JSON.parse(kaon('agents', '--json')) as {
      info: { resources: object };
    }[];
    expect(agent?.info.resources).toEqual({ cpuMillis: cores * 1000 - 500, memMib: memoryMib });
  });

  test(
    'an upgrade restarts the daemons, and no task notices',
    async () => {
      const id =
        kaon('run', '--detach', '--name', 'sleeper', '--', 'sleep', '10000')
          .trim()
          .split(/\s/)[0] ?? '';
      const unit =
        node
          .run('systemctl', 'list-units', '--plain', '--no-legend', 'kaon-*sleeper*.service')
          .split(' ')[0] ?? '';
      const before = [
        node.show(unit, 'MainPID'),
        node.show('kaon-agent', 'MainPID'),
        node.show('kaon-master', 'MainPID'),
      ];
      const { code, out } = await node.install(['agent', '--from', node.package('1.1.0'), '--yes']);
      expect({ code, out }).toEqual({ code: 0, out: expect.stringContaining('done: ') });
      expect(out).toContain('  restart kaon-agent.service, if it runs (tasks go on)\n');
      const after = [
        node.show(unit, 'MainPID'),
        node.show('kaon-agent', 'MainPID'),
        node.show('kaon-master', 'MainPID'),
      ];
      expect(after[0]).toBe(before[0]);
      expect(after[1]).not.toBe(before[1]);
      expect(after[2]).not.toBe(before[2]);
      expect(node.run('readlink', '/usr/lib/kaon/current')).toBe('1.1.0\n');
      expect(id).toContain('sleeper');
    },
    TIMEOUT_MS,
  );

  test(
    'a version whose daemons do not start is taken back',
    async () => {
      const broken = node.package('1.2.0');
      node.run('sh', '-ec', `cd ${broken}/dist; mv kaon.js real.js`);
      const folder = node.package('1.2.0', { 'dist/kaon.js': BROKEN_COMMAND });
      const { code, out, err } = await node.install(['agent', '--from', folder, '--yes']);
      expect(code).toBe(1);
      expect(out).toContain('kaon-master.service does not run with 1.2.0:\n');
      expect(out).toContain('going back to 1.1.0 ...\n');
      expect(err).toBe('install.sh: 1.2.0 is not installed, 1.1.0 is again\n');
      expect(node.run('readlink', '/usr/lib/kaon/current')).toBe('1.1.0\n');
      expect(node.show('kaon-master', 'ActiveState')).toBe('active');
      expect(node.show('kaon-agent', 'ActiveState')).toBe('active');
    },
    TIMEOUT_MS,
  );

  test('settings that this version does not take stop an upgrade before it begins', async () => {
    node.run(
      'sh',
      '-c',
      'cp /etc/kaon/agent.toml /run/agent.toml; sed -i "1i colour = \\"red\\"" /etc/kaon/agent.toml',
    );
    const { code, out } = await node.install(['agent', '--from', first, '--yes']);
    node.run('cp', '/run/agent.toml', '/etc/kaon/agent.toml');
    expect(code).toBe(69);
    expect(out).toMatch(
      /  FAIL  \/etc\/kaon\/agent\.toml: .*colour.*\n        repair it and try again\n/,
    );
  });

  test(
    'uninstalling names the tasks that run, ends them, and leaves nothing',
    async () => {
      const asked = await node.install(['--uninstall', '--purge']);
      expect(asked.code).toBe(69);
      expect(asked.out).toContain(
        '  stop    1 task of this node; the cluster may start the same elsewhere\n',
      );
      expect(
        node.run('systemctl', 'list-units', '--plain', '--no-legend', 'kaon-*sleeper*.service'),
      ).toContain('running');

      const { code, out } = await node.install(['--uninstall', '--purge', '--yes'], {
        script: '/usr/lib/kaon/current/install.sh',
      });
      expect(code).toBe(0);
      expect(out).toMatch(/stopping 1 task \.\.\.\ndone: Kaon is removed\n$/);
      expect(
        node.run(
          'systemctl',
          'list-units',
          '--all',
          '--plain',
          '--no-legend',
          'kaon-*.service',
          'kaon*.slice',
        ),
      ).toBe('');
      expect(node.written().filter((path) => /kaon/.test(path))).toEqual([]);
      expect(node.run('sh', '-c', 'cat /etc/passwd /etc/group')).not.toContain('kaon');
    },
    TIMEOUT_MS,
  );
});

/** A time as systemd shows it: `1.500s` is `1.500000s`, and whole seconds have no fraction. */
function spanOf(seconds: number): string {
  return Number.isInteger(seconds) ? `${String(seconds)}s` : `${seconds.toFixed(6)}s`;
}
