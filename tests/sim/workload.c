/*
 * Simulated clients over the very client core that the gateway uses.
 *
 * A client has several workers; each thinks, picks a key and an operation,
 * runs it to its end, settles an unknown outcome or gives it up, and writes
 * all into the history. When its process dies, an operation under way ends as
 * unknown, or as refused if the core vouches that nothing was sent.
 */
#include "tests/sim/workload.h"

#include "kv/batch.h"
#include "kv/core.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTLE_TRIES 20
#define AUDIT_TIMEOUT_US (20 * SIM_S)

enum key_kind { KEY_REGISTER, KEY_COUNTER, KEY_BOX };

struct client;

struct worker {
    struct client *client;
    struct env_timer timer;
    struct kv_op op;
    struct kv_batch *batch;
    char partition[32], seen[32];
    struct buf watched; /* the value that a watch has seen */
    uint32_t key, id;
    enum history_kind kind;
    bool busy, scan, audit, settling;
    unsigned tries;
};

struct client {
    struct workload *w;
    struct member *m;
    struct kv_core *core;
    bool dying;
    struct client *next;
    unsigned count;
    struct worker workers[];
};

/* What the last audit found in a box: histories' ids in order. */
struct box {
    uint32_t *ids;
    uint32_t count;
    bool audited;
};

struct workload {
    struct cluster *c;
    struct workload_options o;
    struct history *h;
    struct sim_rng rng;
    unsigned keys;
    int64_t *last;  /* value of each key as last read or written */
    int64_t values; /* unique values given out */
    struct box *boxes;
    struct client *clients;
    bool paused;
    unsigned audit_left;
    int64_t last_ack_us, gap_us;
    uint64_t stored; /* writes but deletes that were answered well */
    uint64_t reads;  /* the same */
    struct workload_stats stats;
};

static void worker_think(struct worker *k);

/* ---- keys and values ---- */

static enum key_kind kind_of(const struct workload *w, uint32_t key)
{
    return key < w->o.registers                   ? KEY_REGISTER
           : key < w->o.registers + w->o.counters ? KEY_COUNTER
                                                  : KEY_BOX;
}

static struct box *box_of(struct workload *w, uint32_t key)
{
    return &w->boxes[key - w->o.registers - w->o.counters];
}

/* A unique number, padded with bytes and to a length that follow from it: so a
 * reader knows each byte that must be there. */
static void value_make(const struct workload *w, int64_t value, uint32_t most,
                       struct buf *out)
{
    struct sim_rng r;
    sim_rng_init(&r, (uint64_t)value ^ UINT64_C(0x76616c7565));
    buf_printf(out, "%" PRId64 " ", value);
    uint32_t ppm = w->o.value_max > KIB(16) ? 600000 : 200000;
    size_t pad = sim_rng_chance(&r, ppm) ? sim_rng_below(&r, most + 1) : 0;
    uint8_t *at = buf_reserve(out, pad);
    for (size_t i = 0; i < pad; i++) {
        at[i] = (uint8_t)((uint64_t)value * 31 + i * 7 + (i >> 8));
    }
    out->len += pad;
}

static int64_t value_parse(struct slice s)
{
    char text[32] = "";
    memcpy(text, s.data, s.len < sizeof(text) - 1 ? s.len : sizeof(text) - 1);
    return strtoll(text, NULL, 10);
}

/* The number that the value S begins with; the bytes behind it are checked. */
static int64_t value_check(const struct workload *w, uint32_t key,
                           uint32_t most, struct slice s)
{
    struct buf whole = {0};
    int64_t value = value_parse(s);
    value_make(w, value, most, &whole);
    if (!slice_equal(buf_slice(&whole), s)) {
        sim_cluster_fail(w->c, "key %u: %zu bytes that nobody wrote so", key,
                         s.len);
    }
    buf_free(&whole);
    return value;
}

/* ---- ends of operations ---- */

static void note_gap(struct workload *w)
{
    int64_t now = world_now(w->c->w);
    if (now - w->last_ack_us > w->gap_us) {
        w->gap_us = now - w->last_ack_us;
    }
    w->last_ack_us = now;
}

