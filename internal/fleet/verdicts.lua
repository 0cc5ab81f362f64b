-- What exchanges answer, for all hosts: says what this process has found, and returns
-- what has changed since it was here last.
-- KEYS  1 pair -> "PROCESS WORD TEXT", 2 pairs by version, 3 pairs by the time when they
--       end, 4 the board's own hash
-- ARGV  process, an id for a new board, version known, most pairs, most answers, life of the keys in ms,
--       how long what is withdrawn is kept; then for each verdict:
--       p, pair, word, text, how long it holds, how much longer than the one before it must hold; or
--       w, pair, version, text: withdraw it, if it is that one or this process' own
-- All times in µs.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local board = redis.call('HMGET', KEYS[4], 'id', 'version')
local id, version = board[1], tonumber(board[2] or '0')
if not id then
  id = ARGV[2]
  redis.call('HSET', KEYS[4], 'id', id)
end
local most, keep = tonumber(ARGV[4]), tonumber(ARGV[7])

local function forget(pair)
  redis.call('HDEL', KEYS[1], pair)
  redis.call('ZREM', KEYS[2], pair)
  redis.call('ZREM', KEYS[3], pair)
end
for _, pair in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 100)) do forget(pair) end

local changed = false
local function put(pair, value, left)
  version = math.max(version + 1, now)
  redis.call('HSET', KEYS[1], pair, value)
  redis.call('ZADD', KEYS[2], version, pair)
  redis.call('ZADD', KEYS[3], now + left, pair)
  changed = true
end
local i = 8
while ARGV[i] do
  local pair = ARGV[i + 1]
  local old = redis.call('HGET', KEYS[1], pair)
  local process, word = string.match(old or '', '^(%S+) (%S+)')
  if ARGV[i] == 'p' then
    local left, more = tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5])
    local ends = tonumber(redis.call('ZSCORE', KEYS[3], pair) or '0')
    local same = word == ARGV[i + 2] and ends + more > now + left
    if not same and (old or redis.call('HLEN', KEYS[1]) < most) then
      put(pair, ARGV[1] .. ' ' .. ARGV[i + 2] .. ' ' .. ARGV[i + 3], left)
    end
    i = i + 6
  else
    if old and word ~= 'ok' and (process == ARGV[1] or redis.call('ZSCORE', KEYS[2], pair) == ARGV[i + 2]) then
      put(pair, ARGV[1] .. ' ok ' .. ARGV[i + 3], keep)
    end
    i = i + 4
  end
end
if changed then
  redis.call('HSET', KEYS[4], 'version', string.format('%.0f', version))
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[6]) end
end

local rows = {}
for _, pair in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[3], '+inf', 'LIMIT', 0, ARGV[5])) do
  rows[#rows + 1] = {pair, redis.call('HGET', KEYS[1], pair) or '', redis.call('ZSCORE', KEYS[2], pair),
    math.max(0, tonumber(redis.call('ZSCORE', KEYS[3], pair) or '0') - now)}
end
return {id, rows}
