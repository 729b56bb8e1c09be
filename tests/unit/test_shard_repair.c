/*
 * Damaged values come back from another replica (R16): one storage node, a
 * client and another storage process played by hand. Whatever that one says,
 * nothing is served, or written, but what has the digest.
 */
#include "storage/key.h"
#include "storage/place.h"
#include "tests/unit/value_rig.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define A_WHILE (200 * SIM_MS)
#define LOGGED 5000u
#define BLOB KIB(40)

static struct value_rig v;
static struct node_rig *const g = &v.node;

/* What the peer says when it is asked for a value. */
static enum { SILENT, RIGHT, WRONG, SHORT, ABSENT, DAMAGED } says;
static uint32_t which_of; /* the value that it has */

/* ---- values ---- */

static void expect_value(uint32_t which, size_t len)
{
    ck_assert(party_await(g, &g->client, MSG_VALUE, 1, 900 * SIM_MS));
    const struct wire_msg *m = party_last(&g->client, MSG_VALUE);
    ck_assert(m->u.value.found);
    ck_assert(slice_equal(m->u.value.value, value_bytes(which, len)));
    g->client.heard[MSG_VALUE] = 0;
}

static void damage(uint32_t which, size_t len)
{
    world_run_for(g->w, A_WHILE);
    ck_assert_uint_eq(value_damage(&v, value_bytes(which, len)), 1);
}

/* ---- the node, and who answers it ---- */

static void on_peer_message(struct party *p, struct env_conn *c,
                            const struct wire_msg *m)
{
    static uint8_t room[KIB(200)];
    struct wire_msg out = {.type = MSG_VALUE, .request = m->request};
    if (m->type != MSG_VALUE_ASK || says == SILENT) {
        return;
    }
    ck_assert(
        slice_equal(m->u.value_ask.column, slice_of(value_column(which_of))));
    struct slice value = value_bytes(which_of, m->u.value_ask.length);
    if (says == DAMAGED) {
        out.type = MSG_ERROR;
        out.u.error = (struct msg_error){.status = ST_CORRUPT};
    } else {
        memcpy(room, value.data, value.len);
        room[value.len - 7] ^= says == WRONG ? 4 : 0;
        value.len -= says == SHORT;
        out.u.value.found = says != ABSENT;
        out.u.value.value = slice_make(room, says != ABSENT ? value.len : 0);
    }
    party_send(p, c, &out);
}

/* The node alone is in sync, the other one learns. */
static void enter(void)
{
    struct replica in_sync[2], learner = node_rig_peer();
    struct tablet_config t = node_rig_config(g, 1, 1, in_sync);
    t.in_sync_count = 1;
    t.learners = &learner;
    t.learners_count = 1;
    g->replicas = g->min_insync = 1;
    g->peer.on_message = on_peer_message;
    says = SILENT;
    value_rig_open(&v, &t);
    value_rig_introduce(&v);
}

static void begin(void)
{
    node_rig_start(g);
    enter();
}

static void begin_scrubbing(void)
{
    node_rig_start_scrubbing(g);
    enter();
}

static void end(void)
{
    ck_assert(!g->fatal);
    node_rig_stop(g);
}

static const size_t sizes[] = {LOGGED, BLOB};

/* ---- who reads it ---- */

START_TEST(a_read_waits_for_the_repair)
{
    value_put(&v, 1, value_bytes(1, sizes[_i]));
    value_put(&v, 2, value_bytes(2, sizes[_i]));
    damage(1, sizes[_i]);
    says = RIGHT;
    which_of = 1;
    value_ask(&v, 1, 1);
    expect_value(1, sizes[_i]);
    ck_assert_uint_eq(g->peer.heard[MSG_VALUE_ASK], 1);
    struct storage_figures f = value_figures(&v);
    ck_assert_uint_eq(f.values_damaged, 1);
    ck_assert_uint_eq(f.values_repaired, 1);
    ck_assert_uint_eq(f.repairs, 0);
    ck_assert_uint_eq(storage_node_bad_values(g->node), 0);
    value_ask(&v, 1, 1); /* it stays */
    expect_value(1, sizes[_i]);
    value_ask(&v, 2, 2);
    expect_value(2, sizes[_i]);
    ck_assert_uint_eq(value_figures(&v).values_damaged, 1);
    ck_assert_uint_eq(g->peer.heard[MSG_VALUE_ASK], 1);
    ck_assert_uint_eq(node_rig_report(g).flags & REPORT_DAMAGED, 0);
}
END_TEST

