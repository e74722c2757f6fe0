/* The event loop of server_uring and, once a worker, of server_uring_multitask: Linux 6.1 or newer.
 *
 * One ring, one thread. Accepting and receiving are multishot: asked for once, they complete again and again,
 * received bytes land in buffers that the kernel takes from a ring of ours. So the one system call of the loop
 * submits all the sends of a batch and waits for the next batch. */
#pragma once

#include "connection.h"
#include "listener.h"

#include <liburing.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum {
    EXIT_UNAVAILABLE = 69, /* EX_UNAVAILABLE of sysexits.h: this machine refuses io_uring */
    URING_ENTRIES = 1024,  /* a ring is locked memory: the usual limit, 8 MiB, allows some 50 */
    URING_BUFFERS = 512,   /* a power of two; a shortage costs asking for a receive again */
    /* No multiple of a page, or the first lines of all buffers would share a few places in the caches. */
    URING_BUFFER_SIZE = 2048 + 64,
    URING_BUFFER_GROUP = 0,
    URING_FILES_MAX = 1 << 20, /* the most that the kernel registers */
};

/* What a completion belongs to: the operation, in the low bits of the pointer to the connection. */
enum uring_operation { URING_ACCEPT, URING_RECEIVE, URING_SEND, URING_MASK = 7 };

struct uring_connection {
    struct connection connection;
    bool receiving; /* a completion of a receive is still to come */
    bool sending;
    bool closing; /* only completions that are under way are waited for */
};

struct uring {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    char (*memory)[URING_BUFFER_SIZE];
    unsigned files;         /* registered sockets, at most; 0: none is registered */
    unsigned char as_files; /* IOSQE_FIXED_FILE, or 0 */
    int listener;
};

static inline void *uring_pack(struct uring_connection *connection, enum uring_operation operation)
{
    return (void *)((uintptr_t)connection | operation);
}

static inline enum uring_operation uring_operation(const struct io_uring_cqe *completion)
{
    return (enum uring_operation)(completion->user_data & URING_MASK);
}

static inline struct uring_connection *uring_connection(const struct io_uring_cqe *completion)
{
    return (struct uring_connection *)(uintptr_t)(completion->user_data & ~(uint64_t)URING_MASK);
}

/* Why a machine refuses what this needs, and what mends it; NULL: the error is of another kind. */
static inline const char *uring_refusal(int error)
{
    switch (error) {
    case EINVAL:
        return "Linux 6.1 or newer is needed";
    case ENOMEM:
        return "see ulimit -l: a ring is locked memory";
    case EPERM:
    case ENOSYS:
        return "see sysctl kernel.io_uring_disabled, and the container's seccomp profile";
    default:
        return NULL;
    }
}

static inline _Noreturn void uring_fail(const char *what, int error)
{
    const char *refusal = uring_refusal(error);
    if (refusal != NULL)
        errx(EXIT_UNAVAILABLE, "io_uring: %s: %s (%s)", what, strerror(error), refusal);
    errx(EXIT_FAILURE, "io_uring: %s: %s", what, strerror(error));
}

static inline void uring_create_ring(struct io_uring *ring)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
        .cq_entries = 4 * URING_ENTRIES,
    };
    const int error = io_uring_queue_init_params(URING_ENTRIES, ring, &params);
    if (error < 0)
        uring_fail("cannot set up a ring", -error);
}

/* liburing 2.3 has no io_uring_setup_buf_ring, which does the first half of this. */
static inline void uring_create_buffers(struct uring *uring)
{
    const size_t ring_size = URING_BUFFERS * sizeof(struct io_uring_buf);
    const size_t size = ring_size + (size_t)URING_BUFFERS * URING_BUFFER_SIZE;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (memory == MAP_FAILED)
        err(EXIT_FAILURE, "mmap");

    struct io_uring_buf_reg registration = {
        .ring_addr = (uintptr_t)memory,
        .ring_entries = URING_BUFFERS,
        .bgid = URING_BUFFER_GROUP,
    };
    const int error = io_uring_register_buf_ring(&uring->ring, &registration, 0);
    if (error < 0)
        uring_fail("cannot register buffers", -error);

    uring->buffers = (struct io_uring_buf_ring *)memory;
    uring->memory = (char (*)[URING_BUFFER_SIZE])(memory + ring_size);
    io_uring_buf_ring_init(uring->buffers);
    for (int i = 0; i < URING_BUFFERS; i++)
        io_uring_buf_ring_add(uring->buffers, uring->memory[i], URING_BUFFER_SIZE,
                              (unsigned short)i, URING_BUFFERS - 1, i);
    io_uring_buf_ring_advance(uring->buffers, URING_BUFFERS);
}

