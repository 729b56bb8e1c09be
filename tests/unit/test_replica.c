/*
 * The replica core against the rules of replication, one event at a time. A
 * test is named by the rule it holds the core to. Node 1 is the core.
 */
#include "tests/unit/replica_rig.h"

#include <check.h>
#include <stdlib.h>

#define assert_name(is, e, s)                                                  \
    do {                                                                       \
        struct name is_ = (is);                                                \
        ck_assert_uint_eq(is_.epoch, e);                                       \
        ck_assert_uint_eq(is_.seq, s);                                         \
    } while (0)

static struct rig g;

static void begin(void)
{
    rig_start(&g, NONE);
}

static void end(void)
{
    rig_stop(&g);
}

/* ---- R3, R4 ---- */

START_TEST(r3_nothing_leaves_while_an_epoch_is_entered)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_prepare(&g, 2, 1, NAME(1, 1), NONE);
    rig_config(&g, 2, 2, "12", "");
    ck_assert_uint_eq(g.fx.count, 1); /* its record, nothing else */
    ck_assert_int_eq(rig_effect(&g, FX_APPEND)->record.kind, WAL_EPOCH);
    rig_prepare(&g, 2, 1, NAME(1, 2), NAME(1, 1));
    ck_assert_uint_eq(g.fx.count, 0);
    rig_sync(&g); /* of the write that was under way, too */
    ck_assert_uint_eq(replica_config(g.core)->epoch, 2);
    ck_assert_uint_eq(rig_sent(&g, MSG_PREPARED), 0);
    rig_prepare(&g, 2, 1, NAME(1, 2), NAME(1, 1));
    ck_assert_uint_eq(rig_message_sent(&g, MSG_STALE)->u.stale.epoch, 2);
}
END_TEST

START_TEST(r3_staged_over_staged_waits_for_the_newest)
{
    struct event first = {.kind = EVENT_SYNCED};
    rig_enter(&g, 1, 2, "123", "");
    rig_config(&g, 2, 1, "123", "");
    first.u.ordinal = g.ordinals[g.count - 1];
    rig_config(&g, 3, 2, "123", "");
    rig_step(&g, &first);
    ck_assert_uint_eq(replica_config(g.core)->epoch, 1);
    ck_assert_uint_eq(g.fx.count, 0);
    rig_config(&g, 2, 1, "123", ""); /* late */
    ck_assert_uint_eq(g.fx.count, 0);
    rig_sync(&g);
    ck_assert_uint_eq(replica_config(g.core)->epoch, 3);
    ck_assert_int_eq(replica_role_of(g.core), REPLICA_SECONDARY);
}
END_TEST

START_TEST(r4_a_restarted_process_has_no_part_in_the_old_epoch)
{
    rig_enter(&g, 1, 1, "123", "");
    ck_assert_int_eq(replica_role_of(g.core), REPLICA_PRIMARY);
    rig_restart(&g, NONE);
    rig_config(&g, 1, 1, "123", "");
    ck_assert_uint_eq(g.fx.count, 0);
    ck_assert_int_eq(replica_role_of(g.core), REPLICA_NONE);
    rig_prepare(&g, 2, 1, NAME(1, 1), NONE);
    ck_assert_uint_eq(g.fx.count, 0);
}
END_TEST

/* What of the log may go while an epoch is on its way to the disk: the record
 * of the one before it is what R4 knows after a crash. */
START_TEST(r4_the_epoch_in_force_is_kept_until_the_next_is_durable)
{
    rig_enter(&g, 1, 2, "123", "");
    uint64_t first = g.records[g.count - 1].position;
    rig_config(&g, 2, 2, "12", "");
    ck_assert_uint_le(replica_checkpointed(g.core, NONE, 0), first);
    rig_sync(&g);
    ck_assert_uint_gt(replica_checkpointed(g.core, NONE, 0), first);
}
END_TEST

/* ---- R6: PREPARE ---- */

static const struct prepare_case {
    struct name entry, previous;
    bool only_match;
    bool mismatch, appends;
    struct name acked; /* {0,0}: nothing */
} prepare_cases[] = {
    /* held: matched is raised to it, no further */
    {{1, 1}, {0, 0}, false, false, false, {1, 1}},
    {{1, 3}, {1, 2}, false, false, false, {1, 3}},
    {{2, 5}, {2, 4}, false, false, false, {2, 5}},
    {{2, 5}, {2, 4}, true, false, false, {2, 5}},
    /* at or below the own committed seq, whatever it is called */
    {{1, 2}, {1, 1}, true, false, false, {1, 2}},
    /* follows the end: appended, acknowledged once it is synced */
    {{2, 6}, {2, 5}, false, false, true, {2, 6}},
    {{3, 6}, {2, 5}, false, false, true, {3, 6}},
    /* a gap, another name, another predecessor */
    {{2, 7}, {2, 6}, false, true, false, {0, 0}},
    {{3, 5}, {2, 4}, false, true, false, {0, 0}},
    {{3, 4}, {1, 3}, false, true, false, {0, 0}},
    {{3, 6}, {3, 5}, false, true, false, {0, 0}},
    {{3, 7}, {2, 5}, false, true, false, {0, 0}},
    /* nothing is appended to find out whether it matches */
    {{3, 6}, {2, 5}, true, true, false, {0, 0}},
    /* epochs never fall, nor run ahead */
    {{1, 6}, {2, 5}, false, true, false, {0, 0}},
    {{4, 6}, {2, 5}, false, true, false, {0, 0}},
};

