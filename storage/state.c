/*
 * The state of one tablet: life, reading, counting, snapshots, loading.
 * What entries do is in state_apply.c, the client table (R23) in
 * state_clients.c, pages in state_scan.c, places in state_places.c.
 *
 * Cells are a copy-on-write tree with a running digest: so a snapshot of them
 * is a reference, and undoing a batch that fails half-way is taking a reference
 * back. The client table is small and changed by every command: a snapshot
 * holds it encoded.
 */
#include "storage/state_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---- cells with a digest ---- */

static struct sum sum_add(struct sum a, struct sum b)
{
    uint64_t low = a.low + b.low;
    return (struct sum){low, a.high + b.high + (low < a.low)};
}

static struct sum sum_subtract(struct sum a, struct sum b)
{
    return (struct sum){a.low - b.low, a.high - b.high - (a.low < b.low)};
}

/* Digest of the key plus that of the value, which the key seeds: so values
 * that change places show. It is the same wherever the value is. */
static struct sum pair_digest(struct slice key, const struct cell_value *v)
{
    XXH128_hash_t k = XXH3_128bits(key.data, key.len), h;
    if (v->place.tag == VALUE_INLINE) {
        h = XXH3_128bits_withSeed(v->bytes.data, v->bytes.len, k.low64);
    } else {
        struct cursor c = cursor_of(slice_make(v->place.digest.b, 16));
        h.low64 = cursor_u64(&c);
        h.high64 = cursor_u64(&c);
    }
    return sum_add((struct sum){k.low64, k.high64},
                   (struct sum){h.low64, h.high64});
}

struct sum cells_sum(struct sum sum, struct slice key,
                     const struct cell_value *v)
{
    return sum_add(sum, pair_digest(key, v));
}

void cells_init(struct cells *c)
{
    *c = (struct cells){.tree = tree_new()};
}

void cells_fini(struct cells *c)
{
    tree_free(c->tree);
    c->tree = NULL;
}

struct cells cells_clone(const struct cells *c)
{
    struct cells copy = *c;
    copy.tree = tree_clone(c->tree);
    copy.on_place = NULL;
    copy.journal = NULL;
    return copy;
}

static void tell(struct cells *c, const struct place *p, int delta)
{
    struct place_journal *j = c->journal;
    if (c->on_place == NULL || p->tag == VALUE_INLINE) {
        return;
    }
    if (j != NULL) {
        if (j->count == j->cap) {
            j->cap = j->cap == 0 ? 16 : 2 * j->cap;
            j->told = xrealloc(j->told, j->cap * sizeof(j->told[0]));
        }
        j->told[j->count++] = (struct place_told){*p, delta};
    }
    c->on_place(c->on_place_ctx, p, delta);
}

/* From the newest on: a place ceases after its successor began, so while this
 * goes back each lives again before the other ceases. */
static void tell_back(struct cells *c)
{
    struct place_journal *j = c->journal;
    c->journal = NULL;
    for (size_t i = j == NULL ? 0 : j->count; i-- > 0;) {
        tell(c, &j->told[i].place, -j->told[i].delta);
    }
}

void cells_take(struct cells *c, struct cells *from)
{
    tree_take(c->tree, from->tree);
    c->digest = from->digest;
    c->bytes = from->bytes;
    c->placed = from->placed;
    from->tree = NULL;
    tell_back(c);
}

struct cell_value cells_value(const struct tree_value *tv)
{
    struct cell_value v = {.bytes = tv->bytes};
    if (tv->tag != VALUE_INLINE) {
        v.bytes = slice_make(NULL, 0);
        enum status s = place_decode(tv->tag, tv->bytes, &v.place);
        assert(s == ST_OK); /* we put it there */
    }
    return v;
}

static size_t value_len(const struct cell_value *v)
{
    return v->place.tag == VALUE_INLINE ? v->bytes.len : v->place.len;
}

bool cells_get(const struct cells *c, struct slice key, struct cell_value *out)
{
    struct tree_value tv;
    if (!tree_get(c->tree, key, &tv)) {
        return false;
    }
    *out = cells_value(&tv);
    return true;
}

/* Takes a pair out of the digest and the sums; the tree has it still. */
static void cells_forget(struct cells *c, struct slice key,
                         const struct cell_value *v)
{
    c->digest = sum_subtract(c->digest, pair_digest(key, v));
    c->bytes -= key.len + value_len(v);
    c->placed -= v->place.tag == VALUE_INLINE ? 0 : v->place.len;
}

void cells_note(struct cells *c, struct slice key, const struct cell_value *v)
{
    c->digest = sum_add(c->digest, pair_digest(key, v));
    c->bytes += key.len + value_len(v);
    c->placed += v->place.tag == VALUE_INLINE ? 0 : v->place.len;
}

void cells_note_all(struct cells *c, const struct cells *from)
{
    c->digest = sum_add(c->digest, from->digest);
    c->bytes += from->bytes;
    c->placed += from->placed;
}

/* V as the tree has it; a place is encoded in ROOM. */
static struct tree_value to_tree(const struct cell_value *v,
                                 uint8_t room[PLACE_MAX])
{
    if (v->place.tag == VALUE_INLINE) {
        return (struct tree_value){v->bytes, VALUE_INLINE};
    }
    return (struct tree_value){place_encode(&v->place, room), v->place.tag};
}

struct replacing {
    struct cells *c;
    struct slice key;
    struct place old;
};

static void on_replaced(void *ctx, const struct tree_value *tv)
{
    struct replacing *r = ctx;
    struct cell_value old = cells_value(tv);
    cells_forget(r->c, r->key, &old);
    r->old = old.place;
}

