/*
 * Reading blobs. Their digest is checked: what is not what was written is
 * damage, told to whoever looks after it, and never given to anybody. Where the
 * head is read, too, and is damaged, the value is still good; but the file is
 * emptied (blobs_collect.c) before a restart looks for it in vain.
 */
#include "storage/blobs_private.h"

#include <stdlib.h>
#include <string.h>

/* The value is right if its bytes are; its head is for those who come after a
 * restart. */
static bool is_right(const struct blob_op *op)
{
    const uint8_t *bytes = op->to;
    if (op->bytes != NULL) {
        bytes = blob_bytes_data(op->bytes);
    }
    return id128_equal(
        blob_digest(op->ref.seed, slice_make(bytes, op->ref.len)),
        op->ref.digest);
}

static void check_head(const struct blob_op *op)
{
    struct blob_ref head;
    if (op->bytes != NULL &&
        (!blob_head_decode(op->b, op->file->sequence, op->offset,
                           op->bytes->room, &head) ||
         !blob_ref_equal(&head, &op->ref))) {
        blob_file_wear(op->file, "head", op->offset);
    }
}

void blob_tell_damage(struct blob_file *f, uint64_t offset,
                      const struct blob_ref *ref, enum status why)
{
    struct blobs *b = f->b;
    char id[33];
    id128_format(ref->id, id);
    log_error(b->env->log, "blobs", "blob-damaged",
              "blob=%s file=blobs-%06llu.log offset=%llu length=%lu status=%s",
              id, (unsigned long long)f->sequence, (unsigned long long)offset,
              (unsigned long)ref->len, status_name(why));
    b->stats.damaged++;
    struct blob *blob = blob_find(b, &ref->id);
    if (blob != NULL && blob->file == f && blob->offset == offset) {
        blob->damaged = true;
        if (b->o.on_damaged != NULL) {
            b->o.on_damaged(b->o.ctx, ref);
        }
    }
}

void blob_file_wear(struct blob_file *f, const char *what, uint64_t offset)
{
    struct blobs *b = f->b;
    if (f->worn || f->removing) {
        return;
    }
    log_error(b->env->log, "blobs", "blob-file-damaged",
              "file=blobs-%06llu.log part=%s offset=%llu live=%llu",
              (unsigned long long)f->sequence, what, (unsigned long long)offset,
              (unsigned long long)f->live);
    b->stats.files_damaged++;
    f->worn = true;
    f->full = true;
    if (b->active == f) {
        b->active = NULL; /* sealed as soon as nothing is written to it */
    }
}

/* The read of OP ended with S: what is to be told of it. */
static enum status judge(struct blob_op *op, enum status s)
{
    if (s == ST_OK && !is_right(op)) {
        s = ST_CORRUPT;
    }
    if (s == ST_OK) {
        op->b->stats.read++;
        op->b->stats.read_bytes += op->ref.len;
        check_head(op);
    } else if (s != ST_STOPPING && s != ST_NO_MEMORY) {
        blob_tell_damage(op->file, op->offset, &op->ref, s);
        s = ST_CORRUPT;
    }
    op->file->readers--;
    return s;
}

static void on_read(struct env_io *io, enum status s)
{
    struct blob_op *op = io->data;
    if (!blob_op_goes_on(op)) {
        return;
    }
    struct blob_file *f = op->file;
    struct blob_bytes *bytes = NULL;
    s = judge(op, s);
    if (s == ST_OK) {
        bytes = op->bytes;
        op->bytes = NULL;
    }
    op->done(op->ctx, s, bytes);
    blob_op_free(op);
    blob_file_tend(f);
}

/* ST_OK: REF can be read, and *OUT is where it is. */
static enum status find(const struct blobs *b, const struct blob_ref *ref,
                        const struct blob **out)
{
    const struct blob *blob = blob_find(b, &ref->id);
    if (b->failed || b->closed) {
        return ST_STOPPING;
    }
    if (blob == NULL || blob->file == NULL ||
        !blob_ref_equal(&blob->ref, ref)) {
        return ST_GONE;
    }
    if (blob->damaged || blob->file->file == NULL) {
        return ST_CORRUPT;
    }
    *out = blob;
    return ST_OK;
}

