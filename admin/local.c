#include "admin/local.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READY_MS 60000
#define STOP_MS 12000
#define EXIT_NO 1
#define EXIT_USAGE 2
#define EXIT_UNREACHABLE 3

static int fail(enum status s, const struct err *err)
{
    fprintf(stderr, "pennctl: %s\n", err->text);
    if (s == ST_CONFIG || s == ST_INVALID) {
        return EXIT_USAGE;
    }
    return s == ST_UNREACHABLE || s == ST_TIMEOUT ? EXIT_UNREACHABLE : EXIT_NO;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: pennctl --local DIR local up [--port-base N] [--nodes N]\n"
            "               [--gateways N] [--coordinators N]\n"
            "       pennctl --local DIR local down | status\n"
            "       pennctl --local DIR local start | stop | kill NAME\n");
    return EXIT_USAGE;
}

/* ---- where things are ---- */

/* The daemons' programs are beside this one, or in ../sbin of it. */
static bool find_programs(struct local *l)
{
    char path[LOCAL_PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", l->bindir, LOCAL_PATH_MAX - 8);
    if (n <= 0) {
        return false;
    }
    l->bindir[n] = '\0';
    *strrchr(l->bindir, '/') = '\0';
    (void)snprintf(path, sizeof(path), "%s/penn-storaged", l->bindir);
    if (access(path, X_OK) != 0) {
        char *slash = strrchr(l->bindir, '/');
        if (slash == NULL) {
            return false;
        }
        (void)snprintf(slash, 8, "/sbin");
    }
    return true;
}

/* The web interface: PENN_WEB_DIR, where a source tree says so, or installed.
 */
static void find_web(struct local *l)
{
    const char *given = getenv("PENN_WEB_DIR");
    (void)snprintf(l->webdir, sizeof(l->webdir), "%s",
                   given != NULL ? given : PENN_PKGDATADIR "/web");
}

static bool absolute(const char *dir, struct local *l)
{
    char cwd[LOCAL_PATH_MAX];
    int n;
    if (dir[0] == '/') {
        n = snprintf(l->dir, sizeof(l->dir), "%s", dir);
    } else {
        if (getcwd(cwd, sizeof(cwd)) == NULL) {
            return false;
        }
        n = snprintf(l->dir, sizeof(l->dir), "%s/%s", cwd, dir);
    }
    return n > 0 && (size_t)n < sizeof(l->dir) &&
           strpbrk(l->dir, " \t\n#,") == NULL;
}

/* ---- up ---- */

static bool parse_up(int argc, char **argv, struct local_shape *out)
{
    static const struct option options[] = {
        {"port-base", required_argument, NULL, 'p'},
        {"nodes", required_argument, NULL, 'n'},
        {"gateways", required_argument, NULL, 'g'},
        {"coordinators", required_argument, NULL, 'c'},
        {NULL, 0, NULL, 0}};
    int o;
    optind = 1;
    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        char *end;
        unsigned long v = o == '?' ? 0 : strtoul(optarg, &end, 10);
        if (o == '?' || *optarg == '\0' || *end != '\0' || v == 0 ||
            v > 65535) {
            return false;
        }
        unsigned *to = o == 'p'   ? &out->port_base
                       : o == 'n' ? &out->nodes
                       : o == 'g' ? &out->gateways
                                  : &out->coordinators;
        *to = (unsigned)v;
    }
    return optind == argc;
}

static void show_addresses(const struct local *l)
{
    unsigned b = l->shape.port_base;
    printf("web mail        http://127.0.0.1:%u/\n", b + 80);
    printf("                https://127.0.0.1:%u/ (self-signed)\n", b + 443);
    printf("SMTP            127.0.0.1:%u\n", b + 25);
    printf("accounts        demo, alice (domain penncloud.test)\n");
    printf("their password  in %s/demo-password\n", l->dir);
    printf("logs            %s/log/\n", l->dir);
}

static enum status start(const struct local *l, const struct local_daemon *d,
                         struct err *err)
{
    if (local_pid(l, d) != 0) {
        return ST_OK;
    }
    enum status s = local_check_port(d->status_port, err);
    return s == ST_OK ? local_spawn(l, d, err) : s;
}

