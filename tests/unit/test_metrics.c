/*
 * The registry of metrics: the text it gives, and that no update is lost
 * between threads.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"

enum { CONNS, OPEN, FAIL_A, FAIL_B, WAIT, WAIT_A, SIZES };

static const struct metric_def defs[] = {
    {"penn_x_connections_total", METRIC_COUNTER, "", "accepted"},
    {"penn_x_open", METRIC_GAUGE, "", "open now"},
    {"penn_x_failed_total", METRIC_COUNTER, "service=\"a\"", "failed"},
    {"penn_x_failed_total", METRIC_COUNTER, "service=\"b\"", "failed"},
    {"penn_x_wait_seconds", METRIC_HISTOGRAM, "", "waits"},
    {"penn_x_op_seconds", METRIC_HISTOGRAM, "op=\"get\"", "ops"},
    {"penn_x_group_bytes", METRIC_SIZES, "", "groups"},
};

#define COUNT (sizeof(defs) / sizeof(defs[0]))

START_TEST(text)
{
    struct metrics *m = metrics_new(defs, COUNT);
    struct buf b = {0};
    metrics_add(m, CONNS, 3);
    metrics_set(m, OPEN, 5);
    metrics_move(m, OPEN, -7);
    metrics_add(m, FAIL_B, 1);
    metrics_render(m, &b);
    const char *want = "# HELP penn_x_connections_total accepted\n"
                       "# TYPE penn_x_connections_total counter\n"
                       "penn_x_connections_total 3\n"
                       "# HELP penn_x_open open now\n"
                       "# TYPE penn_x_open gauge\n"
                       "penn_x_open -2\n"
                       "# HELP penn_x_failed_total failed\n"
                       "# TYPE penn_x_failed_total counter\n"
                       "penn_x_failed_total{service=\"a\"} 0\n"
                       "penn_x_failed_total{service=\"b\"} 1\n"
                       "# HELP penn_x_wait_seconds waits\n"
                       "# TYPE penn_x_wait_seconds histogram\n"
                       "penn_x_wait_seconds_bucket{le=\"0.00005\"} 0\n";
    const char *got = buf_cstr(&b);
    ck_assert_msg(strncmp(got, want, strlen(want)) == 0, "%s", got);
    buf_free(&b);
    metrics_free(m);
}
END_TEST

START_TEST(histograms)
{
    static const int64_t waits[] = {-5, 0, 100, 101, 250, 1500, 20000000};
    static const char *const lines[] = {
        "penn_x_op_seconds_bucket{op=\"get\",le=\"0.00005\"} 2\n",
        "penn_x_op_seconds_bucket{op=\"get\",le=\"0.0001\"} 3\n",
        "penn_x_op_seconds_bucket{op=\"get\",le=\"0.00025\"} 5\n",
        "penn_x_op_seconds_bucket{op=\"get\",le=\"0.001\"} 5\n",
        "penn_x_op_seconds_bucket{op=\"get\",le=\"0.0025\"} 6\n",
        "penn_x_op_seconds_bucket{op=\"get\",le=\"10\"} 6\n",
        "penn_x_op_seconds_bucket{op=\"get\",le=\"+Inf\"} 7\n",
        "penn_x_op_seconds_sum{op=\"get\"} 20.001951\n",
        "penn_x_op_seconds_count{op=\"get\"} 7\n",
        "penn_x_wait_seconds_sum 0.000000\n",
        "penn_x_wait_seconds_count 0\n",
    };
    struct metrics *m = metrics_new(defs, COUNT);
    struct buf b = {0};
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        metrics_observe_us(m, WAIT_A, waits[i]);
    }
    metrics_render(m, &b);
    const char *got = buf_cstr(&b);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        ck_assert_msg(strstr(got, lines[i]) != NULL, "%s in %s", lines[i], got);
    }
    ck_assert_int_eq((int)metrics_get(m, WAIT_A), 7);
    buf_free(&b);
    metrics_free(m);
}
END_TEST

static void expect_lines(struct metrics *m, const char *const *lines,
                         size_t count)
{
    struct buf b = {0};
    metrics_render(m, &b);
    const char *got = buf_cstr(&b);
    for (size_t i = 0; i < count; i++) {
        ck_assert_msg(strstr(got, lines[i]) != NULL, "%s in %s", lines[i], got);
    }
    buf_free(&b);
}

/* Counted by one thread, shown by the registry; copied twice is not twice. */
START_TEST(copies)
{
    static const uint64_t sizes[] = {0, 1, 2, 4, 5, 268435456, 268435457};
    static const char *const lines[] = {
        "# TYPE penn_x_group_bytes histogram\n"
        "penn_x_group_bytes_bucket{le=\"1\"} 2\n"
        "penn_x_group_bytes_bucket{le=\"4\"} 4\n"
        "penn_x_group_bytes_bucket{le=\"16\"} 5\n",
        "penn_x_group_bytes_bucket{le=\"67108864\"} 5\n"
        "penn_x_group_bytes_bucket{le=\"268435456\"} 6\n"
        "penn_x_group_bytes_bucket{le=\"+Inf\"} 7\n"
        "penn_x_group_bytes_sum 536870925\n"
        "penn_x_group_bytes_count 7\n",
        "penn_x_wait_seconds_bucket{le=\"5\"} 1\n"
        "penn_x_wait_seconds_bucket{le=\"10\"} 1\n"
        "penn_x_wait_seconds_bucket{le=\"+Inf\"} 2\n"
        "penn_x_wait_seconds_sum 11.000049\n",
    };
    struct metrics *m = metrics_new(defs, COUNT);
    struct metric_histogram by_size = {.sum = 0}, by_time = {.sum = 0};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        metric_add_size(&by_size, sizes[i]);
    }
    metric_add_us(&by_time, 49);
    metric_add_us(&by_time, 11000000);
    for (int i = 0; i < 2; i++) {
        metrics_copy(m, SIZES, &by_size);
        metrics_copy(m, WAIT, &by_time);
    }
    expect_lines(m, lines, sizeof(lines) / sizeof(lines[0]));
    metrics_free(m);
}
END_TEST

