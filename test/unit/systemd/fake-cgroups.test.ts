import { expect, test } from '@jest/globals';
import { createFakeSystemd } from '../../../systemd/fake.ts';
import { unitSpec } from '../../beds/unit-specs.ts';

const LIMITS = { cpuMillis: 100, memoryMib: 32, tasksMax: 10 };
const SPEC = unitSpec('e', ['sleep', '1000'], { memoryMib: 128, delegate: true });

test('the fake lowers a limit no further than what it was told is in use, with the margin of the real one', async () => {
  const systemd = createFakeSystemd();
  await systemd.startUnit(SPEC);
  systemd.useMemory(SPEC.name, 63 * 1_048_576);
  const wanted = { cpuMillis: 250, memoryMib: 64 };
  const result = await systemd.resizeUnit(SPEC.slice, SPEC.name, wanted);
  expect(result).toEqual({ ok: true, memoryMib: 65, inUseBytes: 63 * 1_048_576 });
  expect(systemd.limitsOf(SPEC.name)).toEqual({ cpuMillis: 250, memoryMib: 65 });
});

test('a task group of the fake has used what the test says, and goes with its unit', async () => {
  const systemd = createFakeSystemd();
  await systemd.startUnit(SPEC);
  await systemd.openTaskGroup(SPEC.slice, SPEC.name, 'a', LIMITS);
  systemd.useTaskGroup(SPEC.name, 'a', { oomKills: 1, memoryPeakBytes: 33_554_432 });
  const use = systemd.readTaskGroup(SPEC.slice, SPEC.name, 'a');
  expect(use).toMatchObject({ oomKills: 1, memoryPeakBytes: 33_554_432, cpuUsec: 0 });
  await systemd.releaseUnit(SPEC.name);
  expect(systemd.readTaskGroup(SPEC.slice, SPEC.name, 'a')).toBeUndefined();
  expect(systemd.taskGroupsOf(SPEC.name).size).toBe(0);
});

test.each([
  ['on a node that has none', { noTaskGroups: 'no cgroups here' }, true, 'no cgroups here'],
  ['in a unit without delegation', {}, false, 'without delegation'],
])('the fake refuses a task group %s', async (_, options, delegate, reason) => {
  const systemd = createFakeSystemd(options);
  await systemd.startUnit({ ...SPEC, delegate });
  await expect(systemd.openTaskGroup(SPEC.slice, SPEC.name, 'a', LIMITS)).rejects.toMatchObject({
    code: 'task-cgroup-unavailable',
    message: expect.stringContaining(reason),
  });
});
