/*
 * The blob log over a simulated disk: what is reported as synced is there
 * after every crash, whole; what is damaged is never served; what nobody
 * refers to goes, and its room is given back.
 */
#include "storage/blobs_private.h"
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MANY 64
/* A blob of the test: its bytes follow from its number. */
struct item {
    struct blob_ref ref;
    struct blob_in *in;
    bool begun, done, referred;
    enum status status;
    uint32_t written;
};

struct bench {
    struct world *w;
    struct sim_host *h;
    struct env *e;
    struct blobs *b;
    struct blobs_report report;
    struct item items[MANY];
    uint64_t file_size, reserve;
    unsigned failed, told, damaged;
    bool full;
    struct blob_bytes *got;
    enum status got_status;
    unsigned reads;
};

static struct bench b;

static void on_failed(void *ctx, enum status why)
{
    ck_assert_int_eq(why, ST_IO);
    b.failed++;
}

static void on_full(void *ctx, bool full)
{
    ck_assert(full != b.full);
    b.full = full;
    b.told++;
}

static void on_damaged(void *ctx, const struct blob_ref *ref)
{
    b.damaged++;
}

#define run(us) world_run_for(b.w, us)

static struct blobs_options options(void)
{
    return (struct blobs_options){.store = {{5}},
                                  .key = {11, 22},
                                  .file_size = b.file_size,
                                  .reserve = b.reserve,
                                  .chunk = KIB(8),
                                  .folder = "shard-00",
                                  .on_failed = on_failed,
                                  .on_full = on_full,
                                  .on_damaged = on_damaged,
                                  .ctx = &b};
}

static enum status try_open(struct err *err)
{
    struct blobs_options o = options();
    b.e = sim_env_new(b.h, NULL);
    ck_assert_int_eq(b.e->ops->dir_make(b.e, "shard-00"), ST_OK);
    b.full = false;
    return blobs_open(b.e, &o, &b.report, &b.b, err);
}

static void open_blobs(void)
{
    struct err err = {""};
    ck_assert_msg(try_open(&err) == ST_OK, "%s", err.text);
}

/* Tells all references, of which all must be here. */
static void settle(void)
{
    for (int i = 0; i < MANY; i++) {
        if (b.items[i].referred) {
            ck_assert_msg(blobs_refer(b.b, &b.items[i].ref), "blob %d", i);
        }
    }
    blobs_settle(b.b);
}

static void begin_with(uint64_t seed, uint64_t file_size)
{
    memset(&b, 0, sizeof(b));
    b.file_size = file_size;
    b.reserve = MIB(1);
    b.w = world_new(seed);
    b.h = sim_host_new(b.w, "a");
    open_blobs();
    blobs_settle(b.b);
}

#define begin() begin_with(7, 0)

static void stop(bool power)
{
    if (power) {
        sim_host_power_off(b.h);
    } else {
        sim_host_kill(b.h);
    }
    for (int i = 0; i < MANY; i++) {
        blobs_drop(b.items[i].in);
        b.items[i].in = NULL;
    }
    blobs_close(b.b);
    b.b = NULL;
}

static void end(void)
{
    blob_bytes_unref(b.got);
    stop(false);
    world_free(b.w);
}

static void reopen(bool power)
{
    stop(power);
    open_blobs();
    settle();
}

static uint8_t byte_of(int i, uint32_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) * 7 + (uint32_t)i * 101 + 3);
}

static struct blob_bytes *bytes_of(int i, uint32_t len)
{
    struct blob_bytes *x = blob_bytes_new(len);
    for (uint32_t at = 0; at < len; at++) {
        blob_bytes_data(x)[at] = byte_of(i, at);
    }
    return x;
}

static struct blob_ref ref_of(int i, uint32_t len)
{
    struct blob_bytes *x = bytes_of(i, len);
    struct blob_ref r = {.len = len, .seed = (uint64_t)i * 77};
    memset(r.id.b, i + 1, sizeof(r.id.b));
    r.digest = blob_digest(r.seed, slice_make(blob_bytes_data(x), len));
    blob_bytes_unref(x);
    return r;
}