static void worker_end(struct worker *k, enum history_outcome outcome,
                       int64_t value)
{
    struct workload *w = k->client->w;
    history_return(w->h, k->id, outcome, value, world_now(w->c->w));
    world_note(w->c->w, ((uint64_t)outcome << 56) ^ (uint64_t)value);
    w->stats.ok += outcome == HISTORY_OK || outcome == HISTORY_CONFLICT;
    w->stats.refused += outcome == HISTORY_REFUSED;
    w->stats.unknown += outcome == HISTORY_UNKNOWN;
    if (outcome == HISTORY_OK) {
        w->last[k->key] = value;
        if (k->kind != HISTORY_GET) {
            w->stored += k->kind != HISTORY_DELETE;
            note_gap(w);
        } else {
            w->reads++;
        }
    }
    kv_batch_free(k->batch);
    k->batch = NULL;
    k->busy = false;
    if (!k->client->dying) {
        worker_think(k);
    }
}

/* What a write's final status says. */
static enum history_outcome outcome_of(enum status s)
{
    if (s == ST_OK || s == ST_CONFLICT) {
        return s == ST_OK ? HISTORY_OK : HISTORY_CONFLICT;
    }
    if (s == ST_UNKNOWN_OUTCOME || s == ST_UNKNOWN_CLIENT ||
        s == ST_OTHER_SESSION || s == ST_SUPERSEDED) {
        return HISTORY_UNKNOWN;
    }
    return HISTORY_REFUSED;
}

/* Value after the write that ended well. */
static int64_t written_value(struct worker *k)
{
    struct workload *w = k->client->w;
    int64_t value, added;
    switch (kind_of(w, k->key)) {
    case KEY_REGISTER:
        return k->kind == HISTORY_DELETE ? HISTORY_ABSENT
                                         : value_parse(slice_of(k->seen));
    case KEY_COUNTER:
        if (!kv_result_value(&k->op.result, 0, &value)) {
            sim_cluster_fail(w->c, "an increment of key %u has no value",
                             k->key);
            return 0;
        }
        return value;
    case KEY_BOX:
        if (!kv_result_value(&k->op.result, 0, &value) ||
            !kv_result_value(&k->op.result, 1, &added) || value != added) {
            sim_cluster_fail(w->c, "box %u: count and place differ", k->key);
            return 0;
        }
        return value;
    }
    return 0;
}

static void on_settled(struct kv_op *op);

static void settle(struct worker *k)
{
    struct kv_pending pending = k->op.result.pending;
    memset(&k->op, 0, sizeof(k->op));
    k->op.kind = KV_OP_SETTLE;
    k->op.in.settle = pending;
    k->op.timeout_us = k->client->w->o.timeout_us;
    k->op.done = on_settled;
    k->op.data = k;
    k->settling = true;
    kv_core_start(k->client->core, &k->op);
}

static void on_written(struct kv_op *op)
{
    struct worker *k = op->data;
    struct workload *w = k->client->w;
    enum history_outcome outcome = outcome_of(op->status);
    if (op->status == ST_UNKNOWN_OUTCOME && !k->client->dying && !op->give_up) {
        k->tries = 0;
        settle(k);
        return;
    }
    world_trace(w->c->w, "%s: write %u of key %u: %s", k->client->m->name,
                k->id, k->key, status_name(op->status));
    worker_end(k, outcome, outcome == HISTORY_OK ? written_value(k) : 0);
}

static void on_settled(struct kv_op *op)
{
    struct worker *k = op->data;
    struct workload *w = k->client->w;
    enum history_outcome outcome = outcome_of(op->status);
    world_trace(w->c->w, "%s: write %u of key %u is settled: %s",
                k->client->m->name, k->id, k->key, status_name(op->status));
    /* A settle that was refused says nothing of the write. */
    if (outcome == HISTORY_REFUSED && op->status != ST_VOID) {
        outcome = HISTORY_UNKNOWN;
    }
    if (outcome == HISTORY_UNKNOWN && op->status != ST_UNKNOWN_CLIENT &&
        !k->client->dying) {
        if (++k->tries < SETTLE_TRIES) {
            settle(k);
            return;
        }
        kv_core_abandon(k->client->core, &op->in.settle);
    }
    w->stats.settled += outcome != HISTORY_UNKNOWN;
    worker_end(k, outcome, outcome == HISTORY_OK ? written_value(k) : 0);
}

