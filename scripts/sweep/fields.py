"""Every field of a cell's record, and every column of the tables made of records, defined once.

The tables take their columns from here. Readers check records against it. tests/sweep/test_fields.py compares it with a
record that was measured and with docs/results.md. No script that measures imports it, so a better sentence makes no
cell stale.
"""

from collections.abc import Iterable
from typing import NamedTuple

STATUSES = ("ok", "invalid", "failed", "unavailable")

# Kinds of values. Any but NAME and WHOLE may be empty: null in a record.
NAME = "name of a server"
TEXT = "short printable text"
FLAGS = "names of flags: a list in a record, joined with ; in a table"
WHOLE = "whole number"
COUNT = "whole number, or empty"
NUMBER = "number"
BOOLEAN = "true or false"
RAW = "any text"
LIST = "list"
OBJECT = "object"

# Which records have a field.
REQUIRED = "each: a record without it is refused"
ALWAYS = "each"
MEASURED = "those with status ok or invalid"
PAIRED_PHASE = "those of these that had a paired phase"
UNMEASURED = "those with status failed or unavailable"
DERIVED = "none: the table computes it"


class Field(NamedTuple):
    """Of a record. `since`: the schema version that was current when the field came."""

    name: str
    unit: str
    kind: str
    meaning: str  # as in docs/results.md
    since: int = 2
    records: str = MEASURED


class Column(NamedTuple):
    """Of a table that summarizes records."""

    name: str
    unit: str
    kind: str
    meaning: str
    has_interval: bool = False  # NAME_low and NAME_high follow it: its 95 % interval


def columns_of(table: Iterable[Column]) -> list[str]:
    """The names of a table's columns, in order."""
    ends = {False: ("",), True: ("", "_low", "_high")}
    return [column.name + end for column in table for end in ends[column.has_interval]]


# Few lines for each row:
# fmt: off

