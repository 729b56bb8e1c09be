/*
 * The places that a state has: who is told of them, how one changes, and
 * walking over all. A place is a cell's value that stays on disk (place.h).
 */
#include "storage/state_private.h"

#include <assert.h>
#include <stdlib.h>

/* So many cells at once: what a walk does besides looking plays no role. */
#define ALL SIZE_MAX

struct state_walk {
    const struct state *state;
    struct tree_iter it;
};

struct state_walk *state_walk_new(const struct state *s)
{
    struct state_walk *w = xcalloc(1, sizeof(*w));
    w->state = s;
    tree_first(s->cells.tree, &w->it);
    return w;
}

void state_walk_free(struct state_walk *w)
{
    free(w);
}

bool state_walk_on(struct state_walk *w, size_t cells,
                   void (*fn)(void *ctx, struct slice key,
                              const struct place *p),
                   void *ctx)
{
    struct tree_value tv;
    /* The cell that it stands on may have changed, or be gone, since the last
     * slice; the others are as they are. */
    bool there = cells > 0 && tree_valid(&w->it) &&
                 tree_get(w->state->cells.tree, tree_iter_key(&w->it), &tv);
    for (; cells > 0 && tree_valid(&w->it); cells--) {
        if (there && tv.tag != VALUE_INLINE) {
            struct cell_value v = cells_value(&tv);
            fn(ctx, tree_iter_key(&w->it), &v.place);
        }
        tree_next(&w->it);
        there = tree_valid(&w->it);
        if (there) {
            tv = tree_iter_value(&w->it);
        }
    }
    return tree_valid(&w->it);
}

struct telling {
    const struct cells *cells;
    int delta;
};

static void tell_one(void *ctx, struct slice key, const struct place *p)
{
    const struct telling *t = ctx;
    (void)key;
    t->cells->on_place(t->cells->on_place_ctx, p, t->delta);
}

void state_tell_all(const struct state *s, int delta)
{
    struct telling t = {&s->cells, delta};
    if (s->cells.on_place == NULL || s->cells.placed == 0) {
        return;
    }
    struct state_walk *w = state_walk_new(s);
    bool more = state_walk_on(w, ALL, tell_one, &t);
    assert(!more);
    state_walk_free(w);
}

void state_on_place(struct state *s,
                    void (*fn)(void *ctx, const struct place *p, int delta),
                    void *ctx)
{
    if (fn == s->cells.on_place && ctx == s->cells.on_place_ctx) {
        return;
    }
    s->cells.on_place = fn;
    s->cells.on_place_ctx = ctx;
    state_tell_all(s, 1);
}

bool state_move(struct state *s, struct slice key, const struct place *from,
                const struct place *to)
{
    struct cell_value v;
    assert(from->len == to->len && id128_equal(from->digest, to->digest));
    if (!cells_get(&s->cells, key, &v) || !place_equal(&v.place, from)) {
        return false;
    }
    v = (struct cell_value){.place = *to};
    cells_put(&s->cells, key, &v);
    return true;
}
