/*
 * The coordinator's core, rule by rule (in the names): detection, requests for
 * another configuration, the operator.
 */
#include "tests/unit/coordinator_rig.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct rig r;

static void one_tablet(void)
{
    rig_one_tablet(&r);
}

static void teardown(void)
{
    rig_fini(&r);
}

static void set_last(unsigned i, uint64_t epoch, uint64_t seq)
{
    rig_report(&r, i, 1)->last = (struct name){epoch, seq};
}

/* ---- detection ---- */

START_TEST(silence_is_death_after_the_period)
{
    one_tablet();
    rig_beat(&r, 2);
    int64_t last_us = r.now_us;
    rig_kill(&r, 2);
    while (rig_config(&r, 1)->in_sync.count == 3) {
        rig_run(&r, r.o.times.tick_us);
        ck_assert_int_lt(r.now_us, last_us + RIG_S);
    }
    ck_assert_int_gt(r.now_us, last_us + 800 * RIG_MS);
    ck_assert_int_le(r.now_us, last_us + 840 * RIG_MS);
}
END_TEST

START_TEST(reset_is_a_hint_that_is_checked)
{
    one_tablet();
    rig_kill(&r, 0);
    rig_reset(&r, 0);
    ck_assert_uint_eq(r.fx.probe_count, 1);
    ck_assert_uint_eq(r.fx.probes[0].node, 1);
    ck_assert_str_eq(r.fx.probes[0].address, "127.0.0.1:1");
    ASSERT_EPOCH(1, 1);
    rig_gone(&r, 0);
    ASSERT_EPOCH(1, 2);
}
END_TEST

START_TEST(heard_since_the_probe_is_not_gone)
{
    one_tablet();
    struct core_event ev = {
        .kind = CORE_GONE,
        .u.node = {.node = 1,
                   .incarnation = r.nodes[0].peer.incarnation,
                   .since_us = r.now_us},
    };
    r.now_us += RIG_MS;
    rig_beat(&r, 0);
    rig_step(&r, &ev);
    ASSERT_EPOCH(1, 1);
    /* Nor is another incarnation than the one that was looked for. */
    ev.u.node.since_us = r.now_us;
    ev.u.node.incarnation.random++;
    rig_step(&r, &ev);
    ASSERT_EPOCH(1, 1);
}
END_TEST

START_TEST(last_words_do_not_raise_the_dead)
{
    one_tablet();
    rig_die(&r, 0);
    rig_beat(&r, 0); /* was in our socket */
    ck_assert_int_eq(core_node(r.core, 1)->live, LIVE_DOWN);
    rig_run(&r, RIG_S);
    rig_beat(&r, 0); /* it lives after all */
    ck_assert_int_eq(core_node(r.core, 1)->live, LIVE_UP);
}
END_TEST

START_TEST(suspect_of_the_living_incarnation_only)
{
    one_tablet();
    struct core_event ev = {
        .kind = CORE_SUSPECT,
        .u.node = {.node = 2, .incarnation = r.nodes[1].peer.incarnation},
    };
    rig_step(&r, &ev);
    ck_assert_uint_eq(r.fx.probe_count, 1);
    ev.u.node.incarnation.counter--;
    rig_step(&r, &ev);
    ck_assert_uint_eq(r.fx.probe_count, 0);
    ev.u.node.node = 77;
    rig_step(&r, &ev);
    ck_assert_uint_eq(r.fx.probe_count, 0);
}
END_TEST

START_TEST(r18_heartbeat_never_vouches_for_a_dead_disk)
{
    one_tablet();
    if (_i == 0) {
        r.nodes[0].sync_ms = 1001;
    } else {
        r.nodes[0].event_ms = 1001;
    }
    rig_run(&r, RIG_S);
    ASSERT_PRIMARY(1, 2);
    ASSERT_IN_SYNC(1, "2,3");
    ck_assert_int_eq(core_node(r.core, 1)->live, LIVE_DOWN);
    /* Not dead but slow: it stays out for a while (R11). */
    ASSERT_LEARNERS(1, "");
    r.nodes[0].sync_ms = r.nodes[0].event_ms = 0;
    rig_run(&r, 9 * RIG_S);
    ck_assert_int_eq(core_node(r.core, 1)->live, LIVE_UP);
    ASSERT_LEARNERS(1, "");
    rig_run(&r, 3 * RIG_S);
    ASSERT_LEARNERS(1, "1");
}
END_TEST

