/*
 * What an authenticated but faulty coordinator or storage process may send to
 * a storage node: it is refused, and the node goes on.
 */
#include "tests/unit/node_rig.h"

#include <check.h>
#include <stdlib.h>

#define A_WHILE (200 * SIM_MS)

static struct node_rig g;

static void begin(void)
{
    node_rig_start(&g);
}

static void end(void)
{
    ck_assert(!g.fatal);
    node_rig_stop(&g);
}

/* ---- configurations ---- */

static void primary_outside(struct tablet_config *t)
{
    t->in_sync[0].store.b[3] ^= 1;
    t->in_sync[1].store.b[3] ^= 1;
}

static void nobody_in_sync(struct tablet_config *t)
{
    t->in_sync_count = 0;
}

static void member_twice(struct tablet_config *t)
{
    t->in_sync[0] = t->in_sync[1] = t->primary;
}

static void members_learn(struct tablet_config *t)
{
    t->learners = t->in_sync;
    t->learners_count = t->in_sync_count;
}

static void range_backwards(struct tablet_config *t)
{
    t->hash_first = 2;
    t->hash_last = 1;
}

static void tablet_zero(struct tablet_config *t)
{
    t->tablet = 0;
}

static void epoch_for_ever(struct tablet_config *t)
{
    t->epoch = UINT64_MAX;
}

static void (*const spoilers[])(struct tablet_config *t) = {
    primary_outside, nobody_in_sync, member_twice, members_learn,
    range_backwards, epoch_for_ever, tablet_zero,
};
#define SPOILERS ((int)(sizeof(spoilers) / sizeof(spoilers[0])))

/* As primary: that is who trusts the configuration most. */
START_TEST(a_map_is_refused_as_a_whole)
{
    struct replica in_sync[2], others[2];
    node_rig_enter(&g, 1, 1);
    struct tablet_config t[2] = {node_rig_config(&g, 2, 1, in_sync),
                                 node_rig_config(&g, 2, 1, others)};
    spoilers[_i](&t[0]);
    t[1].tablet = 2; /* nothing is wrong with that one */
    node_rig_publish(&g, t, 2);
    world_run_for(g.w, A_WHILE);
    ck_assert_uint_eq(node_rig_report(&g).epoch, 1);
    ck_assert_uint_eq(
        storage_node_tablets(g.node, (struct tablet_report[2]){{0}}, 2), 1);
    node_rig_enter(&g, 2, 1);
    ck_assert_int_eq(node_rig_report(&g).role, REPLICA_PRIMARY);
}
END_TEST

/* A configuration in a peer's question; epoch 3 has it as primary. */
static void ask_with(const struct tablet_config *config)
{
    struct wire_msg m = {.type = MSG_TAIL_ASK};
    m.u.tail_ask = (struct msg_tail_ask){.tablet = 1,
                                         .epoch = config->epoch,
                                         .dialogue = 1,
                                         .before = UINT64_MAX,
                                         .config = *config};
    party_send(&g.peer, g.peer.conns[g.peer.conn_count - 1], &m);
    world_run_for(g.w, A_WHILE);
}

static void begin_following(struct tablet_config *config,
                            struct replica *in_sync)
{
    node_rig_enter(&g, 1, 2);
    world_run_for(g.w, A_WHILE);
    party_call(&g, &g.peer);
    *config = node_rig_config(&g, 3, 2, in_sync);
}

START_TEST(a_peers_configuration_is_refused)
{
    struct tablet_config t;
    struct replica in_sync[2];
    begin_following(&t, in_sync);
    spoilers[_i](&t);
    ask_with(&t);
    ck_assert_uint_eq(node_rig_report(&g).epoch, 1);
    begin_following(&t, in_sync);
    ask_with(&t);
    ck_assert_uint_eq(node_rig_report(&g).epoch, 3);
    ck_assert_uint_ge(g.peer.heard[MSG_TAIL], 1);
}
END_TEST

/* Nobody but the coordinator makes a primary, and a primary only asks for
 * itself (R1, R4, R12). */
START_TEST(a_peer_makes_nobody_else_primary)
{
    struct tablet_config t;
    struct replica in_sync[2];
    begin_following(&t, in_sync);
    t.primary = g.self;
    t.primary_incarnation = g.incarnation;
    ask_with(&t);
    ck_assert_uint_eq(node_rig_report(&g).epoch, 1);
    t = node_rig_config(&g, 3, 2, in_sync);
    t.primary_incarnation.counter++;
    ask_with(&t);
    ck_assert_uint_eq(node_rig_report(&g).epoch, 1);
    t = node_rig_config(&g, 3, 2, in_sync);
    t.primary = (struct replica){0};
    ask_with(&t);
    ck_assert_uint_eq(node_rig_report(&g).epoch, 1);
}
END_TEST

/* ---- the map itself ---- */

/* The node is primary, open, and a client's command waits for the peer. */
static void begin_leading(void)
{
    g.peer.answers_dialogue = true;
    node_rig_enter(&g, 1, 1);
    world_run_for(g.w, 500 * SIM_MS);
    ck_assert_uint_ne(node_rig_report(&g).flags & REPORT_OPEN, 0);
    party_call(&g, &g.client);
    struct wire_msg m = {.type = MSG_COMMAND, .request = 9};
    m.u.command.tablet = 1;
    m.u.command.command.kind = COMMAND_NOTHING;
    party_send(&g.client, NULL, &m);
    ck_assert(party_await(&g, &g.peer, MSG_PREPARE, 1, A_WHILE));
}

