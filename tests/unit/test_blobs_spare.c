/*
 * Files of the blob log that are written again: nothing of what stood in them
 * is seen any more, and what is synced in them is there, whatever crashes when,
 * and however often; a disk without room and a store at rest get theirs back.
 */
#include "storage/blobs_private.h"
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define COUNT 12
#define ROUNDS 10
#define SPARES 2

static struct {
    struct world *w;
    struct sim_host *h;
    struct env *e;
    struct blobs *b;
    struct blob_ref refs[COUNT]; /* what the store refers to, if HERE */
    bool here[COUNT];
    struct blob_in *in;
    bool done, waits;
    struct blob_bytes *got;
} t;

static void on_failed(void *ctx, enum status why)
{
    ck_assert(!sim_env_alive(t.e) || why == ST_OK);
}

static void open_blobs(void)
{
    struct err err = {""};
    struct blobs_report report;
    struct blobs_options o = {.store = {{5}},
                              .key = {11, 22},
                              .file_size = KIB(128),
                              .reserve = MIB(1),
                              .spares = SPARES,
                              .folder = "shard-00",
                              .on_failed = on_failed};
    t.e = sim_env_new(t.h, NULL);
    ck_assert_int_eq(t.e->ops->dir_make(t.e, "shard-00"), ST_OK);
    ck_assert_msg(blobs_open(t.e, &o, &report, &t.b, &err) == ST_OK, "%s",
                  err.text);
    for (int i = 0; i < COUNT; i++) {
        ck_assert(!t.here[i] || blobs_refer(t.b, &t.refs[i]));
    }
    blobs_settle(t.b);
}

static void stop(bool power)
{
    if (power) {
        sim_host_power_off(t.h);
    } else {
        sim_host_kill(t.h);
    }
    blobs_drop(t.in);
    t.in = NULL;
    blobs_close(t.b);
}

static void begin(uint64_t seed)
{
    memset(&t, 0, sizeof(t));
    t.w = world_new(seed);
    t.h = sim_host_new(t.w, "a");
    open_blobs();
}

static void end(void)
{
    stop(false);
    world_free(t.w);
}

static void on_done(void *ctx, enum status s)
{
    (void)ctx;
    t.in = NULL;
    t.done = s == ST_OK;
}

static struct blob_bytes *bytes_of(int round, int i)
{
    struct blob_bytes *x =
        blob_bytes_new(KIB(17) + (uint32_t)(i * 997 + round * 61));
    memset(blob_bytes_data(x), round * 16 + i + 1, x->len);
    return x;
}

/* Blob I of ROUND takes the place of the one before it. */
static void put(int round, int i)
{
    struct blob_bytes *x = bytes_of(round, i);
    struct blob_sink sink = {.on_done = on_done};
    struct blob_ref r = {.id = {{(uint8_t)(i + 1), (uint8_t)round}},
                         .len = x->len,
                         .seed = (uint64_t)(round * 100 + i)};
    r.digest = blob_digest(r.seed, slice_make(blob_bytes_data(x), x->len));
    t.done = false;
    if (sim_env_alive(t.e) && blobs_begin(t.b, &r, &sink, &t.in) == ST_OK) {
        blobs_put(t.in, x);
        world_run_for(t.w, 100 * SIM_MS);
    }
    blob_bytes_unref(x);
    if (!t.done || !sim_env_alive(t.e)) {
        return;
    }
    ck_assert(blobs_refer(t.b, &r));
    if (t.here[i]) {
        blobs_unrefer(t.b, &t.refs[i]);
    }
    t.refs[i] = r;
    t.here[i] = true;
}

static void on_read(void *ctx, enum status s, struct blob_bytes *bytes)
{
    (void)ctx;
    ck_assert_int_eq(s, ST_OK);
    t.waits = false;
    blob_bytes_unref(bytes);
}

static bool waiting(void *ctx)
{
    (void)ctx;
    return t.waits;
}

static void check_all_read(void)
{
    for (int i = 0; i < COUNT; i++) {
        if (t.here[i]) {
            t.waits = true;
            ck_assert_int_eq(blobs_read(t.b, &t.refs[i], on_read, NULL), ST_OK);
            ck_assert(world_run_while(t.w, waiting, NULL, SIM_S));
        }
    }
}

static void name_file(void *ctx, const char *name, uint64_t size)
{
    (void)size;
    *(unsigned *)ctx += strstr(name, "/blobs-") != NULL;
}

static unsigned files(void)
{
    unsigned n = 0;
    sim_disk_each(t.h, name_file, &n);
    return n;
}

static void put_round(int round)
{
    for (int i = 0; i < COUNT && sim_env_alive(t.e); i++) {
        put(round, i);
    }
}

START_TEST(written_again)
{
    begin(3);
    for (int round = 0; round < ROUNDS; round++) {
        put_round(round);
        check_all_read();
        if (_i > 0 && round % 2 == 1) {
            stop(_i == 2);
            open_blobs();
            check_all_read();
        }
        ck_assert_uint_le(files(), 8);
    }
    world_run_for(t.w, 2 * SIM_S);
    ck_assert_uint_gt(t.b->next_sequence, 20);
    ck_assert(_i > 0 || t.b->spare_count > 0);
    end();
}
END_TEST

START_TEST(given_back)
{
    begin(4);
    for (int round = 0; round < 4; round++) {
        put_round(round);
    }
    world_run_for(t.w, 2 * SIM_S);
    unsigned before = files();
    ck_assert_uint_eq(t.b->spare_count, SPARES);
    if (_i == 0) {
        world_run_for(t.w, 200 * SIM_S); /* nobody writes */
    } else {
        sim_disk_limit(t.h, sim_disk_used(t.h) + MIB(1) + KIB(300));
        world_run_for(t.w, 3 * SIM_S);
        ck_assert_int_eq(blobs_room(t.b, KIB(20)), ST_OK);
    }
    ck_assert_uint_eq(t.b->spare_count, 0);
    ck_assert_uint_eq(files(), before - SPARES);
    check_all_read();
    end();
}
END_TEST

/* A crash at each step of the disk; the second start may crash, too. */
START_TEST(crash_points)
{
    bool went_on = true;
    for (uint32_t n = 1; went_on; n += 1 + n / 40) {
        begin(n);
        for (int round = 0; round < 3; round++) {
            put_round(round);
        }
        sim_host_fail_at_step(t.h, n, _i == 1);
        for (int round = 3; round < 6; round++) {
            put_round(round);
        }
        went_on = !sim_env_alive(t.e);
        sim_host_fail_at_step(t.h, 0, false);
        for (int i = 0; i < 2; i++) {
            stop(_i == 1);
            open_blobs();
            check_all_read();
            put_round(7 + i);
            check_all_read();
        }
        ck_assert(went_on || n > 60);
        end();
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("blobs_spare");
    TCase *c = tcase_create("blobs_spare");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, written_again, 0, 3);
    tcase_add_loop_test(c, given_back, 0, 2);
    tcase_add_loop_test(c, crash_points, 0, 2);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
