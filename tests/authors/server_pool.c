/* A pool of threads that take connections from a queue. */
#include "common/listener.h"

#include <pthread.h>

#define POOL_SIZE 8
#define QUEUE_SIZE 256

static int queue[QUEUE_SIZE];
static size_t head, tail;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static pthread_cond_t emptied = PTHREAD_COND_INITIALIZER;

static void put(int fd)
{
    pthread_mutex_lock(&lock);
    while (tail - head == QUEUE_SIZE)
        pthread_cond_wait(&emptied, &lock);
    queue[tail++ % QUEUE_SIZE] = fd;
    pthread_cond_signal(&filled);
    pthread_mutex_unlock(&lock);
}

static int take(void)
{
    pthread_mutex_lock(&lock);
    while (tail == head)
        pthread_cond_wait(&filled, &lock);
    int fd = queue[head++ % QUEUE_SIZE];
    pthread_cond_signal(&emptied);
    pthread_mutex_unlock(&lock);
    return fd;
}

static void *work(void *unused)
{
    static const char response[] = "HTTP/1.1 200 OK\r\nServer: pool\r\nContent-Length: 13\r\n"
                                   "Connection: keep-alive\r\n\r\nHello, World!";
    char buffer[4096];
    (void)unused;
    for (;;) {
        int fd = take();
        ssize_t got;
        while ((got = recv(fd, buffer, sizeof buffer - 1, 0)) > 0) {
            buffer[got] = '\0';
            if (strstr(buffer, "\r\n\r\n") && send(fd, response, sizeof response - 1, MSG_NOSIGNAL) < 0)
                break;
        }
        close(fd);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const struct options options = options_parse(argc, argv);
    const int listener = listener_open(&options, 0, false);
    for (int i = 0; i < POOL_SIZE; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, NULL) != 0)
            errx(EXIT_FAILURE, "no thread");
    }
    listener_announce(listener, &options);
    for (;;)
        put(accept(listener, NULL, NULL));
}
