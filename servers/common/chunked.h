/* Finds the end of a chunked body (RFC 9112, 7.1) and skips what is in it. Pure functions, as in http.h: they take a state
 * and a byte, and return the next state. */
#pragma once

#include "http.h"

/* What we expect next. */
enum chunked_state {
    CHUNKED_END, /* there is no chunked body, or all of it has arrived */
    CHUNKED_SIZE_START,
    CHUNKED_SIZE,
    CHUNKED_SIZE_SPACE, /* after a size or a value: only an extension may follow */
    CHUNKED_EXTENSION,  /* after a ';' */
    CHUNKED_NAME,
    CHUNKED_NAME_SPACE,
    CHUNKED_EQUALS, /* after a '=' */
    CHUNKED_VALUE,
    CHUNKED_QUOTED,
    CHUNKED_ESCAPED, /* after a '\\' in quotes */
    CHUNKED_QUOTED_END,
    CHUNKED_SIZE_NEWLINE,
    CHUNKED_DATA,
    CHUNKED_DATA_RETURN,
    CHUNKED_DATA_NEWLINE,
    CHUNKED_TRAILER,
    CHUNKED_TRAILER_NAME,
    CHUNKED_TRAILER_VALUE,
    CHUNKED_TRAILER_NEWLINE,
    CHUNKED_LAST_NEWLINE,
    CHUNKED_BAD,
};

static inline enum chunked_state chunked_on_size(uint64_t *left, char c)
{
    const int digit = http_hex_digit(c);
    if (digit < 0 || *left >> 56 != 0)
        return CHUNKED_BAD;
    *left = *left * 16 + (uint64_t)digit;
    return CHUNKED_SIZE;
}

static inline enum chunked_state chunked_if(bool expected, enum chunked_state next)
{
    return expected ? next : CHUNKED_BAD;
}

/* After a size, or the value of an extension. */
static inline enum chunked_state chunked_after_value(char c)
{
    if (c == '\r')
        return CHUNKED_SIZE_NEWLINE;
    return c == ';' ? CHUNKED_EXTENSION : chunked_if(http_in(HTTP_SPACE, c), CHUNKED_SIZE_SPACE);
}

/* We ignore extensions, but refuse malformed ones: a proxy may have read them differently, and so have seen the end of the
 * line elsewhere. */
static inline enum chunked_state chunked_in_extension(enum chunked_state state, char c)
{
    const bool is_space = http_in(HTTP_SPACE, c);
    const bool is_token = http_in(HTTP_TOKEN, c);
    const bool is_text = http_in(HTTP_VALUE, c);

    switch (state) {
    case CHUNKED_EXTENSION:
        return is_space ? state : chunked_if(is_token, CHUNKED_NAME);
    case CHUNKED_NAME:
    case CHUNKED_NAME_SPACE:
        if (c == '=')
            return CHUNKED_EQUALS;
        if (is_space)
            return CHUNKED_NAME_SPACE;
        if (state == CHUNKED_NAME_SPACE)
            return chunked_if(c == ';', CHUNKED_EXTENSION);
        return is_token ? state : chunked_after_value(c);
    case CHUNKED_EQUALS:
        if (is_space)
            return state;
        return c == '"' ? CHUNKED_QUOTED : chunked_if(is_token, CHUNKED_VALUE);
    case CHUNKED_VALUE:
        return is_token ? state : chunked_after_value(c);
    case CHUNKED_QUOTED:
        if (c == '"')
            return CHUNKED_QUOTED_END;
        return c == '\\' ? CHUNKED_ESCAPED : chunked_if(is_text, state);
    case CHUNKED_ESCAPED:
        return chunked_if(is_text, CHUNKED_QUOTED);
    default:
        return chunked_after_value(c);
    }
}

/* The state after one more byte, which is not chunk data. `left`: bytes of data that are missing of the current chunk. */
static inline enum chunked_state chunked_next(enum chunked_state state, uint64_t *left, char c)
{
    switch (state) {
    case CHUNKED_SIZE_START:
        return chunked_on_size(left, c);
    case CHUNKED_SIZE:
        return http_hex_digit(c) >= 0 ? chunked_on_size(left, c) : chunked_after_value(c);
    case CHUNKED_SIZE_SPACE:
        return http_in(HTTP_SPACE, c) ? state : chunked_if(c == ';', CHUNKED_EXTENSION);
    case CHUNKED_EXTENSION:
    case CHUNKED_NAME:
    case CHUNKED_NAME_SPACE:
    case CHUNKED_EQUALS:
    case CHUNKED_VALUE:
    case CHUNKED_QUOTED:
    case CHUNKED_ESCAPED:
    case CHUNKED_QUOTED_END:
        return chunked_in_extension(state, c);
    case CHUNKED_SIZE_NEWLINE:
        return chunked_if(c == '\n', *left > 0 ? CHUNKED_DATA : CHUNKED_TRAILER);
    case CHUNKED_DATA_RETURN:
        return chunked_if(c == '\r', CHUNKED_DATA_NEWLINE);
    case CHUNKED_DATA_NEWLINE:
        return chunked_if(c == '\n', CHUNKED_SIZE_START);
    case CHUNKED_TRAILER:
        return c == '\r' ? CHUNKED_LAST_NEWLINE
                         : chunked_if(http_in(HTTP_TOKEN, c), CHUNKED_TRAILER_NAME);
    case CHUNKED_TRAILER_NAME:
        return c == ':' ? CHUNKED_TRAILER_VALUE : chunked_if(http_in(HTTP_TOKEN, c), state);
    case CHUNKED_TRAILER_VALUE:
        return c == '\r' ? CHUNKED_TRAILER_NEWLINE : chunked_if(http_in(HTTP_VALUE, c), state);
    case CHUNKED_TRAILER_NEWLINE:
        return chunked_if(c == '\n', CHUNKED_TRAILER);
    case CHUNKED_LAST_NEWLINE:
        return chunked_if(c == '\n', CHUNKED_END);
    default:
        return CHUNKED_BAD;
    }
}
