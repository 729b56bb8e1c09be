/*
 * The coordinator's core, rule by rule (in the names): registration, the map,
 * deaths, leases, restarts. The rig checks the invariants of every new
 * configuration besides.
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

/* ---- registration ---- */

START_TEST(every_registration_fits_one_row)
{
    for (unsigned facts = 0; facts < 128; facts++) {
        unsigned rows;
        (void)registration_decide(facts, &rows);
        ck_assert_msg(rows == 1, "facts %u: %u rows", facts, rows);
    }
    rig_init(&r, 1, 1, 1);
}
END_TEST

START_TEST(r5_start_counter_must_grow)
{
    one_tablet();
    uint64_t version = core_version(r.core);
    /* A clone: the same counter, another process. */
    r.nodes[1].peer.incarnation.random++;
    rig_beat(&r, 1);
    ck_assert_int_eq(r.ack_status, ST_DENIED);
    r.nodes[1].peer.incarnation.counter--;
    rig_beat(&r, 1);
    ck_assert_int_eq(r.ack_status, ST_DENIED);
    ck_assert_uint_eq(core_version(r.core), version);
    r.nodes[1].peer.incarnation.counter++;
    rig_start(&r, 1);
    ck_assert_int_eq(r.ack_status, ST_OK);
    ck_assert_uint_gt(core_version(r.core), version);
}
END_TEST

START_TEST(r5_counter_outlives_another_store)
{
    one_tablet();
    struct id128 old = r.nodes[1].peer.store;
    rig_die(&r, 1);
    rig_wipe(&r, 1);
    rig_start(&r, 1);
    ck_assert_int_eq(r.ack_status, ST_OK);
    rig_die(&r, 1);
    /* The first disk again, rolled back. */
    r.nodes[1].peer.store = old;
    r.nodes[1].peer.incarnation.counter = 0;
    rig_start(&r, 1);
    ck_assert_int_eq(r.ack_status, ST_DENIED);
    rig_start(&r, 1);
    ck_assert_int_eq(r.ack_status, ST_OK);
}
END_TEST

START_TEST(r5_store_belongs_to_one_node)
{
    one_tablet();
    r.nodes[3].peer.store = r.nodes[1].peer.store;
    r.nodes[3].peer.incarnation.counter = 50;
    rig_start(&r, 3);
    ck_assert_int_eq(r.ack_status, ST_WRONG_NODE);
}
END_TEST

START_TEST(r5_living_node_is_not_replaced)
{
    one_tablet();
    struct id128 old = r.nodes[1].peer.store;
    rig_wipe(&r, 1);
    rig_start(&r, 1);
    ck_assert_int_eq(r.ack_status, ST_IN_USE);
    rig_run(&r, RIG_S); /* nobody beats for the old store: it is down */
    ck_assert_int_eq(r.ack_status, ST_OK);
    ASSERT_IN_SYNC(1, "1,3");
    /* The new store holds nothing: a learner, the old one is gone for good. */
    ASSERT_LEARNERS(1, "2");
    ck_assert(!set_has(&rig_config(&r, 1)->learners, (struct replica){2, old}));
}
END_TEST

START_TEST(refuses_what_is_not_plain)
{
    one_tablet();
    strcpy(r.nodes[3].peer.name, "a\nb");
    rig_start(&r, 3);
    ck_assert_int_eq(r.ack_status, ST_INVALID);
    strcpy(r.nodes[3].peer.name, "storage-4");
    r.nodes[3].peer.store = (struct id128){{0}};
    rig_start(&r, 3);
    ck_assert_int_eq(r.ack_status, ST_INVALID);
}
END_TEST

static void beat_as(uint8_t role, uint32_t id, uint64_t random, uint64_t conn)
{
    struct env_peer peer = {.node = id, .role = role};
    struct msg_heartbeat m = {
        .node = {.node = id,
                 .role = role,
                 .state = NODE_UP,
                 .incarnation = {.counter = 1, .random = random},
                 .name = slice_of("gateway-1")}};
    struct core_event ev = {
        .kind = CORE_HEARTBEAT, .conn = conn, .peer = &peer, .u.heartbeat = &m};
    rig_step(&r, &ev);
}

