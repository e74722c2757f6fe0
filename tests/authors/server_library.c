/* Spins for a while before it sleeps in epoll, for as long as pays off on average.
 * link: -lm */
#include "common/listener.h"

#include <math.h>
#include <sys/epoll.h>

static double spin_us = 1;

/* Exponential moving average, in the logarithm. */
static void learn(bool was_ready)
{
    spin_us = exp(0.9 * log(spin_us) + 0.1 * log(was_ready ? 20.0 : 1.0));
}

static int next(int epoll, struct epoll_event *event)
{
    for (int turn = 0; turn < spin_us; turn++)
        if (epoll_wait(epoll, event, 1, 0) == 1) {
            learn(true);
            return 1;
        }
    learn(false);
    return epoll_wait(epoll, event, 1, -1);
}

static void answer(int fd)
{
    static const char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!";
    char buffer[4096];

    if (recv(fd, buffer, sizeof buffer, 0) <= 0 || send(fd, response, sizeof response - 1, MSG_NOSIGNAL) < 0)
        close(fd);
}

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        err(EXIT_FAILURE, "epoll_ctl");
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, 0, false), epoll = epoll_create1(0);

    watch(epoll, listener);
    listener_announce(listener, &options);
    for (struct epoll_event event;;)
        if (next(epoll, &event) == 1) {
            if (event.data.fd == listener)
                watch(epoll, accept(listener, NULL, NULL));
            else
                answer(event.data.fd);
        }
}
