/*
 * Each file's header, the records of the blobs that live in it, in the order
 * of the file, and, once it is sealed, its index; read through a descriptor of
 * its own, past the page cache, which knows nothing of a medium that rots.
 * What is dead, and the padding between the records, is nobody's concern.
 *
 * Blobs die and move meanwhile, and files go: which blobs a file has is noted
 * when its turn comes, and what is read counts only if the blob is still at
 * that place.
 *
 * A piece that the medium does not give (ST_IO) is damaged; one that could not
 * be read for want of memory says nothing of it.
 */
#include "storage/blobs_scrub.h"

#include <stdlib.h>
#include <string.h>

#include "storage/blobs_private.h"

struct item {
    struct blob_ref ref;
    uint64_t offset;
};

struct blobs_scrub {
    struct blobs *b;
    struct env *env;   /* outlives B */
    uint64_t sequence; /* of the file at hand; 0: none yet */
    struct env_file *file;
    enum { PART_HEADER, PART_BLOBS, PART_INDEX, PART_OVER } part;
    struct item *items;
    size_t count, at;
    uint64_t offset; /* of what was asked for */
    struct buf bytes;
};

struct blobs_scrub *blobs_scrub_new(struct blobs *b)
{
    struct blobs_scrub *v = xcalloc(1, sizeof(*v));
    v->b = b;
    v->env = b->env;
    v->part = PART_OVER;
    return v;
}

static void close_file(struct blobs_scrub *v)
{
    if (v->file != NULL) {
        v->env->ops->file_close(v->file);
        v->file = NULL;
    }
    free(v->items);
    v->items = NULL;
    v->count = v->at = 0;
    v->part = PART_OVER;
}

void blobs_scrub_free(struct blobs_scrub *v)
{
    if (v != NULL) {
        close_file(v);
        buf_free(&v->bytes);
        free(v);
    }
}

/* ---- which file, which blob ---- */

/* The file at hand; NULL if it is gone. */
static struct blob_file *file_at_hand(const struct blobs_scrub *v)
{
    struct blob_file *f;
    TAILQ_FOREACH(f, &v->b->files, link)
    {
        if (f->sequence == v->sequence) {
            return f->removing || f->file == NULL ? NULL : f;
        }
    }
    return NULL;
}

