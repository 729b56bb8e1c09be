/*
 * Room in the log while the disk is short of it: what is refused, from where
 * on and how, what is still taken, and that it passes by itself.
 */
#include "storage/wal_private.h"
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT KIB(64)
#define SMALL 700 /* a payload */
#define NEED (SMALL + WAL_RECORD_OVERHEAD)

struct bench {
    struct world *w;
    struct sim_host *h;
    struct env *e;
    struct wal *wal;
    uint64_t seq;
    unsigned told; /* calls of on_full */
    bool full, stopped;
    enum status stop_status;
};

static struct bench b;

static void on_full(void *ctx, bool full)
{
    ck_assert_ptr_eq(ctx, &b);
    ck_assert(full != b.full);
    ck_assert(full == wal_is_full(b.wal));
    b.full = full;
    b.told++;
}

static void on_synced(void *ctx, uint64_t position)
{
    (void)ctx;
    (void)position;
}

static void on_failed(void *ctx, enum status why)
{
    (void)ctx;
    ck_abort_msg("%s", status_name(why));
}

static void on_stopped(void *ctx, enum status s)
{
    (void)ctx;
    b.stopped = true;
    b.stop_status = s;
}

static enum status no_replay(void *ctx, const struct wal_record *r)
{
    (void)ctx;
    (void)r;
    return ST_OK;
}

static void run(int64_t us)
{
    world_run_for(b.w, us);
}

static void open_log(void)
{
    struct wal_report report;
    struct err err = {""};
    b.e = sim_env_new(b.h, NULL);
    struct wal_options o = {.node = 3,
                            .store = {{5}},
                            .key = {11, 22},
                            .start_counter = ++b.seq,
                            .segment_size = SEGMENT,
                            .folder = "shard-00",
                            .on_synced = on_synced,
                            .on_failed = on_failed,
                            .on_full = on_full,
                            .ctx = &b};
    b.full = false;
    ck_assert_int_eq(b.e->ops->dir_make(b.e, "shard-00"), ST_OK);
    ck_assert_int_eq(wal_open(b.e, &o, no_replay, &report, &b.wal, &err),
                     ST_OK);
    run(SIM_S);
    ck_assert_int_eq(wal_room(b.wal, NEED), ST_OK);
}

static void begin(void)
{
    memset(&b, 0, sizeof(b));
    b.w = world_new(7);
    b.h = sim_host_new(b.w, "a");
    open_log();
}

static void end(void)
{
    sim_host_kill(b.h);
    wal_close(b.wal);
    world_free(b.w);
}

static void append(uint32_t len)
{
    static uint8_t junk[SEGMENT];
    uint64_t seq = ++b.seq;
    struct wal_record r = {.kind = WAL_ENTRY,
                           .tablet = 1,
                           .name = {1, seq},
                           .previous = {1, seq - 1},
                           .payload = slice_make(junk, len)};
    (void)wal_append(b.wal, &r);
}

/* From now on the disk takes nothing more. */
static void fill_disk(void)
{
    sim_disk_limit(b.h, sim_disk_used(b.h) + 1);
}

/* Room in what the disk has given, as said in wal_room.c, counted again. */
static uint64_t left(void)
{
    uint64_t room = SEGMENT - 2 * WAL_BLOCK - WAL_RECORD_HEAD;
    ck_assert(!wal_waits(b.wal));
    return wal_tail_room(b.wal) + b.wal->spare.count * room;
}

static uint64_t part(unsigned n)
{
    return (SEGMENT - 2 * WAL_BLOCK - WAL_RECORD_HEAD) / n;
}

/* Commands until they are refused. */
static enum status commands(void)
{
    enum status s;
    while ((s = wal_room(b.wal, NEED)) == ST_OK) {
        append(SMALL);
        run(SIM_MS);
        ck_assert_uint_lt(b.seq, 10000);
    }
    return s;
}

static void check_all_synced(void)
{
    run(SIM_S);
    ck_assert_uint_eq(wal_synced(b.wal), wal_end(b.wal));
    ck_assert_int_eq(wal_pending_age_us(b.wal), 0);
}

/* ---- full ---- */

/* Half a segment stays for what others send and what deletes, a quarter for
 * what others send, an eighth for the log's own; all that was taken reaches the
 * disk, at every step. */
