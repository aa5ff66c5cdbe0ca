/** `install.sh` into a root directory: what it makes, what it says, what a second run does, and what is left at the end. */
import { spawn } from 'node:child_process';
import { existsSync, lstatSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  INSTALL,
  type InstallBed,
  listTree,
  listTreeExactly,
  runInstall,
  startInstallBed,
} from '../beds/install-root.ts';

const UNITS = '/etc/systemd/system';
const REDIS_UNIT = '/usr/lib/systemd/system/redis-server.service';

let bed: InstallBed;

beforeEach(() => {
  bed = startInstallBed();
});

afterEach(() => {
  bed.stop();
});

/** Installs and expects that it works. @returns what it said */
async function installed(args: readonly string[]): Promise<string> {
  const { code, out, err } = await bed.install([...args, '--yes']);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  return out;
}

describe('the command line', () => {
  test('--help fits into 80 columns and names every role', async () => {
    const { code, out } = await runInstall(['--help']);
    expect(code).toBe(0);
    expect(out.split('\n').filter((line) => line.length > 80)).toEqual([]);
    for (const role of ['master', 'agent', 'bullmq', 'redis', 'all', 'dev'])
      expect(out).toMatch(new RegExp(`^  ${role} `, 'm'));
  });

  test.each([
    [[], 'no role given'],
    [['worker'], 'unknown role worker'],
    [['agent', '--fast'], 'unknown option --fast'],
    [['agent', '--yes=1'], 'unknown option --yes, or it takes no value'],
    [['agent', '--redis'], '--redis needs a value'],
    [['agent', '--redis', ''], '--redis needs a value'],
    [['agent', '--redis', '10.0.0.5'], '--redis 10.0.0.5 is no address'],
    [['agent', '--cluster', 'a b'], '--cluster a b: letters'],
    [['agent', '--reserve', 'cpu=1'], '--reserve cpu=1 is not a list of resources'],
    [['agent', '--reserve', 'mem=1G,mem=2G'], 'is not a list of resources'],
    [['master', '--reserve', 'cpus=1'], '--reserve is for the role agent'],
    [['master', '--join', 'kaon-join1.x'], '--join is for the role agent'],
    [['agent', '--join', 'hello'], 'that is no join line'],
    [['agent', '--join', 'kaon-join1.eyJhIjoxfQ'], 'the line is cut or changed'],
    [['agent', '--join', '@/nowhere'], 'there is no file /nowhere'],
    [['agent', '--cluster-key', 'key'], '--cluster-key is for the role master'],
    [['agent', '--version', '../1'], '--version ../1 is no version'],
    [['agent', '--from', 'a', '--version', '1'], 'name two packages'],
    [['agent', '--from', '/nowhere.tgz'], 'there is no file /nowhere.tgz'],
    [['agent', '--purge'], '--purge goes with --uninstall'],
    [['agent', '--uninstall'], '--uninstall removes all roles'],
    [['dev', 'agent'], 'the role dev goes alone'],
  ])('%j is refused as wrong usage', async (args, words) => {
    const { code, out, err } = await bed.install(args);
    expect({ code, out }).toEqual({ code: 64, out: '' });
    expect(err).toContain(`install.sh: `);
    expect(err).toContain(words);
    expect(err).toContain('--help');
    expect(existsSync(join(bed.root, '/usr/lib/kaon'))).toBe(false);
  });

  test('a root that is not there is refused, and not made', async () => {
    const { code, err } = await runInstall(['agent', '--root', join(bed.directory, 'nowhere')]);
    expect(code).toBe(64);
    expect(err).toContain('nowhere is no folder');
  });

  test('without a terminal and without --yes nothing is changed, and it says how to go on', async () => {
    const before = listTreeExactly(bed.root);
    const { code, err } = await bed.install(['agent', '--from', bed.package()]);
    expect(code).toBe(69);
    expect(err).toBe(
      'install.sh: there is no terminal to ask on; to go on say --yes, to only look --dry-run\n',
    );
    expect(listTreeExactly(bed.root)).toEqual(before);
  });

  test('two at a time in one place are refused', async () => {
    const holder = spawn('flock', [bed.root, 'sh', '-c', 'echo held; read line'], {
      stdio: 'pipe',
    });
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    const { code, err } = await bed.install(['agent', '--from', bed.package(), '--yes']);
    holder.stdin.end('\n');
    await new Promise((resolve) => holder.once('close', resolve));
    expect(code).toBe(69);
    expect(err).toContain('another install.sh is running here');
  });
});