START_TEST(r6_prepare)
{
    const struct prepare_case *c = &prepare_cases[_i];
    struct wire_msg m = {.type = MSG_PREPARE};
    rig_log_of_five(&g);
    m.u.prepare.tablet = 7;
    m.u.prepare.epoch = 3;
    m.u.prepare.entry = c->entry;
    m.u.prepare.previous = c->previous;
    m.u.prepare.only_match = c->only_match;
    rig_message(&g, 2, &m);
    ck_assert_uint_eq(rig_sent(&g, MSG_MISMATCH), c->mismatch);
    ck_assert_uint_eq(rig_effects(&g, FX_APPEND), c->appends);
    if (c->appends) {
        ck_assert_uint_eq(rig_sent(&g, MSG_PREPARED), 1);
        assert_name(rig_message_sent(&g, MSG_PREPARED)->u.prepared.name, 2, 5);
        rig_sync(&g);
    }
    ck_assert_uint_eq(rig_sent(&g, MSG_PREPARED), c->acked.seq != 0);
    if (c->acked.seq != 0) {
        assert_name(rig_message_sent(&g, MSG_PREPARED)->u.prepared.name,
                    c->acked.epoch, c->acked.seq);
    }
}
END_TEST

START_TEST(r6_only_the_primary_of_the_epoch_is_heard)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_prepare(&g, 3, 1, NAME(1, 1), NONE);
    ck_assert_uint_eq(g.fx.count, 0);
}
END_TEST

START_TEST(r6_a_doubled_prepare_changes_nothing)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_fill(&g, 2, 1, 1, 3);
    rig_prepare(&g, 2, 1, NAME(1, 2), NAME(1, 1));
    ck_assert_uint_eq(rig_effects(&g, FX_APPEND), 0);
    assert_name(rig_message_sent(&g, MSG_PREPARED)->u.prepared.name, 1, 3);
}
END_TEST

START_TEST(r6_committed_reaches_matched_only)
{
    rig_log_of_five(&g);
    rig_committed(&g, 2, 3, 5); /* nothing is matched in epoch 3 */
    ck_assert_uint_eq(rig_report(&g).committed.seq, 2);
    rig_prepare(&g, 2, 3, NAME(2, 4), NAME(1, 3));
    ck_assert_uint_eq(rig_report(&g).committed.seq, 4);
}
END_TEST

START_TEST(r6_committed_waits_for_the_own_disk)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_prepare(&g, 2, 1, NAME(1, 1), NONE);
    rig_committed(&g, 2, 1, 1);
    ck_assert_uint_eq(rig_report(&g).committed.seq, 0);
    rig_sync(&g);
    ck_assert_uint_eq(rig_report(&g).committed.seq, 1);
}
END_TEST

/* ---- R12 (d), I5: cuts ---- */

static const struct cut_case {
    struct name to;
    bool cuts;
} cut_cases[] = {
    {{1, 3}, true},                                   /* behind matched */
    {{2, 4}, true},  {{1, 2}, true}, {{1, 1}, false}, /* I5: 2 is committed */
    {{3, 4}, false}, /* it is not called that */
    {{2, 6}, false}, /* nor is it there */
};

START_TEST(r12d_cut)
{
    const struct cut_case *c = &cut_cases[_i];
    rig_log_of_five(&g);
    rig_cut(&g, 2, 3, c->to);
    ck_assert_uint_eq(g.cuts, c->cuts);
    ck_assert_uint_eq(rig_effects(&g, FX_APPEND), c->cuts);
    ck_assert_uint_eq(rig_sent(&g, MSG_CUT_DONE), 0); /* not durable yet */
    if (c->cuts) {
        rig_prepare(&g, 2, 3, NAME(3, c->to.seq + 1), c->to);
        ck_assert_uint_eq(g.fx.count, 0); /* nothing before it is */
        rig_sync(&g);
        assert_name(rig_message_sent(&g, MSG_CUT_DONE)->u.cut_done.last,
                    c->to.epoch, c->to.seq);
        rig_restart(&g, NONE);
        ck_assert_int_eq(g.replayed, ST_OK);
        assert_name(rig_report(&g).last, c->to.epoch, c->to.seq);
    }
}
END_TEST

START_TEST(r12d_a_late_cut_never_goes_below_matched)
{
    rig_log_of_five(&g);
    rig_prepare(&g, 2, 3, NAME(2, 5), NAME(2, 4));
    rig_prepare(&g, 2, 3, NAME(3, 6), NAME(2, 5));
    rig_cut(&g, 2, 3, NAME(2, 5));
    ck_assert_uint_eq(g.cuts, 0);
}
END_TEST

/* ---- R16: what recovery makes of the log ---- */

