/** `kaon submit-runner`: what each task of `kaon submit` runs. Nobody types it. */
import { realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemClock } from '../../io/clock.ts';
import { createLog } from '../../io/log.ts';
import { openRedisStore } from '../../io/redis-store.ts';
import { findToken } from '../../io/secrets.ts';
import { Runner } from '../../schedulers/submit/runner.ts';
import { prepareProgram, readSandbox } from '../../schedulers/submit/sandbox.ts';

/** @returns the exit code: that of the program where it has ended by itself */
export async function submitRunner(): Promise<number> {
  const directory = process.cwd();
  const sandbox = readSandbox(directory);
  const programs = dirname(realpathSync(process.argv[1] ?? ''));
  const argv = prepareProgram(directory, sandbox, programs);
  const { redis: url, cluster } = sandbox.submission;
  // A Redis that comes and goes is said in the output of the task, beside what the program says of it.
  const log = createLog({ level: 'warn' });
  // Named by a variable of the submission, and on this node: a token itself is not for the registry to keep.
  const token = findToken(undefined, { ...process.env, ...sandbox.submission.environment });
  const store = await openRedisStore({ url, cluster, log, name: 'submit-runner', token });
  const runner = new Runner({
    sandbox,
    store,
    clock: systemClock,
    argv,
    directory,
    environment: process.env,
    say: (words) => {
      process.stderr.write(`kaon: ${words}\n`);
    },
  });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => {
      runner.end();
    });
  }
  try {
    return await runner.run();
  } finally {
    await store.close();
  }
}