/* Registered sockets, each under its own number: an operation need not look up its file, nor count a use of it.
 * Not before Linux 6.13, where a socket stays open until all operations end that began before it was let go: one idle
 * client would keep every closed connection. The first feature that tells is one of 6.14. */
static inline void uring_create_files(struct uring *uring)
{
    enum { FEATURE_RW_ATTR = 1 << 16 }; /* newer than liburing 2.3 */
    struct rlimit limit;
    if ((uring->ring.features & FEATURE_RW_ATTR) == 0)
        return;
    uring->as_files = IOSQE_FIXED_FILE;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        err(EXIT_FAILURE, "getrlimit");
    uring->files = limit.rlim_cur < URING_FILES_MAX ? (unsigned)limit.rlim_cur : URING_FILES_MAX;
    const int error = io_uring_register_files_sparse(&uring->ring, uring->files);
    if (error < 0)
        uring_fail("cannot register files", -error);
}

/* `file` is the socket itself, or -1: no longer registered. */
static inline bool uring_register(struct uring *uring, int socket, int file)
{
    if (uring->as_files == 0)
        return true;
    return (unsigned)socket < uring->files &&
           io_uring_register_files_update(&uring->ring, (unsigned)socket, &file, 1) == 1;
}

static inline void uring_open(struct uring *uring, int listener)
{
    *uring = (struct uring){.listener = listener};
    uring_create_ring(&uring->ring);
    uring_create_buffers(uring);
    uring_create_files(uring);
}

/* The submission queue is emptied when it is full, which only a batch larger than itself makes it. */
static inline struct io_uring_sqe *uring_next_entry(struct uring *uring)
{
    for (;;) {
        struct io_uring_sqe *entry = io_uring_get_sqe(&uring->ring);
        if (entry != NULL)
            return entry;
        const int error = io_uring_submit(&uring->ring);
        if (error < 0 && error != -EINTR && error != -EBUSY && error != -EAGAIN)
            uring_fail("cannot submit", -error);
    }
}

