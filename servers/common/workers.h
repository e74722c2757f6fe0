/* Several worker processes on one port: each has a listener of its own (SO_REUSEPORT), over which the kernel
 * spreads the connections by a hash of their addresses. */
#pragma once

#include "listener.h"

#include <sys/prctl.h>
#include <sys/wait.h>

static pid_t workers_pids[WORKERS_MAX];
static int workers_count;

static inline void workers_stop(int signal_number)
{
    for (int i = 0; i < workers_count; i++)
        kill(workers_pids[i], signal_number);
    while (wait(NULL) > 0 || errno == EINTR)
        continue;
}

/* In the master: every worker tells its own counts. */
static inline void workers_on_signal(int signal_number)
{
    workers_stop(signal_number);
    _exit(EXIT_SUCCESS);
}

static inline void workers_mask_signals(int how)
{
    const sigset_t signals = counters_signals();
    if (sigprocmask(how, &signals, NULL) < 0)
        err(EXIT_FAILURE, "sigprocmask");
}

static inline void workers_fork(int index, const int *listeners, int count, void (*serve)(int))
{
    const pid_t master = getpid();
    const pid_t pid = fork();
    if (pid < 0) {
        warn("fork");
        workers_stop(SIGKILL);
        exit(EXIT_FAILURE);
    }
    if (pid > 0) {
        workers_pids[workers_count++] = pid;
        return;
    }
    /* A worker dies with its master, also when that was killed before this line. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != master)
        _exit(EXIT_FAILURE);
    counters_report_on_sigterm();
    workers_mask_signals(SIG_UNBLOCK);
    for (int i = 0; i < count; i++)
        if (i != index)
            close(listeners[i]);
    serve(listeners[index]);
    _exit(EXIT_SUCCESS);
}

/* A stopped worker has ended with status 0; any other end is a fault, and ends all. */
static inline _Noreturn void workers_wait(void)
{
    int status;
    for (pid_t pid; (pid = wait(&status)) > 0 || errno == EINTR;) {
        if (pid < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
            continue;
        warnx("worker %d ended: %s %d", (int)pid, WIFSIGNALED(status) ? "signal" : "status",
              WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        workers_stop(SIGKILL);
        exit(EXIT_FAILURE);
    }
    exit(EXIT_SUCCESS);
}

/* Run `serve(listener)` in as many processes as the options say. */
static inline _Noreturn void workers_run(const struct options *options, int type_flags,
                                         void (*serve)(int))
{
    struct options own = *options;
    static int listeners[WORKERS_MAX];

    /* All listen before the first serves, or the first would get every early connection. The first shares the
     * port only once it has it: a port that another server's workers share is in use. */
    for (int i = 0; i < own.workers; i++) {
        listeners[i] = listener_open(&own, type_flags, i > 0);
        listener_set_option(listeners[i], SOL_SOCKET, SO_REUSEPORT, 1);
        own.port = listener_port(listeners[0]);
    }
    /* A signal waits until all workers are there, and in a worker until that can answer it. */
    workers_mask_signals(SIG_BLOCK);
    counters_handle_signals(workers_on_signal);
    for (int i = 0; i < own.workers; i++)
        workers_fork(i, listeners, own.workers, serve);
    workers_mask_signals(SIG_UNBLOCK);
    listener_announce(listeners[0], &own);
    for (int i = 0; i < own.workers; i++)
        close(listeners[i]);
    workers_wait();
}
