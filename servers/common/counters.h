/* Counts of what happened to the connections of one worker. The server prints them once, at the end: writing a log while
 * it serves would slow it down. On SIGTERM or Ctrl-C it prints them as one JSON line and ends, as soon as they contain
 * everything that clients had done by then. */
#pragma once

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
    COUNTERS_WAIT_MS = 500, /* at most, for complete counts: with some clients they never are */
    COUNTERS_RETRY_MS = 5,  /* between two checks whether they are complete */
    COUNTERS_BATCH = 1024,  /* descriptors that one poll checks */
};

#define COUNTERS(X)                                                                                \
    X(accepted)            /* connections */                                                       \
    X(requests)            /* answered with 200 */                                                 \
    X(resets)              /* connections that ended with an error of the socket */                \
    X(empty_requests)      /* connections closed before their first byte */                        \
    X(bad_requests)        /* malformed, too long, not supported, or cut off in the middle */      \
    X(refused_connections) /* accepted and closed at once, at a limit of the model or the machine */

/* Atomic, because a signal handler or another thread reads them. Relaxed, because no other data depends on them. */
struct counters {
#define COUNTERS_FIELD(name) _Atomic uint64_t name;
    COUNTERS(COUNTERS_FIELD)
#undef COUNTERS_FIELD
};

/* Each counter has one writer, so a load and a store are enough, and no request pays for a locked instruction. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t amount)
{
    const uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + amount, memory_order_relaxed);
}

static inline void counters_add(struct counters *total, struct counters *part)
{
#define COUNTERS_SUM(name)                                                                         \
    counter_add(&total->name, atomic_load_explicit(&part->name, memory_order_relaxed));
    COUNTERS(COUNTERS_SUM)
#undef COUNTERS_SUM
}

static inline char *counters_append_text(char *at, const char *text)
{
    const size_t size = strlen(text);
    memcpy(at, text, size);
    return at + size;
}

static inline char *counters_append_number(char *at, uint64_t number)
{
    char digits[20]; /* UINT64_MAX has 20 */
    size_t count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    while (count > 0)
        *at++ = digits[--count];
    return at;
}

/* Async-signal-safe, so without printf. One write, so that the lines of several workers never mix. */
static inline void counters_print(struct counters *counters)
{
    char line[512];
    char *at = line;
    const char *separator = "{";
#define COUNTERS_PRINT(name)                                                                       \
    at = counters_append_text(at, separator);                                                      \
    at = counters_append_text(at, "\"" #name "\": ");                                              \
    at = counters_append_number(at, atomic_load_explicit(&counters->name, memory_order_relaxed));  \
    separator = ", ";
    COUNTERS(COUNTERS_PRINT)
#undef COUNTERS_PRINT
    at = counters_append_text(at, "}\n");
    if (write(STDOUT_FILENO, line, (size_t)(at - line)) < 0)
        _exit(EXIT_FAILURE); /* nobody reads the counts */
}

/* The counts of this process. server_thread also has a set for each thread. */
static struct counters process_counters;

static int counters_listener = -1;
static atomic_int counters_highest; /* no connection has had a higher descriptor */

static inline void counters_note_descriptor(int fd)
{
    if (fd > atomic_load_explicit(&counters_highest, memory_order_relaxed))
        atomic_store_explicit(&counters_highest, fd, memory_order_relaxed);
}

/* Whether a client waits for us to accept it, or has ended a connection that we have not closed yet. */
static inline bool counters_are_incomplete(void)
{
    static struct pollfd polled[COUNTERS_BATCH];
    bool any_is_open = true;

    for (int first = STDERR_FILENO + 1; any_is_open || first <= counters_highest;
         first += COUNTERS_BATCH) {
        for (int i = 0; i < COUNTERS_BATCH; i++)
            polled[i] = (struct pollfd){.fd = first + i, .events = POLLRDHUP};
        if (counters_listener >= first && counters_listener < first + COUNTERS_BATCH)
            polled[counters_listener - first].events = POLLIN;
        if (poll(polled, COUNTERS_BATCH, 0) < 0)
            return false;
        any_is_open = false;
        for (int i = 0; i < COUNTERS_BATCH; i++) {
            any_is_open |= polled[i].revents != POLLNVAL;
            if ((polled[i].revents & (POLLIN | POLLRDHUP | POLLHUP | POLLERR)) != 0)
                return true;
        }
    }
    return false;
}

/* After a signal: whether to print the counts now, or to let the server go on a little longer. */
static inline bool counters_are_final(void)
{
    static int64_t end_ms;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    const int64_t now_ms = now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
    if (end_ms == 0)
        end_ms = now_ms + COUNTERS_WAIT_MS;
    return now_ms >= end_ms || !counters_are_incomplete();
}

static inline void counters_on_signal(int signal_number)
{
    const int error = errno;

    (void)signal_number;
    if (!counters_are_final()) {
        const struct itimerval soon = {.it_value.tv_usec = COUNTERS_RETRY_MS * 1000};
        if (setitimer(ITIMER_REAL, &soon, NULL) == 0) {
            errno = error; /* of the code that the signal interrupted */
            return;
        }
    }
    counters_print(&process_counters);
    _exit(EXIT_SUCCESS);
}

/* The signals that end a server. SIGALRM comes from its own timer. */
static inline sigset_t counters_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGALRM);
    return signals;
}

static inline void counters_handle_signals(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    action.sa_mask = counters_signals(); /* one report, even after several signals */
    if (sigaction(SIGTERM, &action, NULL) < 0 || sigaction(SIGINT, &action, NULL) < 0 ||
        sigaction(SIGALRM, &action, NULL) < 0)
        err(EXIT_FAILURE, "sigaction");
}

static inline void counters_report_on_sigterm(void)
{
    counters_handle_signals(counters_on_signal);
}
