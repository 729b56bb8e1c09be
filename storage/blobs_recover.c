/*
 * Opening the blob log: finding what may be whole (rules: blobs.c). Everything
 * is read from the medium, past the page cache, which may hold what a failed
 * sync lost (R16).
 */
#include "storage/blobs_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW KIB(512)

struct recovery {
    struct blobs *b;
    struct blobs_report *report;
    uint64_t *found; /* numbers of the files, ascending */
    size_t count, cap;
    struct blob_file *f; /* the one at hand */
    struct env_file *medium;
    uint64_t size;
    uint8_t *window;
    uint64_t window_at;
    size_t window_len;
};

/* ---- reading ---- */

/* Up to LEN bytes at OFFSET; what cannot be read is zeros. */
static size_t read_at(struct recovery *v, uint64_t offset, uint8_t *out,
                      size_t len)
{
    size_t got = 0;
    if (v->b->env->ops->file_read(v->medium, offset, out, len, &got) == ST_OK) {
        return got;
    }
    memset(out, 0, len);
    if (len <= BLOB_ALIGN) {
        return len;
    }
    for (size_t at = 0; at < len; at += BLOB_ALIGN) {
        size_t n = len - at < BLOB_ALIGN ? len - at : BLOB_ALIGN;
        (void)read_at(v, offset + at, out + at, n);
    }
    return len;
}

/* BLOB_HEAD bytes at OFFSET, or NULL at the end. A step that goes on where the
 * last one was reads ahead, for it looks for something. */
static const uint8_t *head_at(struct recovery *v, uint64_t offset)
{
    uint64_t end = v->window_at + v->window_len;
    if (offset < v->window_at || offset + BLOB_HEAD > end) {
        bool near = v->window_len > 0 && offset >= v->window_at &&
                    offset <= end + BLOB_ALIGN;
        v->window_at = offset;
        v->window_len =
            read_at(v, offset, v->window, near ? WINDOW : BLOB_ALIGN);
    }
    end = v->window_at + v->window_len;
    return offset + BLOB_HEAD <= end ? v->window + (offset - v->window_at)
                                     : NULL;
}

static enum status open_medium(struct recovery *v, const char *name,
                               struct env_file **out)
{
    struct env *e = v->b->env;
    enum status s = e->ops->file_open(e, name, ENV_READONLY | ENV_MEDIUM, out);
    if (s == ST_UNSUPPORTED || s == ST_INVALID) {
        v->report->buffered = true;
        s = e->ops->file_open(e, name, ENV_READONLY, out);
    }
    return s;
}

/* BLOB, which was found before, has the bytes that it should have. */
static bool is_right(struct recovery *v, const struct blob *blob)
{
    char name[BLOB_NAME_MAX];
    struct env_file *at_hand = v->medium;
    blob_file_name(v->b, blob->file->sequence, name);
    if (open_medium(v, name, &v->medium) != ST_OK) {
        v->medium = at_hand;
        return false;
    }
    struct blob_bytes *x = blob_bytes_new(blob->ref.len);
    size_t got =
        read_at(v, blob->offset + BLOB_HEAD, blob_bytes_data(x), x->len);
    v->b->env->ops->file_close(v->medium);
    v->medium = at_hand;
    struct id128 d =
        blob_digest(blob->ref.seed, slice_make(blob_bytes_data(x), x->len));
    bool right = got == x->len && id128_equal(d, blob->ref.digest);
    blob_bytes_unref(x);
    return right;
}

/* ---- what there is ---- */

static void on_found(void *ctx, const struct blob_ref *ref, uint64_t offset)
{
    struct recovery *v = ctx;
    struct blobs *b = v->b;
    struct blob *blob = blob_find(b, &ref->id);
    if (ref->len == 0 || ref->len > LIMIT_VALUE ||
        offset + BLOB_HEAD + ref->len > v->size) {
        return; /* cut off: it was never synced, or it is missing */
    }
    if (blob != NULL) {
        if (is_right(v, blob)) {
            return;
        }
        blob_unplace(b, blob);
        blob->ref = *ref;
    } else {
        blob = blob_add(b, ref);
        blob->loose = true;
        TAILQ_INSERT_TAIL(&b->loose, blob, of_loose);
    }
    blob_place(b, blob, v->f, offset);
}