/* The digest decides, not the other's word. */
START_TEST(wrong_bytes_are_not_taken)
{
    size_t size = sizes[_i % 2];
    value_put(&v, 1, value_bytes(1, size));
    damage(1, size);
    says = _i < 2 ? WRONG : SHORT;
    which_of = 1;
    value_ask(&v, 1, 1);
    ck_assert(party_await(g, &g->peer, MSG_VALUE_ASK, 3, 900 * SIM_MS));
    ck_assert_uint_eq(g->client.heard[MSG_VALUE], 0);
    ck_assert_uint_eq(value_figures(&v).values_repaired, 0);
    ck_assert_uint_eq(storage_node_bad_values(g->node), 1);
    says = RIGHT;
    expect_value(1, size);
    ck_assert_uint_eq(value_figures(&v).values_repaired, 1);
    ck_assert_uint_eq(storage_node_bad_values(g->node), 0);
}
END_TEST

/* It has it not, or damaged, or says nothing: the reader is told to ask
 * again, the rest is served, and it comes back when somebody has it. */
START_TEST(nobody_has_it_now)
{
    value_put(&v, 1, value_bytes(1, BLOB));
    value_put(&v, 2, value_bytes(2, BLOB));
    damage(1, BLOB);
    says = _i == 0 ? ABSENT : _i == 1 ? DAMAGED : SILENT;
    which_of = 1;
    value_ask(&v, 1, 1);
    ck_assert(party_await(g, &g->client, MSG_ERROR, 1, 3 * SIM_S));
    ck_assert_uint_eq(party_last(&g->client, MSG_ERROR)->u.error.status,
                      ST_BUSY);
    value_ask(&v, 2, 2);
    expect_value(2, BLOB);
    world_run_for(g->w, 10 * SIM_S); /* and again, but not too often */
    ck_assert_uint_ge(g->peer.heard[MSG_VALUE_ASK], 3);
    ck_assert_uint_le(g->peer.heard[MSG_VALUE_ASK], 12);
    ck_assert_uint_eq(node_rig_report(g).flags & REPORT_DAMAGED, 0);
    says = RIGHT;
    world_run_for(g->w, 8 * SIM_S);
    value_ask(&v, 1, 1);
    expect_value(1, BLOB);
}
END_TEST

START_TEST(a_new_value_ends_it)
{
    value_put(&v, 1, value_bytes(1, sizes[_i]));
    damage(1, sizes[_i]);
    which_of = 1;
    value_ask(&v, 1, 1);
    ck_assert(party_await(g, &g->peer, MSG_VALUE_ASK, 1, A_WHILE));
    ck_assert_uint_eq(value_figures(&v).repairs, 1);
    value_put(&v, 1, value_bytes(1, sizes[_i] + 1));
    expect_value(1, sizes[_i] + 1);
    world_run_for(g->w, 3 * SIM_S);
    ck_assert_uint_eq(value_figures(&v).repairs, 0);
    ck_assert_uint_eq(value_figures(&v).values_repaired, 0);
}
END_TEST

/* ---- who looks through all ---- */

static bool unrepaired(void *ctx)
{
    (void)ctx;
    return value_figures(&v).values_repaired == 0;
}

/* What nobody reads is found all the same. */
START_TEST(the_scrub_finds_it)
{
    value_put(&v, 1, value_bytes(1, sizes[_i]));
    value_put(&v, 2, value_bytes(2, sizes[_i]));
    damage(1, sizes[_i]);
    says = RIGHT;
    which_of = 1;
    ck_assert(world_run_while(g->w, unrepaired, NULL, 5 * SIM_S));
    ck_assert_uint_eq(storage_node_bad_values(g->node), 0);
    ck_assert_uint_eq(value_figures(&v).values_damaged, 1);
    value_ask(&v, 1, 1);
    expect_value(1, sizes[_i]);
}
END_TEST

/* Another member of I has another value, and stays with that. */
START_TEST(condemned_where_states_differ)
{
    struct replica in_sync[2];
    value_put(&v, 1, value_bytes(1, sizes[_i]));
    damage(1, sizes[_i]);
    says = ABSENT;
    which_of = 1;
    struct tablet_config t = node_rig_config(g, 2, 1, in_sync);
    node_rig_publish(g, &t, 1);
    world_run_for(g->w, 2 * SIM_S);
    ck_assert_uint_gt(g->peer.heard[MSG_VALUE_ASK], 0);
    ck_assert_uint_eq(node_rig_report(g).flags & REPORT_DAMAGED, 0);
    world_run_for(g->w, 6 * SIM_S);
    ck_assert_uint_ne(node_rig_report(g).flags & REPORT_DAMAGED, 0);
    ck_assert_uint_eq(value_figures(&v).repairs, 0);
}
END_TEST

