/*
 * Values where the log holds them, on a simulated disk: reading them back,
 * and what becomes of the segments that hold them.
 */
#include "storage/wal.h"
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT KIB(64)
#define VALUE 3000 /* bytes of most values */
#define HEAD 80    /* of a record */

struct bench {
    struct world *w;
    struct sim_host *h;
    struct env *e;
    struct wal *wal;
    struct wal_report report;
    struct err err;
    uint64_t counter, seq;
};

/* A value that was appended. */
struct value {
    uint64_t position;
    uint64_t seq; /* its bytes follow from it */
    uint32_t len;
};

static void fill(uint8_t *out, uint64_t seq, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        out[i] = (uint8_t)(seq * 131 + i * 7 + (i >> 8));
    }
}

static enum status try_open(struct bench *b)
{
    b->e = sim_env_new(b->h, NULL);
    struct wal_options o = {
        .node = 3,
        .key = {11, 22},
        .start_counter = ++b->counter,
        .segment_size = SEGMENT,
        .folder = "shard-00",
        .ctx = b,
    };
    enum status s = b->e->ops->dir_make(b->e, "shard-00");
    if (s == ST_OK) {
        s = wal_open(b->e, &o, NULL, &b->report, &b->wal, &b->err);
    }
    return s;
}

static struct bench *bench_new(uint64_t seed)
{
    struct bench *b = xcalloc(1, sizeof(*b));
    b->w = world_new(seed);
    b->h = sim_host_new(b->w, "a");
    enum status s = try_open(b);
    ck_assert_msg(s == ST_OK, "%s: %s", status_name(s), b->err.text);
    return b;
}

static void bench_free(struct bench *b)
{
    sim_host_kill(b->h);
    wal_close(b->wal);
    world_free(b->w);
    free(b);
}

static void run(struct bench *b, int64_t us)
{
    world_run_for(b->w, us);
}

static struct value append(struct bench *b, uint32_t tablet, uint32_t len)
{
    uint8_t *bytes = xmalloc(len + 1);
    struct value v = {.seq = ++b->seq, .len = len};
    fill(bytes, v.seq, len);
    struct wal_record r = {.kind = WAL_ENTRY,
                           .tablet = tablet,
                           .name = {7, v.seq},
                           .previous = {7, v.seq - 1},
                           .payload = slice_make(bytes, len)};
    (void)wal_append(b->wal, &r);
    v.position = r.position + HEAD;
    free(bytes);
    return v;
}

/* ---- reading ---- */

struct read {
    struct env_io io;
    struct value v;
    bool in_call, told;
    enum status status;
    uint8_t got[KIB(40)];
};

static void on_read(struct env_io *io, enum status s)
{
    struct read *r = io->data;
    ck_assert(!r->in_call && !r->told);
    r->told = true;
    r->status = s;
    if (s == ST_OK) {
        uint8_t *want = xmalloc(r->v.len + 1);
        fill(want, r->v.seq, r->v.len);
        ck_assert_mem_eq(r->got, want, r->v.len);
        free(want);
    }
}

static void ask(struct bench *b, struct read *r, struct value v)
{
    memset(r, 0, sizeof(*r));
    r->io = (struct env_io){.done = on_read, .data = r};
    r->v = v;
    r->in_call = true;
    wal_value_read(b->wal, v.position, v.len, r->got, &r->io);
    r->in_call = false;
    ck_assert(!r->told);
}

static enum status read_value(struct bench *b, struct value v)
{
    struct read r;
    uint8_t got[KIB(40)];
    ask(b, &r, v);
    enum status now = wal_value_read_now(b->wal, v.position, v.len, got);
    run(b, 100 * SIM_MS);
    ck_assert(r.told);
    ck_assert_int_eq(r.status, now);
    if (now == ST_OK) {
        ck_assert_mem_eq(got, r.got, v.len);
    }
    return r.status;
}

