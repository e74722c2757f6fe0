/* The io_uring ladder: the steps of server_uring_one_by_one.c. Each step uses one more feature of io_uring than the step
 * before, so two neighbours show what this feature brings. docs/uring-ladder.md compares them.
 *
 * Here is all that differs between steps. A server defines STEP, and the compiler leaves out what its step does not use. */
#pragma once

#include "connection.h"
#include "uring.h"

/* server_uring.c is one step above REGISTERED_FILES: it adds sends that complete only if they fail. */
enum { ONE_BY_ONE = 1, BATCHED, MULTISHOT, BUFFER_RING, DEFERRED, REGISTERED_FILES, SQPOLL };
enum operation { ACCEPT, RECEIVE, SEND, PROVIDE };

struct client {
    struct connection connection;
    bool receiving; /* a receive is under way, and will complete */
    bool sending;
    bool closing;  /* to be dropped as soon as nothing is under way */
    char buffer[]; /* before MULTISHOT; from there on clients share buffers */
};

static struct uring uring;

/* The entry describes an operation. Before BATCHED, each costs a system call of its own. */
static inline void queue(struct io_uring_sqe *entry, struct client *client,
                         enum operation operation)
{
    io_uring_sqe_set_data(entry, uring_pack(client, operation));
    while (STEP < BATCHED && io_uring_sq_ready(&uring.ring) > 0)
        uring_check("cannot submit", io_uring_submit(&uring.ring));
}

/* From MULTISHOT on, an accept completes for each connection that comes. */
static inline void queue_accept(int listener)
{
    struct io_uring_sqe *entry = uring_next_entry(&uring);
    if (STEP >= MULTISHOT)
        io_uring_prep_multishot_accept(entry, listener, NULL, NULL, SOCK_CLOEXEC);
    else
        io_uring_prep_accept(entry, listener, NULL, NULL, SOCK_CLOEXEC);
    queue(entry, NULL, ACCEPT);
}

/* From MULTISHOT on, a receive completes each time that bytes arrive, and the kernel puts them into one of our buffers. */
static inline void queue_receive(struct client *client)
{
    struct io_uring_sqe *entry = uring_next_entry(&uring);
    if (STEP >= MULTISHOT) {
        io_uring_prep_recv_multishot(entry, client->connection.fd, NULL, 0, 0);
        entry->flags |= IOSQE_BUFFER_SELECT | uring.file_flag;
        entry->buf_group = URING_BUFFER_GROUP;
    } else {
        io_uring_prep_recv(entry, client->connection.fd, client->buffer, URING_BUFFER_SIZE, 0);
    }
    client->receiving = true;
    queue(entry, client, RECEIVE);
}

static inline void queue_send(struct client *client, const char *data, size_t size)
{
    struct io_uring_sqe *entry = uring_next_entry(&uring);
    io_uring_prep_send(entry, client->connection.fd, data, size, MSG_NOSIGNAL | MSG_WAITALL);
    entry->flags |= uring.file_flag;
    client->sending = true;
    queue(entry, client, SEND);
}

/* Before BUFFER_RING, giving buffers to the kernel is an operation, too. It completes only if it fails. */
static inline void queue_provide(unsigned short first, int count)
{
    struct io_uring_sqe *entry = uring_next_entry(&uring);
    io_uring_prep_provide_buffers(entry, uring.memory[first], URING_BUFFER_SIZE, count,
                                  URING_BUFFER_GROUP, first);
    entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    queue(entry, NULL, PROVIDE);
}

/* A receive has completed with some bytes. */
static inline void take(struct client *client, const struct io_uring_cqe *completion)
{
    const unsigned short buffer = (unsigned short)(completion->flags >> IORING_CQE_BUFFER_SHIFT);
    const char *data = STEP >= MULTISHOT ? uring.memory[buffer] : client->buffer;

    connection_take(&client->connection, data, (size_t)completion->res);
    if (STEP >= BUFFER_RING)
        uring_return_buffer(&uring, buffer);
    else if (STEP >= MULTISHOT)
        queue_provide(buffer, 1);
}

static inline struct client *create_client(void)
{
    return calloc(1, sizeof(struct client) + (STEP < MULTISHOT ? URING_BUFFER_SIZE : 0));
}

/* Before BATCHED, everything is submitted already. With SQPOLL, only a sleeping kernel thread or a lack of completions
 * costs a system call. */
static inline void submit_and_wait(void)
{
    struct io_uring_cqe *completion;

    if (STEP == SQPOLL)
        uring_check("cannot submit", io_uring_submit(&uring.ring));
    if (STEP == SQPOLL || STEP < BATCHED)
        uring_check("cannot wait", io_uring_wait_cqe(&uring.ring, &completion));
    else
        uring_check("cannot wait", io_uring_submit_and_wait(&uring.ring, 1));
}

/* DEFERRED: only this thread submits, and the kernel makes completions ready when it waits for them, instead of
 * interrupting it. SQPOLL excludes that: a thread of the kernel submits what we queue. */
static inline unsigned ring_flags(void)
{
    if (STEP == SQPOLL)
        return IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_SQPOLL;
    return STEP >= DEFERRED ? IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN : 0;
}

static inline void open_uring(void)
{
    static char provided[URING_BUFFERS][URING_BUFFER_SIZE];

    uring_create_ring(&uring.ring, ring_flags());
    if (STEP >= BUFFER_RING) {
        uring_create_buffers(&uring);
    } else if (STEP >= MULTISHOT) {
        uring.memory = provided;
        queue_provide(0, URING_BUFFERS);
    }
    if (STEP >= REGISTERED_FILES)
        uring_create_files(&uring);
    if (STEP >= REGISTERED_FILES && uring.file_flag == 0)
        errx(EXIT_UNAVAILABLE, "io_uring: registered files need Linux 6.14 or newer");
}
