/** What a runner finds in its sandbox, and what it adds before the program starts. */
import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { decodeWith } from '../../protocol/codec.ts';
import { codeOf, KaonError } from '../../protocol/errors.ts';
import { PROGRAM_PATH, RunnerFile, SUBMISSION_PATH } from './submission.ts';

/** The modules that a program imports by name, and where they are among Kaon's own programs. */
const MODULES = { './framework': 'framework/index.js', './executor': 'executor/index.js' };

/** Everything that a runner starts with. */
export interface RunnerSandbox extends RunnerFile {
  /** The program as it came; undefined for a command. */
  readonly packed: Buffer | undefined;
}

/**
 * @param directory working directory of the task
 * @throws KaonError `not-a-runner`
 */
export function readSandbox(directory: string): RunnerSandbox {
  const path = join(directory, SUBMISSION_PATH);
  const decoded = decodeWith(RunnerFile, readOrFail(path));
  if (!decoded.ok) throw new KaonError('not-a-runner', `${path}: ${decoded.message}`);
  keepToOneself(path);
  const { submission } = decoded.value;
  const isFile = submission.program.type === 'file';
  const packed = isFile ? readFileSync(join(directory, PROGRAM_PATH)) : undefined;
  return { ...decoded.value, packed };
}

/** It has the environment and the address of Redis, and need not be read by every user of the node. */
function keepToOneself(path: string): void {
  try {
    chmodSync(path, 0o600);
  } catch (error) {
    // Of a user whom systemd has made for this task it is somebody else's; and nobody else finds the way to it.
    if (codeOf(error) !== 'EPERM') throw error;
  }
}

function readOrFail(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new KaonError('not-a-runner', `${path} cannot be read`, {
      cause,
      hint: 'this command is started by kaon submit, in a task',
    });
  }
}

/**
 * Unpacks the program, and makes `kaon/framework` and `kaon/executor` resolve to the Kaon of this node.
 *
 * @param programs directory of Kaon's own programs
 * @returns what to execute
 */
export function prepareProgram(
  directory: string,
  { submission, packed }: RunnerSandbox,
  programs: string,
): readonly string[] {
  linkModules(directory, programs);
  const { program } = submission;
  if (program.type === 'command') return program.argv;
  const path = join(directory, program.file);
  writeFileSync(path, gunzipSync(packed ?? ''));
  return [process.execPath, path, ...program.args];
}

/** A package with a link in it, because what a package exports must be inside of it. Made anew: Kaon may have moved. */
function linkModules(directory: string, programs: string): void {
  const place = join(directory, 'node_modules', 'kaon');
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place, { recursive: true });
  const exports = Object.fromEntries(
    Object.entries(MODULES).map(([name, file]) => [name, `./programs/${file}`]),
  );
  const contents = { name: 'kaon', type: 'module', exports };
  writeFileSync(join(place, 'package.json'), JSON.stringify(contents));
  symlinkSync(programs, join(place, 'programs'));
}
