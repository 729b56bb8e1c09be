/*
 * What entries do to the state. Everything here is decided by the entry and
 * the state alone, alike on every replica (I4).
 *
 * A batch is all or nothing. Its conditions are looked at before anything is
 * changed. Of its mutations only those that count (INCREMENT, ADD) can fail,
 * and each checks before it changes: so a batch that has one of them beside
 * others notes what it changes as it was, and puts that back if it fails; all
 * other batches cannot fail half-way and keep nothing. Where the notes would
 * grow large a reference to the cells as they then are is taken instead: not at
 * once, because as long as it is held each change copies its path. Watchers are
 * told once it is sure.
 */
#include "storage/state_private.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct change {
    struct slice row, column;
};

/* A cell before it was changed. */
struct note {
    struct slice key;
    struct cell_value value;
    bool there;
};

#define NOTES_MAX KIB(64) /* bytes of keys and values */

/* A batch under way. */
struct batch {
    struct state *s;
    const struct command *c;
    struct applied *out;
    struct slice payload; /* C's values point into it ... */
    uint64_t position;    /* ... and this is where it is; 0: nowhere */
    struct arena arena;
    struct change *changes; /* only if somebody watches */
    size_t changes_count, changes_cap;
    bool notes_kept;
    struct note *notes;
    size_t notes_count, notes_cap, notes_bytes;
    struct cells after_notes;  /* once notes are too many ... */
    struct place_journal told; /* ... and what was told since */
};

void applied_set(struct applied *a, enum status status, uint16_t failed)
{
    memset(a, 0, sizeof(*a));
    a->r.status = (uint16_t)status;
    a->r.failed = failed;
    a->r.values = a->values;
}

/* ---- conditions ---- */

static bool condition_holds(const struct batch *r, const struct condition *k)
{
    const struct cells *cells = &r->s->cells;
    struct key key;
    struct cell_value v;
    key_encode(&key, r->c->partition, k->row, k->column);
    if (k->kind == CONDITION_NONE_BELOW) {
        struct tree_iter it;
        tree_seek(cells->tree, key_slice(&key), &it);
        return !tree_valid(&it) ||
               !slice_starts_with(tree_iter_key(&it), key_slice(&key));
    }
    bool there = cells_get(cells, key_slice(&key), &v);
    if (k->kind == CONDITION_ABSENT) {
        return !there;
    }
    return there && (k->kind == CONDITION_EXISTS ||
                     cell_value_is(&v, key_slice(&key), k->value));
}

/* ---- mutations ---- */

static void note_change(struct batch *r, struct slice row, struct slice column)
{
    if (r->s->on_change == NULL) {
        return;
    }
    if (r->changes_count == r->changes_cap) {
        r->changes_cap = r->changes_cap == 0 ? 16 : 2 * r->changes_cap;
        r->changes =
            xrealloc(r->changes, r->changes_cap * sizeof(r->changes[0]));
    }
    r->changes[r->changes_count++] = (struct change){row, column};
}

static struct slice copied(struct batch *r, struct slice s)
{
    return slice_make(arena_copy(&r->arena, s.data, s.len), s.len);
}

/* To be called before the cell KEY is changed. */
static void note_cell(struct batch *r, struct slice key)
{
    struct cell_value v = {.bytes = {NULL, 0}};
    if (!r->notes_kept || r->after_notes.tree != NULL) {
        return;
    }
    bool there = cells_get(&r->s->cells, key, &v);
    r->notes_bytes += key.len + v.bytes.len;
    if (r->notes_bytes > NOTES_MAX) {
        r->after_notes = cells_clone(&r->s->cells);
        r->s->cells.journal = &r->told;
        return;
    }
    if (r->notes_count == r->notes_cap) {
        r->notes_cap = r->notes_cap == 0 ? 16 : 2 * r->notes_cap;
        r->notes = xrealloc(r->notes, r->notes_cap * sizeof(r->notes[0]));
    }
    v.bytes = copied(r, v.bytes);
    r->notes[r->notes_count++] =
        (struct note){.key = copied(r, key), .value = v, .there = there};
}

