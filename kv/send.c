/*
 * Transmissions of an operation and what their answers mean (R24).
 *
 * The rule for commands: COPIES are told apart by their request ids. A copy
 * is loose from its sending until an answer to that very copy says that it
 * is in no log (before_log() below, or UNKNOWN_CLIENT and BUSY from apply).
 * A result from apply decides for all copies at once, because the tablet
 * stores it under the number. So
 *   - a result: known, the number is closed;
 *   - no loose copy: surely no effect; it may be refused, or run anew under
 *     another session;
 *   - else: re-sent under the same number until the deadline, then unknown.
 * Reads and calls go the same way without caring about copies.
 */
#include "kv/core_impl.h"

#include <assert.h>
#include <string.h>

/* ---- sending ---- */

static void park(struct kv_op *op)
{
    kv_op_move(op, OP_PARKED);
    kv_link_ask(op->p.core);
    kv_op_arm(op, KV_ASK_US);
}

void kv_op_advance(struct kv_op *op)
{
    if (!kv_route_tablet(op)) {
        park(op);
        return;
    }
    if (op->kind == KV_OP_SETTLE) {
        op->p.session = op->in.settle.session;
        op->p.number = op->in.settle.number;
    }
    if (op->kind == KV_OP_COMMAND && op->p.number == 0 &&
        !kv_session_take(op)) {
        return;
    }
    struct kv_conn *n = kv_route_conn(op);
    if (n == NULL) {
        park(op);
        return;
    }
    kv_op_move_to(op, n, OP_WAITING);
    kv_op_arm(op, KV_ASK_US);
    kv_conn_need(n);
    kv_conn_pump(n);
}

static int64_t check_after_us(const struct kv_op *op)
{
    if (op->kind == KV_OP_WATCH) {
        return KV_WATCH_TURN_MS * 1000ll + KV_WATCH_GRACE_US;
    }
    unsigned doublings = op->p.quiet < 6 ? op->p.quiet : 6;
    return (int64_t)KV_ASK_US << doublings;
}

/* A command of which surely nothing is anywhere, so close to its deadline that
 * the answer would come too late, and the outcome would be unknown for nothing.
 */
static bool too_late(const struct kv_op *op)
{
    int64_t left_us = op->p.deadline_us - env_now_us(op->p.core->env);
    int64_t need_us = op->timeout_us / 4;
    return op->kind == KV_OP_COMMAND && op->p.loose == 0 &&
           left_us < (need_us < KV_LAST_US ? need_us : KV_LAST_US);
}

void kv_op_transmit(struct kv_op *op)
{
    struct kv_core *c = op->p.core;
    struct kv_conn *n = op->p.conn;
    if (too_late(op)) {
        kv_op_move(op, OP_BACKOFF);
        kv_op_arm(op, KV_LAST_US);
        return;
    }
    if (op->p.copies_count == KV_OP_COPIES) {
        op->p.copies_count--;
        memmove(&op->p.copies[0], &op->p.copies[1],
                op->p.copies_count * sizeof(op->p.copies[0]));
    }
    uint64_t request = kv_request_id(c, op);
    op->p.copies[op->p.copies_count].request = request;
    op->p.copies[op->p.copies_count].conn = n;
    op->p.copies_count++;
    c->stats.resends += op->p.sent > 0 && op->kind != KV_OP_WATCH;
    op->p.sent++;
    op->p.loose++;
    kv_op_move_to(op, n, OP_SENT);
    kv_op_arm(op, check_after_us(op));
    kv_conn_watch(n);
    kv_op_encode(op, request);
    kv_conn_send(n);
}

void kv_op_back_off(struct kv_op *op)
{
    struct kv_core *c = op->p.core;
    kv_op_move(op, OP_BACKOFF);
    c->stats.retries++;
    op->p.quiet = 0;
    kv_op_arm(op, kv_backoff_us(c, op->p.tries, KV_BACKOFF_US));
    if (op->p.tries < UINT8_MAX) {
        op->p.tries++;
    }
}

/* ---- refusals ---- */

