/*
 * The tree against a model that cannot be wrong: a sorted array of all keys
 * there may be, with the value of each that is there. Clones are compared with
 * copies of the model. Each test runs with several kinds of keys and values:
 * what is hard for a tree that packs cells is in their lengths and in what
 * keys begin with.
 */
#include "storage/tree_private.h"

#include <check.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__ /* the same ways through the code, fewer times */
#define KEYS 1200
#define STEPS 6400
#else
#define KEYS 3000
#define STEPS 16000
#endif
#define CLONES 4

static uint64_t rng_state;

static uint32_t rng(uint32_t below)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng_state >> 33) % below;
}

/* ---- keys and values ---- */

/* The keys of a test, ascending. */
static struct {
    struct arena arena;
    struct slice key[KEYS];
    uint32_t count;
    bool mixed; /* values of all lengths, or short ones */
} all;

/* Several lengths, some a prefix of another. */
static size_t key_text(uint32_t i, uint8_t *out)
{
    return (size_t)snprintf((char *)out, 32, "%04u%.*s", i, (int)(i % 7),
                            "zzzzzzz");
}

/* As a tablet's: hash, partition, row, column. */
static size_t key_cell(uint32_t i, uint8_t *out)
{
    uint64_t hash = (i / 40 + 1) * 0x9e3779b97f4a7c15u;
    memcpy(out, &hash, 8);
    int len = snprintf((char *)out + 8, 64, "account/%03u.m:%08u.body", i / 40,
                       i % 40);
    return 8 + (size_t)len;
}

/* Of few different bytes, the empty one too. */
static size_t key_binary(uint32_t i, uint8_t *out)
{
    static const uint8_t digit[] = {0, 1, 255};
    size_t len = 0;
    for (; i > 0; i = (i - 1) / 3) {
        out[len++] = digit[(i - 1) % 3];
    }
    return len;
}

/* The longest; neighbours differ in their last byte, their first or in
 * between, so separators are as long, too. */
static size_t key_long(uint32_t i, uint8_t *out)
{
    size_t len = TREE_KEY_MAX - i % 2 * (i % 100);
    memset(out, 'k', len);
    out[0] = (uint8_t)(i / 64);
    out[4000] = (uint8_t)(i / 8 % 8);
    out[len - 1] = (uint8_t)(i % 8);
    return len;
}

static const struct {
    size_t (*make)(uint32_t i, uint8_t *out);
    uint32_t count;
    bool mixed;
} kinds[] = {
    {key_text, KEYS, false}, {key_cell, KEYS, false}, {key_binary, 1000, true},
    {key_long, 400, true},   {key_text, 1000, true},  {key_long, 800, false},
};
#define KINDS ((int)(sizeof(kinds) / sizeof(kinds[0])))

