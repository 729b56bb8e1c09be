/*
 * What the scrub is made of, on a simulated disk: a state in memory that rots,
 * a checkpoint and a log damaged at any byte while they are in use.
 */
#include "storage/checkpoint_verify.h"
#include "storage/state_private.h"
#include "storage/state_verify.h"
#include "storage/wal_scrub.h"
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER "shard-00"
#define SEGMENT KIB(64)

static struct world *world;
static struct sim_host *host;
static struct env *env;

static void begin(void)
{
    world = world_new(3);
    host = sim_host_new(world, "a");
    env = sim_env_new(host, NULL);
    ck_assert_int_eq(env->ops->dir_make(env, FOLDER), ST_OK);
}

static void end(void)
{
    world_free(world);
}

/* CELLS cells; each third has its value on disk. */
static struct state *make_state(uint32_t cells)
{
    struct state *s = state_new();
    for (uint32_t i = 0; i < cells; i++) {
        char row[16], value[80];
        snprintf(row, sizeof(row), "%06u", i);
        snprintf(value, sizeof(value), "the value of cell %u", i);
        struct cell cell = {.partition = slice_of("p"),
                            .row = slice_of(row),
                            .value = slice_of(value)};
        struct place place = {.tag = VALUE_LOG,
                              .position = 4096 + i * 8192,
                              .len = 5000,
                              .digest = {{(uint8_t)i}}};
        ck_assert_int_eq(state_load_cell(s, &cell, i % 3 == 0 ? &place : NULL),
                         ST_OK);
    }
    state_load_done(s, (struct name){1, 1});
    return s;
}

/* ---- memory ---- */

static uint32_t places;

static void on_place(void *ctx, struct slice key, const struct place *p)
{
    ck_assert(state_has_place(ctx, key, p));
    places++;
}

static bool sound(struct state *s)
{
    struct state_verify *v = state_verify_new_take(state_snapshot(s));
    places = 0;
    while (state_verify_on(v, 1000, on_place, s)) {
    }
    bool is = state_verify_sound(v);
    state_verify_free(v);
    return is;
}

/* Flips a bit of what the cell of ROW has in memory. */
static void rot(struct state *s, const char *row, size_t byte)
{
    struct key k;
    struct tree_value tv;
    key_encode(&k, slice_of("p"), slice_of(row), slice_of(""));
    ck_assert(tree_get(s->cells.tree, key_slice(&k), &tv));
    ck_assert_uint_lt(byte, tv.bytes.len);
    ((uint8_t *)tv.bytes.data)[byte] ^= 16;
}

START_TEST(a_sound_state_is_sound)
{
    struct state *s = make_state(1000);
    ck_assert(sound(s));
    ck_assert_uint_eq(places, 334);
    state_free(s);
    s = state_new();
    ck_assert(sound(s));
    state_free(s);
}
END_TEST

START_TEST(memory_that_rots_shows)
{
    struct state *s = make_state(500);
    rot(s, "000301", 3); /* a value */
    ck_assert(!sound(s));
    rot(s, "000301", 3);
    ck_assert(sound(s));
    for (size_t i = 0; i < 16; i++) { /* a place's digest, at its end */
        struct key k;
        struct tree_value tv;
        key_encode(&k, slice_of("p"), slice_of("000300"), slice_of(""));
        ck_assert(tree_get(s->cells.tree, key_slice(&k), &tv));
        rot(s, "000300", tv.bytes.len - 1 - i);
        ck_assert(!sound(s));
        rot(s, "000300", tv.bytes.len - 1 - i);
    }
    s->cells.digest.high ^= 1; /* the sum itself */
    ck_assert(!sound(s));
    state_free(s);
}
END_TEST

/* ---- files ---- */

struct reading {
    bool done;
    enum status status;
};

static void on_read(struct env_io *io, enum status s)
{
    struct reading *r = io->data;
    r->done = true;
    r->status = s;
}

static bool unread(void *ctx)
{
    return !((struct reading *)ctx)->done;
}

