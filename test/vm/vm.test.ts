/**
 * An installation from its first file to its last, on a machine of its own: Debian 12 with its kernel, systemd as process 1
 * and cgroup v2. One machine, one story: every test goes on where the one before it has ended.
 */
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { withoutWaiting } from '../support/kaon-words.ts';
import { type Delivery, makeDelivery } from './delivery.ts';
import { type Image, machineReason, makeWorkFolder, provideImage } from './image.ts';
import { type Machine, boot } from './machine.ts';

// The machine is emulated, and the first time it is made before.
jest.setTimeout(30 * 60_000);

/** Everything on the disk but logs, caches, and what apt, systemd and accounts note of their last change. */
const LIST_FILES = `
  find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /srv \\
    -o -path /var/log -o -path /var/cache -o -path /var/tmp -o -path /var/lib/apt -o -path /var/lib/dpkg \\
    -o -path /var/lib/systemd \\) -prune \\
    -o ! -path '/etc/*-' ! -name .pwd.lock -printf '%M %u:%g %p %l\\n' | sort -k 3
  find /etc -type f ! -path '/etc/*-' ! -name ld.so.cache ! -name .pwd.lock -exec sha256sum {} + | sort -k 2`;
/** In two steps, because a pipe would hide that systemctl has failed. */
const LIST_UNITS = `listed=$(systemctl list-unit-files --no-legend --plain) &&
  printf '%s\\n' "$listed" | awk '{ print $1, $2 }' | sort`;
const LIST_PACKAGES = `dpkg-query -W -f '\${Package} \${db:Status-Status}\\n'`;

const INSTALL = 'sh /srv/delivery/install.sh all --yes --node /srv/delivery/node.tgz';
const NODE = '/usr/lib/kaon/node/bin/node';
const DAEMONS = 'kaon-master kaon-agent';
/** Where the kernel holds what a task may use: the slice of this launch, above the cgroup of its unit. */
const OWN_SLICE = `$(dirname "/sys/fs/cgroup$(cut -d: -f3- /proc/self/cgroup)")`;
/** The main process of the task that outlives what happens around it. */
const LONG = 'sleep 100000';

const reason = machineReason();
const describeOrSkip = reason === undefined ? describe : describe.skip;

