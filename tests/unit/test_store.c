/*
 * The data directory's identity: a counter that only grows, whatever happens
 * between; whose it is; and one line of text for each refusal.
 */
#include "storage/store.h"
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

struct bench {
    struct world *w;
    struct sim_host *h;
    struct env *e;
    struct store s;
    struct err err;
};

static const struct id128 no_cluster, one = {{1}}, other = {{2}};

static struct bench *bench_new(uint64_t seed)
{
    struct bench *b = xcalloc(1, sizeof(*b));
    b->w = world_new(seed);
    b->h = sim_host_new(b->w, "a");
    b->e = sim_env_new(b->h, NULL);
    return b;
}

static void bench_free(struct bench *b)
{
    world_free(b->w);
    free(b);
}

static enum status open_as(struct bench *b, uint32_t node, struct id128 cluster)
{
    b->err.text[0] = '\0';
    enum status s = store_open(b->e, node, cluster, &b->s, &b->err);
    if (s != ST_OK && s != ST_STOPPING) {
        ck_assert_uint_gt(strlen(b->err.text), 10);
        ck_assert_ptr_null(strchr(b->err.text, '\n'));
    }
    return s;
}

START_TEST(identity)
{
    struct bench *b = bench_new(1);
    ck_assert_int_eq(open_as(b, 3, no_cluster), ST_OK);
    struct store first = b->s;
    ck_assert(first.formatted);
    ck_assert(!id128_is_zero(first.id));
    ck_assert_uint_eq(first.incarnation.counter, 1);
    ck_assert_uint_eq(first.shards, 1);
    ck_assert_int_eq(open_as(b, 3, no_cluster), ST_OK);
    ck_assert(!b->s.formatted);
    ck_assert(id128_equal(first.id, b->s.id));
    ck_assert_mem_eq(first.record_key, b->s.record_key, 16);
    ck_assert_uint_eq(b->s.incarnation.counter, 2);
    ck_assert_uint_ne(first.incarnation.random, b->s.incarnation.random);
    ck_assert_int_eq(open_as(b, 4, no_cluster), ST_WRONG_NODE);
    bench_free(b);
}
END_TEST

START_TEST(cluster)
{
    struct bench *b = bench_new(2);
    ck_assert_int_eq(open_as(b, 3, no_cluster), ST_OK);
    ck_assert_int_eq(store_set_cluster(b->e, &b->s, one, &b->err), ST_OK);
    ck_assert_int_eq(store_set_cluster(b->e, &b->s, one, &b->err), ST_OK);
    ck_assert_int_eq(store_set_cluster(b->e, &b->s, other, &b->err),
                     ST_WRONG_CLUSTER);
    ck_assert(id128_equal(b->s.cluster, one));
    ck_assert_int_eq(open_as(b, 3, other), ST_WRONG_CLUSTER);
    ck_assert_int_eq(open_as(b, 3, no_cluster), ST_OK);
    ck_assert(id128_equal(b->s.cluster, one));
    ck_assert_int_eq(open_as(b, 3, one), ST_OK);
    bench_free(b);
}
END_TEST

/* Any bit of either file, or one file gone: the other knows. Both: refused. */
START_TEST(damage)
{
    static const char *const files[] = {"store", "store.copy"};
    struct bench *b = bench_new(3);
    struct buf text = {0};
    ck_assert_int_eq(open_as(b, 3, one), ST_OK);
    struct id128 id = b->s.id;
    uint64_t counter = b->s.incarnation.counter;
    for (int f = 0; f < 2; f++) {
        buf_clear(&text);
        ck_assert(sim_disk_read(b->h, files[f], &text));
        for (size_t at = 0; at <= text.len; at++) {
            if (at < text.len) {
                sim_disk_flip_bit(b->h, files[f], at, at % 8);
            } else {
                sim_disk_truncate(b->h, files[f], 0);
            }
            ck_assert_int_eq(open_as(b, 3, one), ST_OK);
            ck_assert(id128_equal(id, b->s.id));
            ck_assert_uint_eq(b->s.incarnation.counter, ++counter);
        }
    }
    sim_disk_flip_bit(b->h, files[0], 30, 1);
    sim_disk_flip_bit(b->h, files[1], 80, 1);
    ck_assert_int_eq(open_as(b, 3, one), ST_CORRUPT);
    buf_free(&text);
    bench_free(b);
}
END_TEST

