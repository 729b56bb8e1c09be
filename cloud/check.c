/*
 * Collects what one partition holds, and compares when the next begins. Where
 * an account is being deleted its cells go away bit by bit, its usage among
 * them; without a usage row nothing is said of sums.
 */
#include "cloud/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/mailbox_store.h"
#include "common/log.h"

/* A folder: its counters, and what its index holds. */
struct folder {
    char id[MAILBOX_FOLDER_MAX + 1];
    int64_t total, unread;           /* counters */
    int64_t total_held, unread_held; /* cells */
};

/* An index cell or a message's row; both are found by the uid. */
struct item {
    char uid[ULID_SIZE];
    char column[MAILBOX_FOLDER_MAX + MAILBOX_SEQ_TEXT + 2];
    bool has_header, has_place;
};

struct items {
    struct item *at;
    size_t count, size;
};

struct cloud_check {
    void (*say)(void *ctx, const char *text);
    void *ctx;
    struct cloud_check_counts counts;
    struct buf partition;
    struct buf line;
    /* Of the partition. */
    struct folder *folders;
    size_t folder_count;
    struct items index, messages;
    bool is_account, has_usage;
    int64_t bytes, reserved;           /* counters */
    int64_t bytes_held, reserved_held; /* sums */
};

struct cloud_check *cloud_check_new(void (*say)(void *ctx, const char *text),
                                    void *ctx)
{
    struct cloud_check *k = xcalloc(1, sizeof(*k));
    k->say = say;
    k->ctx = ctx;
    return k;
}

static void clear(struct cloud_check *k)
{
    free(k->folders);
    free(k->index.at);
    free(k->messages.at);
    k->folders = NULL;
    k->folder_count = 0;
    k->index = k->messages = (struct items){0};
    k->is_account = k->has_usage = false;
    k->bytes = k->reserved = k->bytes_held = k->reserved_held = 0;
}

void cloud_check_free(struct cloud_check *k)
{
    if (k == NULL) {
        return;
    }
    clear(k);
    buf_free(&k->partition);
    buf_free(&k->line);
    free(k);
}

