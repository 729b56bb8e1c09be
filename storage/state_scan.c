/*
 * Pages: of one partition for clients (SCAN), and of the whole tablet from a
 * snapshot (SCAN_TABLET).
 *
 * A partition scan walks one stretch of the tree, given by the row's prefix
 * (and the column's, where the row is exact). With a row prefix and a column
 * prefix the cells that match are not one stretch: a cell that does not match
 * is not passed one by one, the walk jumps to the next that can.
 */
#include "storage/state_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- a growing page ---- */

struct page {
    struct arena *arena;
    struct cell *cells;
    struct place *places; /* of the same count */
    uint32_t count, cap, limit;
    size_t bytes;
    bool as_kept; /* of a value on disk only the place counts */
};

static bool page_full(const struct page *p)
{
    return p->count >= p->limit || p->bytes >= LIMIT_SCAN_PAGE;
}

static void page_grow(struct page *p)
{
    uint32_t cap = p->cap == 0 ? 16 : 4 * p->cap;
    struct cell *cells = arena_alloc(p->arena, cap * sizeof(*cells));
    struct place *places = arena_alloc(p->arena, cap * sizeof(*places));
    if (p->count > 0) {
        memcpy(cells, p->cells, p->count * sizeof(*cells));
        memcpy(places, p->places, p->count * sizeof(*places));
    }
    p->cells = cells;
    p->places = places;
    p->cap = cap;
}

/* Adds a cell of KEY that has V. */
static void page_add(struct page *p, const struct key_parts *key,
                     const struct cell_value *v)
{
    if (p->count == p->cap) {
        page_grow(p);
    }
    p->cells[p->count] =
        (struct cell){key->partition, key->row, key->column, v->bytes};
    p->places[p->count] = v->place;
    p->count++;
    p->bytes += key->partition.len + key->row.len + key->column.len +
                v->bytes.len + (p->as_kept ? PLACE_MAX : v->place.len);
}

static struct slice copied(struct arena *a, struct slice s)
{
    return slice_make(arena_copy(a, s.data, s.len), s.len);
}

/* ---- a partition ---- */

struct walk {
    const struct tree *tree;
    const struct msg_scan *ask;
    struct key stretch; /* all keys of the scan start with it */
    struct arena scratch;
    struct tree_iter it;
    struct key_parts at; /* of a valid IT */
};

/* Moves to the first key that the direction meets at (forward) or before
 * (reverse) K. */
static void walk_to(struct walk *w, const struct key *k)
{
    if (w->ask->reverse) {
        tree_seek_before(w->tree, key_slice(k), &w->it);
    } else {
        tree_seek(w->tree, key_slice(k), &w->it);
    }
}

static void walk_to_end(struct walk *w, const struct key *prefix)
{
    struct key behind = *prefix;
    if (key_behind(&behind)) {
        walk_to(w, &behind);
    } else if (w->ask->reverse) {
        tree_last(w->tree, &w->it);
    } else {
        w->it.depth = 0;
    }
}

static void walk_step(struct walk *w)
{
    if (w->ask->reverse) {
        tree_prev(&w->it);
    } else {
        tree_next(&w->it);
    }
}

/* Jumps from a cell whose row fits but whose column does not. */
static void walk_jump(struct walk *w)
{
    const struct msg_scan *ask = w->ask;
    struct key k;
    bool before = slice_compare(w->at.column, ask->column_prefix) < 0;
    if (before == (ask->reverse == 0)) {
        /* the columns that fit lie ahead in this row */
        key_encode(&k, ask->partition, w->at.row, ask->column_prefix);
    } else {
        /* this row is over */
        key_encode(&k, ask->partition, w->at.row, slice_of(""));
    }
    if (before) {
        walk_to(w, &k);
    } else {
        walk_to_end(w, &k);
    }
}

/* Leaves W at the next cell that fits, the one it is at included. */
static void walk_settle(struct walk *w)
{
    while (tree_valid(&w->it)) {
        struct slice k = tree_iter_key(&w->it);
        if (!slice_starts_with(k, key_slice(&w->stretch))) {
            w->it.depth = 0;
            return;
        }
        bool good = key_decode(k, &w->scratch, &w->at);
        assert(good);
        if (slice_starts_with(w->at.column, w->ask->column_prefix)) {
            return;
        }
        walk_jump(w);
    }
}

