/* The blocking server: one connection at a time, from accept to close.
 *
 * System calls per request: recv, send. Fails when: a second client comes. It waits in the kernel's queue, connected but
 * unserved, until the first one closes. So a client that sends nothing, or a byte now and then (slowloris), stops
 * everything. */
#include "common/connection.h"
#include "common/listener.h"

static void serve(int listener)
{
    static char buffer[RECEIVE_SIZE];
    struct connection connection;

    for (;;) {
        const int fd = listener_accept(listener, 0);
        if (fd < 0)
            continue;
        connection_init(&connection, fd, &process_counters);
        while (connection_read(&connection, buffer) != CONNECTION_CLOSE)
            continue;
        connection_destroy(&connection);
    }
}

#ifndef NO_MAIN /* server_prefork.c includes this file and has its own */
int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, 0, false);

    counters_report_on_sigterm();
    connection_set_workload(&options);
    listener_announce(listener, &options);
    serve(listener);
}
#endif
