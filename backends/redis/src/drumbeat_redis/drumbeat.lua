-- Everything that Drumbeat must do at one moment, as one script: redis runs a script from start to end without
-- running anything else (https://redis.io/docs/latest/develop/interact/programmability/eval-intro/).
--
-- KEYS[1] is the birth record of a namespace, `drumbeat:{NAMESPACE}:birth`. Every other key begins like it and so lies
-- in the same hash slot. They are not declared: which ones are needed is known only once the session has been read.
-- ARGV[1] names the operation, the rest are its arguments. The answer is an array whose first item says what it is.
--
-- birth      hash: format, epoch, longest (ms), born and granting (µs): when it was made, and from when seats are given;
--            granting is 0 once they are
-- groups     hash: group -> its name
-- session:M  hash: incarnation, epoch, name, ttl (ms); "g GROUP" and "s SEAT" -> the attempt under which each is held.
--            Expires with the lease, and with it everything that the session holds.
-- group:G    hash: "m MEMBER" -> value; counts only while the member's session says "g GROUP"
-- seat:S     hash: member, incarnation, attempt, value of the holder, and token, which stays when the seat is vacant;
--            counts only while the holder's session lives
--
-- Tokens and attempts are compared as the text that they were stored as. Lua's numbers hold integers up to 2^53, and
-- microseconds since 1970 stay below that until 2255; they are never written by tostring, which loses digits.

local FORMAT = '1'
-- How long the token of a vacant seat is remembered; beyond that the clock alone makes tokens rise.
local WEEK = 7 * 24 * 3600 * 1000
local TOO_LARGE = 2 ^ 53

local prefix = string.sub(KEYS[1], 1, -string.len('birth') - 1)

local function key_of(kind, name)
  return prefix .. kind .. ':' .. name
end

-- What this script raises is an array, which becomes its answer.
local function bad(key, problem)
  error({'bad', key, problem})
end

-- An error of the server, with the command and key that it is about: the server's own text names neither.
local function call(command, ...)
  local key = ...
  local answer = redis.pcall(command, ...)
  if type(answer) ~= 'table' or not answer.err then
    return answer
  end
  if string.find(answer.err, 'WRONGTYPE', 1, true) then
    bad(key, 'holds another type of value than Drumbeat keeps there')
  end
  error({'failed', command, key or '', answer.err})
end

-- Whether an action was done, and its result; False if what it found was not written by Drumbeat.
local function unless_bad(action, ...)
  local done, result = pcall(action, ...)
  if not done and not (type(result) == 'table' and result[1] == 'bad') then
    error(result)
  end
  return done, result
end

local function microseconds()
  local now = call('TIME')
  return tonumber(now[1]) * 1000000 + tonumber(now[2])
end

local function digits(number)
  return string.format('%.0f', number)
end

-- A number that this script wrote, or an error that names the key.
local function number_in(key, field, text)
  local number = tonumber(text or 'missing')
  -- So written, it refuses what is not a number (nan) too.
  if not (number and number >= 0 and number < TOO_LARGE) then
    bad(key, 'its field ' .. field .. ' is no number that Drumbeat wrote')
  end
  return number
end

-- What names this start of the server (https://redis.io/docs/latest/commands/info/).
local function run_id()
  return string.match(call('INFO', 'server'), 'run_id:(%x+)')
end

local function read_birth()
  local found = call('HMGET', KEYS[1], 'format', 'epoch', 'longest', 'granting', 'run')
  if not found[1] then
    if call('EXISTS', KEYS[1]) == 1 then
      bad(KEYS[1], 'is no birth record of Drumbeat')
    end
    return {}
  end
  if found[1] ~= FORMAT then
    bad(KEYS[1], 'has format ' .. found[1] .. ', and this version of Drumbeat reads format ' .. FORMAT)
  end
  -- A server that keeps no append-only file may have been started again from an old snapshot, which is no better than
  -- an empty store: what was granted since is missing.
  if found[5] and found[5] ~= '' and found[5] ~= run_id() then
    return {}
  end
  return {
    epoch = found[2] or bad(KEYS[1], 'has no epoch'),
    longest = number_in(KEYS[1], 'longest', found[3]),
    granting = number_in(KEYS[1], 'granting', found[4]),
  }
end

local birth

-- The stored name of a live session's member, or nil. One of an earlier epoch was lost with the store's data.
local function live_name(member, incarnation)
  local found = call('HMGET', key_of('session', member), 'incarnation', 'epoch', 'name')
  if birth.epoch and found[1] == incarnation and found[2] == birth.epoch then
    return found[3]
  end
end

local function require_live(member, incarnation)
  local mine = key_of('session', member)
  if live_name(member, incarnation) then
    return mine
  end
  local found = call('HGET', mine, 'incarnation')
  if found and found ~= incarnation then
    error({'lost', 'was replaced by ' .. found})
  elseif found then
    error({'lost', 'was lost with the data of the server'})
  end
  error({'lost', 'is not on the server: it was ended, silent for its TTL, or lost with the data'})
end

local function publish(channel)
  call('PUBLISH', channel, '')
end

local function read_seat(name)
  local key = key_of('seat', name)
  local found = call('HMGET', key, 'member', 'incarnation', 'attempt', 'token', 'value')
  local held = found[1] and found[2] and found[3] and found[5]
  if (found[2] and not held) or not string.find(found[4] or '0', '^%d+$') or (not found[4] and call('EXISTS', key) == 1) then
    bad(key, 'is no seat of Drumbeat')
  end
  return {member = found[1], incarnation = found[2], attempt = found[3], token = found[4], value = found[5]}
end

local function vacate(name)
  local seat = key_of('seat', name)
  publish(seat)
  call('HDEL', seat, 'member', 'incarnation', 'attempt', 'value')
  call('PEXPIRE', seat, WEEK)
end

-- Remove a member from a group, and the group from the index with its last member.
local function strike(member, group)
  local roster = key_of('group', group)
  publish(roster)
  call('HDEL', roster, 'm ' .. member)
  if call('EXISTS', roster) == 0 then
    call('HDEL', prefix .. 'groups', group)
  end
end

-- Release one thing that a session holds; `field` is how its session names it.
local function release(member, incarnation, field)
  local kind, name = string.match(field, '^([gs]) (.*)$')
  if kind == 'g' then
    strike(member, name)
  elseif kind == 's' and read_seat(name).incarnation == incarnation then
    vacate(name)
  end
end

local function end_session(member)
  local key = key_of('session', member)
  local fields = call('HGETALL', key)
  local incarnation = call('HGET', key, 'incarnation')
  for i = 1, #fields, 2 do
    unless_bad(release, member, incarnation, fields[i])
  end
  call('DEL', key)
end

-- The seat of ARGV[4] as it is held under attempt ARGV[5] (and token, where given) by the caller, or nil.
local function own_seat(token)
  local seat = read_seat(ARGV[4])
  if seat.incarnation ~= ARGV[3] or seat.attempt ~= ARGV[5] or (token and seat.token ~= token) then
    return nil
  end
  return live_name(ARGV[2], ARGV[3]) and seat
end

local function yes_or_no(yes)
  return {yes and 'yes' or 'no'}
end

local run = {}

-- member, incarnation, name, ttl, superseded incarnation, "replace", epoch, longest ttl, ms to wait in an empty store,
-- "run" where a restart may bring back an old snapshot
function run.open()
  local member, incarnation, name, ttl, supersedes, replace = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
  local longest, wait = ARGV[9], tonumber(ARGV[10])
  local mine = key_of('session', member)
  local found = call('HMGET', mine, 'incarnation', 'epoch')
  if not found[1] and call('EXISTS', mine) == 1 then
    bad(mine, 'is no session of Drumbeat')
  end
  if not birth.epoch then
    local now = microseconds()
    birth = {epoch = ARGV[8], longest = tonumber(longest), granting = wait > 0 and now + wait * 1000 or 0}
    call('HSET', KEYS[1], 'format', FORMAT, 'epoch', birth.epoch, 'longest', longest,
      'born', digits(now), 'granting', digits(birth.granting), 'run', ARGV[11] == 'run' and run_id() or '')
  elseif birth.longest ~= tonumber(longest) then
    return {'differs', digits(birth.longest)}
  end
  local lives = found[1] and found[2] == birth.epoch
  if lives and found[1] ~= incarnation and found[1] ~= supersedes and replace ~= 'replace' then
    return {'conflict', found[1], call('PTTL', mine)}
  end
  if not lives or found[1] ~= incarnation then
    end_session(member)
    call('HSET', mine, 'incarnation', incarnation, 'epoch', birth.epoch, 'name', name, 'ttl', ttl)
  end
  call('PEXPIRE', mine, ttl)
  return {'opened', digits(math.max(0, birth.granting - microseconds()))}
end

-- Whether the session does not hold what it believes: a membership ("g") or a seat ("s").
local function is_gone(kind, name, attempt, token, under, newest)
  if kind == 'g' then
    -- A join that was sent after the holdings were listed has not lost the membership, but renewed it.
    return not under or (under ~= attempt and number_in(key_of('session', ARGV[2]), 'g ' .. name, under) <= newest)
      or call('HEXISTS', key_of('group', name), 'm ' .. ARGV[2]) == 0
  end
  local seat = read_seat(name)
  return seat.incarnation ~= ARGV[3] or seat.attempt ~= attempt or seat.token ~= token
end

-- member, incarnation, newest attempt, then kind ("g", "c" or "s"), name, attempt, token for each holding
function run.heartbeat()
  local member, incarnation, newest = ARGV[2], ARGV[3], tonumber(ARGV[4])
  local mine = require_live(member, incarnation)
  local fields = call('HGETALL', mine)
  local held, wanted, lost = {}, {}, {}
  for i = 1, #fields, 2 do
    held[fields[i]] = fields[i + 1]
  end
  for i = 5, #ARGV, 4 do
    local kind, name, attempt = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local field = (kind == 'g' and 'g ' or 's ') .. name
    if kind ~= 'c' then
      local known, gone = unless_bad(is_gone, kind, name, attempt, ARGV[i + 3], held[field], newest)
      if gone or not known then
        lost[#lost + 1] = (i - 5) / 4
      end
    end
    wanted[field .. ' ' .. attempt] = true
  end
  -- An expiry that is not above 0 would remove the session.
  call('PEXPIRE', mine, math.max(1, number_in(mine, 'ttl', held.ttl)))
  for field, attempt in pairs(held) do
    if string.find(field, ' ') and number_in(mine, field, attempt) <= newest and not wanted[field .. ' ' .. attempt] then
      unless_bad(release, member, incarnation, field)
      call('HDEL', mine, field)
    end
  end
  return {'beat', lost}
end

-- member, incarnation: only that incarnation, whoever asks
function run.finish()
  local lives = live_name(ARGV[2], ARGV[3])
  if lives then
    end_session(ARGV[2])
  end
  return yes_or_no(lives)
end

-- member, incarnation
function run.check()
  require_live(ARGV[2], ARGV[3])
  return {'yes'}
end

-- member, incarnation, group, attempt, value, name of the group
function run.join()
  local member, group, attempt = ARGV[2], ARGV[4], ARGV[5]
  local mine, roster = require_live(member, ARGV[3]), key_of('group', group)
  local before = call('HGET', mine, 'g ' .. group)
  -- An older join that arrives late must not undo a newer one.
  if not before or number_in(mine, 'g ' .. group, before) <= tonumber(attempt) then
    publish(roster)
    call('HSET', roster, 'm ' .. member, ARGV[6])
    call('HSET', prefix .. 'groups', group, ARGV[7])
    call('HSET', mine, 'g ' .. group, attempt)
  end
  return yes_or_no(before)
end

-- member, incarnation, group, value
function run.update()
  local member, group = ARGV[2], ARGV[4]
  local roster = key_of('group', group)
  local there = live_name(member, ARGV[3]) and call('HEXISTS', key_of('session', member), 'g ' .. group) == 1
  if there then
    publish(roster)
    call('HSET', roster, 'm ' .. member, ARGV[5])
  end
  return yes_or_no(there)
end

-- member, incarnation, group
function run.leave()
  local member, group = ARGV[2], ARGV[4]
  local there = live_name(member, ARGV[3]) and call('HEXISTS', key_of('session', member), 'g ' .. group) == 1
  if there then
    strike(member, group)
    call('HDEL', key_of('session', member), 'g ' .. group)
  end
  return yes_or_no(there)
end

-- The name and incarnation of a member that is in a group now. One whose session expired is removed on the way.
local function live_member(field, group)
  local member = string.match(field, '^m (.*)$') or bad(key_of('group', group), 'is no group of Drumbeat')
  local found = call('HMGET', key_of('session', member), 'epoch', 'name', 'incarnation', 'g ' .. group)
  if birth.epoch and found[1] == birth.epoch and found[4] then
    return found[2], found[3]
  end
  strike(member, group)
end

-- group
function run.read()
  local roster = call('HGETALL', key_of('group', ARGV[2]))
  local members = {}
  for i = 1, #roster, 2 do
    local name, incarnation = live_member(roster[i], ARGV[2])
    if name then
      members[#members + 1] = {name, incarnation, roster[i + 1]}
    end
  end
  return {'members', members}
end

function run.list()
  local groups = call('HGETALL', prefix .. 'groups')
  local names = {}
  for i = 1, #groups, 2 do
    for _, field in ipairs(call('HKEYS', key_of('group', groups[i]))) do
      if live_member(field, groups[i]) then
        names[#names + 1] = groups[i + 1]
        break
      end
    end
  end
  return {'groups', names}
end

-- Whether seats are granted. Once they are, they stay so, whichever way the clock steps; a clock that stepped back
-- before that leaves nobody waiting for longer than the longest TTL, counted from now.
local function is_granting(now)
  if birth.granting == 0 then
    return true
  end
  local longest = now + (birth.longest + 1) * 1000
  if now >= birth.granting then
    call('HSET', KEYS[1], 'granting', '0')
    return true
  elseif birth.granting > longest then
    birth.granting = longest
    call('HSET', KEYS[1], 'granting', digits(longest))
  end
  return false
end

-- member, incarnation, seat, attempt, value
function run.campaign()
  local member, incarnation, name, attempt = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
  local mine, key, seat = require_live(member, incarnation), key_of('seat', ARGV[4]), read_seat(ARGV[4])
  if seat.incarnation == incarnation and seat.attempt == attempt then
    -- Written again, since a WAIT after it promises no more than what this connection has written.
    call('HSET', mine, 's ' .. name, attempt)
    return {'won', seat.token}
  end
  local leader = seat.incarnation and live_name(seat.member, seat.incarnation)
  if leader then
    return {'waiting', call('PTTL', key_of('session', seat.member)), leader, seat.incarnation, seat.token, seat.value}
  end
  local now = microseconds()
  if not is_granting(now) then
    return {'waiting', math.ceil((birth.granting - now) / 1000)}
  end
  local before = seat.token and number_in(key, 'token', seat.token) or 0
  local token = digits(math.max(before + 1, now))
  publish(key)
  call('HSET', key, 'member', member, 'incarnation', incarnation, 'attempt', attempt, 'token', token, 'value', ARGV[6])
  call('PERSIST', key)
  call('HSET', mine, 's ' .. name, attempt)
  return {'won', token}
end

-- member, incarnation, seat, attempt, and a token where it is a term that ends
function run.vacate()
  local seat = own_seat(ARGV[6])
  if seat then
    vacate(ARGV[4])
    call('HDEL', key_of('session', ARGV[2]), 's ' .. ARGV[4])
  elseif not ARGV[6] and not read_seat(ARGV[4]).incarnation then
    -- Who withdraws while the seat is vacant may have been the only one whom the last hint reached.
    publish(key_of('seat', ARGV[4]))
  end
  return yes_or_no(seat)
end

-- member, incarnation, seat, attempt, token, value
function run.proclaim()
  local seat = own_seat(ARGV[6])
  if seat then
    publish(key_of('seat', ARGV[4]))
    call('HSET', key_of('seat', ARGV[4]), 'value', ARGV[7])
  end
  return yes_or_no(seat)
end

-- seat
function run.leader()
  local seat = read_seat(ARGV[2])
  local name = seat.incarnation and live_name(seat.member, seat.incarnation)
  if name then
    return {'leader', name, seat.incarnation, seat.token, seat.value}
  end
  return {'vacant'}
end

local done, answer = pcall(function()
  birth = read_birth()
  return run[ARGV[1]]()
end)
if done then
  return answer
end
-- An error of the script itself, or one that redis raises to end it, stays an error.
if type(answer) == 'table' and answer[1] then
  return answer
end
error(answer)
