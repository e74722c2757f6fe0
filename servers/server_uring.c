/* One event loop on io_uring: common/uring_loop.h.
 *
 * System calls per request: a share of one io_uring_enter, which sends the answers of one batch and waits for the
 * next; two for a lone connection, since a send that is done ends the wait. Fails when: the kernel is older than 6.1 or forbids io_uring (status 69), or one core is not enough. */
#include "common/uring_loop.h"

int main(int argc, char **argv)
{
    static struct uring uring;
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, 0, false);

    uring_open(&uring, listener);
    counters_report_on_sigterm();
    listener_announce(listener, &options);
    uring_run(&uring);
}
