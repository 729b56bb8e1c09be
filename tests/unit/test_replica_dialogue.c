/*
 * R12 (d) where answers take their time: a step of the dialogue is repeated
 * under its number, and late answers count; and what a learner lacks is read
 * from the log (R17). Node 1 is the core.
 */
#include "tests/unit/replica_rig.h"

#include <check.h>
#include <stdlib.h>

static struct rig g;
static int cookie;

static void begin(void)
{
    rig_start(&g, NONE);
}

static void end(void)
{
    rig_stop(&g);
}

/* Ticks for that long; gives how often TYPE was sent to peers. */
static unsigned tick_for(int64_t us, enum msg_type type)
{
    unsigned count = 0;
    for (int64_t end = g.now_us + us; g.now_us < end;) {
        g.now_us += 20000;
        rig_tick(&g);
        count += rig_sent(&g, type);
    }
    return count;
}

/* Primary of "12" in epoch 4; node 2 takes LATE for each answer. Every step
 * of the dialogue is finished, whatever was repeated meanwhile. */
static const int64_t lates[] = {50000, 150000, 320000, 600000, 3000000};

START_TEST(r12d_a_late_answer_counts)
{
    int64_t late = lates[_i];
    struct wire_msg done = {.type = MSG_CUT_DONE};
    rig_log_of_five(&g);
    rig_enter(&g, 4, 1, "12", "");
    uint64_t first = rig_message_sent(&g, MSG_TAIL_ASK)->u.tail_ask.dialogue;
    tick_for(late, MSG_TAIL_ASK);
    struct run run = {2, 4, 7};
    struct wire_msg tail = {.type = MSG_TAIL};
    tail.u.tail = (struct msg_tail){.tablet = 7,
                                    .epoch = 4,
                                    .dialogue = first,
                                    .last = {2, 7},
                                    .runs = &run,
                                    .runs_count = 1};
    rig_message(&g, 2, &tail);
    ck_assert(
        name_equal(rig_message_sent(&g, MSG_CUT)->u.cut.name, NAME(2, 5)));
    ck_assert_uint_eq(tick_for(late, MSG_TAIL_ASK), 0);
    done.u.cut_done = (struct msg_cut_done){7, 4, first, {2, 5}};
    rig_message(&g, 2, &done);
    ck_assert_uint_eq(rig_sent(&g, MSG_PREPARE), 1);
    ck_assert_uint_eq(tick_for(late < 1000000 ? late : 1000000, MSG_TAIL_ASK),
                      0);
    rig_acked(&g, 2, 4, NAME(2, 5));
    tick_for(LEASE_STRETCHED_US, MSG_TAIL_ASK); /* R12 (c) */
    ck_assert(replica_is_open(g.core));
}
END_TEST

/* Answers that come twice, because it was asked twice, change nothing. */
START_TEST(r12d_a_second_answer_changes_nothing)
{
    rig_log_of_five(&g);
    rig_enter(&g, 4, 1, "12", "");
    struct wire_msg m = {.type = MSG_TAIL};
    struct run run = {9, 8, 9};
    m.u.tail = (struct msg_tail){
        .tablet = 7,
        .epoch = 4,
        .dialogue = rig_message_sent(&g, MSG_TAIL_ASK)->u.tail_ask.dialogue,
        .last = {9, 9},
        .more = 1,
        .runs = &run,
        .runs_count = 1};
    tick_for(150000, MSG_TAIL_ASK);
    rig_message(&g, 2, &m);
    ck_assert_uint_eq(rig_message_sent(&g, MSG_TAIL_ASK)->u.tail_ask.before, 8);
    rig_message(&g, 2, &m);
    ck_assert_uint_eq(g.fx.count, 0);
}
END_TEST

static void up(uint32_t node)
{
    struct event e = {.kind = EVENT_PEER_UP, .u.peer = rig_node(node)};
    rig_step(&g, &e);
}

