-- The sign of life of a process for one exit about which it has nothing to say or to
-- ask: what call.lua has counted last is the answer. Whether it is another Redis by now
-- need not be known here, where nothing is granted.
-- KEYS  1 the exit's hash, 2 processes by the time until which they are in step, 3 processes
--       by the end of their lease
-- ARGV  process, deadline, lease, in-step time, run known for the exit, then for each budget: its name, its limits
-- All times in µs.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local p = ARGV[1]
if now > tonumber(ARGV[2]) then return {'late', now} end

local fields = {'run', 'feed', 'last'}
for i = 6, #ARGV, 2 do fields[#fields + 1] = 'sum:' .. ARGV[i] end
local known = redis.call('HMGET', KEYS[1], unpack(fields))
local step = redis.call('ZSCORE', KEYS[2], p)
if known[1] ~= ARGV[5] or tonumber(known[2] or '0') > now or not step or tonumber(step) <= now then return {'full', now} end
local rows = {}
for n = 4, #fields do
  local till, limits, row = string.match(known[n] or '', '^(%d+) (%S+) (.*)$')
  if limits ~= ARGV[2 * n - 1] or tonumber(till) < now then return {'full', now} end
  rows[n - 3] = row
end
if now - tonumber(known[3] or '0') > 500000 then redis.call('HSET', KEYS[1], 'last', now) end
redis.call('ZADD', KEYS[2], now + ARGV[4], p)
redis.call('ZADD', KEYS[3], now + ARGV[3], p)
return {'ok', now, rows}
