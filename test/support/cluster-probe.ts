/** What a cluster's node says of itself, past Kaon: units, limits of the kernel, processes. And the lists of the command line. */
import { type ClusterBed, jsonOf } from '../beds/cluster.ts';

const BYTES_PER_MIB = 1_048_576;
const USEC_PER_CPU_MILLIS = 100;

export interface Amount {
  readonly cpuMillis: number;
  readonly memMib: number;
}

/** A row of `kaon agents --json`. */
export interface AgentUse {
  readonly info: { readonly agentId: string };
  readonly used: Amount;
  readonly taskCount: number;
  readonly executorCount: number;
}

/** What the only agent of a cluster has given away. */
export async function useOf(cluster: ClusterBed): Promise<AgentUse> {
  const [row] = await listing<AgentUse>(cluster, 'agents');
  if (!row) throw new Error('there is no agent');
  return row;
}

/** Nothing of a framework that has left is there any more: no task, no executor, no unit. */
export async function isEmpty(cluster: ClusterBed): Promise<boolean> {
  const { taskCount, executorCount } = await useOf(cluster);
  return taskCount === 0 && executorCount === 0 && (await unitsOf(cluster)).length === 0;
}

/** A command's `--json`. */
export function listing<T>(cluster: ClusterBed, ...args: string[]): Promise<T[]> {
  return jsonOf<T[]>(cluster, ...args);
}

/** A property of a unit, as `systemctl show` prints it. */
export async function propertyOf(cluster: ClusterBed, unit: string, name: string): Promise<string> {
  const { stdout } = await cluster.inside('systemctl', 'show', '-P', name, unit);
  return stdout.trim();
}

/** The cgroup of the slice that a unit is alone in. */
async function groupOf(cluster: ClusterBed, unit: string): Promise<string> {
  return propertyOf(cluster, await propertyOf(cluster, unit, 'Slice'), 'ControlGroup');
}

/** The limits of a unit that the kernel has in force. */
export async function limitsOf(cluster: ClusterBed, unit: string): Promise<Amount> {
  const group = await groupOf(cluster, unit);
  const { stdout, stderr } = await cluster.inside(
    'sh',
    '-c',
    'cd /sys/fs/cgroup; if [ -d memory ]; then cat "cpu$1/cpu.cfs_quota_us" "memory$1/memory.limit_in_bytes"; ' +
      'else cat ".$1/cpu.max" ".$1/memory.max"; fi',
    'sh',
    group,
  );
  const [quota, bytes] = stdout.trim().split('\n');
  if (quota === undefined || bytes === undefined) throw new Error(`limits of ${unit}: ${stderr}`);
  return {
    cpuMillis: Number.parseInt(quota, 10) / USEC_PER_CPU_MILLIS,
    memMib: Number(bytes) / BYTES_PER_MIB,
  };
}

/** Processes in the slice of a unit, whatever groups they are in, as numbered inside. */
export async function processesOf(cluster: ClusterBed, unit: string): Promise<number[]> {
  const { stdout } = await cluster.inside(
    'sh',
    '-c',
    'for root in /sys/fs/cgroup/systemd /sys/fs/cgroup; do ' +
      '[ -d "$root$1" ] && exec find "$root$1" -name cgroup.procs -exec cat {} +; done',
    'sh',
    await groupOf(cluster, unit),
  );
  return stdout.trim().split('\n').filter(Boolean).map(Number);
}

/** Services of tasks and executors that systemd has loaded. */
export async function unitsOf(cluster: ClusterBed): Promise<string[]> {
  const { stdout } = await cluster.inside(
    ...['systemctl', 'list-units', '--all', '--plain', '--no-legend', 'kaon-*.service'],
  );
  const names = stdout.split('\n').map((line) => line.split(' ')[0] ?? '');
  return names.filter((name) => /^kaon-[0-9a-f]{8}-.*\.\d+\.service$/.test(name));
}
