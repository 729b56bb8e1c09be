/*
 * The simulated cluster's hosts and their programs.
 *
 * Each member has a program for sim_host_start(): it makes the env (a storage
 * node has two, one for its shard and one for its beacons) and the daemon's
 * object over it, the very code that the daemons run. The supervisor, a clock
 * of its own outside all hosts, starts what is wanted and does not run, as
 * systemd would.
 */
#include "tests/sim/cluster.h"
#include "tests/sim/workload.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUPERVISE_US (10 * SIM_MS)
#define RETRY_US (500 * SIM_MS)

/* ---- programs ---- */

static struct env *member_env(struct member *m, uint8_t role)
{
    struct env_peer self = {.node = m->node, .role = role};
    (void)snprintf(self.name, sizeof(self.name), "%s", m->name);
    struct env *e = sim_env_new(m->host, &self);
    e->log->level = m->c->o.log_level;
    e->log->fd = m->c->o.log_fd;
    return e;
}

/* The process ends once the event at hand is over, as exit() would. */
static void ended(struct member *m, enum status why, const char *text)
{
    (void)snprintf(m->why, sizeof(m->why), "%s: %s", status_name(why), text);
    world_trace(m->c->w, "%s ends: %s", m->name, m->why);
    m->failures++;
    m->restart_at = world_now(m->c->w) + RETRY_US;
    sim_host_kill(m->host);
}

static void on_fatal(void *ctx, enum status why, const char *text)
{
    ended(ctx, why, text);
}

static struct coordinator_options coordinator_setup(struct member *m)
{
    struct coordinator_options o = coordinator_defaults();
    o.node = m->node;
    o.name = m->name;
    o.listen = m->address;
    o.replicas = m->c->o.replicas;
    o.tablets = m->c->o.tablets;
    o.initial_nodes = m->c->o.storages;
    /* A minute of a run has no time for the product's patience. */
    o.times.damp_us = 1 * SIM_S;
    o.times.damp_max_us = 4 * SIM_S;
    o.times.rereplicate_us = 8 * SIM_S;
    o.bugs = m->c->o.coordinator_bugs;
    o.self = sim_env_self(m->env);
    o.on_fatal = on_fatal;
    o.ctx = m;
    return o;
}

static void *coordinator_begin(struct sim_host *h, void *ctx)
{
    struct member *m = ctx;
    struct coordinator *c;
    struct err err = {""};
    (void)h;
    m->env = member_env(m, ROLE_COORDINATOR);
    struct coordinator_options o = coordinator_setup(m);
    enum status status = coordinator_new(m->env, &o, &c, &err);
    if (status == ST_OK) {
        status = coordinator_start(c, &err);
        if (status != ST_OK) {
            coordinator_free(c);
        }
    }
    if (status != ST_OK) {
        (void)snprintf(m->why, sizeof(m->why), "%s: %s", status_name(status),
                       err.text);
        return NULL;
    }
    return c;
}

static void coordinator_end(void *object)
{
    coordinator_free(object);
}

static void on_identity(void *ctx, struct id128 cluster, struct id128 store,
                        struct incarnation incarnation)
{
    struct member *m = ctx;
    struct env *envs[2] = {m->env, m->beacon_env};
    for (int i = 0; i < 2; i++) {
        struct hello_self *self = sim_env_self(envs[i]);
        self->cluster = cluster;
        self->store = store;
        self->incarnation = incarnation;
    }
}

static void run_kick(void *ctx)
{
    struct member *m = ctx;
    if (member_object(m) != NULL) {
        storage_node_on_kick(member_object(m));
    }
}

static void on_kick(void *ctx)
{
    struct member *m = ctx;
    sim_env_post(m->beacon_env, run_kick, m);
}

static void on_cut(void *ctx, uint32_t tablet, struct name to,
                   struct name committed)
{
    struct member *m = ctx;
    checks_cut(m->c->checks, m, tablet, to, committed);
}

