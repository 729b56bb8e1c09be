/*
 * A storage process's part in the cluster: it heartbeats to the coordinator
 * (R20), takes the maps that come back into its replicas (R12), carries the
 * requests of its primaries (R10, R11), and keeps its links to the others.
 * While no coordinator answers, all goes on; only changes wait.
 */
#include "storage/shard_impl.h"
#include "storage/shard_repair.h"

#include <stdlib.h>
#include <string.h>

#include "common/tablet_check.h"

#define HEARTBEAT_US 100000
#define COORDINATOR_RETRY_US 50000

/* ---- addresses ---- */

static const struct node_info *find_node(const struct shard *s, uint32_t node)
{
    for (uint32_t i = 0; s->map != NULL && i < s->map->nodes_count; i++) {
        const struct node_info *n = &s->map->nodes[i];
        if (n->node == node && n->role == ROLE_STORAGE) {
            return n;
        }
    }
    return NULL;
}

static void service_address(const struct node_info *n, const char *service,
                            char out[LIMIT_ADDRESS + 1])
{
    out[0] = '\0';
    for (uint32_t i = 0; n != NULL && i < n->services_count; i++) {
        const struct service *v = &n->services[i];
        if (slice_equal(v->name, slice_of(service)) && v->address.len > 0) {
            memcpy(out, v->address.data, v->address.len);
            out[v->address.len] = '\0';
        }
    }
}

void cluster_address(const struct shard *s, uint32_t node, const char *service,
                     char out[LIMIT_ADDRESS + 1])
{
    service_address(find_node(s, node), service, out);
}

static uint32_t list_targets(const struct shard *s, const char *service,
                             struct link_target *out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->map->nodes_count; i++) {
        const struct node_info *n = &s->map->nodes[i];
        struct link_target t = {.node = n->node};
        if (n->role != ROLE_STORAGE || n->node == s->store->node) {
            continue;
        }
        service_address(n, service, t.address);
        if (t.address[0] != '\0' && count < LIMIT_NODES) {
            out[count++] = t;
        }
    }
    return count;
}

/* ---- links ---- */

static void tell_peer(struct shard *s, struct replica peer,
                      enum event_kind kind)
{
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct event e = {.kind = kind, .u.peer = peer};
        shard_step(s, s->tablets[i], &e);
    }
}

static void on_up(void *ctx, const struct env_peer *p)
{
    struct shard *s = ctx;
    tell_peer(s, (struct replica){p->node, p->store}, EVENT_PEER_UP);
}

/* The coordinator checks this hint; a process that died is found out within
 * milliseconds instead of a whole detection period. */
static void send_suspect(struct shard *s, const struct env_peer *p)
{
    struct msg_suspect m = {p->node, p->incarnation};
    if (s->coordinator_open) {
        buf_clear(&s->out);
        wire_put_suspect(&s->out, 0, &m);
        s->env->ops->send(s->coordinator, buf_slice(&s->out));
    }
}

static void on_down(void *ctx, const struct env_peer *p)
{
    struct shard *s = ctx;
    log_warn(s->env->log, "cluster", "peer-down", "peer=%" PRIu32, p->node);
    send_suspect(s, p);
    if (!id128_is_zero(p->store)) {
        tell_peer(s, (struct replica){p->node, p->store}, EVENT_PEER_DOWN);
    }
}

static void on_link_message(void *ctx, const struct env_peer *p,
                            const struct wire_msg *m)
{
    shard_on_replication(ctx, p, m);
}

static void on_bulk_up(void *ctx, const struct env_peer *p)
{
    forward_on_link(ctx, p->node);
    catchup_on_up(ctx, p->node);
    shard_blobs_on_link(ctx, p->node, true);
}

static void on_bulk_down(void *ctx, const struct env_peer *p)
{
    forward_on_link(ctx, p->node);
    catchup_on_down(ctx, p->node);
    shard_blobs_on_link(ctx, p->node, false);
}