describe('a fresh installation', () => {
  test('--dry-run says all that would be done, and changes nothing', async () => {
    bed.write(
      REDIS_UNIT,
      '[Service]\nExecStart=/usr/bin/redis-server /etc/redis/redis.conf --daemonize no\n',
    );
    bed.write('/etc/redis/redis.conf', 'port 6379\n');
    const before = listTreeExactly(bed.root);
    const { code, out, err } = await bed.install([
      'all',
      ...['--from', bed.package(), '--redis', 'redis://10.0.0.5:6379', '--cluster', 'production'],
      ...['--reserve', 'cpus=1,mem=1G', '--dry-run'],
    ]);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out.replaceAll(bed.root, 'ROOT')).toBe(`Kaon 1.0.0: redis, master, agent, bullmq
checks:
  ok    root file system ROOT/ (Debian GNU/Linux 12 (bookworm))
  ok    room in ROOT/usr/lib/kaon
  ok    node 20.11.0 (/usr/bin/node)
to do:
  add     /usr/lib/sysusers.d/kaon.conf
  add     users kaon, kaon-task
  add     /usr/lib/tmpfiles.d/kaon.conf
  add     /usr/lib/kaon/1.0.0
  add     /etc/kaon/master.toml: redis redis://10.0.0.5:6379, cluster production
  add     /etc/kaon/agent.toml: redis redis://10.0.0.5:6379, cluster production, reserve cpus=1,mem=1G
  add     /etc/kaon/bullmq.toml: redis redis://10.0.0.5:6379, cluster production
  add     /etc/kaon/credentials/master/cluster-key
  add     manual pages, see man kaon (2 files)
  add     completion for bash, zsh and fish (3 files)
  add     settings of Redis: noeviction, append-only file, ACL file (3 files)
  add     units in /etc/systemd/system, started at boot (7 files)
  add     /usr/bin/kaon
  add     /usr/lib/kaon/current -> 1.0.0
`);
    expect(listTreeExactly(bed.root)).toEqual(before);
  });

  test('of an agent makes exactly these files, with these modes', async () => {
    const before = listTree(bed.root);
    await installed(['agent', '--from', bed.tarball(bed.package())]);
    const accounts = /\/etc\/(passwd|group|shadow|gshadow)?-?$|\.pwd\.lock|\/etc\/g?shadow/;
    const added = listTree(bed.root).filter((entry) => !before.includes(entry));
    expect(added.filter((entry) => !accounts.test(entry))).toEqual(
      [
        '644 /etc/kaon/agent.toml',
        `644 ${UNITS}/kaon-agent.service`,
        `644 ${UNITS}/kaon.slice`,
        '644 /usr/lib/kaon/1.0.0/LICENSE',
        '644 /usr/lib/kaon/1.0.0/README.md',
        '644 /usr/lib/kaon/1.0.0/dist/completion/_kaon',
        '644 /usr/lib/kaon/1.0.0/dist/completion/kaon.bash',
        '644 /usr/lib/kaon/1.0.0/dist/completion/kaon.fish',
        '644 /usr/lib/kaon/1.0.0/dist/kaon.js',
        '644 /usr/lib/kaon/1.0.0/dist/man/kaon-agent.8',
        '644 /usr/lib/kaon/1.0.0/dist/man/kaon.1',
        '644 /usr/lib/kaon/1.0.0/package.json',
        '644 /usr/lib/systemd/user/kaon-agent.service',
        '644 /usr/lib/sysusers.d/kaon.conf',
        '644 /usr/lib/tmpfiles.d/kaon.conf',
        '644 /usr/share/bash-completion/completions/kaon',
        '644 /usr/share/fish/vendor_completions.d/kaon.fish',
        '644 /usr/share/man/man1/kaon.1',
        '644 /usr/share/man/man8/kaon-agent.8',
        '644 /usr/share/zsh/vendor-completions/_kaon',
        '644 /var/lib/kaon/install/manifest',
        '700 /etc/kaon/credentials/',
        '700 /etc/kaon/credentials/agent/',
        '755 /usr/bin/kaon',
        '755 /usr/lib/kaon/1.0.0/install.sh',
        ...['kaon', 'systemd', 'systemd/system', 'systemd/system/multi-user.target.wants'].map(
          (folder) => `755 /etc/${folder}/`,
        ),
        ...['lib', 'lib/kaon', 'lib/kaon/1.0.0', 'lib/kaon/1.0.0/dist', 'lib/sysusers.d'].map(
          (folder) => `755 /usr/${folder}/`,
        ),
        ...['completion', 'man'].map((folder) => `755 /usr/lib/kaon/1.0.0/dist/${folder}/`),
        ...['tmpfiles.d', 'kaon/1.0.0/systemd'].map((folder) => `755 /usr/lib/${folder}/`),
        ...['bash-completion', 'bash-completion/completions', 'fish', 'zsh', 'man'].map(
          (folder) => `755 /usr/share/${folder}/`,
        ),
        ...['fish/vendor_completions.d', 'man/man1', 'man/man8', 'zsh/vendor-completions'].map(
          (folder) => `755 /usr/share/${folder}/`,
        ),
        '755 /usr/lib/systemd/',
        '755 /usr/lib/systemd/user/',
        '755 /usr/share/',
        ...['', 'lib/', 'lib/kaon/', 'lib/kaon/install/'].map((folder) => `755 /var/${folder}`),
        `${UNITS}/multi-user.target.wants/kaon-agent.service -> ${UNITS}/kaon-agent.service`,
        '/usr/lib/kaon/current -> 1.0.0',
        ...listTree(join(bed.root, '/usr/lib/kaon/1.0.0/systemd')).map((entry) =>
          entry.replace(' /', ' /usr/lib/kaon/1.0.0/systemd/'),
        ),
      ].sort(),
    );
    expect(bed.read('/usr/bin/kaon')).toContain(
      'exec /usr/bin/node /usr/lib/kaon/current/dist/kaon.js "$@"\n',
    );
    expect(bed.read('/etc/passwd')).toMatch(/^kaon:x:.*^kaon-task:x:/ms);
  });

  test.each(['master', 'bullmq', 'agent'])(
    'of the role %s has its unit and settings',
    async (role) => {
      await installed([role, '--from', bed.package()]);
      const units = listTree(join(bed.root, UNITS)).filter((entry) => entry.startsWith('644'));
      expect(units).toEqual([
        `644 /kaon-${role}.service`,
        ...(role === 'agent' ? ['644 /kaon.slice'] : []),
      ]);
      expect(listTree(join(bed.root, '/etc/kaon'))).toEqual(
        [
          `644 /${role}.toml`,
          '700 /credentials/',
          `700 /credentials/${role}/`,
          ...(role === 'master' ? ['600 /credentials/master/cluster-key'] : []),
        ].sort(),
      );
    },
  );

  test('is the same with dash and with bash, from a folder and from a tarball', async () => {
    const folder = bed.package();
    const other = startInstallBed();
    try {
      const mine = await bed.install(['all', '--open', '--from', folder, '--yes'], {
        shell: 'dash',
      });
      const its = await other.install(['all', '--open', '--from', bed.tarball(folder), '--yes'], {
        shell: 'bash',
      });
      expect(mine.out.replaceAll(bed.root, '')).toBe(its.out.replaceAll(other.root, ''));
      expect(listTree(bed.root)).toEqual(listTree(other.root));
      expect(bed.read('/var/lib/kaon/install/manifest')).toBe(
        other.read('/var/lib/kaon/install/manifest'),
      );
    } finally {
      other.stop();
    }
  });

  test('of a master makes a cluster key of 32 bytes, and says what it is', async () => {
    const out = await installed(['master', '--from', bed.package()]);
    const path = join(bed.root, '/etc/kaon/credentials/master/cluster-key');
    expect(Buffer.from(readFileSync(path, 'utf8'), 'base64')).toHaveLength(32);
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
    expect(out).toContain('This cluster is secured');
    expect(out).not.toContain(readFileSync(path, 'utf8').trim());
  });

  test('of a further master takes the key that it is given', async () => {
    bed.write('/key', 'a2V5\n');
    await installed(['master', '--from', bed.package(), '--cluster-key', join(bed.root, 'key')]);
    expect(bed.read('/etc/kaon/credentials/master/cluster-key')).toBe('a2V5\n');
  });

  test('with --open makes no key, and the next version neither', async () => {
    await installed(['master', '--open', '--from', bed.package()]);
    await installed(['master', '--from', bed.package({ version: '1.1.0' })]);
    expect(existsSync(join(bed.root, '/etc/kaon/credentials/master/cluster-key'))).toBe(false);
  });

  test('leaves the system node that is too old, and brings its own', async () => {
    bed.stub(join(bed.root, '/usr/bin'), 'node', 'echo v18.20.4');
    const said = await bed.install(['agent', '--from', bed.package(), '--dry-run']);
    expect(said.out).toContain(
      '  warn  no node 20 or later in it (/usr/bin/node is 18.20.4)\n' +
        '        put one into the image as /usr/bin/node, or give --node TARBALL\n',
    );
    const tarball = bed.nodeTarball('24.1.0');
    const out = await installed(['agent', '--from', bed.package(), '--node', tarball]);
    expect(out).toContain('  add     /usr/lib/kaon/node, which is node 24.1.0\n');
    expect(bed.read('/usr/bin/kaon')).toContain('exec /usr/lib/kaon/node/bin/node ');
    expect(listTree(join(bed.root, '/usr/lib/kaon/node'))).toEqual([
      '644 /LICENSE',
      '755 /bin/',
      '755 /bin/node',
    ]);
    expect(bed.read('/usr/bin/node')).toContain('v18.20.4');
    // It is used from then on.
    expect(await installed(['agent'].concat('--from', bed.package()))).toContain('nothing to do');
  });
});

