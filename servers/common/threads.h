/* A server of several threads. Only the main thread receives signals, and it does nothing but wait for them. */
#pragma once

#include "connection.h"
#include "listener.h"

#include <pthread.h>

/* Run `serve(&listener)` in a thread until a signal ends the server. `add_counts` adds up what all threads have counted. */
static inline _Noreturn void threads_run(const struct options *options, int type_flags,
                                         void *(*serve)(void *),
                                         void (*add_counts)(struct counters *))
{
    const int listener = listener_open(options, type_flags, false);
    const sigset_t end = counters_signals();
    struct counters total = {0};
    pthread_t thread;
    int signal_number;

    connection_set_workload(options);
    if (pthread_sigmask(SIG_BLOCK, &end, NULL) != 0 ||
        pthread_create(&thread, NULL, serve, (void *)&listener) != 0)
        errx(EXIT_FAILURE, "cannot start the accepting thread");
    listener_announce(listener, options);
    if (sigwait(&end, &signal_number) != 0)
        errx(EXIT_FAILURE, "sigwait");
    while (!counters_are_final())
        listener_pause();
    add_counts(&total);
    counters_add(&total, &process_counters);
    counters_print(&total);
    _exit(EXIT_SUCCESS);
}