static void on_written(void *ctx, uint32_t bytes)
{
    struct item *x = ctx;
    ck_assert_uint_gt(bytes, x->written);
    ck_assert_uint_le(bytes, x->ref.len);
    x->written = bytes;
}

static void on_done(void *ctx, enum status s)
{
    struct item *x = ctx;
    ck_assert(!x->done);
    x->done = true;
    x->status = s;
    x->in = NULL;
    if (s == ST_OK) {
        ck_assert_uint_eq(x->written, x->ref.len);
        ck_assert(blobs_has(b.b, &x->ref));
    }
}

static enum status try_begin(int i, uint32_t len)
{
    struct item *x = &b.items[i];
    struct blob_sink sink = {on_written, on_done, x};
    *x = (struct item){.ref = ref_of(i, len)};
    enum status s = blobs_begin(b.b, &x->ref, &sink, &x->in);
    x->begun = s == ST_OK;
    return s;
}

static void begin_blob(int i, uint32_t len)
{
    enum status s = try_begin(i, len);
    ck_assert_msg(s == ST_OK, "blob %d: %s", i, status_name(s));
}

static void put(int i, uint32_t len)
{
    begin_blob(i, len);
    struct blob_bytes *x = bytes_of(i, len);
    blobs_put(b.items[i].in, x);
    blob_bytes_unref(x);
}

static void refer(int i)
{
    ck_assert(blobs_refer(b.b, &b.items[i].ref));
    b.items[i].referred = true;
}

static void unrefer(int i)
{
    blobs_unrefer(b.b, &b.items[i].ref);
    b.items[i].referred = false;
}

static void put_and_refer(int i, uint32_t len)
{
    put(i, len);
    run(SIM_S);
    ck_assert(b.items[i].done && b.items[i].status == ST_OK);
    refer(i);
}

/* The next LEN bytes of blob I. */
static enum status piece(int i, uint32_t len)
{
    struct item *x = &b.items[i];
    struct blob_bytes *all = bytes_of(i, x->ref.len);
    uint32_t at = blobs_taken(x->in);
    enum status s =
        blobs_add(x->in, slice_make(blob_bytes_data(all) + at, len));
    blob_bytes_unref(all);
    return s;
}

static void on_read(void *ctx, enum status s, struct blob_bytes *bytes)
{
    blob_bytes_unref(b.got);
    b.got = bytes;
    b.got_status = s;
    b.reads++;
}

static enum status read_blob(int i)
{
    unsigned before = b.reads;
    const struct blob_ref *r = &b.items[i].ref;
    enum status s = blobs_read(b.b, r, on_read, NULL);
    if (s != ST_OK) {
        return s;
    }
    run(SIM_S);
    ck_assert_uint_eq(b.reads, before + 1);
    ck_assert((b.got_status == ST_OK) == (b.got != NULL));
    if (b.got != NULL) {
        struct blob_bytes *x = bytes_of(i, r->len);
        ck_assert_uint_eq(b.got->len, r->len);
        ck_assert_mem_eq(blob_bytes_data(b.got), blob_bytes_data(x), r->len);
        blob_bytes_unref(x);
    }
    return b.got_status;
}

static void check_all_read(void)
{
    for (int i = 0; i < MANY; i++) {
        if (b.items[i].referred) {
            ck_assert_msg(read_blob(i) == ST_OK, "blob %d", i);
        }
    }
}

static void name_file(void *ctx, const char *name, uint64_t size)
{
    *(unsigned *)ctx += strstr(name, "/blobs-") != NULL;
}

static unsigned files(void)
{
    unsigned n = 0;
    sim_disk_each(b.h, name_file, &n);
    return n;
}

/* ---- writing and reading ---- */

static const uint32_t sizes[] = {1,           448,      449,
                                 KIB(16) + 1, KIB(100), LIMIT_VALUE};
#define SIZES (int)(sizeof(sizes) / sizeof(sizes[0]))

