/*
 * The libuv env's disk operations beside the loop, in libuv's threads.
 *
 * Each file has a row of operations, of which the first one is running: so
 * they are done in the order in which they were asked for, and files do not
 * wait for each other. Publishing and removing have a row of their own; the
 * first of it also waits for what was asked earlier of an open file of one of
 * its names. A thread touches nothing but its operation; all else happens on
 * the loop.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/env_uv_impl.h"

/* ---- in a thread ---- */

static enum status run_write(struct disk_op *op)
{
    enum status s = env_uv_pwrite(op->f->fd, op->offset, op->data);
    if (s == ST_OK && op->sync) {
        s = env_uv_fdatasync(op->f->fd);
        op->sync_failed = s != ST_OK;
    }
    return s;
}

/* The contents must be on disk before the name says so. */
static enum status run_publish(struct disk_op *op)
{
    int dir = op->u->disk.dir_fd;
    int fd = openat(dir, op->from, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return status_from_errno(errno);
    }
    enum status s = fsync(fd) == 0 ? ST_OK : ST_IO;
    (void)close(fd);
    return s == ST_OK ? env_uv_rename(dir, op->from, op->to) : s;
}

static void on_work(uv_work_t *w)
{
    struct disk_op *op = w->data;
    if (op->status != ST_OK) {
        return; /* refused before it began */
    }
    switch (op->kind) {
    case DISK_WRITE:
        op->status = run_write(op);
        break;
    case DISK_PUBLISH:
        op->status = run_publish(op);
        break;
    case DISK_REMOVE:
        op->status = env_uv_unlink(op->u->disk.dir_fd, op->from);
        break;
    }
}

/* ---- on the loop ---- */

static void on_worked(uv_work_t *w, int cancelled);

static void run(struct disk_op *op)
{
    int r = uv_queue_work(op->u->loop, &op->work, on_work, on_worked);
    assert(r == 0);
}

static void start_file(struct env_file *f)
{
    struct disk_op *op = TAILQ_FIRST(&f->ops);
    if (op == NULL) {
        return;
    }
    if (f->sync_failed) {
        op->status = ST_IO; /* R18: untried */
    }
    run(op);
}

static bool names_file(const struct disk_op *op, const struct env_file *f)
{
    return strcmp(op->from, f->name) == 0 ||
           (op->to != NULL && strcmp(op->to, f->name) == 0);
}

static void start_names(struct env_uv *u)
{
    struct disk *d = &u->disk;
    struct disk_op *op = TAILQ_FIRST(&d->names);
    struct env_file *f;
    if (op == NULL || d->names_busy) {
        return;
    }
    TAILQ_FOREACH(f, &d->files, link)
    {
        const struct disk_op *first = TAILQ_FIRST(&f->ops);
        if (first != NULL && first->asked < op->asked && names_file(op, f)) {
            return; /* tried again when that one is done */
        }
    }
    d->names_busy = true;
    run(op);
}

static void finish_write(struct disk_op *op)
{
    struct env_file *f = op->f;
    TAILQ_REMOVE(&f->ops, op, link);
    if (op->sync_failed) {
        env_uv_sync_failed(f);
    }
    count_add(&op->u->counters.disk_writes, 1);
    count_add(&op->u->counters.disk_syncs, op->sync ? 1 : 0);
    count_add(&op->u->counters.disk_bytes, op->data.len);
    if (f->closing && TAILQ_EMPTY(&f->ops)) {
        env_uv_file_free(f);
    } else {
        start_file(f);
    }
}

static void finish_name(struct disk_op *op)
{
    struct disk *d = &op->u->disk;
    struct env_file *f;
    TAILQ_REMOVE(&d->names, op, link);
    d->names_busy = false;
    if (op->kind == DISK_PUBLISH && op->status == ST_OK) {
        TAILQ_FOREACH(f, &d->files, link)
        {
            if (strcmp(f->name, op->from) == 0) {
                free(f->name);
                f->name = xstrdup(op->to);
            }
        }
    }
}

static void on_worked(uv_work_t *w, int cancelled)
{
    struct disk_op *op = w->data;
    struct env_uv *u = op->u;
    struct env_io *io = op->io;
    enum status s = env_uv_disk_counted(u, op->status);
    assert(cancelled == 0); /* nobody cancels */
    if (op->kind == DISK_WRITE) {
        finish_write(op);
    } else {
        finish_name(op);
    }
    start_names(u);
    free(op->from);
    free(op->to);
    free(op);
    io->impl = NULL;
    io->done(io, s);
    env_uv_release(u);
}

static struct disk_op *op_new(struct env_uv *u, enum disk_kind kind,
                              struct env_io *io)
{
    assert(io->impl == NULL); /* one operation at a time */
    struct disk_op *op = xcalloc(1, sizeof(*op));
    op->u = u;
    op->kind = kind;
    op->io = io;
    op->asked = u->disk.asked++;
    op->work.data = op;
    op->status = u->closing ? ST_STOPPING : ST_OK;
    io->impl = op;
    env_uv_hold(u);
    return op;
}

void env_uv_file_write(struct env_file *f, uint64_t offset, struct slice data,
                       bool sync, struct env_io *io)
{
    assert(!f->closing);
    struct disk_op *op = op_new(f->u, DISK_WRITE, io);
    op->f = f;
    op->offset = offset;
    op->data = data;
    op->sync = sync;
    bool idle = TAILQ_EMPTY(&f->ops);
    TAILQ_INSERT_TAIL(&f->ops, op, link);
    if (idle) {
        start_file(f);
    }
}

static void ask_name(struct env_uv *u, struct disk_op *op)
{
    TAILQ_INSERT_TAIL(&u->disk.names, op, link);
    start_names(u);
}

void env_uv_file_publish(struct env *e, const char *from, const char *to,
                         struct env_io *io)
{
    struct env_uv *u = env_uv_of(e);
    (void)env_uv_dir_of(u, from);
    (void)env_uv_dir_of(u, to);
    struct disk_op *op = op_new(u, DISK_PUBLISH, io);
    op->from = xstrdup(from);
    op->to = xstrdup(to);
    ask_name(u, op);
}

void env_uv_file_remove(struct env *e, const char *name, struct env_io *io)
{
    struct env_uv *u = env_uv_of(e);
    (void)env_uv_dir_of(u, name);
    struct disk_op *op = op_new(u, DISK_REMOVE, io);
    op->from = xstrdup(name);
    ask_name(u, op);
}
