/* The loop of a thread: it opens its connections, and then sends requests at their times until the last answer. */
#pragma once

#include "worker.h"

enum { BATCH = 256 }; /* events that one call returns at most */

#define LONG_BEFORE_NS INT64_C(1000000000000000) /* longer than any warm-up */

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* How long we may sleep from `now` on, until `end` at most. We wake up a little before an intended time, and spin. */
static inline int64_t loop_sleep_ns(struct worker *worker, int64_t now, int64_t end)
{
    const struct connection *const deadline = list_first(&worker->deadlines);
    const struct connection *const broken = list_first(&worker->broken);
    int64_t until = end;

    if (deadline != NULL)
        until = least(until, deadline->since + worker->run->timeout);
    if (broken != NULL)
        until = least(until, broken->since + BACKOFF_NS);
    for (int i = 0; i < worker->lane_count; i++) {
        const struct lane *const lane = &worker->lanes[i];
        if (lane->next < lane->plan.count && !list_is_empty(&lane->free))
            until = least(until, lane->plan.requests[lane->next].due - worker->run->spin);
    }
    return until - now;
}

/* Events that are there, else those that come until something is due. A look that finds none tells us that what the next
 * one finds has come since. */
static inline int loop_wait(struct worker *worker, struct epoll_event *events, int64_t end)
{
    const int64_t now = worker_now(worker);
    int count = epoll_wait(worker->epoll, events, BATCH, 0);

    worker->found = worker->looked;
    worker->looked = now;
    if (count == 0) {
        const int64_t sleep_ns = loop_sleep_ns(worker, worker_now(worker), end);
        if (sleep_ns <= 0)
            return 0;
        const struct timespec timeout = clock_timespec(sleep_ns);
        count = epoll_pwait2(worker->epoll, events, BATCH, &timeout, NULL);
        worker->found = worker->looked = worker_now(worker);
    }
    if (count < 0 && errno != EINTR)
        err(EXIT_FAILURE, "epoll");
    return count > 0 ? count : 0;
}

static inline void loop_dispatch(struct worker *worker)
{
    const int64_t now = worker_now(worker);

    for (int i = 0; i < worker->lane_count; i++)
        worker_dispatch(worker, &worker->lanes[i], now);
}

/* Requests that wait too long, and connections whose time to try again has come. */
static inline void loop_expire(struct worker *worker, int64_t now)
{
    for (struct connection *first; (first = list_first(&worker->deadlines)) != NULL &&
                                   first->since + worker->run->timeout <= now;)
        worker_fail(worker, first, first->state == BUSY ? ERROR_TIMEOUT : ERROR_CONNECT, now);
    for (struct connection *first;
         (first = list_first(&worker->broken)) != NULL && first->since + BACKOFF_NS <= now;)
        worker_connect(worker, first, now);
}

/* Between two answers we look whether a request is due: the rest of a batch can wait. */
static inline void loop_take_events(struct worker *worker, int64_t end)
{
    struct epoll_event events[BATCH];
    const int count = loop_wait(worker, events, end);

    for (int i = 0; i < count; i++) {
        worker_on_event(worker, &events[i]);
        loop_dispatch(worker);
    }
}

static inline void loop_turn(struct worker *worker, int64_t end)
{
    loop_take_events(worker, end);
    loop_expire(worker, worker_now(worker));
    loop_dispatch(worker);
}

/* A connection without an answer takes no part. It stays open, if it is, so that the server has as many as were asked for. */
static inline void loop_set_unserved(struct worker *worker, struct connection *connection)
{
    if (connection->fd >= 0 && epoll_ctl(worker->epoll, EPOLL_CTL_DEL, connection->fd, NULL) < 0)
        err(EXIT_FAILURE, "epoll_ctl");
    worker_set(&worker->unserved, connection, UNSERVED, 0);
}

/* Connect, and have an answer on each connection, within the timeout. */
static inline void loop_open(struct worker *worker)
{
    worker->epoch = clock_now_ns() + LONG_BEFORE_NS; /* nothing is due, nothing counts */
    const int64_t begin = worker_now(worker), end = begin + worker->run->timeout;

    worker->looked = begin;
    for (int i = 0; i < worker->connection_count; i++)
        worker_connect(worker, &worker->connections[i], begin);
    while (!list_is_empty(&worker->deadlines) && worker_now(worker) < end)
        loop_take_events(worker, end);
    for (int i = 0; i < worker->connection_count; i++) {
        struct connection *const connection = &worker->connections[i];
        if (!connection->is_served && connection->state != UNSERVED)
            loop_set_unserved(worker, connection);
        connection->lane->unserved += connection->state == UNSERVED;
    }
}

/* From now on times count from the start of the measured window. */
static inline void loop_set_epoch(struct worker *worker, int64_t epoch)
{
    const int64_t later = epoch - worker->epoch;

    for (int i = 0; i < worker->connection_count; i++) {
        worker->connections[i].since -= later;
        worker->connections[i].freed = INT64_MIN;
    }
    worker->epoch = epoch;
    worker->looked = worker_now(worker);
}

static inline size_t loop_open_requests(const struct worker *worker)
{
    size_t open = 0;

    for (int i = 0; i < worker->lane_count; i++)
        open += worker->lanes[i].open;
    return open;
}

static inline void loop_until(struct worker *worker, int64_t end)
{
    while (worker_now(worker) < end)
        loop_turn(worker, end);
}

/* The warm-up, the window, and what is still due or under way after it, at most for the timeout. */
static inline void loop_run(struct worker *worker)
{
    const int64_t end = worker->run->end, last = end + worker->run->timeout;

    loop_until(worker, 0);
    worker->cpu_ns = -clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
    loop_until(worker, end);
    worker->cpu_ns += clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
    while (loop_open_requests(worker) > 0 && worker_now(worker) < last)
        loop_turn(worker, last);
    worker->finished = worker_now(worker);
}
