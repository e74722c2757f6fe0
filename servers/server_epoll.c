/* One event loop on epoll, edge-triggered.
 *
 * System calls per request: recv, send, and a share of one epoll_wait. The kernel keeps the set of watched sockets, so a
 * call costs more only the more sockets are ready. Fails when: one core is not enough.
 *
 * Edge-triggered means that the kernel reports a socket once when bytes arrive, and once when it can take bytes again. So
 * we watch each socket for both, and never change that. A level-triggered epoll would check each ready socket a second
 * time, only to find that it is no longer ready. The price: the kernel does not report again what we leave unread. */
#include "common/connection.h"
#include "common/listener.h"

#include <sys/epoll.h>

#ifndef LISTENER_EVENTS /* server_epoll_exclusive.c shares its listener */
#define LISTENER_EVENTS EPOLLIN
#endif

enum { BATCH = 512 }; /* events that one call returns at most */

static int epoll;                 /* the set of watched sockets */
static char buffer[RECEIVE_SIZE]; /* all connections receive through it */

static bool watch(struct connection *connection, int operation)
{
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data.ptr = connection,
    };
    return epoll_ctl(epoll, operation, connection->fd, &event) == 0;
}

static void accept_all(int listener)
{
    for (int fd; (fd = listener_accept(listener, SOCK_NONBLOCK)) >= 0;) {
        struct connection *connection = connection_create(fd);
        if (connection != NULL && !watch(connection, EPOLL_CTL_ADD)) {
            counter_add(&process_counters.refused_connections, 1);
            connection_free(connection);
        }
    }
}

static void drop(struct connection *connection)
{
    connection_free(connection); /* closing a socket removes it from the set */
}

/* One receive and its answers per turn: a client that never pauses would hold up the others. If bytes may be left to
 * read, we set the watch anew, and the kernel reports the socket again. Urgent data can leave some: it cuts a receive
 * short. */
static void serve_connection(struct connection *connection, uint32_t events)
{
    const bool is_writing = connection_is_writing(connection);
    const enum connection_next next =
        is_writing ? connection_write(connection) : connection_read(connection, buffer);
    const bool is_special = (events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    const bool may_have_more = is_writing || is_special || !connection->emptied;

    if (next == CONNECTION_CLOSE ||
        (next == CONNECTION_READ && may_have_more && !watch(connection, EPOLL_CTL_MOD)))
        drop(connection);
}

static void serve(int listener)
{
    static struct epoll_event events[BATCH];
    struct epoll_event accepting = {.events = LISTENER_EVENTS, .data.ptr = NULL};

    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &accepting) < 0)
        err(EXIT_FAILURE, "epoll");
    for (;;) {
        const int ready = epoll_wait(epoll, events, BATCH, -1);
        if (ready < 0 && errno != EINTR)
            err(EXIT_FAILURE, "epoll_wait");

        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == NULL)
                accept_all(listener);
            else
                serve_connection(events[i].data.ptr, events[i].events);
        }
    }
}

#ifndef NO_MAIN /* the servers with several processes include this file */
int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, SOCK_NONBLOCK, false);

    counters_report_on_sigterm();
    connection_set_workload(&options);
    listener_announce(listener, &options);
    serve(listener);
}
#endif
