/*
 * What struct env offers on files, over the simulated disk.
 *
 * An asynchronous operation has one event. When it comes, the disk does the
 * operation; then, at once or when the process can run again, the user hears
 * of it. Operations on one open file wait for one another; those on different
 * files overlap. When a process dies, what it had under way was done up to
 * some point, at random.
 *
 * Every primitive that changes the disk counts a step (host_step), before
 * which a test can let the host die.
 */
#include "tests/sim/sim_files.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum op_kind { OP_WRITE, OP_FETCH, OP_PUBLISH, OP_REMOVE };

struct sim_op {
    struct sim_event ev;
    struct sim_env *env;
    struct env_file *file;      /* OP_WRITE */
    struct env_file *from_file; /* OP_FETCH: into OUT */
    uint8_t *out;
    size_t len;
    enum op_kind kind;
    struct env_io *io;
    uint64_t offset;
    struct slice data;
    uint64_t data_hash; /* the user must leave it alone meanwhile */
    bool sync, performed, started;
    enum status status;
    char *from, *to;
    struct sim_op *prev, *next; /* among the env's */
    struct sim_op *next_held;
    bool held;
};

struct env_file {
    struct sim_env *env;
    struct inode *ino;
    char *name;
    bool readonly, medium;
    bool seldom;  /* every read is of what has its name then */
    bool closing; /* goes when its last operation is done */
    bool failed;  /* a sync failed: takes no more writes and syncs (R18) */
    struct env_file *prev, *next; /* among the env's */
};

static void op_due(struct sim_event *ev);

/* ---- primitives: each counts a step ---- */

/* Room for a file that grows from OLD to SIZE bytes? */
static bool has_room(struct sim_host *h, uint64_t old, uint64_t size)
{
    return h->disk->limit == 0 || size <= old ||
           sim_disk_used(h) + (size - old) <= h->disk->limit;
}

/* True if this is the one that is to fail. */
static bool count_down(uint32_t *n)
{
    return *n > 0 && --*n == 0;
}

static enum status prim_write(struct sim_host *h, struct inode *ino,
                              uint64_t offset, struct slice data)
{
    if (host_step(h)) {
        return ST_STOPPING;
    }
    struct sim_rng *r = &h->w->rng;
    bool room = has_room(h, ino->size, offset + data.len);
    if (count_down(&h->disk->fail_write_in) || !room) {
        /* A part of it is there all the same. */
        inode_write(ino, offset, data.data,
                    room ? sim_rng_below(r, data.len + 1) : 0);
        if (SIM_HAS_BUG(h->w, short_write)) {
            return ST_OK;
        }
        return room ? ST_IO : ST_NO_SPACE;
    }
    inode_write(ino, offset, data.data, data.len);
    return ST_OK;
}

static enum status prim_sync(struct sim_host *h, struct inode *ino)
{
    if (host_step(h)) {
        return ST_STOPPING;
    }
    if (count_down(&h->disk->fail_sync_in)) {
        TRACE(h->w, "%s: a sync fails", h->name);
        inode_sync_failed(ino);
        return SIM_HAS_BUG(h->w, forget_failed_sync) ? ST_OK : ST_IO;
    }
    if (!SIM_HAS_BUG(h->w, sync_does_nothing)) {
        inode_synced(ino);
    }
    return ST_OK;
}

static enum status prim_sync_folder(struct sim_host *h, const char *name)
{
    if (host_step(h)) {
        return ST_STOPPING;
    }
    if (count_down(&h->disk->fail_sync_in)) {
        TRACE(h->w, "%s: a directory's sync fails", h->name);
        return ST_IO;
    }
    if (!SIM_HAS_BUG(h->w, no_directory_sync)) {
        disk_sync_folder(h->disk, name);
    }
    return ST_OK;
}

static enum status publish(struct sim_host *h, const char *from, const char *to)
{
    struct dent *e = dents_find(&h->disk->names, from);
    if (e == NULL) {
        return ST_NOT_FOUND;
    }
    enum status status = prim_sync(h, e->ino);
    if (status != ST_OK) {
        return status;
    }
    if (host_step(h)) {
        return ST_STOPPING;
    }
    disk_rename(h->disk, from, to);
    return prim_sync_folder(h, to);
}

