/*
 * The client's core: operations from start to done(). An operation is always
 * in exactly one state (enum op_state), in core->ops until its end, and, while
 * it waits for something that wakes it, in that one's ring (a connection's, a
 * session's). Each has one timer: the next check or its deadline, whichever
 * is sooner.
 */
#include "kv/core_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BIT(state) (1u << (state))
#define BITS_LIVE                                                              \
    (BIT(OP_PARKED) | BIT(OP_QUEUED) | BIT(OP_WAITING) | BIT(OP_SENT) |        \
     BIT(OP_BACKOFF))

/* Allowed moves: from state to a set of states. */
static const unsigned moves[] = {
    [OP_NEW] = (BITS_LIVE & ~BIT(OP_SENT)) | BIT(OP_ENDING),
    [OP_PARKED] = BITS_LIVE,
    /* A number first, then all else. */
    [OP_QUEUED] = BIT(OP_PARKED) | BIT(OP_WAITING) | BIT(OP_BACKOFF),
    [OP_WAITING] = BITS_LIVE,
    [OP_SENT] = BITS_LIVE,
    [OP_BACKOFF] = BITS_LIVE,
    [OP_ENDING] = 0,
};

static void on_timer(struct env_timer *t);

static uint32_t *sent_count(struct kv_op *op)
{
    struct kv_conn *n = op->p.conn;
    return op->kind == KV_OP_WATCH ? &n->watches : &n->sent;
}

static void leave_place(struct kv_op *op)
{
    ring_remove(&op->p.place);
    if (op->p.state == OP_SENT) {
        uint32_t *count = sent_count(op);
        assert(*count > 0);
        (*count)--;
    }
}

void kv_op_move(struct kv_op *op, enum op_state to)
{
    assert((moves[op->p.state] & BIT(to)) != 0);
    assert(to != OP_WAITING && to != OP_SENT);
    leave_place(op);
    op->p.state = (uint8_t)to;
}

void kv_op_move_to(struct kv_op *op, struct kv_conn *n, enum op_state to)
{
    assert((moves[op->p.state] & BIT(to)) != 0);
    assert(to == OP_WAITING || to == OP_SENT);
    leave_place(op);
    op->p.conn = n;
    op->p.state = (uint8_t)to;
    ring_append(to == OP_SENT ? &n->pending : &n->waiting, &op->p.place);
    if (to == OP_SENT) {
        (*sent_count(op))++;
    }
}

/* ---- slots and request ids ---- */

static bool take_slot(struct kv_core *c, struct kv_op *op)
{
    if (c->free_count == 0) {
        if (c->slots_count >= LIMIT_CLIENT_OPS) {
            return false;
        }
        uint32_t more = c->slots_count == 0 ? 64 : c->slots_count;
        uint32_t count = c->slots_count + more;
        c->slots = xrealloc(c->slots, count * sizeof(*c->slots));
        c->free_slots = xrealloc(c->free_slots, count * sizeof(uint32_t));
        for (uint32_t i = count; i > c->slots_count; i--) {
            c->slots[i - 1] = NULL;
            c->free_slots[c->free_count++] = i - 1;
        }
        c->slots_count = count;
    }
    op->p.slot = c->free_slots[--c->free_count];
    assert(c->slots[op->p.slot] == NULL);
    c->slots[op->p.slot] = op;
    return true;
}

static void give_slot(struct kv_op *op)
{
    struct kv_core *c = op->p.core;
    if (op->p.slot == UINT32_MAX) {
        return;
    }
    assert(c->slots[op->p.slot] == op);
    c->slots[op->p.slot] = NULL;
    c->free_slots[c->free_count++] = op->p.slot;
}

uint64_t kv_request_id(struct kv_core *c, const struct kv_op *op)
{
    return (++c->requests << KV_SLOT_BITS) | op->p.slot;
}

struct kv_op *kv_op_of_request(struct kv_core *c, uint64_t request,
                               uint32_t *copy)
{
    uint64_t slot = request & ((1u << KV_SLOT_BITS) - 1);
    struct kv_op *op = slot < c->slots_count ? c->slots[slot] : NULL;
    for (uint32_t i = 0; op != NULL && i < op->p.copies_count; i++) {
        if (op->p.copies[i].request == request) {
            *copy = i;
            return op;
        }
    }
    return NULL;
}

int64_t kv_backoff_us(struct kv_core *c, unsigned tries, int64_t most_us)
{
    int64_t base = tries < 8 ? (int64_t)2000 << tries : most_us;
    if (base > most_us) {
        base = most_us;
    }
    uint32_t random;
    env_random(c->env, &random, sizeof(random));
    return base / 2 + (int64_t)random % (base / 2 + 1);
}

/* ---- start ---- */

