/*
 * R19: a primary compares its state with the others' at one seq. Node 1 is the
 * core; what the others answer is played by hand.
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

static struct id128 own_digest(void)
{
    return state_digest(replica_state(g.core));
}

static struct id128 another(uint8_t which)
{
    struct id128 d = own_digest();
    d.b[3] ^= which;
    return d;
}

static bool is_damaged(void)
{
    return (rig_report(&g).flags & REPORT_DAMAGED) != 0;
}

/* Primary of MEMBERS in epoch 1, open, with one committed entry. */
static void open_primary(const char *members)
{
    rig_enter(&g, 1, 1, members, "");
    for (const char *m = members; *m != '\0'; m++) {
        if (*m != '1') {
            rig_tail(&g, (uint32_t)(*m - '0'), 1, NONE, 0);
        }
    }
    g.now_us += LEASE_STRETCHED_US;
    rig_tick(&g);
    ck_assert(replica_is_open(g.core));
    rig_command(&g, &cookie);
    rig_sync(&g);
    for (const char *m = members; *m != '\0'; m++) {
        if (*m != '1') {
            rig_acked(&g, (uint32_t)(*m - '0'), 1, NAME(1, 1));
        }
    }
    ck_assert_uint_eq(rig_report(&g).committed.seq, 1);
}

static void compare(void)
{
    struct event e = {.kind = EVENT_COMPARE};
    rig_step(&g, &e);
}

static void answer(uint32_t from, uint64_t seq, struct id128 digest)
{
    struct wire_msg m = {.type = MSG_DIGEST_AT};
    m.u.digest_at = (struct msg_digest_at){
        .tablet = 7, .epoch = 1, .name = {1, seq}, .digest = digest};
    rig_message(&g, from, &m);
}

static void walked(bool sound)
{
    struct event e = {.kind = EVENT_WALKED, .u.sound = sound};
    rig_step(&g, &e);
}

static uint32_t told(void)
{
    const struct effect *x = rig_effect(&g, FX_SEND);
    ck_assert_uint_eq(rig_sent(&g, MSG_DIGEST_WRONG), 1);
    ck_assert_uint_eq(x->msg.u.digest_wrong.seq, 1);
    return x->to.node;
}

START_TEST(r19_alike)
{
    open_primary("123");
    compare();
    ck_assert_uint_eq(rig_sent(&g, MSG_DIGEST_WANT), 2);
    ck_assert_uint_eq(rig_message_sent(&g, MSG_DIGEST_WANT)->u.digest_want.seq,
                      1);
    answer(2, 1, own_digest());
    ck_assert_uint_eq(rig_effects(&g, FX_COMPARED), 0); /* one is awaited */
    answer(3, 1, own_digest());
    ck_assert_uint_eq(rig_effects(&g, FX_COMPARED), 1);
    ck_assert_uint_eq(rig_effect(&g, FX_COMPARED)->differing, 0);
    ck_assert(!is_damaged());
}
END_TEST

/* What is prepared is not committed yet: nobody can have passed it. */
START_TEST(r19_at_the_last_prepared_seq)
{
    open_primary("123");
    rig_command(&g, &cookie);
    compare();
    ck_assert_uint_eq(rig_message_sent(&g, MSG_DIGEST_WANT)->u.digest_want.seq,
                      2);
    rig_sync(&g);
    rig_acked(&g, 2, 1, NAME(1, 2));
    rig_acked(&g, 3, 1, NAME(1, 2)); /* it is applied here now */
    answer(2, 1, another(1));        /* late, of another comparison */
    answer(2, 2, own_digest());
    answer(3, 2, own_digest());
    ck_assert_uint_eq(rig_effects(&g, FX_COMPARED), 1);
    ck_assert_uint_eq(rig_effect(&g, FX_COMPARED)->differing, 0);
}
END_TEST

START_TEST(r19_who_differs_from_most_is_told)
{
    open_primary("123");
    compare();
    answer(2, 1, another(1));
    answer(3, 1, own_digest());
    ck_assert_uint_eq(told(), 2);
    ck_assert(!is_damaged());
    ck_assert_uint_eq(rig_effect(&g, FX_COMPARED)->differing, 1);
}
END_TEST

START_TEST(r19_a_primary_that_differs_gives_up)
{
    open_primary("123");
    compare();
    answer(2, 1, another(1));
    answer(3, 1, another(1));
    ck_assert_uint_eq(rig_sent(&g, MSG_DIGEST_WRONG), 0);
    ck_assert(is_damaged());
    ck_assert_uint_eq(rig_effects(&g, FX_CONDEMNED), 1);
    ck_assert_int_eq(rig_report(&g).role, REPLICA_NONE);
}
END_TEST

