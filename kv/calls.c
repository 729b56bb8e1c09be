/*
 * kv.h's calls: each fills an operation, has it run by the client's thread
 * and takes its answer from there. What the answer's slices point at is gone
 * when the call returns, so the taking functions copy; they run on the
 * client's thread while the caller waits.
 */
#include "kv/kv_io.h"

#include <stdlib.h>
#include <string.h>

#include "kv/batch.h"

static int64_t to_us(int timeout_ms)
{
    return timeout_ms > 0 ? (int64_t)timeout_ms * 1000 : 1000;
}

/* ---- reads ---- */

static void take_value(struct kv_op *op, void *ctx)
{
    if (op->status == ST_OK) {
        buf_put_slice(ctx, op->answer->u.value.value);
    }
}

enum status kv_get(struct kv *kv, struct kv_key key, int timeout_ms,
                   struct buf *out)
{
    struct kv_op op = {
        .kind = KV_OP_GET,
        .timeout_us = to_us(timeout_ms),
        .bulk = key.bulk,
    };
    op.in.get.partition = key.partition;
    op.in.get.row = key.row;
    op.in.get.column = key.column;
    enum status s = kv_run_op(kv, &op, take_value, out);
    return s == ST_OK && out->full ? ST_TOO_LARGE : s;
}

struct watch_out {
    bool *found;
    struct buf *value;
};

static void take_changed(struct kv_op *op, void *ctx)
{
    struct watch_out *out = ctx;
    if (op->status == ST_OK) {
        *out->found = op->answer->u.changed.found != 0;
        buf_put_slice(out->value, op->answer->u.changed.value);
    }
}

enum status kv_watch(struct kv *kv, struct kv_key key, const struct slice *seen,
                     int wait_ms, bool *found, struct buf *out)
{
    struct watch_out to = {.found = found, .value = out};
    struct kv_op op = {
        .kind = KV_OP_WATCH,
        .timeout_us = to_us(wait_ms),
        .bulk = key.bulk,
    };
    op.in.watch.partition = key.partition;
    op.in.watch.row = key.row;
    op.in.watch.column = key.column;
    if (seen != NULL) {
        op.in.watch.seen = 1;
        op.in.watch.value = *seen;
    }
    return kv_run_op(kv, &op, take_changed, &to);
}

/* ---- scans ---- */

struct scan_out {
    struct arena *arena;
    struct cell **cells;
    size_t *count;
    bool *more;
};

static struct slice copy_slice(struct arena *a, struct slice s)
{
    return slice_make(arena_copy(a, s.data, s.len), s.len);
}

static void take_cells(struct kv_op *op, void *ctx)
{
    struct scan_out *out = ctx;
    if (op->status != ST_OK) {
        return;
    }
    const struct msg_cells *m = &op->answer->u.cells;
    struct cell *cells =
        arena_alloc(out->arena, (m->cells_count + 1) * sizeof(*cells));
    for (uint32_t i = 0; i < m->cells_count; i++) {
        cells[i].partition = copy_slice(out->arena, m->cells[i].partition);
        cells[i].row = copy_slice(out->arena, m->cells[i].row);
        cells[i].column = copy_slice(out->arena, m->cells[i].column);
        cells[i].value = copy_slice(out->arena, m->cells[i].value);
    }
    *out->cells = cells;
    *out->count = m->cells_count;
    *out->more = m->more != 0;
}

enum status kv_scan_page(struct kv *kv, const struct kv_scan *scan,
                         int timeout_ms, struct arena *arena,
                         struct cell **cells, size_t *count, bool *more)
{
    struct scan_out to = {arena, cells, count, more};
    struct kv_op op = {.kind = KV_OP_SCAN, .timeout_us = to_us(timeout_ms)};
    kv_scan_to_message(scan, &op.in.scan);
    return kv_run_op(kv, &op, take_cells, &to);
}

/* ---- writes ---- */

