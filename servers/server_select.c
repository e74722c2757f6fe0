/* One event loop on select.
 *
 * System calls per request: recv, send, and a share of one select. The kernel copies the sets in and out and scans them
 * at every call, up to the highest descriptor. Fails when: a descriptor reaches FD_SETSIZE (1024), which the sets cannot
 * hold. The server refuses such a connection. */
#include "common/connection.h"
#include "common/listener.h"

#include <sys/select.h>

static fd_set reading, writing; /* the sockets we want to read from, and to write to */
static struct connection *connections[FD_SETSIZE]; /* by descriptor; NULL: none */
static int highest;                                /* no connection has a higher descriptor */
static char buffer[RECEIVE_SIZE];                  /* all connections receive through it */

static void watch(int fd, enum connection_next next)
{
    FD_CLR(fd, &reading);
    FD_CLR(fd, &writing);
    if (next == CONNECTION_READ)
        FD_SET(fd, &reading);
    else if (next == CONNECTION_WRITE)
        FD_SET(fd, &writing);
}

static void accept_all(int listener)
{
    for (int fd; (fd = listener_accept(listener, SOCK_NONBLOCK)) >= 0;) {
        if (fd >= FD_SETSIZE) {
            listener_refuse(fd);
            continue;
        }
        connections[fd] = connection_create(fd);
        if (connections[fd] == NULL)
            continue;
        watch(fd, CONNECTION_READ);
        if (fd > highest)
            highest = fd;
    }
}

static void drop(int fd)
{
    watch(fd, CONNECTION_CLOSE);
    connection_free(connections[fd]);
    connections[fd] = NULL;
    while (connections[highest] == NULL && highest > 0)
        highest--;
}

static void serve_connection(int fd, bool is_writing)
{
    const enum connection_next next =
        is_writing ? connection_write(connections[fd]) : connection_read(connections[fd], buffer);

    if (next == CONNECTION_CLOSE)
        drop(fd);
    else if ((next == CONNECTION_WRITE) != is_writing)
        watch(fd, next);
}

static void serve(int listener)
{
    FD_SET(listener, &reading);
    for (;;) {
        fd_set readable = reading, writable = writing;
        const int limit = (highest > listener ? highest : listener) + 1;
        int ready = select(limit, &readable, &writable, NULL, NULL);
        if (ready < 0 && errno != EINTR)
            err(EXIT_FAILURE, "select");

        for (int fd = 0; fd < limit && ready > 0; fd++) {
            const bool can_read = FD_ISSET(fd, &readable), can_write = FD_ISSET(fd, &writable);
            if (!can_read && !can_write)
                continue;
            ready--;
            if (fd == listener)
                accept_all(listener);
            else
                serve_connection(fd, can_write);
        }
    }
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, SOCK_NONBLOCK, false);

    if (listener >= FD_SETSIZE)
        errx(EXIT_FAILURE, "started with %d open files: select cannot watch more", listener);
    counters_report_on_sigterm();
    connection_set_workload(&options);
    listener_announce(listener, &options);
    serve(listener);
}
