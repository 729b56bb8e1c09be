/*
 * A primary whose members give no leases (R9, R11). Node 1 is the core.
 */
#include "tests/unit/replica_rig.h"

#include <check.h>
#include <stdlib.h>

#define STEP_US 50000

static struct rig g;

static void echo(uint32_t from)
{
    struct tablet_epoch t = {7, 1};
    struct msg_echo m = {
        .stamp_us = g.now_us, .tablets = &t, .tablets_count = 1};
    beacon_table_on_echo(g.host.beacons, rig_node(from), g.speaks[from], &m,
                         g.now_us);
}

/* Open primary of "123", with 4 a learner; nothing is written. */
static void begin(void)
{
    rig_start(&g, NONE);
    rig_enter(&g, 1, 1, "123", "4");
    g.host.coordinator_us = 0; /* no learner is admitted */
    for (uint32_t node = 2; node <= 4; node++) {
        rig_tail(&g, node, 1, NONE, 0);
    }
    g.now_us += LEASE_STRETCHED_US;
    rig_tick(&g);
    ck_assert(replica_is_open(g.core));
}

static void end(void)
{
    rig_stop(&g);
}

/* As time goes on, ticking when the core wants to; nodes of ECHOES answer
 * beacons. Gives the node that was reported, or 0. */
static uint32_t run_for(int64_t us, const char *echoes)
{
    uint32_t reported = 0;
    for (int64_t end = g.now_us + us; g.now_us < end;) {
        g.now_us += STEP_US;
        for (const char *c = echoes; *c != '\0'; c++) {
            echo((uint32_t)(*c - '0'));
        }
        if (replica_next_us(g.core) <= g.now_us) {
            rig_tick(&g);
        } else {
            effects_clear(&g.fx);
        }
        if (rig_effects(&g, FX_CHANGE) > 0) {
            const struct msg_change *m = &rig_effect(&g, FX_CHANGE)->change;
            ck_assert_int_eq(m->kind, CHANGE_REMOVE);
            ck_assert(reported == 0 || reported == m->subject.node);
            reported = m->subject.node;
        }
    }
    return reported;
}

START_TEST(who_gives_leases_is_not_reported)
{
    ck_assert_uint_eq(run_for(10000000, "23"), 0); /* nor is the learner */
}
END_TEST

START_TEST(who_gives_none_is_reported)
{
    ck_assert_uint_eq(run_for(1000000, "23"), 0);
    ck_assert_uint_eq(run_for(g.host.stall_us, "2"), 0); /* not at once */
    ck_assert_uint_eq(run_for(600000, "2"), 3);
}
END_TEST

START_TEST(a_lease_now_and_then_is_enough)
{
    for (int i = 0; i < 10; i++) {
        ck_assert_uint_eq(run_for(900000, "2"), 0);
        ck_assert_uint_eq(run_for(300000, "23"), 0);
    }
}
END_TEST

/* All leases are over then, and nobody's fault it is. */
START_TEST(who_stood_still_reports_nobody)
{
    ck_assert_uint_eq(run_for(1000000, "23"), 0);
    g.now_us += 5000000;
    rig_tick(&g);
    ck_assert_uint_eq(rig_effects(&g, FX_CHANGE), 0);
    ck_assert_uint_eq(run_for(5000000, "23"), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replica_lease");
    TCase *c = tcase_create("leases");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, who_gives_leases_is_not_reported);
    tcase_add_test(c, who_gives_none_is_reported);
    tcase_add_test(c, a_lease_now_and_then_is_enough);
    tcase_add_test(c, who_stood_still_reports_nobody);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
