/*
 * The log on a simulated disk: what was told to be synced comes back, whole
 * and in order, whatever the disk does; damage is found and never replayed.
 */
#include "storage/wal.h"
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT KIB(64)
#define RECORDS_MAX 20000

/* A record as it was appended, or replayed. */
struct entry {
    uint64_t position, end;
    enum wal_kind kind;
    uint32_t tablet;
    uint64_t seq; /* names and payload follow from it */
    uint32_t len;
};

struct entries {
    struct entry at[RECORDS_MAX];
    size_t count;
};

struct bench {
    struct world *w;
    struct sim_host *h;
    struct env *e;
    struct wal *wal;
    struct wal_report report;
    struct err err;
    struct entries sent, got;
    uint64_t counter, synced, synced_at_failure, seq;
    uint64_t segment_size;
    int failed;
    bool stopped;
    struct id128 store;
};

static struct slice payload_of(uint64_t seq, uint32_t len)
{
    static uint8_t bytes[KIB(64)];
    for (uint32_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(seq * 131 + i * 7 + (i >> 8));
    }
    return slice_make(bytes, len);
}

static enum status on_replay(void *ctx, const struct wal_record *r)
{
    struct bench *b = ctx;
    ck_assert_uint_lt(b->got.count, RECORDS_MAX);
    struct slice want = payload_of(r->seq, (uint32_t)r->payload.len);
    ck_assert(slice_equal(want, r->payload));
    ck_assert_uint_eq(r->name.seq, r->seq);
    ck_assert_uint_eq(r->name.epoch, 7);
    ck_assert_uint_eq(r->previous.seq, r->seq - 1);
    b->got.at[b->got.count++] =
        (struct entry){r->position, r->end, r->kind,
                       r->tablet,   r->seq, (uint32_t)r->payload.len};
    return ST_OK;
}

static void on_synced(void *ctx, uint64_t position)
{
    struct bench *b = ctx;
    ck_assert_uint_gt(position, b->synced);
    b->synced = position;
}

static void on_failed(void *ctx, enum status why)
{
    struct bench *b = ctx;
    ck_assert_int_ne(why, ST_OK);
    b->failed++;
    b->synced_at_failure = b->synced;
}

static void on_stopped(void *ctx, enum status s)
{
    struct bench *b = ctx;
    ck_assert_int_eq(s, ST_OK);
    b->stopped = true;
}

