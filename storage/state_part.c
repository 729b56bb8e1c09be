/*
 * A part of a state: cells as leaves of a tree to be, with their share of the
 * digest. Making it is all the work that loading a cell is, and needs nothing
 * but the cell; so parts are made beside each other, on any threads, and only
 * put together in order.
 */
#include "storage/state_private.h"

#include <assert.h>
#include <stdlib.h>

struct state_part {
    struct tree_leaves *leaves;
    struct cells sums; /* without a tree */
    struct key key;    /* of the last cell */
    size_t partition;  /* bytes of its partition there */
    struct slice last; /* that partition */
};

struct state_part *state_part_new(void)
{
    struct state_part *p = xcalloc(1, sizeof(*p));
    p->leaves = tree_leaves_new();
    return p;
}

void state_part_free(struct state_part *p)
{
    if (p != NULL) {
        tree_leaves_free(p->leaves);
        free(p);
    }
}

/* Cells of a partition follow one another: it is encoded once. */
static void encode_key(struct state_part *p, const struct cell *cell)
{
    if (p->partition == 0 || !slice_equal(p->last, cell->partition)) {
        key_partition(&p->key, cell->partition);
        p->partition = p->key.len;
        p->last = cell->partition;
    }
    key_within(&p->key, p->partition, cell->row, cell->column);
}

enum status state_part_add(struct state_part *p, const struct cell *cell,
                           uint8_t tag)
{
    struct cell_value v = cell_value_inline(cell->value);
    struct tree_value tv = {cell->value, tag};
    enum status s = ST_OK;
    if (tag != VALUE_INLINE) {
        s = place_decode(tag, cell->value, &v.place);
    }
    if (s != ST_OK || cell->partition.len > LIMIT_KEY_PART ||
        cell->row.len > LIMIT_KEY_PART || cell->column.len > LIMIT_KEY_PART ||
        cell->value.len > LIMIT_VALUE) {
        return ST_CORRUPT;
    }
    encode_key(p, cell);
    if (!tree_leaves_add(p->leaves, key_slice(&p->key), &tv)) {
        return ST_CORRUPT;
    }
    cells_note(&p->sums, key_slice(&p->key), &v);
    return ST_OK;
}

void state_part_end(struct state_part *p)
{
    tree_leaves_end(p->leaves);
}

enum status state_load_part(struct state *s, struct state_part *p)
{
    assert(s->cells.on_place == NULL);
    if (!tree_append_leaves(s->cells.tree, p->leaves)) {
        return ST_CORRUPT;
    }
    cells_note_all(&s->cells, &p->sums);
    p->sums = (struct cells){0};
    return ST_OK;
}
