-- A process' sign of life for the whole fleet.
-- KEYS  1 the registry's hash, 2 processes by the end of their lease, 3 those that are
--       retired, by the end of their lease
-- ARGV  process, lease, settled time of feeding, 1 if it is retired, 1 if it ends
-- All times in µs.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local p, lease = ARGV[1], tonumber(ARGV[2])
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
local known = redis.call('HMGET', KEYS[1], 'run', 'feed', 'last')
local feeding = tonumber(known[2] or '0')
if known[1] ~= run then
  feeding = now + ARGV[3]
  redis.call('HSET', KEYS[1], 'run', run, 'feed', feeding)
end
local last = tonumber(known[3] or now)
redis.call('HSET', KEYS[1], 'last', now)
for _, key in ipairs({KEYS[2], KEYS[3]}) do
  for _, q in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now)) do
    if now - last > 3000000 and tonumber(redis.call('ZSCORE', key, q)) > last then
      redis.call('ZADD', key, now + lease, q) -- no process could call
    else
      redis.call('ZREM', key, q)
    end
  end
end
redis.call('ZREM', KEYS[2], p)
redis.call('ZREM', KEYS[3], p)
if ARGV[5] ~= '1' then
  redis.call('ZADD', ARGV[4] == '1' and KEYS[3] or KEYS[2], now + lease, p)
end
return {now, run, math.max(0, feeding - now), redis.call('ZCARD', KEYS[2])}
