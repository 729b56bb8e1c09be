/*
 * A B+tree with reference counts instead of locks or undo, and with cells
 * packed into its nodes (tree_node.c).
 *
 * Leaves hold cells in order; inner nodes hold children, and before each but
 * the first a separator: all keys of child i are at or after separator i, all
 * of child i-1 before it. Separators are as short as telling two neighbours
 * apart allows.
 * A node may be referred to by many parents, those of clones. A change walks
 * down from the root and copies what others refer to, too; a node that is ours
 * alone is changed in place. So without snapshots nothing is copied at all,
 * and with one each path is copied once. Values are not counted: their bytes
 * are the leaf's, and live as long as it.
 *
 * Putting is walking down, and inserting if the leaf takes the cell. If it does
 * not, one node is split, or a root is put above the old one, and the walk
 * begins again; the node split is the lowest full one whose parent takes the
 * new separator. A split caused by an append leaves the left node full:
 * sequential loading and growing lists fill their nodes. A cell that is large
 * beside a leaf gets one of its own rather than small neighbours.
 *
 * Removing leaves a node alone until it is sparse and, with a neighbour, fits
 * into three quarters of one; so two neighbours never both are sparse for
 * long, and no cell is moved back and forth.
 *
 * Invariants, walked by tree_check(): keys ascend strictly and stand on the
 * right side of their separators; all leaves are equally deep; only the root
 * may be missing, no node is empty; counts and bytes add up.
 */
#include "storage/tree_private.h"

#include <assert.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* Freeing so much at once gives what can be to the system: after a long-held
 * clone whose tree was rewritten meanwhile, half of the heap is holes. */
#define TRIM_FROM (UINT64_C(64) << 20)

/* A cell so large gets a leaf of its own if it does not fit. */
#define LARGE (LEAF_MAX / 4)

/* From the root to a leaf, and where a key is there or belongs. */
struct path {
    struct tree_node *node[TREE_DEPTH_MAX];
    int at[TREE_DEPTH_MAX];
    int leaf; /* its level */
    bool exact;
};

/* ---- paths ---- */

static void path_find(const struct tree *t, struct slice key, struct path *p)
{
    struct tree_node *n = t->root;
    int level = 0;
    for (; !n->leaf; level++) {
        assert(level < TREE_DEPTH_MAX - 1);
        p->node[level] = n;
        p->at[level] = tree_node_child_of(n, key);
        n = tree_node_child(n, p->at[level]);
    }
    p->node[level] = n;
    p->at[level] = tree_node_find(n, 0, key, &p->exact);
    p->leaf = level;
}

/* Behind the last key. */
static void path_last(const struct tree *t, struct path *p)
{
    struct tree_node *n = t->root;
    int level = 0;
    for (; !n->leaf; level++) {
        assert(level < TREE_DEPTH_MAX - 1);
        p->node[level] = n;
        p->at[level] = n->count - 1;
        n = tree_node_child(n, p->at[level]);
    }
    p->node[level] = n;
    p->at[level] = n->count;
    p->leaf = level;
    p->exact = false;
}

/* Puts N into the place of the node at LEVEL. */
static void path_set(struct tree *t, struct path *p, int level,
                     struct tree_node *n)
{
    if (p->node[level] == n) {
        return;
    }
    p->node[level] = n;
    if (level == 0) {
        t->root = n;
    } else {
        tree_node_set_child(p->node[level - 1], p->at[level - 1], n);
    }
}

/* Makes all nodes ours alone, by copying those that are not. */
static void path_own(struct tree *t, struct path *p)
{
    for (int level = 0; level <= p->leaf; level++) {
        struct tree_node *n = p->node[level];
        if (n->refs > 1) {
            path_set(t, p, level, tree_node_copy(t->account, n));
        }
    }
}

/* Whether the tree ends with the node at LEVEL. */
static bool path_is_last(const struct path *p, int level)
{
    for (int i = 0; i < level; i++) {
        if (p->at[i] < p->node[i]->count - 1) {
            return false;
        }
    }
    return true;
}

static void leaf_insert(struct tree *t, struct path *p,
                        const struct tree_cell *cell, size_t cap)
{
    path_set(t, p, p->leaf,
             tree_node_insert(t->account, p->node[p->leaf], p->at[p->leaf],
                              cell, cap));
    t->count++;
}

/* ---- splitting ---- */

