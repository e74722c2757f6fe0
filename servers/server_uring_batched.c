/* io_uring, step 2 of a ladder: server_uring_one_by_one with batched submits.
 *
 * System calls per request: a share of one io_uring_enter, which submits the operations of one batch of completions and
 * waits for the next batch. A lone connection has batches of one. Fails when: as server_uring. */
#define STEP BATCHED
#include "server_uring_one_by_one.c"
