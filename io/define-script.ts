/** Scripts as functions: ioredis sends the hash of the text, and the text when the server does not know it (any more). */
import type { Redis } from 'ioredis';

/** Keys first, then arguments; of a script that takes any number of keys, their number before them. */
export type Script = (args: (string | number)[]) => Promise<unknown>;

/**
 * @param name unique on this connection
 * @param keyCount undefined if each call says how many keys it has
 */
export function defineScript(
  redis: Redis,
  name: string,
  lua: string,
  keyCount: number | undefined,
): Script {
  redis.defineCommand(name, keyCount === undefined ? { lua } : { lua, numberOfKeys: keyCount });
  const commands = redis as unknown as Record<string, Script>;
  const script = commands[name];
  if (!script) throw new Error(`ioredis did not define ${name}`);
  // As one array, which ioredis takes apart itself: tens of thousands of arguments of a call overflow the stack.
  return (args) => script.call(redis, args);
}
