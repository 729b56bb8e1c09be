/*
 * Formats log lines: fields, levels, quoting. Writing them is log_io.c's.
 *
 * A line is built in the caller's buffer of fixed size. Fields come in the
 * order in which an eye looks for them; whatever does not fit is cut, but the
 * newline always fits. Control characters never reach the output, so that
 * no value, however it got there, can forge a line.
 */
#include "common/log.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *name;
    int priority; /* sd-daemon(3) */
} levels[] = {
    [LOG_LEVEL_PANIC] = {"panic", 2}, [LOG_LEVEL_FATAL] = {"fatal", 2},
    [LOG_LEVEL_ERROR] = {"error", 3}, [LOG_LEVEL_WARN] = {"warn", 4},
    [LOG_LEVEL_INFO] = {"info", 6},   [LOG_LEVEL_DEBUG] = {"debug", 7},
};

#define LEVEL_COUNT (sizeof(levels) / sizeof(levels[0]))

bool log_level_parse(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < LEVEL_COUNT; i++) {
        if (strcmp(levels[i].name, name) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

const char *log_level_name(enum log_level level)
{
    return (size_t)level < LEVEL_COUNT ? levels[level].name : "unknown";
}

void log_set_level(struct log *log, enum log_level level)
{
    __atomic_store_n(&log->level, level, __ATOMIC_RELAXED);
}

/* A line under construction; SIZE keeps room for newline and NUL. */
struct line {
    char *text;
    size_t len, size;
};

static void line_vprintf(struct line *l, const char *format, va_list ap)
{
    size_t room = l->size - l->len;
    int n = vsnprintf(l->text + l->len, room, format, ap);
    if (n > 0) {
        l->len += (size_t)n < room ? (size_t)n : room - 1;
    }
}

__attribute__((format(printf, 2, 3))) static void
line_printf(struct line *l, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    line_vprintf(l, format, ap);
    va_end(ap);
}

/* The wall clock as RFC 3339, in UTC. */
static void put_wall(struct line *l, int64_t wall_us)
{
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm tm;
    char text[32];
    if (gmtime_r(&seconds, &tm) == NULL ||
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        return;
    }
    line_printf(l, "time=%s.%06dZ ", text, (int)(wall_us % 1000000));
}

static void put_head(struct line *l, const struct log *log,
                     enum log_level level, int64_t wall_us)
{
    if (log->journal) {
        line_printf(l, "<%d>", levels[level].priority);
    }
    if (log->now_us != NULL) {
        int64_t us = log->now_us(log->ctx);
        line_printf(l, "t=%lld.%06d ", (long long)(us / 1000000),
                    (int)(us % 1000000));
    } else if (log->wall) {
        put_wall(l, wall_us);
    }
    line_printf(l, "level=%s daemon=%s node=%s", log_level_name(level),
                log->daemon != NULL ? log->daemon : "-",
                log->node != NULL ? log->node : "-");
}

size_t log_format(const struct log *log, enum log_level level, int64_t wall_us,
                  const struct log_event *event, char *out, size_t size)
{
    assert(size >= 128);
    assert((size_t)level < LEVEL_COUNT);
    struct line l = {.text = out, .size = size - 1};
    put_head(&l, log, level, wall_us);
    line_printf(&l, " module=%s event=%s", event->module, event->event);
    if (event->pairs[0] != '\0') {
        line_printf(&l, " ");
        line_vprintf(&l, event->pairs, *event->ap);
    }
    for (size_t i = 0; i < l.len; i++) {
        if ((unsigned char)out[i] < ' ' || out[i] == 0x7f) {
            out[i] = '?';
        }
    }
    out[l.len++] = '\n';
    out[l.len] = '\0';
    return l.len;
}

#define TURNS 8
#define TURN_SIZE (4 * LIMIT_LOG_VALUE + 8)

/* May stand in a line as it is. */
static bool plain(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\') {
            return false;
        }
    }
    return s.len > 0 && s.len <= LIMIT_LOG_VALUE;
}

/* Writes byte C escaped at TO; returns the end. */
static char *escape(char *to, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    static const char named[] = "\"\"\\\\\nn\rr\tt";
    for (size_t i = 0; i + 1 < sizeof(named); i += 2) {
        if (c == (uint8_t)named[i]) {
            *to++ = '\\';
            *to++ = named[i + 1];
            return to;
        }
    }
    if (c >= ' ' && c < 0x7f) {
        *to++ = (char)c;
        return to;
    }
    *to++ = '\\';
    *to++ = 'x';
    *to++ = hex[c >> 4];
    *to++ = hex[c & 15];
    return to;
}

const char *log_quote(struct slice s)
{
    static _Thread_local char turns[TURNS][TURN_SIZE];
    static _Thread_local unsigned turn;
    char *out = turns[turn++ % TURNS], *to = out;
    if (plain(s)) {
        memcpy(out, s.data, s.len);
        out[s.len] = '\0';
        return out;
    }
    size_t len = s.len < LIMIT_LOG_VALUE ? s.len : LIMIT_LOG_VALUE;
    *to++ = '"';
    for (size_t i = 0; i < len; i++) {
        to = escape(to, s.data[i]);
    }
    *to++ = '"';
    if (len < s.len) {
        memcpy(to, "...", 3);
        to += 3;
    }
    *to = '\0';
    assert((size_t)(to - out) < TURN_SIZE);
    return out;
}