START_TEST(whole)
{
    begin();
    for (int i = 0; i < SIZES; i++) {
        put(i, sizes[i]);
        ck_assert(!blobs_has(b.b, &b.items[i].ref)); /* not before it is */
    }
    run(SIM_S);
    for (int i = 0; i < SIZES; i++) {
        ck_assert(b.items[i].done && b.items[i].status == ST_OK);
        refer(i);
    }
    check_all_read();
    struct blobs_stats st;
    blobs_get_stats(b.b, &st);
    ck_assert_uint_eq(st.blobs, SIZES);
    ck_assert_uint_eq(st.open, 0);
    ck_assert_uint_eq(st.syncs, 2); /* the first one's, and all others' */
    ck_assert_int_eq(blobs_pending_age_us(b.b), 0);
    reopen(_i == 1);
    ck_assert_uint_eq(b.report.blobs, SIZES);
    check_all_read();
    reopen(_i == 1);
    ck_assert_uint_eq(b.report.walked, 0); /* the start before wrote an index */
    check_all_read();
    end();
}
END_TEST

/* Several at once, each in pieces of its own sizes. */
START_TEST(pieces)
{
    begin();
    for (int i = 0; i < 3; i++) {
        begin_blob(i, KIB(200) + 13 * (uint32_t)i);
    }
    for (unsigned round = 1, open = 3; open > 0; round++) {
        for (int i = 0; i < 3; i++) {
            struct item *x = &b.items[i];
            if (x->in == NULL || blobs_taken(x->in) == x->ref.len) {
                open -= x->done && x->begun;
                x->begun = x->begun && !x->done;
                continue;
            }
            uint32_t left = x->ref.len - blobs_taken(x->in);
            uint32_t n = 1 + (round * 7919 + (unsigned)i * 104729) % KIB(30);
            ck_assert_int_eq(piece(i, n < left ? n : left), ST_OK);
        }
        run(100);
    }
    for (int i = 0; i < 3; i++) {
        refer(i);
    }
    check_all_read();
    reopen(true);
    check_all_read();
    end();
}
END_TEST

START_TEST(bad_pieces)
{
    begin();
    begin_blob(0, KIB(64));
    ck_assert_int_eq(blobs_add(b.items[0].in, slice_make(NULL, 0)), ST_INVALID);
    ck_assert_int_eq(piece(0, KIB(40)), ST_OK);
    struct blob_bytes *junk = bytes_of(9, KIB(64));
    struct slice s = slice_make(blob_bytes_data(junk), KIB(24) + 1);
    ck_assert_int_eq(blobs_add(b.items[0].in, s), ST_INVALID);
    s.len = KIB(24);
    ck_assert_int_eq(blobs_add(b.items[0].in, s), ST_CORRUPT);
    blob_bytes_unref(junk);
    run(SIM_S);
    ck_assert(!b.items[0].done);
    blobs_drop(b.items[0].in);
    b.items[0].in = NULL;
    ck_assert(!blobs_has(b.b, &b.items[0].ref));
    put_and_refer(0, KIB(64)); /* the name can be used again */
    ck_assert_int_eq(read_blob(0), ST_OK);
    reopen(true);
    ck_assert_int_eq(read_blob(0), ST_OK);
    end();
}
END_TEST

START_TEST(begins_refused)
{
    struct blob_in *in;
    struct blob_sink sink = {NULL, on_done, NULL};
    begin();
    put_and_refer(0, KIB(20));
    ck_assert_int_eq(try_begin(0, KIB(20)), ST_EXISTS);
    b.items[0].referred = true;
    begin_blob(1, KIB(20));
    struct blob_ref r = b.items[1].ref;
    ck_assert_int_eq(blobs_begin(b.b, &r, &sink, &in), ST_BUSY);
    r = b.items[0].ref;
    r.digest.b[3] ^= 1;
    ck_assert_int_eq(blobs_begin(b.b, &r, &sink, &in), ST_INVALID);
    ck_assert(!blobs_has(b.b, &r));
    ck_assert_int_eq(blobs_read(b.b, &r, on_read, NULL), ST_GONE);
    r = b.items[0].ref;
    r.len++;
    ck_assert_int_eq(blobs_begin(b.b, &r, &sink, &in), ST_INVALID);
    r = ref_of(5, KIB(20));
    r.len = 0;
    ck_assert_int_eq(blobs_begin(b.b, &r, &sink, &in), ST_INVALID);
    r.len = LIMIT_VALUE + 1;
    ck_assert_int_eq(blobs_begin(b.b, &r, &sink, &in), ST_INVALID);
    r = (struct blob_ref){.len = 5};
    ck_assert_int_eq(blobs_begin(b.b, &r, &sink, &in), ST_INVALID);
    ck_assert_int_eq(blobs_read(b.b, &r, on_read, NULL), ST_GONE);
    end();
}
END_TEST

