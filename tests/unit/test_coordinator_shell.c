/*
 * The whole coordinator in the simulated world, with storage nodes that only
 * register, follow the map and remember the newest epochs they were told:
 * what is announced is durable (R1), whatever dies when.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/coordinator.h"
#include "tests/sim/sim_env.h"

#define NODES 3
#define TABLETS 4
#define BEAT_US (100 * SIM_MS)

/* What outlives a storage process. */
struct disk {
    unsigned index;
    struct id128 store;
    uint64_t starts;
    struct tablet_report reports[TABLETS];
};

/* A storage process. */
struct fake {
    struct env *env;
    struct disk *disk;
    struct incarnation incarnation;
    struct env_conn *conn;
    bool open;
    struct env_timer beat, dial;
    uint64_t map_version;
};

static struct world *w;
static struct sim_host *hub, *hosts[NODES];
static struct disk disks[NODES];
static struct hello_self self;
static struct env *hub_env;
static bool expect_fatal;
static enum status fatal;

/* ---- storage processes ---- */

static struct replica own(const struct fake *f)
{
    return (struct replica){f->disk->index + 1, f->disk->store};
}

static bool has(const struct replica *set, uint32_t count, struct replica r)
{
    for (uint32_t i = 0; i < count; i++) {
        if (replica_equal(set[i], r)) {
            return true;
        }
    }
    return false;
}

/* R3, R4: a new epoch is on disk before it is acted in. */
static void take_map(struct fake *f, const struct msg_map *m)
{
    f->map_version = m->version;
    for (uint32_t i = 0; i < m->tablets_count; i++) {
        const struct tablet_config *t = &m->tablets[i];
        struct tablet_report *r = &f->disk->reports[i];
        bool member = has(t->in_sync, t->in_sync_count, own(f));
        bool learner = has(t->learners, t->learners_count, own(f));
        if (t->epoch > r->epoch && (member || learner)) {
            bool leads =
                replica_equal(t->primary, own(f)) &&
                incarnation_equal(t->primary_incarnation, f->incarnation);
            r->epoch = t->epoch;
            r->role = leads    ? REPLICA_PRIMARY
                      : member ? REPLICA_SECONDARY
                               : REPLICA_LEARNER;
        }
    }
}

/* A learner is in step at once, and its primary asks for it. */
static void ask_for_learners(struct fake *f, const struct msg_map *m)
{
    for (uint32_t i = 0; i < m->tablets_count; i++) {
        const struct tablet_config *t = &m->tablets[i];
        if (f->disk->reports[i].role != REPLICA_PRIMARY ||
            t->learners_count == 0 || !replica_equal(t->primary, own(f))) {
            continue;
        }
        struct buf out = {0};
        struct msg_change ask = {.tablet = t->tablet,
                                 .epoch = t->epoch,
                                 .kind = CHANGE_ADD,
                                 .subject = t->learners[0],
                                 .reason = slice_of("in step")};
        for (uint32_t n = 0; n < m->nodes_count; n++) {
            if (m->nodes[n].node == t->learners[0].node &&
                m->nodes[n].state == NODE_UP) {
                wire_put_change(&out, 0, &ask);
                f->env->ops->send(f->conn, buf_slice(&out));
            }
        }
        buf_free(&out);
    }
}

