/*
 * Reads of values that are not in memory: one storage node, alone in its
 * tablet's in-sync set, and a client played by hand. What it answers is what
 * was written, or nothing.
 */
#include "tests/unit/value_rig.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE (200 * SIM_MS)
#define LARGE 5000

static struct value_rig v;
static struct node_rig *const g = &v.node;

/* ---- asking ---- */

static void expect_value(uint32_t which, struct slice value)
{
    uint32_t before = g->client.heard[MSG_VALUE];
    value_ask(&v, which + 1, which);
    ck_assert(party_await(g, &g->client, MSG_VALUE, before + 1, SIM_S));
    const struct wire_msg *m = party_last(&g->client, MSG_VALUE);
    ck_assert_uint_eq(m->request, which + 1);
    ck_assert_uint_eq(m->u.value.found, 1);
    ck_assert(slice_equal(m->u.value.value, value));
}

static void expect_error(uint64_t request, enum status why)
{
    ck_assert(party_await(g, &g->client, MSG_ERROR, 1, 3 * SIM_S));
    const struct wire_msg *m = party_last(&g->client, MSG_ERROR);
    ck_assert_uint_eq(m->request, request);
    ck_assert_uint_eq(m->u.error.status, why);
    ck_assert_uint_eq(g->client.heard[MSG_VALUE], 0);
}

/* ---- the node ---- */

/* The node alone is in sync, and primary. */
static void enter_alone(uint64_t epoch)
{
    struct replica in_sync[2];
    struct tablet_config t = node_rig_config(g, epoch, 1, in_sync);
    t.in_sync_count = 1;
    value_rig_open(&v, &t);
}

static void begin(void)
{
    node_rig_start(g);
    g->replicas = g->min_insync = 1;
    enter_alone(1);
    value_rig_introduce(&v);
}

static void end(void)
{
    ck_assert(!g->fatal);
    node_rig_stop(g);
}

/* ---- what comes back ---- */

static const size_t sizes[] = {0,       1024,        1025,    4096,
                               KIB(16), KIB(16) + 1, KIB(40), KIB(200)};

START_TEST(a_value_comes_back)
{
    value_put(&v, 1, value_bytes(7, sizes[_i]));
    for (int i = 0; i < 2; i++) { /* from the disk; from the cache */
        expect_value(1, value_bytes(7, sizes[_i]));
    }
    struct storage_figures f = value_figures(&v);
    bool on_disk = sizes[_i] > LIMIT_VALUE_INLINE,
         cached = on_disk && sizes[_i] < KIB(8);
    ck_assert_uint_eq(f.cache_hits, cached ? 1 : 0);
    ck_assert_uint_eq(f.cache_misses, !on_disk ? 0 : cached ? 1 : 2);
    ck_assert_uint_eq(f.values_fetching, 0);
}
END_TEST

START_TEST(a_scan_has_them_all)
{
    struct wire_msg ask = {.type = MSG_SCAN, .request = 9};
    ask.u.scan = (struct msg_scan){.tablet = 1, .partition = slice_of("p")};
    for (uint32_t i = 0; i < 60; i++) {
        value_put(&v, i, value_bytes(i, i % 3 == 0 ? 10 : LARGE + i));
    }
    expect_value(1, value_bytes(1, LARGE + 1)); /* this one is in the cache */
    party_send(&g->client, NULL, &ask);
    ck_assert(party_await(g, &g->client, MSG_CELLS, 1, SIM_S));
    const struct wire_msg *m = party_last(&g->client, MSG_CELLS);
    ck_assert_uint_eq(m->request, 9);
    ck_assert_uint_eq(m->u.cells.cells_count, 60);
    for (uint32_t i = 0; i < 60; i++) {
        const struct cell *c = &m->u.cells.cells[i];
        ck_assert(slice_equal(c->column, slice_of(value_column(i))));
        ck_assert(
            slice_equal(c->value, value_bytes(i, i % 3 == 0 ? 10 : LARGE + i)));
    }
}
END_TEST

START_TEST(a_tablets_page_has_them_all)
{
    struct wire_msg ask = {.type = MSG_SCAN_TABLET, .request = 3};
    ask.u.scan_tablet = (struct msg_scan_tablet){
        .tablet = 1, .snapshot = _i == 0 ? 0 : SNAPSHOT_NEW};
    for (uint32_t i = 0; i < 20; i++) {
        value_put(&v, i, value_bytes(i, LARGE));
    }
    sim_disk_slow_fetch(g->host, 20 * SIM_MS);
    party_send(&g->client, NULL, &ask);
    world_run_for(g->w, 10 * SIM_MS);
    value_put(&v, 3, value_bytes(99, LARGE)); /* after it was looked up */
    ck_assert(party_await(g, &g->client, MSG_TABLET_PAGE, 1, SIM_S));
    const struct msg_tablet_page *p =
        &party_last(&g->client, MSG_TABLET_PAGE)->u.tablet_page;
    ck_assert_uint_eq(p->cells_count, 20);
    ck_assert_uint_eq(p->more, 0);
    ck_assert_uint_gt(p->clients.len, 0);
    for (uint32_t i = 0; i < 20; i++) {
        ck_assert(slice_equal(p->cells[i].value, value_bytes(i, LARGE)));
    }
}
END_TEST

