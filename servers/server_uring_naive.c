/* An exhibit, not one of the compared servers: io_uring as a lab project once used it, where it came last.
 *
 * System calls per request: four io_uring_enter, and more to wait. The server submits each accept, receive, send and
 * close alone, and takes its completion alone, so it saves nothing over plain system calls. And it closes the connection
 * after each response, so each request needs a new one. Fails when: connections cost more than their requests, which
 * they always do. Without free descriptors it refuses nobody, but waits. This use of io_uring is slow, not io_uring. */
#define CONNECTION_IS_KEPT false
#include "common/connection.h"
#include "common/listener.h"
#include "common/uring.h"

enum operation { RECEIVE, SEND, CLOSE };

/* A client has one operation under way; a completion without a client is that of an accept. */
struct client {
    struct connection connection;
    enum operation operation;
    bool closing; /* close as soon as all is sent */
    char buffer[RECEIVE_SIZE];
};

static struct io_uring ring;

/* One system call for each operation: this is what the exhibit shows. */
static void submit(struct io_uring_sqe *entry, struct client *client)
{
    int submitted;

    io_uring_sqe_set_data(entry, client);
    do {
        submitted = io_uring_submit(&ring);
        uring_check("cannot submit", submitted);
    } while (submitted < 0);
}

static void submit_accept(int listener)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    io_uring_prep_accept(entry, listener, NULL, NULL, SOCK_CLOEXEC);
    submit(entry, NULL);
}

/* Submit the client's next operation. */
static void serve_connection(struct client *client)
{
    struct connection *connection = &client->connection;
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    const char *data;
    const size_t size = connection_output(connection, &data);

    if (size > 0) {
        client->operation = SEND;
        io_uring_prep_send(entry, connection->fd, data, size, MSG_NOSIGNAL);
    } else if (client->closing || connection_all_sent(connection) == CONNECTION_CLOSE) {
        client->operation = CLOSE;
        io_uring_prep_close(entry, connection->fd);
    } else {
        client->operation = RECEIVE;
        io_uring_prep_recv(entry, connection->fd, client->buffer, sizeof client->buffer, 0);
    }
    submit(entry, client);
}

static void start(int fd)
{
    struct client *client = malloc(sizeof *client);
    if (client == NULL) {
        listener_refuse(fd);
        return;
    }
    client->closing = false;
    connection_init(&client->connection, fd, &process_counters);
    serve_connection(client);
}

static void on_accept(int listener, int result)
{
    if (result >= 0) {
        counter_add(&process_counters.accepted, 1);
        start(result);
    } else {
        listener_pause();
    }
    submit_accept(listener);
}

/* The server closes right after an answer: waiting for the client to close would take another operation. */
static void on_receive(struct client *client, size_t size)
{
    const uint64_t before = process_counters.requests;

    connection_take(&client->connection, client->buffer, size);
    client->closing = process_counters.requests > before;
}

static void on_completion(struct client *client, int result)
{
    struct connection *connection = &client->connection;

    if (client->operation == CLOSE) {
        connection_release(connection);
        free(client);
        return;
    }
    if (result <= 0) {
        if (!connection->draining)
            connection_count_end(connection, result);
        connection_drop_output(connection);
        client->closing = true;
    } else if (client->operation == RECEIVE) {
        on_receive(client, (size_t)result);
    } else {
        connection_sent(connection, (size_t)result);
    }
    serve_connection(client);
}

static void serve(int listener)
{
    submit_accept(listener);
    for (;;) {
        struct io_uring_cqe *completion;
        if (io_uring_wait_cqe(&ring, &completion) < 0)
            continue; /* interrupted */
        struct client *client = io_uring_cqe_get_data(completion);
        const int result = completion->res;
        io_uring_cqe_seen(&ring, completion);
        if (client == NULL)
            on_accept(listener, result);
        else
            on_completion(client, result);
    }
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, 0, false);
    const int error = io_uring_queue_init(URING_ENTRIES, &ring, 0);

    if (error < 0)
        uring_fail("cannot set up a ring", -error);
    counters_report_on_sigterm();
    connection_set_workload(&options);
    listener_announce(listener, &options);
    serve(listener);
}
