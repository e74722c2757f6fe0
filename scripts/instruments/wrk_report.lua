-- wrk's results as one JSON line, the last of its output: the full latency histogram instead of four figures.
-- Two arguments (wrk ... URL -- BYTES REQUESTS): with a size, the body of every response is compared with "Hello, World!"
-- over and over, cut off at that size, which costs wrk a tenth of its speed; so many requests are sent at once.

local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init(arguments)
    local size, depth = tonumber(arguments[1] or 0), tonumber(arguments[2] or 1)
    wrong_responses = 0
    if depth > 1 then
        local requests = wrk.format():rep(depth)
        request = function()
            return requests
        end
    end
    if size > 0 then
        local text = "Hello, World!"
        local expected = text:rep(math.ceil(size / #text)):sub(1, size)
        response = function(status, _, body)
            if status < 400 and body ~= expected then
                wrong_responses = wrong_responses + 1
            end
        end
    end
end

-- latency(i) walks the histogram from its start, so reading all of it takes up to seconds when latencies are long.
-- The array behind it (struct stats of wrk's stats.h) is read in one pass, if it proves to be what we take it for.
local function read_array(latency)
    local ffi = require("ffi")
    ffi.cdef("typedef struct { uint64_t count, limit, min, max, data[]; } wrk_stats;")
    local stats = ffi.cast("wrk_stats **", latency)[0]
    if tonumber(stats.min) ~= latency.min or tonumber(stats.max) ~= latency.max then
        return
    end
    local values, counts = {}, {}
    for value = latency.min, latency.max do
        if stats.data[value] ~= 0 then
            values[#values + 1] = value
            counts[#counts + 1] = tonumber(stats.data[value])
        end
    end
    if #values == #latency then
        return values, counts
    end
end

local function read_histogram(latency)
    if #latency == 0 then
        return {}, {}
    end
    local known, values, counts = pcall(read_array, latency)
    if known and values then
        return values, counts
    end
    values, counts = {}, {}
    for i = 1, #latency do
        values[i], counts[i] = latency(i)
    end
    return values, counts
end

local function json_list(numbers)
    local texts = {}
    for i, number in ipairs(numbers) do
        texts[i] = string.format("%.0f", number)
    end
    return "[" .. table.concat(texts, ",") .. "]"
end

function done(summary, latency, requests)
    local values, counts = read_histogram(latency)
    local errors = {}
    for _, kind in ipairs({ "connect", "read", "write", "status", "timeout" }) do
        table.insert(errors, string.format('"%s": %d', kind, summary.errors[kind]))
    end
    local wrong = 0
    for _, thread in ipairs(threads) do
        wrong = wrong + thread:get("wrong_responses")
    end
    io.write(string.format(
        '{"duration_us": %.0f, "requests": %.0f, "bytes": %.0f, "errors": {%s}, "wrong_responses": %d, '
            .. '"histogram": {"latency_us": %s, "count": %s}}\n',
        summary.duration, summary.requests, summary.bytes, table.concat(errors, ", "), wrong,
        json_list(values), json_list(counts)))
end
