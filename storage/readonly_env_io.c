/*
 * See readonly_env_io.h. A file that would have to be made is one without
 * contents, known to nobody but its opener. Only regular files are opened, and
 * links are not followed: a directory may come from anywhere. Times of access
 * stay, too, where the system lets us.
 */
#include "storage/readonly_env_io.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/env_work.h"

struct readonly_env {
    struct env env; /* first: struct env * is struct readonly_env * */
    int dir_fd;
    bool ended;
};

struct env_file {
    int fd;     /* -1: it has no contents, or there is a NAME */
    char *name; /* with ENV_SELDOM: opened again for each read */
    struct env *e;
};

static struct readonly_env *of(struct env *e)
{
    return (struct readonly_env *)(void *)e;
}

/* ---- clock and timers ---- */

static int64_t now_us(struct env *e)
{
    (void)e;
    return 1;
}

static int64_t wall_ms(struct env *e)
{
    (void)e;
    return (int64_t)time(NULL) * 1000;
}

/* For what is never kept. */
static void no_random(struct env *e, void *out, size_t len)
{
    (void)e;
    memset(out, 0, len);
}

static void timer_start(struct env *e, struct env_timer *t, int64_t delay_us)
{
    (void)e;
    (void)t;
    (void)delay_us;
}

static void timer_stop(struct env *e, struct env_timer *t)
{
    (void)e;
    (void)t;
}

/* ---- reading ---- */

static int open_at(int dir_fd, const char *name, int flags)
{
    flags |= O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    int fd = openat(dir_fd, name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM) {
        fd = openat(dir_fd, name, flags);
    }
    return fd;
}

static enum status file_open(struct env *e, const char *name, unsigned flags,
                             struct env_file **out)
{
    struct stat st;
    if (of(e)->ended) {
        return ST_STOPPING;
    }
    int fd = open_at(of(e)->dir_fd, name, 0);
    if (fd < 0 && (errno != ENOENT || (flags & ENV_READONLY) != 0)) {
        return errno == ELOOP ? ST_DENIED : status_from_errno(errno);
    }
    if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) {
        (void)close(fd);
        return ST_DENIED;
    }
    struct env_file *f = xcalloc(1, sizeof(*f));
    f->fd = fd;
    f->e = e;
    if ((flags & ENV_SELDOM) != 0 && fd >= 0) {
        f->name = xstrdup(name);
        f->fd = -1;
        (void)close(fd);
    }
    *out = f;
    return ST_OK;
}

static void file_close(struct env_file *f)
{
    if (f->fd >= 0) {
        (void)close(f->fd);
    }
    free(f->name);
    free(f);
}

static enum status file_size(struct env_file *f, uint64_t *out)
{
    struct stat st = {.st_size = 0};
    assert(f->name == NULL);
    if (f->fd >= 0 && fstat(f->fd, &st) != 0) {
        return status_from_errno(errno);
    }
    *out = (uint64_t)st.st_size;
    return ST_OK;
}

