/**
 * What every `Systemd` promises, checked against the fake and against a real systemd.
 *
 * The commands are real ones; the fake is told what they do by the same table.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createFakeSystemd, oomEnd, type FakeProgram } from '../../systemd/fake.ts';
import type { Systemd, UnitStatus } from '../../systemd/port.ts';
import type { UnitSpec } from '../../systemd/properties.ts';
import { bedReason } from '../beds/available.ts';
import { startSystemdBed, type SystemdBed } from '../beds/private-systemd.ts';
import { unitSpec } from '../beds/unit-specs.ts';

const TEST_TIMEOUT_MS = 120_000;

const COMMANDS = {
  runsOn: ['sleep', '1000'],
  exits0: ['true'],
  exits7: ['sh', '-c', 'exit 7'],
  exits255: ['sh', '-c', 'exit 255'],
  // A code that systemd itself uses for "no such command": the command did run, so this is its own.
  exits203: ['sh', '-c', 'until [ -e "$GATE" ]; do sleep 0.05; done; exit 203'],
  killsItself: ['sh', '-c', 'kill -KILL $$'],
  allocates: ['perl', '-e', '$x = "x" x 300_000_000; sleep 100'],
  ignoresSigterm: ['sh', '-c', 'trap "" TERM; while :; do sleep 0.05; done'],
  leavesChild: ['sh', '-c', 'sleep 1000 & exit 4'],
  isMissing: ['/no/such/command'],
} as const;

function fakeProgram(spec: UnitSpec): FakeProgram {
  if (spec.user !== undefined) return { failsWith: 217 };
  if (spec.workingDirectory === '/no/such/directory') return { failsWith: 200 };
  const exits = (exitStatus: number): FakeProgram => ({ ends: { exitKind: 'exited', exitStatus } });
  const programs: Record<keyof typeof COMMANDS, FakeProgram> = {
    runsOn: {},
    exits0: exits(0),
    exits7: exits(7),
    exits255: exits(255),
    exits203: { ends: { exitKind: 'exited', exitStatus: 203, result: 'exit-code' } },
    killsItself: { ends: { exitKind: 'killed', exitStatus: 9 } },
    allocates: { ends: oomEnd(spec.memoryMib) },
    ignoresSigterm: { ignoresSigterm: true },
    leavesChild: exits(4),
    isMissing: { failsWith: 203 },
  };
  const known = Object.entries(COMMANDS).find(([, argv]) => argv.join() === spec.argv.join());
  return known === undefined ? {} : programs[known[0] as keyof typeof COMMANDS];
}

interface Bed {
  readonly systemd: Systemd;
  stop(): Promise<void>;
}

function startFakeBed(): Promise<Bed> {
  const systemd = createFakeSystemd({ program: fakeProgram });
  return Promise.resolve({ systemd, stop: () => systemd.close() });
}

/** Re-reads on every hint, and every 50 ms because hints may be lost: as a caller must. */
function untilStatus(
  systemd: Systemd,
  name: string,
  holds: (status: UnitStatus) => boolean,
): Promise<UnitStatus> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      systemd.readUnit(name).then((status) => {
        if (status === undefined || !holds(status)) return;
        clearInterval(timer);
        resolve(status);
      }, reject);
    };
    const timer = setInterval(look, 50);
    systemd.onUnitChanged((changed) => changed === name && look());
    look();
  });
}

const hasEnded = (status: UnitStatus): boolean => status.exitKind !== 'none';