START_TEST(others_register_without_the_disk)
{
    one_tablet();
    beat_as(ROLE_GATEWAY, 1, 5, 900); /* ids are per role */
    ck_assert_int_eq(r.ack_status, ST_OK);
    ck_assert(r.fx.map && !r.fx.durable);
    ck_assert_uint_eq(core_map(r.core)->nodes_count, 4);
    beat_as(ROLE_GATEWAY, 1, 6, 901);
    ck_assert_int_eq(r.ack_status, ST_DENIED); /* the other one is there */
    struct core_event ev = {.kind = CORE_RESET, .conn = 900};
    rig_step(&r, &ev);
    ck_assert_int_eq(core_map(r.core)->nodes[3].state, NODE_DOWN);
    beat_as(ROLE_GATEWAY, 1, 6, 901);
    ck_assert_int_eq(r.ack_status, ST_OK);
    ck_assert_int_eq(core_map(r.core)->nodes[3].state, NODE_UP);
}
END_TEST

START_TEST(table_of_nodes_has_an_end)
{
    one_tablet();
    for (uint32_t i = 0; i < LIMIT_NODES - 3; i++) {
        beat_as(ROLE_GATEWAY, i + 1, 1, 2000 + i);
        ck_assert_int_eq(r.ack_status, ST_OK);
    }
    beat_as(ROLE_GATEWAY, 100, 1, 3000);
    ck_assert_int_eq(r.ack_status, ST_TOO_MANY);
    struct core_event ev = {.kind = CORE_RESET, .conn = 2005};
    rig_step(&r, &ev);
    beat_as(ROLE_GATEWAY, 100, 1, 3000);
    ck_assert_int_eq(r.ack_status, ST_OK);
}
END_TEST

START_TEST(r1_registration_is_durable_before_it_is_answered)
{
    one_tablet();
    r.auto_publish = false;
    rig_start(&r, 3);
    ck_assert(r.fx.durable);
    ck_assert_uint_eq(r.answer_after, core_version(r.core));
    rig_beat(&r, 3); /* nor is the next one */
    ck_assert_uint_eq(r.answer_after, core_version(r.core));
    ck_assert_uint_gt(r.answer_after, r.core->published);
}
END_TEST

/* ---- placement ---- */

START_TEST(r25_places_when_enough_are_there)
{
    rig_init(&r, 3, 4, 8);
    for (unsigned i = 0; i < 3; i++) {
        rig_start(&r, i);
    }
    rig_run(&r, RIG_S);
    ck_assert(!core_placed(r.core));
    rig_start(&r, 3);
    ck_assert(core_placed(r.core));
    ck_assert_uint_eq(r.core->min_insync, 2);
    uint64_t next = 0;
    for (uint32_t t = 1; t <= 8; t++) {
        const struct configuration *k = rig_config(&r, t);
        ck_assert_uint_eq(k->epoch, 1);
        ck_assert_uint_eq(k->in_sync.count, 3);
        ck_assert_uint_eq(k->hash_first, next);
        next = k->hash_last + 1;
    }
    ck_assert_uint_eq(next, 0); /* the ranges tile all hashes */
    for (uint32_t id = 1; id <= 4; id++) {
        ck_assert_uint_eq(core_node(r.core, id)->primaries, 2);
        ck_assert_uint_eq(core_node(r.core, id)->replicas, 6);
    }
}
END_TEST

START_TEST(r8_min_insync_is_more_than_half)
{
    static const unsigned expected[] = {0, 1, 2, 2, 3, 3};
    rig_init(&r, (unsigned)_i, (unsigned)_i, 4);
    rig_settle(&r, (unsigned)_i);
    ck_assert_uint_eq(r.core->min_insync, expected[_i]);
}
END_TEST