/* Says that something is wrong with the partition; FORMAT follows its name. */
static void complain(struct cloud_check *k, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void complain(struct cloud_check *k, const char *format, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    k->counts.problems++;
    buf_clear(&k->line);
    buf_printf(&k->line, "account %s: %s", log_quote(buf_slice(&k->partition)),
               text);
    k->say(k->ctx, buf_cstr(&k->line));
}

/* ---- collecting ---- */

static struct folder *folder_of(struct cloud_check *k, const char *id)
{
    for (size_t i = 0; i < k->folder_count; i++) {
        if (strcmp(k->folders[i].id, id) == 0) {
            return &k->folders[i];
        }
    }
    k->folders =
        xrealloc(k->folders, (k->folder_count + 1) * sizeof(*k->folders));
    struct folder *f = &k->folders[k->folder_count++];
    memset(f, 0, sizeof(*f));
    (void)snprintf(f->id, sizeof(f->id), "%s", id);
    k->counts.folders++;
    return f;
}

static struct item *add_item(struct items *list)
{
    if (list->count == list->size) {
        list->size = list->size == 0 ? 16 : list->size * 2;
        list->at = xrealloc(list->at, list->size * sizeof(*list->at));
    }
    struct item *i = &list->at[list->count++];
    memset(i, 0, sizeof(*i));
    return i;
}

static void on_entry(struct cloud_check *k, const struct cell *cell)
{
    struct mailbox_entry e;
    struct mailbox_place place;
    struct arena arena = {0};
    if (!mailbox_parse_place(cell->column, &place) ||
        !mailbox_parse_entry(cell->value, &arena, &e)) {
        complain(k, "index cell %s cannot be read", log_quote(cell->column));
        arena_free(&arena);
        return;
    }
    struct folder *f = folder_of(k, place.folder);
    struct item *i = add_item(&k->index);
    f->total_held++;
    f->unread_held += (e.flags & MAILBOX_READ) == 0;
    k->bytes_held += (int64_t)e.size;
    memcpy(i->uid, e.uid, ULID_SIZE);
    memcpy(i->column, place.column, strlen(place.column) + 1);
    arena_free(&arena);
}

static void on_counter(struct cloud_check *k, const struct cell *cell,
                       const char *column, const char *mark)
{
    char id[MAILBOX_FOLDER_MAX + 1];
    int64_t v;
    if (strcmp(mark, "#total") != 0 && strcmp(mark, "#unread") != 0) {
        return;
    }
    size_t len = (size_t)(mark - column);
    if (len >= sizeof(id) || !store_parse_counter(cell->value, &v)) {
        complain(k, "counter %s cannot be read", log_quote(cell->column));
        return;
    }
    memcpy(id, column, len);
    id[len] = '\0';
    struct folder *f = folder_of(k, id);
    if (strcmp(mark, "#total") == 0) {
        f->total = v;
    } else {
        f->unread = v;
    }
}

/* Row <username>:mailbox. */
static void on_mailbox(struct cloud_check *k, const struct cell *cell)
{
    char column[LIMIT_KEY_PART + 1];
    if (slice_starts_with(cell->column, slice_of("folders/"))) {
        return;
    }
    memcpy(column, cell->column.data, cell->column.len);
    column[cell->column.len] = '\0';
    const char *mark = strrchr(column, '#');
    if (mark != NULL) {
        on_counter(k, cell, column, mark);
    } else {
        on_entry(k, cell);
    }
}

/* Row <username>:mailmsg:<uid>; its cells stand together. */
static void on_message(struct cloud_check *k, const struct cell *cell,
                       struct slice uid)
{
    struct items *list = &k->messages;
    if (!ulid_valid(uid)) {
        complain(k, "row %s names no message", log_quote(cell->row));
        return;
    }
    bool same = list->count > 0 &&
                memcmp(list->at[list->count - 1].uid, uid.data, uid.len) == 0;
    struct item *i = same ? &list->at[list->count - 1] : add_item(list);
    memcpy(i->uid, uid.data, uid.len);
    k->counts.messages += !same;
    if (slice_equal(cell->column, slice_of("header"))) {
        i->has_header = true;
    }
    if (slice_equal(cell->column, slice_of("place"))) {
        struct mailbox_place place;
        if (!mailbox_parse_place(cell->value, &place)) {
            complain(k, "place of message %s cannot be read", i->uid);
            return;
        }
        i->has_place = true;
        memcpy(i->column, place.column, strlen(place.column) + 1);
    }
}

static void on_usage(struct cloud_check *k, const struct cell *cell)
{
    int64_t v;
    if (!store_parse_counter(cell->value, &v)) {
        complain(k, "usage %s cannot be read", log_quote(cell->column));
        return;
    }
    k->has_usage = true;
    if (slice_equal(cell->column, slice_of("bytes"))) {
        k->bytes = v;
    } else if (slice_equal(cell->column, slice_of("reserved"))) {
        k->reserved = v;
    }
}

/* What is being written is counted and reserved. */
static void on_intent(struct cloud_check *k, const struct cell *cell)
{
    struct intent i;
    if (intent_parse(cell->value, &i) && i.kind == INTENT_MAIL) {
        k->bytes_held += (int64_t)i.size;
        k->reserved_held += (int64_t)i.size;
    }
}

/* Row <username>:drive:UID_<uid>: a file's size is counted. */
static void on_drive(struct cloud_check *k, const struct cell *cell)
{
    int64_t v;
    if (slice_equal(cell->column, slice_of("size")) &&
        store_parse_counter(cell->value, &v)) {
        k->bytes_held += v;
    }
}

static void take_cell(struct cloud_check *k, const struct cell *cell)
{
    struct slice p = buf_slice(&k->partition);
    struct slice rest = cell->row;
    if (!slice_starts_with(rest, p) || rest.len <= p.len ||
        rest.data[p.len] != ':') {
        return; /* not an account's */
    }
    rest = slice_make(rest.data + p.len + 1, rest.len - p.len - 1);
    struct slice message = slice_of("mailmsg:");
    if (slice_equal(rest, slice_of("mailbox"))) {
        k->is_account = true;
        on_mailbox(k, cell);
    } else if (slice_starts_with(rest, message)) {
        on_message(k, cell,
                   slice_make(rest.data + message.len, rest.len - message.len));
    } else if (slice_equal(rest, slice_of("usage"))) {
        on_usage(k, cell);
    } else if (slice_starts_with(rest, slice_of("pending:"))) {
        on_intent(k, cell);
    } else if (slice_starts_with(rest, slice_of("drive:UID_"))) {
        on_drive(k, cell);
    }
}

/* ---- comparing ---- */

static int compare_uids(const void *a, const void *b)
{
    return memcmp(((const struct item *)a)->uid, ((const struct item *)b)->uid,
                  ULID_SIZE);
}

static void check_pair(struct cloud_check *k, const struct item *index,
                       const struct item *message)
{
    if (!message->has_header) {
        complain(k, "message %s has no header", message->uid);
    }
    if (!message->has_place) {
        complain(k, "message %s has no place", message->uid);
    } else if (strcmp(index->column, message->column) != 0) {
        complain(k, "message %s is at %s, but its place says %s", index->uid,
                 index->column, message->column);
    }
}

/* Both lists, sorted by uid, side by side. */
static void check_messages(struct cloud_check *k)
{
    size_t i = 0, m = 0;
    if (k->index.count > 0) {
        qsort(k->index.at, k->index.count, sizeof(struct item), compare_uids);
    }
    if (k->messages.count > 0) {
        qsort(k->messages.at, k->messages.count, sizeof(struct item),
              compare_uids);
    }
    while (i < k->index.count || m < k->messages.count) {
        const struct item *a = i < k->index.count ? &k->index.at[i] : NULL;
        const struct item *b =
            m < k->messages.count ? &k->messages.at[m] : NULL;
        int c = a == NULL ? 1 : b == NULL ? -1 : compare_uids(a, b);
        if (c < 0) {
            bool twice = i > 0 && compare_uids(a, a - 1) == 0;
            complain(k,
                     twice ? "message %s is listed a second time at %s"
                           : "message %s, listed at %s, is not there",
                     a->uid, a->column);
        } else if (c > 0) {
            complain(k, "message %s is in no folder", b->uid);
        } else {
            check_pair(k, a, b);
        }
        i += c <= 0;
        m += c >= 0;
    }
}

static void check_counter(struct cloud_check *k, const char *name,
                          const char *what, int64_t counter, int64_t held)
{
    if (counter != held) {
        complain(k, "%s%s is %" PRId64 ", but there are %" PRId64, name, what,
                 counter, held);
    }
}

static void check_partition(struct cloud_check *k)
{
    for (size_t i = 0; i < k->folder_count; i++) {
        struct folder *f = &k->folders[i];
        check_counter(k, f->id, "#total", f->total, f->total_held);
        check_counter(k, f->id, "#unread", f->unread, f->unread_held);
    }
    check_messages(k);
    if (k->has_usage) {
        check_counter(k, "usage ", "bytes", k->bytes, k->bytes_held);
        check_counter(k, "usage ", "reserved", k->reserved, k->reserved_held);
    }
    k->counts.accounts += k->is_account;
    clear(k);
}

/* ---- the whole ---- */

void cloud_check_cell(struct cloud_check *k, const struct cell *cell)
{
    k->counts.cells++;
    if (!slice_equal(cell->partition, buf_slice(&k->partition))) {
        check_partition(k);
        buf_clear(&k->partition);
        buf_put_slice(&k->partition, cell->partition);
    }
    take_cell(k, cell);
}

void cloud_check_finish(struct cloud_check *k, struct cloud_check_counts *out)
{
    check_partition(k);
    *out = k->counts;
}
