/* See node_rig.h. */
#include "tests/unit/node_rig.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- parties ---- */

static void on_open(void *ctx, struct env_conn *c, const struct env_peer *peer)
{
    struct party *p = ctx;
    ck_assert_uint_lt(p->conn_count, RIG_CONNS);
    p->peers[p->conn_count] = *peer;
    p->conns[p->conn_count++] = c;
}

static void answer_dialogue(struct party *p, const struct msg_tail_ask *ask)
{
    struct wire_msg m = {.type = MSG_TAIL};
    m.u.tail = (struct msg_tail){
        .tablet = ask->tablet, .epoch = ask->epoch, .dialogue = ask->dialogue};
    party_send(p, NULL, &m);
}

static void on_message(void *ctx, struct env_conn *c, const struct wire_msg *m)
{
    struct party *p = ctx;
    ck_assert_uint_lt(m->type, RIG_TYPES);
    if (p->on_message != NULL) {
        p->on_message(p, c, m);
    }
    if (m->type == MSG_TAIL_ASK && p->answers_dialogue) {
        answer_dialogue(p, &m->u.tail_ask);
    }
    buf_clear(&p->last[m->type]);
    wire_put(&p->last[m->type], m);
    p->from[m->type] = c;
    p->heard[m->type]++;
}

static void on_close(void *ctx, struct env_conn *c, enum status why)
{
    struct party *p = ctx;
    (void)why;
    for (uint32_t i = 0; i < p->conn_count; i++) {
        if (p->conns[i] == c) {
            p->conn_count--;
            memmove(&p->conns[i], &p->conns[i + 1],
                    (p->conn_count - i) * sizeof(p->conns[0]));
            memmove(&p->peers[i], &p->peers[i + 1],
                    (p->conn_count - i) * sizeof(p->peers[0]));
            return;
        }
    }
}

static const struct env_conn_events party_events = {on_open, on_message,
                                                    on_close};

static void party_start(struct node_rig *g, struct party *p, const char *host,
                        const struct env_peer *self)
{
    struct err err = {""};
    char address[16];
    (void)snprintf(address, sizeof(address), "%s:1", host);
    p->env = sim_env_new(sim_host_new(g->w, host), self);
    ck_assert_int_eq(
        p->env->ops->listen(p->env, address, &party_events, p, &err), ST_OK);
}

static void party_free(struct party *p)
{
    for (size_t i = 0; i < RIG_TYPES; i++) {
        buf_free(&p->last[i]);
    }
    arena_free(&p->arena);
}

const struct wire_msg *party_last(struct party *p, enum msg_type type)
{
    ck_assert_msg(p->heard[type] > 0, "no %s was heard", wire_type_name(type));
    arena_free(&p->arena);
    p->arena = (struct arena){0};
    struct wire_msg *m = arena_alloc(&p->arena, sizeof(*m));
    ck_assert_int_eq(wire_decode(buf_slice(&p->last[type]), &p->arena, m),
                     ST_OK);
    return m;
}

struct goal {
    struct party *p;
    enum msg_type type;
    uint32_t count;
};

static bool unheard(void *ctx)
{
    const struct goal *goal = ctx;
    return goal->p->heard[goal->type] < goal->count;
}

bool party_await(struct node_rig *g, struct party *p, enum msg_type type,
                 uint32_t count, int64_t within_us)
{
    struct goal goal = {p, type, count};
    return world_run_while(g->w, unheard, &goal, within_us);
}

void party_send(struct party *p, struct env_conn *c, const struct wire_msg *m)
{
    struct buf b = {0};
    wire_put(&b, m);
    for (uint32_t i = 0; c == NULL && i < p->conn_count; i++) {
        c = p->peers[i].lane == LANE_REQUEST ? p->conns[i] : NULL;
    }
    ck_assert_ptr_nonnull(c);
    p->env->ops->send(c, buf_slice(&b));
    buf_free(&b);
}

static bool unconnected(void *ctx)
{
    const struct goal *goal = ctx;
    return goal->p->conn_count < goal->count;
}

void party_call(struct node_rig *g, struct party *p)
{
    struct goal goal = {.p = p, .count = p->conn_count + 1};
    (void)p->env->ops->connect(p->env, "a:1", LANE_REQUEST, &party_events, p);
    ck_assert(world_run_while(g->w, unconnected, &goal, SIM_S));
}

/* ---- the node ---- */

static void run_kick(void *ctx)
{
    struct node_rig *g = ctx;
    if (g->node != NULL) {
        storage_node_on_kick(g->node);
    }
}

static void on_kick(void *ctx)
{
    struct node_rig *g = ctx;
    sim_env_post(g->beacon_env, run_kick, g);
}

static void on_fatal(void *ctx, enum status why, const char *text)
{
    struct node_rig *g = ctx;
    (void)why;
    (void)text;
    g->fatal = true;
}

static void on_identity(void *ctx, struct id128 cluster, struct id128 store,
                        struct incarnation incarnation)
{
    struct node_rig *g = ctx;
    struct env *envs[] = {g->env, g->beacon_env};
    for (size_t i = 0; i < 2; i++) {
        struct hello_self *self = sim_env_self(envs[i]);
        self->cluster = cluster;
        self->store = store;
        self->incarnation = incarnation;
    }
    g->self = (struct replica){1, store};
    g->incarnation = incarnation;
}

