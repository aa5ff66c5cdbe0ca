/** Runs a master as a process: connects, leads or stands by, and leaves cleanly on SIGTERM or SIGINT. */
import { hostname } from 'node:os';
import { randomName, systemClock } from '../io/clock.ts';
import type { LogLevel } from '../io/log.ts';
import { createLog } from '../io/log.ts';
import { hidePassword } from '../io/redis-connection.ts';
import { requireHealthyRedis } from '../io/redis-health.ts';
import { RedisStore } from '../io/redis-store.ts';
import { idPart, masterIdOfInvocation } from '../protocol/ids.ts';
import type { MasterId } from '../protocol/ids.ts';
import type { MasterSettings } from './master.ts';
import { MASTER_SETTINGS_DEFAULT, runMaster } from './master.ts';

/** After a stop was asked for, calls under way have so long to come back, milliseconds. */
const CLOSE_AFTER_MS = 2000;

/** What a master is started with; everything but the address has a default. */
export interface MasterProcessOptions extends Partial<MasterSettings> {
  readonly redis: string;
  readonly cluster: string;
  readonly logLevel?: LogLevel;
}

/** Resolves when the master has stopped. */
export async function runMasterProcess(options: MasterProcessOptions): Promise<void> {
  const { redis, cluster, logLevel = 'info', ...overrides } = options;
  const log = createLog({ level: logLevel, journal: process.env['JOURNAL_STREAM'] !== undefined });
  const settings: MasterSettings = { ...MASTER_SETTINGS_DEFAULT, ...overrides };
  const masterId = ownMasterId(process.env);
  log.info('master.started', { masterId, redis: hidePassword(redis), cluster, ...settings });
  const store = new RedisStore({ url: redis, cluster, log, name: 'master' });
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info('master.stopping', { signal });
      stop.abort();
      // A call that waits for a Redis that is gone would hold the end up for as long as that stays away.
      setTimeout(() => void store.close(), CLOSE_AFTER_MS).unref();
    });
  }
  try {
    await requireHealthyRedis({ redis: store.redis, log, clock: systemClock }, stop.signal);
    await runMaster({ store, clock: systemClock, log, masterId, settings }, stop.signal);
  } finally {
    // An open connection would keep a master alive that has been refused.
    await store.close();
  }
  log.info('master.stopped', { masterId });
}

/**
 * Under systemd the id is made of the start of the unit, so that `kaon step-down` in its `ExecStopPost=` can name this
 * process when it has died. A process that only inherited the variables of a unit is not the one that systemd started.
 */
function ownMasterId(environment: Readonly<Record<string, string | undefined>>): MasterId {
  const { INVOCATION_ID: invocationId = '', SYSTEMD_EXEC_PID: startedPid } = environment;
  const isMain = startedPid === String(process.pid);
  if (invocationId !== '' && isMain) return masterIdOfInvocation(hostname(), invocationId);
  return `${idPart(hostname())}.${randomName(6)}` as MasterId;
}
