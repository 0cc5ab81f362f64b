-- A process that uses its own share, and reaches Redis: of its share, what the others have
-- not had is kept free from now on. It may use that, and no more.
-- KEYS  1 the exit's hash, 2 processes by the time until which they are in step, 3 processes
--       by the end of their lease, 4 process -> how many hosts it has counted,
--       then for each budget: its slots by time, its open connections
-- ARGV  process, lease, hosts, run known for the exit, then for each budget: connects, per,
--       max, slots of the window as the process knows them
-- Returns for each budget how many slots of a window, and how many more connections, are
-- kept free for it; nothing if this is not the Redis that it knows.
-- All times in µs.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local p, lease, n = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
local known = redis.call('HMGET', KEYS[1], 'run', 'feed', 'last', 'gap')
local gap = tonumber(known[4] or '0')
if now - tonumber(known[3] or now) > pause then gap = now end
local step = tonumber(redis.call('ZSCORE', KEYS[2], p) or now)
redis.call('ZADD', KEYS[3], now + lease, p)
if step >= now then redis.call('ZADD', KEYS[2], now - 1, p) end
redis.call('HSET', KEYS[4], p, n)
if known[1] ~= run or run ~= ARGV[4] or tonumber(known[2] or '0') > now then return {} end

local lost, rows = lostOf(KEYS[2], KEYS[3], lease, p, now, gap), {}
for b = 1, (#KEYS - 4) / 2 do
  local slots, open, a = KEYS[3 + 2 * b], KEYS[4 + 2 * b], 4 * b
  local connects, per, max, mine = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
  local total = tonumber(redis.call('HGET', open, '=') or '0')
  local window, connections = keptFree(lost, KEYS[4], slots, open, connects, per, max, total, now)
  local own = ownOf(slots, p, now - per)
  mine = math.max(mine, own) -- what it has taken by itself is not known here
  local used = redis.call('ZCOUNT', slots, now - per, '+inf') + mine - own
  local most = mine + math.max(0, math.min(math.floor(connects / n) - mine, connects - used - window))
  redis.call('HSET', open, '?' .. p, most)
  if max > 0 then
    redis.call('HSETNX', open, '!' .. p, math.max(0, math.floor((max - total - connections) / n)))
    connections = tonumber(redis.call('HGET', open, '!' .. p))
  end
  rows[b] = {most, connections}
end
return rows
