/** What a driver is made with. */
import type { Clock } from '../io/clock.ts';
import type { Log } from '../io/log.ts';
import type { Store } from '../io/store.ts';
import type { Environment } from './environment.ts';

/**
 * Where the cluster is, and what the driver runs on. Tests and the simulator bring their own store and clock.
 */
export interface DriverOptions {
  /** Default: `KAON_REDIS`, else `redis://127.0.0.1:6379`. */
  readonly redis?: string | undefined;
  /** Default: `KAON_CLUSTER`, else `default`. */
  readonly cluster?: string | undefined;
  /**
   * As whom it speaks in a secured cluster, as `kaon token create` prints it. Default: the file that `KAON_TOKEN_FILE` names,
   * or the credential `token` of its unit, else `KAON_TOKEN`. Without one it gets `error` there. Not with `store`, which has
   * its own.
   */
  readonly token?: string | undefined;
  /**
   * A status is acknowledged when `statusUpdate` has returned. Default true; false: the scheduler does it itself, with
   * `acknowledgeStatusUpdate`, when it has stored what it needs to.
   */
  readonly implicitAcknowledgements?: boolean;
  /** Default: says nothing. */
  readonly log?: Log;
  /** A store to use instead of opening one; it is not closed by the driver. */
  readonly store?: Store;
  readonly clock?: Clock;
  /** Default: that of the process. */
  readonly environment?: Environment;
}
