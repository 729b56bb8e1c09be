/*
 * One link to each coordinator. All are told and asked alike, so that nothing
 * here needs to know which of them is active: the passive ones answer with an
 * error or not at all, and the newest map wins (its user compares).
 *
 * A link: connect; when open, ask to watch the map and send a heartbeat
 * every 100 ms; when it closes, or has not been answered for 2 s (a host that
 * is gone without a reset), close and connect again RETRY_US later.
 */
#include "common/watch.h"

#include <stdlib.h>

#define HEARTBEAT_US 100000
#define RETRY_US 250000
#define SILENCE_US 2000000

struct link {
    struct watch *watch;
    const char *address;
    struct env_conn *conn; /* NULL: waiting to connect again */
    bool open;
    int64_t heard_us;       /* last message, or when it was opened */
    int64_t retry_us;       /* when to connect again */
    uint64_t term, version; /* of the newest map it sent */
};

struct watch {
    struct watch_options o;
    enum node_state state;
    struct env_timer tick;
    struct buf out; /* scratch for one frame */
    struct link *links;
    size_t count;
};

static void send_frame(struct link *l)
{
    struct watch *w = l->watch;
    w->o.env->ops->send(l->conn, buf_slice(&w->out));
    buf_clear(&w->out);
}

static void send_watch(struct link *l)
{
    struct msg_map_watch m = {.term = 0, .version = 0};
    wire_put_map_watch(&l->watch->out, 0, &m);
    send_frame(l);
}

static void send_heartbeat(struct link *l)
{
    struct watch *w = l->watch;
    struct msg_heartbeat m = {.node = w->o.self,
                              .stamp_us = env_now_us(w->o.env),
                              .term = l->term,
                              .map_version = l->version,
                              .connections = *w->o.connections};
    m.node.state = (uint8_t)w->state;
    wire_put_heartbeat(&w->out, 0, &m);
    send_frame(l);
}

static void on_open(void *ctx, struct env_conn *c, const struct env_peer *peer)
{
    struct link *l = ctx;
    if (peer->role != ROLE_COORDINATOR) {
        log_error(l->watch->o.env->log, "watch", "not-a-coordinator",
                  "address=%s role=%s", l->address, role_name(peer->role));
    }
    l->open = true;
    l->heard_us = env_now_us(l->watch->o.env);
    send_watch(l);
    send_heartbeat(l);
}

static void on_message(void *ctx, struct env_conn *c, const struct wire_msg *m)
{
    struct link *l = ctx;
    struct watch *w = l->watch;
    l->heard_us = env_now_us(w->o.env);
    if (m->type == MSG_MAP) {
        l->term = m->u.map.term;
        l->version = m->u.map.version;
        w->o.on_map(w->o.ctx, &m->u.map);
    } else if (m->type == MSG_HEARTBEAT_ACK &&
               m->u.heartbeat_ack.status != ST_OK) {
        log_debug(w->o.env->log, "watch", "heartbeat-refused",
                  "address=%s text=%s", l->address,
                  log_quote(m->u.heartbeat_ack.text));
    }
}

/* The link is down; TEXT says why. */
static void lost(struct link *l, const char *why)
{
    if (l->open) {
        log_warn(l->watch->o.env->log, "watch", "coordinator-lost",
                 "address=%s why=%s", l->address, why);
    }
    l->conn = NULL;
    l->open = false;
    l->retry_us = env_now_us(l->watch->o.env) + RETRY_US;
}

static void on_close(void *ctx, struct env_conn *c, enum status why)
{
    lost(ctx, status_name(why));
}

static const struct env_conn_events events = {on_open, on_message, on_close};

static void tick_link(struct link *l, int64_t now_us)
{
    struct env *env = l->watch->o.env;
    if (l->conn == NULL) {
        if (now_us >= l->retry_us) {
            l->conn =
                env->ops->connect(env, l->address, LANE_REQUEST, &events, l);
        }
    } else if (l->open && now_us - l->heard_us > SILENCE_US) {
        env->ops->close(l->conn);
        lost(l, "silence");
    } else if (l->open) {
        send_heartbeat(l);
    }
}

static void on_tick(struct env_timer *t)
{
    struct watch *w = t->data;
    env_timer_start(w->o.env, t, HEARTBEAT_US);
    int64_t now_us = env_now_us(w->o.env);
    for (size_t i = 0; i < w->count; i++) {
        tick_link(&w->links[i], now_us);
    }
}

struct watch *watch_start(const struct watch_options *o)
{
    struct watch *w = xcalloc(1, sizeof(*w));
    w->o = *o;
    w->state = NODE_STARTING;
    while (o->coordinators[w->count] != NULL) {
        w->count++;
    }
    w->links = xcalloc(w->count, sizeof(*w->links));
    for (size_t i = 0; i < w->count; i++) {
        w->links[i] = (struct link){.watch = w, .address = o->coordinators[i]};
    }
    w->tick.fn = on_tick;
    w->tick.data = w;
    env_timer_start(o->env, &w->tick, 0);
    return w;
}

void watch_stop(struct watch *w)
{
    if (w == NULL) {
        return;
    }
    env_timer_stop(w->o.env, &w->tick);
    for (size_t i = 0; i < w->count; i++) {
        if (w->links[i].conn != NULL) {
            w->o.env->ops->close(w->links[i].conn);
        }
    }
    buf_free(&w->out);
    free(w->links);
    free(w);
}

void watch_set_state(struct watch *w, enum node_state state)
{
    w->state = state;
}

void watch_each(const struct watch *w,
                void (*fn)(void *ctx, const char *address, bool answering),
                void *ctx)
{
    for (size_t i = 0; i < w->count; i++) {
        fn(ctx, w->links[i].address, w->links[i].open);
    }
}