static void audit_read(struct worker *k, enum status s);

static void on_got(struct kv_op *op)
{
    struct worker *k = op->data;
    if (k->audit) {
        audit_read(k, op->status);
    }
    if (op->status == ST_OK) {
        assert(op->answer != NULL && op->answer->type == MSG_VALUE);
        struct slice v = op->answer->u.value.value;
        worker_end(k, HISTORY_OK,
                   kind_of(k->client->w, k->key) == KEY_REGISTER
                       ? value_check(k->client->w, k->key,
                                     k->client->w->o.value_max, v)
                       : value_parse(v));
    } else if (op->status == ST_NOT_FOUND) {
        worker_end(k, HISTORY_OK, HISTORY_ABSENT);
    } else {
        worker_end(k, HISTORY_REFUSED, 0);
    }
}

static void on_watched(struct kv_op *op)
{
    struct worker *k = op->data;
    if (op->status != ST_OK) {
        worker_end(k, HISTORY_REFUSED, 0);
        return;
    }
    assert(op->answer != NULL && op->answer->type == MSG_CHANGED);
    const struct msg_changed *m = &op->answer->u.changed;
    int64_t value = m->found ? value_parse(m->value) : HISTORY_ABSENT;
    if (op->in.watch.seen == m->found &&
        (!m->found || slice_equal(op->in.watch.value, m->value))) {
        sim_cluster_fail(k->client->w->c,
                         "a watch of key %u gave what was seen", k->key);
    }
    worker_end(k, HISTORY_OK, value);
}

/* ---- boxes ---- */

/* Elements are shorter: a box is to fit one page. */
static uint32_t element_most(const struct workload *w)
{
    return w->o.value_max / 8;
}

/* A page of a box is one instant: as many elements as it counts, places from
 * 1 on without a gap, none twice. */
static int64_t box_read(struct worker *k, const struct msg_cells *m)
{
    struct workload *w = k->client->w;
    struct box *b = box_of(w, k->key);
    int64_t count = 0, next = 0;
    uint32_t found = 0;
    free(b->ids);
    b->ids = xcalloc(m->cells_count + 1, sizeof(*b->ids));
    for (uint32_t i = 0; i < m->cells_count; i++) {
        struct slice column = m->cells[i].column;
        struct slice value = m->cells[i].value;
        if (slice_equal(column, slice_of("count"))) {
            count = value_parse(value);
        } else if (slice_equal(column, slice_of("next"))) {
            next = value_parse(value);
        } else {
            char place[32];
            (void)snprintf(place, sizeof(place), "e/%016x", found + 1);
            if (!slice_equal(column, slice_of(place))) {
                sim_cluster_fail(w->c, "box %u: no element %u", k->key,
                                 found + 1);
            }
            b->ids[found++] =
                (uint32_t)value_check(w, k->key, element_most(w), value);
        }
    }
    b->count = found;
    b->audited = true;
    if (count != found || next != count) {
        sim_cluster_fail(
            w->c, "box %u: %u elements, count %" PRId64 ", last %" PRId64,
            k->key, found, count, next);
    }
    return count;
}

static void on_scanned(struct kv_op *op)
{
    struct worker *k = op->data;
    if (k->audit) {
        audit_read(k, op->status);
    }
    if (op->status != ST_OK) {
        worker_end(k, HISTORY_REFUSED, 0);
        return;
    }
    assert(op->answer != NULL && op->answer->type == MSG_CELLS);
    int64_t count =
        op->answer->u.cells.more ? -1 : box_read(k, &op->answer->u.cells);
    if (count < 0) {
        worker_end(k, HISTORY_REFUSED, 0); /* too large for one page */
    } else {
        worker_end(k, HISTORY_OK, count == 0 ? HISTORY_ABSENT : count);
    }
}