static int by_offset(const void *x, const void *y)
{
    const struct item *a = x, *b = y;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static void note_blobs(struct blobs_scrub *v, const struct blob_file *f)
{
    const struct blob *x;
    size_t count = 0;
    TAILQ_FOREACH(x, &f->blobs, of_file)
    {
        count++;
    }
    v->items = xcalloc(count + 1, sizeof(*v->items));
    TAILQ_FOREACH(x, &f->blobs, of_file)
    {
        v->items[v->count++] = (struct item){x->ref, x->offset};
    }
    qsort(v->items, v->count, sizeof(*v->items), by_offset);
}

static enum status open_medium(struct blobs_scrub *v)
{
    char name[BLOB_NAME_MAX];
    struct env *e = v->env;
    blob_file_name(v->b, v->sequence, name);
    enum status s =
        e->ops->file_open(e, name, ENV_READONLY | ENV_MEDIUM, &v->file);
    if (s == ST_UNSUPPORTED || s == ST_INVALID) {
        s = e->ops->file_open(e, name, ENV_READONLY, &v->file);
    }
    return s;
}

/* The next file behind the one at hand; false: there is none. */
static bool next_file(struct blobs_scrub *v)
{
    struct blob_file *f;
    close_file(v);
    TAILQ_FOREACH(f, &v->b->files, link)
    {
        if (f->sequence <= v->sequence || f->removing || f->file == NULL) {
            continue;
        }
        v->sequence = f->sequence;
        if (open_medium(v) == ST_OK) {
            note_blobs(v, f);
            /* Its header was written before the first of them. */
            v->part = v->count > 0 ? PART_HEADER : PART_BLOBS;
            return true;
        }
        v->file = NULL;
    }
    return false;
}

/* ITEM's blob, if it is still where it was; else NULL. */
static struct blob *blob_of(const struct blobs_scrub *v,
                            const struct item *item)
{
    struct blob *x = blob_find(v->b, &item->ref.id);
    bool there = x != NULL && x->file != NULL &&
                 x->file->sequence == v->sequence && x->offset == item->offset;
    return there ? x : NULL;
}

/* ---- asking ---- */

static size_t ask(struct blobs_scrub *v, uint64_t offset, uint64_t len,
                  struct env_io *io)
{
    buf_clear(&v->bytes);
    uint8_t *to = buf_reserve(&v->bytes, (size_t)len);
    v->bytes.len = (size_t)len;
    v->offset = offset;
    v->env->ops->file_fetch(v->file, offset, to, (size_t)len, io);
    return (size_t)len;
}

/* Bytes of the index of the file at hand; 0: it has none. */
static uint64_t index_size(const struct blobs_scrub *v,
                           const struct blob_file *f)
{
    uint64_t size;
    if (!f->sealed || v->env->ops->file_size(v->file, &size) != ST_OK ||
        size <= f->end || size - f->end > BLOB_INDEX_MAX) {
        return 0;
    }
    return size - f->end;
}

/* What is next in the file at hand; 0: it is over. */
static size_t ask_next(struct blobs_scrub *v, const struct blob_file *f,
                       struct env_io *io)
{
    if (v->part == PART_HEADER) {
        return ask(v, 0, BLOB_ALIGN, io);
    }
    while (v->part == PART_BLOBS && v->at < v->count &&
           blob_of(v, &v->items[v->at]) == NULL) {
        v->at++;
    }
    if (v->part == PART_BLOBS && v->at < v->count) {
        const struct item *x = &v->items[v->at];
        return ask(v, x->offset, (uint64_t)BLOB_HEAD + x->ref.len, io);
    }
    uint64_t size = v->part == PART_OVER ? 0 : index_size(v, f);
    v->part = PART_INDEX;
    return size == 0 ? 0 : ask(v, f->end, size, io);
}

size_t blobs_scrub_ask(struct blobs_scrub *v, struct env_io *io)
{
    for (;;) {
        const struct blob_file *f = file_at_hand(v);
        size_t bytes = f == NULL || v->file == NULL ? 0 : ask_next(v, f, io);
        if (bytes > 0) {
            return bytes;
        }
        if (v->b->failed || !next_file(v)) {
            return 0;
        }
    }
}

/* ---- judging ---- */

static enum status wear(struct blobs_scrub *v, struct blob_file *f,
                        const char *part, struct blobs_damage *out)
{
    *out = (struct blobs_damage){part, v->sequence, v->offset,
                                 v->offset + v->bytes.len};
    blob_file_wear(f, part, v->offset);
    blob_file_tend(f);
    blobs_collect(v->b);
    return ST_CORRUPT;
}

static enum status judge_blob(struct blobs_scrub *v, struct blob_file *f,
                              enum status read, struct blobs_damage *out)
{
    const struct item *item = &v->items[v->at++];
    const struct blob *x = blob_of(v, item);
    struct blob_ref head;
    if (x == NULL) {
        return ST_OK;
    }
    if (x->damaged) { /* known; but who looks after it may have given up */
        if (v->b->o.on_damaged != NULL) {
            v->b->o.on_damaged(v->b->o.ctx, &item->ref);
        }
        return ST_OK;
    }
    struct slice bytes = slice_make(v->bytes.data, v->bytes.len);
    bool right =
        read == ST_OK &&
        id128_equal(blob_digest(x->ref.seed,
                                slice_make(bytes.data + BLOB_HEAD, x->ref.len)),
                    x->ref.digest);
    if (!right) {
        *out = (struct blobs_damage){"value", v->sequence, v->offset,
                                     v->offset + v->bytes.len};
        blob_tell_damage(f, item->offset, &item->ref,
                         read == ST_OK ? ST_CORRUPT : read);
        return ST_CORRUPT;
    }
    if (!blob_head_decode(v->b, v->sequence, item->offset, bytes.data, &head) ||
        !blob_ref_equal(&head, &item->ref)) {
        return wear(v, f, "head", out);
    }
    return ST_OK;
}

static void no_one(void *ctx, const struct blob_ref *ref, uint64_t offset)
{
    (void)ctx; /* whether it can be read is all that is asked */
    (void)ref;
    (void)offset;
}

static bool index_is_right(const struct blobs_scrub *v)
{
    uint64_t from, size = v->offset + v->bytes.len;
    struct slice all = slice_make(v->bytes.data, v->bytes.len);
    return blob_footer_place(v->b, v->sequence, size, all, &from) &&
           from == v->offset &&
           blob_footer_decode(v->b, v->sequence, from, all, no_one, NULL);
}

static bool is_damage(enum status read)
{
    return read == ST_IO || read == ST_CORRUPT;
}

enum status blobs_scrub_take(struct blobs_scrub *v, enum status read,
                             struct blobs_damage *out)
{
    struct blob_file *f = file_at_hand(v);
    bool bad = is_damage(read);
    if (f == NULL || (read != ST_OK && !bad)) {
        close_file(v);
        return ST_OK; /* it says nothing of the file */
    }
    if (v->part == PART_HEADER) {
        v->part = PART_BLOBS;
        bad = bad || blob_header_check(
                         v->b, v->sequence,
                         slice_make(v->bytes.data, v->bytes.len)) != ST_OK;
        return bad ? wear(v, f, "header", out) : ST_OK;
    }
    if (v->part == PART_BLOBS) {
        return judge_blob(v, f, read, out);
    }
    v->part = PART_OVER;
    bad = bad || !index_is_right(v);
    return bad ? wear(v, f, "index", out) : ST_OK;
}
