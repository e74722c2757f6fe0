/* io_uring, step 3 of a ladder: server_uring_batched with multishot accept and receive.
 *
 * Submitted once, they complete again and again, so a request needs no receive of its own. The kernel has to choose a buffer
 * when bytes arrive. We give it buffers by an operation (IORING_OP_PROVIDE_BUFFERS), one for each receive. So a request
 * still costs two operations. Fails when: as server_uring. */
#define STEP MULTISHOT
#include "server_uring_one_by_one.c"
