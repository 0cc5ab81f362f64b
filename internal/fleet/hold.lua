-- A process that uses its own share, and reaches Redis: its share is kept free.
-- KEYS  1 processes by the time until which they are in step, 2 processes by the end of
--       their lease, 3 process -> how many hosts it has counted
-- ARGV  process, lease in µs, hosts
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[1], 'NX', now - 1, ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
return now
