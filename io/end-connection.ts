/** The end of a connection to Redis, in whatever state it is. */
import type { Command, Redis } from 'ioredis';

/** What ioredis does itself when the socket of a connection that was to end has closed. */
interface Ending {
  reconnectTimeout: NodeJS.Timeout | null;
  /** Calls that the last connection owed an answer, until there is a next one to send them on. */
  prevCommandQueue: { shift(): { readonly command: Command } | undefined } | null | undefined;
  setStatus(status: 'end'): void;
  flushQueue(error: Error): void;
}

/**
 * Ends a connection for good: what waits on it fails with `Connection is closed.`, as does what is asked of it later.
 * To be called once.
 */
export function endConnection(redis: Redis): void {
  const ending = redis as unknown as Ending;
  const error = new Error('Connection is closed.');
  // Neither `disconnect` nor `flushQueue` of ioredis (6.0) knows of these: they would wait for ever.
  for (let item; (item = ending.prevCommandQueue?.shift());) item.command.reject(error);
  if (redis.status !== 'reconnecting') {
    redis.disconnect();
    return;
  }
  // Between two attempts there is no socket whose end would say so: `disconnect` leaves every call waiting for ever, and
  // the process alive for two seconds.
  clearTimeout(ending.reconnectTimeout ?? undefined);
  ending.reconnectTimeout = null;
  ending.setStatus('end');
  ending.flushQueue(error);
}
