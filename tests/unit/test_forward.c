/*
 * Reads that come to a secondary (R9): one storage node, its primary and a
 * client played by hand.
 */
#include "tests/unit/node_rig.h"

#include <check.h>
#include <stdlib.h>

#define AT_ONCE (200 * SIM_MS)

static struct node_rig g;

/* The node is secondary of tablet 1 in epoch 1, and has a client. */
static void begin(void)
{
    node_rig_start(&g);
    node_rig_enter(&g, 1, 2);
    world_run_for(g.w, AT_ONCE); /* links open */
    party_call(&g, &g.client);
}

static void end(void)
{
    node_rig_stop(&g);
}

/* ---- what the primary says ---- */

static void say_value(struct party *p, struct env_conn *c,
                      const struct wire_msg *m)
{
    struct wire_msg answer = {.type = MSG_VALUE, .request = m->request};
    if (m->type == MSG_GET) {
        answer.u.value.found = 1;
        answer.u.value.value = m->u.get.column;
        party_send(p, c, &answer);
    }
}

static void say_cells(struct party *p, struct env_conn *c,
                      const struct wire_msg *m)
{
    struct cell cell = {.value = slice_of("of the primary")};
    struct wire_msg answer = {.type = MSG_CELLS, .request = m->request};
    if (m->type == MSG_SCAN) {
        answer.u.cells.cells = &cell;
        answer.u.cells.cells_count = 1;
        party_send(p, c, &answer);
    }
}

static void say_busy(struct party *p, struct env_conn *c,
                     const struct wire_msg *m)
{
    struct wire_msg answer = {.type = MSG_ERROR, .request = m->request};
    if (m->type == MSG_GET) {
        answer.u.error.status = ST_BUSY;
        party_send(p, c, &answer);
    }
}

/* The wrong answer, then the right one. */
static void say_nonsense(struct party *p, struct env_conn *c,
                         const struct wire_msg *m)
{
    if (m->type == MSG_GET) {
        struct wire_msg answer = {.type = MSG_CELLS, .request = m->request};
        party_send(p, c, &answer);
        say_value(p, c, m);
    }
}

static void say_no_status(struct party *p, struct env_conn *c,
                          const struct wire_msg *m)
{
    struct wire_msg answer = {.type = MSG_ERROR, .request = m->request};
    if (m->type == MSG_GET) {
        answer.u.error.status = ST_OK;
        party_send(p, c, &answer);
    }
}

/* ---- what the client asks ---- */

static void ask_get(uint64_t request, bool forwarded)
{
    struct wire_msg m = {.type = MSG_GET, .request = request};
    m.u.get = (struct msg_get){.tablet = 1,
                               .forwarded = forwarded,
                               .partition = slice_of("p"),
                               .row = slice_of("r"),
                               .column = slice_of("column")};
    party_send(&g.client, NULL, &m);
}

static void ask_scan(uint64_t request)
{
    struct wire_msg m = {.type = MSG_SCAN, .request = request};
    m.u.scan = (struct msg_scan){.tablet = 1, .partition = slice_of("p")};
    party_send(&g.client, NULL, &m);
}

/* The client hears, within the time, that node 2 is primary. */
static void expect_not_primary(uint64_t request, int64_t within_us)
{
    uint32_t before = g.client.heard[MSG_ERROR];
    ck_assert(party_await(&g, &g.client, MSG_ERROR, before + 1, within_us));
    const struct wire_msg *m = party_last(&g.client, MSG_ERROR);
    ck_assert_uint_eq(m->request, request);
    ck_assert_uint_eq(m->u.error.status, ST_NOT_PRIMARY);
    ck_assert(slice_equal(m->u.error.address, slice_of("b:1")));
}

/* ---- tests ---- */

