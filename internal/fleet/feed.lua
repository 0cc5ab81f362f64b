-- Slots that a process has in one budget, as it knows them: instead of what is here.
-- KEYS  1 the budget's slots by time
-- ARGV  the window, then for each slot: its id, how long ago its dial has ended; less
--       than 0: it ends so much later at the latest. All times in µs.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
for i = 2, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], now - ARGV[i + 1], ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], math.floor((ARGV[1] + 600000000) / 1000))
return now
