/* One client's connection, the same for every I/O model. Received bytes become answers that we owe, and these become bytes
 * to send. An I/O model only decides when to call which function. */
#pragma once

#include "answers.h"
#include "chunked.h"
#include "counters.h"
#include "handler.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef CONNECTION_IS_KEPT /* server_uring_naive.c defines it */
#define CONNECTION_IS_KEPT true
#endif

enum { RECEIVE_SIZE = 16384 }; /* bytes that one call receives at most */

enum connection_next { CONNECTION_READ, CONNECTION_WRITE, CONNECTION_CLOSE };

/* A run of equal answers that we owe after others. Only a client that pipelines different requests needs any. */
struct run {
    struct run *next; /* a ring: the last run points to the first */
    size_t owed;      /* bytes */
    enum answer answer;
};

struct connection {
    struct counters *counters;
    size_t owed;            /* bytes of equal answers that we have not sent yet */
    struct run *later_runs; /* what we owe after those: the last run; NULL: nothing */
    uint64_t body_left;     /* bytes of the current body or chunk that have not arrived */
    char *partial;          /* the start of an incomplete head; NULL until needed */
    int fd;
    uint32_t offset; /* of the next byte to send, in its answer */
    uint16_t partial_size;
    uint16_t line_size; /* bytes that have arrived between two chunks */
    uint16_t run_count;
    uint8_t owed_answer; /* enum answer: the one whose bytes are owed */
    uint8_t
        final_answer; /* enum answer: what we owe after all others, and then end the connection */
    uint8_t answer;   /* enum answer: the one to give when the body has arrived */
    uint8_t chunked;  /* enum chunked_state */
    bool begun : 1;   /* a byte has arrived */
    bool ending : 1;  /* take no further request; close when all is sent */
    bool answered
        : 1; /* it ends with an answer of ours, not because the client or the socket ended it */
    bool draining : 1; /* the last answer is sent; wait for the client to close */
    /* The last receive filled less than the buffer, so nothing is left, except after urgent data. */
    bool emptied : 1;
};
static_assert(sizeof(struct connection) <= 64, "larger than a cache line");

static inline struct connection *connection_init(struct connection *connection, int fd,
                                                 struct counters *counters)
{
    counters_note_descriptor(fd);
    *connection = (struct connection){.fd = fd, .counters = counters};
    return connection;
}

/* Called once, before the first connection. */
static inline void connection_set_workload(const struct options *options)
{
    answers_set_body((size_t)options->body_size);
    handler_set(options);
}

/* All of the owed bytes are sent: go on with the first run, or else with the final answer. */
static inline void connection_next_run(struct connection *connection)
{
    if (connection->later_runs == NULL) {
        connection->owed = answers[connection->final_answer].size;
        connection->owed_answer = connection->final_answer;
        connection->final_answer = ANSWER_NONE;
        return;
    }
    struct run *run = connection->later_runs->next;
    connection->owed = run->owed;
    connection->owed_answer = (uint8_t)run->answer;
    if (run == connection->later_runs)
        connection->later_runs = NULL;
    else
        connection->later_runs->next = run->next;
    connection->run_count--;
    free(run);
}

/* Send nothing more. */
static inline void connection_drop_output(struct connection *connection)
{
    while (connection->later_runs != NULL)
        connection_next_run(connection);
    connection->owed = 0;
    connection->final_answer = ANSWER_NONE;
    connection->answered = false;
}

static inline void connection_release(struct connection *connection)
{
    connection_drop_output(connection);
    free(connection->partial);
}

static inline void connection_destroy(struct connection *connection)
{
    connection_release(connection);
    close(connection->fd);
}

/* For models that keep connections on the heap. Closes the socket and returns NULL if there is no memory. */
static inline struct connection *connection_create(int fd)
{
    struct connection *connection = malloc(sizeof *connection);
    if (connection == NULL) {
        counter_add(&process_counters.refused_connections, 1);
        close(fd);
        return NULL;
    }
    return connection_init(connection, fd, &process_counters);
}

static inline void connection_free(struct connection *connection)
{
    connection_destroy(connection);
    free(connection);
}

/* After this answer the connection ends. */
static inline void connection_answer_last(struct connection *connection, enum answer answer)
{
    connection->final_answer = (uint8_t)answer;
    connection->answered = true;
    connection->ending = true;
    if (connection->owed == 0)
        connection_next_run(connection);
}

static inline void connection_refuse(struct connection *connection, enum answer refusal)
{
    counter_add(&connection->counters->bad_requests, 1);
    connection->partial_size = 0;
    connection->chunked = CHUNKED_END;
    connection->body_left = 0;
    connection_answer_last(connection, refusal);
}