START_TEST(too_many_open)
{
    static struct blob_in *in[BLOB_OPEN_MAX + 1];
    static struct item items[BLOB_OPEN_MAX];
    begin();
    struct blob_ref r = ref_of(1, KIB(20));
    for (unsigned i = 0; i < BLOB_OPEN_MAX; i++) {
        struct blob_sink sink = {NULL, on_done, &items[i]};
        memcpy(r.id.b, &i, sizeof(i));
        ck_assert_int_eq(blobs_begin(b.b, &r, &sink, &in[i]), ST_OK);
    }
    r.id.b[9]++;
    struct blob_sink sink = {NULL, on_done, NULL};
    ck_assert_int_eq(blobs_begin(b.b, &r, &sink, &in[BLOB_OPEN_MAX]), ST_BUSY);
    blobs_drop(in[3]);
    ck_assert_int_eq(blobs_begin(b.b, &r, &sink, &in[3]), ST_OK);
    for (unsigned i = 0; i < BLOB_OPEN_MAX; i++) {
        blobs_drop(in[i]);
    }
    end();
}
END_TEST

/* Given up with writes under way, and begun again. */
START_TEST(dropped)
{
    begin();
    begin_blob(0, KIB(100));
    ck_assert_int_eq(piece(0, KIB(60)), ST_OK);
    blobs_drop(b.items[0].in);
    begin_blob(0, KIB(100));
    ck_assert_int_eq(piece(0, KIB(60)), ST_OK);
    ck_assert_int_eq(piece(0, KIB(40)), ST_OK);
    blobs_drop(b.items[0].in); /* all was on its way */
    b.items[0].in = NULL;
    run(SIM_S);
    ck_assert(!b.items[0].done && !blobs_has(b.b, &b.items[0].ref));
    put_and_refer(0, KIB(100));
    reopen(true);
    check_all_read();
    end();
}
END_TEST

/* ---- references ---- */

START_TEST(references)
{
    begin();
    for (int i = 0; i < 3; i++) {
        put(i, KIB(20));
    }
    run(SIM_S);
    refer(0);
    refer(0);
    refer(1);
    unrefer(1);
    ck_assert(!blobs_has(b.b, &b.items[1].ref)); /* with the last one it goes */
    unrefer(0);
    ck_assert(blobs_has(b.b, &b.items[0].ref));
    b.items[0].referred = true;
    run(BLOB_ORPHAN_US - 10 * SIM_S);
    ck_assert(blobs_has(b.b, &b.items[2].ref));
    run(20 * SIM_S);
    ck_assert(!blobs_has(b.b, &b.items[2].ref)); /* R6: after ten minutes */
    ck_assert(blobs_has(b.b, &b.items[0].ref));
    put(3, KIB(20));
    run(SIM_S);
    reopen(false);
    ck_assert(!blobs_has(b.b, &b.items[3].ref)); /* R6: at a restart */
    ck_assert_int_eq(read_blob(0), ST_OK);
    end();
}
END_TEST

/* What is not here is remembered, and what comes then is not an orphan. */
START_TEST(referred_before)
{
    begin();
    b.items[0].ref = ref_of(0, KIB(20));
    ck_assert(!blobs_refer(b.b, &b.items[0].ref));
    ck_assert(!blobs_has(b.b, &b.items[0].ref));
    ck_assert_int_eq(read_blob(0), ST_GONE);
    put(0, KIB(20));
    run(2 * BLOB_ORPHAN_US);
    ck_assert_int_eq(read_blob(0), ST_OK);
    b.items[1].ref = ref_of(1, KIB(20));
    ck_assert(!blobs_refer(b.b, &b.items[1].ref));
    blobs_unrefer(b.b, &b.items[1].ref);
    end();
}
END_TEST

