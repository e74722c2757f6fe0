/* One loop on signals: the kernel queues one for every change of a socket (O_ASYNC, F_SETSIG).
 *
 * System calls per request: recv, send, and one rt_sigtimedwait, which fetches a single signal. Fails when: more signals
 * wait than the kernel queues (ulimit -i). It then sends SIGIO, and the server tries all sockets. */
#include "common/connection.h"
#include "common/listener.h"

#include <poll.h>
#include <sys/resource.h>

enum { DESCRIPTORS_MAX = 1 << 20, TURNS = 64 /* signals taken before the postponed get a turn */ };

static char buffer[RECEIVE_SIZE];       /* all connections receive through it */
static struct connection **connections; /* by descriptor; NULL: none */
static int *postponed;                  /* sockets that get another turn: they may have more */
static bool *is_postponed;              /* by descriptor */
static size_t postponed_count;
static bool clients_wait; /* for the server to accept them */
static size_t descriptors_max;
static sigset_t signals;
static int changed; /* the signal for a change of a socket */

static bool watch(int fd)
{
    const int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETSIG, changed) == 0 && fcntl(fd, F_SETOWN, getpid()) == 0 &&
           fcntl(fd, F_SETFL, flags | O_ASYNC) == 0;
}

/* The others get their turn first: a client that never pauses would hold them up. */
static void postpone(int fd)
{
    if (!is_postponed[fd])
        postponed[postponed_count++] = fd;
    is_postponed[fd] = true;
}

/* The kernel signals a change only once, so we try again wherever something may be left. `missed`: there may have been a
 * change without a signal, if only the client's close. Then we try until nothing is left (EAGAIN). */
static void serve_connection(int fd, bool missed)
{
    struct connection *connection = connections[fd];

    if (connection == NULL || is_postponed[fd])
        return; /* closed since the signal, or its turn comes anyway */
    const bool is_writing = connection_is_writing(connection);
    errno = 0;
    const enum connection_next next =
        is_writing ? connection_write(connection) : connection_read(connection, buffer);
    if (next == CONNECTION_CLOSE) {
        connections[fd] = NULL;
        connection_free(connection);
    } else if (next == CONNECTION_READ &&
               (is_writing || !connection->emptied || (missed && errno != EAGAIN))) {
        postpone(fd);
    }
}

static void serve_postponed(void)
{
    const size_t count = postponed_count;

    for (size_t i = 0; i < count; i++) {
        is_postponed[postponed[i]] = false;
        serve_connection(postponed[i], true);
    }
    postponed_count -= count;
    memmove(postponed, postponed + count, postponed_count * sizeof *postponed);
}

/* false: nobody waits, or there is no descriptor for a client */
static bool accept_one(int listener)
{
    const int fd = listener_accept(listener, SOCK_NONBLOCK);

    if (fd < 0)
        return false;
    if ((size_t)fd >= descriptors_max || !watch(fd)) {
        listener_refuse(fd);
        return true;
    }
    connections[fd] = connection_create(fd);
    serve_connection(fd, true);
    return true;
}

/* No second signal comes for clients that we cannot accept now: remember to try later. */
static void accept_all(int listener)
{
    struct pollfd polled = {.fd = listener, .events = POLLIN};

    do
        clients_wait = poll(&polled, 1, 0) > 0;
    while (clients_wait && accept_one(listener));
}

static void serve_all(int listener)
{
    accept_all(listener);
    for (size_t fd = 0; fd < descriptors_max; fd++)
        serve_connection((int)fd, true);
}

static void serve(int listener)
{
    static const struct timespec at_once = {0};

    for (unsigned turn = 1;; turn++) {
        siginfo_t info;
        const int number = postponed_count > 0 || clients_wait
                               ? sigtimedwait(&signals, &info, &at_once)
                               : sigwaitinfo(&signals, &info);
        if (number < 0 && errno != EINTR && errno != EAGAIN)
            err(EXIT_FAILURE, "sigwaitinfo");
        if (number == SIGIO)
            serve_all(listener);
        else if (number == changed && info.si_code > 0 && info.si_fd == listener)
            accept_all(listener);
        else if (number == changed && info.si_code > 0) /* from the kernel, not from a process */
            serve_connection(info.si_fd, false);
        if (number >= 0 && turn % TURNS != 0)
            continue;
        serve_postponed();
        if (clients_wait)
            accept_all(listener);
    }
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, SOCK_NONBLOCK, false);
    struct rlimit limit;

    changed = SIGRTMIN;
    sigemptyset(&signals);
    sigaddset(&signals, changed);
    sigaddset(&signals, SIGIO);
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
        err(EXIT_FAILURE, "getrlimit, sigprocmask");
    descriptors_max = limit.rlim_cur < DESCRIPTORS_MAX ? limit.rlim_cur : DESCRIPTORS_MAX;
    connections = calloc(descriptors_max, sizeof *connections);
    postponed = calloc(2 * descriptors_max, sizeof *postponed); /* old ones and this turn's */
    is_postponed = calloc(descriptors_max, sizeof *is_postponed);
    if (connections == NULL || postponed == NULL || is_postponed == NULL || !watch(listener))
        err(EXIT_FAILURE, "cannot watch the listener");
    counters_report_on_sigterm();
    connection_set_workload(&options);
    listener_announce(listener, &options);
    accept_all(listener); /* clients that came before we watched the listener */
    serve(listener);
}
