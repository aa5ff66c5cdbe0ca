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

export interface BusConnection {
  /**
   * @throws KaonError `bus-call` with the D-Bus error name in `hint`, `bus-timeout`, or `bus-down`
   */
  call(call: BusCall, timeoutMs: number): Promise<readonly unknown[]>;
  end(): void;
}

export interface BusConnectionOptions {
  /** `unix:path=...` */
  readonly address: string;
  readonly matchRules: readonly string[];
  readonly timeoutMs: number;
  readonly onSignal: (signal: BusSignal) => void;
  /** Called once, when the connection is lost or ended. */
  readonly onEnd: (reason: string) => void;
}

/** What this file uses of `dbus-next`'s private connection. */
interface Socket {
  on(event: 'end' | 'error', listener: (error?: unknown) => void): void;
  readonly stream: {
    on(event: 'close', listener: () => void): void;
    destroy(): void;
    readonly writable: boolean;
  };
}

type Reject = (error: Error) => void;

/**
 * Connects, says Hello and adds the match rules.
 *
 * @throws KaonError `bus-down` if the bus is not there or does not answer within `timeoutMs`
 */
export async function connectBus(options: BusConnectionOptions): Promise<BusConnection> {
  const bus = dbus.sessionBus({ busAddress: options.address });
  const socket = (bus as unknown as { _connection: Socket })._connection;
  const pending = new Set<Reject>();
  let endedBy: string | undefined;
  let isUp = false;

  const end = (reason: string): void => {
    if (endedBy !== undefined) return;
    endedBy = reason;
    for (const reject of pending) reject(busDown(options.address, reason));
    pending.clear();
    socket.stream.destroy();
    if (isUp) options.onEnd(reason);
  };
  // The bus must have an 'error' listener, or an error ends the process; it forwards the socket's.
  bus.on('error', (error: unknown) => end(messageOf(error)));
  socket.on('end', () => end('the bus closed the connection'));
  socket.stream.on('close', () => end('the connection was closed'));

  const guard = <T>(work: Promise<T>, what: string, timeoutMs: number): Promise<T> =>
    new Promise<T>((resolve, reject) => {
      if (endedBy !== undefined) return reject(busDown(options.address, endedBy));
      const settle = (): void => {
        clearTimeout(timer);
        pending.delete(fail);
      };
      const fail: Reject = (error) => {
        settle();
        reject(error);
      };
      const timer = setTimeout(
        () => fail(new KaonError('bus-timeout', `no answer to ${what} within ${timeoutMs} ms`)),
        timeoutMs,
      );
      pending.add(fail);
      work.then((value) => {
        settle();
        resolve(value);
      }, fail);
    });

  const call = async (request: BusCall, timeoutMs: number): Promise<readonly unknown[]> => {
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
    const reply = bus.call(message).catch((error: unknown) => {
      if (!socket.stream.writable) end('the socket is closed');
      throw endedBy === undefined ? callFailed(request, error) : busDown(options.address, endedBy);
    });
    const answer = await guard(reply, `${request.interface}.${request.member}`, timeoutMs);
    return (answer?.body ?? []) as readonly unknown[];
  };

  const hello = new Promise<void>((resolve) => bus.once('connect', () => resolve()));
  try {
    await guard(hello, 'Hello', options.timeoutMs);
    bus.on('message', (message: { type: number }) => {
      if (message.type === SIGNAL) options.onSignal(message as unknown as BusSignal);
    });
    const addMatch = { destination: BUS_NAME, path: BUS_PATH, interface: BUS_NAME, member: 'AddMatch' };
    for (const rule of options.matchRules) {
      await call({ ...addMatch, signature: 's', body: [rule] }, options.timeoutMs);
    }
  } catch (error) {
    end(messageOf(error));
    throw error;
  }
  isUp = true;
  if (endedBy !== undefined) throw busDown(options.address, endedBy);
  return { call, end: () => end('closed by us') };
}

function busDown(address: string, reason: string): KaonError {
  return new KaonError('bus-down', `no connection to the message bus at ${address}: ${reason}`);
}

/** `dbus-next` puts the error's D-Bus name in `type` and the text in `text`. */
function callFailed(request: BusCall, error: unknown): Error {
  if (codeOf(error) === 'bus-down') return error as Error;
  const { type, text } = error as { type?: string; text?: string };
  const details = { cause: error, ...(type === undefined ? {} : { hint: type }) };
  return new KaonError('bus-call', `${request.member} failed: ${text ?? messageOf(error)}`, details);
}

/** The D-Bus name of a failed call's error, e.g. `org.freedesktop.systemd1.NoSuchUnit`; undefined for other errors. */
export function busErrorName(error: unknown): string | undefined {
  return codeOf(error) === 'bus-call' ? (error as KaonError).hint : undefined;
}

/** A value with its D-Bus signature, as `a(sv)` wants it. */
export function variant(signature: string, value: unknown): unknown {
  return new dbus.Variant(signature, value);
}
