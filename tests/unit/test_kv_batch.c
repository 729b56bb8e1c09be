/*
 * Batches: what the builders put into a command, and that it can be encoded
 * and decoded unchanged.
 */
#include "kv/batch.h"

#include <check.h>
#include <stdlib.h>

static bool is(struct slice s, const char *text)
{
    return slice_equal(s, slice_of(text));
}

START_TEST(builders)
{
    char part[] = "alice";
    struct kv_batch *b = kv_batch_new(slice_of(part));
    part[0] = 'x'; /* it is copied */
    kv_batch_require_absent(b, "r", "a");
    kv_batch_require_exists(b, "r", "e");
    kv_batch_require_equal(b, "r", "q", slice_of("v"));
    kv_batch_require_none_below(b, "r", "n/");
    ck_assert_int_eq(kv_batch_put(b, "r", "p", slice_of("1")), 0);
    ck_assert_int_eq(kv_batch_add(b, "r", "f/", "f#next", slice_of("2")), 1);
    ck_assert_int_eq(kv_batch_put_suffixed(b, "r", "s", slice_of("at "), 1), 2);
    ck_assert_int_eq(kv_batch_delete(b, "r", "d"), 3);
    ck_assert_int_eq(kv_batch_delete_prefix(b, "r", "dp/"), 4);
    ck_assert_int_eq(kv_batch_delete_rows(b, "rows:"), 5);
    ck_assert_int_eq(kv_batch_increment(b, "r", "i", -3), 6);
    ck_assert_int_eq(kv_batch_increment_bounded(b, "r", "ib", 5, 100), 7);
    const struct command *c = kv_batch_command(b);
    ck_assert(is(c->partition, "alice"));
    ck_assert_uint_eq(c->kind, COMMAND_BATCH);
    static const struct {
        uint8_t kind;
        const char *column, *value;
    } conditions[] = {{CONDITION_ABSENT, "a", ""},
                      {CONDITION_EXISTS, "e", ""},
                      {CONDITION_EQUALS, "q", "v"},
                      {CONDITION_NONE_BELOW, "n/", ""}};
    ck_assert_uint_eq(c->conditions_count, 4);
    for (int i = 0; i < 4; i++) {
        ck_assert_uint_eq(c->conditions[i].kind, conditions[i].kind);
        ck_assert(is(c->conditions[i].row, "r"));
        ck_assert(is(c->conditions[i].column, conditions[i].column));
        ck_assert(is(c->conditions[i].value, conditions[i].value));
    }
    static const struct {
        uint8_t kind, flags;
        const char *row, *column, *counter, *value;
        int64_t delta, bound;
        uint16_t suffix_of;
    } mutations[] = {
        {MUTATION_PUT, 0, "r", "p", "", "1", 0, 0, 0},
        {MUTATION_ADD, 0, "r", "f/", "f#next", "2", 0, 0, 0},
        {MUTATION_PUT, MUTATION_SUFFIX, "r", "s", "", "at ", 0, 0, 1},
        {MUTATION_DELETE, 0, "r", "d", "", "", 0, 0, 0},
        {MUTATION_DELETE_PREFIX, 0, "r", "dp/", "", "", 0, 0, 0},
        {MUTATION_DELETE_ROWS, 0, "rows:", "", "", "", 0, 0, 0},
        {MUTATION_INCREMENT, 0, "r", "i", "", "", -3, 0, 0},
        {MUTATION_INCREMENT, MUTATION_BOUND, "r", "ib", "", "", 5, 100, 0},
    };
    ck_assert_uint_eq(c->mutations_count, 8);
    for (int i = 0; i < 8; i++) {
        const struct mutation *m = &c->mutations[i];
        ck_assert_uint_eq(m->kind, mutations[i].kind);
        ck_assert_uint_eq(m->flags, mutations[i].flags);
        ck_assert(is(m->row, mutations[i].row));
        ck_assert(is(m->column, mutations[i].column));
        ck_assert(is(m->counter, mutations[i].counter));
        ck_assert(is(m->value, mutations[i].value));
        ck_assert_int_eq(m->delta, mutations[i].delta);
        ck_assert_int_eq(m->bound, mutations[i].bound);
        ck_assert_uint_eq(m->suffix_of, mutations[i].suffix_of);
    }
    kv_batch_free(b);
}
END_TEST

START_TEST(round_trip)
{
    struct kv_batch *b = kv_batch_new(slice_of("p"));
    for (int i = 0; i < 100; i++) {
        kv_batch_put(b, "row", i % 2 ? "odd" : "even", slice_of("value"));
        kv_batch_require_absent(b, "row", "none");
    }
    struct buf one = {0}, two = {0};
    struct arena a = {0};
    struct command d;
    wire_encode_command(&one, kv_batch_command(b));
    struct cursor c = cursor_of(buf_slice(&one));
    wire_decode_command(&c, &a, &d);
    ck_assert(!c.bad && cursor_left(&c) == 0);
    wire_encode_command(&two, &d);
    ck_assert(slice_equal(buf_slice(&one), buf_slice(&two)));
    arena_free(&a);
    buf_free(&one);
    buf_free(&two);
    kv_batch_free(b);
}
END_TEST

START_TEST(too_many_are_counted)
{
    struct kv_batch *b = kv_batch_new(slice_of("p"));
    for (int i = 0; i < LIMIT_BATCH_MUTATIONS + 5; i++) {
        kv_batch_delete(b, "r", "c");
        kv_batch_require_exists(b, "r", "c");
    }
    ck_assert_uint_gt(kv_batch_command(b)->mutations_count,
                      LIMIT_BATCH_MUTATIONS);
    ck_assert_uint_gt(kv_batch_command(b)->conditions_count,
                      LIMIT_BATCH_MUTATIONS);
    kv_batch_free(b);
}
END_TEST

START_TEST(result_values)
{
    struct kv_result r = {.count = 2};
    r.values[0].mutation = 3;
    r.values[0].value = 30;
    r.values[1].mutation = 5;
    r.values[1].value = -1;
    int64_t v = 7;
    ck_assert(!kv_result_value(&r, 0, &v));
    ck_assert_int_eq(v, 7);
    ck_assert(kv_result_value(&r, 3, &v));
    ck_assert_int_eq(v, 30);
    ck_assert(kv_result_value(&r, 5, &v));
    ck_assert_int_eq(v, -1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kv_batch");
    TCase *t = tcase_create("batch");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, builders);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, too_many_are_counted);
    tcase_add_test(t, result_values);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
