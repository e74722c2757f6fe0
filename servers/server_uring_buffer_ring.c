/* io_uring, step 4 of a ladder: server_uring_multishot with a buffer ring.
 *
 * We give buffers back by writing to memory that the kernel reads, so a request costs one operation, the send. Fails when: as
 * server_uring. */
#define STEP BUFFER_RING
#include "server_uring_one_by_one.c"