START_TEST(r18_just_below_stall_counts)
{
    one_tablet();
    r.nodes[0].sync_ms = 1000;
    rig_run(&r, 5 * RIG_S);
    ASSERT_EPOCH(1, 1);
}
END_TEST

START_TEST(r20_nobody_dies_before_a_full_period)
{
    one_tablet();
    struct buf saved = {0};
    struct err err;
    core_save(r.core, &saved);
    r.o.version = core_version(r.core);
    r.o.now_us = r.now_us;
    core_free(r.core);
    r.core = core_new(&r.o);
    ck_assert_int_eq(core_load(r.core, buf_slice(&saved), &err), ST_OK);
    buf_free(&saved);
    rig_kill(&r, 1);
    struct core_event ev = {
        .kind = CORE_SUSPECT,
        .u.node = {.node = 2, .incarnation = r.nodes[1].peer.incarnation},
    };
    rig_step(&r, &ev);
    ck_assert_uint_eq(r.fx.probe_count, 0);
    rig_gone(&r, 1);
    rig_run(&r, 780 * RIG_MS);
    ASSERT_EPOCH(1, 1);
    ck_assert_int_eq(core_map(r.core)->nodes[1].state, NODE_UP);
    rig_run(&r, 60 * RIG_MS);
    ASSERT_EPOCH(1, 2);
    ASSERT_IN_SYNC(1, "1,3");
}
END_TEST

START_TEST(our_own_standing_still_is_nobodys_death)
{
    one_tablet();
    r.now_us += 60 * RIG_S;
    struct core_event ev = {.kind = CORE_TICK};
    rig_step(&r, &ev);
    rig_run(&r, 200 * RIG_MS);
    ASSERT_EPOCH(1, 1);
    rig_kill(&r, 2);
    rig_run(&r, RIG_S);
    ASSERT_EPOCH(1, 2);
}
END_TEST

START_TEST(r20_newer_epoch_than_the_map_is_fatal)
{
    one_tablet();
    rig_report(&r, 1, 1)->epoch = 2;
    rig_beat(&r, 1);
    ck_assert_int_eq(r.fx.fatal, ST_CORRUPT);
    ck_assert_ptr_nonnull(strstr(r.fx.fatal_text.text, "old copy"));
}
END_TEST

START_TEST(r20_epoch_on_a_fresh_map_is_fatal)
{
    rig_init(&r, 3, 3, 1);
    rig_report(&r, 0, 1)->epoch = 1;
    rig_start(&r, 0);
    ck_assert_int_eq(r.fx.fatal, ST_CORRUPT);
}
END_TEST

START_TEST(r20_same_incarnation_returns)
{
    one_tablet();
    r.nodes[0].mute = true; /* cut off from us alone */
    rig_run(&r, RIG_S);
    ASSERT_PRIMARY(1, 2);
    ASSERT_LEARNERS(1, "1");
    uint64_t epoch = rig_config(&r, 1)->epoch;
    r.nodes[0].mute = false;
    rig_run(&r, RIG_S);
    ck_assert_int_eq(core_node(r.core, 1)->live, LIVE_UP);
    ASSERT_EPOCH(1, epoch);
}
END_TEST

START_TEST(r4_forgotten_restart_is_made_good)
{
    /* The coordinator restarted between a registration and its epochs; the
     * process has no role in an epoch that is in force. */
    one_tablet();
    rig_report(&r, 1, 1)->role = REPLICA_NONE;
    rig_run(&r, 200 * RIG_MS);
    ASSERT_EPOCH(1, 2);
    rig_run(&r, 10 * RIG_S); /* once, not again and again */
    ASSERT_EPOCH(1, 2);
}
END_TEST

/* ---- requests ---- */

START_TEST(r10_only_what_may_join_joins)
{
    one_tablet();
    rig_start(&r, 2);
    rig_follow(&r);
    ASSERT_LEARNERS(1, "3");
    struct replica three = rig_replica(&r, 2);
    /* Who is not primary is told so. */
    ck_assert_int_eq(rig_change(&r, 1, 1, CHANGE_ADD, three), ST_NOT_PRIMARY);
    ASSERT_EPOCH(1, 2);
    /* A stranger, answered with a new epoch that does not have it. */
    ck_assert_int_eq(
        rig_change(&r, 0, 1, CHANGE_ADD, (struct replica){9, three.store}),
        ST_OK);
    ASSERT_EPOCH(1, 3);
    ASSERT_IN_SYNC(1, "1,2");
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_ADD, three), ST_OK);
    ASSERT_EPOCH(1, 4);
    ASSERT_IN_SYNC(1, "1,2,3");
    ASSERT_LEARNERS(1, "");
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_ADD, three), ST_INVALID);
}
END_TEST

