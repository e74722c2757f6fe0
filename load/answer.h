/* HTTP/1.x answers (RFC 9112): where an answer ends, its status, the size of its body, and whether the server closes.
 * Pure functions over bytes, which may come in any pieces: no sockets, no allocation. A piece is not copied, but for a
 * line that it cuts. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum {
    ANSWER_HEAD_MAX = 16384, /* bytes of head and trailers, interim answers included */
    ANSWER_LINE_MAX = 256,   /* bytes of a line that we understand; other fields may be longer */
};

enum answer_state {
    ANSWER_STATUS_LINE,
    ANSWER_FIELDS,
    ANSWER_BODY,
    ANSWER_BODY_UNTIL_CLOSE,
    ANSWER_CHUNK_SIZE,
    ANSWER_CHUNK,
    ANSWER_CHUNK_END,
    ANSWER_TRAILERS,
    ANSWER_COMPLETE,
    ANSWER_MALFORMED,
};

struct answer {
    enum answer_state state;
    int status;
    uint64_t body_size; /* bytes that have arrived, without the framing of chunks */
    uint64_t left;      /* bytes of the body or of the chunk that have not arrived */
    uint32_t head_size; /* bytes that have arrived */
    bool closes;        /* the server closes the connection after it */
    bool version_1_0;
    bool keep_alive;
    bool has_length;
    bool chunked;
    bool is_long;       /* the line under way is longer than what `line` has of it */
    bool ends_with_cr;  /* so does the line under way */
    uint16_t line_size; /* bytes of a line whose end has not arrived */
    char line[ANSWER_LINE_MAX];
};

/* All but the bytes of the line, which need not be set. */
static inline void answer_init(struct answer *answer)
{
    memset(answer, 0, offsetof(struct answer, line));
}

static inline bool answer_is_over(const struct answer *answer)
{
    return answer->state == ANSWER_COMPLETE || answer->state == ANSWER_MALFORMED;
}

static inline bool answer_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline int answer_hex_digit(char c)
{
    if (answer_is_digit(c))
        return c - '0';
    const char lower = c | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* A number without sign, of all `size` bytes. */
static inline bool answer_read_number(const char *text, size_t size, unsigned base,
                                      uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < size; i++) {
        const int digit = answer_hex_digit(text[i]);
        if (digit < 0 || (unsigned)digit >= base || *number > UINT64_MAX / 256)
            return false;
        *number = *number * base + (unsigned)digit;
    }
    return size > 0;
}

static inline bool answer_is_name(const char *text, size_t size, const char *name)
{
    return size == strlen(name) && strncasecmp(text, name, size) == 0;
}

/* Whether a list, as of the field Connection, has the word as an element. */
static inline bool answer_list_has(const char *text, size_t size, const char *word)
{
    const char *const end = text + size;

    while (text < end) {
        const char *const comma = memchr(text, ',', (size_t)(end - text));
        const char *last = comma != NULL ? comma : end;
        const char *const next = last + (comma != NULL);
        while (text < last && (*text == ' ' || *text == '\t'))
            text++;
        while (last > text && (last[-1] == ' ' || last[-1] == '\t'))
            last--;
        if (answer_is_name(text, (size_t)(last - text), word))
            return true;
        text = next;
    }
    return false;
}

/* "HTTP/1.1 200", and perhaps a space and a reason. */
static inline enum answer_state answer_take_status(struct answer *answer, const char *line,
                                                   size_t size)
{
    uint64_t status;

    if (size < 12 || memcmp(line, "HTTP/1.", 7) != 0 || !answer_is_digit(line[7]) ||
        line[8] != ' ' || !answer_read_number(line + 9, 3, 10, &status) || status < 100 ||
        status == 101 || (size > 12 && line[12] != ' '))
        return ANSWER_MALFORMED;
    answer->status = (int)status;
    answer->version_1_0 = line[7] == '0';
    return ANSWER_FIELDS;
}