/* A secondary's answer is lost if its connection opens after the primary's. */
START_TEST(r12d_an_answer_that_had_no_way_comes_when_there_is_one)
{
    rig_enter(&g, 1, 2, "12", "");
    up(2);
    ck_assert_uint_eq(g.fx.count, 0); /* nothing was asked */
    struct wire_msg m = {.type = MSG_TAIL_ASK};
    m.u.tail_ask = (struct msg_tail_ask){
        .tablet = 7, .epoch = 1, .dialogue = 3, .before = UINT64_MAX};
    rig_message(&g, 2, &m);
    ck_assert_uint_eq(rig_sent(&g, MSG_TAIL), 1);
    up(3);
    ck_assert_uint_eq(g.fx.count, 0);
    up(2);
    ck_assert_uint_eq(rig_message_sent(&g, MSG_TAIL)->u.tail.dialogue, 3);
    rig_prepare(&g, 2, 1, NAME(1, 1), NAME(0, 0));
    rig_sync(&g);
    up(2);
    ck_assert_uint_eq(rig_sent(&g, MSG_TAIL), 0);
    ck_assert(name_equal(rig_message_sent(&g, MSG_PREPARED)->u.prepared.name,
                         NAME(1, 1)));
    rig_enter(&g, 2, 2, "12", "");
    up(2);
    ck_assert_uint_eq(g.fx.count, 0);
    rig_config(&g, 3, 2, "12", "");
    up(2);
    ck_assert_uint_eq(g.fx.count, 0); /* R3 */
}
END_TEST

START_TEST(r12d_the_silent_are_asked_ever_less)
{
    rig_enter(&g, 1, 1, "12", "");
    uint64_t first = rig_message_sent(&g, MSG_TAIL_ASK)->u.tail_ask.dialogue;
    ck_assert_uint_ge(tick_for(1000000, MSG_TAIL_ASK), 3);
    unsigned minute = tick_for(60000000, MSG_TAIL_ASK);
    ck_assert_uint_ge(minute, 11); /* 5 s apart at most */
    ck_assert_uint_le(minute, 16);
    struct event up = {.kind = EVENT_PEER_UP, .u.peer = rig_node(2)};
    rig_step(&g, &up); /* another connection: at once, and anew */
    ck_assert_uint_ne(rig_message_sent(&g, MSG_TAIL_ASK)->u.tail_ask.dialogue,
                      first);
    ck_assert_uint_ge(tick_for(1000000, MSG_TAIL_ASK), 3);
}
END_TEST

/* Acknowledgements that take longer than a repetition are no loss. */
START_TEST(r12d_a_far_peer_streams_on)
{
    rig_enter(&g, 1, 1, "12", "");
    tick_for(600000, MSG_TAIL_ASK);
    struct wire_msg m = {.type = MSG_TAIL};
    m.u.tail = (struct msg_tail){.tablet = 7, .epoch = 1, .dialogue = 1};
    rig_message(&g, 2, &m);
    ck_assert(replica_is_open(g.core));
    for (uint64_t s = 1; s <= 5; s++) {
        rig_command(&g, &cookie);
        rig_sync(&g);
        ck_assert_uint_eq(tick_for(600000, MSG_TAIL_ASK), 0);
        rig_acked(&g, 2, 1, NAME(1, s));
    }
    ck_assert_uint_eq(rig_report(&g).committed.seq, 5);
}
END_TEST

/* ---- R17: from the log what memory does not keep ---- */

#define LARGE 300000 /* bytes of an entry: four fill the window */

static struct {
    unsigned count;
    bool broken;
} read_back;

static enum status read_record(void *ctx, uint32_t tablet, uint64_t position,
                               struct name name, struct arena *arena,
                               struct slice *out)
{
    read_back.count++;
    for (uint32_t i = 0; !read_back.broken && i < g.count; i++) {
        const struct wal_record *r = &g.records[i];
        if (r->position == position) {
            ck_assert_uint_eq(tablet, r->tablet);
            ck_assert(name_equal(name, r->name));
            *out =
                slice_make(arena_copy(arena, r->payload.data, r->payload.len),
                           r->payload.len);
            return ST_OK;
        }
    }
    return ST_CORRUPT;
}

/* Primary of "12" in epoch 1, which has committed 10 entries and keeps none of
 * them in memory; entry S has the byte S throughout. */
