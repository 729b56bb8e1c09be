/*
 * The course of a write. kv_run() gets half of the time left (at most
 * RUN_MS_MAX), so that there is time to settle. Then:
 *
 *   definite, final        returned
 *   definite, retryable    run again after a pause, while time is left
 *   unknown outcome        settled: its own answer; or void, that is, it
 *                          never will happen: run again; or, with no time
 *                          left, given up: ST_UNKNOWN_OUTCOME
 *   session lost           ST_UNKNOWN_CLIENT: the caller looks
 *
 * A batch is thus executed at most once for each ST_OK: it is only ever run
 * again after the store has said that the former run has no effect.
 */
#include "cloud/store.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define RUN_MS_MAX 5000
#define SETTLE_MS_MAX 3000
/* Less is not enough for an answer: a run would only make the outcome
 * unknown. */
#define RUN_MS_MIN 100
#define PAUSE_MS_FIRST 5
#define PAUSE_MS_MAX 200

struct store_name store_name(const char *format, ...)
{
    struct store_name n;
    va_list ap;
    va_start(ap, format);
    int len = vsnprintf(n.text, sizeof n.text, format, ap);
    va_end(ap);
    /* Names are made of parts that were checked before. */
    assert(len >= 0 && (size_t)len < sizeof n.text);
    return n;
}

int64_t store_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int at_most(int a, int b)
{
    return a < b ? a : b;
}

void store_pause(const struct cloud_op *op, int ms)
{
    ms = at_most(ms, cloud_op_left(op));
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static enum status run_once(const struct cloud_op *op, const struct kv_batch *b,
                            struct kv_result *r)
{
    struct kv *kv = cloud_kv(op->cloud);
    int left = cloud_op_left(op);
    enum status st = kv_run(kv, b, at_most(left / 2 + 1, RUN_MS_MAX), r);
    while (st == ST_UNKNOWN_OUTCOME) {
        left = cloud_op_left(op);
        if (left == 0) {
            kv_abandon(kv, r);
            return st;
        }
        struct kv_pending pending = r->pending;
        st = kv_settle(kv, r, at_most(left, SETTLE_MS_MAX));
        if (st == ST_UNKNOWN_OUTCOME) {
            r->pending = pending;
            store_pause(op, PAUSE_MS_FIRST);
        }
    }
    return st;
}

/* Refusals that another attempt may overcome. */
static bool worth_repeating(enum status st)
{
    return st == ST_VOID || st == ST_BUSY || st == ST_UNREACHABLE ||
           st == ST_DEGRADED;
}

enum status store_run(const struct cloud_op *op, const struct kv_batch *b,
                      struct kv_result *result)
{
    struct kv_result mine;
    struct kv_result *r = result != NULL ? result : &mine;
    enum status st = ST_UNREACHABLE;
    for (int wait = PAUSE_MS_FIRST;; wait = at_most(2 * wait, PAUSE_MS_MAX)) {
        memset(r, 0, sizeof *r);
        if (cloud_op_left(op) < RUN_MS_MIN)
            return st == ST_VOID ? ST_UNREACHABLE : st;
        st = run_once(op, b, r);
        if (!worth_repeating(st))
            return st;
        store_pause(op, wait);
    }
}

enum status store_repeat(const struct cloud_op *op, const struct kv_batch *b)
{
    bool maybe_done = false;
    for (;;) {
        enum status st = store_run(op, b, NULL);
        if (maybe_done && worth_repeating(st))
            return ST_UNKNOWN_OUTCOME;
        if (st != ST_UNKNOWN_CLIENT)
            return st;
        maybe_done = true;
    }
}

enum status store_put(const struct cloud_op *op, const char *partition,
                      const char *row, const char *column, struct slice value)
{
    struct kv_batch *b = kv_batch_new(slice_of(partition));
    kv_batch_put(b, row, column, value);
    enum status st = store_repeat(op, b);
    kv_batch_free(b);
    return st;
}

enum status store_put_always(const struct cloud_op *op, const char *partition,
                             const char *row, const char *column,
                             struct slice value)
{
    struct kv_batch *b = kv_batch_new(slice_of(partition));
    kv_batch_delete(b, row, column);
    kv_batch_put(b, row, column, value);
    enum status st = store_repeat(op, b);
    kv_batch_free(b);
    return st;
}

enum status store_delete(const struct cloud_op *op, const char *partition,
                         const char *row, const char *column)
{
    struct kv_batch *b = kv_batch_new(slice_of(partition));
    kv_batch_delete(b, row, column);
    enum status st = store_repeat(op, b);
    kv_batch_free(b);
    return st;
}

enum status store_get(const struct cloud_op *op, const char *partition,
                      const char *row, const char *column, struct buf *out)
{
    return kv_get(cloud_kv(op->cloud), kv_key_of(partition, row, column),
                  cloud_op_left(op), out);
}

bool store_parse_counter(struct slice text, int64_t *out)
{
    char digits[24];
    if (text.len == 0 || text.len >= sizeof digits)
        return false;
    memcpy(digits, text.data, text.len);
    digits[text.len] = '\0';
    long long v;
    char rest;
    if (sscanf(digits, "%lld%c", &v, &rest) != 1)
        return false;
    *out = v;
    return true;
}

enum status store_get_counter(const struct cloud_op *op, const char *partition,
                              const char *row, const char *column, int64_t *out)
{
    struct buf value;
    buf_init(&value, 0);
    int64_t v = 0;
    enum status st = store_get(op, partition, row, column, &value);
    if (st == ST_NOT_FOUND)
        st = ST_OK;
    else if (st == ST_OK && !store_parse_counter(buf_slice(&value), &v))
        st = ST_CORRUPT;
    buf_free(&value);
    if (st == ST_OK)
        *out = v;
    return st;
}

enum status store_row(const struct cloud_op *op, const char *partition,
                      const char *row, const char *prefix,
                      struct store_cells *out)
{
    struct kv_scan scan = {.partition = slice_of(partition),
                           .row = slice_of(row),
                           .row_exact = true,
                           .column_prefix = slice_of(prefix)};
    bool more = false;
    *out = (struct store_cells){0};
    enum status st = kv_scan_page(cloud_kv(op->cloud), &scan, cloud_op_left(op),
                                  &out->arena, &out->cells, &out->count, &more);
    if (st == ST_NOT_FOUND) {
        out->count = 0;
        return ST_OK;
    }
    return st == ST_OK && more ? ST_TOO_LARGE : st;
}

void store_cells_free(struct store_cells *c)
{
    arena_free(&c->arena);
    *c = (struct store_cells){0};
}

const struct cell *store_find(const struct store_cells *c, const char *column)
{
    for (size_t i = 0; i < c->count; i++) {
        if (slice_equal(c->cells[i].column, slice_of(column)))
            return &c->cells[i];
    }
    return NULL;
}
