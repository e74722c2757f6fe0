/* A server with a thread per connection that does right until it has been checked, and then what its name says:
 * the tests copy it to server_starves, server_wrong_body, and so on. It takes whatever arrives for one request. */
#include "common/connection.h"
#include "common/listener.h"

#include <pthread.h>

static const char error[] = "HTTP/1.1 500 Oh No\r\nContent-Length: 0\r\n\r\n";
static const char wrong[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n"
    "Hello, Wurld!";
static const double fault_after_s = 0.6; /* of the first request: in the middle of the timed run */

static const char *fault;
static atomic_uint requests;
static struct timespec first;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static bool is(const char *name)
{
    return strcmp(fault, name) == 0;
}

static bool is_late(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - first.tv_sec) + (double)(now.tv_nsec - first.tv_nsec) / 1e9 >
           fault_after_s;
}

/* false: close the connection */
static bool answer(int fd)
{
    const unsigned number = ++requests;
    const char *response = answers[ANSWER].data;
    size_t size = answers[ANSWER].size;

    if (number == 1)
        clock_gettime(CLOCK_MONOTONIC, &first);
    if (is("crashes") && is_late())
        abort();
    if (is("hangs") && is_late())
        for (;;)
            pause();
    if (is("segfaults") && number == 1000)
        raise(SIGSEGV);
    if (is("mute"))
        for (;;)
            pause();
    if (is("wrong_body") && number > 2)
        response = wrong;
    if (is("errors") && number % 20 == 0) {
        response = error;
        size = sizeof error - 1;
    }
    if (send(fd, response, size, MSG_NOSIGNAL) != (ssize_t)size)
        return false;
    return !(is("closes") && number > 2);
}

static void *serve(void *argument)
{
    const int fd = (int)(intptr_t)argument;
    char buffer[1024];

    if (is("starves"))
        pthread_mutex_lock(&turn);
    while (recv(fd, buffer, sizeof buffer, 0) > 0 && answer(fd))
        continue;
    if (is("starves"))
        pthread_mutex_unlock(&turn);
    close(fd);
    return NULL;
}

static void end(int signal_number)
{
    (void)signal_number;
    _exit(EXIT_SUCCESS);
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, 0, false);

    fault = program_invocation_short_name + strlen("server_");
    signal(SIGTERM, end);
    connection_set_workload(&options);
    listener_announce(listener, &options);
    for (;;) {
        const int fd = accept(listener, NULL, NULL);
        pthread_t thread;
        if (fd < 0 || pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) != 0 ||
            pthread_detach(thread) != 0)
            err(EXIT_FAILURE, "cannot serve");
    }
}
