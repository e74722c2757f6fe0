/* One loop on signals: the kernel queues one for every change of a socket (O_ASYNC, F_SETSIG).
 *
 * System calls per request: recv, send, and one rt_sigtimedwait, since it fetches a single signal. Fails when: more
 * signals wait than may be queued (ulimit -i); then a last one, SIGIO, says that some were lost, and all sockets are
 * tried. docs/adding-a-server.md tells how this server was added. */
#include "common/connection.h"
#include "common/listener.h"

#include <poll.h>
#include <sys/resource.h>

enum { DESCRIPTORS_MAX = 1 << 20 };

static char buffer[RECEIVE_SIZE];
static struct connection **connections; /* by descriptor; NULL: not a connection's */
static size_t descriptors_max;
static sigset_t signals;
static int changed; /* the signal that says that a socket changed */

static bool watch(int fd)
{
    const int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETSIG, changed) == 0 && fcntl(fd, F_SETOWN, getpid()) == 0 &&
           fcntl(fd, F_SETFL, flags | O_ASYNC) == 0;
}

/* A change is told once, so take all that is there. `untold`: something may have come that was not heeded; then,
 * after the last bytes, the client's end may be there too. */
static void serve_connection(int fd, bool untold)
{
    struct connection *connection = connections[fd];
    enum connection_next next = CONNECTION_READ;

    if (connection == NULL) /* it has been closed since */
        return;
    if (connection_is_writing(connection)) {
        next = connection_write(connection);
        untold = true;
    }
    while (next == CONNECTION_READ) {
        next = connection_read(connection, buffer);
        if (next == CONNECTION_READ && connection->emptied) {
            if (!untold)
                return;
            untold = false;
        }
    }
    if (next == CONNECTION_CLOSE) {
        connections[fd] = NULL;
        connection_free(connection);
    }
}

static void accept_one(int listener)
{
    const int fd = listener_accept(listener, SOCK_NONBLOCK);

    if (fd < 0)
        return;
    if ((size_t)fd >= descriptors_max || !watch(fd)) {
        listener_refuse(fd);
        return;
    }
    connections[fd] = connection_create(fd);
    serve_connection(fd, true);
}

static void accept_all(int listener)
{
    struct pollfd polled = {.fd = listener, .events = POLLIN};

    while (poll(&polled, 1, 0) > 0)
        accept_one(listener);
}

static void serve_all(int listener)
{
    accept_all(listener);
    for (size_t fd = 0; fd < descriptors_max; fd++)
        serve_connection((int)fd, true);
}

static void serve(int listener)
{
    for (;;) {
        siginfo_t told;
        const int number = sigwaitinfo(&signals, &told);
        if (number < 0 && errno != EINTR)
            err(EXIT_FAILURE, "sigwaitinfo");
        if (number == SIGIO)
            serve_all(listener);
        else if (number == changed && told.si_fd == listener)
            accept_all(listener);
        else if (number == changed)
            serve_connection(told.si_fd, false);
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
    if (connections == NULL || !watch(listener))
        err(EXIT_FAILURE, "cannot watch the listener");
    counters_report_on_sigterm();
    listener_announce(listener, &options);
    accept_all(listener); /* who came before it was watched */
    serve(listener);
}