static enum status unlink_durably(struct sim_host *h, const char *name)
{
    if (dents_find(&h->disk->names, name) == NULL) {
        return ST_NOT_FOUND;
    }
    if (host_step(h)) {
        return ST_STOPPING;
    }
    disk_unlink(h->disk, name);
    return prim_sync_folder(h, name);
}

/* ---- files, blocking ---- */

static bool folder_exists(const struct sim_disk *d, const char *name)
{
    if (strchr(name, '/') == NULL) {
        return true;
    }
    for (size_t i = 0; i < d->folder_count; i++) {
        if (in_folder(name, d->folders[i])) {
            return true;
        }
    }
    return false;
}

static enum status find_or_create(struct sim_host *h, const char *name,
                                  unsigned flags, struct inode **out)
{
    struct dent *e = dents_find(&h->disk->names, name);
    if (e != NULL) {
        *out = e->ino;
        return (flags & ENV_EXCL) != 0 ? ST_EXISTS : ST_OK;
    }
    if ((flags & ENV_CREATE) == 0 || !folder_exists(h->disk, name)) {
        return ST_NOT_FOUND;
    }
    if (host_step(h)) {
        return ST_STOPPING;
    }
    *out = disk_create(h->disk, name);
    return prim_sync_folder(h, name);
}

enum status disk_file_open(struct env *e, const char *name, unsigned flags,
                           struct env_file **out)
{
    struct sim_env *s = env_of(e);
    if (s->process->dead) {
        return ST_STOPPING;
    }
    struct inode *ino;
    enum status status = find_or_create(s->host, name, flags, &ino);
    if (status != ST_OK) {
        return status;
    }
    struct env_file *f = xcalloc(1, sizeof(*f));
    f->env = s;
    f->ino = ino;
    ino->refs++;
    f->name = xstrdup(name);
    f->seldom = flags == ENV_SELDOM;
    f->readonly = f->seldom || (flags & ENV_READONLY) != 0;
    f->medium = (flags & ENV_MEDIUM) != 0;
    f->next = s->files;
    if (f->next != NULL) {
        f->next->prev = f;
    }
    s->files = f;
    *out = f;
    return ST_OK;
}

static void file_free(struct env_file *f)
{
    if (f->prev != NULL) {
        f->prev->next = f->next;
    } else {
        f->env->files = f->next;
    }
    if (f->next != NULL) {
        f->next->prev = f->prev;
    }
    inode_unref(f->ino);
    free(f->name);
    free(f);
}

static bool file_busy(const struct env_file *f)
{
    const struct sim_op *op = f->env->ops;
    while (op != NULL && op->file != f && op->from_file != f) {
        op = op->next;
    }
    return op != NULL;
}

void disk_file_close(struct env_file *f)
{
    assert(!f->closing || f->env->process->dead);
    f->closing = true;
    if (!f->env->process->dead && !file_busy(f)) {
        file_free(f);
    }
}

enum status disk_file_size(struct env_file *f, uint64_t *out)
{
    *out = f->ino->size;
    return ST_OK;
}

/* What is opened when it is read must have its name then. */
static bool still_named(const struct env_file *f)
{
    const struct dent *d = dents_find(&f->env->host->disk->names, f->name);
    return !f->seldom || (d != NULL && d->ino == f->ino);
}