static int up(struct local *l)
{
    struct err err = {""};
    enum status s = ST_OK;
    for (unsigned i = 0; i < l->count && s == ST_OK; i++) {
        s = start(l, &l->daemons[i], &err);
    }
    if (s == ST_OK) {
        s = local_wait_ready(l, READY_MS, &err);
    }
    if (s == ST_OK) {
        s = local_make_accounts(l, &err);
    }
    if (s != ST_OK) {
        return fail(s, &err);
    }
    show_addresses(l);
    return EXIT_SUCCESS;
}

/* ---- down ---- */

/* In the order of dependence: who serves people first, the map last. */
static int down(struct local *l)
{
    int failed = EXIT_SUCCESS;
    for (unsigned i = l->count; i-- > 0;) {
        const struct local_daemon *d = &l->daemons[i];
        enum status s = local_end(l, d, SIGTERM, STOP_MS);
        if (s != ST_OK && s != ST_NOT_FOUND) {
            fprintf(stderr, "pennctl: %s did not stop: %s\n", d->name,
                    status_text(s));
            failed = EXIT_UNREACHABLE;
        }
    }
    return failed;
}

/* ---- status, and one daemon ---- */

static int show_status(struct local *l)
{
    bool whole = true;
    for (unsigned i = 0; i < l->count; i++) {
        const struct local_daemon *d = &l->daemons[i];
        int pid = local_pid(l, d);
        int code = pid == 0 ? 0 : local_readiness(d);
        const char *state = pid == 0      ? "stopped"
                            : code == 200 ? "ready"
                            : code == 503 ? "starting"
                                          : "silent";
        printf("%-15s %-9s pid %-7d status http://127.0.0.1:%u/status\n",
               d->name, state, pid, d->status_port);
        whole = whole && code == 200;
    }
    return whole ? EXIT_SUCCESS : EXIT_NO;
}

static int start_one(struct local *l, const struct local_daemon *d)
{
    struct err err = {""};
    enum status s = start(l, d, &err);
    return s == ST_OK ? EXIT_SUCCESS : fail(s, &err);
}

static int end_one(struct local *l, const struct local_daemon *d, int signal)
{
    enum status s = local_end(l, d, signal, STOP_MS);
    if (s == ST_OK) {
        return EXIT_SUCCESS;
    }
    fprintf(stderr, "pennctl: %s: %s\n", d->name,
            s == ST_NOT_FOUND ? "does not run" : status_text(s));
    return s == ST_NOT_FOUND ? EXIT_NO : EXIT_UNREACHABLE;
}

static int one(struct local *l, const char *verb, const char *name)
{
    const struct local_daemon *d = local_find(l, name);
    if (d == NULL) {
        fprintf(stderr, "pennctl: %s: no such daemon in %s\n", name, l->dir);
        return EXIT_USAGE;
    }
    if (strcmp(verb, "start") == 0) {
        return start_one(l, d);
    }
    return end_one(l, d, strcmp(verb, "kill") == 0 ? SIGKILL : SIGTERM);
}

int local_command(const char *dir, int argc, char **argv)
{
    struct local l = {0};
    struct local_shape asked = {0};
    struct err err = {""};
    int lock = -1, code;
    const char *verb = argc > 0 ? argv[0] : "";
    bool is_up = strcmp(verb, "up") == 0;
    bool plain = strcmp(verb, "down") == 0 || strcmp(verb, "status") == 0;
    bool named = strcmp(verb, "start") == 0 || strcmp(verb, "stop") == 0 ||
                 strcmp(verb, "kill") == 0;
    if ((is_up && !parse_up(argc, argv, &asked)) || (plain && argc != 1) ||
        (named && argc != 2) || (!is_up && !plain && !named)) {
        return usage();
    }
    if (!absolute(dir, &l) || !find_programs(&l)) {
        fprintf(stderr,
                "pennctl: %s: not a usable directory name (no blanks, '#' or "
                "commas, at most %d bytes)\n",
                dir, LOCAL_PATH_MAX);
        return EXIT_USAGE;
    }
    find_web(&l);
    enum status s = local_prepare(&l, &asked, is_up, &lock, &err);
    if (s != ST_OK) {
        code = fail(s, &err);
    } else if (is_up) {
        code = up(&l);
    } else if (strcmp(verb, "down") == 0) {
        code = down(&l);
    } else {
        code = plain ? show_status(&l) : one(&l, verb, argv[1]);
    }
    if (lock >= 0) {
        (void)close(lock);
    }
    return code;
}
