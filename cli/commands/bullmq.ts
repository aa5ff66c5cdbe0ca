/** `kaon bullmq`: works on queues until it is stopped. One process is one scheduler, or one for each role that its queues have. */
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { silentLog } from '../../io/log.ts';
import { RedisStore } from '../../io/redis-store.ts';
import type { DaemonSettings } from '../../io/service.ts';
import { logSettings, openService } from '../../io/service.ts';
import { settingsOf } from '../../schedulers/bullmq/config.ts';
import { runBullmq } from '../../schedulers/bullmq/run.ts';
import { bundleModule } from '../../schedulers/submit/bundle.ts';
import type { BullmqOptions } from '../bullmq-options.ts';
import { serveQueues } from '../bullmq-service.ts';
import { readAgentSizes } from '../registry.ts';

/** Runs until SIGTERM or Ctrl-C; jobs that run go on, and wait for the next one. @returns the exit code */
export async function bullmq(settings: DaemonSettings<BullmqOptions>): Promise<number> {
  const { config, redis, cluster, queueRedis, logLevel } = settings.options;
  const service = openService('kaon-bullmq', logLevel);
  const { log, notifier } = service;
  logSettings(log, settings.list);
  const all = await settingsOf(config, loadProcessor);
  const drain = new AbortController();
  const stop = new AbortController();
  const hangup = settings.reread ? [] : (['SIGHUP'] as const);
  for (const signal of ['SIGINT', 'SIGTERM', ...hangup] as const) {
    process.on(signal, () => {
      const isDraining = config.drain && !drain.signal.aborted;
      log.info(isDraining ? 'bullmq.draining' : 'bullmq.stopping', { signal });
      notifier.stopping();
      (isDraining ? drain : stop).abort();
    });
  }
  const store = new RedisStore({ url: redis, cluster, log: silentLog, name: 'bullmq-sizes' });
  const rounds = serveQueues({ service, settings });
  try {
    await Promise.all(
      all.map((each) =>
        runBullmq(
          {
            ...{ settings: each, redis, cluster, queueRedis, log },
            ...rounds(each),
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
    service.end();
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