/* ---- crashes ---- */

static void workload(void)
{
    for (int i = 0; i < 12; i++) {
        uint32_t len = KIB(16) + 1 + (uint32_t)i * 4001;
        if (i % 3 == 0 && try_begin(i, len) == ST_OK) {
            struct blob_bytes *x = bytes_of(i, len);
            blobs_put(b.items[i].in, x);
            blob_bytes_unref(x);
        } else if (i % 3 != 0 && try_begin(i, len) == ST_OK) {
            while (b.items[i].in != NULL && blobs_taken(b.items[i].in) < len &&
                   sim_env_alive(b.e)) {
                uint32_t left = len - blobs_taken(b.items[i].in);
                ck_assert_int_eq(piece(i, left < 9000 ? left : 9000), ST_OK);
                run(i % 2 == 0 ? 300 : 0);
            }
        }
        if (!sim_env_alive(b.e)) {
            return;
        }
        if (i >= 4 && b.items[i - 4].done && i % 2 == 0) {
            refer(i - 4);
            unrefer(i - 4);
            b.items[i - 4].done = false;
        }
    }
    run(5 * SIM_S);
}

/* All that was reported, and nobody let go of, is whole; twice, for the second
 * start goes by what the first one wrote. */
static void check_after_crash(void)
{
    for (int i = 0; i < MANY; i++) {
        struct item *x = &b.items[i];
        x->referred = x->done && x->status == ST_OK;
    }
    open_blobs();
    settle();
    check_all_read();
    reopen(true);
    check_all_read();
    put(MANY - 1, KIB(300)); /* it can be written, too */
    run(SIM_S);
    ck_assert(b.items[MANY - 1].done);
}

START_TEST(crash_points)
{
    bool went_on = true;
    for (uint32_t n = 1; went_on; n++) {
        begin_with(n, KIB(150));
        sim_host_fail_at_step(b.h, n, _i == 1);
        workload();
        went_on = !sim_env_alive(b.e);
        sim_host_fail_at_step(b.h, 0, false);
        stop(_i == 1);
        check_after_crash();
        end();
        ck_assert_uint_lt(n, 1000);
        ck_assert(went_on || n > 40);
    }
}
END_TEST

/* The start after a crash crashes, too. */
START_TEST(recovery_crash_points)
{
    bool went_on = true;
    for (uint32_t n = 1; went_on; n++) {
        struct err err = {""};
        begin_with(n, KIB(150));
        workload();
        stop(_i == 1);
        sim_host_fail_at_step(b.h, n, _i == 1);
        for (int i = 0; i < MANY; i++) {
            b.items[i].referred = b.items[i].done;
        }
        if (try_open(&err) == ST_OK) {
            settle();
            run(5 * SIM_S);
        }
        went_on = !sim_env_alive(b.e);
        sim_host_fail_at_step(b.h, 0, false);
        stop(_i == 1);
        check_after_crash();
        end();
        ck_assert(went_on || n > 3);
    }
}
END_TEST

/* Power fails at any moment: what the disk had not synced survives in parts. */
START_TEST(power_cuts)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        begin_with(seed, KIB(150));
        for (int i = 0; i < 8; i++) {
            put(i, KIB(16) + 5000 * (uint32_t)i);
            run((int64_t)(seed * 37 % 900));
        }
        run((int64_t)(seed * 71 % 3000));
        stop(true);
        check_after_crash();
        end();
    }
}
END_TEST

/* ---- collection ---- */

static void fill_files(void)
{
    for (int i = 0; i < 24; i++) {
        put_and_refer(i, KIB(30));
    }
    ck_assert_uint_ge(files(), 4);
}

START_TEST(collects)
{
    struct blobs_stats st;
    begin_with(3, KIB(200));
    fill_files();
    unsigned before = files();
    for (int i = 0; i < 24; i++) {
        if (i % 6 != 0) {
            unrefer(i);
        }
    }
    run(5 * SIM_S);
    blobs_get_stats(b.b, &st);
    ck_assert(files() < before && files() <= 2);
    ck_assert(st.moved > 0 && st.freed_bytes > 0);
    check_all_read();
    reopen(_i == 1);
    check_all_read();
    end();
}
END_TEST

