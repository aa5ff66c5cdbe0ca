/**
 * Limits of running units, changed while they run: what every `Systemd` promises, against the fake and a real systemd, and
 * what only the real one can show.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createFakeSystemd } from '../../systemd/fake.ts';
import { createSystemd } from '../../systemd/manager.ts';
import { taskSliceName } from '../../systemd/names.ts';
import type { LiveLimits, ResizeResult, Systemd } from '../../systemd/port.ts';
import { bedReason } from '../beds/available.ts';
import { startSystemdBed, type SystemdBed } from '../beds/private-systemd.ts';
import { startMemoryHolder, unitSpec, type MemoryHolder } from '../beds/unit-specs.ts';

const TEST_TIMEOUT_MS = 120_000;
const SLICE = 'kaon-resize.slice';
const BYTES_PER_MIB = 1_048_576;
const START: LiveLimits = { cpuMillis: 500, memoryMib: 64 };

/** A running unit whose memory the test has in its hand. */
interface Held {
  readonly name: string;
  hold(mib: number): Promise<void>;
  resize(limits: Partial<LiveLimits>): Promise<ResizeResult>;
  release(): Promise<void>;
}

interface Bed {
  readonly systemd: Systemd;
  start(stem: string): Promise<Held>;
  stop(): Promise<void>;
}

function heldUnit(
  systemd: Systemd,
  name: string,
  holder: Pick<MemoryHolder, 'hold' | 'close'>,
): Held {
  return {
    name,
    hold: holder.hold,
    resize: (limits) => systemd.resizeUnit(SLICE, name, { ...START, ...limits }),
    release: async () => {
      await holder.close();
      await systemd.releaseUnit(name);
    },
  };
}

function startFakeBed(): Promise<Bed> {
  const systemd = createFakeSystemd();
  return Promise.resolve({
    systemd,
    start: async (stem) => {
      const unit = unitSpec(stem, ['sleep', '1000'], { slice: SLICE, ...START });
      await systemd.startUnit(unit);
      const hold = (mib: number): Promise<void> =>
        Promise.resolve(systemd.useMemory(unit.name, mib * BYTES_PER_MIB));
      return heldUnit(systemd, unit.name, { hold, close: () => Promise.resolve() });
    },
    stop: () => systemd.close(),
  });
}

interface RealBed extends Bed, Pick<SystemdBed, 'inside' | 'run'> {
  limitsOf(unit: Held): { readonly quotaUsec: number; readonly memoryMib: number };
}

async function startRealBed(): Promise<RealBed> {
  const bed = await startSystemdBed();
  const { systemd } = bed;
  return {
    ...bed,
    limitsOf: (unit) => bed.limitsOf(SLICE, unit.name),
    start: async (stem) => {
      const holder = await startMemoryHolder(join(bed.directory, `${stem}.sock`));
      const { argv, environment } = holder;
      const unit = unitSpec(stem, argv, { slice: SLICE, ...START, environment });
      expect(await systemd.startUnit(unit)).toEqual({ ok: true });
      return heldUnit(systemd, unit.name, holder);
    },
  };
}

