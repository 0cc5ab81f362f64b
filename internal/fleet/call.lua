-- One process' call for one exit: what has become of its slots, how many connections
-- it has open, and slots that it asks for, each in all budgets or in none.
--
-- KEYS  1 the exit's hash, 2 processes by the time until which they are in step, 3 processes
--       by the end of their lease, 4 process -> how many hosts it has counted,
--       then for each budget: its slots by time, its open connections, its limits
-- ARGV  process, deadline, lease, in-step time, hosts, settled time of
--       feeding, run known for the exit, run of the registry, 1 if it is retired, prefix of
--       the keys, budgets, for each: name, connects, per, max, open; operations, for each:
--       budget, s, u or g and the dial time, id; asks, for each: id, dial time, budgets, and these
-- All times in µs.
local a, i = ARGV, 0
local function take() i = i + 1 return a[i] end
local function num() return tonumber(take()) end
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local p, deadline, lease, step, hosts, feed = take(), num(), num(), num(), num(), num()
local knownRun, registryRun, retired, prefix = take(), take(), take() == '1', take()
local GAP, SUM = 3000000, 2000000

local budgets = {}
for b = 1, num() do
  local k = 4 + 3 * (b - 1)
  budgets[b] = {slots = KEYS[k + 1], open = KEYS[k + 2], limits = KEYS[k + 3],
    name = take(), connects = num(), per = num(), max = num(), mine = num()}
end
for _ = 1, num() do -- late or not: they say what was
  local b, what, id = budgets[num()], take(), take()
  local dial = string.match(what, '^g(%d+)$') -- taken from a share
  if dial then
    redis.call('ZADD', b.slots, now + dial, id)
  elseif what == 'u' then
    redis.call('ZREM', b.slots, id)
  else
    local at = redis.call('ZSCORE', b.slots, id)
    if at and tonumber(at) > now then redis.call('ZADD', b.slots, now, id) end
  end
end
if now > deadline then return {'late', now} end

-- Is it the Redis that the processes have counted in so far?
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
local known = redis.call('HMGET', KEYS[1], 'run', 'feed', 'last', 'gap')
local feeding = tonumber(known[2] or '0')
if not known[1] or known[1] ~= run then
  local other = known[1] or knownRun ~= '' or registryRun ~= '' and registryRun ~= run
  feeding = other and now + feed or 0
  redis.call('HSET', KEYS[1], 'run', run, 'feed', feeding)
end
local last = tonumber(known[3] or now)
local gap = tonumber(known[4] or '0')
if now - last > pause then gap = now end
redis.call('HSET', KEYS[1], 'last', now, 'gap', gap)

-- Leases. A time in which no process could call ends none.
if now - last > GAP then
  for _, q in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], last, '+inf')) do redis.call('ZADD', KEYS[3], now + lease, q) end
end
local ended = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now)
for _, q in ipairs(ended) do
  redis.call('ZREM', KEYS[3], q)
  redis.call('ZREM', KEYS[2], q)
  redis.call('HDEL', KEYS[4], q)
  for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'budgets')) do
    local open = prefix .. 'open:' .. name
    local n = redis.call('HGET', open, q)
    if n then
      redis.call('HDEL', open, q, '!' .. q, '?' .. q)
      redis.call('HINCRBY', open, '=', string.format('%d', 0 - tonumber(n)))
    end
  end
end

