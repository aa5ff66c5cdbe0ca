/**
 * cgroup v2 in memory, as far as Kaon's own writes go: what it does on a write, and a record of all writes in their order.
 */
import { dirname, join } from 'node:path';
import type { CgroupFs } from '../../../systemd/cgroup-fs.ts';

export const MIB = 1_048_576;
export const ROOT = '/cg';

/** Memory of a cgroup: what is in use for good, and page cache that can be reclaimed. */
export interface Memory {
  inUse: number;
  cache: number;
}

export interface MadeUpKernel {
  readonly fs: CgroupFs;
  /** Every write but those that a cgroup is born with: `memory.max of a.slice = 1048576`. */
  readonly writes: string[];
  /** Writes that made the kernel kill. */
  readonly oomKills: string[];
  readonly owners: Map<string, string>;
  readonly killed: number[];
  make(path: string): void;
  remove(path: string): void;
  setMemory(path: string, memory: Memory): void;
  setProcesses(path: string, pids: readonly number[]): void;
  processes(path: string): number[];
  content(path: string): string | undefined;
  setContent(path: string, text: string | undefined): void;
  /** Runs right before a write takes effect; for what happens at the same time. */
  beforeWrite: (path: string, text: string) => void;
}

function errno(code: string): Error {
  return Object.assign(new Error(code), { code });
}

function reclaim(memory: Memory, toBytes: number): void {
  memory.cache = Math.max(Math.min(memory.cache, toBytes - memory.inUse), 0);
}

export function madeUpKernel(): MadeUpKernel {
  const files = new Map<string, string>();
  const directories = new Set<string>([ROOT]);
  const memories = new Map<string, Memory>();
  const kernel: MadeUpKernel = {
    writes: [],
    oomKills: [],
    owners: new Map(),
    killed: [],
    beforeWrite: () => undefined,
    make: (path) => {
      directories.add(path);
      memories.set(path, { inUse: 0, cache: 0 });
      const controllers = files.get(join(dirname(path), 'cgroup.subtree_control')) ?? '';
      const born = {
        'cgroup.procs': '',
        'cgroup.controllers': controllers,
        'cgroup.subtree_control': '',
        'cgroup.kill': '',
        'memory.max': 'max',
        'memory.high': 'max',
        'memory.reclaim': '',
        'memory.oom.group': '0',
        'memory.swap.max': 'max',
        'cpu.max': 'max 100000',
        'cpu.weight': '100',
        'pids.max': 'max',
      };
      for (const [name, text] of Object.entries(born)) files.set(join(path, name), text);
    },
    remove: (path) => {
      directories.delete(path);
      for (const file of [...files.keys()]) if (dirname(file) === path) files.delete(file);
    },
    setMemory: (path, memory) => void memories.set(path, memory),
    setProcesses: (path, pids) => void files.set(join(path, 'cgroup.procs'), pids.join('\n')),
    processes: (path) =>
      (files.get(join(path, 'cgroup.procs')) ?? '').split('\n').filter(Boolean).map(Number),
    content: (path) => files.get(path),
    setContent: (path, text) => {
      if (text === undefined) files.delete(path);
      else files.set(path, text);
    },
    fs: {
      read: (path) => {
        const memory = memories.get(dirname(path));
        if (memory !== undefined && path.endsWith('/memory.current')) {
          return `${memory.inUse + memory.cache}\n`;
        }
        if (memory !== undefined && path.endsWith('/memory.stat')) {
          return `anon ${memory.inUse}\nactive_file 0\ninactive_file ${memory.cache}\n`;
        }
        return files.get(path);
      },
      exists: (path) => directories.has(path) || files.has(path),
      identity: (path) => path,
      makeDirectory: (path) => kernel.make(path),
      children: (path) =>
        [...directories]
          .filter((one) => dirname(one) === path)
          .map((one) => one.slice(path.length + 1)),
      removeTree: (path) => {
        const tree = [...directories].filter((one) => one === path || one.startsWith(`${path}/`));
        if (tree.some((one) => kernel.processes(one).length > 0)) return false;
        tree.forEach((one) => kernel.remove(one));
        return true;
      },
      changeOwner: (path, uid, gid) => void kernel.owners.set(path, `${uid}:${gid}`),
      kill: (pid) => {
        kernel.killed.push(pid);
        for (const directory of directories) {
          kernel.setProcesses(
            directory,
            kernel.processes(directory).filter((one) => one !== pid),
          );
        }
      },
      write: (path, text) => {
        kernel.beforeWrite(path, text);
        if (!files.has(path)) throw errno('ENOENT');
        kernel.writes.push(`${path.slice(ROOT.length + 1)} = ${text}`);
        react(path, text);
      },
      writeSlowly: (path, text) =>
        new Promise((resolve) => {
          kernel.fs.write(path, text);
          resolve();
        }),
    },
  };

  const react = (path: string, text: string): void => {
    const directory = dirname(path);
    const memory = memories.get(directory) ?? { inUse: 0, cache: 0 };
    const reactions: Readonly<Record<string, () => void>> = {
      'memory.high': () => text !== 'max' && reclaim(memory, Number(text)),
      'memory.max': () => {
        reclaim(memory, Number(text));
        if (memory.inUse > Number(text)) kernel.oomKills.push(path);
      },
      'memory.reclaim': () => {
        const target = memory.inUse + memory.cache - Number(text);
        reclaim(memory, target);
        if (memory.inUse + memory.cache > target) throw errno('EAGAIN');
      },
      'cgroup.subtree_control': () => {
        if (kernel.processes(directory).length > 0) throw errno('EBUSY');
        text = text.replaceAll('+', '');
      },
      'cgroup.kill': () => kernel.setProcesses(directory, []),
      'cgroup.procs': () => {
        const pid = Number(text);
        for (const other of directories) {
          kernel.setProcesses(
            other,
            kernel.processes(other).filter((one) => one !== pid),
          );
        }
        text = [...kernel.processes(directory), pid].join('\n');
      },
    };
    reactions[path.slice(directory.length + 1)]?.();
    if (!path.endsWith('memory.reclaim') && !path.endsWith('cgroup.kill')) files.set(path, text);
  };
  return kernel;
}
