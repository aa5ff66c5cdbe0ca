/**
 * What a scheduler of BullMQ queues needs of Redis beside what every framework does: the commands in BullMQ's scripts and
 * its client, and in those of `schedulers/bullmq/scripts.ts`. It brings its scripts along, so it may run the text of one.
 */

/** In one line each: scripts, strings, hashes, lists, sets, sorted sets, streams. */
export const BULLMQ_COMMANDS = [
  'eval evalsha multi exec discard',
  'get mget set del unlink exists type rename incr incrby persist expire pexpire pexpireat pttl ttl',
  'hget hgetall hmget hset hmset hdel hexists hincrby hlen hscan hstrlen hkeys hvals',
  'lindex llen lpop lpos lpush lrange lrem lset ltrim rpop rpoplpush rpush lmove brpoplpush blmove',
  'sadd scard sismember smismember smembers srem sscan',
  'zadd zcard zcount zlexcount zpopmin bzpopmin zrange zrangebylex zrangebyscore zrem zremrangebyrank',
  'zremrangebyscore zrevrange zrevrangebyscore zscore zscan',
  'xadd xdel xlen xrange xrevrange xread xtrim',
].join(' ');