START_TEST(r20_map_survives_saving)
{
    rig_init(&r, 3, 3, 8);
    rig_settle(&r, 3);
    rig_die(&r, 2);
    rig_die(&r, 1);
    struct buf saved = {0}, map = {0}, again = {0};
    struct err err;
    core_save(r.core, &saved);
    wire_put_map(&map, 0, core_map(r.core));
    struct core_options o = r.o;
    o.version = core_version(r.core);
    o.now_us = r.now_us;
    struct core *c = core_new(&o);
    ck_assert_int_eq(core_load(c, buf_slice(&saved), &err), ST_OK);
    /* Who is up is not saved: all are presumed to be. */
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        c->nodes[i].live = r.core->nodes[i].live;
    }
    wire_put_map(&again, 0, core_map(c));
    ck_assert(slice_equal(buf_slice(&map), buf_slice(&again)));
    ck_assert_mem_eq(c->stores, r.core->stores, sizeof(c->stores));
    core_free(c);
    /* Every cut and every flipped byte is refused or at least harmless. */
    for (size_t i = 0; i < saved.len; i++) {
        c = core_new(&o);
        ck_assert_int_eq(core_load(c, slice_make(saved.data, i), &err),
                         ST_CORRUPT);
        core_free(c);
        saved.data[i] ^= 0x81;
        c = core_new(&o);
        (void)!core_load(c, buf_slice(&saved), &err);
        saved.data[i] ^= 0x81;
        core_free(c);
    }
    buf_free(&saved);
    buf_free(&map);
    buf_free(&again);
}
END_TEST

/* ---- deaths ---- */

START_TEST(r1_death_is_one_version_of_the_map)
{
    rig_init(&r, 3, 3, 8);
    rig_settle(&r, 3);
    uint64_t version = core_version(r.core);
    rig_die(&r, 0);
    ck_assert_uint_eq(core_version(r.core), version + 1);
    ck_assert(r.fx.durable);
    for (uint32_t t = 1; t <= 8; t++) {
        ASSERT_EPOCH(t, 2);
        ASSERT_IN_SYNC(t, "2,3");
        ASSERT_ELIGIBLE(t, "");
        ASSERT_LEARNERS(t, "1"); /* how its return is remembered */
    }
    /* Fewest primaries first: it comes out even. */
    ck_assert_uint_eq(core_node(r.core, 2)->primaries, 4);
    ck_assert_uint_eq(core_node(r.core, 3)->primaries, 4);
}
END_TEST

START_TEST(r14_greatest_last_entry_wins)
{
    static const struct {
        struct name two, three;
        uint32_t winner;
    } cases[] = {
        {{1, 5}, {1, 6}, 3}, {{1, 6}, {1, 5}, 2}, {{2, 1}, {1, 9}, 2},
        {{1, 9}, {2, 1}, 3}, {{1, 7}, {1, 7}, 2},
    };
    one_tablet();
    rig_report(&r, 1, 1)->last = cases[_i].two;
    rig_report(&r, 2, 1)->last = cases[_i].three;
    rig_run(&r, 200 * RIG_MS);
    rig_die(&r, 0);
    ASSERT_PRIMARY(1, cases[_i].winner);
}
END_TEST

START_TEST(r14_never_below_a_shown_committed_name)
{
    one_tablet();
    set_last(0, 1, 10);
    rig_report(&r, 0, 1)->committed = (struct name){1, 10};
    set_last(1, 1, 9);
    set_last(2, 1, 8);
    rig_run(&r, 200 * RIG_MS);
    rig_die(&r, 0);
    ASSERT_EPOCH(1, 1); /* their heartbeats may just be old */
    rig_run(&r, 200 * RIG_MS);
    ASSERT_EPOCH(1, 1);
    set_last(2, 1, 10);
    rig_beat(&r, 2);
    ASSERT_PRIMARY(1, 3);
    ASSERT_IN_SYNC(1, "2,3"); /* running, so it has it too */
}
END_TEST