static enum status await(struct reading *r)
{
    ck_assert(world_run_while(world, unread, r, 1000 * SIM_MS));
    r->done = false;
    return r->status;
}

static char file[CHECKPOINT_NAME_MAX];
static bool written;

static void on_written(void *ctx, enum status s, const char *name)
{
    (void)ctx;
    ck_assert_int_eq(s, ST_OK);
    snprintf(file, sizeof(file), "%s", name);
    written = true;
}

static void write_checkpoint(struct state *s)
{
    struct checkpoint_job j = {.env = env,
                               .folder = FOLDER,
                               .ids = {{{1}}, {{2}}, 3, 7},
                               .config = slice_of("configuration"),
                               .done = on_written};
    written = false;
    (void)checkpoint_write_take(&j, state_snapshot(s));
    world_run_for(world, 1000 * SIM_MS);
    ck_assert(written);
}

static enum status verify_file(void)
{
    struct reading r = {0};
    struct env_io io = {.done = on_read, .data = &r};
    enum status s;
    uint64_t at;
    struct checkpoint_verify *v = checkpoint_verify_new(env, FOLDER, file, &s);
    ck_assert_ptr_nonnull(v);
    do {
        ck_assert_uint_gt(checkpoint_verify_ask(v, &io), 0);
        s = checkpoint_verify_take(v, await(&r), &at);
    } while (s == ST_MORE);
    checkpoint_verify_free(v);
    return s;
}

START_TEST(a_checkpoint_damaged_anywhere)
{
    struct state *s = make_state(_i == 0 ? 40 : 5000);
    char path[2 * CHECKPOINT_NAME_MAX];
    struct buf bytes = {0};
    write_checkpoint(s);
    snprintf(path, sizeof(path), "%s/%s", FOLDER, file);
    ck_assert(sim_disk_read(host, path, &bytes));
    ck_assert_int_eq(verify_file(), ST_OK);
    uint64_t step = _i == 0 ? 1 : 1009;
    for (uint64_t at = 8; at < bytes.len; at += step) {
        if (at >= 8 && at < 12) {
            continue; /* the format: one that is not ours is never there */
        }
        ck_assert(sim_disk_flip_bit(host, path, at, at % 8));
        ck_assert_msg(verify_file() == ST_CORRUPT, "byte %llu of %zu",
                      (unsigned long long)at, bytes.len);
        ck_assert(sim_disk_flip_bit(host, path, at, at % 8));
    }
    ck_assert(sim_disk_truncate(host, path, bytes.len - 1));
    ck_assert_int_eq(verify_file(), ST_CORRUPT);
    buf_free(&bytes);
    state_free(s);
}
END_TEST

/* ---- the log ---- */

static struct wal *wal;

static enum status on_replay(void *ctx, const struct wal_record *r)
{
    (void)ctx;
    (void)r;
    return ST_OK;
}

static void on_synced(void *ctx, uint64_t position)
{
    (void)ctx;
    (void)position;
}

static void on_failed(void *ctx, enum status s)
{
    (void)ctx;
    ck_abort_msg("%s", status_name(s));
}

static uint64_t positions[400];

static void open_log(uint32_t records)
{
    static uint8_t junk[1000];
    struct wal_options o = {.node = 3,
                            .store = {{2}},
                            .key = {11, 12},
                            .start_counter = 1,
                            .segment_size = SEGMENT,
                            .folder = FOLDER,
                            .on_synced = on_synced,
                            .on_failed = on_failed};
    struct wal_report report;
    struct err err;
    memset(junk, 0x5a, sizeof(junk));
    ck_assert_int_eq(wal_open(env, &o, on_replay, &report, &wal, &err), ST_OK);
    for (uint32_t i = 0; i < records; i++) {
        struct wal_record r = {.kind = WAL_ENTRY,
                               .tablet = 1,
                               .name = {1, i + 1},
                               .previous = {1, i},
                               .payload = slice_make(junk, 100 + i % 900)};
        (void)wal_append(wal, &r);
        positions[i] = r.position;
        world_run_for(world, 2 * SIM_MS);
    }
    world_run_for(world, 200 * SIM_MS);
    ck_assert_uint_eq(wal_synced(wal), wal_end(wal));
}