START_TEST(collection_crash_points)
{
    bool went_on = true;
    for (uint32_t n = 1; went_on; n++) {
        begin_with(n, KIB(200));
        fill_files();
        sim_host_fail_at_step(b.h, n, _i == 1);
        for (int i = 0; i < 24 && sim_env_alive(b.e); i++) {
            if (i % 6 != 0) {
                unrefer(i);
                run(500);
            }
            b.items[i].done = i % 6 == 0;
        }
        run(5 * SIM_S);
        went_on = !sim_env_alive(b.e);
        sim_host_fail_at_step(b.h, 0, false);
        stop(_i == 1);
        check_after_crash();
        end();
        ck_assert_uint_lt(n, 1000);
        ck_assert(went_on || n > 5);
    }
}
END_TEST

/* A file that a read is under way in stays until that is over. */
START_TEST(collects_around_reads)
{
    begin_with(5, KIB(200));
    fill_files();
    for (int i = 1; i < 24; i++) {
        unrefer(i);
    }
    ck_assert_int_eq(blobs_read(b.b, &b.items[0].ref, on_read, NULL), ST_OK);
    unrefer(0);
    run(5 * SIM_S);
    ck_assert(b.reads == 1 && b.got_status == ST_OK);
    ck_assert_uint_le(files(), 1);
    end();
}
END_TEST

/* ---- damage ---- */

#define FILE1 "shard-00/blobs-000001.log"

/* Where blob I's record is, in the first file. */
static uint64_t offset_of(int i)
{
    const struct blob *x = blob_find(b.b, &b.items[i].ref.id);
    ck_assert_ptr_nonnull(x);
    ck_assert_uint_eq(x->file->sequence, 1);
    return x->offset;
}

START_TEST(flipped_bytes)
{
    begin();
    for (int i = 0; i < 5; i++) {
        put_and_refer(i, KIB(20));
    }
    reopen(false);
    uint64_t at = offset_of(2) + BLOB_HEAD + (uint64_t)_i * 1300;
    ck_assert(sim_disk_flip_bit(b.h, FILE1, at, (unsigned)_i));
    ck_assert_int_eq(read_blob(2), ST_CORRUPT);
    ck_assert_uint_eq(b.damaged, 1);
    ck_assert(!blobs_has(b.b, &b.items[2].ref));
    ck_assert_int_eq(read_blob(2), ST_CORRUPT);
    ck_assert_uint_eq(b.damaged, 1); /* told once */
    /* It is taken anew from somebody who has it. */
    b.items[2].referred = false;
    put(2, KIB(20));
    run(SIM_S);
    b.items[2].referred = true;
    check_all_read();
    reopen(true);
    check_all_read();
    end();
}
END_TEST

/* A head, the header or the index: all other blobs are found all the same. */
START_TEST(flipped_structure)
{
    begin();
    for (int i = 0; i < 5; i++) {
        put_and_refer(i, KIB(20) + (uint32_t)i * 600);
    }
    uint64_t head = offset_of(2);
    bool indexed = _i >= 64;
    if (indexed) { /* the index alone, or also the head behind it */
        reopen(false);
    }
    stop(false);
    uint64_t at = head + (uint64_t)(_i % 64);
    if (indexed) {
        struct buf all = {0};
        ck_assert(sim_disk_read(b.h, FILE1, &all));
        at = all.len - 512 + (uint64_t)(_i - 64);
        buf_free(&all);
    }
    ck_assert(sim_disk_flip_bit(b.h, FILE1, at, (unsigned)_i % 8));
    ck_assert(sim_disk_flip_bit(b.h, FILE1, (uint64_t)_i % 48, 3));
    open_blobs();
    for (int i = 0; i < 5; i++) {
        bool lost = i == 2 && !indexed;
        b.items[i].referred = !lost;
        ck_assert(blobs_refer(b.b, &b.items[i].ref) == !lost);
    }
    blobs_settle(b.b);
    check_all_read();
    end();
}
END_TEST