async function until<T>(look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Memory in force after a change that was possible. */
function inForce(result: ResizeResult): number {
  if (!result.ok) throw new Error(result.message);
  return result.memoryMib;
}

function describeContract(
  title: string,
  reason: string | undefined,
  start: () => Promise<Bed>,
): void {
  const suite = reason === undefined ? describe : describe.skip;
  suite(reason === undefined ? title : `${title} (skipped: ${reason})`, () => {
    let bed: Bed;
    beforeAll(async () => {
      bed = await start();
    }, TEST_TIMEOUT_MS);
    afterAll(() => bed.stop(), TEST_TIMEOUT_MS);

    test(
      'a unit that grows may use the memory, and its process stays',
      async () => {
        const unit = await bed.start('grows');
        const before = await bed.systemd.readUnit(unit.name);
        expect(await unit.resize({ memoryMib: 160 })).toMatchObject({ ok: true, memoryMib: 160 });
        await unit.hold(120);
        const after = await bed.systemd.readUnit(unit.name);
        expect(after).toMatchObject({ mainPid: before?.mainPid, subState: 'running', oomKills: 0 });
        await unit.release();
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'a unit whose memory is free shrinks to its request at once',
      async () => {
        const unit = await bed.start('shrinks');
        await unit.hold(10);
        expect(await unit.resize({ memoryMib: 24 })).toMatchObject({ ok: true, memoryMib: 24 });
        await unit.release();
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'memory that is in use keeps the limit above it, as low as it can be, until it is given back',
      async () => {
        const unit = await bed.start('held-back');
        await unit.resize({ memoryMib: 256 });
        await unit.hold(100);
        const held = await unit.resize({ memoryMib: 64 });
        expect(inForce(held)).toBeGreaterThan(100);
        expect(inForce(held)).toBeLessThan(128);
        expect(held).toMatchObject({ inUseBytes: expect.any(Number) });
        await unit.hold(20);
        expect(await unit.resize({ memoryMib: 64 })).toMatchObject({ memoryMib: 64 });
        expect(await bed.systemd.readUnit(unit.name)).toMatchObject({ oomKills: 0 });
        await unit.release();
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'a unit whose shrink was held back can grow again, and use it all',
      async () => {
        const unit = await bed.start('regrows');
        await unit.resize({ memoryMib: 128 });
        await unit.hold(100);
        await unit.resize({ memoryMib: 32 });
        expect(await unit.resize({ memoryMib: 192 })).toMatchObject({ memoryMib: 192 });
        await unit.hold(170);
        expect(await bed.systemd.readUnit(unit.name)).toMatchObject({ oomKills: 0 });
        await unit.release();
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'changes of one unit take effect in the order in which they were asked for',
      async () => {
        const unit = await bed.start('in-order');
        const sizes = [200, 40, 180, 48, 150, 96];
        const results = await Promise.all(sizes.map((memoryMib) => unit.resize({ memoryMib })));
        expect(results.map(inForce)).toEqual(sizes);
        await unit.release();
      },
      TEST_TIMEOUT_MS,
    );

    test(
      'a unit that is gone has no limits to change',
      async () => {
        const unit = await bed.start('goes');
        await unit.release();
        expect(await unit.resize({ memoryMib: 128 })).toMatchObject({ ok: false });
        expect(await unit.resize({ memoryMib: 16 })).toMatchObject({ ok: false });
      },
      TEST_TIMEOUT_MS,
    );
  });
}

const reason = bedReason('systemd');
describeContract('limits in the fake', undefined, startFakeBed);
describeContract('limits in systemd', reason, startRealBed);

const suite = reason === undefined ? describe : describe.skip;
suite(reason === undefined ? 'the kernel' : `the kernel (skipped: ${reason})`, () => {
  let bed: RealBed;
  let unit: Held;
  beforeAll(async () => {
    bed = await startRealBed();
  }, TEST_TIMEOUT_MS);
  afterAll(() => bed.stop(), TEST_TIMEOUT_MS);

  const shown = (property: string): string =>
    bed.run('systemctl', 'show', '--value', '-p', property, taskSliceName(SLICE, unit.name)).trim();

  test(
    'has the CPU limit exactly as it was asked for, up and down, when the change is done',
    async () => {
      unit = await bed.start('cpu');
      const millis = [100, 1_500, 250, 10, 4_000, 333];
      const seen: number[] = [];
      for (const cpuMillis of millis) {
        expect(await unit.resize({ cpuMillis })).toEqual({ ok: true, memoryMib: 64 });
        seen.push(bed.limitsOf(unit).quotaUsec);
      }
      expect(seen).toEqual([10_000, 150_000, 25_000, 1_000, 400_000, 33_300]);
      expect(shown('CPUWeight')).toBe('33');
      await unit.release();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'has the memory limit when the change is done, both ways',
    async () => {
      unit = await bed.start('memory');
      const seen: number[] = [];
      for (const memoryMib of [100, 32, 1_000, 48]) {
        await unit.resize({ memoryMib });
        seen.push(bed.limitsOf(unit).memoryMib);
      }
      expect(seen).toEqual([100, 32, 1_000, 48]);
      await unit.release();
    },
    TEST_TIMEOUT_MS,
  );

  test.each(['daemon-reload', 'daemon-reexec'])(
    'has changed limits after a %s as well, because systemd knows them',
    async (verb) => {
      unit = await bed.start(verb);
      await unit.resize({ cpuMillis: 1_250, memoryMib: 96 });
      await unit.hold(70);
      bed.run('systemctl', verb);
      const systemds = await until(() => shown('MemoryMax') || undefined);
      expect(systemds).toBe(String(96 * BYTES_PER_MIB));
      expect(shown('CPUQuotaPerSecUSec')).toBe('1.250000s');
      expect(bed.limitsOf(unit)).toEqual({ quotaUsec: 125_000, memoryMib: 96 });
      await unit.release();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'and systemd agree on a limit that could not be lowered all the way',
    async () => {
      unit = await bed.start('agree');
      await unit.resize({ memoryMib: 256 });
      await unit.hold(90);
      const memoryMib = inForce(await unit.resize({ memoryMib: 32 }));
      expect(shown('MemoryMax')).toBe(String(memoryMib * BYTES_PER_MIB));
      bed.run('systemctl', 'daemon-reload');
      expect(bed.limitsOf(unit).memoryMib).toBe(memoryMib);
      await unit.release();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'gives page cache up for a lower limit',
    async () => {
      // On a disk: what is in a tmpfs cannot be given up.
      const directory = mkdtempSync('/var/tmp/kaon-cache-');
      const path = join(directory, 'file');
      const script = `dd if=/dev/zero of=${path} bs=1M count=100 conv=fsync; touch ${path}.done; sleep 1000`;
      const spec = unitSpec('cache', ['sh', '-c', script], { slice: SLICE, memoryMib: 128 });
      await bed.systemd.startUnit(spec);
      await until(() => existsSync(`${path}.done`) || undefined);
      const result = await bed.systemd.resizeUnit(SLICE, spec.name, {
        cpuMillis: 500,
        memoryMib: 32,
      });
      expect(result).toMatchObject({ ok: true, memoryMib: 32 });
      const { memoryPeakBytes, oomKills } = (await bed.systemd.readUnit(spec.name)) ?? {};
      expect(memoryPeakBytes).toBeGreaterThan(100 * BYTES_PER_MIB);
      expect(oomKills).toBe(0);
      rmSync(directory, { recursive: true });
      await bed.systemd.releaseUnit(spec.name);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'lowers the limit to the request of a unit at rest, however close to it that is',
    async () => {
      unit = await bed.start('at-rest');
      await unit.resize({ memoryMib: 256 });
      await unit.hold(100);
      const { inUseBytes = 0 } = (await unit.resize({ memoryMib: 32 })) as { inUseBytes?: number };
      const requestMib = Math.ceil(inUseBytes / BYTES_PER_MIB) + 1;
      await unit.resize({ memoryMib: 256 });
      expect(inForce(await unit.resize({ memoryMib: requestMib }))).toBeGreaterThan(requestMib);
      await until(async () =>
        inForce(await unit.resize({ memoryMib: requestMib })) === requestMib ? true : undefined,
      );
      expect(await bed.systemd.readUnit(unit.name)).toMatchObject({ oomKills: 0 });
      await unit.release();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'gets changes that were asked for while systemd and the bus went away',
    async () => {
      unit = await bed.start('away');
      const pid = bed.run('systemctl', 'show', '--value', '-p', 'MainPID', 'dbus.service').trim();
      const changes = [70, 80, 90, 100].map((memoryMib) => unit.resize({ memoryMib }));
      bed.run('systemctl', 'daemon-reexec');
      bed.run('kill', '-KILL', pid);
      expect((await Promise.all(changes)).map(inForce)).toEqual([70, 80, 90, 100]);
      expect(bed.limitsOf(unit).memoryMib).toBe(100);
      expect(shown('MemoryMax')).toBe(String(100 * BYTES_PER_MIB));
      await unit.release();
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'and systemd keep nothing of a unit whose limits were changed and that was released meanwhile',
    async () => {
      unit = await bed.start('released');
      const changes = [70, 80, 90].map((memoryMib) => unit.resize({ memoryMib }));
      const { name } = unit;
      await Promise.all([...changes, unit.release()]);
      const another = createSystemd({
        busAddress: bed.inside.busAddress,
        cgroupRoot: bed.inside.cgroupRoot,
      });
      expect(await another.resizeUnit(SLICE, name, START)).toMatchObject({ ok: false });
      await another.close();
      const places = ['run/systemd/transient', 'run/systemd/system.control'];
      const left = places
        .map((place) => join(bed.inside.root, place))
        .filter(existsSync)
        .flatMap((place) => readdirSync(place));
      expect(left.filter((file) => file.includes('released'))).toEqual([]);
      expect(await bed.systemd.listUnits('kaon-*released*')).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );
});
