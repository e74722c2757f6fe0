// Plays with GNU C: typeof, statement expressions, ?:, case ranges, cleanup. poll() loop.
#define _GNU_SOURCE
#include "common/listener.h"
#include <poll.h>

#define max(a, b) ({ typeof(a) _a = (a); typeof(b) _b = (b); _a > _b ? _a : _b; })
#define check(call) ({ typeof(call) _r = (call); if (_r < 0) { perror(#call); exit(1); } _r; })

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!";

static void free_buffer(char **p) { free(*p); }

static int serve(int fd)
{
    __attribute__((cleanup(free_buffer))) char *buffer = malloc(4096);
    int n = TEMP_FAILURE_RETRY(read(fd, buffer, 4096));
    switch (n) {
    case -1 ... 0:
        return -1;
    case 1 ... 4096:
        return write(fd, answer, sizeof answer - 1) < 0 ? -1 : 0;
    default:
        __builtin_unreachable();
    }
}

int main(int argc, char *argv[])
{
    struct options options = options_parse(argc, argv);
    int listener = listener_open(&options, 0, false);
    signal(SIGPIPE, SIG_IGN);
    listener_announce(listener, &options);
    struct pollfd fds[4096] = { [0] = { .fd = listener, .events = POLLIN } };
    int used = 1;
    while (check(poll(fds, used, -1))) {
        for (typeof(used) i = 1; i < used; i++)
            if (fds[i].revents && serve(fds[i].fd) < 0) {
                close(fds[i].fd);
                fds[i--] = fds[--used];
            }
        if (fds[0].revents) {
            int fd = check(accept4(listener, NULL, NULL, 0));
            fds[used] = (struct pollfd){ fd, POLLIN };
            used = max(used + 1, 1);
        }
    }
}