/* A log whose entries 4 .. 6 of epoch 1 were cut and replaced. */
static void log_with_a_cut(void)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_fill(&g, 2, 1, 1, 6);
    rig_committed(&g, 2, 1, 3);
    rig_enter(&g, 2, 3, "123", "");
    rig_cut(&g, 3, 2, NAME(1, 3));
    rig_sync(&g);
    rig_prepare(&g, 3, 2, NAME(2, 4), NAME(1, 3));
    rig_prepare(&g, 3, 2, NAME(2, 5), NAME(2, 4));
    rig_prepare(&g, 3, 2, NAME(2, 6), NAME(2, 5));
    rig_prepare(&g, 3, 2, NAME(2, 7), NAME(2, 6));
    rig_sync(&g);
    rig_committed(&g, 3, 2, 7);
}

static const struct name cut_bases[] = {
    {0, 0}, {1, 2}, {1, 3}, {2, 4}, {2, 5}, {2, 6}, {2, 7},
};

/* A checkpoint may end anywhere in what replaced the cut entries: these are
 * still in the log before it and follow from nothing that is kept. */
START_TEST(r16_a_checkpoint_between_cut_entries_is_whole)
{
    log_with_a_cut();
    rig_restart(&g, cut_bases[_i]);
    ck_assert_int_eq(g.replayed, ST_OK);
    ck_assert_uint_eq(rig_report(&g).flags & REPORT_DAMAGED, 0);
    assert_name(rig_report(&g).last, 2, 7);
}
END_TEST

/* The same where the log's oldest records are gone. */
START_TEST(r16_a_log_may_begin_among_cut_entries)
{
    log_with_a_cut();
    replica_free(g.core);
    struct state *s = state_new();
    state_load_done(s, NAME(2, 4));
    g.core = replica_new(&g.host, 7, s);
    for (uint32_t i = 6; i < g.count; i++) { /* from (1,6) on */
        ck_assert_int_eq(replica_replay(g.core, &g.records[i]), ST_OK);
    }
    replica_recovered(g.core, false);
    ck_assert_uint_eq(rig_report(&g).flags & REPORT_DAMAGED, 0);
    assert_name(rig_report(&g).last, 2, 7);
}
END_TEST

START_TEST(r16_cut_entries_without_their_cut_are_damage)
{
    log_with_a_cut();
    for (uint32_t i = 0; i < g.count; i++) {
        if (g.records[i].kind == WAL_CUT) {
            g.records[i].kind = WAL_MARK;
        }
    }
    rig_restart(&g, NAME(2, 5));
    ck_assert_uint_ne(rig_report(&g).flags & REPORT_DAMAGED, 0);
}
END_TEST

/* A checkpoint that is older than one that was lost is made good by the log:
 * who asks before recovery ends must see that. */
START_TEST(r16_what_was_replayed_is_known_at_once)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_fill(&g, 2, 1, 1, 6);
    replica_free(g.core);
    g.core = replica_new(&g.host, 7, state_new());
    for (uint32_t i = 0; i < g.count; i++) {
        ck_assert_int_eq(replica_replay(g.core, &g.records[i]), ST_OK);
    }
    assert_name(rig_report(&g).last, 1, 6);
    replica_recovered(g.core, false);
}
END_TEST

START_TEST(r16_a_gap_is_damage)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_fill(&g, 2, 1, 1, 6);
    for (uint32_t i = 0; i < g.count; i++) {
        if (g.records[i].kind == WAL_ENTRY && g.records[i].name.seq == 4) {
            g.records[i].kind = WAL_MARK;
        }
    }
    rig_restart(&g, NONE);
    ck_assert_uint_ne(rig_report(&g).flags & REPORT_DAMAGED, 0);
}
END_TEST

/* ---- R17 ---- */

/* A learner whose log of epoch 1 runs to 6, in epoch 2. */
static void learner(void)
{
    struct wire_msg m = {.type = MSG_SNAPSHOT_NEEDED};
    rig_enter(&g, 1, 2, "123", "");
    rig_fill(&g, 2, 1, 1, 6);
    rig_enter(&g, 2, 3, "23", "1");
    m.u.snapshot_needed = (struct msg_snapshot_needed){7, 2};
    rig_message(&g, 3, &m);
    ck_assert_uint_eq(rig_effects(&g, FX_FETCH), 1);
}

START_TEST(r17_a_snapshot_replaces_what_stood_behind_it)
{
    struct wire_msg m = {.type = MSG_PREPARE};
    m.u.prepare = (struct msg_prepare){
        .tablet = 7, .epoch = 2, .entry = NAME(2, 4), .only_match = 1};
    learner();
    rig_snapshot(&g, 2, NAME(2, 4));
    ck_assert_uint_eq(rig_effects(&g, FX_INSTALLED), 1);
    rig_message(&g, 3, &m);
    ck_assert_uint_eq(rig_sent(&g, MSG_PREPARED), 0); /* R6: not yet noted */
    rig_sync(&g);
    assert_name(rig_message_sent(&g, MSG_PREPARED)->u.prepared.name, 2, 4);
    rig_prepare(&g, 3, 2, NAME(2, 5), NAME(2, 4));
    rig_sync(&g);
    rig_restart(&g, NAME(2, 4)); /* (1,5) and (1,6) are still in the log */
    ck_assert_int_eq(g.replayed, ST_OK);
    ck_assert_uint_eq(rig_report(&g).flags & REPORT_DAMAGED, 0);
    assert_name(rig_report(&g).last, 2, 5);
}
END_TEST

