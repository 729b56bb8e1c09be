/*
 * The links of a gateway or balancer to the coordinators, in the simulated
 * world: what is said and heard, and how they come back from every kind of
 * loss.
 */
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/watch.h"

#define COORDINATORS 2

/* A coordinator that notes what it hears and sends maps when told to. */
struct coordinator {
    struct sim_host *host;
    struct env *env;
    struct env_conn *conn;
    int opened, watches, heartbeats;
    struct msg_heartbeat last; /* without what it points to */
    char name[LIMIT_NAME + 1];
    uint64_t version; /* sent on each watch; 0: none */
    bool silent;      /* does not answer heartbeats */
};

struct fixture {
    struct world *world;
    struct coordinator c[COORDINATORS];
    struct sim_host *host;
    struct watch *watch;
    uint32_t connections;
    uint64_t versions[64];
    size_t maps;
};

static void send_map(struct coordinator *c)
{
    struct buf b = {0};
    struct msg_map m = {.term = 1, .version = c->version};
    wire_put_map(&b, 0, &m);
    c->env->ops->send(c->conn, buf_slice(&b));
    buf_free(&b);
}

static void c_open(void *ctx, struct env_conn *conn, const struct env_peer *p)
{
    struct coordinator *c = ctx;
    ck_assert_int_eq(p->role, ROLE_BALANCER);
    c->conn = conn;
    c->opened++;
}

static void on_heartbeat(struct coordinator *c, const struct msg_heartbeat *m)
{
    struct buf b = {0};
    struct msg_heartbeat_ack ack = {.stamp_us = m->stamp_us};
    c->heartbeats++;
    c->last = *m;
    ck_assert_uint_le(m->node.name.len, LIMIT_NAME);
    memcpy(c->name, m->node.name.data, m->node.name.len);
    c->name[m->node.name.len] = '\0';
    if (!c->silent) {
        wire_put_heartbeat_ack(&b, 0, &ack);
        c->env->ops->send(c->conn, buf_slice(&b));
        buf_free(&b);
    }
}

static void c_message(void *ctx, struct env_conn *conn,
                      const struct wire_msg *m)
{
    struct coordinator *c = ctx;
    if (m->type == MSG_HEARTBEAT) {
        on_heartbeat(c, &m->u.heartbeat);
    } else {
        ck_assert_int_eq(m->type, MSG_MAP_WATCH);
        c->watches++;
        if (c->version != 0) {
            send_map(c);
        }
    }
}

static void c_close(void *ctx, struct env_conn *conn, enum status why)
{
    struct coordinator *c = ctx;
    if (c->conn == conn) {
        c->conn = NULL;
    }
}

static const struct env_conn_events c_events = {c_open, c_message, c_close};

static void start_coordinator(struct coordinator *c, const char *address)
{
    struct env_peer self = {.node = 1, .role = ROLE_COORDINATOR};
    struct err err;
    strncpy(self.name, sim_host_name(c->host), LIMIT_NAME);
    c->conn = NULL;
    c->env = sim_env_new(c->host, &self);
    ck_assert_int_eq(c->env->ops->listen(c->env, address, &c_events, c, &err),
                     ST_OK);
}

static void on_map(void *ctx, const struct msg_map *map)
{
    struct fixture *f = ctx;
    ck_assert_uint_lt(f->maps, 64);
    f->versions[f->maps++] = map->version;
}

static void set_up(struct fixture *f, uint64_t seed)
{
    static const char *const addresses[] = {"c0:1", "c1:1", NULL};
    static struct service services[] = {
        {{(const uint8_t *)"http", 4}, {(const uint8_t *)"b:80", 4}}};
    memset(f, 0, sizeof(*f));
    f->world = world_new(seed);
    f->c[0].host = sim_host_new(f->world, "c0");
    f->c[1].host = sim_host_new(f->world, "c1");
    f->host = sim_host_new(f->world, "b");
    start_coordinator(&f->c[0], addresses[0]);
    start_coordinator(&f->c[1], addresses[1]);
    struct env_peer self = {
        .node = 1, .role = ROLE_BALANCER, .name = "balancer-1"};
    struct watch_options o = {.env = sim_env_new(f->host, &self),
                              .coordinators = addresses,
                              .self = {.node = 1,
                                       .role = ROLE_BALANCER,
                                       .name = slice_of("balancer-1"),
                                       .services = services,
                                       .services_count = 1},
                              .connections = &f->connections,
                              .on_map = on_map,
                              .ctx = f};
    f->watch = watch_start(&o);
}

static void tear_down(struct fixture *f)
{
    watch_stop(f->watch);
    world_free(f->world);
}

static void count_answering(void *ctx, const char *address, bool answering)
{
    *(int *)ctx += answering ? 1 : 0;
}

static int answering(const struct fixture *f)
{
    int n = 0;
    watch_each(f->watch, count_answering, &n);
    return n;
}