describe('a join line', () => {
  const line = (fields: Readonly<Record<string, string>>): string =>
    `kaon-join1.${Buffer.from(JSON.stringify(fields)).toString('base64url')}`;
  const whole = {
    redis: 'rediss://node7@10.0.0.5:6380',
    cluster: 'production',
    agentId: 'node7',
    redisPassword: 'p"a\\s/s',
    token: 'kaon1_eyJuIjoibm9kZTcifQ_a-b_c',
    caPem: '-----BEGIN CERTIFICATE-----\nMIIB+/=\n-----END CERTIFICATE-----\n',
  };

  test('becomes settings and secrets of the agent, and of nobody else', async () => {
    const { code, out } = await bed.install(
      ['agent', 'bullmq', '--from', bed.package(), '--yes', '--join', '-'],
      { input: `${line(whole)}\n` },
    );
    expect(code).toBe(0);
    expect(bed.read('/etc/kaon/agent.toml')).toBe(`# An agent.

redis = "rediss://node7@10.0.0.5:6380"
cluster = "production"
agent-id = "node7"
redis-ca = "/etc/kaon/ca.crt"
# reserve = "mem=512M"

[attribute]
# rack = "a1"
`);
    expect(bed.read('/etc/kaon/bullmq.toml')).toBe('# Queues.\n');
    expect(bed.read('/etc/kaon/credentials/agent/redis-password')).toBe('p"a\\s/s');
    expect(bed.read('/etc/kaon/credentials/agent/token')).toBe(whole.token);
    expect(bed.read('/etc/kaon/ca.crt')).toBe(whole.caPem);
    expect(listTree(join(bed.root, '/etc/kaon/credentials'))).toEqual([
      '600 /agent/redis-password',
      '600 /agent/token',
      '700 /agent/',
      '700 /bullmq/',
    ]);
    expect(out).not.toContain('p"a');
    expect(out).not.toContain(whole.token);
  });

  test('may have neither password nor token', async () => {
    const { redis, cluster, agentId } = whole;
    await installed([
      'agent',
      '--from',
      bed.package(),
      '--join',
      line({ redis, cluster, agentId }),
    ]);
    expect(listTree(join(bed.root, '/etc/kaon/credentials'))).toEqual(['700 /agent/']);
    expect(existsSync(join(bed.root, '/etc/kaon/ca.crt'))).toBe(false);
  });

  test('that is another one replaces what the first has brought, and nothing else', async () => {
    await installed(['agent', '--from', bed.package(), '--join', line(whole)]);
    bed.write('/etc/kaon/agent.toml', `# mine\n${bed.read('/etc/kaon/agent.toml')}`);
    await installed([
      'agent',
      '--from',
      bed.package(),
      '--join',
      line({ ...whole, token: 'kaon1_b' }),
    ]);
    expect(bed.read('/etc/kaon/credentials/agent/token')).toBe('kaon1_b');
    expect(bed.read('/etc/kaon/agent.toml')).toContain('# mine\n# An agent.\n');
  });
});

