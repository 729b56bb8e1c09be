/*
 * The libuv env's disk operations beside the loop, in libuv's threads.
 *
 * Each file has a row of operations, of which the first one is running: so
 * they are done in the order in which they were asked for, and files do not
 * wait for each other. Publishing and removing have a row of their own; each
 * waits for those before it that are of one of its names, and for what was
 * asked earlier of an open file of one of them. So the sync of a large file,
 * which may take seconds, does not keep the log waiting for its next segment.
 * A thread touches nothing but its operation; all else happens on the loop.
 *
 * While the disk is known to be quick, a small synced write is done on the
 * loop itself, between two turns: handing it to a thread and back takes two
 * wakings, which cost more time than such a disk does, and more of the
 * processor than the write. What came meanwhile waits in the sockets, as it
 * would for the group. Where others wait for just that, the user says so
 * (io->beside), and the write goes to a thread all the same. Whether it is
 * quick says the median of what syncs took: where the processor is busy, some
 * take as long as a thread waits for its turn, here and there alike. After one
 * that was slow, threads get the next ones, the more the slower it was. A disk
 * that hangs at that moment stops the loop, and with it the heartbeats, which
 * would otherwise stop for the age of the sync (R18); beacons have a loop of
 * their own.
 *
 * Reads (file_fetch) have no order. What the page cache has is read on the
 * loop at once; the rest goes to threads, to fewer than there are, so that
 * reads of a slow disk never keep the log's syncs waiting for a thread.
 */
#include <config.h> /* _GNU_SOURCE: preadv2 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/env_uv_impl.h"

/* Written on the loop: no more than this, while a sync takes no more. */
#define HERE_BYTES KIB(128)
#define HERE_US 800
#define SLOW_US 5000
#define DISTRUST 8 /* syncs for each SLOW_US that one took ... */
#define DISTRUST_MOST 2000
#define MEDIAN_STEP 16    /* a part of the median */
#define FETCHES_AT_ONCE 2 /* of libuv's four threads */
#define NAMES_AT_ONCE 2   /* published or removed */
#define DIRECT_ALIGN KIB(4)
#define PIECE KIB(16)

/* ---- in a thread, or on the loop ---- */

/* The page cache keeps what is written at once in as large blocks as it can,
 * and walks all of such a block at each small write into it. */
static enum status write_pieces(const struct disk_op *op)
{
    enum status s = ST_OK;
    for (size_t at = 0; at < op->data.len && s == ST_OK; at += PIECE) {
        size_t left = op->data.len - at;
        struct slice piece =
            slice_make(op->data.data + at, left < PIECE ? left : PIECE);
        s = env_uv_pwrite(op->f->fd, op->offset + at, piece);
    }
    return s;
}

/* The one thread that has an operation of the file's at hand changes the
 * descriptor: it is used here alone, and by who closes it afterwards. */
static enum status write_data(struct disk_op *op)
{
    struct env_file *f = op->f;
    if (f->direct_fd >= 0 && op->data.len > 0 &&
        ((uintptr_t)op->data.data | op->offset | op->data.len) % DIRECT_ALIGN ==
            0) {
        errno = 0;
        enum status s = env_uv_pwrite(f->direct_fd, op->offset, op->data);
        if (s != ST_IO || errno != EINVAL) {
            return s;
        }
        (void)close(f->direct_fd); /* opened with O_DIRECT, but cannot */
        f->direct_fd = -1;
    }
    return env_uv_pwrite(f->fd, op->offset, op->data);
}

static enum status run_write(struct disk_op *op)
{
    enum status s = op->io->pieces ? write_pieces(op) : write_data(op);
    if (s == ST_OK && op->sync) {
        uint64_t began = uv_hrtime();
        s = env_uv_fdatasync(op->f->fd);
        op->sync_us = (int64_t)(uv_hrtime() - began) / 1000;
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

/* All of it by O_DIRECT; false if that cannot be had here. */
static bool fetch_direct(struct disk_op *op, enum status *s)
{
    uint64_t start = op->offset / DIRECT_ALIGN * DIRECT_ALIGN;
    size_t skip = (size_t)(op->offset - start), got = 0;
    size_t want =
        (skip + op->len + DIRECT_ALIGN - 1) / DIRECT_ALIGN * DIRECT_ALIGN;
    uint8_t *bytes = aligned_alloc(DIRECT_ALIGN, want);
    bool done = bytes != NULL;
    *s = ST_OK;
    while (done && got < skip + op->len) {
        ssize_t n = pread(op->f->medium_fd, bytes + got, want - got,
                          (off_t)(start + got));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            done = errno != EINVAL;
            *s = status_from_errno(errno);
            break;
        }
        got += (size_t)n;
        if (n == 0 || got % DIRECT_ALIGN != 0) {
            *s = got < skip + op->len ? ST_CORRUPT : ST_OK; /* the end */
            break;
        }
    }
    if (done && *s == ST_OK) {
        memcpy(op->out, bytes + skip, op->len);
    }
    free(bytes);
    return done;
}

static enum status run_fetch(struct disk_op *op)
{
    size_t got = 0;
    enum status direct;
    if (op->f->medium_fd >= 0 && fetch_direct(op, &direct)) {
        return direct;
    }
    if (op->fd < 0) {
        op->fd = openat(op->u->disk.dir_fd, op->from, O_RDONLY | O_CLOEXEC);
    }
    if (op->fd < 0) {
        return status_from_errno(errno);
    }
    while (got < op->len) {
        ssize_t n = pread(op->fd, op->out + got, op->len - got,
                          (off_t)(op->offset + got));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? ST_CORRUPT : status_from_errno(errno);
        }
        got += (size_t)n;
    }
    return ST_OK;
}

