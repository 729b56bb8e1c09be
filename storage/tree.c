/*
 * A B+tree with reference counts instead of locks or undo.
 *
 * Leaves hold (key, value) pairs in order; inner nodes hold children, and for
 * each child but the first a separator: all keys of child i are at or after
 * keys[i], all of child i-1 before it. keys[0] of an inner node is NULL.
 * Keys, values and nodes are counted objects that many nodes may share. A
 * change walks down from the root; a node that somebody else also refers to
 * is copied first (its keys, values and children are then shared instead), a
 * node that is ours alone is changed in place. So without snapshots nothing
 * is copied at all, and with one each path is copied once.
 *
 * Removing leaves a node alone until it and a neighbour fit into three
 * quarters of one; so a node may be sparse, but two neighbours never both
 * are for long, and no key is moved back and forth.
 * A split caused by an append leaves the left node full: sequential loading
 * and growing lists fill their nodes.
 *
 * Invariants, walked by tree_check(): keys ascend strictly and stand on the
 * right side of their separators; all leaves are equally deep; only the root
 * may be missing, no node is empty; counts add up.
 */
#include "storage/tree_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- counted objects ---- */

static struct tree_key *key_new(struct account *a, struct slice s)
{
    assert(s.len <= TREE_KEY_MAX);
    struct tree_key *k = xmalloc(sizeof(*k) + s.len);
    k->refs = 1;
    k->len = (uint32_t)s.len;
    if (s.len > 0) {
        memcpy(k->bytes, s.data, s.len);
    }
    a->bytes += sizeof(*k) + s.len;
    return k;
}

static struct tree_key *key_retain(struct tree_key *k)
{
    if (k != NULL) {
        k->refs++;
    }
    return k;
}

static void key_release(struct account *a, struct tree_key *k)
{
    if (k != NULL && --k->refs == 0) {
        a->bytes -= sizeof(*k) + k->len;
        free(k);
    }
}

static struct value *value_new(struct account *a, const struct tree_value *from)
{
    size_t len = from->bytes.len;
    assert(len <= UINT32_MAX);
    struct value *v = xmalloc(sizeof(*v) + len);
    v->refs = 1;
    v->len = (uint32_t)len;
    v->digest = from->digest;
    if (len > 0) {
        memcpy(v->bytes, from->bytes.data, len);
    }
    a->bytes += sizeof(*v) + len;
    return v;
}

static void value_release(struct account *a, struct value *v)
{
    if (--v->refs == 0) {
        a->bytes -= sizeof(*v) + v->len;
        free(v);
    }
}

static struct tree_node *node_new(struct account *a, bool leaf)
{
    struct tree_node *n = xcalloc(1, sizeof(*n));
    n->refs = 1;
    n->leaf = leaf;
    a->bytes += sizeof(*n);
    return n;
}

static void node_release(struct account *a, struct tree_node *n);

static void slot_retain(const struct tree_node *n, void *slot)
{
    if (n->leaf) {
        ((struct value *)slot)->refs++;
    } else {
        ((struct tree_node *)slot)->refs++;
    }
}

static void slot_release(struct account *a, const struct tree_node *n,
                         void *slot)
{
    if (n->leaf) {
        value_release(a, slot);
    } else {
        node_release(a, slot);
    }
}

/* As deep as the tree, no deeper. */
static void node_release(struct account *a, struct tree_node *n)
{
    if (n == NULL || --n->refs > 0) {
        return;
    }
    for (int i = 0; i < n->count; i++) {
        key_release(a, n->keys[i]);
        slot_release(a, n, n->slots[i]);
    }
    a->bytes -= sizeof(*n);
    free(n);
}

/* Makes *REF ours alone, by copying if somebody else refers to it. */
static struct tree_node *node_own(struct account *a, struct tree_node **ref)
{
    struct tree_node *n = *ref;
    if (n->refs == 1) {
        return n;
    }
    struct tree_node *c = node_new(a, n->leaf);
    c->count = n->count;
    for (int i = 0; i < n->count; i++) {
        c->keys[i] = key_retain(n->keys[i]);
        c->slots[i] = n->slots[i];
        slot_retain(n, n->slots[i]);
    }
    n->refs--;
    *ref = c;
    return c;
}

/* ---- places in nodes ---- */

