/* What happened to the connections of one worker, told once, at the end: a log written while serving would
 * slow the server. SIGTERM (or Ctrl-C) prints the counts as one JSON line and ends the process. */
#pragma once

#include <err.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static inline void counters_on_signal(int signal_number)
{
    (void)signal_number;
    counters_print(&process_counters);
    _exit(EXIT_SUCCESS);
}

/* The signals that end a server. */
static inline sigset_t counters_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    return signals;
}

static inline void counters_handle_signals(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    action.sa_mask = counters_signals(); /* one report, even after both */
    if (sigaction(SIGTERM, &action, NULL) < 0 || sigaction(SIGINT, &action, NULL) < 0)
        err(EXIT_FAILURE, "sigaction");
}

static inline void counters_report_on_sigterm(void)
{
    counters_handle_signals(counters_on_signal);
}
