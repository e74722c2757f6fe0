/* The schedule: when each request is intended to start, drawn before the run from the seed alone. Times are in
 * nanoseconds from the start of the measured window; the warm-up is before 0.
 *
 * One process is drawn, and each request of it is dealt to a thread: a thinned Poisson process is a Poisson process. So
 * the schedule as a whole does not depend on the number of threads. */
#pragma once

#include "options.h"
#include "random.h"

enum outcome {
    UNSENT,
    UNDER_WAY,
    ANSWERED, /* correctly */
    WRONG,    /* with another status than 200, or a body of another size than the user expects */
    TIMED_OUT,
    FAILED, /* the connection broke, or what came is no answer */
};

struct request {
    int64_t due;      /* the intended start */
    int64_t sent;     /* the actual start; valid unless UNSENT */
    int64_t end;      /* of the answer, or of our patience; valid if ANSWERED, WRONG or TIMED_OUT */
    uint32_t late_ns; /* how long we could have sent it but did not; at most UINT32_MAX */
    uint8_t outcome;
};

/* The requests of one thread to one target, in the order of their intended starts. */
struct plan {
    struct request *requests;
    size_t count;
};

struct schedule {
    struct random gaps, threads;
    double gap_ns, at_ns;
    int64_t begin, end, slice;
    uint64_t drawn;
    bool is_fixed;
    int targets;
    uint32_t thread_count;
};

static inline int64_t schedule_ns(double seconds)
{
    return (int64_t)llround(seconds * 1e9);
}

static inline struct schedule schedule_from(const struct options *options)
{
    return (struct schedule){
        .gaps = random_from(options->seed, 1),
        .threads = random_from(options->seed, 2),
        .gap_ns = 1e9 / options->rate,
        .begin = -schedule_ns(options->warmup_s),
        .end = schedule_ns(options->duration_s),
        .slice = (int64_t)(options->slice_ms * 1e6),
        .is_fixed = options->is_fixed,
        .targets = options->targets,
        .thread_count = (uint32_t)options->threads,
    };
}

/* The next intended start. Fixed gaps do not accumulate what rounding takes off each. */
static inline int64_t schedule_next(struct schedule *schedule)
{
    if (schedule->is_fixed)
        schedule->at_ns = (double)schedule->drawn * schedule->gap_ns;
    else
        schedule->at_ns += random_exponential(&schedule->gaps) * schedule->gap_ns;
    schedule->drawn++;
    return schedule->begin + (int64_t)llround(schedule->at_ns);
}

/* The targets take turns, the first one first, from the start of the warm-up on. */
static inline int schedule_target(const struct schedule *schedule, int64_t due)
{
    return (int)((due - schedule->begin) / schedule->slice % schedule->targets);
}

/* The thread of the request drawn last. Fixed gaps stay fixed in each thread. */
static inline uint32_t schedule_thread(struct schedule *schedule)
{
    return schedule->is_fixed ? (uint32_t)((schedule->drawn - 1) % schedule->thread_count)
                              : random_below(&schedule->threads, schedule->thread_count);
}

/* How much of the measured window belongs to a target. */
static inline int64_t schedule_window(const struct schedule *schedule, int target)
{
    int64_t sum = 0;

    if (schedule->targets == 1)
        return schedule->end;
    for (int64_t at = schedule->begin; at < schedule->end; at += schedule->slice) {
        const int64_t from = at > 0 ? at : 0, to = at + schedule->slice;
        if (schedule_target(schedule, at) == target && to > from)
            sum += (to < schedule->end ? to : schedule->end) - from;
    }
    return sum;
}

/* Count the requests of each plan, or fill the plans: the same seed draws the same again. */
static inline void schedule_draw(struct schedule schedule, struct plan *plans)
{
    for (int64_t due; (due = schedule_next(&schedule)) < schedule.end;) {
        const uint32_t thread = schedule_thread(&schedule);
        struct plan *const plan =
            &plans[thread * (uint32_t)schedule.targets + (uint32_t)schedule_target(&schedule, due)];
        if (plan->requests != NULL)
            plan->requests[plan->count] = (struct request){.due = due};
        plan->count++;
    }
}

/* plans: of each target of the first thread, of the second … Their memory is touched here, not while we measure. */
static inline void schedule_make(const struct schedule *schedule, struct plan *plans)
{
    schedule_draw(*schedule, plans);
    for (uint32_t i = 0; i < schedule->thread_count * (uint32_t)schedule->targets; i++) {
        plans[i].requests = calloc(plans[i].count + 1, sizeof *plans[i].requests);
        if (plans[i].requests == NULL)
            err(EXIT_FAILURE, "cannot keep the schedule");
        plans[i].count = 0;
    }
    schedule_draw(*schedule, plans);
}
