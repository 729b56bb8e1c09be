/*
 * R12 (d) where answers take their time: a step of the dialogue is repeated
 * under its number, and late answers count. Node 1 is the core.
 */
#include "tests/unit/replica_rig.h"

#include <check.h>
#include <stdlib.h>

#define NAME(e, s)                                                             \
    (struct name)                                                              \
    {                                                                          \
        e, s                                                                   \
    }

static struct rig g;
static const struct name none;
static int cookie;

static void begin(void)
{
    rig_start(&g, none);
}

static void end(void)
{
    rig_stop(&g);
}

/* The log is (1,1) (1,2) (1,3) (2,4) (2,5), entered anew in epoch 3. */
static void log_of_five(void)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_fill(&g, 2, 1, 1, 3);
    rig_enter(&g, 2, 2, "123", "");
    rig_prepare(&g, 2, 2, NAME(1, 3), NAME(1, 2));
    rig_fill(&g, 2, 2, 4, 5);
    rig_committed(&g, 2, 2, 2);
    rig_enter(&g, 3, 2, "123", "");
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
    log_of_five();
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
    log_of_five();
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
    tcase_add_test(c, r12d_a_far_peer_streams_on);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
