/**
 * A container that follows its tasks: thousands of random changes of its limit while its memory is in use, on a real kernel
 * and systemd. At every moment it may use what its tasks were granted, nothing in it is killed, and at rest it has no more.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { join } from 'node:path';
import { bedReason } from '../beds/available.ts';
import { startSystemdBed, type SystemdBed } from '../beds/private-systemd.ts';
import { startMemoryHolder, unitSpec, type MemoryHolder } from '../beds/unit-specs.ts';

/** Changes of the limit; fewer for a slow machine, but some hundreds, so that each kind of change occurs. */
const CHANGES = Number(process.env['KAON_RESIZE_CHANGES'] ?? 10_000);
const SEED = Number(process.env['KAON_RESIZE_SEED'] ?? Date.now() % 1_000_000);
const TEST_TIMEOUT_MS = 600_000;
const SLICE = 'kaon-elastic.slice';
const CPU_MILLIS = 2_000;
/** The executor's own, with room for its program. */
const OWN_MIB = 10;
const TASK_MIB_MAX = 12;
const TASKS_MAX = 6;
/** How often the container comes to rest on the way. */
const REST_EVERY = 250;

/** mulberry32: small, and the same everywhere. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const reason = bedReason('systemd');
const suite = reason === undefined ? describe : describe.skip;
suite(reason === undefined ? 'a container' : `a container (skipped: ${reason})`, () => {
  let bed: SystemdBed;
  let holder: MemoryHolder | undefined;
  beforeAll(async () => {
    bed = await startSystemdBed();
  });
  afterAll(async () => {
    await holder?.close();
    await bed.stop();
  });

  test(
    `follows its tasks through ${CHANGES} random changes of its limit (KAON_RESIZE_SEED=${SEED})`,
    async () => {
      holder = await startMemoryHolder(join(bed.directory, 'holder.sock'));
      const { argv, environment, hold } = holder;
      const limits = { cpuMillis: CPU_MILLIS, memoryMib: OWN_MIB };
      const unit = unitSpec('elastic', argv, { slice: SLICE, ...limits, environment });
      expect(await bed.systemd.startUnit(unit)).toEqual({ ok: true });
      const { mainPid } = (await bed.systemd.readUnit(unit.name)) ?? {};
      const random = randomOf(SEED);
      const tasks: number[] = [];
      let heldBack = 0;

      const grantedMib = (): number => tasks.reduce((sum, mib) => sum + mib, 0);
      /** What its tasks use: half of what they were granted, or all of it. */
      const someUse = (): number => Math.round((grantedMib() * (50 + random(51))) / 100);
      const check = (what: string): void => {
        const { memoryMib } = bed.limitsOf(SLICE, unit.name);
        const kills = bed.systemd.countOomKills(SLICE, unit.name);
        if (memoryMib >= OWN_MIB + grantedMib() && kills === 0) return;
        throw new Error(
          `${what}: ${memoryMib} MiB in force, ${OWN_MIB} + ${grantedMib()} granted, ${kills} kills`,
        );
      };
      const follow = async (): Promise<boolean> => {
        const wanted = OWN_MIB + grantedMib();
        const limits = { cpuMillis: CPU_MILLIS, memoryMib: wanted };
        const result = await bed.systemd.resizeUnit(SLICE, unit.name, limits);
        if (!result.ok) throw new Error(result.message);
        check(`asked for ${wanted}, got ${result.memoryMib}`);
        if (result.memoryMib !== wanted) heldBack += 1;
        return result.memoryMib === wanted;
      };
      const add = async (): Promise<void> => {
        tasks.push(1 + random(TASK_MIB_MAX));
        await follow();
        await hold(someUse());
      };
      const remove = async (): Promise<void> => {
        tasks.splice(random(tasks.length), 1);
        // Its memory comes back before, while or after the limit is lowered; those that go on may use all of theirs.
        const order = random(3);
        if (order === 0) await hold(someUse());
        const changes = [follow(), ...(order === 1 ? [hold(someUse())] : [])];
        await Promise.all(changes);
        if (order === 2) await hold(someUse());
      };

      for (let change = 1; change <= CHANGES; change += 1) {
        const isFull = tasks.length === TASKS_MAX;
        await (tasks.length === 0 || (!isFull && random(2) === 0) ? add() : remove());
        check('after the change');
        if (change % REST_EVERY !== 0) continue;
        await hold(Math.floor(grantedMib() / 2));
        expect(await follow()).toBe(true);
      }
      tasks.length = 0;
      await hold(0);
      expect(await follow()).toBe(true);

      expect(heldBack).toBeGreaterThan(0);
      expect(bed.limitsOf(SLICE, unit.name).memoryMib).toBe(OWN_MIB);
      expect(await bed.systemd.readUnit(unit.name)).toMatchObject({ mainPid, oomKills: 0 });
      await bed.systemd.releaseUnit(unit.name);
    },
    TEST_TIMEOUT_MS,
  );
});