static void on_record(void *ctx, const struct blob_ref *ref, uint64_t offset)
{
    struct recovery *v = ctx;
    v->f->found++;
    on_found(ctx, ref, offset);
}

static bool read_index(struct recovery *v)
{
    uint8_t last[BLOB_ALIGN];
    uint64_t from;
    if (v->size < 2 * BLOB_ALIGN || v->size % BLOB_ALIGN != 0) {
        return false;
    }
    size_t got = read_at(v, v->size - BLOB_ALIGN, last, sizeof(last));
    if (got != sizeof(last) ||
        !blob_footer_place(v->b, v->f->sequence, v->size,
                           slice_make(last, sizeof(last)), &from)) {
        return false;
    }
    size_t len = (size_t)(v->size - from);
    uint8_t *bytes = xmalloc(len);
    bool good = read_at(v, from, bytes, len) == len &&
                blob_footer_decode(v->b, v->f->sequence, from,
                                   slice_make(bytes, len), on_record, v);
    free(bytes);
    v->f->end = good ? from : v->f->end;
    return good;
}

/* Where a record may follow one that ends at AT: at the next block, unless it
 * is of the time when they followed each other closely; those between are too
 * large to end before it, and none is seen inside another's bytes. */
static uint64_t next_place(struct recovery *v, uint64_t at)
{
    struct blob_ref ref;
    uint64_t block = blob_blocks(at);
    const uint8_t *head = head_at(v, block);
    bool here = head != NULL &&
                blob_head_decode(v->b, v->f->sequence, block, head, &ref);
    return here ? block : at;
}

static void walk(struct recovery *v)
{
    const uint8_t *head;
    uint64_t at = BLOB_ALIGN;
    v->window_len = 0;
    while (at < v->size && (head = head_at(v, at)) != NULL) {
        struct blob_ref ref;
        if (blob_head_decode(v->b, v->f->sequence, at, head, &ref)) {
            on_record(v, &ref, at);
            at = next_place(v, at + blob_record_size(ref.len));
        } else {
            at += BLOB_ALIGN;
        }
    }
    v->f->end = (v->size + BLOB_ALIGN - 1) / BLOB_ALIGN * BLOB_ALIGN;
    v->report->walked += v->size;
    log_info(v->b->env->log, "blobs", "walked",
             "file=blobs-%06llu.log bytes=%llu blobs=%llu",
             (unsigned long long)v->f->sequence, (unsigned long long)v->size,
             (unsigned long long)v->f->found);
}

/* Gives F the index that it lacks, durably, with all that is in it: the next
 * start need not walk it. A full disk can do without. */
static enum status write_index(struct recovery *v, const char *name)
{
    struct blob_file *f = v->f;
    struct buf footer = {0};
    struct env *e = v->b->env;
    struct env_file *to;
    enum status s = e->ops->file_open(e, name, 0, &to);
    if (s != ST_OK) {
        return s;
    }
    s = e->ops->file_sync_now(to);
    if (s == ST_OK && !TAILQ_EMPTY(&f->blobs)) {
        blob_footer_encode(f, &footer);
        s = e->ops->file_write_now(to, f->end, buf_slice(&footer));
        f->allocated = s == ST_OK ? f->end + footer.len : 0;
    }
    e->ops->file_close(to);
    buf_free(&footer);
    return s == ST_NO_SPACE ? ST_OK : s;
}

/* ---- files ---- */

static enum status read_file(struct recovery *v, const char *name,
                             struct err *err)
{
    uint8_t header[BLOB_ALIGN] = {0};
    enum status s = v->b->env->ops->file_size(v->medium, &v->size);
    if (s != ST_OK) {
        return err_set(err, s, "%s: %s", name, status_text(s));
    }
    size_t got = read_at(v, 0, header, sizeof(header));
    s = blob_header_check(v->b, v->f->sequence, slice_make(header, got));
    if (s == ST_VERSION) {
        return err_set(err, s, "%s: has a newer format", name);
    }
    if (s == ST_CORRUPT) {
        return err_set(err, s, "%s: belongs to another store", name);
    }
    v->f->allocated = v->size;
    if (s == ST_GONE) { /* spare: no record was synced under its number */
        v->f->end = 0;
        return ST_OK;
    }
    v->f->header_bad = s != ST_OK;
    v->f->indexed = read_index(v);
    if (!v->f->indexed) {
        walk(v);
        s = write_index(v, name);
        if (s != ST_OK) {
            return err_set(err, s, "%s: cannot be written: %s", name,
                           status_text(s));
        }
    }
    if (v->f->header_bad && v->f->found > 0) {
        blob_file_wear(v->f, "header", 0);
    }
    return ST_OK;
}