static void on_bulk_message(void *ctx, const struct env_peer *p,
                            const struct wire_msg *m)
{
    if ((m->request & FORWARD_BIT) != 0) {
        forward_on_answer(ctx, p, m);
    } else if ((m->request & REPAIR_BIT) != 0) {
        repair_on_answer(ctx, p, m);
    } else {
        catchup_on_page(ctx, p, m);
    }
}

/* ---- the map ---- */

static bool concerns_us(const struct shard *s, const struct tablet_config *c)
{
    struct replica self = s->host.self;
    const struct replica *lists[] = {c->in_sync, c->eligible, c->learners};
    const uint32_t counts[] = {c->in_sync_count, c->eligible_count,
                               c->learners_count};
    for (size_t i = 0; i < 3; i++) {
        for (uint32_t k = 0; k < counts[i]; k++) {
            if (replica_equal(lists[i][k], self)) {
                return true;
            }
        }
    }
    return false;
}

static void take_config(struct shard *s, const struct tablet_config *c)
{
    struct tablet *t = shard_tablet(s, c->tablet);
    if (t == NULL) {
        if (!concerns_us(s, c)) {
            return;
        }
        t = shard_add_tablet(s, c->tablet, state_new());
        replica_recovered(t->core, false);
        shard_hook_state(s, t);
    }
    struct event e = {.kind = EVENT_CONFIG, .u.config = c};
    shard_step(s, t, &e);
}

static bool take_cluster(struct shard *s, struct id128 cluster)
{
    struct err err;
    if (id128_equal(s->store->cluster, cluster)) {
        return true;
    }
    enum status st = store_set_cluster(s->env, s->store, cluster, &err);
    if (st != ST_OK) {
        shard_fatal(s, st, err.text);
        return false;
    }
    s->o.on_identity(s->o.ctx, s->store->cluster, s->store->id,
                     s->store->incarnation);
    return true;
}

/* What no coordinator of this cluster can have made is not acted upon, not
 * even in part: of such a one nothing can be trusted. min_insync is fixed when
 * the tablets are placed (R8). */
static bool map_is_good(struct shard *s, const struct msg_map *m)
{
    bool good = tablet_check_map(m) == ST_OK &&
                (s->map == NULL || s->map->replicas == 0 ||
                 (m->replicas == s->map->replicas && m->tablets_count > 0));
    if (!good && !s->bad_map_told) {
        log_error(s->env->log, "cluster", "map-refused",
                  "term=%" PRIu64 " version=%" PRIu64, m->term, m->version);
    }
    s->bad_map_told = !good;
    return good;
}

static void on_map(struct shard *s, const struct msg_map *m)
{
    if (m->term < s->term ||
        (s->map != NULL && m->term == s->map->term &&
         m->version <= s->map->version) ||
        !map_is_good(s, m) || !take_cluster(s, m->cluster)) {
        return;
    }
    struct arena fresh = {0};
    s->map = wire_copy_map(&fresh, m);
    arena_free(&s->map_arena);
    s->map_arena = fresh;
    s->term = m->term;
    s->host.map = s->map;
    s->host.min_insync =
        m->min_insync != 0 ? m->min_insync : s->host.min_insync;

    struct link_target targets[LIMIT_NODES];
    uint32_t count = list_targets(s, "rpc", targets);
    links_set(s->links, targets, count);
    links_set(s->bulk, targets, count);
    count = list_targets(s, "beacon", targets);
    beacon_set_targets(s->beacon, targets, count);
    for (uint32_t i = 0; i < s->map->tablets_count; i++) {
        take_config(s, &s->map->tablets[i]);
    }
    s->o.kick(s->o.ctx);
}

/* ---- heartbeats ---- */

#define SERVICES 3

/* Those that have an address; returns their number. */
static uint32_t list_services(const struct shard *s, struct service *out)
{
    const struct service all[SERVICES] = {
        {slice_of("rpc"), slice_of(s->o.advertise)},
        {slice_of("beacon"), slice_of(s->o.beacon_advertise)},
        {slice_of("status"), slice_of(s->o.status_address)},
    };
    uint32_t count = 0;
    for (size_t i = 0; i < SERVICES; i++) {
        if (all[i].address.len > 0) {
            out[count++] = all[i];
        }
    }
    return count;
}

