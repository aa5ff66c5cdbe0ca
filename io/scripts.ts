/**
 * The atomic scripts (Lua, inside Redis). Each is one decision that must not be torn apart: is the lease still
 * mine *and* write; have I seen this entry *and* append. All are safe to run twice with the same arguments.
 * `fake/model.ts` says the same in TypeScript; the contract suite holds the two together.
 *
 * Numbers above 14 digits are formatted by hand: Lua's `tostring` would round them.
 */

/** Milliseconds since 1970, and the id of this Redis process (4 microseconds); each restart and failover changes it. */
const HELPERS = `
local function now()
  local time = redis.call('TIME')
  return string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
end
local function server() return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') end
local function isOf(known, id) return known == id or known == id .. '?' end
`;

/**
 * KEYS sequence, inbox. ARGV sequence, inbox limit, from, session, messages, then other fields and their values.
 * The sequence key expires after a day of silence, so that ended sessions leave nothing behind.
 */
export const APPEND = `
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local sequence = tonumber(ARGV[1])
if sequence <= last then return 'duplicate' end
if sequence > last + 1 then return 'gap' end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[2]) then return 'full' end
redis.call('XADD', KEYS[2], '*', 'from', ARGV[3], 'session', ARGV[4], 'sequence', ARGV[1], 'messages', unpack(ARGV, 5))
redis.call('SET', KEYS[1], ARGV[1], 'EX', 86400)
return 'appended'
`;

/**
 * KEYS session floor, the client's session number. Returns its next number: one more than its last or the floor, or the
 * time in microseconds, whichever is greatest, so that numbers go on growing when the keys were lost.
 */
export const OPEN_SESSION = `
local time = redis.call('TIME')
local floor = tonumber(redis.call('GET', KEYS[1]) or '0')
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local number = string.format('%.0f', math.max(floor + 1, last + 1, time[1] * 1000000 + time[2]))
redis.call('SET', KEYS[2], number, 'EX', 86400)
return number
`;

/**
 * KEYS sessions, alive, client stream, sequence. ARGV client, session, cursor. An older session that is registered (names
 * sort as they were opened) comes from a replica that lacks the newer one: nobody has taken the client's place.
 */
export const HEARTBEAT = `${HELPERS}
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known then return 'unknown' end
if known < ARGV[2] then return 'unknown' end
if known ~= ARGV[2] then return 'moved' end
redis.call('SET', KEYS[2], now(), 'EX', 86400)
redis.call('EXPIRE', KEYS[4], 86400)
if ARGV[3] ~= '0-0' then redis.call('XTRIM', KEYS[3], 'MINID', '~', ARGV[3]) end
return 'ok'
`;

/**
 * KEYS sessions. ARGV client, name of its direct streams without the session, entry limit, messages, seconds that they are
 * kept. The key of the stream is made here, of a session that only this script knows in time; it has the hash tag of all
 * the others, and so lives where they do.
 */
export const SEND_TO_FRAMEWORK = `
local session = redis.call('HGET', KEYS[1], ARGV[1])
if not session then return 'unknown' end
local stream = ARGV[2] .. session
if redis.call('XLEN', stream) >= tonumber(ARGV[3]) then return 'full' end
redis.call('XADD', stream, '*', 'messages', ARGV[4])
redis.call('EXPIRE', stream, ARGV[5])
return 'sent'
`;

/** What clients run, and a master loads for them: their users of Redis may not. */
export const CLIENT_SCRIPTS: readonly string[] = [
  APPEND,
  OPEN_SESSION,
  HEARTBEAT,
  SEND_TO_FRAMEWORK,
];

/**
 * KEYS leader, epoch, leader's connection. ARGV master id, lease ms, token to replace or '', connection or '', channel.
 * Takes the lease if it is free, if it is this master's already, or if it is the one to replace; each time with a new
 * epoch, so that of two terms of one master only the later one can write. The first epoch is the time in seconds: a
 * cluster that was emptied must not count from 1 again, for a late write of before would fit. Returns the epoch, or false.
 */
export const ACQUIRE = `
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[3] and string.match(held, '^%d+ (.*)$') ~= ARGV[1] then return false end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('SET', KEYS[2], redis.call('TIME')[1]) end
local epoch = string.format('%.0f', redis.call('INCR', KEYS[2]))
local token = epoch .. ' ' .. ARGV[1]
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
if ARGV[4] == '' then redis.call('DEL', KEYS[3])
else redis.call('SET', KEYS[3], ARGV[4] .. ' ' .. token, 'PX', ARGV[2]) end
if held then redis.call('PUBLISH', ARGV[5], 'taken') end
return epoch
`;

/**
 * KEYS leader, server, leader's connection. ARGV token, lease ms, connection or ''.
 * Returns the time in ms, 'server-changed', or false.
 */
export const RENEW = `${HELPERS}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
if not isOf(redis.call('GET', KEYS[2]), server()) then return 'server-changed' end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if ARGV[3] == '' then redis.call('DEL', KEYS[3])
else redis.call('SET', KEYS[3], ARGV[3] .. ' ' .. ARGV[1], 'PX', ARGV[2]) end
return now()
`;

