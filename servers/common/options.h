/* The command line that all servers share. */
#pragma once

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { EXIT_USAGE = 2, WORKERS_MAX = 1024, OPTION_HELP = 256 };

struct options {
    const char *host;
    const char *interface; /* the scope of a link-local address; NULL: none */
    int port;              /* 0: the kernel chooses */
    int workers;           /* processes of a *_multitask server; the other servers run one */
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
    printf("usage: %s [--host ADDRESS] [--port PORT] [--interface IF] [--workers N]\n"
           "  --host ADDRESS  numeric IPv6 or IPv4 address (default ::1; :: serves both)\n"
           "  --port PORT     0 lets the kernel choose (default)\n"
           "  --interface IF  the interface of a link-local address\n"
           "  --workers N     processes of the multitask servers (default 1)\n",
           program);
}

static inline struct options options_parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"host", required_argument, NULL, 'h'},      {"port", required_argument, NULL, 'p'},
        {"interface", required_argument, NULL, 'i'}, {"workers", required_argument, NULL, 'w'},
        {"help", no_argument, NULL, OPTION_HELP},    {0},
    };
    struct options options = {.host = "::1", .workers = 1};

    opterr = 0; /* we print our own line */
    for (int at = 1, option; (option = getopt_long(argc, argv, "+:", known, NULL)) != -1;
         at = optind) {
        switch (option) {
        case 'h':
            options.host = optarg;
            break;
        case 'p':
            options.port = options_number("port", optarg, 0, 65535);
            break;
        case 'i':
            options.interface = optarg;
            break;
        case 'w':
            options.workers = options_number("workers", optarg, 1, WORKERS_MAX);
            break;
        case OPTION_HELP:
            options_print_usage(argv[0]);
            exit(EXIT_SUCCESS);
        case ':':
            errx(EXIT_USAGE, "%s needs a value; see --help", argv[at]);
        default:
            errx(EXIT_USAGE, "unknown option '%s'; see --help", argv[at]);
        }
    }
    if (optind < argc)
        errx(EXIT_USAGE, "unexpected argument '%s'; see --help", argv[optind]);
    return options;
}
