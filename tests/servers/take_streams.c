/* Reads records from standard input, a size (4 bytes, this machine's order) and so many bytes: all that one client
 * sends. Prints for each how many requests connection_take answers, with which status it refuses the rest (0: it does
 * not), and whether it then ends the connection. The argument is the size of the pieces that the bytes come in. */
#include "common/connection.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>

static void take(const char *data, size_t size, size_t piece_max)
{
    struct counters counters = {0};
    struct connection connection;

    connection_init(&connection, -1, &counters);
    for (size_t taken = 0; taken < size;) {
        const size_t piece_size = size - taken < piece_max ? size - taken : piece_max;
        char *piece = malloc(piece_size); /* of its very size: a sanitizer sees any read beyond */
        if (piece == NULL)
            err(EXIT_FAILURE, "malloc");
        memcpy(piece, data + taken, piece_size);
        connection_take(&connection, piece, piece_size);
        free(piece);
        taken += piece_size;
    }
    const char *refusal = connection.refusal;
    printf("%zu %d %d\n", connection.owed / RESPONSE_SIZE,
           refusal != NULL ? atoi(refusal + strlen("HTTP/1.1 ")) : 0, connection.ending);
    connection_destroy(&connection);
}

int main(int argc, char **argv)
{
    const int piece_max = argc == 2 ? atoi(argv[1]) : 0;
    if (piece_max <= 0)
        errx(EXIT_FAILURE, "usage: take_streams PIECE_SIZE");
    for (uint32_t size; fread(&size, sizeof size, 1, stdin) == 1;) {
        char *data = malloc(size);
        if (data == NULL || fread(data, 1, size, stdin) != size)
            errx(EXIT_FAILURE, "a record is cut off");
        take(data, size, (size_t)piece_max);
        free(data);
    }
}
