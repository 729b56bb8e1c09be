/*
 * A primary and full disks: commands are refused before they are in the log,
 * never after; learners without room are left alone.
 */
#include "tests/unit/replica_rig.h"

#include <check.h>
#include <stdlib.h>

#define TABLET 7

static struct rig g;
static int cookies[16];
static size_t room_left; /* what host.room() has */

static enum status room(void *ctx, size_t bytes, enum need need)
{
    (void)ctx;
    size_t reserve = need == NEED_SETTLES ? 1000 : need == NEED_FREES ? 600 : 0;
    return bytes <= room_left + reserve ? ST_OK : ST_NO_SPACE;
}

static void begin(void)
{
    rig_start(&g, NONE);
    g.host.room = room;
    room_left = 100000;
}

static void end(void)
{
    rig_stop(&g);
}

static void echo(uint32_t from, uint64_t epoch, uint8_t full)
{
    struct tablet_epoch t = {TABLET, epoch};
    struct msg_echo m = {.stamp_us = ++g.now_us,
                         .full = full,
                         .tablets = &t,
                         .tablets_count = 1};
    beacon_table_on_echo(g.host.beacons, rig_node(from), g.speaks[from], &m,
                         g.now_us);
}

/* Open as primary of IN_SYNC, in epoch 1. */
static void open_primary(const char *in_sync, const char *learners)
{
    rig_enter(&g, 1, 1, in_sync, learners);
    for (const char *c = in_sync; *c != '\0'; c++) {
        if (*c != '1') {
            rig_tail(&g, (uint32_t)(*c - '0'), 1, NONE, 0);
        }
    }
    g.now_us += LEASE_STRETCHED_US;
    rig_tick(&g);
    ck_assert(replica_is_open(g.core));
    g.host.coordinator_us = g.now_us;
}

static void command(void *cookie, enum need need)
{
    struct event e = {.kind = EVENT_COMMAND};
    e.u.command.cookie = cookie;
    e.u.command.need = need;
    rig_step(&g, &e);
}

static void assert_refused(void *cookie, enum status why)
{
    uint64_t last = rig_report(&g).last.seq;
    command(cookie, NEED_ROOM);
    ck_assert_uint_eq(rig_effects(&g, FX_APPEND), 0);
    ck_assert_uint_eq(rig_sent(&g, MSG_PREPARE), 0);
    ck_assert_ptr_eq(rig_effect(&g, FX_REPLY)->cookie, cookie);
    ck_assert_int_eq(rig_effect(&g, FX_REPLY)->status, why);
    ck_assert_uint_eq(rig_report(&g).last.seq, last);
}

static void assert_taken(void *cookie)
{
    command(cookie, NEED_ROOM);
    ck_assert_uint_eq(rig_effects(&g, FX_APPEND), 1);
    ck_assert_uint_eq(rig_effects(&g, FX_REPLY), 0);
}

START_TEST(own_disk)
{
    open_primary("123", "");
    assert_taken(&cookies[0]);
    room_left = 0;
    assert_refused(&cookies[1], ST_NO_SPACE);
    room_left = WAL_RECORD_OVERHEAD;
    assert_taken(&cookies[1]);
}
END_TEST

START_TEST(a_members_disk)
{
    open_primary("123", "");
    echo(2, 1, DISK_HAS_ROOM);
    echo(3, 1, DISK_HAS_ROOM);
    assert_taken(&cookies[0]);
    echo(3, 1, DISK_FULL);
    assert_refused(&cookies[1], ST_NO_SPACE);
    echo(2, 1, DISK_HAS_ROOM); /* says nothing of 3 */
    assert_refused(&cookies[1], ST_NO_SPACE);
    echo(3, 1, DISK_HAS_ROOM);
    assert_taken(&cookies[1]);
    /* what was taken before ends as ever */
    rig_sync(&g);
    rig_acked(&g, 2, 1, NAME(1, 2));
    rig_acked(&g, 3, 1, NAME(1, 2));
    ck_assert_uint_eq(rig_effects(&g, FX_REPLY), 2);
}
END_TEST

/* Neither another process of that store nor an echo from before counts. */
START_TEST(whose_echo)
{
    open_primary("123", "");
    g.speaks[3].counter++;
    echo(3, 1, DISK_FULL);
    g.speaks[3].counter--;
    assert_taken(&cookies[0]);
    struct tablet_epoch t = {TABLET, 1};
    struct msg_echo late = {.stamp_us = g.now_us - 5000,
                            .full = 1,
                            .tablets = &t,
                            .tablets_count = 1};
    echo(3, 1, DISK_HAS_ROOM);
    beacon_table_on_echo(g.host.beacons, rig_node(3), g.speaks[3], &late,
                         g.now_us);
    assert_taken(&cookies[1]);
}
END_TEST

/* What settles an unknown outcome takes of the reserve. */
START_TEST(settling)
{
    open_primary("123", "");
    echo(3, 1, DISK_FULL);
    room_left = 0;
    assert_refused(&cookies[0], ST_NO_SPACE);
    command(&cookies[1], NEED_SETTLES);
    ck_assert_uint_eq(rig_effects(&g, FX_APPEND), 1);
    ck_assert_uint_eq(rig_sent(&g, MSG_PREPARE), 2);
}
END_TEST