START_TEST(r10_the_dead_and_the_damaged_do_not_join)
{
    one_tablet();
    rig_start(&r, 2);
    rig_follow(&r);
    if (_i == 0) {
        rig_die(&r, 2);
    } else {
        rig_report(&r, 2, 1)->flags |= REPORT_DAMAGED;
        rig_beat(&r, 2);
    }
    uint64_t epoch = rig_config(&r, 1)->epoch;
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_ADD, rig_replica(&r, 2)),
                     ST_OK);
    ASSERT_EPOCH(1, epoch + 1);
    ASSERT_IN_SYNC(1, "1,2");
}
END_TEST

START_TEST(r1_change_is_compare_and_set)
{
    one_tablet();
    struct msg_change m = {.tablet = 1,
                           .epoch = 1,
                           .kind = CHANGE_REMOVE,
                           .subject = rig_replica(&r, 2)};
    struct core_event ev = {.kind = CORE_CHANGE,
                            .conn = 1,
                            .peer = &r.nodes[0].peer,
                            .u.change = &m};
    r.auto_publish = false;
    rig_step(&r, &ev);
    ck_assert_int_eq(r.change_status, ST_OK);
    ck_assert_uint_eq(r.change_epoch, 2);
    ck_assert_uint_eq(r.answer_after, core_version(r.core));
    /* Again, as after a lost answer: also told only when durable. */
    rig_step(&r, &ev);
    ck_assert_int_eq(r.change_status, ST_STALE_EPOCH);
    ck_assert_uint_eq(r.change_epoch, 2);
    ck_assert_uint_eq(r.answer_after, core_version(r.core));
    ASSERT_EPOCH(1, 2);
}
END_TEST

START_TEST(change_of_a_strange_sender_or_kind)
{
    one_tablet();
    struct replica three = rig_replica(&r, 2);
    ck_assert_int_eq(rig_change(&r, 0, 7, CHANGE_REMOVE, three), ST_NOT_FOUND);
    ck_assert_int_eq(rig_change(&r, 0, 1, (enum change_kind)9, three),
                     ST_INVALID);
    ck_assert_int_eq(rig_change(&r, 0, 1, (enum change_kind)0, three),
                     ST_INVALID);
    ck_assert_int_eq(rig_change(&r, 5, 1, CHANGE_REMOVE, three), ST_DENIED);
    r.nodes[0].peer.incarnation.random++; /* not the one that is primary */
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_REMOVE, three), ST_DENIED);
    r.nodes[0].peer.incarnation.random--;
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_REMOVE, rig_replica(&r, 0)),
                     ST_INVALID);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_REMOVE, rig_replica(&r, 4)),
                     ST_NOT_FOUND);
    ASSERT_EPOCH(1, 1);
}
END_TEST

START_TEST(r20_change_of_a_newer_epoch_is_fatal)
{
    one_tablet();
    struct msg_change m = {
        .tablet = 1, .epoch = 2, .kind = CHANGE_LEAVE, .subject = {1, {{1}}}};
    struct core_event ev = {.kind = CORE_CHANGE,
                            .conn = 1,
                            .peer = &r.nodes[0].peer,
                            .u.change = &m};
    rig_step(&r, &ev);
    ck_assert_int_eq(r.fx.fatal, ST_CORRUPT);
}
END_TEST

START_TEST(r11_removal_and_its_doubling_wait)
{
    one_tablet();
    struct replica three = rig_replica(&r, 2);
    int64_t expected_us = 10 * RIG_S;
    for (int round = 0; round < 9; round++) {
        ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_REMOVE, three), ST_OK);
        ASSERT_IN_SYNC(1, "1,2");
        ASSERT_LEARNERS(1, "");
        rig_follow(&r);
        int64_t since_us = r.now_us;
        while (rig_config(&r, 1)->learners.count == 0) {
            rig_run(&r, 100 * RIG_MS);
            ck_assert_int_lt(r.now_us, since_us + 601 * RIG_S + RIG_S);
        }
        ck_assert_int_ge(r.now_us, since_us + expected_us);
        ck_assert_int_le(r.now_us, since_us + expected_us + 2 * RIG_S);
        rig_follow(&r);
        ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_ADD, three), ST_OK);
        ASSERT_IN_SYNC(1, "1,2,3");
        rig_follow(&r);
        expected_us *= 2;
        expected_us = expected_us < 600 * RIG_S ? expected_us : 600 * RIG_S;
    }
}
END_TEST

