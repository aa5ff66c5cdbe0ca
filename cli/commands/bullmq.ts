/** `kaon bullmq`: works on queues until it is stopped. One process is one scheduler, or one for each role that its queues have. */
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { createLog, silentLog } from '../../io/log.ts';
import { RedisStore } from '../../io/redis-store.ts';
import { settingsOf } from '../../schedulers/bullmq/config.ts';
import { runBullmq } from '../../schedulers/bullmq/run.ts';
import { bundleModule } from '../../schedulers/submit/bundle.ts';
import type { BullmqOptions } from '../bullmq-options.ts';
import { readAgentSizes } from '../registry.ts';

/** Runs until SIGTERM or Ctrl-C; jobs that run go on, and wait for the next one. @returns the exit code */
export async function bullmq(options: BullmqOptions): Promise<number> {
  const { config, redis, cluster, queueRedis, logLevel } = options;
  const log = createLog({ level: logLevel, journal: process.env['JOURNAL_STREAM'] !== undefined });
  const all = await settingsOf(config, loadProcessor);
  const drain = new AbortController();
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      const isDraining = config.drain && !drain.signal.aborted;
      log.info(isDraining ? 'bullmq.draining' : 'bullmq.stopping', { signal });
      (isDraining ? drain : stop).abort();
    });
  }
  const store = new RedisStore({ url: redis, cluster, log: silentLog, name: 'bullmq-sizes' });
  try {
    await Promise.all(
      all.map((settings) =>
        runBullmq(
          {
            ...{ settings, redis, cluster, queueRedis, log },
            drainSignal: drain.signal,
            readAgents: () => readAgentSizes(store),
          },
          stop.signal,
        ).finally(() => {
          // One that cannot go on ends the process, and with it the others; whoever has started it starts it again.
          stop.abort();
        }),
      ),
    );
  } finally {
    await store.close();
  }
  return 0;
}

/** The code travels compressed; its digest tells one version from the next. */
async function loadProcessor(file: string): Promise<{ version: string; code: string }> {
  const code = await bundleModule(file);
  return {
    version: createHash('sha256').update(code).digest('hex').slice(0, 16),
    code: gzipSync(code, { level: 9 }).toString('base64'),
  };
}
