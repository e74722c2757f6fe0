/* io_uring, step 6 of a ladder: server_uring_deferred with registered sockets.
 *
 * An operation on a registered socket need neither look up its file nor count a reference to it. But to register and
 * unregister costs two system calls per connection. The next step is server_uring.c. Fails when: the kernel is older than
 * 6.14 (status 69; common/uring.h says why). */
#define STEP REGISTERED_FILES
#include "server_uring_one_by_one.c"