describe('a second run', () => {
  test('changes nothing at all', async () => {
    const folder = bed.package();
    await installed(['all', '--from', folder, '--redis', 'redis://10.0.0.5:6379']);
    const before = listTreeExactly(bed.root);
    const out = await installed(['all', '--from', folder, '--redis', 'redis://10.0.0.5:6379']);
    expect(out).toMatch(/nothing to do: it is installed as it should be\n$/);
    expect(listTreeExactly(bed.root)).toEqual(before);
  });

  test('with another role adds that one, and keeps those that are there', async () => {
    const folder = bed.package();
    await installed(['agent', '--from', folder]);
    const out = await installed(['bullmq', '--from', folder]);
    expect(out).toContain('Kaon 1.0.0: agent, bullmq\n');
    expect(existsSync(join(bed.root, UNITS, 'kaon-bullmq.service'))).toBe(true);
    expect(existsSync(join(bed.root, UNITS, 'kaon-agent.service'))).toBe(true);
  });

  test('with another address changes that line, and keeps what a person has written', async () => {
    await installed(['agent', '--from', bed.package(), '--redis', 'redis://10.0.0.5:6379']);
    const mine = bed.read('/etc/kaon/agent.toml').replace('# rack = "a1"', 'rack = "b2" # mine');
    bed.write('/etc/kaon/agent.toml', mine);
    await installed(['agent', '--from', bed.package(), '--redis', 'redis://10.0.0.6:6379']);
    expect(bed.read('/etc/kaon/agent.toml')).toBe(mine.replace('10.0.0.5', '10.0.0.6'));
  });

  test('of a password in an address puts it where only root can read it', async () => {
    const out = await installed([
      'agent',
      '--from',
      bed.package(),
      '--redis',
      'redis://kaon:s3cret@10.0.0.5',
    ]);
    expect(bed.read('/etc/kaon/agent.toml')).toContain('redis = "redis://kaon@10.0.0.5"\n');
    expect(bed.read('/etc/kaon/credentials/agent/redis-password')).toBe('s3cret\n');
    expect(out).not.toContain('s3cret');
  });
});

