/* The file of all requests that were due in the window, in the order of their intended starts: of each the intended start,
 * the actual start and the end, as three little-endian 64-bit integers, in nanoseconds from the start of the window. -1
 * stands for a start or an end that never came. */
#pragma once

#include "results.h"

#include <endian.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>

struct record {
    int64_t due, sent, end;
};

static inline int record_compare(const void *a, const void *b)
{
    return results_compare(&((const struct record *)a)->due, &((const struct record *)b)->due);
}

static inline struct record record_of(const struct request *request)
{
    const int64_t sent = request->outcome == UNSENT ? -1 : request->sent;
    const int64_t end = request_is_answered(request) ? request->end : -1;
    return (struct record){request->due, sent, end};
}

static inline size_t records_collect(const struct worker *workers, int worker_count,
                                     struct record *records)
{
    size_t count = 0;

    for (int i = 0; i < worker_count; i++)
        for (int target = 0; target < workers[i].lane_count; target++) {
            const struct plan *const plan = &workers[i].lanes[target].plan;
            for (size_t at = 0; at < plan->count; at++) {
                if (plan->requests[at].due < 0)
                    continue;
                if (records != NULL)
                    records[count] = record_of(&plan->requests[at]);
                count++;
            }
        }
    return count;
}

static inline void records_sort(struct record *records, size_t count)
{
    qsort(records, count, sizeof *records, record_compare);
    for (size_t i = 0; i < count; i++) {
        records[i].due = (int64_t)htole64((uint64_t)records[i].due);
        records[i].sent = (int64_t)htole64((uint64_t)records[i].sent);
        records[i].end = (int64_t)htole64((uint64_t)records[i].end);
    }
}

static inline bool records_write(int fd, const struct record *records, size_t count)
{
    const char *at = (const char *)records, *const end = (const char *)(records + count);

    while (at < end) {
        const ssize_t written = write(fd, at, (size_t)(end - at));
        if (written < 0 && errno != EINTR)
            return false;
        at += written > 0 ? written : 0;
    }
    return true;
}

/* Beside the file, so that it takes its place whole; a signal that ends us waits meanwhile. */
static inline void records_replace_file(const char *path, const struct record *records,
                                        size_t count)
{
    char temporary[PATH_MAX];
    const int size = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (size < 0 || (size_t)size >= sizeof temporary)
        errx(EXIT_FAILURE, "--latencies: the name is too long");
    const int fd = mkstemp(temporary);
    if (fd < 0)
        err(EXIT_FAILURE, "--latencies: cannot write '%s'", path);
    const mode_t mask = umask(0);
    const bool is_written = records_write(fd, records, count) && fchmod(fd, 0666 & ~mask) == 0;
    if (close(fd) < 0 || !is_written || rename(temporary, path) < 0) {
        const int error = errno;
        (void)unlink(temporary);
        errno = error;
        err(EXIT_FAILURE, "--latencies: cannot write '%s'", path);
    }
}

static inline void latencies_write(const struct worker *workers, int worker_count, const char *path)
{
    sigset_t all;
    const size_t count = records_collect(workers, worker_count, NULL);
    struct record *const records = calloc(count + 1, sizeof *records);

    if (records == NULL || sigfillset(&all) < 0 || sigprocmask(SIG_BLOCK, &all, NULL) < 0)
        err(EXIT_FAILURE, "--latencies");
    records_collect(workers, worker_count, records);
    records_sort(records, count);
    records_replace_file(path, records, count);
    free(records);
    if (sigprocmask(SIG_UNBLOCK, &all, NULL) < 0)
        err(EXIT_FAILURE, "--latencies");
}
