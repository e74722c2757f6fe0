/* io_uring, step 5 of a ladder: server_uring_buffer_ring with SINGLE_ISSUER and DEFER_TASKRUN.
 *
 * The kernel makes completions ready when we wait for them, all at once. It interrupts us for none. Fails when: as
 * server_uring. */
#define STEP DEFERRED
#include "server_uring_one_by_one.c"