START_TEST(r14_restarted_short_one_counts_as_damaged)
{
    one_tablet();
    set_last(0, 1, 10);
    set_last(1, 1, 10);
    set_last(2, 1, 10);
    rig_report(&r, 0, 1)->committed = (struct name){1, 10};
    rig_run(&r, 200 * RIG_MS);
    rig_die(&r, 2);
    rig_die(&r, 1);
    rig_die(&r, 0);
    ASSERT_IN_SYNC(1, "1");
    set_last(0, 1, 9); /* its disk lied */
    rig_start(&r, 0);
    rig_run(&r, 20 * RIG_S);
    ASSERT_PRIMARY(1, 1);
    ck_assert(r.core->tablets[0].headless);
    /* Those of E have it: R8 (b). */
    rig_start(&r, 1);
    rig_run(&r, 20 * RIG_S);
    ASSERT_PRIMARY(1, 2);
    ASSERT_IN_SYNC(1, "2");
    /* The short one is not eligible: it lacks what was committed. */
    ASSERT_ELIGIBLE(1, "");
}
END_TEST

START_TEST(r8a_below_min_those_who_leave_are_eligible)
{
    one_tablet();
    rig_die(&r, 2);
    ASSERT_IN_SYNC(1, "1,2");
    ASSERT_ELIGIBLE(1, "");
    rig_follow(&r);
    rig_die(&r, 1);
    ASSERT_IN_SYNC(1, "1");
    ASSERT_ELIGIBLE(1, "2"); /* not 3: things were committed without it */
    rig_follow(&r);
    rig_start(&r, 2);
    ASSERT_LEARNERS(1, "2,3");
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_ADD, rig_replica(&r, 2)),
                     ST_OK);
    ASSERT_IN_SYNC(1, "1,3");
    ASSERT_ELIGIBLE(1, ""); /* at min_insync again */
    ASSERT_LEARNERS(1, "2");
}
END_TEST

START_TEST(last_member_dies_and_nothing_changes)
{
    one_tablet();
    rig_die(&r, 2);
    rig_follow(&r);
    rig_die(&r, 1);
    rig_follow(&r);
    ASSERT_EPOCH(1, 3);
    rig_die(&r, 0);
    ASSERT_EPOCH(1, 3);
    ck_assert(r.core->tablets[0].headless);
    /* Scenario 7: A (3) left while things could commit: it may not. */
    rig_start(&r, 2);
    rig_run(&r, 30 * RIG_S);
    ASSERT_EPOCH(1, 3);
    struct buf text = {0};
    core_degraded(r.core, &text);
    ck_assert_ptr_nonnull(strstr(buf_cstr(&text), "storage-1"));
    buf_free(&text);
    /* The primary returns. */
    rig_start(&r, 0);
    rig_run(&r, 6 * RIG_S);
    ASSERT_PRIMARY(1, 1);
    ASSERT_EPOCH(1, 4);
    ck_assert(!r.core->tablets[0].headless);
}
END_TEST

/* R8 (b) has nobody: the member's copy is damaged, and who was eligible has
 * lost its disk. It is said why nothing can be done. */
START_TEST(why_there_is_no_primary)
{
    one_tablet();
    rig_die(&r, 2);
    rig_follow(&r);
    rig_die(&r, 1);
    ASSERT_IN_SYNC(1, "1");
    ASSERT_ELIGIBLE(1, "2");
    rig_wipe(&r, 1);
    rig_start(&r, 1);
    rig_report(&r, 0, 1)->flags |= REPORT_DAMAGED;
    rig_run(&r, 10 * RIG_S);
    ck_assert(r.core->tablets[0].headless);
    struct buf text = {0};
    core_degraded(r.core, &text);
    ck_assert_ptr_nonnull(
        strstr(buf_cstr(&text),
               "tablet 1: no primary; unavailable until storage-1 returns "
               "undamaged (storage-1 is up, but its copy is damaged; storage-2 "
               "has another, empty store)\n"));
    buf_free(&text);
}
END_TEST

/* All went silent together: I is as large as ever, and of no use. */
START_TEST(a_tablet_without_primary_is_degraded)
{
    struct coordinator_stats stats = {0};
    one_tablet();
    core_get_stats(r.core, &stats);
    ck_assert_uint_eq(stats.tablets_degraded, 0);
    for (unsigned i = 0; i < 3; i++) {
        r.nodes[i].mute = true;
    }
    rig_run(&r, 2 * RIG_S);
    ASSERT_IN_SYNC(1, "1,2,3");
    core_get_stats(r.core, &stats);
    ck_assert_uint_eq(stats.tablets_headless, 1);
    ck_assert_uint_eq(stats.tablets_degraded, 1);
}
END_TEST

