/** What the unit of a task should be: from the task to systemd's terms, as plain data. */
import { isAbsolute, join } from 'node:path';
import type { CommandInfo } from '../protocol/command.ts';
import { formatResources } from '../protocol/resources.ts';
import type { Resources } from '../protocol/resources.ts';
import type { UnitSpec } from '../systemd/properties.ts';
import type { CgroupVersion } from '../systemd/cgroup-use.ts';
import { planCommand } from './command-script.ts';
import type { UnitEntry } from './core/state.ts';
import { isExecutor } from './core/state.ts';
import { fenceName, frameworkSlice } from './core/unit-names.ts';
import { sliceCgroup, taskSliceName } from '../systemd/names.ts';
import type { UnitSandbox } from '../systemd/sandboxing.ts';
import type { Grant } from './sandboxing.ts';
import { UNIT_RECORD_FIELD } from './unit-record.ts';

/** Processes and threads of one task; far above what a program needs, far below what a fork bomb makes. */
export const TASKS_MAX = 4096;

/** Where the task runs, and for whom. */
export interface TaskPlace {
  readonly agentTag: string;
  readonly sandbox: string;
  /** The working directory in the sandbox. */
  readonly work: string;
  /** Of reservations that it has disk of, to be written. */
  readonly directories: readonly string[];
  /** What the unit says of itself, see `unit-record.ts`. */
  readonly record: string;
  /** What it runs: the task's own command, or its executor's. */
  readonly command: CommandInfo;
  /** Kaon on this node, for a task that is a part of it: beneath what the command says. */
  readonly programs: Readonly<Record<string, string>>;
  /** Of an executor how it finds its agent: above what the command says. */
  readonly environment: Readonly<Record<string, string>>;
  /** Who it is to be, and its sandbox without the paths of this launch. */
  readonly grant: Grant;
  readonly cgroupVersion: CgroupVersion;
  /** Of an executor: the directory of its tasks, to be written, and what it needs of its agent, to be read. */
  readonly hosting?: { readonly directory: string; readonly needs: readonly string[] };
  readonly limits: Resources;
}

/** A unit, and what its command has to find: the script that it runs, where it runs one. */
export interface TaskUnit {
  readonly spec: UnitSpec;
  readonly script: { readonly path: string; readonly text: string } | undefined;
}

/** @returns the unit of one launch */
export function taskUnit(entry: UnitEntry, place: TaskPlace): TaskUnit {
  const { framework, task, unit, launchId } = entry;
  const { agentTag, sandbox, work, record, command, limits } = place;
  const { frameworkId } = framework;
  const { whenUnreachable } = task;
  const workingDirectory = command.workingDirectory ?? work;
  const what = isExecutor(entry)
    ? { KAON_EXECUTOR_ID: task.taskId, KAON_FRAMEWORK_ID: frameworkId }
    : { KAON_TASK_ID: task.taskId, KAON_FRAMEWORK_ID: frameworkId };
  const environment = {
    ...what,
    KAON_SANDBOX: work,
    ...directoriesIn(place),
    ...place.programs,
    // systemd sets it for a unit with a user; programs that find none behave oddly.
    ...(command.user === undefined && { HOME: work }),
    ...command.environment,
    ...place.environment,
  };
  const argv = absoluteProgram(command.argv, workingDirectory);
  const path = join(sandbox, 'command');
  const { script, ...executed } = planCommand(
    { argv, environment, workingDirectory },
    { launchId, scriptPath: path, safeDirectory: work },
  );
  const kind = isExecutor(entry) ? 'executor' : 'task';
  const spec: UnitSpec = {
    ...executed,
    name: unit,
    slice: frameworkSlice(agentTag, frameworkId),
    description: `kaon ${kind} ${task.name} of ${framework.name} (${formatResources(limits)})`,
    stdoutPath: join(sandbox, 'stdout'),
    stderrPath: join(sandbox, 'stderr'),
    ...identity(entry, place, script === undefined ? [] : [path]),
    cpuMillis: limits.cpuMillis,
    memoryMib: limits.memMib,
    tasksMax: TASKS_MAX,
    stopTimeoutMs: task.killGracePeriodMs,
    ...(task.maxCompletionTimeMs !== undefined && { runtimeMaxMs: task.maxCompletionTimeMs }),
    ...(whenUnreachable !== 'keep' && { fence: fenceName(agentTag, whenUnreachable.stopAfterMs) }),
    ...(isExecutor(entry) && entry.info.isolation === 'task' && { delegate: true }),
    journalFields: { ...what, [UNIT_RECORD_FIELD]: record },
  };
  return { spec, script: script === undefined ? undefined : { path, text: script } };
}

/** What a task finds its directories by: the one of the reservation that goes deepest, and all, as in `PATH`. */
function directoriesIn({ directories }: TaskPlace): Readonly<Record<string, string>> {
  const [first] = directories;
  if (first === undefined) return {};
  return { KAON_DIRECTORY: first, KAON_DIRECTORIES: directories.join(':') };
}

const MIB = 1024 * 1024;
/** Where cgroups are on v1 that groups of tasks are made in; on v2 all of them are at the root. */
const HIERARCHIES_V1 = ['cpu', 'memory', 'pids', 'cpuacct'];

/** Who it is, and what it sees. */
function identity(
  entry: UnitEntry,
  place: TaskPlace,
  scripts: readonly string[],
): Pick<UnitSpec, 'user' | 'sandbox'> {
  const { user, sandbox } = place.grant;
  return {
    ...(user !== undefined && { user }),
    ...(sandbox && { sandbox: placeSandbox(entry, place, sandbox, scripts) }),
  };
}

/** Of the agent's directory a task sees what it needs, and no more. */
function placeSandbox(
  entry: UnitEntry,
  { work, directories, limits, hosting, agentTag, cgroupVersion }: TaskPlace,
  sandbox: UnitSandbox,
  scripts: readonly string[],
): UnitSandbox {
  const slice = frameworkSlice(agentTag, entry.framework.frameworkId);
  const group = sliceCgroup(taskSliceName(slice, entry.unit));
  const hierarchies = cgroupVersion === 'v1' ? HIERARCHIES_V1 : ['.'];
  const hasGroups = isExecutor(entry) && entry.info.isolation === 'task';
  return {
    ...sandbox,
    writable: [...sandbox.writable, work, ...directories, ...(hosting ? [hosting.directory] : [])],
    readable: [...sandbox.readable, ...scripts, ...(hosting?.needs ?? [])],
    // The memory of an executor grows with its tasks, which share its /tmp: their limits are limit enough.
    ...(!isExecutor(entry) && { temporaryBytes: (limits.memMib * MIB) / 2 }),
    writableCgroups: hasGroups
      ? hierarchies.map((hierarchy) => join('/sys/fs/cgroup', hierarchy, group))
      : [],
  };
}

/** systemd takes a bare name or an absolute path; `./run.sh` is meant from the working directory. */
function absoluteProgram(argv: readonly string[], workingDirectory: string): string[] {
  const [program = '', ...rest] = argv;
  const relative = program.includes('/') && !isAbsolute(program);
  return [relative ? join(workingDirectory, program) : program, ...rest];
}
