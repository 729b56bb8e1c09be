/*
 * The life of every daemon, so that each main.c is a table and one call:
 *
 *   static const struct daemon_spec spec = {
 *       .program = "penn-storaged",
 *       .config = &storage_config_spec,
 *       .start = start, .stop = stop, .finish = finish, ...
 *   };
 *   int main(int argc, char **argv) { return daemon_main(&spec, argc, argv); }
 *
 * The course: arguments, configuration, log; core dumps off, descriptors up,
 * root dropped; the status port (option "status_listen", if the daemon has
 * one); start(); the loop, until daemon_stopped(); finish(); exit.
 *
 * Signals are taken by a thread of their own, so that a loop that hangs can
 * still be stopped: SIGTERM and SIGINT call stop() on the loop, and if the
 * process has not ended stop_ms later, the thread logs that and exits
 * with EX_SOFTWARE. SIGHUP loads the file anew: a bad one is logged and
 * changes nothing, a good one sets the log level and goes to reload(). A
 * SIGTERM during start() ends the process at once with 0 (unless it has called
 * daemon_ready()): nothing has been acknowledged yet. All signals are blocked
 * in threads made later.
 */
#ifndef COMMON_DAEMON_H
#define COMMON_DAEMON_H

#include <uv.h>

#include <cjson/cJSON.h>

#include "common/config.h"
#include "common/log.h"
#include "common/metrics.h"

struct daemon;

struct daemon_spec {
    const char *program; /* "penn-storaged" */
    const struct config_spec *config;
    const struct metric_def *metrics; /* may be NULL */
    size_t metric_count;
    const char *usage; /* more lines for -h, of what main.c adds; NULL: none */
    int stop_ms;       /* time to stop; 0: LIMIT_STOP_MS */
    bool low_ports;    /* keeps CAP_NET_BIND_SERVICE when root is dropped */

    /* All on the loop's thread. */

    /* Starts all and returns; the loop runs afterwards. On failure it leaves
     * nothing behind but handles being closed, and *ERR says why. */
    enum status (*start)(struct daemon *d, struct err *err);
    /* NEXT lives until it returns; may be NULL. */
    void (*reload)(struct daemon *d, const struct config *next);
    /* Begins to stop; daemon_stopped() when that is done, also from within. */
    void (*stop)(struct daemon *d);
    /* Frees all that start() made; its uv handles may still be closing. */
    void (*finish)(struct daemon *d);
    /* After finish(), when the loop has closed all handles: frees what those
     * needed, also after a start() that failed. May be NULL. */
    void (*release)(struct daemon *d);
    /* Adds members to /status, which already has daemon, node, version,
     * state and uptime_s. May be NULL. */
    void (*status)(struct daemon *d, cJSON *out);
};

/* What the daemon's code sees; made by daemon_main(), lives to the end. */
struct daemon {
    const struct daemon_spec *spec;
    struct config config; /* as at the start; config.own is the daemon's */
    struct log log;
    uv_loop_t *loop;
    struct metrics *metrics;
    void *state;          /* the daemon's own */
    struct daemon_io *io; /* daemon_io.c's own */
};

/* Runs the daemon; returns the exit status for main(). */
int daemon_main(const struct daemon_spec *spec, int argc, char **argv);

/* On the loop's thread: it serves now (/readyz, sd_notify READY). A daemon
 * that never says so is "starting" until it stops. */
void daemon_ready(struct daemon *d);
/* It cannot serve at present: /readyz says 503 again. */
void daemon_not_ready(struct daemon *d);
/* Ends the loop; on the loop's thread, also without a signal before it. */
void daemon_stopped(struct daemon *d);
/* From any thread, when going on would be wrong (R18): logs event=fatal with
 * TEXT and exits at once with the code for WHY; nothing is finished. */
_Noreturn void daemon_fatal(struct daemon *d, enum status why,
                            const char *text);

/* ---- the pure part (daemon.c) ---- */

enum daemon_mode {
    DAEMON_RUN,
    DAEMON_TEST,
    DAEMON_PRINT,
    DAEMON_HELP,
    DAEMON_VERSION
};

struct daemon_args {
    enum daemon_mode mode;
    const char *file; /* -c; CONFIG_FILE_DEFAULT */
    const char *name; /* -n; NULL */
};

/* Parses -c FILE, -n NAME, -t, -p, -h, -V. ST_INVALID: *ERR says why. */
enum status daemon_parse_args(int argc, char **argv, struct daemon_args *out,
                              struct err *err) MUST_CHECK;
/* sysexits(3) for why a daemon could not start or go on. */
int daemon_exit_code(enum status s);
/* Text for -h: usage and all options. */
void daemon_usage(const struct daemon_spec *spec, struct buf *out);

#endif
