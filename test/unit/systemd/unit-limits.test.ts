import { beforeEach, expect, test } from '@jest/globals';
import { createMemoryLimits } from '../../../systemd/memory-limit.ts';
import { createUnitLimits, type UnitLimits } from '../../../systemd/unit-limits.ts';
import type { SystemdCalls } from '../../../systemd/systemd-calls.ts';
import { MIB, ROOT, madeUpKernel, type MadeUpKernel } from './made-up-kernel.ts';

const SLICE = `${ROOT}/kaon.slice/kaon-f.slice/kaon-f-e:1.slice`;
const SERVICE = `${SLICE}/kaon-e-1.service`;

let kernel: MadeUpKernel;
let limits: UnitLimits;
let told: (readonly [unit: string, ...properties: string[]])[];
/** What systemd does besides, when it is told. */
let systemdDoes: () => void;

beforeEach(() => {
  kernel = madeUpKernel();
  kernel.make(SLICE);
  kernel.make(SERVICE);
  told = [];
  systemdDoes = () => undefined;
  const setProperties: SystemdCalls['setProperties'] = async (unit, properties) => {
    await Promise.resolve();
    told.push([unit, ...properties.map(({ name, value }) => `${name}=${String(value)}`)]);
    systemdDoes();
  };
  const calls = { setProperties } as SystemdCalls;
  const memory = createMemoryLimits(kernel.fs, 'v2', () => 0);
  const link = { calls, persist: <T>(call: () => Promise<T>): Promise<T> => call() };
  limits = createUnitLimits({ fs: kernel.fs, root: ROOT, version: 'v2', memory, link });
});

const resize = (memoryMib: number): ReturnType<UnitLimits['resize']> =>
  limits.resize('kaon-f.slice', 'kaon-e-1.service', { cpuMillis: 1_500, memoryMib });

const ofSlice = (memoryMib: number): readonly [string, ...string[]] => [
  'kaon-f-e:1.slice',
  'CPUQuotaPerSecUSec=1500000',
  'CPUWeight=150',
  `MemoryMax=${memoryMib * MIB}`,
];

test('systemd is told of the limits of the slice', async () => {
  expect(await resize(64)).toEqual({ ok: true, memoryMib: 64, inUseBytes: 0 });
  expect(told).toEqual([ofSlice(64)]);
  expect(kernel.content(`${SERVICE}/memory.max`)).toBe('max');
});

test('on v2 the memory limit of a service that has one of its own is changed as well', async () => {
  kernel.setContent(`${SERVICE}/memory.max`, String(32 * MIB));
  expect(await resize(64)).toMatchObject({ ok: true, memoryMib: 64 });
  expect(told).toEqual([ofSlice(64), ['kaon-e-1.service', `MemoryMax=${64 * MIB}`]]);
  expect(kernel.content(`${SERVICE}/memory.max`)).toBe(String(64 * MIB));
});

test('without a CPU controller memory alone is changed', async () => {
  const { fs } = kernel;
  kernel.setContent(`${SLICE}/cpu.max`, undefined);
  const memory = createMemoryLimits(fs, 'v2', () => 0);
  const setProperties: SystemdCalls['setProperties'] = (unit, properties) => {
    told.push([unit, ...properties.map(({ name, value }) => `${name}=${String(value)}`)]);
    return Promise.resolve();
  };
  const link = {
    calls: { setProperties } as SystemdCalls,
    persist: <T>(call: () => Promise<T>): Promise<T> => call(),
  };
  const place = { fs, root: ROOT, version: 'v2', memory, link } as const;
  limits = createUnitLimits({ ...place, hasCpu: false });
  expect(await resize(64)).toMatchObject({ ok: true, memoryMib: 64 });
  expect(told).toEqual([['kaon-f-e:1.slice', `MemoryMax=${64 * MIB}`]]);
});

test('the kernel has the limits before systemd is told', async () => {
  const seen: (string | undefined)[] = [];
  systemdDoes = () => seen.push(kernel.content(`${SLICE}/memory.max`));
  await resize(64);
  expect(seen).toEqual([String(64 * MIB)]);
});

test('systemd is told what is in force, not what was asked for', async () => {
  await resize(256);
  kernel.setMemory(SLICE, { inUse: 100 * MIB, cache: 0 });
  expect(await resize(64)).toEqual({ ok: true, memoryMib: 102, inUseBytes: 100 * MIB });
  expect(told).toHaveLength(2);
  expect(told.at(-1)).toEqual(ofSlice(102));
});

test('limits that systemd puts back in the meantime are waited for', async () => {
  let isFirst = true;
  systemdDoes = () => {
    if (!isFirst) return;
    isFirst = false;
    kernel.setContent(`${SLICE}/memory.max`, 'max');
    setTimeout(() => kernel.setContent(`${SLICE}/memory.max`, String(64 * MIB)), 5);
  };
  expect(await resize(64)).toMatchObject({ ok: true, memoryMib: 64 });
  expect(kernel.content(`${SLICE}/memory.max`)).toBe(String(64 * MIB));
});

test('systemd is not told of a unit that is gone: it would make the slice anew', async () => {
  kernel.fs.removeTree(SLICE);
  expect(await resize(64)).toMatchObject({ ok: false });
  expect(told).toEqual([]);
});

test('a unit that goes while systemd is told is gone', async () => {
  systemdDoes = () => void kernel.fs.removeTree(SLICE);
  expect(await resize(64)).toMatchObject({ ok: false });
});

test('what systemd refuses is said', async () => {
  systemdDoes = () => {
    throw Object.assign(new Error('SetUnitProperties failed: no'), {
      code: 'bus-call',
      hint: 'org.freedesktop.DBus.Error.AccessDenied',
    });
  };
  expect(await resize(64)).toEqual({
    ok: false,
    message: 'limits of kaon-e-1.service were refused: SetUnitProperties failed: no',
  });
});
