/*
 * Segments that hold live values, on a simulated disk (storage/wal_kept.c):
 * some tablets whose cells are nothing but places, with checkpoints that are
 * kept in the test's memory, a collector, and crashes at any time. Whatever
 * happens, what a checkpoint and the log behind it name is there and right.
 */
#include "storage/wal.h"
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define SEGMENT KIB(64)
#define TABLETS 4
#define KEYS 10

/* A value, whose bytes follow from its seq. */
struct value {
    uint64_t position; /* 0: there is none */
    uint64_t seq;
    uint32_t len;
};

struct cells {
    uint64_t seq; /* of the last entry in it */
    struct value at[KEYS];
};

struct tablet {
    struct cells now;
    struct cells durable; /* its newest checkpoint */
    /* One that is being written. */
    bool writing;
    struct cells taken;
    uint64_t clock, end, needed;
    uint64_t acknowledged; /* seq of the last entry that was synced */
    uint64_t ends[4096];   /* of entries, by seq; 0: lost */
};

struct bench {
    struct world *w;
    struct sim_host *h;
    struct env *e;
    struct wal *wal;
    struct wal_report report;
    struct err err;
    uint64_t counter, seq;
    struct tablet tablets[TABLETS];
    uint64_t state; /* of random() */
    uint32_t moved;
    uint64_t segment_size;
};

static uint64_t below(struct bench *b, uint64_t n)
{
    b->state = b->state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (b->state >> 33) % n;
}

static void fill(uint8_t *out, uint64_t seq, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        out[i] = (uint8_t)(seq * 131 + i * 7 + (i >> 8));
    }
}

/* ---- state ---- */

static void tell(struct bench *b, struct wal *w, uint32_t tablet,
                 const struct value *v, int sign)
{
    (void)b;
    if (v->position != 0) {
        wal_value_live(w, tablet, v->position, sign * (int64_t)v->len);
    }
}

static void put(struct bench *b, struct wal *w, uint32_t tablet, uint64_t key,
                struct value v)
{
    struct value *cell = &b->tablets[tablet].now.at[key];
    tell(b, w, tablet, &v, 1);
    tell(b, w, tablet, cell, -1);
    *cell = v;
}

/* ---- opening ---- */

static void on_found(void *ctx, struct wal *w)
{
    struct bench *b = ctx;
    b->wal = w;
    for (uint32_t t = 0; t < TABLETS; t++) {
        for (int k = 0; k < KEYS; k++) {
            tell(b, w, t, &b->tablets[t].now.at[k], 1);
        }
    }
}

static enum status on_replay(void *ctx, const struct wal_record *r)
{
    struct bench *b = ctx;
    struct tablet *t = &b->tablets[r->tablet];
    ck_assert_int_eq(r->kind, WAL_ENTRY);
    if (r->name.seq <= t->now.seq) {
        return ST_OK;
    }
    ck_assert_uint_eq(r->name.seq, t->now.seq + 1);
    put(b, b->wal, r->tablet, r->seq,
        (struct value){r->position + WAL_RECORD_HEAD, r->previous.seq,
                       (uint32_t)r->payload.len});
    t->now.seq = r->name.seq;
    t->ends[t->now.seq] = r->end;
    return ST_OK;
}

static enum status try_open(struct bench *b)
{
    b->e = sim_env_new(b->h, NULL);
    struct wal_options o = {
        .node = 3,
        .key = {11, 22},
        .start_counter = ++b->counter,
        .segment_size = b->segment_size,
        .folder = "shard-00",
        .on_found = on_found,
        .ctx = b,
    };
    for (uint32_t i = 0; i < TABLETS; i++) {
        b->tablets[i].now = b->tablets[i].durable;
        b->tablets[i].writing = false;
    }
    enum status s = b->e->ops->dir_make(b->e, "shard-00");
    if (s == ST_OK) {
        s = wal_open(b->e, &o, on_replay, &b->report, &b->wal, &b->err);
    }
    if (s != ST_OK) {
        b->wal = NULL;
    }
    return s;
}

static void opened(struct bench *b)
{
    enum status s = try_open(b);
    ck_assert_msg(s == ST_OK, "%s: %s", status_name(s), b->err.text);
}

