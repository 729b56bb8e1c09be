/*
 * What faulty storage processes may tell a coordinator's core.
 */
#include "coordinator/core.h"

#include <check.h>
#include <stdlib.h>

static struct core *core;
static struct core_effects fx;

static void begin(void)
{
    struct core_options o = {.replicas = 1,
                             .tablets = LIMIT_TABLETS,
                             .initial_nodes = 1,
                             .times = coordinator_defaults().times,
                             .cluster = {{7}},
                             .term = 1,
                             .version = 1,
                             .now_us = 1000000};
    core = core_new(&o);
}

static void end(void)
{
    core_free(core);
    core_effects_free(&fx);
}

static void step(struct core_event *ev)
{
    struct core_event published = {.kind = CORE_PUBLISHED,
                                   .now_us = ev->now_us};
    core_effects_clear(&fx);
    core_step(core, ev, &fx);
    ck_assert_int_eq(fx.fatal, ST_OK);
    if (fx.map) {
        struct core_effects none = {0};
        published.u.version = core_version(core);
        core_step(core, &published, &none);
        core_effects_free(&none);
    }
}

/* Node ID reports all tablets there are, whether it has them or not. */
static void beat(uint32_t id)
{
    static struct tablet_report all[LIMIT_TABLETS];
    struct env_peer peer = {
        .node = id, .role = ROLE_STORAGE, .store = {{(uint8_t)id, 1}}};
    struct msg_heartbeat m = {.node = {.node = id,
                                       .role = ROLE_STORAGE,
                                       .state = NODE_UP,
                                       .store = peer.store,
                                       .incarnation = {1, id},
                                       .name = slice_of("storage")},
                              .tablets = all,
                              .tablets_count = LIMIT_TABLETS};
    for (uint32_t i = 0; i < LIMIT_TABLETS; i++) {
        all[i].tablet = i + 1;
        all[i].flags = REPORT_RECOVERED;
    }
    struct core_event ev = {.kind = CORE_HEARTBEAT,
                            .now_us = 1000000,
                            .conn = id,
                            .peer = &peer,
                            .u.heartbeat = &m};
    step(&ev);
}

START_TEST(reports_fit_a_frame)
{
    for (uint32_t id = 1; id <= LIMIT_NODES; id++) {
        beat(id);
    }
    beat(1);
    struct core_event ev = {
        .kind = CORE_REPORTS_ASK, .now_us = 1000000, .conn = 9, .request = 4};
    step(&ev);
    ck_assert_uint_eq(fx.answer_count, 1);
    struct arena a = {0};
    struct wire_msg m;
    ck_assert_int_eq(wire_decode(slice_make(fx.frames.data + fx.answers[0].at,
                                            fx.answers[0].len),
                                 &a, &m),
                     ST_OK);
    ck_assert_uint_eq(m.u.reports.nodes_count, LIMIT_NODES);
    ck_assert_uint_eq(m.u.reports.nodes[0].tablets_count, LIMIT_TABLETS);
    arena_free(&a);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("coordinator_hostile");
    TCase *c = tcase_create("storage");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, reports_fit_a_frame);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
