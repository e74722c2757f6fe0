/* What we answer with. The answers are complete texts in memory, so that sending one needs no copy. `--body-bytes` makes
 * them anew, once, before the server accepts anything. */
#pragma once

#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESPONSE_HEAD(field)                                                                       \
    "HTTP/1.1 200 OK\r\n"                                                                          \
    "Content-Type: text/plain\r\n"                                                                 \
    "Content-Length: 13\r\n" field "\r\n"
#define RESPONSE_BODY "Hello, World!"
#define RESPONSE RESPONSE_HEAD("") RESPONSE_BODY
#define RESPONSE_8 RESPONSE RESPONSE RESPONSE RESPONSE RESPONSE RESPONSE RESPONSE RESPONSE
/* Without this an HTTP/1.0 client waits for the end of the connection. */
#define SAYS_KEEP_ALIVE "Connection: keep-alive\r\n"
#define SAYS_CLOSE "Connection: close\r\n"
#define REFUSAL(status) "HTTP/1.1 " status "\r\nContent-Length: 0\r\n" SAYS_CLOSE "\r\n"

enum {
    BODY_SIZE = sizeof RESPONSE_BODY - 1, /* bytes, without --body-bytes */
    BODY_MAX = 64 << 20,          /* bytes: three answers have a body, and all are in memory */
    ANSWERS_READY = 32,           /* equal answers that one call sends at most */
    ANSWERS_READY_SIZE = 1 << 16, /* bytes of them, unless one is larger */
};

/* After each answer comes the one that HEAD gets instead. */
enum answer {
    ANSWER_NONE,
    ANSWER,
    ANSWER_HEAD,
    ANSWER_KEEP_ALIVE,
    ANSWER_KEEP_ALIVE_HEAD,
    ANSWER_CLOSE, /* this one, the next, and all refusals are the last of their connection */
    ANSWER_CLOSE_HEAD,
    ANSWER_CONTINUE, /* for a client that waits for it before it sends a body */
    ANSWER_BAD_REQUEST,
    ANSWER_URI_TOO_LONG,
    ANSWER_FIELDS_TOO_LARGE,
    ANSWER_NOT_IMPLEMENTED,
    ANSWER_UNAVAILABLE,
    ANSWERS_COUNT,
};

/* `data` may have the same answer many times over, so that one call answers many pipelined requests. */
struct answer_text {
    const char *data;
    uint32_t size;       /* bytes of one answer */
    uint32_t ready_size; /* bytes in `data` */
};

#define ANSWER_TEXT(text) {.data = (text), .size = sizeof(text) - 1, .ready_size = sizeof(text) - 1}

static struct answer_text answers[ANSWERS_COUNT] = {
    [ANSWER_NONE] = ANSWER_TEXT(""),
    [ANSWER] = {.data = RESPONSE_8 RESPONSE_8 RESPONSE_8 RESPONSE_8,
                .size = sizeof RESPONSE - 1,
                .ready_size = ANSWERS_READY * (sizeof RESPONSE - 1)},
    [ANSWER_HEAD] = ANSWER_TEXT(RESPONSE_HEAD("")),
    [ANSWER_KEEP_ALIVE] = ANSWER_TEXT(RESPONSE_HEAD(SAYS_KEEP_ALIVE) RESPONSE_BODY),
    [ANSWER_KEEP_ALIVE_HEAD] = ANSWER_TEXT(RESPONSE_HEAD(SAYS_KEEP_ALIVE)),
    [ANSWER_CLOSE] = ANSWER_TEXT(RESPONSE_HEAD(SAYS_CLOSE) RESPONSE_BODY),
    [ANSWER_CLOSE_HEAD] = ANSWER_TEXT(RESPONSE_HEAD(SAYS_CLOSE)),
    [ANSWER_CONTINUE] = ANSWER_TEXT("HTTP/1.1 100 Continue\r\n\r\n"),
    [ANSWER_BAD_REQUEST] = ANSWER_TEXT(REFUSAL("400 Bad Request")),
    [ANSWER_URI_TOO_LONG] = ANSWER_TEXT(REFUSAL("414 URI Too Long")),
    [ANSWER_FIELDS_TOO_LARGE] = ANSWER_TEXT(REFUSAL("431 Request Header Fields Too Large")),
    [ANSWER_NOT_IMPLEMENTED] = ANSWER_TEXT(REFUSAL("501 Not Implemented")),
    [ANSWER_UNAVAILABLE] = ANSWER_TEXT(REFUSAL("503 Service Unavailable")),
};

/* The body is "Hello, World!" over and over, cut off at the end. */
static inline void answers_fill_body(char *body, size_t size)
{
    for (size_t i = 0; i < size; i++)
        body[i] = RESPONSE_BODY[i % BODY_SIZE];
}

/* Make an answer with a body of `body_size` bytes `copies` times over, and the head that HEAD gets. */
static inline void answers_make(enum answer answer, const char *field, size_t body_size,
                                size_t copies)
{
    char head[128];
    const size_t head_size = (size_t)snprintf(head, sizeof head,
                                              "HTTP/1.1 200 OK\r\n"
                                              "Content-Type: text/plain\r\n"
                                              "Content-Length: %zu\r\n%s\r\n",
                                              body_size, field);
    const size_t size = head_size + body_size;
    char *data = malloc(copies * size);
    if (data == NULL)
        err(EXIT_FAILURE, "answers of %zu bytes", size);

    memcpy(data, head, head_size);
    answers_fill_body(data + head_size, body_size);
    for (size_t i = 1; i < copies; i++)
        memcpy(data + i * size, data, size);
    answers[answer] = (struct answer_text){data, (uint32_t)size, (uint32_t)(copies * size)};
    answers[answer + 1] = (struct answer_text){data, (uint32_t)head_size, (uint32_t)head_size};
}

static inline void answers_set_body(size_t body_size)
{
    const size_t fitting = ANSWERS_READY_SIZE / (body_size + sizeof RESPONSE);
    size_t copies = fitting < ANSWERS_READY ? fitting : ANSWERS_READY;
    if (copies == 0)
        copies = 1;
    if (body_size == BODY_SIZE)
        return;
    answers_make(ANSWER, "", body_size, copies);
    answers_make(ANSWER_KEEP_ALIVE, SAYS_KEEP_ALIVE, body_size, 1);
    answers_make(ANSWER_CLOSE, SAYS_CLOSE, body_size, 1);
}
