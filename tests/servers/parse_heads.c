/* Reads records from standard input: a size (4 bytes, this machine's byte order) and that many bytes. Prints what
 * http_parse returns for each. Each record is in memory of exactly its size, so that a sanitizer sees any read beyond it. */
#include "common/http.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    for (uint32_t size; fread(&size, sizeof size, 1, stdin) == 1;) {
        char *data = malloc(size);
        struct http_request request;
        if (data == NULL || fread(data, 1, size, stdin) != size)
            errx(EXIT_FAILURE, "a record is cut off");
        const enum http_result result = http_parse(data, size, &request);
        printf("%d %zu %" PRIu64 " %d %d %d %d\n", result, request.head_size,
               request.content_length, request.keep_alive, request.method == HTTP_HEAD,
               request.version_1_0, request.expects_continue);
        free(data);
    }
}