/* ---- R8 (b) and R9 ---- */

static void down_to_one(void)
{
    one_tablet();
    rig_die(&r, 2);
    rig_follow(&r);
    rig_die(&r, 1);
    rig_follow(&r);
    rig_run(&r, 10 * RIG_S);
    ASSERT_IN_SYNC(1, "1");
    ASSERT_ELIGIBLE(1, "2");
}

START_TEST(r9_leases_below_min_insync_only)
{
    one_tablet();
    rig_beat(&r, 0);
    ck_assert_uint_eq(r.lease_count, 0);
    rig_fini(&r);
    down_to_one();
    rig_beat(&r, 0);
    ck_assert_uint_eq(r.lease_count, 1);
    ck_assert_uint_eq(r.leases[0].tablet, 1);
    ck_assert_uint_eq(r.leases[0].epoch, rig_config(&r, 1)->epoch);
    /* Not for another epoch, not from a stalled node, not to others. */
    rig_report(&r, 0, 1)->epoch--;
    rig_beat(&r, 0);
    ck_assert_uint_eq(r.lease_count, 0);
    rig_report(&r, 0, 1)->epoch++;
    r.nodes[0].sync_ms = 1500;
    rig_beat(&r, 0);
    ck_assert_uint_eq(r.lease_count, 0);
    r.nodes[0].sync_ms = 0;
    rig_start(&r, 1);
    ck_assert_uint_eq(r.lease_count, 0);
}
END_TEST

START_TEST(r9_no_lease_for_an_epoch_that_is_not_durable)
{
    one_tablet();
    rig_die(&r, 2);
    rig_follow(&r);
    r.auto_publish = false;
    rig_die(&r, 1);
    ASSERT_IN_SYNC(1, "1");
    rig_follow(&r);
    rig_beat(&r, 0);
    ck_assert_uint_eq(r.lease_count, 0);
}
END_TEST

START_TEST(r8b_waits_until_our_lease_has_run_out)
{
    down_to_one();
    rig_start(&r, 1); /* of E; a learner now */
    rig_follow(&r);
    rig_run(&r, RIG_S);
    rig_beat(&r, 0);
    ck_assert_uint_eq(r.lease_count, 1);
    int64_t given_us = r.now_us;
    uint64_t epoch = rig_config(&r, 1)->epoch;
    rig_die(&r, 0);
    ck_assert(r.core->tablets[0].headless);
    ck_assert(r.core->tablets[0].withheld);
    while (rig_config(&r, 1)->epoch == epoch) {
        rig_run(&r, r.o.times.tick_us);
        ck_assert_int_lt(r.now_us, given_us + RIG_S);
    }
    ck_assert_int_ge(r.now_us, given_us + 205 * RIG_MS);
    ck_assert_int_le(r.now_us, given_us + 225 * RIG_MS);
    ASSERT_PRIMARY(1, 2);
    ASSERT_IN_SYNC(1, "2");
    ASSERT_ELIGIBLE(1, "1"); /* nothing could commit since it left */
}
END_TEST

START_TEST(r8b_not_while_a_member_is_there)
{
    down_to_one();
    rig_start(&r, 1);
    rig_follow(&r);
    rig_run(&r, RIG_S);
    /* Restarted, still recovering: it is there and may be whole. */
    rig_kill(&r, 0);
    r.nodes[0].silent_reports = true;
    rig_start(&r, 0);
    rig_run(&r, 20 * RIG_S);
    ASSERT_IN_SYNC(1, "1");
    /* It says that it is damaged: now. */
    r.nodes[0].silent_reports = false;
    rig_report(&r, 0, 1)->flags = REPORT_RECOVERED | REPORT_DAMAGED;
    rig_run(&r, RIG_S);
    ASSERT_PRIMARY(1, 2);
    ASSERT_ELIGIBLE(1, "");
    ASSERT_LEARNERS(1, "1,3");
}
END_TEST

