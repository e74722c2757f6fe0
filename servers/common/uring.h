/* What the servers on io_uring need around their loop: the ring, the buffers that it receives into, registered sockets.
 * Linux 6.1 or newer. */
#pragma once

#include "handler.h"

#include <err.h>
#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum {
    EXIT_UNAVAILABLE = 69, /* EX_UNAVAILABLE of sysexits.h: this machine refuses io_uring */
    URING_ENTRIES = 1024,  /* a ring is locked memory: the usual limit, 8 MiB, allows some 50 */
    URING_BUFFERS = 512,   /* a power of two; without a free one, a receive is submitted again */
    /* Not a multiple of the page size: otherwise the buffers would compete for the same few places in the CPU's caches. */
    URING_BUFFER_SIZE = 2048 + 64,
    URING_BUFFER_GROUP = 0,
    URING_FILES_MAX = 1 << 20, /* the kernel registers no more */
    URING_IDLE_MS = 1,         /* how long the kernel's thread polls in vain before it sleeps */
};

struct uring {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    char (*memory)[URING_BUFFER_SIZE]; /* the buffers themselves */
    unsigned files;                    /* how many sockets can be registered; 0: we register none */
    unsigned char file_flag;           /* IOSQE_FIXED_FILE if we register sockets, else 0 */
};

/* Why a machine refuses io_uring, and where to change that; NULL: the error has another cause. */
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

/* `result` is what a call to the ring returned. Some errors only mean that the caller has to try again. */
static inline void uring_check(const char *what, int result)
{
    if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY)
        uring_fail(what, -result);
}

/* `flags`: IORING_SETUP_*. */
static inline void uring_create_ring(struct io_uring *ring, unsigned flags)
{
    struct io_uring_params params = {
        .flags = flags | IORING_SETUP_CQSIZE,
        .cq_entries = 4 * URING_ENTRIES,
        .sq_thread_idle = URING_IDLE_MS, /* only with IORING_SETUP_SQPOLL */
    };
    const int error = io_uring_queue_init_params(URING_ENTRIES, ring, &params);
    if (error < 0)
        uring_fail("cannot set up a ring", -error);
}

/* liburing 2.3 lacks io_uring_setup_buf_ring, which does the first half of this. */
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

/* The kernel may fill this buffer again. */
static inline void uring_return_buffer(struct uring *uring, unsigned short buffer)
{
    io_uring_buf_ring_add(uring->buffers, uring->memory[buffer], URING_BUFFER_SIZE, buffer,
                          URING_BUFFERS - 1, 0);
    io_uring_buf_ring_advance(uring->buffers, 1);
}

/* Make room for registered sockets, each under its own descriptor's number. An operation on one need neither look up its
 * file nor count a reference to it. Linux before 6.13 gets none: there a closed socket stays open until all operations
 * end that began before, so that one idle client would keep every closed connection open. No feature flag came with 6.13,
 * so we ask for one that came with 6.14. */
static inline void uring_create_files(struct uring *uring)
{
    enum { FEATURE_RW_ATTR = 1 << 16 }; /* liburing 2.3 does not have it yet */
    struct rlimit limit;
    if ((uring->ring.features & FEATURE_RW_ATTR) == 0)
        return;
    uring->file_flag = IOSQE_FIXED_FILE;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        err(EXIT_FAILURE, "getrlimit");
    uring->files = limit.rlim_cur < URING_FILES_MAX ? (unsigned)limit.rlim_cur : URING_FILES_MAX;
    const int error = io_uring_register_files_sparse(&uring->ring, uring->files);
    if (error < 0)
        uring_fail("cannot register files", -error);
}

/* `file`: the socket itself, or -1 to end its registration. */
static inline bool uring_set_file(struct uring *uring, int socket, int file)
{
    if (uring->file_flag == 0)
        return true;
    return (unsigned)socket < uring->files &&
           io_uring_register_files_update(&uring->ring, (unsigned)socket, &file, 1) == 1;
}

static inline bool uring_register(struct uring *uring, int socket)
{
    return uring_set_file(uring, socket, socket);
}

static inline void uring_unregister(struct uring *uring, int socket)
{
    if (!uring_set_file(uring, socket, -1)) /* a socket that stays registered stays open */
        errx(EXIT_FAILURE, "io_uring: cannot unregister a socket");
}

static inline void uring_open(struct uring *uring)
{
    uring_create_ring(&uring->ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    uring_create_buffers(uring);
    uring_create_files(uring);
}

/* A batch may be larger than the submission queue: if that is full, submit what is in it. */
static inline struct io_uring_sqe *uring_next_entry(struct uring *uring)
{
    for (;;) {
        struct io_uring_sqe *entry = io_uring_get_sqe(&uring->ring);
        if (entry != NULL)
            return entry;
        uring_check("cannot submit", io_uring_submit(&uring->ring));
        uring_check("cannot submit", io_uring_sqring_wait(&uring->ring)); /* only with SQPOLL */
    }
}

/* If the next request's handler takes long, the answers to others must not wait for it. */
static inline void uring_submit_before_handler(struct uring *uring)
{
    if (handler.every > 0)
        uring_check("cannot submit", io_uring_submit(&uring->ring));
}

/* A completion returns 64 bits of ours: the client's address, and the operation (0 to 7) in its low bits. */
enum { URING_OPERATION_MASK = 7 };

static inline void *uring_pack(void *client, unsigned operation)
{
    return (void *)((uintptr_t)client | operation);
}

static inline unsigned uring_operation(const struct io_uring_cqe *completion)
{
    return completion->user_data & URING_OPERATION_MASK;
}

static inline void *uring_client(const struct io_uring_cqe *completion)
{
    return (void *)(uintptr_t)(completion->user_data & ~(uint64_t)URING_OPERATION_MASK);
}
