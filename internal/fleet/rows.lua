-- The rows of all processes, those that were heard last first.
-- KEYS  1 process -> row, 2 processes by the time when they were last heard
-- ARGV  most rows, most bytes of one
-- Returns for each: how long ago it was heard in µs, the row.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local rows = {}
local heard = redis.call('ZREVRANGE', KEYS[2], 0, ARGV[1] - 1, 'WITHSCORES')
for i = 1, #heard, 2 do
  local row = redis.call('HGET', KEYS[1], heard[i]) or ''
  if #row <= tonumber(ARGV[2]) then
    rows[#rows + 1] = {math.max(0, now - tonumber(heard[i + 1])), row}
  end
end
return rows