START_TEST(r8b_a_newly_active_coordinator_counts_its_start)
{
    down_to_one();
    rig_die(&r, 0);
    struct buf saved = {0};
    struct err err;
    core_save(r.core, &saved);
    r.o.version = core_version(r.core);
    r.o.term++;
    r.o.now_us = r.now_us;
    core_free(r.core);
    r.core = core_new(&r.o);
    ck_assert_int_eq(core_load(r.core, buf_slice(&saved), &err), ST_OK);
    buf_free(&saved);
    ck_assert_int_eq(r.core->tablets[0].lease_us, r.now_us);
}
END_TEST

/* ---- restarts ---- */

START_TEST(r11_restarted_secondary_leaves)
{
    one_tablet();
    rig_start(&r, 2);
    ASSERT_EPOCH(1, 2);
    ASSERT_PRIMARY(1, 1);
    ASSERT_IN_SYNC(1, "1,2");
    ASSERT_LEARNERS(1, "3");
    rig_follow(&r);
    rig_run(&r, 5 * RIG_S);
    ASSERT_EPOCH(1, 2);
    /* The next one is kept: I would fall below min_insync. */
    rig_start(&r, 1);
    ASSERT_EPOCH(1, 3);
    ASSERT_IN_SYNC(1, "1,2");
    rig_follow(&r);
    rig_run(&r, 5 * RIG_S);
    ASSERT_EPOCH(1, 3);
    /* A learner gets its new epoch too (R4). */
    rig_start(&r, 2);
    ASSERT_EPOCH(1, 4);
    ASSERT_LEARNERS(1, "3");
}
END_TEST

START_TEST(r11_restarted_primary_is_replaced)
{
    one_tablet();
    set_last(0, 1, 9); /* an unacknowledged tail does not win */
    rig_start(&r, 0);
    ASSERT_EPOCH(1, 2);
    ASSERT_PRIMARY(1, 2);
    ASSERT_IN_SYNC(1, "2,3");
    ASSERT_LEARNERS(1, "1");
}
END_TEST

START_TEST(r4_only_member_restarts_into_a_new_epoch)
{
    rig_init(&r, 1, 1, 1);
    rig_settle(&r, 1);
    rig_start(&r, 0);
    ASSERT_EPOCH(1, 2);
    ASSERT_PRIMARY(1, 1);
    ck_assert(incarnation_equal(rig_config(&r, 1)->primary_incarnation,
                                r.nodes[0].peer.incarnation));
}
END_TEST

START_TEST(r21_power_loss_waits_for_the_others)
{
    one_tablet();
    for (unsigned i = 0; i < 3; i++) {
        rig_kill(&r, i);
    }
    rig_run(&r, 2 * RIG_S);
    ASSERT_EPOCH(1, 1);
    rig_start(&r, 1);
    rig_run(&r, 2 * RIG_S);
    ASSERT_EPOCH(1, 1);
    rig_start(&r, 0);
    rig_run(&r, 2 * RIG_S);
    ASSERT_EPOCH(1, 1);
    rig_start(&r, 2); /* all are back: at once */
    ASSERT_EPOCH(1, 2);
    ASSERT_IN_SYNC(1, "1,2,3");
}
END_TEST

START_TEST(r21_settles_for_fewer)
{
    one_tablet();
    for (unsigned i = 0; i < 3; i++) {
        rig_kill(&r, i);
    }
    rig_run(&r, 2 * RIG_S);
    rig_start(&r, 1);
    int64_t since_us = r.now_us;
    rig_run(&r, 4900 * RIG_MS);
    ASSERT_EPOCH(1, 1);
    rig_run(&r, 200 * RIG_MS);
    ASSERT_EPOCH(1, 2);
    ASSERT_PRIMARY(1, 2);
    ASSERT_IN_SYNC(1, "2");
    ASSERT_ELIGIBLE(1, "1,3");
    ck_assert_int_ge(r.now_us, since_us + r.o.times.settle_us);
}
END_TEST

START_TEST(r21_no_wait_where_one_kept_running)
{
    one_tablet();
    rig_kill(&r, 0);
    rig_kill(&r, 1);
    rig_reset(&r, 0);
    rig_gone(&r, 0);
    rig_gone(&r, 1);
    ASSERT_PRIMARY(1, 3);
    ASSERT_IN_SYNC(1, "3");
}
END_TEST