START_TEST(r19_three_kinds_prove_nothing)
{
    open_primary("123");
    compare();
    answer(2, 1, another(1));
    answer(3, 1, another(2));
    ck_assert_uint_eq(rig_sent(&g, MSG_DIGEST_WRONG), 0);
    ck_assert_uint_eq(rig_effect(&g, FX_COMPARED)->differing, 3);
    ck_assert(!is_damaged());
}
END_TEST

/* Of two, the primary is right if its own state is sound. */
START_TEST(r19_two_that_differ)
{
    bool sound = _i == 1;
    open_primary("12");
    compare();
    answer(2, 1, another(1));
    ck_assert_uint_eq(rig_effects(&g, FX_DISPUTED), 1);
    ck_assert_uint_eq(rig_sent(&g, MSG_DIGEST_WRONG), 0);
    g.now_us += 20000000; /* however long that takes */
    rig_tick(&g);
    compare();
    ck_assert_uint_eq(rig_sent(&g, MSG_DIGEST_WANT), 0);
    walked(sound);
    ck_assert_uint_eq(rig_sent(&g, MSG_DIGEST_WRONG), sound);
    compare();
    ck_assert_uint_eq(rig_sent(&g, MSG_DIGEST_WANT), 1);
}
END_TEST

START_TEST(r19_who_is_silent_has_no_vote)
{
    open_primary("123");
    compare();
    answer(2, 1, own_digest());
    for (int i = 0; i < 60; i++) {
        g.now_us += 200000;
        rig_tick(&g);
        if (rig_effects(&g, FX_COMPARED) > 0) {
            ck_assert_uint_eq(rig_effect(&g, FX_COMPARED)->differing, 0);
            return;
        }
    }
    ck_abort_msg("the comparison has no end");
}
END_TEST

START_TEST(r19_not_beyond_its_epoch)
{
    open_primary("123");
    compare();
    answer(2, 1, another(1));
    rig_enter(&g, 2, 1, "123", "");
    answer(3, 1, another(1));
    ck_assert(!is_damaged());
}
END_TEST

/* ---- a follower ---- */

static void ask(uint64_t seq)
{
    struct wire_msg m = {.type = MSG_DIGEST_WANT};
    m.u.digest_want = (struct msg_digest_want){7, 1, seq};
    rig_message(&g, 2, &m);
}

START_TEST(r19_answers_at_exactly_that_seq)
{
    rig_enter(&g, 1, 2, "123", "");
    rig_fill(&g, 2, 1, 1, 5);
    rig_sync(&g);
    rig_committed(&g, 2, 1, 2);
    ask(4);
    ck_assert_uint_eq(rig_sent(&g, MSG_DIGEST_AT), 0);
    rig_committed(&g, 2, 1, 5); /* it passes 4 on its way */
    ck_assert_uint_eq(rig_sent(&g, MSG_DIGEST_AT), 1);
    ck_assert_uint_eq(rig_message_sent(&g, MSG_DIGEST_AT)->u.digest_at.name.seq,
                      4);
    ask(5);
    ck_assert_uint_eq(rig_sent(&g, MSG_DIGEST_AT), 1); /* it stands there */
    ask(4);
    ck_assert_uint_eq(rig_sent(&g, MSG_DIGEST_AT), 0); /* gone by */
}
END_TEST

START_TEST(r19_told_wrong_it_is_condemned)
{
    struct wire_msg m = {.type = MSG_DIGEST_WRONG};
    m.u.digest_wrong = (struct msg_digest_wrong){7, 1, 5};
    rig_enter(&g, 1, 2, "123", "");
    rig_message(&g, 3, &m); /* only the primary says so */
    ck_assert(!is_damaged());
    rig_message(&g, 2, &m);
    ck_assert(is_damaged());
    rig_fill(&g, 2, 1, 1, 1);
    rig_sync(&g);
    rig_committed(&g, 2, 1, 1);
    ask(1);
    ck_assert_uint_eq(rig_sent(&g, MSG_DIGEST_AT), 0); /* it has no say */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("replica_compare");
    TCase *c = tcase_create("r19");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, r19_alike);
    tcase_add_test(c, r19_at_the_last_prepared_seq);
    tcase_add_test(c, r19_who_differs_from_most_is_told);
    tcase_add_test(c, r19_a_primary_that_differs_gives_up);
    tcase_add_test(c, r19_three_kinds_prove_nothing);
    tcase_add_loop_test(c, r19_two_that_differ, 0, 2);
    tcase_add_test(c, r19_who_is_silent_has_no_vote);
    tcase_add_test(c, r19_not_beyond_its_epoch);
    tcase_add_test(c, r19_answers_at_exactly_that_seq);
    tcase_add_test(c, r19_told_wrong_it_is_condemned);
    suite_add_tcase(s, c);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
