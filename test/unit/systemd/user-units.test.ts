import { describe, expect, test } from '@jest/globals';
import { transientUnit, type TransientUnit, type UnitSpec } from '../../../systemd/properties.ts';
import { unitOfUser } from '../../../systemd/user-units.ts';
import type { UnitSandbox } from '../../../systemd/sandboxing.ts';

const SPEC: UnitSpec = {
  name: 'kaon-a1-web-1.service',
  slice: 'kaon-f1.slice',
  description: 'kaon task web',
  argv: ['true'],
  workingDirectory: '/srv/work',
  stdoutPath: '/srv/stdout',
  stderrPath: '/srv/stderr',
  environment: {},
  user: 'ada',
  cpuMillis: 500,
  memoryMib: 64,
  tasksMax: 100,
  stopTimeoutMs: 5000,
  journalFields: {},
};
const SANDBOX: UnitSandbox = {
  ...{ relaxed: new Set(), network: 'full', isRoot: false, isDynamic: false },
  ...{ writable: [], readable: [], emptied: [], hidden: [] },
  writableCgroups: ['/sys/fs/cgroup/kaon.slice/kaon-f1.slice'],
};
const MANAGER = {
  controlGroup: '/user.slice/user-1000.slice/user@1000.service',
  held: ['cpu', 'memory', 'pids'],
} as const;

function namesOf({ properties }: Pick<TransientUnit, 'properties'>): string[] {
  return properties.map(({ name }) => name);
}

function limitsOf({ auxiliary }: TransientUnit): string[] {
  const limits = /^(CPUQuota|CPUWeight|Memory\w*Max|TasksMax)/;
  return auxiliary.flatMap((unit) => namesOf(unit)).filter((name) => limits.test(name));
}

describe("a unit for a user's systemd", () => {
  test('has every limit that is delegated', () => {
    expect(limitsOf(unitOfUser(transientUnit(SPEC, 'v2'), MANAGER))).toEqual([
      'CPUQuotaPerSecUSec',
      'CPUWeight',
      'MemoryMax',
      'MemorySwapMax',
      'TasksMax',
    ]);
  });

  test('promises no limit that would not be in force', () => {
    const unit = transientUnit(SPEC, 'v2');
    const withoutCpu = unitOfUser(unit, { ...MANAGER, held: ['memory', 'pids'] });
    expect(limitsOf(withoutCpu)).toEqual(['MemoryMax', 'MemorySwapMax', 'TasksMax']);
    expect(limitsOf(unitOfUser(unit, { ...MANAGER, held: [] }))).toEqual([]);
  });

  test('asks for nothing that only root may do', () => {
    const sandbox: UnitSandbox = { ...SANDBOX, isDynamic: true, network: 'loopback' };
    const names = namesOf(unitOfUser(transientUnit({ ...SPEC, sandbox }, 'v2'), MANAGER));
    const privileged = ['User', 'DynamicUser', 'OOMScoreAdjust', 'IPAddressDeny', 'IPAddressAllow'];
    expect(names.filter((name) => privileged.includes(name))).toEqual([]);
  });

  test('passes on no more than there is', () => {
    const unit = transientUnit({ ...SPEC, delegate: true }, 'v2');
    const delegated = (held: readonly ('memory' | 'pids')[]): unknown =>
      unitOfUser(unit, { ...MANAGER, held }).properties.find(
        ({ name }) => name === 'DelegateControllers',
      )?.value;
    expect(delegated(['memory', 'pids'])).toEqual(['memory', 'pids']);
    expect(delegated([])).toBeUndefined();
  });

  test('keeps the user namespace that its sandbox cannot be without, also for a task that may trace others', () => {
    const relaxed = new Set(['processes', 'capabilities'] as const);
    const unit = transientUnit({ ...SPEC, sandbox: { ...SANDBOX, relaxed } }, 'v2');
    expect(namesOf(unit)).not.toContain('PrivateUsers');
    expect(namesOf(unitOfUser(unit, MANAGER))).toContain('PrivateUsers');
  });

  test('has no user namespace without a sandbox', () => {
    expect(namesOf(unitOfUser(transientUnit(SPEC, 'v2'), MANAGER))).not.toContain('PrivateUsers');
  });

  test("has its executor's cgroups where the manager's are", () => {
    const { properties } = unitOfUser(transientUnit({ ...SPEC, sandbox: SANDBOX }, 'v2'), MANAGER);
    expect(properties.find(({ name }) => name === 'ReadWritePaths')?.value).toEqual([
      `-/sys/fs/cgroup${MANAGER.controlGroup}/kaon.slice/kaon-f1.slice`,
    ]);
  });
});