static struct bench *bench_new(uint64_t seed)
{
    struct bench *b = xcalloc(1, sizeof(*b));
    b->w = world_new(seed);
    b->h = sim_host_new(b->w, "a");
    b->state = seed * 77 + 5;
    b->segment_size = SEGMENT;
    opened(b);
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

static void crash(struct bench *b, bool power)
{
    if (power) {
        sim_host_power_off(b->h);
    } else {
        sim_host_kill(b->h);
    }
    wal_close(b->wal);
    b->wal = NULL;
    if (power) {
        sim_host_power_on(b->h);
    }
}

static void on_stopped(void *ctx, enum status s)
{
    *(enum status *)ctx = s;
}

static void stop_and_crash(struct bench *b)
{
    enum status s = ST_IO;
    wal_stop(b->wal, on_stopped, &s);
    run(b, SIM_S);
    ck_assert_int_eq(s, ST_OK);
    crash(b, false);
}

/* ---- what is done ---- */

static void write_cell(struct bench *b, uint32_t tablet, uint64_t key,
                       uint32_t len)
{
    static uint8_t bytes[KIB(32)];
    struct tablet *t = &b->tablets[tablet];
    uint64_t seq = ++b->seq;
    fill(bytes, seq, len);
    struct wal_record r = {.kind = WAL_ENTRY,
                           .tablet = tablet,
                           .name = {7, ++t->now.seq},
                           .previous = {7, seq},
                           .seq = key,
                           .payload = slice_make(bytes, len)};
    t->ends[t->now.seq] = wal_append(b->wal, &r);
    put(b, b->wal, tablet, key,
        (struct value){r.position + WAL_RECORD_HEAD, seq, len});
}

static uint64_t oldest_open(struct bench *b)
{
    uint64_t oldest = UINT64_MAX;
    for (uint32_t i = 0; i < TABLETS; i++) {
        const struct tablet *t = &b->tablets[i];
        if (t->writing && t->clock < oldest) {
            oldest = t->clock;
        }
    }
    return oldest;
}

static void begin_checkpoint(struct bench *b, uint32_t tablet)
{
    struct tablet *t = &b->tablets[tablet];
    if (!t->writing) {
        t->writing = true;
        t->taken = t->now;
        t->clock = wal_value_clock(b->wal);
        t->end = t->needed = wal_end(b->wal);
    }
}

/* Ends it, if what it names is on disk. */
static void end_checkpoint(struct bench *b, uint32_t tablet)
{
    struct tablet *t = &b->tablets[tablet];
    if (t->writing && wal_synced(b->wal) >= t->end) {
        t->writing = false;
        t->durable = t->taken;
        wal_value_checkpointed(b->wal, tablet, t->clock);
        wal_release(b->wal, tablet, t->needed);
        wal_kept_release(b->wal, oldest_open(b));
    }
}

static void checkpoint(struct bench *b, uint32_t tablet)
{
    for (int i = 0; i < 2; i++) { /* one may be under way */
        begin_checkpoint(b, tablet);
        while (b->tablets[tablet].writing) {
            run(b, SIM_MS);
            end_checkpoint(b, tablet);
        }
    }
}

/* The bytes of V are there and right. */
static void check_value(struct bench *b, const struct value *v)
{
    static uint8_t got[KIB(32)], want[KIB(32)];
    if (v->position == 0) {
        return;
    }
    ck_assert_int_eq(wal_value_read_now(b->wal, v->position, v->len, got),
                     ST_OK);
    fill(want, v->seq, v->len);
    ck_assert_mem_eq(got, want, v->len);
}

static void check_values(struct bench *b)
{
    uint64_t live = 0;
    struct wal_stats st;
    for (uint32_t i = 0; i < TABLETS; i++) {
        struct tablet *t = &b->tablets[i];
        for (int k = 0; k < KEYS; k++) {
            check_value(b, &t->now.at[k]);
            check_value(b, &t->durable.at[k]);
            if (t->writing) {
                check_value(b, &t->taken.at[k]);
            }
            live += t->now.at[k].position == 0 ? 0 : t->now.at[k].len;
        }
    }
    wal_get_stats(b->wal, &st);
    ck_assert_uint_eq(st.live, live);
}

static void check_all(struct bench *b)
{
    struct wal_stats st;
    check_values(b);
    wal_get_stats(b->wal, &st);
    ck_assert_uint_eq(st.nowhere, 0);
}

/* Copies what is live in a kept segment to the head, as the collector does. */
static void collect(struct bench *b, const struct wal_kept *k)
{
    static uint8_t bytes[KIB(32)];
    for (uint32_t i = 0; i < TABLETS; i++) {
        for (int key = 0; key < KEYS; key++) {
            struct value v = b->tablets[i].now.at[key];
            if (v.position < k->begin || v.position >= k->end) {
                continue;
            }
            check_value(b, &v);
            fill(bytes, v.seq, v.len);
            struct wal_record r = {.kind = WAL_VALUE,
                                   .tablet = i,
                                   .payload = slice_make(bytes, v.len)};
            (void)wal_append(b->wal, &r);
            struct value to = v;
            to.position = r.position + WAL_RECORD_HEAD;
            tell(b, b->wal, i, &to, 1); /* it must stay until it is named */
            while (wal_synced(b->wal) < r.end) {
                run(b, 100);
            }
            put(b, b->wal, i, (uint64_t)key, to);
            tell(b, b->wal, i, &to, -1);
            b->moved++;
        }
    }
}

static void collect_one(struct bench *b)
{
    struct wal_kept k;
    for (size_t i = 0; i < wal_kept_count(b->wal); i++) {
        wal_kept_get(b->wal, i, &k);
        if (k.live > 0 && 2 * k.live < k.end - k.begin) {
            collect(b, &k);
            return;
        }
    }
}

/* ---- tests ---- */

/* The whole life of a segment: live, kept, spare, another. */
START_TEST(whole_life)
{
    struct bench *b = bench_new(1);
    struct wal_stats st;
    struct wal_kept k;
    struct wal_kept_tablet of;
    write_cell(b, 1, 0, 3000);
    struct value first = b->tablets[1].now.at[0];
    for (int i = 0; i < 60; i++) {
        write_cell(b, 2, 1 + (uint64_t)i % 2, 3000);
        run(b, 5 * SIM_MS);
    }
    ck_assert_uint_eq(wal_kept_count(b->wal), 0);
    checkpoint(b, 1);
    checkpoint(b, 2);
    /* What is not needed for replay and has no value is spare at once. */
    wal_get_stats(b->wal, &st);
    ck_assert_uint_eq(wal_kept_count(b->wal), 1);
    ck_assert_uint_eq(st.kept, 1);
    ck_assert_uint_eq(st.kept_bytes, SEGMENT);
    ck_assert_uint_eq(st.kept_live, 3000);
    ck_assert_uint_eq(st.live, 9000);
    wal_kept_get(b->wal, 0, &k);
    ck_assert(k.begin <= first.position && first.position < k.end);
    ck_assert_uint_eq(k.tablets, 1);
    wal_kept_get_tablet(b->wal, 0, 0, &of);
    ck_assert_uint_eq(of.tablet, 1);
    ck_assert_uint_eq(of.live, 3000);
    write_cell(b, 1, 0, 2000);
    run(b, SIM_S);
    wal_kept_release(b->wal, UINT64_MAX);
    ck_assert_uint_eq(wal_kept_count(b->wal), 1); /* its checkpoint names it */
    wal_kept_get_tablet(b->wal, 0, 0, &of);
    ck_assert_uint_eq(of.live, 0);
    check_value(b, &first);
    /* Rule (b): not while an older snapshot is open. */
    begin_checkpoint(b, 1);
    uint64_t clock = wal_value_clock(b->wal);
    write_cell(b, 2, 5, 3000);
    run(b, SIM_S);
    wal_value_checkpointed(b->wal, 1, clock);
    wal_kept_release(b->wal, 0);
    ck_assert_uint_eq(wal_kept_count(b->wal), 1);
    check_value(b, &first);
    wal_kept_release(b->wal, clock);
    ck_assert_uint_eq(wal_kept_count(b->wal), 0);
    uint8_t got[3000];
    ck_assert_int_eq(wal_value_read_now(b->wal, first.position, 3000, got),
                     ST_GONE);
    bench_free(b);
}
END_TEST

/* A checkpoint of a snapshot from before does not count. */
START_TEST(too_old_a_checkpoint)
{
    struct bench *b = bench_new(2);
    write_cell(b, 1, 0, 3000);
    for (int i = 0; i < 60; i++) {
        write_cell(b, 2, 0, 3000);
        run(b, 5 * SIM_MS);
    }
    checkpoint(b, 2);
    checkpoint(b, 1);
    begin_checkpoint(b, 1);
    write_cell(b, 1, 0, 2000);
    run(b, SIM_S);
    end_checkpoint(b, 1);
    wal_kept_release(b->wal, UINT64_MAX);
    ck_assert_uint_eq(wal_kept_count(b->wal), 1);
    check_all(b);
    checkpoint(b, 1);
    ck_assert_uint_eq(wal_kept_count(b->wal), 0);
    bench_free(b);
}
END_TEST

/* A state that is replaced by another one, and a tablet that goes. */
START_TEST(drop_and_forget)
{
    struct bench *b = bench_new(3);
    struct wal_stats st;
    write_cell(b, 1, 0, 3000);
    write_cell(b, 3, 0, 3000);
    for (int i = 0; i < 60; i++) {
        write_cell(b, 2, 0, 3000);
        run(b, 5 * SIM_MS);
    }
    for (uint32_t i = 1; i < TABLETS; i++) {
        checkpoint(b, i);
    }
    ck_assert_uint_eq(wal_kept_count(b->wal), 1);
    wal_value_drop(b->wal, 1);
    wal_get_stats(b->wal, &st);
    ck_assert_uint_eq(st.kept_live, 3000);
    wal_value_forget(b->wal, 3);
    wal_kept_release(b->wal, UINT64_MAX);
    wal_get_stats(b->wal, &st);
    ck_assert_uint_eq(st.kept, 1); /* the first one's checkpoint */
    ck_assert_uint_eq(st.kept_live, 0);
    wal_value_checkpointed(b->wal, 1, wal_value_clock(b->wal));
    wal_kept_release(b->wal, UINT64_MAX);
    ck_assert_uint_eq(wal_kept_count(b->wal), 0);
    bench_free(b);
}
END_TEST

struct files {
    struct bench *b;
    struct buf bytes[16];
    size_t count;
};

static void on_file(void *ctx, const char *name, uint64_t size)
{
    struct files *f = ctx;
    if (strstr(name, "/wal-0") != NULL && size > 0 && f->count < 16) {
        ck_assert(sim_disk_read(f->b->h, name, &f->bytes[f->count++]));
    }
}

static void begin_anew(struct bench *b, uint64_t segment_size)
{
    crash(b, false);
    sim_disk_wipe(b->h);
    memset(b->tablets, 0, sizeof(b->tablets));
    b->segment_size = segment_size;
    opened(b);
}

/* Headers of a former life that say that they have the positions of segments
 * that are kept. */
START_TEST(stale_headers)
{
    struct bench *b = bench_new(5);
    struct files old = {.b = b};
    begin_anew(b, SEGMENT / 2);
    while (wal_end(b->wal) < 5 * SEGMENT / 2) {
        write_cell(b, 1, 0, 3000);
        run(b, 3 * SIM_MS);
    }
    run(b, SIM_S);
    sim_disk_each(b->h, on_file, &old);
    ck_assert_uint_ge(old.count, 5);
    begin_anew(b, SEGMENT);
    write_cell(b, 1, 0, 3000);
    while (wal_end(b->wal) < 7 * SEGMENT) {
        write_cell(b, 2, 0, 3000);
        if (wal_end(b->wal) / SEGMENT == 1) {
            write_cell(b, 3, 0, 3000);
        }
        run(b, 3 * SIM_MS);
    }
    for (uint32_t i = 1; i < TABLETS; i++) {
        checkpoint(b, i);
    }
    ck_assert_uint_eq(wal_kept_count(b->wal), 2);
    for (int i = 0; i < 200; i++) { /* the others' files are used again */
        write_cell(b, 2, 0, 3000);
        run(b, 3 * SIM_MS);
        if (i % 10 == 0) {
            checkpoint(b, 2);
        }
    }
    crash(b, false);
    for (size_t i = 0; i < old.count; i++) {
        char name[40];
        snprintf(name, sizeof(name), "shard-00/wal-%06zu.log", 50 + i);
        sim_disk_write(b->h, name, buf_slice(&old.bytes[i]));
        buf_free(&old.bytes[i]);
    }
    opened(b);
    ck_assert_uint_eq(b->report.damage_count, 0);
    ck_assert_uint_eq(wal_kept_count(b->wal), 2);
    check_all(b);
    bench_free(b);
}
END_TEST

/* What rots in a kept segment, or is gone with it, is nothing that recovery
 * speaks of. */
START_TEST(damaged)
{
    struct bench *b = bench_new((uint64_t)_i);
    uint8_t got[3000];
    write_cell(b, 1, 0, 3000);
    struct value v = b->tablets[1].now.at[0];
    for (int i = 0; i < 60; i++) {
        write_cell(b, 2, 0, 3000);
        run(b, 5 * SIM_MS);
    }
    checkpoint(b, 1);
    checkpoint(b, 2);
    ck_assert_uint_eq(wal_kept_count(b->wal), 1);
    stop_and_crash(b);
    const char *name = "shard-00/wal-000001.log";
    switch (_i) {
    case 0: /* of the value itself */
        ck_assert(sim_disk_flip_bit(b->h, name, v.position + 7, 3));
        break;
    case 1: /* both headers */
        ck_assert(sim_disk_flip_bit(b->h, name, 9, 3));
        ck_assert(sim_disk_flip_bit(b->h, name, SEGMENT - 4096 + 9, 3));
        break;
    case 2:
        ck_assert(sim_disk_truncate(b->h, name, 8192));
        break;
    default:
        ck_assert(sim_disk_truncate(b->h, name, 4096));
        break;
    }
    opened(b);
    ck_assert_uint_eq(b->report.damage_count, 0);
    enum status s = wal_value_read_now(b->wal, v.position, 3000, got);
    ck_assert_int_eq(s, _i == 1 ? ST_GONE : _i == 3 ? ST_CORRUPT : ST_OK);
    write_cell(b, 1, 0, 3000); /* and it is given back as any other */
    checkpoint(b, 1);
    ck_assert_uint_eq(wal_kept_count(b->wal), 0);
    run(b, SIM_S);
    check_values(b);
    bench_free(b);
}
END_TEST

/* Makes the header at AT one of format 1, as its program wrote it. */
static void make_old(struct buf *file, size_t at)
{
    uint8_t *h = file->data + at;
    uint64_t check;
    ck_assert_int_eq(h[8], 2);
    h[8] = 1;
    check = XXH3_64bits(h, 96);
    for (int i = 0; i < 8; i++) {
        h[96 + i] = (uint8_t)(check >> (8 * i));
    }
}

/* A log of before is read, and kept from then on; a newer one is refused. */
START_TEST(formats)
{
    struct bench *b = bench_new(6);
    const char *name = "shard-00/wal-000001.log";
    struct buf file = {0};
    write_cell(b, 1, 0, 3000);
    stop_and_crash(b);
    ck_assert(sim_disk_read(b->h, name, &file));
    make_old(&file, 0);
    make_old(&file, SEGMENT - 4096);
    sim_disk_write(b->h, name, buf_slice(&file));
    opened(b);
    check_all(b);
    ck_assert_uint_eq(b->tablets[1].now.seq, 1);
    for (int i = 0; i < 60; i++) {
        write_cell(b, 2, 0, 3000);
        run(b, 5 * SIM_MS);
    }
    checkpoint(b, 1);
    checkpoint(b, 2);
    ck_assert_uint_eq(wal_kept_count(b->wal), 1);
    stop_and_crash(b);
    opened(b);
    ck_assert_uint_eq(wal_kept_count(b->wal), 1);
    check_all(b);
    stop_and_crash(b);
    file.data[8] = 3;
    sim_disk_write(b->h, name, buf_slice(&file));
    ck_assert_int_eq(try_open(b), ST_OK); /* rotten: its copy says what it is */
    file.data[SEGMENT - 4096 + 8] = 3;
    file.data[16] = file.data[SEGMENT - 4096 + 16] = 99;
    crash(b, false);
    sim_disk_write(b->h, name, buf_slice(&file));
    ck_assert_int_eq(try_open(b), ST_VERSION);
    buf_free(&file);
    bench_free(b);
}
END_TEST

/* Nobody who tells of values: segments are reused as ever, and what they hold
 * is no value. */
START_TEST(inert)
{
    struct bench *b = bench_new(4);
    struct wal_stats st;
    crash(b, false);
    b->e = sim_env_new(b->h, NULL);
    struct wal_options o = {.node = 3,
                            .key = {11, 22},
                            .start_counter = ++b->counter,
                            .segment_size = SEGMENT,
                            .folder = "shard-00"};
    ck_assert_int_eq(wal_open(b->e, &o, NULL, &b->report, &b->wal, &b->err),
                     ST_OK);
    uint8_t bytes[3000] = {0};
    struct wal_record r = {.kind = WAL_ENTRY,
                           .tablet = 1,
                           .payload = slice_make(bytes, sizeof(bytes))};
    for (int i = 0; i < 200; i++) {
        (void)wal_append(b->wal, &r);
        run(b, 3 * SIM_MS);
        wal_release(b->wal, 1, r.position);
    }
    wal_get_stats(b->wal, &st);
    ck_assert_uint_eq(st.kept, 0);
    ck_assert_uint_gt(st.segments_reused, 4);
    bench_free(b);
}
END_TEST

/* One thing of many. */
static void something(struct bench *b)
{
    uint32_t tablet = (uint32_t)below(b, TABLETS);
    switch (below(b, 40)) {
    case 0:
    case 1:
        begin_checkpoint(b, tablet);
        return;
    case 2:
    case 3:
    case 4:
        end_checkpoint(b, tablet);
        return;
    case 5:
        collect_one(b);
        return;
    case 6:
        check_all(b);
        return;
    case 7:
        wal_kept_release(b->wal, oldest_open(b));
        return;
    default:
        if (wal_room(b->wal, KIB(16) + WAL_RECORD_OVERHEAD) == ST_OK &&
            b->tablets[tablet].now.seq < 4000) {
            write_cell(b, tablet, below(b, KEYS),
                       (uint32_t)(1025 + below(b, KIB(15))));
        }
        run(b, (int64_t)below(b, 3000));
    }
}

static void note_synced(struct bench *b)
{
    for (uint32_t i = 0; i < TABLETS; i++) {
        struct tablet *t = &b->tablets[i];
        t->acknowledged = t->durable.seq;
        while (t->acknowledged < t->now.seq &&
               t->ends[t->acknowledged + 1] <= wal_synced(b->wal)) {
            t->acknowledged++;
        }
    }
}

/* Crashes at any time: all that was synced is there, every place reads right,
 * and the room that is taken stays within bounds. */
START_TEST(crashes)
{
    struct bench *b = bench_new((uint64_t)_i);
    struct wal_stats st;
    uint64_t reused = 0;
    for (int life = 0; life < 12; life++) {
        uint64_t things = below(b, 400);
        for (uint64_t i = 0; i < things; i++) {
            something(b);
        }
        wal_get_stats(b->wal, &st);
        reused += st.segments_reused + st.collected / SEGMENT;
        note_synced(b);
        crash(b, below(b, 2) == 0);
        opened(b);
        ck_assert_uint_eq(b->report.damage_count, 0);
        for (uint32_t k = 0; k < TABLETS; k++) {
            ck_assert_uint_ge(b->tablets[k].now.seq,
                              b->tablets[k].acknowledged);
        }
        check_all(b);
    }
    for (uint32_t k = 0; k < TABLETS; k++) {
        checkpoint(b, k);
    }
    for (int i = 0; i < 20; i++) {
        collect_one(b);
    }
    for (uint32_t k = 0; k < TABLETS; k++) {
        checkpoint(b, k);
    }
    check_all(b);
    wal_get_stats(b->wal, &st);
    ck_assert_uint_le(st.kept_bytes, 2 * st.live + 2 * SEGMENT);
    ck_assert_uint_gt(reused + st.collected / SEGMENT, 5);
    ck_assert_uint_gt(b->moved, 0);
    bench_free(b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wal_kept");
    TCase *t = tcase_create("kept");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, whole_life);
    tcase_add_test(t, too_old_a_checkpoint);
    tcase_add_test(t, drop_and_forget);
    tcase_add_test(t, stale_headers);
    tcase_add_loop_test(t, damaged, 0, 4);
    tcase_add_test(t, formats);
    tcase_add_test(t, inert);
    tcase_add_loop_test(t, crashes, 0, 40);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