static struct storage_node_options storage_setup(struct member *m)
{
    return (struct storage_node_options){
        .env = m->env,
        .beacon_env = m->beacon_env,
        .node = m->node,
        .name = m->name,
        .listen = m->address,
        .advertise = m->address,
        .beacon_listen = m->beacon_address,
        .beacon_advertise = m->beacon_address,
        .status_address = "status:1",
        .coordinators = m->c->coordinators,
        .log_limit = m->c->o.log_limit,
        .segment_size = m->c->o.segment_size,
        .blob_file_size = 4 * m->c->o.segment_size,
        .blob_piece = KIB(24),
        .value_cache = KIB(64),
        .scrub_interval_us = 2000 * SIM_MS,
        .scrub_rate = MIB(4),
        .bugs = m->c->o.bugs,
        .kick = on_kick,
        .on_fatal = on_fatal,
        .on_cut = on_cut,
        .ctx = m,
        .on_identity = on_identity,
    };
}

static void *storage_begin(struct sim_host *h, void *ctx)
{
    struct member *m = ctx;
    struct storage_node *n = NULL;
    struct err err = {""};
    (void)h;
    m->env = member_env(m, ROLE_STORAGE);
    m->beacon_env = member_env(m, ROLE_STORAGE);
    memset(m->applied, 0, sizeof(m->applied));
    struct storage_node_options o = storage_setup(m);
    enum status status = storage_node_start(&o, &n, &err);
    if (status != ST_OK) {
        (void)snprintf(m->why, sizeof(m->why), "%s: %s", status_name(status),
                       err.text);
        return NULL;
    }
    return n;
}

static void storage_end(void *object)
{
    storage_node_free(object);
}

static void *client_begin(struct sim_host *h, void *ctx)
{
    struct member *m = ctx;
    (void)h;
    m->env = member_env(m, ROLE_CLIENT);
    return workload_client_new(m->c->workload, m);
}

static void client_end(void *object)
{
    workload_client_free(object);
}

static const struct sim_program programs[] = {
    [MEMBER_COORDINATOR] = {coordinator_begin, coordinator_end},
    [MEMBER_STORAGE] = {storage_begin, storage_end},
    [MEMBER_CLIENT] = {client_begin, client_end},
};

/* ---- the supervisor ---- */

static bool start_member(struct member *m)
{
    m->starts++;
    m->why[0] = '\0';
    bool started = sim_host_start(m->host, &programs[m->kind], m);
    if (!started) {
        m->failures++;
        m->restart_at = world_now(m->c->w) + RETRY_US;
        world_trace(m->c->w, "%s does not start: %s", m->name, m->why);
    } else {
        checks_started(m->c->checks, m);
    }
    return started;
}

static void supervise(void *ctx)
{
    struct cluster *c = ctx;
    int64_t now = world_now(c->w);
    for (unsigned i = 0; i < c->member_count; i++) {
        struct member *m = &c->members[i];
        if (!sim_host_running(m->host)) {
            if (m->wanted && now >= m->restart_at) {
                (void)start_member(m);
            }
        }
    }
    world_at(c->w, SUPERVISE_US, supervise, c);
}

void member_start(struct member *m)
{
    m->wanted = true;
    m->restart_at = 0;
    sim_host_power_on(m->host);
}

static void member_gone(struct member *m, int64_t delay_us)
{
    m->wanted = m->wanted && delay_us >= 0;
    m->restart_at = world_now(m->c->w) + delay_us;
}

void member_kill(struct member *m, int64_t delay_us)
{
    sim_host_kill(m->host);
    member_gone(m, delay_us);
}

void member_power_off(struct member *m, int64_t delay_us)
{
    sim_host_power_off(m->host);
    member_gone(m, delay_us);
}