static void perform(struct disk_op *op)
{
    if (op->status != ST_OK) {
        return; /* refused before it began */
    }
    switch (op->kind) {
    case DISK_WRITE:
        op->status = run_write(op);
        break;
    case DISK_FETCH:
        op->status = run_fetch(op);
        break;
    case DISK_PUBLISH:
        op->status = run_publish(op);
        break;
    case DISK_REMOVE:
        op->status = env_uv_unlink(op->u->disk.dir_fd, op->from);
        break;
    }
}

static void on_work(uv_work_t *w)
{
    perform(w->data);
}

/* ---- on the loop ---- */

static void finish(struct disk_op *op);
static void on_worked(uv_work_t *w, int cancelled);

static bool runs_here(const struct disk_op *op)
{
    const struct disk *d = &op->u->disk;
    return op->kind == DISK_WRITE && op->sync && op->status == ST_OK &&
           op->data.len <= HERE_BYTES && !op->io->beside &&
           d->sync_us <= HERE_US && d->distrusted == 0 && !op->u->closing;
}

static void queue(struct disk_op *op, uv_work_cb work)
{
    int r = uv_queue_work(op->u->loop, &op->work, work, on_worked);
    assert(r == 0);
}

static void run(struct disk_op *op)
{
    if (runs_here(op)) {
        perform(op);
        count_add(&op->u->counters.disk_syncs_here, 1);
        TAILQ_INSERT_TAIL(&op->u->disk.done, op, done_link);
    } else if (op->kind != DISK_WRITE || !op->sync ||
               !env_uv_syncer_take(op->u, op, perform, finish)) {
        queue(op, on_work);
    }
}