static enum status run_command(struct kv *kv, const struct command *c,
                               int timeout_ms, struct kv_result *result)
{
    struct kv_op op = {
        .kind = KV_OP_COMMAND,
        .timeout_us = to_us(timeout_ms),
        .give_up = result == NULL,
    };
    op.in.command = c;
    enum status s = kv_run_op(kv, &op, NULL, NULL);
    if (result != NULL) {
        *result = op.result;
    }
    return s;
}

enum status kv_run(struct kv *kv, const struct kv_batch *b, int timeout_ms,
                   struct kv_result *result)
{
    return run_command(kv, kv_batch_command(b), timeout_ms, result);
}

enum status kv_settle(struct kv *kv, struct kv_result *result, int timeout_ms)
{
    struct kv_op op = {.kind = KV_OP_SETTLE, .timeout_us = to_us(timeout_ms)};
    op.in.settle = result->pending;
    enum status s = kv_run_op(kv, &op, NULL, NULL);
    struct kv_pending pending = result->pending;
    *result = op.result;
    result->pending = pending;
    return s;
}

static enum status run_one(struct kv *kv, const struct kv_key *key,
                           struct mutation m, const struct condition *k,
                           int timeout_ms)
{
    struct condition condition;
    m.row = key->row;
    m.column = key->column;
    struct command c = {
        .kind = COMMAND_BATCH,
        .partition = key->partition,
        .mutations = &m,
        .mutations_count = 1,
    };
    if (k != NULL) {
        condition = *k;
        condition.row = key->row;
        condition.column = key->column;
        c.conditions = &condition;
        c.conditions_count = 1;
    }
    return run_command(kv, &c, timeout_ms, NULL);
}

enum status kv_put(struct kv *kv, struct kv_key key, struct slice value,
                   int timeout_ms)
{
    struct mutation m = {.kind = MUTATION_PUT, .value = value};
    return run_one(kv, &key, m, NULL, timeout_ms);
}

enum status kv_delete(struct kv *kv, struct kv_key key, int timeout_ms)
{
    struct mutation m = {.kind = MUTATION_DELETE};
    return run_one(kv, &key, m, NULL, timeout_ms);
}

enum status kv_cput(struct kv *kv, struct kv_key key,
                    const struct slice *expected, struct slice value,
                    int timeout_ms)
{
    struct mutation m = {.kind = MUTATION_PUT, .value = value};
    struct condition k = {.kind = CONDITION_ABSENT};
    if (expected != NULL) {
        k.kind = CONDITION_EQUALS;
        k.value = *expected;
    }
    return run_one(kv, &key, m, &k, timeout_ms);
}

/* ---- calls ---- */

struct call_out {
    struct arena *arena;
    struct wire_msg *answer;
};

/* A message whose slices live in A: encoded and decoded once more. */
static void copy_message(const struct wire_msg *m, struct arena *a,
                         struct wire_msg *out)
{
    struct buf b = {0};
    wire_put(&b, m);
    struct slice frame = slice_make(arena_copy(a, b.data, b.len), b.len);
    buf_free(&b);
    enum status s = wire_decode(frame, a, out);
    if (s != ST_OK) {
        abort(); /* it was decoded before */
    }
}

static void take_message(struct kv_op *op, void *ctx)
{
    struct call_out *out = ctx;
    if (op->answer != NULL) {
        copy_message(op->answer, out->arena, out->answer);
    }
}

/* Pages of whole tablets shall delay nobody's requests. */
static bool is_bulk(const struct buf *request)
{
    struct wire_header h;
    return request->len >= WIRE_HEADER &&
           wire_read_header(request->data, &h) == ST_OK &&
           h.type == MSG_SCAN_TABLET;
}

enum status kv_call(struct kv *kv, uint32_t node, const struct buf *request,
                    int timeout_ms, struct arena *arena,
                    struct wire_msg *answer)
{
    struct call_out to = {.arena = arena, .answer = answer};
    struct kv_op op = {.kind = KV_OP_CALL, .timeout_us = to_us(timeout_ms)};
    op.in.call.node = node;
    op.in.call.frame = request;
    op.bulk = is_bulk(request);
    return kv_run_op(kv, &op, take_message, &to);
}
