/* The command line that all servers share. */
#pragma once

#include "answers.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    EXIT_USAGE = 2,
    OPTION_HELP = 256,
    WORKERS_MAX = 1024,
    HANDLER_MAX_US = 60000000, /* a minute */
    HANDLER_EVERY_MAX = 1000000,
};

/* What the handler of a request does, for one request in `every`. */
struct handler {
    int block_us;
    int burn_us; /* of CPU time */
    int every;
};

struct options {
    const char *host;
    const char *interface; /* the scope of a link-local address; NULL: none */
    int port;              /* 0: the kernel chooses */
    int workers;           /* processes of a *_multitask server; the other servers run one */
    int body_size;         /* bytes */
    struct handler handler;
};

static inline int options_number(const char *name, const char *text, int min, int max)
{
    char *end;
    errno = 0;
    const long number = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < min || number > max)
        errx(EXIT_USAGE, "--%s: '%s' is not a number from %d to %d", name, text, min, max);
    return (int)number;
}

static inline void options_print_usage(const char *program)
{
    printf("usage: %s [OPTION VALUE]...\n"
           "  --host ADDRESS        numeric IPv6 or IPv4 address (default ::1; :: serves both)\n"
           "  --port PORT           0 lets the kernel choose (default)\n"
           "  --interface IF        the interface of a link-local address\n"
           "  --workers N           processes of the multitask servers (default 1)\n"
           "  --body-bytes N        size of the body of an answer (default 13)\n"
           "  --handler-block-us N  how long the handler of a request waits (default 0)\n"
           "  --handler-burn-us N   how much CPU time it spends (default 0)\n"
           "  --handler-every N     it does so for one request in N (default 1)\n",
           program);
}

static inline void options_take_number(struct options *options, int option, const char *name)
{
    const struct {
        int option, *number, min, max;
    } numbers[] = {
        {'p', &options->port, 0, 65535},
        {'w', &options->workers, 1, WORKERS_MAX},
        {'B', &options->body_size, 1, BODY_MAX},
        {'b', &options->handler.block_us, 0, HANDLER_MAX_US},
        {'c', &options->handler.burn_us, 0, HANDLER_MAX_US},
        {'e', &options->handler.every, 1, HANDLER_EVERY_MAX},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].option == option)
            *numbers[i].number = options_number(name, optarg, numbers[i].min, numbers[i].max);
}

static inline struct options options_parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"host", required_argument, NULL, 'h'},
        {"interface", required_argument, NULL, 'i'},
        {"help", no_argument, NULL, OPTION_HELP},
        {"port", required_argument, NULL, 'p'},
        {"workers", required_argument, NULL, 'w'},
        {"body-bytes", required_argument, NULL, 'B'},
        {"handler-block-us", required_argument, NULL, 'b'},
        {"handler-burn-us", required_argument, NULL, 'c'},
        {"handler-every", required_argument, NULL, 'e'},
        {0},
    };
    struct options options = {
        .host = "::1", .workers = 1, .body_size = BODY_SIZE, .handler.every = 1};

    opterr = 0; /* we print our own line */
    for (int at = 1, option, index = 0;
         (option = getopt_long(argc, argv, "+:", known, &index)) != -1; at = optind) {
        switch (option) {
        case 'h':
            options.host = optarg;
            break;
        case 'i':
            options.interface = optarg;
            break;
        case OPTION_HELP:
            options_print_usage(argv[0]);
            exit(EXIT_SUCCESS);
        case ':':
            errx(EXIT_USAGE, "%s needs a value; see --help", argv[at]);
        case '?':
            errx(EXIT_USAGE, "unknown option '%s'; see --help", argv[at]);
        default:
            options_take_number(&options, option, known[index].name);
        }
    }
    if (optind < argc)
        errx(EXIT_USAGE, "unexpected argument '%s'; see --help", argv[optind]);
    return options;
}
