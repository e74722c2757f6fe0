/* The event loop of server_epoll and, once a worker, of server_epoll_multitask.
 *
 * The kernel keeps the set of watched sockets; one epoll_wait tells which of them are ready, at a cost that grows
 * with the ready ones, not with all. Level-triggered: a socket is watched for reading, and for writing only while
 * a response could not be sent whole. */
#pragma once

#include "connection.h"
#include "listener.h"

#include <sys/epoll.h>

enum { EPOLL_BATCH = 512 }; /* events taken by one call */

static inline bool epoll_watch(int epoll, int operation, int fd, uint32_t events, void *data)
{
    struct epoll_event event = {.events = events, .data.ptr = data};
    return epoll_ctl(epoll, operation, fd, &event) == 0;
}

static inline void epoll_accept(int epoll, int listener)
{
    for (int fd; (fd = listener_accept(listener, SOCK_NONBLOCK)) >= 0;) {
        struct connection *connection = connection_create(fd);
        if (connection != NULL && !epoll_watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, connection)) {
            counter_add(&process_counters.refused_connections, 1);
            connection_free(connection);
        }
    }
}

static inline void epoll_serve(int epoll, struct connection *connection, uint32_t events,
                               char *buffer)
{
    const bool was_writing = (events & EPOLLOUT) != 0;
    const enum connection_next next =
        was_writing ? connection_write(connection) : connection_read(connection, buffer);
    const bool writing = next == CONNECTION_WRITE;

    if (next == CONNECTION_CLOSE ||
        (writing != was_writing && !epoll_watch(epoll, EPOLL_CTL_MOD, connection->fd,
                                                writing ? EPOLLOUT : EPOLLIN, connection)))
        connection_free(connection); /* closing ends the watch */
}

static inline void epoll_loop(int listener)
{
    static char buffer[RECEIVE_SIZE];
    static struct epoll_event events[EPOLL_BATCH];
    const int epoll = epoll_create1(EPOLL_CLOEXEC);

    if (epoll < 0 || !epoll_watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, NULL))
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
