/* One epoll loop that hands each connection that is ready to a pool of threads.
 *
 * System calls per request: recv, send, epoll_ctl to watch the connection again, a share of one epoll_wait, and a futex
 * call or two to wake a thread. Fails when: handing over costs more than the request itself; or more requests wait in
 * their handlers than there are threads, and then all others wait for these. */
#include "common/threads.h"

#include <sys/epoll.h>

enum {
    BATCH = 512,  /* events that one call returns at most */
    THREADS = 32, /* as many as a thread pool of nginx has */
};

struct client {
    struct connection connection;
    struct client *next; /* in the queue */
};

static int epoll;                  /* the set of watched sockets */
static struct client *first_ready; /* the queue of clients that wait for a thread */
static struct client **last_ready = &first_ready;
static int idle_threads;
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER; /* for the three above */
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static struct counters thread_counters[THREADS];

/* The kernel reports the socket once, and then no more until we watch it again. So only one thread has a client. */
static bool watch(struct client *client, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events | EPOLLONESHOT, .data.ptr = client};
    return epoll_ctl(epoll, operation, client->connection.fd, &event) == 0;
}

static void drop(struct client *client)
{
    connection_destroy(&client->connection); /* closing a socket removes it from the set */
    free(client);
}

static void accept_all(int listener)
{
    for (int fd; (fd = listener_accept(listener, SOCK_NONBLOCK)) >= 0;) {
        struct client *client = malloc(sizeof *client);
        if (client == NULL) {
            listener_refuse(fd);
            continue;
        }
        connection_init(&client->connection, fd, &process_counters);
        if (!watch(client, EPOLL_CTL_ADD, EPOLLIN)) {
            counter_add(&process_counters.refused_connections, 1);
            drop(client);
        }
    }
}

static void serve_connection(struct client *client, char *buffer)
{
    struct connection *connection = &client->connection;
    const enum connection_next next = connection_is_writing(connection)
                                          ? connection_write(connection)
                                          : connection_read(connection, buffer);

    if (next == CONNECTION_CLOSE ||
        !watch(client, EPOLL_CTL_MOD, next == CONNECTION_WRITE ? EPOLLOUT : EPOLLIN))
        drop(client);
}

static struct client *wait_for_client(void)
{
    pthread_mutex_lock(&queue_lock);
    idle_threads++;
    while (first_ready == NULL)
        pthread_cond_wait(&queue_filled, &queue_lock);
    idle_threads--;
    struct client *client = first_ready;
    first_ready = client->next;
    if (first_ready == NULL)
        last_ready = &first_ready;
    pthread_mutex_unlock(&queue_lock);
    return client;
}

static void *work(void *counters)
{
    static _Thread_local char buffer[RECEIVE_SIZE];

    for (;;) {
        struct client *client = wait_for_client();
        client->connection.counters = counters;
        serve_connection(client, buffer);
    }
    return NULL;
}

/* Hand over all clients of a batch at once, and wake as many threads as that needs. */
static void queue_clients(const struct epoll_event *events, int ready)
{
    int queued = 0;

    pthread_mutex_lock(&queue_lock);
    for (int i = 0; i < ready; i++) {
        struct client *client = events[i].data.ptr;
        if (client == NULL)
            continue;
        client->next = NULL;
        *last_ready = client;
        last_ready = &client->next;
        queued++;
    }
    const int woken = queued < idle_threads ? queued : idle_threads;
    pthread_mutex_unlock(&queue_lock);
    for (int i = 0; i < woken; i++)
        pthread_cond_signal(&queue_filled);
}

static void start_threads(void)
{
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, &thread_counters[i]) != 0)
            errx(EXIT_FAILURE, "cannot start %d threads", THREADS);
    }
}

static void *serve(void *argument)
{
    static struct epoll_event events[BATCH];
    const int listener = *(const int *)argument;
    struct epoll_event accepting = {.events = EPOLLIN, .data.ptr = NULL};

    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &accepting) < 0)
        err(EXIT_FAILURE, "epoll");
    start_threads();
    for (;;) {
        const int ready = epoll_wait(epoll, events, BATCH, -1);
        if (ready < 0 && errno != EINTR)
            err(EXIT_FAILURE, "epoll_wait");
        queue_clients(events, ready);
        for (int i = 0; i < ready; i++)
            if (events[i].data.ptr == NULL)
                accept_all(listener);
    }
    return NULL;
}

static void add_counts(struct counters *total)
{
    for (int i = 0; i < THREADS; i++)
        counters_add(total, &thread_counters[i]);
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);

    threads_run(&options, SOCK_NONBLOCK, serve, add_counts);
}