/* What deletes, too, as far as there is some: here, and with the others. */
START_TEST(deleting)
{
    open_primary("123", "");
    echo(3, 1, DISK_FULL);
    room_left = 0;
    assert_refused(&cookies[0], ST_NO_SPACE);
    command(&cookies[1], NEED_FREES);
    ck_assert_uint_eq(rig_effects(&g, FX_APPEND), 1);
    ck_assert_uint_eq(rig_sent(&g, MSG_PREPARE), 2);
    echo(3, 1, DISK_SPENT);
    command(&cookies[2], NEED_FREES);
    ck_assert_int_eq(rig_effect(&g, FX_REPLY)->status, ST_NO_SPACE);
    command(&cookies[3], NEED_SETTLES);
    ck_assert_uint_eq(rig_effects(&g, FX_APPEND), 1);
}
END_TEST

/* What was held while it gathered is counted together: one step's effects are
 * not in the log yet when the next command is looked at. */
START_TEST(held_commands)
{
    rig_enter(&g, 1, 1, "123", "");
    for (int i = 0; i < 5; i++) {
        command(&cookies[i], NEED_ROOM);
        ck_assert_uint_eq(rig_effects(&g, FX_REPLY), 0);
    }
    room_left = 3 * WAL_RECORD_OVERHEAD;
    rig_tail(&g, 2, 1, NONE, 0);
    rig_tail(&g, 3, 1, NONE, 0);
    g.now_us += LEASE_STRETCHED_US;
    rig_tick(&g);
    ck_assert(replica_is_open(g.core));
    ck_assert_uint_eq(rig_effects(&g, FX_APPEND), 3);
    ck_assert_uint_eq(rig_effects(&g, FX_REPLY), 2);
    ck_assert_ptr_eq(rig_effect(&g, FX_REPLY)->cookie, &cookies[4]);
    ck_assert_int_eq(rig_effect(&g, FX_REPLY)->status, ST_NO_SPACE);
}
END_TEST

/* Nobody waits for a learner: one without room gets nothing and does not join,
 * until it has some. */
START_TEST(a_learners_disk)
{
    open_primary("12", "3");
    rig_tail(&g, 3, 1, NONE, 0);
    echo(2, 1, DISK_HAS_ROOM);
    echo(3, 1, DISK_FULL);
    command(&cookies[0], NEED_ROOM);
    ck_assert_uint_eq(rig_effects(&g, FX_APPEND), 1);
    ck_assert_uint_eq(rig_sent(&g, MSG_PREPARE), 1);
    rig_sync(&g);
    rig_acked(&g, 2, 1, NAME(1, 1));
    ck_assert_int_eq(rig_effect(&g, FX_REPLY)->status, ST_OK);
    rig_acked(&g, 3, 1, NAME(1, 1)); /* it has it, by whatever way */
    ck_assert_uint_eq(rig_effects(&g, FX_CHANGE), 0);
    echo(3, 1, DISK_HAS_ROOM);
    rig_acked(&g, 3, 1, NAME(1, 1));
    ck_assert_int_eq(rig_effect(&g, FX_CHANGE)->change.kind, CHANGE_ADD);
    command(&cookies[1], NEED_ROOM);
    ck_assert_uint_eq(rig_sent(&g, MSG_PREPARE), 2);
    echo(3, 1, DISK_FULL); /* a shadow is waited for */
    assert_refused(&cookies[2], ST_NO_SPACE);
}
END_TEST

/* A snapshot would find no room either; it is asked for when it does. */
START_TEST(a_snapshot_waits_for_room)
{
    rig_stop(&g);
    rig_start(&g, NAME(1, 5));
    rig_enter(&g, 1, 1, "12", "3");
    rig_tail(&g, 2, 1, NAME(1, 5), 5);
    echo(3, 1, DISK_FULL);
    rig_tail(&g, 3, 1, NONE, 0);
    ck_assert_uint_eq(rig_sent(&g, MSG_SNAPSHOT_NEEDED), 0);
    echo(3, 1, DISK_HAS_ROOM);
    rig_tail(&g, 3, 1, NONE, 0);
    ck_assert_uint_eq(rig_sent(&g, MSG_SNAPSHOT_NEEDED), 1);
}
END_TEST

START_TEST(reports)
{
    open_primary("123", "");
    ck_assert_uint_eq(rig_report(&g).flags & REPORT_FULL, 0);
    g.host.full = true;
    ck_assert_uint_ne(rig_report(&g).flags & REPORT_FULL, 0);
    beacon_table_set_full(g.host.beacons, DISK_FULL);
    ck_assert_int_eq(beacon_table_full(g.host.beacons), DISK_FULL);
    beacon_table_set_full(g.host.beacons, DISK_HAS_ROOM);
    ck_assert_int_eq(beacon_table_full(g.host.beacons), DISK_HAS_ROOM);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("replica_room");
    TCase *t = tcase_create("room");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, own_disk);
    tcase_add_test(t, a_members_disk);
    tcase_add_test(t, whose_echo);
    tcase_add_test(t, settling);
    tcase_add_test(t, deleting);
    tcase_add_test(t, held_commands);
    tcase_add_test(t, a_learners_disk);
    tcase_add_test(t, a_snapshot_waits_for_room);
    tcase_add_test(t, reports);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
