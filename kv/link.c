/*
 * The link to a coordinator: one connection to one of the addresses we were
 * given, over which the map comes. It is always wanted. While no coordinator
 * answers, the client works on with the map it has (R20).
 *
 * A coordinator that is not the active one says so, perhaps with the active
 * one's address; one that does not know that it no longer is simply has
 * nothing new: so where there are several and asking brings nothing for a
 * while, the next one is asked.
 */
#include "kv/core_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static struct slice wanted_address(const struct kv_core *c)
{
    const struct kv_link *l = &c->link;
    return slice_of(l->hint[0] != '\0' ? l->hint : l->addresses[l->at]);
}

/* Points the link at the wanted address; what waited on the old connection
 * for the coordinator comes along. Called from the link's timer, so the old
 * connection may go. */
static void point(struct kv_core *c)
{
    struct kv_conn *old = c->link.conn;
    struct kv_conn *n = kv_conn_get(c, wanted_address(c), LANE_REQUEST);
    c->link.conn = n;
    if (n->state == CONN_OPEN) {
        kv_link_on_open(c);
    } else {
        kv_conn_need(n);
    }
    if (old == n || old == NULL) {
        return;
    }
    for (struct kv_ring *r = c->ops.next; r != &c->ops; r = r->next) {
        struct kv_op *op = RING_OF(r, struct kv_op, p.all);
        if (op->kind == KV_OP_CALL && op->p.conn == old &&
            (op->p.state == OP_WAITING || op->p.state == OP_SENT)) {
            kv_op_advance(op);
        }
    }
    kv_conn_free_idle(old);
}

static void on_timer(struct env_timer *t)
{
    point(t->data);
}

/* Turns to the wanted address: the first time at once, then with backoff
 * until a map comes. */
static void point_soon(struct kv_core *c)
{
    struct kv_link *l = &c->link;
    int64_t delay = 0;
    if (l->failures > 0) {
        delay = kv_backoff_us(c, l->failures, KV_LINK_BACKOFF_US);
    }
    if (l->failures < UINT8_MAX) {
        l->failures++;
    }
    l->since_us = 0;
    env_timer_start(c->env, &l->timer, delay);
}

void kv_link_init(struct kv_core *c, const char *const *addresses)
{
    struct kv_link *l = &c->link;
    while (addresses[l->count] != NULL) {
        l->count++;
    }
    assert(l->count > 0);
    l->addresses = xcalloc(l->count, sizeof(*l->addresses));
    for (uint32_t i = 0; i < l->count; i++) {
        l->addresses[i] = xstrdup(addresses[i]);
    }
    /* Not all clients of a cluster to the same one. */
    uint32_t random;
    env_random(c->env, &random, sizeof(random));
    l->at = random % l->count;
    l->timer.fn = on_timer;
    l->timer.data = c;
    point(c);
}

void kv_link_fini(struct kv_core *c)
{
    struct kv_link *l = &c->link;
    env_timer_stop(c->env, &l->timer);
    for (uint32_t i = 0; i < l->count; i++) {
        free(l->addresses[i]);
    }
    free(l->addresses);
}

static void send_watch(struct kv_core *c)
{
    struct msg_map_watch ask = {
        .term = c->map != NULL ? c->map->term : 0,
        .version = c->map != NULL ? c->map->version : 0,
    };
    buf_clear(&c->frame);
    wire_put_map_watch(&c->frame, KV_REQUEST_LINK, &ask);
    c->link.conn->asked = true;
    kv_conn_send(c->link.conn);
}

void kv_link_on_open(struct kv_core *c)
{
    kv_conn_watch(c->link.conn);
    send_watch(c);
}

static void next_address(struct kv_core *c)
{
    struct kv_link *l = &c->link;
    if (l->hint[0] != '\0') {
        l->hint[0] = '\0';
    } else {
        l->at = (l->at + 1) % l->count;
    }
}

void kv_link_on_lost(struct kv_core *c)
{
    next_address(c);
    point_soon(c);
}

void kv_link_move(struct kv_core *c, struct slice hint)
{
    struct kv_link *l = &c->link;
    if (hint.len > 0 && !slice_equal(hint, wanted_address(c))) {
        memcpy(l->hint, hint.data, hint.len);
        l->hint[hint.len] = '\0';
    } else {
        next_address(c);
    }
    point_soon(c);
}

void kv_link_on_map(struct kv_core *c)
{
    c->link.since_us = 0;
    c->link.failures = 0;
}

void kv_link_ask(struct kv_core *c)
{
    struct kv_link *l = &c->link;
    int64_t now = env_now_us(c->env);
    if (l->conn->state != CONN_OPEN || now - l->asked_us < KV_ASK_GAP_US) {
        return;
    }
    if (l->since_us == 0) {
        l->since_us = now;
    } else if (l->count > 1 && now - l->since_us >= KV_LINK_TRUST_US) {
        next_address(c);
        point_soon(c);
        return;
    }
    l->asked_us = now;
    kv_conn_watch(l->conn);
    send_watch(c);
}
