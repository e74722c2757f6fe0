/* The reference: not one of the compared servers, but the one that each of them is compared with, in the paired phase of
 * its cell.
 *
 * An epoll loop in each worker that takes whatever arrives for one request, without parsing it. So it spends hardly more
 * CPU time per request than one receive and one send take. A server can still need less, with fewer system calls
 * (io_uring) or with edge-triggered epoll. */
#include "common/connection.h"
#include "common/workers.h"

#include <sys/epoll.h>

enum { BATCH = 512 }; /* events that one call returns at most */

static bool watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void accept_all(int epoll, int listener)
{
    for (int fd; (fd = listener_accept(listener, SOCK_NONBLOCK)) >= 0;)
        if (!watch(epoll, fd))
            listener_refuse(fd);
}

static void serve_connection(int fd)
{
    static char buffer[RECEIVE_SIZE];
    const ssize_t size = recv(fd, buffer, sizeof buffer, 0);

    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size > 0 && send(fd, responses, RESPONSE_SIZE, MSG_NOSIGNAL) == RESPONSE_SIZE) {
        counter_add(&process_counters.requests, 1);
        return;
    }
    close(fd); /* closing a socket removes it from the set */
}

static void serve(int listener)
{
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    static struct epoll_event events[BATCH];

    if (epoll < 0 || !watch(epoll, listener))
        err(EXIT_FAILURE, "epoll");
    workers_ready();
    for (;;) {
        const int ready = epoll_wait(epoll, events, BATCH, -1);
        if (ready < 0 && errno != EINTR)
            err(EXIT_FAILURE, "epoll_wait");
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                accept_all(epoll, listener);
            else
                serve_connection(events[i].data.fd);
        }
    }
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);

    workers_run(&options, SOCK_NONBLOCK, serve);
}
