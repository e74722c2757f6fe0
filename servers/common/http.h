/* HTTP/1.x request framing (RFC 9112): where a request's head ends, whether a body follows, and whether the
 * connection stays open. Pure functions over bytes: no sockets, no state, no copies, no allocation. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

/* Bytes; a longer head, or line between chunks, is answered with 431. */
enum { HTTP_HEAD_MAX = 8192 };

enum http_result {
    HTTP_COMPLETE,    /* the head is whole and well-formed */
    HTTP_INCOMPLETE,  /* well-formed so far, its end has not arrived */
    HTTP_MALFORMED,   /* no request: 400 */
    HTTP_UNSUPPORTED, /* a transfer coding other than chunked: 501 */
};

struct http_request {
    size_t head_size;        /* bytes, with the empty line that ends the head */
    uint64_t content_length; /* bytes of body that follow the head */
    bool has_content_length;
    bool chunked; /* a body of which the length is in the body */
    bool version_1_0;
    bool close; /* asked for, which nothing revokes */
    bool keep_alive;
};

/* The characters of methods and field names: RFC 9110, 5.6.2. */
static inline bool http_is_token_char(unsigned char c)
{
    static const bool token[256] = {
        ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1,         ['&'] = 1,         ['\''] = 1,
        ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1,         ['^'] = 1,         ['_'] = 1,
        ['`'] = 1, ['|'] = 1, ['~'] = 1, ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
    };
    return token[c];
}

static inline int http_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    const char lower = c | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static inline size_t http_token_length(const char *text, size_t size)
{
    size_t length = 0;
    while (length < size && http_is_token_char((unsigned char)text[length]))
        length++;
    return length;
}

/* A request target holds neither spaces nor control characters. */
static inline bool http_is_target(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
            return false;
    return size > 0;
}

static inline bool http_is_field_value(const char *text, size_t size)
{
    bool valid = true;
    for (size_t i = 0; i < size; i++)
        valid &= ((unsigned char)text[i] >= ' ' && text[i] != 0x7f) || text[i] == '\t';
    return valid;
}

/* Is `word` one of the comma-separated words of `list`, whatever the case? */
static inline bool http_list_has(const char *list, size_t size, const char *word)
{
    const size_t length = strlen(word);
    for (const char *end = list + size; list < end;) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        const char *stop = comma ? comma : end;
        const char *next = comma ? comma + 1 : end;
        while (list < stop && (*list == ' ' || *list == '\t'))
            list++;
        while (stop > list && (stop[-1] == ' ' || stop[-1] == '\t'))
            stop--;
        if ((size_t)(stop - list) == length && strncasecmp(list, word, length) == 0)
            return true;
        list = next;
    }
    return false;
}

static inline bool http_parse_request_line(const char *line, size_t size,
                                           struct http_request *request)
{
    static const char version[] = " HTTP/1.";
    const size_t version_size = sizeof version - 1;
    const size_t method_size = http_token_length(line, size);

    /* The shortest one: a method of one letter, " /", " HTTP/1.0". */
    if (method_size == 0 || size < method_size + 2 + version_size + 1 || line[method_size] != ' ')
        return false;
    const char minor = line[size - 1];
    if (minor < '0' || minor > '9' ||
        memcmp(line + size - 1 - version_size, version, version_size) != 0)
        return false;
    request->version_1_0 = minor == '0';
    request->keep_alive = !request->version_1_0;
    return http_is_target(line + method_size + 1, size - method_size - 2 - version_size);
}

/* Two different lengths, or one that is no plain number, would let a body pass as the next request. */
static inline bool http_parse_content_length(const char *value, size_t size,
                                             struct http_request *request)
{
    uint64_t length = 0;
    if (size == 0 || size > 18) /* 18 digits cannot overflow */
        return false;
    for (size_t i = 0; i < size; i++) {
        if (value[i] < '0' || value[i] > '9')
            return false;
        length = length * 10 + (uint64_t)(value[i] - '0');
    }
    if (request->has_content_length && request->content_length != length)
        return false;
    request->has_content_length = true;
    request->content_length = length;
    return true;
}

static inline enum http_result http_parse_field(const char *line, size_t size,
                                                struct http_request *request)
{
    const size_t name_size = http_token_length(line, size);
    if (name_size == 0 || name_size == size || line[name_size] != ':')
        return HTTP_MALFORMED;

    const char *value = line + name_size + 1;
    size_t value_size = size - name_size - 1;
    if (!http_is_field_value(value, value_size))
        return HTTP_MALFORMED;
    while (value_size > 0 && (*value == ' ' || *value == '\t'))
        value++, value_size--;
    while (value_size > 0 && (value[value_size - 1] == ' ' || value[value_size - 1] == '\t'))
        value_size--;

    if (name_size == 10 && strncasecmp(line, "Connection", 10) == 0) {
        if (http_list_has(value, value_size, "close"))
            request->close = true;
        else if (http_list_has(value, value_size, "keep-alive"))
            request->keep_alive = true;
    } else if (name_size == 14 && strncasecmp(line, "Content-Length", 14) == 0) {
        if (!http_parse_content_length(value, value_size, request))
            return HTTP_MALFORMED;
    } else if (name_size == 17 && strncasecmp(line, "Transfer-Encoding", 17) == 0) {
        if (request->chunked || value_size != 7 || strncasecmp(value, "chunked", 7) != 0)
            return HTTP_UNSUPPORTED;
        request->chunked = true;
    }
    return HTTP_COMPLETE;
}

/* Two statements of where the body ends are one too many, and in 1.0 there are no chunks (RFC 9112, 6.1): what
 * another server on the way made of them is not known. */
static inline bool http_is_framing_certain(const struct http_request *request)
{
    return !request->chunked || (!request->has_content_length && !request->version_1_0);
}

/* Parse the head of the request at the start of `data`. `request` is valid after HTTP_COMPLETE alone.
 * A Host field is not asked for: there is one answer, whatever the host. */
static inline enum http_result http_parse(const char *data, size_t size,
                                          struct http_request *request)
{
    const char *line = data;
    const char *const end = data + size;
    bool have_request_line = false;

    *request = (struct http_request){0};
    for (;;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        if (newline == NULL)
            return HTTP_INCOMPLETE;
        if (newline == line || newline[-1] != '\r')
            return HTTP_MALFORMED;

        const size_t length = (size_t)(newline - 1 - line);
        if (!have_request_line) {
            /* Empty lines before a request are skipped: RFC 9112, 2.2. */
            if (length > 0 && !http_parse_request_line(line, length, request))
                return HTTP_MALFORMED;
            have_request_line = length > 0;
        } else if (length > 0) {
            const enum http_result field = http_parse_field(line, length, request);
            if (field != HTTP_COMPLETE)
                return field;
        } else {
            request->head_size = (size_t)(newline + 1 - data);
            request->keep_alive &= !request->close;
            return http_is_framing_certain(request) ? HTTP_COMPLETE : HTTP_MALFORMED;
        }
        line = newline + 1;
    }
}
