/* One event loop on io_uring, Linux 6.1 or newer.
 *
 * System calls per request: a share of one io_uring_enter, which submits the sends of one batch and waits for the next
 * batch. Fails when: the kernel is older than 6.1 or forbids io_uring (status 69), or one core is not enough.
 *
 * Accept and receive are multishot: submitted once, they complete again and again. The kernel puts received bytes into
 * our buffers. common/uring.h sets up the ring and the buffers. */
#include "common/connection.h"
#include "common/listener.h"
#include "common/uring_quiet.h"

enum operation { ACCEPT, RECEIVE, SEND };

struct client {
    struct connection connection;
    struct quiet quiet;
    bool receiving; /* a receive is under way, and will complete */
    bool sending;   /* a send that completes, not a quiet one */
    bool closing;   /* to be dropped as soon as nothing is under way */
};

static struct uring uring;

static void queue_accept(int listener)
{
    struct io_uring_sqe *entry = uring_next_entry(&uring);
    io_uring_prep_multishot_accept(entry, listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data(entry, uring_pack(NULL, ACCEPT));
}

static void queue_receive(struct client *client)
{
    struct io_uring_sqe *entry = uring_next_entry(&uring);
    io_uring_prep_recv_multishot(entry, client->connection.fd, NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT | uring.file_flag;
    entry->buf_group = URING_BUFFER_GROUP;
    io_uring_sqe_set_data(entry, uring_pack(client, RECEIVE));
    client->receiving = true;
}

static void queue_send(struct client *client, const char *data, size_t size)
{
    struct io_uring_sqe *entry = uring_next_entry(&uring);
    io_uring_prep_send(entry, client->connection.fd, data, size, MSG_NOSIGNAL | MSG_WAITALL);
    entry->flags |= uring.file_flag;
    io_uring_sqe_set_data(entry, uring_pack(client, SEND));
    client->sending =
        !client->receiving || !quiet_is_possible(&client->quiet, &client->connection, size);
    if (!client->sending)
        quiet_begin(&client->quiet, entry, size);
}

/* Send nothing more, and end a receive that is under way, as if the client had closed. The ring could shut the socket
 * down, too, but later and in another thread: by then the descriptor may belong to another connection. */
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
    if (!quiet_settle(&client->quiet, &client->connection)) {
        quiet_serve_later(&client->quiet, client);
        return;
    }
    const size_t size = connection_output(&client->connection, &data);
    if (size > 0) {
        queue_send(client, data, size);
        return;
    }
    if (!client->closing && connection_all_sent(&client->connection) == CONNECTION_CLOSE)
        start_closing(client);
    if (client->closing && !client->receiving && !client->quiet.is_again)
        drop(client);
    else if (!client->receiving && !client->closing)
        queue_receive(client);
}

static void start(int fd)
{
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL || !uring_register(&uring, fd)) {
        free(client);
        listener_refuse(fd);
        return;
    }
    connection_init(&client->connection, fd, &process_counters);
    queue_receive(client);
}

/* Without a free descriptor each accept would fail at once. So we give up the spare descriptor: the accept then waits for
 * a connection, which we serve if another descriptor has come free, and otherwise refuse. */
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
    const bool is_sending = client->sending || !quiet_settle(&client->quiet, &client->connection);
    /* While a send is under way, the end of the input may be a reset, which only the send reports. */
    const bool try_again = completion->res == -ENOBUFS || (completion->res == 0 && is_sending);

    client->receiving = (completion->flags & IORING_CQE_F_MORE) != 0;
    if (completion->res > 0) {
        const unsigned buffer = completion->flags >> IORING_CQE_BUFFER_SHIFT;
        connection_take(connection, uring.memory[buffer], (size_t)completion->res);
        uring_return_buffer(&uring, (unsigned short)buffer);
    } else if (!try_again && !client->closing) {
        if (!connection->draining)
            connection_count_end(connection, completion->res);
        if (completion->res < 0 || connection->draining)
            start_closing(client);
    }
    serve_connection(client);
}

static void on_send(struct client *client, const struct io_uring_cqe *completion)
{
    const int result = quiet_on_completion(&client->quiet, !client->sending, completion->res);

    client->sending = false;
    if (result >= 0 && !client->closing) {
        connection_sent(&client->connection, (size_t)result);
    } else if (!client->closing) {
        connection_count_end(&client->connection, result);
        start_closing(client);
    }
    serve_connection(client);
}

static void serve(int listener)
{
    listener_keep_spare();
    queue_accept(listener);
    for (;;) {
        uring_check("cannot wait",
                    io_uring_submit_and_wait(&uring.ring, quiet_again == NULL ? 1 : 0));
        struct client *again = quiet_again, *next;
        struct io_uring_cqe *completion;
        unsigned head, count = 0;
        quiet_again = NULL;
        quiet_batch++;
        io_uring_for_each_cqe(&uring.ring, head, completion)
        {
            if (uring_operation(completion) == ACCEPT)
                on_accept(listener, completion);
            else if (uring_operation(completion) == RECEIVE)
                on_receive(uring_client(completion), completion);
            else
                on_send(uring_client(completion), completion);
            uring_submit_before_handler(&uring);
            count++;
        }
        io_uring_cq_advance(&uring.ring, count);
        for (; again != NULL; again = next) {
            next = quiet_take_next(&again->quiet);
            serve_connection(again);
        }
    }
}

#ifndef NO_MAIN /* server_uring_multitask.c includes this file and has its own */
int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, 0, false);

    uring_open(&uring);
    counters_report_on_sigterm();
    connection_set_workload(&options);
    listener_announce(listener, &options);
    serve(listener);
}
#endif
