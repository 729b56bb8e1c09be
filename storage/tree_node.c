/*
 * A tree's node is one block of memory:
 *
 *   head | prefix | cells, as they came | nothing | directory
 *
 * The prefix is what all keys of the node begin with (keys begin with a hash
 * and a partition that neighbours share) and stands there once. A cell is
 *
 *   varint length of the key behind the prefix, varint length of the value,
 *   u8 tag, key, value
 *
 * An inner node is the same with a pointer to the child as each value; its
 * first cell has no key (is below all), for the node's parent knows it.
 * The directory has a word for each cell, growing down from the block's end in
 * the keys' order: in its upper half the first two bytes of the key behind the
 * prefix, in its lower one where the cell begins. Looking for a key mostly
 * compares these words, and touches one cell. A new cell goes behind the
 * others, so that only words are moved to make room; one taken out leaves no
 * hole, what is behind it moves up.
 *
 * A place is 16 bits: only a node's last cell may reach beyond 64 KiB. LEAF_MAX
 * sees to it, for a leaf with a larger cell has no other, and INNER_MIN, for
 * as many of the longest keys are less.
 */
#include "storage/tree_private.h"

#include <assert.h>
#include <string.h>

_Static_assert((INNER_MIN + 1) * (TREE_KEY_MAX + 16) + TREE_HEAD < UINT16_MAX,
               "16 bits reach the last child");
_Static_assert(LEAF_MAX + TREE_KEY_MAX + TREE_HEAD < UINT16_MAX,
               "16 bits reach the last cell");

/* ---- cells ---- */

static size_t varint_size(size_t v)
{
    size_t n = 1;
    for (; v >= 128; v >>= 7) {
        n++;
    }
    return n;
}

static uint8_t *varint_put(uint8_t *p, size_t v)
{
    for (; v >= 128; v >>= 7) {
        *p++ = (uint8_t)(v | 128);
    }
    *p++ = (uint8_t)v;
    return p;
}

static const uint8_t *varint_get(const uint8_t *p, size_t *out)
{
    size_t v = *p & 127;
    for (unsigned shift = 7; *p++ & 128; shift += 7) {
        v |= (size_t)(*p & 127) << shift;
    }
    *out = v;
    return p;
}

size_t tree_cell_size(size_t key, size_t value)
{
    return varint_size(key) + varint_size(value) + 1 + key + value;
}

static size_t place_of(const struct tree_node *n, int i)
{
    return tree_node_words(n)[-1 - i] & UINT16_MAX;
}

static const uint8_t *cell_key(const struct tree_node *n, int i, size_t *key,
                               size_t *value)
{
    const uint8_t *p = (const uint8_t *)n + place_of(n, i);
    p = varint_get(p, key);
    return varint_get(p, value) + 1;
}

struct tree_cell tree_node_cell(const struct tree_node *n, int i)
{
    size_t key, value;
    const uint8_t *p = cell_key(n, i, &key, &value);
    return (struct tree_cell){.key = {p, key},
                              .value = {{p + key, value}, p[-1]}};
}

struct tree_node *tree_node_child(const struct tree_node *n, int i)
{
    struct tree_node *child;
    size_t key, value;
    const uint8_t *p = cell_key(n, i, &key, &value);
    memcpy(&child, p + key, sizeof(child));
    return child;
}

void tree_node_set_child(struct tree_node *n, int i, struct tree_node *child)
{
    size_t key, value, at;
    at = (size_t)(cell_key(n, i, &key, &value) - (uint8_t *)n);
    memcpy((uint8_t *)n + at + key, &child, sizeof(child));
}

struct slice tree_node_key(const struct tree_node *n, int i, uint8_t *room)
{
    size_t key, value;
    const uint8_t *p = cell_key(n, i, &key, &value);
    memcpy(room, n->bytes, n->prefix);
    memcpy(room + n->prefix, p, key);
    return slice_make(room, n->prefix + key);
}

/* How much of N's prefix KEY begins with. */
static size_t shared(const struct tree_node *n, struct slice key)
{
    size_t p = n->prefix;
    if (p > 0 && key.len >= p && memcmp(key.data, n->bytes, p) == 0) {
        return p;
    }
    return tree_common(key, slice_make(n->bytes, p));
}

