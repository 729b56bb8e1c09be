/*
 * The pure part of a daemon's life: arguments, exit codes, help.
 */
#include "common/daemon.h"

#include <string.h>
#include <sysexits.h>

/* Takes the argument of option ARGV[*I] from behind it or from the next. */
static const char *option_value(int argc, char **argv, int *i)
{
    if (argv[*i][2] != '\0') {
        return argv[*i] + 2;
    }
    return *i + 1 < argc ? argv[++*i] : NULL;
}

static enum status parse_flag(const char *arg, struct daemon_args *a,
                              struct err *err)
{
    static const struct {
        const char *flag;
        enum daemon_mode mode;
    } flags[] = {
        {"-t", DAEMON_TEST},    {"-p", DAEMON_PRINT},
        {"-h", DAEMON_HELP},    {"--help", DAEMON_HELP},
        {"-V", DAEMON_VERSION}, {"--version", DAEMON_VERSION},
    };
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (strcmp(arg, flags[i].flag) == 0) {
            a->mode = flags[i].mode;
            return ST_OK;
        }
    }
    return err_set(err, ST_INVALID, "unknown argument: %.100s", arg);
}

enum status daemon_parse_args(int argc, char **argv, struct daemon_args *out,
                              struct err *err)
{
    struct daemon_args a = {DAEMON_RUN, CONFIG_FILE_DEFAULT, NULL};
    for (int i = 1; i < argc; i++) {
        bool file = strncmp(argv[i], "-c", 2) == 0;
        bool name = strncmp(argv[i], "-n", 2) == 0;
        if (!file && !name) {
            enum status s = parse_flag(argv[i], &a, err);
            if (s != ST_OK) {
                return s;
            }
            continue;
        }
        const char *value = option_value(argc, argv, &i);
        if (value == NULL) {
            return err_set(err, ST_INVALID, "%s: needs a value", argv[i]);
        }
        if (name && !config_name_valid(value)) {
            return err_set(err, ST_INVALID, "-n: not a node's name: %.100s",
                           value);
        }
        *(file ? &a.file : &a.name) = value;
    }
    *out = a;
    return ST_OK;
}

int daemon_exit_code(enum status s)
{
    static const struct {
        enum status status;
        int code;
    } codes[] = {
        {ST_OK, 0},
        {ST_CONFIG, EX_CONFIG},
        {ST_WRONG_CLUSTER, EX_CONFIG},
        {ST_WRONG_NODE, EX_CONFIG},
        {ST_INVALID, EX_CONFIG},
        {ST_DENIED, EX_NOPERM},
        {ST_IO, EX_IOERR},
        {ST_NO_SPACE, EX_IOERR},
        {ST_CORRUPT, EX_DATAERR},
        {ST_VERSION, EX_DATAERR},
        {ST_NO_MEMORY, EX_OSERR},
        {ST_NOT_FOUND, EX_NOINPUT},
    };
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i].status == s) {
            return codes[i].code;
        }
    }
    return EX_UNAVAILABLE;
}

void daemon_usage(const struct daemon_spec *spec, struct buf *out)
{
    buf_printf(out,
               "usage: %s [-c file] [-n name] [-h | -p | -t | -V]\n"
               "  -c file  configuration (default %s)\n"
               "  -n name  which node of that file this is, e.g. %s-2\n"
               "  -t       check the configuration and exit\n"
               "  -p       print the effective configuration and exit\n"
               "  -V       print the version and exit\n",
               spec->program, CONFIG_FILE_DEFAULT, spec->config->kind);
    buf_put_text(out, spec->usage != NULL ? spec->usage : "");
    buf_put_text(out, "options (name, type, default, range, meaning):\n");
    config_describe(&config_cluster_spec, out);
    config_describe(spec->config, out);
}