/* Makes the cells what they were before the batch. */
static void undo(struct batch *r)
{
    if (r->after_notes.tree != NULL) {
        cells_take(&r->s->cells, &r->after_notes);
    }
    while (r->notes_count > 0) {
        const struct note *n = &r->notes[--r->notes_count];
        if (n->there) {
            cells_put(&r->s->cells, n->key, &n->value);
        } else {
            (void)cells_remove(&r->s->cells, n->key);
        }
    }
}

/* Large ones stay where the log has them; not those that were put together
 * here (MUTATION_SUFFIX), which stand nowhere as a whole. */
static struct cell_value value_to_keep(const struct batch *r, struct slice key,
                                       struct slice value)
{
    uintptr_t from = (uintptr_t)r->payload.data, at = (uintptr_t)value.data;
    if (value.len <= LIMIT_VALUE_INLINE || r->position == 0 || at < from ||
        at - from + value.len > r->payload.len) {
        return cell_value_inline(value);
    }
    struct cell_value v = {.bytes = {NULL, 0}};
    v.place.tag = VALUE_LOG;
    v.place.position = r->position + (at - from);
    v.place.len = (uint32_t)value.len;
    v.place.digest = place_digest(key, value);
    return v;
}

static void put_kept(struct batch *r, const struct key *k, struct slice row,
                     struct slice column, const struct cell_value *v)
{
    note_cell(r, key_slice(k));
    cells_put(&r->s->cells, key_slice(k), v);
    note_change(r, row, column);
}

static void put_cell(struct batch *r, struct slice row, struct slice column,
                     struct slice value)
{
    struct key k;
    key_encode(&k, r->c->partition, row, column);
    struct cell_value v = value_to_keep(r, key_slice(&k), value);
    put_kept(r, &k, row, column, &v);
}

/* The value is in the blob log (R6). */
static void put_blob(struct batch *r, const struct mutation *m)
{
    struct key k;
    struct cell_value v = {.bytes = {NULL, 0}};
    enum status s = place_decode(VALUE_BLOB, m->value, &v.place);
    assert(s == ST_OK); /* checked by check_mutation() */
    key_encode(&k, r->c->partition, m->row, m->column);
    put_kept(r, &k, m->row, m->column, &v);
}

static void give_value(struct batch *r, uint32_t i, int64_t value)
{
    uint32_t n = r->out->r.values_count++;
    assert(n < LIMIT_RESULT_VALUES);
    r->out->values[n] = (struct counter_value){(uint16_t)i, value};
}

static int64_t value_of(const struct batch *r, uint16_t mutation)
{
    for (uint32_t i = 0; i < r->out->r.values_count; i++) {
        if (r->out->values[i].mutation == mutation) {
            return r->out->values[i].value;
        }
    }
    assert(!"checked by check_mutation()");
    return 0;
}

static void sequence_text(int64_t value, char out[SEQUENCE_DIGITS + 1])
{
    snprintf(out, SEQUENCE_DIGITS + 1, "%016" PRIx64, (uint64_t)value);
}

/* FIRST followed by VALUE's digits. */
static struct slice joined(struct batch *r, struct slice first, int64_t value)
{
    char digits[SEQUENCE_DIGITS + 1];
    sequence_text(value, digits);
    uint8_t *p = arena_alloc(&r->arena, first.len + SEQUENCE_DIGITS);
    if (first.len > 0) {
        memcpy(p, first.data, first.len);
    }
    memcpy(p + first.len, digits, SEQUENCE_DIGITS);
    return slice_make(p, first.len + SEQUENCE_DIGITS);
}

static struct slice value_to_put(struct batch *r, const struct mutation *m)
{
    if (m->flags & MUTATION_SUFFIX) {
        return joined(r, m->value, value_of(r, m->suffix_of));
    }
    return m->value;
}

