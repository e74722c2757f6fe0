/* A libFuzzer target: a server's bytes through the load generator's parser, answer by answer. However they are cut into
 * pieces, the same answers must come of them. Each piece lies in memory of its very size: AddressSanitizer sees any read
 * beyond. */
#include "answer.h"

#include <stdio.h>
#include <stdlib.h>

enum { SHORT = 512 }; /* bytes; such an input comes byte by byte too */

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* What came of all answers on one connection. */
struct client {
    struct answer answer;
    size_t answers;
    size_t taken; /* bytes, of complete answers */
    size_t under_way;
    uint64_t digest; /* of each answer's end, status and body */
};

static void note_answer(struct client *client)
{
    const struct answer *const answer = &client->answer;

    EXPECT(answer->status >= 200 && answer->status <= 999);
    EXPECT(answer->body_size <= client->under_way);
    client->taken += client->under_way;
    client->under_way = 0;
    client->answers++;
    client->digest = client->digest * 1000003 + client->taken * 31 + (uint64_t)answer->status +
                     answer->body_size * 7 + answer->closes;
    answer_init(&client->answer);
}

static void feed(struct client *client, const char *data, size_t size)
{
    for (size_t at = 0; at < size && client->answer.state != ANSWER_MALFORMED;) {
        const size_t taken = answer_feed(&client->answer, data + at, size - at);
        EXPECT(taken > 0 && taken <= size - at);
        EXPECT(answer_is_over(&client->answer) || taken == size - at);
        EXPECT(client->answer.head_size <= ANSWER_HEAD_MAX);
        EXPECT(client->answer.line_size <= ANSWER_LINE_MAX);
        at += taken;
        client->under_way += taken;
        if (client->answer.state == ANSWER_COMPLETE)
            note_answer(client);
    }
}

static void feed_a_copy(struct client *client, const uint8_t *data, size_t size)
{
    char *const copy = malloc(size);
    EXPECT(copy != NULL);
    memcpy(copy, data, size);
    feed(client, copy, size);
    free(copy);
}

/* The size of the piece at `at`: the last bytes of the input say how it is cut. */
static size_t piece_size(const uint8_t *data, size_t size, size_t at, size_t piece)
{
    const size_t wanted = 1 + data[size - 1 - piece % (size < 4 ? size : 4)] * (1 + size / 1024);
    return wanted < size - at ? wanted : size - at;
}

static void expect_same(struct client *a, struct client *b)
{
    EXPECT(a->answers == b->answers && a->taken == b->taken && a->digest == b->digest);
    EXPECT(a->answer.state == b->answer.state);
    if (a->answer.state == ANSWER_MALFORMED)
        return;
    EXPECT(a->answer.left == b->answer.left && a->answer.body_size == b->answer.body_size);
    EXPECT(a->answer.line_size == b->answer.line_size);
    EXPECT(memcmp(a->answer.line, b->answer.line, a->answer.line_size) == 0);
    answer_feed_end(&a->answer);
    EXPECT(a->answer.state != ANSWER_COMPLETE || a->answer.closes);
}

static void check_pieces(const uint8_t *data, size_t size, bool byte_by_byte)
{
    struct client whole = {0}, pieces = {0};

    feed(&whole, (const char *)data, size);
    for (size_t at = 0, piece = 0, taken; at < size; at += taken, piece++) {
        taken = byte_by_byte ? 1 : piece_size(data, size, at, piece);
        feed_a_copy(&pieces, data + at, taken);
    }
    expect_same(&whole, &pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    check_pieces(data, size, false);
    if (size <= SHORT)
        check_pieces(data, size, true);
    return 0;
}