enum status disk_file_read(struct env_file *f, uint64_t offset, void *out,
                           size_t len, size_t *got)
{
    if (!still_named(f)) {
        return ST_NOT_FOUND;
    }
    *got = inode_read(f->ino, offset, out, len, f->medium);
    return ST_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum status disk_dir_list(struct env *e, const char *folder,
                          void (*fn)(void *ctx, const char *name), void *ctx)
{
    struct sim_host *h = env_of(e)->host;
    char marker[LIMIT_NAME + 2];
    (void)snprintf(marker, sizeof(marker), "%s/", folder);
    if (folder[0] != '\0' && !folder_exists(h->disk, marker)) {
        return ST_NOT_FOUND;
    }
    /* FN may remove files: go by a copy of the names. */
    struct dents *d = &h->disk->names;
    size_t count = 0, skip = folder[0] == '\0' ? 0 : strlen(folder) + 1;
    char **names = xcalloc(d->count + 1, sizeof(*names));
    for (size_t i = 0; i < d->count; i++) {
        const char *name = d->at[i].name;
        if (in_folder(name, folder) && name[skip] != '.') {
            names[count++] = xstrdup(name);
        }
    }
    qsort(names, count, sizeof(*names), by_name);
    for (size_t i = 0; i < count; i++) {
        fn(ctx, names[i] + skip);
        free(names[i]);
    }
    free(names);
    return ST_OK;
}

enum status disk_dir_make(struct env *e, const char *folder)
{
    struct sim_env *s = env_of(e);
    struct sim_disk *d = s->host->disk;
    char marker[LIMIT_NAME + 2];
    (void)snprintf(marker, sizeof(marker), "%s/", folder);
    if (folder_exists(d, marker)) {
        return ST_OK;
    }
    if (s->process->dead || host_step(s->host)) {
        return ST_STOPPING;
    }
    assert(d->folder_count < SIM_FOLDERS);
    d->folders[d->folder_count++] = xstrdup(folder);
    return ST_OK;
}

enum status disk_file_put(struct env *e, const char *name,
                          struct slice contents)
{
    struct sim_env *s = env_of(e);
    struct sim_host *h = s->host;
    char temp[LIMIT_ADDRESS * 2];
    int base =
        strchr(name, '/') == NULL ? 0 : (int)(strchr(name, '/') - name) + 1;
    (void)snprintf(temp, sizeof(temp), "%.*s.new-%s", base, name, name + base);
    if (s->process->dead) {
        return ST_STOPPING;
    }
    if (dents_find(&h->disk->names, temp) != NULL) {
        disk_unlink(h->disk, temp); /* as good as O_TRUNC */
    }
    struct inode *ino;
    enum status status = find_or_create(h, temp, ENV_CREATE, &ino);
    if (status == ST_OK) {
        status = prim_write(h, ino, 0, contents);
    }
    return status == ST_OK ? publish(h, temp, name) : status;
}

/* As the daemons' env does: after a failure none is tried again (R18). */
static enum status file_sync(struct env_file *f)
{
    enum status status = f->failed ? ST_IO : prim_sync(f->env->host, f->ino);
    f->failed = f->failed || status == ST_IO;
    return status;
}

enum status disk_file_allocate(struct env_file *f, uint64_t size)
{
    struct sim_host *h = f->env->host;
    if (f->env->process->dead || host_step(h)) {
        return ST_STOPPING;
    }
    if (!has_room(h, f->ino->size, size)) {
        return ST_NO_SPACE;
    }
    f->ino->size = size > f->ino->size ? size : f->ino->size;
    return file_sync(f);
}

enum status disk_file_write_now(struct env_file *f, uint64_t offset,
                                struct slice data)
{
    assert(!f->readonly);
    if (f->env->process->dead || f->failed) {
        return f->failed ? ST_IO : ST_STOPPING;
    }
    enum status status = prim_write(f->env->host, f->ino, offset, data);
    if (SIM_HAS_BUG(f->env->host->w, write_now_without_sync)) {
        return status;
    }
    return status == ST_OK ? file_sync(f) : status;
}

enum status disk_file_sync_now(struct env_file *f)
{
    return f->env->process->dead ? ST_STOPPING : file_sync(f);
}

enum status disk_space_free(struct env *e, uint64_t *out)
{
    struct sim_host *h = env_of(e)->host;
    uint64_t limit = h->disk->limit == 0 ? UINT64_C(1) << 40 : h->disk->limit;
    uint64_t used = sim_disk_used(h);
    *out = limit > used ? limit - used : 0;
    return ST_OK;
}

/* ---- asynchronous ---- */

static uint64_t hash_data(const struct sim_op *op)
{
    return op->data.len == 0 ? 0 : XXH3_64bits(op->data.data, op->data.len);
}

static struct sim_op *op_new(struct sim_env *s, enum op_kind kind,
                             struct env_io *io)
{
    assert(io->done != NULL && io->impl == NULL);
    struct sim_op *op = xcalloc(1, sizeof(*op));
    op->env = s;
    op->kind = kind;
    op->io = io;
    op->ev.fn = op_due;
    op->ev.ctx = op;
    io->impl = op;
    op->prev = s->ops_tail;
    if (op->prev != NULL) {
        op->prev->next = op;
    } else {
        s->ops = op;
    }
    s->ops_tail = op;
    return op;
}

static void op_free(struct sim_op *op)
{
    struct sim_env *s = op->env;
    if (op->prev != NULL) {
        op->prev->next = op->next;
    } else {
        s->ops = op->next;
    }
    if (op->next != NULL) {
        op->next->prev = op->prev;
    } else {
        s->ops_tail = op->prev;
    }
    free(op->from);
    free(op->to);
    free(op);
}

static void op_start(struct sim_op *op)
{
    struct sim_env *s = op->env;
    struct sim_rng *r = &s->w->rng;
    int64_t t = sim_rng_range(r, 20, 120) + (int64_t)(op->data.len / 500);
    if (op->kind == OP_FETCH) {
        t += s->host->disk->slow_fetch_us;
        t += sim_rng_chance(r, 100000) ? sim_rng_range(r, 0, 20 * SIM_MS) : 0;
    } else if (op->sync || op->kind != OP_WRITE) {
        t += sim_rng_range(r, 50, 1500) + s->host->disk->slow_us;
        if (sim_rng_chance(r, 2000)) {
            t += sim_rng_range(r, 10 * SIM_MS, 80 * SIM_MS);
        }
    }
    op->started = true;
    event_schedule(s->w, &op->ev, env_true_now(s) + t);
}

/* Starts what waited for an operation on file F to end. */
static void start_next(struct sim_env *s, const struct env_file *f)
{
    for (struct sim_op *op = s->ops; op != NULL; op = op->next) {
        if (op->file == f && !op->performed) {
            if (!op->started) {
                op_start(op);
            }
            return;
        }
    }
}

static enum status op_perform(struct sim_op *op)
{
    struct sim_host *h = op->env->host;
    enum status status = ST_OK;
    switch (op->kind) {
    case OP_WRITE:
        assert(hash_data(op) == op->data_hash);
        if (op->file->failed) {
            return ST_IO;
        }
        if (op->data.len > 0) {
            status = prim_write(h, op->file->ino, op->offset, op->data);
        }
        return status == ST_OK && op->sync ? file_sync(op->file) : status;
    case OP_FETCH:
        if (count_down(&h->disk->fail_fetch_in)) {
            return ST_IO;
        }
        if (!still_named(op->from_file)) {
            return ST_NOT_FOUND;
        }
        return inode_read(op->from_file->ino, op->offset, op->out, op->len,
                          op->from_file->medium) == op->len
                   ? ST_OK
                   : ST_CORRUPT;
    case OP_PUBLISH:
        return publish(h, op->from, op->to);
    case OP_REMOVE:
        return unlink_durably(h, op->from);
    }
    return status;
}

static void op_hold(struct sim_op *op)
{
    struct sim_op **at = &op->env->host->disk->held;
    while (*at != NULL) {
        at = &(*at)->next_held;
    }
    *at = op;
    op->next_held = NULL;
    op->held = true;
}

static void op_due(struct sim_event *ev)
{
    struct sim_op *op = ev->ctx;
    struct sim_env *s = op->env;
    if (!op->performed) {
        if (s->host->disk->hung) {
            op_hold(op);
            return;
        }
        struct env_file *f = op->file;
        enum status status = op_perform(op);
        if (s->process->dead) {
            return; /* the host died before one of the steps */
        }
        op->performed = true;
        op->status = status;
        world_mix(s->w, 20, (uint64_t)op->status + (op->data_hash << 8));
        if (f != NULL) {
            start_next(s, f);
        }
    }
    if (event_deferred(ev, s)) {
        return;
    }
    struct env_io *io = op->io;
    enum status status = op->status;
    struct env_file *f = op->file != NULL ? op->file : op->from_file;
    op_free(op);
    if (f != NULL && f->closing && !file_busy(f)) {
        file_free(f);
    }
    io->impl = NULL;
    io->done(io, status);
}

void disk_let_go(struct sim_host *h)
{
    while (h->disk->held != NULL) {
        struct sim_op *op = h->disk->held;
        h->disk->held = op->next_held;
        op->held = false;
        event_schedule(h->w, &op->ev, h->w->now);
    }
}

void disk_file_write(struct env_file *f, uint64_t offset, struct slice data,
                     bool sync, struct env_io *io)
{
    struct sim_env *s = f->env;
    assert(!f->readonly);
    if (s->process->dead) {
        return;
    }
    bool first = true;
    for (struct sim_op *o = s->ops; o != NULL; o = o->next) {
        first = first && (o->file != f || o->performed);
    }
    struct sim_op *op = op_new(s, OP_WRITE, io);
    op->file = f;
    op->offset = offset;
    op->data = data;
    op->sync = sync;
    op->data_hash = hash_data(op);
    if (first) {
        op_start(op);
    }
}

void disk_file_fetch(struct env_file *f, uint64_t offset, void *out, size_t len,
                     struct env_io *io)
{
    struct sim_env *s = f->env;
    if (s->process->dead) {
        return;
    }
    struct sim_op *op = op_new(s, OP_FETCH, io);
    op->from_file = f;
    op->offset = offset;
    op->out = out;
    op->len = len;
    memset(out, 0xa5, len); /* who looks too early shall not find the bytes */
    op_start(op);
}

void disk_file_publish(struct env *e, const char *from, const char *to,
                       struct env_io *io)
{
    struct sim_env *s = env_of(e);
    if (s->process->dead) {
        return;
    }
    struct sim_op *op = op_new(s, OP_PUBLISH, io);
    op->from = xstrdup(from);
    op->to = xstrdup(to);
    op_start(op);
}

void disk_file_remove(struct env *e, const char *name, struct env_io *io)
{
    struct sim_env *s = env_of(e);
    if (s->process->dead) {
        return;
    }
    struct sim_op *op = op_new(s, OP_REMOVE, io);
    op->from = xstrdup(name);
    op_start(op);
}

/* ---- death ---- */

/* What the kernel had done of OP, at random; false: not all of it. */
static bool perform_in_part(struct sim_op *op, struct sim_rng *r)
{
    struct sim_host *h = op->env->host;
    uint64_t how = sim_rng_below(r, 3);
    if (how == 0 || h->disk->hung || op->kind != OP_WRITE) {
        /* Renames and unlinks are caught between their steps by
         * sim_host_fail_at_step(). */
        return false;
    }
    struct inode *ino = op->file->ino;
    if (!has_room(h, ino->size, op->offset + op->data.len)) {
        return false;
    }
    size_t len = how == 1 ? sim_rng_below(r, op->data.len + 1) : op->data.len;
    inode_write(ino, op->offset, op->data.data, len);
    if (how == 2 && op->sync && sim_rng_chance(r, 500000)) {
        inode_synced(ino);
    }
    return how == 2;
}

void disk_env_died(struct sim_env *e)
{
    struct sim_disk *d = e->host->disk;
    struct sim_op **at = &d->held;
    while (*at != NULL) {
        if ((*at)->env == e) {
            *at = (*at)->next_held;
        } else {
            at = &(*at)->next_held;
        }
    }
    for (struct sim_op *op = e->ops; op != NULL; op = op->next) {
        event_cancel(e->w, &op->ev);
        bool going = op->started && !op->performed;
        if (going && perform_in_part(op, &e->w->rng) && op->file != NULL) {
            op->performed = true;
            struct sim_op *n = op->next;
            while (n != NULL && (n->file != op->file || n->performed)) {
                n = n->next;
            }
            if (n != NULL) {
                n->started = true; /* the next one had begun, perhaps */
            }
        }
    }
    for (struct env_file *f = e->files; f != NULL; f = f->next) {
        if (sim_rng_chance(&e->w->rng, 500000)) {
            inode_cache_dropped(f->ino);
        }
    }
}

void disk_env_free(struct sim_env *e)
{
    while (e->ops != NULL) {
        op_free(e->ops);
    }
    while (e->files != NULL) {
        file_free(e->files);
    }
}
