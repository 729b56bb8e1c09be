/*
 * A delivery's steps for one recipient: reserve, chunks, show, undo. See
 * delivery.c for why they exclude each other and may be repeated.
 */
#include "cloud/delivery.h"

#include <string.h>

#include "cloud/delivery_inside.h"
#include "cloud/json.h"

#define UNDO_MS 5000

/* The request's op, for at most MS. */
static struct cloud_op within(const struct delivery *d, int ms)
{
    struct cloud_op op = d->op;
    int64_t deadline_ms = store_now_ms() + ms;
    if (op.deadline_ms > deadline_ms)
        op.deadline_ms = deadline_ms;
    return op;
}

void delivery_one_init(const struct delivery *d, struct delivery_one *o,
                       struct delivery_recipient *to)
{
    *o = (struct delivery_one){.to = to, .step = STEP_START};
    ulid_make(d->wall_ms, to->uid);
    to->status = ST_BUSY;
    o->size = to->head.len + d->raw.len;
    o->chunks = mailbox_chunk_count(o->size);
    o->reserve = o->chunks > 0 || d->count > 1;
    struct intent intent = {.kind = INTENT_MAIL,
                            .chunks = o->chunks,
                            .size = o->size,
                            .created_ms = d->wall_ms};
    intent_write(&intent, &o->intent);
}

/* ---- what is written ---- */

/* LEN bytes from OFFSET of head and message put together. */
static void copy_range(const struct delivery *d, const struct delivery_one *o,
                       uint64_t offset, size_t len, struct buf *out)
{
    struct slice head = o->to->head;
    if (offset < head.len) {
        size_t n = head.len - offset < len ? head.len - (size_t)offset : len;
        buf_put(out, head.data + offset, n);
        offset += n;
        len -= n;
    }
    if (len > 0)
        buf_put(out, d->raw.data + (offset - head.len), len);
}

static void write_index(const struct delivery *d, const struct delivery_one *o,
                        struct buf *out)
{
    const struct message_summary *s = message_summary(d->message);
    struct mailbox_entry e = {.from = s->from,
                              .to = s->to,
                              .subject = s->subject,
                              .snippet = s->snippet,
                              .date_ms = d->wall_ms,
                              .size = o->size,
                              .flags = o->to->flags,
                              .attachments = s->attachments};
    memcpy(e.uid, o->to->uid, ULID_SIZE);
    mailbox_write_entry(&e, out);
}

static void write_body(const struct delivery *d, const struct delivery_one *o,
                       struct buf *out)
{
    if (o->chunks == 0) {
        copy_range(d, o, 0, (size_t)o->size, out);
        return;
    }
    cJSON *body = cJSON_CreateObject();
    json_add_int(body, "size", (int64_t)o->size);
    json_add_int(body, "chunks", o->chunks);
    json_add_int(body, "chunk_size", LIMIT_CHUNK);
    json_write_take(body, out);
}

/* ---- the store's answers ---- */

/* What the store says of this uid. ST_OK: it is visible, or was and has been
 * deleted since; ST_VOID: undone, it never will be; ST_NOT_FOUND: neither. */
static enum status look(const struct cloud_op *op, const struct delivery_one *o)
{
    const char *user = o->to->username;
    struct mailbox_place place;
    enum status st = mailbox_read_place(op, user, o->to->uid, &place);
    if (st != ST_NOT_FOUND)
        return st;
    struct buf value = {0};
    struct intent i = {0};
    st = store_get(op, user, mailbox_pending_row(user, o->to->uid).text,
                   "intent", &value);
    if (st == ST_OK && !intent_parse(buf_slice(&value), &i))
        st = ST_CORRUPT;
    buf_free(&value);
    if (st != ST_OK)
        return st;
    switch (i.kind) {
    case INTENT_GONE:
        return ST_OK;
    case INTENT_VOID:
        return ST_VOID;
    case INTENT_MAIL:
        break;
    }
    return ST_NOT_FOUND;
}

bool delivery_may_pass(enum status st)
{
    return st == ST_UNKNOWN_OUTCOME || st == ST_UNKNOWN_CLIENT ||
           st == ST_UNREACHABLE || st == ST_DEGRADED || st == ST_BUSY ||
           st == ST_TIMEOUT || st == ST_CLOSED;
}

/* ---- reserve ---- */

static enum status run_reserve(const struct delivery *d,
                               const struct delivery_one *o, int64_t limit)
{
    const char *user = o->to->username;
    struct store_name usage = store_name("%s:usage", user);
    struct store_name pending = mailbox_pending_row(user, o->to->uid);
    struct kv_batch *b = kv_batch_new(slice_of(user));
    kv_batch_require_exists(b, mailbox_row(user).text,
                            store_name("folders/%s", o->to->folder).text);
    kv_batch_require_absent(b, pending.text, "intent");
    kv_batch_put(b, pending.text, "intent", buf_slice(&o->intent));
    kv_batch_increment_bounded(b, usage.text, "bytes", (int64_t)o->size, limit);
    kv_batch_increment(b, usage.text, "reserved", (int64_t)o->size);
    struct cloud_op op = within(d, DELIVERY_PATIENCE_MS);
    enum status st = store_run(&op, b, NULL);
    kv_batch_free(b);
    return st;
}