/* A counter's value, 0 if it is not there; false if it is no number. */
static bool counter_get(const struct batch *r, struct slice row,
                        struct slice column, int64_t *out)
{
    char text[24] = {0};
    struct cell_value found;
    struct key k;
    int used = 0;
    key_encode(&k, r->c->partition, row, column);
    if (!cells_get(&r->s->cells, key_slice(&k), &found)) {
        *out = 0;
        return true;
    }
    struct slice v = found.bytes; /* none where it is too large for memory */
    if (v.len == 0 || v.len > 20) {
        return false;
    }
    memcpy(text, v.data, v.len);
    for (size_t i = text[0] == '-'; i < v.len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
    }
    int64_t n = 0;
    for (size_t i = text[0] == '-'; i < v.len; i++, used++) {
        int64_t digit = text[i] - '0';
        digit = text[0] == '-' ? -digit : digit;
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, digit, &n)) {
            return false;
        }
    }
    *out = n;
    return used > 0;
}

static void counter_put(struct batch *r, struct slice row, struct slice column,
                        int64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, value);
    put_cell(r, row, column, slice_of(text));
}

static enum status run_increment(struct batch *r, uint32_t i)
{
    const struct mutation *m = &r->c->mutations[i];
    int64_t value;
    if (!counter_get(r, m->row, m->column, &value)) {
        return ST_INVALID;
    }
    if (__builtin_add_overflow(value, m->delta, &value)) {
        return ST_BOUND;
    }
    if ((m->flags & MUTATION_BOUND) && ((m->delta > 0 && value > m->bound) ||
                                        (m->delta < 0 && value < m->bound))) {
        return ST_BOUND;
    }
    counter_put(r, m->row, m->column, value);
    give_value(r, i, value);
    return ST_OK;
}

static enum status run_add(struct batch *r, uint32_t i)
{
    const struct mutation *m = &r->c->mutations[i];
    int64_t value;
    struct key k;
    struct cell_value old;
    if (!counter_get(r, m->row, m->counter, &value) || value < 0) {
        return ST_INVALID;
    }
    if (__builtin_add_overflow(value, 1, &value)) {
        return ST_BOUND;
    }
    struct slice column = joined(r, m->column, value);
    key_encode(&k, r->c->partition, m->row, column);
    if (cells_get(&r->s->cells, key_slice(&k), &old)) {
        return ST_EXISTS;
    }
    counter_put(r, m->row, m->counter, value);
    put_cell(r, m->row, column, value_to_put(r, m));
    give_value(r, i, value);
    return ST_OK;
}

static void run_delete(struct batch *r, const struct mutation *m)
{
    struct key k;
    key_encode(&k, r->c->partition, m->row, m->column);
    note_cell(r, key_slice(&k));
    if (cells_remove(&r->s->cells, key_slice(&k))) {
        note_change(r, m->row, m->column);
    }
}

static void run_delete_prefix(struct batch *r, const struct mutation *m)
{
    struct key prefix;
    struct tree_iter it;
    if (m->kind == MUTATION_DELETE_ROWS) {
        key_rows(&prefix, r->c->partition, m->row);
    } else {
        key_encode(&prefix, r->c->partition, m->row, m->column);
    }
    for (int gone = 0;; gone++) {
        tree_seek(r->s->cells.tree, key_slice(&prefix), &it);
        if (!tree_valid(&it) ||
            !slice_starts_with(tree_iter_key(&it), key_slice(&prefix))) {
            return;
        }
        if (gone == LIMIT_DELETE_PREFIX) {
            r->out->r.more = 1;
            return;
        }
        struct slice found = tree_iter_key(&it);
        struct slice k =
            slice_make(arena_copy(&r->arena, found.data, found.len), found.len);
        struct key_parts parts;
        bool good = key_decode(k, &r->arena, &parts);
        assert(good);
        note_cell(r, k);
        (void)cells_remove(&r->s->cells, k);
        note_change(r, parts.row, parts.column);
    }
}