# The columns of cells.csv, in order.
CELLS = (
    Field("server", "", NAME, "server that was measured", 2, REQUIRED),
    Field("connections", "", WHOLE, "connections that wrk was asked to open", 2, REQUIRED),
    Field("repeat", "", WHOLE, "number of the repeat, from 1", 2, REQUIRED),
    Field("status", "", TEXT, "`ok`; `invalid`: measured, but a flag excludes it; `failed`: the server failed;"
          " `unavailable`: this machine cannot run the server", 2, REQUIRED),
    Field("requests", "", COUNT, "complete responses that wrk received in the timed run"),
    Field("duration_s", "s", NUMBER, "length of the timed run by wrk's clock"),
    Field("requests_per_second", "1/s", NUMBER, "`requests` / `duration_s`"),
    Field("latency_mean_us", "µs", NUMBER, "mean of the measured latencies"),
    Field("latency_p50_us", "µs", NUMBER, "median of the measured latencies"),
    Field("latency_p90_us", "µs", NUMBER, "90th percentile"),
    Field("latency_p99_us", "µs", NUMBER, "99th percentile"),
    Field("latency_max_us", "µs", NUMBER, "largest measured latency"),
    Field("errors", "", COUNT, "errors that wrk counted, responses with a status above 399 included"),
    Field("server_cpu_ns_per_request", "ns", NUMBER, "CPU time of the server, all its processes and threads, in the"
          " timed run / `requests`; empty if unknown (`cpu_time_unknown`)"),
    Field("client_cpu_share", "0…1", NUMBER, "CPU time of wrk / (elapsed time × its threads)"),
    Field("unserved_connections", "", COUNT, "connections on which the server sent no byte; empty where connections"
          " come and go"),
    Field("fairness_jain", "0…1", NUMBER, "Jain's index over the bytes sent on each connection: 1 if all got the"
          " same, 1/n if one of n got everything; empty where connections come and go"),
    Field("flags", "", FLAGS, "names of the flags that the cell raised", 2, REQUIRED),
    Field("server_cpu_share", "0…1", NUMBER, "CPU time of the server / (elapsed time × its CPUs)"),
    Field("established_connections", "", COUNT, "established connections by the kernel, the accept queue included"),
    Field("server_memory_peak_kib", "KiB", COUNT, "peak resident memory (VmHWM), summed over processes; a shared page"
          " counts for each"),
    Field("latency_synthetic_share", "0…1", NUMBER, "share of wrk's histogram that wrk made up and that we remove"),
    Field("workers", "", COUNT, "processes that the server was told to start"),
    Field("worker_fairness_jain", "0…1", NUMBER, "Jain's index over the requests that each worker counted, warm-up"
          " included; empty without several counts"),
    Field("started", "UTC", TEXT, "start of the timed run"),
    Field("machine", "", TEXT, "`machine_id` of the machine that measured it", 2, REQUIRED),
    Field("sweep", "UTC", TEXT, "start of the workflow run that measured it", 2, ALWAYS),
    Field("position", "", COUNT, "place in the order of that sweep, from 0", 2, ALWAYS),
    Field("seed", "", COUNT, "seed of that order", 2, ALWAYS),
    Field("attempts", "", COUNT, "attempts at the timed run"),
    Field("server_busiest_thread_share", "0…1", NUMBER, "CPU time of the server's busiest thread / elapsed time; near"
          " 1, the server is saturated; empty for more than 64 threads"),
    Field("littles_law_ratio", "", NUMBER, "mean latency × throughput / served connections: 1 in a closed loop"
          " (Little's law), unless latencies leave something out"),
    Field("kernel_connections", "", COUNT, "connections to the server in the timed run by the kernel's count; empty"
          " if messages were missed"),
    Field("kernel_responses", "", COUNT, "bytes sent on these connections / bytes of a response"),
    Field("server_accepted", "", COUNT, "connections in the timed run by the server's own count"),
    Field("server_requests", "", COUNT, "requests in the timed run by the server's own count"),
    Field("steal_share", "0…1", NUMBER, "CPU time that the hypervisor took from the run's CPUs / (time × CPUs)"),
    Field("foreign_cpu_share", "0…1", NUMBER, "CPU time of the run's CPUs that was neither idle nor the server's nor"
          " wrk's / (time × CPUs)"),
    Field("cpu_pressure_share", "0…1", NUMBER, "share of the time in which some task on the machine waited for a CPU"
          " (PSI); empty for a server with more threads than CPUs, which waits for itself"),
    Field("client_wait_share", "0…1", NUMBER, "longest wait of a thread of wrk for a CPU / time (schedstat)"),
    Field("server_wait_share", "0…1", NUMBER, "the same of the server; empty for one with more threads than CPUs"),
    Field("cpu_ratio", "", NUMBER, "CPU time per request of the server / of the reference, from the paired phase;"
          " empty if unknown (`unpaired`)", 4, PAIRED_PHASE),
    Field("throughput_ratio", "", NUMBER, "requests per second of the server / of the reference, each in its own"
          " slices of the paired phase", 4, PAIRED_PHASE),
    Field("reference_requests_per_second", "1/s", NUMBER, "requests of the reference in the paired phase / seconds of"
          " its own slices", 5, PAIRED_PHASE),
    Field("yardstick", "", TEXT, "what two cells must share for their ratios to compare, as a hash", 0, DERIVED),
    Field("network", "", TEXT, "how load reached the server: `over loopback`, or over which interface", 0, DERIVED),
    Field("reason", "", TEXT, "why the cell has no figures", 2, UNMEASURED),
    Field("workload", "", TEXT, "what the server was asked to do: a name in `workloads` of the config", 7, ALWAYS),
    Field("decided_by", "", TEXT, "the figure that decides in its workload which server is better: `cpu_ratio`,"
          " `requests_per_second` or `latency_p99_us`", 0, DERIVED),
    Field("handler_ceiling_per_second", "1/s", NUMBER, "requests that the handlers' waits allow: threads that serve, at"
          " most `connections`, / mean wait; empty if the handler does not wait", 0, DERIVED),
)