static void measure(struct disk *d, const struct disk_op *op)
{
    if (!op->sync || op->status != ST_OK) {
        return;
    }
    metric_add_us(&d->sync_times, op->sync_us);
    int64_t step = d->sync_us / MEDIAN_STEP + 1;
    d->sync_us += op->sync_us > d->sync_us ? step : -step;
    if (op->sync_us >= SLOW_US) {
        int64_t more = op->sync_us / SLOW_US * DISTRUST;
        d->distrusted = more < DISTRUST_MOST ? (uint32_t)more : DISTRUST_MOST;
    } else if (d->distrusted > 0) {
        d->distrusted--;
    }
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

static bool shares_name(const struct disk_op *a, const struct disk_op *b)
{
    return strcmp(a->from, b->from) == 0 ||
           (a->to != NULL && strcmp(a->to, b->from) == 0) ||
           (b->to != NULL && (strcmp(a->from, b->to) == 0 ||
                              (a->to != NULL && strcmp(a->to, b->to) == 0)));
}

/* Tried again when one that it waits for is done. */
static bool name_waits(const struct disk *d, const struct disk_op *op)
{
    const struct env_file *f;
    const struct disk_op *x;
    TAILQ_FOREACH(x, &d->names, link)
    {
        if (x == op) {
            break;
        }
        if (shares_name(x, op)) {
            return true;
        }
    }
    TAILQ_FOREACH(f, &d->files, link)
    {
        const struct disk_op *first = TAILQ_FIRST(&f->ops);
        if (first != NULL && first->asked < op->asked && names_file(op, f)) {
            return true;
        }
    }
    return false;
}

static void start_names(struct env_uv *u)
{
    struct disk *d = &u->disk;
    struct disk_op *op;
    TAILQ_FOREACH(op, &d->names, link)
    {
        if (d->names_running == NAMES_AT_ONCE) {
            return;
        }
        if (!op->running && !name_waits(d, op)) {
            op->running = true;
            d->names_running++;
            run(op);
        }
    }
}

static void finish_write(struct disk_op *op)
{
    struct env_file *f = op->f;
    measure(&op->u->disk, op);
    TAILQ_REMOVE(&f->ops, op, link);
    if (op->sync_failed) {
        env_uv_sync_failed(f);
    }
    count_add(&op->u->counters.disk_writes, 1);
    count_add(&op->u->counters.disk_syncs, op->sync ? 1 : 0);
    count_add(&op->u->counters.disk_bytes, op->data.len);
    if (f->closing && !env_uv_file_busy(f)) {
        env_uv_file_free(f);
    } else {
        start_file(f);
    }
}

static void start_fetches(struct disk *d)
{
    struct disk_op *op;
    while (d->fetching < FETCHES_AT_ONCE &&
           (op = TAILQ_FIRST(&d->fetches)) != NULL) {
        TAILQ_REMOVE(&d->fetches, op, link);
        d->fetching++;
        op->in_thread = true;
        op->fd = op->f->fd;
        op->from = op->fd < 0 ? xstrdup(op->f->name) : NULL;
        queue(op, on_work);
    }
}

static void finish_fetch(struct disk_op *op)
{
    struct env_file *f = op->f;
    struct disk *d = &op->u->disk;
    f->fetches--;
    if (op->from != NULL && op->fd >= 0) {
        env_uv_seldom_keep(f, op->fd);
    }
    if (f->closing && !env_uv_file_busy(f)) {
        env_uv_file_free(f);
    }
    if (op->in_thread) {
        d->fetching--;
        start_fetches(d);
    }
}

static void finish_name(struct disk_op *op)
{
    struct disk *d = &op->u->disk;
    struct env_file *f;
    TAILQ_REMOVE(&d->names, op, link);
    d->names_running--;
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

static void finish(struct disk_op *op)
{
    struct env_uv *u = op->u;
    struct env_io *io = op->io;
    enum status s = env_uv_disk_counted(u, op->status);
    switch (op->kind) {
    case DISK_WRITE:
        finish_write(op);
        break;
    case DISK_FETCH:
        finish_fetch(op);
        break;
    case DISK_PUBLISH:
    case DISK_REMOVE:
        finish_name(op);
        break;
    }
    start_names(u);
    free(op->from);
    free(op->to);
    free(op);
    io->impl = NULL;
    io->done(io, s);
    assert(u->disk.under_way > 0);
    if (--u->disk.under_way == 0 && u->closing) {
        env_uv_disk_at_rest(u);
    }
    env_uv_release(u);
}

static void on_worked(uv_work_t *w, int cancelled)
{
    assert(cancelled == 0); /* nobody cancels */
    finish(w->data);
}

static void on_nothing(uv_work_t *w)
{
}

bool env_uv_disk_pending(const struct env_uv *u)
{
    return !TAILQ_EMPTY(&u->disk.done);
}

/* As many as there are now: what these begin is told in the next turn. */
bool env_uv_disk_turn(struct env_uv *u)
{
    bool told = env_uv_disk_pending(u);
    struct op_list now = TAILQ_HEAD_INITIALIZER(now);
    struct disk_op *op;
    TAILQ_CONCAT(&now, &u->disk.done, done_link);
    while ((op = TAILQ_FIRST(&now)) != NULL) {
        TAILQ_REMOVE(&now, op, done_link);
        if (u->closing) {
            queue(op, on_nothing); /* is told all the same */
        } else {
            finish(op);
        }
    }
    return told;
}

void env_uv_queue_fini(struct env_uv *u)
{
    struct disk_op *op;
    while ((op = TAILQ_FIRST(&u->disk.done)) != NULL) {
        TAILQ_REMOVE(&u->disk.done, op, done_link);
        queue(op, on_nothing); /* is told all the same */
    }
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
    u->disk.under_way++;
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

/* True if all of it was in the page cache. */
static bool read_cached(struct disk_op *op)
{
    struct disk *d = &op->u->disk;
    struct iovec v = {.iov_base = op->out, .iov_len = op->len};
    if (op->status != ST_OK || d->no_cached_reads || op->f->medium_fd >= 0 ||
        op->f->fd < 0) {
        return false;
    }
    ssize_t n = preadv2(op->f->fd, &v, 1, (off_t)op->offset, RWF_NOWAIT);
    d->no_cached_reads = n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS);
    return n >= 0 && (size_t)n == op->len;
}

void env_uv_file_fetch(struct env_file *f, uint64_t offset, void *out,
                       size_t len, struct env_io *io)
{
    assert(!f->closing && offset <= INT64_MAX - len);
    struct disk_op *op = op_new(f->u, DISK_FETCH, io);
    op->f = f;
    op->offset = offset;
    op->out = out;
    op->len = len;
    f->fetches++;
    env_uv_seldom_used(f);
    if (read_cached(op)) {
        TAILQ_INSERT_TAIL(&f->u->disk.done, op, done_link);
    } else {
        TAILQ_INSERT_TAIL(&f->u->disk.fetches, op, link);
        start_fetches(&f->u->disk);
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
