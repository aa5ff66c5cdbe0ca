/**
 * Where a process is in the kernel's tree of cgroups, as files: what to write to in order to come back there. cgroups(7),
 * `/proc/PID/cgroup`; proc_pid_mountinfo(5). Pure.
 */

const PROCS = '/cgroup.procs';
/** mountinfo writes spaces and the like in octal. */
const OCTAL = /\\([0-7]{3})/g;

interface Mount {
  readonly point: string;
  /** The cgroup that is seen at the mount point. */
  readonly root: string;
  /** Names of what is controlled; empty on v2. */
  readonly controllers: readonly string[];
}

/**
 * @param cgroupText  `/proc/self/cgroup`
 * @param mountsText  `/proc/self/mountinfo`
 * @param file        a `cgroup.procs` of the same hierarchy
 * @returns the `cgroup.procs` of the cgroup that the process is in; undefined if that file is in no cgroup hierarchy, or
 *   the process is where this mount does not show
 */
export function homeProcs(
  cgroupText: string,
  mountsText: string,
  file: string,
): string | undefined {
  const mount = readMounts(mountsText)
    .filter(({ point }) => file.startsWith(`${point}/`))
    .toSorted((a, b) => b.point.length - a.point.length)[0];
  if (!mount) return undefined;
  const path = pathIn(cgroupText, mount.controllers);
  if (path === undefined || !isWithin(path, mount.root)) return undefined;
  const below = mount.root === '/' ? path : path.slice(mount.root.length);
  return `${mount.point}${below === '/' ? '' : below}${PROCS}`;
}

function isWithin(path: string, root: string): boolean {
  return root === '/' || path === root || path.startsWith(`${root}/`);
}

function readMounts(text: string): Mount[] {
  return text.split('\n').flatMap((line): Mount[] => {
    const [own = '', other = ''] = line.split(' - ');
    const [, , , root = '', point = ''] = own.split(' ').map(decode);
    const [type = '', , options = ''] = other.split(' ');
    if (type !== 'cgroup' && type !== 'cgroup2') return [];
    const controllers = type === 'cgroup2' ? [] : options.split(',');
    return [{ point, root, controllers }];
  });
}

function decode(word: string): string {
  return word.replace(OCTAL, (_all, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}

function pathIn(text: string, mountOptions: readonly string[]): string | undefined {
  for (const line of text.split('\n')) {
    const [, id = '', names = '', path = ''] = /^(\d+):([^:]*):(.*)$/.exec(line) ?? [];
    if (id === '') continue;
    const isIt =
      mountOptions.length === 0
        ? id === '0' && names === ''
        : names !== '' && names.split(',').every((name) => mountOptions.includes(name));
    if (isIt) return path;
  }
  return undefined;
}
