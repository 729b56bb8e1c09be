/*
 * Connections, one for each (address, lane). One is opened when somebody
 * needs it and stays open; lost, it is opened anew at once, then with
 * jittered backoff, for as long as operations wait for it. Operations that it
 * took with it are brought to where they now belong.
 *
 * TCP may be silent for minutes about a host that is gone. While answers are
 * due and nothing comes, a PING asks for any sign of life, and without one
 * the connection is cut and opened anew. What was sent on a lost connection
 * stays loose for ever: nobody can say any more what became of it.
 */
#include "kv/core_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/env_send.h"

static void on_timer(struct env_timer *t);

/* ---- making and freeing ---- */

struct kv_conn *kv_conn_get(struct kv_core *c, struct slice address,
                            enum lane lane)
{
    assert(address.len <= LIMIT_ADDRESS);
    /* It came from outside: what follows a NUL would never be found. */
    address.len = strnlen((const char *)address.data, address.len);
    for (struct kv_ring *r = c->conns.next; r != &c->conns; r = r->next) {
        struct kv_conn *n = RING_OF(r, struct kv_conn, all);
        if (n->lane == lane && slice_equal(slice_of(n->address), address)) {
            return n;
        }
    }
    struct kv_conn *n = xcalloc(1, sizeof(*n));
    n->core = c;
    n->lane = lane;
    memcpy(n->address, address.data, address.len);
    ring_init(&n->waiting);
    ring_init(&n->pending);
    n->timer.fn = on_timer;
    n->timer.data = n;
    ring_append(&c->conns, &n->all);
    return n;
}

void kv_conn_free(struct kv_conn *n)
{
    struct env *e = n->core->env;
    assert(ring_empty(&n->waiting) && ring_empty(&n->pending));
    env_timer_stop(e, &n->timer);
    if (n->env_conn != NULL) {
        e->ops->close(n->env_conn);
    }
    ring_remove(&n->all);
    free(n);
}

static bool is_idle(const struct kv_conn *n)
{
    return n != n->core->link.conn && ring_empty(&n->waiting) &&
           ring_empty(&n->pending);
}

/* An operation that backs off keeps a pointer to where it was sent. */
static bool is_remembered(const struct kv_conn *n)
{
    const struct kv_ring *all = &n->core->ops;
    for (struct kv_ring *r = all->next; r != all; r = r->next) {
        if (RING_OF(r, struct kv_op, p.all)->p.conn == n) {
            return true;
        }
    }
    return false;
}

static void forget_copies(struct kv_conn *n)
{
    struct kv_ring *all = &n->core->ops;
    for (struct kv_ring *r = all->next; r != all; r = r->next) {
        struct kv_op *op = RING_OF(r, struct kv_op, p.all);
        uint32_t kept = 0;
        for (uint32_t i = 0; i < op->p.copies_count; i++) {
            if (op->p.copies[i].conn != n) {
                op->p.copies[kept++] = op->p.copies[i];
            }
        }
        op->p.copies_count = kept;
    }
}

void kv_conn_free_idle(struct kv_conn *n)
{
    if (is_idle(n) && !is_remembered(n)) {
        forget_copies(n);
        kv_conn_free(n);
    }
}

void kv_conn_sweep(struct kv_core *c)
{
    struct kv_ring *r = c->conns.next;
    while (r != &c->conns) {
        struct kv_conn *n = RING_OF(r, struct kv_conn, all);
        r = r->next;
        if (!kv_route_known(c, n->address)) {
            kv_conn_free_idle(n);
        }
    }
}

/* ---- losing ---- */

static void open_later(struct kv_conn *n)
{
    int64_t delay = 0;
    if (n->failures > 1) {
        delay = kv_backoff_us(n->core, n->failures, KV_BACKOFF_US);
    }
    n->state = CONN_BACKOFF;
    env_timer_start(n->core->env, &n->timer, delay);
}

static void move_all(struct kv_ring *from, struct kv_ring *to)
{
    while (!ring_empty(from)) {
        struct kv_ring *r = from->next;
        ring_remove(r);
        ring_append(to, r);
    }
}

static void lost(struct kv_conn *n, enum status why)
{
    struct kv_core *c = n->core;
    log_debug(c->env->log, "kv", "lost", "address=%s lane=%d why=%s",
              n->address, (int)n->lane, status_name(why));
    n->env_conn = NULL;
    n->state = CONN_IDLE;
    n->watched = n->asked = n->pinged = false;
    n->failures =
        (uint8_t)(n->failures < UINT8_MAX ? n->failures + 1 : UINT8_MAX);
    env_timer_stop(c->env, &n->timer);
    forget_copies(n);
    kv_route_forget(c, n->address);
    if (n == c->link.conn) {
        kv_link_on_lost(c);
    } else {
        kv_link_ask(c);
    }
    struct kv_ring ops;
    ring_init(&ops);
    move_all(&n->pending, &ops);
    move_all(&n->waiting, &ops);
    if (!ring_empty(&ops)) {
        open_later(n);
    }
    while (!ring_empty(&ops)) {
        struct kv_op *op = RING_OF(ops.next, struct kv_op, p.place);
        op->p.quiet = 0;
        kv_op_advance(op);
    }
}

