/** `kaon check-redis`: for `install.sh`, before it changes anything: is there a Redis, and is it fit for a cluster? */
import type { Redis } from 'ioredis';
import { systemClock } from '../../io/clock.ts';
import type { Log } from '../../io/log.ts';
import { hidePassword } from '../../io/redis-connection.ts';
import { explainRedisError } from '../../io/redis-errors.ts';
import { readRedisFacts } from '../../io/redis-facts.ts';
import { requireHealthyRedis } from '../../io/redis-health.ts';
import { withStore } from '../connection.ts';
import { EXIT_OK } from '../failure.ts';
import type { ConnectionOptions } from '../options.ts';
import { escapeControls } from '../words.ts';

const SILENT: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/**
 * Writes a line of what there is, and one for each thing that is not as it should be.
 *
 * @throws KaonError `redis-unreachable`, and why no master would start on it: `redis-evicts`, `redis-too-old`, ...
 */
export async function checkRedis(options: ConnectionOptions): Promise<number> {
  return withStore(options, { name: 'check-redis' }, async ({ redis }) => {
    const lines = await describe(redis, hidePassword(options.redis));
    process.stdout.write(lines.map((line) => `${escapeControls(line)}\n`).join(''));
    return EXIT_OK;
  });
}

async function describe(redis: Redis, url: string): Promise<string[]> {
  await requireHealthyRedis({ redis, log: SILENT, clock: systemClock }, AbortSignal.timeout(0));
  try {
    const { version, persistence, warnings } = await readRedisFacts(redis);
    return [`Redis ${version} at ${url}, ${persistence}`, ...warnings];
  } catch (error) {
    // An agent's user may use its own keys, and that it could log in is what matters.
    if (explainRedisError(error).code !== 'no-permission') throw error;
    return [`Redis at ${url} lets this user in`];
  }
}