static void ask_watch(uint64_t request, struct slice seen)
{
    struct wire_msg m = {.type = MSG_WATCH, .request = request};
    m.u.watch = (struct msg_watch){.tablet = 1,
                                   .partition = slice_of("p"),
                                   .row = slice_of("r"),
                                   .column = slice_of(value_column(1)),
                                   .seen = 1,
                                   .value = seen,
                                   .wait_ms = 10000};
    party_send(&g->client, NULL, &m);
}

START_TEST(a_watch_tells_what_came)
{
    value_put(&v, 1, value_bytes(1, LARGE));
    ask_watch(5, value_bytes(1, LARGE));
    world_run_for(g->w, AT_ONCE);
    ck_assert_uint_eq(g->client.heard[MSG_CHANGED], 0);
    ck_assert_uint_eq(value_figures(&v).cache_misses,
                      0); /* nothing was read for it */
    value_put(&v, 1, value_bytes(2, LARGE));
    ck_assert(party_await(g, &g->client, MSG_CHANGED, 1, SIM_S));
    const struct wire_msg *m = party_last(&g->client, MSG_CHANGED);
    ck_assert_uint_eq(m->u.changed.changed, 1);
    ck_assert_uint_eq(m->u.changed.found, 1);
    ck_assert(slice_equal(m->u.changed.value, value_bytes(2, LARGE)));
}
END_TEST

/* ---- damage ---- */

static void damage(struct slice bytes)
{
    ck_assert_uint_eq(value_damage(&v, bytes), 1);
}

START_TEST(a_damaged_one_is_not_served)
{
    value_put(&v, 1, value_bytes(1, LARGE));
    value_put(&v, 2, value_bytes(2, LARGE));
    world_run_for(g->w, AT_ONCE);
    damage(value_bytes(1, LARGE));
    value_ask(&v, 11, 1);
    expect_error(11, ST_CORRUPT);
    ck_assert_uint_eq(value_figures(&v).values_damaged, 1);
    for (uint32_t i = 2; i < 5; i++) { /* as often as it is asked for */
        value_ask(&v, 11, 1);
        ck_assert(party_await(g, &g->client, MSG_ERROR, i, SIM_S));
        ck_assert_uint_eq(value_figures(&v).values_damaged, i);
    }
    ck_assert_uint_eq(g->client.heard[MSG_VALUE], 0);
    expect_value(2,
                 value_bytes(2, LARGE)); /* the only replica serves the rest */
}
END_TEST

START_TEST(nor_in_a_scan)
{
    struct wire_msg ask = {.type = MSG_SCAN, .request = 12};
    ask.u.scan = (struct msg_scan){.tablet = 1, .partition = slice_of("p")};
    for (uint32_t i = 0; i < 40; i++) {
        value_put(&v, i, value_bytes(i, LARGE));
    }
    world_run_for(g->w, AT_ONCE);
    damage(value_bytes(17, LARGE));
    party_send(&g->client, NULL, &ask);
    expect_error(12, ST_CORRUPT);
    ck_assert_uint_eq(g->client.heard[MSG_CELLS], 0);
    ask.type = MSG_SCAN_TABLET;
    ask.request = 13;
    ask.u.scan_tablet =
        (struct msg_scan_tablet){.tablet = 1, .snapshot = SNAPSHOT_NEW};
    party_send(&g->client, NULL, &ask);
    ck_assert(party_await(g, &g->client, MSG_ERROR, 2, SIM_S));
    ck_assert_uint_eq(party_last(&g->client, MSG_ERROR)->u.error.status,
                      ST_CORRUPT);
    ck_assert_uint_eq(g->client.heard[MSG_TABLET_PAGE], 0);
}
END_TEST

START_TEST(an_unreadable_one_is_not_served)
{
    value_put(&v, 1, value_bytes(1, LARGE));
    world_run_for(g->w, AT_ONCE);
    sim_disk_fail_fetch(g->host, 1);
    value_ask(&v, 11, 1);
    expect_error(11, ST_CORRUPT);
}
END_TEST

/* ---- while they are on their way ---- */

/* R9: another primary may have been there before the value was. */
START_TEST(not_when_another_is_primary_by_then)
{
    value_put(&v, 1, value_bytes(1, LARGE));
    world_run_for(g->w, AT_ONCE);
    sim_disk_slow_fetch(g->host, AT_ONCE);
    value_ask(&v, 21, 1);
    world_run_for(g->w, 10 * SIM_MS);
    node_rig_enter(g, 2, 2);
    ck_assert_uint_eq(g->client.heard[MSG_VALUE], 0);
    ck_assert(party_await(g, &g->peer, MSG_GET, 1, SIM_S)); /* sent on */
    ck_assert_uint_eq(g->client.heard[MSG_VALUE], 0);
}
END_TEST