START_TEST(published)
{
    static const struct metric_def columns[] = {
        {"penn_x_tablet_cells", METRIC_GAUGE, "", "cells"},
        {"penn_x_tablet_lag", METRIC_GAUGE, "", "lag"},
    };
    static const struct metric_families f = {"tablet", columns, 2};
    static const uint32_t keys[] = {7, 4095};
    static const int64_t values[] = {10, -1, 20, 3};
    static const char *const both[] = {
        "# HELP penn_x_tablet_cells cells\n"
        "# TYPE penn_x_tablet_cells gauge\n"
        "penn_x_tablet_cells{tablet=\"7\"} 10\n"
        "penn_x_tablet_cells{tablet=\"4095\"} 20\n"
        "# HELP penn_x_tablet_lag lag\n"
        "# TYPE penn_x_tablet_lag gauge\n"
        "penn_x_tablet_lag{tablet=\"7\"} -1\n"
        "penn_x_tablet_lag{tablet=\"4095\"} 3\n",
    };
    struct metrics *m = metrics_new(defs, COUNT);
    struct buf b = {0};
    metrics_publish(m, &f, keys, values, 2);
    expect_lines(m, both, 1);
    metrics_publish(m, &f, keys, values, 0);
    metrics_render(m, &b);
    ck_assert(strstr(buf_cstr(&b), "tablet") == NULL);
    buf_free(&b);
    metrics_free(m);
}
END_TEST

#define THREADS 4
#define UPDATES 20000

static void *update(void *arg)
{
    struct metrics *m = arg;
    for (int i = 0; i < UPDATES; i++) {
        metrics_add(m, CONNS, 1);
        metrics_move(m, OPEN, i % 2 == 0 ? 1 : -1);
        metrics_observe_us(m, WAIT, i);
    }
    return NULL;
}

START_TEST(threads)
{
    struct metrics *m = metrics_new(defs, COUNT);
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&t[i], NULL, update, m), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
    }
    ck_assert_int_eq((int)metrics_get(m, CONNS), THREADS * UPDATES);
    ck_assert_int_eq((int)metrics_get(m, OPEN), 0);
    ck_assert_int_eq((int)metrics_get(m, WAIT), THREADS * UPDATES);
    metrics_free(m);
}
END_TEST

START_TEST(none)
{
    metrics_add(NULL, CONNS, 1);
    metrics_set(NULL, OPEN, 1);
    metrics_move(NULL, OPEN, 1);
    metrics_observe_us(NULL, WAIT, 1);
    metrics_copy(NULL, WAIT, NULL);
    metrics_publish(NULL, NULL, NULL, NULL, 0);
    metrics_free(NULL);
    struct metrics *m = metrics_new(NULL, 0);
    struct buf b = {0};
    metrics_render(m, &b);
    ck_assert_uint_eq(b.len, 0);
    buf_free(&b);
    metrics_free(m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics");
    TCase *tc = tcase_create("metrics");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, text);
    tcase_add_test(tc, histograms);
    tcase_add_test(tc, copies);
    tcase_add_test(tc, published);
    tcase_add_test(tc, threads);
    tcase_add_test(tc, none);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
