/* Several processes, each with the event loop of server_epoll and a listener of its own.
 *
 * System calls per request: those of server_epoll. Fails when: the kernel's hash gives one worker many more connections
 * than another, which happens when there are few. */
#include "common/workers.h"

#define NO_MAIN
#include "server_epoll.c"

static void serve_in_worker(int listener)
{
    workers_ready();
    serve(listener);
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);

    connection_set_workload(&options);
    workers_run(&options, SOCK_NONBLOCK, serve_in_worker);
}
