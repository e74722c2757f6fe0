/* Quiet sends of io_uring. One either takes all bytes at once, in the call that submits it, and then does not complete. Or
 * it completes with an error in that same call, before any receive that the call waits for. So no completion of a send
 * ends a wait, and a lone connection needs one call per request.
 *
 * Whether a quiet send succeeded is known in the next batch of completions, not before. A client that has to be served in
 * between is served once more after that batch. */
#pragma once

#include "connection.h"
#include "uring.h"

enum { QUIET_MAX = 4096 }; /* bytes: more might not fit into a socket at once */

struct quiet {
    size_t size;    /* bytes that are not accounted for; 0: there is no quiet send */
    unsigned batch; /* in which it was queued */
    bool is_slow;   /* the socket was full: no quiet send until another has completed */
    bool is_again;  /* in the list of those to serve once more */
    void *next;     /* in that list */
};

static unsigned quiet_batch; /* of completions, counted */
static void *quiet_again;    /* the list of clients to serve once more; NULL: none */

/* Not for the last answer, whose end we have to know, nor for a part of what is owed: nothing would make us send the
 * rest. */
static inline bool quiet_is_possible(const struct quiet *quiet, const struct connection *connection,
                                     size_t size)
{
    return size == connection->owed && connection->later_runs == NULL && size <= QUIET_MAX &&
           !quiet->is_slow && !connection->ending;
}

static inline void quiet_begin(struct quiet *quiet, struct io_uring_sqe *entry, size_t size)
{
    entry->msg_flags |= MSG_DONTWAIT;
    entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    quiet->size = size;
    quiet->batch = quiet_batch;
}

/* Account for one of an earlier batch. false: it is of this batch, so we do not know yet how it ends. */
static inline bool quiet_settle(struct quiet *quiet, struct connection *connection)
{
    if (quiet->size > 0 && quiet->batch == quiet_batch)
        return false;
    if (quiet->size > 0 && connection->owed > 0)
        connection_sent(connection, quiet->size);
    quiet->size = 0;
    return true;
}

/* A send has completed: a quiet one only if it failed. Returns the bytes sent, or an error that is no full socket. */
static inline int quiet_on_completion(struct quiet *quiet, bool was_quiet, int result)
{
    quiet->size = 0;
    quiet->is_slow = was_quiet;
    return was_quiet && result == -EAGAIN ? 0 : result;
}

static inline void quiet_serve_later(struct quiet *quiet, void *client)
{
    if (quiet->is_again)
        return;
    quiet->is_again = true;
    quiet->next = quiet_again;
    quiet_again = client;
}

/* Takes a client out of the list. Returns the next one. */
static inline void *quiet_take_next(struct quiet *quiet)
{
    quiet->is_again = false;
    return quiet->next;
}
