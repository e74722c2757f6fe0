/* Blocking processes: each accepts a connection, serves it until it closes, and accepts the next.
 *
 * System calls per request: recv, send, and a context switch to the next process. Fails when: there are more connections
 * than processes. Those in excess wait in the kernel's queue, connected but unserved, until another closes. */
#include "common/workers.h"

#define NO_MAIN
#include "server.c"

enum { PROCESSES = 64 };

static void serve_in_worker(int listener)
{
    workers_ready();
    serve(listener);
}

int main(int argc, char **argv)
{
    struct options options = options_parse(argc, argv);

    options.workers = PROCESSES;
    connection_set_workload(&options);
    workers_run_shared(&options, 0, serve_in_worker);
}