static void walk_start(struct walk *w)
{
    const struct msg_scan *ask = w->ask;
    struct key after;
    if (ask->row_exact) {
        key_encode(&w->stretch, ask->partition, ask->row_prefix,
                   ask->column_prefix);
    } else {
        key_rows(&w->stretch, ask->partition, ask->row_prefix);
    }
    struct slice stretch = key_slice(&w->stretch);
    if (ask->has_after) {
        key_encode(&after, ask->partition, ask->after_row, ask->after_column);
    }
    if (!ask->reverse) {
        bool later =
            ask->has_after && slice_compare(key_slice(&after), stretch) >= 0;
        walk_to(w, later ? &after : &w->stretch);
        if (later && tree_valid(&w->it) &&
            slice_equal(tree_iter_key(&w->it), key_slice(&after))) {
            walk_step(w);
        }
    } else if (ask->has_after &&
               (slice_compare(key_slice(&after), stretch) < 0 ||
                slice_starts_with(key_slice(&after), stretch))) {
        walk_to(w, &after);
    } else {
        walk_to_end(w, &w->stretch);
    }
    walk_settle(w);
}

void state_scan(const struct state *s, const struct msg_scan *scan,
                struct arena *a, struct msg_cells *out, struct place **places)
{
    struct page page = {.arena = a, .limit = LIMIT_SCAN_CELLS};
    struct walk w = {.tree = s->cells.tree, .ask = scan};
    if (scan->limit > 0 && scan->limit < page.limit) {
        page.limit = scan->limit;
    }
    struct slice partition = copied(a, scan->partition);
    walk_start(&w);
    while (tree_valid(&w.it) && !page_full(&page)) {
        struct tree_value tv = tree_iter_value(&w.it);
        struct cell_value v = cells_value(&tv);
        struct key_parts k = {.partition = partition,
                              .row = copied(a, w.at.row),
                              .column = copied(a, w.at.column)};
        v.bytes = copied(a, v.bytes);
        page_add(&page, &k, &v);
        walk_step(&w);
        walk_settle(&w);
    }
    *out = (struct msg_cells){
        .more = tree_valid(&w.it),
        .cells = page.cells,
        .cells_count = page.count,
    };
    *places = page.places;
    arena_free(&w.scratch);
}

/* ---- a tablet ---- */

static void tablet_start(const struct state_snapshot *p,
                         const struct msg_scan_tablet *ask,
                         struct tree_iter *it)
{
    struct key after;
    if (!ask->has_after) {
        tree_first(p->cells.tree, it);
        return;
    }
    key_encode(&after, ask->after_partition, ask->after_row, ask->after_column);
    tree_seek(p->cells.tree, key_slice(&after), it);
    if (tree_valid(it) && slice_equal(tree_iter_key(it), key_slice(&after))) {
        tree_next(it);
    }
}

/* The client table goes with the last cells if the frame surely has room,
 * else on a page of its own. */
static void tablet_clients(const struct state_snapshot *p, size_t page_bytes,
                           struct arena *a, struct msg_tablet_page *out)
{
    struct slice clients = buf_slice(&p->clients);
    assert(clients.len <= LIMIT_CLIENT_TABLE);
    if (out->cells_count == 0 || clients.len + page_bytes <= LIMIT_SCAN_PAGE) {
        out->clients = copied(a, clients);
    } else {
        out->more = 1;
    }
}

static void fill_page(const struct state_snapshot *p,
                      const struct msg_scan_tablet *ask, struct page *page,
                      struct msg_tablet_page *out)
{
    struct arena *a = page->arena;
    struct tree_iter it;
    tablet_start(p, ask, &it);
    for (; tree_valid(&it) && !page_full(page); tree_next(&it)) {
        struct key_parts k; /* the iterator's key goes with its next move */
        bool good = key_decode(copied(a, tree_iter_key(&it)), a, &k);
        assert(good);
        struct tree_value tv = tree_iter_value(&it);
        struct cell_value v = cells_value(&tv);
        page_add(page, &k, &v);
    }
    *out = (struct msg_tablet_page){
        .snapshot = ask->snapshot,
        .name = p->applied,
        .more = tree_valid(&it),
        .cells = page->cells,
        .cells_count = page->count,
    };
}

void state_snapshot_page(const struct state_snapshot *p,
                         const struct msg_scan_tablet *ask, struct arena *a,
                         struct msg_tablet_page *out, struct place **places)
{
    struct page page = {.arena = a, .limit = LIMIT_SCAN_CELLS};
    fill_page(p, ask, &page, out);
    *places = page.places;
    if (!out->more) {
        tablet_clients(p, page.bytes, a, out);
    }
}

void state_snapshot_kept(const struct state_snapshot *p,
                         const struct msg_scan_tablet *ask, struct arena *a,
                         struct msg_tablet_page *out, struct place **places)
{
    struct page page = {.arena = a, .limit = LIMIT_SCAN_CELLS, .as_kept = true};
    fill_page(p, ask, &page, out);
    *places = page.places;
}
