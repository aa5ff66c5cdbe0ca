/**
 * How a unit executes a command to the letter, whatever systemd does to it in between. systemd may read a unit again before
 * it has executed its command, and some characters do not survive that (`systemd/reread.ts`). A command that has any is
 * put into a script in the sandbox, quoted for sh, and the unit runs that. Pure: it makes text.
 */
import {
  isSafeArgument,
  isSafeDirectory,
  isSafeProgram,
  SAFE_BYTES_MAX,
} from '../systemd/reread.ts';
import { EXIT_DIRECTORY, notExecutedLine } from './core/not-executed.ts';

/** What is to be executed, where, and in which environment. */
export interface Command {
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Absolute. */
  readonly workingDirectory: string;
}

/** Where a script would be, and whose. */
export interface ScriptPlace {
  readonly launchId: string;
  readonly scriptPath: string;
  /** A directory that systemd can be told of as it is; the script goes on from there. */
  readonly safeDirectory: string;
}

/** What systemd is told, and the script that has to be there then, if any. */
export interface PlannedCommand extends Command {
  readonly script?: string;
}

/**
 * Variables that a shell makes, changes or obeys: sh would not hand them on as they are, POSIX, XCU 2.5.3 and bash(1), "Shell
 * Variables".
 */
const SHELL_NAME =
  /^(_|IFS|PWD|OLDPWD|PPID|OPT(IND|ARG|ERR)|SHLVL|LINENO|PS[0-4]|S?RANDOM|SECONDS|EPOCH\w*|E?UID|GROUPS|DIRSTACK|FUNCNAME|PIPESTATUS|SHELLOPTS|BASH\w*|HIST\w*|COMP_\w*|MAIL\w*|ENV|POSIXLY_CORRECT|KSH\w*|ZSH\w*)$/;
/** What a shell adds of its own. */
const ADDED_NAMES = ['PWD', 'OLDPWD', 'SHLVL', '_'];

/** @returns the command itself if systemd can be trusted with it, else one that runs a script */
export function planCommand(command: Command, place: ScriptPlace): PlannedCommand {
  if (isSafeCommand(command)) return command;
  const { scriptPath, safeDirectory } = place;
  const isLarge = !isShort(Object.entries(command.environment).flat());
  const inScript = (name: string): boolean => isLarge || SHELL_NAME.test(name);
  const [scripted, told] = partition(command.environment, inScript);
  return {
    argv: ['/bin/sh', scriptPath],
    environment: told,
    workingDirectory: safeDirectory,
    script: scriptOf(command, scripted, place),
  };
}

/** @returns the text in single quotes, which is one word for sh whatever is in it */
export function quoteForShell(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** A bare program is searched in the task's own PATH if it has one, as every program does; systemd searches its own. */
function isSafeCommand({ argv, environment, workingDirectory }: Command): boolean {
  const [program = '', ...args] = argv;
  const isFound = program.startsWith('/') || !('PATH' in environment);
  return (
    isFound &&
    isSafeProgram(program) &&
    args.every(isSafeArgument) &&
    isSafeDirectory(workingDirectory) &&
    isShort(argv) &&
    isShort(Object.entries(environment).flat())
  );
}

function isShort(texts: readonly string[]): boolean {
  return texts.reduce((bytes, text) => bytes + Buffer.byteLength(text), 0) <= SAFE_BYTES_MAX;
}

function partition(
  environment: Readonly<Record<string, string>>,
  belongs: (name: string) => boolean,
): [Record<string, string>, Record<string, string>] {
  const [yes, no]: [Record<string, string>, Record<string, string>] = [{}, {}];
  for (const [name, value] of Object.entries(environment)) (belongs(name) ? yes : no)[name] = value;
  return [yes, no];
}

/**
 * When `exec` fails, most shells run the trap; bash forgets it and would end, unless told otherwise, so the last lines say
 * the same for it. Words that are quoted are commands and never assignments or keywords.
 */
function scriptOf(
  { argv, workingDirectory }: Command,
  environment: Readonly<Record<string, string>>,
  { launchId, safeDirectory }: ScriptPlace,
): string {
  const say = `echo ${quoteForShell(notExecutedLine(launchId))} >&2`;
  const words = argv.map(quoteForShell);
  const [own, plain] = partition(environment, (name) => SHELL_NAME.test(name));
  const exports = Object.entries(plain).map(([name, value]) => `export ${assignment(name, value)}`);
  const enter = `cd -P ${quoteForShell(workingDirectory)} || exit ${String(EXIT_DIRECTORY)}`;
  return [
    '#!/bin/sh',
    '# Made by Kaon: the command of one launch, as its framework gave it.',
    `trap ${quoteForShell(say)} EXIT`,
    ...(workingDirectory === safeDirectory ? [] : [enter]),
    'unset PWD OLDPWD',
    ...exports,
    '[ -z "$BASH_VERSION" ] || shopt -s execfail',
    `exec ${[...prefixOf(argv[0] ?? '', own), ...words].join(' ')}`,
    'code=$?',
    'trap - EXIT',
    say,
    'exit $code',
    '',
  ].join('\n');
}

/**
 * env(1) executes what sh cannot: with variables that sh would change, or a program that sh takes for an option. For env in
 * turn a program with a `=` is a variable, and nice(1) by nothing executes it as it is.
 */
function prefixOf(program: string, own: Readonly<Record<string, string>>): string[] {
  const variables = Object.entries(own).map(([name, value]) => assignment(name, value));
  if (variables.length === 0 && !program.startsWith('-')) return [];
  const removed = ADDED_NAMES.filter((name) => !(name in own)).flatMap((name) => ['-u', name]);
  const nothing = program.includes('=') ? ['/usr/bin/nice', '-n', '0', '--'] : [];
  return ['/usr/bin/env', ...removed, '--', ...variables, ...nothing];
}

function assignment(name: string, value: string): string {
  return `${name}=${quoteForShell(value)}`;
}