/* From memory before, from the disk after the sync; of any size. */
START_TEST(reading)
{
    static const uint32_t lens[] = {1, 7, 1025, 4096, 16384, 40000};
    struct bench *b = bench_new(1);
    struct value v[6];
    struct read r[6];
    for (int i = 0; i < 6; i++) {
        v[i] = append(b, 1, lens[i]);
    }
    for (int i = 0; i < 6; i++) {
        ask(b, &r[i], v[i]);
    }
    run(b, 100 * SIM_MS);
    for (int i = 0; i < 6; i++) {
        ck_assert(r[i].told);
        ck_assert_int_eq(r[i].status, ST_OK);
    }
    ck_assert_uint_eq(wal_synced(b->wal), wal_end(b->wal));
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(read_value(b, v[i]), ST_OK);
    }
    bench_free(b);
}
END_TEST

START_TEST(where_there_is_none)
{
    struct bench *b = bench_new(2);
    struct value first = append(b, 1, VALUE), v = first;
    run(b, SIM_S);
    v.position = wal_end(b->wal) + 8;
    ck_assert_int_eq(read_value(b, v), ST_GONE);
    v.position = UINT64_MAX - 8;
    ck_assert_int_eq(read_value(b, v), ST_GONE);
    v.position = SEGMENT - 100; /* reaches beyond its segment */
    ck_assert_int_eq(read_value(b, v), ST_GONE);
    sim_disk_fail_fetch(b->h, 1);
    struct read r;
    ask(b, &r, first);
    run(b, SIM_S);
    ck_assert_int_eq(r.status, ST_IO);
    ck_assert_int_eq(read_value(b, first), ST_OK);
    for (int i = 0; i < 100; i++) {
        v = append(b, 1, VALUE);
        run(b, 5 * SIM_MS);
    }
    wal_release(b->wal, 1, v.position - HEAD);
    ck_assert_int_eq(read_value(b, first), ST_GONE);
    ck_assert_int_eq(read_value(b, v), ST_OK);
    bench_free(b);
}
END_TEST

/* A segment that is given back while it is read is not written before the read
 * has ended. */
START_TEST(read_and_given_back)
{
    struct bench *b = bench_new((uint64_t)_i);
    struct value first = append(b, 1, VALUE), v = first;
    struct read r;
    while (wal_end(b->wal) < 3 * SEGMENT) {
        v = append(b, 1, VALUE);
        run(b, 3 * SIM_MS);
    }
    run(b, SIM_S);
    sim_disk_slow_fetch(b->h, 60 * SIM_S);
    ask(b, &r, first);
    wal_release(b->wal, 1, v.position - HEAD);
    while (wal_end(b->wal) < 20 * SEGMENT) {
        v = append(b, 1, VALUE);
        wal_release(b->wal, 1, v.position - HEAD);
        run(b, 10 + _i % 7 * 300);
    }
    ck_assert(!r.told);
    run(b, 60 * SIM_S);
    ck_assert(r.told);
    ck_assert_int_eq(r.status, ST_OK);
    ck_assert_uint_eq(wal_synced(b->wal), wal_end(b->wal));
    bench_free(b);
}
END_TEST

/* Nobody is told after the log was closed, and nothing is written to. */
START_TEST(closed_meanwhile)
{
    struct bench *b = bench_new(3);
    struct read r[3];
    struct value v = append(b, 1, VALUE);
    run(b, SIM_S);
    ask(b, &r[0], v);
    ask(b, &r[1], append(b, 1, VALUE));
    v.position += SEGMENT * 10;
    ask(b, &r[2], v);
    wal_close(b->wal);
    b->wal = NULL;
    memset(r, 0, sizeof(r));
    run(b, SIM_S);
    for (int i = 0; i < 3; i++) {
        ck_assert(!r[i].told);
        ck_assert_uint_eq(r[i].got[0] | r[i].got[VALUE - 1], 0);
    }
    bench_free(b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wal_value");
    TCase *t = tcase_create("values");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, reading);
    tcase_add_test(t, where_there_is_none);
    tcase_add_loop_test(t, read_and_given_back, 0, 20);
    tcase_add_test(t, closed_meanwhile);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
