/* One event loop on poll.
 *
 * System calls per request: recv, send, and a share of one poll. The kernel copies the array in and scans it at every
 * call, so a call costs more the more sockets are watched. Fails when: there are many connections of which few are
 * ready. */
#include "common/connection.h"
#include "common/listener.h"

#include <poll.h>

static struct pollfd *polled; /* [0] is the listener; [i] belongs to connections[i] */
static struct connection **connections;
static size_t count, capacity;    /* of both arrays */
static char buffer[RECEIVE_SIZE]; /* all connections receive through it */

static bool grow(void)
{
    const size_t larger = capacity > 0 ? 2 * capacity : 1024;
    struct pollfd *more_polled = realloc(polled, larger * sizeof *polled);
    if (more_polled != NULL)
        polled = more_polled;
    struct connection **more_connections = realloc(connections, larger * sizeof *connections);
    if (more_connections != NULL)
        connections = more_connections;
    if (more_polled == NULL || more_connections == NULL)
        return false;
    capacity = larger;
    return true;
}

static void watch(size_t index, enum connection_next next)
{
    polled[index].events = next == CONNECTION_WRITE ? POLLOUT : POLLIN;
}

static void accept_all(int listener)
{
    for (int fd; (fd = listener_accept(listener, SOCK_NONBLOCK)) >= 0;) {
        if (count == capacity && !grow()) {
            listener_refuse(fd);
            continue;
        }
        connections[count] = connection_create(fd);
        if (connections[count] == NULL)
            continue;
        polled[count] = (struct pollfd){.fd = fd};
        watch(count, CONNECTION_READ);
        count++;
    }
}

static void drop(size_t index)
{
    connection_free(connections[index]);
    count--; /* the last connection moves to the free place */
    polled[index] = polled[count];
    connections[index] = connections[count];
}

static void serve_connection(size_t index)
{
    const enum connection_next next = polled[index].events == POLLOUT
                                          ? connection_write(connections[index])
                                          : connection_read(connections[index], buffer);

    if (next == CONNECTION_CLOSE)
        drop(index);
    else
        watch(index, next);
}

static void serve(int listener)
{
    if (!grow())
        err(EXIT_FAILURE, "malloc");
    polled[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    connections[0] = NULL;
    count = 1;
    for (;;) {
        int ready = poll(polled, count, -1);
        if (ready < 0 && errno != EINTR)
            err(EXIT_FAILURE, "poll");

        /* From the end: then drop moves only connections that this turn has already served. */
        for (size_t i = count; i-- > 0 && ready > 0;) {
            if (polled[i].revents == 0)
                continue;
            ready--;
            if (i == 0)
                accept_all(listener);
            else
                serve_connection(i);
        }
    }
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, SOCK_NONBLOCK, false);

    counters_report_on_sigterm();
    connection_set_workload(&options);
    listener_announce(listener, &options);
    serve(listener);
}