/* So many at once: all is filled anew. */
START_TEST(condemned_when_too_much_is_damaged)
{
    struct replica in_sync[2];
    uint32_t many = _i == 0 ? LIMIT_REPAIRS : LIMIT_REPAIRS + 1;
    for (uint32_t i = 0; i < many; i++) {
        value_put(&v, i, value_bytes(i, LOGGED));
    }
    struct tablet_config t = node_rig_config(g, 2, 1, in_sync);
    node_rig_publish(g, &t, 1);
    for (uint32_t i = 0; i < many; i++) {
        (void)value_damage(&v, value_bytes(i, LOGGED));
    }
    world_run_for(g->w, 3 * SIM_S);
    ck_assert_uint_eq((node_rig_report(g).flags & REPORT_DAMAGED) != 0,
                      _i == 1);
    ck_assert_uint_eq(value_figures(&v).repairs, _i == 1 ? 0 : LIMIT_REPAIRS);
}
END_TEST

/* ---- who is asked ---- */

static void ask_node(struct slice value, uint32_t which)
{
    struct key k;
    key_encode(&k, slice_of("p"), slice_of("r"), slice_of(value_column(which)));
    struct wire_msg m = {.type = MSG_VALUE_ASK, .request = 77};
    m.u.value_ask =
        (struct msg_value_ask){.tablet = 1,
                               .partition = slice_of("p"),
                               .row = slice_of("r"),
                               .column = slice_of(value_column(which)),
                               .length = (uint32_t)value.len,
                               .digest = place_digest(key_slice(&k), value)};
    party_send(&g->peer, g->peer.conns[g->peer.conn_count - 1], &m);
}

START_TEST(it_gives_what_it_has)
{
    value_put(&v, 1, value_bytes(1, sizes[_i]));
    party_call(g, &g->peer);
    ask_node(value_bytes(1, sizes[_i]), 1);
    ck_assert(party_await(g, &g->peer, MSG_VALUE, 1, A_WHILE));
    const struct wire_msg *m = party_last(&g->peer, MSG_VALUE);
    ck_assert(m->request == 77 && m->u.value.found);
    ck_assert(slice_equal(m->u.value.value, value_bytes(1, sizes[_i])));
    ask_node(value_bytes(2, sizes[_i]), 1); /* another value */
    ck_assert(party_await(g, &g->peer, MSG_VALUE, 2, A_WHILE));
    ck_assert(!party_last(&g->peer, MSG_VALUE)->u.value.found);
    ask_node(value_bytes(1, sizes[_i]), 3); /* no such cell */
    ck_assert(party_await(g, &g->peer, MSG_VALUE, 3, A_WHILE));
    ck_assert(!party_last(&g->peer, MSG_VALUE)->u.value.found);
}
END_TEST

/* Its own is damaged: says so, and looks for it in turn. */
START_TEST(it_never_gives_wrong_bytes)
{
    value_put(&v, 1, value_bytes(1, sizes[_i]));
    damage(1, sizes[_i]);
    which_of = 1;
    party_call(g, &g->peer);
    for (uint32_t i = 1; i < 4; i++) {
        ask_node(value_bytes(1, sizes[_i]), 1);
        ck_assert(party_await(g, &g->peer, MSG_ERROR, i, A_WHILE));
        ck_assert_uint_eq(party_last(&g->peer, MSG_ERROR)->u.error.status,
                          ST_CORRUPT);
    }
    ck_assert_uint_eq(g->peer.heard[MSG_VALUE], 0);
    ck_assert_uint_eq(g->peer.heard[MSG_VALUE_ASK], 1);
    ck_assert_uint_eq(value_figures(&v).values_damaged, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shard_repair");
    TCase *t = tcase_create("read");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_loop_test(t, a_read_waits_for_the_repair, 0, 2);
    tcase_add_loop_test(t, wrong_bytes_are_not_taken, 0, 4);
    tcase_add_loop_test(t, nobody_has_it_now, 0, 3);
    tcase_add_loop_test(t, a_new_value_ends_it, 0, 2);
    tcase_add_loop_test(t, it_gives_what_it_has, 0, 2);
    tcase_add_loop_test(t, it_never_gives_wrong_bytes, 0, 2);
    suite_add_tcase(suite, t);
    t = tcase_create("scrub");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, begin_scrubbing, end);
    tcase_add_loop_test(t, the_scrub_finds_it, 0, 2);
    tcase_add_loop_test(t, condemned_where_states_differ, 0, 2);
    tcase_add_loop_test(t, condemned_when_too_much_is_damaged, 0, 2);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
