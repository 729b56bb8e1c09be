/*
 * Walking a tree, and checking it. An iterator is the path from the root to
 * its item; nodes need no links to their neighbours, which could not be kept
 * in a tree that shares them.
 */
#include "storage/tree_private.h"

#include <assert.h>

static void iter_push(struct tree_iter *it, const struct tree_node *n, int at)
{
    assert(it->depth < TREE_DEPTH_MAX);
    it->node[it->depth] = n;
    it->at[it->depth] = (uint16_t)at;
    it->depth++;
}

/* Goes down to the first or last item below N. */
static void iter_descend(struct tree_iter *it, const struct tree_node *n,
                         bool last)
{
    while (n != NULL) {
        int at = last ? n->count - 1 : 0;
        iter_push(it, n, at);
        n = n->leaf ? NULL : n->slots[at];
    }
}

void tree_next(struct tree_iter *it)
{
    while (it->depth > 0) {
        const struct tree_node *n = it->node[it->depth - 1];
        uint16_t *at = &it->at[it->depth - 1];
        if (*at + 1 < n->count) {
            (*at)++;
            if (!n->leaf) {
                iter_descend(it, n->slots[*at], false);
            }
            return;
        }
        it->depth--;
    }
}

void tree_prev(struct tree_iter *it)
{
    while (it->depth > 0) {
        const struct tree_node *n = it->node[it->depth - 1];
        uint16_t *at = &it->at[it->depth - 1];
        if (*at > 0) {
            (*at)--;
            if (!n->leaf) {
                iter_descend(it, n->slots[*at], true);
            }
            return;
        }
        it->depth--;
    }
}

/* Leaves IT in the leaf where KEY belongs; its place there, which may be one
 * past the leaf's end, is that of the first item at or after KEY. */
static void iter_place(const struct tree *t, struct slice key,
                       struct tree_iter *it)
{
    it->depth = 0;
    const struct tree_node *n = t->root;
    while (n != NULL && !n->leaf) {
        int at = tree_child_of(n, key);
        iter_push(it, n, at);
        n = n->slots[at];
    }
    if (n != NULL) {
        iter_push(it, n, tree_node_bound(n, 0, key, false));
    }
}

void tree_seek(const struct tree *t, struct slice key, struct tree_iter *it)
{
    iter_place(t, key, it);
    if (it->depth > 0 &&
        it->at[it->depth - 1] == it->node[it->depth - 1]->count) {
        tree_next(it);
    }
}

void tree_seek_before(const struct tree *t, struct slice key,
                      struct tree_iter *it)
{
    iter_place(t, key, it);
    tree_prev(it);
}

void tree_first(const struct tree *t, struct tree_iter *it)
{
    it->depth = 0;
    iter_descend(it, t->root, false);
}

void tree_last(const struct tree *t, struct tree_iter *it)
{
    it->depth = 0;
    iter_descend(it, t->root, true);
}

struct slice tree_iter_key(const struct tree_iter *it)
{
    assert(it->depth > 0);
    return tree_key_slice(it->node[it->depth - 1]->keys[it->at[it->depth - 1]]);
}

struct tree_value tree_iter_value(const struct tree_iter *it)
{
    assert(it->depth > 0);
    return tree_value_view(
        it->node[it->depth - 1]->slots[it->at[it->depth - 1]]);
}

/* ---- checking ---- */

/* Walks N, whose keys lie in [LOW, HIGH) where not NULL. Returns the depth
 * below it. */
static int node_check(const struct tree_node *n, const struct tree_key *low,
                      const struct tree_key *high, uint64_t *count)
{
    int depth = 0;
    assert(n->refs > 0 && n->count > 0 && n->count <= FANOUT);
    for (int i = 0; i < n->count; i++) {
        const struct tree_key *k = n->keys[i];
        const struct tree_key *next = i + 1 < n->count ? n->keys[i + 1] : high;
        assert((k == NULL) == (!n->leaf && i == 0));
        const struct tree_key *from = k == NULL ? low : k;
        assert(from == NULL || low == NULL ||
               slice_compare(tree_key_slice(low), tree_key_slice(from)) <= 0);
        assert(from == NULL || next == NULL ||
               slice_compare(tree_key_slice(from), tree_key_slice(next)) < 0);
        if (n->leaf) {
            *count += 1;
        } else {
            int d = node_check(n->slots[i], from, next, count);
            assert(i == 0 || d == depth);
            depth = d;
        }
    }
    return depth + 1;
}

void tree_check(const struct tree *t)
{
    uint64_t count = 0;
    if (t->root != NULL) {
        int depth = node_check(t->root, NULL, NULL, &count);
        assert(depth <= TREE_DEPTH_MAX);
    }
    assert(count == t->count);
}
