/* HTTP/1.x requests (RFC 9110, 9112): where the head of a request ends, whether a body follows, and what to answer.
 * Pure functions over bytes: no sockets, no state, no copies, no allocation. They read from left to right, and report a
 * malformed request at the first wrong byte, however much has arrived. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum {
    HTTP_HEAD_MAX = 8192, /* bytes; 414 if the request line alone is longer, else 431 */
    HTTP_METHOD_MAX = 7,  /* bytes of OPTIONS, the longest method that we know */
};

enum http_result {
    HTTP_COMPLETE,    /* the head is complete and well-formed */
    HTTP_INCOMPLETE,  /* well-formed so far, but its end has not arrived */
    HTTP_MALFORMED,   /* 400 */
    HTTP_UNSUPPORTED, /* an unknown method, or a transfer coding other than chunked: 501 */
};

enum http_method { HTTP_UNKNOWN, HTTP_OPTIONS, HTTP_HEAD, HTTP_OTHER };

struct http_request {
    size_t head_size;        /* bytes, including the empty line at the end */
    uint64_t content_length; /* bytes of body after the head */
    enum http_method method;
    bool has_request_line; /* the request line has arrived; set for incomplete heads, too */
    bool version_1_0;
    bool has_host;
    bool has_content_length;
    bool has_coding;   /* there is a Transfer-Encoding */
    bool chunked;      /* the last coding is chunked: the body itself says where it ends */
    bool other_coding; /* there is another one */
    bool expects_continue;
    bool close; /* the client asked for it, which keep-alive does not revoke */
    bool keep_alive;
};

/* A piece of a head. */
struct http_text {
    const char *at;
    size_t size;
};

/* Sets of characters, as bits of one table, of which a request needs two cache lines. */
enum http_set {
    HTTP_TOKEN = 1, /* methods and field names: RFC 9110, 5.6.2 */
    HTTP_VALUE = 2,
    HTTP_TARGET = 4,    /* more than RFC 3986 allows: browsers escape less */
    HTTP_HOST_NAME = 8, /* RFC 3986, 3.2.2, but without '%', and without ',' (a list of hosts) */
    HTTP_HOST_ADDRESS = 16,
    HTTP_DIGIT = 32,
    HTTP_SPACE = 64,
    HTTP_TEXT = HTTP_VALUE | HTTP_TARGET,
    HTTP_WORD = HTTP_TEXT | HTTP_TOKEN | HTTP_HOST_NAME,
};

static const uint8_t http_sets[256] = {
    ['\t'] = HTTP_VALUE | HTTP_SPACE,
    [' '] = HTTP_VALUE | HTTP_SPACE,
    ['!'] = HTTP_WORD,
    ['"'] = HTTP_TEXT,
    ['#'] = HTTP_VALUE | HTTP_TOKEN,
    ['$'] = HTTP_WORD,
    ['%'] = HTTP_TEXT | HTTP_TOKEN,
    ['&' ... '\''] = HTTP_WORD,
    ['(' ... ')'] = HTTP_TEXT | HTTP_HOST_NAME,
    ['*' ... '+'] = HTTP_WORD,
    [','] = HTTP_TEXT,
    ['-'] = HTTP_WORD,
    ['.'] = HTTP_WORD | HTTP_HOST_ADDRESS,
    ['/'] = HTTP_TEXT,
    ['0' ... '9'] = HTTP_WORD | HTTP_HOST_ADDRESS | HTTP_DIGIT,
    [':'] = HTTP_TEXT | HTTP_HOST_ADDRESS,
    [';'] = HTTP_TEXT | HTTP_HOST_NAME,
    ['<'] = HTTP_TEXT,
    ['='] = HTTP_TEXT | HTTP_HOST_NAME,
    ['>' ... '@'] = HTTP_TEXT,
    ['A' ... 'F'] = HTTP_WORD | HTTP_HOST_ADDRESS,
    ['G' ... 'Z'] = HTTP_WORD,
    ['[' ... ']'] = HTTP_TEXT,
    ['^'] = HTTP_TEXT | HTTP_TOKEN,
    ['_'] = HTTP_WORD,
    ['`'] = HTTP_TEXT | HTTP_TOKEN,
    ['a' ... 'f'] = HTTP_WORD | HTTP_HOST_ADDRESS,
    ['g' ... 'z'] = HTTP_WORD,
    ['{'] = HTTP_TEXT,
    ['|'] = HTTP_TEXT | HTTP_TOKEN,
    ['}'] = HTTP_TEXT,
    ['~'] = HTTP_WORD,
    [0x80 ... 0xff] = HTTP_VALUE,
};

