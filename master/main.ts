/** Runs a master as a process: connects, leads or stands by, and leaves cleanly on SIGTERM or SIGINT. */
import { hostname } from 'node:os';
import { randomName, systemClock } from '../io/clock.ts';
import type { LogLevel } from '../io/log.ts';
import { keepScriptsLoaded } from '../io/client-scripts.ts';
import { hidePassword } from '../io/redis-connection.ts';
import { requireHealthyRedis } from '../io/redis-health.ts';
import { RedisStore } from '../io/redis-store.ts';
import { findClusterKey } from '../io/secrets.ts';
import type { DaemonSettings, Service } from '../io/service.ts';
import { logSettings, openService } from '../io/service.ts';
import { idPart, masterIdOfInvocation } from '../protocol/ids.ts';
import type { MasterId } from '../protocol/ids.ts';
import { ALLOCATOR_DEFAULT, loadAllocator } from './allocators.ts';
import { startApi } from './api/api.ts';
import type { ListenSettings } from './api/listen.ts';
import { Guard } from './guard.ts';
import type { MasterSettings } from './master.ts';
import { MASTER_SETTINGS_DEFAULT, runMaster } from './master.ts';
import { serveAsMaster } from './master-service.ts';

/** After a stop was asked for, calls under way have so long to come back, milliseconds. */
const CLOSE_AFTER_MS = 2000;

/** What a master is started with; everything but the address has a default. */
export interface MasterProcessOptions extends Partial<Omit<MasterSettings, 'allocator'>> {
  /** Name, or path of a module. Default: `drf`. */
  readonly allocator?: string;
  /** Of a round of a module, milliseconds. Default: 1 s. */
  readonly allocatorTimeoutMs?: number;
  readonly redis: string;
  readonly cluster: string;
  readonly logLevel?: LogLevel;
  /** Where the HTTP API listens; absent: there is none. */
  readonly listen?: ListenSettings;
}

/** Resolves when the master has stopped. */
export async function runMasterProcess(
  daemon: DaemonSettings<MasterProcessOptions>,
): Promise<void> {
  const service = openService('kaon-master', daemon.options.logLevel ?? 'info');
  logSettings(service.log, daemon.list);
  try {
    await serve(daemon, service);
  } finally {
    service.end();
  }
}

async function serve(
  daemon: DaemonSettings<MasterProcessOptions>,
  service: Service,
): Promise<void> {
  const { redis, cluster, logLevel: _level, listen, ...given } = daemon.options;
  const { allocator: wanted = ALLOCATOR_DEFAULT, allocatorTimeoutMs, ...overrides } = given;
  const { log } = service;
  const allocator = await loadAllocator(wanted, allocatorTimeoutMs);
  const settings: MasterSettings = { ...MASTER_SETTINGS_DEFAULT, ...overrides, allocator };
  const masterId = ownMasterId(process.env);
  const at = { redis: hidePassword(redis), cluster };
  log.info('master.started', { masterId, ...at, ...settings, allocator: wanted });
  const clusterKey = findClusterKey();
  const store = new RedisStore({ url: redis, cluster, log, name: 'master' });
  keepScriptsLoaded(store.redis, log);
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info('master.stopping', { signal });
      service.notifier.stopping();
      stop.abort();
      // A call that waits for a Redis that is gone would hold the end up for as long as that stays away.
      setTimeout(() => void store.close(), CLOSE_AFTER_MS).unref();
    });
  }
  log.info(clusterKey ? 'cluster.secured' : 'cluster.open', { cluster });
  const guard = clusterKey && new Guard({ clusterKey, store, keys: store.keys, log });
  const served = { redis, cluster, masterId, clock: systemClock, log, clusterKey };
  const api = listen && (await startApi({ ...served, listen }));
  const onRound = serveAsMaster({ service, daemon, redis: store.redis, settings });
  try {
    await requireHealthyRedis({ redis: store.redis, log, clock: systemClock }, stop.signal);
    const dependencies = { store, clock: systemClock, log, masterId, settings, guard, onRound };
    await runMaster(dependencies, stop.signal);
  } finally {
    // An open connection would keep a master alive that has been refused.
    await Promise.all([store.close(), api?.stop()]);
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
