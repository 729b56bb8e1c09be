/*
 * Looking into a tree, walking it, and checking it. An iterator is the path
 * from the root to its item; nodes need no links to their neighbours, which
 * could not be kept in a tree that shares them. It has a copy of its key:
 * nowhere else does the key stand as a whole, and it is what a tree that was
 * changed meanwhile is searched for.
 */
#include "storage/tree_private.h"

#include <assert.h>
#include <string.h>

bool tree_get(const struct tree *t, struct slice key, struct tree_value *out)
{
    const struct tree_node *n = t->root;
    bool exact = false;
    if (n == NULL) {
        return false;
    }
    while (!n->leaf) {
        n = tree_node_child(n, tree_node_child_of(n, key));
    }
    int at = tree_node_find(n, 0, key, &exact);
    if (exact) {
        *out = tree_node_cell(n, at).value;
    }
    return exact;
}

/* ---- moving ---- */

static void iter_push(struct tree_iter *it, const struct tree_node *n, int at)
{
    assert(it->depth < TREE_DEPTH_MAX);
    it->node[it->depth] = n;
    it->at[it->depth] = (uint16_t)at;
    it->depth++;
}

/* Takes key and value of the cell at which IT is. NEW_LEAF: the key's prefix
 * is not there yet. */
static void iter_load(struct tree_iter *it, bool new_leaf)
{
    if (it->depth == 0) {
        return;
    }
    const struct tree_node *n = it->node[it->depth - 1];
    struct tree_cell c = tree_node_cell(n, it->at[it->depth - 1]);
    if (new_leaf) {
        memcpy(it->key, n->bytes, n->prefix);
    }
    memcpy(it->key + n->prefix, c.key.data, c.key.len);
    it->key_len = n->prefix + c.key.len;
    it->value = c.value;
}

/* Goes down to the first or last item below N. */
static void iter_descend(struct tree_iter *it, const struct tree_node *n,
                         bool last)
{
    while (n != NULL) {
        int at = last ? n->count - 1 : 0;
        iter_push(it, n, at);
        n = n->leaf ? NULL : tree_node_child(n, at);
    }
}

/* FRESH: IT was placed, not loaded. */
static void iter_step(struct tree_iter *it, bool back, bool fresh)
{
    while (it->depth > 0) {
        const struct tree_node *n = it->node[it->depth - 1];
        uint16_t *at = &it->at[it->depth - 1];
        if (back ? *at > 0 : *at + 1 < n->count) {
            *at = (uint16_t)(back ? *at - 1 : *at + 1);
            if (!n->leaf) {
                iter_descend(it, tree_node_child(n, *at), back);
            }
            break;
        }
        it->depth--;
        fresh = true;
    }
    iter_load(it, fresh);
}

/* Leaves IT in the leaf where KEY belongs; its place there, which may be one
 * past the leaf's end, is that of the first item at or after KEY. True if that
 * is KEY. */
static bool iter_place(const struct tree *t, struct slice key,
                       struct tree_iter *it)
{
    bool exact = false;
    it->tree = t;
    it->changes = t->changes;
    it->depth = 0;
    const struct tree_node *n = t->root;
    while (n != NULL && !n->leaf) {
        int at = tree_node_child_of(n, key);
        iter_push(it, n, at);
        n = tree_node_child(n, at);
    }
    if (n != NULL) {
        iter_push(it, n, tree_node_find(n, 0, key, &exact));
    }
    return exact;
}

/* From a place to the item there: the next leaf's first if it is past the
 * leaf's end. */
static void iter_settle(struct tree_iter *it)
{
    if (it->depth > 0 &&
        it->at[it->depth - 1] == it->node[it->depth - 1]->count) {
        it->at[it->depth - 1]--;
        iter_step(it, false, true);
    } else {
        iter_load(it, true);
    }
}

void tree_next(struct tree_iter *it)
{
    bool changed = it->depth > 0 && it->changes != it->tree->changes;
    if (changed && !iter_place(it->tree, tree_iter_key(it), it)) {
        iter_settle(it);
        return;
    }
    iter_step(it, false, changed);
}

void tree_prev(struct tree_iter *it)
{
    bool changed = it->depth > 0 && it->changes != it->tree->changes;
    if (changed) {
        (void)iter_place(it->tree, tree_iter_key(it), it);
    }
    iter_step(it, true, changed);
}

void tree_seek(const struct tree *t, struct slice key, struct tree_iter *it)
{
    (void)iter_place(t, key, it);
    iter_settle(it);
}

void tree_seek_before(const struct tree *t, struct slice key,
                      struct tree_iter *it)
{
    (void)iter_place(t, key, it);
    iter_step(it, true, true);
}

static void iter_end(const struct tree *t, struct tree_iter *it, bool last)
{
    it->tree = t;
    it->changes = t->changes;
    it->depth = 0;
    iter_descend(it, t->root, last);
    iter_load(it, true);
}

void tree_first(const struct tree *t, struct tree_iter *it)
{
    iter_end(t, it, false);
}

void tree_last(const struct tree *t, struct tree_iter *it)
{
    iter_end(t, it, true);
}

struct tree_value tree_iter_value(const struct tree_iter *it)
{
    assert(it->depth > 0 && it->changes == it->tree->changes);
    return it->value;
}

/* ---- checking ---- */

struct check {
    uint64_t count, bytes;
};

/* Walks N, whose keys lie in [LOW, HIGH) where not NULL. Returns the depth
 * below it. */
static int node_check(const struct tree_node *n, const struct slice *low,
                      const struct slice *high, struct check *c)
{
    uint8_t room[2][TREE_KEY_MAX];
    struct slice key[2]; /* of cell I and the one before it, in turn */
    int depth = 0;
    assert(n->refs > 0 && n->count > 0 && tree_node_size(n) <= n->cap);
    c->bytes += tree_node_block(n);
    for (int i = 0; i < n->count; i++) {
        const struct slice *from = low, *to = high;
        bool has_key = n->leaf || i > 0;
        key[i & 1] = tree_node_key(n, i, room[i & 1]);
        if (has_key) {
            from = &key[i & 1];
            assert(low == NULL || slice_compare(*low, *from) <= 0);
            assert(high == NULL || slice_compare(*from, *high) < 0);
            assert(i < (n->leaf ? 1 : 2) ||
                   slice_compare(key[~i & 1], *from) < 0);
        } else {
            assert(tree_node_cell(n, i).key.len == 0);
        }
        if (n->leaf) {
            c->count++;
            continue;
        }
        uint8_t next_room[TREE_KEY_MAX];
        struct slice next;
        if (i + 1 < n->count) {
            next = tree_node_key(n, i + 1, next_room);
            to = &next;
        }
        int d = node_check(tree_node_child(n, i), from, to, c);
        assert(i == 0 || d == depth);
        depth = d;
    }
    return depth + 1;
}

void tree_check(const struct tree *t)
{
    struct check c = {0, 0};
    if (t->root != NULL) {
        int depth = node_check(t->root, NULL, NULL, &c);
        assert(depth <= TREE_DEPTH_MAX);
    }
    assert(c.count == t->count);
    assert(t->account->refs > 1 || c.bytes == t->account->bytes);
}
