-- wrk's results as one JSON line, the last of its output: the full latency histogram instead of four figures.
function done(summary, latency, requests)
    local values, counts = {}, {}
    for i = 1, #latency do
        local value, count = latency(i)
        values[i] = string.format("%.0f", value)
        counts[i] = string.format("%.0f", count)
    end
    local errors = {}
    for _, kind in ipairs({ "connect", "read", "write", "status", "timeout" }) do
        table.insert(errors, string.format('"%s": %d', kind, summary.errors[kind]))
    end
    io.write(string.format(
        '{"duration_us": %.0f, "requests": %.0f, "bytes": %.0f, "errors": {%s}, '
            .. '"histogram": {"latency_us": [%s], "count": [%s]}}\n',
        summary.duration, summary.requests, summary.bytes, table.concat(errors, ", "),
        table.concat(values, ","), table.concat(counts, ",")))
end