enum refusal {
    REFUSAL_LOOSE, /* says nothing of this copy's effect */
    REFUSAL_AGAIN, /* before the log; may be accepted later */
    REFUSAL_FINAL, /* before the log, and will always be */
};

/* What core.h says that servers promise. */
static enum refusal refusal_of(enum status s)
{
    switch ((unsigned)s) {
    case ST_NOT_PRIMARY:
    case ST_STALE_EPOCH:
    case ST_BUSY:
    case ST_DEGRADED:
    case ST_STOPPING:
    case ST_NO_SPACE:
    case ST_TOO_MANY:
    case ST_NOT_FOUND:
    case ST_WRONG_NODE:
        return REFUSAL_AGAIN;
    case ST_INVALID:
    case ST_TOO_LARGE:
    case ST_DENIED:
    case ST_UNSUPPORTED:
        return REFUSAL_FINAL;
    default:
        return REFUSAL_LOOSE;
    }
}

static void on_not_primary(struct kv_op *op, const struct msg_error *e)
{
    struct kv_core *c = op->p.core;
    if (op->kind == KV_OP_CALL) {
        if (op->p.conn == c->link.conn) {
            kv_link_move(c, e->address);
        }
        kv_op_back_off(op);
        return;
    }
    kv_link_ask(c);
    if (kv_route_hint(op->p.tablet, e)) {
        op->p.tries = 0;
        kv_op_advance(op);
    } else {
        kv_op_back_off(op);
    }
}

/* True if refusal S of class R ends OP now. */
static bool refusal_ends(const struct kv_op *op, enum status s, enum refusal r)
{
    switch (op->kind) {
    case KV_OP_COMMAND:
        return r == REFUSAL_FINAL && op->p.loose == 0;
    case KV_OP_GET:
    case KV_OP_SCAN:
    case KV_OP_WATCH:
        return r == REFUSAL_FINAL;
    case KV_OP_CALL:
        if (s == ST_NOT_PRIMARY) {
            return op->in.call.node != 0;
        }
        return s != ST_BUSY && s != ST_STOPPING && s != ST_TOO_MANY;
    case KV_OP_SETTLE:
    case KV_OP_INTRODUCE:
        break;
    }
    return false;
}

/* A copy of OP was refused with S; LATEST: OP waits for this very copy. */
static void on_refusal(struct kv_op *op, enum status s, bool latest,
                       const struct wire_msg *m)
{
    enum refusal r = refusal_of(s);
    if (r != REFUSAL_LOOSE) {
        assert(op->p.loose > 0);
        op->p.loose--;
    }
    if (r != REFUSAL_LOOSE || op->kind != KV_OP_COMMAND) {
        op->p.refused = (uint16_t)s;
    }
    if (refusal_ends(op, s, r)) {
        kv_op_finish(op, s, m);
    } else if (latest && s == ST_NOT_PRIMARY && m->type == MSG_ERROR) {
        on_not_primary(op, &m->u.error);
    } else if (latest) {
        kv_op_back_off(op);
    }
}

/* ---- results ---- */

static void take_result(struct kv_op *op, const struct result *r)
{
    struct kv_result *out = &op->result;
    out->failed = r->failed;
    out->more = r->more != 0;
    out->count = r->values_count;
    for (uint32_t i = 0; i < r->values_count; i++) {
        out->values[i].mutation = r->values[i].mutation;
        out->values[i].value = r->values[i].value;
    }
}

/* The number's session is gone. This copy had no effect; if no other is
 * loose, the command has had none and may begin again. */
static void on_unknown_client(struct kv_op *op)
{
    struct kv_tablet *t = op->p.tablet;
    uint64_t session = op->p.session;
    op->p.loose--;
    if (op->kind == KV_OP_SETTLE) {
        kv_session_lost(t, session);
        kv_op_finish(op, ST_UNKNOWN_CLIENT, NULL);
        return;
    }
    if (op->p.loose > 0) {
        kv_session_lost(t, session);
        kv_op_finish(op, ST_UNKNOWN_OUTCOME, NULL);
        return;
    }
    op->p.number = op->p.session = 0;
    op->p.sent = op->p.copies_count = 0;
    kv_op_move(op, OP_BACKOFF);
    kv_session_lost(t, session);
    kv_op_advance(op);
}