/* ---- beginnings ---- */

static void invoke(struct worker *k, enum history_kind kind, int64_t argument,
                   int64_t expected)
{
    struct workload *w = k->client->w;
    struct history_ask ask = {.client =
                                  (uint32_t)(k->client->m - w->c->members),
                              .key = k->key,
                              .kind = kind,
                              .argument = argument,
                              .expected = expected,
                              .time_us = world_now(w->c->w)};
    k->kind = kind;
    k->id = history_invoke(w->h, &ask);
    k->busy = true;
    w->stats.asked++;
    memset(&k->op, 0, sizeof(k->op));
    k->op.data = k;
    k->op.timeout_us =
        sim_rng_range(&w->rng, w->o.timeout_us / 10, w->o.timeout_us);
    (void)snprintf(k->partition, sizeof(k->partition), "key-%u", k->key);
}

static void start_get(struct worker *k)
{
    invoke(k, HISTORY_GET, 0, 0);
    k->op.kind = KV_OP_GET;
    k->op.done = on_got;
    k->op.in.get.partition = slice_of(k->partition);
    k->op.in.get.row = slice_of("row");
    k->op.in.get.column = slice_of("cell");
    kv_core_start(k->client->core, &k->op);
}

static void start_watch(struct worker *k, int64_t last)
{
    invoke(k, HISTORY_GET, 0, 0);
    k->op.kind = KV_OP_WATCH;
    k->op.timeout_us = 300 * SIM_MS;
    k->op.done = on_watched;
    struct msg_watch *m = &k->op.in.watch;
    m->partition = slice_of(k->partition);
    m->row = slice_of("row");
    bool whole = sim_rng_chance(&k->client->w->rng, 500000);
    /* "id" is as the cell's value, without padding. */
    m->column = slice_of(whole ? "cell" : "id");
    m->seen = last != HISTORY_ABSENT;
    (void)snprintf(k->seen, sizeof(k->seen), "%" PRId64, last);
    m->value = m->seen ? slice_of(k->seen) : slice_make(NULL, 0);
    if (m->seen && whole) {
        buf_clear(&k->watched);
        value_make(k->client->w, last, k->client->w->o.value_max, &k->watched);
        m->value = buf_slice(&k->watched);
    }
    kv_core_start(k->client->core, &k->op);
}

static void start_scan(struct worker *k)
{
    invoke(k, HISTORY_GET, 0, 0);
    k->op.kind = KV_OP_SCAN;
    k->op.done = on_scanned;
    k->op.in.scan.partition = slice_of(k->partition);
    k->op.in.scan.row_prefix = slice_of("row");
    k->op.in.scan.row_exact = 1;
    kv_core_start(k->client->core, &k->op);
}

static void start_batch(struct worker *k)
{
    struct workload *w = k->client->w;
    k->op.kind = KV_OP_COMMAND;
    k->op.done = on_written;
    k->op.in.command = kv_batch_command(k->batch);
    k->op.give_up = !sim_rng_chance(&w->rng, w->o.settle_ppm);
    kv_core_start(k->client->core, &k->op);
}

/* Sometimes the whole cell is compared, if one record takes both values. */
static bool whole_fits(struct workload *w, int64_t last, struct slice new,
                       struct buf *whole)
{
    if (!sim_rng_chance(&w->rng, 500000)) {
        return false;
    }
    value_make(w, last, w->o.value_max, whole);
    return whole->len + new.len < KIB(48);
}

