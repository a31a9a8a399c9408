-- What wrk does for the commands of benches/. Arguments: method, body, status, answer (in hexadecimal), "check" to compare every
-- answer, how many requests go at once, after how many (on average) a connection ends (0 for never), and names and values of headers.
-- Without "check" no code runs per answer, and wrk keeps its speed; it counts statuses over 399 and octets by itself.
local threads = {}

function setup(thread)
   thread:set("wrong", 0)
   thread:set("sample", "")
   thread:set("closes", 0)
   table.insert(threads, thread)
end

function init(args)
   wrk.method = args[1]
   if args[2] ~= "" then
      wrk.body = args[2]
      wrk.headers["Content-Type"] = "application/json"
   end
   for at = 8, #args, 2 do
      wrk.headers[args[at]] = args[at + 1]
   end
   local depth, one_in = tonumber(args[6]), tonumber(args[7])
   if depth > 1 then
      local batch = string.rep(wrk.format(), depth)
      request = function() return batch end
   elseif one_in > 0 then
      -- wrk does not say which connection asks for its next request. Counting would end always the same ones where their
      -- number and `one_in` have a common divisor; chance is the same to all. LuaJIT starts with the same seed each time.
      local stays = wrk.format()
      wrk.headers["Connection"] = "close"
      local ends = wrk.format()
      request = function()
         if math.random(one_in) > 1 then return stays end
         closes = closes + 1
         return ends
      end
   end
   if args[5] == "check" then
      local status_right = tonumber(args[3])
      local body_right = args[4]:gsub("..", function(digits) return string.char(tonumber(digits, 16)) end)
      response = function(status, headers, body)
         if status ~= status_right or body ~= body_right then
            wrong = wrong + 1
            sample = status .. " " .. body
         end
      end
   end
end

function done(summary, latency, requests)
   local wrong, sample, closes = 0, "", 0
   for _, thread in ipairs(threads) do
      wrong = wrong + thread:get("wrong")
      sample = thread:get("sample")
      closes = closes + thread:get("closes")
   end
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.timeout
   print(string.format("RESULT %d %d %d %d %d %d %d %d %d %d", summary.requests, summary.duration, summary.bytes, failed,
      errors.status, wrong, latency:percentile(50), latency:percentile(99), latency.max, closes))
   print("SAMPLE " .. sample)
end