START_TEST(borders)
{
    fill_disk();
    if (_i == 0) {
        ck_assert_int_eq(commands(), ST_NO_SPACE);
        ck_assert_uint_lt(left(), part(2) + NEED);
        ck_assert_uint_ge(left(), part(2) - SMALL);
    }
    while (_i == 1 && !wal_is_full(b.wal)) { /* what others send */
        ck_assert_uint_ge(left(), part(2));
        ck_assert(wal_has_room(b.wal, NEED));
        append(SMALL);
        run(SIM_MS);
    }
    ck_assert(wal_is_full(b.wal));
    ck_assert_uint_eq(b.told, 1);
    check_all_synced();
    while (_i == 0 && wal_has_room_to_free(b.wal, NEED)) {
        ck_assert_uint_ge(left(), part(4));
        append(SMALL);
        run(SIM_MS);
    }
    ck_assert(_i != 0 || left() < part(4) + NEED);
    while (wal_has_room(b.wal, NEED)) {
        append(SMALL);
        run(SIM_MS);
    }
    ck_assert(!wal_has_room_to_free(b.wal, 1));
    ck_assert_uint_lt(left(), part(8) + NEED);
    ck_assert_uint_ge(left(), part(8));
    check_all_synced();
    ck_assert_int_eq(wal_room(b.wal, 1), ST_NO_SPACE);
    for (int i = 0; i < 20; i++) {
        append(200); /* epochs */
    }
    check_all_synced();
    ck_assert_uint_eq(b.told, 1);
}
END_TEST

/* It tries again by itself; then commands are taken, and it says so. */
START_TEST(space_returns)
{
    for (int i = 1; i <= 3; i++) {
        uint64_t made = b.wal->stats.segments_made;
        fill_disk();
        ck_assert_int_eq(commands(), ST_NO_SPACE);
        ck_assert(b.full);
        run(5 * SIM_S);
        ck_assert_int_eq(wal_room(b.wal, 1), ST_NO_SPACE);
        ck_assert_uint_eq(b.wal->stats.segments_made, made);
        sim_disk_limit(b.h, 0);
        run(2 * SIM_S);
        ck_assert(!b.full);
        ck_assert_uint_eq(b.told, 2 * (unsigned)i);
        ck_assert_int_eq(wal_room(b.wal, NEED), ST_OK);
        check_all_synced();
    }
}
END_TEST

/* Segments that nobody needs any more are room, too. */
START_TEST(room_by_release)
{
    for (int i = 0; i < 200; i++) {
        append(SMALL);
        run(SIM_MS);
    }
    fill_disk();
    ck_assert_int_eq(commands(), ST_NO_SPACE);
    ck_assert(b.full);
    wal_release(b.wal, 1, wal_end(b.wal));
    run(SIM_S);
    ck_assert(!b.full);
    ck_assert_int_eq(wal_room(b.wal, NEED), ST_OK);
}
END_TEST

/* One large command that does not fit any more: full for all, not for it
 * alone, so that it is not refused for ever. */
START_TEST(large_refused)
{
    fill_disk();
    while (left() > part(1)) {
        ck_assert_int_eq(wal_room(b.wal, NEED), ST_OK);
        append(SMALL);
        run(SIM_MS);
    }
    ck_assert(!b.full);
    ck_assert_int_eq(wal_room(b.wal, part(1) - NEED), ST_NO_SPACE);
    ck_assert(b.full);
    ck_assert_int_eq(wal_room(b.wal, NEED), ST_NO_SPACE);
    append(SMALL);
    ck_assert(b.full);
    sim_disk_limit(b.h, 0);
    run(3 * SIM_S);
    ck_assert(!b.full);
    ck_assert_int_eq(wal_room(b.wal, part(1) - NEED), ST_OK);
}
END_TEST

static void find_temporary(void *ctx, const char *name, uint64_t size)
{
    (void)size;
    if (strstr(name, "tmp") != NULL) {
        *(bool *)ctx = true;
    }
}

/* The disk fills while a segment is being made: what was written of it is
 * given back, and commands are refused in time all the same. */
START_TEST(full_in_the_making)
{
    uint64_t step = (uint64_t)_i * KIB(4) + 1;
    bool found = false;
    while (!b.wal->maker.busy) {
        append(SMALL);
        run(10);
    }
    /* others took what was free when it began */
    sim_disk_limit(b.h, sim_disk_used(b.h) + step);
    run(SIM_S / 2);
    sim_disk_each(b.h, find_temporary, &found);
    ck_assert(!found || !b.wal->maker.no_space);
    if (b.wal->maker.no_space) {
        ck_assert_int_eq(commands(), ST_NO_SPACE);
        check_all_synced();
    }
    sim_disk_limit(b.h, 0);
    run(2 * SIM_S);
    ck_assert_int_eq(wal_room(b.wal, NEED), ST_OK);
    ck_assert(!b.full);
}
END_TEST

