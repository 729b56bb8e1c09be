/*
 * The store in one process: see the header. One lock; one client with one
 * session at a time.
 */
#include "tests/support/local_kv.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kv/batch.h"
#include "storage/state.h"

struct kv {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct state *state;
    uint64_t session, number;
    bool open[1024]; /* numbers modulo: taken and not closed */
    uint64_t oldest_open;
    struct buf late; /* an encoded command under way, or empty */
    unsigned fail_at, fail_count;
    enum local_kv_fault fault;
    char only[64];
    bool failed;
};

static const struct id128 client = {{0x10, 0xca, 0x1}};

static enum status apply(struct kv *kv, const struct command *c,
                         struct applied *out)
{
    struct buf payload = {0};
    struct name name = {1, state_applied(kv->state).seq + 1};
    wire_encode_command(&payload, c);
    state_apply(kv->state, name, buf_slice(&payload), 0, out);
    buf_free(&payload);
    pthread_cond_broadcast(&kv->changed);
    return (enum status)out->r.status;
}

static void introduce(struct kv *kv)
{
    struct applied out;
    struct command c = {.kind = COMMAND_INTRODUCE, .client = client};
    enum status st = apply(kv, &c, &out);
    assert(st == ST_OK);
    kv->session = out.r.session;
    kv->number = 0;
    kv->oldest_open = 1;
    memset(kv->open, 0, sizeof kv->open);
}

struct kv *local_kv_open(void)
{
    struct kv *kv = xcalloc(1, sizeof *kv);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&kv->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&kv->lock, NULL);
    kv->state = state_new();
    introduce(kv);
    return kv;
}

void kv_close(struct kv *kv)
{
    if (kv == NULL)
        return;
    state_free(kv->state);
    buf_free(&kv->late);
    pthread_cond_destroy(&kv->changed);
    pthread_mutex_destroy(&kv->lock);
    free(kv);
}

/* ---- faults ---- */

void local_kv_fail(struct kv *kv, unsigned at, unsigned count,
                   enum local_kv_fault kind)
{
    pthread_mutex_lock(&kv->lock);
    kv->fail_at = at;
    kv->fail_count = count;
    kv->fault = kind;
    kv->failed = false;
    pthread_mutex_unlock(&kv->lock);
}

void local_kv_fail_only(struct kv *kv, const char *prefix)
{
    pthread_mutex_lock(&kv->lock);
    snprintf(kv->only, sizeof kv->only, "%s", prefix != NULL ? prefix : "");
    pthread_mutex_unlock(&kv->lock);
}

bool local_kv_failed(struct kv *kv)
{
    pthread_mutex_lock(&kv->lock);
    bool failed = kv->failed;
    pthread_mutex_unlock(&kv->lock);
    return failed;
}

uint64_t local_kv_cells(struct kv *kv)
{
    struct state_counts counts;
    pthread_mutex_lock(&kv->lock);
    state_count(kv->state, &counts);
    pthread_mutex_unlock(&kv->lock);
    return counts.cells;
}

/* What is to go wrong with this call. */
static enum local_kv_fault next_fault(struct kv *kv, struct slice partition)
{
    if (kv->fail_count == 0 ||
        !slice_starts_with(partition, slice_of(kv->only)))
        return LOCAL_NONE;
    if (kv->fail_at > 0) {
        kv->fail_at--;
        return LOCAL_NONE;
    }
    kv->fail_count--;
    kv->failed = true;
    return kv->fault;
}

/* A full disk is no matter to reads and settles. */
static bool read_fails(struct kv *kv, struct slice partition)
{
    return kv->fault != LOCAL_FULL && kv->fault != LOCAL_FULL_RESERVE &&
           next_fault(kv, partition) != LOCAL_NONE;
}

static enum status read_failure(const struct kv *kv)
{
    return kv->fault == LOCAL_STOPPED ? ST_STOPPING : ST_TIMEOUT;
}

/* ---- reads ---- */

