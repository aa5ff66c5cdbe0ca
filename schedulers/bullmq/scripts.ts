/**
 * What Kaon does in a queue that BullMQ has no call for, each in one step of Redis. Keys and fields are those of BullMQ 6; its
 * version is fixed in package.json, and test/contract/bullmq-queue.test.ts holds these scripts to the real library.
 */

/** Field of a job: see `NOTE_TOLD`. */
export const TOLD_FIELD = 'kaonTold';

/**
 * Looks at a queue without taking anything. Delayed jobs whose time has come are moved to where they wait, as every fetch of
 * BullMQ does (`promoteDelayedJobs`). `Queue.rateLimit` writes the largest safe integer: a processor that has called it, because
 * what it calls wants to be left alone, is not called again before its end, with a limit of the queue or without one.
 *
 * KEYS wait, active, prioritized, events, rate limiter, delayed, meta, priority counter, marker
 * ARGV prefix of keys, now (ms), how many ids at most, jobs of a rate limit of the worker's own ('' for none)
 * Returns paused (0 or 1), room under the global concurrency (-1: any), time to the end of a rate limit (ms), jobs that may
 * start before the next one (-1: any), time of the next delayed job (ms, 0: none), waiting jobs in all, and the ids in the order
 * in which they would be taken.
 */
export const LOOK = `
local wait, active, prioritized, events, limiter, delayed, meta, counter, marker = unpack(KEYS)
local prefix, now, count, ownMax = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local due = redis.call('ZRANGEBYSCORE', delayed, 0, (now + 1) * 0x1000 - 1, 'LIMIT', 0, 1000)
for _, id in ipairs(due) do
  redis.call('ZREM', delayed, id)
  local priority = tonumber(redis.call('HGET', prefix .. id, 'priority')) or 0
  if priority == 0 then
    redis.call('LPUSH', wait, id)
  else
    local number = redis.call('INCR', counter)
    redis.call('ZADD', prioritized, priority * 0x100000000 + number % 0x100000000, id)
  end
  redis.call('XADD', events, '*', 'event', 'waiting', 'jobId', id, 'prev', 'delayed')
  redis.call('HSET', prefix .. id, 'delay', 0)
end
local queue = redis.call('HMGET', meta, 'paused', 'concurrency', 'max')
local room = -1
if queue[2] then room = math.max(0, tonumber(queue[2]) - redis.call('LLEN', active)) end
if #due > 0 and not queue[1] and room ~= 0 then redis.call('ZADD', marker, 0, '0') end
local max = tonumber(queue[3]) or tonumber(ownMax)
local used = tonumber(redis.call('GET', limiter) or 0)
local ttl, starts = 0, -1
if max or used >= ${String(Number.MAX_SAFE_INTEGER)} then
  starts = math.max(0, (max or 0) - used)
  if starts == 0 then ttl = math.max(0, redis.call('PTTL', limiter)) end
  if starts == 0 and ttl == 0 then starts = max or -1 end
end
local next = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local nextAt = next[2] and math.floor(tonumber(next[2]) / 0x1000) or 0
local ids = redis.call('LRANGE', wait, -count, -1)
local ordered = {}
for index = #ids, 1, -1 do ordered[#ordered + 1] = ids[index] end
if #ordered < count then
  for _, id in ipairs(redis.call('ZRANGE', prioritized, 0, count - #ordered - 1)) do
    ordered[#ordered + 1] = id
  end
end
local total = redis.call('LLEN', wait) + redis.call('ZCARD', prioritized)
return { queue[1] and 1 or 0, room, ttl, starts, nextAt, total, ordered }
`;

/**
 * Reads what jobs say, but not what is too long to be read for nothing.
 *
 * KEYS of jobs. ARGV largest data of one, and of all together (bytes)
 * Returns for each name, data, key of its job scheduler ('' for none), and length of the data; data is '' if it is longer. Nothing
 * for a job that is not there. Fewer than there are keys once all together are too long.
 */
export const READ = `
local max, left, found = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for index, key in ipairs(KEYS) do
  local length = redis.call('HSTRLEN', key, 'data')
  local name = redis.call('HMGET', key, 'name', 'rjk')
  if not name[1] then
    found[index] = {}
  else
    local data = length <= max and redis.call('HGET', key, 'data') or ''
    left = left - #data
    if left < 0 and index > 1 then break end
    found[index] = { name[1], data, name[2] or '', length }
  end
end
return found
`;

/**
 * Makes these jobs the next that are taken, the first of them first. One that does not wait any more is left where it is.
 *
 * KEYS wait, prioritized. ARGV ids
 */
export const BRING_FORWARD = `
for index = #ARGV, 1, -1 do
  local id = ARGV[index]
  if redis.call('LREM', KEYS[1], -1, id) > 0 or redis.call('ZREM', KEYS[2], id) > 0 then
    redis.call('RPUSH', KEYS[1], id)
  end
end
return 0
`;

/**
 * Takes one job, wherever it is, or goes on with it: afterwards it is active, and its lock is ours. For a job whose task runs
 * although Redis has forgotten that it was taken, for one whose lock has run out while nobody could extend it, and for one that
 * is to be cancelled before its turn.
 *
 * KEYS wait, active, prioritized, delayed, paused (where the jobs of a queue wait that BullMQ 5 has paused), stalled, job, lock.
 * ARGV id, token, lock duration (ms), and how often it has been started at least, as its task says
 * Returns 'missing', 'locked' (by somebody else), 'ended', 'children' (it waits for them), or 'ours'.
 */
export const ADOPT = `
local wait, active, prioritized, delayed, paused, stalled, job, lock = unpack(KEYS)
local id, token, duration = ARGV[1], ARGV[2], ARGV[3]
if redis.call('EXISTS', job) == 0 then return 'missing' end
local holder = redis.call('GET', lock)
if holder and holder ~= token then return 'locked' end
local isActive = redis.call('LPOS', active, id)
if not isActive then
  if redis.call('LREM', wait, -1, id) == 0 and redis.call('ZREM', prioritized, id) == 0
      and redis.call('ZREM', delayed, id) == 0 and redis.call('LREM', paused, -1, id) == 0 then
    if redis.call('HEXISTS', job, 'finishedOn') == 1 then return 'ended' end
    return 'children'
  end
  redis.call('LPUSH', active, id)
  redis.call('HSET', job, 'delay', 0)
end
redis.call('SET', lock, token, 'PX', duration)
redis.call('SREM', stalled, id)
local starts = tonumber(redis.call('HGET', job, 'ats') or 0)
if starts < tonumber(ARGV[4]) then redis.call('HSET', job, 'ats', ARGV[4]) end
return 'ours'
`;

/**
 * Counts a start that was lost with its node, as BullMQ counts stalls, and tells whoever listens.
 *
 * KEYS job, events. ARGV id
 * Returns how often that has happened.
 */
export const COUNT_LOST = `
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', 'event', 'stalled', 'jobId', ARGV[1])
return redis.call('HINCRBY', KEYS[1], 'stc', 1)
`;

/**
 * Notes which start of a job was the last whose end BullMQ is told without the job being over.
 *
 * KEYS job. ARGV start
 */
export const NOTE_TOLD = `
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], '${TOLD_FIELD}', ARGV[1]) end
return 0
`;

/**
 * Holds, takes or extends the right to be the scheduler of a framework.
 *
 * KEYS lease. ARGV holder, duration (ms). Returns 1 if it is ours.
 */
export const HOLD_LEASE = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
`;

/** KEYS lease. ARGV holder. Gives up what `HOLD_LEASE` has taken. */
export const DROP_LEASE = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
`;
