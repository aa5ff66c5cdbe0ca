import { beforeEach, describe, expect, test } from '@jest/globals';
import { createMemoryLimits } from '../../../systemd/memory-limit.ts';
import { createTaskGroups, type GroupName, type TaskGroups } from '../../../systemd/task-groups.ts';
import { MIB, ROOT, madeUpKernel, type MadeUpKernel } from './made-up-kernel.ts';

const SLICE = `${ROOT}/kaon.slice/kaon-f.slice/kaon-f-e:1.slice`;
const SERVICE = `${SLICE}/kaon-e-1.service`;
const TASK = `${SERVICE}/task-1.2.3`;
const NAME: GroupName = { slice: 'kaon-f.slice', unit: 'kaon-e-1.service', group: '1.2.3' };
const LIMITS = { cpuMillis: 1_500, memoryMib: 64, tasksMax: 100, uid: 1000, gid: 1001 };

describe('task groups on cgroup v2', () => {
  let kernel: MadeUpKernel;
  let groups: TaskGroups;

  beforeEach(() => {
    kernel = madeUpKernel();
    kernel.make(SLICE);
    kernel.setContent(`${SLICE}/cgroup.subtree_control`, 'cpu memory pids');
    kernel.make(SERVICE);
    kernel.setProcesses(SERVICE, [41, 42, 43]);
    const memory = createMemoryLimits(kernel.fs, 'v2', () => 0);
    groups = createTaskGroups({ fs: kernel.fs, root: ROOT, version: 'v2', memory });
  });

  test('a group is below the service, with limits that do not reach into swap, and ends as a whole', async () => {
    expect(await groups.open(NAME, LIMITS)).toEqual({ procs: [`${TASK}/cgroup.procs`] });
    const seen = [
      'cpu.max',
      'cpu.weight',
      'memory.max',
      'memory.swap.max',
      'memory.oom.group',
      'pids.max',
    ].map((file) => kernel.content(`${TASK}/${file}`));
    expect(seen).toEqual(['150000 100000', '150', String(64 * MIB), '0', '1', '100']);
  });

  test('what runs in the service moves to a leaf before the controllers go to what is below', async () => {
    await groups.open(NAME, LIMITS);
    expect(kernel.processes(`${SERVICE}/executor`)).toEqual([41, 42, 43]);
    const order = kernel.writes.map((write) => write.slice(SERVICE.length - ROOT.length));
    expect(order.slice(0, 4)).toEqual([
      'executor/cgroup.procs = 41',
      'executor/cgroup.procs = 42',
      'executor/cgroup.procs = 43',
      'cgroup.subtree_control = +cpu +memory +pids',
    ]);
  });

  test('a process that forks while it is moved is moved with its child', async () => {
    let forks = 2;
    kernel.beforeWrite = (path) => {
      if (!path.endsWith('cgroup.subtree_control') || forks === 0) return;
      forks -= 1;
      kernel.setProcesses(SERVICE, [50 + forks]);
    };
    await groups.open(NAME, LIMITS);
    expect(kernel.processes(`${SERVICE}/executor`)).toEqual([41, 42, 43, 51, 50]);
  });

  test('the second group needs no move', async () => {
    await groups.open(NAME, LIMITS);
    kernel.writes.length = 0;
    await groups.open({ ...NAME, group: 'b' }, LIMITS);
    expect(kernel.writes.filter((write) => /procs|subtree/.test(write))).toEqual([]);
  });

  test('the user of the executor may move processes into its groups and out of them again, and nothing else', async () => {
    await groups.open(NAME, LIMITS);
    expect([...kernel.owners]).toEqual([
      [`${SERVICE}/cgroup.procs`, '1000:1001'],
      [`${TASK}/cgroup.procs`, '1000:1001'],
      [`${SERVICE}/executor/cgroup.procs`, '1000:1001'],
    ]);
  });

  test('a unit without delegation has no groups, and is told so', async () => {
    kernel.setContent(`${SERVICE}/cgroup.controllers`, 'memory pids');
    await expect(groups.open(NAME, LIMITS)).rejects.toMatchObject({
      code: 'task-cgroup-unavailable',
      message: expect.stringContaining('no controller for cpu'),
    });
    expect(kernel.processes(SERVICE)).toEqual([41, 42, 43]);
  });

  test('a unit that is gone has no groups', async () => {
    kernel.remove(SERVICE);
    await expect(groups.open(NAME, LIMITS)).rejects.toMatchObject({
      code: 'task-cgroup-unavailable',
      message: expect.stringContaining('the unit is gone'),
    });
  });

  test('a group that cannot get all its limits is not left there', async () => {
    kernel.beforeWrite = (path) => {
      if (path.endsWith('pids.max')) throw Object.assign(new Error('denied'), { code: 'EACCES' });
    };
    await expect(groups.open(NAME, LIMITS)).rejects.toMatchObject({
      code: 'task-cgroup-unavailable',
      message: expect.stringContaining('denied'),
    });
    expect(kernel.fs.exists(TASK)).toBe(false);
  });

  test('a group shrinks as a unit does, and is told of by what is in force', async () => {
    await groups.open(NAME, LIMITS);
    kernel.setMemory(TASK, { inUse: 50 * MIB, cache: 0 });
    const limits = { cpuMillis: 100, memoryMib: 16 };
    expect(await groups.resize(NAME, limits)).toEqual({
      ok: true,
      memoryMib: 51,
      inUseBytes: 50 * MIB,
    });
    expect(kernel.oomKills).toEqual([]);
    expect(kernel.content(`${TASK}/cpu.max`)).toBe('10000 100000');
  });

  test('a group ends with what is in it, and with groups that the task has made', async () => {
    await groups.open(NAME, LIMITS);
    kernel.make(`${TASK}/own`);
    kernel.setProcesses(TASK, [60]);
    kernel.setProcesses(`${TASK}/own`, [61]);
    await groups.close(NAME);
    expect(kernel.fs.exists(TASK)).toBe(false);
    expect(kernel.processes(`${SERVICE}/executor`)).toEqual([41, 42, 43]);
  });

  test('on a kernel that cannot kill a cgroup its processes are killed one by one, and may not fork', async () => {
    await groups.open(NAME, LIMITS);
    kernel.setContent(`${TASK}/cgroup.kill`, undefined);
    kernel.setProcesses(TASK, [60, 61]);
    kernel.writes.length = 0;
    await groups.close(NAME);
    expect(kernel.writes).toEqual([`${TASK.slice(ROOT.length + 1)}/pids.max = 0`]);
    expect(kernel.killed).toEqual([60, 61]);
  });

  test('what systemd has left of a unit is removed', async () => {
    await groups.open(NAME, LIMITS);
    await groups.sweep('kaon-f-e:1.slice');
    expect(kernel.fs.exists(SLICE)).toBe(false);
  });
});
