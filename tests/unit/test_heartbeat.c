/*
 * What a storage node's heartbeat says of itself (R18, R20).
 */
#include "tests/unit/node_rig.h"

#include <check.h>
#include <stdlib.h>

static struct node_rig g;

static void begin(void)
{
    node_rig_start(&g);
}

static void end(void)
{
    node_rig_stop(&g);
}

static const struct msg_heartbeat *next_heartbeat(void)
{
    uint32_t heard = g.coordinator.heard[MSG_HEARTBEAT];
    ck_assert(party_await(&g, &g.coordinator, MSG_HEARTBEAT, heard + 1, SIM_S));
    return &party_last(&g.coordinator, MSG_HEARTBEAT)->u.heartbeat;
}

START_TEST(r18_a_shard_that_runs_has_begun_all)
{
    for (int i = 0; i < 20; i++) {
        ck_assert_uint_le(next_heartbeat()->oldest_event_ms, 1);
    }
}
END_TEST

/* Its timer was due up to 100 ms after it stopped. */
START_TEST(r18_a_shard_that_stood_still_says_for_how_long)
{
    static const uint32_t stops_ms[] = {150, 700, 1200, 5000};
    for (size_t i = 0; i < sizeof(stops_ms) / sizeof(stops_ms[0]); i++) {
        (void)next_heartbeat();
        sim_host_pause(g.host);
        world_run_for(g.w, stops_ms[i] * SIM_MS);
        sim_host_resume(g.host);
        uint32_t said = next_heartbeat()->oldest_event_ms;
        ck_assert_uint_ge(said + 110, stops_ms[i]);
        ck_assert_uint_le(said, stops_ms[i]);
        ck_assert_uint_le(next_heartbeat()->oldest_event_ms, 1);
    }
}
END_TEST

/* The first one on a new connection is sent out of turn. */
START_TEST(r18_also_on_a_new_connection)
{
    (void)next_heartbeat();
    sim_net_reset(g.host, sim_env_host(g.coordinator.env));
    sim_host_pause(g.host);
    world_run_for(g.w, 2 * SIM_S);
    sim_host_resume(g.host);
    ck_assert_uint_le(next_heartbeat()->oldest_event_ms, 2000);
    ck_assert_uint_le(next_heartbeat()->oldest_event_ms, 1);
}
END_TEST

/* The coordinator takes no empty text. */
START_TEST(a_service_without_an_address_is_not_announced)
{
    const struct msg_heartbeat *m = next_heartbeat();
    ck_assert_uint_eq(m->node.services_count, 2);
    for (uint32_t i = 0; i < m->node.services_count; i++) {
        ck_assert_uint_gt(m->node.services[i].address.len, 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heartbeat");
    TCase *c = tcase_create("storage");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, r18_a_shard_that_runs_has_begun_all);
    tcase_add_test(c, r18_a_shard_that_stood_still_says_for_how_long);
    tcase_add_test(c, r18_also_on_a_new_connection);
    tcase_add_test(c, a_service_without_an_address_is_not_announced);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
