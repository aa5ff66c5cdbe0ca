/**
 * The sandbox of a unit, as plain data, and its translation into D-Bus properties of systemd: systemd.exec(5), "SANDBOXING",
 * "CAPABILITIES", "SYSTEM CALL FILTERING". Pure. Each property costs: a mount is about a millisecond of a launch (systemd reads the
 * whole mount table again for each), so what the kernel refuses a user without root anyway is not mounted over for it.
 *
 * Tried on systemd 252: all of it is read back from the transient file as it was told, but for `RestrictNamespaces=` of no
 * namespace at all (`NAMESPACES_KEPT`), and for paths with a `:` (`isSafeMount`).
 */
import type { Network, Relaxation } from '../protocol/sandboxing.ts';
import { isSafeDirectory } from './reread.ts';

/** What a unit may see and do. Every path is absolute, and `isSafeMount`. */
export interface UnitSandbox {
  readonly relaxed: ReadonlySet<Relaxation>;
  readonly network: Network;
  /** User id 0: the kernel itself refuses it less. */
  readonly isRoot: boolean;
  /** A user that is there only as long as the unit, made by systemd. */
  readonly isDynamic: boolean;
  /** As they are on the node, with everything below them, and writable; also where something that is hidden is above. */
  readonly writable: readonly string[];
  /** As `writable`, but not to be changed. */
  readonly readable: readonly string[];
  /** Replaced by an empty directory, apart from what is writable or readable below. */
  readonly emptied: readonly string[];
  /** Cannot be entered; one that is not there is left out. */
  readonly hidden: readonly string[];
  /** Size of each of /tmp, /var/tmp and /dev/shm, bytes; absent: systemd's default, a tenth of the node's memory. */
  readonly temporaryBytes?: number;
  /** Of its user: the groups that an executor puts its tasks into. */
  readonly writableCgroups: readonly string[];
}

/** Whether systemd reads such a path back from `BindPaths=` and its like, whose parts it separates with `:`. */
export function isSafeMount(path: string): boolean {
  return isSafeDirectory(path) && !path.includes(':') && !path.split('/').includes('..');
}

/** A property, named as systemd names it; `properties.ts` knows its signature. */
export type SandboxProperty = readonly [name: SandboxPropertyName, value: unknown];

/** Signatures of what is set here, as in org.freedesktop.systemd1(5). */
export const SANDBOX_SIGNATURES = {
  BindPaths: 'a(ssbt)',
  BindReadOnlyPaths: 'a(ssbt)',
  CapabilityBoundingSet: 't',
  DynamicUser: 'b',
  IPAddressAllow: 'a(iayu)',
  IPAddressDeny: 'a(iayu)',
  InaccessiblePaths: 'as',
  KeyringMode: 's',
  LockPersonality: 'b',
  NoNewPrivileges: 'b',
  PrivateDevices: 'b',
  PrivateNetwork: 'b',
  PrivateUsers: 'b',
  ProtectClock: 'b',
  ProtectControlGroups: 'b',
  ProtectHome: 's',
  ProtectHostname: 'b',
  ProtectKernelLogs: 'b',
  ProtectKernelModules: 'b',
  ProtectKernelTunables: 'b',
  ProtectProc: 's',
  ProtectSystem: 's',
  ReadWritePaths: 'as',
  RestrictAddressFamilies: '(bas)',
  RestrictNamespaces: 't',
  RestrictRealtime: 'b',
  RestrictSUIDSGID: 'b',
  SystemCallArchitectures: 'as',
  SystemCallErrorNumber: 'i',
  SystemCallFilter: '(bas)',
  TemporaryFileSystem: 'a(ss)',
} as const;

/** A property that is set here. */
export type SandboxPropertyName = keyof typeof SANDBOX_SIGNATURES;

/** errno(3): a call that is filtered fails as one without permission does, and the program goes on. */
const EPERM = 1;
/**
 * clone(2), CLONE_NEWUTS, the one namespace that may be made: nobody without capabilities can. With none at all systemd 252
 * writes `RestrictNamespaces=` without a value, and reads that as no restriction.
 */
const NAMESPACES_KEPT = 0x0400_0000n;
/** mount(2), MS_REC. */
const RECURSIVE = 16_384n;
/** Asked for by name in programs that mean well; each was the way out of a sandbox more than once. */
const REFUSED_CALLS = ['@keyring', 'io_uring_setup', 'io_uring_enter', 'io_uring_register'];
/** Netlink is how a program finds its addresses. */
const ADDRESS_FAMILIES = ['AF_UNIX', 'AF_INET', 'AF_INET6', 'AF_NETLINK'];
const [AF_INET, AF_INET6] = [2, 10];
const ANY_ADDRESS = [
  [AF_INET, Buffer.alloc(4), 0],
  [AF_INET6, Buffer.alloc(16), 0],
] as const;
const LOOPBACK = [
  [AF_INET, Buffer.from([127, 0, 0, 0]), 8],
  [AF_INET6, Buffer.from([...Array.from({ length: 15 }, () => 0), 1]), 128],
] as const;
const TEMPORARY = ['/tmp', '/var/tmp', '/dev/shm'];

/**
 * Filters of system calls, in one way or another: under any of them a process that is not root gains no privileges, whatever
 * `NoNewPrivileges=` says (seccomp(2)).
 */
const FILTERS: readonly Relaxation[] = [
  'address-families',
  'devices',
  'kernel',
  'namespaces',
  'personality',
  'realtime',
  'syscalls',
];

