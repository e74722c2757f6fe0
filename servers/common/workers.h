/* Several worker processes on one port. Either each has a listener of its own (SO_REUSEPORT), and the kernel distributes
 * the connections by a hash of their addresses; or all share one listener.
 *
 * Why the epoll loops have listeners of their own: on a shared one with EPOLLEXCLUSIVE (server_epoll_exclusive.c) the
 * worker that is awake takes every connection. At 10 to 100 connections, Jain's fairness index of the workers' requests
 * was 0.50 to 0.54 with 2 workers (one worker had nearly all) and 0.25 with 4; with the hash it was 0.98 to 1.00 and 0.72
 * to 0.96.
 * Why not by CPU (SO_ATTACH_REUSEPORT_CBPF): over loopback connections arrive on the client's CPU, so one worker would
 * get them all. */
#pragma once

#include "listener.h"

#include <sys/prctl.h>
#include <sys/wait.h>

static pid_t workers_pids[WORKERS_MAX];
static int workers_count;
static int workers_ready_pipe; /* in a worker: leads to its master */

static inline void workers_stop(int signal_number)
{
    for (int i = 0; i < workers_count; i++)
        kill(workers_pids[i], signal_number);
    while (wait(NULL) > 0 || errno == EINTR)
        continue;
}

/* In the master, which has no counts: every worker prints its own. */
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

/* No worker may end before the master stops it. If one does, the master stops all. */
static inline _Noreturn void workers_fail(pid_t pid, int status)
{
    warnx("worker %d ended: %s %d", (int)pid, WIFSIGNALED(status) ? "signal" : "status",
          WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    workers_stop(SIGKILL);
    exit(EXIT_FAILURE);
}

/* Each worker calls this as soon as it can serve. */
static inline void workers_ready(void)
{
    if (write(workers_ready_pipe, "", 1) != 1)
        _exit(EXIT_FAILURE);
    close(workers_ready_pipe);
}

/* A worker that ends before it is ready has printed why. The master starts the next worker only afterwards, so the user
 * sees one line, not one per worker. */
static inline void workers_wait_ready(pid_t pid, int ready_pipe)
{
    char byte;
    int status = 0;

    if (read(ready_pipe, &byte, sizeof byte) == 1) {
        close(ready_pipe);
        return;
    }
    if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
        workers_fail(pid, status);
    workers_stop(SIGKILL);
    exit(WEXITSTATUS(status));
}

static inline void workers_fork(int index, const int *listeners, int count, void (*serve)(int))
{
    const pid_t master = getpid();
    int ready[2];
    const pid_t pid = pipe2(ready, O_CLOEXEC) == 0 ? fork() : -1;
    if (pid < 0) {
        warn("cannot start a worker");
        workers_stop(SIGKILL);
        exit(EXIT_FAILURE);
    }
    if (pid > 0) {
        workers_pids[workers_count++] = pid;
        close(ready[1]);
        workers_wait_ready(pid, ready[0]);
        return;
    }
    /* A worker dies with its master. The master may have died before this line, too. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != master)
        _exit(EXIT_FAILURE);
    counters_report_on_sigterm();
    workers_mask_signals(SIG_UNBLOCK);
    close(ready[0]);
    workers_ready_pipe = ready[1];
    const int own = count > 1 ? index : 0;
    for (int i = 0; i < count; i++)
        if (i != own)
            close(listeners[i]);
    counters_listener = listeners[own];
    serve(listeners[own]);
    _exit(EXIT_SUCCESS);
}

/* A worker that was asked to stop ends with status 0. */
static inline _Noreturn void workers_wait(void)
{
    int status;
    for (pid_t pid; (pid = wait(&status)) > 0 || errno == EINTR;)
        if (pid > 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
            workers_fail(pid, status);
    exit(EXIT_SUCCESS);
}

/* All listen before the first serves: otherwise the first would get every early connection. The first sets SO_REUSEPORT
 * only after it has bound the port: so it fails if another server's workers have that port. */
static inline void workers_open_listeners(struct options *options, int type_flags, int *listeners)
{
    for (int i = 0; i < options->workers; i++) {
        listeners[i] = listener_open(options, type_flags, i > 0);
        listener_set_option(listeners[i], SOL_SOCKET, SO_REUSEPORT, 1);
        options->port = listener_port(listeners[0]);
    }
}

static inline _Noreturn void workers_serve(const struct options *options, const int *listeners,
                                           int count, void (*serve)(int))
{
    /* Block signals until all workers are ready, and in a worker until its handler is set. */
    workers_mask_signals(SIG_BLOCK);
    counters_handle_signals(workers_on_signal);
    for (int i = 0; i < options->workers; i++)
        workers_fork(i, listeners, count, serve);
    workers_mask_signals(SIG_UNBLOCK);
    listener_announce(listeners[0], options);
    for (int i = 0; i < count; i++)
        close(listeners[i]);
    workers_wait();
}

/* Run `serve(listener)` in as many processes as the options say, each with a listener of its own. It must call
 * workers_ready. */
static inline _Noreturn void workers_run(const struct options *options, int type_flags,
                                         void (*serve)(int))
{
    static int listeners[WORKERS_MAX];
    struct options own = *options;

    workers_open_listeners(&own, type_flags, listeners);
    workers_serve(&own, listeners, own.workers, serve);
}

/* The same with one listener for all, from which each takes connections when it is free to. */
static inline _Noreturn void workers_run_shared(const struct options *options, int type_flags,
                                                void (*serve)(int))
{
    const int listener = listener_open(options, type_flags, false);

    workers_serve(options, &listener, 1, serve);
}