static void on_close(void *ctx, struct env_conn *e, enum status why)
{
    struct kv_conn *n = ctx;
    assert(e == n->env_conn);
    lost(n, why);
}

void kv_conn_reset(struct kv_conn *n, enum status why)
{
    if (n->env_conn == NULL) {
        return;
    }
    n->core->env->ops->close(n->env_conn);
    lost(n, why);
}

/* ---- opening ---- */

static void on_open(void *ctx, struct env_conn *e, const struct env_peer *peer)
{
    struct kv_conn *n = ctx;
    assert(e == n->env_conn && n->state == CONN_OPENING);
    n->state = CONN_OPEN;
    n->failures = 0;
    env_timer_stop(n->core->env, &n->timer);
    if (n == n->core->link.conn) {
        kv_link_on_open(n->core);
    }
    kv_conn_pump(n);
}

static void heard(struct kv_conn *n)
{
    n->heard_us = env_now_us(n->core->env);
    n->pinged = n->asked = false;
}

static void on_message(void *ctx, struct env_conn *e, const struct wire_msg *m)
{
    struct kv_conn *n = ctx;
    struct kv_core *c = n->core;
    assert(e == n->env_conn);
    heard(n);
    if (m->type == MSG_MAP) {
        if (n == c->link.conn) {
            kv_map_take(c, &m->u.map);
        }
        return;
    }
    if (m->request == KV_REQUEST_LINK) {
        if (n == c->link.conn && m->type == MSG_ERROR) {
            kv_link_move(c, m->u.error.address);
        }
        return;
    }
    uint32_t copy;
    struct kv_op *op = kv_op_of_request(c, m->request, &copy);
    if (op != NULL && op->p.copies[copy].conn == n) {
        kv_op_on_answer(op, copy, m);
    }
}

static void open_now(struct kv_conn *n)
{
    static const struct env_conn_events events = {
        .on_open = on_open,
        .on_message = on_message,
        .on_close = on_close,
    };
    struct env *e = n->core->env;
    n->state = CONN_OPENING;
    n->env_conn = e->ops->connect(e, n->address, n->lane, &events, n);
    env_timer_start(e, &n->timer, KV_OPEN_US);
}

void kv_conn_need(struct kv_conn *n)
{
    if (n->state == CONN_IDLE) {
        open_now(n);
    }
}

/* ---- silence ---- */

void kv_conn_watch(struct kv_conn *n)
{
    if (n->state == CONN_OPEN && !n->watched) {
        n->watched = true;
        heard(n);
        env_timer_start(n->core->env, &n->timer, KV_SILENCE_US);
    }
}

static void look_for_silence(struct kv_conn *n)
{
    struct kv_core *c = n->core;
    if (ring_empty(&n->pending) && !n->asked) {
        n->watched = false;
        return;
    }
    int64_t quiet = env_now_us(c->env) - n->heard_us;
    if (quiet >= KV_DEAD_US) {
        kv_conn_reset(n, ST_TIMEOUT);
        return;
    }
    if (quiet >= KV_SILENCE_US && !n->pinged) {
        struct msg_ping ping = {.stamp = 0};
        n->pinged = true;
        buf_clear(&c->frame);
        wire_put_ping(&c->frame, KV_REQUEST_LINK, &ping);
        kv_conn_send(n);
    }
    env_timer_start(c->env, &n->timer, KV_SILENCE_US);
}

static void on_timer(struct env_timer *t)
{
    struct kv_conn *n = t->data;
    switch (n->state) {
    case CONN_IDLE:
        break;
    case CONN_OPENING:
        kv_conn_reset(n, ST_TIMEOUT);
        break;
    case CONN_OPEN:
        look_for_silence(n);
        break;
    case CONN_BACKOFF:
        n->state = CONN_IDLE;
        if (!is_idle(n)) {
            open_now(n);
        }
        break;
    }
}

/* ---- sending ---- */

void kv_conn_send(struct kv_conn *n)
{
    struct kv_core *c = n->core;
    assert(n->state == CONN_OPEN);
    /* A large one is not copied; nor does it hold its memory for ever. */
    if (c->frame.cap > KIB(64)) {
        env_send_take(c->env, n->env_conn, &c->frame);
    } else {
        c->env->ops->send(n->env_conn, buf_slice(&c->frame));
    }
}

bool kv_conn_room(const struct kv_conn *n, const struct kv_op *op)
{
    if (op->kind == KV_OP_WATCH) {
        return n->watches < KV_CONN_WATCHES;
    }
    return n->sent < KV_CONN_REQUESTS;
}

void kv_conn_pump(struct kv_conn *n)
{
    while (n->state == CONN_OPEN && !ring_empty(&n->waiting)) {
        struct kv_op *op = RING_OF(n->waiting.next, struct kv_op, p.place);
        if (kv_conn_room(n, op)) {
            kv_op_transmit(op);
        } else if (op->kind == KV_OP_WATCH) {
            /* It shall not hold up requests; it will have its turn. */
            kv_op_move(op, OP_BACKOFF);
            kv_op_arm(op, KV_WATCH_RETRY_US);
        } else {
            break;
        }
    }
}
