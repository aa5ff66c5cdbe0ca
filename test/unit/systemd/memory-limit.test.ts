import { beforeEach, describe, expect, test } from '@jest/globals';
import type { CgroupFs } from '../../../systemd/cgroup-fs.ts';
import {
  createMemoryLimits,
  shrinkMarginBytes,
  type MemoryLimits,
} from '../../../systemd/memory-limit.ts';
import { MIB, ROOT, madeUpKernel, type MadeUpKernel } from './made-up-kernel.ts';

const SLICE = `${ROOT}/a.slice`;
const SERVICE = `${SLICE}/a.service`;
const UNIT = [SLICE, SERVICE];

test.each([
  [16, 1],
  [32, 1],
  [64, 2],
  [512, 16],
  [10_000, 16],
])('the margin of a limit of %i MiB is %i MiB', (limitMib, marginMib) => {
  expect(shrinkMarginBytes(limitMib * MIB)).toBe(marginMib * MIB);
});

describe('on cgroup v2', () => {
  let kernel: MadeUpKernel;
  let limits: MemoryLimits;
  let nowMs: number;

  /** In force on slice and service. */
  const inForce = (): (string | undefined)[] =>
    UNIT.map((directory) => kernel.content(`${directory}/memory.max`));
  const isHighOff = (): boolean => kernel.content(`${SLICE}/memory.high`) === 'max';

  beforeEach(async () => {
    kernel = madeUpKernel();
    UNIT.forEach((directory) => kernel.make(directory));
    nowMs = 0;
    limits = createMemoryLimits(kernel.fs, 'v2', () => nowMs);
    await limits.set(UNIT, 256 * MIB);
    kernel.writes.length = 0;
  });

  test('a limit is raised on the slice before the service', async () => {
    expect(await limits.set(UNIT, 512 * MIB)).toEqual({ limitBytes: 512 * MIB });
    const writes = kernel.writes.filter((write) => write.includes('memory.max'));
    expect(writes).toEqual([
      `a.slice/memory.max = ${512 * MIB}`,
      `a.slice/a.service/memory.max = ${512 * MIB}`,
    ]);
  });

  test('a limit is lowered only after all that is in use has been pressed below it, the service first', async () => {
    kernel.setMemory(SLICE, { inUse: 20 * MIB, cache: 150 * MIB });
    const outcome = await limits.set(UNIT, 64 * MIB);
    expect(outcome).toEqual({ limitBytes: 64 * MIB, inUseBytes: 20 * MIB });
    expect(kernel.writes).toEqual([
      `a.slice/memory.high = ${64 * MIB}`,
      `a.slice/memory.reclaim = ${2 * MIB}`,
      `a.slice/a.service/memory.max = ${64 * MIB}`,
      `a.slice/memory.max = ${64 * MIB}`,
      'a.slice/memory.high = max',
    ]);
    expect(kernel.oomKills).toEqual([]);
  });

  test('a limit is lowered on a kernel that cannot be asked to reclaim', async () => {
    kernel.setContent(`${SLICE}/memory.reclaim`, undefined);
    kernel.setMemory(SLICE, { inUse: 20 * MIB, cache: 150 * MIB });
    expect(await limits.set(UNIT, 64 * MIB)).toMatchObject({ limitBytes: 64 * MIB });
  });

  test('memory in use holds the limit up, with a margin, and nothing is slowed down for it', async () => {
    kernel.setMemory(SLICE, { inUse: 100 * MIB, cache: 0 });
    const outcome = await limits.set(UNIT, 64 * MIB);
    expect(outcome).toEqual({ limitBytes: 102 * MIB, inUseBytes: 100 * MIB });
    expect(kernel.writes.filter((write) => write.includes('memory.high'))).toEqual([
      `a.slice/memory.high = ${102 * MIB}`,
      'a.slice/memory.high = max',
    ]);
  });

  test('what has been held back goes down once memory is given back, and up at once', async () => {
    kernel.setMemory(SLICE, { inUse: 100 * MIB, cache: 0 });
    await limits.set(UNIT, 64 * MIB);
    kernel.setMemory(SLICE, { inUse: 30 * MIB, cache: 0 });
    expect(await limits.set(UNIT, 64 * MIB)).toMatchObject({ limitBytes: 64 * MIB });
    expect(await limits.set(UNIT, 300 * MIB)).toMatchObject({ limitBytes: 300 * MIB });
    expect(inForce()).toEqual([String(300 * MIB), String(300 * MIB)]);
  });

  test('a limit stays where it was if memory is taken while the kernel reclaims', async () => {
    kernel.setMemory(SLICE, { inUse: 20 * MIB, cache: 0 });
    kernel.beforeWrite = (path) => {
      if (path.endsWith('memory.high')) kernel.setMemory(SLICE, { inUse: 200 * MIB, cache: 0 });
    };
    expect(await limits.set(UNIT, 64 * MIB)).toEqual({
      limitBytes: 202 * MIB,
      inUseBytes: 200 * MIB,
    });
    expect(kernel.oomKills).toEqual([]);
    expect(isHighOff()).toBe(true);
  });

  test('what an agent that was ended left half done goes away with the next change', async () => {
    kernel.setContent(`${SLICE}/memory.high`, String(64 * MIB));
    kernel.setContent(`${SERVICE}/memory.max`, String(64 * MIB));
    expect(await limits.set(UNIT, 256 * MIB)).toEqual({ limitBytes: 256 * MIB });
    expect(inForce()).toEqual([String(256 * MIB), String(256 * MIB)]);
    expect(isHighOff()).toBe(true);
  });

  test('a use just below the request keeps the limit up only until it has come to rest', async () => {
    kernel.setMemory(SLICE, { inUse: 62.5 * MIB, cache: 0 });
    const seen: unknown[] = [];
    for (nowMs of [0, 999, 1_000]) {
      seen.push((await limits.set(UNIT, 64 * MIB))?.limitBytes);
    }
    expect(seen).toEqual([65 * MIB, 65 * MIB, 64 * MIB]);
  });

  test('a use that grows is not at rest', async () => {
    const seen: unknown[] = [];
    for (nowMs of [0, 900, 1_800]) {
      kernel.setMemory(SLICE, { inUse: 62.25 * MIB + nowMs * 512, cache: 0 });
      seen.push((await limits.set(UNIT, 64 * MIB))?.limitBytes);
    }
    expect(seen).toEqual([65 * MIB, 65 * MIB, 65 * MIB]);
  });

  test('a cgroup that is gone has no limit', async () => {
    UNIT.forEach((directory) => kernel.remove(directory));
    expect(await limits.set(UNIT, 512 * MIB)).toBeUndefined();
    expect(await limits.set(UNIT, 16 * MIB)).toBeUndefined();
  });

  test('a cgroup that goes while its limit is lowered has none', async () => {
    kernel.beforeWrite = () => UNIT.forEach((directory) => kernel.remove(directory));
    expect(await limits.set(UNIT, 16 * MIB)).toBeUndefined();
  });

  test('a service whose processes have all ended is left out', async () => {
    kernel.remove(SERVICE);
    expect(await limits.set(UNIT, 64 * MIB)).toMatchObject({ limitBytes: 64 * MIB });
  });
});

