/**
 * The atomic scripts (Lua, inside Redis). Each is one decision that must not be torn apart: is the lease still
 * mine *and* write; have I seen this entry *and* append. All are safe to run twice with the same arguments.
 * `fake/model.ts` says the same in TypeScript; the contract suite holds the two together.
 */

/**
 * KEYS sequence, inbox. ARGV sequence, inbox limit, from, session, messages.
 * The sequence key expires after a day of silence, so that ended sessions leave nothing behind.
 */
export const APPEND = `
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local sequence = tonumber(ARGV[1])
if sequence <= last then return 'duplicate' end
if sequence > last + 1 then return 'gap' end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[2]) then return 'full' end
redis.call('XADD', KEYS[2], '*', 'from', ARGV[3], 'session', ARGV[4], 'sequence', ARGV[1], 'messages', ARGV[5])
redis.call('SET', KEYS[1], ARGV[1], 'EX', 86400)
return 'appended'
`;

/** KEYS liveness, sessions, client stream, sequence. ARGV client, session, cursor. */
export const HEARTBEAT = `
local known = redis.call('HGET', KEYS[2], ARGV[1])
if not known then return 'unknown' end
if known ~= ARGV[2] then return 'moved' end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
redis.call('EXPIRE', KEYS[4], 86400)
if ARGV[3] ~= '0-0' then redis.call('XTRIM', KEYS[3], 'MINID', '~', ARGV[3]) end
return 'ok'
`;

/** KEYS leader, epoch. ARGV master id, lease ms. Returns the epoch, or false if another master leads. */
export const ACQUIRE = `
local held = redis.call('GET', KEYS[1])
if held then
  local epoch, owner = string.match(held, '^(%d+) (.*)$')
  if owner ~= ARGV[1] then return false end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return epoch
end
local epoch = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], epoch .. ' ' .. ARGV[1], 'PX', ARGV[2])
return tostring(epoch)
`;

/** KEYS leader. ARGV token, lease ms. Returns the time in ms, or false. */
export const RENEW = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local time = redis.call('TIME')
return tostring(time[1] * 1000 + math.floor(time[2] / 1000))
`;

/** KEYS leader. ARGV token, channel. */
export const RELEASE = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], 'released')
return 1
`;

/**
 * The fenced commit. KEYS leader, cursor, inbox, then one for each operation. ARGV token, commit number, cursor,
 * stream limit, then the operations: a letter, a count n, and n values.
 *   H field value ...   write records       D field ...        delete records
 *   S messages          send to a client    X field value ... (approximate length limit first)  append, capped
 *   L member ...        begin liveness      Z member ...       forget liveness     K   delete a stream
 * Returns 'ok' and the positions (from 1) of operations whose client stream is over the limit.
 */
export const COMMIT = `
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] then return {'fenced', held or 'nobody'} end
local at = redis.call('GET', KEYS[2]) or '0 0-0'
local last = tonumber(string.match(at, '^(%d+) '))
local number = tonumber(ARGV[2])
if last == number then return {'ok'} end
if last ~= number - 1 then return {'out-of-order', at} end
local reply = {'ok'}
local limit = tonumber(ARGV[4])
local k, a = 4, 5
while a <= #ARGV do
  local op, n = ARGV[a], tonumber(ARGV[a + 1])
  local key, first, final = KEYS[k], a + 2, a + 1 + n
  if op == 'H' then redis.call('HSET', key, unpack(ARGV, first, final))
  elseif op == 'D' then redis.call('HDEL', key, unpack(ARGV, first, final))
  elseif op == 'S' then
    redis.call('XADD', key, '*', 'messages', ARGV[first])
    if redis.call('XLEN', key) > limit then reply[#reply + 1] = k - 3 end
  elseif op == 'X' then redis.call('XADD', key, 'MAXLEN', '~', ARGV[first], '*', unpack(ARGV, first + 1, final))
  elseif op == 'L' then
    local time = redis.call('TIME')
    for i = first, final do redis.call('ZADD', key, time[1] * 1000 + math.floor(time[2] / 1000), ARGV[i]) end
  elseif op == 'Z' then redis.call('ZREM', key, unpack(ARGV, first, final))
  elseif op == 'K' then redis.call('UNLINK', key)
  end
  k = k + 1
  a = final + 1
end
redis.call('SET', KEYS[2], ARGV[2] .. ' ' .. ARGV[3])
redis.call('XTRIM', KEYS[3], 'MINID', '~', ARGV[3])
return reply
`;