/* R18: the age of the oldest event that this shard has not begun. A heartbeat
 * leaves from the shard's own loop, so while the shard stands still none does;
 * silence says that. What can be said is how long it stood still until just
 * now: the heartbeat's own timer is an event like the others, and how late it
 * is called is how long it has waited. What came before it fell due, at most
 * HEARTBEAT_US earlier, may have waited that much longer; what came after it,
 * shorter. So this is too little by HEARTBEAT_US at most, and never too much.
 */
static uint32_t oldest_event_ms(struct shard *s)
{
    int64_t late_us = env_now_us(s->env) - s->heartbeat_due_us;
    return late_us > 0 ? (uint32_t)(late_us / 1000) : 0;
}

static void send_heartbeat(struct shard *s)
{
    struct service services[SERVICES];
    struct tablet_report *reports = xcalloc(s->tablet_count, sizeof(*reports));
    struct msg_heartbeat m = {
        .node = {.node = s->store->node,
                 .role = ROLE_STORAGE,
                 .state = NODE_UP,
                 .store = s->store->id,
                 .incarnation = s->store->incarnation,
                 .name = slice_of(s->o.name),
                 .services = services,
                 .services_count = list_services(s, services)},
        .stamp_us = env_now_us(s->env),
        .term = s->term,
        .map_version = s->map == NULL ? 0 : s->map->version,
        .oldest_sync_ms = (uint32_t)(shard_pending_us(s) / 1000),
        .oldest_event_ms = oldest_event_ms(s),
        .connections = s->client_count,
        .tablets = reports,
    };
    m.tablets_count = shard_reports(s, reports, s->tablet_count);
    buf_clear(&s->out);
    wire_put_heartbeat(&s->out, 0, &m);
    s->env->ops->send(s->coordinator, buf_slice(&s->out));
    free(reports);
}

void cluster_tell(struct shard *s)
{
    if (s->coordinator_open && !s->fatal) {
        send_heartbeat(s);
    }
}

static void arm_heartbeat(struct shard *s)
{
    s->heartbeat_due_us = env_now_us(s->env) + HEARTBEAT_US;
    env_timer_start(s->env, &s->heartbeat_timer, HEARTBEAT_US);
}

static void on_heartbeat_timer(struct env_timer *t)
{
    struct shard *s = t->data;
    cluster_tell(s);
    arm_heartbeat(s);
}

static void on_refused(struct shard *s, const struct msg_heartbeat_ack *m)
{
    enum status st;
    char text[300];
    if (!status_from_wire(m->status, &st)) {
        st = ST_DENIED;
    }
    size_t len =
        m->text.len < sizeof(text) - 1 ? m->text.len : sizeof(text) - 1;
    memcpy(text, m->text.data, len);
    text[len] = '\0';
    if (!s->refused_told) {
        log_error(s->env->log, "cluster", "refused", "status=%s reason=%s",
                  status_name(st), log_quote(m->text));
    }
    s->refused_told = true;
    if (st == ST_WRONG_NODE || st == ST_DENIED || st == ST_WRONG_CLUSTER) {
        shard_fatal(s, st, text);
    }
}

static void on_heartbeat_ack(struct shard *s, const struct msg_heartbeat_ack *m)
{
    if (m->term < s->term || m->stamp_us > env_now_us(s->env)) {
        return;
    }
    if (m->status != ST_OK) {
        on_refused(s, m);
        return;
    }
    s->refused_told = false;
    s->announced = true;
    if (m->stamp_us > s->host.coordinator_us) {
        s->host.coordinator_us = m->stamp_us;
    }
    for (uint32_t i = 0; i < m->leases_count; i++) {
        struct tablet *t = shard_tablet(s, m->leases[i].tablet);
        if (t != NULL) {
            struct event e = {.kind = EVENT_COORD_LEASE};
            e.u.coord_lease.epoch = m->leases[i].epoch;
            e.u.coord_lease.end_us = m->stamp_us + LEASE_US;
            shard_step(s, t, &e);
        }
    }
    if (s->map == NULL || m->map_version > s->map->version) {
        cluster_want_map(s);
    }
}

