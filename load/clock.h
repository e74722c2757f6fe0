/* Time in nanoseconds, of clocks that nobody sets. */
#pragma once

#include <err.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#define SECOND_NS INT64_C(1000000000)

static inline int64_t clock_read_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        err(EXIT_FAILURE, "clock_gettime");
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static inline int64_t clock_now_ns(void)
{
    return clock_read_ns(CLOCK_MONOTONIC);
}

static inline struct timespec clock_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / SECOND_NS, .tv_nsec = ns % SECOND_NS};
}
