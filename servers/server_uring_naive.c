/* An exhibit, not one of the compared servers: io_uring as a lab project once used it, where it came last.
 *
 * System calls per request: four io_uring_enter, and more to wait. Each accept, receive, send and close is submitted
 * alone and its completion taken alone, so nothing is saved over plain system calls; and each request needs a
 * connection of its own, since the server closes it after the response. Fails when: connections cost more than their
 * requests, which is always; without descriptors it refuses nobody, and waits. What is slow is this use, not io_uring. */
#define CONNECTION_IS_KEPT false
#include "common/uring_loop.h"

enum step { RECEIVE, SEND, CLOSE };

/* It has one operation under way; a completion without a client is that of an accept. */
struct client {
    struct connection connection;
    enum step step;
    bool closing; /* as soon as nothing is left to be sent */
    char buffer[RECEIVE_SIZE];
};

static struct io_uring ring;

/* What this exhibit shows: a system call for each operation. */
static void submit(struct io_uring_sqe *entry, struct client *client)
{
    int submitted;

    io_uring_sqe_set_data(entry, client);
    do
        submitted = io_uring_submit(&ring);
    while (submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY);
    if (submitted < 0)
        uring_fail("cannot submit", -submitted);
}

static void accept_one(int listener)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    io_uring_prep_accept(entry, listener, NULL, NULL, SOCK_CLOEXEC);
    submit(entry, NULL);
}

/* The next operation of a client. */
static void advance(struct client *client)
{
    struct connection *connection = &client->connection;
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    const char *data;
    const size_t size = connection_output(connection, &data);

    if (size > 0) {
        client->step = SEND;
        io_uring_prep_send(entry, connection->fd, data, size, MSG_NOSIGNAL);
    } else if (client->closing || connection_all_sent(connection) == CONNECTION_CLOSE) {
        client->step = CLOSE;
        io_uring_prep_close(entry, connection->fd);
    } else {
        client->step = RECEIVE;
        io_uring_prep_recv(entry, connection->fd, client->buffer, sizeof client->buffer, 0);
    }
    submit(entry, client);
}

/* After an answer it closes at once: to wait until the client does would be an operation more. */
static void take(struct client *client, size_t size)
{
    const uint64_t before = process_counters.requests;

    connection_take(&client->connection, client->buffer, size);
    client->closing = process_counters.requests > before;
}

static void on_completion(struct client *client, int result)
{
    struct connection *connection = &client->connection;

    if (client->step == CLOSE) {
        connection_release(connection);
        free(client);
        return;
    }
    if (result <= 0) {
        if (!connection->draining)
            connection_count_end(connection, result);
        connection_drop_output(connection);
        client->closing = true;
    } else if (client->step == RECEIVE) {
        take(client, (size_t)result);
    } else {
        connection_sent(connection, (size_t)result);
    }
    advance(client);
}

static void on_accept(int fd)
{
    if (fd < 0) {
        listener_pause();
        return;
    }
    counter_add(&process_counters.accepted, 1);
    struct client *client = malloc(sizeof *client);
    if (client == NULL) {
        listener_refuse(fd);
        return;
    }
    client->closing = false;
    connection_init(&client->connection, fd, &process_counters);
    advance(client);
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, 0, false);
    const int error = io_uring_queue_init(URING_ENTRIES, &ring, 0);

    if (error < 0)
        uring_fail("cannot set up a ring", -error);
    counters_report_on_sigterm();
    listener_announce(listener, &options);
    accept_one(listener);
    for (;;) {
        struct io_uring_cqe *completion;
        if (io_uring_wait_cqe(&ring, &completion) < 0)
            continue; /* interrupted */
        struct client *client = io_uring_cqe_get_data(completion);
        const int result = completion->res;
        io_uring_cqe_seen(&ring, completion);
        if (client != NULL) {
            on_completion(client, result);
        } else {
            on_accept(result);
            accept_one(listener);
        }
    }
}