/* ---- the coordinator's connection ---- */

void cluster_want_map(struct shard *s)
{
    if (!s->coordinator_open) {
        return;
    }
    struct msg_map_watch m = {s->term, s->map == NULL ? 0 : s->map->version};
    buf_clear(&s->out);
    wire_put_map_watch(&s->out, 0, &m);
    s->env->ops->send(s->coordinator, buf_slice(&s->out));
}

void cluster_ask_change(struct shard *s, const struct msg_change *change)
{
    if (s->coordinator_open) {
        buf_clear(&s->out);
        wire_put_change(&s->out, 0, change);
        s->env->ops->send(s->coordinator, buf_slice(&s->out));
    }
}

static void on_coordinator_open(void *ctx, struct env_conn *c,
                                const struct env_peer *p)
{
    struct shard *s = ctx;
    (void)c;
    (void)p;
    s->coordinator_open = true;
    cluster_want_map(s);
    send_heartbeat(s);
}

static void on_coordinator_message(void *ctx, struct env_conn *c,
                                   const struct wire_msg *m)
{
    struct shard *s = ctx;
    (void)c;
    if (s->fatal) {
        return;
    }
    switch ((int)m->type) {
    case MSG_MAP:
        on_map(s, &m->u.map);
        return;
    case MSG_HEARTBEAT_ACK:
        on_heartbeat_ack(s, &m->u.heartbeat_ack);
        return;
    default:
        return; /* CHANGE_ACK: the map says what became of it */
    }
}

static void on_coordinator_close(void *ctx, struct env_conn *c, enum status why)
{
    struct shard *s = ctx;
    (void)c;
    (void)why;
    s->coordinator = NULL;
    s->coordinator_open = false;
    env_timer_start(s->env, &s->coordinator_timer, COORDINATOR_RETRY_US);
}

static const struct env_conn_events coordinator_events = {
    on_coordinator_open, on_coordinator_message, on_coordinator_close};

static void on_coordinator_timer(struct env_timer *t)
{
    struct shard *s = t->data;
    uint32_t count = 0;
    while (s->o.coordinators[count] != NULL) {
        count++;
    }
    assert(count > 0);
    s->coordinator = s->env->ops->connect(
        s->env, s->o.coordinators[s->coordinator_turn++ % count], LANE_REQUEST,
        &coordinator_events, s);
}

/* ---- life ---- */

void cluster_init(struct shard *s)
{
    s->heartbeat_timer.fn = on_heartbeat_timer;
    s->heartbeat_timer.data = s;
    s->coordinator_timer.fn = on_coordinator_timer;
    s->coordinator_timer.data = s;
}

void cluster_start(struct shard *s)
{
    struct links_options o = {.env = s->env,
                              .lane = LANE_REQUEST,
                              .on_up = on_up,
                              .on_down = on_down,
                              .on_message = on_link_message,
                              .ctx = s};
    s->links = links_new(&o);
    o.lane = LANE_BULK;
    o.on_up = on_bulk_up;
    o.on_down = on_bulk_down;
    o.on_message = on_bulk_message;
    s->bulk = links_new(&o);
    env_timer_start(s->env, &s->coordinator_timer, 0);
    arm_heartbeat(s);
}

void cluster_free(struct shard *s)
{
    env_timer_stop(s->env, &s->heartbeat_timer);
    env_timer_stop(s->env, &s->coordinator_timer);
    if (s->coordinator != NULL) {
        s->env->ops->close(s->coordinator);
        s->coordinator = NULL;
        s->coordinator_open = false;
    }
    links_free(s->links);
    links_free(s->bulk);
    s->links = NULL;
    s->bulk = NULL;
    arena_free(&s->map_arena);
    s->map = NULL;
    s->host.map = NULL;
}
