"""The columns of the tables of an open loop, defined once. docs/latency.md has them too; a test compares the two."""

from sweep.fields import COUNT, FLAGS, NAME, NUMBER, TEXT, WHOLE, Column

# The columns of latency.csv, in order. All but `reason` are fields of the records.
LATENCY = (
    Column("server", "", NAME, "server that was measured"),
    Column("workload", "", TEXT, "what it was asked to do"),
    Column("share", "", NUMBER, "the rate as share of what the slowest server can do; empty for a rate of the config"),
    Column("rate_per_second", "1/s", NUMBER, "the rate that was asked for"),
    Column("offered_per_second", "1/s", NUMBER, "requests that were due in the run / its seconds"),
    Column("achieved_per_second", "1/s", NUMBER, "answers in the run / its seconds"),
    Column("repeat", "", WHOLE, "number of the repeat, from 1"),
    Column("connections", "", WHOLE, "connections of the generator"),
    Column("latency_p50_us", "µs", NUMBER, "median of answer − intended start, over all requests that were due"),
    Column("latency_p99_us", "µs", NUMBER, "99th percentile"),
    Column("latency_p999_us", "µs", NUMBER, "99.9th percentile"),
    Column("latency_max_us", "µs", NUMBER, "largest"),
    Column("generator_lateness_p99_us", "µs", NUMBER, "how late the generator itself sent a request that could be sent,"
           " 99th percentile"),
    Column("cpu_ratio", "", NUMBER, "CPU time per request at this rate, server / reference, both in turns"),
    Column("server_cpu_ns_per_request", "ns", NUMBER, "CPU time of the server in the run / requests"),
    Column("server_cpu_share", "0…1", NUMBER, "CPU time of the server / (time × its CPUs)"),
    Column("censored", "", COUNT, "requests without an answer at the end: their latency is at least what had passed"),
    Column("status", "", TEXT, "`ok`; `overloaded`: fewer than 0.99 of the requests offered were answered in time,"
           " which is a result; `invalid`: a flag excludes it; `failed`; `unavailable`"),
    Column("flags", "", FLAGS, "names of the flags that it raised"),
    Column("attempts", "", COUNT, "attempts; disturbed ones are made again"),
    Column("machine", "", TEXT, "`machine_id` of the machine that measured it"),
    Column("reason", "", TEXT, "why there are no figures"),
)  # fmt: skip

# A row for each workload, server and rate.
SUMMARY = (
    Column("machine", "", TEXT, "machine of these cells"),
    Column("workload", "", TEXT, "as in latency.csv"),
    Column("server", "", NAME, "as in latency.csv"),
    Column("share", "", NUMBER, "as in latency.csv"),
    Column("rate_per_second", "1/s", NUMBER, "as in latency.csv"),
    Column("repeats", "", WHOLE, "repeats that count"),
    Column("overloaded", "", WHOLE, "those in which the server fell behind"),
    *(Column(name, "µs", NUMBER, "geometric mean over the repeats", has_interval=True)
      for name in ("latency_p50_us", "latency_p99_us", "latency_p999_us")),
    Column("cpu_ratio", "", NUMBER, "geometric mean over the repeats", has_interval=True),
    Column("server_cpu_ns_per_request", "ns", NUMBER, "geometric mean over the repeats", has_interval=True),
)  # fmt: skip

# A row for each workload and server: what it takes within the target.
LIMITS = (
    Column("machine", "", TEXT, "machine of these cells"),
    Column("workload", "", TEXT, "as in latency.csv"),
    Column("server", "", NAME, "as in latency.csv"),
    Column("target_ms", "ms", NUMBER, "`latency.target_ms` of the config, for the 99th percentile"),
    Column("highest_rate_per_second", "1/s", NUMBER, "highest rate of the grid within the target"),
    Column("limit_per_second", "1/s", NUMBER, "rate at which the latency reaches the target, between two of the grid",
           has_interval=True),
    Column("repeats", "", WHOLE, "repeats that count"),
    Column("bound", "", TEXT, "`at least`: within the target at every rate; `below`: at none; `unknown above`: nothing"
           " counts above that rate; empty otherwise"),
)  # fmt: skip

# The columns of these tables: those of one name are of one kind.
COLUMNS = (*LATENCY, *SUMMARY, *LIMITS)