static void send_beat(struct fake *f)
{
    char address[16], name[16];
    (void)snprintf(address, sizeof(address), "s%u:1", f->disk->index + 1);
    (void)snprintf(name, sizeof(name), "storage-%u", f->disk->index + 1);
    struct service rpc = {slice_of("rpc"), slice_of(address)};
    struct tablet_report reports[TABLETS];
    struct msg_heartbeat m = {
        .node = {.node = f->disk->index + 1,
                 .role = ROLE_STORAGE,
                 .state = NODE_UP,
                 .store = f->disk->store,
                 .incarnation = f->incarnation,
                 .name = slice_of(name),
                 .services = &rpc,
                 .services_count = 1},
        .stamp_us = env_now_us(f->env),
        .map_version = f->map_version,
        .tablets = reports,
    };
    for (uint32_t i = 0; i < TABLETS; i++) {
        if (f->disk->reports[i].epoch > 0) {
            reports[m.tablets_count] = f->disk->reports[i];
            reports[m.tablets_count].flags = REPORT_RECOVERED;
            reports[m.tablets_count++].tablet = i + 1;
        }
    }
    struct buf out = {0};
    wire_put_heartbeat(&out, 0, &m);
    f->env->ops->send(f->conn, buf_slice(&out));
    buf_free(&out);
}

static void on_beat(struct env_timer *t)
{
    struct fake *f = t->data;
    env_timer_start(f->env, t, BEAT_US);
    if (f->open) {
        send_beat(f);
    }
}

static void on_open(void *ctx, struct env_conn *c, const struct env_peer *p)
{
    struct fake *f = ctx;
    struct buf out = {0};
    struct msg_map_watch ask = {0};
    ck_assert_int_eq(p->role, ROLE_COORDINATOR);
    f->open = true;
    wire_put_map_watch(&out, 0, &ask);
    f->env->ops->send(c, buf_slice(&out));
    buf_free(&out);
    send_beat(f);
}

static void on_message(void *ctx, struct env_conn *c, const struct wire_msg *m)
{
    struct fake *f = ctx;
    if (m->type == MSG_MAP) {
        take_map(f, &m->u.map);
        ask_for_learners(f, &m->u.map);
    } else if (m->type == MSG_HEARTBEAT_ACK) {
        ck_assert_int_eq(m->u.heartbeat_ack.status, ST_OK);
    }
}

static void on_close(void *ctx, struct env_conn *c, enum status why)
{
    struct fake *f = ctx;
    f->open = false;
    env_timer_start(f->env, &f->dial, 50 * SIM_MS);
}

static const struct env_conn_events events = {on_open, on_message, on_close};

static void on_dial(struct env_timer *t)
{
    struct fake *f = t->data;
    f->conn = f->env->ops->connect(f->env, "c:1", LANE_REQUEST, &events, f);
}

static void nothing_open(void *ctx, struct env_conn *c,
                         const struct env_peer *p)
{
}

static void nothing_message(void *ctx, struct env_conn *c,
                            const struct wire_msg *m)
{
}

static void nothing_close(void *ctx, struct env_conn *c, enum status why)
{
}

static void *fake_start(struct sim_host *h, void *ctx)
{
    static const struct env_conn_events none = {nothing_open, nothing_message,
                                                nothing_close};
    struct fake *f = xcalloc(1, sizeof(*f));
    char address[16];
    struct err err;
    f->disk = ctx;
    f->incarnation.counter = ++f->disk->starts;
    f->incarnation.random = 1000 * f->disk->starts + f->disk->index;
    struct env_peer peer = {.node = f->disk->index + 1,
                            .role = ROLE_STORAGE,
                            .store = f->disk->store,
                            .incarnation = f->incarnation};
    f->env = sim_env_new(h, &peer);
    for (uint32_t i = 0; i < TABLETS; i++) {
        f->disk->reports[i].role = REPLICA_NONE;
    }
    f->beat = (struct env_timer){.fn = on_beat, .data = f};
    f->dial = (struct env_timer){.fn = on_dial, .data = f};
    (void)snprintf(address, sizeof(address), "s%u:1", f->disk->index + 1);
    enum status s = f->env->ops->listen(f->env, address, &none, f, &err);
    ck_assert_int_eq(s, ST_OK);
    on_dial(&f->dial);
    env_timer_start(f->env, &f->beat, BEAT_US);
    return f;
}

static const struct sim_program storage = {fake_start, free};

/* ---- the coordinator's process ---- */

