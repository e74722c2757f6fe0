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

enum { RECEIVED_MAX = 1 << 18 }; /* bytes: more than all answers to one input */

struct client {
    struct connection connection;
    struct counters counters;
    size_t received;
    char *data;
};

static void client_init(struct client *client)
{
    static char data[2][RECEIVED_MAX];
    static unsigned turn;

    *client = (struct client){.data = data[turn++ % 2]};
    /* No socket: what shuts or closes this descriptor fails, and harms nothing. */
    connection_init(&client->connection, -1, &client->counters);
}

static unsigned count_handled(void)
{
    return handler_requests != NULL ? atomic_load(handler_requests) : 0;
}

static void send_to_server(struct client *client, const void *data, size_t size)
{
    const struct connection *connection = &client->connection;
    const bool was_ending = connection->ending;
    const uint64_t requests = client->counters.requests;
    const unsigned handled = count_handled();

    connection_take(&client->connection, data, size);

    EXPECT(!was_ending || (connection->ending && client->counters.requests == requests));
    EXPECT(handler.every == 0 || count_handled() - handled == client->counters.requests - requests);
    EXPECT(connection->final_answer == ANSWER_NONE || connection->ending);
    EXPECT(client->counters.bad_requests <= connection->ending);
    EXPECT(connection->owed > 0 || connection->later_runs == NULL);
    EXPECT((connection->later_runs == NULL) == (connection->run_count == 0));
}

static void send_a_copy_to_server(struct client *client, const uint8_t *data, size_t size)
{
    char *piece = malloc(size);
    EXPECT(piece != NULL);
    memcpy(piece, data, size);
    send_to_server(client, piece, size);
    free(piece);
}

/* Take in at most so many bytes. */
static void receive_from_server(struct client *client, size_t at_most)
{
    const char *data;
    size_t size = connection_output(&client->connection, &data);

    EXPECT((size > 0) == connection_is_writing(&client->connection));
    if (size == 0)
        return;
    size = size < at_most ? size : at_most;
    EXPECT(size <= RECEIVED_MAX - client->received);
    memcpy(client->data + client->received, data, size);
    client->received += size;
    connection_sent(&client->connection, size);
}

static void expect_same(const struct client *a, const struct client *b)
{
    EXPECT(a->counters.requests == b->counters.requests);
    EXPECT(a->counters.bad_requests == b->counters.bad_requests);
    EXPECT(a->connection.ending == b->connection.ending);
    EXPECT(a->connection.body_left == b->connection.body_left);
}

static bool is_at(const char *data, size_t size, enum answer answer)
{
    return answers[answer].size <= size &&
           memcmp(data, answers[answer].data, answers[answer].size) == 0;
}

static size_t answer_at(const char *data, size_t size)
{
    /* The longer ones first: what answers HEAD begins what answers GET. */
    static const enum answer order[] = {
        ANSWER,       ANSWER_HEAD,      ANSWER_KEEP_ALIVE, ANSWER_KEEP_ALIVE_HEAD,
        ANSWER_CLOSE, ANSWER_CLOSE_HEAD};

    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (is_at(data, size, order[i]))
            return answers[order[i]].size;
    return 0;
}

/* Nothing but whole answers, as many as are counted, and at most one refusal, at the end; what closes is the last. */
static void expect_answers(const struct client *client)
{
    static const char refusal[] = "\r\nContent-Length: 0\r\n" SAYS_CLOSE "\r\n";
    const char *at = client->data, *const end = at + client->received;
    uint64_t count = 0;

    for (size_t size; (size = answer_at(at, (size_t)(end - at))) > 0 ||
                      is_at(at, (size_t)(end - at), ANSWER_CONTINUE);) {
        EXPECT(at == client->data || memmem(client->data, (size_t)(at - client->data), SAYS_CLOSE,
                                            strlen(SAYS_CLOSE)) == NULL);
        count += size > 0;
        at += size > 0 ? size : answers[ANSWER_CONTINUE].size;
    }
    EXPECT(count == client->counters.requests);
    EXPECT((at < end) == (client->counters.bad_requests > 0));
    if (at < end)
        EXPECT(memmem(at, (size_t)(end - at), refusal, strlen(refusal)) == end - strlen(refusal));
}

static void receive_the_rest(struct client *client)
{
    while (connection_is_writing(&client->connection))
        receive_from_server(client, SIZE_MAX);
    expect_answers(client);
    const enum connection_next next = connection_all_sent(&client->connection);
    EXPECT((next == CONNECTION_READ) == !client->connection.ending);
}

/* What is under way shows in what the same bytes make of it: more of a body, the end of a chunk, of a head. */
static void expect_same_state(struct client *a, struct client *b)
{
    static const char *const next[] = {"\n", "\r\n", "0\r\n\r\n", "1\r\n",
                                       "GET / HTTP/1.1\r\nHost:\r\n\r\n"};

    for (size_t i = 0; i < sizeof next / sizeof *next; i++) {
        send_to_server(a, next[i], strlen(next[i]));
        send_to_server(b, next[i], strlen(next[i]));
        expect_same(a, b);
    }
    receive_the_rest(a);
    receive_the_rest(b);
    EXPECT(a->received == b->received && memcmp(a->data, b->data, a->received) == 0);
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
        EXPECT(connection_choose_answer(&prefix) == connection_choose_answer(&whole));
    }
}

/* With BODY_BYTES in the environment answers have such a body, and one request in three costs CPU time. */
int LLVMFuzzerInitialize(const int *argc, char ***argv)
{
    const char *body = getenv("BODY_BYTES");

    (void)argc;
    (void)argv;
    if (body != NULL)
        connection_set_workload(
            &(struct options){.body_size = atoi(body), .handler = {.burn_us = 1, .every = 3}});
    return 0;
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