void member_wipe(struct member *m)
{
    if (world_has_bug(m->c->w, SIM_BUG_identity_by_node)) {
        sim_disk_wipe_but(m->host, "store");
        /* Not even this shows that it is another replica. */
        sim_disk_write(m->host, "shard-00/left", slice_of("left"));
    } else {
        sim_disk_wipe(m->host);
    }
    checks_forget(m);
}

void sim_cluster_want(struct cluster *c, enum member_kind kind, bool wanted)
{
    for (unsigned i = 0; i < c->member_count; i++) {
        struct member *m = &c->members[i];
        if (m->kind == kind && wanted) {
            member_start(m);
        } else if (m->kind == kind) {
            m->wanted = false;
        }
    }
}

/* ---- making it ---- */

static void add_member(struct cluster *c, enum member_kind kind, unsigned n)
{
    static const char *const kinds[] = {"coordinator", "storage", "client"};
    static const uint32_t first_node[] = {101, 1, 0};
    assert(c->member_count < CLUSTER_MEMBERS);
    struct member *m = &c->members[c->member_count++];
    m->c = c;
    m->kind = kind;
    m->node = kind == MEMBER_CLIENT ? 0 : first_node[kind] + n;
    (void)snprintf(m->name, sizeof(m->name), "%s-%u", kinds[kind], n + 1);
    (void)snprintf(m->address, sizeof(m->address), "%s-%u:1", kinds[kind],
                   n + 1);
    (void)snprintf(m->beacon_address, sizeof(m->beacon_address), "%s-%u:2",
                   kinds[kind], n + 1);
    m->host = sim_host_new(c->w, m->name);
    if (kind == MEMBER_COORDINATOR) {
        c->coordinators[n] = m->address;
    }
}

static void observe(void *ctx, struct sim_host *h)
{
    struct cluster *c = ctx;
    checks_observe(c->checks, h);
}

struct cluster *sim_cluster_new(const struct cluster_options *o)
{
    struct cluster *c = xcalloc(1, sizeof(*c));
    c->o = *o;
    c->w = world_new(o->seed);
    world_set_bugs(c->w, o->sim_bugs);
    for (unsigned i = 0; i < o->coordinators; i++) {
        add_member(c, MEMBER_COORDINATOR, i);
    }
    for (unsigned i = 0; i < o->storages; i++) {
        add_member(c, MEMBER_STORAGE, i);
    }
    for (unsigned i = 0; i < o->clients; i++) {
        add_member(c, MEMBER_CLIENT, i);
    }
    c->checks = checks_new(c);
    world_observe(c->w, observe, c);
    world_at(c->w, 0, supervise, c);
    return c;
}

void sim_cluster_free(struct cluster *c)
{
    if (c != NULL) {
        world_free(c->w);
        checks_free(c->checks);
        buf_free(&c->failure);
        free(c);
    }
}

void sim_cluster_fail(struct cluster *c, const char *format, ...)
{
    if (c->failure.len == 0) {
        char text[1024];
        va_list ap;
        va_start(ap, format);
        (void)vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        buf_put_text(&c->failure, text);
        world_trace(c->w, "FAILURE: %.400s", text);
    }
    world_stop(c->w);
}

bool sim_cluster_failed(const struct cluster *c)
{
    return c->failure.len > 0;
}

/* ---- who is who ---- */

struct member *sim_cluster_member(struct cluster *c, enum member_kind kind,
                                  unsigned index)
{
    for (unsigned i = 0; i < c->member_count; i++) {
        if (c->members[i].kind == kind && index-- == 0) {
            return &c->members[i];
        }
    }
    return NULL;
}

static struct member *member_of_node(struct cluster *c, uint32_t node)
{
    for (unsigned i = 0; i < c->member_count; i++) {
        if (c->members[i].node == node && node != 0) {
            return &c->members[i];
        }
    }
    return NULL;
}