/* Its peers report a dead process before the coordinator knows of its death:
 * that is no slowness that it would have to make good. */
START_TEST(r11_restarted_one_returns_at_once)
{
    one_tablet();
    for (int round = 0; round < 4; round++) {
        ck_assert_int_eq(
            rig_change(&r, 0, 1, CHANGE_REMOVE, rig_replica(&r, 2)), ST_OK);
        ASSERT_LEARNERS(1, "");
        rig_die(&r, 2);
        rig_start(&r, 2);
        rig_run(&r, RIG_S);
        ASSERT_LEARNERS(1, "3");
        rig_follow(&r);
        ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_ADD, rig_replica(&r, 2)),
                         ST_OK);
        ASSERT_IN_SYNC(1, "1,2,3");
        rig_follow(&r);
    }
}
END_TEST

START_TEST(r11_slow_syncs_prolong_the_wait)
{
    one_tablet();
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_REMOVE, rig_replica(&r, 2)),
                     ST_OK);
    r.nodes[2].sync_ms = 500; /* half of stall */
    rig_run(&r, 20 * RIG_S);
    ASSERT_LEARNERS(1, "");
    r.nodes[2].sync_ms = 499;
    rig_run(&r, 9 * RIG_S);
    ASSERT_LEARNERS(1, "");
    rig_run(&r, 3 * RIG_S);
    ASSERT_LEARNERS(1, "3");
}
END_TEST

START_TEST(r11_shadow_that_stalls_is_let_go_by_a_new_epoch)
{
    one_tablet();
    rig_start(&r, 2);
    rig_follow(&r);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_REMOVE, rig_replica(&r, 2)),
                     ST_OK);
    ASSERT_EPOCH(1, 3);
    ASSERT_LEARNERS(1, "");
}
END_TEST

START_TEST(r11_never_below_min_insync_for_a_report)
{
    /* A fourth node without replicas is there to help. */
    rig_init(&r, 3, 3, 1);
    rig_settle(&r, 3);
    rig_die(&r, 2);
    rig_follow(&r);
    rig_run(&r, RIG_S);
    ASSERT_IN_SYNC(1, "1,2");
    uint64_t epoch = rig_config(&r, 1)->epoch;
    struct replica two = rig_replica(&r, 1);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_REMOVE, two), ST_DEGRADED);
    ASSERT_EPOCH(1, epoch); /* one compare-and-set wins, no storm */
    struct buf text = {0};
    core_degraded(r.core, &text);
    ck_assert_ptr_nonnull(
        strstr(buf_cstr(&text), "storage-1 and storage-2 do not reach"));
    buf_free(&text);
    rig_start(&r, 3);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_REMOVE, two), ST_DEGRADED);
    ASSERT_LEARNERS(1, "3,4");
    rig_follow(&r);
    /* The learner's addition drops the unreachable one at once. */
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_REMOVE, two), ST_DEGRADED);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_ADD, rig_replica(&r, 3)),
                     ST_OK);
    ASSERT_IN_SYNC(1, "1,4");
}
END_TEST

START_TEST(r11_healed_link_keeps_its_member)
{
    one_tablet();
    rig_die(&r, 2);
    rig_follow(&r);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_REMOVE, rig_replica(&r, 1)),
                     ST_DEGRADED);
    rig_run(&r, 4 * RIG_S); /* the report is not repeated */
    rig_start(&r, 2);
    rig_follow(&r);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_ADD, rig_replica(&r, 2)),
                     ST_OK);
    ASSERT_IN_SYNC(1, "1,2,3");
}
END_TEST

START_TEST(r11_report_of_a_dead_one_shrinks)
{
    one_tablet();
    rig_die(&r, 2);
    rig_follow(&r);
    rig_die(&r, 1);
    ASSERT_IN_SYNC(1, "1");
}
END_TEST

START_TEST(r15_handover)
{
    one_tablet();
    struct replica three = rig_replica(&r, 2);
    /* Its last heartbeat is older than what it was handed. */
    set_last(0, 1, 10);
    rig_report(&r, 0, 1)->committed = (struct name){1, 10};
    rig_beat(&r, 0);
    unsigned from = _i == 0 ? 0 : 2; /* the primary, or the subject */
    ck_assert_int_eq(rig_change(&r, from, 1, CHANGE_HANDOVER, three), ST_OK);
    ASSERT_EPOCH(1, 2);
    ASSERT_PRIMARY(1, 3);
    ASSERT_IN_SYNC(1, "1,2,3");
    ck_assert_int_eq(rig_change(&r, 1, 1, CHANGE_HANDOVER, three),
                     ST_NOT_PRIMARY);
}
END_TEST