/* The first damaged range; false if there is none. */
static bool scrub_log(uint64_t *from, uint64_t *to)
{
    struct reading r = {0};
    struct env_io io = {.done = on_read, .data = &r};
    struct wal_scrub *s = wal_scrub_new(wal);
    bool found = false;
    uint64_t bytes = 0, piece;
    while ((piece = wal_scrub_ask(s, &io)) > 0) {
        uint64_t a, b;
        bytes += piece;
        ck_assert_uint_lt(bytes, MIB(64)); /* it has an end */
        if (wal_scrub_take(s, await(&r), &a, &b) == ST_CORRUPT && !found) {
            found = true;
            *from = a;
            *to = b;
        }
    }
    wal_scrub_free(s);
    return found;
}

/* Where POSITION is on the disk; false: nowhere. */
struct finding {
    uint64_t offset;
    char name[64];
};

static void find_file(void *ctx, const char *name, uint64_t size)
{
    struct finding *f = ctx;
    unsigned slot;
    if (sscanf(name, FOLDER "/wal-%6u.log", &slot) == 1 && slot == 1 &&
        size == SEGMENT) {
        snprintf(f->name, sizeof(f->name), "%s", name);
    }
}

START_TEST(a_log_damaged_anywhere)
{
    uint64_t from, to;
    struct finding f = {0};
    open_log(300);
    sim_disk_each(host, find_file, &f);
    ck_assert_str_ne(f.name, "");
    ck_assert(!scrub_log(&from, &to));
    for (uint32_t i = 0; i < 60; i++) {
        uint64_t at = positions[i] + i * 13 % 180; /* position is offset */
        ck_assert(sim_disk_flip_bit(host, f.name, at, i % 8));
        bool found = scrub_log(&from, &to);
        bool padding = at >= positions[i] + 80 + 100 + i % 900;
        if (!padding) {
            ck_assert_msg(found, "record %u at %llu", i,
                          (unsigned long long)at);
            ck_assert_uint_eq(from, positions[i]);
            ck_assert_uint_eq(to, positions[i + 1]);
        }
        ck_assert(sim_disk_flip_bit(host, f.name, at, i % 8));
    }
    wal_close(wal);
}
END_TEST

/* Several records, and the seal with them. */
START_TEST(a_log_with_zeroed_blocks)
{
    static const uint8_t zeros[3 * 4096];
    uint64_t from, to;
    struct finding f = {0};
    open_log(300);
    sim_disk_each(host, find_file, &f);
    ck_assert(sim_disk_overwrite(host, f.name, 8192,
                                 slice_make(zeros, sizeof(zeros))));
    ck_assert(scrub_log(&from, &to));
    ck_assert_uint_le(from, 8192);
    ck_assert_uint_ge(to, 8192 + sizeof(zeros));
    ck_assert_uint_lt(to, 8192 + sizeof(zeros) + 1100);
    ck_assert(sim_disk_overwrite(host, f.name, SEGMENT - 4 * 4096,
                                 slice_make(zeros, sizeof(zeros))));
    ck_assert(sim_disk_truncate(host, f.name, 4096 + 100));
    ck_assert(scrub_log(&from, &to));
    ck_assert_uint_le(from, positions[1]);
    ck_assert_uint_ge(to, SEGMENT - 4096);
    wal_close(wal);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("scrub");
    TCase *c = tcase_create("scrub");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, a_sound_state_is_sound);
    tcase_add_test(c, memory_that_rots_shows);
    tcase_add_loop_test(c, a_checkpoint_damaged_anywhere, 0, 2);
    tcase_add_test(c, a_log_damaged_anywhere);
    tcase_add_test(c, a_log_with_zeroed_blocks);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