int tree_node_bound(const struct tree_node *n, int first, struct slice key,
                    bool at_too)
{
    int lo = first, hi = n->count;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        int c = slice_compare(tree_key_slice(n->keys[mid]), key);
        if (c < 0 || (c == 0 && at_too)) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

int tree_child_of(const struct tree_node *n, struct slice key)
{
    return tree_node_bound(n, 1, key, true) - 1;
}

static bool leaf_has(const struct tree_node *n, int at, struct slice key)
{
    return at < n->count && slice_equal(tree_key_slice(n->keys[at]), key);
}

static void node_insert(struct tree_node *n, int at, struct tree_key *key,
                        void *slot)
{
    assert(n->count < FANOUT && at <= n->count);
    size_t tail = (size_t)(n->count - at);
    memmove(&n->keys[at + 1], &n->keys[at], tail * sizeof(n->keys[0]));
    memmove(&n->slots[at + 1], &n->slots[at], tail * sizeof(n->slots[0]));
    n->keys[at] = key;
    n->slots[at] = slot;
    n->count++;
}

static void node_erase(struct account *a, struct tree_node *n, int at)
{
    key_release(a, n->keys[at]);
    slot_release(a, n, n->slots[at]);
    n->count--;
    size_t tail = (size_t)(n->count - at);
    memmove(&n->keys[at], &n->keys[at + 1], tail * sizeof(n->keys[0]));
    memmove(&n->slots[at], &n->slots[at + 1], tail * sizeof(n->slots[0]));
    if (!n->leaf && at == 0 && n->count > 0) {
        key_release(a, n->keys[0]);
        n->keys[0] = NULL;
    }
}

/* ---- changing ---- */

/* A node that a split made, and the separator before it (both owned). */
struct sprout {
    struct tree_node *right;
    struct tree_key *separator;
};

/* Inserts into N at AT, splitting it if it is full. */
static void node_insert_split(struct account *a, struct tree_node *n, int at,
                              struct tree_key *key, void *slot,
                              struct sprout *out)
{
    if (n->count < FANOUT) {
        node_insert(n, at, key, slot);
        return;
    }
    int keep = at == FANOUT ? FANOUT : FANOUT / 2;
    struct tree_node *r = node_new(a, n->leaf);
    r->count = (uint16_t)(FANOUT - keep);
    memcpy(r->keys, &n->keys[keep], r->count * sizeof(r->keys[0]));
    memcpy(r->slots, &n->slots[keep], r->count * sizeof(r->slots[0]));
    n->count = (uint16_t)keep;
    if (at <= keep && keep < FANOUT) {
        node_insert(n, at, key, slot);
    } else {
        node_insert(r, at - keep, key, slot);
    }
    out->right = r;
    if (r->leaf) {
        out->separator = key_retain(r->keys[0]);
    } else {
        out->separator = r->keys[0];
        r->keys[0] = NULL;
    }
}

static void put_at(struct tree *t, struct tree_node **ref, struct slice key,
                   const struct tree_value *value, struct sprout *out)
{
    struct account *a = t->account;
    struct tree_node *n = node_own(a, ref);
    if (n->leaf) {
        int at = tree_node_bound(n, 0, key, false);
        struct value *v = value_new(a, value);
        if (leaf_has(n, at, key)) {
            value_release(a, n->slots[at]);
            n->slots[at] = v;
            return;
        }
        t->count++;
        node_insert_split(a, n, at, key_new(a, key), v, out);
        return;
    }
    int at = tree_child_of(n, key);
    struct tree_node *child = n->slots[at];
    struct sprout below = {NULL, NULL};
    put_at(t, &child, key, value, &below);
    n->slots[at] = child;
    if (below.right != NULL) {
        node_insert_split(a, n, at + 1, below.separator, below.right, out);
    }
}

void tree_put(struct tree *t, struct slice key, const struct tree_value *value)
{
    struct sprout top = {NULL, NULL};
    if (t->root == NULL) {
        t->root = node_new(t->account, true);
    }
    put_at(t, &t->root, key, value, &top);
    if (top.right != NULL) {
        struct tree_node *root = node_new(t->account, false);
        node_insert(root, 0, NULL, t->root);
        node_insert(root, 1, top.separator, top.right);
        t->root = root;
    }
}

/* Joins children AT and AT + 1 of N, which fit into one. */
static void node_merge(struct account *a, struct tree_node *n, int at)
{
    struct tree_node *left = n->slots[at];
    const struct tree_node *right = n->slots[at + 1];
    left = node_own(a, &left);
    n->slots[at] = left;
    for (int i = 0; i < right->count; i++) {
        struct tree_key *k = right->keys[i];
        slot_retain(right, right->slots[i]);
        node_insert(left, left->count,
                    key_retain(k == NULL ? n->keys[at + 1] : k),
                    right->slots[i]);
    }
    node_erase(a, n, at + 1);
}

/* After a removal below child AT of N. */
static void node_tidy(struct account *a, struct tree_node *n, int at)
{
    const struct tree_node *child = n->slots[at];
    if (child->count == 0) {
        node_erase(a, n, at);
        return;
    }
    if (child->count >= SPARSE || n->count == 1) {
        return;
    }
    int left = at > 0 ? at - 1 : at;
    const struct tree_node *l = n->slots[left], *r = n->slots[left + 1];
    if (l->count + r->count <= MERGED_MAX) {
        node_merge(a, n, left);
    }
}

static void remove_at(struct tree *t, struct tree_node **ref, struct slice key)
{
    struct tree_node *n = node_own(t->account, ref);
    if (n->leaf) {
        int at = tree_node_bound(n, 0, key, false);
        assert(leaf_has(n, at, key));
        node_erase(t->account, n, at);
        t->count--;
        return;
    }
    int at = tree_child_of(n, key);
    struct tree_node *child = n->slots[at];
    remove_at(t, &child, key);
    n->slots[at] = child;
    node_tidy(t->account, n, at);
}

bool tree_remove(struct tree *t, struct slice key)
{
    struct tree_value v;
    if (!tree_get(t, key, &v)) {
        return false;
    }
    remove_at(t, &t->root, key);
    while (!t->root->leaf && t->root->count == 1) {
        struct tree_node *only = t->root->slots[0];
        only->refs++;
        node_release(t->account, t->root);
        t->root = only;
    }
    if (t->root->count == 0) {
        node_release(t->account, t->root);
        t->root = NULL;
    }
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
    node_release(t->account, t->root);
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

bool tree_get(const struct tree *t, struct slice key, struct tree_value *out)
{
    const struct tree_node *n = t->root;
    if (n == NULL) {
        return false;
    }
    while (!n->leaf) {
        n = n->slots[tree_child_of(n, key)];
    }
    int at = tree_node_bound(n, 0, key, false);
    if (!leaf_has(n, at, key)) {
        return false;
    }
    *out = tree_value_view(n->slots[at]);
    return true;
}