START_TEST(r15_handover_to_itself_or_to_the_unfit_makes_an_epoch)
{
    one_tablet();
    struct replica two = rig_replica(&r, 1);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_HANDOVER, rig_replica(&r, 0)),
                     ST_OK);
    ASSERT_EPOCH(1, 2);
    ASSERT_PRIMARY(1, 1);
    rig_die(&r, 2);
    rig_follow(&r);
    ck_assert_int_eq(rig_change(&r, 1, 1, CHANGE_LEAVE, two), ST_DEGRADED);
    ASSERT_EPOCH(1, 3);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_HANDOVER, two), ST_OK);
    ASSERT_EPOCH(1, 4);
    ASSERT_PRIMARY(1, 1); /* it released 3 and needs another epoch */
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_HANDOVER, rig_replica(&r, 5)),
                     ST_INVALID);
}
END_TEST

START_TEST(leave_of_a_primary_and_of_a_secondary)
{
    one_tablet();
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_LEAVE, rig_replica(&r, 1)),
                     ST_INVALID);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_LEAVE, rig_replica(&r, 0)),
                     ST_OK);
    ASSERT_PRIMARY(1, 2);
    ASSERT_IN_SYNC(1, "2,3");
    ASSERT_LEARNERS(1, ""); /* not in this incarnation */
    rig_follow(&r);
    ck_assert_int_eq(rig_change(&r, 2, 1, CHANGE_LEAVE, rig_replica(&r, 2)),
                     ST_DEGRADED);
    ASSERT_IN_SYNC(1, "2,3");
    rig_die(&r, 1); /* it is never primary, though it is all there is */
    rig_run(&r, 10 * RIG_S);
    ck_assert(r.core->tablets[0].headless);
    rig_start(&r, 2);
    rig_run(&r, 10 * RIG_S);
    ASSERT_PRIMARY(1, 3);
}
END_TEST

/* ---- the operator ---- */

START_TEST(disable_hands_over_and_enable_takes_back)
{
    rig_init(&r, 3, 3, 8);
    rig_settle(&r, 3);
    ck_assert_int_eq(rig_node_set(&r, 1, NODE_DISABLED), ST_OK);
    ck_assert_uint_eq(core_node(r.core, 1)->primaries, 0);
    ck_assert_uint_eq(core_node(r.core, 1)->replicas, 0);
    ck_assert_int_eq(core_map(r.core)->nodes[0].state, NODE_DISABLED);
    rig_follow(&r);
    rig_run(&r, RIG_S);
    /* The next one has nobody to hand over to but members below min. */
    ck_assert_int_eq(rig_node_set(&r, 2, NODE_DISABLED), ST_OK);
    ck_assert_uint_eq(core_node(r.core, 3)->primaries, 8);
    ck_assert_uint_eq(rig_config(&r, 1)->in_sync.count, 2);
    rig_follow(&r);
    rig_run(&r, RIG_S);
    ck_assert_int_eq(rig_node_set(&r, 3, NODE_DISABLED), ST_DEGRADED);
    ck_assert_int_eq(rig_node_set(&r, 1, NODE_UP), ST_OK);
    ASSERT_LEARNERS(1, "1");
    ck_assert_int_eq(rig_node_set(&r, 1, NODE_DRAINING), ST_UNSUPPORTED);
    ck_assert_int_eq(rig_node_set(&r, 1, NODE_STARTING), ST_INVALID);
    ck_assert_int_eq(rig_node_set(&r, 99, NODE_UP), ST_NOT_FOUND);
}
END_TEST

START_TEST(disable_waits_for_a_fresh_heartbeat)
{
    one_tablet();
    set_last(0, 1, 10);
    rig_report(&r, 0, 1)->committed = (struct name){1, 10};
    rig_beat(&r, 0); /* the others' last heartbeats say 0 */
    ck_assert_int_eq(rig_node_set(&r, 1, NODE_DISABLED), ST_OK);
    ASSERT_PRIMARY(1, 1);
    set_last(1, 1, 10);
    rig_beat(&r, 1);
    ASSERT_PRIMARY(1, 2);
}
END_TEST

