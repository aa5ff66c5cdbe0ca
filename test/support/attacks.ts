/**
 * What a hostile task tries, as shell scripts that succeed if it gets what it wants. Each is run in the whole sandbox, where it has
 * to fail, and as a control where it has to succeed: in a sandbox without the parts that are said to hold it off, or
 * outside, as the same user. Without a control is what would harm the machine that the tests run on; it says so.
 */
import type { Relaxation } from '../../protocol/sandboxing.ts';

/** What the scripts speak of. */
export interface Surroundings {
  /** The agent's own directory, and a directory that all tasks see. */
  readonly agent: string;
  readonly shared: string;
  /** Name of a file that the tests have put into /tmp, /home and /root. */
  readonly mark: string;
  readonly agentPid: number;
  /** A task of the same user that does no harm, in the sandbox that the attacker has. */
  readonly victimPid: number;
  readonly victimWork: string;
}

/** One attack. */
export interface Attack {
  readonly what: string;
  /** Default: the user of tasks, who is nobody. */
  readonly user?: 'root';
  readonly script: (around: Surroundings) => string;
  /** Parts of the sandbox without which it succeeds; `outside`: it does where there is no sandbox; a text: why neither is tried. */
  readonly control: readonly Relaxation[] | 'outside' | string;
  /** MiB; default 16. */
  readonly memMib?: number;
}

/** Numbers of system calls that no program makes on request. */
const CALLS: Readonly<
  Record<string, Readonly<Record<'ptrace' | 'keyctl' | 'init_module', number>>>
> = {
  x64: { ptrace: 101, keyctl: 250, init_module: 175 },
  arm64: { ptrace: 117, keyctl: 219, init_module: 105 },
};
const { ptrace, keyctl, init_module } = CALLS[process.arch] ?? {
  ptrace: 0,
  keyctl: 0,
  init_module: 0,
};
const PTRACE_SEIZE = 0x4206;
const perl = (code: string): string => `perl -e '${code}'`;

