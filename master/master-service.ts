/** The master as a service: what `systemctl status` says of it, its sign of life, and settings that change while it runs. */
import type { Redis } from 'ioredis';
import type { LogLevel } from '../io/log.ts';
import type { DaemonSettings, Service } from '../io/service.ts';
import { reloadOnHangup, watchReach } from '../io/service.ts';
import type { MasterSettings, MasterView } from './master.ts';

/** What of the master is told, and what may change. */
export interface MasterServiceOptions<T extends MasterGiven> {
  readonly service: Service;
  readonly daemon: DaemonSettings<T>;
  readonly redis: Redis;
  /** Those that the master goes by; changed in place. */
  readonly settings: MasterSettings;
}

interface MasterGiven extends Partial<Omit<MasterSettings, 'allocator'>> {
  readonly redis: string;
  readonly logLevel?: LogLevel;
}

/** Settings that need no restart. The lease does: who stands by and who leads would count by different ones for a while. */
const LIVE_KEYS = [
  'log-level',
  'offer-timeout',
  'agent-timeout',
  'framework-timeout',
  'minimum-offer',
  'whitelist',
  'preempt-after',
];

/** @returns what to call each time that the main loop has come round */
export function serveAsMaster<T extends MasterGiven>({
  service,
  daemon,
  redis,
  settings,
}: MasterServiceOptions<T>): (view: MasterView) => void {
  let view: MasterView = { state: 'standby' };
  reloadOnHangup({
    ...{ service, settings: daemon, liveKeys: LIVE_KEYS },
    apply: ({ logLevel = 'info', ...next }) => {
      service.log.setLevel(logLevel);
      const { offerTimeoutMs, agentTimeoutMs, frameworkTimeoutMs } = { ...settings, ...next };
      const { minimumOffer = settings.minimumOffer, whitelist, preemptAfterMs } = next;
      Object.assign(settings, { offerTimeoutMs, agentTimeoutMs, frameworkTimeoutMs });
      Object.assign(settings, { minimumOffer, whitelist, preemptAfterMs });
    },
  });
  // Ready before Redis is reached: it may be away, and the boot of the node must not wait for it.
  service.begin(() => describe(view), watchReach(redis, daemon.options.redis));
  return (now) => {
    const hasChanged = now.state !== view.state;
    view = now;
    service.notifier.alive();
    if (hasChanged) service.look();
  };
}

function describe(view: MasterView): string {
  if (view.state === 'standby') {
    return view.leader === undefined ? 'stands by' : `stands by; ${view.leader} leads`;
  }
  const { epoch, agents, frameworks, tasks } = view;
  const counts = [count(agents, 'agent'), count(frameworks, 'framework'), count(tasks, 'task')];
  return `leads, epoch ${String(epoch)}: ${counts.join(', ')}`;
}

function count(items: number, word: string): string {
  return `${String(items)} ${word}${items === 1 ? '' : 's'}`;
}
