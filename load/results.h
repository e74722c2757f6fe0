/* What a run comes to. Only requests that were due in the measured window count. */
#pragma once

#include "worker.h"

struct series {
    int64_t *values; /* ns, ascending */
    size_t count;
};

struct results {
    struct series latencies, lateness;
    size_t answered; /* rightly or wrongly */
    size_t unsent;
    int connections, unserved;
    struct counts counts;
    int64_t window; /* ns */
};

static inline int results_compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static inline void series_reserve(struct series *series, size_t count)
{
    series->values = malloc((count + 1) * sizeof *series->values);
    if (series->values == NULL)
        err(EXIT_FAILURE, "cannot keep the results");
}

static inline void series_sort(struct series *series)
{
    qsort(series->values, series->count, sizeof *series->values, results_compare);
}

/* Nearest rank: the smallest value that at least this share of all does not exceed. */
static inline int64_t series_percentile(const struct series *series, unsigned per_mille)
{
    const size_t rank = (series->count * per_mille + 999) / 1000;
    return series->values[rank > 0 ? rank - 1 : 0];
}

static inline double series_mean(const struct series *series)
{
    double sum = 0;

    for (size_t i = 0; i < series->count; i++)
        sum += (double)series->values[i];
    return sum / (double)series->count;
}

static inline bool request_is_answered(const struct request *request)
{
    return request->outcome == ANSWERED || request->outcome == WRONG;
}

/* Without an answer, the time that we know it took at least: until we gave it up, or stopped waiting for all. */
static inline int64_t request_latency(const struct request *request, int64_t finished)
{
    const bool has_end = request_is_answered(request) || request->outcome == TIMED_OUT;
    return (has_end ? request->end : finished) - request->due;
}

static inline void results_add_request(struct results *results, const struct request *request,
                                       int64_t finished)
{
    results->latencies.values[results->latencies.count++] = request_latency(request, finished);
    results->answered += request_is_answered(request);
    if (request->outcome == UNSENT)
        results->unsent++;
    else
        results->lateness.values[results->lateness.count++] = request->late_ns;
}

static inline void results_add_lane(struct results *results, const struct lane *lane,
                                    int64_t finished)
{
    for (size_t i = 0; i < lane->plan.count; i++)
        if (lane->plan.requests[i].due >= 0)
            results_add_request(results, &lane->plan.requests[i], finished);
    results->connections += lane->connection_count;
    results->unserved += lane->unserved;
    for (int kind = 0; kind < ERROR_KINDS; kind++)
        results->counts.errors[kind] += lane->counts.errors[kind];
    results->counts.reconnects += lane->counts.reconnects;
    results->counts.answered_in_time += lane->counts.answered_in_time;
}

/* Of the targets from `first` to `last`. */
static inline struct results results_of(const struct worker *workers, int worker_count, int first,
                                        int last)
{
    struct results results = {0};
    size_t count = 0;

    for (int i = 0; i < worker_count; i++)
        for (int target = first; target <= last; target++)
            count += workers[i].lanes[target].plan.count;
    series_reserve(&results.latencies, count);
    series_reserve(&results.lateness, count);
    for (int i = 0; i < worker_count; i++)
        for (int target = first; target <= last; target++)
            results_add_lane(&results, &workers[i].lanes[target], workers[i].finished);
    series_sort(&results.latencies);
    series_sort(&results.lateness);
    for (int target = first; target <= last; target++)
        results.window += schedule_window(&workers[0].run->schedule, target);
    return results;
}

static inline void results_free(struct results *results)
{
    free(results->latencies.values);
    free(results->lateness.values);
}
