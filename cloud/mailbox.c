/*
 * Reading a mailbox: see the header. A list is one scan page of the folder's
 * index, backwards; the cursor is the last line's seq, so it stays good
 * whatever arrives or goes meanwhile.
 */
#include "cloud/mailbox.h"

#include <stdio.h>
#include <string.h>

#include "cloud/json.h"
#include "cloud/mailbox_store.h"
#include "cloud/text.h"

static const char *const system_folders[] = {"inbox",   "sent", "drafts",
                                             "archive", "junk", "trash"};
#define SYSTEM_FOLDERS (sizeof system_folders / sizeof *system_folders)

/* Its place among the six, or SYSTEM_FOLDERS. */
static size_t system_index(struct slice id)
{
    size_t i = 0;
    while (i < SYSTEM_FOLDERS && !slice_equal(id, slice_of(system_folders[i])))
        i++;
    return i;
}

bool mailbox_folder_valid(struct slice id)
{
    return system_index(id) < SYSTEM_FOLDERS || ulid_valid(id);
}

enum status mailbox_check_folder(const struct cloud_op *op,
                                 const char *username, const char *folder)
{
    if (!mailbox_folder_valid(slice_of(folder)))
        return ST_NOT_FOUND;
    if (system_index(slice_of(folder)) < SYSTEM_FOLDERS)
        return ST_OK;
    struct buf value = {0};
    enum status st = store_get(op, username, mailbox_row(username).text,
                               store_name("folders/%s", folder).text, &value);
    buf_free(&value);
    return st;
}

/* ---- folders ---- */

static enum status read_counters(const struct cloud_op *op,
                                 const char *username, struct mailbox_folder *f)
{
    struct store_name prefix = store_name("%s#", f->id);
    struct store_cells c;
    enum status st =
        store_row(op, username, mailbox_row(username).text, prefix.text, &c);
    for (size_t i = 0; st == ST_OK && i < c.count; i++) {
        struct slice name =
            slice_make(c.cells[i].column.data + strlen(prefix.text),
                       c.cells[i].column.len - strlen(prefix.text));
        int64_t *to = slice_equal(name, slice_of("next"))     ? &f->next
                      : slice_equal(name, slice_of("unread")) ? &f->unread
                      : slice_equal(name, slice_of("total"))  ? &f->total
                                                              : NULL;
        if (to != NULL && !store_parse_counter(c.cells[i].value, to))
            st = ST_CORRUPT;
    }
    store_cells_free(&c);
    return st;
}

/* From a cell folders/<id>. */
static bool parse_folder(const struct cell *cell, struct mailbox_folder *out)
{
    size_t skip = strlen("folders/");
    struct slice id =
        slice_make(cell->column.data + skip, cell->column.len - skip);
    cJSON *o = json_parse_object(cell->value);
    const char *name = json_text(o, "name"), *role = json_text(o, "role");
    bool good = name != NULL && mailbox_folder_valid(id);
    if (good) {
        memcpy(out->id, id.data, id.len);
        text_line(slice_of(name), out->name, sizeof out->name);
        snprintf(out->role, sizeof out->role, "%s", role != NULL ? role : "");
        out->uid_validity = (uint64_t)json_int(o, "uid_validity", 0);
    }
    cJSON_Delete(o);
    return good;
}

static enum status read_folders(const struct cloud_op *op, const char *username,
                                struct arena *arena,
                                struct mailbox_folder **out, size_t *count)
{
    struct store_cells c;
    enum status st =
        store_row(op, username, mailbox_row(username).text, "folders/", &c);
    if (st == ST_OK && c.count == 0)
        st = ST_NOT_FOUND;
    if (st == ST_OK) {
        struct mailbox_folder *list =
            arena_alloc(arena, c.count * sizeof *list);
        for (size_t i = 0; i < c.count && st == ST_OK; i++) {
            if (!parse_folder(&c.cells[i], &list[i]))
                st = ST_CORRUPT;
        }
        *out = list;
        *count = c.count;
    }
    store_cells_free(&c);
    return st;
}

enum status mailbox_folders(const struct cloud_op *op, const char *username,
                            struct arena *arena, struct mailbox_folder **out,
                            size_t *count)
{
    struct mailbox_folder *list = NULL;
    size_t n = 0, placed = 0;
    enum status st = read_folders(op, username, arena, &list, &n);
    if (st != ST_OK)
        return st;
    struct mailbox_folder *sorted = arena_alloc(arena, n * sizeof *sorted);
    for (size_t s = 0; s <= SYSTEM_FOLDERS; s++) {
        for (size_t i = 0; i < n; i++) {
            if (system_index(slice_of(list[i].id)) == s)
                sorted[placed++] = list[i];
        }
    }
    for (size_t i = 0; i < n; i++) {
        st = read_counters(op, username, &sorted[i]);
        if (st != ST_OK)
            return st;
    }
    *out = sorted;
    *count = n;
    return ST_OK;
}

