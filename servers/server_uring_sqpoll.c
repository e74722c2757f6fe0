/* io_uring with SQPOLL, beside the ladder: server_uring_registered with a thread of the kernel that submits what we queue.
 *
 * System calls per request: none while that thread is awake and completions are ready. It excludes DEFER_TASKRUN. It excludes
 * quiet sends, too: they have to fail in the call that submits them, and nothing submits by a call here. Fails when: the
 * thread has no CPU for itself. It polls as long as there is work, and takes all of a CPU meanwhile. */
#define STEP SQPOLL
#include "server_uring_one_by_one.c"
