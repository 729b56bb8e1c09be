#include "tests/cluster/writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SETTLE_MS 120000 /* an unknown outcome must be known within */
#define LARGE_SIZE (300 * 1024)

int64_t writer_now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static uint64_t draw(struct writer *w)
{
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    w->seed ^= w->seed << 17;
    return w->seed;
}

/* ---- the ledger ---- */

static void violation(struct writer *w, const char *what, unsigned key,
                      const char *detail)
{
    (void)pthread_mutex_lock(&w->lock);
    w->stats.violations++;
    (void)pthread_mutex_unlock(&w->lock);
    fprintf(stderr, "VIOLATION writer=%u key=%u number=%llu %s: %s\n", w->id,
            key, (unsigned long long)w->number, what, detail);
}

static void acknowledged(struct writer *w)
{
    int64_t now = writer_now_us();
    (void)pthread_mutex_lock(&w->lock);
    int64_t gap = now - w->stats.last_us;
    if (gap > w->stats.longest_us) {
        w->stats.longest_us = gap;
    }
    w->stats.last_us = now;
    w->stats.acknowledged++;
    (void)pthread_mutex_unlock(&w->lock);
}

static void count(struct writer *w, uint64_t *what)
{
    (void)pthread_mutex_lock(&w->lock);
    (*what)++;
    (void)pthread_mutex_unlock(&w->lock);
}

void writer_get_stats(struct writer *w, struct writer_stats *out)
{
    (void)pthread_mutex_lock(&w->lock);
    *out = w->stats;
    (void)pthread_mutex_unlock(&w->lock);
    int64_t waiting = writer_now_us() - out->last_us;
    if (waiting > out->longest_us && !atomic_load(&w->stop)) {
        out->longest_us = waiting;
    }
}

void writer_mark(struct writer *w)
{
    (void)pthread_mutex_lock(&w->lock);
    w->stats.longest_us = 0;
    (void)pthread_mutex_unlock(&w->lock);
}

/* ---- values ---- */

static void partition_of(const struct writer *w, const char *kind, unsigned key,
                         char out[64])
{
    (void)snprintf(out, 64, "writer-%llx-%u-%s-%u", (unsigned long long)w->run,
                   w->id, kind, key);
}

/* The value of write NUMBER: a head that names it, and its digits again and
 * again up to the size. */
static void value_of(const struct writer *w, struct cell_model m,
                     struct buf *out)
{
    size_t size = m.large ? LARGE_SIZE : w->value_size;
    buf_clear(out);
    buf_printf(out, "%llx-%u-%llu:", (unsigned long long)w->run, w->id,
               (unsigned long long)m.number);
    while (out->len < size) {
        buf_printf(out, "%llu,", (unsigned long long)m.number);
    }
}

/* ---- outcomes ---- */

enum outcome { DONE, NOT_DONE, MUST_LOOK };

static void rest(struct writer *w)
{
    (void)pthread_mutex_lock(&w->lock);
    while (w->hold) {
        w->held = true;
        (void)pthread_cond_broadcast(&w->changed);
        (void)pthread_cond_wait(&w->changed, &w->lock);
        w->stats.last_us = writer_now_us(); /* a rest is no gap */
    }
    w->held = false;
    (void)pthread_mutex_unlock(&w->lock);
}

static enum outcome settle(struct writer *w, struct kv_result *r)
{
    int64_t end = writer_now_us() + SETTLE_MS * 1000LL;
    enum status s = ST_UNKNOWN_OUTCOME;
    count(w, &w->stats.unknown);
    while (s == ST_UNKNOWN_OUTCOME && writer_now_us() < end) {
        int64_t before = writer_now_us();
        rest(w);
        end += writer_now_us() - before;
        s = kv_settle(w->kv, r, w->timeout_ms);
    }
    if (s == ST_OK) {
        count(w, &w->stats.settled);
        acknowledged(w);
        return DONE;
    }
    if (s == ST_UNKNOWN_CLIENT) {
        count(w, &w->stats.lost);
        return MUST_LOOK;
    }
    if (s == ST_UNKNOWN_OUTCOME) {
        kv_abandon(w->kv, r);
        violation(w, "settle", 0, "still unknown");
        return MUST_LOOK;
    }
    count(w, &w->stats.voided);
    if (s != ST_VOID) {
        violation(w, "settle", 0, status_name(s));
    }
    return NOT_DONE;
}