describe('on cgroup v1', () => {
  /** Files of one cgroup; the kernel takes no limit below `fitsMib`. */
  function kernelV1(fitsMib: number, stat: Readonly<Record<string, number>>): CgroupFs {
    const files = new Map([
      ['/m/memory.limit_in_bytes', String(256 * MIB)],
      ['/m/memory.usage_in_bytes', String(fitsMib * MIB)],
      [
        '/m/memory.stat',
        Object.entries(stat)
          .map(([key, mib]) => `${key} ${mib * MIB}`)
          .join('\n'),
      ],
    ]);
    const write = (path: string, text: string): void => {
      if (Number(text) < fitsMib * MIB) throw Object.assign(new Error('busy'), { code: 'EBUSY' });
      files.set(path, text);
    };
    return {
      ...madeUpKernel().fs,
      read: (path) => files.get(path),
      exists: () => true,
      write,
      writeSlowly: (path, text) =>
        new Promise((resolve) => {
          write(path, text);
          resolve();
        }),
    };
  }

  test('caches of the kernel are no reason not to try', async () => {
    const limits = createMemoryLimits(kernelV1(60, { total_rss: 10 }), 'v1', () => 0);
    expect(await limits.set(['/m'], 64 * MIB)).toMatchObject({ limitBytes: 64 * MIB });
  });

  test('a limit that the kernel refuses is lowered as far as it goes', async () => {
    const limits = createMemoryLimits(kernelV1(100, { total_rss: 10 }), 'v1', () => 0);
    expect(await limits.set(['/m'], 64 * MIB)).toEqual({
      limitBytes: 102 * MIB,
      inUseBytes: 100 * MIB,
    });
  });

  test('files that are not on disk yet count as used', async () => {
    const stat = { total_inactive_file: 90, total_dirty: 30, total_rss: 65 };
    const limits = createMemoryLimits(kernelV1(120, stat), 'v1', () => 0);
    expect(await limits.set(['/m'], 64 * MIB)).toMatchObject({ inUseBytes: 60 * MIB });
  });
});