/** @see docs/sandboxing.md */
export const ATTACKS: readonly Attack[] = [
  // Files.
  {
    what: "reads another task's files",
    script: ({ victimWork }) => `cat ${victimWork}/secret`,
    control: 'outside',
  },
  {
    what: "reads another task's files, as root",
    user: 'root',
    script: ({ victimWork }) => `cat ${victimWork}/secret`,
    control: 'outside',
  },
  {
    what: "writes another task's output",
    user: 'root',
    script: ({ victimWork }) => `[ -w ${victimWork}/../stdout ]`,
    control: 'outside',
  },
  {
    what: "reads the agent's checkpoints",
    user: 'root',
    script: ({ agent }) => `cat ${agent}/live/*.json`,
    control: 'outside',
  },
  {
    what: "lists the agent's directory",
    user: 'root',
    script: ({ agent }) => `ls ${agent} | grep -q live`,
    control: 'outside',
  },
  {
    what: 'makes itself a checkpoint',
    user: 'root',
    script: ({ agent }) => `mkdir -p ${agent}/live/mine`,
    control: 'it would be an entry in the agent of this test',
  },
  {
    what: 'reads secrets below /run/kaon',
    user: 'root',
    script: () => 'cat /run/kaon/secret',
    control: 'outside',
  },
  { what: 'reads /etc/shadow', user: 'root', script: () => 'cat /etc/shadow', control: 'outside' },
  {
    what: 'lists /root',
    user: 'root',
    script: ({ mark }) => `ls /root/${mark}`,
    control: ['home'],
  },
  { what: 'lists /home', script: ({ mark }) => `ls /home/${mark}`, control: ['home'] },
  { what: 'writes to /etc', user: 'root', script: () => '[ -w /etc ]', control: ['filesystem'] },
  {
    what: 'writes to /var/lib',
    user: 'root',
    script: () => '[ -w /var/lib ]',
    control: ['filesystem'],
  },
  {
    what: 'leaves something in /tmp for the next task',
    script: ({ mark }) => `ls /tmp/${mark}`,
    control: ['tmp'],
  },
  {
    what: 'fills /tmp with more than half of its memory',
    memMib: 64,
    script: () =>
      'f=/tmp/kaon-fill-$$; dd if=/dev/zero of=$f bs=1M count=40; s=$?; rm -f $f; exit $s',
    control: ['tmp'],
  },
  {
    what: 'fills /dev/shm with more than half of its memory',
    memMib: 64,
    script: () => 'dd if=/dev/zero of=/dev/shm/f bs=1M count=40',
    control: 'it would stay in the memory of this machine',
  },
  // Other processes.
  {
    what: 'sees the processes of others',
    script: ({ victimPid }) => `[ -d /proc/${victimPid} ]`,
    control: ['processes'],
  },
  {
    what: "reads another task's environment",
    script: ({ victimPid }) => `cat /proc/${victimPid}/environ`,
    control: ['processes'],
  },
  {
    what: "reads another task's command line",
    script: ({ victimPid }) => `cat /proc/${victimPid}/cmdline`,
    control: ['processes'],
  },
  {
    what: "goes through another task's root directory",
    script: ({ victimPid, victimWork }) => `cat /proc/${victimPid}/root${victimWork}/secret`,
    control: ['processes'],
  },
  {
    what: 'traces another task',
    script: ({ victimPid }) =>
      perl(`exit(syscall(${ptrace}, ${PTRACE_SEIZE}, ${victimPid}, 0, 0) == 0 ? 0 : 1)`),
    control: ['processes', 'syscalls'],
  },
  {
    what: "reads the agent's environment",
    user: 'root',
    script: ({ agentPid }) => `cat /proc/${agentPid}/environ`,
    control: 'outside',
  },
  {
    what: 'ends the agent',
    script: ({ agentPid }) => `kill -0 ${agentPid}`,
    control: 'a user that is not root never could',
  },
  // Privileges.
  {
    what: 'gives its own file the setuid bit',
    script: () => 'cp /bin/true t && chmod u+s t && [ -u t ]',
    control: ['privileges'],
  },
  {
    what: 'becomes root by a setuid program',
    script: ({ shared }) => `[ "$(${shared}/setuid-id -u)" = 0 ]`,
    control: ['privileges'],
  },
  {
    what: 'makes a device',
    user: 'root',
    script: () => 'mknod d b 254 0',
    control: 'outside',
  },
  {
    what: 'mounts something',
    user: 'root',
    script: () => 'mkdir m && mount -t tmpfs none m && umount m',
    control: ['capabilities', 'syscalls'],
  },
  {
    what: 'makes itself root of a namespace',
    script: () => 'unshare -r true',
    control: ['namespaces'],
  },
  {
    what: 'loads a kernel module',
    user: 'root',
    // What is no module is refused for that, ENOEXEC, only after the question of rights.
    script: () =>
      perl(
        `my ($image, $values) = ("x", ""); syscall(${init_module}, $image, 1, $values); exit($! == 1 ? 1 : 0)`,
      ),
    control: ['capabilities', 'kernel', 'syscalls'],
  },
  {
    what: 'writes to the tunables of the kernel',
    user: 'root',
    script: () => '[ -n "$(find /sys/kernel -maxdepth 3 -type f -writable | head -n 1)" ]',
    control: ['kernel'],
  },
  {
    what: 'writes to /proc/sys',
    user: 'root',
    script: () => '[ -w /proc/sys/kernel/hostname ]',
    control: 'the systemd of the tests has it read-only for everybody',
  },
  {
    what: 'sets the clock',
    user: 'root',
    script: () => 'date -s @$(date +%s)',
    control: 'it would be the clock of this machine',
  },
  {
    what: 'sets the host name',
    user: 'root',
    script: () => 'hostname $(hostname)',
    control: ['capabilities', 'kernel', 'syscalls'],
  },
  {
    what: "sees the node's devices",
    script: () => "ls /dev | grep -qE '^(mem|kmsg|kvm|fuse|loop|vd|sd|nvme)'",
    control: ['devices'],
  },
  {
    what: 'opens a disk or the memory',
    user: 'root',
    script: () =>
      'for d in /dev/mem /dev/vda /dev/sda /dev/loop0; do head -c 1 $d && exit 0; done; exit 1',
    control: 'outside',
  },
  {
    what: 'listens on a port of root',
    user: 'root',
    script: () =>
      perl(
        'use IO::Socket::INET; IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 987, Listen => 1) or exit 1',
      ),
    control: ['capabilities'],
  },
  {
    what: 'opens a packet socket',
    user: 'root',
    script: () => perl('exit(socket(S, 17, 3, 768) ? 0 : 1)'),
    control: ['address-families', 'capabilities'],
  },
  {
    what: 'reads the log of the kernel',
    user: 'root',
    script: () => 'dmesg -S',
    control: ['capabilities', 'kernel', 'syscalls'],
  },
  {
    what: "uses the kernel's keyrings",
    script: () => perl(`exit(syscall(${keyctl}, 0, -3, 1) >= 0 ? 0 : 1)`),
    control: ['keyring', 'syscalls'],
  },
  // Cgroups.
  {
    what: 'writes to its own cgroup',
    user: 'root',
    script: () => '[ -n "$(find /sys/fs/cgroup -name cgroup.procs -writable | head -n 1)" ]',
    control: ['cgroups'],
  },
  // Ways out.
  {
    what: 'has systemd start something for it',
    user: 'root',
    script: () => 'systemd-run --quiet --wait /bin/true',
    control: ['bus'],
  },
  {
    what: 'reaches the system bus',
    script: () => '[ -S /run/dbus/system_bus_socket ]',
    control: ['bus'],
  },
  {
    what: "reaches the agent's socket",
    script: ({ agent }) =>
      perl(
        `use IO::Socket::UNIX; IO::Socket::UNIX->new(Peer => "${agent}/socket/executors.sock") or exit 1`,
      ),
    control: 'outside',
  },
];
