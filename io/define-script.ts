/**
 * Scripts as functions: sent by the digest of their text, and by the text only when the server does not know it (any
 * more). Users of Redis that are clients of a master may run scripts and not load them (`acl.ts`): what a master has
 * loaded is all that they can run.
 */
import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { KaonError, messageOf } from '../protocol/errors.ts';

/** Keys first, then arguments; of a script that takes any number of keys, their number before them. */
export type Script = (args: (string | number)[]) => Promise<unknown>;

/**
 * @param keyCount undefined if each call says how many keys it has
 * @returns the script. It throws KaonError `scripts-missing` where the user of the connection may not load it
 */
export function defineScript(redis: Redis, lua: string, keyCount: number | undefined): Script {
  const digest = digestOf(lua);
  return async (args) => {
    // As one array, which ioredis takes apart itself: tens of thousands of arguments of a call overflow the stack.
    const rest = keyCount === undefined ? args : [keyCount, ...args];
    try {
      return await redis.call('evalsha', [digest, ...rest]);
    } catch (error) {
      if (!messageOf(error).includes('NOSCRIPT')) throw error;
    }
    try {
      return await redis.call('eval', [lua, ...rest]);
    } catch (error) {
      throw isForbidden(error) ? scriptsMissing(error) : error;
    }
  };
}

/** @returns the name by which Redis knows a script */
export function digestOf(lua: string): string {
  return createHash('sha1').update(lua).digest('hex');
}

/** Makes scripts known to the server, for those who may only run them. */
export async function loadScripts(redis: Redis, scripts: readonly string[]): Promise<void> {
  await Promise.all(scripts.map((lua) => redis.script('LOAD', lua)));
}

/** About the command itself, and not about one inside the script. */
function isForbidden(error: unknown): boolean {
  return /NOPERM.*'eval'/i.test(messageOf(error));
}

function scriptsMissing(cause: unknown): KaonError {
  const message = "Redis does not have Kaon's scripts, and this user of Redis may not load them";
  return new KaonError('scripts-missing', message, {
    cause,
    hint: 'a master loads them as soon as it is connected: does one run? (kaon status)',
  });
}
