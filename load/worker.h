/* A thread of the generator, and what it does when something happens to one of its connections. */
#pragma once

#include "connection.h"

#include <pthread.h>

#define BACKOFF_NS INT64_C(10000000) /* before we connect again where connecting failed */

struct run {
    const struct options *options;
    struct schedule schedule;
    pthread_barrier_t barrier; /* all threads have opened their connections */
    int64_t epoch;             /* the start of the measured window, in the clock's time */
    int64_t end, timeout, spin;
};

struct worker {
    struct run *run;
    pthread_t thread;
    int epoll;
    int lane_count;
    struct lane lanes[TARGETS_MAX];
    struct connection *connections; /* of all lanes */
    int connection_count;
    struct link deadlines, broken, unserved; /* the first two by `since` */
    int64_t epoch;                           /* all other times count from it */
    int64_t looked;   /* when we last looked for events, without finding those of now */
    int64_t found;    /* from when on we could have known of the events of now */
    int64_t cpu_ns;   /* of this thread, in the window */
    int64_t finished; /* when we stopped waiting for answers */
    int open_error; /* why a connection did not open before the run; 0: it did, without a good answer */
    char buffer[RECEIVE_SIZE];
};

static inline int64_t worker_now(const struct worker *worker)
{
    return clock_now_ns() - worker->epoch;
}

static inline uint32_t worker_index(const struct worker *worker,
                                    const struct connection *connection)
{
    return (uint32_t)(connection - worker->connections);
}

/* Neither what happens before the run counts, nor in its warm-up. */
static inline void worker_count_error(struct lane *lane, enum error_kind kind, int64_t now)
{
    if (now >= 0)
        lane->counts.errors[kind]++;
}

static inline void worker_set(struct link *list, struct connection *connection,
                              enum connection_state state, int64_t now)
{
    connection->state = (uint8_t)state;
    connection->since = now;
    list_move(list, connection);
}

static inline void worker_give_up(struct worker *worker, struct connection *connection, int64_t now)
{
    connection_close(connection);
    if (connection->is_served)
        worker_set(&worker->broken, connection, BROKEN, now);
    else
        worker_set(&worker->unserved, connection, UNSERVED, now);
}

static inline void worker_connect(struct worker *worker, struct connection *connection, int64_t now)
{
    connection->has_answered = false;
    if (connection_open(connection, worker->epoll, worker_index(worker, connection))) {
        worker_set(&worker->deadlines, connection, CONNECTING, now);
        return;
    }
    worker->open_error = errno;
    worker_count_error(connection->lane, ERROR_CONNECT, now);
    worker_give_up(worker, connection, now);
}

/* The request under way, if any, ends without an answer. */
static inline void worker_fail_request(struct connection *connection, enum outcome outcome,
                                       int64_t now)
{
    if (connection->request == NULL)
        return;
    connection->request->outcome = (uint8_t)outcome;
    connection->request->end = now;
    connection->request = NULL;
    connection->lane->open--;
}

/* Connect anew: at once if this connection was of use, so that a server that closes each costs no more than that. */
static inline void worker_reconnect(struct worker *worker, struct connection *connection,
                                    int64_t now)
{
    const bool at_once = connection->has_answered;

    connection_close(connection);
    if (at_once)
        worker_connect(worker, connection, now);
    else
        worker_give_up(worker, connection, now);
}

static inline void worker_fail(struct worker *worker, struct connection *connection,
                               enum error_kind kind, int64_t now)
{
    worker_count_error(connection->lane, kind, now);
    worker_fail_request(connection, kind == ERROR_TIMEOUT ? TIMED_OUT : FAILED, now);
    worker_reconnect(worker, connection, now);
}

/* request NULL: the first one of a connection, which proves that it is served. */
static inline void worker_send(struct worker *worker, struct connection *connection,
                               struct request *request, int64_t now)
{
    connection->request = request;
    connection->unsent = connection->lane->url->request_size;
    answer_init(&connection->answer);
    worker_set(&worker->deadlines, connection, BUSY, now);
    if (!connection_send(connection))
        worker_fail(worker, connection, ERROR_WRITE, now);
}

/* Send what is due, as long as a connection is free. Our lateness counts from when both were the case. */
static inline void worker_dispatch(struct worker *worker, struct lane *lane, int64_t now)
{
    for (struct connection *connection;
         lane->next < lane->plan.count && lane->plan.requests[lane->next].due <= now &&
         (connection = list_first(&lane->free)) != NULL;
         now = worker_now(worker)) {
        struct request *const request = &lane->plan.requests[lane->next++];
        const int64_t ready = request->due > connection->freed ? request->due : connection->freed;
        const int64_t late = now > ready ? now - ready : 0;

        request->sent = now;
        request->late_ns = late < UINT32_MAX ? (uint32_t)late : UINT32_MAX;
        request->outcome = UNDER_WAY;
        worker_send(worker, connection, request, now);
    }
}

