/* What happened to the connections of one worker, told once, at the end: a log written while serving would
 * slow the server. SIGTERM (or Ctrl-C) prints the counts as one JSON line and ends the process, as soon as they hold
 * all that clients had done by then. */
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
    COUNTERS_WAIT_MS = 500, /* for counts that are not complete: some clients never let them be */
    COUNTERS_LOOK_MS = 5,   /* between two looks */
    COUNTERS_BATCH = 1024,  /* descriptors in one look */
};

#define COUNTERS(X)                                                                                \
    X(accepted)            /* connections */                                                       \
    X(requests)            /* answered with 200 */                                                 \
    X(resets)              /* connections that ended with an error of the socket */                \
    X(empty_requests)      /* connections closed before their first byte */                        \
    X(bad_requests)        /* malformed, too long, not supported, or cut off in the middle */      \
    X(refused_connections) /* accepted and closed at once: over a limit of the model or machine */

/* Atomic, because a signal handler or another thread reads them; relaxed, because nobody waits for them. */
struct counters {
#define COUNTERS_FIELD(name) _Atomic uint64_t name;
    COUNTERS(COUNTERS_FIELD)
#undef COUNTERS_FIELD
};

/* Each counter has one writer, so a load and a store do: no locked instruction on the path of a request. */
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

/* Async-signal-safe (hence no printf), and one write, so that the lines of several workers never mix. */
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

/* The counts of this process; server_thread has a set for each of its threads instead. */
static struct counters process_counters;

static int counters_listener = -1;
static atomic_int counters_highest; /* no connection had a higher descriptor */

static inline void counters_watch(int fd)
{
    if (fd > atomic_load_explicit(&counters_highest, memory_order_relaxed))
        atomic_store_explicit(&counters_highest, fd, memory_order_relaxed);
}

/* Whether a client waits to be accepted, or has ended its connection and the server has not. */
static inline bool counters_lack_something(void)
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

/* A signal came: may the counts be told, or is it worth to wait a little, while the server goes on? */
static inline bool counters_are_final(void)
{
    static int64_t end_ms;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    const int64_t now_ms = now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
    if (end_ms == 0)
        end_ms = now_ms + COUNTERS_WAIT_MS;
    return now_ms >= end_ms || !counters_lack_something();
}

static inline void counters_on_signal(int signal_number)
{
    const int error = errno;

    (void)signal_number;
    if (!counters_are_final()) {
        const struct itimerval soon = {.it_value.tv_usec = COUNTERS_LOOK_MS * 1000};
        if (setitimer(ITIMER_REAL, &soon, NULL) == 0) {
            errno = error; /* of whatever was interrupted */
            return;
        }
    }
    counters_print(&process_counters);
    _exit(EXIT_SUCCESS);
}

/* The signals that end a server: the last is that of its own timer. */
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
    action.sa_mask = counters_signals(); /* one report, even after several */
    if (sigaction(SIGTERM, &action, NULL) < 0 || sigaction(SIGINT, &action, NULL) < 0 ||
        sigaction(SIGALRM, &action, NULL) < 0)
        err(EXIT_FAILURE, "sigaction");
}

static inline void counters_report_on_sigterm(void)
{
    counters_handle_signals(counters_on_signal);
}
