/*
 * Leaves of cells that come in order, each written once: as full as it goes, in
 * a block of just its size. Cells collect until the next one does not fit with
 * them; then their common prefix is known, which is that of the first and the
 * last, and the leaf is made. They belong to no tree yet, so several threads
 * may make some each; a tree takes them one after the other (tree.c).
 */
#include "storage/tree_private.h"

#include <stdlib.h>
#include <string.h>

struct tree_leaves *tree_leaves_new(void)
{
    return xcalloc(1, sizeof(struct tree_leaves));
}

void tree_leaves_free(struct tree_leaves *l)
{
    if (l == NULL) {
        return;
    }
    for (size_t i = 0; i < l->count; i++) {
        tree_node_release(&l->account, l->at[i]);
    }
    free(l->at);
    free(l->waiting);
    free(l->flushed);
    buf_free(&l->keys);
    free(l);
}

static struct slice key_at(const struct tree_leaves *l, size_t i)
{
    return slice_make(l->keys.data + l->waiting[i].at, l->waiting[i].len);
}

/* Makes a leaf of all that waits. */
static void flush(struct tree_leaves *l)
{
    struct tree_cell *cells = l->flushed;
    struct slice first = key_at(l, 0);
    size_t prefix = 0;
    if (l->wait_count > 1) {
        prefix = tree_common(first, key_at(l, l->wait_count - 1));
    }
    for (size_t i = 0; i < l->wait_count; i++) {
        struct slice key = key_at(l, i);
        cells[i].key = slice_make(key.data + prefix, key.len - prefix);
        cells[i].value = l->waiting[i].value;
    }
    if (l->count == l->cap) {
        l->cap = l->cap == 0 ? 64 : 2 * l->cap;
        l->at = xrealloc(l->at, l->cap * sizeof(struct tree_node *));
    }
    l->at[l->count++] = tree_node_leaf(
        &l->account, slice_make(first.data, prefix), cells, l->wait_count);
    buf_clear(&l->keys);
    l->wait_count = 0;
    l->wait_bytes = 0;
}

/* Bytes of a leaf of what waits and KEY, at most; VALUE_LEN is its value's. */
static size_t size_with(const struct tree_leaves *l, struct slice key,
                        size_t value_len)
{
    size_t prefix = tree_common(key_at(l, 0), key), count = l->wait_count + 1;
    size_t cell = tree_cell_size(key.len, value_len) + TREE_WORD;
    return TREE_HEAD + prefix + l->wait_bytes + cell - count * prefix;
}

bool tree_leaves_add(struct tree_leaves *l, struct slice key,
                     const struct tree_value *value)
{
    if (l->wait_count > 0) {
        if (slice_compare(key_at(l, l->wait_count - 1), key) >= 0) {
            return false;
        }
        if (size_with(l, key, value->bytes.len) > LEAF_MAX) {
            flush(l);
        }
    } else if (l->count > 0 &&
               tree_node_compare(l->at[l->count - 1],
                                 l->at[l->count - 1]->count - 1, key) >= 0) {
        return false;
    }
    if (l->wait_count == l->wait_cap) {
        l->wait_cap = l->wait_cap == 0 ? 64 : 2 * l->wait_cap;
        l->waiting = xrealloc(l->waiting, l->wait_cap * sizeof(*l->waiting));
        l->flushed = xrealloc(l->flushed, l->wait_cap * sizeof(*l->flushed));
    }
    l->waiting[l->wait_count++] =
        (struct tree_waiting){l->keys.len, key.len, *value};
    buf_put_slice(&l->keys, key);
    l->wait_bytes += tree_cell_size(key.len, value->bytes.len) + TREE_WORD;
    l->cells++;
    return true;
}

void tree_leaves_end(struct tree_leaves *l)
{
    if (l->wait_count > 0) {
        flush(l);
    }
}
