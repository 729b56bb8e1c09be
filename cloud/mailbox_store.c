/*
 * Names and contents of a mailbox's cells: see the header and
 * penncloud-schema(5).
 */
#include "cloud/mailbox_store.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "cloud/json.h"
#include "cloud/text.h"

struct store_name mailbox_row(const char *username)
{
    return store_name("%s:mailbox", username);
}

struct store_name mailbox_message_row(const char *username, const char *uid)
{
    return store_name("%s:mailmsg:%s", username, uid);
}

struct store_name mailbox_pending_row(const char *username, const char *uid)
{
    return store_name("%s:pending:%s", username, uid);
}

struct store_name mailbox_chunk_row(const char *username, const char *uid,
                                    uint32_t i)
{
    return store_name("%s:mail:%s:%u", username, uid, i);
}

uint32_t mailbox_chunk_count(uint64_t size)
{
    if (size <= LIMIT_MESSAGE_INLINE)
        return 0;
    return (uint32_t)((size + LIMIT_CHUNK - 1) / LIMIT_CHUNK);
}

/* ---- index ---- */

static const struct {
    unsigned flag;
    const char *name;
} flag_names[] = {
    {MAILBOX_READ, "read"},
    {MAILBOX_FLAGGED, "flagged"},
    {MAILBOX_ANSWERED, "answered"},
};
#define FLAG_COUNT (sizeof flag_names / sizeof *flag_names)

void mailbox_write_entry(const struct mailbox_entry *e, struct buf *out)
{
    cJSON *o = cJSON_CreateObject();
    json_add_text(o, "uid", e->uid);
    cJSON *flags = cJSON_AddArrayToObject(o, "flags");
    for (size_t i = 0; i < FLAG_COUNT; i++) {
        if (e->flags & flag_names[i].flag)
            cJSON_AddItemToArray(flags, cJSON_CreateString(flag_names[i].name));
    }
    json_add_int(o, "size", (int64_t)e->size);
    json_add_text(o, "from", e->from);
    json_add_text(o, "to", e->to);
    json_add_text(o, "subject", e->subject);
    json_add_int(o, "date", e->date_ms);
    json_add_text(o, "snippet", e->snippet);
    json_add_int(o, "attachments", e->attachments);
    json_write_take(o, out);
}

static unsigned parse_flags(const cJSON *o)
{
    const cJSON *item;
    unsigned flags = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(o, "flags"))
    {
        const char *name = cJSON_GetStringValue(item);
        for (size_t i = 0; i < FLAG_COUNT; i++) {
            if (name != NULL && strcmp(name, flag_names[i].name) == 0)
                flags |= flag_names[i].flag;
        }
    }
    return flags;
}

static const char *copy_text(const cJSON *o, const char *name,
                             struct arena *arena)
{
    const char *text = json_text(o, name);
    if (text == NULL)
        return "";
    return arena_copy(arena, text, strlen(text) + 1);
}

bool mailbox_parse_entry(struct slice value, struct arena *arena,
                         struct mailbox_entry *out)
{
    cJSON *o = json_parse_object(value);
    const char *uid = json_text(o, "uid");
    int64_t size = json_int(o, "size", -1);
    bool good = uid != NULL && ulid_valid(slice_of(uid)) && size >= 0;
    if (good) {
        struct mailbox_entry e = {.size = (uint64_t)size};
        memcpy(e.uid, uid, ULID_SIZE);
        e.from = copy_text(o, "from", arena);
        e.to = copy_text(o, "to", arena);
        e.subject = copy_text(o, "subject", arena);
        e.snippet = copy_text(o, "snippet", arena);
        e.date_ms = json_int(o, "date", 0);
        e.flags = parse_flags(o);
        e.attachments = (unsigned)json_int(o, "attachments", 0);
        *out = e;
    }
    cJSON_Delete(o);
    return good;
}

/* ---- place ---- */

bool mailbox_parse_place(struct slice value, struct mailbox_place *out)
{
    struct mailbox_place p = {0};
    if (value.len >= sizeof p.column || value.len <= MAILBOX_SEQ_TEXT + 1)
        return false;
    size_t folder = value.len - MAILBOX_SEQ_TEXT - 1;
    memcpy(p.column, value.data, value.len);
    memcpy(p.folder, value.data, folder);
    memcpy(p.seq, value.data + folder + 1, MAILBOX_SEQ_TEXT);
    if (value.data[folder] != '/' ||
        !mailbox_folder_valid(slice_of(p.folder)) ||
        strspn(p.seq, "0123456789abcdef") != MAILBOX_SEQ_TEXT)
        return false;
    *out = p;
    return true;
}

