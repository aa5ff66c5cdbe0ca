/**
 * The process of the executor of processors: `processor-executor [FILE] [--warm N]`. Without a FILE it asks the scheduler for
 * the processor. Started by an agent, ends with exit code 0 when it was told to shut down.
 */
import { fileURLToPath } from 'node:url';
import { createLog, ExecutorDriver, KaonError } from '../../../executor/index.ts';
import { ProcessorExecutor } from './processor-executor.ts';
import { Program } from './program.ts';

/** What systemd gives a unit that it stops; the agent's own word, `ShutdownExecutor`, has a time of its own. */
const STOP_GRACE_MS = 5000;
/** How long its last updates are offered to an agent that is away. */
const STOP_TIMEOUT_MS = 60_000;
/** Children without a job that are kept by default. */
const WARM_DEFAULT_COUNT = 2;
/** EX_USAGE of sysexits.h. */
const EXIT_USAGE = 64;

const USAGE = 'usage: processor-executor [FILE] [--warm N]';

const log = createLog();

function readArguments(argv: readonly string[]): { file: string | undefined; warmCount: number } {
  const isFileGiven = argv[0]?.startsWith('--') === false;
  const file = isFileGiven ? argv[0] : undefined;
  const [flag, count = '', ...more] = argv.slice(isFileGiven ? 1 : 0);
  const isWarmRight = flag === undefined || (flag === '--warm' && /^\d{1,4}$/.test(count));
  if (file === '' || !isWarmRight || more.length > 0) {
    throw new KaonError('usage', `not understood: ${argv.join(' ')}`, { hint: USAGE });
  }
  return { file, warmCount: flag === undefined ? WARM_DEFAULT_COUNT : Number(count) };
}

async function main(): Promise<number> {
  const { file, warmCount } = readArguments(process.argv.slice(2));
  // Both are built into the same folder.
  const childPath = fileURLToPath(new URL('./processor-child.js', import.meta.url));
  const executor = new ProcessorExecutor(
    { childPath, program: new Program(file), warmCount },
    {
      log,
      report: (update) => {
        driver.sendStatusUpdate(update);
      },
      send: (data) => {
        driver.sendFrameworkMessage(data);
      },
    },
  );
  const driver = new ExecutorDriver(executor, { log, stopTimeoutMs: STOP_TIMEOUT_MS });
  const terminate = async (): Promise<void> => {
    await executor.shutdown(driver, STOP_GRACE_MS);
    await driver.stop();
  };
  process.on('SIGTERM', () => {
    log.info('executor.terminated');
    void terminate();
  });
  return (await driver.run()) === 'DRIVER_STOPPED' ? 0 : 1;
}

try {
  // Tasks may be left: of an aborted driver nobody would hear how they end, so they end with this process.
  process.exit(await main());
} catch (error) {
  if (!(error instanceof KaonError)) throw error;
  log.error('executor.not-started', { error: error.message, hint: error.hint });
  process.exit(EXIT_USAGE);
}
