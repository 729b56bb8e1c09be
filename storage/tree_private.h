/*
 * The tree's nodes, for tree.c, which has the design, and tree_iter.c.
 */
#ifndef STORAGE_TREE_PRIVATE_H
#define STORAGE_TREE_PRIVATE_H

#include "storage/tree.h"

#define FANOUT 32
#define SPARSE (FANOUT / 4)
#define MERGED_MAX (FANOUT * 3 / 4)

struct tree_key {
    uint32_t refs;
    uint32_t len;
    uint8_t bytes[];
};

struct value {
    uint32_t refs;
    uint32_t len;
    struct id128 digest;
    uint8_t bytes[];
};

struct tree_node {
    uint32_t refs;
    uint16_t count;
    bool leaf;
    struct tree_key *keys[FANOUT];
    void *slots[FANOUT]; /* leaf: struct value; inner: struct tree_node */
};

/* What a tree and its clones take, counted together. */
struct account {
    uint32_t refs;
    uint64_t bytes;
};

struct tree {
    struct tree_node *root; /* NULL when empty */
    uint64_t count;
    struct account *account;
};

static inline struct slice tree_key_slice(const struct tree_key *k)
{
    return slice_make(k->bytes, k->len);
}

static inline struct tree_value tree_value_view(const struct value *v)
{
    return (struct tree_value){slice_make(v->bytes, v->len), v->digest};
}

/* Number of keys from FIRST on that are before KEY (or at it, if AT_TOO),
 * plus FIRST. */
int tree_node_bound(const struct tree_node *n, int first, struct slice key,
                    bool at_too);
/* The child in whose range KEY lies. */
int tree_child_of(const struct tree_node *n, struct slice key);

#endif
