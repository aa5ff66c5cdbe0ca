/** The exit code of `kaon run`: the command's own where it has one, and else the shell's conventions. */
import type { TaskStatus } from '../../framework/index.ts';

/** As timeout(1) does. */
const EXIT_TIMEOUT = 124;
/** Kaon failed, not the command: as docker(1) does. */
const EXIT_KAON = 125;
/** The command was found but could not be run / was not found: as sh(1) does. */
const EXIT_NOT_STARTED = 126;
const EXIT_NOT_FOUND = 127;

/**
 * @param status a terminal status
 * @returns 0 to 255; 128+N for a command that ended by signal N
 */
export function exitCodeOf(status: TaskStatus): number {
  const { state, reason, certificate } = status;
  if (state === 'TASK_FINISHED') return 0;
  if (reason === 'REASON_COMMAND_NOT_EXECUTABLE') return EXIT_NOT_FOUND;
  if (reason === 'REASON_CONTAINER_LAUNCH_FAILED') return EXIT_NOT_STARTED;
  if (reason === 'REASON_MAX_COMPLETION_TIME_REACHED') return EXIT_TIMEOUT;
  if (state !== 'TASK_FAILED' && state !== 'TASK_KILLED') return EXIT_KAON;
  if (certificate?.signal !== undefined) return 128 + certificate.signal;
  // A shell whose child was killed for memory may well leave with 0; the task has failed all the same.
  return certificate?.exitCode === undefined || certificate.exitCode === 0
    ? 1
    : certificate.exitCode;
}