describeOrSkip(`an installation on Debian 12${reason === undefined ? '' : ` (${reason})`}`, () => {
  let image: Image;
  let folder: string | undefined;
  let delivery: Delivery;
  let machine: Machine | undefined;
  let before: Inventory;

  interface Inventory {
    readonly files: readonly string[];
    readonly units: readonly string[];
    readonly packages: readonly string[];
  }

  const here = (): Machine => {
    if (machine === undefined) throw new Error('there is no machine: it has not come up');
    return machine;
  };
  const ok = (script: string): Promise<string> => here().ok(script);
  const list = async (script: string): Promise<string[]> =>
    (await ok(script)).split('\n').filter((line) => line !== '');
  const takeInventory = async (): Promise<Inventory> => ({
    files: await list(LIST_FILES),
    units: await list(LIST_UNITS),
    packages: await list(LIST_PACKAGES),
  });
  const readLongPid = async (): Promise<string> => (await ok(`pgrep -fx '${LONG}'`)).trim();
  /** Its placement is what the command waits for, not its start. @returns its pid */
  const startLong = async (): Promise<string> => {
    await ok(`kaon run --detach --name long -- ${LONG}`);
    return (await here().until(`pgrep -fx '${LONG}'`)).trim();
  };
  /** Also that the agent works again, whatever it was that has ended before it: a new command comes back from it. */
  const expectLongGoesOn = async (pid: string): Promise<void> => {
    expect(await ok('kaon run -- echo back')).toBe('back\n');
    expect(await readLongPid()).toBe(pid);
    expect(await ok('kaon tasks')).toMatch(/^long\.\S+ .* running /m);
  };

  beforeAll(() => {
    image = provideImage();
  });

  afterAll(async () => {
    await machine?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  test('the machine is one for Kaon: systemd as process 1, cgroup v2 with its controllers', async () => {
    folder = makeWorkFolder();
    delivery = await makeDelivery(folder);
    machine = await boot(image, folder, delivery.path);
    await ok('mkdir /srv/delivery && tar -C /srv/delivery -xf /dev/vdb');
    expect(await ok('cat /proc/1/comm')).toBe('systemd\n');
    expect(await ok('stat -fc %T /sys/fs/cgroup')).toBe('cgroup2fs\n');
    const controllers = (await ok('cat /sys/fs/cgroup/cgroup.controllers')).split(/\s/);
    expect(controllers).toEqual(expect.arrayContaining(['cpu', 'memory', 'pids']));
    expect(await ok('systemctl is-system-running --wait')).toBe('running\n');
    before = await takeInventory();
  });

  test('install.sh says what it will do and does it, without a network; all that it has started runs', async () => {
    const said = await ok(`${INSTALL} --from /srv/delivery/kaon.tgz`);
    expect(said).toContain('to do:');
    expect(said).toContain('package redis-server');
    expect(said).toContain(`done: Kaon ${delivery.versions.current} is installed`);
    expect(await ok('kaon --version')).toBe(`${delivery.versions.current}\n`);
    const states = await list(`systemctl is-active redis-server ${DAEMONS}`);
    expect(states).toEqual(['active', 'active', 'active']);
  });

  test('a second run finds nothing to do', async () => {
    const said = await ok(`${INSTALL} --from /srv/delivery/kaon.tgz`);
    expect(said).toContain('nothing to do: it is installed as it should be');
  });

  test('without a token nobody is listened to; with one, the cluster has this node', async () => {
    const refused = await here().run('env -u KAON_TOKEN_FILE kaon run -- true');
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(/token/);
    const keyFile = '/etc/kaon/credentials/master/cluster-key';
    // The shell makes the file before `kaon` looks for a token there.
    await ok(
      `env -u KAON_TOKEN_FILE kaon token create me --kind admin --cluster-key-file ${keyFile} >/srv/token`,
    );
    expect(await here().until(`kaon status | grep '1 active'`)).toMatch(/^agents +1 active$/m);
    expect(await ok('kaon agents --json')).toMatch(/"cgroup": *"v2"/);
  });

  test('systemctl status says what the daemons do', async () => {
    // A watchdog that fires on a starved machine is a restart, and none of what is looked for here.
    // The master takes a moment to know that no task runs, and a daemon to say what it does.
    const status = await here().until(`
      said=$(systemctl status --no-pager --lines 0 ${DAEMONS}) && printf '%s\\n' "$said" &&
      printf '%s' "$said" | grep -q 'Status: "leads, ' &&
      printf '%s' "$said" | grep -q 'Status: "no tasks run"'`);
    expect(status).toMatch(/kaon-master\.service[^]*active \(running\)[^]*Status: "leads, /);
    expect(status).toMatch(/kaon-agent\.service[^]*active \(running\)[^]*Status: "no tasks run"/);
  });

  test('a command has the limits that it was given, from the kernel, and a user without rights', async () => {
    const seen = await list(
      `kaon run --mem 64M --cpus 0.5 -- sh -c 'cd "${OWN_SLICE}" && cat memory.max cpu.max; id -un'`,
    );
    expect(seen).toEqual([String(64 * 2 ** 20), '50000 100000', 'kaon-task']);
  });

  test('both streams and the exit code of a command come back as they are', async () => {
    const ended = await here().run(`kaon run -- sh -c 'echo out; echo err >&2; exit 7'`);
    const seen = { ...ended, stderr: withoutWaiting(ended.stderr) };
    expect(seen).toEqual({ code: 7, stdout: 'out\n', stderr: 'err\n' });
  });

  test('who takes more memory than it has is ended, and its certificate says by whom and how much', async () => {
    const ended = await here().run(
      `kaon run --name big --mem 64M -- ${NODE} -e 'Buffer.alloc(200 * 2 ** 20, 1)'`,
    );
    expect(ended.code).toBe(137);
    expect(ended.stderr).toMatch(
      /^kaon: task big\.\S+ TASK_FAILED: killed by the kernel: memory limit 64M, peak 6[34]M$/m,
    );
  });

  test('a BullMQ job becomes a task with its limits, and what it printed is its return value', async () => {
    await ok(`sed -i '1i queue = ["reports"]' /etc/kaon/bullmq.toml`);
    await ok('systemctl enable --now kaon-bullmq');
    const command = `cat "${OWN_SLICE}/memory.max"`;
    const data = JSON.stringify({ command, mem: '96M' });
    const said = await ok(`${NODE} /srv/delivery/producer.mjs '${data}'`);
    expect(said).toMatch(/^returned \{/);
    expect(JSON.parse(said.slice('returned '.length))).toMatchObject({
      exitCode: 0,
      stdout: `${String(96 * 2 ** 20)}\n`,
      node: 'kaon-vm',
    });
  });

  test('a task goes on when its agent is restarted, and when it is killed', async () => {
    const pid = await startLong();
    await ok('systemctl restart kaon-agent');
    await expectLongGoesOn(pid);
    await ok('systemctl kill --signal KILL --kill-whom main kaon-agent');
    await expectLongGoesOn(pid);
  });

  test('a task goes on over an upgrade of everything', async () => {
    const pid = await readLongPid();
    const said = await ok(`${INSTALL} --from /srv/delivery/kaon-next.tgz`);
    expect(said).toContain(`done: Kaon ${delivery.versions.next} is installed`);
    expect(await ok('kaon --version')).toBe(`${delivery.versions.next}\n`);
    const states = await list(`systemctl is-active redis-server ${DAEMONS} kaon-bullmq`);
    expect(states).toEqual(['active', 'active', 'active', 'active']);
    await expectLongGoesOn(pid);
  });

  test('a reboot ends a task, and its agent says so; everything comes back by itself', async () => {
    const bootId = here().bootId();
    await here().reboot();
    expect(here().bootId()).not.toBe(bootId);
    const ended = await here().until(`kaon tasks --all | grep '^long.* the node was rebooted'`);
    expect(ended).toMatch(/ lost .* the node was rebooted while the task was on it/);
    expect(await ok('kaon run -- echo back')).toBe('back\n');
  });

  test('systemctl stop kaon.slice ends all tasks', async () => {
    await startLong();
    await ok('systemctl stop kaon.slice');
    expect(await here().run(`pgrep -fx '${LONG}'`)).toMatchObject({ code: 1, stdout: '' });
    expect(await here().until(`kaon tasks --all | grep '^long.* failed .*SIGTERM'`)).toMatch(
      /^long\./,
    );
  });

  test('no daemon has had an error of its own', async () => {
    const tags = ['master', 'agent', 'bullmq'].map((name) => `-t kaon-${name}`).join(' ');
    expect(await ok(`journalctl --quiet --priority err --output cat ${tags}`)).toBe('');
  });

  test('install.sh --uninstall --purge leaves the machine as it was', async () => {
    await startLong();
    const said = await ok('sh /srv/delivery/install.sh --uninstall --purge --yes');
    expect(said).toMatch(/stop +1 task of this node/);
    expect(said).toContain('done: Kaon is removed');
    expect(await takeInventory()).toEqual(before);
    const left = `pgrep -a -f 'kaon|redis|${LONG}' | grep -v 'pgrep\\|vm-guest'; ls -d /run/*kaon* /sys/fs/cgroup/kaon*`;
    expect((await here().run(left)).stdout).toBe('');
    expect(await list(`systemctl list-units --all --no-legend --plain 'kaon*' 'redis*'`)).toEqual(
      [],
    );
  });
});
