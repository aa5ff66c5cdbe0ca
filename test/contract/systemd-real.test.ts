/**
 * What only a real systemd can show: limits in force, the environment as the command sees it, restarts of systemd and of
 * the bus in the middle, and that nothing reaches the host.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { wasFenced } from '../../agent/core/fences.ts';
import { codeOf } from '../../protocol/errors.ts';
import { createSystemd } from '../../systemd/manager.ts';
import type { SystemdConnection, UnitStatus } from '../../systemd/port.ts';
import type { UnitSpec } from '../../systemd/properties.ts';
import { bedReason } from '../beds/available.ts';
import { startSystemdBed, type SystemdBed } from '../beds/private-systemd.ts';
import { unitSpec } from '../beds/unit-specs.ts';

const TEST_TIMEOUT_MS = 120_000;
const reason = bedReason('systemd');
const suite = reason === undefined ? describe : describe.skip;

/** The cgroups that a systemd makes, wherever on the machine they are not inside of a private systemd's own. */
function hostCgroups(): string {
  const names = ['init.scope', '-o', '-name', 'system.slice', '-o', '-name', 'kaon*.slice'];
  const argv = [
    '/sys/fs/cgroup',
    // Others' cgroups come and go meanwhile.
    '-ignore_readdir_race',
    '-path',
    '*/kaon-dev-*',
    '-prune',
    '-o',
    '(',
    '-name',
    ...names,
    ')',
    '-print',
  ];
  return execFileSync('find', argv, { encoding: 'utf8' });
}