void cells_put(struct cells *c, struct slice key, const struct cell_value *v)
{
    struct replacing r = {.c = c, .key = key};
    uint8_t room[PLACE_MAX];
    struct tree_value tv = to_tree(v, room);
    tree_replace(c->tree, key, &tv, on_replaced, &r);
    cells_note(c, key, v);
    tell(c, &v->place, 1);
    tell(c, &r.old, -1);
}

bool cells_append(struct cells *c, struct slice key, const struct cell_value *v)
{
    uint8_t room[PLACE_MAX];
    struct tree_value tv = to_tree(v, room);
    if (!tree_append(c->tree, key, &tv)) {
        return false;
    }
    cells_note(c, key, v);
    tell(c, &v->place, 1);
    return true;
}

bool cells_remove(struct cells *c, struct slice key)
{
    struct cell_value old;
    if (!cells_get(c, key, &old)) {
        return false;
    }
    cells_forget(c, key, &old);
    bool there = tree_remove(c->tree, key);
    tell(c, &old.place, -1);
    return there;
}

bool cell_value_is(const struct cell_value *v, struct slice key,
                   struct slice value)
{
    if (v->place.tag == VALUE_INLINE) {
        return slice_equal(v->bytes, value);
    }
    return place_verify(&v->place, key, value);
}

/* ---- life and reading ---- */

struct state *state_new(void)
{
    struct state *s = xcalloc(1, sizeof(*s));
    cells_init(&s->cells);
    return s;
}

void state_free(struct state *s)
{
    if (s == NULL) {
        return;
    }
    state_tell_all(s, -1);
    cells_fini(&s->cells);
    client_table_fini(&s->clients);
    free(s);
}

struct name state_applied(const struct state *s)
{
    return s->applied;
}

bool state_get(const struct state *s, struct slice partition, struct slice row,
               struct slice column, struct cell_value *out)
{
    struct key k;
    key_encode(&k, partition, row, column);
    return cells_get(&s->cells, key_slice(&k), out);
}

void state_on_change(struct state *s,
                     void (*fn)(void *ctx, struct slice partition,
                                struct slice row, struct slice column),
                     void *ctx)
{
    s->on_change = fn;
    s->on_change_ctx = ctx;
}

void state_count(const struct state *s, struct state_counts *out)
{
    *out = (struct state_counts){
        .cells = tree_count(s->cells.tree),
        .bytes = s->cells.bytes,
        .placed = s->cells.placed,
        .memory = tree_memory(s->cells.tree) + s->clients.memory,
        .clients = s->clients.count,
        .clients_memory = s->clients.memory,
    };
}

/* Little endian on every machine. */
static uint8_t *put_sum(uint8_t *to, struct sum s)
{
    for (int i = 0; i < 8; i++) {
        to[i] = (uint8_t)(s.low >> (8 * i));
        to[8 + i] = (uint8_t)(s.high >> (8 * i));
    }
    return to + 16;
}

static struct id128 digest_both(const struct cells *cells, struct slice clients)
{
    struct id128 d;
    uint8_t both[32];
    XXH128_hash_t c = XXH3_128bits(clients.data, clients.len);
    put_sum(put_sum(both, cells->digest), (struct sum){c.low64, c.high64});
    XXH128_hash_t h = XXH3_128bits(both, sizeof(both));
    put_sum(d.b, (struct sum){h.low64, h.high64});
    return d;
}

struct id128 state_digest(const struct state *s)
{
    struct buf clients = {0};
    state_encode_clients(s, &clients);
    struct id128 digest = digest_both(&s->cells, buf_slice(&clients));
    buf_free(&clients);
    return digest;
}

/* ---- snapshots ---- */

struct state_snapshot *state_snapshot(struct state *s)
{
    struct state_snapshot *p = xcalloc(1, sizeof(*p));
    p->cells = cells_clone(&s->cells);
    state_encode_clients(s, &p->clients);
    p->applied = s->applied;
    p->refs = 1;
    return p;
}

struct state_snapshot *state_snapshot_retain(struct state_snapshot *p)
{
    p->refs++;
    return p;
}

void state_snapshot_free(struct state_snapshot *p)
{
    if (p == NULL || --p->refs > 0) {
        return;
    }
    cells_fini(&p->cells);
    buf_free(&p->clients);
    free(p);
}

struct name state_snapshot_name(const struct state_snapshot *p)
{
    return p->applied;
}

struct id128 state_snapshot_digest(const struct state_snapshot *p)
{
    return digest_both(&p->cells, buf_slice(&p->clients));
}

uint64_t state_snapshot_cells(const struct state_snapshot *p)
{
    return tree_count(p->cells.tree);
}

void state_snapshot_clients(const struct state_snapshot *p, struct buf *out)
{
    buf_put_slice(out, buf_slice(&p->clients));
}

/* ---- loading ---- */

enum status state_load_cell(struct state *s, const struct cell *cell,
                            const struct place *place)
{
    struct key k;
    struct cell_value v = cell_value_inline(cell->value);
    if (place != NULL && place->tag != VALUE_INLINE) {
        v = (struct cell_value){.place = *place};
    }
    if (cell->partition.len > LIMIT_KEY_PART ||
        cell->row.len > LIMIT_KEY_PART || cell->column.len > LIMIT_KEY_PART ||
        cell->value.len > LIMIT_VALUE) {
        return ST_CORRUPT;
    }
    key_encode(&k, cell->partition, cell->row, cell->column);
    return cells_append(&s->cells, key_slice(&k), &v) ? ST_OK : ST_CORRUPT;
}

void state_load_done(struct state *s, struct name applied)
{
    assert(s->applied.seq == 0);
    s->applied = applied;
}