static void acknowledge(void)
{
    const struct msg_prepare *p = &party_last(&g.peer, MSG_PREPARE)->u.prepare;
    struct wire_msg m = {.type = MSG_PREPARED};
    m.u.prepared = (struct msg_prepared){1, p->epoch, p->entry};
    party_send(&g.peer, NULL, &m);
    world_run_for(g.w, A_WHILE);
}

/* R7 counts on it: with another number what is open would not be. */
START_TEST(min_insync_is_for_ever)
{
    struct replica in_sync[2];
    begin_leading();
    struct tablet_config t = node_rig_config(&g, 1, 1, in_sync);
    g.replicas = 5;
    node_rig_publish(&g, &t, 1);
    g.replicas = 3;
    g.min_insync = 3;
    node_rig_publish(&g, &t, 1);
    world_run_for(g.w, A_WHILE);
    acknowledge();
    ck_assert_uint_eq(g.client.heard[MSG_RESULT], 1);
    ck_assert_uint_eq(node_rig_report(&g).committed.seq, 1);
}
END_TEST

/* ---- the dialogue ---- */

/* Names that do not go downwards would be asked for without end. */
START_TEST(a_dialogue_goes_downwards)
{
    node_rig_enter(&g, 1, 1);
    ck_assert(party_await(&g, &g.peer, MSG_TAIL_ASK, 1, A_WHILE));
    uint32_t asked = 0;
    for (int i = 0; i < 20; i++) {
        const struct msg_tail_ask *ask =
            &party_last(&g.peer, MSG_TAIL_ASK)->u.tail_ask;
        struct run run = {7, 50, 60};
        struct wire_msg m = {.type = MSG_TAIL};
        m.u.tail = (struct msg_tail){.tablet = 1,
                                     .epoch = 1,
                                     .dialogue = ask->dialogue,
                                     .last = {7, 60},
                                     .more = 1,
                                     .runs = &run,
                                     .runs_count = 1};
        asked = g.peer.heard[MSG_TAIL_ASK];
        party_send(&g.peer, NULL, &m);
        world_run_for(g.w, 4 * SIM_MS);
    }
    ck_assert_uint_eq(g.peer.heard[MSG_TAIL_ASK], asked);
}
END_TEST

/* ---- snapshots ---- */

static const struct name bad_names[] = {
    {0, 0}, {1, 0}, {0, 9}, {2, 9}, {UINT64_MAX, 9}, {1, UINT64_MAX},
};

/* The only page of an empty tablet that ends with NAME. */
static void serve_page(struct name name, uint32_t asked)
{
    static const uint8_t no_clients[4] = {0};
    ck_assert(party_await(&g, &g.peer, MSG_SCAN_TABLET, asked, A_WHILE));
    struct wire_msg m = {.type = MSG_TABLET_PAGE};
    m.request = party_last(&g.peer, MSG_SCAN_TABLET)->request;
    m.u.tablet_page.snapshot = 5;
    m.u.tablet_page.name = name;
    m.u.tablet_page.clients = slice_make(no_clients, sizeof(no_clients));
    party_send(&g.peer, g.peer.from[MSG_SCAN_TABLET], &m);
    world_run_for(g.w, A_WHILE);
}

static void need_snapshot(void)
{
    struct wire_msg m = {.type = MSG_SNAPSHOT_NEEDED};
    m.u.snapshot_needed = (struct msg_snapshot_needed){1, 1};
    party_send(&g.peer, NULL, &m);
}

START_TEST(a_snapshot_has_a_name_that_can_be)
{
    struct replica in_sync[2];
    struct tablet_config t = node_rig_config(&g, 1, 2, in_sync);
    t.in_sync = &in_sync[1];
    t.learners = &in_sync[0];
    t.in_sync_count = t.learners_count = 1;
    node_rig_publish(&g, &t, 1);
    world_run_for(g.w, A_WHILE);
    ck_assert_int_eq(node_rig_report(&g).role, REPLICA_LEARNER);
    need_snapshot();
    serve_page(bad_names[_i], 1);
    ck_assert_uint_eq(node_rig_report(&g).committed.seq, 0);
    need_snapshot();
    serve_page((struct name){1, 9}, 2);
    ck_assert_uint_eq(node_rig_report(&g).committed.seq, 9);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hostile");
    TCase *c = tcase_create("storage");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_loop_test(c, a_map_is_refused_as_a_whole, 0, SPOILERS);
    tcase_add_loop_test(c, a_peers_configuration_is_refused, 0, SPOILERS - 1);
    tcase_add_test(c, a_peer_makes_nobody_else_primary);
    tcase_add_test(c, min_insync_is_for_ever);
    tcase_add_test(c, a_dialogue_goes_downwards);
    tcase_add_loop_test(c, a_snapshot_has_a_name_that_can_be, 0,
                        sizeof(bad_names) / sizeof(bad_names[0]));
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
