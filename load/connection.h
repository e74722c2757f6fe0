/* A connection and what can happen to it: it opens, sends a request, receives the answer, breaks. A connection is always
 * in exactly one list, by its state. */
#pragma once

#include "answer.h"
#include "schedule.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECEIVE_SIZE = 1 << 16 };

enum error_kind {
    ERROR_CONNECT,
    ERROR_READ, /* or the server closed before the end of an answer */
    ERROR_WRITE,
    ERROR_TIMEOUT,
    ERROR_STATUS,
    ERROR_LENGTH,
    ERROR_MALFORMED, /* also bytes that nobody asked for */
    ERROR_KINDS,
    NO_ERROR = ERROR_KINDS,
};

static const char *const error_names[ERROR_KINDS] = {"connect", "read",   "write",    "timeout",
                                                     "status",  "length", "malformed"};

struct counts {
    uint64_t errors[ERROR_KINDS];
    uint64_t reconnects;
    uint64_t answered_in_time; /* correct answers that ended in the window */
};

struct link {
    struct link *previous, *next;
};

enum connection_state { CONNECTING, BUSY, FREE, BROKEN, UNSERVED };

struct connection {
    struct link link; /* must be first */
    struct lane *lane;
    struct request
        *request;  /* under way; NULL: the first one, which proves that the connection is served */
    int64_t since; /* of its state */
    int64_t freed; /* from when on we could have sent a request on it */
    int fd;
    uint32_t generation; /* events of an earlier socket have another */
    int unsent;          /* bytes of the request under way */
    uint8_t state;
    bool is_served;    /* it has had an answer, so it takes part */
    bool has_answered; /* on this socket */
    struct answer answer;
};

/* The connections of one thread to one target, and what they have to send. */
struct lane {
    struct plan plan;
    size_t next;      /* the first request of the plan that is not sent */
    size_t open;      /* requests that have no final outcome */
    struct link free; /* the least recently used first */
    const struct url *url;
    struct connection *connections;
    int connection_count;
    int unserved;
    struct counts counts;
};

static inline void list_init(struct link *list)
{
    list->previous = list->next = list;
}

static inline bool list_is_empty(const struct link *list)
{
    return list->next == list;
}

static inline struct connection *list_first(struct link *list)
{
    return list_is_empty(list) ? NULL : (struct connection *)list->next;
}

static inline void list_move(struct link *list, struct connection *connection)
{
    struct link *const link = &connection->link;

    link->previous->next = link->next;
    link->next->previous = link->previous;
    link->previous = list->previous;
    link->next = list;
    list->previous->next = link;
    list->previous = link;
}

static inline uint64_t connection_tag(const struct connection *connection, uint32_t index)
{
    return (uint64_t)connection->generation << 32 | index;
}

/* Start to connect. false: errno says why not. */
static inline bool connection_open(struct connection *connection, int epoll, uint32_t index)
{
    const struct url *const url = connection->lane->url;
    const int on = 1;

    connection->generation++;
    connection->unsent = 0;
    connection->fd = socket(url->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        return false;
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data.u64 = connection_tag(connection, index),
    };
    return setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
           (connect(connection->fd, (const struct sockaddr *)&url->address, url->address_size) ==
                0 ||
            errno == EINPROGRESS) &&
           epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event) == 0;
}

/* Closing a socket ends its events, and what they said about it may be forgotten. */
static inline void connection_close(struct connection *connection)
{
    if (connection->fd >= 0)
        (void)close(connection->fd); /* whatever it returns, the descriptor is gone */
    connection->fd = -1;
}

/* Whether a socket that reported an event is connected. errno says why not; EINPROGRESS: not yet. */
static inline bool connection_is_open(const struct connection *connection, uint32_t events)
{
    int error = 0;
    socklen_t size = sizeof error;

    if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return false;
    errno = error != 0 ? error : EINPROGRESS;
    return error == 0 && (events & EPOLLOUT) != 0;
}

/* Send what is left of the request. Nearly always the socket takes all at once. */
static inline bool connection_send(struct connection *connection)
{
    const struct url *const url = connection->lane->url;
    const char *const from = url->request + url->request_size - connection->unsent;
    const ssize_t sent = send(connection->fd, from, (size_t)connection->unsent, MSG_NOSIGNAL);

    if (sent < 0)
        return errno == EAGAIN || errno == EINTR;
    connection->unsent -= (int)sent;
    return true;
}