/* ---- looking ---- */

static uint32_t head_of(const uint8_t *key, size_t len)
{
    uint32_t first = len > 0 ? key[0] : 0, second = len > 1 ? key[1] : 0;
    return first << 24 | second << 16;
}

static int compare(const uint8_t *a, size_t a_len, const uint8_t *b,
                   size_t b_len)
{
    size_t len = a_len < b_len ? a_len : b_len;
    int c = len == 0 ? 0 : memcmp(a, b, len);
    return c != 0 ? c : (a_len > b_len) - (a_len < b_len);
}

int tree_node_compare(const struct tree_node *n, int i, struct slice key)
{
    size_t len, value, p = n->prefix;
    const uint8_t *at = cell_key(n, i, &len, &value);
    int c = compare(n->bytes, p, key.data, key.len < p ? key.len : p);
    return c != 0 ? c : compare(at, len, key.data + p, key.len - p);
}

int tree_node_find(const struct tree_node *n, int first, struct slice key,
                   bool *exact)
{
    size_t p = n->prefix;
    *exact = false;
    int c = compare(n->bytes, p, key.data, key.len < p ? key.len : p);
    if (c != 0) {
        return c < 0 ? n->count : first;
    }
    const uint8_t *rest = key.data + p;
    size_t rest_len = key.len - p;
    uint32_t head = head_of(rest, rest_len);
    const uint32_t *w = tree_node_words(n);
    int lo = first, hi = n->count;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        uint32_t at = w[-1 - mid] & ~(uint32_t)UINT16_MAX;
        if (at == head) {
            size_t len, value;
            const uint8_t *k = cell_key(n, mid, &len, &value);
            c = compare(k, len, rest, rest_len);
            if (c == 0) {
                *exact = true;
                return mid;
            }
        } else {
            c = at < head ? -1 : 1;
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

int tree_node_child_of(const struct tree_node *n, struct slice key)
{
    bool exact;
    int at = tree_node_find(n, 1, key, &exact);
    return exact ? at : at - 1;
}

/* ---- changing ---- */

/* What N takes, at most, once its prefix is no longer than PREFIX. */
static size_t size_with(const struct tree_node *n, size_t prefix)
{
    size_t more = n->prefix > prefix ? n->prefix - prefix + 1 : 0;
    return tree_node_size(n) + n->count * more;
}

bool tree_node_takes(const struct tree_node *n, struct slice key, size_t len)
{
    if (n->count < (n->leaf ? 1 : INNER_MIN)) {
        return true;
    }
    size_t prefix = shared(n, key);
    size_t size = size_with(n, prefix) + tree_cell_size(key.len - prefix, len) +
                  TREE_WORD;
    return size <= (n->leaf ? LEAF_MAX : INNER_MAX);
}

/* Appends a cell whose key is FIRST and REST, behind the prefix, before AT.
 * There is room. */
static void add_cell(struct tree_node *n, int at, struct slice first,
                     struct slice rest, const struct tree_value *value)
{
    uint8_t *p = (uint8_t *)n + n->used;
    assert(n->used <= UINT16_MAX && at <= n->count);
    p = varint_put(p, first.len + rest.len);
    p = varint_put(p, value->bytes.len);
    *p++ = value->tag;
    const uint8_t *key = p;
    if (first.len > 0) {
        p = mempcpy(p, first.data, first.len);
    }
    if (rest.len > 0) {
        p = mempcpy(p, rest.data, rest.len);
    }
    uint32_t word = head_of(key, first.len + rest.len) | n->used;
    if (value->bytes.len > 0) {
        p = mempcpy(p, value->bytes.data, value->bytes.len);
    }
    n->used = (uint32_t)(p - (uint8_t *)n);
    uint32_t *w = tree_node_words(n) - n->count;
    memmove(w - 1, w, TREE_WORD * (size_t)(n->count - at));
    tree_node_words(n)[-1 - at] = word;
    n->count++;
    assert(tree_node_size(n) <= n->cap);
}

static void set_prefix(struct tree_node *n, struct slice first,
                       struct slice rest)
{
    assert(n->count == 0);
    n->prefix = (uint16_t)(first.len + rest.len);
    if (first.len > 0) {
        memcpy(n->bytes, first.data, first.len);
    }
    if (rest.len > 0) {
        memcpy(n->bytes + first.len, rest.data, rest.len);
    }
    n->used = (uint32_t)(TREE_HEAD + n->prefix);
}

struct tree_node *tree_node_leaf(struct account *a, struct slice prefix,
                                 const struct tree_cell *cells, size_t count)
{
    struct slice none = {NULL, 0};
    size_t need = TREE_HEAD + prefix.len;
    for (size_t i = 0; i < count; i++) {
        need += TREE_WORD +
                tree_cell_size(cells[i].key.len, cells[i].value.bytes.len);
    }
    struct tree_node *n = tree_node_exact(a, true, need);
    set_prefix(n, prefix, none);
    for (size_t i = 0; i < count; i++) {
        add_cell(n, n->count, none, cells[i].key, &cells[i].value);
    }
    return n;
}

/* Appends the cells [FROM, TO) of N to C; both prefixes begin the keys. */
static void add_cells(struct tree_node *c, const struct tree_node *n, int from,
                      int to)
{
    struct slice none = {NULL, 0};
    for (int i = from; i < to; i++) {
        struct tree_cell k = tree_node_cell(n, i);
        if (!n->leaf && c->count == 0) {
            add_cell(c, 0, none, none, &k.value);
        } else if (c->prefix < n->prefix) {
            struct slice first = {n->bytes + c->prefix,
                                  (size_t)(n->prefix - c->prefix)};
            add_cell(c, c->count, first, k.key, &k.value);
        } else {
            size_t known = (size_t)(c->prefix - n->prefix);
            k.key = slice_make(k.key.data + known, k.key.len - known);
            add_cell(c, c->count, none, k.key, &k.value);
        }
    }
}

void tree_node_set_prefix(struct tree_node *n, struct slice prefix)
{
    if (TREE_HEAD + prefix.len <= n->cap) {
        set_prefix(n, prefix, slice_make(NULL, 0));
    }
}

/* N with a shorter prefix, in a block for MORE bytes. */
static struct tree_node *unprefix(struct account *a, struct tree_node *n,
                                  size_t prefix, size_t more)
{
    size_t need = size_with(n, prefix) + more;
    /* The room that N was given for what will follow is not lost. */
    struct tree_node *c =
        tree_node_new(a, n->leaf, need > n->cap ? need : n->cap);
    set_prefix(c, slice_make(n->bytes, prefix), slice_make(NULL, 0));
    add_cells(c, n, 0, n->count);
    tree_node_pass_on(a, n);
    return c;
}

struct tree_node *tree_node_insert(struct account *a, struct tree_node *n,
                                   int at, const struct tree_cell *cell,
                                   size_t cap)
{
    struct slice none = {NULL, 0}, key = cell->key;
    size_t prefix = shared(n, key);
    size_t more =
        tree_cell_size(key.len - prefix, cell->value.bytes.len) + TREE_WORD;
    assert(n->refs == 1 && key.len <= TREE_KEY_MAX);
    if (prefix < n->prefix) {
        n = unprefix(a, n, prefix, more);
    }
    size_t need = tree_node_size(n) + more;
    if (need > n->cap) {
        n = tree_node_resize(a, n, need > cap ? need : cap);
    }
    key = slice_make(key.data + prefix, key.len - prefix);
    add_cell(n, at, none, key, &cell->value);
    return n;
}

void tree_node_erase(struct tree_node *n, int at)
{
    size_t key, value, place = place_of(n, at);
    const uint8_t *p = cell_key(n, at, &key, &value) + key + value;
    size_t end = (size_t)(p - (uint8_t *)n), len = end - place;
    assert(n->refs == 1 && at < n->count);
    if (!n->leaf && at == 0 && n->count > 1) {
        tree_node_set_child(n, 0, tree_node_child(n, 1));
        tree_node_erase(n, 1); /* the first keeps having no key */
        return;
    }
    memmove((uint8_t *)n + place, p, n->used - end);
    n->used -= (uint32_t)len;
    uint32_t *w = tree_node_words(n) - n->count;
    memmove(w + 1, w, TREE_WORD * (size_t)(n->count - 1 - at));
    n->count--;
    w++;
    for (int i = 0; end - len < n->used && i < n->count; i++) {
        w[i] -= (w[i] & UINT16_MAX) > place ? (uint32_t)len : 0;
    }
    if (n->count == 0) {
        n->prefix = 0;
        n->used = TREE_HEAD;
    }
}

/* ---- splitting and joining ---- */

int tree_node_middle(const struct tree_node *n)
{
    size_t half = (n->used - TREE_HEAD - n->prefix) / 2, sum = 0;
    int i = 0;
    for (; i < n->count - 2; i++) {
        struct tree_cell c = tree_node_cell(n, i);
        sum += tree_cell_size(c.key.len, c.value.bytes.len);
        if (sum >= half) {
            break;
        }
    }
    return i + 1;
}

struct tree_node *tree_node_slice(struct account *a, const struct tree_node *n,
                                  int from, int to)
{
    int with_key = n->leaf ? from : from + 1;
    size_t need = TREE_HEAD + n->prefix, more = 0;
    struct tree_cell first = tree_node_cell(n, from);
    if (to - with_key > 1) {
        first = tree_node_cell(n, with_key);
        more = tree_common(first.key, tree_node_cell(n, to - 1).key);
    }
    for (int i = from; i < to; i++) {
        struct tree_cell c = tree_node_cell(n, i);
        need += TREE_WORD + tree_cell_size(c.key.len, c.value.bytes.len);
        need -= i < with_key ? 0 : more;
    }
    struct tree_node *c = tree_node_new(a, n->leaf, need + more);
    set_prefix(c, slice_make(n->bytes, n->prefix),
               slice_make(first.key.data, more));
    add_cells(c, n, from, to);
    return c;
}

static size_t size_max(const struct tree_node *n)
{
    return n->leaf ? LEAF_MAX : INNER_MAX;
}

bool tree_node_sparse(const struct tree_node *n)
{
    return tree_node_size(n) < size_max(n) / 4 || (!n->leaf && n->count < 3);
}

/* The bytes that all keys of L and R begin with, into ROOM. */
static struct slice joint_prefix(const struct tree_node *l,
                                 const struct tree_node *r,
                                 struct slice separator, uint8_t *room)
{
    uint8_t last_room[TREE_KEY_MAX];
    int with_key = l->leaf ? 0 : 1;
    struct slice first = separator, last = separator;
    if (l->count > with_key) {
        first = tree_node_key(l, with_key, room);
    }
    if (r->count > with_key) {
        last = tree_node_key(r, r->count - 1, last_room);
    }
    return slice_make(first.data, tree_common(first, last));
}

struct tree_node *tree_node_join(struct account *a, struct tree_node *l,
                                 struct tree_node *r, struct slice separator)
{
    uint8_t room[TREE_KEY_MAX];
    struct slice none = {NULL, 0};
    struct slice prefix = joint_prefix(l, r, separator, room);
    size_t size =
        size_with(l, prefix.len) + size_with(r, prefix.len) + separator.len;
    bool few = !l->leaf && l->count + r->count < INNER_MIN;
    if (!few && size > size_max(l) * 3 / 4) {
        return NULL;
    }
    struct tree_node *c = tree_node_new(a, l->leaf, size);
    set_prefix(c, prefix, none);
    add_cells(c, l, 0, l->count);
    int from = 0;
    if (!l->leaf) {
        struct tree_cell k = tree_node_cell(r, from++);
        k.key =
            slice_make(separator.data + prefix.len, separator.len - prefix.len);
        add_cell(c, c->count, none, k.key, &k.value);
    }
    add_cells(c, r, from, r->count);
    tree_node_pass_on(a, l);
    tree_node_pass_on(a, r);
    return tree_node_shrink(a, c, false);
}