/* Puts the folder's cells if nothing is there yet: harmless to repeat. */
static enum status put_folder(const struct cloud_op *op, const char *username,
                              const char *name, const char *id)
{
    struct store_name row = mailbox_row(username);
    cJSON *o = cJSON_CreateObject();
    json_add_text(o, "name", name);
    json_add_text(o, "role", "");
    json_add_int(o, "uid_validity", cloud_wall_ms(op->cloud) / 1000);
    struct buf value = {0};
    json_write_take(o, &value);
    struct kv_batch *b = kv_batch_new(slice_of(username));
    kv_batch_require_exists(b, row.text, "folders/inbox");
    kv_batch_put(b, row.text, store_name("folders/%s", id).text,
                 buf_slice(&value));
    kv_batch_increment(b, row.text, store_name("%s#next", id).text, 0);
    kv_batch_increment(b, row.text, store_name("%s#unread", id).text, 0);
    kv_batch_increment(b, row.text, store_name("%s#total", id).text, 0);
    enum status st = store_repeat(op, b);
    kv_batch_free(b);
    buf_free(&value);
    return st == ST_CONFLICT ? ST_NOT_FOUND : st;
}

enum status mailbox_folder_create(const struct cloud_op *op,
                                  const char *username, const char *name,
                                  char id[MAILBOX_FOLDER_MAX + 1])
{
    char clean[MAILBOX_FOLDER_NAME_MAX + 1];
    text_line(slice_of(name), clean, sizeof clean);
    if (*clean == '\0' || strcmp(clean, name) != 0)
        return ST_INVALID;
    struct arena arena = {0};
    struct mailbox_folder *list = NULL;
    size_t count = 0;
    enum status st = read_folders(op, username, &arena, &list, &count);
    if (st == ST_OK && count >= LIMIT_FOLDERS)
        st = ST_TOO_MANY;
    for (size_t i = 0; st == ST_OK && i < count; i++) {
        if (strcmp(list[i].name, name) == 0)
            st = ST_EXISTS;
    }
    arena_free(&arena);
    char fresh[ULID_SIZE];
    ulid_make(cloud_wall_ms(op->cloud), fresh);
    if (st == ST_OK)
        st = put_folder(op, username, name, fresh);
    if (st == ST_OK)
        memcpy(id, fresh, sizeof fresh);
    return st;
}

/* ---- lists ---- */

static bool seq_valid(const char *seq)
{
    return strlen(seq) == MAILBOX_SEQ_TEXT &&
           strspn(seq, "0123456789abcdef") == MAILBOX_SEQ_TEXT;
}

static enum status fill_page(const struct cell *cells, size_t count,
                             size_t prefix, struct arena *arena,
                             struct mailbox_page *out)
{
    out->entries = arena_alloc(arena, (count + 1) * sizeof *out->entries);
    for (size_t i = 0; i < count; i++) {
        struct mailbox_entry *e = &out->entries[i];
        if (!mailbox_parse_entry(cells[i].value, arena, e) ||
            cells[i].column.len != prefix + MAILBOX_SEQ_TEXT)
            return ST_CORRUPT;
        memcpy(e->seq, cells[i].column.data + prefix, MAILBOX_SEQ_TEXT);
    }
    out->count = count;
    return ST_OK;
}

enum status mailbox_list(const struct cloud_op *op,
                         const struct mailbox_query *q, struct arena *arena,
                         struct mailbox_page *out)
{
    if (q->limit == 0 || q->limit > LIMIT_LIST ||
        (q->before != NULL && !seq_valid(q->before)))
        return ST_INVALID;
    enum status st = mailbox_check_folder(op, q->username, q->folder);
    if (st != ST_OK)
        return st;
    struct store_name row = mailbox_row(q->username);
    struct store_name prefix = store_name("%s/", q->folder);
    struct store_name after =
        store_name("%s/%s", q->folder, q->before != NULL ? q->before : "");
    struct kv_scan scan = {.partition = slice_of(q->username),
                           .row = slice_of(row.text),
                           .row_exact = true,
                           .column_prefix = slice_of(prefix.text),
                           .reverse = true,
                           .has_after = q->before != NULL,
                           .after_row = slice_of(row.text),
                           .after_column = slice_of(after.text),
                           .limit = q->limit};
    struct cell *cells = NULL;
    size_t count = 0;
    bool more = false;
    st = kv_scan_page(cloud_kv(op->cloud), &scan, cloud_op_left(op), arena,
                      &cells, &count, &more);
    struct mailbox_page page = {0};
    if (st == ST_OK || st == ST_NOT_FOUND)
        st = fill_page(cells, count, strlen(prefix.text), arena, &page);
    if (st != ST_OK)
        return st;
    if (more && count > 0)
        memcpy(page.next, page.entries[count - 1].seq, sizeof page.next);
    *out = page;
    return ST_OK;
}

