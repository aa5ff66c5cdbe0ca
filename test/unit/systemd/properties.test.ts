import { describe, expect, test } from '@jest/globals';
import {
  fenceUnits,
  keeperUnit,
  knownTo,
  transientUnit,
  type UnitProperty,
} from '../../../systemd/properties.ts';
import { unitSpec } from '../../beds/unit-specs.ts';

const MIB = 1_048_576n;

function asTable(properties: readonly UnitProperty[]): Record<string, [string, unknown]> {
  return Object.fromEntries(
    properties.map(({ name, signature, value }) => [name, [signature, value]]),
  );
}

const LIMITS = {
  CPUAccounting: ['b', true],
  CPUQuotaPerSecUSec: ['t', 250_000n],
  CPUWeight: ['t', 25n],
  MemoryMax: ['t', 48n * MIB],
  MemorySwapMax: ['t', 0n],
  TasksMax: ['t', 9n],
};

const SPEC = unitSpec('web-1', ['/bin/echo', '$HOME', 'a$$b', ''], {
  slice: 'kaon-web.slice',
  cpuMillis: 250,
  memoryMib: 48,
  tasksMax: 9,
  stopTimeoutMs: 1_500,
  runtimeMaxMs: 60_000,
  user: 'nobody',
  environment: { A: '$HOME' },
  journalFields: { KAON_TASK_ID: 't1' },
  stdoutPath: '/s/stdout',
  stderrPath: '/s/stderr',
});

describe('transientUnit', () => {
  test('is the service with every property and signature as systemd has them', () => {
    const table = asTable(transientUnit(SPEC, 'v1').properties);
    expect(table).toEqual({
      Description: ['s', 'test web-1'],
      Type: ['s', 'exec'],
      ExecStart: ['a(sasb)', [['/bin/echo', ['/bin/echo', '$$HOME', 'a$$$$b', ''], false]]],
      RemainAfterExit: ['b', true],
      CollectMode: ['s', 'inactive'],
      DefaultDependencies: ['b', false],
      KillMode: ['s', 'control-group'],
      SendSIGKILL: ['b', true],
      TimeoutStartUSec: ['t', 600_000_000n],
      TimeoutStopUSec: ['t', 1_500_000n],
      RuntimeMaxUSec: ['t', 60_000_000n],
      OOMPolicy: ['s', 'kill'],
      OOMScoreAdjust: ['i', 0],
      NoNewPrivileges: ['b', true],
      UMask: ['u', 0o022],
      User: ['s', 'nobody'],
      WorkingDirectory: ['s', '/tmp'],
      Environment: ['as', ['A=$HOME']],
      StandardInput: ['s', 'null'],
      StandardOutputFileToAppend: ['s', '/s/stdout'],
      StandardErrorFileToAppend: ['s', '/s/stderr'],
      SyslogIdentifier: ['s', 'kaon-web-1'],
      LogExtraFields: ['aay', [Buffer.from('KAON_TASK_ID=t1')]],
      LogLevelMax: ['i', 5],
      MemoryAccounting: ['b', false],
      TasksAccounting: ['b', false],
      Slice: ['s', 'kaon-web-web:1.slice'],
    });
  });

  test("all limits are on a slice of the unit's own", () => {
    const [slice] = transientUnit(SPEC, 'v1').auxiliary;
    expect(slice?.name).toBe('kaon-web-web:1.slice');
    expect(asTable(slice?.properties ?? [])).toEqual({
      DefaultDependencies: ['b', false],
      Before: ['as', ['kaon-web-1.service']],
      ...LIMITS,
    });
  });

  test('behind a fence conflicts with its service, whose start then stops it', () => {
    const { properties } = transientUnit({ ...SPEC, fence: 'kaon-fence-a-15000ms' }, 'v2');
    expect(asTable(properties)).toMatchObject({
      Conflicts: ['as', ['kaon-fence-a-15000ms.service']],
    });
  });

  test('on v2 the service has controllers of its own, and the limits of memory and CPU stay with the slice', () => {
    const table = asTable(transientUnit(SPEC, 'v2').properties);
    expect(table).toMatchObject({
      MemorySwapMax: LIMITS.MemorySwapMax,
      TasksMax: LIMITS.TasksMax,
    });
    expect(table).not.toHaveProperty('MemoryMax');
    expect(table).not.toHaveProperty('CPUQuotaPerSecUSec');
  });

  test('that may have task groups is delegated on v2, where they are below it', () => {
    const delegating = { ...SPEC, delegate: true };
    expect(asTable(transientUnit(delegating, 'v2').properties)).toMatchObject({
      DelegateControllers: ['as', ['cpu', 'memory', 'pids']],
      OOMPolicy: ['s', 'continue'],
    });
    const onV1 = asTable(transientUnit(delegating, 'v1').properties);
    expect(onV1).toMatchObject({ OOMPolicy: ['s', 'continue'] });
    expect(onV1).not.toHaveProperty('DelegateControllers');
  });

  test.each([
    [1, 10_000n, 1n],
    [10, 10_000n, 1n],
    [1_500, 1_500_000n, 150n],
    [256_000, 256_000_000n, 10_000n],
  ])('%i millicores are a quota of %s us and a weight of %s', (cpuMillis, quota, weight) => {
    const [slice] = transientUnit({ ...SPEC, cpuMillis }, 'v1').auxiliary;
    expect(asTable(slice?.properties ?? [])).toMatchObject({
      CPUQuotaPerSecUSec: ['t', quota],
      CPUWeight: ['t', weight],
    });
  });
});

describe('a fence', () => {
  test('is a timer, exact to a tenth of a second, that may be set as often as one likes', () => {
    const { name, properties, auxiliary } = fenceUnits('kaon-fence-a-15000ms', 15_000, false);
    expect(name).toBe('kaon-fence-a-15000ms.timer');
    expect(asTable(properties)).toMatchObject({
      TimersMonotonic: ['a(st)', [['OnActiveSec', 15_000_000n]]],
      AccuracyUSec: ['t', 100_000n],
      StartLimitIntervalUSec: ['t', 0n],
    });
    expect(auxiliary.map((unit) => unit.name)).toEqual(['kaon-fence-a-15000ms.service']);
  });

  test('whose service is there already is the timer alone', () => {
    expect(fenceUnits('kaon-fence-a-15000ms', 15_000, true).auxiliary).toEqual([]);
  });
});

test('the keeper has a limit of each controller', () => {
  const names = keeperUnit('kaon-keeper.service', 'kaon.slice').properties.map(({ name }) => name);
  expect(names).toEqual(
    expect.arrayContaining(['CPUQuotaPerSecUSec', 'CPUWeight', 'MemoryMax', 'TasksMax']),
  );
});

describe('knownTo', () => {
  const sandbox = {
    ...({ relaxed: new Set<never>(), network: 'full', isRoot: false, isDynamic: false } as const),
    ...{ writable: [], readable: [], emptied: [], hidden: [], writableCgroups: [] },
  };
  const unit = transientUnit({ ...SPEC, sandbox }, 'v2');
  const namesOf = (version: number): string[] =>
    knownTo(version, unit).properties.map(({ name }) => name);

  test('leaves out what an older systemd would refuse the whole unit for', () => {
    expect(namesOf(247)).toEqual(unit.properties.map(({ name }) => name));
    expect(namesOf(247).filter((name) => !namesOf(245).includes(name))).toEqual(['ProtectProc']);
  });
});
