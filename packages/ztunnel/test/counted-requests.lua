-- For wrk: sends exactly as many requests as it is told, so many at a time on each connection, and ends wrk when all of
-- them are answered, so that nothing is under way at the end. Arguments: requests, requests at a time,
-- and `paths` to ask for another path each time.
local wanted, asked, answered = 0, 0, 0
local batch
local has_paths = false
-- wrk asks for one batch that it does not send, to count what is in it.
local is_sent = false

function init(args)
  wanted = tonumber(args[1])
  has_paths = args[3] == "paths"
  local each = {}
  for i = 1, tonumber(args[2]) do each[i] = wrk.format() end
  batch = { text = table.concat(each), size = #each }
end

-- Words of letters only, which nobody takes for numbers of things.
function path(number)
  local word = ""
  for i = 1, 5 do
    word = word .. string.char(97 + number % 26)
    number = math.floor(number / 26)
  end
  return "/" .. word
end

function request()
  if is_sent then asked = asked + batch.size end
  is_sent = true
  if has_paths then return wrk.format("GET", path(asked)) end
  return batch.text
end

-- Asked before every batch of a connection but its first.
function delay()
  if asked >= wanted then return 1000000 end
  return 0
end

-- In the background, because wrk does not hear SIGINT while it waits for a shell.
function response()
  answered = answered + 1
  if answered == asked and asked >= wanted then os.execute("(sleep 0.1; kill -INT $PPID) &") end
end