/* A full disk does not look like a dead one (R18), even if the log's own
 * records find no room any more; and a stop says what was not written. */
START_TEST(beyond_the_reserve)
{
    fill_disk();
    ck_assert_int_eq(commands(), ST_NO_SPACE);
    while (!wal_waits(b.wal)) {
        append(SMALL);
        run(SIM_MS);
    }
    run(3 * SIM_S);
    ck_assert_uint_lt(wal_synced(b.wal), wal_end(b.wal));
    ck_assert_int_eq(wal_pending_age_us(b.wal), 0);
    ck_assert(!wal_has_room(b.wal, 1));
    ck_assert_int_eq(wal_room(b.wal, 1), ST_NO_SPACE);
    if (_i == 0) {
        sim_disk_limit(b.h, 0);
        run(2 * SIM_S);
        check_all_synced();
        ck_assert_int_eq(wal_room(b.wal, NEED), ST_OK);
    } else {
        wal_stop(b.wal, on_stopped, &b);
        run(SIM_S);
        ck_assert(b.stopped);
        ck_assert_int_eq(b.stop_status, ST_NO_SPACE);
    }
}
END_TEST

/* ---- not full ---- */

/* At any pace that lets a segment be made while one is filled, nothing is put
 * off. */
START_TEST(steady)
{
    for (int i = 0; i < 4000; i++) {
        ck_assert_int_eq(wal_room(b.wal, NEED), ST_OK);
        append(SMALL);
        run(300);
        if (_i == 0) {
            wal_release(b.wal, 1, wal_synced(b.wal));
        }
    }
    ck_assert_uint_eq(b.told, 0);
}
END_TEST

/* A disk that gives segments late: put off, not refused; what others send is
 * taken. */
START_TEST(slow_segments)
{
    sim_disk_hang(b.h, true);
    ck_assert_int_eq(commands(), ST_BUSY);
    ck_assert(wal_has_room(b.wal, NEED));
    ck_assert(!b.full);
    run(2 * SIM_S);
    ck_assert_int_eq(wal_room(b.wal, NEED), ST_BUSY);
    ck_assert_int_gt(wal_pending_age_us(b.wal), SIM_S); /* R18 */
    sim_disk_hang(b.h, false);
    run(SIM_S);
    ck_assert_int_eq(wal_room(b.wal, NEED), ST_OK);
    ck_assert_uint_eq(b.told, 0);
}
END_TEST

/* A command as large as a segment may need two spare ones; they are made for
 * it. */
START_TEST(large)
{
    size_t most = part(1);
    while (wal_tail_room(b.wal) > part(1) - 2 * NEED) {
        append(SMALL);
        run(SIM_MS);
    }
    ck_assert_uint_eq(b.wal->spare.count, 1);
    ck_assert_int_eq(wal_room(b.wal, most), ST_BUSY);
    run(SIM_S);
    ck_assert_uint_eq(b.wal->spare.count, 2);
    ck_assert_int_eq(wal_room(b.wal, most), ST_OK);
    append((uint32_t)(most - WAL_RECORD_OVERHEAD));
    check_all_synced();
    ck_assert_int_eq(wal_room(b.wal, most), ST_OK);
}
END_TEST

START_TEST(too_much_waiting)
{
    sim_disk_hang(b.h, true);
    uint32_t len = KIB(40);
    while (b.wal->queued < WAL_QUEUE_MAX - KIB(64)) {
        ck_assert(wal_has_room(b.wal, len));
        append(len);
    }
    ck_assert(!wal_has_room(b.wal, KIB(64)));
    ck_assert_int_eq(wal_room(b.wal, KIB(64)), ST_BUSY);
    sim_disk_hang(b.h, false);
    run(60 * SIM_S);
    check_all_synced();
    wal_stop(b.wal, on_stopped, &b);
    ck_assert_int_eq(wal_room(b.wal, 1), ST_STOPPING);
    ck_assert(!wal_has_room(b.wal, 1));
    run(SIM_S);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wal_room");
    TCase *c = tcase_create("room");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_loop_test(c, borders, 0, 2);
    tcase_add_test(c, space_returns);
    tcase_add_test(c, room_by_release);
    tcase_add_test(c, large_refused);
    tcase_add_loop_test(c, full_in_the_making, 0, 20);
    tcase_add_loop_test(c, beyond_the_reserve, 0, 2);
    tcase_add_loop_test(c, steady, 0, 2);
    tcase_add_test(c, slow_segments);
    tcase_add_test(c, large);
    tcase_add_test(c, too_much_waiting);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