/* After ST_OK the intent is in the store. */
static enum status reserve(const struct delivery *d, struct delivery_one *o)
{
    struct account_usage usage;
    struct cloud_op op = within(d, DELIVERY_PATIENCE_MS);
    enum status st = account_get_usage(&op, o->to->username, &usage);
    if (st != ST_OK)
        return st;
    o->step = STEP_RESERVED;
    do {
        st = run_reserve(d, o, usage.limit);
    } while (st == ST_UNKNOWN_CLIENT && cloud_op_left(&op) > 0);
    if (st != ST_CONFLICT)
        return st;
    /* No such folder, or ours is there since a run whose answer was lost. */
    struct buf value = {0};
    st = store_get(&op, o->to->username,
                   mailbox_pending_row(o->to->username, o->to->uid).text,
                   "intent", &value);
    if (st == ST_OK && !slice_equal(buf_slice(&value), buf_slice(&o->intent)))
        st = ST_CONFLICT;
    buf_free(&value);
    return st;
}

static enum status write_chunks(const struct delivery *d,
                                const struct delivery_one *o)
{
    enum status st = ST_OK;
    struct buf chunk = {0};
    for (uint32_t i = 0; st == ST_OK && i < o->chunks; i++) {
        uint64_t at = (uint64_t)i * LIMIT_CHUNK;
        size_t len =
            o->size - at < LIMIT_CHUNK ? (size_t)(o->size - at) : LIMIT_CHUNK;
        struct store_name row =
            mailbox_chunk_row(o->to->username, o->to->uid, i);
        buf_clear(&chunk);
        copy_range(d, o, at, len, &chunk);
        struct cloud_op op = within(d, DELIVERY_PATIENCE_MS);
        st = store_put(&op, row.text, row.text, "chunk", buf_slice(&chunk));
    }
    buf_free(&chunk);
    return st;
}

enum status delivery_prepare(const struct delivery *d, struct delivery_one *o)
{
    enum status st = ST_OK;
    if (o->reserve) {
        st = reserve(d, o);
        if (st == ST_OK)
            st = write_chunks(d, o);
    }
    if (st == ST_OK)
        o->step = STEP_READY;
    return st;
}

/* ---- what is left ---- */

/* Chunks of what never will be visible. What fails here is left to the
 * collector, if an intent is there that tells it. */
static enum status remove_chunks(const struct cloud_op *op,
                                 const struct delivery_one *o)
{
    const char *user = o->to->username, *uid = o->to->uid;
    enum status st = mailbox_delete_chunks(op, user, uid, o->chunks);
    if (st != ST_OK)
        log_info(cloud_log(op->cloud), "delivery", "chunks_left",
                 "user=%s uid=%s status=%s", user, uid, status_name(st));
    return st;
}

/* The same, and the void intent. */
static void remove_undone(const struct cloud_op *op,
                          const struct delivery_one *o)
{
    const char *user = o->to->username, *uid = o->to->uid;
    enum status st = remove_chunks(op, o);
    /* A show that may yet arrive must still find the void intent. */
    if (st == ST_OK && !o->uncertain)
        st = store_delete(op, user, mailbox_pending_row(user, uid).text,
                          "intent");
    if (st != ST_OK)
        log_info(cloud_log(op->cloud), "delivery", "left_to_collector",
                 "user=%s uid=%s status=%s", user, uid, status_name(st));
}

/* ---- show ---- */

static void add_message(const struct delivery *d, const struct delivery_one *o,
                        struct kv_batch *b)
{
    const char *user = o->to->username, *folder = o->to->folder;
    struct store_name row = mailbox_message_row(user, o->to->uid);
    struct store_name box = mailbox_row(user);
    struct store_name prefix = store_name("%s/", folder);
    struct buf index = {0}, header = {0}, body = {0};
    write_index(d, o, &index);
    message_header_json(d->message, o->size, &header);
    write_body(d, o, &body);
    int added =
        kv_batch_add(b, box.text, prefix.text,
                     store_name("%s#next", folder).text, buf_slice(&index));
    kv_batch_increment(b, box.text, store_name("%s#total", folder).text, 1);
    if (!(o->to->flags & MAILBOX_READ))
        kv_batch_increment(b, box.text, store_name("%s#unread", folder).text,
                           1);
    kv_batch_put(b, row.text, "header", buf_slice(&header));
    kv_batch_put_suffixed(b, row.text, "place", slice_of(prefix.text), added);
    kv_batch_put(b, row.text, "body", buf_slice(&body));
    buf_free(&index);
    buf_free(&header);
    buf_free(&body);
}

