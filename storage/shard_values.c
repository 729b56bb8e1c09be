/*
 * Fetching the values of a page of cells that are not in memory: from the
 * cache, or from the log beside the loop, several at once. What comes is
 * verified against its place; what does not fit ends the page with that
 * cell, and whoever asked looks whether the value has moved meanwhile or is
 * damaged.
 *
 * How much may be under way is bounded for the whole shard; beyond that
 * nothing is begun and the reader waits (shard_requests.c).
 */
#include "storage/key.h"
#include "storage/shard_blobs.h"

#include <stdlib.h>
#include <string.h>

#define AT_ONCE 16       /* reads of one page */
#define PAGE_COST KIB(4) /* what one takes besides its values, about */

/* One value on its way. */
struct value_read {
    struct env_io io;
    struct values *values;
    uint32_t cell;
    uint8_t *to;
};

void values_init(struct shard *s)
{
    TAILQ_INIT(&s->values);
    s->cache = value_cache_new(s->o.value_cache);
}

/* ---- what needs no disk ---- */

bool values_at_hand(struct values *v)
{
    struct value_cache *cache = v->shard->cache;
    struct slice bytes;
    for (uint32_t i = 0; i < v->count; i++) {
        if (v->places[i].tag != VALUE_INLINE &&
            !value_cache_has(cache, &v->places[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < v->count; i++) {
        if (v->places[i].tag != VALUE_INLINE &&
            value_cache_get(cache, &v->places[i], &bytes)) {
            v->cells[i].value = bytes;
        }
    }
    return true;
}

/* ---- the disk ---- */

static void release(struct values *v)
{
    struct shard *s = v->shard;
    if (v->linked) {
        TAILQ_REMOVE(&s->values, v, link);
        s->values_bytes -= v->cost;
    }
    state_snapshot_free(v->snapshot);
    free(v->room);
    free(v->reads);
    arena_free(&v->arena);
    free(v);
}

void values_free(struct values *v)
{
    if (v == NULL) {
        return;
    }
    v->done = NULL;
    if (v->under_way == 0) {
        release(v);
    }
}

void values_free_all(struct shard *s)
{
    struct values *v;
    while ((v = TAILQ_FIRST(&s->values)) != NULL) {
        release(v);
    }
    value_cache_free(s->cache);
    s->cache = NULL;
}

bool values_full(const struct shard *s)
{
    return s->values_bytes + 2 * LIMIT_SCAN_PAGE > LIMIT_READS_BYTES;
}

uint64_t values_oldest(const struct shard *s)
{
    uint64_t oldest = UINT64_MAX;
    const struct values *v;
    TAILQ_FOREACH(v, &s->values, link)
    {
        oldest = v->clock < oldest ? v->clock : oldest;
    }
    for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++) {
        const struct pinned *p = &s->pinned[i];
        oldest = p->id != 0 && p->clock < oldest ? p->clock : oldest;
    }
    return oldest;
}

/* Cell I of V has the key and the value that its place vouches for. */
static bool verify(const struct values *v, uint32_t i, struct slice bytes)
{
    const struct cell *c = &v->cells[i];
    struct key k;
    key_encode(&k, c->partition, c->row, c->column);
    return place_verify(&v->places[i], key_slice(&k), bytes);
}

static void pump(struct values *v);

static void on_read(struct env_io *io, enum status st)
{
    struct value_read *r = io->data;
    struct values *v = r->values;
    const struct place *p = &v->places[r->cell];
    struct slice bytes = slice_make(r->to, p->len);
    v->under_way--;
    if (v->done != NULL && st == ST_OK && !verify(v, r->cell, bytes)) {
        st = ST_CORRUPT;
    }
    if (v->done == NULL) {
        values_free(v);
        return;
    }
    if (st == ST_OK) {
        v->cells[r->cell].value = bytes;
        value_cache_put(v->shard->cache, p, bytes);
    } else if (v->status == ST_OK) {
        v->status = st;
        v->bad = r->cell;
    }
    pump(v);
}

/* Begins what may be begun; done() is the last that happens here. */
static void pump(struct values *v)
{
    while (v->status == ST_OK && v->under_way < AT_ONCE &&
           v->next < v->reads_count) {
        struct value_read *r = &v->reads[v->next++];
        const struct place *p = &v->places[r->cell];
        v->under_way++;
        r->io = (struct env_io){.done = on_read, .data = r};
        if (p->tag == VALUE_BLOB) {
            struct blob_ref ref = blob_of_place(p);
            blobs_fetch(v->shard->blobs->blobs, &ref, r->to, &r->io);
        } else {
            wal_value_read(v->shard->wal, p->position, p->len, r->to, &r->io);
        }
    }
    if (v->under_way == 0) {
        v->done(v);
    }
}

/* What V's values take, those in the cache included. */
static uint64_t needed(const struct values *v, uint32_t *reads)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < v->count; i++) {
        if (v->places[i].tag != VALUE_INLINE) {
            bytes += v->places[i].len;
            (*reads)++;
        }
    }
    return bytes;
}

/* Those in the cache are copied at once, the others will be read. */
static void prepare(struct values *v)
{
    uint8_t *to = v->room;
    for (uint32_t i = 0; i < v->count; i++) {
        const struct place *p = &v->places[i];
        struct slice bytes;
        if (p->tag == VALUE_INLINE) {
            continue;
        }
        if (value_cache_get(v->shard->cache, p, &bytes)) {
            memcpy(to, bytes.data, bytes.len);
            v->cells[i].value = slice_make(to, p->len);
        } else {
            v->reads[v->reads_count++] =
                (struct value_read){.values = v, .cell = i, .to = to};
        }
        to += p->len;
    }
}

/* The key's parts, which may be in a message. */
static void keep_cell(struct values *v, struct cell *c)
{
    struct slice *parts[] = {&c->partition, &c->row, &c->column};
    for (size_t i = 0; i < 3; i++) {
        parts[i]->data = arena_copy(&v->arena, parts[i]->data, parts[i]->len);
    }
}

/* Nothing is told from within the beginning: the log never does. */
static void no_one(struct values *v)
{
    (void)v;
    assert(!"done() is set by then");
}

struct values *values_begin_take(struct values *from)
{
    struct shard *s = from->shard;
    uint32_t reads = 0;
    uint64_t bytes = needed(from, &reads);
    uint64_t cost = 2 * bytes + PAGE_COST; /* the log reads into its own */
    assert(reads > 0);
    if (s->values_bytes + cost > LIMIT_READS_BYTES) {
        return NULL;
    }
    struct values *v = xmalloc(sizeof(*v));
    *v = *from;
    if (from->cells == &from->one) {
        v->cells = arena_copy(&v->arena, &from->one, sizeof(from->one));
        v->places =
            arena_copy(&v->arena, from->places, sizeof(from->places[0]));
        keep_cell(v, v->cells);
    }
    v->done = no_one;
    v->cost = cost;
    v->clock = wal_value_clock(s->wal);
    v->room = xmalloc(bytes);
    v->reads = xcalloc(reads, sizeof(*v->reads));
    v->linked = true;
    TAILQ_INSERT_TAIL(&s->values, v, link);
    s->values_bytes += cost;
    prepare(v);
    assert(v->reads_count > 0); /* values_at_hand() was asked */
    pump(v);
    return v;
}