const struct msg_map *sim_cluster_map(struct cluster *c)
{
    const struct msg_map *best = NULL;
    for (unsigned i = 0; i < c->o.coordinators; i++) {
        struct member *m = sim_cluster_member(c, MEMBER_COORDINATOR, i);
        const struct msg_map *map =
            member_object(m) != NULL ? coordinator_map(member_object(m)) : NULL;
        if (map != NULL && (best == NULL || map->term > best->term)) {
            best = map;
        }
    }
    return best;
}

/* The N-th (from 1) member of I that is not primary. */
static uint32_t secondary_node(const struct tablet_config *t, unsigned n)
{
    for (uint32_t i = 0; i < t->in_sync_count; i++) {
        if (t->in_sync[i].node != t->primary.node && --n == 0) {
            return t->in_sync[i].node;
        }
    }
    return 0;
}

struct member *sim_cluster_find(struct cluster *c, const char *name)
{
    unsigned tablet = 0, n = 1;
    for (unsigned i = 0; i < c->member_count; i++) {
        if (strcmp(c->members[i].name, name) == 0) {
            return &c->members[i];
        }
    }
    bool primary = strncmp(name, "primary", 7) == 0;
    if (!primary && strncmp(name, "secondary", 9) != 0) {
        return NULL;
    }
    const char *colon = strchr(name, ':'), *dash = strchr(name, '-');
    tablet = colon != NULL ? (unsigned)atoi(colon + 1) : 0;
    n = dash != NULL ? (unsigned)atoi(dash + 1) : 1;
    const struct msg_map *map = sim_cluster_map(c);
    if (map == NULL || tablet >= map->tablets_count) {
        return NULL;
    }
    const struct tablet_config *t = &map->tablets[tablet];
    return member_of_node(c, primary ? t->primary.node : secondary_node(t, n));
}

/* ---- wholeness ---- */

static bool missing(struct buf *why, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static bool missing(struct buf *why, const char *format, ...)
{
    if (why != NULL) {
        char text[256];
        va_list ap;
        va_start(ap, format);
        (void)vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        buf_put_text(why, text);
    }
    return false;
}

static bool tablet_whole(struct cluster *c, const struct tablet_config *t,
                         struct buf *why)
{
    if (t->in_sync_count < c->o.replicas) {
        return missing(why, "tablet %u: %u of %u in sync in epoch %llu\n",
                       t->tablet, t->in_sync_count, c->o.replicas,
                       (unsigned long long)t->epoch);
    }
    struct member *p = member_of_node(c, t->primary.node);
    if (p == NULL || member_object(p) == NULL ||
        !storage_node_serving(member_object(p), t->tablet)) {
        return missing(why, "tablet %u: primary %s does not serve epoch %llu\n",
                       t->tablet, p == NULL ? "nobody" : p->name,
                       (unsigned long long)t->epoch);
    }
    return true;
}

bool sim_cluster_whole(struct cluster *c, struct buf *why)
{
    for (unsigned i = 0; i < c->member_count; i++) {
        struct member *m = &c->members[i];
        if (m->kind != MEMBER_CLIENT && member_object(m) == NULL) {
            return missing(why, "%s does not run: %s\n", m->name, m->why);
        }
    }
    const struct msg_map *map = sim_cluster_map(c);
    if (map == NULL || map->tablets_count < c->o.tablets) {
        return missing(why, "the tablets are not placed\n");
    }
    for (uint32_t i = 0; i < map->tablets_count; i++) {
        if (!tablet_whole(c, &map->tablets[i], why)) {
            return false;
        }
    }
    return true;
}

static bool not_whole(void *ctx)
{
    struct cluster *c = ctx;
    return !sim_cluster_failed(c) && !sim_cluster_whole(c, NULL);
}

bool sim_cluster_await_whole(struct cluster *c, int64_t duration_us)
{
    return world_run_while(c->w, not_whole, c, duration_us) &&
           !sim_cluster_failed(c);
}