function describeContract(
  title: string,
  reason: string | undefined,
  start: () => Promise<Bed>,
): void {
  const suite = reason === undefined ? describe : describe.skip;
  suite(reason === undefined ? title : `${title} (skipped: ${reason})`, () => {
    let bed: Bed;
    let systemd: Systemd;
    let serial = 0;
    const spec = (command: keyof typeof COMMANDS, more: Partial<UnitSpec> = {}): UnitSpec =>
      unitSpec(`c${++serial}-${command}`, COMMANDS[command], more);
    const runToEnd = async (unit: UnitSpec): Promise<UnitStatus> => {
      expect(await systemd.startUnit(unit)).toEqual({ ok: true });
      return untilStatus(systemd, unit.name, hasEnded);
    };

    beforeAll(async () => {
      bed = await start();
      systemd = bed.systemd;
    }, TEST_TIMEOUT_MS);
    afterAll(() => bed.stop(), TEST_TIMEOUT_MS);

    test('describes the node', async () => {
      const { version, cgroupVersion } = await systemd.describe();
      expect(version).toMatch(/^\d+$/);
      expect(['v1', 'v2']).toContain(cgroupVersion);
    });

    test.each([
      ['exits0', 0],
      ['exits7', 7],
      ['exits255', 255],
    ] as const)(
      'a command that %s stays loaded with its exit code %i',
      async (command, code) => {
        const unit = spec(command);
        expect(await runToEnd(unit)).toMatchObject({ exitKind: 'exited', exitStatus: code });
        expect(await systemd.listUnits(unit.name)).toMatchObject([{ name: unit.name }]);
        await systemd.releaseUnit(unit.name);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      "a command that exits with one of systemd's own codes has been started all the same",
      async () => {
        const directory = mkdtempSync(join(tmpdir(), 'kaon-gate-'));
        const unit = spec('exits203', { environment: { GATE: join(directory, 'open') } });
        expect(await systemd.startUnit(unit)).toEqual({ ok: true });
        writeFileSync(join(directory, 'open'), '');
        const status = await untilStatus(systemd, unit.name, hasEnded);
        expect(status).toMatchObject({ exitKind: 'exited', exitStatus: 203 });
        await systemd.releaseUnit(unit.name);
        rmSync(directory, { recursive: true });
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'a command that a signal ended has the signal for its status',
      async () => {
        const unit = spec('killsItself');
        expect(await runToEnd(unit)).toMatchObject({
          exitKind: 'killed',
          exitStatus: 9,
          oomKills: 0,
        });
        await systemd.releaseUnit(unit.name);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'a command that wants more memory than its limit is killed, and its status says so',
      async () => {
        const status = await runToEnd(spec('allocates'));
        expect(status).toMatchObject({ exitKind: 'killed', exitStatus: 9 });
        // Of a cgroup that ends as a whole (v2) the kernel may count one end twice.
        expect(status.oomKills).toBeGreaterThan(0);
        expect(status.memoryPeakBytes).toBe(64 * 1_048_576);
        await systemd.releaseUnit(status.name);
      },
      TEST_TIMEOUT_MS,
    );

    test.each([
      ['a command that does not exist', 203, {}, 'isMissing'],
      ['a user that does not exist', 217, { user: 'kaon-no-such-user' }, 'exits0'],
      [
        'a working directory that does not exist',
        200,
        { workingDirectory: '/no/such/directory' },
        'exits0',
      ],
    ] as const)(
      '%s is a failed start with status %i, and leaves nothing loaded',
      async (_, exitStatus, more, command) => {
        const unit = spec(command, more);
        expect(await systemd.startUnit(unit)).toMatchObject({
          ok: false,
          kind: 'job',
          status: { exitStatus },
        });
        expect(await systemd.listUnits(unit.name)).toEqual([]);
        expect(await systemd.readUnit(unit.name)).toBeUndefined();
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'a name that is in use is refused, and the first unit runs on',
      async () => {
        const unit = spec('runsOn');
        expect(await systemd.startUnit(unit)).toEqual({ ok: true });
        expect(await systemd.startUnit(unit)).toMatchObject({ ok: false, kind: 'refused' });
        expect(await systemd.readUnit(unit.name)).toMatchObject({ subState: 'running' });
        await systemd.releaseUnit(unit.name);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'a name is free again after its release',
      async () => {
        const unit = spec('exits0');
        await runToEnd(unit);
        await systemd.releaseUnit(unit.name);
        expect(await systemd.startUnit(unit)).toEqual({ ok: true });
        await systemd.releaseUnit(unit.name);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'a signal reaches the unit, and no unit is no error',
      async () => {
        const unit = spec('runsOn');
        await systemd.startUnit(unit);
        expect(await systemd.killUnit(unit.name, 15)).toBe(true);
        expect(await untilStatus(systemd, unit.name, hasEnded)).toMatchObject({
          exitKind: 'killed',
          exitStatus: 15,
        });
        await systemd.releaseUnit(unit.name);
        expect(await systemd.killUnit(unit.name, 15)).toBe(false);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'release ends a process that ignores SIGTERM',
      async () => {
        const unit = spec('ignoresSigterm', { stopTimeoutMs: 300 });
        await systemd.startUnit(unit);
        await systemd.releaseUnit(unit.name);
        expect(await systemd.readUnit(unit.name)).toBeUndefined();
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'release of a unit with a child left behind, and of no unit, resolves',
      async () => {
        const unit = spec('leavesChild');
        expect(await runToEnd(unit)).toMatchObject({ exitStatus: 4 });
        await systemd.releaseUnit(unit.name);
        await systemd.releaseUnit(unit.name);
        expect(await systemd.listUnits(unit.name)).toEqual([]);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'units are listed by pattern, in name order',
      async () => {
        const names = ['kaon-list-b.service', 'kaon-list-a.service'];
        for (const name of names) await systemd.startUnit({ ...spec('runsOn'), name });
        const listed = await systemd.listUnits('kaon-list-*.service');
        expect(listed.map((row) => row.name)).toEqual([
          'kaon-list-a.service',
          'kaon-list-b.service',
        ]);
        for (const name of names) await systemd.releaseUnit(name);
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'the journal fields of a unit can be read back, and those of no unit cannot',
      async () => {
        const journalFields = { KAON_A: 'x'.repeat(6000), KAON_B: '%n="$HOME"' };
        const unit = spec('runsOn', { journalFields });
        await systemd.startUnit(unit);
        expect(await systemd.readJournalFields(unit.name)).toEqual(journalFields);
        await systemd.releaseUnit(unit.name);
        expect(await systemd.readJournalFields(unit.name)).toBeUndefined();
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'a fence is armed once it is set, listed by its timer, and gone when it is removed',
      async () => {
        const fence = 'kaon-fence-t-60000ms';
        expect(await systemd.readFence(fence)).toEqual({ isArmed: false, firedAtMs: 0 });
        await systemd.armFence(fence, 60_000);
        await systemd.armFence(fence, 60_000);
        expect(await systemd.readFence(fence)).toEqual({ isArmed: true, firedAtMs: 0 });
        expect(await systemd.listUnits('kaon-fence-t-*.timer')).toMatchObject([
          { name: `${fence}.timer`, subState: 'waiting' },
        ]);
        await systemd.removeFence(fence);
        await systemd.removeFence(fence);
        expect(await systemd.readFence(fence)).toEqual({ isArmed: false, firedAtMs: 0 });
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'the keeper is started once',
      async () => {
        await systemd.ensureKeeper('kaon-keeper.service', 'kaon.slice');
        const before = await systemd.readUnit('kaon-keeper.service');
        await systemd.ensureKeeper('kaon-keeper.service', 'kaon.slice');
        const { mainPid, invocationId, startedAtMs } = before ?? {};
        expect(mainPid).toBeGreaterThan(0);
        // What it uses may have changed meanwhile.
        const same = { mainPid, invocationId, startedAtMs };
        expect(await systemd.readUnit('kaon-keeper.service')).toMatchObject(same);
      },
      TEST_TIMEOUT_MS,
    );
  });
}

describeContract('the fake', undefined, startFakeBed);
describeContract('systemd', bedReason('systemd'), (): Promise<SystemdBed> => startSystemdBed());