START_TEST(a_get_is_sent_on)
{
    g.peer.on_message = say_value;
    ask_get(77, false);
    ck_assert(party_await(&g, &g.client, MSG_VALUE, 1, AT_ONCE));
    const struct wire_msg *m = party_last(&g.client, MSG_VALUE);
    ck_assert_uint_eq(m->request, 77);
    ck_assert_uint_eq(m->u.value.found, 1);
    ck_assert(slice_equal(m->u.value.value, slice_of("column")));
    m = party_last(&g.peer, MSG_GET);
    ck_assert_uint_eq(m->u.get.forwarded, 1);
    ck_assert_uint_ne(m->request, 77);
    ck_assert_uint_eq(g.client.heard[MSG_ERROR], 0);
}
END_TEST

START_TEST(a_scan_is_sent_on)
{
    g.peer.on_message = say_cells;
    ask_scan(78);
    ck_assert(party_await(&g, &g.client, MSG_CELLS, 1, AT_ONCE));
    const struct wire_msg *m = party_last(&g.client, MSG_CELLS);
    ck_assert_uint_eq(m->request, 78);
    ck_assert_uint_eq(m->u.cells.cells_count, 1);
    ck_assert_uint_eq(party_last(&g.peer, MSG_SCAN)->u.scan.forwarded, 1);
}
END_TEST

/* It must delay no acknowledgement. */
START_TEST(it_goes_over_the_bulk_lane)
{
    ask_get(1, false);
    ck_assert(party_await(&g, &g.peer, MSG_GET, 1, AT_ONCE));
    for (uint32_t i = 0; i < g.peer.conn_count; i++) {
        if (g.peer.conns[i] == g.peer.from[MSG_GET]) {
            ck_assert_uint_eq(g.peer.peers[i].lane, LANE_BULK);
        }
    }
}
END_TEST

START_TEST(a_flagged_one_is_not_sent_on)
{
    ask_get(5, true);
    expect_not_primary(5, AT_ONCE);
    ck_assert_uint_eq(g.peer.heard[MSG_GET], 0);
}
END_TEST

START_TEST(a_watch_is_not_sent_on)
{
    struct wire_msg m = {.type = MSG_WATCH, .request = 6};
    m.u.watch = (struct msg_watch){.tablet = 1, .wait_ms = 1000};
    party_send(&g.client, NULL, &m);
    expect_not_primary(6, AT_ONCE);
    ck_assert_uint_eq(g.peer.heard[MSG_WATCH], 0);
}
END_TEST

START_TEST(a_command_is_not_sent_on)
{
    struct wire_msg m = {.type = MSG_COMMAND, .request = 7};
    m.u.command.tablet = 1;
    m.u.command.command.kind = COMMAND_NOTHING;
    party_send(&g.client, NULL, &m);
    expect_not_primary(7, AT_ONCE);
    ck_assert_uint_eq(g.peer.heard[MSG_COMMAND], 0);
}
END_TEST

START_TEST(the_primarys_refusal_is_passed_on)
{
    g.peer.on_message = say_busy;
    ask_get(8, false);
    ck_assert(party_await(&g, &g.client, MSG_ERROR, 1, AT_ONCE));
    const struct wire_msg *m = party_last(&g.client, MSG_ERROR);
    ck_assert_uint_eq(m->request, 8);
    ck_assert_uint_eq(m->u.error.status, ST_BUSY);
}
END_TEST

static void (*const wrong_answers[])(struct party *p, struct env_conn *c,
                                     const struct wire_msg *m) = {
    say_nonsense, say_no_status};

START_TEST(what_is_no_answer_is_not_passed_on)
{
    g.peer.on_message = wrong_answers[_i];
    ask_get(9, false);
    expect_not_primary(9, AT_ONCE);
    world_run_for(g.w, AT_ONCE);
    ck_assert_uint_eq(g.client.heard[MSG_CELLS], 0);
    ck_assert_uint_eq(g.client.heard[MSG_VALUE], 0);
}
END_TEST

START_TEST(a_lost_link_gives_it_back)
{
    ask_get(10, false);
    ck_assert(party_await(&g, &g.peer, MSG_GET, 1, AT_ONCE));
    sim_net_reset(g.host, sim_env_host(g.peer.env));
    expect_not_primary(10, AT_ONCE);
    ck_assert_uint_eq(g.client.heard[MSG_ERROR], 1);
}
END_TEST

