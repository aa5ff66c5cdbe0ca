/** What a task of the default executor finds in its environment, and where it runs. */
import type { LaunchedTask } from '../../protocol/executor-messages.ts';

const PATH_DEFAULT = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** What the executor's own environment says of its user, its node and Kaon there, and is as true of its tasks. */
const HANDED_ON = [
  ...['LANG', 'USER', 'LOGNAME', 'SHELL', 'KAON_NODE', 'KAON_PROGRAM'],
  ...['KAON_DIRECTORY', 'KAON_DIRECTORIES'],
];

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The part that all tasks share. Nothing of it tells where the agent's socket and the executor's token are.
 *
 * @param own the executor's environment
 */
export function sharedEnvironment(own: Environment): Record<string, string> {
  const shared: Record<string, string> = { PATH: own['PATH'] ?? PATH_DEFAULT };
  for (const name of HANDED_ON) {
    const value = own[name];
    if (value !== undefined) shared[name] = value;
  }
  shared['KAON_FRAMEWORK_ID'] = own['KAON_FRAMEWORK_ID'] ?? '';
  shared['KAON_EXECUTOR_ID'] = own['KAON_EXECUTOR_ID'] ?? '';
  shared['KAON_EXECUTOR_SANDBOX'] = own['KAON_SANDBOX'] ?? '';
  // The user's own home, if the executor has one; a sandbox that only stands for it belongs to the executor alone.
  if (own['HOME'] !== undefined && own['HOME'] !== own['KAON_SANDBOX'])
    shared['HOME'] = own['HOME'];
  return shared;
}

/** All of it. What the task itself says comes last. */
export function taskEnvironment(
  shared: Readonly<Record<string, string>>,
  { task, sandbox }: LaunchedTask,
): Record<string, string> {
  const work = sandbox?.work ?? '/';
  return {
    HOME: work,
    ...shared,
    KAON_TASK_ID: task.taskId,
    KAON_SANDBOX: work,
    ...task.command?.environment,
  };
}

/** @returns an absolute path */
export function workingDirectory({ task, sandbox }: LaunchedTask): string {
  return task.command?.workingDirectory ?? sandbox?.work ?? '/';
}