struct replica node_rig_peer(void)
{
    return (struct replica){2, {{2, 0xbb}}};
}

struct incarnation node_rig_peer_incarnation(void)
{
    return (struct incarnation){5, 55};
}

static void start_node(struct node_rig *g)
{
    static const char *const coordinators[] = {"c:1", NULL};
    struct env_peer self = {.node = 1, .role = ROLE_STORAGE, .name = "a"};
    struct err err = {""};
    g->host = sim_host_new(g->w, "a");
    g->env = sim_env_new(g->host, &self);
    g->beacon_env = sim_env_new(g->host, &self);
    struct storage_node_options o = {
        .env = g->env,
        .beacon_env = g->beacon_env,
        .node = 1,
        .name = "a",
        .listen = "a:1",
        .advertise = "a:1",
        .beacon_listen = "a:2",
        .beacon_advertise = "a:2",
        .status_address = "",
        .coordinators = coordinators,
        .segment_size = KIB(256),
        .value_cache = KIB(64),
        .scrub_interval_us = g->scrubs ? SIM_S : 0,
        .scrub_rate = MIB(256),
        .kick = on_kick,
        .on_fatal = on_fatal,
        .on_identity = on_identity,
        .ctx = g,
    };
    enum status s = storage_node_start(&o, &g->node, &err);
    ck_assert_msg(s == ST_OK, "%s", err.text);
}

static void start_all(struct node_rig *g)
{
    g->w = world_new(7);
    g->replicas = g->min_insync = 2;
    party_start(
        g, &g->coordinator, "c",
        &(struct env_peer){.node = 101, .role = ROLE_COORDINATOR, .name = "c"});
    party_start(g, &g->peer, "b",
                &(struct env_peer){.node = 2,
                                   .role = ROLE_STORAGE,
                                   .store = node_rig_peer().store,
                                   .incarnation = node_rig_peer_incarnation(),
                                   .name = "b"});
    party_start(g, &g->client, "k", NULL);
    start_node(g);
    ck_assert(party_await(g, &g->coordinator, MSG_HEARTBEAT, 1, SIM_S));
}

void node_rig_start(struct node_rig *g)
{
    memset(g, 0, sizeof(*g));
    start_all(g);
}

void node_rig_start_scrubbing(struct node_rig *g)
{
    memset(g, 0, sizeof(*g));
    g->scrubs = true;
    start_all(g);
}

void node_rig_stop(struct node_rig *g)
{
    storage_node_free(g->node);
    g->node = NULL;
    world_run_for(g->w, SIM_S); /* what was under way on its disk ends */
    party_free(&g->coordinator);
    party_free(&g->peer);
    party_free(&g->client);
    world_free(g->w);
}

void node_rig_publish(struct node_rig *g, const struct tablet_config *tablets,
                      uint32_t count)
{
    static struct service at_a = {.name = {(const uint8_t *)"rpc", 3},
                                  .address = {(const uint8_t *)"a:1", 3}};
    static struct service at_b = {.name = {(const uint8_t *)"rpc", 3},
                                  .address = {(const uint8_t *)"b:1", 3}};
    struct node_info nodes[] = {
        {.node = 1,
         .role = ROLE_STORAGE,
         .state = NODE_UP,
         .store = g->self.store,
         .incarnation = g->incarnation,
         .name = slice_of("a"),
         .services = &at_a,
         .services_count = 1},
        {.node = 2,
         .role = ROLE_STORAGE,
         .state = NODE_UP,
         .store = node_rig_peer().store,
         .incarnation = node_rig_peer_incarnation(),
         .name = slice_of("b"),
         .services = &at_b,
         .services_count = 1},
    };
    struct wire_msg m = {.type = MSG_MAP};
    m.u.map = (struct msg_map){
        .term = 1,
        .version = ++g->version,
        .cluster = {{7}},
        .replicas = g->replicas,
        .min_insync = g->min_insync,
        .nodes = nodes,
        .nodes_count = 2,
        .tablets = (struct tablet_config *)(uintptr_t)tablets,
        .tablets_count = count,
    };
    party_send(&g->coordinator, NULL, &m);
}

struct tablet_config node_rig_config(struct node_rig *g, uint64_t epoch,
                                     uint32_t primary, struct replica *in_sync)
{
    in_sync[0] = g->self;
    in_sync[1] = node_rig_peer();
    return (struct tablet_config){
        .tablet = 1,
        .hash_last = UINT64_MAX,
        .epoch = epoch,
        .primary = in_sync[primary - 1],
        .primary_incarnation =
            primary == 1 ? g->incarnation : node_rig_peer_incarnation(),
        .in_sync = in_sync,
        .in_sync_count = 2,
    };
}

struct tablet_report node_rig_report(struct node_rig *g)
{
    struct tablet_report r = {0};
    (void)storage_node_tablets(g->node, &r, 1);
    return r;
}

struct entering {
    struct node_rig *g;
    uint64_t epoch;
};

static bool outside(void *ctx)
{
    const struct entering *e = ctx;
    return node_rig_report(e->g).epoch < e->epoch;
}

void node_rig_enter(struct node_rig *g, uint64_t epoch, uint32_t primary)
{
    struct replica in_sync[2];
    struct tablet_config t = node_rig_config(g, epoch, primary, in_sync);
    struct entering e = {g, epoch};
    node_rig_publish(g, &t, 1);
    ck_assert(world_run_while(g->w, outside, &e, SIM_S));
}
