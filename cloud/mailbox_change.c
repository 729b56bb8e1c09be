/*
 * Changing messages. Each change reads the message's place and index cell and
 * writes one batch under the condition that both are still so; on a conflict,
 * or when our session at the store was lost, it reads again. What is already
 * as wanted is done: so a change that was made but whose answer was lost is
 * found made, and is not made twice (the counters would tell).
 */
#include "cloud/mailbox.h"

#include <string.h>

#include "cloud/mailbox_store.h"

/* A message deleted younger than this leaves its uid behind as an INTENT_GONE,
 * so that a delivery whose outcome is still unknown to its gateway cannot
 * bring it back. The collector takes it away. */
#define YOUNG_MS (60 * 60 * 1000)
#define TRIES_MAX 1000

/* What a change starts from. */
struct found {
    const char *username, *uid;
    struct mailbox_place place;
    struct mailbox_entry entry;
    struct buf cell; /* the index cell as it was */
    struct arena arena;
    unsigned tries;
};

static void found_free(struct found *f)
{
    buf_free(&f->cell);
    arena_free(&f->arena);
}

static enum status find(const struct cloud_op *op, struct found *f)
{
    found_free(f);
    enum status st = mailbox_read_place(op, f->username, f->uid, &f->place);
    if (st != ST_OK)
        return st;
    st = store_get(op, f->username, mailbox_row(f->username).text,
                   f->place.column, &f->cell);
    /* Moved between the two reads: as a conflict. */
    if (st == ST_NOT_FOUND)
        return ST_CONFLICT;
    if (st == ST_OK &&
        !mailbox_parse_entry(buf_slice(&f->cell), &f->arena, &f->entry))
        return ST_CORRUPT;
    return st;
}

/* A batch under the condition that all is as it was found. */
static struct kv_batch *batch_for(const struct found *f)
{
    struct kv_batch *b = kv_batch_new(slice_of(f->username));
    kv_batch_require_equal(b, mailbox_message_row(f->username, f->uid).text,
                           "place", slice_of(f->place.column));
    kv_batch_require_equal(b, mailbox_row(f->username).text, f->place.column,
                           buf_slice(&f->cell));
    return b;
}

static void count(struct kv_batch *b, const struct found *f, const char *folder,
                  const char *counter, int64_t delta)
{
    kv_batch_increment(b, mailbox_row(f->username).text,
                       store_name("%s#%s", folder, counter).text, delta);
}

/* True if it must be tried again from the finding on. */
static bool again(const struct cloud_op *op, struct found *f, enum status *st)
{
    if (*st != ST_CONFLICT && *st != ST_UNKNOWN_CLIENT)
        return false;
    if (cloud_op_left(op) > 0 && ++f->tries < TRIES_MAX)
        return true;
    *st = *st == ST_CONFLICT ? ST_BUSY : ST_UNKNOWN_OUTCOME;
    return false;
}

static enum status try_set_flags(const struct cloud_op *op, struct found *f,
                                 unsigned set, unsigned clear)
{
    enum status st = find(op, f);
    unsigned flags = (f->entry.flags & ~clear) | set;
    if (st != ST_OK || flags == f->entry.flags)
        return st;
    int64_t unread = ((flags & MAILBOX_READ) ? 0 : 1) -
                     ((f->entry.flags & MAILBOX_READ) ? 0 : 1);
    f->entry.flags = flags;
    struct buf value = {0};
    mailbox_write_entry(&f->entry, &value);
    struct kv_batch *b = batch_for(f);
    kv_batch_put(b, mailbox_row(f->username).text, f->place.column,
                 buf_slice(&value));
    if (unread != 0)
        count(b, f, f->place.folder, "unread", unread);
    st = store_run(op, b, NULL);
    kv_batch_free(b);
    buf_free(&value);
    return st;
}

enum status mailbox_set_flags(const struct cloud_op *op, const char *username,
                              const char *uid, unsigned set, unsigned clear)
{
    if (!ulid_valid(slice_of(uid)))
        return ST_NOT_FOUND;
    struct found f = {.username = username, .uid = uid};
    enum status st;
    do {
        st = try_set_flags(op, &f, set, clear);
    } while (again(op, &f, &st));
    found_free(&f);
    return st;
}