enum status mailbox_read_place(const struct cloud_op *op, const char *username,
                               const char *uid, struct mailbox_place *out)
{
    struct buf value = {0};
    enum status st = store_get(
        op, username, mailbox_message_row(username, uid).text, "place", &value);
    if (st == ST_OK && !mailbox_parse_place(buf_slice(&value), out))
        st = ST_CORRUPT;
    buf_free(&value);
    return st;
}

/* ---- intents ---- */

static const char *const intent_names[] = {
    [INTENT_MAIL] = "mail",
    [INTENT_GONE] = "gone",
    [INTENT_VOID] = "void",
};

void intent_write(const struct intent *i, struct buf *out)
{
    cJSON *o = cJSON_CreateObject();
    json_add_text(o, "kind", intent_names[i->kind]);
    json_add_int(o, "chunks", i->chunks);
    json_add_int(o, "size", (int64_t)i->size);
    json_add_int(o, "created", i->created_ms);
    json_write_take(o, out);
}

bool intent_parse(struct slice value, struct intent *out)
{
    cJSON *o = json_parse_object(value);
    const char *kind = json_text(o, "kind");
    int64_t chunks = json_int(o, "chunks", -1);
    int64_t size = json_int(o, "size", -1);
    struct intent i = {.created_ms = json_int(o, "created", 0)};
    for (enum intent_kind k = INTENT_MAIL; k <= INTENT_VOID; k++) {
        if (kind != NULL && strcmp(kind, intent_names[k]) == 0)
            i.kind = k;
    }
    cJSON_Delete(o);
    if (i.kind == 0 || chunks < 0 || chunks > 1000 || size < 0)
        return false;
    i.chunks = (uint32_t)chunks;
    i.size = (uint64_t)size;
    *out = i;
    return true;
}

/* ---- chunks ---- */

enum status mailbox_delete_chunks(const struct cloud_op *op,
                                  const char *username, const char *uid,
                                  uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct store_name row = mailbox_chunk_row(username, uid, i);
        enum status st = store_delete(op, row.text, row.text, "chunk");
        if (st != ST_OK && st != ST_NOT_FOUND)
            return st;
    }
    return ST_OK;
}

/* The chunks that CELL, a body or an intent, speaks of. */
static uint32_t chunks_of(const struct cell *cell)
{
    struct intent i;
    if (slice_equal(cell->column, slice_of("intent")))
        return intent_parse(cell->value, &i) ? i.chunks : 0;
    if (!slice_equal(cell->column, slice_of("header")))
        return 0;
    cJSON *o = json_parse_object(cell->value);
    int64_t size = json_int(o, "size", 0);
    cJSON_Delete(o);
    return size > 0 && size < (1ll << 40) ? mailbox_chunk_count((uint64_t)size)
                                          : 0;
}

/* Of every cell in the rows that start with PREFIX and end with a uid. */
static enum status delete_chunks_below(const struct cloud_op *op,
                                       const char *username, const char *prefix)
{
    struct kv_scan scan = {.partition = slice_of(username),
                           .row = slice_of(prefix)};
    enum status st = ST_OK;
    bool more = true;
    struct arena previous = {0};
    while (st == ST_OK && more) {
        struct arena arena = {0};
        struct cell *cells = NULL;
        size_t count = 0;
        st = kv_scan_page(cloud_kv(op->cloud), &scan, cloud_op_left(op), &arena,
                          &cells, &count, &more);
        for (size_t i = 0; st == ST_OK && i < count; i++) {
            struct slice row = cells[i].row;
            size_t skip = strlen(prefix);
            struct slice uid = slice_make(row.data + skip, row.len - skip);
            char text[ULID_SIZE] = "";
            if (ulid_valid(uid)) {
                memcpy(text, uid.data, uid.len);
                st = mailbox_delete_chunks(op, username, text,
                                           chunks_of(&cells[i]));
            }
            scan.has_after = true;
            scan.after_row = cells[i].row;
            scan.after_column = cells[i].column;
        }
        more = more && count > 0;
        arena_free(&previous); /* the cursor lives in the newer one */
        previous = arena;
    }
    arena_free(&previous);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

enum status mailbox_delete_all_chunks(const struct cloud_op *op,
                                      const char *username)
{
    enum status st = delete_chunks_below(
        op, username, store_name("%s:mailmsg:", username).text);
    if (st == ST_OK)
        st = delete_chunks_below(op, username,
                                 store_name("%s:pending:", username).text);
    return st;
}