static enum status run_mutation(struct batch *r, uint32_t i)
{
    const struct mutation *m = &r->c->mutations[i];
    switch ((enum mutation_kind)m->kind) {
    case MUTATION_PUT:
        if (m->flags & MUTATION_BLOB) {
            put_blob(r, m);
        } else {
            put_cell(r, m->row, m->column, value_to_put(r, m));
        }
        return ST_OK;
    case MUTATION_DELETE:
        run_delete(r, m);
        return ST_OK;
    case MUTATION_DELETE_PREFIX:
    case MUTATION_DELETE_ROWS:
        run_delete_prefix(r, m);
        return ST_OK;
    case MUTATION_INCREMENT:
        return run_increment(r, i);
    case MUTATION_ADD:
        return run_add(r, i);
    }
    assert(!"checked by check_mutation()");
    return ST_INVALID;
}

/* ---- batches ---- */

static bool can_fail_halfway(const struct command *c)
{
    for (uint32_t i = 0; i < c->mutations_count; i++) {
        if (state_gives_value(&c->mutations[i])) {
            return c->mutations_count > 1;
        }
    }
    return false;
}

static void run_mutations(struct batch *r)
{
    r->notes_kept = can_fail_halfway(r->c);
    for (uint32_t i = 0; i < r->c->mutations_count; i++) {
        enum status s = run_mutation(r, i);
        if (s != ST_OK) {
            applied_set(r->out, s, (uint16_t)i);
            r->changes_count = 0;
            undo(r);
            return;
        }
    }
    r->s->cells.journal = NULL;
    if (r->after_notes.tree != NULL) {
        cells_fini(&r->after_notes);
    }
}

static void run_batch(struct batch *r)
{
    struct state *s = r->s;
    const struct command *c = r->c;
    for (uint32_t i = 0; i < c->conditions_count; i++) {
        if (!condition_holds(r, &c->conditions[i])) {
            applied_set(r->out, ST_CONFLICT, (uint16_t)i);
            return;
        }
    }
    run_mutations(r);
    for (size_t i = 0; i < r->changes_count; i++) {
        s->on_change(s->on_change_ctx, c->partition, r->changes[i].row,
                     r->changes[i].column);
    }
    free(r->changes);
    free(r->notes);
    free(r->told.told);
    arena_free(&r->arena);
}

static void run_command(struct batch *r)
{
    struct state *s = r->s;
    const struct command *c = r->c;
    uint64_t seq = s->applied.seq;
    switch ((enum command_kind)c->kind) {
    case COMMAND_NOTHING:
        return;
    case COMMAND_INTRODUCE:
        state_introduce(s, c->client, seq);
        r->out->r.session = seq;
        return;
    case COMMAND_BATCH:
    case COMMAND_BLOBS:
        if (state_begin(s, c, seq, r->out)) {
            run_batch(r);
            state_keep_result(s, c, r->out);
        }
        return;
    case COMMAND_SETTLE:
        if (state_begin(s, c, seq, r->out)) {
            applied_set(r->out, ST_VOID, 0);
            state_keep_result(s, c, r->out);
        }
        return;
    }
}

void state_apply(struct state *s, struct name name, struct slice payload,
                 uint64_t position, struct applied *out)
{
    assert(name.seq == s->applied.seq + 1); /* I4 */
    assert(name.epoch >= s->applied.epoch); /* R13 */
    s->applied = name;
    applied_set(out, ST_OK, 0);
    if (payload.len == 0) {
        return;
    }
    struct arena a = {0};
    struct command c;
    struct cursor at = cursor_of(payload);
    wire_decode_command(&at, &a, &c);
    enum status checked = ST_INVALID;
    if (!at.bad && cursor_left(&at) == 0) {
        checked = state_check_entry(&c);
    }
    if (checked == ST_OK) {
        struct batch r = {.s = s,
                          .c = &c,
                          .out = out,
                          .payload = payload,
                          .position = position};
        run_command(&r);
    } else {
        applied_set(out, checked, 0);
    }
    arena_free(&a);
}
