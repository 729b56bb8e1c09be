/*
 * Files of the blob log: their bytes beside the blobs', making, sealing and
 * removing them (layout: blobs.c).
 */
#include "storage/blobs_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_MAGIC 0x424e4550u  /* "PENB" */
#define INDEX_MAGIC 0x494e4550u /* "PENI" */
#define TRAILER 32u
#define HEADER 40u /* before its check */

static const char header_magic[8] = {'P', 'E', 'N', 'N', 'B', 'L', 'O', 'B'};

static uint64_t seed_at(const struct blobs *b, uint64_t sequence,
                        uint64_t offset)
{
    uint64_t place[4] = {b->o.key[0], b->o.key[1], sequence, offset};
    return XXH3_64bits(place, sizeof(place));
}

static void store_le(uint8_t *to, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        to[i] = (uint8_t)(v >> (8 * i));
    }
}

static struct id128 take_id(struct cursor *c)
{
    struct id128 id = {{0}};
    struct slice s = cursor_bytes(c, sizeof(id.b));
    if (s.len == sizeof(id.b)) {
        memcpy(id.b, s.data, s.len);
    }
    return id;
}

static uint64_t aligned(uint64_t n)
{
    return (n + BLOB_ALIGN - 1) / BLOB_ALIGN * BLOB_ALIGN;
}

uint64_t blob_record_size(uint32_t len)
{
    return aligned((uint64_t)BLOB_HEAD + len);
}

/* ---- heads ---- */

static uint64_t head_check(const struct blobs *b, uint64_t sequence,
                           uint64_t offset, const uint8_t *head)
{
    return XXH3_64bits_withSeed(head + 8, BLOB_HEAD - 8,
                                seed_at(b, sequence, offset));
}

void blob_head_encode(const struct blobs *b, uint64_t sequence, uint64_t offset,
                      const struct blob_ref *ref, uint8_t out[BLOB_HEAD])
{
    memset(out, 0, BLOB_HEAD);
    store_le(out + 8, HEAD_MAGIC, 4);
    store_le(out + 12, ref->len, 4);
    memcpy(out + 16, ref->id.b, 16);
    memcpy(out + 32, ref->digest.b, 16);
    store_le(out + 48, ref->seed, 8);
    store_le(out, head_check(b, sequence, offset, out), 8);
}

bool blob_head_decode(const struct blobs *b, uint64_t sequence, uint64_t offset,
                      const uint8_t in[BLOB_HEAD], struct blob_ref *out)
{
    struct cursor c = cursor_of(slice_make(in, BLOB_HEAD));
    struct blob_ref r;
    uint64_t check = cursor_u64(&c);
    if (cursor_u32(&c) != HEAD_MAGIC) {
        return false; /* the cheap test first: asked at every 512 bytes */
    }
    r.len = cursor_u32(&c);
    r.id = take_id(&c);
    r.digest = take_id(&c);
    r.seed = cursor_u64(&c);
    if (check != head_check(b, sequence, offset, in) || r.len == 0 ||
        r.len > LIMIT_VALUE) {
        return false;
    }
    *out = r;
    return true;
}

/* ---- headers ---- */

void blob_file_name(const struct blobs *b, uint64_t sequence,
                    char out[BLOB_NAME_MAX])
{
    (void)snprintf(out, BLOB_NAME_MAX, "%s%sblobs-%06llu.log", b->folder,
                   b->folder[0] != '\0' ? "/" : "",
                   (unsigned long long)sequence);
}

static void header_encode(const struct blob_file *f, struct buf *out)
{
    const struct blobs *b = f->b;
    buf_put(out, header_magic, sizeof(header_magic));
    buf_put_u32(out, BLOB_FORMAT);
    buf_put_u32(out, b->o.shard);
    buf_put(out, b->o.store.b, sizeof(b->o.store.b));
    buf_put_u64(out, f->sequence);
    assert(out->len == HEADER);
    uint64_t check = XXH3_64bits(out->data, HEADER);
    buf_put_u64(out, check);
    memset(buf_reserve(out, BLOB_ALIGN - out->len), 0, BLOB_ALIGN - out->len);
    out->len = BLOB_ALIGN;
}

/* Of another store's file its own check is right; of a rotten one none is. */
enum status blob_header_check(const struct blobs *b, uint64_t sequence,
                              struct slice block)
{
    struct cursor c = cursor_of(block);
    struct slice magic = cursor_bytes(&c, sizeof(header_magic));
    uint32_t format = cursor_u32(&c);
    uint32_t shard = cursor_u32(&c);
    struct id128 store = take_id(&c);
    uint64_t number = cursor_u64(&c);
    uint64_t check = cursor_u64(&c);
    if (c.bad || memcmp(magic.data, header_magic, sizeof(header_magic)) != 0 ||
        check != XXH3_64bits(block.data, HEADER)) {
        return ST_NOT_FOUND;
    }
    if (format > BLOB_FORMAT) {
        return ST_VERSION;
    }
    bool ours = shard == b->o.shard && id128_equal(store, b->o.store);
    if (!ours || number > sequence) {
        return ST_CORRUPT;
    }
    return number == sequence ? ST_OK : ST_GONE;
}