/* ---- full disks ---- */

static void set_full(unsigned i, bool full)
{
    for (uint32_t t = 1; t <= r.core->tablet_count; t++) {
        uint8_t *flags = &rig_report(&r, i, t)->flags;
        *flags = (uint8_t)(full ? *flags | REPORT_FULL : *flags & ~REPORT_FULL);
    }
    rig_beat(&r, i);
}

static void assert_told(const char *what, bool told)
{
    struct buf text = {0};
    core_degraded(r.core, &text);
    ck_assert_msg((strstr(buf_cstr(&text), what) != NULL) == told, "%s",
                  buf_cstr(&text));
    buf_free(&text);
}

/* One without room leaves I and stays out while it has none, and a while
 * longer (R11). */
START_TEST(full_secondary_leaves)
{
    one_tablet();
    set_full(2, true);
    ASSERT_IN_SYNC(1, "1,2");
    ASSERT_LEARNERS(1, "");
    ASSERT_PRIMARY(1, 1);
    assert_told("storage-3: disk full", true);
    assert_told("writes refused", false);
    rig_follow(&r);
    rig_run(&r, 60 * RIG_S);
    ASSERT_EPOCH(1, 2);
    set_full(2, false);
    assert_told("disk full", false);
    rig_run(&r, 9 * RIG_S);
    ASSERT_LEARNERS(1, "");
    rig_run(&r, 3 * RIG_S);
    ASSERT_LEARNERS(1, "3");
    rig_follow(&r);
    rig_run(&r, RIG_S);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_ADD, rig_replica(&r, 2)),
                     ST_OK);
    ASSERT_IN_SYNC(1, "1,2,3");
}
END_TEST

/* Nor does a learner join that fills up while it learns. */
START_TEST(full_learner_does_not_join)
{
    one_tablet();
    rig_kill(&r, 2);
    rig_start(&r, 2);
    ASSERT_LEARNERS(1, "3");
    rig_follow(&r);
    rig_run(&r, RIG_S);
    set_full(2, true);
    ASSERT_LEARNERS(1, "3");
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_ADD, rig_replica(&r, 2)),
                     ST_OK);
    ASSERT_IN_SYNC(1, "1,2");
    rig_follow(&r);
    set_full(2, false);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_ADD, rig_replica(&r, 2)),
                     ST_OK);
    ASSERT_IN_SYNC(1, "1,2,3");
}
END_TEST

START_TEST(full_primary_is_relieved)
{
    rig_init(&r, 3, 3, 8);
    rig_settle(&r, 3);
    ck_assert_uint_gt(core_node(r.core, 1)->primaries, 0);
    set_full(0, true);
    ck_assert_uint_eq(core_node(r.core, 1)->primaries, 0);
    ck_assert_uint_eq(core_node(r.core, 1)->replicas, 0);
    for (uint32_t t = 1; t <= 8; t++) {
        ASSERT_IN_SYNC(t, "2,3");
        ASSERT_EPOCH(t, 2);
    }
    assert_told("storage-1: disk full", true);
}
END_TEST

/* It waits for a heartbeat that shows the other to be running with all. */
START_TEST(full_primary_waits_for_a_fresh_heartbeat)
{
    one_tablet();
    set_last(0, 1, 10);
    rig_report(&r, 0, 1)->committed = (struct name){1, 10};
    set_full(0, true);
    ASSERT_PRIMARY(1, 1);
    set_last(1, 1, 10);
    rig_beat(&r, 1);
    ASSERT_PRIMARY(1, 2);
    ASSERT_IN_SYNC(1, "2,3");
}
END_TEST

/* Without enough room nothing is gained by a change: writes wait, and go on
 * with everybody when there is room. */
START_TEST(too_many_are_full)
{
    one_tablet();
    set_full(2, true);
    rig_follow(&r);
    set_full(_i == 0 ? 0 : 1, true);
    rig_run(&r, 30 * RIG_S);
    ASSERT_IN_SYNC(1, "1,2");
    ASSERT_PRIMARY(1, 1);
    ASSERT_EPOCH(1, 2);
    assert_told(_i == 0 ? "tablet 1: disk full on storage-1; writes refused"
                        : "tablet 1: disk full on storage-2; writes refused",
                true);
    set_full(2, false); /* not in I, but a learner by and by: it may help */
    rig_run(&r, 12 * RIG_S);
    ASSERT_LEARNERS(1, "3");
    rig_follow(&r);
    rig_run(&r, RIG_S);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_ADD, rig_replica(&r, 2)),
                     ST_OK);
    rig_follow(&r);
    rig_run(&r, RIG_S);
    ASSERT_IN_SYNC(1, _i == 0 ? "2,3" : "1,3");
    assert_told("writes refused", false);
}
END_TEST