/* Cut at any place: what stands before it is there, the rest is not. */
START_TEST(torn_files)
{
    begin();
    for (int i = 0; i < 4; i++) {
        put_and_refer(i, KIB(17) + (uint32_t)i);
    }
    uint64_t ends[4];
    for (int i = 0; i < 4; i++) {
        ends[i] = offset_of(i) + BLOB_HEAD + b.items[i].ref.len;
    }
    stop(false);
    struct sim_disk_image *image = sim_disk_save(b.h);
    for (uint64_t size = 0; size <= ends[3]; size += 997) {
        sim_disk_restore(b.h, image);
        ck_assert(sim_disk_truncate(b.h, FILE1, size));
        open_blobs();
        for (int i = 0; i < 4; i++) {
            b.items[i].referred = ends[i] <= size;
            ck_assert(blobs_refer(b.b, &b.items[i].ref) == (ends[i] <= size));
        }
        blobs_settle(b.b);
        check_all_read();
        stop(false);
    }
    sim_disk_image_free(image);
    open_blobs();
    end();
}
END_TEST

/* Two records of one name, after a crash between a move and the removal of
 * where it came from: whichever is damaged, the other one is taken. */
START_TEST(doubled)
{
    struct buf old = {0};
    begin_with(3, KIB(200));
    fill_files();
    uint64_t at = offset_of(0);
    ck_assert(sim_disk_read(b.h, FILE1, &old));
    for (int i = 1; i < 24; i++) {
        unrefer(i);
    }
    run(5 * SIM_S);
    const struct blob *x = blob_find(b.b, &b.items[0].ref.id);
    ck_assert_uint_gt(x->file->sequence, 1);
    char name[BLOB_NAME_MAX];
    blob_file_name(b.b, x->file->sequence, name);
    uint64_t moved_to = x->offset;
    stop(false);
    sim_disk_write(b.h, FILE1, buf_slice(&old));
    if (_i == 0) {
        ck_assert(sim_disk_flip_bit(b.h, FILE1, at + 5000, 1));
    } else {
        ck_assert(sim_disk_flip_bit(b.h, name, moved_to + 5000, 1));
    }
    open_blobs();
    settle();
    ck_assert_int_eq(read_blob(0), ST_OK);
    buf_free(&old);
    end();
}
END_TEST

/* What cannot be moved keeps its file, and is told. */
START_TEST(damaged_stays)
{
    begin_with(3, KIB(200));
    fill_files();
    ck_assert(sim_disk_flip_bit(b.h, FILE1, offset_of(0) + 999, 0));
    for (int i = 1; i < 24; i++) {
        unrefer(i);
    }
    run(5 * SIM_S);
    ck_assert_uint_eq(b.damaged, 1);
    ck_assert_uint_ge(files(), 1);
    ck_assert_int_eq(read_blob(0), ST_CORRUPT);
    put(0, KIB(30)); /* repaired */
    run(5 * SIM_S);
    b.items[0].referred = true;
    check_all_read();
    ck_assert_uint_le(files(), 2);
    end();
}
END_TEST

START_TEST(other_stores)
{
    static const struct {
        size_t at;
        uint8_t byte;
        enum status status;
    } rows[] = {{16, 99, ST_CORRUPT}, {8, BLOB_FORMAT + 1, ST_VERSION}};
    struct err err = {""};
    struct buf all = {0};
    begin();
    put_and_refer(0, KIB(20));
    stop(false);
    ck_assert(sim_disk_read(b.h, FILE1, &all));
    all.data[rows[_i].at] = rows[_i].byte;
    uint64_t c = XXH3_64bits(all.data, 40);
    memcpy(all.data + 40, &c, 8);
    sim_disk_write(b.h, FILE1, buf_slice(&all));
    buf_free(&all);
    ck_assert_int_eq(try_open(&err), rows[_i].status);
    ck_assert_str_ne(err.text, "");
    sim_host_kill(b.h);
    world_free(b.w);
}
END_TEST

/* ---- a disk that fails ---- */

