/*
 * Places of values: their bytes, and what they vouch for.
 */
#include "storage/place.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define COUNT(a) (int)(sizeof(a) / sizeof((a)[0]))

static struct id128 id_of(uint8_t fill)
{
    struct id128 id;
    memset(id.b, fill, sizeof(id.b));
    return id;
}

static struct place example(uint8_t tag)
{
    struct place p = {.tag = tag, .len = 5000, .digest = id_of(0xd1)};
    if (tag == VALUE_LOG) {
        p.position = UINT64_C(0x0102030405060708);
    } else {
        p.blob = id_of(0xb1);
    }
    return p;
}

static const struct {
    uint8_t tag;
    size_t bytes;
} kinds[] = {{VALUE_LOG, 28}, {VALUE_BLOB, 36}};

START_TEST(comes_back_as_it_was)
{
    uint8_t room[PLACE_MAX];
    struct place p = example(kinds[_i].tag), q;
    struct slice bytes = place_encode(&p, room);
    ck_assert_uint_eq(bytes.len, kinds[_i].bytes);
    ck_assert_int_eq(place_decode(p.tag, bytes, &q), ST_OK);
    ck_assert(place_equal(&p, &q));
}
END_TEST

START_TEST(of_another_length_is_none)
{
    uint8_t room[PLACE_MAX + 1] = {0};
    struct place p = example(kinds[_i].tag), q;
    struct slice bytes = place_encode(&p, room);
    for (size_t len = 0; len <= PLACE_MAX + 1; len++) {
        bool whole = len == bytes.len;
        ck_assert_int_eq(place_decode(p.tag, slice_make(room, len), &q),
                         whole ? ST_OK : ST_CORRUPT);
    }
}
END_TEST

static const struct {
    uint8_t tag;
    uint32_t len;
    enum status expected;
} bounds[] = {
    {VALUE_LOG, 0, ST_CORRUPT},
    {VALUE_LOG, LIMIT_VALUE_INLINE, ST_CORRUPT},
    {VALUE_LOG, LIMIT_VALUE_INLINE + 1, ST_OK},
    {VALUE_BLOB, LIMIT_VALUE, ST_OK},
    {VALUE_BLOB, LIMIT_VALUE + 1, ST_CORRUPT},
    {VALUE_LOG, UINT32_MAX, ST_CORRUPT},
};

START_TEST(keeps_to_the_sizes)
{
    uint8_t room[PLACE_MAX];
    struct place p = example(bounds[_i].tag), q;
    p.len = bounds[_i].len;
    struct slice bytes = place_encode(&p, room);
    ck_assert_int_eq(place_decode(p.tag, bytes, &q), bounds[_i].expected);
}
END_TEST

START_TEST(of_no_known_kind_is_none)
{
    uint8_t room[PLACE_MAX];
    struct place p = example(VALUE_LOG), q;
    struct slice bytes = place_encode(&p, room);
    ck_assert_int_eq(place_decode(VALUE_INLINE, bytes, &q), ST_CORRUPT);
    ck_assert_int_eq(place_decode(3, bytes, &q), ST_CORRUPT);
    ck_assert_int_eq(place_decode(255, bytes, &q), ST_CORRUPT);
}
END_TEST

START_TEST(vouches_for_these_bytes_of_this_key_alone)
{
    static uint8_t value[5000];
    struct slice key = slice_of("key"), other = slice_of("kez"),
                 v = slice_make(value, sizeof(value));
    struct place p = {.tag = VALUE_LOG, .len = sizeof(value)};
    memset(value, 'v', sizeof(value));
    p.digest = place_digest(key, v);
    ck_assert(place_verify(&p, key, v));
    ck_assert(!place_verify(&p, other, v));
    ck_assert(!place_verify(&p, key, slice_make(value, sizeof(value) - 1)));
    value[4999] ^= 1;
    ck_assert(!place_verify(&p, key, v));
}
END_TEST

/* It is on disk: it must not change with the library or the machine. */
START_TEST(digest_is_xxh3_seeded_by_the_key)
{
    struct slice key = slice_of("k"), value = slice_of("v");
    uint64_t seed = XXH3_128bits("k", 1).low64;
    XXH128_hash_t h = XXH3_128bits_withSeed("v", 1, seed);
    struct id128 d = place_digest(key, value);
    for (int i = 0; i < 8; i++) {
        ck_assert_uint_eq(d.b[i], (uint8_t)(h.low64 >> (8 * i)));
        ck_assert_uint_eq(d.b[8 + i], (uint8_t)(h.high64 >> (8 * i)));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("place");
    TCase *t = tcase_create("place");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, comes_back_as_it_was, 0, COUNT(kinds));
    tcase_add_loop_test(t, of_another_length_is_none, 0, COUNT(kinds));
    tcase_add_loop_test(t, keeps_to_the_sizes, 0, COUNT(bounds));
    tcase_add_test(t, of_no_known_kind_is_none);
    tcase_add_test(t, vouches_for_these_bytes_of_this_key_alone);
    tcase_add_test(t, digest_is_xxh3_seeded_by_the_key);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