/* ---- one message ---- */

/* The entry that PLACE points to. ST_NOT_FOUND: it has moved meanwhile. */
static enum status read_entry(const struct cloud_op *op, const char *username,
                              const struct mailbox_place *place,
                              struct arena *arena, struct mailbox_entry *out)
{
    struct buf value = {0};
    enum status st = store_get(op, username, mailbox_row(username).text,
                               place->column, &value);
    if (st == ST_OK && !mailbox_parse_entry(buf_slice(&value), arena, out))
        st = ST_CORRUPT;
    buf_free(&value);
    if (st == ST_OK)
        memcpy(out->seq, place->seq, sizeof out->seq);
    return st;
}

enum status mailbox_get(const struct cloud_op *op, const char *username,
                        const char *uid, struct arena *arena,
                        struct mailbox_message *out)
{
    if (!ulid_valid(slice_of(uid)))
        return ST_NOT_FOUND;
    struct mailbox_message m = {0};
    struct mailbox_place place;
    enum status st;
    /* Place and entry are two reads; a move in between shows, and then both
     * are read again. */
    for (int tries = 0; tries < 10; tries++) {
        st = mailbox_read_place(op, username, uid, &place);
        if (st != ST_OK)
            return st;
        st = read_entry(op, username, &place, arena, &m.entry);
        if (st != ST_NOT_FOUND)
            break;
    }
    if (st == ST_OK)
        st = store_get(op, username, mailbox_message_row(username, uid).text,
                       "header", &m.header);
    if (st != ST_OK) {
        buf_free(&m.header);
        return st;
    }
    memcpy(m.folder, place.folder, sizeof m.folder);
    *out = m;
    return ST_OK;
}

enum status mailbox_raw_open(const struct cloud_op *op, const char *username,
                             const char *uid, struct mailbox_raw *out)
{
    if (!ulid_valid(slice_of(uid)))
        return ST_NOT_FOUND;
    struct buf header = {0};
    enum status st =
        store_get(op, username, mailbox_message_row(username, uid).text,
                  "header", &header);
    if (st == ST_OK) {
        cJSON *o = json_parse_object(buf_slice(&header));
        int64_t size = json_int(o, "size", -1);
        cJSON_Delete(o);
        if (size < 0 || size > 2ll * LIMIT_MESSAGE) {
            st = ST_CORRUPT;
        } else {
            struct mailbox_raw r = {.size = (uint64_t)size};
            snprintf(r.username, sizeof r.username, "%s", username);
            memcpy(r.uid, uid, ULID_SIZE);
            r.pieces = mailbox_chunk_count(r.size);
            r.is_inline = r.pieces == 0;
            if (r.is_inline)
                r.pieces = 1;
            *out = r;
        }
    }
    buf_free(&header);
    return st;
}

enum status mailbox_raw_read(const struct cloud_op *op,
                             const struct mailbox_raw *raw, uint32_t i,
                             struct buf *out)
{
    if (raw->is_inline)
        return store_get(op, raw->username,
                         mailbox_message_row(raw->username, raw->uid).text,
                         "body", out);
    struct store_name row = mailbox_chunk_row(raw->username, raw->uid, i);
    struct kv_key key = kv_key_of(row.text, row.text, "chunk");
    key.bulk = true;
    return kv_get(cloud_kv(op->cloud), key, cloud_op_left(op), out);
}

enum status mailbox_read_raw(const struct cloud_op *op, const char *username,
                             const char *uid, struct buf *out)
{
    struct mailbox_raw raw;
    struct buf all = {0};
    enum status st = mailbox_raw_open(op, username, uid, &raw);
    for (uint32_t i = 0; st == ST_OK && i < raw.pieces; i++)
        st = mailbox_raw_read(op, &raw, i, &all);
    if (st == ST_OK && all.len != raw.size)
        st = ST_CORRUPT;
    if (st == ST_OK)
        buf_put_slice(out, buf_slice(&all));
    buf_free(&all);
    return st;
}

enum status mailbox_wait(const struct cloud_op *op, const char *username,
                         const char *folder, int64_t seen, int64_t *next)
{
    if (!mailbox_folder_valid(slice_of(folder)))
        return ST_NOT_FOUND;
    struct store_name row = mailbox_row(username);
    struct store_name column = store_name("%s#next", folder);
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)seen);
    struct slice seen_value = slice_of(text);
    struct buf value = {0};
    bool found = false;
    enum status st = kv_watch(cloud_kv(op->cloud),
                              kv_key_of(username, row.text, column.text),
                              &seen_value, cloud_op_left(op), &found, &value);
    if (st == ST_OK && !found)
        st = ST_NOT_FOUND;
    else if (st == ST_OK && !store_parse_counter(buf_slice(&value), next))
        st = ST_CORRUPT;
    buf_free(&value);
    return st;
}
