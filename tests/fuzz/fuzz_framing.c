/* A libFuzzer target: one client's bytes through the framing code, without sockets. However they are cut into pieces,
 * the same must come of them, and the client must see nothing but whole answers and at most one refusal, at the end.
 * Each piece lies in memory of its very size, as libFuzzer's own data do: AddressSanitizer sees any read beyond. */
#include "common/connection.h"

#include <stdio.h>

enum { SHORT = 128 }; /* bytes; such an input comes byte by byte too */

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct client {
    struct connection connection;
    struct counters counters;
    const char *refusal; /* the whole of it; NULL: none */
    size_t received;     /* bytes, of answers and refusal */
};

static void client_init(struct client *client)
{
    *client = (struct client){0};
    /* No socket: what shuts or closes this descriptor fails, and harms nothing. */
    connection_init(&client->connection, -1, &client->counters);
}

static size_t answers_size(const struct client *client)
{
    return client->counters.requests * RESPONSE_SIZE;
}

static void send_to_server(struct client *client, const void *data, size_t size)
{
    const struct connection *connection = &client->connection;
    const bool was_ending = connection->ending;
    const size_t size_before = answers_size(client);

    connection_take(&client->connection, data, size);

    EXPECT(!was_ending || (connection->ending && answers_size(client) == size_before));
    if (!was_ending)
        client->refusal = connection->refusal;
    EXPECT(client->refusal == NULL || connection->ending);
    EXPECT(client->counters.bad_requests == (client->refusal != NULL));
    if (client->received < answers_size(client))
        EXPECT(connection->owed == answers_size(client) - client->received);
    else
        EXPECT(connection->owed == 0);
}

static void send_a_copy_to_server(struct client *client, const uint8_t *data, size_t size)
{
    char *piece = malloc(size);
    EXPECT(piece != NULL);
    memcpy(piece, data, size);
    send_to_server(client, piece, size);
    free(piece);
}

/* Take in at most so many bytes; each must be the right one. */
static void receive_from_server(struct client *client, size_t at_most)
{
    const char *data;
    size_t size = connection_output(&client->connection, &data);

    if (size == 0) {
        const size_t refusal_size = client->refusal != NULL ? strlen(client->refusal) : 0;
        EXPECT(client->received == answers_size(client) + refusal_size);
        return;
    }
    size = size < at_most ? size : at_most;
    for (size_t i = 0; i < size; i++, client->received++) {
        if (client->received < answers_size(client)) {
            EXPECT(data[i] == RESPONSE[client->received % RESPONSE_SIZE]);
        } else {
            EXPECT(client->refusal != NULL);
            EXPECT(data[i] == client->refusal[client->received - answers_size(client)]);
        }
    }
    connection_sent(&client->connection, size);
}

static void expect_same(const struct client *a, const struct client *b)
{
    EXPECT(a->counters.requests == b->counters.requests);
    EXPECT(a->counters.bad_requests == b->counters.bad_requests);
    EXPECT(a->connection.ending == b->connection.ending);
    EXPECT(a->connection.body_left == b->connection.body_left);
    EXPECT((a->refusal == NULL) == (b->refusal == NULL));
    EXPECT(a->refusal == NULL || strcmp(a->refusal, b->refusal) == 0);
}

static void receive_the_rest(struct client *client)
{
    const char *data;
    while (connection_output(&client->connection, &data) > 0)
        receive_from_server(client, SIZE_MAX);
    receive_from_server(client, 0);
    const enum connection_next next = connection_all_sent(&client->connection);
    EXPECT((next == CONNECTION_READ) == !client->connection.ending);
}

/* What is under way shows in what the same bytes make of it: more of a body, the end of a chunk, of a head. */
static void expect_same_state(struct client *a, struct client *b)
{
    static const char *const next[] = {"\n", "\r\n", "0\r\n\r\n", "1\r\n",
                                       "GET / HTTP/1.1\r\n\r\n"};

    for (size_t i = 0; i < sizeof next / sizeof *next; i++) {
        send_to_server(a, next[i], strlen(next[i]));
        send_to_server(b, next[i], strlen(next[i]));
        expect_same(a, b);
    }
    receive_the_rest(a);
    receive_the_rest(b);
    if (!a->connection.ending) {
        connection_count_end(&a->connection, 0);
        connection_count_end(&b->connection, 0);
        expect_same(a, b);
    }
}

/* The size of the piece at `at`: the last bytes of the input say how it is cut. */
static size_t piece_size(const uint8_t *data, size_t size, size_t at, size_t piece)
{
    const size_t wanted = 1 + data[size - 1 - piece % (size < 4 ? size : 4)] * (1 + size / 1024);
    return wanted < size - at ? wanted : size - at;
}

static void check_pieces(const uint8_t *data, size_t size, bool byte_by_byte)
{
    struct client whole, pieces;

    client_init(&whole);
    client_init(&pieces);
    send_to_server(&whole, data, size);
    for (size_t at = 0, piece = 0, taken; at < size; at += taken, piece++) {
        taken = byte_by_byte ? 1 : piece_size(data, size, at, piece);
        send_a_copy_to_server(&pieces, data + at, taken);
        receive_from_server(&pieces, data[at]);
    }
    expect_same(&whole, &pieces);
    expect_same_state(&whole, &pieces);
    connection_destroy(&whole.connection);
    connection_destroy(&pieces.connection);
}

/* Once a head is understood, or refused, nothing that follows changes that; until then nothing was understood. */
static void check_prefixes(const uint8_t *data, size_t size)
{
    struct http_request whole, prefix;
    const enum http_result result = http_parse((const char *)data, size, &whole);
    EXPECT(result != HTTP_COMPLETE || (whole.head_size > 0 && whole.head_size <= size));

    for (size_t at = 0, piece = 0; at < size; piece++) {
        at += piece_size(data, size, at, piece);
        const enum http_result early = http_parse((const char *)data, at, &prefix);
        if (early == HTTP_INCOMPLETE) {
            EXPECT(result != HTTP_COMPLETE || whole.head_size > at);
            continue;
        }
        EXPECT(early == result);
        if (result != HTTP_COMPLETE)
            continue;
        EXPECT(prefix.head_size == whole.head_size);
        EXPECT(prefix.content_length == whole.content_length);
        EXPECT(prefix.keep_alive == whole.keep_alive);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    check_pieces(data, size, false);
    if (size <= SHORT)
        check_pieces(data, size, true);
    check_prefixes(data, size);
    return 0;
}