START_TEST(r17_published_but_not_noted_it_is_no_whole_member)
{
    learner();
    rig_snapshot(&g, 2, NAME(2, 4));
    rig_restart(&g, NAME(2, 4)); /* the checkpoint is there, RESET is not */
    ck_assert_uint_ne(rig_report(&g).flags & REPORT_DAMAGED, 0);
    rig_enter(&g, 3, 3, "23", "1");
    ck_assert_uint_eq(rig_report(&g).flags & REPORT_DAMAGED, 0);
    rig_sync(&g);
    ck_assert_uint_eq(rig_report(&g).last.seq, 0); /* it begins anew */
}
END_TEST

/* What was matched in this epoch is acknowledged: the primary may count on it
 * (R10), so a late SNAPSHOT_NEEDED must not take it away. */
START_TEST(r17_a_snapshot_never_takes_what_is_matched)
{
    struct wire_msg m = {.type = MSG_SNAPSHOT_NEEDED};
    learner();
    rig_snapshot(&g, 2, NAME(2, 7));
    rig_sync(&g);
    rig_prepare(&g, 3, 2, NAME(2, 8), NAME(2, 7));
    rig_prepare(&g, 3, 2, NAME(2, 9), NAME(2, 8));
    rig_sync(&g);
    assert_name(rig_message_sent(&g, MSG_PREPARED)->u.prepared.name, 2, 9);
    m.u.snapshot_needed = (struct msg_snapshot_needed){7, 2};
    rig_message(&g, 3, &m);
    rig_snapshot(&g, 2, NAME(2, 7));
    assert_name(rig_report(&g).last, 2, 9);
    rig_prepare(&g, 3, 2, NAME(2, 10), NAME(2, 9)); /* it goes on */
    ck_assert_uint_eq(rig_effects(&g, FX_APPEND), 1);
}
END_TEST

START_TEST(r17_a_snapshot_of_an_older_epoch_is_dropped)
{
    learner();
    rig_enter(&g, 3, 3, "23", "1");
    rig_snapshot(&g, 2, NAME(2, 9));
    ck_assert_uint_eq(rig_effects(&g, FX_INSTALLED), 0);
    assert_name(rig_report(&g).last, 1, 6);
}
END_TEST

START_TEST(r17_a_member_installs_nothing)
{
    struct wire_msg m = {.type = MSG_SNAPSHOT_NEEDED};
    rig_enter(&g, 1, 2, "123", "");
    m.u.snapshot_needed = (struct msg_snapshot_needed){7, 1};
    rig_message(&g, 2, &m);
    ck_assert_uint_eq(g.fx.count, 0);
    rig_snapshot(&g, 1, NAME(1, 9));
    ck_assert_uint_eq(rig_effects(&g, FX_INSTALLED), 0);
}
END_TEST

/* A replica that was wiped is whole again after the records that follow. */
START_TEST(r17_a_rebuilt_replica_is_whole_after_a_restart)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_fill(&g, 2, 1, 1, 6);
    for (uint32_t i = 0; i < g.count; i++) {
        if (g.records[i].kind == WAL_ENTRY && g.records[i].name.seq == 4) {
            g.records[i].kind = WAL_MARK;
        }
    }
    rig_restart(&g, NONE);
    rig_enter(&g, 2, 3, "23", "1");
    rig_sync(&g);
    rig_prepare(&g, 3, 2, NAME(1, 1), NONE);
    rig_prepare(&g, 3, 2, NAME(1, 2), NAME(1, 1));
    rig_sync(&g);
    rig_restart(&g, NONE);
    assert_name(rig_report(&g).last, 1, 2);
}
END_TEST

/* ---- a primary ---- */

static int cookies[64];

/* Opens as primary of EPOCH of "123"; the others' logs end at LAST. */
static void open_primary(uint64_t epoch, struct name last)
{
    rig_enter(&g, epoch, 1, "123", "");
    rig_tail(&g, 2, epoch, last, 0);
    rig_tail(&g, 3, epoch, last, 0);
    rig_acked(&g, 2, epoch, last);
    rig_acked(&g, 3, epoch, last);
    g.now_us += LEASE_STRETCHED_US;
    rig_tick(&g);
}

START_TEST(r12c_it_waits_for_its_last_echo)
{
    rig_enter(&g, 1, 1, "123", "");
    rig_tail(&g, 2, 1, NONE, 0);
    rig_tail(&g, 3, 1, NONE, 0);
    g.now_us += LEASE_STRETCHED_US - 1; /* the start counts as an echo */
    rig_tick(&g);
    ck_assert(!replica_is_open(g.core));
    g.now_us += 1;
    rig_tick(&g);
    ck_assert(replica_is_open(g.core));
}
END_TEST