/* Data without the files that say whose it is are nobody's to format. */
START_TEST(nameless)
{
    struct bench *b = bench_new(4);
    ck_assert_int_eq(open_as(b, 3, one), ST_OK);
    sim_disk_write(b->h, "shard-00/wal-000001.log", slice_of("data"));
    sim_host_kill(b->h);
    struct sim_host *h = sim_host_new(b->w, "b");
    b->h = h;
    b->e = sim_env_new(h, NULL);
    ck_assert_int_eq(b->e->ops->dir_make(b->e, "shard-00"), ST_OK);
    sim_disk_write(h, "shard-00/wal-000001.log", slice_of("data"));
    ck_assert_int_eq(open_as(b, 3, one), ST_CORRUPT);
    bench_free(b);
}
END_TEST

/* A store that had a log and has none would come back under its id with less
 * than it has acknowledged (R5); one whose log was never made may. */
START_TEST(shard_gone)
{
    struct bench *b = bench_new(7);
    ck_assert_int_eq(open_as(b, 3, one), ST_OK);
    ck_assert_int_eq(open_as(b, 3, one), ST_OK);
    ck_assert(!b->s.logged);
    ck_assert_int_eq(store_set_logged(b->e, &b->s, &b->err), ST_OK);
    sim_disk_write(b->h, "shard-00/wal-000001.log", slice_of("data"));
    ck_assert_int_eq(open_as(b, 3, one), ST_OK);
    ck_assert(b->s.logged);
    sim_host_kill(b->h);
    sim_disk_wipe_but(b->h, "store");
    b->e = sim_env_new(b->h, NULL);
    ck_assert_int_eq(open_as(b, 3, one), ST_CORRUPT);
    ck_assert_ptr_nonnull(strstr(b->err.text, "shard-00"));
    bench_free(b);
}
END_TEST

START_TEST(newer)
{
    struct bench *b = bench_new(5);
    struct buf text = {0};
    ck_assert_int_eq(open_as(b, 3, one), ST_OK);
    ck_assert(sim_disk_read(b->h, "store", &text));
    text.data[8]++;
    text.data[30] ^= 1; /* whatever it keeps there */
    sim_disk_write(b->h, "store", buf_slice(&text));
    ck_assert_int_eq(open_as(b, 3, one), ST_VERSION);
    buf_free(&text);
    bench_free(b);
}
END_TEST

/* Starts that die at any step: the counter never comes twice. */
START_TEST(crashes)
{
    struct bench *b = bench_new(50 + (uint64_t)_i);
    uint64_t last = 0;
    struct id128 id = {{0}};
    for (uint32_t n = 1; n < 60; n++) {
        sim_host_fail_at_step(b->h, 1 + n * 7 % 31, n % 3 > 0);
        enum status s = open_as(b, 3, one);
        ck_assert(s == ST_OK || s == ST_STOPPING);
        if (s == ST_OK) {
            ck_assert_uint_gt(b->s.incarnation.counter, last);
            ck_assert(last == 0 || id128_equal(id, b->s.id));
            last = b->s.incarnation.counter;
            id = b->s.id;
        }
        sim_host_fail_at_step(b->h, 0, false);
        if (n % 2 == 0) {
            sim_host_power_off(b->h);
        } else {
            sim_host_kill(b->h);
        }
        sim_host_power_on(b->h);
        b->e = sim_env_new(b->h, NULL);
    }
    ck_assert_uint_gt(last, 3);
    bench_free(b);
}
END_TEST

START_TEST(unwritable)
{
    struct bench *b = bench_new(6);
    sim_disk_limit(b->h, 1);
    ck_assert_int_eq(open_as(b, 3, one), ST_NO_SPACE);
    sim_disk_limit(b->h, 0);
    ck_assert_int_eq(open_as(b, 3, one), ST_OK);
    sim_disk_fail_write(b->h, 1);
    ck_assert_int_eq(open_as(b, 3, one), ST_IO);
    bench_free(b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("store");
    TCase *c = tcase_create("store");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, identity);
    tcase_add_test(c, cluster);
    tcase_add_test(c, damage);
    tcase_add_test(c, nameless);
    tcase_add_test(c, shard_gone);
    tcase_add_test(c, newer);
    tcase_add_loop_test(c, crashes, 0, 20);
    tcase_add_test(c, unwritable);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
