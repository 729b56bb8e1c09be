/*
 * pennctl's pure parts: the command table, options, escaping, exit statuses,
 * and the latency histogram.
 */
#include "admin/ctl.h"
#include "admin/histogram.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* ---- histogram ---- */

START_TEST(histogram_small_values_are_exact)
{
    static struct histogram h;
    ck_assert_uint_eq(histogram_quantile(&h, 0.5), 0);
    for (uint64_t i = 1; i <= 100; i++) {
        histogram_add(&h, i);
    }
    ck_assert_uint_eq(histogram_quantile(&h, 0.5), 50);
    ck_assert_uint_eq(histogram_quantile(&h, 0.99), 99);
    ck_assert_uint_eq(histogram_quantile(&h, 1.0), 100);
    ck_assert_uint_eq(histogram_quantile(&h, 0.0), 1);
    ck_assert_uint_eq(h.max, 100);
}
END_TEST

START_TEST(histogram_is_within_its_step)
{
    for (unsigned shift = 0; shift < 63; shift++) {
        static struct histogram h;
        uint64_t v = (1ull << shift) + (1ull << shift) / 3;
        memset(&h, 0, sizeof(h));
        histogram_add(&h, v);
        histogram_add(&h, UINT64_MAX);
        uint64_t q = histogram_quantile(&h, 0.5);
        ck_assert_uint_ge(q, v);
        ck_assert_uint_le(q - v, v / HISTOGRAM_STEPS);
        ck_assert_uint_eq(histogram_quantile(&h, 1.0), UINT64_MAX);
    }
}
END_TEST

/* ---- commands ---- */

START_TEST(commands_are_found)
{
    static const struct {
        const char *words[4];
        const char *found;
        int used;
    } rows[] = {
        {{"status"}, "status", 1},
        {{"node", "list"}, "node list", 2},
        {{"kv", "put", "p", "r"}, "kv put", 2},
        {{"node"}, NULL, 0},
        {{"node", "lis"}, NULL, 0},
        {{"nod", "list"}, NULL, 0},
        {{"local", "up"}, "local", 1},
        {{"stat"}, NULL, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *argv[5] = {NULL};
        int argc = 0, used = -1;
        while (argc < 4 && rows[i].words[argc] != NULL) {
            argv[argc] = (char *)rows[i].words[argc];
            argc++;
        }
        const struct ctl_command *k = ctl_find(argc, argv, &used);
        if (rows[i].found == NULL) {
            ck_assert_ptr_null(k);
        } else {
            ck_assert_ptr_nonnull(k);
            ck_assert_str_eq(k->words, rows[i].found);
            ck_assert_int_eq(used, rows[i].used);
        }
    }
}
END_TEST

START_TEST(options_are_taken)
{
    char *argv[] = {"--limit", "5",       "a", "--reverse", "--file=x",
                    "--",      "--limit", "b", NULL};
    int argc = 8;
    const char *v = NULL;
    ck_assert(ctl_take_option(&argc, argv, "--limit", &v));
    ck_assert_str_eq(v, "5");
    ck_assert(!ctl_take_option(&argc, argv, "--limit", &v));
    ck_assert(ctl_take_flag(&argc, argv, "--reverse"));
    ck_assert(!ctl_take_flag(&argc, argv, "--reverse"));
    ck_assert(ctl_take_option(&argc, argv, "--file", &v));
    ck_assert_str_eq(v, "x");
    ck_assert(ctl_end_options(&argc, argv));
    ck_assert_int_eq(argc, 3);
    ck_assert_str_eq(argv[0], "a");
    ck_assert_str_eq(argv[1], "--limit");
    ck_assert_str_eq(argv[2], "b");
    char *unknown[] = {"a", "--what", NULL};
    argc = 2;
    ck_assert(!ctl_end_options(&argc, unknown));
}
END_TEST

START_TEST(numbers)
{
    long long v = 7;
    ck_assert(ctl_parse_number("12", 1, 20, &v));
    ck_assert_int_eq(v, 12);
    static const char *const bad[] = {
        "", "x", "1x", "0", "21", "-1", "99999999999999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert(!ctl_parse_number(bad[i], 1, 20, &v));
    }
    ck_assert_int_eq(v, 12);
}
END_TEST

START_TEST(escapes)
{
    static const struct {
        const char *in;
        size_t len;
        const char *out;
    } rows[] = {
        {"plain", 5, "plain"},         {"a\tb\n", 4, "a\\x09b\\x0a"},
        {"a\\b", 3, "a\\x5cb"},        {"\0", 1, "\\x00"},
        {"\xc3\xa4", 2, "\xc3\xa4"},   {"\xc3", 1, "\\xc3"},
        {"\xc2\x9b", 2, "\\xc2\\x9b"}, /* a terminal's control character */
        {"\x1b[2J", 4, "\\x1b[2J"},    {"\x7f", 1, "\\x7f"},
    };
    struct buf b = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice s = slice_make(rows[i].in, rows[i].len);
        ck_assert_str_eq(ctl_escape(s, &b), rows[i].out);
    }
    buf_free(&b);
}
END_TEST

START_TEST(json_bytes)
{
    cJSON *o = cJSON_CreateObject();
    ctl_json_bytes(o, "text", slice_of("hi"));
    ctl_json_bytes(o, "empty", slice_make(NULL, 0));
    ctl_json_bytes(o, "bytes", slice_make("\xff\x00", 2));
    char *text = cJSON_PrintUnformatted(o);
    ck_assert_str_eq(text, "{\"text\":\"hi\",\"empty\":\"\",\"bytes\":"
                           "{\"base64\":\"/wA=\"}}");
    cJSON_free(text);
    cJSON_Delete(o);
}
END_TEST

START_TEST(exit_statuses)
{
    ck_assert_int_eq(ctl_exit_of(ST_OK), CTL_DONE);
    ck_assert_int_eq(ctl_exit_of(ST_NOT_FOUND), CTL_NO);
    ck_assert_int_eq(ctl_exit_of(ST_CONFLICT), CTL_NO);
    ck_assert_int_eq(ctl_exit_of(ST_CONFIG), CTL_USAGE);
    ck_assert_int_eq(ctl_exit_of(ST_TIMEOUT), CTL_UNREACHABLE);
    ck_assert_int_eq(ctl_exit_of(ST_UNKNOWN_OUTCOME), CTL_UNREACHABLE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("admin");
    TCase *t = tcase_create("admin");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, histogram_small_values_are_exact);
    tcase_add_test(t, histogram_is_within_its_step);
    tcase_add_test(t, commands_are_found);
    tcase_add_test(t, options_are_taken);
    tcase_add_test(t, numbers);
    tcase_add_test(t, escapes);
    tcase_add_test(t, json_bytes);
    tcase_add_test(t, exit_statuses);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
