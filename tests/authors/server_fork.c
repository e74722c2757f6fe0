/* The classic: fork a child for every client. */
#include "common/listener.h"

#include <sys/wait.h>

static void reap(int sig)
{
    (void)sig;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

static void child(int fd)
{
    const char *ok = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\nHello, World!";
    char line[1024];
    FILE *in = fdopen(fd, "r");
    while (fgets(line, sizeof line, in) && strcmp(line, "\r\n") != 0)
        ; /* skip the head */
    write(fd, ok, strlen(ok));
    shutdown(fd, SHUT_RDWR);
    exit(0);
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    int s = listener_open(&options, 0, false);

    signal(SIGCHLD, reap);
    signal(SIGPIPE, SIG_IGN);
    listener_announce(s, &options);
    for (;;) {
        int fd = accept(s, NULL, NULL);
        if (fd < 0)
            continue;
        if (fork() == 0) {
            close(s);
            child(fd);
        }
        close(fd);
    }
}
