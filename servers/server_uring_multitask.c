/* Several processes, each with the event loop of server_uring, a ring and a listener of its own.
 *
 * System calls per request: those of server_uring. Fails when: server_uring would, or the kernel's hash gives one
 * worker many more connections than another, which happens when there are few. */
#include "common/uring_loop.h"
#include "common/workers.h"

static void serve(int listener)
{
    static struct uring uring;

    uring_open(&uring, listener);
    workers_ready();
    uring_run(&uring);
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    workers_run(&options, 0, serve);
}