/* ---- damage ---- */

START_TEST(r16_damaged_leaves_if_enough_others_are_whole)
{
    one_tablet();
    rig_report(&r, 2, 1)->flags |= REPORT_DAMAGED;
    rig_beat(&r, 2);
    ASSERT_IN_SYNC(1, "1,2");
    ASSERT_LEARNERS(1, "3");
    /* One more: it stays, for I would be below min_insync. */
    rig_follow(&r);
    rig_report(&r, 2, 1)->flags &= (uint8_t)~REPORT_DAMAGED; /* rebuilt */
    rig_report(&r, 1, 1)->flags |= REPORT_DAMAGED;
    rig_run(&r, RIG_S);
    ASSERT_EPOCH(1, 2);
    ASSERT_IN_SYNC(1, "1,2");
    /* And is never primary. */
    rig_die(&r, 0);
    rig_run(&r, 20 * RIG_S);
    ck_assert(r.core->tablets[0].headless);
    ASSERT_EPOCH(1, 2);
}
END_TEST

START_TEST(r16_damaged_primary_is_replaced)
{
    one_tablet();
    rig_report(&r, 0, 1)->flags |= REPORT_DAMAGED;
    rig_beat(&r, 0);
    ASSERT_PRIMARY(1, 2);
    ASSERT_IN_SYNC(1, "2,3");
}
END_TEST

/* Damaged in different places: one after the other is filled by the whole
 * one, and I never falls below min_insync. */
START_TEST(r16_two_damaged_are_rebuilt_in_turn)
{
    one_tablet();
    rig_report(&r, 0, 1)->flags |= REPORT_DAMAGED;
    rig_report(&r, 1, 1)->flags |= REPORT_DAMAGED;
    rig_beat(&r, 1);
    rig_beat(&r, 0);
    ASSERT_PRIMARY(1, 3);
    rig_follow(&r);
    rig_run(&r, RIG_S);
    ASSERT_IN_SYNC(1, "1,3");
    ASSERT_LEARNERS(1, "2");
    rig_report(&r, 1, 1)->flags &= (uint8_t)~REPORT_DAMAGED; /* rebuilt */
    rig_follow(&r);
    rig_run(&r, RIG_S);
    ASSERT_IN_SYNC(1, "1,3");
    ck_assert_int_eq(rig_change(&r, 2, 1, CHANGE_ADD, rig_replica(&r, 1)),
                     ST_OK);
    rig_run(&r, RIG_S);
    ASSERT_IN_SYNC(1, "2,3");
    ASSERT_LEARNERS(1, "1");
}
END_TEST

/* It lost what would let it follow: rather one member for a while than a
 * tablet that never writes again. */
START_TEST(r16_dead_weight_leaves_below_min_insync)
{
    one_tablet();
    rig_die(&r, 1);
    ASSERT_IN_SYNC(1, "1,3");
    rig_follow(&r);
    rig_report(&r, 2, 1)->flags |= REPORT_DAMAGED;
    rig_run(&r, RIG_S);
    ASSERT_IN_SYNC(1, "1,3"); /* as long as the primary can go on with it */
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_REMOVE, rig_replica(&r, 2)),
                     ST_OK);
    ASSERT_IN_SYNC(1, "1");
    ASSERT_ELIGIBLE(1, "");
    ASSERT_PRIMARY(1, 1);
    rig_follow(&r);
    rig_report(&r, 2, 1)->flags &= (uint8_t)~REPORT_DAMAGED;
    rig_run(&r, RIG_S);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_ADD, rig_replica(&r, 2)),
                     ST_OK);
    ASSERT_IN_SYNC(1, "1,3");
    /* Whoever is whole is not given up so easily. */
    rig_follow(&r);
    ck_assert_int_eq(rig_change(&r, 0, 1, CHANGE_REMOVE, rig_replica(&r, 2)),
                     ST_DEGRADED);
    ASSERT_IN_SYNC(1, "1,3");
}
END_TEST

