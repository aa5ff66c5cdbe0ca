/**
 * Cgroups of single tasks inside of one unit: what every `Systemd` promises, and what a real kernel and systemd make of it.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { chmodSync, closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { codeOf } from '../../protocol/errors.ts';
import { createFakeSystemd } from '../../systemd/fake.ts';
import { taskSliceName } from '../../systemd/names.ts';
import type { CgroupUse, LiveLimits, Systemd } from '../../systemd/port.ts';
import { bedReason } from '../beds/available.ts';
import { startSystemdBed, type SystemdBed } from '../beds/private-systemd.ts';
import { unitSpec } from '../beds/unit-specs.ts';

const TEST_TIMEOUT_MS = 120_000;
const SLICE = 'kaon-groups.slice';
const BYTES_PER_MIB = 1_048_576;
const LIMITS = { cpuMillis: 200, memoryMib: 32, tasksMax: 32 };
const UNIT_LIMITS: LiveLimits = { cpuMillis: 1_000, memoryMib: 256 };

async function until<T>(look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function describeContract(
  title: string,
  reason: string | undefined,
  start: () => Promise<{ readonly systemd: Systemd; stop(): Promise<void> }>,
): void {
  const suite = reason === undefined ? describe : describe.skip;
  suite(reason === undefined ? title : `${title} (skipped: ${reason})`, () => {
    let stop: () => Promise<void>;
    let systemd: Systemd;
    const unit = unitSpec('holds-groups', ['sleep', '1000'], { slice: SLICE, delegate: true });

    beforeAll(async () => {
      ({ systemd, stop } = await start());
      expect(await systemd.startUnit(unit)).toEqual({ ok: true });
    }, TEST_TIMEOUT_MS);
    afterAll(async () => {
      await systemd.releaseUnit(unit.name);
      await stop();
    }, TEST_TIMEOUT_MS);

    test('a new group has a file to join it with, and has used nothing', async () => {
      const { procs } = await systemd.openTaskGroup(SLICE, unit.name, '1.2.3', LIMITS);
      expect(procs.map((file) => file.split('/').at(-1))).toEqual(procs.map(() => 'cgroup.procs'));
      expect(procs.length).toBeGreaterThan(0);
      expect(systemd.readTaskGroup(SLICE, unit.name, '1.2.3')).toMatchObject({ oomKills: 0 });
      await systemd.closeTaskGroup(SLICE, unit.name, '1.2.3');
    });

    test('a group that is closed can be closed again, and is not there', async () => {
      await systemd.openTaskGroup(SLICE, unit.name, 'closed', LIMITS);
      await systemd.closeTaskGroup(SLICE, unit.name, 'closed');
      await systemd.closeTaskGroup(SLICE, unit.name, 'closed');
      expect(systemd.readTaskGroup(SLICE, unit.name, 'closed')).toBeUndefined();
      const result = await systemd.resizeTaskGroup(SLICE, unit.name, 'closed', LIMITS);
      expect(result).toMatchObject({ ok: false });
    });

    test('a group that is opened twice is one group', async () => {
      const first = await systemd.openTaskGroup(SLICE, unit.name, 'twice', LIMITS);
      const second = await systemd.openTaskGroup(SLICE, unit.name, 'twice', LIMITS);
      expect(second).toEqual(first);
      await systemd.closeTaskGroup(SLICE, unit.name, 'twice');
    });

    test('a group grows and shrinks', async () => {
      await systemd.openTaskGroup(SLICE, unit.name, 'sizes', LIMITS);
      const sizes: unknown[] = [];
      for (const memoryMib of [64, 16]) {
        const limits = { cpuMillis: 100, memoryMib };
        sizes.push(await systemd.resizeTaskGroup(SLICE, unit.name, 'sizes', limits));
      }
      expect(sizes).toMatchObject([
        { ok: true, memoryMib: 64 },
        { ok: true, memoryMib: 16 },
      ]);
      await systemd.closeTaskGroup(SLICE, unit.name, 'sizes');
    });

    test('a unit that is not there has no groups', async () => {
      await expect(
        systemd.openTaskGroup(SLICE, 'kaon-no-such.service', 'a', LIMITS),
      ).rejects.toMatchObject({ code: 'task-cgroup-unavailable' });
      expect(systemd.readTaskGroup(SLICE, 'kaon-no-such.service', 'a')).toBeUndefined();
      await systemd.closeTaskGroup(SLICE, 'kaon-no-such.service', 'a');
    });
  });
}

const reason = bedReason('systemd');
describeContract('task groups in the fake', undefined, () => {
  const systemd = createFakeSystemd();
  return Promise.resolve({ systemd, stop: () => systemd.close() });
});
describeContract('task groups in systemd', reason, () => startSystemdBed());

const suite = reason === undefined ? describe : describe.skip;
suite(reason === undefined ? 'a unit with tasks' : `a unit with tasks (skipped: ${reason})`, () => {
  let bed: SystemdBed;
  let serial = 0;
  let unit: string;
  let commands: string;

  /** Its main process runs each line that it is sent, as an executor would. */
  const startUnit = async (user?: string): Promise<void> => {
    serial += 1;
    commands = join(bed.directory, `commands-${serial}`);
    execFileSync('mkfifo', ['-m', '666', commands]);
    const loop = `exec 3<>${commands}; while read -r line <&3; do sh -c "$line" & done`;
    const spec = unitSpec(`tasks-${serial}`, ['bash', '-c', loop], {
      slice: SLICE,
      delegate: true,
      ...UNIT_LIMITS,
      ...(user !== undefined && { user }),
    });
    expect(await bed.systemd.startUnit(spec)).toEqual({ ok: true });
    unit = spec.name;
  };
  const send = (line: string): Promise<true> =>
    until(() => {
      let file: number;
      try {
        file = openSync(commands, constants.O_WRONLY | constants.O_NONBLOCK);
      } catch (error) {
        if (codeOf(error) === 'ENXIO') return undefined; // It does not listen yet.
        throw error;
      }
      writeSync(file, `${line}\n`);
      closeSync(file);
      return true;
    });
  const read = (group: string): CgroupUse | undefined =>
    bed.systemd.readTaskGroup(SLICE, unit, group);
  /** Opens a group, and runs a command in it. */
  const runTask = async (group: string, command: string, more = {}): Promise<void> => {
    const options = { ...LIMITS, ...more };
    const { procs } = await bed.systemd.openTaskGroup(SLICE, unit, group, options);
    const joins = procs.map((file) => `echo 0 > ${file.slice(bed.inside.root.length)}`);
    await send([...joins, command].join(' && '));
  };
  /** Process ids of commands that have these words, as numbered inside. */
  const find = (words: string): string[] =>
    bed
      .run('ps', '-eo', 'pid=,args=')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line.endsWith(words) && !line.includes('sh -c'))
      .map((line) => line.split(' ')[0] ?? '');
  const untilRunning = (words: string): Promise<string> =>
    until(() => find(words)[0]).then((pid) => pid);
  /** Cgroups of a process that are of this task, by hierarchy. */
  const memberships = (pid: string, group: string): string[] =>
    readFileSync(join(bed.inside.root, 'proc', pid, 'cgroup'), 'utf8')
      .split('\n')
      .filter((line) => line.endsWith(`/task-${group}`))
      .map((line) => line.split(':')[1] ?? '');
  const cgroupsLeft = (): string =>
    bed.run('find', '/sys/fs/cgroup', '-name', `*${taskSliceName(SLICE, unit)}*`);

  beforeAll(async () => {
    bed = await startSystemdBed();
    // For a unit with a user of its own.
    chmodSync(bed.directory, 0o711);
  }, TEST_TIMEOUT_MS);
  afterAll(() => bed.stop(), TEST_TIMEOUT_MS);
  beforeEach(() => startUnit(), TEST_TIMEOUT_MS);
  afterEach(() => bed.systemd.releaseUnit(unit), TEST_TIMEOUT_MS);

  test(
    'loses only the one that wants more memory than its limit',
    async () => {
      await runTask('modest', 'exec sleep 7001');
      await runTask('greedy', `exec perl -e '$x = "x" x 300_000_000; sleep 100'`);
      const greedy = await until(() => {
        const use = read('greedy');
        return (use?.oomKills ?? 0) > 0 ? use : undefined;
      });
      expect(greedy.memoryPeakBytes).toBe(32 * BYTES_PER_MIB);
      expect(read('modest')).toMatchObject({ oomKills: 0 });
      await untilRunning('sleep 7001');
      expect(bed.systemd.countOomKills(SLICE, unit)).toBe(0);
      expect(await bed.systemd.readUnit(unit)).toMatchObject({ subState: 'running' });
      await bed.systemd.closeTaskGroup(SLICE, unit, 'greedy');
      expect(find('sleep 7001')).toHaveLength(1);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'holds each to its CPU limit, and changes it',
    async () => {
      await runTask('busy', 'exec sh -c "while :; do :; done"', { cpuMillis: 50 });
      await until(() => ((read('busy')?.throttledUsec ?? 0) > 100_000 ? true : undefined));
      const result = await bed.systemd.resizeTaskGroup(SLICE, unit, 'busy', {
        cpuMillis: 1_000,
        memoryMib: 32,
      });
      expect(result).toEqual({ ok: true, memoryMib: 32 });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'holds each to its number of processes',
    async () => {
      const forks = 'i=0; while [ $i -lt 40 ]; do sleep 7002 & i=$((i+1)); done; wait';
      await runTask('forks', forks, { tasksMax: 5 });
      await until(() => (find('sleep 7002').length >= 4 ? true : undefined));
      expect(find('sleep 7002').length).toBeLessThan(6);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'keeps them apart through reloads of systemd, changes of its limits and starts of other units',
    async () => {
      await runTask('stays', 'exec sleep 7003');
      const pid = await untilRunning('sleep 7003');
      const before = memberships(pid, 'stays');
      expect(before.length).toBeGreaterThan(0);
      bed.run('systemctl', 'daemon-reload');
      expect(memberships(pid, 'stays')).toEqual(before);
      bed.run('systemctl', 'daemon-reexec');
      await bed.systemd.resizeUnit(SLICE, unit, { cpuMillis: 1_500, memoryMib: 300 });
      expect(memberships(pid, 'stays')).toEqual(before);
      const other = unitSpec('other', ['sleep', '1000'], { slice: SLICE });
      await bed.systemd.startUnit(other);
      await bed.systemd.releaseUnit(other.name);
      bed.run('systemctl', 'daemon-reload');
      expect(memberships(pid, 'stays')).toEqual(before);
      expect(read('stays')?.memoryPeakBytes).toBeGreaterThan(0);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'ends all that is left of one, also what has left its session and what forks on and on',
    async () => {
      await runTask('ends', '(setsid sleep 7004 &) ; while :; do sleep 7004 & sleep 0.01; done');
      await runTask('goes-on', 'exec sleep 7005');
      await untilRunning('sleep 7005');
      await until(() => (find('sleep 7004').length > 3 ? true : undefined));
      await bed.systemd.closeTaskGroup(SLICE, unit, 'ends');
      expect(find('sleep 7004')).toEqual([]);
      expect(find('sleep 7005')).toHaveLength(1);
      expect(read('ends')).toBeUndefined();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'leaves no cgroup and no process of any task when it is released',
    async () => {
      await runTask('one', 'exec sleep 7006');
      await runTask('two', 'setsid sleep 7006');
      await runTask('empty', 'true');
      await until(() => (find('sleep 7006').length === 2 ? true : undefined));
      expect(cgroupsLeft()).not.toBe('');
      await bed.systemd.releaseUnit(unit);
      expect(cgroupsLeft()).toBe('');
      expect(find('sleep 7006')).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'has tasks that its own user may put into their groups, and nobody else may change',
    async () => {
      await bed.systemd.releaseUnit(unit);
      await startUnit('nobody');
      await runTask('own', 'exec sleep 7007', { uid: 65_534, gid: 65_534 });
      const pid = await untilRunning('sleep 7007');
      expect(memberships(pid, 'own').length).toBeGreaterThan(0);
      const files = bed.run('find', '/sys/fs/cgroup', '-path', '*task-own/*', '-user', 'nobody');
      const names = files
        .trim()
        .split('\n')
        .map((file) => file.split('/').at(-1));
      expect(new Set(names)).toEqual(new Set(['cgroup.procs']));
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'has processes that its own user may take into a group and back to where they were',
    async () => {
      await bed.systemd.releaseUnit(unit);
      await startUnit('nobody');
      const options = { ...LIMITS, uid: 65_534, gid: 65_534 };
      const { procs } = await bed.systemd.openTaskGroup(SLICE, unit, 'visited', options);
      const inside = procs.map((file) => file.slice(bed.inside.root.length));
      const version = (await bed.systemd.describe()).cgroupVersion;
      /** On v1 the service is in its slice itself where it has no directory. */
      const leaveTo = (slice: string): string =>
        `if [ -d ${slice}/${unit} ]; then echo 0 > ${slice}/${unit}/cgroup.procs; else echo 0 > ${slice}/cgroup.procs; fi`;
      const enter = inside.map((file) => `echo 0 > ${file}`);
      const leave = inside.map((file) =>
        version === 'v2'
          ? `echo 0 > ${file.replace('task-visited', 'executor')}`
          : leaveTo(dirname(dirname(file))),
      );
      await send([...enter, ...leave, 'exec sleep 7009'].join(' && '));
      const pid = await untilRunning('sleep 7009');
      expect(memberships(pid, 'visited')).toEqual([]);
      expect(read('visited')?.memoryPeakBytes).toBeGreaterThan(0);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'keeps the memory limit of one above what it uses',
    async () => {
      await runTask('holds', `exec perl -e '$x = "x" x 20_000_000; sleep 7008'`, { memoryMib: 64 });
      await until(() => ((read('holds')?.memoryPeakBytes ?? 0) > 40_000_000 ? true : undefined));
      const limits = { cpuMillis: 200, memoryMib: 8 };
      const result = await bed.systemd.resizeTaskGroup(SLICE, unit, 'holds', limits);
      expect(result).toMatchObject({ ok: true, inUseBytes: expect.any(Number) });
      expect((result as { memoryMib: number }).memoryMib).toBeGreaterThan(38);
      expect(read('holds')).toMatchObject({ oomKills: 0 });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'on cgroup v1 cannot have less CPU than one of them, and says so',
    async () => {
      if ((await bed.systemd.describe()).cgroupVersion === 'v2') return;
      const { openTaskGroup, resizeUnit } = bed.systemd;
      await expect(
        openTaskGroup(SLICE, unit, 'big', { ...LIMITS, cpuMillis: 1_001 }),
      ).rejects.toMatchObject({
        code: 'task-cgroup-unavailable',
        message: expect.stringContaining('CPU limit is above that of'),
      });
      expect(read('big')).toBeUndefined();
      await openTaskGroup(SLICE, unit, 'half', { ...LIMITS, cpuMillis: 500 });
      const lowered = await resizeUnit(SLICE, unit, { cpuMillis: 499, memoryMib: 256 });
      expect(lowered).toMatchObject({ ok: false });
      const { quotaUsec } = bed.limitsOf(SLICE, unit);
      expect(quotaUsec).toBe(100_000);
    },
    TEST_TIMEOUT_MS,
  );

  test('refuses a name that could lead out of it', async () => {
    await expect(bed.systemd.openTaskGroup(SLICE, unit, '../../up', LIMITS)).rejects.toMatchObject({
      code: 'task-cgroup-unavailable',
    });
  });
});
