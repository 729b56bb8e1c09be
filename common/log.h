/*
 * One line of logfmt per event to standard error, with a journald priority
 * prefix: level daemon node module event key=value ... The caller gives
 * key=value pairs as a printf format; a value from outside goes through
 * log_quote(). Bodies, keys, tokens and passwords never do.
 * Thread-safe: a line is one write.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include "common/buf.h"

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
};

/* "error", "warn", ...; false if no such level. */
bool log_level_parse(const char *name, enum log_level *out);

void log_write(const struct log *log, enum log_level level, const char *module,
               const char *event, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* Value S, quoted and escaped if it must be, cut at 200 bytes; lives in one
 * of 8 thread-local turns. */
const char *log_quote(struct slice s);

#define log_error(log, module, event, ...)                                     \
    log_write((log), LOG_LEVEL_ERROR, (module), (event), __VA_ARGS__)
#define log_warn(log, module, event, ...)                                      \
    log_write((log), LOG_LEVEL_WARN, (module), (event), __VA_ARGS__)
#define log_info(log, module, event, ...)                                      \
    log_write((log), LOG_LEVEL_INFO, (module), (event), __VA_ARGS__)
#define log_debug(log, module, event, ...)                                     \
    log_write((log), LOG_LEVEL_DEBUG, (module), (event), __VA_ARGS__)

#endif