static void end_at_once(struct kv_op *op, enum status status)
{
    op->status = status;
    kv_op_move(op, OP_ENDING);
    env_timer_start(op->p.core->env, &op->p.timer, 0);
}

/* A settle whose session we lost has its answer already (R23). */
static bool settle_is_lost(struct kv_op *op)
{
    struct kv_tablet *t = kv_tablet_of_id(op->p.core, op->in.settle.tablet);
    return op->in.settle.session == 0 || t == NULL ||
           t->session.session != op->in.settle.session;
}

void kv_core_start(struct kv_core *c, struct kv_op *op)
{
    memset(&op->p, 0, sizeof(op->p));
    op->p.core = c;
    op->p.slot = UINT32_MAX;
    op->status = ST_OK;
    op->answer = NULL;
    memset(&op->result, 0, sizeof(op->result));
    op->p.timer.fn = on_timer;
    op->p.timer.data = op;
    ring_init(&op->p.place);
    if (c->stopping) {
        op->status = ST_STOPPING;
        op->done(op);
        return;
    }
    op->p.deadline_us = env_now_us(c->env) + op->timeout_us;
    ring_append(&c->ops, &op->p.all);
    c->stats.requests++;
    enum status s = kv_op_check(op);
    if (s != ST_OK) {
        end_at_once(op, s);
    } else if (!take_slot(c, op)) {
        end_at_once(op, ST_BUSY);
    } else if (op->kind == KV_OP_SETTLE && settle_is_lost(op)) {
        end_at_once(op, ST_UNKNOWN_CLIENT);
    } else {
        kv_op_arm(op, op->timeout_us);
        kv_op_advance(op);
    }
}

/* ---- end ---- */

void kv_op_arm(struct kv_op *op, int64_t delay_us)
{
    struct env *e = op->p.core->env;
    int64_t left = op->p.deadline_us - env_now_us(e);
    int64_t delay = delay_us < left ? delay_us : left;
    env_timer_start(e, &op->p.timer, delay > 0 ? delay : 0);
}

/* The one place where a number is closed or kept (R23). */
static void settle_number(struct kv_op *op, enum status status)
{
    struct kv_tablet *t = op->p.tablet;
    bool known = status != ST_UNKNOWN_OUTCOME;
    if (op->kind == KV_OP_SETTLE) {
        op->result.pending = op->in.settle;
        if (known && t != NULL) {
            kv_session_close(t, op->in.settle.session, op->in.settle.number);
        }
        return;
    }
    if (op->p.number == 0) {
        return;
    }
    if (!known) {
        op->result.pending = (struct kv_pending){
            .tablet = t->id,
            .session = op->p.session,
            .number = op->p.number,
        };
    }
    if (known || op->give_up) {
        kv_session_close(t, op->p.session, op->p.number);
    }
}

void kv_op_finish(struct kv_op *op, enum status status,
                  const struct wire_msg *answer)
{
    struct kv_core *c = op->p.core;
    struct kv_conn *n = op->p.conn;
    leave_place(op);
    op->p.state = OP_ENDING;
    ring_remove(&op->p.all);
    env_timer_stop(c->env, &op->p.timer);
    give_slot(op);
    settle_number(op, status);
    c->stats.unknown +=
        op->kind == KV_OP_COMMAND && status == ST_UNKNOWN_OUTCOME;
    c->stats.settled += op->kind == KV_OP_SETTLE &&
                        status != ST_UNKNOWN_OUTCOME &&
                        status != ST_UNKNOWN_CLIENT;
    if (!c->stopping && n != NULL) {
        kv_conn_pump(n);
    }
    op->status = status;
    op->answer = answer;
    op->done(op);
}

/* What to say of something that surely had no effect, at its deadline. */
static enum status refusal_at_deadline(const struct kv_op *op)
{
    uint16_t refused = op->p.refused;
    if (op->p.state == OP_QUEUED && refused == ST_OK) {
        refused = op->p.tablet->session.introduce.p.refused;
    }
    switch ((unsigned)refused) {
    case ST_OK:
        return op->p.sent > 0 ? ST_TIMEOUT : ST_UNREACHABLE;
    case ST_NOT_PRIMARY:
    case ST_STALE_EPOCH:
    case ST_NOT_FOUND:
    case ST_WRONG_NODE:
    case ST_STOPPING:
    case ST_CLOSED:
    case ST_UNKNOWN_OUTCOME:
    case ST_UNKNOWN_CLIENT:
        return ST_UNREACHABLE;
    default:
        return (enum status)refused;
    }
}