describe('another version', () => {
  test('is put beside the old one and takes its place by a link; the one before is kept', async () => {
    await installed(['agent', '--from', bed.package()]);
    const next = { version: '1.1.0', files: { 'dist/man/kaon-agent.8': undefined } };
    const out = await installed(['agent', '--from', bed.package(next)]);
    expect(out).toContain('  change  /usr/lib/kaon/current -> 1.1.0\n');
    expect(versions()).toEqual(['1.0.0', '1.1.0']);
    expect(existsSync(join(bed.root, '/usr/share/man/man8/kaon-agent.8'))).toBe(false);
    await installed(['agent', '--from', bed.package({ version: '1.2.0' })]);
    expect(versions()).toEqual(['1.1.0', '1.2.0']);
    await installed(['agent', '--version', '1.1.0']);
    expect(bed.read('/usr/lib/kaon/current/package.json')).toContain('"1.1.0"');
    expect(versions()).toEqual(['1.1.0', '1.2.0']);
  });

  test('that was built again under the same name is another version', async () => {
    await installed(['agent', '--from', bed.package()]);
    await installed([
      'agent',
      '--from',
      bed.package({ files: { 'dist/kaon.js': 'console.log(2);\n' } }),
    ]);
    expect(versions()).toEqual([expect.stringMatching(/^1\.0\.0\+[0-9a-f]{8}$/), '1.0.0']);
    expect(bed.read('/usr/lib/kaon/current/dist/kaon.js')).toBe('console.log(2);\n');
  });

  test('brings its defaults where nobody has changed the settings, with what was given', async () => {
    await installed(['agent', '--from', bed.package(), '--redis', 'redis://10.0.0.5:6379']);
    const template = '# An agent, explained better.\n# redis = "redis://127.0.0.1:6379"\n';
    const files = { 'systemd/config/agent.toml': template };
    await installed(['agent', '--from', bed.package({ version: '1.1.0', files })]);
    expect(bed.read('/etc/kaon/agent.toml')).toBe(
      '# An agent, explained better.\nredis = "redis://10.0.0.5:6379"\n',
    );
    expect(existsSync(join(bed.root, '/etc/kaon/agent.toml.new'))).toBe(false);
  });

  test('keeps settings that somebody has changed, and puts its defaults beside them', async () => {
    await installed(['agent', '--from', bed.package()]);
    bed.write('/etc/kaon/agent.toml', 'log-level = "debug"\n');
    const files = { 'systemd/config/agent.toml': '# An agent, explained better.\n' };
    const newer = bed.package({ version: '1.1.0', files });
    const out = await installed(['agent', '--from', newer]);
    expect(bed.read('/etc/kaon/agent.toml')).toBe('log-level = "debug"\n');
    expect(bed.read('/etc/kaon/agent.toml.new')).toBe('# An agent, explained better.\n');
    expect(out).toContain('  add     /etc/kaon/agent.toml.new\n');
    rmSync(join(bed.root, '/etc/kaon/agent.toml.new'));
    expect(await installed(['agent', '--from', newer])).toContain('nothing to do');
  });

  test('does not enable a service that somebody has disabled', async () => {
    await installed(['agent', '--from', bed.package()]);
    const link = join(bed.root, UNITS, 'multi-user.target.wants/kaon-agent.service');
    rmSync(link);
    await installed(['agent', '--from', bed.package({ version: '1.1.0' })]);
    expect(() => lstatSync(link)).toThrow('ENOENT');
  });

  test('is refused if it is neither here nor to be had', async () => {
    const { code, err } = await bed.install(['agent', '--version', '9.9.9', '--yes']);
    expect(code).toBe(69);
    expect(err).toContain('has no version 9.9.9; to fetch it say KAON_RELEASES=URL');
  });

  function versions(): string[] {
    return listTree(join(bed.root, '/usr/lib/kaon'))
      .map((entry) => /^755 \/([^/]*)\/$/.exec(entry)?.[1] ?? '')
      .filter((name) => name !== '');
  }
});