static int by_key(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

static void begin(int kind)
{
    static uint8_t room[TREE_KEY_MAX];
    rng_state = (uint64_t)kind + 1;
    all.count = 0;
    all.mixed = kinds[kind].mixed;
    for (uint32_t i = 0; i < kinds[kind].count; i++) {
        size_t len = kinds[kind].make(i, room);
        all.key[all.count++] =
            slice_make(arena_copy(&all.arena, room, len), len);
    }
    qsort(all.key, all.count, sizeof(all.key[0]), by_key);
    uint32_t different = 1;
    for (uint32_t i = 1; i < all.count; i++) {
        if (!slice_equal(all.key[i], all.key[different - 1])) {
            all.key[different++] = all.key[i];
        }
    }
    all.count = different;
}

static void end(void)
{
    arena_free(&all.arena);
}

/* The value of number V, in memory of its own size. */
static struct tree_value value_of(uint32_t v)
{
    static uint8_t bytes[50000];
    static const uint32_t lens[] = {
        0,    1,    4,    60,   127,  128,  200,   250,   1000,
        1020, 2030, 2050, 4000, 8100, 8184, 20000, 50000, 16,
    };
    uint32_t len =
        all.mixed ? lens[v % (sizeof(lens) / sizeof(lens[0]))] : 4 + v % 60;
    memset(bytes, (int)(v % 251), len);
    memcpy(bytes, &v, len < 4 ? len : 4);
    return (struct tree_value){slice_make(bytes, len), (uint8_t)(v % 5)};
}

/* ---- the model ---- */

/* Number of the value of each key, 0 for none. */
struct model {
    uint32_t value[KEYS];
    uint64_t count;
};

static void take_out(struct tree *t, struct model *m, uint32_t i)
{
    ck_assert(tree_remove(t, all.key[i]) == (m->value[i] != 0));
    m->count -= m->value[i] != 0;
    m->value[i] = 0;
}

static void same_value(struct tree_value got, uint32_t v)
{
    struct tree_value value = value_of(v);
    ck_assert(slice_equal(got.bytes, value.bytes));
    ck_assert_uint_eq(got.tag, value.tag);
}

/* What a put replaced. */
struct replaced {
    unsigned calls;
    struct tree_value value; /* copied */
};

static void on_replaced(void *ctx, const struct tree_value *old)
{
    struct replaced *r = ctx;
    uint8_t *copy = malloc(old->bytes.len + 1);
    memcpy(copy, old->bytes.data, old->bytes.len);
    r->value = (struct tree_value){slice_make(copy, old->bytes.len), old->tag};
    r->calls++;
}

static void put(struct tree *t, struct model *m, uint32_t i, uint32_t v)
{
    struct replaced r = {0};
    struct tree_value value = value_of(v);
    if (v % 2 == 0) {
        tree_put(t, all.key[i], &value);
    } else {
        tree_replace(t, all.key[i], &value, on_replaced, &r);
        ck_assert_uint_eq(r.calls, m->value[i] != 0);
    }
    if (r.calls > 0) {
        same_value(r.value, m->value[i]);
        free((void *)(uintptr_t)r.value.bytes.data);
    }
    m->count += m->value[i] == 0;
    m->value[i] = v;
}

static void same_item(const struct tree_iter *it, uint32_t i, uint32_t v)
{
    ck_assert(tree_valid(it));
    ck_assert(slice_equal(tree_iter_key(it), all.key[i]));
    same_value(tree_iter_value(it), v);
}

/* The first key from I on that is there; the last one before I, plus 1. */
static uint32_t from(const struct model *m, uint32_t i)
{
    while (i < all.count && m->value[i] == 0) {
        i++;
    }
    return i;
}

static uint32_t before(const struct model *m, uint32_t i)
{
    while (i > 0 && m->value[i - 1] == 0) {
        i--;
    }
    return i;
}

/* Everything, both ways. */
static void same(const struct tree *t, const struct model *m)
{
    struct tree_iter it;
    tree_check(t);
    ck_assert_uint_eq(tree_count(t), m->count);
    tree_first(t, &it);
    for (uint32_t i = from(m, 0); i < all.count; i = from(m, i + 1)) {
        same_item(&it, i, m->value[i]);
        tree_next(&it);
    }
    ck_assert(!tree_valid(&it));
    tree_last(t, &it);
    for (uint32_t i = before(m, all.count); i > 0; i = before(m, i - 1)) {
        same_item(&it, i - 1, m->value[i - 1]);
        tree_prev(&it);
    }
    ck_assert(!tree_valid(&it));
}

/* Seeking from key I, there or not. */
static void same_seek(const struct tree *t, const struct model *m, uint32_t i)
{
    struct tree_iter it;
    struct tree_value v;
    bool there = tree_get(t, all.key[i], &v);
    ck_assert(there == (m->value[i] != 0));
    if (there) {
        same_value(v, m->value[i]);
    }
    uint32_t next = from(m, i), last = before(m, i);
    tree_seek(t, all.key[i], &it);
    ck_assert(tree_valid(&it) == (next < all.count));
    if (next < all.count) {
        same_item(&it, next, m->value[next]);
    }
    tree_seek_before(t, all.key[i], &it);
    ck_assert(tree_valid(&it) == (last > 0));
    if (last > 0) {
        same_item(&it, last - 1, m->value[last - 1]);
    }
}

/* ---- what the account must say ---- */

struct seen {
    const struct tree_node *nodes[100000];
    size_t count;
};

static void see(const struct tree_node *n, struct seen *s)
{
    if (n == NULL) {
        return;
    }
    s->nodes[s->count++] = n;
    ck_assert_uint_lt(s->count, 100000);
    for (int i = 0; !n->leaf && i < n->count; i++) {
        see(tree_node_child(n, i), s);
    }
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (void *const *)a;
    uintptr_t y = (uintptr_t) * (void *const *)b;
    return (x > y) - (x < y);
}

/* Blocks, each once, that T and its CLONES (NULL: none) consist of. */
static void same_account(const struct tree *t, struct tree *const *clones)
{
    static struct seen s;
    uint64_t bytes = 0;
    s.count = 0;
    see(t->root, &s);
    for (int i = 0; i < CLONES; i++) {
        see(clones[i] == NULL ? NULL : clones[i]->root, &s);
    }
    qsort(s.nodes, s.count, sizeof(s.nodes[0]), by_address);
    for (size_t i = 0; i < s.count; i++) {
        if (i == 0 || s.nodes[i] != s.nodes[i - 1]) {
            bytes += malloc_usable_size((void *)(uintptr_t)s.nodes[i]) +
                     sizeof(size_t);
        }
    }
    ck_assert_uint_eq(bytes, tree_memory(t));
}

/* ---- tests ---- */

struct clones {
    struct tree *tree[CLONES];
    struct model model[CLONES];
};

/* Takes a clone into a place of C, after looking at the one there. */
static void clone_one(struct clones *c, const struct tree *t,
                      const struct model *m)
{
    uint32_t s = rng(CLONES);
    if (c->tree[s] != NULL) {
        same(c->tree[s], &c->model[s]);
        tree_free(c->tree[s]);
    }
    c->tree[s] = t == NULL ? NULL : tree_clone(t);
    if (t != NULL) {
        c->model[s] = *m;
    }
}

/* Mostly puts, then mostly removals, in turn, with clones taken and freed. */
START_TEST(random_operations)
{
    static struct model m;
    static struct clones c;
    struct tree *t = tree_new();
    begin(_i);
    memset(&m, 0, sizeof(m));
    memset(&c, 0, sizeof(c));
    for (int step = 0; step < STEPS; step++) {
        bool growing = step / (STEPS / 4) % 2 == 0;
        uint32_t i = rng(all.count);
        if (rng(10) < (growing ? 8u : 3u)) {
            put(t, &m, i, rng(1000000) + 1);
        } else {
            take_out(t, &m, i);
        }
        same_seek(t, &m, rng(all.count));
        if (rng(800) == 0) {
            clone_one(&c, rng(4) == 0 ? NULL : t, &m);
            same_account(t, c.tree);
        }
    }
    same(t, &m);
    tree_free(t);
    for (int s = 0; s < CLONES; s++) {
        if (c.tree[s] != NULL) {
            same(c.tree[s], &c.model[s]);
            tree_free(c.tree[s]);
        }
    }
    end();
}
END_TEST

/* In order, against order, by appending; emptied from either end. */
START_TEST(sequences)
{
    static struct model m;
    struct tree *t = tree_new();
    int way = _i % 6;
    begin(_i / 6);
    memset(&m, 0, sizeof(m));
    for (uint32_t i = 0; i < all.count; i++) {
        struct tree_value v = value_of(i + 1);
        if (way / 2 < 2) {
            put(t, &m, way / 2 == 0 ? i : all.count - 1 - i, i + 1);
            continue;
        }
        ck_assert(tree_append(t, all.key[i], &v));
        ck_assert(!tree_append(t, all.key[i], &v));
        ck_assert(!tree_append(t, all.key[rng(i + 1)], &v));
        m.value[i] = i + 1;
        m.count++;
    }
    same(t, &m);
    for (uint32_t i = 0; i < all.count; i++) {
        take_out(t, &m, way % 2 == 0 ? i : all.count - 1 - i);
        if (i % 500 == 0) {
            same(t, &m);
        }
    }
    same(t, &m);
    ck_assert_uint_eq(tree_memory(t), 0);
    tree_free(t);
    end();
}
END_TEST

/* Leaves that were made apart come into a tree as if appended, also into one
 * that has a clone; and the tree goes on like any other. */
START_TEST(leaves)
{
    static struct model m, old;
    struct tree *t = tree_new(), *c = NULL;
    struct tree_leaves *l = tree_leaves_new();
    begin(_i);
    memset(&m, 0, sizeof(m));
    for (uint32_t i = 0; i < all.count; i++) {
        struct tree_value v = value_of(i + 1);
        v.bytes.data = arena_copy(&all.arena, v.bytes.data, v.bytes.len);
        ck_assert(tree_leaves_add(l, all.key[i], &v));
        ck_assert(!tree_leaves_add(l, all.key[i], &v));
        ck_assert(!tree_leaves_add(l, all.key[rng(i + 1)], &v));
        m.value[i] = i + 1;
        m.count++;
        if (i + 1 < all.count && rng(200) != 0) {
            continue;
        }
        tree_leaves_end(l);
        ck_assert(tree_append_leaves(t, l));
        ck_assert(tree_append_leaves(t, l)); /* it is empty now */
        same(t, &m);
        ck_assert(tree_leaves_add(l, all.key[rng(i + 1)], &v));
        tree_leaves_end(l);
        ck_assert(!tree_append_leaves(t, l));
        tree_leaves_free(l);
        l = tree_leaves_new();
        if (c != NULL) {
            same(c, &old);
            tree_free(c);
        }
        c = tree_clone(t);
        old = m;
    }
    tree_free(c);
    for (uint32_t i = 0; i < 5 * all.count; i++) {
        uint32_t k = rng(all.count);
        if (rng(3) == 0) {
            take_out(t, &m, k);
        } else {
            put(t, &m, k, i + 7);
        }
    }
    same(t, &m);
    tree_leaves_free(l);
    tree_free(t);
    end();
}
END_TEST

/* Appending to a tree and to its clone: neither sees the other's. */
START_TEST(appending_beside_a_clone)
{
    static struct model m, old;
    struct tree *t = tree_new(), *c = NULL;
    begin(_i);
    memset(&m, 0, sizeof(m));
    for (uint32_t i = 0; i < all.count; i++) {
        if (i % 100 == 50) {
            tree_free(c);
            c = tree_clone(t);
            old = m;
        }
        struct tree_value v = value_of(i + 1);
        ck_assert(tree_append(t, all.key[i], &v));
        m.value[i] = i + 1;
        m.count++;
        if (i % 100 == 99) {
            same(c, &old);
            v = value_of(7);
            ck_assert(tree_append(c, all.key[i], &v));
            same(t, &m);
        }
    }
    tree_free(c);
    same(t, &m);
    tree_free(t);
    end();
}
END_TEST

/* A batch is undone by taking a clone back. */
START_TEST(undoing)
{
    static struct model m, old;
    struct tree *t = tree_new();
    struct tree_iter it;
    begin(_i);
    memset(&m, 0, sizeof(m));
    for (uint32_t i = 0; i < all.count; i += 2) {
        put(t, &m, i, i + 1);
    }
    uint64_t memory = tree_memory(t);
    old = m;
    struct tree *undo = tree_clone(t);
    for (uint32_t i = 0; i < all.count; i += 3) {
        put(t, &m, i, 7);
        take_out(t, &m, all.count - 1 - i);
    }
    same(t, &m);
    tree_first(t, &it);
    tree_take(t, undo);
    tree_next(&it); /* it does not look into what is gone */
    ck_assert(tree_valid(&it));
    same(t, &old);
    ck_assert_uint_eq(tree_memory(t), memory);
    tree_free(t);
    end();
}
END_TEST

/* Each move of a cursor gives the neighbour as the tree is by then. */
START_TEST(cursors_survive_changes)
{
    static struct model m;
    struct tree *t = tree_new();
    struct tree_iter it;
    bool back = _i % 2 == 1;
    begin(_i / 2);
    memset(&m, 0, sizeof(m));
    for (uint32_t i = 0; i < all.count; i++) {
        put(t, &m, i, rng(1000) + 1);
    }
    uint32_t at = back ? all.count - 1 : 0;
    for (back ? tree_last(t, &it) : tree_first(t, &it); tree_valid(&it);
         back ? tree_prev(&it) : tree_next(&it)) {
        same_item(&it, at, m.value[at]);
        for (uint32_t n = rng(4); n > 0; n--) {
            uint32_t near = at + rng(9);
            near = near < 4 ? 0 : near - 4;
            near = near < all.count ? near : all.count - 1;
            if (rng(2) == 0) {
                put(t, &m, near, rng(1000) + 1);
            } else {
                take_out(t, &m, near);
            }
        }
        ck_assert(slice_equal(tree_iter_key(&it), all.key[at]));
        at = back ? before(&m, at) - 1 : from(&m, at + 1);
    }
    ck_assert_uint_eq(at, back ? UINT32_MAX : all.count);
    same(t, &m);
    tree_free(t);
    end();
}
END_TEST

/* What a clone holds is where it was, whatever becomes of the tree. */
START_TEST(clones_keep_their_bytes)
{
    static struct model m;
    static struct tree_value got[KEYS];
    struct tree *t = tree_new();
    begin(_i);
    memset(&m, 0, sizeof(m));
    for (uint32_t i = 0; i < all.count; i++) {
        put(t, &m, i, i + 1);
        (void)tree_get(t, all.key[i], &got[i]);
    }
    for (uint32_t i = 0; i < all.count; i++) {
        ck_assert(tree_get(t, all.key[i], &got[i]));
    }
    struct tree *c = tree_clone(t);
    for (uint32_t i = 0; i < 4 * all.count; i++) {
        uint32_t k = rng(all.count);
        if (rng(2) == 0) {
            put(t, &m, k, rng(1000) + 1);
        } else {
            take_out(t, &m, k);
        }
    }
    tree_free(t);
    for (uint32_t i = 0; i < all.count; i++) {
        same_value(got[i], i + 1);
    }
    tree_free(c);
    end();
}
END_TEST

/* A clone costs nothing, and what is not shared is not copied. */
START_TEST(memory)
{
    static struct model m;
    struct tree *t = tree_new();
    begin(0);
    memset(&m, 0, sizeof(m));
    for (uint32_t i = 0; i < all.count; i++) {
        put(t, &m, i, i + 1);
    }
    uint64_t full = tree_memory(t);
    ck_assert_uint_gt(full, all.count * 40);
    struct tree *c = tree_clone(t);
    ck_assert_uint_eq(tree_memory(t), full);
    put(t, &m, 5, 6); /* the same value: one path more */
    uint64_t path = tree_memory(t) - full;
    ck_assert_uint_gt(path, 0);
    ck_assert_uint_lt(path, 2 * (LEAF_MAX + INNER_MAX));
    put(t, &m, 5, 6); /* the path is ours now */
    ck_assert_uint_eq(tree_memory(t), full + path);
    tree_free(t);
    ck_assert_uint_eq(tree_memory(c), full);
    tree_free(c);
    end();
}
END_TEST

/* Beyond keys and values, of cells in no order. */
START_TEST(overhead)
{
    enum { CELLS = 50000, KEY = 16, VALUE = 256 };
    struct tree *t = tree_new();
    uint8_t key[KEY] = {0}, value[VALUE] = {0};
    struct tree_value v = {slice_make(value, VALUE), 0};
    for (uint64_t i = 1; i <= CELLS; i++) {
        uint64_t hash = i * 0x9e3779b97f4a7c15u;
        memcpy(key, &hash, sizeof(hash));
        tree_put(t, slice_make(key, KEY), &v);
    }
    tree_check(t);
    ck_assert_uint_eq(tree_count(t), CELLS);
    ck_assert_uint_lt(tree_memory(t), CELLS * (KEY + VALUE + 20));
    tree_free(t);
}
END_TEST

/* What neighbours begin with stands in each leaf once, from its first cell
 * on: appended cells take less than their keys and values. */
START_TEST(prefixes)
{
    enum { CELLS = 10000, KEY = 128, VALUE = 32 };
    struct tree *t = tree_new();
    uint8_t key[KEY], value[VALUE] = {0};
    struct tree_value v = {slice_make(value, VALUE), 0};
    memset(key, 'k', KEY);
    for (uint32_t i = 0; i < CELLS; i++) {
        key[KEY - 3] = (uint8_t)(i >> 16);
        key[KEY - 2] = (uint8_t)(i >> 8);
        key[KEY - 1] = (uint8_t)i;
        ck_assert(tree_append(t, slice_make(key, KEY), &v));
    }
    tree_check(t);
    ck_assert_uint_lt(tree_memory(t), CELLS * (VALUE + 16));
    tree_free(t);
}
END_TEST

/* Lengths about the bounds at which a leaf is split, or stays alone. */
START_TEST(bounds)
{
    static const size_t lens[] = {LEAF_MAX / 4, LEAF_MAX / 2, LEAF_MAX};
    static uint8_t bytes[LEAF_MAX + 256];
    for (size_t at = 0; at < 3; at++) {
        for (size_t len = lens[at] - 100; len < lens[at] + 100; len += 3) {
            struct tree *t = tree_new();
            for (uint32_t i = 0; i < 40; i++) {
                char key[8];
                snprintf(key, sizeof(key), "%03u", i * 7 % 40);
                struct tree_value v = {slice_make(bytes, i % 3 == 0 ? len : i),
                                       0};
                tree_put(t, slice_of(key), &v);
                tree_check(t);
            }
            ck_assert_uint_eq(tree_count(t), 40);
            for (uint32_t i = 0; i < 40; i++) {
                char key[8];
                snprintf(key, sizeof(key), "%03u", i * 3 % 40);
                struct tree_value v = {slice_make(bytes, 3), 0};
                tree_put(t, slice_of(key), &v);
                tree_check(t);
            }
            ck_assert_uint_lt(tree_memory(t), 1024); /* joined again */
            tree_free(t);
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tree");
    TCase *c = tcase_create("tree");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, random_operations, 0, KINDS);
    tcase_add_loop_test(c, sequences, 0, 6 * KINDS);
    tcase_add_loop_test(c, leaves, 0, KINDS);
    tcase_add_loop_test(c, appending_beside_a_clone, 0, KINDS);
    tcase_add_loop_test(c, undoing, 0, KINDS);
    tcase_add_loop_test(c, cursors_survive_changes, 0, 2 * KINDS);
    tcase_add_loop_test(c, clones_keep_their_bytes, 0, KINDS);
    tcase_add_test(c, memory);
    tcase_add_test(c, overhead);
    tcase_add_test(c, prefixes);
    tcase_add_test(c, bounds);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