/** @returns everything but what concerns the cgroups of the unit itself, in an order that is always the same */
export function sandboxProperties(wanted: UnitSandbox): SandboxProperty[] {
  const sandbox = wanted.relaxed.has('privileges')
    ? { ...wanted, relaxed: new Set([...wanted.relaxed, ...FILTERS]) }
    : wanted;
  return [
    ...privileges(sandbox),
    ...fileSystem(sandbox),
    ...kernel(sandbox),
    ...systemCalls(sandbox),
    ...network(sandbox),
  ];
}

function privileges({ relaxed, isDynamic }: UnitSandbox): SandboxProperty[] {
  const isTraced = relaxed.has('processes') || relaxed.has('capabilities');
  return [
    ...when(isDynamic, ['DynamicUser', true]),
    ['NoNewPrivileges', !relaxed.has('privileges')],
    ...when(!relaxed.has('privileges'), ['RestrictSUIDSGID', true]),
    ...when(!relaxed.has('capabilities'), ['CapabilityBoundingSet', 0n]),
    ...when(!relaxed.has('keyring'), ['KeyringMode', 'private']),
    // Tasks of one user are then in different user namespaces, and the kernel lets none look into the other by /proc or ptrace(2).
    ...when(!isTraced, ['PrivateUsers', true]),
  ];
}

function fileSystem(sandbox: UnitSandbox): SandboxProperty[] {
  const { relaxed, writable, readable, emptied, hidden } = sandbox;
  const kept = [...(relaxed.has('tmp') ? TEMPORARY : []), ...sandbox.writableCgroups];
  const bind = (path: string): unknown => [path, path, false, RECURSIVE];
  return [
    ...when(!relaxed.has('filesystem'), ['ProtectSystem', 'strict']),
    ...when(!relaxed.has('home'), ['ProtectHome', 'tmpfs']),
    ...when(!relaxed.has('devices'), ['PrivateDevices', true]),
    ...when(!relaxed.has('cgroups'), ['ProtectControlGroups', true]),
    ...when(!relaxed.has('processes'), ['ProtectProc', 'invisible']),
    ['TemporaryFileSystem', temporaries(sandbox, emptied)],
    ...when(writable.length > 0, ['BindPaths', writable.map(bind)]),
    ...when(readable.length > 0, ['BindReadOnlyPaths', readable.map(bind)]),
    ...when(hidden.length > 0, ['InaccessiblePaths', hidden.map((path) => `-${path}`)]),
    ...when(kept.length > 0, ['ReadWritePaths', kept.map((path) => `-${path}`)]),
  ];
}

function temporaries(
  { relaxed, isDynamic, temporaryBytes }: UnitSandbox,
  emptied: readonly string[],
): [string, string][] {
  const size = temporaryBytes === undefined ? '' : `,size=${String(temporaryBytes)}`;
  // A dynamic user always has the other kind of /tmp and /var/tmp, directories on the node's disk (`PrivateTmp=`).
  const own = isDynamic ? TEMPORARY.slice(2) : TEMPORARY;
  return [
    ...(relaxed.has('tmp') ? [] : own).map((path): [string, string] => [path, `mode=1777${size}`]),
    ...emptied.map((path): [string, string] => [path, 'mode=0755,ro']),
  ];
}

/**
 * Without capabilities nobody loads a module, sets a clock or a host name or, not being root, writes a tunable; the kernel's log
 * may be read by everybody, but not by a system call that `@system-service` has not got, and from no device.
 */
function kernel({ relaxed, isRoot }: UnitSandbox): SandboxProperty[] {
  if (relaxed.has('kernel')) return [];
  const hasCapabilities = relaxed.has('capabilities');
  const tunables = when(isRoot || hasCapabilities, ['ProtectKernelTunables', true]);
  if (!hasCapabilities && !relaxed.has('syscalls') && !relaxed.has('devices')) return tunables;
  return [
    ...tunables,
    ['ProtectKernelModules', true],
    ['ProtectKernelLogs', true],
    ['ProtectClock', true],
    ['ProtectHostname', true],
  ];
}

function systemCalls({ relaxed }: UnitSandbox): SandboxProperty[] {
  const filter: SandboxProperty[] = [
    // First, because filters are made only for architectures that are left.
    ['SystemCallArchitectures', ['native']],
    ['SystemCallFilter', [true, ['@system-service']]],
    ['SystemCallFilter', [false, REFUSED_CALLS]],
    ['SystemCallErrorNumber', EPERM],
  ];
  return [
    ...(relaxed.has('syscalls') ? [] : filter),
    ...when(!relaxed.has('namespaces'), ['RestrictNamespaces', NAMESPACES_KEPT]),
    ...when(!relaxed.has('personality'), ['LockPersonality', true]),
    ...when(!relaxed.has('realtime'), ['RestrictRealtime', true]),
    ...when(!relaxed.has('address-families'), [
      'RestrictAddressFamilies',
      [true, ADDRESS_FAMILIES],
    ]),
  ];
}

function network(sandbox: UnitSandbox): SandboxProperty[] {
  switch (sandbox.network) {
    case 'full':
      return [];
    case 'none':
      return [['PrivateNetwork', true]];
    case 'loopback':
      return [
        ['IPAddressDeny', ANY_ADDRESS],
        ['IPAddressAllow', LOOPBACK],
      ];
    default:
      return sandbox.network satisfies never;
  }
}

function when(condition: boolean, property: SandboxProperty): SandboxProperty[] {
  return condition ? [property] : [];
}
