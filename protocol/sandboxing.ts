/**
 * What a task may ask of the sandbox that systemd puts around it: to have parts of it taken away, and how much of the network
 * it sees. What a node grants of that is the node's own business (`agent/sandboxing.ts`, docs/sandboxing.md).
 */
import { z } from 'zod';

/** Each part of the sandbox that can be taken away, and what a task has then. */
export const RELAXATIONS = {
  'address-families': 'sockets of every kind that the kernel knows',
  bus: 'the D-Bus system bus, and the sockets of container engines',
  capabilities: 'the capabilities of its user: with user root all of them',
  cgroups: 'a writable cgroup file system',
  devices: 'the devices of the node',
  filesystem: 'every file of the node writable that its user may write',
  home: '/home, /root and /run/user',
  kernel: "the kernel's tunables, modules, log, clock and host name",
  keyring: "the kernel's keyrings of its user",
  namespaces: 'namespaces of its own: containers, sandboxes of browsers',
  personality: 'execution domains, for programs of other systems',
  privileges:
    'programs that gain privileges (setuid), and no filter of system calls, which would not let them',
  processes: 'the processes of others in /proc, and those of its user to trace',
  realtime: 'real-time scheduling',
  syscalls: 'every system call',
  tmp: '/tmp, /var/tmp and /dev/shm of the node',
} as const;

/** A part of the sandbox. */
export type Relaxation = keyof typeof RELAXATIONS;

/** All of them, in the order of the alphabet. */
export const RELAXATION_NAMES = Object.keys(RELAXATIONS) as readonly Relaxation[];

/** @returns whether that is a part of the sandbox that this Kaon knows */
export function isRelaxation(name: string): name is Relaxation {
  return Object.hasOwn(RELAXATIONS, name);
}

/** What a task sees of the network: all, only its node's own loopback addresses, or nothing but itself. */
export const NETWORKS = ['full', 'loopback', 'none'] as const;
/** One of `NETWORKS`. */
export type Network = (typeof NETWORKS)[number];

/** A newer peer may know more of them: the agent refuses what it does not know, in words. */
const Name = z.string().regex(/^[a-z][a-z-]{0,31}$/, 'not a name of a part of the sandbox');

/** Of a command. */
export const Sandboxing = z.object({
  /** Parts that are taken away, names of `RELAXATIONS`. */
  relax: z.array(Name).max(64).default([]),
  /** One of `NETWORKS`. */
  network: Name.default('full'),
});
export type Sandboxing = z.infer<typeof Sandboxing>;
