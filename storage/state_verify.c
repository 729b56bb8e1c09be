/*
 * A walk over a snapshot's cells that adds up what they are, and compares it
 * in the end with what the state kept by adding and subtracting. (The client
 * table has no such sum: it is small, and replicas compare it, R19.)
 */
#include "storage/state_verify.h"

#include "storage/state_private.h"

#include <stdlib.h>

struct state_verify {
    struct state_snapshot *snapshot;
    struct tree_iter it;
    struct sum sum;
    uint64_t count, bytes;
    bool bad; /* a value that no value can be */
};

struct state_verify *state_verify_new_take(struct state_snapshot *p)
{
    struct state_verify *v = xcalloc(1, sizeof(*v));
    v->snapshot = p;
    tree_first(p->cells.tree, &v->it);
    return v;
}

void state_verify_free(struct state_verify *v)
{
    if (v != NULL) {
        state_snapshot_free(v->snapshot);
        free(v);
    }
}

/* The bytes that it has, in memory or not; 0 and BAD if it cannot be. */
static uint64_t take(struct state_verify *v, struct slice key,
                     struct cell_value *value)
{
    struct tree_value tv = tree_iter_value(&v->it);
    *value = (struct cell_value){.bytes = tv.bytes};
    if (tv.tag != VALUE_INLINE &&
        place_decode(tv.tag, tv.bytes, &value->place) != ST_OK) {
        v->bad = true;
        return 0;
    }
    uint64_t len = tv.tag == VALUE_INLINE ? value->bytes.len : value->place.len;
    v->sum = cells_sum(v->sum, key, value);
    v->count++;
    v->bytes += key.len + len;
    return key.len + value->bytes.len;
}

bool state_verify_on(struct state_verify *v, uint64_t bytes,
                     void (*fn)(void *ctx, struct slice key,
                                const struct place *p),
                     void *ctx)
{
    uint64_t done = 0;
    while (done <= bytes && !v->bad && tree_valid(&v->it)) {
        struct cell_value value;
        struct slice key = tree_iter_key(&v->it);
        done += take(v, key, &value) + 64; /* what a cell costs besides */
        if (!v->bad && value.place.tag != VALUE_INLINE && fn != NULL) {
            fn(ctx, key, &value.place);
        }
        tree_next(&v->it);
    }
    return !v->bad && tree_valid(&v->it);
}

bool state_has_place(const struct state *s, struct slice key,
                     const struct place *p)
{
    struct tree_value tv;
    struct place now;
    return tree_get(s->cells.tree, key, &tv) && tv.tag != VALUE_INLINE &&
           place_decode(tv.tag, tv.bytes, &now) == ST_OK &&
           place_equal(&now, p);
}

bool state_verify_sound(const struct state_verify *v)
{
    const struct cells *c = &v->snapshot->cells;
    return !v->bad && v->sum.low == c->digest.low &&
           v->sum.high == c->digest.high && v->bytes == c->bytes &&
           v->count == tree_count(c->tree);
}
