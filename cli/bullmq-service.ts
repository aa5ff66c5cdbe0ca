/** `kaon bullmq` as a service: what `systemctl status` says of it, its sign of life, and the level of its log. */
import type { DaemonSettings, Service } from '../io/service.ts';
import { reloadOnHangup, watchReach } from '../io/service.ts';
import type { RunBullmqOptions } from '../schedulers/bullmq/run.ts';
import type { SchedulerSettings } from '../schedulers/bullmq/settings.ts';
import type { BullmqOptions } from './bullmq-options.ts';

/** Its jobs run on over a restart, so that needs no care; only the level of the log is changed without one. */
const LIVE_KEYS = ['log-level'];

type Hooks = Pick<RunBullmqOptions, 'onRound' | 'onConnection' | 'isPatient'>;

/** @returns what each scheduler of the process gets: one for each role of its queues */
export function serveQueues({
  service,
  settings,
}: {
  readonly service: Service;
  readonly settings: DaemonSettings<BullmqOptions>;
}): (scheduler: SchedulerSettings) => Hooks {
  const { queueRedis } = settings.options;
  /** By scheduler and loop: whether it has come round since systemd was told. */
  const rounds = new Map<string, boolean>();
  const jobs = new Map<string, () => number>();
  const unreached: (() => string | undefined)[] = [];
  let queues = 0;
  reloadOnHangup({
    ...{ service, settings, liveKeys: LIVE_KEYS },
    apply: ({ logLevel }) => {
      service.log.setLevel(logLevel);
    },
  });
  service.begin(
    () => describe(queues, jobs),
    () => unreached.map((look) => look()).find((reason) => reason !== undefined),
  );
  return ({ role, queues: own }) => {
    queues += own.length;
    return {
      isPatient: service.isNotified,
      onConnection: (redis) => {
        unreached.push(watchReach(redis, queueRedis));
      },
      onRound: (round) => {
        rounds.set(`${round.loop} ${role}`, true);
        if (round.jobs !== undefined) jobs.set(role, round.jobs);
        if (![...rounds.values()].every((hasComeRound) => hasComeRound)) return;
        service.notifier.alive();
        for (const loop of rounds.keys()) rounds.set(loop, false);
      },
    };
  };
}

function describe(queues: number, jobs: ReadonlyMap<string, () => number>): string {
  if (jobs.size === 0) return 'stands by';
  const running = [...jobs.values()].reduce((sum, count) => sum + count(), 0);
  const words = [
    queues === 1 ? '1 queue' : `${String(queues)} queues`,
    running === 1 ? '1 job has a task' : `${String(running)} jobs have tasks`,
  ];
  return `works on ${words.join(', ')}`;
}
