/* Reads records from standard input: a size (4 bytes, this machine's byte order) and that many bytes, which one client
 * sends before it receives. Prints what the client then receives, in hexadecimal (-: nothing), and whether the connection
 * ends. The argument is the size of the pieces in which the bytes arrive. */
#include "common/connection.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>

static void print_output(struct connection *connection)
{
    const char *data;
    if (!connection_is_writing(connection))
        putchar('-');
    for (size_t size; (size = connection_output(connection, &data)) > 0;) {
        for (size_t i = 0; i < size; i++)
            printf("%02x", (unsigned char)data[i]);
        connection_sent(connection, size);
    }
}

static void take(const char *data, size_t size, size_t piece_max)
{
    struct counters counters = {0};
    struct connection connection;

    connection_init(&connection, -1, &counters);
    for (size_t taken = 0; taken < size;) {
        const size_t piece_size = size - taken < piece_max ? size - taken : piece_max;
        char *piece = malloc(piece_size); /* of exactly its size: a sanitizer sees reads beyond */
        if (piece == NULL)
            err(EXIT_FAILURE, "malloc");
        memcpy(piece, data + taken, piece_size);
        connection_take(&connection, piece, piece_size);
        free(piece);
        taken += piece_size;
    }
    print_output(&connection);
    printf(" %d\n", connection.ending);
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
