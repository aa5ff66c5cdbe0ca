/**
 * A cluster that has been there before: a new one answers for a while (the timeout of its agents) nothing of which it does
 * not know, because an agent with more knowledge may still come.
 */
import type { ClusterBed } from '../beds/cluster.ts';
import { KAON, startClusterBed, startCommand, until } from '../beds/cluster.ts';
import { startRedisBed } from '../beds/redis.ts';

/** @param args of `kaon dev` */
export async function startSettledCluster(args: readonly string[]): Promise<ClusterBed> {
  const redis = await startRedisBed({ appendonly: 'yes' });
  try {
    await settle(redis.url);
    const cluster = await startClusterBed(args, redis.url);
    const stop = async (): Promise<number | null> => {
      const exitCode = await cluster.stop();
      await redis.stop();
      return exitCode;
    };
    return { ...cluster, stop };
  } catch (error) {
    await redis.stop();
    throw error;
  }
}

/** A first master, with the shortest of timeouts, until it says so. */
async function settle(redisUrl: string): Promise<void> {
  const environment = { KAON_REDIS: redisUrl };
  const kaon = (...argv: string[]) => startCommand([process.execPath, KAON, ...argv], environment);
  const master = kaon('master', '--agent-timeout', '1s');
  try {
    await master.seen('master.leading');
    await until(async () => {
      const { stdout } = await kaon('events', '--json').ended;
      return stdout.includes('cluster.recovered');
    });
  } finally {
    master.child.kill('SIGTERM');
    await master.ended;
  }
}