/* It begins anew only when it enters an epoch, so it gets one, one time. */
START_TEST(r16_a_damaged_learner_gets_an_epoch)
{
    one_tablet();
    rig_report(&r, 2, 1)->flags |= REPORT_DAMAGED;
    rig_beat(&r, 2);
    ASSERT_LEARNERS(1, "3");
    rig_run(&r, RIG_S);
    ASSERT_EPOCH(1, 2); /* not before it entered that one */
    rig_follow(&r);
    rig_report(&r, 2, 1)->flags &= (uint8_t)~REPORT_DAMAGED;
    rig_run(&r, RIG_S);
    ASSERT_EPOCH(1, 2);
    rig_report(&r, 2, 1)->flags |= REPORT_DAMAGED;
    rig_run(&r, RIG_S);
    ASSERT_EPOCH(1, 3);
    ASSERT_IN_SYNC(1, "1,2");
    ASSERT_LEARNERS(1, "3");
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
    TCase *t = make_case("registration");
    tcase_add_test(t, every_registration_fits_one_row);
    tcase_add_test(t, r5_start_counter_must_grow);
    tcase_add_test(t, r5_counter_outlives_another_store);
    tcase_add_test(t, r5_store_belongs_to_one_node);
    tcase_add_test(t, r5_living_node_is_not_replaced);
    tcase_add_test(t, refuses_what_is_not_plain);
    tcase_add_test(t, others_register_without_the_disk);
    tcase_add_test(t, table_of_nodes_has_an_end);
    tcase_add_test(t, r1_registration_is_durable_before_it_is_answered);
    suite_add_tcase(s, t);
    t = make_case("map");
    tcase_add_test(t, r25_places_when_enough_are_there);
    tcase_add_loop_test(t, r8_min_insync_is_more_than_half, 1, 6);
    tcase_add_test(t, r20_map_survives_saving);
    suite_add_tcase(s, t);
    t = make_case("deaths");
    tcase_add_test(t, r1_death_is_one_version_of_the_map);
    tcase_add_loop_test(t, r14_greatest_last_entry_wins, 0, 5);
    tcase_add_test(t, r14_never_below_a_shown_committed_name);
    tcase_add_test(t, r14_restarted_short_one_counts_as_damaged);
    tcase_add_test(t, r8a_below_min_those_who_leave_are_eligible);
    tcase_add_test(t, last_member_dies_and_nothing_changes);
    tcase_add_test(t, a_tablet_without_primary_is_degraded);
    tcase_add_test(t, why_there_is_no_primary);
    suite_add_tcase(s, t);
    t = make_case("leases");
    tcase_add_test(t, r9_leases_below_min_insync_only);
    tcase_add_test(t, r9_no_lease_for_an_epoch_that_is_not_durable);
    tcase_add_test(t, r8b_waits_until_our_lease_has_run_out);
    tcase_add_test(t, r8b_not_while_a_member_is_there);
    tcase_add_test(t, r8b_a_newly_active_coordinator_counts_its_start);
    suite_add_tcase(s, t);
}

static void add_second(Suite *s)
{
    TCase *t = make_case("restarts");
    tcase_add_test(t, r11_restarted_secondary_leaves);
    tcase_add_test(t, r11_restarted_primary_is_replaced);
    tcase_add_test(t, r4_only_member_restarts_into_a_new_epoch);
    tcase_add_test(t, r21_power_loss_waits_for_the_others);
    tcase_add_test(t, r21_settles_for_fewer);
    tcase_add_test(t, r21_no_wait_where_one_kept_running);
    tcase_add_test(t, r16_damaged_leaves_if_enough_others_are_whole);
    tcase_add_test(t, r16_damaged_primary_is_replaced);
    tcase_add_test(t, r16_two_damaged_are_rebuilt_in_turn);
    tcase_add_test(t, r16_dead_weight_leaves_below_min_insync);
    tcase_add_test(t, r16_a_damaged_learner_gets_an_epoch);
    suite_add_tcase(s, t);
}

int main(void)
{
    Suite *s = suite_create("coordinator_core");
    add_first(s);
    add_second(s);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