static void start_register(struct worker *k)
{
    struct workload *w = k->client->w;
    struct buf value = {0}, whole = {0};
    char old[32];
    int64_t last = w->last[k->key], new = ++w->values;
    uint64_t what = sim_rng_below(&w->rng, 10);
    enum history_kind kind = what < 4   ? HISTORY_PUT
                             : what < 9 ? HISTORY_CPUT
                                        : HISTORY_DELETE;
    invoke(k, kind, new, last);
    value_make(w, new, w->o.value_max, &value);
    (void)snprintf(k->seen, sizeof(k->seen), "%" PRId64, new);
    (void)snprintf(old, sizeof(old), "%" PRId64, last);
    k->batch = kv_batch_new(slice_of(k->partition));
    if (kind == HISTORY_CPUT && last == HISTORY_ABSENT) {
        kv_batch_require_absent(k->batch, "row", "cell");
    } else if (kind == HISTORY_CPUT &&
               whole_fits(w, last, buf_slice(&value), &whole)) {
        kv_batch_require_equal(k->batch, "row", "cell", buf_slice(&whole));
    } else if (kind == HISTORY_CPUT) {
        kv_batch_require_equal(k->batch, "row", "id", slice_of(old));
    }
    if (kind == HISTORY_DELETE) {
        (void)kv_batch_delete(k->batch, "row", "cell");
        (void)kv_batch_delete(k->batch, "row", "id");
    } else {
        (void)kv_batch_put(k->batch, "row", "cell", buf_slice(&value));
        (void)kv_batch_put(k->batch, "row", "id", slice_of(k->seen));
    }
    buf_free(&value);
    buf_free(&whole);
    start_batch(k);
}

static void start_increment(struct worker *k)
{
    invoke(k, HISTORY_INCREMENT, 1, 0);
    k->batch = kv_batch_new(slice_of(k->partition));
    (void)kv_batch_increment(k->batch, "row", "cell", 1);
    start_batch(k);
}

static void start_append(struct worker *k)
{
    struct buf value = {0};
    invoke(k, HISTORY_INCREMENT, 1, 0);
    value_make(k->client->w, k->id, element_most(k->client->w), &value);
    k->batch = kv_batch_new(slice_of(k->partition));
    (void)kv_batch_increment(k->batch, "row", "count", 1);
    (void)kv_batch_add(k->batch, "row", "e/", "next", buf_slice(&value));
    buf_free(&value);
    start_batch(k);
}

static void start_one(struct worker *k)
{
    struct workload *w = k->client->w;
    k->key = (uint32_t)sim_rng_below(&w->rng, w->keys);
    bool read = sim_rng_chance(&w->rng, 450000);
    switch (kind_of(w, k->key)) {
    case KEY_REGISTER:
        if (read && sim_rng_chance(&w->rng, 100000)) {
            start_watch(k, w->last[k->key]);
        } else if (read) {
            start_get(k);
        } else {
            start_register(k);
        }
        break;
    case KEY_COUNTER:
        if (read) {
            start_get(k);
        } else {
            start_increment(k);
        }
        break;
    case KEY_BOX:
        if (read) {
            start_scan(k);
        } else {
            start_append(k);
        }
        break;
    }
}

static void on_timer(struct env_timer *t)
{
    struct worker *k = t->data;
    if (k->busy) {
        return;
    }
    if (k->client->w->paused) {
        worker_think(k);
    } else {
        start_one(k);
    }
}

static void worker_think(struct worker *k)
{
    struct workload *w = k->client->w;
    env_timer_start(k->client->m->env, &k->timer,
                    sim_rng_range(&w->rng, 0, 2 * w->o.think_us));
}

/* ---- clients ---- */

void *workload_client_new(struct workload *w, struct member *m)
{
    struct client *c =
        xcalloc(1, sizeof(*c) + w->o.workers * sizeof(c->workers[0]));
    struct kv_core_options o = {.coordinators = w->c->coordinators};
    c->w = w;
    c->m = m;
    c->core = kv_core_new(m->env, &o);
    c->count = w->o.workers;
    for (unsigned i = 0; i < c->count; i++) {
        struct worker *k = &c->workers[i];
        k->client = c;
        k->timer.fn = on_timer;
        k->timer.data = k;
        worker_think(k);
    }
    c->next = w->clients;
    w->clients = c;
    return c;
}

