/* io_uring, step 1 of a ladder: one operation at a time. The other steps include this file.
 *
 * System calls per request: one io_uring_enter to submit the receive, one to submit the send, and one to wait if nothing has
 * completed. Fails when: as server_uring, from which it differs in what common/uring_ladder.h lists. */
#ifndef STEP
#define STEP ONE_BY_ONE
#endif
#include "common/listener.h"
#include "common/uring_ladder.h"

/* Send nothing more, and end a receive that is under way, as if the client had closed. */
static void start_closing(struct client *client)
{
    client->closing = true;
    connection_drop_output(&client->connection);
    if (client->receiving)
        shutdown(client->connection.fd, SHUT_RDWR);
}

static void drop(struct client *client)
{
    uring_unregister(&uring, client->connection.fd);
    connection_destroy(&client->connection);
    free(client);
}

/* After each completion: send what is owed; if nothing is, receive or close. */
static void serve_connection(struct client *client)
{
    const char *data;

    if (client->sending)
        return;
    const size_t size = connection_output(&client->connection, &data);
    if (size > 0) {
        queue_send(client, data, size);
        return;
    }
    if (!client->closing && connection_all_sent(&client->connection) == CONNECTION_CLOSE)
        start_closing(client);
    if (client->closing && !client->receiving)
        drop(client);
    else if (!client->receiving && !client->closing)
        queue_receive(client);
}

static void start(int fd)
{
    struct client *client = create_client();
    if (client == NULL || !uring_register(&uring, fd)) {
        free(client);
        listener_refuse(fd);
        return;
    }
    connection_init(&client->connection, fd, &process_counters);
    queue_receive(client);
}

/* If no descriptor is free: see server_uring.c. */
static void on_accept(int listener, const struct io_uring_cqe *completion)
{
    if (completion->res >= 0) {
        counter_add(&process_counters.accepted, 1);
        const int fd = listener_admit(completion->res);
        if (fd >= 0)
            start(fd);
    } else {
        listener_make_room(-completion->res);
    }
    if (!(completion->flags & IORING_CQE_F_MORE))
        queue_accept(listener);
}

static void on_receive(struct client *client, const struct io_uring_cqe *completion)
{
    struct connection *connection = &client->connection;
    /* While a send is under way, the end of the input may be a reset, which only the send reports. */
    const bool try_again = completion->res == -ENOBUFS || (completion->res == 0 && client->sending);

    client->receiving = (completion->flags & IORING_CQE_F_MORE) != 0;
    if (completion->res > 0) {
        take(client, completion);
    } else if (!try_again && !client->closing) {
        if (!connection->draining)
            connection_count_end(connection, completion->res);
        if (completion->res < 0 || connection->draining)
            start_closing(client);
    }
    serve_connection(client);
}

static void on_send(struct client *client, int result)
{
    client->sending = false;
    if (result >= 0 && !client->closing) {
        connection_sent(&client->connection, (size_t)result);
    } else if (!client->closing) {
        connection_count_end(&client->connection, result);
        start_closing(client);
    }
    serve_connection(client);
}

static void on_completion(int listener, const struct io_uring_cqe *completion)
{
    switch ((enum operation)uring_operation(completion)) {
    case ACCEPT:
        on_accept(listener, completion);
        break;
    case RECEIVE:
        on_receive(uring_client(completion), completion);
        break;
    case SEND:
        on_send(uring_client(completion), completion->res);
        break;
    case PROVIDE:
        uring_fail("cannot provide buffers", -completion->res);
    }
}

static void serve(int listener)
{
    listener_keep_spare();
    queue_accept(listener);
    for (;;) {
        submit_and_wait();

        struct io_uring_cqe *completion;
        unsigned head, count = 0;
        io_uring_for_each_cqe(&uring.ring, head, completion)
        {
            on_completion(listener, completion);
            count++;
            if (STEP < BATCHED)
                break; /* one at a time */
        }
        io_uring_cq_advance(&uring.ring, count);
    }
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, 0, false);

    open_uring();
    counters_report_on_sigterm();
    connection_set_workload(&options);
    listener_announce(listener, &options);
    serve(listener);
}