static enum status try_move(const struct cloud_op *op, struct found *f,
                            const char *folder)
{
    enum status st = find(op, f);
    if (st != ST_OK || strcmp(f->place.folder, folder) == 0)
        return st;
    struct store_name row = mailbox_row(f->username);
    struct store_name prefix = store_name("%s/", folder);
    struct kv_batch *b = batch_for(f);
    kv_batch_delete(b, row.text, f->place.column);
    int added =
        kv_batch_add(b, row.text, prefix.text,
                     store_name("%s#next", folder).text, buf_slice(&f->cell));
    kv_batch_put_suffixed(b, mailbox_message_row(f->username, f->uid).text,
                          "place", slice_of(prefix.text), added);
    count(b, f, f->place.folder, "total", -1);
    count(b, f, folder, "total", 1);
    if (!(f->entry.flags & MAILBOX_READ)) {
        count(b, f, f->place.folder, "unread", -1);
        count(b, f, folder, "unread", 1);
    }
    st = store_run(op, b, NULL);
    kv_batch_free(b);
    return st;
}

enum status mailbox_move(const struct cloud_op *op, const char *username,
                         const char *uid, const char *folder)
{
    if (!ulid_valid(slice_of(uid)))
        return ST_NOT_FOUND;
    enum status st = mailbox_check_folder(op, username, folder);
    if (st != ST_OK)
        return st;
    struct found f = {.username = username, .uid = uid};
    do {
        st = try_move(op, &f, folder);
    } while (again(op, &f, &st));
    found_free(&f);
    return st;
}

static enum status try_hide(const struct cloud_op *op, struct found *f,
                            bool *keep_intent)
{
    enum status st = find(op, f);
    if (st != ST_OK)
        return st;
    int64_t now_ms = cloud_wall_ms(op->cloud);
    struct intent gone = {.kind = INTENT_GONE,
                          .chunks = mailbox_chunk_count(f->entry.size),
                          .size = f->entry.size,
                          .created_ms = now_ms};
    *keep_intent = now_ms - ulid_time_ms(slice_of(f->uid)) < YOUNG_MS;
    struct buf intent = {0};
    intent_write(&gone, &intent);
    struct kv_batch *b = batch_for(f);
    kv_batch_delete(b, mailbox_row(f->username).text, f->place.column);
    kv_batch_delete_prefix(b, mailbox_message_row(f->username, f->uid).text,
                           "");
    count(b, f, f->place.folder, "total", -1);
    if (!(f->entry.flags & MAILBOX_READ))
        count(b, f, f->place.folder, "unread", -1);
    kv_batch_increment(b, store_name("%s:usage", f->username).text, "bytes",
                       -(int64_t)f->entry.size);
    if (*keep_intent || gone.chunks > 0)
        kv_batch_put(b, mailbox_pending_row(f->username, f->uid).text, "intent",
                     buf_slice(&intent));
    st = store_run(op, b, NULL);
    kv_batch_free(b);
    buf_free(&intent);
    return st;
}

/* After hiding: the contents. What fails here is left to the collector. */
static void remove_contents(const struct cloud_op *op, const struct found *f,
                            bool keep_intent)
{
    uint32_t chunks = mailbox_chunk_count(f->entry.size);
    if (chunks == 0)
        return;
    enum status st = mailbox_delete_chunks(op, f->username, f->uid, chunks);
    if (st == ST_OK && !keep_intent)
        st = store_delete(op, f->username,
                          mailbox_pending_row(f->username, f->uid).text,
                          "intent");
    if (st != ST_OK)
        log_info(cloud_log(op->cloud), "mailbox", "left_to_collector",
                 "user=%s uid=%s status=%s", f->username, f->uid,
                 status_name(st));
}

enum status mailbox_delete(const struct cloud_op *op, const char *username,
                           const char *uid)
{
    if (!ulid_valid(slice_of(uid)))
        return ST_NOT_FOUND;
    struct found f = {.username = username, .uid = uid};
    bool keep_intent = false, lost_answer = false;
    enum status st;
    do {
        st = try_hide(op, &f, &keep_intent);
        lost_answer |= st == ST_UNKNOWN_CLIENT;
    } while (again(op, &f, &st));
    if (st == ST_OK)
        remove_contents(op, &f, keep_intent);
    /* Hidden by the run whose answer was lost. */
    if (st == ST_NOT_FOUND && lost_answer)
        st = ST_OK;
    found_free(&f);
    return st;
}