enum status kv_get(struct kv *kv, struct kv_key key, int timeout_ms,
                   struct buf *out)
{
    struct cell_value value;
    enum status st = ST_NOT_FOUND;
    pthread_mutex_lock(&kv->lock);
    if (read_fails(kv, key.partition)) {
        st = read_failure(kv);
    } else if (state_get(kv->state, key.partition, key.row, key.column,
                         &value)) {
        buf_put_slice(out, value.bytes);
        st = ST_OK;
    }
    pthread_mutex_unlock(&kv->lock);
    /* What is decided from this may meet what others decide meanwhile. */
    sched_yield();
    return st;
}

enum status kv_scan_page(struct kv *kv, const struct kv_scan *scan,
                         int timeout_ms, struct arena *arena,
                         struct cell **cells, size_t *count, bool *more)
{
    struct msg_scan m = {.partition = scan->partition,
                         .row_prefix = scan->row,
                         .row_exact = scan->row_exact,
                         .column_prefix = scan->column_prefix,
                         .reverse = scan->reverse,
                         .has_after = scan->has_after,
                         .after_row = scan->after_row,
                         .after_column = scan->after_column,
                         .limit = scan->limit};
    struct msg_cells page = {0};
    struct place *places;
    enum status st = ST_OK;
    pthread_mutex_lock(&kv->lock);
    if (read_fails(kv, scan->partition))
        st = read_failure(kv);
    else
        state_scan(kv->state, &m, arena, &page, &places);
    pthread_mutex_unlock(&kv->lock);
    if (st == ST_OK) {
        *cells = page.cells;
        *count = page.cells_count;
        *more = page.more != 0;
    }
    return st;
}

/* Whether the cell is as SEEN says. */
static bool unchanged(struct kv *kv, struct kv_key key,
                      const struct slice *seen, bool *found,
                      struct slice *value)
{
    struct cell_value v = {.bytes = {NULL, 0}};
    *found = state_get(kv->state, key.partition, key.row, key.column, &v);
    *value = v.bytes;
    if (*found != (seen != NULL))
        return false;
    return !*found || slice_equal(*value, *seen);
}

enum status kv_watch(struct kv *kv, struct kv_key key, const struct slice *seen,
                     int wait_ms, bool *found, struct buf *out)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += wait_ms % 1000 * 1000000l;
    if (until.tv_nsec >= 1000000000l) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000l;
    }
    struct slice value;
    enum status st = ST_OK;
    pthread_mutex_lock(&kv->lock);
    while (st == ST_OK && unchanged(kv, key, seen, found, &value)) {
        if (pthread_cond_timedwait(&kv->changed, &kv->lock, &until) != 0)
            st = ST_TIMEOUT;
    }
    if (st == ST_OK && *found)
        buf_put_slice(out, value);
    pthread_mutex_unlock(&kv->lock);
    return st;
}

/* ---- writes ---- */

static void fill_result(const struct applied *a, struct kv_result *r)
{
    r->failed = a->r.failed;
    r->more = a->r.more != 0;
    r->count = a->r.values_count;
    for (uint32_t i = 0; i < r->count; i++) {
        r->values[i].mutation = a->r.values[i].mutation;
        r->values[i].value = a->r.values[i].value;
    }
}

static void close_number(struct kv *kv, uint64_t number)
{
    kv->open[number % 1024] = false;
    while (kv->oldest_open <= kv->number && !kv->open[kv->oldest_open % 1024])
        kv->oldest_open++;
}

static struct command take_number(struct kv *kv, const struct kv_batch *b)
{
    struct command c = *kv_batch_command(b);
    c.client = client;
    c.session = kv->session;
    c.number = ++kv->number;
    kv->open[c.number % 1024] = true;
    c.oldest_open = kv->oldest_open;
    return c;
}

/* The command that was late arrives now; its answer goes nowhere. */
static void let_arrive(struct kv *kv)
{
    struct applied out;
    if (kv->late.len == 0)
        return;
    struct name name = {1, state_applied(kv->state).seq + 1};
    state_apply(kv->state, name, buf_slice(&kv->late), 0, &out);
    buf_clear(&kv->late);
}

