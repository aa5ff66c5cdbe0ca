/** The default executor's process: started by an agent, ends with exit code 0 when it was told to shut down. */
import { createLog } from '../../io/log.ts';
import { KaonError } from '../../protocol/errors.ts';
import { ExecutorDriver } from '../executor-driver.ts';
import { DefaultExecutor } from './default-executor.ts';

/** What systemd gives a unit that it stops; the agent's own word, `ShutdownExecutor`, has a time of its own. */
const STOP_GRACE_MS = 5000;
/** How long its last updates are offered to an agent that is away. */
const STOP_TIMEOUT_MS = 60_000;
/** EX_USAGE of sysexits.h. */
const EXIT_USAGE = 64;

const log = createLog();

async function main(): Promise<number> {
  const executor = new DefaultExecutor(process.env, (update) => {
    driver.sendStatusUpdate(update);
  });
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
