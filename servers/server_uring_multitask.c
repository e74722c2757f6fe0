/* Several processes, each with the event loop of server_uring, a ring and a listener of its own.
 *
 * System calls per request: those of server_uring. Fails when: server_uring would, or the kernel's hash gives one
 * worker many more connections than another, which happens when there are few. */
#include "common/workers.h"

#define NO_MAIN
#include "server_uring.c"

static void serve_in_worker(int listener)
{
    uring_open(&uring);
    workers_ready();
    serve(listener);
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);

    connection_set_workload(&options);
    workers_run(&options, 0, serve_in_worker);
}