static struct tree_cell child_cell(struct slice key, struct tree_node **child)
{
    return (struct tree_cell){
        key, {slice_make((const void *)child, sizeof(struct tree_node *)), 0}};
}

/* Puts RIGHT behind the node at LEVEL; the parent takes it. */
static void path_sprout(struct tree *t, struct path *p, int level,
                        struct slice separator, struct tree_node *right)
{
    struct tree_cell cell = child_cell(separator, &right);
    path_set(t, p, level - 1,
             tree_node_insert(t->account, p->node[level - 1],
                              p->at[level - 1] + 1, &cell, 0));
}

static void root_raise(struct tree *t)
{
    struct tree_cell cell = child_cell(slice_make(NULL, 0), &t->root);
    struct tree_node *root = tree_node_new(t->account, false, 0);
    t->root = tree_node_insert(t->account, root, 0, &cell, 0);
}

static void inner_split(struct tree *t, struct path *p, int level);

/* Whether the parent of the node at LEVEL takes SEPARATOR; if not, a step was
 * made towards that, and P is stale. */
static bool parent_takes(struct tree *t, struct path *p, int level,
                         struct slice separator)
{
    if (level == 0) {
        root_raise(t);
        return false;
    }
    if (tree_node_takes(p->node[level - 1], separator,
                        sizeof(struct tree_node *))) {
        return true;
    }
    inner_split(t, p, level - 1);
    return false;
}

/* Splits the node at LEVEL before cell AT. */
static void node_split(struct tree *t, struct path *p, int level, int at,
                       struct slice separator)
{
    struct account *a = t->account;
    struct tree_node *n = p->node[level];
    struct tree_node *right = tree_node_slice(a, n, at, n->count);
    path_set(t, p, level, tree_node_slice(a, n, 0, at));
    path_sprout(t, p, level, separator, right);
    tree_node_pass_on(a, n);
}

static void inner_split(struct tree *t, struct path *p, int level)
{
    uint8_t room[TREE_KEY_MAX];
    const struct tree_node *n = p->node[level];
    int at = tree_node_middle(n);
    if (p->at[level] == n->count - 1 && path_is_last(p, level)) {
        at = n->count - 1;
    }
    struct slice separator = tree_node_key(n, at, room);
    if (parent_takes(t, p, level, separator)) {
        node_split(t, p, level, at, separator);
    }
}

/* The shortest string that is behind A and not behind B. */
static struct slice between(struct slice a, struct slice b)
{
    size_t i = 0;
    while (i < a.len && a.data[i] == b.data[i]) {
        i++;
    }
    assert(i < b.len);
    return slice_make(b.data, i + 1);
}

/* Puts CELL into a new leaf beside the one that P leads to, which stays whole
 * and which CELL is behind or before. False if only a step was made. */
static bool leaf_alone(struct tree *t, struct path *p,
                       const struct tree_cell *cell)
{
    struct account *a = t->account;
    struct tree_node *n = p->node[p->leaf];
    bool behind = p->at[p->leaf] > 0;
    uint8_t room[TREE_KEY_MAX];
    struct slice other = tree_node_key(n, behind ? n->count - 1 : 0, room);
    struct slice separator =
        behind ? between(other, cell->key) : between(cell->key, other);
    if (!parent_takes(t, p, p->leaf, separator)) {
        return false;
    }
    /* at the tree's end more will follow, likely */
    bool more = behind && path_is_last(p, p->leaf);
    size_t small = cell->key.len + cell->value.bytes.len + 64;
    struct tree_node *alone = tree_node_new(a, true, more ? LEAF_MAX : small);
    tree_node_set_prefix(alone, slice_make(cell->key.data, separator.len - 1));
    alone = tree_node_insert(a, alone, 0, cell, 0);
    if (behind) {
        path_set(t, p, p->leaf, tree_node_shrink(a, n, true));
        path_sprout(t, p, p->leaf, separator, alone);
    } else {
        path_set(t, p, p->leaf, alone);
        path_sprout(t, p, p->leaf, separator, n);
    }
    t->count++;
    return true;
}

