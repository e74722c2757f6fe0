/* Several processes, each with the event loop of server_epoll and a listener of its own.
 *
 * System calls per request: those of server_epoll. Fails when: the kernel's hash gives one worker many more
 * connections than another, which happens when there are few. */
#include "common/epoll_loop.h"
#include "common/workers.h"

static void serve(int listener)
{
    workers_ready();
    epoll_loop(listener);
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    workers_run(&options, SOCK_NONBLOCK, serve);
}