void kv_op_expire(struct kv_op *op, enum status reason)
{
    enum status s = reason != ST_OK ? reason : refusal_at_deadline(op);
    switch (op->kind) {
    case KV_OP_COMMAND:
        if (op->p.loose > 0) {
            s = ST_UNKNOWN_OUTCOME;
        } else if (s == ST_TIMEOUT) {
            /* Nothing of it is left: it did not happen. */
            s = ST_UNREACHABLE;
        }
        break;
    case KV_OP_SETTLE:
        s = ST_UNKNOWN_OUTCOME;
        break;
    case KV_OP_WATCH:
        s = op->p.sent > 0 && reason == ST_OK ? ST_TIMEOUT : s;
        break;
    case KV_OP_GET:
    case KV_OP_SCAN:
    case KV_OP_CALL:
    case KV_OP_INTRODUCE:
        break;
    }
    kv_op_finish(op, s, NULL);
}

/* ---- timer ---- */

/* A check without an answer: ask for the map; from the second one on send
 * again, on a connection that may have been opened anew meanwhile. Checks
 * are twice as far apart each time: an unbroken connection to a slow primary
 * gains nothing from more copies, and large ones make it slower still: on the
 * same connection those are first repeated after more than five seconds. */
static void on_quiet(struct kv_op *op)
{
    op->p.quiet++;
    if (op->kind == KV_OP_WATCH) {
        kv_op_advance(op);
        return;
    }
    kv_link_ask(op->p.core);
    unsigned patience = op->bulk ? KV_BULK_PATIENCE : 1;
    if (op->p.quiet > patience || kv_route_conn(op) != op->p.conn) {
        kv_op_advance(op);
        return;
    }
    kv_op_arm(op, (int64_t)KV_ASK_US << op->p.quiet);
}

static void on_timer(struct env_timer *timer)
{
    struct kv_op *op = timer->data;
    struct kv_core *c = op->p.core;
    if (op->p.state == OP_ENDING) {
        kv_op_finish(op, op->status, NULL);
        return;
    }
    bool nobody =
        op->kind == KV_OP_INTRODUCE && ring_empty(&op->p.tablet->session.queue);
    if (nobody || env_now_us(c->env) >= op->p.deadline_us) {
        kv_op_expire(op, ST_OK);
        return;
    }
    switch ((enum op_state)op->p.state) {
    case OP_PARKED:
        kv_link_ask(c);
        kv_op_advance(op);
        break;
    case OP_WAITING:
        kv_link_ask(c);
        kv_op_arm(op, KV_ASK_US);
        break;
    case OP_SENT:
        on_quiet(op);
        break;
    case OP_BACKOFF:
        kv_op_advance(op);
        break;
    case OP_QUEUED:
        kv_op_arm(op, INT64_MAX);
        break;
    case OP_NEW:
    case OP_ENDING:
        assert(!"a timer without an operation");
    }
}

/* ---- the core itself ---- */

struct kv_core *kv_core_new(struct env *env, const struct kv_core_options *o)
{
    struct kv_core *c = xcalloc(1, sizeof(*c));
    c->env = env;
    env_random(env, c->client.b, sizeof(c->client.b));
    ring_init(&c->ops);
    ring_init(&c->conns);
    kv_link_init(c, o->coordinators);
    return c;
}

void kv_core_free(struct kv_core *c)
{
    if (c == NULL) {
        return;
    }
    c->stopping = true;
    while (!ring_empty(&c->ops)) {
        struct kv_op *op = RING_OF(c->ops.next, struct kv_op, p.all);
        if (op->p.state == OP_ENDING) {
            kv_op_finish(op, op->status, NULL);
        } else {
            kv_op_expire(op, ST_STOPPING);
        }
    }
    while (!ring_empty(&c->conns)) {
        kv_conn_free(RING_OF(c->conns.next, struct kv_conn, all));
    }
    kv_link_fini(c);
    kv_map_free(c);
    buf_free(&c->frame);
    free(c->slots);
    free(c->free_slots);
    free(c);
}

void kv_core_cancel(struct kv_op *op)
{
    if (op->p.state == OP_ENDING) {
        kv_op_finish(op, op->status, NULL);
    } else {
        kv_op_expire(op, ST_OK);
    }
}

void kv_core_abandon(struct kv_core *c, const struct kv_pending *p)
{
    struct kv_tablet *t = kv_tablet_of_id(c, p->tablet);
    if (t != NULL && p->session != 0) {
        kv_session_close(t, p->session, p->number);
    }
}

const struct msg_map *kv_core_map(const struct kv_core *c)
{
    return c->map;
}

void kv_core_on_map(struct kv_core *c, void (*fn)(void *ctx), void *ctx)
{
    c->on_map = fn;
    c->on_map_ctx = ctx;
}

struct id128 kv_core_client(const struct kv_core *c)
{
    return c->client;
}

void kv_core_get_stats(const struct kv_core *c, struct kv_stats *out)
{
    *out = c->stats;
}