/* false: there is no memory for another run, or the connection has too many. */
static inline bool connection_owe_later(struct connection *connection, enum answer answer)
{
    struct run *last = connection->later_runs;
    if (last != NULL && last->answer == answer) {
        last->owed += answers[answer].size;
        return true;
    }
    struct run *run = connection->run_count < UINT16_MAX ? malloc(sizeof *run) : NULL;
    if (run == NULL)
        return false;
    *run = (struct run){.next = run, .owed = answers[answer].size, .answer = answer};
    if (last != NULL) {
        run->next = last->next;
        last->next = run;
    }
    connection->later_runs = run;
    connection->run_count++;
    return true;
}

static inline bool connection_owe(struct connection *connection, enum answer answer)
{
    if (connection->owed > 0 &&
        (connection->owed_answer != answer || connection->later_runs != NULL))
        return connection_owe_later(connection, answer);
    connection->owed_answer = (uint8_t)answer;
    connection->owed += answers[answer].size;
    return true;
}

static inline enum answer connection_choose_answer(const struct http_request *request)
{
    enum answer answer = ANSWER;
    if (!CONNECTION_IS_KEPT || !request->keep_alive)
        answer = ANSWER_CLOSE;
    else if (request->version_1_0)
        answer = ANSWER_KEEP_ALIVE;
    return request->method == HTTP_HEAD ? answer + 1 : answer;
}

static inline void connection_answer(struct connection *connection, enum answer answer)
{
    handler_run();
    if (answer == ANSWER_CLOSE || answer == ANSWER_CLOSE_HEAD) {
        connection_answer_last(connection, answer);
    } else if (!connection_owe(connection, answer)) {
        connection_refuse(connection, ANSWER_UNAVAILABLE);
        return;
    }
    counter_add(&connection->counters->requests, 1);
}

/* Keep the start of a head until the rest arrives. Most clients send a request in one piece, so we allocate only when
 * needed. */
static inline bool connection_keep(struct connection *connection, const char *data, size_t size)
{
    if (connection->partial == NULL)
        connection->partial = malloc(HTTP_HEAD_MAX);
    if (connection->partial == NULL)
        return false;
    memcpy(connection->partial + connection->partial_size, data, size);
    connection->partial_size += (uint16_t)size;
    return true;
}

/* Skip what has arrived of a body or chunk. Returns how many bytes that is. */
static inline size_t connection_skip_body(struct connection *connection, size_t size)
{
    const size_t taken = size < connection->body_left ? size : (size_t)connection->body_left;
    connection->body_left -= taken;
    return taken;
}

static inline size_t connection_take_body(struct connection *connection, size_t size)
{
    const size_t taken = connection_skip_body(connection, size);
    if (connection->body_left == 0)
        connection_answer(connection, connection->answer);
    return taken;
}

/* Take the data of a chunk, or one byte of what is between two. Returns how many bytes it took. */
static inline size_t connection_take_chunk(struct connection *connection, const char *data,
                                           size_t size)
{
    if (connection->chunked == CHUNKED_DATA) {
        const size_t taken = connection_skip_body(connection, size);
        if (connection->body_left == 0)
            connection->chunked = CHUNKED_DATA_RETURN;
        connection->line_size = 0;
        return taken;
    }
    connection->chunked = chunked_next(connection->chunked, &connection->body_left, *data);
    if (connection->chunked == CHUNKED_BAD)
        connection_refuse(connection, ANSWER_BAD_REQUEST);
    else if (++connection->line_size > HTTP_HEAD_MAX)
        connection_refuse(connection, ANSWER_FIELDS_TOO_LARGE);
    else if (connection->chunked == CHUNKED_END)
        connection_answer(connection, connection->answer);
    return 1;
}

/* A head is complete: answer, or wait for its body. */
static inline void connection_take_request(struct connection *connection,
                                           const struct http_request *request)
{
    const enum answer answer = connection_choose_answer(request);

    connection->partial_size = 0;
    if (!request->chunked && request->content_length == 0) {
        connection_answer(connection, answer);
        return;
    }
    connection->answer = (uint8_t)answer;
    connection->body_left = request->content_length;
    connection->line_size = 0;
    if (request->chunked)
        connection->chunked = CHUNKED_SIZE_START;
    if (request->expects_continue && !request->version_1_0 &&
        !connection_owe(connection, ANSWER_CONTINUE))
        connection_refuse(connection, ANSWER_UNAVAILABLE);
}

