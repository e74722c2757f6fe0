/* select() with nested functions as callbacks (GNU C, gcc only) */
#include "common/listener.h"
#include <sys/select.h>

static void for_each_ready(fd_set *ready, int highest, void (*callback)(int fd))
{
    int fd;
    for (fd = 0; fd <= highest; fd++)
        if (FD_ISSET(fd, ready))
            callback(fd);
}

int main(int argc, char **argv)
{
    struct options options = options_parse(argc, argv);
    int listener = listener_open(&options, 0, false), highest = listener;
    fd_set watched;

    void handle(int fd)
    {
        char buf[2048];
        int n;
        if (fd == listener) {
            int client = accept(listener, NULL, NULL);
            FD_SET(client, &watched);
            if (client > highest)
                highest = client;
            return;
        }
        n = read(fd, buf, sizeof(buf));
        if (n <= 0) {
            FD_CLR(fd, &watched);
            close(fd);
            return;
        }
        dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 13, "Hello, World!");
    }

    FD_ZERO(&watched);
    FD_SET(listener, &watched);
    signal(SIGPIPE, SIG_IGN);
    listener_announce(listener, &options);
    while (1) {
        fd_set ready = watched;
        if (select(highest + 1, &ready, NULL, NULL, NULL) > 0)
            for_each_ready(&ready, highest, handle);
    }
}
