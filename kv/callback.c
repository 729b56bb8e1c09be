/*
 * An operation and the copies of its inputs, freed after its callback.
 */
#include "kv/callback.h"

#include <stdlib.h>

#include "kv/batch.h"

struct pending {
    struct kv_op op;
    struct kv_callback then;
    struct arena arena;
    struct kv_batch *batch;
    struct buf frame;
};

static void on_done(struct kv_op *op)
{
    struct pending *p = op->data;
    struct kv_answer a = {
        .status = op->status,
        .message = op->answer,
        .result = &op->result,
    };
    p->then.fn(p->then.ctx, &a);
    kv_batch_free(p->batch);
    buf_free(&p->frame);
    arena_free(&p->arena);
    free(p);
}

static struct pending *pending_new(enum kv_op_kind kind,
                                   const struct kv_callback *then)
{
    struct pending *p = xcalloc(1, sizeof(*p));
    p->then = *then;
    p->op.kind = kind;
    p->op.timeout_us = (int64_t)then->timeout_ms * 1000;
    p->op.done = on_done;
    p->op.data = p;
    return p;
}

static struct slice copy(struct pending *p, struct slice s)
{
    return slice_make(arena_copy(&p->arena, s.data, s.len), s.len);
}

void kv_callback_get(struct kv_core *c, const struct kv_key *key,
                     const struct kv_callback *then)
{
    struct pending *p = pending_new(KV_OP_GET, then);
    p->op.bulk = key->bulk;
    p->op.in.get.partition = copy(p, key->partition);
    p->op.in.get.row = copy(p, key->row);
    p->op.in.get.column = copy(p, key->column);
    kv_core_start(c, &p->op);
}

void kv_callback_scan(struct kv_core *c, const struct kv_scan *scan,
                      const struct kv_callback *then)
{
    struct pending *p = pending_new(KV_OP_SCAN, then);
    struct msg_scan *m = &p->op.in.scan;
    kv_scan_to_message(scan, m);
    m->partition = copy(p, m->partition);
    m->row_prefix = copy(p, m->row_prefix);
    m->column_prefix = copy(p, m->column_prefix);
    m->after_row = copy(p, m->after_row);
    m->after_column = copy(p, m->after_column);
    kv_core_start(c, &p->op);
}

void kv_callback_run_take(struct kv_core *c, struct kv_batch *b, bool give_up,
                          const struct kv_callback *then)
{
    struct pending *p = pending_new(KV_OP_COMMAND, then);
    p->batch = b;
    p->op.give_up = give_up;
    p->op.in.command = kv_batch_command(b);
    kv_core_start(c, &p->op);
}

void kv_callback_settle(struct kv_core *c, const struct kv_pending *pending,
                        const struct kv_callback *then)
{
    struct pending *p = pending_new(KV_OP_SETTLE, then);
    p->op.in.settle = *pending;
    kv_core_start(c, &p->op);
}

void kv_callback_call(struct kv_core *c, uint32_t node, const struct buf *frame,
                      const struct kv_callback *then)
{
    struct pending *p = pending_new(KV_OP_CALL, then);
    p->op.in.call.node = node;
    buf_put_slice(&p->frame, buf_slice(frame));
    p->op.in.call.frame = &p->frame;
    kv_core_start(c, &p->op);
}
