/*
 * Reading blobs. The record is read whole and its head and digest are checked:
 * what is not what was written is damage, told to whoever looks after it, and
 * never given to anybody.
 */
#include "storage/blobs_private.h"

#include <stdlib.h>
#include <string.h>

static bool is_right(const struct blob_op *op)
{
    struct blob_ref head;
    struct blob_bytes *x = op->bytes;
    return blob_head_decode(op->b, op->file->sequence, op->offset, x->room,
                            &head) &&
           blob_ref_equal(&head, &op->ref) &&
           id128_equal(
               blob_digest(head.seed, slice_make(blob_bytes_data(x), x->len)),
               op->ref.digest);
}

static void tell_damage(struct blob_op *op, enum status s)
{
    struct blobs *b = op->b;
    char id[33];
    id128_format(op->ref.id, id);
    log_error(b->env->log, "blobs", "blob-damaged",
              "blob=%s file=%llu offset=%llu length=%lu status=%s", id,
              (unsigned long long)op->file->sequence,
              (unsigned long long)op->offset, (unsigned long)op->ref.len,
              status_name(s));
    b->stats.damaged++;
    struct blob *blob = blob_find(b, &op->ref.id);
    if (blob != NULL && blob->file == op->file && blob->offset == op->offset) {
        blob->damaged = true;
        if (b->o.on_damaged != NULL) {
            b->o.on_damaged(b->o.ctx, &op->ref);
        }
    }
}

static void on_read(struct env_io *io, enum status s)
{
    struct blob_op *op = io->data;
    if (!blob_op_goes_on(op)) {
        return;
    }
    struct blobs *b = op->b;
    struct blob_file *f = op->file;
    struct blob_bytes *bytes = NULL;
    if (s == ST_OK && !is_right(op)) {
        s = ST_CORRUPT;
    }
    if (s == ST_OK) {
        b->stats.read++;
        b->stats.read_bytes += op->ref.len;
        bytes = op->bytes;
        op->bytes = NULL;
    } else if (s != ST_STOPPING) {
        tell_damage(op, s);
        s = ST_CORRUPT;
    }
    f->readers--;
    op->done(op->ctx, s, bytes);
    blob_op_free(op);
    blob_file_tend(f);
}

enum status blobs_read(struct blobs *b, const struct blob_ref *ref,
                       void (*done)(void *ctx, enum status s,
                                    struct blob_bytes *bytes),
                       void *ctx)
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
    struct blob_op *op = blob_op_new(b, on_read);
    op->file = blob->file;
    op->ref = blob->ref;
    op->offset = blob->offset;
    op->bytes = blob_bytes_new(ref->len);
    op->done = done;
    op->ctx = ctx;
    op->file->readers++;
    b->env->ops->file_fetch(op->file->file, op->offset, op->bytes->room,
                            (size_t)BLOB_HEAD + ref->len, &op->io);
    return ST_OK;
}
