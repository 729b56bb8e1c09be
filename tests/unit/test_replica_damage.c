/*
 * R16, R19: a running replica that is found damaged. Node 1 is the core.
 */
#include "tests/unit/replica_rig.h"

#include <check.h>
#include <stdlib.h>

static struct rig g;
static int cookies[4];

static void begin(void)
{
    rig_start(&g, NONE);
}

static void end(void)
{
    rig_stop(&g);
}

static void condemn(void)
{
    struct event e = {.kind = EVENT_CONDEMN, .u.damage = "a test"};
    rig_step(&g, &e);
}

static bool is_damaged(void)
{
    return (rig_report(&g).flags & REPORT_DAMAGED) != 0;
}

/* Primary of "123" in EPOCH, open. */
static void open_primary(uint64_t epoch)
{
    rig_enter(&g, epoch, 1, "123", "");
    rig_tail(&g, 2, epoch, NONE, 0);
    rig_tail(&g, 3, epoch, NONE, 0);
    g.now_us += LEASE_STRETCHED_US;
    rig_tick(&g);
    ck_assert(replica_is_open(g.core));
}

START_TEST(r16_a_primary_gives_its_part_up_at_once)
{
    open_primary(1);
    rig_command(&g, &cookies[0]);
    ck_assert_uint_eq(rig_effects(&g, FX_REPLY), 0);
    condemn();
    /* R7: what was pending is unknown, never refused. */
    ck_assert_uint_eq(rig_effects(&g, FX_REPLY), 1);
    ck_assert_int_eq(rig_effect(&g, FX_REPLY)->status, ST_UNKNOWN_OUTCOME);
    ck_assert(is_damaged());
    ck_assert_int_eq(rig_report(&g).role, REPLICA_NONE);
    ck_assert(!replica_serving(g.core, g.now_us));
    ck_assert_int_eq(replica_may_read(g.core, g.now_us), ST_NOT_PRIMARY);
    rig_command(&g, &cookies[1]);
    ck_assert_int_eq(rig_effect(&g, FX_REPLY)->status, ST_NOT_PRIMARY);
    /* Acknowledgements that were under way commit nothing. */
    rig_sync(&g);
    rig_acked(&g, 2, 1, NAME(1, 1));
    rig_acked(&g, 3, 1, NAME(1, 1));
    ck_assert_uint_eq(rig_report(&g).committed.seq, 0);
    condemn();
    ck_assert_uint_eq(g.fx.count, 0); /* once */
}
END_TEST

START_TEST(r16_a_condemned_one_is_never_primary)
{
    open_primary(1);
    condemn();
    rig_enter(&g, 2, 1, "123", "");
    ck_assert_int_eq(rig_report(&g).role, REPLICA_NONE);
    /* A member of I goes on following: commits wait for its log. */
    rig_enter(&g, 3, 2, "12", "");
    rig_prepare(&g, 2, 3, NAME(3, 1), NONE);
    rig_sync(&g);
    ck_assert_uint_eq(rig_message_sent(&g, MSG_PREPARED)->u.prepared.name.seq,
                      1);
    ck_assert(is_damaged());
}
END_TEST

START_TEST(r16_the_only_one_stays)
{
    rig_enter(&g, 1, 1, "1", "");
    g.now_us += LEASE_STRETCHED_US;
    rig_tick(&g);
    condemn();
    ck_assert(!is_damaged());
    ck_assert_int_eq(rig_report(&g).role, REPLICA_PRIMARY);
    ck_assert_uint_eq(rig_effects(&g, FX_APPEND), 0);
}
END_TEST

START_TEST(r16_condemned_while_entering)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_config(&g, 2, 1, "123", "");
    condemn();
    rig_sync(&g);
    ck_assert_int_eq(rig_report(&g).role, REPLICA_NONE);
    ck_assert(is_damaged());
}
END_TEST

START_TEST(r16_the_note_outlives_a_restart)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_fill(&g, 2, 1, 1, 3);
    condemn();
    rig_prepare(&g, 2, 1, NAME(1, 4), NAME(1, 3)); /* behind the note */
    rig_sync(&g);
    for (int i = 0; i < 2; i++) {
        rig_restart(&g, NONE);
        ck_assert_int_eq(g.replayed, ST_OK);
        ck_assert(is_damaged());
        ck_assert_uint_eq(rig_report(&g).last.seq, 4); /* all it has */
    }
    /* Rebuilt, it is whole. */
    rig_enter(&g, 2, 2, "23", "1");
    ck_assert(!is_damaged());
    rig_sync(&g);
    rig_restart(&g, NONE);
    ck_assert(!is_damaged());
    ck_assert_uint_eq(rig_report(&g).last.seq, 0);
}
END_TEST

/* The state it was condemned for is in its checkpoint as well. */
START_TEST(r16_checkpoints_before_the_rebuilding_are_void)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_fill(&g, 2, 1, 1, 6);
    rig_committed(&g, 2, 1, 6);
    condemn();
    rig_enter(&g, 2, 2, "23", "1");
    for (uint32_t i = 0; i < g.count; i++) {
        if (replica_resets(&g.records[i])) {
            g.records[i].seq = 4 + 1; /* as the shard, whose newest is 4 */
        }
    }
    rig_sync(&g);
    rig_restart(&g, NAME(1, 4));
    ck_assert_int_eq(g.replayed, ST_OK);
    ck_assert(!is_damaged());
    ck_assert_uint_eq(rig_report(&g).last.seq, 0);
    ck_assert_uint_eq(state_applied(replica_state(g.core)).seq, 0);
    /* Nor is one that a snapshot brought since, where the void one ended. */
    rig_enter(&g, 3, 2, "23", "1");
    struct wire_msg m = {.type = MSG_SNAPSHOT_NEEDED};
    m.u.snapshot_needed = (struct msg_snapshot_needed){7, 3};
    rig_message(&g, 2, &m);
    rig_snapshot(&g, 3, NAME(1, 4));
    rig_sync(&g);
    rig_restart(&g, NAME(1, 4));
    ck_assert_int_eq(g.replayed, ST_OK);
    ck_assert(!is_damaged());
    ck_assert_uint_eq(rig_report(&g).last.seq, 4);
    ck_assert_uint_eq(state_applied(replica_state(g.core)).seq, 4);
    /* One that was made after it is not. */
    rig_restart(&g, NAME(1, 5));
    ck_assert_int_eq(g.replayed, ST_OK);
    ck_assert_uint_eq(rig_report(&g).last.seq, 5);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("replica_damage");
    TCase *c = tcase_create("condemned");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, r16_a_primary_gives_its_part_up_at_once);
    tcase_add_test(c, r16_a_condemned_one_is_never_primary);
    tcase_add_test(c, r16_the_only_one_stays);
    tcase_add_test(c, r16_condemned_while_entering);
    tcase_add_test(c, r16_the_note_outlives_a_restart);
    tcase_add_test(c, r16_checkpoints_before_the_rebuilding_are_void);
    suite_add_tcase(s, c);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
