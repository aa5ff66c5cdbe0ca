/**
 * The `kaon` command. Starts nothing by itself: `program.ts` says what can be asked, each command's module is loaded
 * when it is asked for. Here is only how the process ends: exit codes, two-line errors, and silence when nobody reads.
 */
import { CommanderError } from 'commander';
import { describeFailure, EXIT_OK, EXIT_USAGE, exitCodeFor } from './failure.ts';
import { createProgram } from './program.ts';

/** Put in by the build. */
declare const __KAON_VERSION__: string | undefined;
const VERSION = typeof __KAON_VERSION__ === 'string' ? __KAON_VERSION__ : '0.0.0-source';

/** `kaon tasks | head` ends when `head` has enough. A command that has something to end first gets to end it. */
function endQuietlyWithoutReader(): void {
  let isEnding = false;
  const onError = (error: NodeJS.ErrnoException): void => {
    if (error.code !== 'EPIPE') throw error;
    if (isEnding) return;
    isEnding = true;
    if (process.listenerCount('SIGTERM') > 0) process.kill(process.pid, 'SIGTERM');
    else process.exit(EXIT_OK);
  };
  process.stdout.on('error', onError);
  process.stderr.on('error', (error: NodeJS.ErrnoException) => {
    // A service whose journal is away has nobody to tell, and works on: nobody has had enough of it.
    if (error.code !== 'EPIPE' || process.env['JOURNAL_STREAM'] === undefined) onError(error);
  });
}

/** What nobody caught ends the process as any other failure does: told in words, and with an exit code. */
function endOnUncaught(): void {
  process.on('uncaughtException', (error) => {
    process.stderr.write(describeFailure(error));
    process.exit(exitCodeFor(error));
  });
}

async function main(): Promise<void> {
  endQuietlyWithoutReader();
  endOnUncaught();
  const program = createProgram({
    version: VERSION,
    environment: process.env,
    finish: (exitCode) => {
      process.exitCode = exitCode;
    },
  });
  try {
    await program.parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      // Commander has written its message, or the help that was asked for.
      process.exitCode = error.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
      return;
    }
    process.stderr.write(describeFailure(error));
    // A connection that a failed command has left open would keep the process alive. Writes to pipes, files and terminals
    // are synchronous on Linux, so nothing that was said gets lost.
    process.exit(exitCodeFor(error));
  }
}

await main();