static void on_fatal(void *ctx, enum status why, const char *text)
{
    ck_assert_msg(expect_fatal, "fatal: %s", text);
    fatal = why;
}

static void *hub_start(struct sim_host *h, void *ctx)
{
    struct coordinator *c = NULL;
    struct err err = {""};
    struct coordinator_options o = coordinator_defaults();
    o.node = 1;
    o.name = "coordinator-1";
    o.listen = "c:1";
    o.tablets = TABLETS;
    o.on_fatal = on_fatal;
    hub_env = sim_env_new(h, NULL);
    o.self = sim_env_self(hub_env);
    enum status s = coordinator_new(hub_env, &o, &c, &err);
    if (s != ST_OK) {
        ck_assert_msg(!sim_env_alive(hub_env) || s == ST_STOPPING, "start: %s",
                      err.text);
        return NULL;
    }
    self = *o.self;
    s = coordinator_start(c, &err);
    ck_assert_int_eq(s, ST_OK);
    return c;
}

static void hub_free(void *object)
{
    coordinator_free(object);
}

static const struct sim_program coordinator = {hub_start, hub_free};

static struct coordinator *the_hub(void)
{
    return sim_host_object(hub);
}

/* ---- the world ---- */

static void make_world(uint64_t seed)
{
    w = world_new(seed);
    hub = sim_host_new(w, "c");
    expect_fatal = false;
    fatal = ST_OK;
    for (unsigned i = 0; i < NODES; i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "s%u", i + 1);
        hosts[i] = sim_host_new(w, name);
        disks[i] = (struct disk){.index = i, .store = {{(uint8_t)(i + 1)}}};
    }
}

static void start_all(void)
{
    ck_assert(sim_host_start(hub, &coordinator, NULL));
    for (unsigned i = 0; i < NODES; i++) {
        ck_assert(sim_host_start(hosts[i], &storage, &disks[i]));
    }
}

static void setup(void)
{
    make_world(11);
}

static void teardown(void)
{
    world_free(w);
}

static bool not_whole(void *ctx)
{
    struct buf text = {0};
    if (the_hub() == NULL) {
        return true;
    }
    coordinator_degraded(the_hub(), &text);
    bool whole = text.len == 0;
    buf_free(&text);
    /* And every node is in the epochs of the map. */
    const struct msg_map *m = coordinator_map(the_hub());
    for (uint32_t i = 0; i < m->tablets_count; i++) {
        for (unsigned n = 0; n < NODES; n++) {
            whole = whole && disks[n].reports[i].epoch == m->tablets[i].epoch;
        }
    }
    return !whole || m->tablets_count == 0;
}

static void wait_whole(int64_t us)
{
    if (!world_run_while(w, not_whole, NULL, us)) {
        struct buf text = {0};
        coordinator_degraded(the_hub(), &text);
        ck_abort_msg("not whole after %lld us: %s", (long long)us,
                     buf_cstr(&text));
    }
}

static uint64_t epoch_of(uint32_t tablet)
{
    return coordinator_map(the_hub())->tablets[tablet - 1].epoch;
}

/* ---- tests ---- */

START_TEST(three_nodes_make_a_cluster)
{
    start_all();
    ck_assert(!coordinator_ready(the_hub()));
    wait_whole(2 * SIM_S);
    const struct msg_map *m = coordinator_map(the_hub());
    ck_assert_uint_eq(m->nodes_count, NODES);
    ck_assert_uint_eq(m->tablets_count, TABLETS);
    ck_assert_uint_eq(m->min_insync, 2);
    ck_assert(id128_equal(m->cluster, self.cluster));
    ck_assert(coordinator_ready(the_hub()));
}
END_TEST

static bool unchanged(void *ctx)
{
    return epoch_of(1) == *(uint64_t *)ctx;
}