START_TEST(r12e_all_of_i_must_have_what_it_has)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_fill(&g, 2, 1, 1, 3);
    rig_enter(&g, 2, 1, "123", "");
    g.now_us += LEASE_STRETCHED_US;
    rig_tail(&g, 2, 2, NAME(1, 3), 0);
    rig_acked(&g, 2, 2, NAME(1, 3));
    rig_tail(&g, 3, 2, NAME(1, 2), 0);
    rig_acked(&g, 3, 2, NAME(1, 2));
    rig_tick(&g);
    ck_assert(!replica_is_open(g.core));
    ck_assert_uint_eq(rig_report(&g).committed.seq, 0);
    rig_acked(&g, 3, 2, NAME(1, 3));
    ck_assert(replica_is_open(g.core));
    ck_assert_uint_eq(rig_report(&g).committed.seq, 3);
}
END_TEST

START_TEST(r7_a_commit_needs_all_of_i_and_the_own_disk)
{
    open_primary(1, NONE);
    rig_command(&g, &cookies[0]);
    ck_assert_uint_eq(rig_sent(&g, MSG_PREPARE), 2);
    rig_acked(&g, 2, 1, NAME(1, 1));
    rig_acked(&g, 3, 1, NAME(1, 1));
    ck_assert_uint_eq(rig_effects(&g, FX_REPLY), 0);
    rig_sync(&g);
    ck_assert_int_eq(rig_effect(&g, FX_REPLY)->status, ST_OK);
    rig_command(&g, &cookies[1]);
    rig_sync(&g);
    rig_acked(&g, 2, 1, NAME(1, 2));
    ck_assert_uint_eq(rig_effects(&g, FX_REPLY), 0);
    rig_acked(&g, 3, 1, NAME(2, 2)); /* R6: not that name */
    ck_assert_uint_eq(rig_effects(&g, FX_REPLY), 0);
    rig_acked(&g, 3, 1, NAME(1, 9)); /* nor what is not there */
    ck_assert_uint_eq(rig_effects(&g, FX_REPLY), 0);
    rig_acked(&g, 3, 1, NAME(1, 2));
    ck_assert_ptr_eq(rig_effect(&g, FX_REPLY)->cookie, &cookies[1]);
}
END_TEST

START_TEST(what_others_have_yet_to_acknowledge)
{
    open_primary(1, NONE);
    rig_command(&g, &cookies[0]);
    ck_assert_uint_eq(replica_awaited(g.core), 0);
    rig_sync(&g);
    ck_assert_uint_eq(replica_awaited(g.core), 1);
    rig_command(&g, &cookies[1]);
    ck_assert_uint_eq(replica_awaited(g.core), 1);
    rig_acked(&g, 2, 1, NAME(1, 1));
    ck_assert_uint_eq(replica_awaited(g.core), 1);
    rig_acked(&g, 3, 1, NAME(1, 1));
    ck_assert_uint_eq(replica_awaited(g.core), 0);
    rig_sync(&g);
    rig_config(&g, 2, 2, "123", ""); /* no part any more */
    ck_assert_uint_eq(replica_awaited(g.core), 0);
}
END_TEST

/* One that heard of a commit in a dialogue of its own is not all. */
START_TEST(r6_every_peer_is_told_what_is_committed)
{
    open_primary(1, NONE);
    rig_command(&g, &cookies[0]);
    rig_sync(&g);
    rig_acked(&g, 2, 1, NAME(1, 1));
    rig_acked(&g, 3, 1, NAME(1, 1));
    ck_assert_uint_eq(rig_report(&g).committed.seq, 1);
    struct wire_msg m = {.type = MSG_MISMATCH};
    m.u.mismatch.tablet = 1;
    m.u.mismatch.epoch = 1;
    rig_message(&g, 3, &m);
    rig_tail(&g, 3, 1, NAME(1, 1), 0);
    ck_assert_uint_eq(rig_message_sent(&g, MSG_PREPARE)->u.prepare.committed,
                      1);
    g.now_us = replica_next_us(g.core);
    rig_tick(&g);
    ck_assert_uint_eq(rig_sent(&g, MSG_COMMITTED), 1);
    const struct effect *x = rig_effect(&g, FX_SEND);
    ck_assert_uint_eq(x->to.node, 2);
    ck_assert_uint_eq(x->msg.u.committed.committed, 1);
}
END_TEST

static void commit_one(uint64_t seq)
{
    rig_command(&g, &cookies[seq - 1]);
    rig_sync(&g);
    rig_acked(&g, 2, 1, NAME(1, seq));
    rig_acked(&g, 3, 1, NAME(1, seq));
    ck_assert_uint_eq(rig_report(&g).committed.seq, seq);
}

/* Time passes; how many are told alone of what is committed, once. */
static uint32_t told_alone(int64_t us)
{
    uint32_t count = 0;
    for (int64_t end = g.now_us + us; g.now_us < end;) {
        int64_t next = replica_next_us(g.core);
        g.now_us = next < end ? next : end;
        rig_tick(&g);
        count += rig_sent(&g, MSG_COMMITTED);
    }
    return count;
}

/* Not while PREPAREs follow, which all carry it; then soon. */
START_TEST(r6_committed_is_told_alone_once_nothing_follows)
{
    open_primary(1, NONE);
    for (uint64_t seq = 1; seq <= 4; seq++) {
        commit_one(seq);
        ck_assert_uint_eq(told_alone(3000), 0);
    }
    ck_assert_uint_eq(told_alone(8000), 2);
    ck_assert_uint_eq(told_alone(100000), 0);
}
END_TEST