static struct blob_op *op_of(struct blobs *b, const struct blob *blob,
                             void (*done)(struct env_io *io, enum status s))
{
    struct blob_op *op = blob_op_new(b, done);
    op->file = blob->file;
    op->ref = blob->ref;
    op->offset = blob->offset;
    op->file->readers++;
    return op;
}

enum status blobs_read(struct blobs *b, const struct blob_ref *ref,
                       void (*done)(void *ctx, enum status s,
                                    struct blob_bytes *bytes),
                       void *ctx)
{
    const struct blob *blob;
    enum status s = find(b, ref, &blob);
    if (s != ST_OK) {
        return s;
    }
    struct blob_op *op = op_of(b, blob, on_read);
    op->bytes = blob_bytes_new(ref->len);
    op->done = done;
    op->ctx = ctx;
    b->env->ops->file_fetch(op->file->file, op->offset, op->bytes->room,
                            (size_t)BLOB_HEAD + ref->len, &op->io);
    return ST_OK;
}

static void on_fetched(struct env_io *io, enum status s)
{
    struct blob_op *op = io->data;
    if (!blob_op_goes_on(op)) {
        return;
    }
    struct blob_file *f = op->file;
    struct env_io *user = op->user;
    s = judge(op, s);
    blob_op_free(op);
    user->done(user, s);
    blob_file_tend(f);
}

static void on_refused(struct env_timer *t)
{
    struct blob_op *op = t->data;
    struct env_io *user = op->user;
    enum status why = op->why;
    blob_op_free(op);
    user->done(user, why);
}

void blobs_fetch(struct blobs *b, const struct blob_ref *ref, uint8_t *to,
                 struct env_io *io)
{
    const struct blob *blob = NULL;
    enum status s = find(b, ref, &blob);
    if (s != ST_OK) {
        struct blob_op *op = blob_op_new(b, NULL);
        op->user = io;
        op->why = s;
        op->refusal = (struct env_timer){.fn = on_refused, .data = op};
        env_timer_start(b->env, &op->refusal, 0);
        return;
    }
    struct blob_op *op = op_of(b, blob, on_fetched);
    op->to = to;
    op->user = io;
    b->env->ops->file_fetch(op->file->file, op->offset + BLOB_HEAD, to,
                            ref->len, &op->io);
}

/* ---- inspecting ---- */

enum status blobs_read_now(struct blobs *b, const struct blob_ref *ref,
                           uint8_t *to)
{
    const struct blob *blob = NULL;
    size_t got = 0;
    enum status s = find(b, ref, &blob);
    if (s == ST_OK) {
        s = b->env->ops->file_read(blob->file->file, blob->offset + BLOB_HEAD,
                                   to, ref->len, &got);
    }
    return s == ST_OK && got < ref->len ? ST_CORRUPT : s;
}

static bool head_reads(const struct blob *x)
{
    uint8_t room[BLOB_HEAD];
    struct blob_ref head;
    size_t got = 0;
    const struct blob_file *f = x->file;
    const struct blobs *b = f->b;
    return f->file != NULL &&
           b->env->ops->file_read(f->file, x->offset, room, sizeof(room),
                                  &got) == ST_OK &&
           got == sizeof(room) &&
           blob_head_decode(b, f->sequence, x->offset, room, &head) &&
           blob_ref_equal(&head, &x->ref);
}

bool blobs_file_get(const struct blobs *b, size_t i, struct blobs_file *out)
{
    const struct blob_file *f = TAILQ_FIRST(&b->files);
    while (f != NULL && (i > 0 || !f->recovered)) {
        i -= f->recovered;
        f = TAILQ_NEXT(f, link);
    }
    if (f == NULL) {
        return false;
    }
    *out = (struct blobs_file){.number = f->sequence,
                               .bytes = f->end,
                               .blobs = f->found,
                               .live_bytes = f->live,
                               .header_whole = !f->header_bad,
                               .indexed = f->indexed};
    const struct blob *x;
    TAILQ_FOREACH(x, &f->blobs, of_file)
    {
        out->live++;
        out->bad_heads += !head_reads(x);
    }
    return true;
}

bool blobs_where(const struct blobs *b, const struct blob_ref *ref,
                 uint64_t *file, uint64_t *offset)
{
    const struct blob *x = blob_find(b, &ref->id);
    if (x == NULL || x->file == NULL) {
        return false;
    }
    *file = x->file->sequence;
    *offset = x->offset;
    return true;
}
