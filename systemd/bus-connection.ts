/**
 * One connection to a message bus, over `dbus-next`'s low-level messages.
 *
 * The only file that imports `dbus-next`, because of what that library leaves undone: when the bus
 * dies it says nothing and its calls hang for ever, and its proxy objects never remove a match rule.
 * So: no proxies, a timeout on every call, and every call is rejected when the socket ends.
 */
import dbus from 'dbus-next';
import { KaonError, codeOf, messageOf } from '../protocol/errors.ts';

const BUS_NAME = 'org.freedesktop.DBus';
const BUS_PATH = '/org/freedesktop/DBus';
/** Do not start a service for the sake of a call: systemd is there or it is not. D-Bus specification, "NO_AUTO_START". */
const NO_AUTO_START = 2;
const SIGNAL = 4;

/** A method call; `signature` and `body` as the D-Bus specification has them, 64-bit values as BigInt. */
export interface BusCall {
  readonly destination: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly signature?: string;
  readonly body?: readonly unknown[];
}

/** A signal as it came in. */
export interface BusSignal {
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly body: readonly unknown[];
}

/** One connection to the bus, until it is lost. */
export interface BusConnection {
  /**
   * @throws KaonError `bus-call` with the D-Bus error name in `hint`, `bus-timeout`, or `bus-down`
   */
  call(call: BusCall, timeoutMs: number): Promise<readonly unknown[]>;
  end(): void;
}

/** Where to connect, and whom to tell of signals and of the end. */
export interface BusConnectionOptions {
  /** `unix:path=...` */
  readonly address: string;
  readonly matchRules: readonly string[];
  readonly timeoutMs: number;
  readonly onSignal: (signal: BusSignal) => void;
  /** Called once, when a connection that had been made is lost or ended. */
  readonly onEnd: (reason: string) => void;
}

/** What this file uses of `dbus-next`'s private connection. */
interface Socket {
  on(event: 'end', listener: () => void): void;
  readonly stream: {
    on(event: 'close', listener: () => void): void;
    destroy(): void;
    readonly writable: boolean;
  };
}

/**
 * Connects, says Hello and adds the match rules.
 *
 * @throws KaonError `bus-down` or `bus-timeout` if the bus is not there or does not answer within `timeoutMs`
 */
export async function connectBus(options: BusConnectionOptions): Promise<BusConnection> {
  const connection = new Connection(options);
  await connection.greet();
  return connection;
}

class Connection implements BusConnection {
  private readonly options: BusConnectionOptions;
  private readonly bus: ReturnType<typeof dbus.sessionBus>;
  private readonly socket: Socket;
  private readonly hello: Promise<void>;
  /** Rejects a call that is under way. */
  private readonly pending = new Set<(error: Error) => void>();
  private endedBy: string | undefined;
  private isUp = false;

  constructor(options: BusConnectionOptions) {
    this.options = options;
    this.bus = dbus.sessionBus({ busAddress: options.address });
    this.socket = (this.bus as unknown as { _connection: Socket })._connection;
    // Without an 'error' listener an error of the socket, which the bus forwards, would end the process.
    this.bus.on('error', (error: unknown) => this.lost(messageOf(error)));
    this.socket.on('end', () => this.lost('the bus closed the connection'));
    this.socket.stream.on('close', () => this.lost('the connection was closed'));
    this.hello = new Promise((resolve) => this.bus.once('connect', () => resolve()));
  }

  async greet(): Promise<void> {
    try {
      await this.guard(this.hello, 'Hello', this.options.timeoutMs);
      this.bus.on('message', (message: { type: number }) => {
        if (message.type === SIGNAL) this.options.onSignal(message as unknown as BusSignal);
      });
      const bus = { destination: BUS_NAME, path: BUS_PATH, interface: BUS_NAME };
      for (const rule of this.options.matchRules) {
        const addMatch = { ...bus, member: 'AddMatch', signature: 's', body: [rule] };
        await this.call(addMatch, this.options.timeoutMs);
      }
    } catch (error) {
      this.lost(messageOf(error));
      throw error;
    }
    this.isUp = true;
    if (this.endedBy !== undefined) throw this.down();
  }

  async call(request: BusCall, timeoutMs: number): Promise<readonly unknown[]> {
    const message = new dbus.Message({
      destination: request.destination,
      path: request.path,
      interface: request.interface,
      member: request.member,
      flags: NO_AUTO_START,
      ...(request.signature === undefined ? {} : { signature: request.signature }),
      body: [...(request.body ?? [])],
    });
    // A closed socket is told apart from a bad argument here: `dbus-next` throws plain errors inside of the promise for
    // both, and the socket stops being writable before it says that it has ended.
    const reply = this.bus.call(message).catch((error: unknown) => {
      if (!this.socket.stream.writable) this.lost('the socket is closed');
      throw this.endedBy === undefined ? callFailed(request, error) : this.down();
    });
    const what = `${request.interface}.${request.member}`;
    const answer = await this.guard(reply, what, timeoutMs);
    return (answer?.body ?? []) as readonly unknown[];
  }

  end(): void {
    this.lost('closed by us');
  }

  /** Settles as `work` does, unless the connection ends or the time runs out first. */
  private guard<T>(work: Promise<T>, what: string, timeoutMs: number): Promise<T> {
    if (this.endedBy !== undefined) {
      // Nobody waits for it any more, and an unhandled rejection would end the process.
      work.catch(() => undefined);
      return Promise.reject(this.down());
    }
    return new Promise<T>((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        this.pending.delete(fail);
      };
      const fail = (error: Error): void => {
        settle();
        reject(error);
      };
      const late = `no answer to ${what} within ${timeoutMs} ms`;
      const timer = setTimeout(() => fail(new KaonError('bus-timeout', late)), timeoutMs);
      this.pending.add(fail);
      work.then((value) => {
        settle();
        resolve(value);
      }, fail);
    });
  }

  private lost(reason: string): void {
    if (this.endedBy !== undefined) return;
    this.endedBy = reason;
    for (const reject of [...this.pending]) reject(this.down());
    this.socket.stream.destroy();
    if (this.isUp) this.options.onEnd(reason);
  }

  private down(): KaonError {
    const why = this.endedBy ?? 'it is not up';
    return new KaonError(
      'bus-down',
      `no connection to the message bus at ${this.options.address}: ${why}`,
    );
  }
}

/** `dbus-next` puts the error's D-Bus name in `type` and the text in `text`. */
function callFailed(request: BusCall, error: unknown): Error {
  const { type, text } = error as { type?: string; text?: string };
  const details = { cause: error, ...(type === undefined ? {} : { hint: type }) };
  return new KaonError(
    'bus-call',
    `${request.member} failed: ${text ?? messageOf(error)}`,
    details,
  );
}

/** The D-Bus name of a failed call's error, e.g. `org.freedesktop.systemd1.NoSuchUnit`; undefined for other errors. */
export function busErrorName(error: unknown): string | undefined {
  return codeOf(error) === 'bus-call' ? (error as KaonError).hint : undefined;
}

/** A value with its D-Bus signature, as `a(sv)` wants it. */
export function variant(signature: string, value: unknown): unknown {
  return new dbus.Variant(signature, value);
}