static inline bool answer_take_length(struct answer *answer, const char *value, size_t size)
{
    uint64_t length;

    if (!answer_read_number(value, size, 10, &length) ||
        (answer->has_length && answer->left != length))
        return false;
    answer->has_length = true;
    answer->left = length;
    return true;
}

static inline bool answer_take_value(struct answer *answer, const char *line, size_t name_size,
                                     const char *value, size_t size)
{
    if (answer_is_name(line, name_size, "content-length"))
        return !answer->is_long && answer_take_length(answer, value, size);
    if (answer_is_name(line, name_size, "transfer-encoding")) { /* we ask for no other coding */
        const bool is_first = !answer->chunked;
        answer->chunked = true;
        return !answer->is_long && is_first && answer_is_name(value, size, "chunked");
    }
    if (answer_is_name(line, name_size, "connection")) {
        answer->closes |= answer_list_has(value, size, "close");
        answer->keep_alive |= answer_list_has(value, size, "keep-alive");
        return !answer->is_long;
    }
    return true;
}

static inline enum answer_state answer_take_field(struct answer *answer, const char *line,
                                                  size_t size)
{
    const char *const colon = memchr(line, ':', size), *value = colon, *end = line + size;

    if (colon == NULL || colon == line)
        return ANSWER_MALFORMED;
    for (const char *at = line; at < colon; at++)
        if (*at <= ' ' || *at > '~')
            return ANSWER_MALFORMED;
    do
        value++;
    while (value < end && (*value == ' ' || *value == '\t'));
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return answer_take_value(answer, line, (size_t)(colon - line), value, (size_t)(end - value))
               ? ANSWER_FIELDS
               : ANSWER_MALFORMED;
}

/* After the empty line: RFC 9112, 6.3, for an answer to GET. */
static inline enum answer_state answer_end_head(struct answer *answer)
{
    const int status = answer->status;

    if (answer->chunked && (answer->has_length || answer->version_1_0))
        return ANSWER_MALFORMED; /* it says twice where the body ends, or another reader sees no chunks */
    if (status < 200) {
        const uint32_t head_size = answer->head_size; /* so that interim answers are bounded, too */
        answer_init(answer);
        answer->head_size = head_size;
        return ANSWER_STATUS_LINE;
    }
    answer->closes |= answer->version_1_0 && !answer->keep_alive;
    if (status == 204 || status == 304)
        return ANSWER_COMPLETE;
    if (answer->chunked)
        return ANSWER_CHUNK_SIZE;
    if (answer->has_length)
        return answer->left > 0 ? ANSWER_BODY : ANSWER_COMPLETE;
    answer->closes = true;
    return ANSWER_BODY_UNTIL_CLOSE;
}

static inline enum answer_state answer_take_chunk_size(struct answer *answer, const char *line,
                                                       size_t size)
{
    size_t digits = 0;

    while (digits < size && answer_hex_digit(line[digits]) >= 0)
        digits++;
    if (answer->is_long || !answer_read_number(line, digits, 16, &answer->left) ||
        (digits < size && line[digits] != ';' && line[digits] != ' '))
        return ANSWER_MALFORMED;
    return answer->left > 0 ? ANSWER_CHUNK : ANSWER_TRAILERS;
}

/* A line without its end; of a long one, the first ANSWER_LINE_MAX bytes. */
static inline enum answer_state answer_take_line(struct answer *answer, const char *line,
                                                 size_t size)
{
    if (memchr(line, '\r', size) != NULL || memchr(line, '\0', size) != NULL)
        return ANSWER_MALFORMED;
    switch (answer->state) {
    case ANSWER_STATUS_LINE:
        return answer_take_status(answer, line, size);
    case ANSWER_FIELDS:
        return size > 0 ? answer_take_field(answer, line, size) : answer_end_head(answer);
    case ANSWER_CHUNK_SIZE:
        return answer_take_chunk_size(answer, line, size);
    case ANSWER_CHUNK_END:
        return size == 0 ? ANSWER_CHUNK_SIZE : ANSWER_MALFORMED;
    default:
        return size == 0 ? ANSWER_COMPLETE : ANSWER_TRAILERS;
    }
}

