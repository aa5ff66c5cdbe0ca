/**
 * `kaon agent --user` where it is meant to be: Debian 12 with cgroup v2, an ordinary user whose systemd has cpu, memory and pids
 * delegated. What test/system/user-agent.test.ts cannot show on a machine with cgroup v1: that limits are in force.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { machineReason, makeWorkFolder, provideImage } from './image.ts';
import { type Machine, boot } from './machine.ts';

// The machine is emulated; where the cache is empty, it is made first.
jest.setTimeout(30 * 60_000);

const USER_UNIT = 'systemd/units/user/kaon-agent.service';
const UID = 1000;
const REDIS = 'unix:///run/bed/redis.sock';
/** The image names a token for test/vm/vm.test.ts; this cluster is an open one. */
const KAON = `env -u KAON_TOKEN_FILE KAON_REDIS=${REDIS} /opt/kaon/node /opt/kaon/dist/kaon.js`;
/** What a login of the user sets, in front of a command. */
const AS_USER = [
  `setpriv --reuid ${UID} --regid ${UID} --init-groups env -i HOME=/home/ada USER=ada PATH=/usr/bin:/bin`,
  `XDG_RUNTIME_DIR=/run/user/${UID} DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/${UID}/bus`,
].join(' ');
const DROP_IN = [
  '[Service]',
  // The machine is emulated.
  'TimeoutStartSec=400',
  `Environment=KAON_REDIS=${REDIS}`,
  'ExecStart=',
  'ExecStart=/opt/kaon/node /opt/kaon/dist/kaon.js agent --user',
].join('\\n');
/** The cgroup of the task that says it, and of the slice that has its limits. */
const LIMITS = `cd "/sys/fs/cgroup$(cut -d: -f3- /proc/self/cgroup)/.." && cat memory.max cpu.max pids.max`;

const reason = machineReason();
const describeOrSkip = reason === undefined ? describe : describe.skip;