START_TEST(without_a_link_it_is_given_back_at_once)
{
    sim_host_kill(sim_env_host(g.peer.env));
    world_run_for(g.w, AT_ONCE);
    g.peer.env = NULL;
    ask_get(11, false);
    expect_not_primary(11, 20 * SIM_MS);
}
END_TEST

START_TEST(a_silent_primary_is_waited_for_up_to_the_deadline)
{
    ask_get(12, false);
    ck_assert(!party_await(&g, &g.client, MSG_ERROR, 1, 900 * SIM_MS));
    expect_not_primary(12, 300 * SIM_MS);
    say_value(&g.peer, g.peer.from[MSG_GET], party_last(&g.peer, MSG_GET));
    world_run_for(g.w, AT_ONCE); /* late */
    ck_assert_uint_eq(g.client.heard[MSG_VALUE], 0);
}
END_TEST

START_TEST(another_epoch_of_another_primary_gives_it_back)
{
    ask_get(13, false);
    ck_assert(party_await(&g, &g.peer, MSG_GET, 1, AT_ONCE));
    node_rig_enter(&g, 2, 1);
    ck_assert(party_await(&g, &g.client, MSG_ERROR, 1, 20 * SIM_MS));
    const struct wire_msg *m = party_last(&g.client, MSG_ERROR);
    ck_assert_uint_eq(m->u.error.status, ST_NOT_PRIMARY);
    ck_assert_uint_eq(m->u.error.epoch, 2);
}
END_TEST

START_TEST(the_number_under_way_is_bounded)
{
    for (uint64_t i = 1; i <= LIMIT_FORWARDS; i++) {
        ask_get(i, false);
    }
    world_run_for(g.w, AT_ONCE);
    ck_assert_uint_eq(g.peer.heard[MSG_GET], LIMIT_FORWARDS);
    ck_assert_uint_eq(g.client.heard[MSG_ERROR], 0);
    ask_get(LIMIT_FORWARDS + 1, false);
    expect_not_primary(LIMIT_FORWARDS + 1, 20 * SIM_MS);
    /* One that is answered makes room. */
    say_value(&g.peer, g.peer.from[MSG_GET], party_last(&g.peer, MSG_GET));
    ck_assert(party_await(&g, &g.client, MSG_VALUE, 1, AT_ONCE));
    ask_get(1000, false);
    ck_assert(party_await(&g, &g.peer, MSG_GET, LIMIT_FORWARDS + 1, AT_ONCE));
}
END_TEST

START_TEST(a_client_that_left_is_owed_nothing)
{
    ask_get(14, false);
    ck_assert(party_await(&g, &g.peer, MSG_GET, 1, AT_ONCE));
    g.client.env->ops->close(g.client.conns[0]);
    g.client.conn_count = 0;
    world_run_for(g.w, AT_ONCE);
    say_value(&g.peer, g.peer.from[MSG_GET], party_last(&g.peer, MSG_GET));
    world_run_for(g.w, 2 * SIM_S);
    ck_assert(!g.fatal);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("forward");
    TCase *c = tcase_create("reads");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, a_get_is_sent_on);
    tcase_add_test(c, a_scan_is_sent_on);
    tcase_add_test(c, it_goes_over_the_bulk_lane);
    tcase_add_test(c, a_flagged_one_is_not_sent_on);
    tcase_add_test(c, a_watch_is_not_sent_on);
    tcase_add_test(c, a_command_is_not_sent_on);
    tcase_add_test(c, the_primarys_refusal_is_passed_on);
    tcase_add_loop_test(c, what_is_no_answer_is_not_passed_on, 0,
                        sizeof(wrong_answers) / sizeof(wrong_answers[0]));
    tcase_add_test(c, a_lost_link_gives_it_back);
    tcase_add_test(c, without_a_link_it_is_given_back_at_once);
    tcase_add_test(c, a_silent_primary_is_waited_for_up_to_the_deadline);
    tcase_add_test(c, another_epoch_of_another_primary_gives_it_back);
    tcase_add_test(c, the_number_under_way_is_bounded);
    tcase_add_test(c, a_client_that_left_is_owed_nothing);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
