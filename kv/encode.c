/*
 * From operations to frames: sizes are checked against the limits once, when
 * an operation starts, so that encoding cannot fail; a frame is made anew for
 * each transmission, because its request id and oldest open number change.
 */
#include "kv/core_impl.h"

/* ---- sizes ---- */

static bool part_fits(struct slice s)
{
    return s.len <= LIMIT_KEY_PART;
}

static bool mutation_fits(const struct mutation *m)
{
    return part_fits(m->row) && part_fits(m->column) && part_fits(m->counter) &&
           m->value.len <= LIMIT_VALUE;
}

static bool condition_fits(const struct condition *k)
{
    return part_fits(k->row) && part_fits(k->column) &&
           k->value.len <= LIMIT_VALUE;
}

/* Bytes of C when encoded, or more; 0: a part passes its limit. */
static size_t command_size(const struct command *c)
{
    size_t size = 256 + c->partition.len;
    if (!part_fits(c->partition) ||
        c->conditions_count > LIMIT_BATCH_MUTATIONS ||
        c->mutations_count > LIMIT_BATCH_MUTATIONS) {
        return 0;
    }
    for (uint32_t i = 0; i < c->conditions_count; i++) {
        const struct condition *k = &c->conditions[i];
        if (!condition_fits(k)) {
            return 0;
        }
        size += 16 + k->row.len + k->column.len + k->value.len;
    }
    for (uint32_t i = 0; i < c->mutations_count; i++) {
        const struct mutation *m = &c->mutations[i];
        if (!mutation_fits(m)) {
            return 0;
        }
        size += 40 + m->row.len + m->column.len + m->counter.len + m->value.len;
    }
    return size <= LIMIT_BATCH ? size : 0;
}

/* As command_size(). */
static size_t watch_size(const struct msg_watch *w)
{
    bool fits = part_fits(w->partition) && part_fits(w->row) &&
                part_fits(w->column) && w->value.len <= LIMIT_VALUE;
    return fits ? 64 + 3 * LIMIT_KEY_PART + w->value.len : 0;
}

static size_t call_size(const struct buf *frame)
{
    bool fits = !frame->full && frame->len >= WIRE_HEADER &&
                frame->len <= WIRE_HEADER + LIMIT_FRAME;
    return fits ? frame->len : 0;
}

static size_t op_size(const struct kv_op *op)
{
    const struct msg_get *g = &op->in.get;
    const struct msg_scan *s = &op->in.scan;
    bool fits = true;
    switch (op->kind) {
    case KV_OP_GET:
        fits = part_fits(g->partition) && part_fits(g->row) &&
               part_fits(g->column);
        break;
    case KV_OP_SCAN:
        fits = part_fits(s->partition) && part_fits(s->row_prefix) &&
               part_fits(s->column_prefix) && part_fits(s->after_row) &&
               part_fits(s->after_column);
        break;
    case KV_OP_WATCH:
        return watch_size(&op->in.watch);
    case KV_OP_COMMAND:
        return command_size(op->in.command);
    case KV_OP_CALL:
        return call_size(op->in.call.frame);
    case KV_OP_SETTLE:
    case KV_OP_INTRODUCE:
        break;
    }
    return fits ? 1 : 0;
}

enum status kv_op_check(struct kv_op *op)
{
    size_t size = op_size(op);
    if (size == 0) {
        return ST_TOO_LARGE;
    }
    op->bulk = op->bulk || size > KV_BULK_SIZE;
    return ST_OK;
}

/* ---- encoding ---- */

static void encode_command(struct kv_op *op, uint64_t request)
{
    struct kv_tablet *t = op->p.tablet;
    struct kv_core *c = op->p.core;
    struct msg_command m = {.tablet = t->id};
    if (op->kind == KV_OP_COMMAND) {
        m.command = *op->in.command;
    } else if (op->kind == KV_OP_SETTLE) {
        m.command.kind = COMMAND_SETTLE;
    } else {
        m.command.kind = COMMAND_INTRODUCE;
    }
    m.command.client = c->client;
    if (op->kind == KV_OP_INTRODUCE) {
        wire_put_command(&c->frame, request, &m);
        return;
    }
    m.command.session = op->p.session;
    m.command.number = op->p.number;
    /* An old session's numbers lie apart from those open now; its own number
     * is surely open, and no later one need be shown. */
    m.command.oldest_open =
        op->p.session == t->session.session ? t->session.oldest : op->p.number;
    wire_put_command(&c->frame, request, &m);
}

static void encode_watch(struct kv_op *op, uint64_t request)
{
    struct kv_core *c = op->p.core;
    struct msg_watch m = op->in.watch;
    int64_t left = (op->p.deadline_us - env_now_us(c->env)) / 1000;
    m.tablet = op->p.tablet->id;
    m.forwarded = 0;
    m.wait_ms = left < 0                  ? 0
                : left < KV_WATCH_TURN_MS ? (uint32_t)left
                                          : KV_WATCH_TURN_MS;
    wire_put_watch(&c->frame, request, &m);
}

void kv_op_encode(struct kv_op *op, uint64_t request)
{
    struct kv_core *c = op->p.core;
    buf_clear(&c->frame);
    switch (op->kind) {
    case KV_OP_GET:
        op->in.get.tablet = op->p.tablet->id;
        op->in.get.forwarded = 0;
        wire_put_get(&c->frame, request, &op->in.get);
        break;
    case KV_OP_SCAN:
        op->in.scan.tablet = op->p.tablet->id;
        op->in.scan.forwarded = 0;
        wire_put_scan(&c->frame, request, &op->in.scan);
        break;
    case KV_OP_WATCH:
        encode_watch(op, request);
        break;
    case KV_OP_COMMAND:
    case KV_OP_SETTLE:
    case KV_OP_INTRODUCE:
        encode_command(op, request);
        break;
    case KV_OP_CALL:
        wire_readdress(&c->frame, request, buf_slice(op->in.call.frame));
        break;
    }
}