START_TEST(disk_full)
{
    begin();
    put_and_refer(0, KIB(20));
    sim_disk_limit(b.h, sim_disk_used(b.h) + b.reserve + KIB(30));
    run(SIM_S);
    ck_assert_int_eq(blobs_room(b.b, KIB(20)), ST_OK);
    ck_assert_int_eq(try_begin(1, KIB(64)), ST_NO_SPACE);
    ck_assert(b.full && b.told == 1);
    run(3 * SIM_S);
    ck_assert_int_eq(try_begin(2, KIB(20)), ST_NO_SPACE); /* not either */
    ck_assert_int_eq(read_blob(0), ST_OK);
    sim_disk_limit(b.h, 0);
    run(3 * SIM_S);
    ck_assert(!b.full); /* it says so by itself */
    put_and_refer(1, KIB(64));
    end();
}
END_TEST

/* The disk is full although there was room: it costs the blob alone. */
START_TEST(disk_suddenly_full)
{
    begin();
    put_and_refer(0, KIB(20));
    for (int i = 1; i < 4; i++) {
        begin_blob(i, KIB(40));
    }
    sim_disk_limit(b.h, sim_disk_used(b.h) + KIB(40) + BLOB_BLOCK);
    for (int i = 1; i < 4; i++) {
        while (b.items[i].in != NULL && blobs_taken(b.items[i].in) < KIB(40)) {
            ck_assert_int_eq(piece(i, KIB(20)), ST_OK);
            run(_i == 0 ? 0 : 20 * SIM_MS);
        }
    }
    run(SIM_S);
    ck_assert_uint_eq(b.failed, 0);
    ck_assert(b.items[1].done && b.items[1].status == ST_OK);
    ck_assert(b.items[3].done && b.items[3].status == ST_NO_SPACE);
    sim_disk_limit(b.h, 0); /* whatever the disk says */
    ck_assert_int_eq(try_begin(3, KIB(40)), ST_NO_SPACE);
    run(7 * SIM_S);
    ck_assert(!b.full);
    put_and_refer(3, KIB(40));
    refer(1);
    reopen(true);
    check_all_read();
    end();
}
END_TEST

/* R18: a failed sync is final, and nothing of it is reported. */
START_TEST(failures_are_final)
{
    begin();
    put_and_refer(0, KIB(20));
    if (_i == 0) {
        sim_disk_fail_sync(b.h, 1);
    } else {
        sim_disk_fail_write(b.h, 1);
    }
    put(1, KIB(40));
    put(2, KIB(40));
    run(SIM_S);
    ck_assert_uint_eq(b.failed, 1);
    ck_assert(!b.items[1].done && !b.items[2].done);
    ck_assert_int_eq(try_begin(3, KIB(40)), ST_STOPPING);
    ck_assert_int_eq(read_blob(0), ST_STOPPING);
    stop(true);
    b.items[1].referred = b.items[2].referred = false;
    open_blobs();
    settle();
    check_all_read();
    end();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("blobs");
    TCase *t = tcase_create("blobs");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, whole, 0, 2);
    tcase_add_test(t, pieces);
    tcase_add_test(t, bad_pieces);
    tcase_add_test(t, begins_refused);
    tcase_add_test(t, too_many_open);
    tcase_add_test(t, dropped);
    tcase_add_test(t, references);
    tcase_add_test(t, referred_before);
    tcase_add_loop_test(t, crash_points, 0, 2);
    tcase_add_loop_test(t, recovery_crash_points, 0, 2);
    tcase_add_test(t, power_cuts);
    tcase_add_loop_test(t, collects, 0, 2);
    tcase_add_loop_test(t, collection_crash_points, 0, 2);
    tcase_add_test(t, collects_around_reads);
    tcase_add_loop_test(t, flipped_bytes, 0, 15);
    tcase_add_loop_test(t, flipped_structure, 0, 64 + 512);
    tcase_add_test(t, torn_files);
    tcase_add_loop_test(t, doubled, 0, 2);
    tcase_add_test(t, damaged_stays);
    tcase_add_loop_test(t, other_stores, 0, 2);
    tcase_add_test(t, disk_full);
    tcase_add_loop_test(t, disk_suddenly_full, 0, 2);
    tcase_add_loop_test(t, failures_are_final, 0, 2);
    suite_add_tcase(s, t);
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
