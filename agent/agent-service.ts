/** The agent as a service: what `systemctl status` says of it, its sign of life, and settings that change while it runs. */
import type { Redis } from 'ioredis';
import type { DaemonSettings, Service } from '../io/service.ts';
import { reloadOnHangup, watchReach } from '../io/service.ts';
import type { LogLevel } from '../io/log.ts';
import type { AgentInfo } from '../protocol/task.ts';

/** What an agent is doing, for people. */
export interface AgentView {
  /** That have not ended. */
  readonly tasks: number;
  /** Whether the master has been told of this agent; it may not have answered. */
  readonly isRegistered: boolean;
}

/** What of the agent is told, and what may change. */
export interface AgentServiceOptions<T extends { readonly logLevel?: LogLevel }> {
  readonly service: Service;
  readonly settings: DaemonSettings<T>;
  readonly redis: Redis;
  readonly url: string;
  readonly info: AgentInfo;
  /** What the agent says of itself with other settings. @throws KaonError `no-resources` */
  readonly infoWith: (options: T) => AgentInfo;
}

/** The agent's side of its service. */
export interface AgentHooks {
  /** Called each time that the main loop has come round. */
  readonly onTick: (view: () => AgentView) => void;
  /** Says where to tell that the agent has other resources or attributes. */
  readonly watchInfo: (listener: (info: AgentInfo) => void) => void;
}

/** Settings that need no restart. */
const LIVE_KEYS = ['log-level', 'attribute', 'resources', 'reserve', 'reserve-for'];

/** Ready with the first turn of the main loop: Redis may be away, and the boot of the node must not wait for it. */
export function serveAsAgent<T extends { readonly logLevel?: LogLevel }>({
  service,
  settings,
  redis,
  url,
  infoWith,
  ...options
}: AgentServiceOptions<T>): AgentHooks {
  let hasBegun = false;
  let info = options.info;
  let tell: (info: AgentInfo) => void = () => undefined;
  const unreached = watchReach(redis, url);
  reloadOnHangup({
    ...{ service, settings, liveKeys: LIVE_KEYS },
    apply: (next) => {
      const nextInfo = infoWith(next);
      service.log.setLevel(next.logLevel ?? 'info');
      // A new registration takes offers back: not for another log level.
      if (JSON.stringify(nextInfo) === JSON.stringify(info)) return;
      info = nextInfo;
      tell(info);
    },
  });
  return {
    onTick: (view) => {
      service.notifier.alive();
      if (hasBegun) return;
      hasBegun = true;
      // Its loop does not wait for Redis, and so never for anything.
      service.begin(
        () => describe(view(), unreached()),
        () => undefined,
      );
    },
    watchInfo: (listener) => {
      tell = listener;
    },
  };
}

function describe({ tasks, isRegistered }: AgentView, unreached: string | undefined): string {
  const count = tasks === 1 ? '1 task runs' : `${tasks === 0 ? 'no' : String(tasks)} tasks run`;
  if (unreached !== undefined) return `${count}; waiting for ${unreached}`;
  return isRegistered ? count : `${count}; registering with the master`;
}
