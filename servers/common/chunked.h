/* Where a body in chunks ends (RFC 9112, 7.1). What is in it is passed over. Pure, as http.h: bytes in, a state out. */
#pragma once

#include "http.h"

/* What the next byte belongs to. */
enum chunked_state {
    CHUNKED_END, /* no such body, or all of it has arrived */
    CHUNKED_SIZE_START,
    CHUNKED_SIZE,
    CHUNKED_SIZE_SPACE,
    CHUNKED_EXTENSION,
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

/* The state after one more byte, outside of the data. `left`: bytes of data that the current chunk still has. */
static inline enum chunked_state chunked_next(enum chunked_state state, uint64_t *left, char c)
{
    const bool is_space = c == ' ' || c == '\t';

    switch (state) {
    case CHUNKED_SIZE_START:
        return chunked_on_size(left, c);
    case CHUNKED_SIZE:
        if (is_space)
            return CHUNKED_SIZE_SPACE;
        if (c == '\r')
            return CHUNKED_SIZE_NEWLINE;
        return c == ';' ? CHUNKED_EXTENSION : chunked_on_size(left, c);
    case CHUNKED_SIZE_SPACE:
        return is_space ? state : chunked_if(c == ';', CHUNKED_EXTENSION);
    case CHUNKED_EXTENSION:
        return c == '\r' ? CHUNKED_SIZE_NEWLINE : chunked_if(http_is_field_value(&c, 1), state);
    case CHUNKED_SIZE_NEWLINE:
        return chunked_if(c == '\n', *left > 0 ? CHUNKED_DATA : CHUNKED_TRAILER);
    case CHUNKED_DATA_RETURN:
        return chunked_if(c == '\r', CHUNKED_DATA_NEWLINE);
    case CHUNKED_DATA_NEWLINE:
        return chunked_if(c == '\n', CHUNKED_SIZE_START);
    case CHUNKED_TRAILER:
        return c == '\r' ? CHUNKED_LAST_NEWLINE
                         : chunked_if(http_is_token_char((unsigned char)c), CHUNKED_TRAILER_NAME);
    case CHUNKED_TRAILER_NAME:
        return c == ':' ? CHUNKED_TRAILER_VALUE
                        : chunked_if(http_is_token_char((unsigned char)c), state);
    case CHUNKED_TRAILER_VALUE:
        return c == '\r' ? CHUNKED_TRAILER_NEWLINE : chunked_if(http_is_field_value(&c, 1), state);
    case CHUNKED_TRAILER_NEWLINE:
        return chunked_if(c == '\n', CHUNKED_TRAILER);
    case CHUNKED_LAST_NEWLINE:
        return chunked_if(c == '\n', CHUNKED_END);
    default:
        return CHUNKED_BAD;
    }
}