static void ten_in_the_log(void)
{
    static uint8_t bytes[LARGE];
    g.host.tail_bytes_max = 0;
    g.host.read = read_record;
    read_back.count = 0;
    read_back.broken = false;
    rig_enter(&g, 1, 1, "12", "3");
    rig_tail(&g, 2, 1, NONE, 0);
    tick_for(600000, MSG_TAIL_ASK);
    ck_assert(replica_is_open(g.core));
    for (uint64_t s = 1; s <= 10; s++) {
        struct event e = {.kind = EVENT_COMMAND};
        for (size_t i = 0; i < LARGE; i++) {
            bytes[i] = (uint8_t)s;
        }
        e.u.command.payload = slice_make(bytes, LARGE);
        e.u.command.cookie = &cookie;
        rig_step(&g, &e);
        rig_sync(&g);
        rig_acked(&g, 2, 1, NAME(1, s));
        ck_assert_uint_eq(rig_report(&g).committed.seq, s);
    }
    rig_tick(&g); /* a step begins by trimming */
}

/* The last step sent the learner entries FIRST .. LAST, as they were. */
static void expect_entries(uint64_t first, uint64_t last)
{
    for (uint32_t i = 0; i < g.fx.count; i++) {
        const struct effect *x = &g.fx.items[i];
        const struct msg_prepare *m = &x->msg.u.prepare;
        if (x->kind != FX_SEND || x->msg.type != MSG_PREPARE ||
            x->to.node != 3 || m->only_match) {
            continue;
        }
        ck_assert_uint_eq(m->entry.seq, first);
        ck_assert_uint_eq(m->previous.seq, first - 1);
        ck_assert_uint_eq(m->payload.len, LARGE);
        ck_assert_uint_eq(m->payload.data[0], first);
        ck_assert_uint_eq(m->payload.data[LARGE - 1], first);
        first++;
    }
    ck_assert_uint_eq(first, last + 1);
}

START_TEST(r17_a_learner_streams_from_the_log)
{
    ten_in_the_log();
    rig_tail(&g, 3, 1, NAME(1, 3), 3);
    ck_assert_uint_eq(rig_sent(&g, MSG_SNAPSHOT_NEEDED), 0);
    expect_entries(4, 7); /* a mebibyte at a time is read */
    ck_assert_uint_eq(read_back.count, 4);
    rig_acked(&g, 3, 1, NAME(1, 5));
    expect_entries(8, 9);
    rig_acked(&g, 3, 1, NAME(1, 9));
    expect_entries(10, 10);
    rig_acked(&g, 3, 1, NAME(1, 10));
    ck_assert_uint_eq(read_back.count, 7);
}
END_TEST

START_TEST(r17_a_snapshot_if_the_log_does_not_read)
{
    ten_in_the_log();
    read_back.broken = true;
    rig_tail(&g, 3, 1, NAME(1, 3), 3);
    expect_entries(1, 0);
    ck_assert_uint_eq(read_back.count, 1);
    ck_assert_uint_eq(rig_sent(&g, MSG_TAIL_ASK), 1);
    rig_tail(&g, 3, 1, NAME(1, 3), 3);
    ck_assert_uint_eq(rig_sent(&g, MSG_SNAPSHOT_NEEDED), 1);
    ck_assert_uint_eq(read_back.count, 1);
}
END_TEST

/* A member that lacks what is committed has lost something (R16). */
START_TEST(r17_no_member_is_filled_from_the_log)
{
    ten_in_the_log();
    rig_enter(&g, 2, 1, "123", "");
    rig_tail(&g, 3, 2, NAME(1, 3), 3);
    expect_entries(1, 0);
    ck_assert_uint_eq(read_back.count, 0);
    ck_assert_int_eq(rig_effect(&g, FX_CHANGE)->change.kind, CHANGE_REMOVE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replica_dialogue");
    TCase *c = tcase_create("R12 (d)");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_loop_test(c, r12d_a_late_answer_counts, 0,
                        sizeof(lates) / sizeof(lates[0]));
    tcase_add_test(c, r12d_a_second_answer_changes_nothing);
    tcase_add_test(c, r12d_the_silent_are_asked_ever_less);
    tcase_add_test(c, r12d_an_answer_that_had_no_way_comes_when_there_is_one);
    tcase_add_test(c, r12d_a_far_peer_streams_on);
    tcase_add_test(c, r17_a_learner_streams_from_the_log);
    tcase_add_test(c, r17_a_snapshot_if_the_log_does_not_read);
    tcase_add_test(c, r17_no_member_is_filled_from_the_log);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