static inline void uring_ask_accept(struct uring *uring)
{
    struct io_uring_sqe *entry = uring_next_entry(uring);
    io_uring_prep_multishot_accept(entry, uring->listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data(entry, uring_pack(NULL, URING_ACCEPT));
}

static inline void uring_ask_receive(struct uring *uring, struct uring_connection *connection)
{
    struct io_uring_sqe *entry = uring_next_entry(uring);
    io_uring_prep_recv_multishot(entry, connection->connection.fd, NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT | uring->as_files;
    entry->buf_group = URING_BUFFER_GROUP;
    io_uring_sqe_set_data(entry, uring_pack(connection, URING_RECEIVE));
    connection->receiving = true;
}

/* Nothing more is to be sent. A receive that is under way ends as if the client had closed. Not by way of the
 * ring, which shuts a socket later, in another thread: by then the descriptor may be another connection's. */
static inline void uring_close(struct uring_connection *connection)
{
    connection->closing = true;
    connection_drop_output(&connection->connection);
    if (connection->receiving)
        shutdown(connection->connection.fd, SHUT_RDWR);
}

static inline void uring_free(struct uring *uring, struct uring_connection *connection)
{
    /* A socket that stays registered stays open. */
    if (!uring_register(uring, connection->connection.fd, -1))
        errx(EXIT_FAILURE, "io_uring: cannot let go of a socket");
    connection_destroy(&connection->connection);
    free(connection);
}

/* Go on with a connection after whatever completed: send what is owed; else receive, or close. */
static inline void uring_advance(struct uring *uring, struct uring_connection *connection)
{
    const char *data;
    const size_t size = connection_output(&connection->connection, &data);

    if (connection->sending)
        return;
    if (size > 0) {
        struct io_uring_sqe *entry = uring_next_entry(uring);
        io_uring_prep_send(entry, connection->connection.fd, data, size,
                           MSG_NOSIGNAL | MSG_WAITALL);
        entry->flags |= uring->as_files;
        io_uring_sqe_set_data(entry, uring_pack(connection, URING_SEND));
        connection->sending = true;
        return;
    }
    if (!connection->closing && connection_all_sent(&connection->connection) == CONNECTION_CLOSE)
        uring_close(connection);
    if (connection->closing && !connection->receiving) {
        uring_free(uring, connection);
    } else if (!connection->closing && !connection->receiving) {
        uring_ask_receive(uring, connection);
    }
}

static inline void uring_on_receive(struct uring *uring, const struct io_uring_cqe *completion)
{
    struct uring_connection *connection = uring_connection(completion);
    /* While a send is under way, the end of the input may be a reset, of which only the send will tell. */
    const bool ask_again =
        completion->res == -ENOBUFS || (completion->res == 0 && connection->sending);

    connection->receiving = (completion->flags & IORING_CQE_F_MORE) != 0;
    if (completion->res > 0) {
        const unsigned short buffer =
            (unsigned short)(completion->flags >> IORING_CQE_BUFFER_SHIFT);
        connection_take(&connection->connection, uring->memory[buffer], (size_t)completion->res);
        io_uring_buf_ring_add(uring->buffers, uring->memory[buffer], URING_BUFFER_SIZE, buffer,
                              URING_BUFFERS - 1, 0);
        io_uring_buf_ring_advance(uring->buffers, 1);
    } else if (!ask_again && !connection->closing) {
        if (!connection->connection.draining)
            connection_count_end(&connection->connection, completion->res);
        if (completion->res < 0 || connection->connection.draining)
            uring_close(connection);
    }
    uring_advance(uring, connection);
}

static inline void uring_on_send(struct uring *uring, const struct io_uring_cqe *completion)
{
    struct uring_connection *connection = uring_connection(completion);

    connection->sending = false;
    if (completion->res >= 0 && !connection->closing) {
        connection_sent(&connection->connection, (size_t)completion->res);
    } else if (!connection->closing) {
        connection_count_end(&connection->connection, completion->res);
        uring_close(connection);
    }
    uring_advance(uring, connection);
}

static inline void uring_start(struct uring *uring, int fd)
{
    struct uring_connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL || !uring_register(uring, fd, fd)) {
        free(connection);
        listener_refuse(fd);
        return;
    }
    connection_init(&connection->connection, fd, &process_counters);
    uring_ask_receive(uring, connection);
}

/* Without a descriptor an accept fails at once, again and again; with the spare one it waits for a connection, which
 * is then served if descriptors have come free, or else refused. */
static inline void uring_on_accept(struct uring *uring, const struct io_uring_cqe *completion)
{
    if (completion->res >= 0) {
        counter_add(&process_counters.accepted, 1);
        const int fd = listener_admit(completion->res);
        if (fd >= 0)
            uring_start(uring, fd);
    } else if ((completion->res == -EMFILE || completion->res == -ENFILE) && listener_spare >= 0) {
        listener_give_up_spare();
    } else {
        listener_pause();
    }
    if (!(completion->flags & IORING_CQE_F_MORE))
        uring_ask_accept(uring);
}

static inline void uring_on_completion(struct uring *uring, const struct io_uring_cqe *completion)
{
    switch (uring_operation(completion)) {
    case URING_ACCEPT:
        uring_on_accept(uring, completion);
        break;
    case URING_RECEIVE:
        uring_on_receive(uring, completion);
        break;
    case URING_SEND:
        uring_on_send(uring, completion);
        break;
    default:
        break;
    }
}

static inline _Noreturn void uring_run(struct uring *uring)
{
    listener_keep_spare();
    uring_ask_accept(uring);
    for (;;) {
        const int error = io_uring_submit_and_wait(&uring->ring, 1);
        if (error < 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY)
            uring_fail("cannot wait", -error);

        struct io_uring_cqe *completion;
        unsigned head, count = 0;
        io_uring_for_each_cqe(&uring->ring, head, completion)
        {
            uring_on_completion(uring, completion);
            count++;
        }
        io_uring_cq_advance(&uring->ring, count);
    }
}