static inline bool http_in(enum http_set set, char c)
{
    return (http_sets[(unsigned char)c] & set) != 0;
}

/* The first character at or after `at` that is not in the set, or `end`. */
static inline const char *http_skip(const char *at, const char *end, enum http_set set)
{
    while (at < end && http_in(set, *at))
        at++;
    return at;
}

static inline int http_hex_digit(char c)
{
    if (http_in(HTTP_DIGIT, c))
        return c - '0';
    const char lower = c | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Compares without regard to case. `word` has only lower-case letters, digits and '-'. */
static inline bool http_is(struct http_text text, const char *word)
{
    if (text.size != strlen(word))
        return false;
    for (size_t i = 0; i < text.size; i++)
        if ((text.at[i] | 0x20) != word[i])
            return false;
    return true;
}

static inline struct http_text http_trim(const char *at, const char *end)
{
    at = http_skip(at, end, HTTP_SPACE);
    while (end > at && http_in(HTTP_SPACE, end[-1]))
        end--;
    return (struct http_text){at, (size_t)(end - at)};
}

/* Take the next element off a list and skip empty ones: RFC 9110, 5.6.1. false: there is none. */
static inline bool http_next_element(struct http_text *list, struct http_text *element)
{
    while (list->size > 0) {
        const char *comma = memchr(list->at, ',', list->size);
        const size_t size = comma != NULL ? (size_t)(comma - list->at) : list->size;
        const size_t taken = comma != NULL ? size + 1 : size;
        *element = http_trim(list->at, list->at + size);
        list->at += taken;
        list->size -= taken;
        if (element->size > 0)
            return true;
    }
    return false;
}

static inline bool http_list_has(struct http_text list, const char *word)
{
    for (struct http_text element; http_next_element(&list, &element);)
        if (http_is(element, word))
            return true;
    return false;
}

/* An IPv6 address in brackets, perhaps with its interface (RFC 6874, or with a plain '%' as people write it). */
static inline const char *http_skip_address(const char *at, const char *end)
{
    const char *last = http_skip(at + 1, end, HTTP_HOST_ADDRESS);
    if (last > at + 1 && last < end && *last == '%')
        last = http_skip(last + 1, end, HTTP_HOST_NAME);
    return last > at + 1 && last < end && *last == ']' ? last + 1 : at;
}

static inline const char *http_skip_name(const char *at, const char *end)
{
    while ((at = http_skip(at, end, HTTP_HOST_NAME)) + 2 < end && *at == '%' &&
           http_hex_digit(at[1]) >= 0 && http_hex_digit(at[2]) >= 0)
        at += 3;
    return at;
}

/* The end of a host, which may be empty, and of its port, which may be missing. */
static inline const char *http_skip_authority(const char *at, const char *end)
{
    at = at < end && *at == '[' ? http_skip_address(at, end) : http_skip_name(at, end);
    return at < end && *at == ':' ? http_skip(at + 1, end, HTTP_DIGIT) : at;
}

/* RFC 9112, 3.2.2, for a server that is not a proxy. */
static inline bool http_is_absolute_form(const char *at, const char *end)
{
    if (end - at >= 8 && strncasecmp(at, "https://", 8) == 0)
        at += 8;
    else if (end - at >= 7 && strncasecmp(at, "http://", 7) == 0)
        at += 7;
    else
        return false;
    const char *const host = at;
    while (at < end && *at != '/' && *at != '?')
        at++;
    return at > host && *host != ':' && http_skip_authority(host, at) == at;
}

static inline bool http_is_target(const char *at, const char *end, enum http_method method)
{
    if (at < end && (*at == '/' || method == HTTP_UNKNOWN))
        return true;
    if (end - at == 1 && *at == '*')
        return method == HTTP_OPTIONS;
    return http_is_absolute_form(at, end);
}

static inline bool http_is_method(struct http_text name, const char *method)
{
    return name.size == strlen(method) && memcmp(name.at, method, strlen(method)) == 0;
}

/* We know neither CONNECT nor TRACE. */
static inline enum http_method http_find_method(struct http_text name)
{
    if (http_is_method(name, "GET") || http_is_method(name, "POST") ||
        http_is_method(name, "PUT") || http_is_method(name, "PATCH") ||
        http_is_method(name, "DELETE"))
        return HTTP_OTHER;
    if (http_is_method(name, "HEAD"))
        return HTTP_HEAD;
    return http_is_method(name, "OPTIONS") ? HTTP_OPTIONS : HTTP_UNKNOWN;
}

static inline enum http_result http_parse_newline(const char **at, const char *end)
{
    if (*at < end && **at != '\r')
        return HTTP_MALFORMED;
    if (end - *at < 2)
        return HTTP_INCOMPLETE;
    *at += 2;
    return (*at)[-1] == '\n' ? HTTP_COMPLETE : HTTP_MALFORMED;
}

static inline enum http_result http_parse_version(const char **at, const char *end,
                                                  struct http_request *request)
{
    static const char version[] = " HTTP/1.";
    const size_t size = sizeof version - 1, left = (size_t)(end - *at);

    if (left <= size)
        return memcmp(*at, version, left) == 0 ? HTTP_INCOMPLETE : HTTP_MALFORMED;
    if (memcmp(*at, version, size) != 0)
        return HTTP_MALFORMED;
    const char minor = (*at)[size];
    if (!http_in(HTTP_DIGIT, minor))
        return HTTP_MALFORMED;
    request->version_1_0 = minor == '0';
    *at += size + 1;
    return http_parse_newline(at, end);
}

static inline enum http_result http_parse_request_line(const char **at, const char *end,
                                                       struct http_request *request)
{
    const char *const method = *at;
    const char *const method_end = http_skip(method, end, HTTP_TOKEN);
    if (method_end - method > HTTP_METHOD_MAX)
        return HTTP_UNSUPPORTED;
    if (method_end == end)
        return HTTP_INCOMPLETE;
    if (method_end == method || *method_end != ' ')
        return HTTP_MALFORMED;
    request->method = http_find_method((struct http_text){method, (size_t)(method_end - method)});

    const char *const target = method_end + 1;
    *at = http_skip(target, end, HTTP_TARGET);
    if (*at == end)
        return HTTP_INCOMPLETE;
    if (!http_is_target(target, *at, request->method))
        return HTTP_MALFORMED;
    const enum http_result result = http_parse_version(at, end, request);
    if (result != HTTP_COMPLETE)
        return result;
    request->has_request_line = true;
    return request->method == HTTP_UNKNOWN ? HTTP_UNSUPPORTED : HTTP_COMPLETE;
}

/* With two different lengths, or one that is not a plain number, a proxy might take the body for the next request. */
static inline enum http_result http_take_content_length(struct http_text value,
                                                        struct http_request *request)
{
    uint64_t length = 0;

    if (value.size == 0)
        return HTTP_MALFORMED;
    for (size_t i = 0; i < value.size; i++) {
        if (!http_in(HTTP_DIGIT, value.at[i]) ||
            length > UINT64_MAX / 100) /* long before it overflows */
            return HTTP_MALFORMED;
        length = length * 10 + (uint64_t)(value.at[i] - '0');
    }
    if (request->has_content_length && request->content_length != length)
        return HTTP_MALFORMED;
    request->has_content_length = true;
    request->content_length = length;
    return HTTP_COMPLETE;
}

/* Chunked must come once, and last: otherwise nobody knows where the body ends (RFC 9112, 6.3). */
static inline enum http_result http_take_codings(struct http_text value,
                                                 struct http_request *request)
{
    request->has_coding = true;
    for (struct http_text coding; http_next_element(&value, &coding);) {
        if (request->chunked)
            return HTTP_MALFORMED;
        if (http_is(coding, "chunked"))
            request->chunked = true;
        else
            request->other_coding = true;
    }
    return HTTP_COMPLETE;
}

static inline enum http_result http_take_host(bool is_valid, struct http_request *request)
{
    const bool is_second = request->has_host;

    request->has_host = true;
    return is_valid && !is_second ? HTTP_COMPLETE : HTTP_MALFORMED;
}

static inline enum http_result http_take_field(struct http_text name, struct http_text value,
                                               struct http_request *request)
{
    if (http_is(name, "content-length"))
        return http_take_content_length(value, request);
    if (http_is(name, "transfer-encoding"))
        return http_take_codings(value, request);
    if (http_is(name, "connection")) {
        request->close |= http_list_has(value, "close");
        request->keep_alive |= http_list_has(value, "keep-alive");
    } else if (http_is(name, "expect")) {
        request->expects_continue |= http_list_has(value, "100-continue");
    }
    return HTTP_COMPLETE;
}

static inline enum http_result http_parse_field(const char **at, const char *end,
                                                struct http_request *request)
{
    const char *const start = *at;
    const char *const colon = http_skip(start, end, HTTP_TOKEN);
    if (colon == end)
        return HTTP_INCOMPLETE;
    if (colon == start || *colon != ':')
        return HTTP_MALFORMED;

    const struct http_text name = {start, (size_t)(colon - start)};
    const bool is_host = http_is(name, "host");
    const char *const value = http_skip(colon + 1, end, HTTP_SPACE);
    /* Every character of a host may be in a value, so we need not check them again. */
    const char *const host_end = is_host ? http_skip_authority(value, end) : value;
    const char *const value_end = http_skip(host_end, end, HTTP_VALUE);
    *at = value_end;
    const enum http_result result = http_parse_newline(at, end);
    if (result != HTTP_COMPLETE)
        return result;
    const struct http_text trimmed = http_trim(value, value_end);
    return is_host ? http_take_host(host_end == trimmed.at + trimmed.size, request)
                   : http_take_field(name, trimmed, request);
}

/* Checks that need the complete head. A request must not say twice where its body ends, and HTTP/1.0 has no chunks (RFC
 * 9112, 6.1): a proxy may have read either differently. */
static inline enum http_result http_check_head(struct http_request *request)
{
    request->keep_alive = !request->close && (!request->version_1_0 || request->keep_alive);
    if (!request->has_host && !request->version_1_0)
        return HTTP_MALFORMED;
    if (!request->has_coding)
        return HTTP_COMPLETE;
    if (!request->chunked || request->has_content_length || request->version_1_0)
        return HTTP_MALFORMED;
    return request->other_coding ? HTTP_UNSUPPORTED : HTTP_COMPLETE;
}

/* Parse the head at the start of `data`. `request` is valid after HTTP_COMPLETE; its has_request_line always is. */
static inline enum http_result http_parse(const char *data, size_t size,
                                          struct http_request *request)
{
    const char *at = data, *const end = data + size;
    enum http_result result;

    *request = (struct http_request){0};
    while (at < end && *at == '\r') /* skip empty lines before a request: RFC 9112, 2.2 */
        if ((result = http_parse_newline(&at, end)) != HTTP_COMPLETE)
            return result;
    if ((result = http_parse_request_line(&at, end, request)) != HTTP_COMPLETE)
        return result;
    while (at < end && *at != '\r')
        if ((result = http_parse_field(&at, end, request)) != HTTP_COMPLETE)
            return result;
    if ((result = http_parse_newline(&at, end)) != HTTP_COMPLETE)
        return result;
    request->head_size = (size_t)(at - data);
    return http_check_head(request);
}
