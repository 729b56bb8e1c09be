/*
 * One line of logfmt per event to standard error:
 *   time=... level=warn daemon=penn-storaged node=storage-1 module=replica
 *   event=stalled tablet=3 peer=2
 * (one line). Where standard error is the journal, a priority prefix ("<4>")
 * stands for time and level. The caller gives key=value pairs as a printf
 * format; a value from outside goes through log_quote(). Bodies, keys, tokens
 * and passwords never do. Thread-safe: a line is one write(2) of at most
 * LIMIT_LOG_LINE bytes; what is longer is cut, and a control character that
 * got into it is written as '?'.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdarg.h>

#include "common/buf.h"
#include "common/limits.h"

enum log_level {
    LOG_LEVEL_PANIC = 0, /* our bug */
    LOG_LEVEL_FATAL = 1, /* the environment's fault; the process ends */
    LOG_LEVEL_ERROR = 2,
    LOG_LEVEL_WARN = 3,
    LOG_LEVEL_INFO = 4,
    LOG_LEVEL_DEBUG = 5,
};

/* Who speaks. Owned by the daemon; simulated nodes have one each. */
struct log {
    const char *daemon;   /* "penn-storaged" */
    const char *node;     /* "storage-1" */
    enum log_level level; /* lines above it are dropped */
    int fd;               /* -1: nowhere */
    /* Simulated time for the line's head; NULL: the wall clock is left to
     * the journal. */
    int64_t (*now_us)(void *ctx);
    void *ctx;
    bool journal; /* FD is the journal: priority prefix */
    bool wall;    /* the wall clock at the line's head */
};

/* Makes *OUT speak to standard error, at level info: with priorities if that
 * is the journal (JOURNAL_STREAM names it), else with the time. DAEMON and
 * NODE are borrowed for ever. */
void log_init_stderr(struct log *out, const char *daemon, const char *node);
/* Changes the level while other threads log. */
void log_set_level(struct log *log, enum log_level level);

/* "error", "warn", ...; false if no such level. */
bool log_level_parse(const char *name, enum log_level *out);
const char *log_level_name(enum log_level level);

/* What log_format() is told: pairs is a printf format for ap. */
struct log_event {
    const char *module, *event, *pairs;
    va_list *ap;
};

void log_write(const struct log *log, enum log_level level, const char *module,
               const char *event, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* The line that log_write() would write, newline included; WALL_US is the
 * wall clock, used if log->wall. Returns its length, below SIZE (at least
 * 128). */
size_t log_format(const struct log *log, enum log_level level, int64_t wall_us,
                  const struct log_event *event, char *out, size_t size);

/* Value S, quoted and escaped if it must be, cut at 200 bytes; lives in one
 * of 8 thread-local turns. */
const char *log_quote(struct slice s);

#define log_fatal(log, module, event, ...)                                     \
    log_write((log), LOG_LEVEL_FATAL, (module), (event), __VA_ARGS__)
#define log_error(log, module, event, ...)                                     \
    log_write((log), LOG_LEVEL_ERROR, (module), (event), __VA_ARGS__)
#define log_warn(log, module, event, ...)                                      \
    log_write((log), LOG_LEVEL_WARN, (module), (event), __VA_ARGS__)
#define log_info(log, module, event, ...)                                      \
    log_write((log), LOG_LEVEL_INFO, (module), (event), __VA_ARGS__)
#define log_debug(log, module, event, ...)                                     \
    log_write((log), LOG_LEVEL_DEBUG, (module), (event), __VA_ARGS__)

#endif
