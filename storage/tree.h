/*
 * An ordered map from byte strings to cells' values: a B+tree whose nodes are
 * reference counted and copied on write. A clone shares the root, so taking
 * one costs nothing, and neither side sees the other's later changes; what
 * only one side refers to is changed in place.
 * Not thread-safe: a tree and all its clones belong to one thread.
 */
#ifndef STORAGE_TREE_H
#define STORAGE_TREE_H

#include "common/buf.h"

struct tree;

/* A value's slot. Today its bytes are always in memory; when values above
 * 1 KiB move to disk this struct is where their place will stand. DIGEST is
 * the caller's, kept beside the value so that replacing or removing a cell
 * never needs to read its old bytes. */
struct tree_value {
    struct slice bytes;
    struct id128 digest;
};

#define TREE_KEY_MAX 8192
#define TREE_DEPTH_MAX 16

struct tree *tree_new(void);
void tree_free(struct tree *t); /* NULL is fine */
/* Another tree with the same contents; O(1). */
struct tree *tree_clone(const struct tree *t);
/* Makes T what FROM is, and frees FROM; for undoing. */
void tree_take(struct tree *t, struct tree *from);

/* Slices of OUT live until KEY is replaced or removed in every clone that
 * has it. */
bool tree_get(const struct tree *t, struct slice key, struct tree_value *out);
/* Copies KEY and the value in; replaces what was there. */
void tree_put(struct tree *t, struct slice key, const struct tree_value *value);
/* True if KEY was there. */
bool tree_remove(struct tree *t, struct slice key);

uint64_t tree_count(const struct tree *t);
/* Bytes of nodes, keys and values of T and all its clones together. */
uint64_t tree_memory(const struct tree *t);

/* A place in a tree; dead after the next change of that tree. */
struct tree_iter {
    const struct tree_node *node[TREE_DEPTH_MAX];
    uint16_t at[TREE_DEPTH_MAX];
    int depth; /* levels in use; 0: at no item */
};

/* First item at or after KEY; last item before KEY; ends. */
void tree_seek(const struct tree *t, struct slice key, struct tree_iter *it);
void tree_seek_before(const struct tree *t, struct slice key,
                      struct tree_iter *it);
void tree_first(const struct tree *t, struct tree_iter *it);
void tree_last(const struct tree *t, struct tree_iter *it);
/* Moves on; at the end IT becomes invalid and stays so. */
void tree_next(struct tree_iter *it);
void tree_prev(struct tree_iter *it);
static inline bool tree_valid(const struct tree_iter *it)
{
    return it->depth > 0;
}
/* Of a valid IT; as long-lived as the tree's item. */
struct slice tree_iter_key(const struct tree_iter *it);
struct tree_value tree_iter_value(const struct tree_iter *it);

/* Walks all of T and asserts its invariants; for tests. */
void tree_check(const struct tree *t);

#endif
