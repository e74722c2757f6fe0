/* The event loop of server_epoll and, once a worker, of server_epoll_multitask.
 *
 * The kernel keeps the set of watched sockets; one epoll_wait tells which of them are ready, at a cost that grows
 * with the ready ones, not with all. Edge-triggered: a socket is told of when something arrives, or when it takes
 * bytes again, and it is watched for both once and for all. Level-triggered, the kernel would look at each ready
 * socket twice, the second time to find that it no longer is. The price: what is left behind is not told of again. */
#pragma once

#include "connection.h"
#include "listener.h"

#include <sys/epoll.h>

enum { EPOLL_BATCH = 512 }; /* events taken by one call */

static inline bool epoll_watch(int epoll, int operation, struct connection *connection)
{
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data.ptr = connection,
    };
    return epoll_ctl(epoll, operation, connection->fd, &event) == 0;
}

static inline void epoll_accept(int epoll, int listener)
{
    for (int fd; (fd = listener_accept(listener, SOCK_NONBLOCK)) >= 0;) {
        struct connection *connection = connection_create(fd);
        if (connection != NULL && !epoll_watch(epoll, EPOLL_CTL_ADD, connection)) {
            counter_add(&process_counters.refused_connections, 1);
            connection_free(connection);
        }
    }
}

/* One receive, and the answers to it, or a client that never pauses would hold up the others. Where input may be left
 * behind (urgent data, too, cuts a receive short) the socket is watched anew, which tells of it again. */
static inline void epoll_serve(int epoll, struct connection *connection, uint32_t events,
                               char *buffer)
{
    const bool was_writing = connection_is_writing(connection);
    const enum connection_next next =
        was_writing ? connection_write(connection) : connection_read(connection, buffer);
    const bool is_special = (events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    const bool may_have_more = was_writing || is_special || !connection->emptied;

    if (next == CONNECTION_CLOSE || (next == CONNECTION_READ && may_have_more &&
                                     !epoll_watch(epoll, EPOLL_CTL_MOD, connection)))
        connection_free(connection); /* closing ends the watch */
}

static inline void epoll_loop(int listener)
{
    static char buffer[RECEIVE_SIZE];
    static struct epoll_event events[EPOLL_BATCH];
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event accepting = {.events = EPOLLIN, .data.ptr = NULL};

    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &accepting) < 0)
        err(EXIT_FAILURE, "epoll");
    for (;;) {
        const int ready = epoll_wait(epoll, events, EPOLL_BATCH, -1);
        if (ready < 0 && errno != EINTR)
            err(EXIT_FAILURE, "epoll_wait");
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == NULL)
                epoll_accept(epoll, listener);
            else
                epoll_serve(epoll, events[i].data.ptr, events[i].events, buffer);
        }
    }
}
