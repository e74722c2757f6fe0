/* thread per connection; compiles, if one does not look at the warnings */
#include <pthread.h>
#include "common/listener.h"

struct config { struct options options; int backlog; char *root; };

const char *version = __FILE__ ", built on " __DATE__;

void log_request(int fd, char *request, int verbose) { }

void *handle_client(void *arg)
{
    int fd = (int)(long)arg;
    char buf[1024];
    int unused;
    int i;
    while (read(fd, buf, sizeof(buf)) > 0) {
        char *r = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
        for (i = 0; i < strlen(r); )
            i += write(fd, r + i, strlen(r) - i);
        log_request(fd, buf, 1);
    }
    close(fd);
}

int main(int argc, char *argv[])
{
    struct config c = { options_parse(argc, argv) };
    int s, fd;
    pthread_t t;
    s = listener_open(&c.options, 0, 0);
    signal(SIGPIPE, SIG_IGN);
    listener_announce(s, &c.options);
    while (fd = accept(s, NULL, NULL))
        pthread_create(&t, NULL, handle_client, (void *)(long)fd);
}