START_TEST(says_and_hears)
{
    struct fixture f;
    set_up(&f, 1);
    f.c[1].version = 7;
    world_run_for(f.world, 2 * SIM_S);
    ck_assert_int_eq(answering(&f), 2);
    for (int i = 0; i < COORDINATORS; i++) {
        const struct coordinator *c = &f.c[i];
        ck_assert_int_eq(c->opened, 1);
        ck_assert_int_eq(c->watches, 1);
        ck_assert_int_ge(c->heartbeats, 18);
        ck_assert_int_le(c->heartbeats, 22);
        ck_assert_str_eq(c->name, "balancer-1");
        ck_assert_int_eq(c->last.node.role, ROLE_BALANCER);
        ck_assert_int_eq(c->last.node.state, NODE_STARTING);
        ck_assert_uint_eq(c->last.node.services_count, 1);
        ck_assert_uint_eq(c->last.map_version, i == 1 ? 7 : 0);
    }
    ck_assert_uint_eq(f.maps, 1);
    f.c[1].version = 8;
    send_map(&f.c[1]);
    watch_set_state(f.watch, NODE_UP);
    f.connections = 42;
    world_run_for(f.world, SIM_S);
    ck_assert_uint_eq(f.maps, 2);
    ck_assert_uint_eq(f.versions[1], 8);
    ck_assert_int_eq(f.c[0].last.node.state, NODE_UP);
    ck_assert_uint_eq(f.c[0].last.connections, 42);
    tear_down(&f);
}
END_TEST

/* Killed, unplugged, or cut off without a word: the other goes on, and the
 * lost one is found again. */
START_TEST(comes_back)
{
    struct fixture f;
    set_up(&f, 2 + (uint64_t)_i);
    f.c[0].version = f.c[1].version = 1;
    world_run_for(f.world, SIM_S);
    ck_assert_int_eq(answering(&f), 2);
    if (_i == 0) {
        sim_host_kill(f.c[0].host);
    } else if (_i == 1) {
        sim_host_power_off(f.c[0].host);
    } else {
        sim_net_cut(f.c[0].host, f.host);
    }
    f.c[1].heartbeats = 0;
    world_run_for(f.world, 4 * SIM_S);
    ck_assert_int_eq(answering(&f), 1);
    ck_assert_int_ge(f.c[1].heartbeats, 38);
    if (_i == 2) {
        sim_net_heal_all(f.world);
    } else {
        sim_host_power_on(f.c[0].host);
        start_coordinator(&f.c[0], "c0:1");
    }
    int before = f.c[0].watches;
    f.c[0].version = 9;
    world_run_for(f.world, 10 * SIM_S);
    ck_assert_int_eq(answering(&f), 2);
    ck_assert_int_gt(f.c[0].watches, before);
    ck_assert_uint_eq(f.versions[f.maps - 1], 9);
    tear_down(&f);
}
END_TEST

/* Connected but mute: closed and tried again, for ever. */
START_TEST(mute_is_lost)
{
    struct fixture f;
    set_up(&f, 9);
    f.c[0].silent = true;
    world_run_for(f.world, 10 * SIM_S);
    ck_assert_int_ge(f.c[0].opened, 4);
    ck_assert_int_le(f.c[0].opened, 6);
    ck_assert_int_eq(f.c[1].opened, 1);
    f.c[0].silent = false;
    world_run_for(f.world, 3 * SIM_S);
    int opened = f.c[0].opened;
    world_run_for(f.world, 10 * SIM_S);
    ck_assert_int_eq(f.c[0].opened, opened);
    tear_down(&f);
}
END_TEST

/* Resets at random: it never gives up and never has two links to one. */
START_TEST(resets)
{
    struct fixture f;
    struct sim_net_faults faults = {.reset_ppm = 50000, .spike_ppm = 20000};
    set_up(&f, 100 + (uint64_t)_i);
    f.c[0].version = f.c[1].version = 1;
    sim_net_set_faults(f.world, &faults);
    for (int i = 0; i < 20; i++) {
        world_run_for(f.world, SIM_S);
        f.maps = 0;
    }
    sim_net_set_faults(f.world, &(struct sim_net_faults){0});
    world_run_for(f.world, 3 * SIM_S);
    f.c[0].heartbeats = f.c[1].heartbeats = 0;
    world_run_for(f.world, 10 * SIM_S);
    ck_assert_int_eq(answering(&f), 2);
    for (int i = 0; i < COORDINATORS; i++) {
        ck_assert_int_ge(f.c[i].heartbeats, 97);
        ck_assert_int_le(f.c[i].heartbeats, 103);
    }
    ck_assert_uint_eq(sim_net_denied(f.world), 0);
    tear_down(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("watch");
    TCase *tc = tcase_create("watch");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, says_and_hears);
    tcase_add_loop_test(tc, comes_back, 0, 3);
    tcase_add_test(tc, mute_is_lost);
    tcase_add_loop_test(tc, resets, 0, 10);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