/* DOUBT is what B writes to; it is over when the caller knows. */
static enum outcome perform(struct writer *w, struct kv_batch *b,
                            struct doubt doubt, struct kv_result *r)
{
    w->doubt = doubt;
    enum status s = kv_run(w->kv, b, w->timeout_ms, r);
    kv_batch_free(b);
    switch ((int)s) {
    case ST_OK:
        acknowledged(w);
        return DONE;
    case ST_UNKNOWN_OUTCOME:
        return settle(w, r);
    case ST_DEGRADED:
    case ST_UNREACHABLE:
    case ST_BUSY:
    case ST_NO_SPACE:
        count(w, &w->stats.refused);
        return NOT_DONE;
    default: /* nobody else writes here: nothing else may come */
        violation(w, "write", 0, status_name(s));
        return MUST_LOOK;
    }
}

/* Reads until there is an answer. */
static bool look(struct writer *w, struct kv_key key, struct buf *out,
                 bool *found)
{
    int64_t end = writer_now_us() + SETTLE_MS * 1000LL;
    enum status s = ST_TIMEOUT;
    while (s != ST_OK && s != ST_NOT_FOUND && writer_now_us() < end) {
        buf_clear(out);
        s = kv_get(w->kv, key, w->timeout_ms, out);
    }
    *found = s == ST_OK;
    if (s != ST_OK && s != ST_NOT_FOUND) {
        violation(w, "read", 0, status_name(s));
        return false;
    }
    return true;
}

static bool in_doubt(const struct writer *w, int kind, unsigned key)
{
    return (int)w->doubt.kind == kind && w->doubt.key == key;
}

static bool holds(const struct writer *w, struct cell_model m, bool found,
                  const struct buf *seen)
{
    struct buf want = {0};
    if (m.number == 0) {
        return !found;
    }
    value_of(w, m, &want);
    bool same = found && slice_equal(buf_slice(&want), buf_slice(seen));
    buf_free(&want);
    return same;
}

static void show(struct writer *w, unsigned key, struct cell_model want,
                 bool found, struct buf *seen)
{
    char text[256];
    (void)snprintf(text, sizeof(text),
                   "want write %llu, have %.60s (%zu bytes)",
                   (unsigned long long)want.number,
                   found ? buf_cstr(seen) : "nothing", seen->len);
    violation(w, "put cell", key, text);
}

/* ---- operations ---- */

static void check_cell(struct writer *w, unsigned key)
{
    char partition[64];
    struct buf seen = {0};
    bool found;
    partition_of(w, "put", key, partition);
    struct kv_key k = kv_key_of(partition, "row", "column");
    k.bulk = w->puts[key].large;
    if (look(w, k, &seen, &found) && !in_doubt(w, DOUBT_PUT, key) &&
        !holds(w, w->puts[key], found, &seen)) {
        show(w, key, w->puts[key], found, &seen);
    }
    count(w, &w->stats.reads);
    buf_free(&seen);
}

/* After a lost session: it is NEXT or what it was. */
static void look_cell(struct writer *w, unsigned key, struct cell_model next)
{
    char partition[64];
    struct buf seen = {0};
    bool found;
    partition_of(w, "put", key, partition);
    if (look(w, kv_key_of(partition, "row", "column"), &seen, &found)) {
        if (holds(w, next, found, &seen)) {
            w->puts[key] = next;
        } else if (!holds(w, w->puts[key], found, &seen)) {
            show(w, key, next, found, &seen);
        }
    }
    buf_free(&seen);
}

static void put(struct writer *w, unsigned key, bool compare)
{
    char partition[64];
    struct buf old = {0}, new = {0};
    struct kv_result r;
    struct cell_model next = {++w->number, !compare && draw(w) % 400 == 0};
    partition_of(w, "put", key, partition);
    struct kv_batch *b = kv_batch_new(slice_of(partition));
    value_of(w, next, &new);
    if (compare && w->puts[key].number == 0) {
        kv_batch_require_absent(b, "row", "column");
    } else if (compare) {
        value_of(w, w->puts[key], &old);
        kv_batch_require_equal(b, "row", "column", buf_slice(&old));
    }
    (void)kv_batch_put(b, "row", "column", buf_slice(&new));
    enum outcome o = perform(w, b, (struct doubt){DOUBT_PUT, key}, &r);
    if (o == DONE) {
        w->puts[key] = next;
    } else if (o == MUST_LOOK) {
        look_cell(w, key, next);
    }
    buf_free(&old);
    buf_free(&new);
}

static bool read_counter(struct writer *w, const char *partition,
                         const char *column, int64_t *out)
{
    struct buf seen = {0};
    bool found;
    bool ok = look(w, kv_key_of(partition, "row", column), &seen, &found);
    if (ok) {
        *out = found ? strtoll(buf_cstr(&seen), NULL, 10) : 0;
    }
    buf_free(&seen);
    return ok;
}