START_TEST(r6_acks_of_an_earlier_epoch_do_not_count)
{
    open_primary(1, NONE);
    rig_command(&g, &cookies[0]);
    rig_sync(&g);
    rig_acked(&g, 2, 1, NAME(1, 1));
    rig_enter(&g, 2, 1, "123", "");
    rig_acked(&g, 3, 1, NAME(1, 1)); /* late */
    rig_acked(&g, 3, 2, NAME(1, 1));
    rig_tick(&g);
    ck_assert_uint_eq(rig_report(&g).committed.seq, 0);
}
END_TEST

/* A clone's disk holds what the original's does not, and the other way. */
START_TEST(r5_acks_of_another_process_do_not_count)
{
    open_primary(1, NONE);
    rig_command(&g, &cookies[0]);
    rig_sync(&g);
    rig_acked(&g, 2, 1, NAME(1, 1));
    g.speaks[3].counter++;
    rig_acked(&g, 3, 1, NAME(1, 1));
    ck_assert_uint_eq(rig_report(&g).committed.seq, 0);
    g.speaks[3].counter--;
    g.speaks[3].random++; /* the same counter: both were started once more */
    rig_acked(&g, 3, 1, NAME(1, 1));
    ck_assert_uint_eq(rig_report(&g).committed.seq, 0);
    g.speaks[3].random--;
    rig_acked(&g, 3, 1, NAME(1, 1));
    ck_assert_uint_eq(rig_report(&g).committed.seq, 1);
}
END_TEST

START_TEST(r5_another_process_does_not_bring_its_log_up)
{
    rig_enter(&g, 1, 1, "123", "");
    rig_tail(&g, 2, 1, NONE, 0);
    g.speaks[3].counter++;
    rig_tail(&g, 3, 1, NONE, 0);
    g.now_us += LEASE_STRETCHED_US;
    rig_tick(&g);
    ck_assert(!replica_is_open(g.core));
    g.speaks[3].counter--;
    rig_tail(&g, 3, 1, NONE, 0);
    ck_assert(replica_is_open(g.core));
}
END_TEST

/* Another store at the node's address, as the map has it. */
START_TEST(r5_nobody_speaks_for_a_store_that_is_gone)
{
    g.nodes[3].store.b[7] = 1;
    rig_enter(&g, 1, 1, "123", "");
    rig_tail(&g, 2, 1, NONE, 0);
    rig_tail(&g, 3, 1, NONE, 0);
    g.speaks[3] = (struct incarnation){0};
    rig_tail(&g, 3, 1, NONE, 0);
    g.now_us += LEASE_STRETCHED_US;
    rig_tick(&g);
    ck_assert(!replica_is_open(g.core));
}
END_TEST

START_TEST(r4_another_process_of_the_primary_is_not_heard)
{
    rig_enter(&g, 1, 2, "123", "");
    g.speaks[2].counter++;
    rig_prepare(&g, 2, 1, NAME(1, 1), NONE);
    ck_assert_uint_eq(g.fx.count, 0);
    g.speaks[2].counter--;
    rig_prepare(&g, 2, 1, NAME(1, 1), NONE);
    ck_assert_uint_eq(rig_effects(&g, FX_APPEND), 1);
}
END_TEST

START_TEST(r7_a_deposed_primary_says_unknown)
{
    open_primary(1, NONE);
    rig_command(&g, &cookies[0]);
    rig_config(&g, 2, 2, "123", "");
    ck_assert_uint_eq(rig_effects(&g, FX_REPLY), 0);
    rig_sync(&g);
    ck_assert_int_eq(rig_effect(&g, FX_REPLY)->status, ST_UNKNOWN_OUTCOME);
}
END_TEST

START_TEST(r12_a_continuing_primary_answers_in_the_new_epoch)
{
    open_primary(1, NONE);
    rig_command(&g, &cookies[0]);
    rig_enter(&g, 2, 1, "12", "");
    ck_assert_uint_eq(rig_effects(&g, FX_REPLY), 0);
    rig_tail(&g, 2, 2, NONE, 0);
    rig_acked(&g, 2, 2, NAME(1, 1));
    ck_assert_int_eq(rig_effect(&g, FX_REPLY)->status, ST_OK);
}
END_TEST

START_TEST(r8_below_min_insync_nothing_commits)
{
    open_primary(1, NONE);
    rig_command(&g, &cookies[0]);
    rig_sync(&g);
    rig_enter(&g, 2, 1, "1", "");
    ck_assert_uint_eq(rig_report(&g).committed.seq, 0);
    rig_command(&g, &cookies[1]);
    ck_assert_int_eq(rig_effect(&g, FX_REPLY)->status, ST_DEGRADED);
    ck_assert_uint_ne(rig_report(&g).flags & REPORT_READONLY, 0);
    ck_assert_int_ne(replica_may_read(g.core, g.now_us), ST_OK); /* R9 */
}
END_TEST

static void echo(uint32_t from, uint64_t epoch)
{
    struct tablet_epoch t = {7, epoch};
    struct msg_echo m = {
        .stamp_us = g.now_us, .tablets = &t, .tablets_count = 1};
    beacon_table_on_echo(g.host.beacons, rig_node(from), g.speaks[from], &m,
                         g.now_us);
}