# What a record has besides.
RECORD = (
    Field("schema_version", "", WHOLE, "version of the fields", 2, ALWAYS),
    Field("asked", "", OBJECT, "what the config said: `duration_s`, `warmup_s`, `paired_s`, `host`, `cpus`,"
          " `network`; `workload`: its parameters", 2, ALWAYS),
    Field("clocks_ahead_s", "s", OBJECT, "how far ahead the clock of a side on another host is", 2, ALWAYS),
    Field("facts", "", OBJECT, "a copy of machine.json", 2, ALWAYS),
    Field("binary_sha256", "", TEXT, "hash of the server's binary", 2, ALWAYS),
    Field("reference_sha256", "", TEXT, "hash of the reference's binary", 4, ALWAYS),
    Field("server_cpus", "", LIST, "CPUs of the server"),
    Field("load_cpus", "", LIST, "CPUs of wrk"),
    Field("cpus_shared", "", BOOLEAN, "whether these are the same CPUs"),
    Field("server_command", "", LIST, "command that started the server"),
    Field("load_command", "", LIST, "command that started wrk"),
    Field("latency_p75_us", "µs", NUMBER, "75th percentile"),
    Field("latency_p95_us", "µs", NUMBER, "95th percentile"),
    Field("latency_p99.9_us", "µs", NUMBER, "99.9th percentile"),
    Field("latency_p99.99_us", "µs", NUMBER, "99.99th percentile"),
    Field("response_bytes", "bytes", COUNT, "bytes that wrk received"),
    Field("errors_by_kind", "", OBJECT, "`errors` by kind: `connect`, `read`, `write`, `status`, `timeout`"),
    Field("wrong_responses", "", COUNT, "0: only the warm-up compares bodies"),
    Field("warmup_requests", "", COUNT, "responses of the warm-up"),
    Field("warmup_wrong_responses", "", COUNT, "responses of the warm-up with another body than expected"),
    Field("leftover_connections", "", COUNT, "connections of the warm-up that the server had not closed after 2 s"),
    Field("wall_clock_step_share", "", NUMBER, "seconds by which the wall clock was set during the run / run time", 3),
    Field("processes_changed", "", BOOLEAN, "whether the server's processes changed during the run"),
    Field("interface", "", OBJECT, "bytes and packets that crossed the server's interface; null over loopback"),
    Field("server_counts", "", LIST, "what each worker counted in its whole life, checks and warm-up included"),
    Field("response", "", RAW, "response that was checked, with `*` for the values of headers that vary; at most its"
          " first 4096 bytes"),
    Field("response_size_bytes", "bytes", COUNT, "size of the whole response", 7),
    Field("handler_cpu_ns_per_request", "ns", NUMBER, "CPU time that the workload's handler takes, on average", 7),
    Field("idle_connections", "", COUNT, "idle connections beside wrk's; each has had one response", 7),
    Field("idle_connections_lost", "", COUNT, "those of them that were no longer established at the end; null if the"
          " workload has none", 7),
    Field("idle_connections_asked", "", COUNT, "idle connections that the workload asks for", 7),
    Field("requests_in_flight", "", COUNT, "requests under way at a time: `connections` × those pipelined on each", 7),
    Field("server_threads", "", COUNT, "threads of the server that used CPU time in the timed run; null if it has more"
          " than 64", 7),
    Field("time_wait_sockets", "", COUNT, "sockets in TIME_WAIT on the server's side right after the run; null unless"
          " each request has a connection", 7),
    Field("time_wait_limit", "", COUNT, "as many of them as the kernel keeps (`tcp_max_tw_buckets`)", 7),
    Field("ports_waiting", "", COUNT, "ports of wrk's side that closed connections to the server still hold", 7),
    Field("ports", "", COUNT, "ports that it has (`ip_local_port_range`)", 7),
    Field("varying_headers", "", LIST, "names of these headers, without `Date`", 3),
    Field("response_unchanged", "", BOOLEAN, "whether the server still gave this response after the run"),
    Field("connection_per_request", "", BOOLEAN, "whether the response announces that its connection ends"),
    Field("reopened_connections", "", COUNT, "connections that wrk opened in place of others", 3),
    Field("requests_per_connection", "", COUNT, "requests after which the server ends a connection", 3),
    Field("earlier_attempts", "", LIST, "the attempts before this one, which were disturbed, whole"),
    Field("paired", "", OBJECT, "the paired phase, see below", 4, PAIRED_PHASE),
    Field("raw_text", "", RAW, "wrk's own output"),
    Field("raw_histogram", "", OBJECT, "wrk's histogram, as wrk has it"),
    Field("raw_bytes_sent", "bytes", LIST, "bytes sent on each connection"),
    Field("sha256", "", TEXT, "hash of all lines before", 3, ALWAYS),
)

# The fields of `paired`. A list holds the server's value and the reference's, but for `blocks` and `earlier_attempts`.
PAIRED = (
    Field("slice_s", "s", NUMBER, "length of a slice", 4, PAIRED_PHASE),
    Field("pause_s", "s", NUMBER, "pause after each slice", 4, PAIRED_PHASE),
    Field("blocks", "", LIST, "of each block, `seconds`, `requests` and `cpu_ns`, and the `order` of its slices: 0 is"
          " the server's, 1 the reference's", 6, PAIRED_PHASE),
    Field("seconds", "s", LIST, "seconds of load", 4, PAIRED_PHASE),
    Field("requests", "", LIST, "requests that were answered", 4, PAIRED_PHASE),
    Field("cpu_ns", "ns", LIST, "CPU time", 4, PAIRED_PHASE),
    Field("counted_by", "", LIST, "who counted `requests`: `kernel` (by bytes) or `wrk`", 4, PAIRED_PHASE),
    Field("wrk_requests", "", LIST, "requests that wrk counted, start and end included", 4, PAIRED_PHASE),
    Field("connections", "", LIST, "connections after the last block", 4, PAIRED_PHASE),
    Field("errors_by_kind", "", LIST, "wrk's errors by kind", 4, PAIRED_PHASE),
    Field("steal_share", "0…1", NUMBER, "as in cells.csv, of this phase", 4, PAIRED_PHASE),
    Field("foreign_cpu_share", "0…1", NUMBER, "the same", 4, PAIRED_PHASE),
    Field("cpu_pressure_share", "0…1", NUMBER, "the same", 4, PAIRED_PHASE),
    Field("client_wait_share", "0…1", NUMBER, "the same", 4, PAIRED_PHASE),
    Field("server_wait_share", "0…1", NUMBER, "the same", 4, PAIRED_PHASE),
    Field("response_unchanged", "", BOOLEAN, "whether the response stayed the same", 6, PAIRED_PHASE),
    Field("earlier_attempts", "", LIST, "the attempts at this phase before, which were disturbed", 6, PAIRED_PHASE),
)

