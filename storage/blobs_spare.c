/*
 * Spare files of the blob log: what nobody refers to any more is not removed
 * but written again (design: blobs.c). Blocks that the file system has given
 * out and that have been written once take no more of its metadata, and a file
 * of such a size takes long to remove.
 *
 * A file becomes spare when it could be removed as well. It is renamed to the
 * next number at once; its header says the old one until the first record of
 * the new life is written, so that recovery knows it for empty. What stands in
 * it from before is nothing: the checks of heads and indexes are seeded by the
 * number in the name.
 *
 * Spare files are kept only while the disk has room for many, and go when none
 * has been used for a while.
 */
#include "storage/blobs_private.h"

#include <assert.h>

#define SPARE_ROOM 8 /* files, that the disk has room for besides */
#define SPARE_IDLE_US (INT64_C(60) * 1000 * 1000)

static bool has_room(struct blobs *b)
{
    return blobs_room_beside(b, SPARE_ROOM * b->o.file_size, b->o.reserve) ==
           ST_OK;
}

static bool is_fit(const struct blob_file *f)
{
    uint64_t full = f->b->o.file_size;
    return !f->worn && !f->stuck && f->allocated % BLOB_ALIGN == 0 &&
           f->allocated >= full / 2 && f->allocated <= full + full / 4;
}

static void give_up(struct blob_file *f, enum status why)
{
    log_warn(f->b->env->log, "blobs", "reuse-failed", "file=%llu status=%s",
             (unsigned long long)f->sequence, status_name(why));
    f->b->spare_count--;
    blob_file_free(f);
}

static void on_renamed(struct env_io *io, enum status s)
{
    struct blob_op *op = io->data;
    struct blob_file *f = op->file;
    struct blobs *b = op->b;
    char name[BLOB_NAME_MAX];
    if (!blob_op_goes_on(op)) {
        return;
    }
    blob_op_free(op);
    if (s == ST_OK) {
        blob_file_name(b, f->sequence, name);
        s = b->env->ops->file_open(b->env, name, ENV_DIRECT, &f->file);
    }
    if (s != ST_OK) { /* the next start finds and removes it */
        give_up(f, s);
        return;
    }
    f->removing = false;
    TAILQ_REMOVE(&b->files, f, link);
    TAILQ_INSERT_TAIL(&b->spares, f, link);
    b->spare_us = env_now_us(b->env);
}

bool blob_spare_keep(struct blob_file *f)
{
    struct blobs *b = f->b;
    char from[BLOB_NAME_MAX], to[BLOB_NAME_MAX];
    if (b->spare_count >= b->o.spares || b->full || !is_fit(f) ||
        !has_room(b)) {
        return false;
    }
    b->spare_count++;
    b->stats.freed_bytes += f->end;
    f->removing = true;
    f->end = 0; /* nothing of it is dead, nor alive */
    if (f->file != NULL) {
        b->env->ops->file_close(f->file);
        f->file = NULL;
    }
    blob_file_name(b, f->sequence, from);
    f->sequence = b->next_sequence++;
    blob_file_name(b, f->sequence, to);
    struct blob_op *op = blob_op_new(b, on_renamed);
    op->file = f;
    b->env->ops->file_publish(b->env, from, to, &op->io);
    return true;
}

/* Files are in the order of their numbers. */
static void insert(struct blobs *b, struct blob_file *f)
{
    struct blob_file *x;
    TAILQ_FOREACH_REVERSE(x, &b->files, blob_file_list, link)
    {
        if (x->sequence < f->sequence) {
            TAILQ_INSERT_AFTER(&b->files, x, f, link);
            return;
        }
    }
    TAILQ_INSERT_HEAD(&b->files, f, link);
}

struct blob_file *blob_spare_take(struct blobs *b)
{
    struct blob_file *f = TAILQ_FIRST(&b->spares);
    if (f == NULL) {
        return NULL;
    }
    assert(f->live == 0 && f->open == 0 && f->readers == 0 && !f->syncing);
    TAILQ_REMOVE(&b->spares, f, link);
    b->spare_count--;
    b->spare_us = env_now_us(b->env);
    f->end = BLOB_ALIGN;
    f->full = f->sealed = false;
    f->recovered = f->header_bad = f->indexed = false;
    f->found = 0;
    insert(b, f);
    return f;
}

static void remove_one(struct blobs *b)
{
    struct blob_file *f = TAILQ_LAST(&b->spares, blob_file_list);
    TAILQ_REMOVE(&b->spares, f, link);
    b->spare_count--;
    TAILQ_INSERT_TAIL(&b->files, f, link);
    blob_file_remove(f);
}

void blob_spares_tend(struct blobs *b)
{
    if (TAILQ_EMPTY(&b->spares) || b->failed) {
        return;
    }
    if (b->full || !has_room(b)) {
        while (!TAILQ_EMPTY(&b->spares)) {
            remove_one(b);
        }
    } else if (env_now_us(b->env) - b->spare_us >= SPARE_IDLE_US) {
        remove_one(b);
    }
}