async function until<T>(look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

suite(reason === undefined ? 'a real systemd' : `a real systemd (skipped: ${reason})`, () => {
  const before = reason === undefined ? hostCgroups() : '';
  const states: SystemdConnection[] = [];
  let bed: SystemdBed;

  const ended = (name: string): Promise<UnitStatus> =>
    until(async () => {
      const status = await bed.systemd.readUnit(name);
      return status?.exitKind === 'none' ? undefined : status;
    });
  const nextUp = async (disturb: () => void): Promise<void> => {
    states.length = 0;
    disturb();
    await until(() => (states.includes('up') ? true : undefined));
  };

  /** Opening it for output waits for its reader. */
  const pipeThatNobodyReads = (): string => {
    const path = join(mkdtempSync(join(bed.directory, 'pipe-')), 'pipe');
    execFileSync('mkfifo', [path]);
    return path;
  };

  beforeAll(async () => {
    bed = await startSystemdBed();
    bed.systemd.onConnection((state) => states.push(state));
  }, TEST_TIMEOUT_MS);
  afterAll(async () => {
    await bed.stop();
    expect(hostCgroups()).toBe(before);
  }, TEST_TIMEOUT_MS);

  test(
    'a start that is cut off by the end of this side is not said to have failed: it may have been made',
    async () => {
      const { busAddress, cgroupRoot } = bed.inside;
      const leaving = createSystemd({ busAddress, cgroupRoot });
      await leaving.startUnit(unitSpec('before', ['sleep', '1000']));
      const started = leaving.startUnit(unitSpec('cut-off', ['sleep', '1000']));
      // Refused or done would be an answer, and nobody has one.
      const outcome = started.catch((error: unknown) => codeOf(error));
      // Now it is on its way to systemd, which takes milliseconds.
      await new Promise(setImmediate);
      await leaving.close();
      expect(await outcome).toBe('systemd-unreachable');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a start that hangs before the command is executed ends as one that failed, in words, and leaves nothing',
    async () => {
      const pipe = pipeThatNobodyReads();
      const unit = unitSpec('hangs', ['true'], { stdoutPath: pipe, startTimeoutMs: 500 });
      expect(await bed.systemd.startUnit(unit)).toMatchObject({
        ok: false,
        kind: 'job',
        message: 'its command had not begun in the time that a start may take',
        status: { result: 'start-timeout' },
      });
      expect(await bed.systemd.listUnits(unit.name)).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a start that hangs keeps others from starting for a moment only, and can be released',
    async () => {
      const { busAddress, cgroupRoot } = bed.inside;
      const narrow = { maxStartsInFlight: 1, slotHeldMs: 200 };
      const own = createSystemd({ busAddress, cgroupRoot, ...narrow });
      const stdoutPath = pipeThatNobodyReads();
      const hanging = own.startUnit(unitSpec('stuck', ['true'], { stdoutPath }));
      expect(await own.startUnit(unitSpec('after-it', ['true']))).toEqual({ ok: true });
      await own.killUnit('kaon-stuck.service', 9);
      expect(await hanging).toMatchObject({ ok: true });
      for (const stem of ['stuck', 'after-it']) await own.releaseUnit(`kaon-${stem}.service`);
      await own.close();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a limit of time that runs out is no late start',
    async () => {
      const unit = unitSpec('limited', ['sleep', '1000'], { runtimeMaxMs: 200 });
      expect(await bed.systemd.startUnit(unit)).toEqual({ ok: true });
      expect((await ended(unit.name)).result).toBe('timeout');
      await bed.systemd.releaseUnit(unit.name);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'makes nothing among the cgroups of the host',
    async () => {
      await bed.systemd.startUnit(unitSpec('contained', ['sleep', '1000']));
      expect(hostCgroups()).toBe(before);
      await bed.systemd.releaseUnit('kaon-contained.service');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'puts the limits in force',
    async () => {
      const unit = unitSpec('limits', ['sleep', '1000'], {
        cpuMillis: 250,
        memoryMib: 48,
        tasksMax: 9,
      });
      await bed.systemd.startUnit(unit);
      const group = (await bed.systemd.readUnit(unit.name))?.controlGroup ?? '';
      const read = (controller: string, file: string): string =>
        readFileSync(join(bed.inside.cgroupRoot, controller, group, file), 'utf8').trim();
      if ((await bed.systemd.describe()).cgroupVersion === 'v1') {
        expect(read('cpu', 'cpu.cfs_quota_us')).toBe('25000');
        expect(read('memory', 'memory.limit_in_bytes')).toBe(String(48 * 1_048_576));
        expect(read('pids', 'pids.max')).toBe('9');
      } else {
        expect(read('', 'cpu.max')).toBe('25000 100000');
        expect(read('', 'memory.max')).toBe(String(48 * 1_048_576));
        expect(read('', 'pids.max')).toBe('9');
      }
      await bed.systemd.releaseUnit(unit.name);
      expect(existsSync(join(bed.inside.cgroupRoot, 'memory', group))).toBe(false);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'hands arguments and environment on to the letter',
    async () => {
      const output = join(bed.directory, 'echo.out');
      const words = [
        '$HOME',
        '${HOME}',
        '%n',
        '%%',
        '"quoted" \'too\'',
        '',
        'Grüße 🦊',
        'a\\b',
        'two\nlines',
        ';',
      ];
      const environment = { A: '$HOME %n "q" \\ ', EMPTY: '', WIDE: 'ünï' };
      const script =
        'require("fs").writeFileSync(1, JSON.stringify([process.argv.slice(1), process.env.A, process.env.EMPTY, process.env.WIDE]))';
      const argv = [process.execPath, '-e', script, '--', ...words];
      const unit = unitSpec('echo', argv, {
        environment,
        stdoutPath: output,
        stderrPath: output,
        memoryMib: 256,
      });
      expect(await bed.systemd.startUnit(unit)).toEqual({ ok: true });
      expect(await ended(unit.name)).toMatchObject({ exitStatus: 0 });
      expect(JSON.parse(readFileSync(output, 'utf8'))).toEqual([
        words,
        '$HOME %n "q" \\ ',
        '',
        'ünï',
      ]);
      await bed.systemd.releaseUnit(unit.name);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'appends standard output and error to their files',
    async () => {
      const [stdoutPath, stderrPath] = [join(bed.directory, 'out'), join(bed.directory, 'err')];
      writeFileSync(stdoutPath, 'before\n');
      const unit = unitSpec('append', ['sh', '-c', 'echo out; echo err >&2'], {
        stdoutPath,
        stderrPath,
      });
      await bed.systemd.startUnit(unit);
      await ended(unit.name);
      expect([readFileSync(stdoutPath, 'utf8'), readFileSync(stderrPath, 'utf8')]).toEqual([
        'before\nout\n',
        'err\n',
      ]);
      await bed.systemd.releaseUnit(unit.name);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'accounts an OOM kill of a child that its parent survives, and CPU time, until the release',
    async () => {
      const command =
        'perl -e \'$x = "x" x 300_000_000\'; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; exit 3';
      // On v2 a unit that is not delegated ends as a whole.
      // So little CPU that it is held back even where others leave it little.
      const unit = unitSpec('child-oom', ['sh', '-c', command], { delegate: true, cpuMillis: 100 });
      await bed.systemd.startUnit(unit);
      const status = await ended(unit.name);
      expect(status).toMatchObject({ exitKind: 'exited', exitStatus: 3, oomKills: 1 });
      expect(status.cpuUsec).toBeGreaterThan(10_000);
      expect(status.throttledUsec).toBeGreaterThan(0);
      await bed.systemd.releaseUnit(unit.name);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'ends a unit at its time limit, and its use can still be read',
    async () => {
      const unit = unitSpec('time-limit', ['sleep', '1000'], { runtimeMaxMs: 200 });
      await bed.systemd.startUnit(unit);
      const status = await until(async () => {
        const seen = await bed.systemd.readUnit(unit.name);
        return seen?.activeState === 'failed' ? seen : undefined;
      });
      expect(status).toMatchObject({ result: 'timeout', exitKind: 'killed', exitStatus: 15 });
      expect(status.memoryPeakBytes).toBeGreaterThan(0);
      await bed.systemd.releaseUnit(unit.name);
      expect(await bed.systemd.listUnits('kaon-*time-limit*')).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'release ends background processes',
    async () => {
      const unit = unitSpec('background', ['sh', '-c', 'sleep 4711 & exit 0']);
      await bed.systemd.startUnit(unit);
      await ended(unit.name);
      expect(bed.run('ps', 'ax')).toContain('sleep 4711');
      await bed.systemd.releaseUnit(unit.name);
      expect(bed.run('ps', 'ax')).not.toContain('sleep 4711');
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a NUL in an argument is refused, and the connection goes on',
    async () => {
      expect(await bed.systemd.startUnit(unitSpec('nul', ['echo', 'a\0b']))).toMatchObject({
        ok: false,
        kind: 'refused',
      });
      expect((await bed.systemd.describe()).version).toMatch(/^\d+$/);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'a unit and its limits outlive a reload of systemd',
    async () => {
      const unit = unitSpec('reload', ['sh', '-c', 'x=$$; sleep 0.4; exit 9']);
      await bed.systemd.startUnit(unit);
      await nextUp(() => void bed.run('systemctl', 'daemon-reload'));
      expect(bed.run('systemctl', 'show', '--value', '-p', 'LoadState', unit.name)).toBe(
        'loaded\n',
      );
      const status = await ended(unit.name);
      expect(status).toMatchObject({ exitKind: 'exited', exitStatus: 9 });
      const slice = status.controlGroup.split('/').at(-1) ?? '';
      expect(bed.run('systemctl', 'show', '--value', '-p', 'MemoryMax', slice)).toBe(
        `${64 * 1_048_576}\n`,
      );
      await bed.systemd.releaseUnit(unit.name);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'slices that nothing needs are stopped, those of ended units and those of others are not',
    async () => {
      const { busAddress, cgroupRoot } = bed.inside;
      const ended7 = unitSpec('swept-kept', ['sh', '-c', 'exit 7'], { slice: 'kaon-a:one.slice' });
      const gone = unitSpec('swept-gone', ['true'], { slice: 'kaon-b:one.slice' });
      const other = unitSpec('swept-other', ['true'], { slice: 'kaon-b:two.slice' });
      for (const unit of [ended7, gone, other]) {
        await bed.systemd.startUnit(unit);
        await ended(unit.name);
      }
      await bed.systemd.releaseUnit(gone.name);
      await bed.systemd.releaseUnit(other.name);
      expect(await bed.systemd.listUnits('kaon-b:*.slice')).toHaveLength(2);
      const sweeper = createSystemd({ busAddress, cgroupRoot, sweepMs: 50 });
      sweeper.sweepSlices(['kaon-*:one.slice', 'kaon-*:one-*.slice']);
      await until(async () =>
        (await bed.systemd.listUnits('kaon-b:one*')).length === 0 ? true : undefined,
      );
      await sweeper.close();
      expect(await bed.systemd.readUnit(ended7.name)).toMatchObject({ exitStatus: 7 });
      expect(await bed.systemd.listUnits('kaon-a:one*')).toHaveLength(2);
      expect(await bed.systemd.listUnits('kaon-b:two.slice')).toHaveLength(1);
      await bed.systemd.releaseUnit(ended7.name);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'the end of a unit that somebody stopped can still be read, and its release leaves nothing',
    async () => {
      const unit = unitSpec('stopped', ['sleep', '1000']);
      await bed.systemd.startUnit(unit);
      bed.run('systemctl', 'stop', unit.name);
      bed.run('systemctl', 'daemon-reload');
      const status = await ended(unit.name);
      expect(status).toMatchObject({
        activeState: 'inactive',
        exitKind: 'killed',
        exitStatus: 15,
      });
      expect(status.memoryPeakBytes).toBeGreaterThan(0);
      expect(status.leftActiveAtMs).toBeLessThanOrEqual(status.exitedAtMs);
      await bed.systemd.releaseUnit(unit.name);
      expect(await bed.systemd.listUnits('kaon-*stopped*')).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  describe('a fence', () => {
    const FENCE = 'kaon-fence-t-1000ms';
    const behind = (stem: string, argv: readonly string[], more = {}): UnitSpec =>
      unitSpec(stem, argv, { fence: FENCE, ...more });
    // A timer is not set late, so `armFence` does not wait for a connection.
    beforeEach(async () => {
      await bed.systemd.describe();
    });
    const hasFired = (): Promise<number> =>
      until(async () => (await bed.systemd.readFence(FENCE)).firedAtMs || undefined);
    /** Again if it has fired before it was seen to be set, as on a machine that stands still. */
    const isSetAndSeen = (): Promise<true> =>
      until(async () => {
        await bed.systemd.armFence(FENCE, 1000);
        return (await bed.systemd.readFence(FENCE)).isArmed || undefined;
      });
    /** Also of what the fence is known to have done. */
    const leaveNothing = async (units: readonly UnitSpec[]): Promise<void> => {
      await bed.systemd.removeFence(FENCE);
      for (const unit of units) await bed.systemd.releaseUnit(unit.name);
      await until(
        async () => (await bed.systemd.listUnits('kaon-fence-*')).length === 0 || undefined,
      );
    };
    /** Starts the units in the time of one fence; all anew as long as it fires before `isReady`. */
    const startInTime = async (
      units: readonly UnitSpec[],
      isReady: () => Promise<boolean>,
    ): Promise<void> => {
      for (;;) {
        await bed.systemd.armFence(FENCE, 1000);
        const starts = [];
        for (const unit of units) starts.push(await bed.systemd.startUnit(unit));
        for (;;) {
          const wasReady = await isReady();
          if (!(await bed.systemd.readFence(FENCE)).isArmed) break;
          expect(starts.filter(({ ok }) => !ok)).toEqual([]);
          if (wasReady) return;
        }
        await leaveNothing(units);
      }
    };
    /** Sets the fence again and again. @returns the unit behind it, undefined if once it was not set in time */
    const keepSet = async (unit: UnitSpec): Promise<UnitStatus | undefined> => {
      let longestMs = 0;
      let askedMs = performance.now();
      const noteSince = (nextMs: number): void => {
        longestMs = Math.max(longestMs, performance.now() - askedMs);
        askedMs = nextMs;
      };
      await bed.systemd.armFence(FENCE, 1000);
      await bed.systemd.startUnit(unit);
      for (let count = 0; count < 6; count += 1) {
        await new Promise((resolve) => setTimeout(resolve, 300));
        const nextMs = performance.now();
        await bed.systemd.armFence(FENCE, 1000);
        noteSince(nextMs);
      }
      const status = await bed.systemd.readUnit(unit.name);
      noteSince(performance.now());
      return longestMs < 900 ? status : undefined;
    };

    test.each(['nothing happens', 'daemon-reload', 'daemon-reexec'])(
      'stops the units behind it and no others, as each wants to be stopped, although %s',
      async (verb) => {
        const stops = behind('f-stops', ['sleep', '1000']);
        const ready = join(mkdtempSync(join(bed.directory, 'fence-')), 'ready');
        // Before, SIGTERM finds no trap.
        const script = `trap "" TERM; : > ${ready}; sleep 1000`;
        const resists = behind('f-resists', ['sh', '-c', script], { stopTimeoutMs: 300 });
        const ends = behind('f-ends', ['true']);
        const outside = unitSpec('f-outside', ['sleep', '1000']);
        const all = [stops, resists, ends, outside];
        await startInTime(all, async () => {
          const { exitKind } = (await bed.systemd.readUnit(ends.name)) ?? {};
          return exitKind === 'exited' && existsSync(ready);
        });
        if (verb.startsWith('daemon')) bed.run('systemctl', verb);
        const firedAtMs = await hasFired();
        const [stopped, killed] = [await ended(stops.name), await ended(resists.name)];
        expect(stopped).toMatchObject({ exitKind: 'killed', exitStatus: 15 });
        expect(killed).toMatchObject({ exitKind: 'killed', exitStatus: 9 });
        for (const status of [stopped, killed]) {
          expect(wasFenced(status, firedAtMs)).toBe(true);
          expect(status.leftActiveAtMs).toBeLessThanOrEqual(status.exitedAtMs);
        }
        const own = await ended(ends.name);
        expect(own).toMatchObject({ exitKind: 'exited', exitStatus: 0 });
        expect(own.leftActiveAtMs).toBeGreaterThan(own.exitedAtMs);
        expect(await bed.systemd.readUnit(outside.name)).toMatchObject({ subState: 'running' });
        // Its units keep the fence's word; a new task can have one all the same.
        await bed.systemd.removeFence(FENCE);
        expect(await bed.systemd.readFence(FENCE)).toEqual({ isArmed: false, firedAtMs });
        await isSetAndSeen();
        await leaveNothing(all);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'that is set again in time stops nothing, and one that has fired can be set again',
      async () => {
        const unit = behind('f-again', ['sleep', '1000']);
        let kept = await keepSet(unit);
        while (!kept) {
          await leaveNothing([unit]);
          kept = await keepSet(unit);
        }
        expect(kept).toMatchObject({ subState: 'running' });
        await hasFired();
        expect(await ended(unit.name)).toMatchObject({ exitStatus: 15 });
        await isSetAndSeen();
        await leaveNothing([unit]);
      },
      TEST_TIMEOUT_MS,
    );
  });

  test(
    'units, their ends and the calls outlive a re-execution of systemd',
    async () => {
      const unit = unitSpec('reexec', ['sh', '-c', 'sleep 0.5; exit 9']);
      await bed.systemd.startUnit(unit);
      await nextUp(() => void bed.run('systemctl', 'daemon-reexec'));
      expect(await ended(unit.name)).toMatchObject({ exitKind: 'exited', exitStatus: 9 });
      await bed.systemd.releaseUnit(unit.name);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'units, their ends and the calls outlive a restart of the bus',
    async () => {
      const unit = unitSpec('bus-restart', ['sh', '-c', 'sleep 0.5; exit 9']);
      await bed.systemd.startUnit(unit);
      const pid = bed.run('systemctl', 'show', '--value', '-p', 'MainPID', 'dbus.service').trim();
      await nextUp(() => void bed.run('kill', '-KILL', pid));
      expect(states[0]).toBe('down');
      expect(await ended(unit.name)).toMatchObject({ exitKind: 'exited', exitStatus: 9 });
      await bed.systemd.releaseUnit(unit.name);
    },
    TEST_TIMEOUT_MS,
  );

  test('every start under way when systemd re-executes and the bus restarts is answered truly', async () => {
    const pid = bed.run('systemctl', 'show', '--value', '-p', 'MainPID', 'dbus.service').trim();
    const units = Array.from({ length: 40 }, (_, index) =>
      unitSpec(`storm-${index}`, ['sleep', '1000']),
    );
    const starts = Promise.all(units.map((unit) => bed.systemd.startUnit(unit)));
    bed.run('systemctl', 'daemon-reexec');
    bed.run('kill', '-KILL', pid);
    expect((await starts).filter((result) => !result.ok)).toEqual([]);
    expect(await bed.systemd.listUnits('kaon-storm-*.service')).toHaveLength(40);
    await Promise.all(units.map((unit) => bed.systemd.releaseUnit(unit.name)));
    expect(await bed.systemd.listUnits('kaon-*storm*')).toEqual([]);
  }, 120_000);
});
