/* One event loop on io_uring, Linux 6.1 or newer.
 *
 * System calls per request: a share of one io_uring_enter, which submits the sends of one batch and waits for the next
 * batch. A lone connection needs two, since the completion of its send ends the wait, too. Fails when: the kernel is older
 * than 6.1 or forbids io_uring (status 69), or one core is not enough.
 *
 * Accept and receive are multishot: submitted once, they complete again and again. The kernel puts received bytes into
 * our buffers. common/uring.h sets up the ring and the buffers. */
#include "common/connection.h"
#include "common/listener.h"
#include "common/uring.h"

enum operation { ACCEPT, RECEIVE, SEND, OPERATION_MASK = 7 };

struct client {
    struct connection connection;
    bool receiving; /* a receive is under way, and will complete */
    bool sending;
    bool closing; /* to be dropped as soon as nothing is under way */
};

static struct uring uring;

/* A completion returns 64 bits of ours: the client's address, and the operation in its low bits. */
static void *pack(struct client *client, enum operation operation)
{
    return (void *)((uintptr_t)client | operation);
}

static enum operation operation_of(const struct io_uring_cqe *completion)
{
    return (enum operation)(completion->user_data & OPERATION_MASK);
}

static struct client *client_of(const struct io_uring_cqe *completion)
{
    return (struct client *)(uintptr_t)(completion->user_data & ~(uint64_t)OPERATION_MASK);
}

static void queue_accept(int listener)
{
    struct io_uring_sqe *entry = uring_next_entry(&uring);
    io_uring_prep_multishot_accept(entry, listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data(entry, pack(NULL, ACCEPT));
}

static void queue_receive(struct client *client)
{
    struct io_uring_sqe *entry = uring_next_entry(&uring);
    io_uring_prep_recv_multishot(entry, client->connection.fd, NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT | uring.file_flag;
    entry->buf_group = URING_BUFFER_GROUP;
    io_uring_sqe_set_data(entry, pack(client, RECEIVE));
    client->receiving = true;
}

static void queue_send(struct client *client, const char *data, size_t size)
{
    struct io_uring_sqe *entry = uring_next_entry(&uring);
    io_uring_prep_send(entry, client->connection.fd, data, size, MSG_NOSIGNAL | MSG_WAITALL);
    entry->flags |= uring.file_flag;
    io_uring_sqe_set_data(entry, pack(client, SEND));
    client->sending = true;
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
    const size_t size = connection_output(&client->connection, &data);

    if (client->sending)
        return;
    if (size > 0) {
        queue_send(client, data, size);
        return;
    }
    if (!client->closing && connection_all_sent(&client->connection) == CONNECTION_CLOSE)
        start_closing(client);
    if (client->closing && !client->receiving)
        drop(client);
    else if (!client->receiving)
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
    } else if ((completion->res == -EMFILE || completion->res == -ENFILE) && listener_spare >= 0) {
        listener_give_up_spare();
    } else {
        listener_pause();
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
    client->sending = false;
    if (completion->res >= 0 && !client->closing) {
        connection_sent(&client->connection, (size_t)completion->res);
    } else if (!client->closing) {
        connection_count_end(&client->connection, completion->res);
        start_closing(client);
    }
    serve_connection(client);
}

static void serve(int listener)
{
    listener_keep_spare();
    queue_accept(listener);
    for (;;) {
        uring_check("cannot wait", io_uring_submit_and_wait(&uring.ring, 1));

        struct io_uring_cqe *completion;
        unsigned head, count = 0;
        io_uring_for_each_cqe(&uring.ring, head, completion)
        {
            if (operation_of(completion) == ACCEPT)
                on_accept(listener, completion);
            else if (operation_of(completion) == RECEIVE)
                on_receive(client_of(completion), completion);
            else
                on_send(client_of(completion), completion);
            count++;
        }
        io_uring_cq_advance(&uring.ring, count);
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
