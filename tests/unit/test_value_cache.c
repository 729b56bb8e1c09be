/*
 * The cache of values: it gives back what was put for that very place, keeps
 * to its room, and lets go of what was asked for least recently.
 */
#include "storage/value_cache.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (int)(sizeof(a) / sizeof((a)[0]))

static struct place at(uint64_t position, uint32_t len)
{
    return (struct place){.tag = VALUE_LOG, .position = position, .len = len};
}

static uint8_t bytes[LIMIT_VALUE];

static void put(struct value_cache *c, const struct place *p)
{
    memset(bytes, (int)p->position, p->len);
    value_cache_put(c, p, slice_make(bytes, p->len));
}

static bool has(struct value_cache *c, const struct place *p)
{
    struct slice s;
    if (!value_cache_get(c, p, &s)) {
        return false;
    }
    ck_assert_uint_eq(s.len, p->len);
    for (size_t i = 0; i < s.len; i++) {
        ck_assert_uint_eq(s.data[i], (uint8_t)p->position);
    }
    return true;
}

START_TEST(gives_what_was_put)
{
    struct value_cache *c = value_cache_new(MIB(1));
    struct value_cache_stats stats;
    for (uint64_t i = 1; i <= 200; i++) {
        struct place p = at(i * 5000, 2000 + (uint32_t)i);
        ck_assert(!has(c, &p));
        put(c, &p);
        put(c, &p); /* changes nothing */
    }
    for (uint64_t i = 1; i <= 200; i++) {
        struct place p = at(i * 5000, 2000 + (uint32_t)i);
        ck_assert(has(c, &p));
    }
    value_cache_get_stats(c, &stats);
    ck_assert_uint_eq(stats.hits, 200);
    ck_assert_uint_eq(stats.misses, 200);
    value_cache_free(c);
}
END_TEST

/* Another length, digest, kind or name is another place. */
START_TEST(of_that_very_place)
{
    struct value_cache *c = value_cache_new(MIB(1));
    struct place p = at(70000, 2000);
    put(c, &p);
    struct place others[] = {p, p, p, p};
    others[0].position++;
    others[1].len++;
    others[2].digest.b[15] = 1;
    others[3].tag = VALUE_BLOB;
    for (int i = 0; i < COUNT(others); i++) {
        ck_assert(!has(c, &others[i]));
    }
    ck_assert(has(c, &p));
    struct place blob = {.tag = VALUE_BLOB, .blob = {{1}}, .len = 2000},
                 other = blob;
    other.blob.b[3] = 1;
    put(c, &blob);
    ck_assert(has(c, &blob));
    ck_assert(!has(c, &other));
    value_cache_free(c);
}
END_TEST

static const uint64_t rooms[] = {0, 1000, KIB(64), KIB(100), MIB(1), MIB(16)};

START_TEST(keeps_to_its_room)
{
    struct value_cache *c = value_cache_new(rooms[_i]);
    struct value_cache_stats stats;
    for (uint64_t i = 1; i <= 3000; i++) {
        struct place p = at(i * 8192, 1025 + (uint32_t)(i * 37 % 30000));
        put(c, &p);
        value_cache_get_stats(c, &stats);
        /* an empty one has its table */
        ck_assert_uint_le(stats.bytes, rooms[_i] < 512 ? 512 : rooms[_i]);
    }
    value_cache_free(c);
}
END_TEST

START_TEST(forgets_the_least_recent)
{
    struct value_cache *c = value_cache_new(KIB(100));
    struct place kept = at(1, 2000);
    put(c, &kept);
    for (uint64_t i = 2; i <= 500; i++) {
        struct place p = at(i, 2000);
        put(c, &p);
        ck_assert(has(c, &kept));
        ck_assert(has(c, &p));
    }
    struct place early = at(2, 2000);
    ck_assert(!has(c, &early));
    value_cache_free(c);
}
END_TEST

START_TEST(takes_none_that_would_fill_it)
{
    struct value_cache *c = value_cache_new(KIB(80));
    struct place large = at(1, KIB(10)), small = at(2, KIB(9));
    put(c, &large);
    put(c, &small);
    ck_assert(!has(c, &large));
    ck_assert(has(c, &small));
    value_cache_free(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("value_cache");
    TCase *t = tcase_create("value_cache");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, gives_what_was_put);
    tcase_add_test(t, of_that_very_place);
    tcase_add_loop_test(t, keeps_to_its_room, 0, COUNT(rooms));
    tcase_add_test(t, forgets_the_least_recent);
    tcase_add_test(t, takes_none_that_would_fill_it);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
