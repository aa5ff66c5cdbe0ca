import { describe, expect, test } from '@jest/globals';
import type { Relaxation } from '../../../protocol/sandboxing.ts';
import { RELAXATION_NAMES } from '../../../protocol/sandboxing.ts';
import { transientUnit } from '../../../systemd/properties.ts';
import type { UnitSandbox } from '../../../systemd/sandboxing.ts';
import { isSafeMount, sandboxProperties } from '../../../systemd/sandboxing.ts';
import { unitSpec } from '../../beds/unit-specs.ts';

const WORK = '/s/sandboxes/f/t/1/work';
const SANDBOX: UnitSandbox = {
  relaxed: new Set(),
  network: 'full',
  isRoot: false,
  isDynamic: false,
  writable: [WORK],
  readable: [],
  emptied: ['/s'],
  hidden: ['/etc/kaon'],
  temporaryBytes: 1024,
  writableCgroups: [],
};

function propertiesOf(more: Partial<UnitSandbox> = {}): Record<string, unknown[]> {
  const found: Record<string, unknown[]> = {};
  for (const [name, value] of sandboxProperties({ ...SANDBOX, ...more })) {
    (found[name] ??= []).push(value);
  }
  return found;
}

function without(...relaxed: Relaxation[]): Record<string, unknown[]> {
  return propertiesOf({ relaxed: new Set(relaxed) });
}