/* How long until a new epoch is published. */
static int64_t time_to_epoch(int64_t longest_us)
{
    uint64_t epoch = epoch_of(1);
    int64_t since_us = world_now(w);
    ck_assert(world_run_while(w, unchanged, &epoch, longest_us));
    return world_now(w) - since_us;
}

START_TEST(dead_process_is_found_at_once)
{
    start_all();
    wait_whole(2 * SIM_S);
    world_run_for(w, 2 * SIM_S);
    sim_host_kill(hosts[0]);
    ck_assert_int_lt(time_to_epoch(SIM_S), 100 * SIM_MS);
}
END_TEST

START_TEST(dead_host_is_found_in_its_time)
{
    start_all();
    wait_whole(2 * SIM_S);
    world_run_for(w, 2 * SIM_S);
    sim_host_power_off(hosts[0]);
    int64_t us = time_to_epoch(2 * SIM_S);
    ck_assert_int_gt(us, 680 * SIM_MS);
    ck_assert_int_lt(us, 950 * SIM_MS);
}
END_TEST

/* The connection breaks, the process lives: nothing happens. */
START_TEST(reset_alone_changes_nothing)
{
    start_all();
    wait_whole(2 * SIM_S);
    world_run_for(w, 2 * SIM_S);
    uint64_t epoch = epoch_of(1);
    struct coordinator_stats stats;
    for (int i = 0; i < 20; i++) {
        sim_net_reset(hosts[i % NODES], hub);
        world_run_for(w, 300 * SIM_MS);
    }
    ck_assert_uint_eq(epoch_of(1), epoch);
    coordinator_get_stats(the_hub(), &stats);
    ck_assert_uint_ge(stats.probes, 10);
    ck_assert_uint_eq(stats.deaths, 0);
}
END_TEST

START_TEST(slow_disk_gathers_changes)
{
    start_all();
    wait_whole(2 * SIM_S);
    world_run_for(w, 2 * SIM_S);
    struct coordinator_stats before, after;
    coordinator_get_stats(the_hub(), &before);
    uint64_t epochs[TABLETS];
    for (uint32_t i = 0; i < TABLETS; i++) {
        epochs[i] = epoch_of(i + 1);
    }
    sim_disk_slow(hub, 400 * SIM_MS);
    sim_host_kill(hosts[0]);
    world_run_for(w, 100 * SIM_MS);
    sim_host_kill(hosts[1]);
    world_run_for(w, 200 * SIM_MS);
    /* Decided, but nobody may know yet. */
    for (uint32_t i = 0; i < TABLETS; i++) {
        ck_assert_uint_eq(epoch_of(i + 1), epochs[i]);
        ck_assert_uint_eq(disks[2].reports[i].epoch, epochs[i]);
    }
    world_run_for(w, 2 * SIM_S);
    coordinator_get_stats(the_hub(), &after);
    ck_assert_uint_gt(epoch_of(1), epochs[0]);
    /* Both deaths, and a second copy. */
    ck_assert_uint_le(after.register_writes, before.register_writes + 3);
}
END_TEST

START_TEST(failed_sync_ends_it)
{
    start_all();
    wait_whole(2 * SIM_S);
    world_run_for(w, 2 * SIM_S);
    uint64_t epoch = epoch_of(1);
    expect_fatal = true;
    sim_disk_fail_sync(hub, 1);
    sim_host_kill(hosts[0]);
    world_run_for(w, 3 * SIM_S);
    ck_assert_int_eq(fatal, ST_IO);
    ck_assert_uint_eq(epoch_of(1), epoch);
    ck_assert_uint_eq(disks[1].reports[0].epoch, epoch);
    /* Another start goes on with what the disk really has. */
    expect_fatal = false;
    sim_host_kill(hub);
    world_run_for(w, SIM_S);
    ck_assert(sim_host_start(hub, &coordinator, NULL));
    world_run_for(w, SIM_S);
    ck_assert(sim_host_start(hosts[0], &storage, &disks[0]));
    wait_whole(30 * SIM_S);
}
END_TEST