/* Loses the answer to C, and more, as FAULT says. */
static enum status lose(struct kv *kv, const struct command *c,
                        enum local_kv_fault fault, struct kv_result *r)
{
    struct applied out;
    if (fault == LOCAL_UNREACHABLE || fault == LOCAL_STOPPED ||
        fault == LOCAL_FULL || fault == LOCAL_FULL_RESERVE) {
        close_number(kv, c->number);
        if (fault == LOCAL_FULL || fault == LOCAL_FULL_RESERVE)
            return ST_NO_SPACE;
        return fault == LOCAL_STOPPED ? ST_STOPPING : ST_UNREACHABLE;
    }
    if (fault == LOCAL_LOST_DONE || fault == LOCAL_FORGOTTEN_DONE)
        (void)apply(kv, c, &out);
    if (fault == LOCAL_LATE)
        wire_encode_command(&kv->late, c);
    r->pending.session = c->session;
    r->pending.number = c->number;
    if (fault == LOCAL_FORGOTTEN_DONE || fault == LOCAL_FORGOTTEN_NOT_DONE)
        introduce(kv);
    return ST_UNKNOWN_OUTCOME;
}

enum status kv_run(struct kv *kv, const struct kv_batch *b, int timeout_ms,
                   struct kv_result *result)
{
    struct kv_result mine = {0};
    struct kv_result *r = result != NULL ? result : &mine;
    struct applied out;
    enum status st;
    pthread_mutex_lock(&kv->lock);
    let_arrive(kv);
    struct command c = take_number(kv, b);
    st = state_check_command(&c);
    enum local_kv_fault fault = next_fault(kv, c.partition);
    if (fault == LOCAL_FULL_RESERVE && state_need(&c) != NEED_ROOM)
        fault = LOCAL_NONE;
    if (st != ST_OK) {
        close_number(kv, c.number);
    } else if (fault != LOCAL_NONE) {
        st = lose(kv, &c, fault, r);
    } else {
        st = apply(kv, &c, &out);
        fill_result(&out, r);
        close_number(kv, c.number);
    }
    pthread_mutex_unlock(&kv->lock);
    if (st == ST_UNKNOWN_OUTCOME && result == NULL)
        kv_abandon(kv, r);
    return st;
}

enum status kv_settle(struct kv *kv, struct kv_result *result, int timeout_ms)
{
    struct applied out;
    enum status st;
    pthread_mutex_lock(&kv->lock);
    if (read_fails(kv, slice_of(kv->only))) {
        st = ST_UNKNOWN_OUTCOME;
        goto out;
    }
    struct command c = {.kind = COMMAND_SETTLE,
                        .client = client,
                        .session = result->pending.session,
                        .number = result->pending.number,
                        .oldest_open = kv->oldest_open};
    st = apply(kv, &c, &out);
    if (st == ST_OTHER_SESSION)
        st = ST_UNKNOWN_CLIENT;
    if (st != ST_UNKNOWN_CLIENT)
        close_number(kv, c.number);
    fill_result(&out, result);
out:
    pthread_mutex_unlock(&kv->lock);
    return st;
}

void kv_abandon(struct kv *kv, const struct kv_result *result)
{
    pthread_mutex_lock(&kv->lock);
    if (result->pending.session == kv->session)
        close_number(kv, result->pending.number);
    pthread_mutex_unlock(&kv->lock);
}

enum status kv_put(struct kv *kv, struct kv_key key, struct slice value,
                   int timeout_ms)
{
    char row[LIMIT_KEY_PART + 1] = "", column[LIMIT_KEY_PART + 1] = "";
    memcpy(row, key.row.data, key.row.len);
    memcpy(column, key.column.data, key.column.len);
    struct kv_batch *b = kv_batch_new(key.partition);
    kv_batch_put(b, row, column, value);
    enum status st = kv_run(kv, b, timeout_ms, NULL);
    kv_batch_free(b);
    return st;
}