# The columns of summary.csv, in order.
SUMMARY = (
    Column("machine", "", TEXT, "machine whose cells these are: machines are never pooled"),
    Column("server", "", NAME, "as in cells.csv"),
    Column("connections", "", WHOLE, "as in cells.csv"),
    *(Column(f"repeats_{status}", "", WHOLE, f"cells with status `{status}`") for status in STATUSES),
    Column("requests_per_second", "1/s", NUMBER, "all requests / all seconds", has_interval=True),
    Column("latency_p50_us", "µs", NUMBER, "geometric mean over the repeats", has_interval=True),
    Column("latency_p99_us", "µs", NUMBER, "geometric mean over the repeats", has_interval=True),
    Column("server_cpu_ns_per_request", "ns", NUMBER, "all CPU time / all requests", has_interval=True),
    Column("cpu_ratio", "", NUMBER, "geometric mean over the repeats", has_interval=True),
    Column("throughput_ratio", "", NUMBER, "geometric mean over the repeats", has_interval=True),
    Column("latency_max_us", "µs", NUMBER, "largest"),
    Column("server_cpu_share", "0…1", NUMBER, "median"),
    Column("server_busiest_thread_share", "0…1", NUMBER, "median"),
    Column("client_cpu_share", "0…1", NUMBER, "median"),
    Column("disturbed_share", "0…1", NUMBER, "share of the valid cells that are `disturbed`"),
    Column("limiter", "", TEXT, "what kept throughput from being higher, see below"),
    Column("reference_requests_per_second", "1/s", NUMBER, "geometric mean over the repeats"),
    Column("unserved_connections", "", COUNT, "largest"),
    Column("fairness_jain", "0…1", NUMBER, "smallest"),
    Column("worker_fairness_jain", "0…1", NUMBER, "smallest"),
    Column("server_memory_peak_kib", "KiB", COUNT, "largest"),
    Column("flags", "", FLAGS, "flags of all cells, invalid ones included"),
    Column("reason", "", TEXT, "of the first cell that failed or was unavailable"),
    Column("workload", "", TEXT, "workload whose cells these are: workloads are never pooled"),
    Column("decided_by", "", TEXT, "as in cells.csv"),
)

# The columns of verdicts.csv, in order.
VERDICTS = (
    Column("machine", "", TEXT, "machine of both: machines are never compared with each other"),
    Column("metric", "", TEXT, "`cpu_ratio` or `throughput_ratio`; in a workload that another figure decides, this one"
          " alone: `requests_per_second` or `latency_p99_us`"),
    Column("server", "", NAME, "one server"),
    Column("other", "", NAME, "the server that it is compared with"),
    Column("connections", "", WHOLE, "number of connections, or `all` for the whole sweep"),
    Column("pairs", "", WHOLE, "repeats that both have at the points that can be compared: the smaller number of the"
          " two, added up"),
    Column("ratio", "", NUMBER, "`server` / `other`: of the geometric means over repeats, and over the sweep of those"
          " over its points", has_interval=True),
    Column("p_value", "", NUMBER, "of the same test, two-sided"),
    Column("p_adjusted", "", NUMBER, "by Holm's method: over all pairs for `all`, over all pairs and points for a"
          " point; at most 0.05 is significant"),
    Column("verdict", "", TEXT, "`faster` (more throughput, less CPU time or a lower latency), `slower`,"
          " `no difference`, `depends on connections` or `not decidable here`"),
    Column("smallest_detectable_percent", "%", NUMBER, "true difference that a sweep as noisy as this one finds nine"
          " times in ten"),
    Column("noise_floor_percent", "%", NUMBER, "how far the control differs from its own server over the whole sweep;"
          " empty without a control"),
    Column("reason", "", TEXT, "why the verdict is what it is, and which points it leaves out"),
    Column("workload", "", TEXT, "workload of both: workloads are never pooled"),
)

# The columns of these tables: those of one name are of one kind.
COLUMNS: tuple[Field | Column, ...] = (*CELLS, *SUMMARY, *VERDICTS)