START_TEST(all_full_at_once)
{
    one_tablet();
    for (unsigned i = 0; i < 3; i++) {
        for (uint32_t t = 1; t <= r.core->tablet_count; t++) {
            rig_report(&r, i, t)->flags |= REPORT_FULL;
        }
    }
    set_full(2, true); /* the first that is heard leaves */
    rig_run(&r, 5 * RIG_S);
    ASSERT_IN_SYNC(1, "1,2");
    ASSERT_EPOCH(1, 2);
    assert_told("disk full on storage-1 and storage-2", true);
}
END_TEST

/* Another's disk is not a place for what has none; a process that starts has
 * said nothing yet. */
START_TEST(full_ones_take_nothing)
{
    rig_init(&r, 3, 3, 1);
    rig_settle(&r, 3);
    rig_start(&r, 3);
    rig_run(&r, RIG_S);
    set_full(3, true);
    ck_assert(!core_node(r.core, 4)->full); /* no report, no word */
    set_full(2, true);
    ASSERT_IN_SYNC(1, "1,2");
    ASSERT_LEARNERS(1, "4"); /* one with room instead */
    rig_kill(&r, 2);
    rig_start(&r, 2);
    ck_assert(!core_node(r.core, 3)->full);
}
END_TEST

START_TEST(r25_another_takes_the_place_of_the_long_dead)
{
    rig_init(&r, 3, 3, 4);
    rig_settle(&r, 3);
    rig_start(&r, 3); /* a spare */
    rig_follow(&r);
    rig_die(&r, 2);
    rig_follow(&r);
    rig_run(&r, 59 * RIG_S);
    ASSERT_LEARNERS(1, "3");
    rig_run(&r, 3 * RIG_S);
    for (uint32_t t = 1; t <= 4; t++) {
        ASSERT_LEARNERS(t, "4");
    }
}
END_TEST

START_TEST(r25_primaries_are_evened_out)
{
    rig_init(&r, 3, 3, 8);
    r.core->times.balance_us = 30 * RIG_S;
    rig_settle(&r, 3);
    rig_die(&r, 0);
    rig_follow(&r);
    rig_start(&r, 0);
    rig_follow(&r);
    for (uint32_t t = 1; t <= 7; t++) {
        unsigned from = rig_config(&r, t)->primary.node - 1;
        rig_change(&r, from, t, CHANGE_ADD, rig_replica(&r, 0));
    }
    rig_follow(&r);
    rig_run(&r, 50 * RIG_S); /* one is not whole: nothing moves */
    ck_assert_uint_eq(core_node(r.core, 1)->primaries, 0);
    unsigned from = rig_config(&r, 8)->primary.node - 1;
    rig_change(&r, from, 8, CHANGE_ADD, rig_replica(&r, 0));
    rig_follow(&r);
    rig_run(&r, 29 * RIG_S);
    ck_assert_uint_eq(core_node(r.core, 1)->primaries, 0);
    uint64_t epochs = r.core->stats.epochs;
    for (int s = 0; s < 20; s++) {
        rig_run(&r, RIG_S);
        rig_follow(&r);
    }
    ck_assert_uint_eq(core_node(r.core, 1)->primaries, 2);
    ck_assert_uint_eq(core_node(r.core, 2)->primaries, 3);
    ck_assert_uint_eq(r.core->stats.epochs, epochs + 2); /* and no more */
}
END_TEST

START_TEST(r25_a_wiped_node_is_filled_again)
{
    /* Scenario 6. */
    one_tablet();
    rig_die(&r, 1);
    rig_follow(&r);
    rig_wipe(&r, 1);
    rig_start(&r, 1);
    ASSERT_LEARNERS(1, "2");
    rig_die(&r, 2);
    rig_follow(&r);
    ASSERT_IN_SYNC(1, "1");
    rig_die(&r, 0);
    rig_run(&r, 100 * RIG_S);
    ck_assert(r.core->tablets[0].headless); /* loudly, until it returns */
    ASSERT_PRIMARY(1, 1);
}
END_TEST

