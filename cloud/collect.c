/*
 * The collector (penncloud-schema(5), "pending"): intents older than
 * ORPHAN_MS by their writer's clock belong to a writer that has died, or to
 * something deleted or undone whose contents may be left.
 *
 *   mail         made void first, which gives back the reserved bytes and
 *                forbids the writer to make it visible, should it still live
 *   gone, void   chunks removed, then the intent
 *
 * Each step may be repeated; several gateways may collect at once.
 */
#include <string.h>

#include "cloud/mailbox_store.h"

#define ORPHAN_MS (60 * 60 * 1000)

struct collector {
    const struct cloud_op *op;
    uint64_t removed;
    enum status status; /* the first failure */
};

/* Makes the intent in CELL void. ST_CONFLICT: it has changed meanwhile. */
static enum status make_void(const struct cloud_op *op, const char *username,
                             const char *row, const struct cell *cell,
                             const struct intent *intent)
{
    struct store_name usage = store_name("%s:usage", username);
    struct intent gone = *intent;
    gone.kind = INTENT_VOID;
    struct buf value = {0};
    intent_write(&gone, &value);
    struct kv_batch *b = kv_batch_new(slice_of(username));
    kv_batch_require_equal(b, row, "intent", cell->value);
    kv_batch_increment(b, usage.text, "bytes", -(int64_t)intent->size);
    kv_batch_increment(b, usage.text, "reserved", -(int64_t)intent->size);
    kv_batch_put(b, row, "intent", buf_slice(&value));
    enum status st = store_run(op, b, NULL);
    kv_batch_free(b);
    buf_free(&value);
    return st;
}

static enum status collect_one(const struct cloud_op *op, const char *username,
                               const struct cell *cell)
{
    struct intent i;
    struct slice prefix = slice_of(store_name("%s:pending:", username).text);
    struct slice row = cell->row;
    struct slice uid = slice_make(row.data + prefix.len, row.len - prefix.len);
    if (!ulid_valid(uid) || !intent_parse(cell->value, &i))
        return ST_NOT_FOUND; /* not mail's */
    if (cloud_wall_ms(op->cloud) - i.created_ms < ORPHAN_MS)
        return ST_NOT_FOUND;
    char text[ULID_SIZE] = "";
    memcpy(text, uid.data, uid.len);
    struct store_name pending = mailbox_pending_row(username, text);
    enum status st = ST_OK;
    if (i.kind == INTENT_MAIL)
        st = make_void(op, username, pending.text, cell, &i);
    if (st == ST_OK)
        st = mailbox_delete_chunks(op, username, text, i.chunks);
    if (st == ST_OK)
        st = store_delete(op, username, pending.text, "intent");
    return st;
}

/* A page of USERNAME's intents after *AT, whose arena is replaced. */
static enum status collect_account(struct collector *c, const char *username)
{
    struct store_name prefix = store_name("%s:pending:", username);
    struct kv_scan scan = {.partition = slice_of(username),
                           .row = slice_of(prefix.text)};
    struct arena arena = {0};
    bool more = true;
    enum status st = ST_OK;
    while (st == ST_OK && more) {
        struct cell *cells = NULL;
        size_t count = 0;
        st = kv_scan_page(cloud_kv(c->op->cloud), &scan, cloud_op_left(c->op),
                          &arena, &cells, &count, &more);
        for (size_t i = 0; st == ST_OK && i < count; i++) {
            enum status one = collect_one(c->op, username, &cells[i]);
            c->removed += one == ST_OK ? 1 : 0;
            /* Changed meanwhile, or our session was lost: next time. */
            if (one != ST_OK && one != ST_NOT_FOUND && one != ST_CONFLICT &&
                one != ST_UNKNOWN_CLIENT)
                st = one;
            scan.has_after = true;
            scan.after_row = cells[i].row;
            scan.after_column = cells[i].column;
        }
        more = more && count > 0;
    }
    arena_free(&arena);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

static bool on_account(void *ctx, const struct account *a)
{
    struct collector *c = ctx;
    c->status = collect_account(c, a->username);
    return c->status == ST_OK;
}

enum status cloud_collect(const struct cloud_op *op, uint64_t *removed)
{
    struct collector c = {.op = op, .status = ST_OK};
    enum status st = account_list(op, on_account, &c);
    if (c.removed > 0)
        log_info(cloud_log(op->cloud), "collect", "removed", "intents=%llu",
                 (unsigned long long)c.removed);
    *removed = c.removed;
    return st != ST_OK ? st : c.status;
}
