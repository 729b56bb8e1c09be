/*
 * pennctl's main: global options, the command, its exit status. --json and
 * --watch are taken wherever they stand, up to "--"; the other global options
 * stand before the command.
 */
#include "admin/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#define TIMEOUT_MS 10000

static void take_everywhere(struct ctl *c, int *argc, char **argv)
{
    int kept = 0;
    bool rest = false;
    for (int i = 0; i < *argc; i++) {
        rest = rest || strcmp(argv[i], "--") == 0;
        if (!rest && strcmp(argv[i], "--json") == 0) {
            c->json = true;
        } else if (!rest && strcmp(argv[i], "--watch") == 0) {
            c->watch = true;
        } else {
            argv[kept++] = argv[i];
        }
    }
    *argc = kept;
    argv[kept] = NULL;
}

static bool parse_globals(struct ctl *c, int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"local", required_argument, NULL, 'l'},
        {"timeout", required_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int o;
    long long seconds;
    while ((o = getopt_long(argc, argv, "+c:l:t:h", options, NULL)) != -1) {
        switch (o) {
        case 'c':
            c->config_file = optarg;
            break;
        case 'l':
            c->local_dir = optarg;
            break;
        case 't':
            if (!ctl_parse_number(optarg, 1, 3600, &seconds)) {
                return false;
            }
            c->timeout_ms = (int)seconds * 1000;
            break;
        case 'h':
            ctl_usage(stdout);
            exit(CTL_DONE);
        default:
            return false;
        }
    }
    return c->config_file == NULL || c->local_dir == NULL;
}

int main(int argc, char **argv)
{
    struct ctl c = {.timeout_ms = TIMEOUT_MS};
    c.log = (struct log){.daemon = "pennctl",
                         .node = "pennctl",
                         .level = LOG_LEVEL_ERROR,
                         .fd = 2};
    int used;
    take_everywhere(&c, &argc, argv);
    if (!parse_globals(&c, argc, argv) || optind == argc) {
        ctl_usage_short();
        return CTL_USAGE;
    }
    const struct ctl_command *k = ctl_find(argc - optind, argv + optind, &used);
    if (k == NULL) {
        (void)fprintf(stderr, "pennctl: %s: no such command\n", argv[optind]);
        ctl_usage_short();
        return CTL_USAGE;
    }
    if (sodium_init() < 0) {
        (void)fprintf(stderr, "pennctl: no random numbers\n");
        return CTL_NO;
    }
    int code = ctl_open(&c, k->needs);
    if (code == CTL_DONE) {
        code = k->run(&c, argc - optind - used, argv + optind + used);
    }
    ctl_close(&c);
    if (fflush(stdout) != 0) {
        if (errno != EPIPE) {
            perror("pennctl: standard output");
        }
        return CTL_NO;
    }
    return code;
}
