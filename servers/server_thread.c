/* A blocking thread per connection.
 *
 * System calls per request: recv, send, and a context switch to the next thread. Fails when: memory or the limit of
 * threads runs out, or the scheduler has too many runnable threads to choose from. The server refuses a connection if it
 * cannot start a thread for it. */
#include "common/threads.h"

#include <limits.h>

#ifndef CLIENTS_MAX /* server_thread_50.c sets a limit */
#define CLIENTS_MAX UINT_MAX
#endif

enum { STACK_SIZE = 65536 }; /* bytes: enough for a few nested calls */

/* One thread's state. All of them form a list, so that main can add up their counts at the end. */
struct client {
    struct connection connection;
    struct counters counters;
    struct client *next;
    struct client **link;      /* the pointer that points here */
    char buffer[RECEIVE_SIZE]; /* not on the stack: perf copies only 8 KiB of that */
};

static struct client *clients;
static atomic_uint clients_count;
static struct counters ended; /* the counts of threads that have ended */
/* Taken once per connection, not per request. */
static pthread_mutex_t clients_lock = PTHREAD_MUTEX_INITIALIZER;

static void client_register(struct client *client)
{
    pthread_mutex_lock(&clients_lock);
    clients_count++;
    client->next = clients;
    client->link = &clients;
    if (clients != NULL)
        clients->link = &client->next;
    clients = client;
    pthread_mutex_unlock(&clients_lock);
}

static void client_free(struct client *client)
{
    pthread_mutex_lock(&clients_lock);
    clients_count--;
    *client->link = client->next;
    if (client->next != NULL)
        client->next->link = client->link;
    counters_add(&ended, &client->counters);
    pthread_mutex_unlock(&clients_lock);
    connection_destroy(&client->connection);
    free(client);
}

static void *client_serve(void *argument)
{
    struct client *client = argument;

    while (connection_read(&client->connection, client->buffer) != CONNECTION_CLOSE)
        continue;
    client_free(client);
    return NULL;
}

static bool client_start(int fd, const pthread_attr_t *attributes)
{
    struct client *client = clients_count < CLIENTS_MAX ? malloc(sizeof *client) : NULL;
    pthread_t thread;

    if (client == NULL) {
        close(fd);
        return false;
    }
    client->counters = (struct counters){0};
    connection_init(&client->connection, fd, &client->counters);
    client_register(client);
    if (pthread_create(&thread, attributes, client_serve, client) == 0)
        return true;
    client_free(client);
    return false;
}

static void *serve(void *argument)
{
    const int listener = *(const int *)argument;
    pthread_attr_t attributes;

    if (pthread_attr_init(&attributes) != 0 ||
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) != 0 ||
        pthread_attr_setstacksize(&attributes, STACK_SIZE) != 0)
        errx(EXIT_FAILURE, "cannot set the attributes of threads");
    for (;;) {
        const int fd = listener_accept(listener, 0);
        if (fd >= 0 && !client_start(fd, &attributes))
            counter_add(&process_counters.refused_connections, 1);
    }
    return NULL;
}

static void add_counts(struct counters *total)
{
    pthread_mutex_lock(&clients_lock); /* for good: no thread may end any more */
    for (struct client *client = clients; client != NULL; client = client->next)
        counters_add(total, &client->counters);
    counters_add(total, &ended);
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);

    threads_run(&options, 0, serve, add_counts);
}