describe('the sandbox of a unit', () => {
  test('has each protection, with the values that systemd takes', () => {
    expect(propertiesOf()).toEqual({
      NoNewPrivileges: [true],
      RestrictSUIDSGID: [true],
      CapabilityBoundingSet: [0n],
      KeyringMode: ['private'],
      PrivateUsers: [true],
      ProtectSystem: ['strict'],
      ProtectHome: ['tmpfs'],
      PrivateDevices: [true],
      ProtectControlGroups: [true],
      ProtectProc: ['invisible'],
      TemporaryFileSystem: [
        [
          ['/tmp', 'mode=1777,size=1024'],
          ['/var/tmp', 'mode=1777,size=1024'],
          ['/dev/shm', 'mode=1777,size=1024'],
          ['/s', 'mode=0755,ro'],
        ],
      ],
      BindPaths: [[[WORK, WORK, false, 16_384n]]],
      InaccessiblePaths: [['-/etc/kaon']],
      SystemCallArchitectures: [['native']],
      SystemCallFilter: [
        [true, ['@system-service']],
        [false, ['@keyring', 'io_uring_setup', 'io_uring_enter', 'io_uring_register']],
      ],
      SystemCallErrorNumber: [1],
      RestrictNamespaces: [0x0400_0000n],
      LockPersonality: [true],
      RestrictRealtime: [true],
      RestrictAddressFamilies: [[true, ['AF_UNIX', 'AF_INET', 'AF_INET6', 'AF_NETLINK']]],
    });
  });

  test('protects the tunables of the kernel from root, whom alone it would let write them', () => {
    expect(propertiesOf({ isRoot: true })).toMatchObject({ ProtectKernelTunables: [true] });
    expect(without('capabilities')).toMatchObject({ ProtectKernelTunables: [true] });
  });

  test.each<Relaxation>(['capabilities', 'syscalls', 'devices'])(
    'protects the rest of the kernel where %s would not do it anyway',
    (relaxation) => {
      const rest = ['ProtectClock', 'ProtectHostname', 'ProtectKernelLogs', 'ProtectKernelModules'];
      expect(Object.keys(propertiesOf())).not.toEqual(expect.arrayContaining(rest));
      expect(Object.keys(without(relaxation))).toEqual(expect.arrayContaining(rest));
      expect(Object.keys(without(relaxation, 'kernel'))).not.toContain('ProtectKernelLogs');
    },
  );

  test.each<[Relaxation, string[]]>([
    ['address-families', ['RestrictAddressFamilies']],
    ['capabilities', ['CapabilityBoundingSet', 'PrivateUsers']],
    ['cgroups', ['ProtectControlGroups']],
    ['devices', ['PrivateDevices']],
    ['filesystem', ['ProtectSystem']],
    ['home', ['ProtectHome']],
    ['keyring', ['KeyringMode']],
    ['namespaces', ['RestrictNamespaces']],
    ['personality', ['LockPersonality']],
    ['processes', ['PrivateUsers', 'ProtectProc']],
    ['realtime', ['RestrictRealtime']],
    ['syscalls', ['SystemCallArchitectures', 'SystemCallErrorNumber', 'SystemCallFilter']],
  ])('without %s it has no %j', (relaxation, missing) => {
    const [whole, part] = [propertiesOf(), without(relaxation)];
    const gone = Object.keys(whole).filter((name) => !(name in part));
    expect(gone.sort()).toEqual(missing);
  });

  test('without tmp leaves that of the node writable', () => {
    expect(without('tmp')).toMatchObject({
      TemporaryFileSystem: [[['/s', 'mode=0755,ro']]],
      ReadWritePaths: [['-/tmp', '-/var/tmp', '-/dev/shm']],
    });
  });

  test('that lets privileges be gained has no filter of system calls, under which none can be', () => {
    const { NoNewPrivileges, ...rest } = without('privileges');
    expect(NoNewPrivileges).toEqual([false]);
    const filters = /^(SystemCall|Restrict|Lock|ProtectKernel|ProtectClock|ProtectHost|PrivateDev)/;
    expect(Object.keys(rest).filter((name) => filters.test(name))).toEqual([]);
  });

  test('without everything still hides the agent and its secrets', () => {
    expect(Object.keys(without(...RELAXATION_NAMES)).sort()).toEqual([
      'BindPaths',
      'InaccessiblePaths',
      'NoNewPrivileges',
      'ReadWritePaths',
      'TemporaryFileSystem',
    ]);
  });

  test('of a dynamic user leaves /tmp to systemd', () => {
    const found = propertiesOf({ isDynamic: true });
    expect(found).toMatchObject({ DynamicUser: [true] });
    expect(found['TemporaryFileSystem']).toEqual([
      [
        ['/dev/shm', 'mode=1777,size=1024'],
        ['/s', 'mode=0755,ro'],
      ],
    ]);
  });

  test('lets an executor write the groups of its tasks', () => {
    const writableCgroups = ['/sys/fs/cgroup/memory/kaon.slice/a\\x2db.slice'];
    expect(propertiesOf({ writableCgroups })).toMatchObject({
      ReadWritePaths: [[`-${String(writableCgroups[0])}`]],
      ProtectControlGroups: [true],
    });
  });

  test('has a network of its own, or only the addresses of the node itself', () => {
    expect(propertiesOf({ network: 'none' })).toMatchObject({ PrivateNetwork: [true] });
    const { IPAddressDeny, IPAddressAllow } = propertiesOf({ network: 'loopback' });
    expect(IPAddressDeny).toEqual([
      [
        [2, Buffer.alloc(4), 0],
        [10, Buffer.alloc(16), 0],
      ],
    ]);
    const [v4, v6] = (IPAddressAllow?.[0] ?? []) as [number, Buffer, number][];
    expect([v4?.[1].join('.'), v4?.[2]]).toEqual(['127.0.0.0', 8]);
    expect([v6?.[1].toString('hex'), v6?.[2]]).toEqual(['00000000000000000000000000000001', 128]);
  });

  test('is in the unit; one without it only keeps from new privileges', () => {
    const named = (spec: ReturnType<typeof unitSpec>): string[] =>
      transientUnit(spec, 'v2').properties.map(({ name }) => name);
    const spec = unitSpec('a', ['/bin/true']);
    expect(named({ ...spec, sandbox: SANDBOX })).toContain('ProtectSystem');
    expect(named(spec)).toContain('NoNewPrivileges');
    expect(named(spec)).not.toContain('ProtectSystem');
  });
});

describe('isSafeMount', () => {
  test.each([
    ['/srv/data_1', true],
    ['/srv/a:b', false],
    ['/srv/a b', false],
    ['/srv/../etc', false],
    ['/srv/a\nb', false],
    ['srv', false],
  ])('%j: %j', (path, isSafe) => {
    expect(isSafeMount(path)).toBe(isSafe);
  });
});