/* Makes a step towards room for CELL in P's leaf; true if it is in. */
static bool leaf_split(struct tree *t, struct path *p,
                       const struct tree_cell *cell)
{
    uint8_t left_room[TREE_KEY_MAX], right_room[TREE_KEY_MAX];
    const struct tree_node *n = p->node[p->leaf];
    bool large = cell->key.len + cell->value.bytes.len > LARGE;
    int at = p->at[p->leaf];
    if (at == n->count || (at == 0 && (large || n->count == 1))) {
        return leaf_alone(t, p, cell);
    }
    if (!large) {
        at = tree_node_middle(n);
    }
    struct slice separator = between(tree_node_key(n, at - 1, left_room),
                                     tree_node_key(n, at, right_room));
    if (parent_takes(t, p, p->leaf, separator)) {
        node_split(t, p, p->leaf, at, separator);
    }
    return false;
}

/* ---- joining ---- */

/* Joins children AT and AT + 1 of the node at LEVEL if they fit into one. */
static bool join_children(struct tree *t, struct path *p, int level, int at)
{
    uint8_t room[TREE_KEY_MAX];
    struct tree_node *n = p->node[level];
    if (at < 0 || at + 1 >= n->count) {
        return false;
    }
    struct tree_node *joined = tree_node_join(
        t->account, tree_node_child(n, at), tree_node_child(n, at + 1),
        tree_node_key(n, at + 1, room));
    if (joined == NULL) {
        return false;
    }
    tree_node_set_child(n, at, joined);
    tree_node_erase(n, at + 1);
    return true;
}

static void root_lower(struct tree *t)
{
    struct tree_node *root = t->root;
    if (root->count == 0) {
        t->root = NULL;
        tree_node_pass_on(t->account, root);
        return;
    }
    while (!t->root->leaf && t->root->count == 1) {
        root = t->root;
        t->root = tree_node_child(root, 0);
        tree_node_pass_on(t->account, root);
    }
}

/* After P's leaf has become smaller. */
static void path_tidy(struct tree *t, struct path *p)
{
    for (int level = p->leaf;; level--) {
        struct tree_node *n = p->node[level];
        if (n->count > 0) {
            n = tree_node_shrink(t->account, n, false);
            path_set(t, p, level, n);
        }
        if (level == 0) {
            root_lower(t);
            return;
        }
        int at = p->at[level - 1];
        if (n->count == 0) {
            tree_node_pass_on(t->account, n);
            tree_node_erase(p->node[level - 1], at);
        } else if (!tree_node_sparse(n) ||
                   (!join_children(t, p, level - 1, at - 1) &&
                    !join_children(t, p, level - 1, at))) {
            return;
        }
    }
}

/* ---- changing ---- */

/* Puts VALUE into the place of one as long. */
static bool overwrite(const struct tree_node *n, int at,
                      const struct tree_value *value)
{
    struct tree_value old = tree_node_cell(n, at).value;
    if (old.bytes.len != value->bytes.len || old.tag != value->tag) {
        return false;
    }
    if (old.bytes.len > 0) {
        memcpy((uint8_t *)(uintptr_t)old.bytes.data, value->bytes.data,
               old.bytes.len);
    }
    return true;
}

/* False if only a step was made towards it. */
static bool try_put(struct tree *t, struct path *p,
                    const struct tree_cell *cell)
{
    bool less = false;
    if (p->exact) {
        struct tree_node *n = p->node[p->leaf];
        int at = p->at[p->leaf];
        if (overwrite(n, at, &cell->value)) {
            return true;
        }
        less = cell->value.bytes.len < tree_node_cell(n, at).value.bytes.len;
        tree_node_erase(n, at);
        t->count--;
    }
    if (!tree_node_takes(p->node[p->leaf], cell->key, cell->value.bytes.len)) {
        return leaf_split(t, p, cell);
    }
    leaf_insert(t, p, cell, 0);
    if (less) {
        path_tidy(t, p);
    }
    return true;
}

void tree_put(struct tree *t, struct slice key, const struct tree_value *value)
{
    tree_replace(t, key, value, NULL, NULL);
}

void tree_replace(struct tree *t, struct slice key,
                  const struct tree_value *value,
                  void (*replaced)(void *ctx, const struct tree_value *old),
                  void *ctx)
{
    struct tree_cell cell = {key, *value};
    struct path p;
    assert(key.len <= TREE_KEY_MAX && value->bytes.len <= TREE_VALUE_MAX);
    t->changes++;
    if (t->root == NULL) {
        t->root = tree_node_new(t->account, true, 0);
    }
    path_find(t, key, &p);
    if (p.exact && replaced != NULL) {
        struct tree_value old =
            tree_node_cell(p.node[p.leaf], p.at[p.leaf]).value;
        replaced(ctx, &old);
    }
    path_own(t, &p);
    while (!try_put(t, &p, &cell)) {
        path_find(t, key, &p);
        path_own(t, &p);
    }
}

