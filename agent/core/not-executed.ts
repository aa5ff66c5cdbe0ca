/**
 * A task whose command is started by a script (`agent/command-script.ts`) has begun when its command cannot be executed.
 * The script then ends its standard error with a line that names the launch, so nothing that a command does by
 * itself is taken for it. Pure.
 */
import type { DeathCertificate } from '../../protocol/task.ts';

/** Exit codes of sh for a command that is not there, or cannot be executed. */
const SHELL_CODES: readonly (number | undefined)[] = [126, 127];

/** As systemd's child leaves if it cannot enter the directory, systemd.exec(5), "PROCESS EXIT CODES". */
export const EXIT_DIRECTORY = 200;
const EXIT_EXEC = 203;

/** The last line on standard error, without its end. */
export function notExecutedLine(launchId: string): string {
  return `kaon: the command of launch ${launchId} was not executed`;
}

/** @returns systemd's exit code for why the command was never executed; undefined if it was, or nobody can tell */
export function launchFailureOf(
  { exitCode, stderrTail = '' }: DeathCertificate,
  launchId: string,
): number | undefined {
  if (!stderrTail.endsWith(`${notExecutedLine(launchId)}\n`)) return undefined;
  if (exitCode === EXIT_DIRECTORY) return EXIT_DIRECTORY;
  return SHELL_CODES.includes(exitCode) ? EXIT_EXEC : undefined;
}
