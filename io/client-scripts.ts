/**
 * The scripts of clients in Redis, kept there by every master: the users of clients may run them and load none
 * (`acl.ts`). A Redis that restarts or fails over has lost them, and the master's next connection brings them back.
 */
import type { Redis } from 'ioredis';
import { messageOf } from '../protocol/errors.ts';
import { loadScripts } from './define-script.ts';
import type { Log } from './log.ts';
import { CLIENT_SCRIPTS } from './scripts.ts';

/** Somebody may empty the cache of scripts while the connection stays, milliseconds. */
const LOAD_AGAIN_MS = 30_000;

/** Loads them whenever the connection begins, and now and then, until it is closed for good. */
export function keepScriptsLoaded(redis: Redis, log: Log): void {
  const load = (): void => {
    if (redis.status !== 'ready') return;
    loadScripts(redis, CLIENT_SCRIPTS).catch((error: unknown) => {
      const hint = 'the user of a master needs +script|load: kaon acl print --role master';
      log.warn('scripts.load-failed', { error: messageOf(error), hint });
    });
  };
  const timer = setInterval(load, LOAD_AGAIN_MS);
  timer.unref();
  redis.on('ready', load);
  redis.once('end', () => {
    clearInterval(timer);
  });
  load();
}