static inline void worker_set_free(struct worker *worker, struct connection *connection,
                                   int64_t now)
{
    connection->request = NULL;
    connection->freed = worker->found;
    worker_set(&connection->lane->free, connection, FREE, now);
}

static inline void worker_on_open(struct worker *worker, struct connection *connection, int64_t now)
{
    if (!connection->is_served) {
        worker_send(worker, connection, NULL, now);
        return;
    }
    if (now >= 0)
        connection->lane->counts.reconnects++;
    worker_set_free(worker, connection, now);
}

/* What the answer is worth. */
static inline enum error_kind worker_judge(const struct worker *worker, const struct answer *answer)
{
    const double expected = worker->run->options->body_bytes;

    if (answer->status != 200)
        return ERROR_STATUS;
    return expected >= 0 && (double)answer->body_size != expected ? ERROR_LENGTH : NO_ERROR;
}

static inline void worker_finish_request(struct worker *worker, struct connection *connection,
                                         int64_t now)
{
    struct request *const request = connection->request;
    struct lane *const lane = connection->lane;

    connection->is_served = connection->has_answered = true;
    connection->request = NULL;
    if (request == NULL)
        return;
    const enum error_kind error = worker_judge(worker, &connection->answer);
    request->end = now;
    request->outcome = error == NO_ERROR ? ANSWERED : WRONG;
    lane->open--;
    if (error != NO_ERROR)
        worker_count_error(lane, error, now);
    else if (now >= 0 && now < worker->run->end)
        lane->counts.answered_in_time++;
}

/* Take what has arrived. false: the connection was closed. */
static inline bool worker_take(struct worker *worker, struct connection *connection, size_t size,
                               int64_t now)
{
    struct answer *const answer = &connection->answer;
    const bool is_busy = connection->state == BUSY;
    const size_t taken = is_busy ? answer_feed(answer, worker->buffer, size) : 0;

    if (is_busy && !answer_is_over(answer))
        return true;
    if (is_busy && answer->state == ANSWER_COMPLETE)
        worker_finish_request(worker, connection, now);
    if (taken < size || answer->state == ANSWER_MALFORMED || connection->unsent > 0) {
        worker_fail(worker, connection, ERROR_MALFORMED, now);
        return false;
    }
    if (answer->closes) {
        worker_reconnect(worker, connection, now);
        return false;
    }
    worker_set_free(worker, connection, now);
    return true;
}

/* The server has closed: a connection that is free, after an answer that ends so, or in mid-answer. */
static inline void worker_on_end(struct worker *worker, struct connection *connection, int64_t now)
{
    if (connection->state == BUSY) {
        answer_feed_end(&connection->answer);
        if (connection->answer.state != ANSWER_COMPLETE) {
            worker_fail(worker, connection, ERROR_READ, now);
            return;
        }
        worker_finish_request(worker, connection, now);
    }
    worker_reconnect(worker, connection, now);
}

/* One receive takes an answer of usual size. An event comes once, so we go on while there may be more. */
static inline void worker_receive(struct worker *worker, struct connection *connection,
                                  bool may_end)
{
    for (;;) {
        const ssize_t size = recv(connection->fd, worker->buffer, RECEIVE_SIZE, 0);
        const int64_t now = worker_now(worker);
        if (size < 0) {
            if (errno != EAGAIN && errno != EINTR)
                worker_fail(worker, connection, ERROR_READ, now);
            return;
        }
        if (size == 0) {
            worker_on_end(worker, connection, now);
            return;
        }
        if (!worker_take(worker, connection, (size_t)size, now))
            return;
        if (size < RECEIVE_SIZE && !may_end)
            return;
    }
}

static inline void worker_on_event(struct worker *worker, const struct epoll_event *event)
{
    struct connection *const connection = &worker->connections[(uint32_t)event->data.u64];
    const int64_t now = worker_now(worker);

    if (event->data.u64 >> 32 != connection->generation || connection->fd < 0)
        return;
    if (connection->state == CONNECTING) {
        if (!connection_is_open(connection, event->events)) {
            if (errno == EINPROGRESS)
                return;
            worker->open_error = errno;
            worker_fail(worker, connection, ERROR_CONNECT, now);
            return;
        }
        worker_on_open(worker, connection, now);
    } else if (connection->unsent > 0 && !connection_send(connection)) {
        worker_fail(worker, connection, ERROR_WRITE, now);
        return;
    }
    const uint32_t ended = event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    const bool is_open = connection->state == BUSY || connection->state == FREE;
    if (is_open && (ended != 0 || (event->events & EPOLLIN) != 0))
        worker_receive(worker, connection, ended != 0);
}