describe('uninstalling', () => {
  test('with --purge leaves what was there before, and nothing else', async () => {
    bed.write('/usr/share/man/man1/other.1', 'another page\n');
    const before = listTree(bed.root);
    const accounts = [bed.read('/etc/passwd'), bed.read('/etc/group')];
    await installed(['all', '--from', bed.package(), '--node', bed.nodeTarball('24.1.0')]);
    await installed(['all', '--from', bed.package({ version: '1.1.0' })]);
    expect(await installed(['--uninstall', '--purge'])).toMatch(/done: Kaon is removed\n$/);
    // Made by systemd-sysusers, which keeps a copy and a lock of accounts whoever asks it.
    const left = listTree(bed.root).filter(
      (entry) => !/\/etc\/(g?shadow|.*-|\.pwd\.lock)$/.test(entry),
    );
    expect(left).toEqual(before);
    expect([bed.read('/etc/passwd'), bed.read('/etc/group')]).toEqual(accounts);
  });

  test('keeps settings, secrets and state, which the next installation goes on with', async () => {
    await installed(['master', '--from', bed.package(), '--cluster', 'production']);
    bed.write('/var/lib/kaon/master/state', 'of the master\n');
    const key = bed.read('/etc/kaon/credentials/master/cluster-key');
    await installed(['--uninstall']);
    const left = listTree(bed.root).filter((entry) => /kaon/.test(entry));
    expect(left.filter((entry) => !entry.endsWith('/'))).toEqual([
      '600 /etc/kaon/credentials/master/cluster-key',
      '644 /etc/kaon/master.toml',
      '644 /var/lib/kaon/install/manifest',
      '644 /var/lib/kaon/master/state',
    ]);
    await installed(['master', '--from', bed.package()]);
    expect(bed.read('/etc/kaon/master.toml')).toContain('cluster = "production"');
    expect(bed.read('/etc/kaon/credentials/master/cluster-key')).toBe(key);
    await installed(['--uninstall']);
    await installed(['--uninstall', '--purge']);
    expect(listTree(bed.root).filter((entry) => /kaon/.test(entry))).toEqual([]);
  });

  test('leaves what others have put into the same folders', async () => {
    await installed(['agent', '--from', bed.package()]);
    bed.write(`${UNITS}/kaon-agent.service.d/mine.conf`, '[Service]\n');
    bed.write('/usr/share/man/man8/other.8', 'another page\n');
    const out = await installed(['--uninstall', '--purge']);
    expect(out).toContain(
      `left, because it is not from here: ${bed.root}${UNITS}/kaon-agent.service.d\n`,
    );
    expect(bed.read('/usr/share/man/man8/other.8')).toBe('another page\n');
  });

  test('of nothing does nothing', async () => {
    const before = listTreeExactly(bed.root);
    expect(await installed(['--uninstall', '--purge'])).toBe(
      'nothing to do: Kaon is not installed here\n',
    );
    expect(listTreeExactly(bed.root)).toEqual(before);
  });

  test('--dry-run says what would go, and changes nothing', async () => {
    await installed(['agent', '--from', bed.package()]);
    const before = listTreeExactly(bed.root);
    expect(await installed(['--uninstall', '--purge', '--dry-run'])).toBe(`to do:
  remove  kaon-agent.service
  remove  /usr/lib/kaon, /usr/bin/kaon, manual pages and completion
  remove  /etc/kaon and /var/lib/kaon, with settings, secrets and what tasks have written
  remove  user kaon
  remove  user kaon-task
`);
    expect(listTreeExactly(bed.root)).toEqual(before);
  });
});

