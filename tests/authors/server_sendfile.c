/* A static file by sendfile(2); it is in memory. */
#include "common/listener.h"

#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

static int file, epoll;
static struct stat st;

static void answer(int fd)
{
    char buf[4096];
    ssize_t n = read(fd, buf, sizeof buf);
    off_t at = 0;

    if (n <= 0) {
        close(fd);
        return;
    }
    int len = snprintf(buf, sizeof buf,
                       "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %ld\r\n\r\n",
                       (long)st.st_size);
    send(fd, buf, len, MSG_MORE);
    while (at < st.st_size)
        if (sendfile(fd, file, &at, st.st_size - at) <= 0)
            break;
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    int listener = listener_open(&options, 0, false);

    file = memfd_create("index.html", 0);
    if (file < 0 || write(file, "Hello, World!", 13) != 13 || fstat(file, &st) < 0) {
        perror("index.html");
        return 1;
    }
    epoll = epoll_create1(0);
    struct epoll_event ev = { .events = EPOLLIN, .data.fd = listener };
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev);
    signal(SIGPIPE, SIG_IGN);
    listener_announce(listener, &options);
    while (1) {
        epoll_wait(epoll, &ev, 1, -1);
        if (ev.data.fd != listener) {
            answer(ev.data.fd);
            continue;
        }
        ev.data.fd = accept(listener, NULL, NULL);
        ev.events = EPOLLIN;
        epoll_ctl(epoll, EPOLL_CTL_ADD, ev.data.fd, &ev);
    }
}