static enum status try_open(struct bench *b)
{
    b->e = sim_env_new(b->h, NULL);
    struct wal_options o = {
        .node = 3,
        .store = b->store,
        .key = {11, 22},
        .start_counter = ++b->counter,
        .segment_size = b->segment_size,
        .folder = "shard-00",
        .on_synced = on_synced,
        .on_failed = on_failed,
        .ctx = b,
    };
    b->got.count = 0;
    b->wal = NULL;
    b->stopped = false;
    b->failed = 0;
    enum status s = b->e->ops->dir_make(b->e, "shard-00");
    if (s == ST_OK) {
        s = wal_open(b->e, &o, on_replay, &b->report, &b->wal, &b->err);
    }
    if (s == ST_OK) {
        b->synced = b->report.end;
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
    b->segment_size = SEGMENT;
    b->store.b[0] = 5;
    return b;
}

static void bench_free(struct bench *b)
{
    sim_host_kill(b->h);
    wal_close(b->wal);
    world_free(b->w);
    free(b);
}

static void append(struct bench *b, uint32_t tablet, uint32_t len)
{
    uint64_t seq = ++b->seq;
    struct wal_record r = {.kind = (enum wal_kind)(1 + seq % 6),
                           .tablet = tablet,
                           .name = {7, seq},
                           .previous = {7, seq - 1},
                           .seq = seq,
                           .payload = payload_of(seq, len)};
    uint64_t end = wal_append(b->wal, &r);
    ck_assert_uint_eq(end, r.end);
    ck_assert_uint_lt(b->sent.count, RECORDS_MAX);
    b->sent.at[b->sent.count++] =
        (struct entry){r.position, r.end, r.kind, tablet, seq, len};
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

static void stop(struct bench *b)
{
    wal_stop(b->wal, on_stopped, b);
    run(b, SIM_S);
    ck_assert(b->stopped);
    crash(b, false);
}

static bool same_entry(const struct entry *x, const struct entry *y)
{
    return x->position == y->position && x->end == y->end &&
           x->kind == y->kind && x->tablet == y->tablet && x->seq == y->seq &&
           x->len == y->len;
}

/* What came back is a run of what was sent, from at or before NEEDED to at
 * least all that was synced; what is beyond is forgotten, as it is gone. */
static void check_replay(struct bench *b, uint64_t needed)
{
    size_t i = 0, k = 0;
    ck_assert_uint_eq(b->report.damage_count, 0);
    if (b->got.count > 0) {
        while (i < b->sent.count &&
               b->sent.at[i].position != b->got.at[0].position) {
            i++;
        }
        ck_assert_uint_lt(i, b->sent.count);
    } else {
        i = b->sent.count;
        while (i > 0 && b->sent.at[i - 1].position >= needed) {
            i--;
        }
    }
    if (i < b->sent.count && i > 0) {
        ck_assert_uint_lt(b->sent.at[i - 1].position, needed);
    }
    for (; k < b->got.count; k++, i++) {
        ck_assert_uint_lt(i, b->sent.count);
        ck_assert(same_entry(&b->sent.at[i], &b->got.at[k]));
    }
    b->sent.count = i;
}

/* ---- the normal course ---- */

START_TEST(round_trip)
{
    struct bench *b = bench_new(1);
    opened(b);
    ck_assert_uint_eq(b->got.count, 0);
    for (uint32_t i = 0; i < 300; i++) {
        append(b, i % 5, i % 3 == 0 ? 0 : i * 7);
        if (i % 10 == 0) {
            run(b, SIM_MS);
        }
    }
    run(b, SIM_S);
    ck_assert_uint_eq(wal_synced(b->wal), wal_end(b->wal));
    ck_assert_uint_ge(b->synced, b->sent.at[299].end);
    stop(b);
    opened(b);
    check_replay(b, 0);
    ck_assert_uint_eq(b->got.count, 300);
    ck_assert(!b->report.torn);
    bench_free(b);
}
END_TEST

/* All that is appended while a sync is under way goes with one sync. */
START_TEST(group_commit)
{
    struct bench *b = bench_new(2);
    struct wal_stats before, after;
    opened(b);
    run(b, SIM_S);
    sim_disk_slow(b->h, 10 * SIM_MS);
    wal_get_stats(b->wal, &before);
    append(b, 1, 100);
    run(b, SIM_MS);
    ck_assert_int_gt(wal_pending_age_us(b->wal), 0);
    for (int i = 0; i < 50; i++) {
        append(b, 1, 100);
    }
    run(b, 30 * SIM_MS);
    wal_get_stats(b->wal, &after);
    ck_assert_uint_eq(after.groups - before.groups, 2);
    ck_assert_uint_eq(b->synced, b->sent.at[50].end);
    ck_assert_int_eq(wal_pending_age_us(b->wal), 0);
    run(b, SIM_S); /* R16: one mark, and then nothing more */
    wal_get_stats(b->wal, &after);
    ck_assert_uint_eq(after.groups - before.groups, 3);
    ck_assert_uint_eq(after.marks - before.marks, 1);
    bench_free(b);
}
END_TEST

/* Nobody waits for a COMMIT: it takes no sync of its own while others come,
 * and is on disk 20 ms after the last at the latest. */
START_TEST(commits_ride)
{
    struct bench *b = bench_new(3);
    struct wal_stats before, after;
    opened(b);
    run(b, SIM_S);
    wal_get_stats(b->wal, &before);
    b->seq = 1;
    append(b, 1, 8);
    ck_assert_int_eq(b->sent.at[0].kind, WAL_COMMIT);
    run(b, 10 * SIM_MS);
    wal_get_stats(b->wal, &after);
    ck_assert_uint_eq(after.groups, before.groups);
    ck_assert_int_eq(wal_pending_age_us(b->wal), 0);
    append(b, 1, 8); /* takes it along */
    run(b, 5 * SIM_MS);
    wal_get_stats(b->wal, &after);
    ck_assert_uint_eq(after.groups - before.groups, 1);
    ck_assert_uint_eq(b->synced, b->sent.at[1].end);
    b->seq = 1;
    append(b, 1, 8);
    run(b, 40 * SIM_MS);
    ck_assert_uint_ge(b->synced, b->sent.at[2].end);
    b->seq = 1;
    append(b, 1, 8);
    b->sent.count = 0;
    stop(b); /* a clean stop leaves none behind */
    opened(b);
    ck_assert_uint_eq(b->got.count, 4);
    bench_free(b);
}
END_TEST

/* COMMITs that trickle in put off neither each other nor the mark (R16): 20 ms
 * after the entry something follows it that proves that it was synced. */
START_TEST(commits_trickle)
{
    struct bench *b = bench_new(4);
    struct wal_stats before, after;
    opened(b);
    run(b, SIM_S);
    append(b, 1, 8);
    run(b, 10 * SIM_MS);
    ck_assert_uint_eq(b->synced, b->sent.at[0].end);
    wal_get_stats(b->wal, &before);
    for (int i = 1; i <= 10; i++) {
        b->seq = 1;
        append(b, 1, 8);
        ck_assert_int_eq(b->sent.at[i].kind, WAL_COMMIT);
        run(b, 10 * SIM_MS);
        ck_assert_uint_ge(b->synced, b->sent.at[i < 4 ? 0 : i - 3].end);
    }
    wal_get_stats(b->wal, &after);
    ck_assert_uint_ge(after.groups - before.groups, 3);
    bench_free(b);
}
END_TEST

/* Segments that nobody needs are used again, and no more are made. */
START_TEST(reuse)
{
    struct bench *b = bench_new(3);
    struct wal_stats stats;
    struct wal_record r;
    struct buf out = {0};
    opened(b);
    for (int i = 0; i < 2000; i++) {
        append(b, 1, 500);
        append(b, 2, 10);
        run(b, SIM_MS);
        if (i % 20 == 19) {
            wal_release(b->wal, 1, b->sent.at[b->sent.count - 2].position);
            wal_release(b->wal, 2, UINT64_MAX);
        }
    }
    wal_get_stats(b->wal, &stats);
    ck_assert_uint_gt(stats.segments_reused, 10);
    ck_assert_uint_le(stats.segments_made, 4);
    ck_assert_uint_lt(wal_size(b->wal), SEGMENT);
    ck_assert_int_eq(wal_read(b->wal, b->sent.at[0].position, &r, &out),
                     ST_GONE);
    uint64_t needed = b->sent.at[b->sent.count - 2].position;
    stop(b);
    opened(b);
    check_replay(b, needed);
    buf_free(&out);
    bench_free(b);
}
END_TEST

START_TEST(reading_back)
{
    struct bench *b = bench_new(4);
    struct buf out = {0};
    opened(b);
    for (uint32_t i = 0; i < 400; i++) {
        append(b, 1, i * 3);
        if (i % 50 == 0) {
            run(b, SIM_MS);
        }
    }
    for (size_t i = 0; i < b->sent.count; i++) {
        const struct entry *x = &b->sent.at[i];
        struct wal_record r;
        ck_assert_int_eq(wal_read(b->wal, x->position, &r, &out), ST_OK);
        ck_assert_uint_eq(r.seq, x->seq);
        ck_assert_uint_eq(r.end, x->end);
        ck_assert(slice_equal(r.payload, payload_of(x->seq, x->len)));
        ck_assert_int_eq(wal_read(b->wal, x->position + 8, &r, &out),
                         ST_CORRUPT);
        buf_clear(&out);
    }
    buf_free(&out);
    bench_free(b);
}
END_TEST

/* ---- crashes ---- */

static uint32_t draw(struct bench *b, uint32_t below)
{
    return (uint32_t)sim_rng_below(world_rng(b->w), below);
}

/* Appends, releases and runs until the host dies; what is needed is given
 * back. */
static void live(struct bench *b, uint64_t *needed)
{
    bool big = draw(b, 4) == 0;
    for (int i = 0; i < 400 && sim_host_running(b->h); i++) {
        append(b, draw(b, 3), draw(b, big ? 20000 : 900));
        if (draw(b, 3) == 0) {
            run(b, draw(b, 2000));
        }
        if (draw(b, 40) == 0 && b->sent.count > 10) {
            size_t keep = b->sent.count - 1 - draw(b, 10);
            if (b->sent.at[keep].position > b->synced ||
                b->sent.at[keep].position < *needed) {
                continue;
            }
            for (uint32_t t = 0; t < 3; t++) {
                wal_release(b->wal, t, b->sent.at[keep].position);
            }
            *needed = b->sent.at[keep].position;
        }
        if (b->sent.count > RECORDS_MAX - 2) {
            return;
        }
    }
}

/* Lives that end at any step on disk, one after the other on one disk. What
 * was released is needed from the last release that a restart may see. */
START_TEST(crashes)
{
    struct bench *b = bench_new(100 + (uint64_t)_i);
    uint64_t needed = 0;
    for (int life = 0; life < 15; life++) {
        bool power = draw(b, 3) > 0;
        enum status s = try_open(b);
        if (s == ST_STOPPING) { /* died while opening */
            crash(b, true);
            continue;
        }
        ck_assert_msg(s == ST_OK, "%s: %s", status_name(s), b->err.text);
        check_replay(b, needed);
        for (size_t i = 0; i < b->sent.count; i++) {
            ck_assert_uint_le(b->sent.at[i].end, b->report.end);
        }
        sim_host_fail_at_step(b->h, 1 + draw(b, 60), power);
        live(b, &needed);
        uint64_t synced = b->synced;
        if (!sim_host_running(b->h)) {
            wal_close(b->wal);
            b->wal = NULL;
            if (!sim_host_powered(b->h)) {
                sim_host_power_on(b->h);
            }
        } else {
            crash(b, power);
        }
        sim_host_fail_at_step(b->h, draw(b, 3) == 0 ? 1 + draw(b, 8) : 0, true);
        size_t sure = 0;
        while (sure < b->sent.count && b->sent.at[sure].end <= synced) {
            sure++;
        }
        s = try_open(b);
        if (s == ST_STOPPING) {
            crash(b, true);
            opened(b);
        }
        sim_host_fail_at_step(b->h, 0, false);
        check_replay(b, needed);
        ck_assert_uint_ge(b->sent.count, sure);
        crash(b, draw(b, 2) == 0);
    }
    bench_free(b);
}
END_TEST

/* The last group, cut at every byte. */
START_TEST(torn_anywhere)
{
    struct bench *b = bench_new(5);
    const char *file = "shard-00/wal-000001.log";
    struct buf before = {0}, after = {0};
    opened(b);
    for (int i = 0; i < 5; i++) {
        append(b, 1, 30);
    }
    stop(b);
    ck_assert(sim_disk_read(b->h, file, &before));
    struct sim_disk_image *image = sim_disk_save(b->h);
    opened(b);
    for (int i = 0; i < 3; i++) {
        append(b, 1, 50);
    }
    run(b, 5 * SIM_MS);
    crash(b, false);
    ck_assert(sim_disk_read(b->h, file, &after));
    ck_assert_uint_eq(before.len, after.len);
    size_t first = 0, end = after.len;
    while (before.data[first] == after.data[first]) {
        first++;
    }
    while (before.data[end - 1] == after.data[end - 1]) {
        end--;
    }
    for (size_t cut = first; cut <= end; cut++) {
        memcpy(before.data, after.data, cut);
        sim_disk_restore(b->h, image);
        sim_disk_write(b->h, file, buf_slice(&before));
        opened(b);
        ck_assert_uint_eq(b->report.damage_count, 0);
        ck_assert_uint_ge(b->got.count, cut == end ? 8 : 5);
        for (size_t i = 0; i < b->got.count; i++) {
            ck_assert(same_entry(&b->got.at[i], &b->sent.at[i]));
        }
        crash(b, false);
    }
    sim_disk_image_free(image);
    buf_free(&before);
    buf_free(&after);
    bench_free(b);
}
END_TEST

/* ---- damage ---- */

/* Three segments, stopped cleanly. */
static struct bench *damage_bench(struct sim_disk_image **image)
{
    struct bench *b = bench_new(6);
    b->segment_size = KIB(16);
    opened(b);
    for (uint32_t i = 0; i < 60; i++) {
        append(b, i % 3, 100 + i * 4);
        run(b, SIM_MS);
    }
    stop(b);
    opened(b);
    check_replay(b, 0);
    ck_assert_uint_gt(b->report.end, 2 * KIB(16));
    stop(b);
    *image = sim_disk_save(b->h);
    return b;
}

static bool in_damage(const struct wal_report *r, const struct entry *x)
{
    for (uint32_t i = 0; i < r->damage_count; i++) {
        if (x->position < r->damage[i].to && x->end > r->damage[i].from) {
            return true;
        }
    }
    return false;
}

/* After damage: everything that came back is as it was sent, and whatever is
 * missing lies in a reported range. Returns how many are missing. */
static size_t check_damaged(struct bench *b)
{
    size_t k = 0, missing = 0;
    for (size_t i = 0; i < b->sent.count; i++) {
        if (k < b->got.count &&
            b->got.at[k].position == b->sent.at[i].position) {
            ck_assert(same_entry(&b->got.at[k], &b->sent.at[i]));
            k++;
        } else {
            ck_assert_msg(in_damage(&b->report, &b->sent.at[i]),
                          "record at %llu is gone without a word",
                          (unsigned long long)b->sent.at[i].position);
            missing++;
        }
    }
    ck_assert_uint_eq(k, b->got.count);
    return missing;
}

static void file_of(uint32_t slot, char out[64])
{
    snprintf(out, 64, "shard-00/wal-%06u.log", slot);
}

/* Every byte of every file, one flipped bit each. */
START_TEST(bit_flips)
{
    struct sim_disk_image *image;
    struct bench *b = damage_bench(&image);
    size_t found = 0;
    for (uint32_t slot = 1; slot <= 4; slot++) {
        char name[64];
        file_of(slot, name);
        for (uint64_t at = (uint64_t)_i; at < KIB(16); at += 16) {
            sim_disk_restore(b->h, image);
            if (!sim_disk_flip_bit(b->h, name, at, (unsigned)(at / 16 % 8))) {
                break;
            }
            opened(b);
            size_t missing = check_damaged(b);
            ck_assert_uint_le(missing, 1);
            found += missing;
            crash(b, false);
            /* and again, after a life on top of it */
            if (at % 400 == (uint64_t)_i) {
                opened(b);
                ck_assert_uint_eq(check_damaged(b), missing);
                crash(b, true);
            }
        }
    }
    ck_assert_uint_gt(found, 400);
    sim_disk_image_free(image);
    bench_free(b);
}
END_TEST

/* Blocks of zeros, blocks that changed places, files cut short or gone. */
START_TEST(blocks)
{
    static const uint8_t zeros[4096];
    struct sim_disk_image *image;
    struct bench *b = damage_bench(&image);
    for (uint32_t slot = 1; slot <= 4; slot++) {
        char name[64];
        file_of(slot, name);
        for (uint64_t at = 0; at < KIB(16); at += 512) {
            struct buf whole = {0};
            sim_disk_restore(b->h, image);
            if (!sim_disk_read(b->h, name, &whole)) {
                break;
            }
            size_t len = at + 4096 > KIB(16) ? (size_t)(KIB(16) - at) : 4096;
            sim_disk_overwrite(b->h, name, at, slice_make(zeros, len));
            opened(b);
            (void)check_damaged(b);
            crash(b, false);
            sim_disk_restore(b->h, image);
            sim_disk_overwrite(b->h, name, at,
                               slice_make(whole.data + 5 * 1024, 512));
            opened(b);
            (void)check_damaged(b);
            crash(b, false);
            sim_disk_restore(b->h, image);
            ck_assert(sim_disk_truncate(b->h, name, at));
            opened(b);
            (void)check_damaged(b);
            append(b, 1, 10); /* and the log goes on */
            run(b, SIM_S);
            b->sent.count--;
            crash(b, true);
            opened(b);
            ck_assert_uint_eq(b->got.at[b->got.count - 1].seq, b->seq);
            crash(b, false);
            buf_free(&whole);
        }
    }
    sim_disk_image_free(image);
    bench_free(b);
}
END_TEST

/* A whole segment in the middle is lost. */
START_TEST(lost_segment)
{
    struct bench *b = bench_new(7);
    b->segment_size = KIB(16);
    opened(b);
    for (uint32_t i = 0; i < 200; i++) {
        append(b, i % 3, 300);
        run(b, SIM_MS);
    }
    stop(b);
    struct buf blank = {0};
    memset(buf_reserve(&blank, KIB(16)), 0, KIB(16));
    blank.len = KIB(16);
    sim_disk_write(b->h, "shard-00/wal-000002.log", buf_slice(&blank));
    opened(b);
    ck_assert_uint_gt(check_damaged(b), 10);
    ck_assert_uint_eq(b->report.damage_count, 1);
    ck_assert_uint_eq(b->got.at[b->got.count - 1].seq, b->seq);
    buf_free(&blank);
    bench_free(b);
}
END_TEST

/* The last group's sync was told, then 20 ms passed: damage there is seen as
 * such. */
START_TEST(mark_proves)
{
    struct bench *b = bench_new(8);
    opened(b);
    append(b, 1, 100);
    run(b, 100 * SIM_MS);
    crash(b, true);
    uint64_t at = b->sent.at[0].position + 90;
    sim_disk_flip_bit(b->h, "shard-00/wal-000001.log", at, 3);
    opened(b);
    ck_assert_uint_eq(b->report.damage_count, 1);
    ck_assert_uint_eq(check_damaged(b), 1);
    bench_free(b);
}
END_TEST

/* A record inside a record's payload is none. */
START_TEST(nested)
{
    struct bench *b = bench_new(9);
    struct buf file = {0};
    opened(b);
    append(b, 1, 200);
    append(b, 1, 200);
    stop(b);
    ck_assert(sim_disk_read(b->h, "shard-00/wal-000001.log", &file));
    opened(b);
    for (int i = 0; i < 8; i++) {
        struct wal_record r = {.kind = WAL_EPOCH, .tablet = 1};
        r.payload = slice_make(file.data + 4096 - i, 2000);
        (void)wal_append(b->wal, &r);
    }
    run(b, SIM_S);
    uint64_t first = b->sent.at[1].end;
    crash(b, true);
    /* the head of the first of them goes: what it holds must not come */
    b->e = sim_env_new(b->h, NULL);
    for (uint64_t at = first; at < first + 400; at += 8) {
        sim_disk_flip_bit(b->h, "shard-00/wal-000001.log", at, 1);
    }
    b->got.count = 0;
    struct wal_options o = {.node = 3,
                            .store = b->store,
                            .key = {11, 22},
                            .start_counter = ++b->counter,
                            .segment_size = SEGMENT,
                            .folder = "shard-00",
                            .ctx = b};
    ck_assert_int_eq(wal_open(b->e, &o, NULL, &b->report, &b->wal, &b->err),
                     ST_OK);
    ck_assert_uint_eq(b->report.damage_count, 1);
    ck_assert_uint_ge(b->report.damage[0].to, first + 2000);
    buf_free(&file);
    bench_free(b);
}
END_TEST

/* All is released but what goes into the next segment, which does not come to
 * the disk: nothing is lost by that. */
START_TEST(released_at_a_segments_end)
{
    for (uint64_t seed = 1; seed < 300; seed++) {
        struct bench *b = bench_new(seed);
        opened(b);
        while (wal_end(b->wal) < SEGMENT - KIB(10)) {
            append(b, 1, 900);
        }
        run(b, SIM_S);
        append(b, 1, KIB(12));
        uint64_t needed = b->sent.at[b->sent.count - 1].position;
        ck_assert_uint_gt(needed, SEGMENT);
        while (b->synced < needed) { /* the seal */
            run(b, 1);
        }
        wal_release(b->wal, 1, needed);
        run(b, draw(b, 300));
        for (int i = 0; i < 3; i++) {
            crash(b, true);
            opened(b);
            check_replay(b, needed);
        }
        bench_free(b);
    }
}
END_TEST

/* ---- errors ---- */

/* R18: a failed sync or write is final, told once, and never retried. */
START_TEST(disk_errors)
{
    for (uint32_t n = 1; n < 40; n++) {
        struct bench *b = bench_new(n);
        b->segment_size = KIB(16);
        opened(b);
        run(b, SIM_S);
        if (_i == 0) {
            sim_disk_fail_sync(b->h, n);
        } else {
            sim_disk_fail_write(b->h, n);
        }
        uint64_t needed = 0;
        for (int i = 0; i < 80 && b->failed == 0; i++) {
            append(b, 1, 700);
            run(b, SIM_MS);
            needed = b->synced;
            wal_release(b->wal, 1, needed);
        }
        run(b, SIM_S);
        ck_assert_int_le(b->failed, 1);
        if (b->failed == 1) {
            ck_assert_uint_eq(b->synced, b->synced_at_failure);
            ck_assert(!wal_has_room(b->wal, 1));
        } else {
            ck_assert_uint_gt(n, 20); /* it was not reached */
        }
        uint64_t synced = b->synced, kept = 0;
        for (size_t i = 0; i < b->sent.count; i++) {
            kept +=
                b->sent.at[i].position >= needed && b->sent.at[i].end <= synced;
        }
        crash(b, n % 2 == 0);
        opened(b);
        ck_assert(b->got.count > 0 || kept == 0);
        check_replay(b, needed);
        ck_assert_uint_ge(b->report.end, synced);
        bench_free(b);
    }
}
END_TEST

/* A full disk is told before, costs nothing, and passes by itself. */
START_TEST(full_disk)
{
    struct bench *b = bench_new(10);
    int refused = 0;
    opened(b);
    run(b, SIM_S);
    sim_disk_limit(b->h, sim_disk_used(b->h) + SEGMENT);
    for (int i = 0; i < 1000; i++) {
        enum status s = wal_room(b->wal, 700 + WAL_RECORD_OVERHEAD);
        if (s == ST_OK) {
            append(b, 1, 700);
        } else {
            ck_assert_int_eq(s, ST_NO_SPACE);
            refused++;
            if (refused % 3 == 0) {
                append(b, 1, 0); /* commits and epochs still go */
            }
        }
        run(b, SIM_MS);
        if (refused == 100) {
            break;
        }
    }
    ck_assert_int_eq(refused, 100);
    ck_assert_int_eq(b->failed, 0);
    run(b, 50 * SIM_MS); /* a COMMIT takes its time */
    ck_assert_uint_eq(wal_synced(b->wal), wal_end(b->wal));
    sim_disk_limit(b->h, 0);
    run(b, 3 * SIM_S);
    ck_assert_int_eq(wal_room(b->wal, 700 + WAL_RECORD_OVERHEAD), ST_OK);
    append(b, 1, 700);
    run(b, SIM_S);
    stop(b);
    opened(b);
    check_replay(b, 0);
    bench_free(b);
}
END_TEST

/* A hung disk shows in the age of the oldest pending sync (R18). */
START_TEST(hung_disk)
{
    struct bench *b = bench_new(11);
    opened(b);
    run(b, SIM_S);
    sim_disk_hang(b->h, true);
    append(b, 1, 100);
    run(b, 2 * SIM_S);
    ck_assert_int_gt(wal_pending_age_us(b->wal), 1900 * SIM_MS);
    sim_disk_hang(b->h, false);
    run(b, SIM_S);
    ck_assert_int_eq(wal_pending_age_us(b->wal), 0);
    ck_assert_uint_ge(b->synced, b->sent.at[0].end);
    bench_free(b);
}
END_TEST

/* Closing waits inside for what is under way; nobody hears of it. */
START_TEST(closing)
{
    for (int64_t us = 0; us < 400; us += 7) {
        struct bench *b = bench_new(13);
        b->segment_size = KIB(16);
        opened(b);
        for (int i = 0; i < 40; i++) {
            append(b, 1, 900);
        }
        run(b, us);
        uint64_t synced = b->synced;
        wal_close(b->wal);
        b->wal = NULL;
        run(b, SIM_S);
        ck_assert_uint_eq(b->synced, synced);
        bench_free(b);
    }
}
END_TEST

START_TEST(foreign)
{
    struct bench *b = bench_new(12);
    opened(b);
    append(b, 1, 100);
    run(b, SIM_S);
    crash(b, false);
    b->store.b[3] ^= 1;
    ck_assert_int_eq(try_open(b), ST_CORRUPT);
    ck_assert_ptr_nonnull(strstr(b->err.text, "another store"));
    crash(b, false);
    b->store.b[3] ^= 1;
    opened(b);
    check_replay(b, 0);
    bench_free(b);
}
END_TEST

/* Positions of a cut tail are used again, records of before are not. */
START_TEST(behind_a_cut)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct bench *b = bench_new(1000 + seed);
        uint64_t cut;
        opened(b);
        append(b, 1, 100);
        run(b, SIM_S);
        for (int i = 0; i < 30; i++) {
            append(b, 1, 600);
        }
        run(b, 100); /* being written */
        crash(b, true);
        opened(b);
        check_replay(b, 0);
        cut = b->report.end;
        append(b, 1, 600);
        run(b, SIM_S);
        crash(b, true);
        opened(b);
        size_t count = b->sent.count;
        check_replay(b, 0);
        ck_assert_uint_eq(b->sent.count, count);
        ck_assert_uint_ge(b->report.end, cut);
        bench_free(b);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wal");
    TCase *c = tcase_create("wal");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, round_trip);
    tcase_add_test(c, group_commit);
    tcase_add_test(c, commits_ride);
    tcase_add_test(c, commits_trickle);
    tcase_add_test(c, reuse);
    tcase_add_test(c, reading_back);
    tcase_add_loop_test(c, crashes, 0, 40);
    tcase_add_test(c, torn_anywhere);
    tcase_add_loop_test(c, bit_flips, 0, 2);
    tcase_add_test(c, blocks);
    tcase_add_test(c, lost_segment);
    tcase_add_test(c, mark_proves);
    tcase_add_test(c, nested);
    tcase_add_test(c, released_at_a_segments_end);
    tcase_add_loop_test(c, disk_errors, 0, 2);
    tcase_add_test(c, full_disk);
    tcase_add_test(c, hung_disk);
    tcase_add_test(c, closing);
    tcase_add_test(c, foreign);
    tcase_add_test(c, behind_a_cut);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