describe('Redis of an image', () => {
  const start = '/usr/bin/redis-server /etc/redis/redis.conf --supervised systemd --daemonize no';

  test('gets the settings that Kaon needs beside its own', async () => {
    bed.write(REDIS_UNIT, `[Service]\nType=notify\nExecStart=${start}\n`);
    bed.write('/etc/redis/redis.conf', 'port 6379\nbind 127.0.0.1\n');
    await installed(['redis', '--from', bed.package()]);
    expect(bed.read('/etc/redis/redis.conf')).toBe('port 6379\nbind 127.0.0.1\n');
    expect(bed.read('/etc/redis/kaon.conf').replace(/^#.*\n/gm, '')).toBe(
      'maxmemory-policy noeviction\nappendonly yes\naclfile /etc/redis/users.acl\n',
    );
    expect(bed.read(`${UNITS}/redis-server.service.d/kaon.conf`).replace(/^#.*\n/gm, '')).toBe(
      `[Service]\nExecStart=\nExecStart=${start} --include /etc/redis/kaon.conf\n`,
    );
    const { uid, gid } = lstatSync(join(bed.root, '/etc/redis/users.acl'));
    expect([uid, gid]).toEqual([107, 113]);
    // Users that were made meanwhile are not forgotten.
    bed.write('/etc/redis/users.acl', 'user node7 on\n');
    expect(await installed(['redis', '--from', bed.package()])).toContain('nothing to do');
    expect(bed.read('/etc/redis/users.acl')).toBe('user node7 on\n');
  });

  test('that somebody has configured is left alone', async () => {
    bed.write(REDIS_UNIT, `[Service]\nExecStart=${start}\n`);
    bed.write('/etc/redis/redis.conf', 'port 6379\nrequirepass s3cret\n');
    await installed(['redis', '--from', bed.package()]);
    expect(listTree(join(bed.root, '/etc/redis'))).toEqual(['644 /redis.conf']);
    expect(existsSync(join(bed.root, UNITS, 'redis-server.service.d'))).toBe(false);
  });
});

test('all of the script is in functions, and its last line calls the first of them', () => {
  const lines = readFileSync(INSTALL, 'utf8').trimEnd().split('\n');
  expect(lines.at(-1)).toBe('main "$@"');
  let isOutside = true;
  const outside = lines.slice(0, -1).filter((line) => {
    if (/^[a-z_]+\(\) \{$/.test(line)) isOutside = false;
    const isHere = isOutside && !/^(#|$)/.test(line);
    if (line === '}') isOutside = true;
    return isHere;
  });
  const harmless = /^([A-Za-z_]+=('[^'$]*'|[\w./:-]*)|set -eu|umask 022)$/;
  expect(outside.filter((line) => !harmless.test(line))).toEqual([]);
});
