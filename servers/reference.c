/* The reference: not one of the compared servers, but the one that each of them is compared with, in the paired phase of
 * its cell.
 *
 * An epoll loop in each worker that takes all requests of a connection to be like its first one, and parses none. So it spends hardly more
 * CPU time per request than one receive and one send take. A server can still need less, with fewer system calls
 * (io_uring) or with edge-triggered epoll. */
#include "common/connection.h"
#include "common/workers.h"

#include <sys/epoll.h>
#include <sys/resource.h>

enum {
    BATCH = 512,           /* events that one call returns at most */
    CLIENTS_MAX = 1 << 20, /* connections */
};

/* Of each descriptor. Memory of the kernel's until a connection with this number comes. */
static struct client {
    uint32_t owed;         /* bytes of answers that we have not sent yet */
    uint32_t offset;       /* of the next byte to send, in its answer */
    uint16_t request_size; /* bytes; all requests of a connection are equal. 0: none has come */
    bool closes;           /* its requests ask for a connection each */
} *clients;
static rlim_t clients_max;

static bool watch(int epoll, int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(epoll, operation, fd, &event) == 0;
}

static void accept_all(int epoll, int listener)
{
    for (int fd; (fd = listener_accept(listener, SOCK_NONBLOCK)) >= 0;) {
        if ((rlim_t)fd >= clients_max || !watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN)) {
            listener_refuse(fd);
            continue;
        }
        clients[fd] = (struct client){0};
    }
}

static void look_at_first_request(struct client *client, const char *data, size_t size)
{
    const char *const end = memmem(data, size, "\r\n\r\n", 4);
    if (end != NULL)
        size = (size_t)(end - data) + 4;
    client->request_size = (uint16_t)size;
    client->closes = memmem(data, size, "Connection: close", 17) != NULL;
}

/* false: the connection has ended. */
static bool send_owed(struct client *client, int fd)
{
    const struct answer_text *const answer = &answers[client->closes ? ANSWER_CLOSE : ANSWER];

    while (client->owed > 0) {
        const uint32_t ready = answer->ready_size - client->offset;
        const ssize_t sent = send(fd, answer->data + client->offset,
                                  client->owed < ready ? client->owed : ready, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR;
        client->owed -= (uint32_t)sent;
        client->offset = client->owed == 0 ? 0 : (client->offset + (uint32_t)sent) % answer->size;
    }
    return !client->closes || shutdown(fd, SHUT_WR) == 0;
}

static void take_requests(struct client *client, const char *data, size_t size)
{
    size_t requests = 1;

    if (client->request_size == 0)
        look_at_first_request(client, data, size);
    if (size > client->request_size)
        requests = size / client->request_size;
    counter_add(&process_counters.requests, requests);
    client->owed += (uint32_t)requests * answers[client->closes ? ANSWER_CLOSE : ANSWER].size;
    while (requests-- > 0)
        handler_run();
}

static void serve_connection(int epoll, int fd)
{
    static char buffer[RECEIVE_SIZE];
    struct client *const client = &clients[fd];
    const bool was_writing = client->owed > 0;

    if (!was_writing) {
        const ssize_t size = recv(fd, buffer, sizeof buffer, 0);
        if (size < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (size <= 0) {
            close(fd); /* closing a socket removes it from the set */
            return;
        }
        take_requests(client, buffer, (size_t)size);
    }
    const bool lives = send_owed(client, fd);
    const bool is_writing = client->owed > 0;
    if (!lives || (is_writing != was_writing &&
                   !watch(epoll, EPOLL_CTL_MOD, fd, is_writing ? EPOLLOUT : EPOLLIN)))
        close(fd);
}

static void create_clients(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        err(EXIT_FAILURE, "getrlimit");
    clients_max = limit.rlim_cur < CLIENTS_MAX ? limit.rlim_cur : CLIENTS_MAX;
    clients = calloc(clients_max, sizeof *clients);
    if (clients == NULL)
        err(EXIT_FAILURE, "clients");
}

static void serve(int listener)
{
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    static struct epoll_event events[BATCH];

    if (epoll < 0 || !watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN))
        err(EXIT_FAILURE, "epoll");
    create_clients();
    workers_ready();
    for (;;) {
        const int ready = epoll_wait(epoll, events, BATCH, -1);
        if (ready < 0 && errno != EINTR)
            err(EXIT_FAILURE, "epoll_wait");
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                accept_all(epoll, listener);
            else
                serve_connection(epoll, events[i].data.fd);
        }
    }
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);

    connection_set_workload(&options);
    workers_run(&options, SOCK_NONBLOCK, serve);
}
