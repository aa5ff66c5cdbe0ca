/** What the unit of a task should be: from the task to systemd's terms, as plain data. */
import { isAbsolute, join } from 'node:path';
import { formatResources } from '../protocol/resources.ts';
import type { UnitSpec } from '../systemd/properties.ts';
import { planCommand } from './command-script.ts';
import type { AgentTaskEntry } from './core/state.ts';
import { fenceName, frameworkSlice } from './core/unit-names.ts';
import { UNIT_RECORD_FIELD } from './unit-record.ts';

/** Processes and threads of one task; far above what a program needs, far below what a fork bomb makes. */
const TASKS_MAX = 4096;

/** Where the task runs, and for whom. */
export interface TaskPlace {
  readonly agentTag: string;
  readonly sandbox: string;
  /** The working directory in the sandbox. */
  readonly work: string;
  /** What the unit says of itself, see `unit-record.ts`. */
  readonly record: string;
}

/** A unit, and what its command has to find: the script that it runs, where it runs one. */
export interface TaskUnit {
  readonly spec: UnitSpec;
  readonly script: { readonly path: string; readonly text: string } | undefined;
}

/** @returns the unit of one launch */
export function taskUnit(entry: AgentTaskEntry, place: TaskPlace): TaskUnit {
  const { framework, task, unit, launchId } = entry;
  const { agentTag, sandbox, work, record } = place;
  const { frameworkId } = framework;
  const { command, resources, whenUnreachable } = task;
  const workingDirectory = command.workingDirectory ?? work;
  const ids = { KAON_TASK_ID: task.taskId, KAON_FRAMEWORK_ID: frameworkId };
  const environment = {
    ...ids,
    KAON_SANDBOX: work,
    // systemd sets it for a unit with a user; programs that find none behave oddly.
    ...(command.user === undefined && { HOME: work }),
    ...command.environment,
  };
  const argv = absoluteProgram(command.argv, workingDirectory);
  const path = join(sandbox, 'command');
  const { script, ...executed } = planCommand(
    { argv, environment, workingDirectory },
    { launchId, scriptPath: path, safeDirectory: work },
  );
  const spec = {
    ...executed,
    name: unit,
    slice: frameworkSlice(agentTag, frameworkId),
    description: `kaon task ${task.name} of ${framework.name} (${formatResources(resources)})`,
    stdoutPath: join(sandbox, 'stdout'),
    stderrPath: join(sandbox, 'stderr'),
    ...(command.user !== undefined && { user: command.user }),
    cpuMillis: resources.cpuMillis,
    memoryMib: resources.memMib,
    tasksMax: TASKS_MAX,
    stopTimeoutMs: task.killGracePeriodMs,
    ...(task.maxCompletionTimeMs !== undefined && { runtimeMaxMs: task.maxCompletionTimeMs }),
    ...(whenUnreachable !== 'keep' && { fence: fenceName(agentTag, whenUnreachable.stopAfterMs) }),
    journalFields: { ...ids, [UNIT_RECORD_FIELD]: record },
  };
  return { spec, script: script === undefined ? undefined : { path, text: script } };
}

/** systemd takes a bare name or an absolute path; `./run.sh` is meant from the working directory. */
function absoluteProgram(argv: readonly string[], workingDirectory: string): string[] {
  const [program = '', ...rest] = argv;
  const relative = program.includes('/') && !isAbsolute(program);
  return [relative ? join(workingDirectory, program) : program, ...rest];
}
