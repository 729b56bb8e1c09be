#include "storage/beacon.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct beacon {
    struct env *env;
    struct beacon_table *table;
    struct links *links;
    struct env_timer timer;
    struct env_conn *accepted[LIMIT_NODES * 2];
    struct env_peer peers[LIMIT_NODES * 2];
    uint32_t accepted_count;
    struct buf out;
    struct tablet_epoch echoes[LIMIT_TABLETS];
    pthread_mutex_t lock; /* of what the shard sets: */
    struct link_target targets[LIMIT_NODES];
    uint32_t target_count;
    bool targets_changed;
};

static void lock(struct beacon *b)
{
    int error = pthread_mutex_lock(&b->lock);
    assert(error == 0);
}

static void unlock(struct beacon *b)
{
    int error = pthread_mutex_unlock(&b->lock);
    assert(error == 0);
}

void beacon_set_targets(struct beacon *b, const struct link_target *targets,
                        uint32_t count)
{
    assert(count <= LIMIT_NODES);
    lock(b);
    memcpy(b->targets, targets, count * sizeof(*targets));
    b->target_count = count;
    b->targets_changed = true;
    unlock(b);
}

static void take_targets(struct beacon *b)
{
    struct link_target targets[LIMIT_NODES];
    uint32_t count;
    lock(b);
    bool changed = b->targets_changed;
    b->targets_changed = false;
    count = b->target_count;
    memcpy(targets, b->targets, count * sizeof(targets[0]));
    unlock(b);
    if (changed) {
        links_set(b->links, targets, count);
    }
}

static void send_beacons(struct beacon *b)
{
    struct replica to[LIMIT_NODES];
    uint32_t count = beacon_table_targets(b->table, to, LIMIT_NODES);
    for (uint32_t i = 0; i < count; i++) {
        struct msg_beacon m = {.stamp_us = env_now_us(b->env)};
        buf_clear(&b->out);
        wire_put_beacon(&b->out, 0, &m);
        (void)links_send(b->links, to[i].node, to[i].store, buf_slice(&b->out));
    }
}

void beacon_kick(struct beacon *b)
{
    take_targets(b);
    send_beacons(b);
}

static void on_timer(struct env_timer *t)
{
    struct beacon *b = t->data;
    env_timer_start(b->env, t, BEACON_INTERVAL_US);
    beacon_kick(b);
}

/* ---- our beacons' echoes ---- */

static void on_up(void *ctx, const struct env_peer *p)
{
    struct beacon *b = ctx;
    (void)p;
    send_beacons(b);
}

static void on_down(void *ctx, const struct env_peer *p)
{
    (void)ctx;
    (void)p;
}

static void on_echo(void *ctx, const struct env_peer *p,
                    const struct wire_msg *m)
{
    struct beacon *b = ctx;
    if (m->type == MSG_ECHO) {
        struct replica peer = {p->node, p->store};
        beacon_table_on_echo(b->table, peer, p->incarnation, &m->u.echo,
                             env_now_us(b->env));
    }
}

/* ---- others' beacons ---- */

static void accept_open(void *ctx, struct env_conn *c, const struct env_peer *p)
{
    struct beacon *b = ctx;
    uint32_t most = sizeof(b->accepted) / sizeof(b->accepted[0]);
    if (p->role != ROLE_STORAGE || b->accepted_count == most) {
        b->env->ops->close(c);
        return;
    }
    b->accepted[b->accepted_count] = c;
    b->peers[b->accepted_count++] = *p;
    links_hint(b->links, p->node);
}

static uint32_t index_of(const struct beacon *b, const struct env_conn *c)
{
    uint32_t i = 0;
    while (i < b->accepted_count && b->accepted[i] != c) {
        i++;
    }
    return i;
}

static void accept_message(void *ctx, struct env_conn *c,
                           const struct wire_msg *m)
{
    struct beacon *b = ctx;
    uint32_t i = index_of(b, c);
    if (m->type != MSG_BEACON || i == b->accepted_count) {
        return;
    }
    const struct env_peer *p = &b->peers[i];
    struct replica peer = {p->node, p->store};
    struct msg_echo echo = {.stamp_us = m->u.beacon.stamp_us,
                            .full = (uint8_t)beacon_table_full(b->table),
                            .tablets = b->echoes};
    echo.tablets_count = beacon_table_on_beacon(b->table, peer, p->incarnation,
                                                env_now_us(b->env), b->echoes);
    buf_clear(&b->out);
    wire_put_echo(&b->out, 0, &echo);
    b->env->ops->send(c, buf_slice(&b->out));
}

static void accept_close(void *ctx, struct env_conn *c, enum status why)
{
    struct beacon *b = ctx;
    uint32_t i = index_of(b, c);
    (void)why;
    if (i < b->accepted_count) {
        b->accepted_count--;
        b->accepted[i] = b->accepted[b->accepted_count];
        b->peers[i] = b->peers[b->accepted_count];
    }
}

static const struct env_conn_events accept_events = {
    accept_open, accept_message, accept_close};

enum status beacon_start(struct env *env, const char *listen,
                         struct beacon_table *table, struct beacon **out,
                         struct err *err)
{
    struct beacon *b = xcalloc(1, sizeof(*b));
    b->env = env;
    b->table = table;
    int error = pthread_mutex_init(&b->lock, NULL);
    assert(error == 0);
    enum status s = env->ops->listen(env, listen, &accept_events, b, err);
    if (s != ST_OK) {
        (void)pthread_mutex_destroy(&b->lock);
        free(b);
        return s;
    }
    struct links_options o = {.env = env,
                              .lane = LANE_BEACON,
                              .on_up = on_up,
                              .on_down = on_down,
                              .on_message = on_echo,
                              .ctx = b};
    b->links = links_new(&o);
    b->timer.fn = on_timer;
    b->timer.data = b;
    env_timer_start(env, &b->timer, 0);
    *out = b;
    return ST_OK;
}

void beacon_stop(struct beacon *b)
{
    if (b == NULL) {
        return;
    }
    env_timer_stop(b->env, &b->timer);
    links_free(b->links);
    for (uint32_t i = 0; i < b->accepted_count; i++) {
        b->env->ops->close(b->accepted[i]);
    }
    buf_free(&b->out);
    (void)pthread_mutex_destroy(&b->lock);
    free(b);
}