static struct kv_batch *show_batch(const struct delivery *d,
                                   const struct delivery_one *o, int64_t limit)
{
    const char *user = o->to->username;
    struct store_name usage = store_name("%s:usage", user);
    struct store_name pending = mailbox_pending_row(user, o->to->uid);
    struct kv_batch *b = kv_batch_new(slice_of(user));
    kv_batch_require_absent(b, mailbox_message_row(user, o->to->uid).text,
                            "place");
    kv_batch_require_exists(b, mailbox_row(user).text,
                            store_name("folders/%s", o->to->folder).text);
    if (o->reserve) {
        kv_batch_require_equal(b, pending.text, "intent",
                               buf_slice(&o->intent));
        kv_batch_increment(b, usage.text, "reserved", -(int64_t)o->size);
        kv_batch_delete(b, pending.text, "intent");
    } else {
        kv_batch_require_absent(b, pending.text, "intent");
        kv_batch_increment_bounded(b, usage.text, "bytes", (int64_t)o->size,
                                   limit);
    }
    add_message(d, o, b);
    return b;
}

/* Takes in what the store answered to a show. */
static void on_shown(const struct cloud_op *op, struct delivery_one *o,
                     enum status st)
{
    if (st == ST_CONFLICT) {
        st = look(op, o);
        /* Neither shown nor undone, and yet refused: the mailbox went away
         * (or our intent, to the collector). */
        if (st == ST_NOT_FOUND || st == ST_VOID)
            o->step = STEP_UNDONE;
        else if (st != ST_OK)
            o->uncertain = true; /* we could not see */
    }
    if (st == ST_UNKNOWN_OUTCOME || st == ST_UNKNOWN_CLIENT)
        o->uncertain = true;
    if (st == ST_OK)
        o->step = STEP_SHOWN;
    o->to->status = st;
}

void delivery_show(const struct delivery *d, struct delivery_one *o, int ms)
{
    struct cloud_op op = within(d, ms);
    struct account_usage usage = {0};
    enum status st = ST_OK;
    if (!o->reserve)
        st = account_get_usage(&op, o->to->username, &usage);
    if (st != ST_OK) {
        o->to->status = st;
        return;
    }
    struct kv_batch *b = show_batch(d, o, usage.limit);
    st = store_run(&op, b, NULL);
    kv_batch_free(b);
    on_shown(&op, o, st);
    /* Who took our intent away (the account's deletion, the collector) may
     * have looked before we wrote the last chunks. */
    if (o->step == STEP_UNDONE)
        (void)remove_chunks(&op, o);
}

/* ---- undo ---- */

static enum status run_undo(const struct cloud_op *op,
                            const struct delivery_one *o)
{
    const char *user = o->to->username;
    struct store_name usage = store_name("%s:usage", user);
    struct store_name pending = mailbox_pending_row(user, o->to->uid);
    struct intent gone = {.kind = INTENT_VOID,
                          .chunks = o->chunks,
                          .size = o->size,
                          .created_ms = cloud_wall_ms(op->cloud)};
    struct buf value = {0};
    intent_write(&gone, &value);
    struct kv_batch *b = kv_batch_new(slice_of(user));
    kv_batch_require_absent(b, mailbox_message_row(user, o->to->uid).text,
                            "place");
    if (o->reserve) {
        kv_batch_require_equal(b, pending.text, "intent",
                               buf_slice(&o->intent));
        kv_batch_increment(b, usage.text, "bytes", -(int64_t)o->size);
        kv_batch_increment(b, usage.text, "reserved", -(int64_t)o->size);
    } else {
        kv_batch_require_absent(b, pending.text, "intent");
    }
    kv_batch_put(b, pending.text, "intent", buf_slice(&value));
    enum status st = store_run(op, b, NULL);
    kv_batch_free(b);
    buf_free(&value);
    return st;
}

void delivery_undo(const struct delivery *d, struct delivery_one *o)
{
    if (o->step == STEP_START || o->step == STEP_SHOWN ||
        o->step == STEP_UNDONE || (!o->reserve && !o->uncertain))
        return;
    struct cloud_op op = d->op;
    op.deadline_ms = store_now_ms() + UNDO_MS;
    enum status st = run_undo(&op, o);
    if (st == ST_CONFLICT)
        st = look(&op, o);
    else if (st == ST_OK)
        st = ST_VOID;
    if (st == ST_OK) {
        o->step = STEP_SHOWN;
        o->to->status = ST_OK;
    } else if (st == ST_VOID || st == ST_NOT_FOUND) {
        o->step = STEP_UNDONE;
        if (st == ST_VOID)
            remove_undone(&op, o);
        else
            (void)remove_chunks(&op, o);
    }
}