START_TEST(r9_an_echo_of_another_process_is_no_lease)
{
    open_primary(1, NONE);
    echo(2, 1);
    g.speaks[3].counter++; /* a clone */
    echo(3, 1);
    ck_assert_int_eq(replica_may_read(g.core, g.now_us), ST_BUSY);
    g.speaks[3].counter--;
    echo(3, 1);
    ck_assert_int_eq(replica_may_read(g.core, g.now_us), ST_OK);
}
END_TEST

START_TEST(r9_a_process_that_came_anew_gives_leases)
{
    open_primary(1, NONE);
    echo(2, 1);
    echo(3, 1);
    g.nodes[3].incarnation.counter++; /* it was registered anew */
    rig_enter(&g, 2, 1, "123", "");
    g.speaks[3].counter++;
    rig_tail(&g, 2, 2, NONE, 0);
    rig_tail(&g, 3, 2, NONE, 0);
    echo(2, 2);
    ck_assert_int_eq(replica_may_read(g.core, g.now_us), ST_BUSY);
    echo(3, 2);
    ck_assert_int_eq(replica_may_read(g.core, g.now_us), ST_OK);
}
END_TEST

START_TEST(r9_a_read_needs_every_lease)
{
    open_primary(1, NONE);
    ck_assert_int_eq(replica_may_read(g.core, g.now_us), ST_BUSY);
    echo(2, 1);
    ck_assert_int_eq(replica_may_read(g.core, g.now_us), ST_BUSY);
    echo(3, 2); /* of another epoch */
    ck_assert_int_eq(replica_may_read(g.core, g.now_us), ST_BUSY);
    echo(3, 1);
    ck_assert_int_eq(replica_may_read(g.core, g.now_us), ST_OK);
    ck_assert_int_eq(replica_may_read(g.core, g.now_us + LEASE_US), ST_BUSY);
    rig_config(&g, 2, 1, "123", "");
    ck_assert_int_eq(replica_may_read(g.core, g.now_us), ST_BUSY);
    rig_sync(&g);
    ck_assert_int_eq(replica_may_read(g.core, g.now_us), ST_BUSY);
}
END_TEST

/* ---- R10, R11 ---- */

/* Primary of "12", with 3 a learner that has all of the one entry. */
static void primary_with_learner(void)
{
    rig_enter(&g, 1, 1, "12", "3");
    rig_tail(&g, 2, 1, NONE, 0);
    g.now_us += LEASE_STRETCHED_US;
    rig_tick(&g);
    ck_assert(replica_is_open(g.core));
    rig_command(&g, &cookies[0]);
    rig_sync(&g);
    rig_acked(&g, 2, 1, NAME(1, 1));
    ck_assert_uint_eq(rig_report(&g).committed.seq, 1);
    rig_tail(&g, 3, 1, NONE, 0);
    g.host.coordinator_us = g.now_us;
}

START_TEST(r10_a_shadow_is_waited_for)
{
    primary_with_learner();
    echo(3, 1);
    rig_acked(&g, 3, 1, NAME(1, 1));
    const struct effect *ask = rig_effect(&g, FX_CHANGE);
    ck_assert_int_eq(ask->change.kind, CHANGE_ADD);
    rig_command(&g, &cookies[1]);
    rig_sync(&g);
    rig_acked(&g, 2, 1, NAME(1, 2));
    ck_assert_uint_eq(rig_report(&g).committed.seq, 1);
    g.now_us += LEASE_US;
    echo(2, 1);
    ck_assert_int_eq(replica_may_read(g.core, g.now_us), ST_BUSY); /* R9 */
    rig_acked(&g, 3, 1, NAME(1, 2));
    ck_assert_uint_eq(rig_report(&g).committed.seq, 2);
}
END_TEST

START_TEST(r10_no_shadow_without_lease_or_coordinator)
{
    primary_with_learner();
    rig_acked(&g, 3, 1, NAME(1, 1)); /* no lease */
    ck_assert_uint_eq(rig_effects(&g, FX_CHANGE), 0);
    echo(3, 1);
    g.host.coordinator_us = g.now_us - 200000; /* not heard */
    rig_acked(&g, 3, 1, NAME(1, 1));
    ck_assert_uint_eq(rig_effects(&g, FX_CHANGE), 0);
    g.host.coordinator_us = g.now_us;
    rig_acked(&g, 3, 1, NAME(1, 1));
    ck_assert_uint_eq(rig_effects(&g, FX_CHANGE), 1);
}
END_TEST

START_TEST(r10_no_shadow_of_who_is_down)
{
    static const uint8_t states[] = {NODE_DOWN, NODE_DISABLED};
    primary_with_learner();
    echo(3, 1);
    for (size_t i = 0; i < 2; i++) {
        g.nodes[3].state = states[i];
        rig_acked(&g, 3, 1, NAME(1, 1));
        ck_assert_uint_eq(rig_effects(&g, FX_CHANGE), 0);
    }
    g.nodes[3].state = NODE_UP;
    rig_tick(&g);
    ck_assert_int_eq(rig_effect(&g, FX_CHANGE)->change.kind, CHANGE_ADD);
}
END_TEST

