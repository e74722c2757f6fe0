/* The command line. */
#pragma once

#include "clock.h"
#include "url.h"

#include <getopt.h>
#include <stddef.h>
#include <sys/resource.h>

#define RATE_MAX 1e7       /* requests per second */
#define REQUESTS_MAX 20e6  /* in a run, 32 bytes each */
#define DURATION_MAX_S 1e5 /* more than a day */

enum {
    TARGETS_MAX = 2,
    CONNECTIONS_MAX = 1000000,
    THREADS_MAX = 256,
    DESCRIPTORS_SPARE = 32, /* for all but the connections and the threads */
    OPTION_HELP = 256,
};

struct options {
    struct url urls[TARGETS_MAX];
    int targets;
    double connections, threads, body_bytes; /* whole numbers; body_bytes < 0: any */
    double rate, duration_s, warmup_s, timeout_s, spin_us, slice_ms;
    uint64_t seed;
    bool has_seed;
    bool is_fixed; /* the gaps */
    const char *latencies;
};

/* `least` itself is allowed if it is not 0, or if the option may be 0. */
struct number_option {
    const char *name;
    size_t offset; /* in struct options */
    double least, most;
    bool is_whole;
};

#define NUMBER(name, member, ...) {name, offsetof(struct options, member), __VA_ARGS__}

static const struct number_option number_options[] = {
    NUMBER("connections", connections, 1, CONNECTIONS_MAX, true),
    NUMBER("threads", threads, 1, THREADS_MAX, true),
    NUMBER("body-bytes", body_bytes, 0, 1e12, true),
    NUMBER("rate", rate, 1e-3, RATE_MAX, false),
    NUMBER("duration-s", duration_s, 1e-3, DURATION_MAX_S, false),
    NUMBER("warmup-s", warmup_s, 0, DURATION_MAX_S, false),
    NUMBER("timeout-s", timeout_s, 1e-3, DURATION_MAX_S, false),
    NUMBER("spin-us", spin_us, 0, 1e6, false),
    NUMBER("slice-ms", slice_ms, 0.1, 1e6, false),
};

static inline void options_print_usage(void)
{
    puts(
        "usage: load --url URL --connections N --rate R --duration-s S --seed K [OPTION VALUE]...\n"
        "Send HTTP requests at intended times, whether or not the server keeps up, and print one "
        "line of JSON.\n"
        "  --url URL          http://HOST:PORT/PATH; twice: two targets in alternating slices of "
        "time\n"
        "  --connections N    connections to each target\n"
        "  --rate R           requests per second\n"
        "  --duration-s S     time measured\n"
        "  --seed K           whole number that determines the intended times\n"
        "  --gaps KIND        poisson (default) or fixed\n"
        "  --warmup-s W       time before, which is not measured (default 0)\n"
        "  --threads T        threads, which share out the connections (default 1)\n"
        "  --body-bytes B     a body of another size is an error (default: any size)\n"
        "  --timeout-s X      longest wait for an answer (default 2)\n"
        "  --spin-us U        spin instead of sleeping so long before an intended time (default "
        "50)\n"
        "  --slice-ms M       length of a slice with two targets (default 20)\n"
        "  --latencies FILE   write the times of every request\n"
        "docs/load.md has more.");
}

static inline void options_take_number(struct options *options, const struct number_option *option,
                                       const char *text)
{
    char *end;
    errno = 0;
    const double number = strtod(text, &end);
    const bool is_plain = *text != '\0' && strspn(text, "0123456789.eE+-") == strlen(text);

    if (errno != 0 || !is_plain || *end != '\0' ||
        !(number >= option->least && number <= option->most) ||
        (option->is_whole && number != (double)(int64_t)number))
        errx(EXIT_USAGE, "--%s: '%.100s' is not a %snumber from %g to %.12g", option->name, text,
             option->is_whole ? "whole " : "", option->least, option->most);
    memcpy((char *)options + option->offset, &number, sizeof number);
}

static inline void options_take_seed(struct options *options, const char *text)
{
    char *end;
    errno = 0;
    options->seed = strtoull(text, &end, 10);
    if (errno != 0 || *text == '\0' || strspn(text, "0123456789") != strlen(text))
        errx(EXIT_USAGE, "--seed: '%.100s' is not a whole number from 0 to 2^64 - 1", text);
    options->has_seed = true;
}