/* Nor if this one is primary again. */
START_TEST(looked_up_again_in_another_epoch)
{
    value_put(&v, 1, value_bytes(1, LARGE));
    world_run_for(g->w, AT_ONCE);
    sim_disk_slow_fetch(g->host, AT_ONCE);
    value_ask(&v, 22, 1);
    world_run_for(g->w, 10 * SIM_MS);
    enter_alone(2);
    ck_assert_uint_eq(value_figures(&v).cache_misses, 1);
    ck_assert(party_await(g, &g->client, MSG_VALUE, 1, 2 * SIM_S));
    ck_assert(slice_equal(party_last(&g->client, MSG_VALUE)->u.value.value,
                          value_bytes(1, LARGE)));
    struct storage_figures f = value_figures(&v);
    ck_assert_uint_eq(f.cache_hits + f.cache_misses, 2);
}
END_TEST

START_TEST(replaced_meanwhile)
{
    value_put(&v, 1, value_bytes(1, LARGE));
    world_run_for(g->w, AT_ONCE);
    sim_disk_slow_fetch(g->host, AT_ONCE);
    value_ask(&v, 23, 1);
    world_run_for(g->w, 10 * SIM_MS);
    value_put(&v, 1, value_bytes(2, LARGE));
    ck_assert(party_await(g, &g->client, MSG_VALUE, 1, 2 * SIM_S));
    ck_assert(slice_equal(party_last(&g->client, MSG_VALUE)->u.value.value,
                          value_bytes(1, LARGE)));
    sim_disk_slow_fetch(g->host, 0);
    expect_value(1, value_bytes(2, LARGE));
}
END_TEST

START_TEST(the_client_goes)
{
    for (uint32_t i = 0; i < 30; i++) {
        value_put(&v, i, value_bytes(i, LARGE));
    }
    sim_disk_slow_fetch(g->host, AT_ONCE);
    for (uint32_t i = 0; i < 30; i++) {
        value_ask(&v, i + 1, i);
    }
    world_run_for(g->w, 10 * SIM_MS);
    ck_assert_uint_gt(value_figures(&v).values_fetching, 0);
    g->client.env->ops->close(g->client.conns[0]);
    g->client.conn_count = 0;
    world_run_for(g->w, 2 * SIM_S);
    ck_assert_uint_eq(value_figures(&v).values_fetching, 0);
    sim_disk_slow_fetch(g->host, 0);
    party_call(g, &g->client);
    expect_value(1, value_bytes(1, LARGE));
}
END_TEST

START_TEST(the_node_goes)
{
    value_put(&v, 1, value_bytes(1, LARGE));
    world_run_for(g->w, AT_ONCE);
    sim_disk_slow_fetch(g->host, AT_ONCE);
    value_ask(&v, 1, 1);
    world_run_for(g->w, 10 * SIM_MS);
    ck_assert_uint_gt(value_figures(&v).values_fetching, 0);
    /* end() takes the node away */
}
END_TEST

#define MANY 500

static uint32_t right;

static void count_right(struct party *p, struct env_conn *c,
                        const struct wire_msg *m)
{
    (void)p;
    (void)c;
    if (m->type == MSG_VALUE) {
        uint32_t which = (uint32_t)(m->request - 1) % 7;
        ck_assert(slice_equal(m->u.value.value, value_bytes(which, KIB(200))));
        right++;
    }
}

/* More than may be under way at once: bounded, and all are answered. */
START_TEST(many_wait_their_turn)
{
    uint64_t most = 0;
    right = 0;
    for (uint32_t i = 0; i < 7; i++) {
        value_put(&v, i, value_bytes(i, KIB(200)));
    }
    world_run_for(g->w, AT_ONCE);
    g->client.on_message = count_right;
    sim_disk_slow_fetch(g->host, 5 * SIM_MS);
    for (uint32_t i = 0; i < MANY; i++) {
        value_ask(&v, i + 1, i % 7);
    }
    for (int i = 0; i < 4000 && right < MANY; i++) {
        struct storage_figures f = value_figures(&v);
        most = f.values_fetching > most ? f.values_fetching : most;
        world_run_for(g->w, SIM_MS);
    }
    ck_assert_uint_eq(right, MANY);
    ck_assert_uint_eq(g->client.heard[MSG_ERROR], 0);
    ck_assert_uint_le(most, LIMIT_READS_BYTES);
    ck_assert_uint_gt(most, LIMIT_READS_BYTES / 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shard_values");
    TCase *t = tcase_create("shard_values");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_loop_test(t, a_value_comes_back, 0,
                        sizeof(sizes) / sizeof(sizes[0]));
    tcase_add_test(t, a_scan_has_them_all);
    tcase_add_loop_test(t, a_tablets_page_has_them_all, 0, 2);
    tcase_add_test(t, a_watch_tells_what_came);
    tcase_add_test(t, a_damaged_one_is_not_served);
    tcase_add_test(t, nor_in_a_scan);
    tcase_add_test(t, an_unreadable_one_is_not_served);
    tcase_add_test(t, not_when_another_is_primary_by_then);
    tcase_add_test(t, looked_up_again_in_another_epoch);
    tcase_add_test(t, replaced_meanwhile);
    tcase_add_test(t, the_client_goes);
    tcase_add_test(t, the_node_goes);
    tcase_add_test(t, many_wait_their_turn);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
