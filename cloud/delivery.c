/*
 * Delivery: see the header. Each recipient goes through these steps:
 *
 *   reserve  pending:<uid> and the quota, one batch   (several recipients, or
 *   chunks   each a cell of its own                    more than 16 KiB)
 *   show     the batch that makes it visible: index cell, place, header,
 *            body, counters; requires that the uid has no place yet, and that
 *            the intent is as written (or, without the reserve step, that
 *            there is none); removes the intent
 *
 * or, backwards, undo: requires the same as show, leaves an INTENT_VOID.
 *
 * Show and undo exclude each other for ever, whatever is repeated, delayed or
 * lost: each takes away what the other requires, and so does a person who
 * deletes the message at once (INTENT_GONE). So both may be tried again after
 * any unknown outcome, and where one answers ST_CONFLICT, the store tells why.
 *
 * When is a failure told? As long as nothing may be visible, after PATIENCE_MS
 * of a store that does not answer. Once something may be visible, only the
 * deadline ends the trying. At either end what is not visible is undone; what
 * cannot be undone nor seen is unknown.
 */
#include "cloud/delivery.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/json.h"
#include "cloud/mailbox_store.h"
#include "cloud/text.h"

#define PATIENCE_MS 30000
#define SLICE_MS 10000
#define UNDO_MS 5000

enum step {
    STEP_START = 1, /* nothing written */
    STEP_RESERVED,  /* an intent may be there */
    STEP_READY,     /* contents too: can be shown */
    STEP_SHOWN,     /* visible, on disk everywhere */
    STEP_UNDONE,    /* never will be visible */
};

struct one {
    struct delivery_recipient *to;
    enum step step;
    bool reserve;   /* goes through the reserve step */
    bool uncertain; /* a show may have happened, or may yet */
    uint64_t size;
    uint32_t chunks;
    struct buf intent; /* the cell */
};

struct delivery {
    struct cloud_op op;
    int64_t patience_ms; /* CLOCK_BOOTTIME */
    struct slice raw;
    struct message *message;
    int64_t wall_ms;
    struct one *list;
    size_t count;
};

/* The request's op, for at most MS. */
static struct cloud_op within(const struct delivery *d, int ms)
{
    struct cloud_op op = d->op;
    int64_t deadline_ms = store_now_ms() + ms;
    if (op.deadline_ms > deadline_ms)
        op.deadline_ms = deadline_ms;
    return op;
}

/* ---- what is written ---- */

/* LEN bytes from OFFSET of head and message put together. */
static void copy_range(const struct delivery *d, const struct one *o,
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

static void write_index(const struct delivery *d, const struct one *o,
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

static void write_body(const struct delivery *d, const struct one *o,
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
static enum status look(const struct cloud_op *op, const struct one *o)
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

/* True for answers after which the same batch may be tried again. */
static bool may_pass(enum status st)
{
    return st == ST_UNKNOWN_OUTCOME || st == ST_UNKNOWN_CLIENT ||
           st == ST_UNREACHABLE || st == ST_DEGRADED || st == ST_BUSY ||
           st == ST_TIMEOUT || st == ST_CLOSED;
}

/* ---- reserve ---- */

static enum status run_reserve(const struct delivery *d, const struct one *o,
                               int64_t limit)
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
    struct cloud_op op = within(d, PATIENCE_MS);
    enum status st = store_run(&op, b, NULL);
    kv_batch_free(b);
    return st;
}

/* After ST_OK the intent is in the store. */
static enum status reserve(const struct delivery *d, struct one *o)
{
    struct account_usage usage;
    struct cloud_op op = within(d, PATIENCE_MS);
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

static enum status write_chunks(const struct delivery *d, const struct one *o)
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
        struct cloud_op op = within(d, PATIENCE_MS);
        st = store_put(&op, row.text, row.text, "chunk", buf_slice(&chunk));
    }
    buf_free(&chunk);
    return st;
}

/* Everything before the show. Nothing is visible whatever it answers. */
static enum status prepare(const struct delivery *d, struct one *o)
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

/* ---- show ---- */

static void add_message(const struct delivery *d, const struct one *o,
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
                                   const struct one *o, int64_t limit)
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
static void on_shown(const struct cloud_op *op, struct one *o, enum status st)
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

static void show(const struct delivery *d, struct one *o, int ms)
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
}

/* ---- undo ---- */

static enum status run_undo(const struct cloud_op *op, const struct one *o)
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

/* Contents of what is undone. The collector does what fails here. */
static void remove_undone(const struct cloud_op *op, const struct one *o)
{
    const char *user = o->to->username, *uid = o->to->uid;
    enum status st = mailbox_delete_chunks(op, user, uid, o->chunks);
    /* A show that may yet arrive must still find the void intent. */
    if (st == ST_OK && !o->uncertain)
        st = store_delete(op, user, mailbox_pending_row(user, uid).text,
                          "intent");
    if (st != ST_OK)
        log_info(cloud_log(op->cloud), "delivery", "left_to_collector",
                 "user=%s uid=%s status=%s", user, uid, status_name(st));
}

/* Makes sure that O never becomes visible, if it is not yet. Where no show
 * was tried, nothing can become visible, and this only tidies. */
