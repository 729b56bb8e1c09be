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

/* A value: bytes, and what they are, which is the caller's: the cell's value
 * itself, or the place where it stands. */
struct tree_value {
    struct slice bytes;
    uint8_t tag;
};

#define TREE_KEY_MAX 8192
#define TREE_VALUE_MAX (UINT32_C(1) << 30)
#define TREE_DEPTH_MAX 24

struct tree *tree_new(void);
void tree_free(struct tree *t); /* NULL is fine */
/* Another tree with the same contents; O(1). */
struct tree *tree_clone(const struct tree *t);
/* Makes T what FROM is, and frees FROM; for undoing. */
void tree_take(struct tree *t, struct tree *from);

/* OUT's bytes live until the next change of T, or, if a clone was taken of T
 * as it is now, as long as that clone is neither changed nor freed. */
bool tree_get(const struct tree *t, struct slice key, struct tree_value *out);
/* Copies KEY and the value in; replaces what was there. Neither may point into
 * T's own memory, as slices of tree_get do. */
void tree_put(struct tree *t, struct slice key, const struct tree_value *value);
/* As tree_put; REPLACED, if not NULL, is called with what was there, once,
 * before it goes; it changes nothing. */
void tree_replace(struct tree *t, struct slice key,
                  const struct tree_value *value,
                  void (*replaced)(void *ctx, const struct tree_value *old),
                  void *ctx);
/* As tree_put, of a KEY behind all others, which is found at once; false,
 * without a change, if it is not. */
bool tree_append(struct tree *t, struct slice key,
                 const struct tree_value *value);
/* Nodes of so many bytes will be made soon: brings in the memory at once. */
void tree_expect(size_t bytes);
/* Cells in order that belong to no tree yet: any thread may collect some. */
struct tree_leaves;
struct tree_leaves *tree_leaves_new(void);
void tree_leaves_free(struct tree_leaves *l); /* NULL is fine */
/* False if KEY is not behind all that L has. The value's bytes are needed until
 * tree_leaves_end(); KEY is copied. */
bool tree_leaves_add(struct tree_leaves *l, struct slice key,
                     const struct tree_value *value);
void tree_leaves_end(struct tree_leaves *l);
/* Puts all that L has, which was ended, into T, and leaves L empty; false,
 * without a change, if they are not all behind what T has. */
bool tree_append_leaves(struct tree *t, struct tree_leaves *l);
/* True if KEY was there; KEY may not point into T's memory. */
bool tree_remove(struct tree *t, struct slice key);

uint64_t tree_count(const struct tree *t);
/* Bytes of heap that T and all its clones take together, the allocator's
 * rounding and headers included. */
uint64_t tree_memory(const struct tree *t);

/* A place in a tree. It survives changes of the tree: it stands on a key, and
 * moving goes to that key's neighbour as the tree then is, whether or not the
 * key itself still is there. */
struct tree_iter {
    const struct tree *tree;
    uint64_t changes; /* of the tree, when the path was walked */
    int depth;        /* levels in use; 0: at no item */
    uint16_t at[TREE_DEPTH_MAX];
    const struct tree_node *node[TREE_DEPTH_MAX];
    struct tree_value value;
    size_t key_len;
    uint8_t key[TREE_KEY_MAX];
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
/* Of a valid IT: the key, in IT itself, until IT moves. */
static inline struct slice tree_iter_key(const struct tree_iter *it)
{
    return slice_make(it->key, it->key_len);
}
/* Of a valid IT since whose last move the tree has not changed (asserted): as
 * long-lived as what tree_get gives. */
struct tree_value tree_iter_value(const struct tree_iter *it);

/* Walks all of T and asserts its invariants, and its account if it has no
 * clones; for tests. */
void tree_check(const struct tree *t);

#endif