START_TEST(reports_tell_of_all_that_is_known)
{
    one_tablet();
    struct core_event ev = {.kind = CORE_REPORTS_ASK, .conn = 1};
    rig_step(&r, &ev);
    ck_assert_uint_eq(r.report_nodes, 3);
    ev.u.reports_of = 2;
    rig_step(&r, &ev);
    ck_assert_uint_eq(r.report_nodes, 1);
    ck_assert_uint_eq(r.coordinators, 0); /* nobody said who it is */
    ev.u.reports_of = 0;
    r.core->o.node = 101;
    r.core->o.name = "coordinator-1";
    r.core->o.status_address = "127.0.0.1:1";
    rig_step(&r, &ev);
    ck_assert_uint_eq(r.report_nodes, 4);
    ck_assert_uint_eq(r.coordinators, 1);
    ev.u.reports_of = 2;
    rig_step(&r, &ev);
    ck_assert_uint_eq(r.coordinators, 0);
}
END_TEST

static TCase *make_case(const char *name)
{
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, NULL, teardown);
    return t;
}

static void add_first(Suite *s)
{
    TCase *t = make_case("detection");
    tcase_add_test(t, silence_is_death_after_the_period);
    tcase_add_test(t, reset_is_a_hint_that_is_checked);
    tcase_add_test(t, heard_since_the_probe_is_not_gone);
    tcase_add_test(t, last_words_do_not_raise_the_dead);
    tcase_add_test(t, suspect_of_the_living_incarnation_only);
    tcase_add_loop_test(t, r18_heartbeat_never_vouches_for_a_dead_disk, 0, 2);
    tcase_add_test(t, r18_just_below_stall_counts);
    tcase_add_test(t, r20_nobody_dies_before_a_full_period);
    tcase_add_test(t, our_own_standing_still_is_nobodys_death);
    tcase_add_test(t, r20_newer_epoch_than_the_map_is_fatal);
    tcase_add_test(t, r20_epoch_on_a_fresh_map_is_fatal);
    tcase_add_test(t, r20_same_incarnation_returns);
    tcase_add_test(t, r4_forgotten_restart_is_made_good);
    suite_add_tcase(s, t);
}

static void add_second(Suite *s)
{
    TCase *t = make_case("changes");
    tcase_add_test(t, r10_only_what_may_join_joins);
    tcase_add_loop_test(t, r10_the_dead_and_the_damaged_do_not_join, 0, 2);
    tcase_add_test(t, r1_change_is_compare_and_set);
    tcase_add_test(t, change_of_a_strange_sender_or_kind);
    tcase_add_test(t, r20_change_of_a_newer_epoch_is_fatal);
    tcase_add_test(t, r11_removal_and_its_doubling_wait);
    tcase_add_test(t, r11_restarted_one_returns_at_once);
    tcase_add_test(t, r11_slow_syncs_prolong_the_wait);
    tcase_add_test(t, r11_shadow_that_stalls_is_let_go_by_a_new_epoch);
    tcase_add_test(t, r11_never_below_min_insync_for_a_report);
    tcase_add_test(t, r11_healed_link_keeps_its_member);
    tcase_add_test(t, r11_report_of_a_dead_one_shrinks);
    tcase_add_loop_test(t, r15_handover, 0, 2);
    tcase_add_test(t, r15_handover_to_itself_or_to_the_unfit_makes_an_epoch);
    tcase_add_test(t, leave_of_a_primary_and_of_a_secondary);
    suite_add_tcase(s, t);
    t = make_case("full disks");
    tcase_add_test(t, full_secondary_leaves);
    tcase_add_test(t, full_learner_does_not_join);
    tcase_add_test(t, full_primary_is_relieved);
    tcase_add_test(t, full_primary_waits_for_a_fresh_heartbeat);
    tcase_add_loop_test(t, too_many_are_full, 0, 2);
    tcase_add_test(t, all_full_at_once);
    tcase_add_test(t, full_ones_take_nothing);
    suite_add_tcase(s, t);
    t = make_case("operator");
    tcase_add_test(t, disable_hands_over_and_enable_takes_back);
    tcase_add_test(t, disable_waits_for_a_fresh_heartbeat);
    tcase_add_test(t, r25_another_takes_the_place_of_the_long_dead);
    tcase_add_test(t, r25_primaries_are_evened_out);
    tcase_add_test(t, r25_a_wiped_node_is_filled_again);
    tcase_add_test(t, reports_tell_of_all_that_is_known);
    suite_add_tcase(s, t);
}

int main(void)
{
    Suite *s = suite_create("coordinator_requests");
    add_first(s);
    add_second(s);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
