-- Comes before other scripts: what is kept free for processes that are out of step.

-- after is how long after its last call a process has its share of windows kept free.
-- One that still runs calls more often, as far as it reaches Redis at all.
local after, pause = 2000000, 1000000

-- lostOf returns the processes other than p that are out of step: for each its name, and
-- whether its share of windows is kept free. gap is the end of the last time in which none
-- could call: none was silent then.
local function lostOf(steps, leases, lease, p, now, gap)
  local list = {}
  for _, q in ipairs(redis.call('ZRANGEBYSCORE', steps, '-inf', now)) do
    if q ~= p then
      local heard = tonumber(redis.call('ZSCORE', leases, q) or '0') - lease
      list[#list + 1] = {q, now - math.max(heard, gap) <= after}
    end
  end
  return list
end

-- ownOf returns how many slots of a window a process has.
local function ownOf(slots, q, from)
  local id, own = string.match(q, '(%x+)$') .. ':', 0
  for _, m in ipairs(redis.call('ZRANGEBYSCORE', slots, from, '+inf')) do
    if string.sub(m, 1, #id) == id then own = own + 1 end
  end
  return own
end

-- values returns fields of a hash; some thousands are too many for one call.
local function values(key, before, list)
  local all = {}
  for from = 1, #list, 1000 do
    local fields = {}
    for n = from, math.min(from + 999, #list) do fields[#fields + 1] = before .. list[n][1] end
    for _, v in ipairs(redis.call('HMGET', key, unpack(fields))) do all[#all + 1] = v end
  end
  return all
end

-- keptFree returns how many slots of a budget's window, and how many of its connections,
-- are kept free for processes that are out of step.
local function keptFree(lost, hosts, slots, open, connects, per, max, total, now)
  local window, connections, own = 0, 0, {} -- own: by the id of the process
  if lost[1] and connects > 0 then
    for _, m in ipairs(redis.call('ZRANGEBYSCORE', slots, now - per, '+inf')) do
      local id = string.match(m, '^%x+')
      if id then own[id] = (own[id] or 0) + 1 end
    end
  end
  local counted, kept = values(hosts, '', lost), max > 0 and values(open, '!', lost)
  local mosts = connects > 0 and values(open, '?', lost) -- of those that have said that they use their share
  for k, l in ipairs(lost) do
    local q, n = l[1], tonumber(counted[k] or '1')
    if mosts and l[2] then
      local most = tonumber(mosts[k] or '') or math.floor(connects / n)
      window = window + math.max(0, most - (own[string.match(q, '%x+$')] or 0))
    end
    if kept and not kept[k] then
      kept[k] = math.max(0, math.floor((max - total) / n))
      redis.call('HSET', open, '!' .. q, kept[k])
    end
    connections = connections + (kept and tonumber(kept[k]) or 0)
  end
  return window, connections
end
