/*
 * Slices, buffers, cursors, arenas.
 */
#include "common/buf.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(slices)
{
    static const struct {
        const char *a, *b;
        int order;
        bool prefix; /* A starts with B */
    } rows[] = {
        {"", "", 0, true},       {"a", "", 1, true},
        {"", "a", -1, false},    {"a", "b", -1, false},
        {"ab", "a", 1, true},    {"ab", "b", -1, false},
        {"\xff", "a", 1, false}, {"abc", "abc", 0, true},
    };
    struct slice a = slice_of(rows[_i].a), b = slice_of(rows[_i].b);
    int c = slice_compare(a, b);
    ck_assert_int_eq((c > 0) - (c < 0), rows[_i].order);
    c = slice_compare(b, a);
    ck_assert_int_eq((c > 0) - (c < 0), -rows[_i].order);
    ck_assert(slice_equal(a, b) == (rows[_i].order == 0));
    ck_assert(slice_starts_with(a, b) == rows[_i].prefix);
}
END_TEST

START_TEST(null_slices)
{
    struct slice none = {NULL, 0};
    struct buf b = {0};
    ck_assert(slice_equal(none, slice_of("")));
    ck_assert_int_eq(slice_compare(none, none), 0);
    ck_assert(slice_starts_with(none, none));
    buf_put_slice(&b, none);
    ck_assert_uint_eq(b.len, 0);
    struct cursor c = cursor_of(none);
    ck_assert_uint_eq(cursor_left(&c), 0);
    ck_assert_uint_eq(cursor_bytes(&c, 0).len, 0);
    ck_assert(!c.bad);
    ck_assert_uint_eq(cursor_u8(&c), 0);
    ck_assert(c.bad);
}
END_TEST

START_TEST(integers)
{
    struct buf b = {0};
    buf_put_u8(&b, 0xab);
    buf_put_u16(&b, 0x1234);
    buf_put_u32(&b, 0xdeadbeef);
    buf_put_u64(&b, 0x0123456789abcdef);
    static const uint8_t want[] = {0xab, 0x34, 0x12, 0xef, 0xbe,
                                   0xad, 0xde, 0xef, 0xcd, 0xab,
                                   0x89, 0x67, 0x45, 0x23, 0x01};
    ck_assert_uint_eq(b.len, sizeof(want));
    ck_assert_mem_eq(b.data, want, sizeof(want));
    struct cursor c = cursor_of(buf_slice(&b));
    ck_assert_uint_eq(cursor_u8(&c), 0xab);
    ck_assert_uint_eq(cursor_u16(&c), 0x1234);
    ck_assert_uint_eq(cursor_u32(&c), 0xdeadbeef);
    ck_assert_uint_eq(cursor_u64(&c), 0x0123456789abcdef);
    ck_assert_uint_eq(cursor_left(&c), 0);
    ck_assert(!c.bad);
    buf_free(&b);
}
END_TEST

/* A cursor that has met its end stays bad and gives zeros. */
START_TEST(cursor_end)
{
    uint8_t *three = malloc(3);
    memcpy(three, "\1\2\3", 3);
    struct cursor c = cursor_of(slice_make(three, 3));
    ck_assert_uint_eq(cursor_u16(&c), 0x0201);
    ck_assert_uint_eq(cursor_u32(&c), 0);
    ck_assert(c.bad);
    ck_assert_uint_eq(cursor_u8(&c), 0); /* though one byte is left */
    c = cursor_of(slice_make(three, 3));
    ck_assert_ptr_null(cursor_bytes(&c, SIZE_MAX).data);
    ck_assert(c.bad);
    free(three);
}
END_TEST