START_TEST(r11_a_stalled_member_is_reported)
{
    open_primary(1, NONE);
    rig_command(&g, &cookies[0]);
    rig_sync(&g);
    rig_acked(&g, 2, 1, NAME(1, 1));
    g.now_us += g.host.stall_us - 1;
    rig_tick(&g);
    ck_assert_uint_eq(rig_effects(&g, FX_CHANGE), 0);
    g.now_us += 1;
    rig_tick(&g);
    ck_assert_int_eq(rig_effect(&g, FX_CHANGE)->change.kind, CHANGE_REMOVE);
    ck_assert_uint_eq(rig_effect(&g, FX_CHANGE)->change.subject.node, 3);
    ck_assert_uint_eq(rig_report(&g).committed.seq, 0);
}
END_TEST

/* ---- a primary that lacks what others know ---- */

START_TEST(r14_it_steps_back_for_one_that_knows_more)
{
    rig_enter(&g, 1, 1, "123", "");
    rig_tail(&g, 2, 1, NAME(1, 4), 4);
    ck_assert_int_eq(rig_effect(&g, FX_CHANGE)->change.kind, CHANGE_LEAVE);
    ck_assert_uint_eq(rig_sent(&g, MSG_CUT), 0);
    ck_assert_uint_ne(rig_report(&g).flags & REPORT_DAMAGED, 0);
}
END_TEST

static Suite *make_suite(void)
{
    Suite *s = suite_create("replica");
    TCase *c = tcase_create("rules");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, r3_nothing_leaves_while_an_epoch_is_entered);
    tcase_add_test(c, r3_staged_over_staged_waits_for_the_newest);
    tcase_add_test(c, r4_a_restarted_process_has_no_part_in_the_old_epoch);
    tcase_add_test(c, r4_the_epoch_in_force_is_kept_until_the_next_is_durable);
    tcase_add_loop_test(c, r6_prepare, 0,
                        sizeof(prepare_cases) / sizeof(prepare_cases[0]));
    tcase_add_test(c, r6_only_the_primary_of_the_epoch_is_heard);
    tcase_add_test(c, r6_a_doubled_prepare_changes_nothing);
    tcase_add_test(c, r6_committed_reaches_matched_only);
    tcase_add_test(c, r6_committed_waits_for_the_own_disk);
    tcase_add_loop_test(c, r12d_cut, 0,
                        sizeof(cut_cases) / sizeof(cut_cases[0]));
    tcase_add_test(c, r12d_a_late_cut_never_goes_below_matched);
    tcase_add_loop_test(c, r16_a_checkpoint_between_cut_entries_is_whole, 0,
                        sizeof(cut_bases) / sizeof(cut_bases[0]));
    tcase_add_test(c, r16_a_log_may_begin_among_cut_entries);
    tcase_add_test(c, r16_cut_entries_without_their_cut_are_damage);
    tcase_add_test(c, r16_what_was_replayed_is_known_at_once);
    tcase_add_test(c, r16_a_gap_is_damage);
    tcase_add_test(c, r17_a_snapshot_replaces_what_stood_behind_it);
    tcase_add_test(c, r17_published_but_not_noted_it_is_no_whole_member);
    tcase_add_test(c, r17_a_snapshot_never_takes_what_is_matched);
    tcase_add_test(c, r17_a_snapshot_of_an_older_epoch_is_dropped);
    tcase_add_test(c, r17_a_member_installs_nothing);
    tcase_add_test(c, r17_a_rebuilt_replica_is_whole_after_a_restart);
    tcase_add_test(c, r12c_it_waits_for_its_last_echo);
    tcase_add_test(c, r12e_all_of_i_must_have_what_it_has);
    tcase_add_test(c, r7_a_commit_needs_all_of_i_and_the_own_disk);
    tcase_add_test(c, what_others_have_yet_to_acknowledge);
    tcase_add_test(c, r6_every_peer_is_told_what_is_committed);
    tcase_add_test(c, r6_committed_is_told_alone_once_nothing_follows);
    tcase_add_test(c, r6_acks_of_an_earlier_epoch_do_not_count);
    tcase_add_test(c, r5_acks_of_another_process_do_not_count);
    tcase_add_test(c, r5_another_process_does_not_bring_its_log_up);
    tcase_add_test(c, r5_nobody_speaks_for_a_store_that_is_gone);
    tcase_add_test(c, r4_another_process_of_the_primary_is_not_heard);
    tcase_add_test(c, r9_an_echo_of_another_process_is_no_lease);
    tcase_add_test(c, r9_a_process_that_came_anew_gives_leases);
    tcase_add_test(c, r7_a_deposed_primary_says_unknown);
    tcase_add_test(c, r12_a_continuing_primary_answers_in_the_new_epoch);
    tcase_add_test(c, r8_below_min_insync_nothing_commits);
    tcase_add_test(c, r9_a_read_needs_every_lease);
    tcase_add_test(c, r10_a_shadow_is_waited_for);
    tcase_add_test(c, r10_no_shadow_without_lease_or_coordinator);
    tcase_add_test(c, r10_no_shadow_of_who_is_down);
    tcase_add_test(c, r11_a_stalled_member_is_reported);
    tcase_add_test(c, r14_it_steps_back_for_one_that_knows_more);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    SRunner *r = srunner_create(make_suite());
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
