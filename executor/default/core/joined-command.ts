/**
 * A command that joins control groups before it begins. A process can only be sure to be in its cgroup from its first
 * instruction on if it goes there by itself, so a shell does it and then becomes the command. The command's words are
 * arguments of that shell and never part of its text. Pure.
 */
import type { StartFailure } from './verdict.ts';

/** What is to be executed, and in which environment. */
export interface Command {
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/** `cgroup.procs` files to write to, and the launch that it is for. */
export interface Joining {
  readonly launchId: string;
  readonly cgroupProcs: readonly string[];
}

/** The shell's exit code when a group could not be joined. */
const EXIT_NOT_JOINED = 125;
/** Exit codes of sh for a command that cannot be executed, or is not there. */
const EXIT_NOT_EXECUTABLE: readonly (number | undefined)[] = [126, 127];

/** Variables that some shell makes, changes or obeys: it would not hand them on as they are. */
const SHELL_NAME =
  /^(_|IFS|PWD|OLDPWD|PPID|OPT(IND|ARG|ERR)|SHLVL|LINENO|PS[0-4]|S?RANDOM|SECONDS|EPOCH\w*|E?UID|GROUPS|DIRSTACK|FUNCNAME|PIPESTATUS|SHELLOPTS|BASH\w*|HIST\w*|COMP_\w*|MAIL\w*|ENV|POSIXLY_CORRECT|KSH\w*|ZSH\w*)$/;
/** What a shell adds of its own. */
const ADDED_NAMES = ['PWD', 'OLDPWD', 'SHLVL', '_'];

/** @returns what to spawn: the command itself if there is nothing to join */
export function joinedCommand(command: Command, { launchId, cgroupProcs }: Joining): Command {
  if (cgroupProcs.length === 0) return command;
  const files = cgroupProcs.map((_file, index) => `echo 0 > "\${${String(index + 1)}}"`);
  // When `exec` fails, most shells run the trap and end; bash forgets the trap unless it is told to go on, and then ends
  // with the same exit code. No variable is used: it could be one of the command's.
  const script = [
    `trap 'echo "$0" >&2' EXIT`,
    `{ ${files.join(' && ')}; } || exit ${String(EXIT_NOT_JOINED)}`,
    `shift ${String(files.length)}`,
    'unset PWD OLDPWD',
    '[ -z "$BASH_VERSION" ] || shopt -s execfail',
    'exec "$@"',
  ].join('\n');
  const own = Object.entries(command.environment).filter(([name]) => SHELL_NAME.test(name));
  const words = [...prefixOf(command.argv[0] ?? '', own), ...command.argv];
  return {
    argv: ['/bin/sh', '-c', script, notExecutedLine(launchId), ...cgroupProcs, ...words],
    environment: without(command.environment, own),
  };
}

/**
 * env(1) executes what sh cannot: with variables that sh would change, or a program that sh takes for an option. For env in
 * turn a program with a `=` is a variable, and nice(1) by nothing executes it as it is.
 */
function prefixOf(program: string, own: readonly (readonly [string, string])[]): string[] {
  if (own.length === 0 && !program.startsWith('-')) return [];
  const names = new Set(own.map(([name]) => name));
  const removed = ADDED_NAMES.filter((name) => !names.has(name)).flatMap((name) => ['-u', name]);
  const variables = own.map(([name, value]) => `${name}=${value}`);
  const nothing = program.includes('=') ? ['/usr/bin/nice', '-n', '0', '--'] : [];
  return ['/usr/bin/env', ...removed, '--', ...variables, ...nothing];
}

function without(
  environment: Readonly<Record<string, string>>,
  names: readonly (readonly [string, string])[],
): Record<string, string> {
  const rest = { ...environment };
  for (const [name] of names) delete rest[name];
  return rest;
}

/** The shell's last words; they name the launch, so nothing that a command says by itself is taken for them. */
function notExecutedLine(launchId: string): string {
  return `kaon: the command of launch ${launchId} was not executed`;
}

/**
 * Tells a command that was never executed from one that left with the same exit code.
 *
 * @param tail the last of what is on standard error
 * @returns undefined if the command was executed
 */
export function startFailureOf(
  exitCode: number | undefined,
  tail: string,
  { launchId }: Pick<Joining, 'launchId'>,
): StartFailure | undefined {
  const line = notExecutedLine(launchId);
  if (!tail.endsWith(`${line}\n`)) return undefined;
  const said = tail.slice(0, -line.length - 1).trimEnd();
  const words = said.slice(said.lastIndexOf('\n') + 1).replace(`${line}: `, '');
  if (exitCode === EXIT_NOT_JOINED) {
    return { kind: 'other', message: `its control group could not be joined: ${words}` };
  }
  return EXIT_NOT_EXECUTABLE.includes(exitCode)
    ? { kind: 'command', message: `its command cannot be executed: ${words}` }
    : undefined;
}