static enum status read_fd(int fd, uint64_t offset, void *out, size_t len,
                           size_t *got)
{
    size_t done = 0;
    while (fd >= 0 && done < len && offset <= INT64_MAX - len) {
        ssize_t n = pread(fd, (uint8_t *)out + done, len - done, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return status_from_errno(errno);
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
        offset += (uint64_t)n;
    }
    *got = done;
    return ST_OK;
}

static enum status file_read(struct env_file *f, uint64_t offset, void *out,
                             size_t len, size_t *got)
{
    if (f->name == NULL) {
        return read_fd(f->fd, offset, out, len, got);
    }
    int fd = open_at(of(f->e)->dir_fd, f->name, 0);
    if (fd < 0) {
        return status_from_errno(errno);
    }
    enum status s = read_fd(fd, offset, out, len, got);
    (void)close(fd);
    return s;
}

/* At once: nothing here runs beside its caller. */
static void file_fetch(struct env_file *f, uint64_t offset, void *out,
                       size_t len, struct env_io *io)
{
    size_t got = 0;
    enum status s = file_read(f, offset, out, len, &got);
    io->done(io, s == ST_OK && got < len ? ST_CORRUPT : s);
}

static int is_ours(const struct dirent *d)
{
    return d->d_name[0] != '.' && d->d_type != DT_DIR &&
           strcmp(d->d_name, "lock") != 0 && strlen(d->d_name) < 100;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static enum status dir_list(struct env *e, const char *folder,
                            void (*fn)(void *ctx, const char *name), void *ctx)
{
    struct dirent **list;
    const char *name = folder[0] == '\0' ? "." : folder;
    int fd = open_at(of(e)->dir_fd, name, O_DIRECTORY);
    if (fd < 0) {
        return status_from_errno(errno);
    }
    int count = scandirat(fd, ".", &list, is_ours, by_name);
    enum status s = count < 0 ? status_from_errno(errno) : ST_OK;
    (void)close(fd);
    for (int i = 0; i < count; i++) {
        fn(ctx, list[i]->d_name);
        free(list[i]);
    }
    if (s == ST_OK) {
        free(list);
    }
    return s;
}

/* ---- writing: nothing ---- */

static enum status no_folder(struct env *e, const char *folder)
{
    (void)e;
    (void)folder;
    return ST_OK;
}

static enum status no_put(struct env *e, const char *name,
                          struct slice contents)
{
    (void)e;
    (void)name;
    (void)contents;
    return ST_OK;
}

static enum status no_allocate(struct env_file *f, uint64_t size)
{
    (void)f;
    (void)size;
    return ST_OK;
}

static enum status no_write_now(struct env_file *f, uint64_t offset,
                                struct slice data)
{
    (void)f;
    (void)offset;
    (void)data;
    return ST_OK;
}

static enum status no_sync(struct env_file *f)
{
    (void)f;
    return ST_OK;
}

static void no_write(struct env_file *f, uint64_t offset, struct slice data,
                     bool sync, struct env_io *io)
{
    (void)f;
    (void)offset;
    (void)data;
    (void)sync;
    (void)io;
}

static void no_publish(struct env *e, const char *from, const char *to,
                       struct env_io *io)
{
    (void)e;
    (void)from;
    (void)to;
    (void)io;
}

static void no_remove(struct env *e, const char *name, struct env_io *io)
{
    (void)e;
    (void)name;
    (void)io;
}

static enum status disk_free(struct env *e, uint64_t *out)
{
    (void)e;
    *out = INT64_MAX;
    return ST_OK;
}

/* Without the network: nobody who only recovers asks for it. */
static const struct env_ops ops = {
    .now_us = now_us,
    .wall_ms = wall_ms,
    .random = no_random,
    .timer_start = timer_start,
    .timer_stop = timer_stop,
    .file_open = file_open,
    .file_close = file_close,
    .file_size = file_size,
    .file_read = file_read,
    .dir_list = dir_list,
    .dir_make = no_folder,
    .file_put = no_put,
    .file_allocate = no_allocate,
    .file_write_now = no_write_now,
    .file_sync_now = no_sync,
    .file_write = no_write,
    .file_fetch = file_fetch,
    .file_publish = no_publish,
    .file_remove = no_remove,
    .disk_free = disk_free,
    .work = env_work_now,
    .work_wait = env_work_done,
};

/* ---- life ---- */

enum status readonly_env_open(const char *dir, struct log *log,
                              struct env **out, struct err *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        int e = errno;
        return err_set(err, status_from_errno(e), "%s: %s", dir, strerror(e));
    }
    struct readonly_env *r = xcalloc(1, sizeof(*r));
    r->env.ops = &ops;
    r->env.log = log;
    r->dir_fd = fd;
    *out = &r->env;
    return ST_OK;
}

bool readonly_env_in_use(struct env *e, long *pid)
{
    char who[32] = "";
    int fd = open_at(of(e)->dir_fd, "lock", 0);
    *pid = 0;
    if (fd < 0) {
        return false;
    }
    bool taken = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (taken && pread(fd, who, sizeof(who) - 1, 0) > 0) {
        *pid = strtol(who, NULL, 10);
    }
    (void)close(fd); /* gives the lock back */
    return taken;
}

void readonly_env_end(struct env *e)
{
    of(e)->ended = true;
}

void readonly_env_close(struct env *e)
{
    if (e != NULL) {
        (void)close(of(e)->dir_fd);
        free(of(e));
    }
}
