/*
 * A replica's log in memory: the names of all entries behind the last
 * checkpoint, and the payloads of the newest of them. A seq's place in the
 * ring follows from its distance to the base. An entry is on this disk when
 * the ordinal of its record has been reported synced; ordinals, unlike seqs,
 * never run backwards, so a cut and what is appended after it cannot be
 * confused with what was there before.
 */
#include "storage/replica_impl.h"

#include "storage/blob_command.h"

#include <stdlib.h>
#include <string.h>

struct name log_last(const struct replica_core *r)
{
    const struct tail *t = &r->tail;
    if (t->count == 0) {
        return t->base;
    }
    return t->ring[(t->head + t->count - 1) & (t->cap - 1)].name;
}

struct entry *log_entry(const struct replica_core *r, uint64_t seq)
{
    const struct tail *t = &r->tail;
    if (seq <= t->base.seq || seq > t->base.seq + t->count) {
        return NULL;
    }
    uint32_t i = (uint32_t)(seq - t->base.seq - 1);
    return &t->ring[(t->head + i) & (t->cap - 1)];
}

bool log_name(const struct replica_core *r, uint64_t seq, struct name *out)
{
    if (seq == r->tail.base.seq) {
        *out = r->tail.base;
        return true;
    }
    const struct entry *e = log_entry(r, seq);
    if (e == NULL) {
        return false;
    }
    *out = e->name;
    return true;
}

static void grow(struct tail *t)
{
    uint32_t cap = t->cap == 0 ? 64 : t->cap * 2;
    struct entry *ring = xcalloc(cap, sizeof(*ring));
    for (uint32_t i = 0; i < t->count; i++) {
        ring[i] = t->ring[(t->head + i) & (t->cap - 1)];
    }
    free(t->ring);
    t->ring = ring;
    t->cap = cap;
    t->head = 0;
}

/* ---- blobs that entries refer to (R6) ---- */

static void tell_blobs(const struct replica_core *r, const struct entry *e,
                       int delta)
{
    for (uint32_t i = 0; i < e->blob_count && r->host->on_blob != NULL; i++) {
        r->host->on_blob(r->host->ctx, r->tablet, &e->blobs[i], delta);
    }
}

void log_tell_blobs(const struct replica_core *r, struct slice payload,
                    int delta)
{
    struct arena a = {0};
    struct entry e = {.len = 0};
    e.blob_count = blob_command_refs(payload, &a, &e.blobs);
    tell_blobs(r, &e, delta);
    arena_free(&a);
}

static void note_blobs(struct replica_core *r, struct entry *e,
                       struct slice payload)
{
    struct arena a = {0};
    struct blob_ref *refs = NULL;
    if (!blob_command_refers(payload)) {
        return;
    }
    e->blob_count = blob_command_refs(payload, &a, &refs);
    if (e->blob_count > 0) {
        e->blobs = xmalloc(e->blob_count * sizeof(*refs));
        memcpy(e->blobs, refs, e->blob_count * sizeof(*refs));
    }
    arena_free(&a);
    for (uint32_t i = 0; i < e->blob_count; i++) {
        e->blob_bytes += e->blobs[i].len;
    }
    r->tail.blob_bytes += e->blob_bytes;
    tell_blobs(r, e, 1);
}

/* The entry is no more. */
static void forget_blobs(const struct replica_core *r, struct entry *e)
{
    tell_blobs(r, e, -1);
    free(e->blobs);
    e->blobs = NULL;
    e->blob_count = 0;
}

void replica_each_blob(const struct replica_core *r,
                       void (*fn)(void *ctx, const struct blob_ref *ref),
                       void *ctx)
{
    const struct tail *t = &r->tail;
    for (uint32_t i = 0; i < t->count; i++) {
        const struct entry *e = &t->ring[(t->head + i) & (t->cap - 1)];
        for (uint32_t j = 0; j < e->blob_count; j++) {
            fn(ctx, &e->blobs[j]);
        }
    }
}

struct entry *log_push(struct replica_core *r, struct name name,
                       struct slice payload)
{
    struct tail *t = &r->tail;
    struct name last = log_last(r);
    assert(name.seq == last.seq + 1); /* R6: seq is dense */
    assert(name.epoch >= last.epoch); /* R13: epochs never fall */
    assert(payload.len <= UINT32_MAX);
    if (t->count == t->cap) {
        grow(t);
    }
    struct entry *e = &t->ring[(t->head + t->count) & (t->cap - 1)];
    *e = (struct entry){.name = name, .len = (uint32_t)payload.len};
    e->payload = xmalloc(payload.len);
    if (payload.len > 0) {
        memcpy(e->payload, payload.data, payload.len);
    }
    t->count++;
    t->payload_bytes += payload.len;
    note_blobs(r, e, payload);
    return e;
}