/**
 * KEYS leader, server, sessions, session floor. ARGV token, clock skew ms. The leader is about to load: if the data
 * was last verified on another Redis process (or never), some of it may be missing, and no session is known any more; so
 * every client finds out with its next heartbeat, and registers again with all that it has. The question mark goes with
 * the first commit: a leader that dies before it has acted on the loss leaves that to the next one. Numbers of sessions
 * go on above what the Redis before this one can have given out: its clock, or its floor and a million for each client.
 * Returns the time in ms, whether data may be lost, and the floor; or false.
 */
export const BEGIN_TERM = `${HELPERS}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local id = server()
if redis.call('GET', KEYS[2]) == id then return {now(), 0} end
redis.call('DEL', KEYS[3])
redis.call('SET', KEYS[2], id .. '?')
local time = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[4]) or '0')
local from = string.format('%.0f', math.max(last + 1000000, time[1] * 1000000 + time[2] + ARGV[2] * 1000))
redis.call('SET', KEYS[4], from)
return {now(), 1, from}
`;

/** KEYS leader, epoch, leader's connection. ARGV token, new epoch, new token. Returns 1, or 0 if the lease is not ours. */
export const RAISE_EPOCH = `
local held = redis.call('GET', KEYS[1])
if held == ARGV[3] then return 1 end
if held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
if tonumber(redis.call('GET', KEYS[2]) or '0') < tonumber(ARGV[2]) then redis.call('SET', KEYS[2], ARGV[2]) end
local connection = string.match(redis.call('GET', KEYS[3]) or '', '^%d+')
if connection then redis.call('SET', KEYS[3], connection .. ' ' .. ARGV[3], 'KEEPTTL') end
return 1
`;

/** KEYS leader, leader's connection. ARGV token, or '' and a master id, whatever its epoch; channel. */
export const RELEASE = `
local held = redis.call('GET', KEYS[1])
if not held then return 0 end
if held ~= ARGV[1] and (ARGV[1] ~= '' or string.match(held, '^%d+ (.*)$') ~= ARGV[2]) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('PUBLISH', ARGV[3], 'released')
return 1
`;

/**
 * KEYS principals, changes. ARGV name, value that was read or '', new value. Returns 1, or 0 if somebody else was faster.
 */
export const REPLACE_PRINCIPAL = `
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('INCR', KEYS[2])
return 1
`;

/**
 * The fenced commit. KEYS leader, cursor, inbox, server, then one for each operation. ARGV token, commit number, cursor,
 * stream limit, then the operations: a letter, a count n, and n values.
 *   H field value ...   write records       D field ...        delete records
 *   S messages field .. send to a client    X field value ... (approximate length limit first)  append, capped
 *   L member ...        begin liveness      Z member ...       forget liveness     K   delete a stream
 *   F seconds messages field ..  delete a stream but for a last word, which expires
 *   E                   the newest entry of this stream of events, for the next P
 *   P state             (length limit first) append a state and the events that are in it
 * Returns 'ok' and the positions (from 1) of operations whose client stream is over the limit.
 */
export const COMMIT = `${HELPERS}
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] then return {'fenced', held or 'nobody'} end
local id = server()
local known = redis.call('GET', KEYS[4])
if not isOf(known, id) then return {'server-changed', id} end
local at = redis.call('GET', KEYS[2]) or '0 0-0'
local last = tonumber(string.match(at, '^(%d+) '))
local number = tonumber(ARGV[2])
if last == number then return {'ok'} end
if last ~= number - 1 then return {'out-of-order', at} end
local reply = {'ok'}
local limit = tonumber(ARGV[4])
local event = '0-0'
local k, a = 5, 5
while a <= #ARGV do
  local op, n = ARGV[a], tonumber(ARGV[a + 1])
  local key, first, final = KEYS[k], a + 2, a + 1 + n
  if op == 'H' then redis.call('HSET', key, unpack(ARGV, first, final))
  elseif op == 'D' then redis.call('HDEL', key, unpack(ARGV, first, final))
  elseif op == 'S' then
    redis.call('XADD', key, '*', 'messages', unpack(ARGV, first, final))
    if redis.call('XLEN', key) > limit then reply[#reply + 1] = k - 4 end
  elseif op == 'X' then redis.call('XADD', key, 'MAXLEN', '~', ARGV[first], '*', unpack(ARGV, first + 1, final))
  elseif op == 'L' then
    local time = now()
    for i = first, final do redis.call('ZADD', key, time, ARGV[i]) end
  elseif op == 'Z' then redis.call('ZREM', key, unpack(ARGV, first, final))
  elseif op == 'K' then redis.call('UNLINK', key)
  elseif op == 'F' then
    -- Emptied and not deleted: ids must go on growing within this millisecond too.
    redis.call('XTRIM', key, 'MAXLEN', 0)
    redis.call('XADD', key, '*', 'messages', unpack(ARGV, first + 1, final))
    redis.call('EXPIRE', key, ARGV[first])
  elseif op == 'E' then
    local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
    if newest[1] then event = newest[1][1] end
  elseif op == 'P' then redis.call('XADD', key, 'MAXLEN', ARGV[first], '*', 'state', ARGV[first + 1], 'event', event)
  end
  k = k + 1
  a = final + 1
end
if known ~= id then redis.call('SET', KEYS[4], id) end
redis.call('SET', KEYS[2], ARGV[2] .. ' ' .. ARGV[3])
redis.call('XTRIM', KEYS[3], 'MINID', '~', ARGV[3])
return reply
`;