describeOrSkip(
  `an agent of a user on cgroup v2${reason === undefined ? '' : ` (${reason})`}`,
  () => {
    let folder: string;
    let machine: Machine;

    const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');
    /** What its journal says is what a failure is about. */
    const untilActive = () =>
      machine.until(
        `${KAON} agents --json | grep -q '"state": *"active"' || { journalctl --no-pager -n 30 _UID=${UID}; exit 1; }`,
      );

    beforeAll(async () => {
      const image = provideImage();
      folder = makeWorkFolder();
      const files = join(folder, 'files');
      mkdirSync(files);
      cpSync(resolve(process.env['KAON_DIST'] ?? 'dist'), join(files, 'dist'), { recursive: true });
      cpSync(process.execPath, join(files, 'node'), { dereference: true });
      cpSync(USER_UNIT, join(files, 'kaon-agent.service'));
      const tar = join(folder, 'files.tar');
      execFileSync('tar', ['-C', files, '-cf', tar, '.']);
      machine = await boot(image, folder, tar);
      await machine.ok(`
      set -e
      mkdir -p /opt/kaon /run/bed && tar -C /opt/kaon --no-same-owner -xf /dev/vdb && chmod 755 /opt/kaon
      apt-get -qq update && apt-get -qq -y install redis-server >/dev/null && systemctl stop redis-server
      redis-server --port 0 --unixsocket /run/bed/redis.sock --unixsocketperm 777 --save '' --daemonize yes
      systemd-run --quiet --unit=bed-master --setenv=KAON_REDIS=${REDIS} /opt/kaon/node /opt/kaon/dist/kaon.js master
      useradd --create-home --uid ${UID} ada
      units=/home/ada/.config/systemd/user
      mkdir -p $units/kaon-agent.service.d && cp /opt/kaon/kaon-agent.service $units
      printf '${DROP_IN}\\n' >$units/kaon-agent.service.d/here.conf
      chown -R ada:ada /home/ada
      loginctl enable-linger ada`);
      await machine.until(`${AS_USER} systemctl --user is-active dbus.socket`);
      await machine.ok(`${AS_USER} systemctl --user enable --now --no-block kaon-agent`);
      await untilActive();
    });

    afterAll(async () => {
      await machine?.stop();
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    });

    test('it says that it holds all limits', async () => {
      expect(await machine.ok(`${KAON} agents --wide`)).toContain(
        'mode=user user=ada limits=cpu,memory,pids',
      );
    });

    test('a command runs as the user, with the limits that it was given', async () => {
      const command = `id -un; ${LIMITS}`;
      const said = await machine.ok(`${KAON} run --mem 64M --cpus 0.5 -- sh -c '${command}'`);
      expect(lines(said)).toEqual(['ada', String(64 * 2 ** 20), '50000 100000', '4096']);
    });

    test('a command that needs more memory is ended by the kernel, and its certificate says so', async () => {
      const { code } = await machine.run(`${KAON} run --mem 48M -- sh -c 'exec tail /dev/zero'`);
      expect(code).toBe(137);
      const [task] = JSON.parse(await machine.ok(`${KAON} tasks --all --limit 1 --json`)) as {
        status: { reason: string; message: string; certificate: Record<string, number> };
      }[];
      expect(task?.status.reason).toBe('REASON_CONTAINER_LIMITATION_MEMORY');
      expect(task?.status.message).toContain('killed by the kernel: memory limit 48M, peak 48M');
      expect(task?.status.certificate).toMatchObject({
        signal: 9,
        memoryLimitBytes: 48 * 2 ** 20,
        memoryPeakBytes: 48 * 2 ** 20,
      });
      expect(task?.status.certificate['oomKills']).toBeGreaterThan(0);
    });

    test('a task has other limits while it runs, and outlives a restart of the agent', async () => {
      const script = 'trap "exit 4" TERM; echo up; while :; do sleep 0.5; done';
      const id = (
        await machine.ok(
          `${KAON} run --detach --kill-grace 60s --cpus 0.2 --mem 64M -- sh -c '${script}'`,
        )
      ).trim();
      // Before that its shell would end by SIGTERM.
      await machine.until(`${KAON} logs ${id} | grep -qx up`);
      await machine.ok(`${KAON} task resize ${id} --cpus 0.4 --mem 128M`);
      const slice = `$(find /sys/fs/cgroup/user.slice -type d -name 'kaon-*${id.replace('.', '?')}*.slice')`;
      expect(lines(await machine.ok(`cat "${slice}/memory.max" "${slice}/cpu.max"`))).toEqual([
        String(128 * 2 ** 20),
        '40000 100000',
      ]);
      await machine.ok(`${AS_USER} systemctl --user restart kaon-agent`);
      await machine.ok(`${KAON} kill ${id}`);
      await machine.until(`${KAON} task ${id} | grep -q 'exited with code 4'`);
    });

    test('it offers no more than the slice of its user may have', async () => {
      await machine.ok(
        `systemctl set-property --runtime user-${UID}.slice MemoryMax=900M CPUQuota=150%`,
      );
      await machine.ok(`${AS_USER} systemctl --user restart kaon-agent`);
      await machine.until(`${KAON} agents --json | grep -q '"memMib": *675'`);
      expect(await machine.ok(`${KAON} agents --json`)).toMatch(/"cpuMillis": *1500/);
      await machine.ok(`systemctl set-property user-${UID}.slice MemoryMax=infinity CPUQuota=`);
    });

    test('without the CPU controller it goes on, and says what it does not hold', async () => {
      await machine.ok(`
      mkdir -p /etc/systemd/system/user@.service.d
      printf '[Service]\\nDelegate=\\nDelegate=memory pids\\n' >/etc/systemd/system/user@.service.d/d.conf
      systemctl daemon-reload && systemctl restart user@${UID}`);
      await machine.until(`${KAON} agents --wide | grep -q 'limits=memory,pids'`);
      const said = await machine.ok(`${KAON} run --mem 64M -- sh -c '${LIMITS} 2>/dev/null; true'`);
      expect(lines(said)).toEqual([String(64 * 2 ** 20), '4096']);
    });
  },
);
