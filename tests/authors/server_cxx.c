// HttpServer "class" in C, usable from C++ too.  (c) the internet
#ifdef __cplusplus
extern "C" {
#else
#define nullptr ((void *)0)
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct HttpServer HttpServer;
struct HttpServer {
    int m_listenFd;
    int m_epollFd;
    // "methods"
    bool (*start)(HttpServer *self, const char *host, const char *port);
    void (*run)(HttpServer *self);
    void (*onReadable)(HttpServer *self, int fd);
};

static const char *const kResponse = "HTTP/1.1 200 OK\r\n"
                                     "Content-Type: text/plain\r\n"
                                     "Content-Length: 13\r\n"
                                     "\r\n"
                                     "Hello, World!";

static void HttpServer_watch(HttpServer *self, int fd)
{
    struct epoll_event event = {};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(self->m_epollFd, EPOLL_CTL_ADD, fd, &event) != 0)
        close(fd);
}

static bool HttpServer_start(HttpServer *self, const char *host, const char *port)
{
    struct addrinfo hints = {}, *address = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST | AI_PASSIVE;
    if (getaddrinfo(host, port, &hints, &address) != 0)
        return false;
    self->m_listenFd = socket(address->ai_family, SOCK_STREAM, 0);
    auto int yes = 1;
    setsockopt(self->m_listenFd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(self->m_listenFd, address->ai_addr, address->ai_addrlen) != 0)
        return false;
    freeaddrinfo(address);
    if (listen(self->m_listenFd, SOMAXCONN) != 0)
        return false;
    self->m_epollFd = epoll_create1(0);
    HttpServer_watch(self, self->m_listenFd);
    struct sockaddr_in6 bound = {};
    socklen_t size = sizeof(bound);
    getsockname(self->m_listenFd, (struct sockaddr *)&bound, &size);
    printf("listening on [%s]:%d\n", host, ntohs(bound.sin6_port)); // at the same place in a sockaddr_in
    fflush(stdout);
    return true;
}

static void HttpServer_onReadable(HttpServer *self, int fd)
{
    char buffer[8192];
    const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
    if (n <= 0) {
        close(fd);
        return;
    }
    for (char *p = buffer; (p = (char *)memmem(p, n - (p - buffer), "\r\n\r\n", 4)); p += 4)
        send(fd, kResponse, strlen(kResponse), 0);
}

static void HttpServer_run(HttpServer *self)
{
    struct epoll_event events[64];
    while (true) {
        const int n = epoll_wait(self->m_epollFd, events, 64, -1);
        for (int i = 0; i < n; ++i) {
            if (events[i].data.fd == self->m_listenFd)
                HttpServer_watch(self, accept(self->m_listenFd, nullptr, nullptr));
            else
                self->onReadable(self, events[i].data.fd);
        }
    }
}

HttpServer *HttpServer_new(void)
{
    HttpServer *self = (HttpServer *)calloc(1, sizeof(HttpServer));
    self->start = HttpServer_start;
    self->run = HttpServer_run;
    self->onReadable = HttpServer_onReadable;
    return self;
}

int main(int argc, char **argv)
{
    const char *host = "::1", *port = "0";
    const struct option known[] = {{"host", required_argument, nullptr, 'h'},
                                   {"port", required_argument, nullptr, 'p'},
                                   {"interface", required_argument, nullptr, 'i'},
                                   {"workers", required_argument, nullptr, 'w'},
                                   {}};
    for (int option; (option = getopt_long(argc, argv, "", known, nullptr)) != -1;) {
        if (option == '?')
            return 2;
        if (option == 'h')
            host = optarg;
        if (option == 'p')
            port = optarg;
    }
    signal(SIGPIPE, SIG_IGN);
    HttpServer *server = HttpServer_new();
    if (!server->start(server, host, port)) {
        fprintf(stderr, "could not start: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    server->run(server);
}

#ifdef __cplusplus
}
#endif
