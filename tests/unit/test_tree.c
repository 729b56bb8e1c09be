/*
 * The tree against a model that cannot be wrong: a sorted array of the keys
 * that are there. Snapshots are compared with copies of the model.
 */
#include "storage/tree.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS 3000

/* The model: value of key i, 0 for none. */
struct model {
    uint32_t value[KEYS];
    uint64_t count;
};

static uint64_t rng_state;

static uint32_t rng(uint32_t below)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng_state >> 33) % below;
}

static struct slice key_text(uint32_t i, char out[32])
{
    /* Several lengths, some a prefix of another, in number order. */
    snprintf(out, 32, "%04u%.*s", i, (int)(i % 7), "zzzzzzz");
    return slice_of(out);
}

static void put(struct tree *t, struct model *m, uint32_t i, uint32_t v)
{
    char key[32];
    uint8_t bytes[64];
    size_t len = 4 + v % 60;
    memset(bytes, (int)(v & 255), sizeof(bytes));
    memcpy(bytes, &v, 4);
    struct tree_value value = {slice_make(bytes, len), {{(uint8_t)v}}};
    tree_put(t, key_text(i, key), &value);
    m->count += m->value[i] == 0;
    m->value[i] = v;
}

static void take_out(struct tree *t, struct model *m, uint32_t i)
{
    char key[32];
    ck_assert(tree_remove(t, key_text(i, key)) == (m->value[i] != 0));
    m->count -= m->value[i] != 0;
    m->value[i] = 0;
}

static void same_item(const struct tree_iter *it, uint32_t i, uint32_t v)
{
    char key[32];
    ck_assert(slice_equal(tree_iter_key(it), key_text(i, key)));
    struct tree_value got = tree_iter_value(it);
    ck_assert_uint_eq(got.bytes.len, 4 + v % 60);
    ck_assert_mem_eq(got.bytes.data, &v, 4);
    ck_assert_uint_eq(got.digest.b[0], (uint8_t)v);
}

/* Everything, both ways. */
static void same(const struct tree *t, const struct model *m)
{
    struct tree_iter it;
    tree_check(t);
    ck_assert_uint_eq(tree_count(t), m->count);
    tree_first(t, &it);
    for (uint32_t i = 0; i < KEYS; i++) {
        if (m->value[i] != 0) {
            ck_assert(tree_valid(&it));
            same_item(&it, i, m->value[i]);
            tree_next(&it);
        }
    }
    ck_assert(!tree_valid(&it));
    tree_last(t, &it);
    for (uint32_t i = KEYS; i-- > 0;) {
        if (m->value[i] != 0) {
            ck_assert(tree_valid(&it));
            same_item(&it, i, m->value[i]);
            tree_prev(&it);
        }
    }
    ck_assert(!tree_valid(&it));
}

/* Seeking from key I, there or not. */
static void same_seek(const struct tree *t, const struct model *m, uint32_t i)
{
    struct tree_iter it;
    struct tree_value v;
    char key[32];
    uint32_t j = i;
    ck_assert(tree_get(t, key_text(i, key), &v) == (m->value[i] != 0));
    while (j < KEYS && m->value[j] == 0) {
        j++;
    }
    tree_seek(t, key_text(i, key), &it);
    ck_assert(tree_valid(&it) == (j < KEYS));
    if (j < KEYS) {
        same_item(&it, j, m->value[j]);
    }
    j = i;
    while (j > 0 && m->value[j - 1] == 0) {
        j--;
    }
    tree_seek_before(t, key_text(i, key), &it);
    ck_assert(tree_valid(&it) == (j > 0));
    if (j > 0) {
        same_item(&it, j - 1, m->value[j - 1]);
    }
}

/* Seeds with mostly puts, then mostly removals, in turn. */
START_TEST(random_operations)
{
    enum { SNAPSHOTS = 4 };
    static struct model m, old[SNAPSHOTS];
    struct tree *snap[SNAPSHOTS] = {NULL};
    struct tree *t = tree_new();
    memset(&m, 0, sizeof(m));
    rng_state = (uint64_t)_i + 1;
    for (int step = 0; step < 16000; step++) {
        bool growing = step / 4000 % 2 == 0;
        uint32_t i = rng(KEYS);
        if (rng(10) < (growing ? 8u : 3u)) {
            put(t, &m, i, rng(1000000) + 1);
        } else {
            take_out(t, &m, i);
        }
        same_seek(t, &m, rng(KEYS));
        if (rng(800) == 0) {
            uint32_t s = rng(SNAPSHOTS);
            if (snap[s] != NULL) {
                same(snap[s], &old[s]);
                tree_free(snap[s]);
            }
            snap[s] = tree_clone(t);
            old[s] = m;
        }
    }
    same(t, &m);
    tree_free(t);
    for (int s = 0; s < SNAPSHOTS; s++) {
        if (snap[s] != NULL) {
            same(snap[s], &old[s]);
            tree_free(snap[s]);
        }
    }
}
END_TEST

/* In order, against order, emptied from either end. */
START_TEST(sequences)
{
    static struct model m;
    struct tree *t = tree_new();
    memset(&m, 0, sizeof(m));
    for (uint32_t i = 0; i < KEYS; i++) {
        put(t, &m, _i & 1 ? i : KEYS - 1 - i, i + 1);
    }
    same(t, &m);
    for (uint32_t i = 0; i < KEYS; i++) {
        take_out(t, &m, _i & 2 ? i : KEYS - 1 - i);
        if (i % 500 == 0) {
            same(t, &m);
        }
    }
    same(t, &m);
    ck_assert_uint_eq(tree_memory(t), 0);
    tree_free(t);
}
END_TEST

/* A batch is undone by taking a clone back. */
START_TEST(undoing)
{
    static struct model m, before;
    struct tree *t = tree_new();
    memset(&m, 0, sizeof(m));
    for (uint32_t i = 0; i < KEYS; i += 2) {
        put(t, &m, i, i + 1);
    }
    uint64_t memory = tree_memory(t);
    before = m;
    struct tree *undo = tree_clone(t);
    for (uint32_t i = 0; i < KEYS; i += 3) {
        put(t, &m, i, 7);
        take_out(t, &m, KEYS - 1 - i);
    }
    same(t, &m);
    tree_take(t, undo);
    same(t, &before);
    ck_assert_uint_eq(tree_memory(t), memory);
    tree_free(t);
}
END_TEST

/* A clone costs nothing, and what is not shared is not copied. */
START_TEST(memory)
{
    static struct model m;
    struct tree *t = tree_new();
    memset(&m, 0, sizeof(m));
    for (uint32_t i = 0; i < KEYS; i++) {
        put(t, &m, i, i + 1);
    }
    uint64_t full = tree_memory(t);
    ck_assert_uint_gt(full, KEYS * 40);
    struct tree *c = tree_clone(t);
    ck_assert_uint_eq(tree_memory(t), full);
    put(t, &m, 5, 6); /* the same value: one path and one value more */
    uint64_t path = tree_memory(t) - full;
    ck_assert_uint_gt(path, 0);
    ck_assert_uint_lt(path, 4096);
    put(t, &m, 5, 6); /* the path is ours now */
    ck_assert_uint_eq(tree_memory(t), full + path);
    tree_free(t);
    ck_assert_uint_eq(tree_memory(c), full);
    tree_free(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tree");
    TCase *c = tcase_create("tree");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, random_operations, 0, 4);
    tcase_add_loop_test(c, sequences, 0, 4);
    tcase_add_test(c, undoing);
    tcase_add_test(c, memory);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
