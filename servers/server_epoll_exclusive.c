/* Several processes, each with the event loop of server_epoll, all on one listener that they watch with EPOLLEXCLUSIVE.
 *
 * System calls per request: those of server_epoll. The kernel wakes one process for a new connection, not all of them. It
 * goes on with the process that it woke last if that one waits again. Fails when: one process takes nearly all
 * connections, which it does unless all are busy. */
#include "common/workers.h"

#define NO_MAIN
#define LISTENER_EVENTS (EPOLLIN | EPOLLEXCLUSIVE)
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
    workers_run_shared(&options, SOCK_NONBLOCK, serve_in_worker);
}