void log_append(struct replica_core *r, struct name name, struct slice payload,
                struct effects *fx)
{
    struct name previous = log_last(r);
    struct entry *e = log_push(r, name, payload);
    e->ordinal = r->next_ordinal++;
    struct effect *x = fx_add(fx, FX_APPEND);
    x->ordinal = e->ordinal;
    x->record = (struct wal_record){
        .kind = WAL_ENTRY,
        .tablet = r->tablet,
        .name = name,
        .previous = previous,
        .seq = r->committed,
        .payload = slice_make(e->payload, e->len),
    };
}

static void drop_payload(struct tail *t, struct entry *e)
{
    if (e->payload != NULL) {
        t->payload_bytes -= e->len;
        t->blob_bytes -= e->blob_bytes;
        free(e->payload);
        e->payload = NULL;
    }
}

void log_cut(struct replica_core *r, struct name to)
{
    struct tail *t = &r->tail;
    while (t->count > 0 && log_last(r).seq > to.seq) {
        struct entry *e = &t->ring[(t->head + t->count - 1) & (t->cap - 1)];
        drop_payload(t, e);
        forget_blobs(r, e);
        t->count--;
    }
    assert(name_equal(log_last(r), to));
    if (t->synced_seq > to.seq) {
        t->synced_seq = to.seq;
    }
    if (t->payload_from > to.seq + 1) {
        t->payload_from = to.seq + 1;
    }
}

void log_reset(struct replica_core *r, struct name name)
{
    struct tail *t = &r->tail;
    for (uint32_t i = 0; i < t->count; i++) {
        struct entry *e = &t->ring[(t->head + i) & (t->cap - 1)];
        drop_payload(t, e);
        forget_blobs(r, e);
    }
    assert(t->payload_bytes == 0 && t->blob_bytes == 0);
    t->head = 0;
    t->count = 0;
    t->base = name;
    t->payload_from = name.seq + 1;
    t->synced_seq = name.seq;
}

void log_forget_names(struct replica_core *r, uint64_t up_to)
{
    struct tail *t = &r->tail;
    assert(up_to <= state_applied(r->state).seq);
    while (t->count > 0 && t->ring[t->head].name.seq <= up_to &&
           t->ring[t->head].payload == NULL) {
        t->base = t->ring[t->head].name;
        forget_blobs(r, &t->ring[t->head]);
        t->head = (t->head + 1) & (t->cap - 1);
        t->count--;
    }
}

/* Payloads go from the oldest on while the tail takes more than its share;
 * never what is not applied, nor what a learner's snapshot needs (R17). On a
 * full disk nothing is kept of blobs for nobody in particular: those that were
 * deleted would stay for it. */
void log_trim_payloads(struct replica_core *r)
{
    struct tail *t = &r->tail;
    uint64_t applied = state_applied(r->state).seq;
    uint64_t most = r->host->tail_bytes_max;
    uint64_t blobs_most = r->host->full ? 0 : TAIL_BLOBS_MAX;
    while (t->payload_from <= applied &&
           (t->payload_bytes > most || t->blob_bytes > blobs_most)) {
        if (r->pinned_seq != 0 && t->payload_from > r->pinned_seq) {
            if (t->payload_bytes <= CATCHUP_MAX &&
                t->blob_bytes <= CATCHUP_BLOBS_MAX) {
                break;
            }
            r->pinned_seq = 0; /* it fell too far behind: it starts again */
        }
        struct entry *e = log_entry(r, t->payload_from);
        if (e != NULL) {
            drop_payload(t, e);
        }
        t->payload_from++;
    }
}

void log_on_synced(struct replica_core *r)
{
    struct tail *t = &r->tail;
    const struct entry *e;
    while ((e = log_entry(r, t->synced_seq + 1)) != NULL &&
           e->ordinal <= r->synced_ordinal) {
        t->synced_seq++;
    }
}

uint32_t log_runs(const struct replica_core *r, uint64_t before,
                  struct run *out, uint32_t max, bool *more)
{
    uint64_t seq = log_last(r).seq;
    uint32_t count = 0;
    if (before != 0 && before <= seq) {
        seq = before - 1;
    }
    *more = false;
    for (; seq > r->tail.base.seq; seq--) {
        uint64_t epoch = log_entry(r, seq)->name.epoch;
        if (count > 0 && out[count - 1].epoch == epoch) {
            out[count - 1].first = seq;
        } else if (count == max) {
            *more = true;
            break;
        } else {
            out[count++] = (struct run){epoch, seq, seq};
        }
    }
    return count;
}
