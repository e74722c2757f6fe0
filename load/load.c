/* An HTTP load generator with an open loop: it sends requests at intended times, whether or not the server keeps up.
 *
 * The latency of a request counts from its intended start, so a server that stops for a while shows in all requests that
 * were due meanwhile, not only in those that were under way. docs/load.md says what it prints and what that means.
 *
 * Try it: load --url 'http://[::1]:8080/' --connections 64 --rate 5000 --duration-s 2 --seed 1
 * link: -lm */
#include "latencies.h"
#include "loop.h"
#include "output.h"

#include <sys/prctl.h>

/* How long after the last thread is ready the schedule starts. */
#define LEAD_NS INT64_C(1000000)

/* All threads of this process. */
static struct options options;
static struct run run = {.options = &options};
static struct worker *workers;
static int worker_count;

static void check(int error, const char *what)
{
    if (error != 0)
        errx(EXIT_FAILURE, "%s: %s", what, strerror(error));
}

/* The threads share out the connections to each target; the first ones may have one more. */
static void make_worker(struct worker *worker, int index, const struct plan *plans)
{
    const int connections = (int)options.connections, threads = worker_count;
    const int its = connections / threads + (index < connections % threads);

    worker->run = &run;
    worker->lane_count = options.targets;
    worker->connection_count = its * options.targets;
    worker->connections = calloc((size_t)worker->connection_count, sizeof *worker->connections);
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (worker->connections == NULL || worker->epoll < 0)
        err(EXIT_FAILURE, "cannot make the connections");
    list_init(&worker->deadlines);
    list_init(&worker->broken);
    list_init(&worker->unserved);
    for (int target = 0; target < options.targets; target++) {
        struct lane *const lane = &worker->lanes[target];
        lane->plan = plans[target];
        lane->open = lane->plan.count;
        lane->url = &options.urls[target];
        lane->connection_count = its;
        list_init(&lane->free);
    }
    for (int i = 0; i < worker->connection_count; i++) {
        list_init(&worker->connections[i].link);
        worker->connections[i].lane = &worker->lanes[i % options.targets];
        worker->connections[i].fd = -1;
    }
}

static void make_workers(void)
{
    struct plan *const plans =
        calloc((size_t)worker_count * (size_t)options.targets, sizeof *plans);

    workers = calloc((size_t)worker_count, sizeof *workers);
    if (plans == NULL || workers == NULL)
        err(EXIT_FAILURE, "cannot make the threads");
    schedule_make(&run.schedule, plans);
    for (int i = 0; i < worker_count; i++)
        make_worker(&workers[i], i, &plans[i * options.targets]);
    free(plans);
}

/* A target without a single answer cannot be measured. */
static void check_target(int target)
{
    int error = 0;

    for (int i = 0; i < worker_count; i++) {
        if (workers[i].lanes[target].unserved < workers[i].lanes[target].connection_count)
            return;
        if (workers[i].open_error != 0)
            error = workers[i].open_error;
    }
    if (error != 0)
        errx(EXIT_FAILURE, "cannot connect to %.200s: %s", options.urls[target].text,
             strerror(error));
    errx(EXIT_FAILURE, "%.200s gave no valid answer within %g s", options.urls[target].text,
         options.timeout_s);
}

/* One thread does this, while the others wait. */
static void set_epoch(void)
{
    for (int target = 0; target < options.targets; target++)
        check_target(target);
    run.epoch = clock_now_ns() + LEAD_NS - run.schedule.begin;
}

static void *work(void *argument)
{
    struct worker *const worker = argument;

    loop_open(worker);
    if (pthread_barrier_wait(&run.barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
        set_epoch();
    (void)pthread_barrier_wait(&run.barrier); /* it only says which thread came last */
    loop_set_epoch(worker, run.epoch);
    loop_run(worker);
    return NULL;
}

static void run_workers(void)
{
    check(pthread_barrier_init(&run.barrier, NULL, (unsigned)worker_count), "barrier");
    for (int i = 0; i < worker_count; i++)
        check(pthread_create(&workers[i].thread, NULL, work, &workers[i]), "cannot start a thread");
    for (int i = 0; i < worker_count; i++)
        check(pthread_join(workers[i].thread, NULL), "cannot end a thread");
}

static void free_workers(void)
{
    for (int i = 0; i < worker_count; i++) {
        for (int at = 0; at < workers[i].connection_count; at++)
            connection_close(&workers[i].connections[at]);
        (void)close(workers[i].epoll); /* nothing is left to lose */
        for (int target = 0; target < options.targets; target++)
            free(workers[i].lanes[target].plan.requests);
        free(workers[i].connections);
    }
    free(workers);
}

int main(int argc, char **argv)
{
    options_parse(&options, argc, argv);
    run.schedule = schedule_from(&options);
    run.end = schedule_ns(options.duration_s);
    run.timeout = schedule_ns(options.timeout_s);
    run.spin = (int64_t)(options.spin_us * 1e3);
    worker_count = (int)options.threads;
    if (prctl(PR_SET_TIMERSLACK, 1) < 0) /* threads inherit it */
        err(EXIT_FAILURE, "prctl");

    make_workers();
    run_workers();
    if (options.latencies != NULL)
        latencies_write(workers, worker_count, options.latencies);
    output_run(workers, worker_count);
    free_workers();
    return EXIT_SUCCESS;
}