-- The limits that hold, and the processes that are out of step, which may be using their share.
local lost = lostOf(KEYS[2], KEYS[3], lease, p, now, gap)
for _, b in ipairs(budgets) do
  local limit = b.connects .. '/' .. b.per .. '/' .. b.max
  b.limit = limit
  redis.call('HSET', b.limits, limit, now + 3 * lease) -- see fullEvery
  b.differ, b.longest = 0, b.per
  local all = redis.call('HGETALL', b.limits)
  for f = 1, #all, 2 do
    if tonumber(all[f + 1]) < now then
      redis.call('HDEL', b.limits, all[f])
    elseif all[f] ~= limit then
      b.differ = b.differ + 1
      local c, per, max = string.match(all[f], '^(%d+)/(%d+)/(%d+)$')
      c, per, max = tonumber(c), tonumber(per), tonumber(max)
      b.longest = math.max(b.longest, per)
      if c > 0 and (b.connects == 0 or c * b.per < b.connects * per or c * b.per == b.connects * per and c < b.connects) then b.connects, b.per = c, per end
      if max > 0 and (b.max == 0 or max < b.max) then b.max = max end
    end
  end
  local keep = math.max(b.longest, 1000000)
  redis.call('ZREMRANGEBYSCORE', b.slots, '-inf', string.format('(%.0f', now - keep))
  b.total = tonumber(redis.call('HGET', b.open, '=') or '0')
  b.reserved, b.openReserved = keptFree(lost, KEYS[4], b.slots, b.open, b.connects, b.per, b.max, b.total, now)
  -- This process is in step again, and says what it has open.
  redis.call('HDEL', b.open, '!' .. p, '?' .. p)
  local before = tonumber(redis.call('HGET', b.open, p) or '0')
  if before ~= b.mine then
    redis.call('HSET', b.open, p, b.mine)
    b.total = redis.call('HINCRBY', b.open, '=', string.format('%d', b.mine - before))
  end
  b.used = redis.call('ZCOUNT', b.slots, now - b.per, '+inf')
  redis.call('SADD', prefix .. 'budgets', b.name)
  local life = math.floor((keep + 600000000) / 1000)
  redis.call('PEXPIRE', b.slots, life)
  redis.call('PEXPIRE', b.limits, life)
end
redis.call('ZADD', KEYS[3], now + lease, p)
if retired then
  redis.call('ZREM', KEYS[2], p)
else
  redis.call('ZADD', KEYS[2], now + step, p)
  redis.call('HSET', KEYS[4], p, hosts)
end

local answers = {}
for n = 1, num() do
  local id, dial, need = take(), num(), {}
  for _ = 1, num() do need[#need + 1] = num() end
  local full, max, again
  if feeding > now then
    answers[n] = {'feeding', 0, 0, 0}
  elseif redis.call('ZSCORE', budgets[need[1]].slots, id) then
    answers[n] = {'granted', 0, 0, 0}
  else
    for _, k in ipairs(need) do
      local b = budgets[k]
      if b.max > 0 and b.total + b.openReserved >= b.max then
        full, max, again = k, 1, 0
        break
      end
      if b.connects > 0 and b.used + b.reserved >= b.connects then
        full, max, again = k, 0, 0
        local leave = b.used + b.reserved - b.connects
        local e = redis.call('ZRANGEBYSCORE', b.slots, now - b.per, now, 'WITHSCORES', 'LIMIT', leave, 1)
        if e[2] then again = tonumber(e[2]) + b.per + 1 - now end
        break
      end
    end
    if full then
      answers[n] = {'full', full, max, again}
    else
      for _, k in ipairs(need) do
        local b = budgets[k]
        redis.call('ZADD', b.slots, now + dial, id)
        b.used, b.total = b.used + 1, redis.call('HINCRBY', b.open, '=', 1)
        redis.call('HINCRBY', b.open, p, 1)
      end
      answers[n] = {'granted', 0, 0, 0}
    end
  end
end
local rows, sums = {}, {} -- for beats of others, see rest.lua
for n, b in ipairs(budgets) do
  rows[n] = {b.used + b.reserved, b.total + b.openReserved, b.connects, b.per, b.max, b.differ}
  sums[#sums + 1] = 'sum:' .. b.name
  sums[#sums + 1] = string.format('%.0f %s %.0f %.0f %.0f %.0f %.0f %.0f', now + SUM, b.limit, unpack(rows[n]))
end
if sums[1] then redis.call('HSET', KEYS[1], unpack(sums)) end
return {'ok', now, run, math.max(0, feeding - now), rows, answers}
