/** The manager of a user, `systemd --user`: where it is, and what it says of itself before anything is started in it. */
import type { BusLog } from './bus.ts';
import { SystemdLink } from './systemd-link.ts';

/** What a user's manager is, in facts that stay the same while it runs. */
export interface UserManager {
  /** systemd's version as it calls it, `252.38-1~deb12u1`. */
  readonly version: string;
  /** Its cgroup, in which all of its units are: `/user.slice/user-1000.slice/user@1000.service`. */
  readonly controlGroup: string;
  /** When it was started, microseconds of the monotonic clock; it survives its re-execution. */
  readonly startedAtUsec: bigint;
}

/**
 * Asks for these facts, and leaves.
 *
 * @throws KaonError `systemd-unreachable` and others of the bus, after half a minute in which systemd was not on that bus
 */
export async function readUserManager(busAddress: string, log?: BusLog): Promise<UserManager> {
  const link = new SystemdLink({
    busAddress,
    onEnded: () => undefined,
    onConnection: () => undefined,
    ...(log === undefined ? {} : { log }),
  });
  try {
    const [version, controlGroup, startedAtUsec] = await link.persist(() =>
      Promise.all([
        link.calls.version(),
        link.calls.managerProperty('ControlGroup'),
        link.calls.managerProperty('UserspaceTimestampMonotonic'),
      ]),
    );
    return {
      version,
      controlGroup: String(controlGroup),
      startedAtUsec: startedAtUsec as bigint,
    };
  } finally {
    link.close();
  }
}