static enum status recover_file(struct recovery *v, uint64_t sequence,
                                struct err *err)
{
    char name[BLOB_NAME_MAX];
    struct env *e = v->b->env;
    blob_file_name(v->b, sequence, name);
    v->f = blob_file_new(v->b, sequence);
    v->f->full = true;
    v->f->sealed = true;
    v->f->recovered = true;
    enum status s = e->ops->file_open(e, name, ENV_SELDOM, &v->f->file);
    if (s == ST_OK) {
        s = open_medium(v, name, &v->medium);
    }
    if (s != ST_OK) {
        return err_set(err, s, "%s: cannot be opened: %s", name,
                       status_text(s));
    }
    s = read_file(v, name, err);
    e->ops->file_close(v->medium);
    v->report->files++;
    return s;
}

static void on_name(void *ctx, const char *name)
{
    struct recovery *v = ctx;
    unsigned long long sequence;
    char again[BLOB_NAME_MAX];
    if (sscanf(name, "blobs-%20llu.log", &sequence) != 1 || sequence == 0) {
        return;
    }
    (void)snprintf(again, sizeof(again), "blobs-%06llu.log", sequence);
    if (strcmp(name, again) != 0) {
        return;
    }
    if (v->count == v->cap) {
        v->cap = v->cap == 0 ? 16 : 2 * v->cap;
        v->found = xrealloc(v->found, v->cap * sizeof(*v->found));
    }
    v->found[v->count++] = sequence;
}

static int by_number(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return a < b ? -1 : a > b;
}

static enum status recover_all(struct recovery *v, struct err *err)
{
    struct blobs *b = v->b;
    enum status s = b->env->ops->dir_list(b->env, b->folder, on_name, v);
    if (s != ST_OK) {
        return err_set(err, s, "%s: cannot be listed: %s", b->folder,
                       status_text(s));
    }
    if (v->count > 0) {
        qsort(v->found, v->count, sizeof(*v->found), by_number);
    }
    for (size_t i = 0; i < v->count && s == ST_OK; i++) {
        s = recover_file(v, v->found[i], err);
        b->next_sequence = v->found[i] + 1;
    }
    return s;
}

/* ---- opening ---- */

static struct blobs *blobs_new(struct env *env, const struct blobs_options *o)
{
    struct blobs *b = xcalloc(1, sizeof(*b));
    b->env = env;
    b->o = *o;
    b->o.file_size = o->file_size == 0 ? BLOB_FILE_DEFAULT : o->file_size;
    b->o.reserve = o->reserve == 0 ? BLOB_RESERVE_DEFAULT : o->reserve;
    b->o.chunk = o->chunk == 0 ? BLOB_CHUNK_DEFAULT : o->chunk;
    assert(b->o.chunk > BLOB_BLOCK && b->o.chunk % BLOB_BLOCK == 0);
    (void)snprintf(b->folder, sizeof(b->folder), "%s", o->folder);
    b->o.folder = b->folder;
    b->next_sequence = 1;
    TAILQ_INIT(&b->loose);
    TAILQ_INIT(&b->files);
    TAILQ_INIT(&b->spares);
    TAILQ_INIT(&b->ins);
    TAILQ_INIT(&b->ops);
    return b;
}

enum status blobs_open(struct env *env, const struct blobs_options *options,
                       struct blobs_report *report, struct blobs **out,
                       struct err *err)
{
    struct recovery v = {.b = blobs_new(env, options), .report = report};
    *report = (struct blobs_report){0};
    v.window = xmalloc(WINDOW);
    enum status s = recover_all(&v, err);
    free(v.window);
    free(v.found);
    if (s != ST_OK) {
        blobs_close(v.b);
        return s;
    }
    const struct blob_file *f;
    TAILQ_FOREACH(f, &v.b->files, link)
    {
        report->bytes += f->live;
    }
    report->blobs = v.b->stats.blobs;
    *out = v.b;
    return ST_OK;
}