bool tree_append(struct tree *t, struct slice key,
                 const struct tree_value *value)
{
    struct tree_cell cell = {key, *value};
    struct path p;
    if (t->root == NULL) {
        tree_put(t, key, value);
        return true;
    }
    path_last(t, &p);
    const struct tree_node *n = p.node[p.leaf];
    if (tree_node_compare(n, n->count - 1, key) >= 0) {
        return false;
    }
    assert(key.len <= TREE_KEY_MAX && value->bytes.len <= TREE_VALUE_MAX);
    if (!tree_node_takes(n, key, value->bytes.len)) {
        tree_put(t, key, value);
        return true;
    }
    t->changes++;
    path_own(t, &p);
    size_t cap = 2 * (size_t)p.node[p.leaf]->cap;
    leaf_insert(t, &p, &cell, cap < LEAF_MAX ? cap : LEAF_MAX);
    return true;
}

/* Puts LEAF behind all others. */
static void append_leaf(struct tree *t, struct tree_node *leaf)
{
    uint8_t left_room[TREE_KEY_MAX], right_room[TREE_KEY_MAX];
    struct path p;
    struct slice separator;
    if (t->root == NULL) {
        t->root = leaf;
        return;
    }
    do {
        path_last(t, &p);
        path_own(t, &p);
        const struct tree_node *n = p.node[p.leaf];
        separator = between(tree_node_key(n, n->count - 1, left_room),
                            tree_node_key(leaf, 0, right_room));
    } while (!parent_takes(t, &p, p.leaf, separator));
    path_sprout(t, &p, p.leaf, separator, leaf);
}

bool tree_append_leaves(struct tree *t, struct tree_leaves *l)
{
    uint8_t room[TREE_KEY_MAX];
    struct path p;
    assert(l->wait_count == 0);
    if (t->root != NULL && l->count > 0) {
        path_last(t, &p);
        const struct tree_node *n = p.node[p.leaf];
        if (tree_node_compare(n, n->count - 1,
                              tree_node_key(l->at[0], 0, room)) >= 0) {
            return false;
        }
    }
    for (size_t i = 0; i < l->count; i++) {
        append_leaf(t, l->at[i]);
    }
    t->changes++;
    t->count += l->cells;
    t->account->bytes += l->account.bytes;
    l->account.bytes = 0;
    l->count = 0;
    l->cells = 0;
    return true;
}

bool tree_remove(struct tree *t, struct slice key)
{
    struct path p;
    if (t->root == NULL) {
        return false;
    }
    path_find(t, key, &p);
    if (!p.exact) {
        return false;
    }
    t->changes++;
    t->count--;
    path_own(t, &p);
    tree_node_erase(p.node[p.leaf], p.at[p.leaf]);
    path_tidy(t, &p);
    return true;
}

/* ---- whole trees ---- */

struct tree *tree_new(void)
{
    struct tree *t = xcalloc(1, sizeof(*t));
    t->account = xcalloc(1, sizeof(*t->account));
    t->account->refs = 1;
    return t;
}

void tree_free(struct tree *t)
{
    if (t == NULL) {
        return;
    }
    uint64_t bytes = t->account->bytes;
    if (t->root != NULL) {
        tree_node_release(t->account, t->root);
    }
    if (bytes - t->account->bytes >= TRIM_FROM) {
        (void)malloc_trim(0);
    }
    if (--t->account->refs == 0) {
        assert(t->account->bytes == 0);
        free(t->account);
    }
    free(t);
}

struct tree *tree_clone(const struct tree *t)
{
    struct tree *c = xmalloc(sizeof(*c));
    *c = *t;
    c->account->refs++;
    if (c->root != NULL) {
        c->root->refs++;
    }
    return c;
}

void tree_take(struct tree *t, struct tree *from)
{
    struct tree old = *t;
    *t = *from;
    *from = old;
    t->changes = old.changes > t->changes ? old.changes : t->changes;
    t->changes++;
    tree_free(from);
}

uint64_t tree_count(const struct tree *t)
{
    return t->count;
}

uint64_t tree_memory(const struct tree *t)
{
    return t->account->bytes;
}