void workload_client_free(void *object)
{
    struct client *c = object;
    struct client **at = &c->w->clients;
    while (*at != c) {
        at = &(*at)->next;
    }
    *at = c->next;
    c->dying = true;
    kv_core_free(c->core);
    for (unsigned i = 0; i < c->count; i++) {
        env_timer_stop(c->m->env, &c->workers[i].timer);
        kv_batch_free(c->workers[i].batch);
        buf_free(&c->workers[i].watched);
    }
    free(c);
}

struct workload *workload_new(struct cluster *c,
                              const struct workload_options *o)
{
    struct workload *w = xcalloc(1, sizeof(*w));
    w->c = c;
    w->o = *o;
    w->h = history_new();
    sim_rng_init(&w->rng, sim_rng_next(world_rng(c->w)));
    w->keys = o->registers + o->counters + o->boxes;
    w->last = xcalloc(w->keys, sizeof(*w->last));
    for (unsigned i = 0; i < w->keys; i++) {
        w->last[i] = HISTORY_ABSENT;
    }
    w->boxes = xcalloc(o->boxes + 1, sizeof(*w->boxes));
    c->workload = w;
    return w;
}

void workload_free(struct workload *w)
{
    if (w == NULL) {
        return;
    }
    assert(w->clients == NULL);
    for (unsigned i = 0; i < w->o.boxes; i++) {
        free(w->boxes[i].ids);
    }
    history_free(w->h);
    free(w->boxes);
    free(w->last);
    free(w);
}

void workload_pause(struct workload *w, bool paused)
{
    w->paused = paused;
}

bool workload_idle(const struct workload *w)
{
    for (const struct client *c = w->clients; c != NULL; c = c->next) {
        for (unsigned i = 0; i < c->count; i++) {
            if (c->workers[i].busy) {
                return false;
            }
        }
    }
    return true;
}

uint64_t workload_stored(const struct workload *w)
{
    return w->stored;
}

uint64_t workload_reads(const struct workload *w)
{
    return w->reads;
}

void workload_get_stats(const struct workload *w, struct workload_stats *out)
{
    *out = w->stats;
}

int64_t workload_longest_gap(struct workload *w)
{
    note_gap(w);
    int64_t gap = w->gap_us;
    w->gap_us = 0;
    return gap;
}

/* ---- audit ---- */

static void audit_next(struct workload *w)
{
    struct worker *k = &w->clients->workers[0];
    k->key = --w->audit_left;
    k->audit = true;
    int64_t timeout = w->o.timeout_us;
    w->o.timeout_us = AUDIT_TIMEOUT_US;
    if (kind_of(w, k->key) == KEY_BOX) {
        start_scan(k);
    } else {
        start_get(k);
    }
    w->o.timeout_us = timeout;
}

static void audit_later(void *ctx)
{
    audit_next(ctx);
}

static void audit_read(struct worker *k, enum status s)
{
    struct workload *w = k->client->w;
    k->audit = false;
    if (s != ST_OK && s != ST_NOT_FOUND) {
        sim_cluster_fail(w->c, "the audit cannot read key %u: %s", k->key,
                         status_name(s));
    } else if (w->audit_left > 0) {
        sim_env_post(k->client->m->env, audit_later, w);
    }
}

void workload_audit_begin(struct workload *w)
{
    assert(w->paused && workload_idle(w) && w->clients != NULL);
    for (unsigned i = 0; i < w->o.boxes; i++) {
        w->boxes[i].audited = false;
    }
    w->audit_left = w->keys;
    sim_env_post(w->clients->m->env, audit_later, w);
}

bool workload_audit_done(const struct workload *w)
{
    return w->audit_left == 0 && workload_idle(w);
}

bool workload_check(struct workload *w, struct buf *why)
{
    for (unsigned i = 0; i < w->o.boxes; i++) {
        const struct box *b = &w->boxes[i];
        uint32_t key = w->o.registers + w->o.counters + i;
        if (b->audited &&
            !history_check_list(w->h, key, b->ids, b->count, why)) {
            return false;
        }
    }
    enum history_verdict v = history_check(w->h, why);
    w->stats.undecided += v == HISTORY_UNDECIDED;
    return v != HISTORY_BAD;
}