static void increment(struct writer *w, unsigned key)
{
    char partition[64], text[128];
    struct kv_result r;
    int64_t value = -1, want = w->counters[key] + 1;
    w->number++;
    partition_of(w, "counter", key, partition);
    struct kv_batch *b = kv_batch_new(slice_of(partition));
    int index = kv_batch_increment(b, "row", "count", 1);
    enum outcome o = perform(w, b, (struct doubt){DOUBT_COUNTER, key}, &r);
    if (o == DONE) {
        w->counters[key] = want;
        if (!kv_result_value(&r, index, &value) || value != want) {
            (void)snprintf(text, sizeof(text), "want %lld, answered %lld",
                           (long long)want, (long long)value);
            violation(w, "counter", key, text);
        }
    } else if (o == MUST_LOOK && read_counter(w, partition, "count", &value)) {
        if (value != want && value != want - 1) {
            violation(w, "counter", key, "neither before nor after");
        }
        w->counters[key] = value;
    }
}

static void add(struct writer *w, unsigned key)
{
    char partition[64];
    struct kv_result r;
    struct buf value = {0};
    int64_t seq = -1;
    struct cell_model m = {++w->number, false};
    partition_of(w, "list", key, partition);
    value_of(w, m, &value);
    struct kv_batch *b = kv_batch_new(slice_of(partition));
    int index = kv_batch_add(b, "row", "item/", "next", buf_slice(&value));
    enum outcome o = perform(w, b, (struct doubt){DOUBT_LIST, key}, &r);
    if (o == DONE) {
        w->added[key]++;
        if (!kv_result_value(&r, index, &seq) ||
            (uint64_t)seq != w->added[key]) {
            violation(w, "list", key, "the item's number is not the next");
        }
    } else if (o == MUST_LOOK && read_counter(w, partition, "next", &seq)) {
        if ((uint64_t)seq - w->added[key] > 1) {
            violation(w, "list", key, "neither before nor after");
        }
        w->added[key] = (uint64_t)seq;
    }
    buf_free(&value);
}

void writer_hold(struct writer *w)
{
    (void)pthread_mutex_lock(&w->lock);
    w->hold = true;
    while (!w->held) {
        (void)pthread_cond_wait(&w->changed, &w->lock);
    }
    (void)pthread_mutex_unlock(&w->lock);
}

void writer_go(struct writer *w)
{
    (void)pthread_mutex_lock(&w->lock);
    w->hold = false;
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->lock);
}

void *writer_run(void *arg)
{
    struct writer *w = arg;
    while (!atomic_load(&w->stop)) {
        rest(w);
        uint64_t what = draw(w) % 100;
        unsigned key = (unsigned)(draw(w) % WRITER_KEYS);
        if (what < 40) {
            put(w, key, false);
        } else if (what < 60) {
            put(w, key, true);
        } else if (what < 80) {
            increment(w, key);
        } else if (what < 90) {
            add(w, key);
        } else {
            check_cell(w, key);
        }
        w->doubt = (struct doubt){DOUBT_NONE, 0};
    }
    return NULL;
}

/* ---- at the end ---- */

static void check_list(struct writer *w, unsigned key)
{
    char partition[64], text[128];
    struct kv_scan scan = {.row = slice_of("row"),
                           .row_exact = true,
                           .column_prefix = slice_of("item/")};
    uint64_t items = 0;
    bool more = true;
    char after[64];
    partition_of(w, "list", key, partition);
    scan.partition = slice_of(partition);
    while (more) {
        struct arena a = {0};
        struct cell *cells;
        size_t n = 0;
        enum status s =
            kv_scan_page(w->kv, &scan, SETTLE_MS, &a, &cells, &n, &more);
        if (s != ST_OK) {
            violation(w, "scan", key, status_name(s));
            more = false;
        }
        items += n;
        if (more && n > 0) {
            (void)snprintf(after, sizeof(after), "%.*s",
                           (int)cells[n - 1].column.len,
                           (const char *)cells[n - 1].column.data);
            scan.has_after = true;
            scan.after_row = scan.row;
            scan.after_column = slice_of(after);
        }
        arena_free(&a);
    }
    if (items != w->added[key] && !in_doubt(w, DOUBT_LIST, key)) {
        (void)snprintf(
            text, sizeof(text), "%llu items acknowledged, %llu there",
            (unsigned long long)w->added[key], (unsigned long long)items);
        violation(w, "list", key, text);
    }
}

void writer_verify(struct writer *w)
{
    for (unsigned key = 0; key < WRITER_KEYS; key++) {
        char partition[64], text[128];
        int64_t value;
        check_cell(w, key);
        check_list(w, key);
        partition_of(w, "counter", key, partition);
        if (read_counter(w, partition, "count", &value) &&
            value != w->counters[key] && !in_doubt(w, DOUBT_COUNTER, key)) {
            (void)snprintf(text, sizeof(text), "want %lld, have %lld",
                           (long long)w->counters[key], (long long)value);
            violation(w, "counter", key, text);
        }
    }
}