/* Take one head, or a part of one, from the start of `data`. Returns how many bytes it took. */
static inline size_t connection_take_head(struct connection *connection, const char *data,
                                          size_t size)
{
    const size_t before = connection->partial_size;
    const char *head = data;
    size_t head_size = size < HTTP_HEAD_MAX ? size : HTTP_HEAD_MAX;

    if (before > 0) {
        head_size = size < HTTP_HEAD_MAX - before ? size : HTTP_HEAD_MAX - before;
        connection_keep(connection, data, head_size);
        head = connection->partial;
        head_size += before;
    }
    struct http_request request;
    switch (http_parse(head, head_size, &request)) {
    case HTTP_COMPLETE:
        connection_take_request(connection, &request);
        return request.head_size - before;
    case HTTP_INCOMPLETE:
        if (head_size == HTTP_HEAD_MAX)
            connection_refuse(connection, request.has_request_line ? ANSWER_FIELDS_TOO_LARGE
                                                                   : ANSWER_URI_TOO_LONG);
        else if (before == 0 && !connection_keep(connection, data, size))
            connection_refuse(connection, ANSWER_UNAVAILABLE);
        return size;
    case HTTP_UNSUPPORTED:
        connection_refuse(connection, ANSWER_NOT_IMPLEMENTED);
        return size;
    case HTTP_MALFORMED:
    default:
        connection_refuse(connection, ANSWER_BAD_REQUEST);
        return size;
    }
}

/* Bytes have arrived: owe an answer to each request that they complete. */
static inline void connection_take(struct connection *connection, const char *data, size_t size)
{
    connection->begun = true;
    while (size > 0 && !connection->ending) {
        size_t taken;
        if (connection->chunked != CHUNKED_END)
            taken = connection_take_chunk(connection, data, size);
        else if (connection->body_left > 0)
            taken = connection_take_body(connection, size);
        else
            taken = connection_take_head(connection, data, size);
        data += taken;
        size -= taken;
    }
}

/* Empty lines alone do not begin a request: RFC 9112, 2.2. */
static inline bool connection_is_within_request(const struct connection *connection)
{
    for (size_t i = 0; i < connection->partial_size; i++)
        if (connection->partial[i] != '\r' && connection->partial[i] != '\n')
            return true;
    return connection->body_left > 0 || connection->chunked != CHUNKED_END;
}

/* The connection ends: the client sends no more (`size` is 0), or the socket failed (`size` < 0). Count why. */
static inline void connection_count_end(struct connection *connection, ssize_t size)
{
    if (size < 0)
        counter_add(&connection->counters->resets, 1);
    else if (!connection->begun)
        counter_add(&connection->counters->empty_requests, 1);
    else if (connection_is_within_request(connection))
        counter_add(&connection->counters->bad_requests, 1);
    connection->ending = true;
}

static inline bool connection_is_writing(const struct connection *connection)
{
    return connection->owed > 0;
}

/* Point `data` to the bytes to send next. Returns how many, 0 if there are none. */
static inline size_t connection_output(const struct connection *connection, const char **data)
{
    const struct answer_text *answer = &answers[connection->owed_answer];
    const size_t ready = answer->ready_size - connection->offset;
    *data = answer->data + connection->offset;
    return connection->owed < ready ? connection->owed : ready;
}

static inline void connection_sent(struct connection *connection, size_t size)
{
    connection->owed -= size;
    if (connection->owed > 0) {
        connection->offset =
            (uint32_t)((connection->offset + size) % answers[connection->owed_answer].size);
        return;
    }
    connection->offset = 0;
    if (connection->ending || connection->later_runs != NULL)
        connection_next_run(connection);
}

/* All is sent: what to do next. Closing a socket with unread input would reset the connection, and could destroy the last
 * answer on its way. So we shut down only our side, and wait for the client to close. */
static inline enum connection_next connection_all_sent(struct connection *connection)
{
    if (!connection->ending)
        return CONNECTION_READ;
    if (!connection->answered || connection->draining)
        return connection->draining ? CONNECTION_READ : CONNECTION_CLOSE;
    connection->draining = true;
    return shutdown(connection->fd, SHUT_WR) == 0 ? CONNECTION_READ : CONNECTION_CLOSE;
}

/* Send what we owe: for models that learn when a socket is ready, and for those that block. */
static inline enum connection_next connection_write(struct connection *connection)
{
    const char *data;
    for (size_t size; (size = connection_output(connection, &data)) > 0;) {
        const ssize_t sent = send(connection->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN)
            return CONNECTION_WRITE;
        if (sent < 0) {
            connection_count_end(connection, sent);
            return CONNECTION_CLOSE;
        }
        connection_sent(connection, (size_t)sent);
    }
    return connection_all_sent(connection);
}

/* Receive once, into a buffer that connections may share, and answer. */
static inline enum connection_next connection_read(struct connection *connection, char *buffer)
{
    const ssize_t size = recv(connection->fd, buffer, RECEIVE_SIZE, 0);
    connection->emptied = size < RECEIVE_SIZE;
    if (size > 0) {
        connection_take(connection, buffer, (size_t)size);
        return connection_write(connection);
    }
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return CONNECTION_READ;
    if (!connection->draining)
        connection_count_end(connection, size);
    return CONNECTION_CLOSE;
}
