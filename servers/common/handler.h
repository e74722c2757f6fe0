/* The handler: what a server does for a request besides I/O. A real one asks a disk, a database or a library, and the
 * thread that calls it waits; or it computes. Ours does both on demand, for one request in so many. */
#pragma once

#include "options.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>

static struct handler handler;        /* without options it has nothing to do */
static atomic_uint *handler_requests; /* all processes of a server count together */

static inline int64_t handler_clock_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        return 0;
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Spend CPU time. The clock of the thread's CPU time costs a system call, so we spin on the cheap clock first. Both differ
 * when another thread took the CPU in between: then we go on for the rest. */
static inline void handler_burn(int64_t burn_ns)
{
    const int64_t end = handler_clock_ns(CLOCK_THREAD_CPUTIME_ID) + burn_ns;

    for (int64_t left = burn_ns; left > 0; left = end - handler_clock_ns(CLOCK_THREAD_CPUTIME_ID)) {
        const int64_t until = handler_clock_ns(CLOCK_MONOTONIC) + left;
        while (handler_clock_ns(CLOCK_MONOTONIC) < until)
            continue;
    }
}

/* Wait as a blocking call does: the thread does nothing else meanwhile. Signals do not shorten it. */
static inline void handler_block(int64_t block_ns)
{
    struct timespec left = {.tv_sec = block_ns / 1000000000, .tv_nsec = block_ns % 1000000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        continue;
}

static inline void handler_work(void)
{
    if (atomic_fetch_add_explicit(handler_requests, 1, memory_order_relaxed) %
            (unsigned)handler.every !=
        (unsigned)handler.every - 1)
        return;
    if (handler.burn_us > 0)
        handler_burn(handler.burn_us * INT64_C(1000));
    if (handler.block_us > 0)
        handler_block(handler.block_us * INT64_C(1000));
}

/* Each request calls this once. */
static inline void handler_run(void)
{
    if (handler.every > 0)
        handler_work();
}

/* Called before the first process or thread starts. */
static inline void handler_set(const struct options *options)
{
    handler = options->handler;
    if (handler.burn_us == 0 && handler.block_us == 0) {
        handler.every = 0;
        return;
    }
    handler_requests = mmap(NULL, sizeof *handler_requests, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (handler_requests == MAP_FAILED)
        err(EXIT_FAILURE, "mmap");
}