static void undo(const struct delivery *d, struct one *o)
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
    }
}

/* ---- the whole ---- */

/* Open: neither shown nor refused for good. */
static bool is_open(const struct one *o)
{
    return o->step == STEP_READY && may_pass(o->to->status);
}

static size_t count_open(const struct delivery *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->count; i++)
        n += is_open(&d->list[i]) ? 1 : 0;
    return n;
}

/* True if something is visible, or may be. */
static bool touched(const struct delivery *d)
{
    for (size_t i = 0; i < d->count; i++) {
        if (d->list[i].step == STEP_SHOWN || d->list[i].uncertain)
            return true;
    }
    return false;
}

static enum status prepare_all(const struct delivery *d)
{
    for (size_t i = 0; i < d->count; i++) {
        enum status st = prepare(d, &d->list[i]);
        if (st != ST_OK) {
            d->list[i].to->status = st;
            /* Nothing is visible: that outcome is known. */
            return st == ST_UNKNOWN_OUTCOME || st == ST_UNKNOWN_CLIENT
                       ? ST_UNREACHABLE
                       : st;
        }
    }
    return ST_OK;
}

/* Shows to each in turn, so that one tablet that does not answer holds up
 * nobody else, until all are decided or it is time to give up. */
static void show_all(struct delivery *d)
{
    d->patience_ms = store_now_ms() + PATIENCE_MS;
    for (size_t i = 0; i < d->count; i++)
        d->list[i].to->status = ST_BUSY; /* not tried yet */
    while (count_open(d) > 0) {
        for (size_t i = 0; i < d->count; i++) {
            if (is_open(&d->list[i]))
                show(d, &d->list[i], SLICE_MS);
        }
        bool patient = touched(d) || store_now_ms() < d->patience_ms;
        if (cloud_op_left(&d->op) == 0 || !patient)
            return;
        if (count_open(d) > 0)
            store_pause(&d->op, 20);
    }
}

/* Undoes what is not visible, unless others have it and it is only slow. */
static enum status decide(struct delivery *d)
{
    size_t shown = 0, unknown = 0;
    enum status refusal = ST_OK;
    for (size_t i = 0; i < d->count; i++) {
        struct one *o = &d->list[i];
        undo(d, o);
        if (o->step == STEP_SHOWN) {
            shown++;
            continue;
        }
        /* A mailbox that has gone away since keeps nobody's mail back. */
        if (o->step == STEP_UNDONE && o->to->status == ST_NOT_FOUND && shown)
            continue;
        if (o->uncertain && o->step != STEP_UNDONE)
            unknown++;
        if (refusal == ST_OK)
            refusal = o->to->status;
    }
    if (refusal == ST_OK)
        return shown > 0 ? ST_OK : ST_NOT_FOUND;
    if (shown > 0 || unknown > 0)
        return ST_UNKNOWN_OUTCOME;
    return refusal == ST_UNKNOWN_OUTCOME || refusal == ST_UNKNOWN_CLIENT ||
                   refusal == ST_VOID || refusal == ST_CONFLICT
               ? ST_UNREACHABLE
               : refusal;
}

static bool recipients_valid(struct slice raw,
                             const struct delivery_recipient *to, size_t count)
{
    if (count == 0 || count > DELIVERY_RECIPIENTS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!account_name_valid(slice_of(to[i].username)) ||
            !mailbox_folder_valid(slice_of(to[i].folder)) ||
            to[i].head.len > KIB(16) || raw.len > LIMIT_MESSAGE)
            return false;
        for (size_t j = 0; j < i; j++) {
            if (strcmp(to[i].username, to[j].username) == 0)
                return false;
        }
    }
    return true;
}

static void begin(struct delivery *d, struct delivery_recipient *to)
{
    d->wall_ms = cloud_wall_ms(d->op.cloud);
    d->message = message_parse(d->raw);
    d->list = xcalloc(d->count, sizeof *d->list);
    for (size_t i = 0; i < d->count; i++) {
        struct one *o = &d->list[i];
        *o = (struct one){.to = &to[i], .step = STEP_START};
        ulid_make(d->wall_ms, to[i].uid);
        to[i].status = ST_BUSY;
        o->size = to[i].head.len + d->raw.len;
        o->chunks = mailbox_chunk_count(o->size);
        o->reserve = o->chunks > 0 || d->count > 1;
        struct intent i2 = {.kind = INTENT_MAIL,
                            .chunks = o->chunks,
                            .size = o->size,
                            .created_ms = d->wall_ms};
        intent_write(&i2, &o->intent);
    }
}

enum status delivery_run(const struct cloud_op *op, struct slice raw,
                         struct delivery_recipient *to, size_t count)
{
    if (!recipients_valid(raw, to, count))
        return ST_INVALID;
    struct delivery d = {.op = *op, .raw = raw, .count = count};
    begin(&d, to);
    enum status st = prepare_all(&d);
    if (st == ST_OK) {
        show_all(&d);
        st = decide(&d);
    } else {
        for (size_t i = 0; i < count; i++)
            undo(&d, &d.list[i]);
    }
    for (size_t i = 0; i < count; i++)
        buf_free(&d.list[i].intent);
    free(d.list);
    message_free(d.message);
    return st;
}
