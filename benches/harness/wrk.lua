-- What wrk does for benches/load. Arguments: method, body, status, answer, and "check" to compare every answer.
-- Without "check" no code runs per answer, and wrk keeps its speed; it counts statuses over 399 and octets by itself.
local threads = {}

function setup(thread)
   thread:set("wrong", 0)
   thread:set("sample", "")
   table.insert(threads, thread)
end

function init(args)
   wrk.method = args[1]
   if args[2] ~= "" then
      wrk.body = args[2]
      wrk.headers["Content-Type"] = "application/json"
   end
   if args[5] == "check" then
      local status_right, body_right = tonumber(args[3]), args[4]
      response = function(status, headers, body)
         if status ~= status_right or body ~= body_right then
            wrong = wrong + 1
            sample = status .. " " .. body
         end
      end
   end
end

function done(summary, latency, requests)
   local wrong, sample = 0, ""
   for _, thread in ipairs(threads) do
      wrong = wrong + thread:get("wrong")
      sample = thread:get("sample")
   end
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.timeout
   print(string.format("RESULT %d %d %d %d %d %d %d %d %d", summary.requests, summary.duration, summary.bytes, failed,
      errors.status, wrong, latency:percentile(50), latency:percentile(99), latency.max))
   print("SAMPLE " .. sample)
end