START_TEST(maximum)
{
    struct buf b;
    buf_init(&b, 10);
    buf_put(&b, "12345678", 8);
    buf_put(&b, "abc", 3); /* does not fit: dropped whole */
    ck_assert(b.full);
    ck_assert_uint_eq(b.len, 8);
    buf_put(&b, "x", 1); /* would fit, but what came before is missing */
    ck_assert_uint_eq(b.len, 8);
    buf_clear(&b);
    ck_assert(!b.full);
    buf_put(&b, "0123456789", 10);
    ck_assert(!b.full);
    ck_assert_str_eq(buf_cstr(&b), "0123456789"); /* NUL is not counted */
    ck_assert_uint_eq(b.len, 10);
    ck_assert_ptr_null(buf_reserve(&b, 1));
    buf_free(&b);
    ck_assert_uint_eq(b.max, 10);
}
END_TEST

START_TEST(growing)
{
    struct buf b = {0};
    for (uint32_t i = 0; i < 100000; i++) {
        buf_put_u32(&b, i);
    }
    struct cursor c = cursor_of(buf_slice(&b));
    for (uint32_t i = 0; i < 100000; i++) {
        ck_assert_uint_eq(cursor_u32(&c), i);
    }
    buf_consume(&b, 4 * 99999);
    ck_assert_uint_eq(b.len, 4);
    c = cursor_of(buf_slice(&b));
    ck_assert_uint_eq(cursor_u32(&c), 99999);
    buf_consume(&b, 4);
    ck_assert_uint_eq(b.len, 0);
    buf_free(&b);
}
END_TEST

START_TEST(texts)
{
    struct buf b = {0};
    buf_put_text(&b, "n=");
    buf_printf(&b, "%d %s", 42,
               "and a longer text, to make it grow: "
               "0123456789012345678901234567890123456789");
    ck_assert_str_eq(buf_cstr(&b), "n=42 and a longer text, to make it grow: "
                                   "0123456789012345678901234567890123456789");
    buf_clear(&b);
    ck_assert_str_eq(buf_cstr(&b), "");
    buf_free(&b);
    buf_init(&b, 5);
    buf_printf(&b, "%s", "123456");
    ck_assert(b.full);
    buf_free(&b);
}
END_TEST

START_TEST(ids)
{
    struct id128 id, back;
    char text[33];
    for (size_t i = 0; i < 16; i++) {
        id.b[i] = (uint8_t)(i * 17);
    }
    id128_format(id, text);
    ck_assert_str_eq(text, "00112233445566778899aabbccddeeff");
    ck_assert(id128_parse(text, &back));
    ck_assert(id128_equal(id, back));
    ck_assert(!id128_is_zero(id));
    memset(&id, 0, sizeof(id));
    ck_assert(id128_is_zero(id));
    static const char *const bad[] = {"",
                                      "0",
                                      "00112233445566778899aabbccddeef",
                                      "00112233445566778899aabbccddeefff",
                                      "00112233445566778899aabbccddeefg",
                                      "00112233445566778899AABBCCDDEEFF"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert(!id128_parse(bad[i], &back));
    }
}
END_TEST

START_TEST(arenas)
{
    struct arena a = {0};
    for (size_t size = 0; size < 3000; size += 7) {
        uint8_t *p = arena_alloc(&a, size);
        ck_assert_uint_eq((uintptr_t)p % _Alignof(max_align_t), 0);
        for (size_t i = 0; i < size; i++) {
            ck_assert_uint_eq(p[i], 0);
        }
        memset(p, 0xee, size); /* the next one must not see it */
    }
    uint8_t *big = arena_alloc(&a, 1000000);
    big[999999] = 1;
    ck_assert_mem_eq(arena_copy(&a, "abc", 4), "abc", 4);
    ck_assert_ptr_nonnull(arena_copy(&a, NULL, 0));
    arena_free(&a);
    ck_assert_ptr_null(a.blocks);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("buf");
    TCase *t = tcase_create("buf");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, slices, 0, 8);
    tcase_add_test(t, null_slices);
    tcase_add_test(t, integers);
    tcase_add_test(t, cursor_end);
    tcase_add_test(t, maximum);
    tcase_add_test(t, growing);
    tcase_add_test(t, texts);
    tcase_add_test(t, ids);
    tcase_add_test(t, arenas);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
