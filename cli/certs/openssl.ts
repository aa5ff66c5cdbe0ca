/** The `openssl` program: run without a shell, with arguments that are not read as options, and errors in words. */
import { execFile } from 'node:child_process';
import type { ExecFileException } from 'node:child_process';
import { KaonError, messageOf } from '../../protocol/errors.ts';

/** Making a certificate takes milliseconds; whoever waits longer has an openssl that asks for a passphrase. */
const TIMEOUT_MS = 30_000;

/**
 * @param input for its standard input
 * @returns its standard output
 * @throws KaonError `openssl-missing`, `openssl-failed` with the first line of what it said
 */
export function openssl(args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    // A configuration of the system's must not add extensions to what is made here.
    const env = { ...process.env, OPENSSL_CONF: '/dev/null' };
    const options = { timeout: TIMEOUT_MS, env, encoding: 'utf8' } as const;
    const child = execFile('openssl', args, options, (error, stdout, stderr) => {
      if (!error) resolve(stdout);
      else reject(failure(error, args[0] ?? '', stderr));
    });
    // It may end before it has read everything; why, is said by its exit code.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}

function failure(error: ExecFileException, what: string, stderr: string): KaonError {
  if (error.code === 'ENOENT') {
    return new KaonError('openssl-missing', 'the program openssl is not installed', {
      cause: error,
      hint: 'install it (apt install openssl), and do this again',
    });
  }
  const said = stderr.split('\n').find((line) => /error|unable|could not|invalid/i.test(line));
  return new KaonError('openssl-failed', `openssl ${what} failed: ${said ?? messageOf(error)}`, {
    cause: error,
  });
}
