/*
 * A tree's nodes, for tree.c, which has the design, and tree_iter.c. What a
 * node is made of is told in tree_node.c.
 */
#ifndef STORAGE_TREE_PRIVATE_H
#define STORAGE_TREE_PRIVATE_H

#include "storage/tree.h"

/* Bytes at which a leaf or an inner node is split. A leaf may have more if it
 * has a single cell, an inner node if it has fewer than INNER_MIN. */
#define LEAF_MAX (8192u - 8u)
#define INNER_MAX (2048u - 8u)
#define INNER_MIN 6

struct tree_node {
    uint32_t refs;
    uint32_t cap;    /* of the block; the directory ends there */
    uint32_t used;   /* bytes of head, prefix and cells */
    uint16_t count;  /* of cells */
    uint16_t prefix; /* bytes that all keys begin with, left out in cells */
    bool leaf;
    uint8_t bytes[]; /* prefix, cells, nothing, directory */
};

#define TREE_HEAD offsetof(struct tree_node, bytes)
#define TREE_WORD sizeof(uint32_t) /* of the directory */

/* A cell as it stands: the key without the node's prefix. */
struct tree_cell {
    struct slice key;
    struct tree_value value; /* inner node: a pointer to the child */
};

/* What a tree and its clones take, counted together. */
struct account {
    uint32_t refs;
    uint64_t bytes;
};

struct tree {
    struct tree_node *root; /* NULL when empty */
    uint64_t count;
    uint64_t changes; /* grows with each */
    struct account *account;
};

/* A cell that waits for its leaf: where its key is in the buffer; its value is
 * the caller's. */
struct tree_waiting {
    size_t at, len;
    struct tree_value value;
};

struct tree_leaves {
    struct account account;
    struct tree_node **at;
    size_t count, cap;
    uint64_t cells; /* those that wait included */
    /* Of the next leaf. */
    struct tree_waiting *waiting;
    struct tree_cell *flushed; /* room for as many */
    size_t wait_count, wait_cap;
    size_t wait_bytes; /* that they take as cells without a prefix */
    struct buf keys;
};

/* ---- nodes ----
 * Functions that change a node want one that nobody else refers to, and give
 * it back, moved perhaps. */

/* An empty one in a block of CAP bytes at least (0: the least). */
struct tree_node *tree_node_new(struct account *a, bool leaf, size_t cap);
/* The same in a block of just NEED bytes, about. */
struct tree_node *tree_node_exact(struct account *a, bool leaf, size_t need);
/* N in a block of NEED bytes at least. */
struct tree_node *tree_node_resize(struct account *a, struct tree_node *n,
                                   size_t need);
/* Of N, which is empty: later keys begin with PREFIX, likely. */
void tree_node_set_prefix(struct tree_node *n, struct slice prefix);
/* One reference less; the last one takes the children's along. */
void tree_node_release(struct account *a, struct tree_node *n);
/* A copy instead of the reference to N, which others share. */
struct tree_node *tree_node_copy(struct account *a, struct tree_node *n);
/* Bytes in use, the directory included. */
size_t tree_node_size(const struct tree_node *n);
size_t tree_node_block(const struct tree_node *n); /* of heap */
/* The end of the directory: cell I's word is at [-1 - I]. */
static inline uint32_t *tree_node_words(const struct tree_node *n)
{
    return (uint32_t *)(void *)((uint8_t *)(uintptr_t)n + n->cap);
}

/* The bytes with which both begin. */
static inline size_t tree_common(struct slice a, struct slice b)
{
    size_t i = 0, most = a.len < b.len ? a.len : b.len;
    while (i < most && a.data[i] == b.data[i]) {
        i++;
    }
    return i;
}
/* Of a cell with a key and a value of so many bytes, without its word. */
size_t tree_cell_size(size_t key, size_t value);
/* A leaf of COUNT cells, whose keys lack PREFIX, in a block of its size. */
struct tree_node *tree_node_leaf(struct account *a, struct slice prefix,
                                 const struct tree_cell *cells, size_t count);
struct tree_cell tree_node_cell(const struct tree_node *n, int i);
struct tree_node *tree_node_child(const struct tree_node *n, int i);
void tree_node_set_child(struct tree_node *n, int i, struct tree_node *child);
/* The whole key of cell I, in ROOM (of TREE_KEY_MAX). */
struct slice tree_node_key(const struct tree_node *n, int i, uint8_t *room);
/* As slice_compare() of cell I's key with KEY. */
int tree_node_compare(const struct tree_node *n, int i, struct slice key);

/* The first cell from FIRST on whose key is at or after KEY; sets *EXACT. */
int tree_node_find(const struct tree_node *n, int first, struct slice key,
                   bool *exact);
/* The child in whose range KEY lies. */
int tree_node_child_of(const struct tree_node *n, struct slice key);

/* Whether (KEY, a value of LEN) fits without a split. */
bool tree_node_takes(const struct tree_node *n, struct slice key, size_t len);
/* Puts a cell before cell AT; the block gets at least CAP bytes, or what it
 * needs. */
struct tree_node *tree_node_insert(struct account *a, struct tree_node *n,
                                   int at, const struct tree_cell *cell,
                                   size_t cap);
void tree_node_erase(struct tree_node *n, int at);
/* Gives back what the block has too much; all of it if EXACT. */
struct tree_node *tree_node_shrink(struct account *a, struct tree_node *n,
                                   bool exact);

/* Where to split N into halves: 0 < result < n->count, which is 2 or more. */
int tree_node_middle(const struct tree_node *n);
/* A node of the cells [FROM, TO) of N, which keeps its own; children are not
 * retained. */
struct tree_node *tree_node_slice(struct account *a, const struct tree_node *n,
                                  int from, int to);
/* One reference to N less; its children now are referred to from elsewhere
 * instead, where they were copied to. */
void tree_node_pass_on(struct account *a, struct tree_node *n);
/* L and R, neighbours with SEPARATOR between them, as one instead of the
 * references to them; NULL if that would be no small node. */
struct tree_node *tree_node_join(struct account *a, struct tree_node *l,
                                 struct tree_node *r, struct slice separator);
/* So small that it should be joined with a neighbour. */
bool tree_node_sparse(const struct tree_node *n);

#endif