/* Keep a piece of a line whose end has not arrived. A CR at its end may belong to that end. */
static inline void answer_keep_piece(struct answer *answer, const char *data, size_t size)
{
    const size_t room = ANSWER_LINE_MAX - answer->line_size, kept = size < room ? size : room;

    if (size == 0)
        return;
    memcpy(answer->line + answer->line_size, data, kept);
    answer->line_size = (uint16_t)(answer->line_size + kept);
    answer->is_long |= size > room;
    answer->ends_with_cr = data[size - 1] == '\r';
}

static inline bool answer_count_head(struct answer *answer, size_t size)
{
    if (answer->state == ANSWER_CHUNK_SIZE || answer->state == ANSWER_CHUNK_END)
        return true; /* each of these lines is bounded by ANSWER_LINE_MAX */
    if (size > ANSWER_HEAD_MAX - answer->head_size)
        return false;
    answer->head_size += (uint32_t)size;
    return true;
}

/* A line that lies whole in what arrived is not copied. */
static inline enum answer_state answer_end_line(struct answer *answer, const char *data,
                                                size_t size)
{
    const char *line = data;
    size_t line_size = size;

    if (answer->line_size > 0 || size >= ANSWER_LINE_MAX) {
        answer_keep_piece(answer, data, size);
        line = answer->line;
        line_size = answer->line_size;
    } else {
        answer->ends_with_cr = size > 0 && data[size - 1] == '\r';
    }
    if (!answer->ends_with_cr)
        return ANSWER_MALFORMED;
    const enum answer_state next =
        answer_take_line(answer, line, answer->is_long ? line_size : line_size - 1);
    answer->line_size = 0;
    answer->is_long = false;
    return next;
}

static inline size_t answer_feed_line(struct answer *answer, const char *data, size_t size)
{
    const char *const newline = memchr(data, '\n', size);
    const size_t taken = newline != NULL ? (size_t)(newline - data) + 1 : size;

    if (!answer_count_head(answer, taken)) {
        answer->state = ANSWER_MALFORMED;
    } else if (newline != NULL) {
        answer->state = answer_end_line(answer, data, taken - 1);
    } else {
        answer_keep_piece(answer, data, size);
        if (answer->is_long &&
            (answer->state == ANSWER_CHUNK_SIZE || answer->state == ANSWER_CHUNK_END))
            answer->state = ANSWER_MALFORMED;
    }
    return taken;
}

static inline size_t answer_feed_body(struct answer *answer, size_t size)
{
    if (answer->state == ANSWER_BODY_UNTIL_CLOSE) {
        answer->body_size += size;
        return size;
    }
    const size_t taken = size < answer->left ? size : (size_t)answer->left;
    answer->body_size += taken;
    answer->left -= taken;
    if (answer->left == 0)
        answer->state = answer->state == ANSWER_CHUNK ? ANSWER_CHUNK_END : ANSWER_COMPLETE;
    return taken;
}

/* Take bytes of the answer; returns how many. What is left after ANSWER_COMPLETE does not belong to it. */
static inline size_t answer_feed(struct answer *answer, const char *data, size_t size)
{
    size_t taken = 0;

    while (taken < size && !answer_is_over(answer)) {
        const bool is_body = answer->state == ANSWER_BODY || answer->state == ANSWER_CHUNK ||
                             answer->state == ANSWER_BODY_UNTIL_CLOSE;
        taken += is_body ? answer_feed_body(answer, size - taken)
                         : answer_feed_line(answer, data + taken, size - taken);
    }
    return taken;
}

/* The server has closed the connection. Afterwards ANSWER_COMPLETE, or else the answer was cut short. */
static inline void answer_feed_end(struct answer *answer)
{
    if (answer->state == ANSWER_BODY_UNTIL_CLOSE)
        answer->state = ANSWER_COMPLETE;
}
