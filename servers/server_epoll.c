/* One event loop on epoll: common/epoll_loop.h.
 *
 * System calls per request: recv, send, and a share of one epoll_wait, whose cost grows with the ready sockets
 * alone. Fails when: one core is not enough. */
#include "common/epoll_loop.h"

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, SOCK_NONBLOCK, false);

    counters_report_on_sigterm();
    listener_announce(listener, &options);
    epoll_loop(listener);
}