static void on_introduce_result(struct kv_op *op, const struct result *r,
                                bool latest)
{
    if (!latest) {
        return;
    }
    if (r->status != ST_OK || r->session == 0) {
        kv_op_back_off(op);
        return;
    }
    kv_session_begin(op->p.tablet, r->session);
    kv_op_finish(op, ST_OK, NULL);
}

static void on_result(struct kv_op *op, const struct wire_msg *m, bool latest)
{
    const struct result *r = &m->u.result.result;
    enum status s;
    if (op->kind == KV_OP_INTRODUCE) {
        on_introduce_result(op, r, latest);
        return;
    }
    if (!status_from_wire(r->status, &s)) {
        s = ST_UNKNOWN_OUTCOME;
    }
    switch ((unsigned)s) {
    case ST_UNKNOWN_CLIENT:
    case ST_OTHER_SESSION:
        on_unknown_client(op);
        break;
    case ST_SUPERSEDED:
        /* Its number was closed elsewhere; nobody can say any more. */
        kv_op_finish(op,
                     op->kind == KV_OP_SETTLE ? ST_UNKNOWN_CLIENT
                                              : ST_UNKNOWN_OUTCOME,
                     NULL);
        break;
    case ST_NOT_PRIMARY:
    case ST_STALE_EPOCH:
    case ST_BUSY:
    case ST_DEGRADED:
    case ST_STOPPING:
    case ST_UNKNOWN_OUTCOME:
        on_refusal(op, s, latest, m);
        break;
    default:
        take_result(op, r);
        kv_op_finish(op, s, m);
    }
}

/* ---- answers ---- */

static void on_changed(struct kv_op *op, const struct wire_msg *m)
{
    if (m->u.changed.changed != 0) {
        kv_op_finish(op, ST_OK, m);
    } else if (env_now_us(op->p.core->env) >= op->p.deadline_us) {
        kv_op_finish(op, ST_TIMEOUT, m);
    } else {
        kv_op_advance(op);
    }
}

/* Type of the answer to OP's request; 0: any. */
static unsigned answer_type(const struct kv_op *op)
{
    static const unsigned types[] = {
        [KV_OP_GET] = MSG_VALUE,        [KV_OP_SCAN] = MSG_CELLS,
        [KV_OP_WATCH] = MSG_CHANGED,    [KV_OP_COMMAND] = MSG_RESULT,
        [KV_OP_SETTLE] = MSG_RESULT,    [KV_OP_CALL] = 0,
        [KV_OP_INTRODUCE] = MSG_RESULT,
    };
    return types[op->kind];
}

void kv_op_on_answer(struct kv_op *op, uint32_t copy, const struct wire_msg *m)
{
    bool latest = op->p.state == OP_SENT && copy + 1 == op->p.copies_count;
    unsigned type = answer_type(op);
    op->p.copies_count--;
    memmove(&op->p.copies[copy], &op->p.copies[copy + 1],
            (op->p.copies_count - copy) * sizeof(op->p.copies[0]));
    if (m->type == MSG_ERROR) {
        enum status s;
        if (!status_from_wire(m->u.error.status, &s) || s == ST_OK) {
            s = ST_UNKNOWN_OUTCOME;
        }
        on_refusal(op, s, latest, m);
    } else if (type != 0 && m->type != type) {
        /* Not our protocol; as good as no answer. */
        on_refusal(op, ST_UNKNOWN_OUTCOME, latest, m);
    } else if (type == MSG_RESULT) {
        on_result(op, m, latest);
    } else if (op->kind == KV_OP_WATCH) {
        on_changed(op, m);
    } else if (op->kind == KV_OP_GET && m->u.value.found == 0) {
        kv_op_finish(op, ST_NOT_FOUND, m);
    } else {
        kv_op_finish(op, ST_OK, m);
    }
}
