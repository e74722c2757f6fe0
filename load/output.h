/* The line of JSON. */
#pragma once

#include "results.h"

#include <stdarg.h>

enum { HISTOGRAM_BITS = 7 }; /* a bucket is at most 2^-7 of its lower bound wide */

static inline void output(const char *format, ...) __attribute__((format(printf, 1, 2)));

static inline void output(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    const int size = vprintf(format, arguments);
    va_end(arguments);
    if (size < 0)
        err(EXIT_FAILURE, "cannot write the results");
}

static inline void output_percentile(const struct series *series, const char *name,
                                     unsigned per_mille)
{
    output(", \"%s\": %.3f", name, (double)series_percentile(series, per_mille) / 1e3);
}

static inline void output_latencies(const struct series *series)
{
    if (series->count == 0) {
        output("\"latency_us\": {\"mean\": null, \"p50\": null, \"p90\": null, \"p99\": null, "
               "\"p999\": null, \"max\": null}");
        return;
    }
    output("\"latency_us\": {\"mean\": %.3f", series_mean(series) / 1e3);
    output_percentile(series, "p50", 500);
    output_percentile(series, "p90", 900);
    output_percentile(series, "p99", 990);
    output_percentile(series, "p999", 999);
    output_percentile(series, "max", 1000);
    output("}");
}

static inline void output_lateness(const struct series *series)
{
    if (series->count == 0) {
        output("\"lateness_us\": {\"mean\": null, \"p50\": null, \"p99\": null, \"max\": null}");
        return;
    }
    output("\"lateness_us\": {\"mean\": %.3f", series_mean(series) / 1e3);
    output_percentile(series, "p50", 500);
    output_percentile(series, "p99", 990);
    output_percentile(series, "max", 1000);
    output("}");
}

static inline void output_errors(const struct counts *counts)
{
    output("\"errors\": {");
    for (int kind = 0; kind < ERROR_KINDS; kind++)
        output("%s\"%s\": %ju", kind > 0 ? ", " : "", error_names[kind],
               (uintmax_t)counts->errors[kind]);
    output("}");
}

/* The lower bound of a value's bucket: its HISTOGRAM_BITS + 1 leading bits. */
static inline int64_t histogram_low(int64_t value)
{
    const int bits = value > 0 ? 64 - __builtin_clzll((unsigned long long)value) : 0;
    const int cut = bits > HISTOGRAM_BITS + 1 ? bits - HISTOGRAM_BITS - 1 : 0;
    return value >> cut << cut;
}

/* The values ascend, so those of a bucket are neighbours. Returns how many there are at `from`. */
static inline size_t histogram_count(const struct series *series, size_t from)
{
    size_t to = from;

    while (to < series->count &&
           histogram_low(series->values[to]) == histogram_low(series->values[from]))
        to++;
    return to - from;
}

static inline void output_histogram(const struct series *series)
{
    output("\"histogram\": {\"us_low\": [");
    for (size_t i = 0; i < series->count; i += histogram_count(series, i))
        output("%s%.3f", i > 0 ? ", " : "", (double)histogram_low(series->values[i]) / 1e3);
    output("], \"count\": [");
    for (size_t i = 0, count; i < series->count; i += count) {
        count = histogram_count(series, i);
        output("%s%zu", i > 0 ? ", " : "", count);
    }
    output("]}");
}

static inline void output_results(const struct results *results)
{
    const double duration_s = (double)results->window / 1e9;

    output("\"requests\": %zu, \"offered_per_second\": %.3f, \"achieved_per_second\": %.3f, ",
           results->latencies.count, (double)results->latencies.count / duration_s,
           (double)results->counts.answered_in_time / duration_s);
    output_latencies(&results->latencies);
    output(", ");
    output_lateness(&results->lateness);
    output(", \"duration_s\": %.9g, \"connections\": %d, \"connections_unserved\": %d, ",
           duration_s, results->connections, results->unserved);
    output("\"reconnects\": %ju, \"answered\": %zu, \"unsent\": %zu, \"censored\": %zu, ",
           (uintmax_t)results->counts.reconnects, results->answered, results->unsent,
           results->latencies.count - results->answered);
    output_errors(&results->counts);
    output(", ");
    output_histogram(&results->latencies);
}

static inline void output_targets(const struct worker *workers, int worker_count)
{
    const int targets = workers[0].lane_count;

    output(", \"targets\": [");
    for (int target = 0; target < targets; target++) {
        struct results results = results_of(workers, worker_count, target, target);
        output("%s{", target > 0 ? ", " : "");
        output_results(&results);
        output("}");
        results_free(&results);
    }
    output("]");
}

static inline void output_run(const struct worker *workers, int worker_count)
{
    struct results results = results_of(workers, worker_count, 0, workers[0].lane_count - 1);
    int64_t cpu_ns = 0;

    for (int i = 0; i < worker_count; i++)
        cpu_ns += workers[i].cpu_ns;
    output("{");
    output_results(&results);
    output(", \"cpu_s\": %.6f", (double)cpu_ns / 1e9);
    if (workers[0].lane_count > 1)
        output_targets(workers, worker_count);
    output("}\n");
    results_free(&results);
    if (fflush(stdout) != 0)
        err(EXIT_FAILURE, "cannot write the results");
}
