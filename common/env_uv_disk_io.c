/*
 * The libuv env's disk: the data directory, and the pieces that the blocking
 * (env_uv_file_io.c) and the queued operations (env_uv_queue_io.c) share.
 *
 * All names are relative to the data directory's descriptor, which stays the
 * same directory whatever happens to its name. The directory belongs to this
 * env by a flock on its file "lock". Files are made with mode 0600 and are
 * in their directory durably before file_open() returns.
 *
 * Durability: a failed fdatasync or fsync may have lost what it was to write,
 * and a second one would say that all is well. So after one failure a file
 * takes no more writes and no syncs (R18): they fail at once. A failed sync is
 * always ST_IO; ST_NO_SPACE only ever means that a write did not fit.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/env_uv_impl.h"

#define NAME_MAX_LEN 250
/* A disk is taken for slow until it shows that it is not. */
#define SYNC_US_UNKNOWN 5000

/* ---- pieces, any thread ---- */

enum status env_uv_pwrite(int fd, uint64_t offset, struct slice data)
{
    while (data.len > 0) {
        ssize_t n = pwrite(fd, data.data, data.len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? ST_IO : status_from_errno(errno);
        }
        offset += (uint64_t)n;
        data = slice_make(data.data + n, data.len - (size_t)n);
    }
    return ST_OK;
}

enum status env_uv_fdatasync(int fd)
{
    return fdatasync(fd) == 0 ? ST_OK : ST_IO;
}

/* The folder of NAME, opened to be synced; -1 with errno. */
static int open_folder(int dir_fd, const char *name)
{
    char folder[NAME_MAX_LEN + 1] = ".";
    const char *slash = strchr(name, '/');
    if (slash != NULL) {
        size_t len = (size_t)(slash - name);
        assert(len <= NAME_MAX_LEN);
        memcpy(folder, name, len);
        folder[len] = '\0';
    }
    return openat(dir_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

enum status env_uv_sync_folder(int dir_fd, const char *name)
{
    int fd = open_folder(dir_fd, name);
    if (fd < 0) {
        return status_from_errno(errno);
    }
    enum status s = fsync(fd) == 0 ? ST_OK : ST_IO;
    (void)close(fd);
    return s;
}

static bool same_folder(const char *a, const char *b)
{
    const char *x = strchr(a, '/'), *y = strchr(b, '/');
    if (x == NULL || y == NULL) {
        return x == y;
    }
    return x - a == y - b && memcmp(a, b, (size_t)(x - a)) == 0;
}

enum status env_uv_rename(int dir_fd, const char *from, const char *to)
{
    if (renameat(dir_fd, from, dir_fd, to) != 0) {
        return status_from_errno(errno);
    }
    enum status s = env_uv_sync_folder(dir_fd, to);
    if (s == ST_OK && !same_folder(from, to)) {
        s = env_uv_sync_folder(dir_fd, from);
    }
    return s;
}

enum status env_uv_unlink(int dir_fd, const char *name)
{
    if (unlinkat(dir_fd, name, 0) != 0) {
        return status_from_errno(errno);
    }
    return env_uv_sync_folder(dir_fd, name);
}

/* ---- the data directory ---- */

static enum status dir_failed(const char *what, const char *dir,
                              struct err *err)
{
    int e = errno;
    return err_set(err, status_from_errno(e), "%s data directory %s: %s", what,
                   dir, strerror(e));
}

static enum status open_dir(const char *dir, int *out, struct err *err)
{
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return dir_failed("cannot make", dir, err);
    }
    *out = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *out < 0 ? dir_failed("cannot open", dir, err) : ST_OK;
}

/* The file says who holds the lock, for people. */
static enum status lock_dir(int dir_fd, const char *dir, int *out,
                            struct err *err)
{
    char who[32] = "";
    int fd =
        openat(dir_fd, ENV_UV_LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return dir_failed("cannot lock", dir, err);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        bool taken = errno == EWOULDBLOCK;
        enum status s = dir_failed("cannot lock", dir, err);
        if (taken) {
            ssize_t n = pread(fd, who, sizeof(who) - 1, 0);
            who[n > 0 ? strspn(who, "0123456789") : 0] = '\0';
            s = err_set(err, ST_IN_USE,
                        "data directory %s is in use by process %s", dir,
                        who[0] == '\0' ? "?" : who);
        }
        (void)close(fd);
        return s;
    }
    (void)snprintf(who, sizeof(who), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || env_uv_pwrite(fd, 0, slice_of(who)) != ST_OK) {
        /* A full disk must not keep the store from starting. */
        who[0] = '\0';
    }
    *out = fd;
    return ST_OK;
}

enum status env_uv_disk_init(struct env_uv *u, const char *data_dir,
                             struct err *err)
{
    struct disk *d = &u->disk;
    d->dir_fd = d->lock_fd = -1;
    TAILQ_INIT(&d->files);
    TAILQ_INIT(&d->seldom);
    TAILQ_INIT(&d->names);
    TAILQ_INIT(&d->fetches);
    TAILQ_INIT(&d->done);
    d->sync_us = SYNC_US_UNKNOWN;
    if (data_dir == NULL) {
        return ST_OK;
    }
    enum status s = open_dir(data_dir, &d->dir_fd, err);
    if (s != ST_OK) {
        return s;
    }
    s = lock_dir(d->dir_fd, data_dir, &d->lock_fd, err);
    if (s != ST_OK) {
        (void)close(d->dir_fd);
    }
    return s;
}

void env_uv_disk_at_rest(struct env_uv *u)
{
    struct env_file *f, *next;
    env_uv_syncer_fini(u);
    for (f = TAILQ_FIRST(&u->disk.files); f != NULL; f = next) {
        next = TAILQ_NEXT(f, link);
        if (!f->closing) {
            env_uv_file_close(f);
        }
    }
}

void env_uv_disk_fini(struct env_uv *u)
{
    env_uv_queue_fini(u);
    if (u->disk.under_way == 0) {
        env_uv_disk_at_rest(u);
    }
}

void env_uv_disk_free(struct env_uv *u)
{
    struct disk *d = &u->disk;
    free(d->bounce);
    env_uv_ahead_free(d->ahead);
    if (d->dir_fd >= 0) {
        (void)close(d->lock_fd); /* lets the lock go */
        (void)close(d->dir_fd);
    }
}

/* Names come from our own code: flat, or one folder deep. */
int env_uv_dir_of(struct env_uv *u, const char *name)
{
    const char *slash = strchr(name, '/');
    assert(u->disk.dir_fd >= 0);
    assert(name[0] != '\0' && name[0] != '.' && name[0] != '/');
    assert(slash == NULL || (slash[1] != '\0' && slash[1] != '.' &&
                             strchr(slash + 1, '/') == NULL));
    assert(strlen(name) <= NAME_MAX_LEN);
    return u->disk.dir_fd;
}

enum status env_uv_disk_counted(struct env_uv *u, enum status s)
{
    if (s == ST_IO || s == ST_NO_SPACE) {
        count_add(&u->counters.disk_errors, 1);
    }
    return s;
}

void env_uv_sync_failed(struct env_file *f)
{
    f->sync_failed = true;
    log_error(f->u->env.log, "disk", "sync-failed",
              "name=%s effect=\"nothing more is written to it\"",
              log_quote(slice_of(f->name)));
}