/* ---- the index at the end ---- */

static uint64_t footer_size(const struct blob_file *f)
{
    const struct blob *x;
    uint64_t count = 0;
    TAILQ_FOREACH(x, &f->blobs, of_file)
    {
        count++;
    }
    return aligned(count * BLOB_INDEX_ENTRY + TRAILER);
}

void blob_footer_encode(const struct blob_file *f, struct buf *out)
{
    const struct blob *x;
    uint32_t count = 0;
    TAILQ_FOREACH(x, &f->blobs, of_file)
    {
        buf_put(out, x->ref.id.b, 16);
        buf_put(out, x->ref.digest.b, 16);
        buf_put_u64(out, x->ref.seed);
        buf_put_u32(out, x->ref.len);
        buf_put_u64(out, x->offset);
        count++;
    }
    size_t entries = out->len;
    size_t size = (size_t)aligned(entries + TRAILER);
    memset(buf_reserve(out, size - entries), 0, size - entries);
    uint64_t seed = seed_at(f->b, f->sequence, f->end);
    uint64_t check = XXH3_64bits_withSeed(out->data, entries, seed);
    out->len = size - TRAILER;
    buf_put_u64(out, f->end);
    buf_put_u32(out, count);
    buf_put_u32(out, INDEX_MAGIC);
    buf_put_u64(out, check);
    buf_put_u64(out, XXH3_64bits_withSeed(out->data + size - TRAILER,
                                          TRAILER - 8, seed));
}

bool blob_footer_place(const struct blobs *b, uint64_t sequence, uint64_t size,
                       struct slice last, uint64_t *from)
{
    if (last.len < TRAILER || size % BLOB_ALIGN != 0) {
        return false;
    }
    const uint8_t *t = last.data + last.len - TRAILER;
    struct cursor c = cursor_of(slice_make(t, TRAILER));
    uint64_t start = cursor_u64(&c);
    uint32_t count = cursor_u32(&c);
    uint32_t magic = cursor_u32(&c);
    (void)cursor_u64(&c);
    uint64_t check = cursor_u64(&c);
    if (magic != INDEX_MAGIC || start % BLOB_ALIGN != 0 || start > size ||
        check !=
            XXH3_64bits_withSeed(t, TRAILER - 8, seed_at(b, sequence, start)) ||
        start + aligned((uint64_t)count * BLOB_INDEX_ENTRY + TRAILER) != size) {
        return false;
    }
    *from = start;
    return true;
}

bool blob_footer_decode(const struct blobs *b, uint64_t sequence, uint64_t from,
                        struct slice bytes,
                        void (*fn)(void *ctx, const struct blob_ref *ref,
                                   uint64_t offset),
                        void *ctx)
{
    struct cursor t =
        cursor_of(slice_make(bytes.data + bytes.len - TRAILER, TRAILER));
    (void)cursor_u64(&t);
    size_t entries = (size_t)cursor_u32(&t) * BLOB_INDEX_ENTRY;
    (void)cursor_u32(&t);
    if (entries > bytes.len ||
        cursor_u64(&t) != XXH3_64bits_withSeed(bytes.data, entries,
                                               seed_at(b, sequence, from))) {
        return false;
    }
    struct cursor c = cursor_of(slice_make(bytes.data, entries));
    while (cursor_left(&c) > 0) {
        struct blob_ref r;
        r.id = take_id(&c);
        r.digest = take_id(&c);
        r.seed = cursor_u64(&c);
        r.len = cursor_u32(&c);
        fn(ctx, &r, cursor_u64(&c));
    }
    return true;
}

/* ---- making ---- */

struct blob_file *blob_file_new(struct blobs *b, uint64_t sequence)
{
    struct blob_file *f = xcalloc(1, sizeof(*f));
    f->b = b;
    f->sequence = sequence;
    f->end = BLOB_ALIGN;
    TAILQ_INIT(&f->blobs);
    TAILQ_INIT(&f->complete);
    TAILQ_INSERT_TAIL(&b->files, f, link);
    return f;
}

void blob_file_free(struct blob_file *f)
{
    TAILQ_REMOVE(&f->b->files, f, link);
    if (f->file != NULL) {
        f->b->env->ops->file_close(f->file);
    }
    free(f);
}

/* A failure to write the header shows in what follows it; recovery can do
 * without it. */
static void on_header_written(struct env_io *io, enum status s)
{
    struct blob_op *op = io->data;
    if (!blob_op_goes_on(op)) {
        return;
    }
    if (s != ST_OK && s != ST_NO_SPACE) {
        blobs_fail(op->b, s);
    }
    blob_op_free(op);
}

static enum status make_new(struct blobs *b, struct blob_file **out)
{
    char name[BLOB_NAME_MAX];
    struct env_file *file;
    blob_file_name(b, b->next_sequence, name);
    enum status s = b->env->ops->file_open(
        b->env, name, ENV_CREATE | ENV_EXCL | ENV_DIRECT, &file);
    if (s != ST_OK) {
        return s;
    }
    *out = blob_file_new(b, b->next_sequence++);
    (*out)->file = file;
    return ST_OK;
}