static inline void options_take_url(struct options *options, const char *text)
{
    if (options->targets == TARGETS_MAX)
        errx(EXIT_USAGE, "--url: at most %d targets", TARGETS_MAX);
    url_parse(&options->urls[options->targets++], text);
}

static inline void options_take_gaps(struct options *options, const char *text)
{
    options->is_fixed = strcmp(text, "fixed") == 0;
    if (!options->is_fixed && strcmp(text, "poisson") != 0)
        errx(EXIT_USAGE, "--gaps: '%.100s' is neither poisson nor fixed", text);
}

static inline void options_take(struct options *options, const char *name, const char *text)
{
    for (size_t i = 0; i < sizeof number_options / sizeof *number_options; i++)
        if (strcmp(number_options[i].name, name) == 0)
            return options_take_number(options, &number_options[i], text);
    if (strcmp(name, "url") == 0)
        options_take_url(options, text);
    else if (strcmp(name, "seed") == 0)
        options_take_seed(options, text);
    else if (strcmp(name, "gaps") == 0)
        options_take_gaps(options, text);
    else
        options->latencies = text;
}

/* As many descriptors as we may have, if the connections need more than we have. */
static inline void options_raise_descriptors(const struct options *options)
{
    struct rlimit limit;
    const double needed =
        options->connections * options->targets + options->threads + DESCRIPTORS_SPARE;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        err(EXIT_FAILURE, "getrlimit");
    if (needed > (double)limit.rlim_max)
        errx(EXIT_USAGE, "--connections: they need %.0f descriptors, the limit is %ju (ulimit -Hn)",
             needed, (uintmax_t)limit.rlim_max);
    if (needed <= (double)limit.rlim_cur)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        err(EXIT_FAILURE, "setrlimit");
}

static inline void options_check(const struct options *options)
{
    const double requests = options->rate * (options->duration_s + options->warmup_s);
    const char *const missing = options->targets == 0       ? "url"
                                : options->connections == 0 ? "connections"
                                : options->rate == 0        ? "rate"
                                : options->duration_s == 0  ? "duration-s"
                                : !options->has_seed        ? "seed"
                                                            : NULL;
    if (missing != NULL)
        errx(EXIT_USAGE, "--%s is missing; see --help", missing);
    if (requests > REQUESTS_MAX)
        errx(EXIT_USAGE, "--rate: %.0f requests in a run, at most %.0f fit", requests,
             REQUESTS_MAX);
    if (options->threads > options->connections)
        errx(EXIT_USAGE, "--threads: each needs a connection");
    if (options->targets > 1 && options->duration_s * 1000 < 2 * options->slice_ms)
        errx(EXIT_USAGE, "--slice-ms: the duration has no slice for each target");
    options_raise_descriptors(options);
}

static const char *const option_names[] = {
    "url",     "connections", "rate",      "duration-s", "seed",     "gaps",      "warmup-s",
    "threads", "body-bytes",  "timeout-s", "spin-us",    "slice-ms", "latencies",
};
enum { OPTION_COUNT = sizeof option_names / sizeof *option_names };

static inline void options_parse(struct options *options, int argc, char **argv)
{
    struct option known[OPTION_COUNT + 2] = {
        [OPTION_COUNT] = {"help", no_argument, NULL, OPTION_HELP}};

    for (size_t i = 0; i < OPTION_COUNT; i++)
        known[i] = (struct option){option_names[i], required_argument, NULL, 'o'};
    *options = (struct options){
        .threads = 1, .body_bytes = -1, .timeout_s = 2, .spin_us = 50, .slice_ms = 20};
    opterr = 0; /* we print our own line */
    for (int at = 1, option, index = 0;
         (option = getopt_long(argc, argv, "+:", known, &index)) != -1; at = optind) {
        if (option == OPTION_HELP) {
            options_print_usage();
            exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
        }
        if (option == ':')
            errx(EXIT_USAGE, "%.100s needs a value; see --help", argv[at]);
        if (option == '?')
            errx(EXIT_USAGE, "unknown option '%.100s'; see --help", argv[at]);
        options_take(options, known[index].name, optarg);
    }
    if (optind < argc)
        errx(EXIT_USAGE, "unexpected argument '%.100s'; see --help", argv[optind]);
    options_check(options);
}