START_TEST(r22_every_start_has_its_own_term)
{
    uint64_t term = 0;
    for (int i = 0; i < 10; i++) {
        ck_assert(sim_host_start(hub, &coordinator, NULL));
        ck_assert_uint_gt(self.term, term);
        term = self.term;
        if (i % 2 == 0) {
            sim_host_power_off(hub);
        } else {
            sim_host_kill(hub);
        }
    }
}
END_TEST

START_TEST(old_copy_of_the_register_is_noticed)
{
    start_all();
    wait_whole(2 * SIM_S);
    world_run_for(w, SIM_S);
    struct sim_disk_image *old = sim_disk_save(hub);
    sim_host_kill(hosts[0]);
    world_run_for(w, SIM_S);
    sim_host_kill(hub);
    world_run_for(w, SIM_S);
    sim_disk_restore(hub, old);
    sim_disk_image_free(old);
    expect_fatal = true;
    ck_assert(sim_host_start(hub, &coordinator, NULL));
    world_run_for(w, SIM_S);
    ck_assert_int_eq(fatal, ST_CORRUPT);
}
END_TEST

static bool stopped;

static void on_stopped(void *ctx)
{
    stopped = true;
}

START_TEST(stop_waits_for_the_disk)
{
    start_all();
    wait_whole(2 * SIM_S);
    sim_disk_slow(hub, 300 * SIM_MS);
    sim_host_kill(hosts[0]);
    world_run_for(w, 100 * SIM_MS);
    stopped = false;
    coordinator_stop(the_hub(), on_stopped, NULL);
    ck_assert(!stopped);
    world_run_for(w, SIM_S);
    ck_assert(stopped);
}
END_TEST

/* The coordinator dies before its N-th step on disk, for growing N, while
 * nodes die and return; whatever the nodes were told is still true. */
START_TEST(crash_at_every_step_of_the_disk)
{
    bool power = _i % 2 == 1;
    unsigned first = (unsigned)_i / 2 * 20;
    for (uint32_t n = first + 1; n <= first + 20; n++) {
        world_free(w);
        make_world(5000 + n);
        sim_host_fail_at_step(hub, n, power);
        (void)sim_host_start(hub, &coordinator, NULL);
        for (unsigned i = 0; i < NODES; i++) {
            ck_assert(sim_host_start(hosts[i], &storage, &disks[i]));
        }
        for (unsigned round = 0; round < 4; round++) {
            unsigned victim = (n + round) % NODES;
            world_run_for(w, 300 * SIM_MS);
            sim_host_kill(hosts[victim]);
            world_run_for(w, 200 * SIM_MS);
            ck_assert(sim_host_start(hosts[victim], &storage, &disks[victim]));
            if (!sim_host_running(hub)) {
                (void)sim_host_start(hub, &coordinator, NULL);
            }
        }
        sim_host_fail_at_step(hub, 0, false);
        if (!sim_host_running(hub)) {
            ck_assert(sim_host_start(hub, &coordinator, NULL));
        }
        wait_whole(60 * SIM_S);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("coordinator_shell");
    TCase *t = tcase_create("shell");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, three_nodes_make_a_cluster);
    tcase_add_test(t, dead_process_is_found_at_once);
    tcase_add_test(t, dead_host_is_found_in_its_time);
    tcase_add_test(t, reset_alone_changes_nothing);
    tcase_add_test(t, slow_disk_gathers_changes);
    tcase_add_test(t, failed_sync_ends_it);
    tcase_add_test(t, r22_every_start_has_its_own_term);
    tcase_add_test(t, old_copy_of_the_register_is_noticed);
    tcase_add_test(t, stop_waits_for_the_disk);
    tcase_add_loop_test(t, crash_at_every_step_of_the_disk, 0, 6);
    suite_add_tcase(s, t);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