/* The header is written before all records, and synced with the first. */
static enum status make(struct blobs *b, struct blob_file **out)
{
    struct blob_file *f = blob_spare_take(b);
    enum status s = f != NULL ? ST_OK : make_new(b, &f);
    if (s != ST_OK) {
        return s;
    }
    struct blob_op *op = blob_op_new(b, on_header_written);
    header_encode(f, &op->data);
    f->issued++;
    b->env->ops->file_write(f->file, 0, buf_slice(&op->data), false, &op->io);
    *out = f;
    return ST_OK;
}

static void end_active(struct blobs *b)
{
    struct blob_file *f = b->active;
    f->full = true;
    b->active = NULL;
    blob_file_tend(f);
}

void blob_file_end(struct blobs *b)
{
    const struct blob_file *f = b->active;
    if (f != NULL && f->open == 0 && f->end > BLOB_ALIGN &&
        2 * f->live < f->end) {
        end_active(b);
    }
}

enum status blob_file_for(struct blobs *b, uint64_t size,
                          struct blob_file **out)
{
    struct blob_file *f = b->active;
    if (f != NULL && f->end + size > b->o.file_size && f->end > BLOB_ALIGN) {
        end_active(b);
        f = NULL;
    }
    if (f == NULL) {
        enum status s = make(b, &f);
        if (s == ST_NO_MEMORY) { /* descriptors, say: nobody's data */
            log_warn(b->env->log, "blobs", "no-file",
                     "status=%s action=try_again", status_name(s));
            b->next_sequence++; /* there may be an empty one of that name */
            return ST_BUSY;
        }
        if (s != ST_OK) {
            if (s != ST_NO_SPACE && s != ST_STOPPING) {
                blobs_fail(b, s);
            }
            return s;
        }
        b->active = f;
    }
    *out = f;
    return ST_OK;
}

/* ---- sealing and removing ---- */

/* F is only read from now on, and holds no descriptor for it. */
static void rest(struct blob_file *f)
{
    char name[BLOB_NAME_MAX];
    struct env_file *file;
    struct env *e = f->b->env;
    blob_file_name(f->b, f->sequence, name);
    if (e->ops->file_open(e, name, ENV_SELDOM, &file) == ST_OK) {
        e->ops->file_close(f->file);
        f->file = file;
    }
}

static void on_sealed(struct env_io *io, enum status s)
{
    struct blob_op *op = io->data;
    struct blob_file *f = op->file;
    struct blobs *b = op->b;
    if (!blob_op_goes_on(op)) {
        return;
    }
    blob_op_free(op);
    f->syncing = false;
    if (s != ST_OK && s != ST_NO_SPACE) {
        blobs_fail(b, s);
        return;
    }
    /* Without its index, for want of space, it is walked at the next start. */
    f->allocated = s == ST_OK ? f->allocated : 0;
    f->sealed = true;
    rest(f);
    blob_file_tend(f);
    blobs_collect(b);
}

static void seal(struct blob_file *f)
{
    struct blob_op *op = blob_op_new(f->b, on_sealed);
    op->file = f;
    f->end = blob_blocks(f->end); /* behind the last block written */
    uint64_t size = footer_size(f);
    if (f->end + size < f->allocated) { /* written again: the file's size */
        f->end = f->allocated - size;   /* stays, and the index is its end */
    }
    blob_footer_encode(f, &op->data);
    f->allocated = f->end + op->data.len;
    f->syncing = true;
    f->issued++;
    f->b->env->ops->file_write(f->file, f->end, buf_slice(&op->data), true,
                               &op->io);
}

static void on_removed(struct env_io *io, enum status s)
{
    struct blob_op *op = io->data;
    struct blob_file *f = op->file;
    if (!blob_op_goes_on(op)) {
        return;
    }
    if (s != ST_OK) {
        log_warn(op->b->env->log, "blobs", "remove-failed",
                 "file=%llu status=%s", (unsigned long long)f->sequence,
                 status_name(s));
    } else {
        op->b->stats.freed_bytes += f->end;
    }
    blob_op_free(op);
    blob_file_free(f);
}

void blob_file_remove(struct blob_file *f)
{
    char name[BLOB_NAME_MAX];
    blob_file_name(f->b, f->sequence, name);
    f->removing = true;
    if (f->file != NULL) {
        f->b->env->ops->file_close(f->file);
        f->file = NULL;
    }
    struct blob_op *op = blob_op_new(f->b, on_removed);
    op->file = f;
    f->b->env->ops->file_remove(f->b->env, name, &op->io);
}

void blob_file_tend(struct blob_file *f)
{
    struct blobs *b = f->b;
    if (b->failed || b->closed || !b->settled || f->removing) {
        return;
    }
    if (f->full && !f->sealed && f->open == 0 && !f->syncing) {
        seal(f);
    } else if (f->sealed && f->live == 0 && f->readers == 0 && b->victim != f &&
               !blob_spare_keep(f)) {
        blob_file_remove(f);
    }
}
