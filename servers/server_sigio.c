/* One loop on signals: the kernel queues one for every change of a socket (O_ASYNC, F_SETSIG).
 *
 * System calls per request: recv, send, and one rt_sigtimedwait, which fetches a single signal. Fails when: more wait
 * than may be queued (ulimit -i); SIGIO then says so, and all sockets are tried. See docs/adding-a-server.md. */
#include "common/connection.h"
#include "common/listener.h"

#include <poll.h>
#include <sys/resource.h>

enum { DESCRIPTORS_MAX = 1 << 20, TURNS = 64 /* signals between two looks at what is left */ };

static char buffer[RECEIVE_SIZE];
static struct connection **connections; /* by descriptor; NULL: not a connection's */
static int *left;                       /* sockets that may have more than was taken of them */
static bool *is_left;                   /* by descriptor */
static size_t left_count;
static bool clients_wait; /* to be accepted */
static size_t descriptors_max;
static sigset_t signals;
static int changed; /* the signal that says that a socket changed */

static bool watch(int fd)
{
    const int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETSIG, changed) == 0 && fcntl(fd, F_SETOWN, getpid()) == 0 &&
           fcntl(fd, F_SETFL, flags | O_ASYNC) == 0;
}

/* It has its turn again, after others: a client that never pauses would hold them up. */
static void keep_left(int fd)
{
    if (!is_left[fd])
        left[left_count++] = fd;
    is_left[fd] = true;
}

/* A change is told once, so what may be left is looked at again. `untold`: something may not have
 * been heeded, the client's end at least; then only a look that finds nothing is the last. */
static void serve_connection(int fd, bool untold)
{
    struct connection *connection = connections[fd];

    if (connection == NULL || is_left[fd])
        return; /* it has been closed since, or has its turn */
    const bool was_writing = connection_is_writing(connection);
    errno = 0;
    const enum connection_next next =
        was_writing ? connection_write(connection) : connection_read(connection, buffer);
    if (next == CONNECTION_CLOSE) {
        connections[fd] = NULL;
        connection_free(connection);
    } else if (next == CONNECTION_READ &&
               (was_writing || !connection->emptied || (untold && errno != EAGAIN))) {
        keep_left(fd);
    }
}

static void serve_left(void)
{
    const size_t count = left_count;

    for (size_t i = 0; i < count; i++) {
        is_left[left[i]] = false;
        serve_connection(left[i], true);
    }
    left_count -= count;
    memmove(left, left + count, left_count * sizeof *left);
}

/* false: there was nobody, or no descriptor for him */
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

/* Whoever cannot be accepted now is not told of again: try later. */
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
        siginfo_t told;
        const int number = left_count > 0 || clients_wait ? sigtimedwait(&signals, &told, &at_once)
                                                          : sigwaitinfo(&signals, &told);
        if (number < 0 && errno != EINTR && errno != EAGAIN)
            err(EXIT_FAILURE, "sigwaitinfo");
        if (number == SIGIO)
            serve_all(listener);
        else if (number == changed && told.si_code > 0 && told.si_fd == listener)
            accept_all(listener);
        else if (number == changed && told.si_code > 0) /* not sent by a process */
            serve_connection(told.si_fd, false);
        if (number >= 0 && turn % TURNS != 0)
            continue;
        serve_left();
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
    left = calloc(2 * descriptors_max, sizeof *left); /* old ones and those of this turn */
    is_left = calloc(descriptors_max, sizeof *is_left);
    if (connections == NULL || left == NULL || is_left == NULL || !watch(listener))
        err(EXIT_FAILURE, "cannot watch the listener");
    counters_report_on_sigterm();
    listener_announce(listener, &options);
    accept_all(listener); /* who came before it was watched */
    serve(listener);
}
