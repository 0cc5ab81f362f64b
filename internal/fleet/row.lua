-- A process' row in the list that people read. It stays for a while after the process
-- was last heard.
-- KEYS  1 process -> row, 2 processes by the time when they were last heard
-- ARGV  process, its row or '' when it leaves, how long rows stay
-- All times in µs.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('ZADD', KEYS[2], now, ARGV[1])
end
for _, q in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3], 'LIMIT', 0, 100)) do
  redis.call('HDEL', KEYS[1], q)
  redis.call('ZREM', KEYS[2], q)
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, math.floor(ARGV[3] / 500)) end -- twice as long
return 1
