/*
 * The libuv env's blocking file operations: for start-up, recovery and reads.
 *
 * ENV_MEDIUM reads use a second descriptor with O_DIRECT and an aligned
 * buffer, so that what is read is what the medium holds, and not what the page
 * cache kept of a write that failed (R16). Where the file system cannot, they
 * go through the page cache, and one line in the log says so.
 */
#include <config.h> /* _GNU_SOURCE: O_DIRECT, fallocate */

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/env_uv_impl.h"

#define MEDIUM_ALIGN KIB(4)
#define MEDIUM_CHUNK MIB(1)
#define TEMP_PREFIX ".new-"

/* ---- files ---- */

static void medium_missing(struct env_uv *u, const char *name)
{
    if (!u->disk.told_medium) {
        u->disk.told_medium = true;
        log_warn(u->env.log, "disk", "no-direct-reads",
                 "name=%s why=\"%s\" effect=\"reads of recovery go through "
                 "the page cache\"",
                 log_quote(slice_of(name)), strerror(errno));
    }
}

static int open_medium(struct env_uv *u, int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0) {
        medium_missing(u, name);
    }
    return fd;
}

static int open_flags(unsigned flags)
{
    int how = (flags & ENV_READONLY) != 0 ? O_RDONLY : O_RDWR;
    how |= (flags & ENV_CREATE) != 0 ? O_CREAT : 0;
    how |= (flags & ENV_EXCL) != 0 ? O_EXCL : 0;
    return how | O_CLOEXEC;
}

enum status env_uv_file_open(struct env *e, const char *name, unsigned flags,
                             struct env_file **out)
{
    struct env_uv *u = env_uv_of(e);
    int dir = env_uv_dir_of(u, name);
    bool seldom = (flags & ENV_SELDOM) != 0;
    assert(!seldom || flags == ENV_SELDOM);
    int fd = seldom ? -1 : openat(dir, name, open_flags(flags), 0600);
    if (fd < 0 && !seldom) {
        return env_uv_disk_counted(u, status_from_errno(errno));
    }
    if ((flags & ENV_CREATE) != 0 && (flags & ENV_TEMPORARY) == 0) {
        enum status s = env_uv_disk_counted(u, env_uv_sync_folder(dir, name));
        if (s != ST_OK) {
            (void)close(fd);
            return s;
        }
    }
    struct env_file *f = xcalloc(1, sizeof(*f));
    f->u = u;
    f->fd = fd;
    f->medium_fd = (flags & ENV_MEDIUM) != 0 ? open_medium(u, dir, name) : -1;
    f->direct_fd = -1;
    if ((flags & ENV_DIRECT) != 0) { /* it can be done without */
        f->direct_fd = openat(dir, name, O_WRONLY | O_DIRECT | O_CLOEXEC);
    }
    f->seldom = seldom;
    f->ahead = (flags & ENV_AHEAD) != 0;
    if (f->ahead && f->medium_fd < 0) {
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    }
    f->name = xstrdup(name);
    TAILQ_INIT(&f->ops);
    TAILQ_INSERT_TAIL(&u->disk.files, f, link);
    env_uv_hold(u);
    *out = f;
    return ST_OK;
}

void env_uv_file_free(struct env_file *f)
{
    struct env_uv *u = f->u;
    TAILQ_REMOVE(&u->disk.files, f, link);
    env_uv_ahead_forget(u->disk.ahead, f);
    env_uv_seldom_close(f);
    if (f->fd >= 0) {
        (void)close(f->fd);
    }
    if (f->medium_fd >= 0) {
        (void)close(f->medium_fd);
    }
    if (f->direct_fd >= 0) {
        (void)close(f->direct_fd);
    }
    free(f->name);
    free(f);
    env_uv_release(u);
}

void env_uv_file_close(struct env_file *f)
{
    assert(!f->closing);
    f->closing = true;
    if (!env_uv_file_busy(f)) {
        env_uv_file_free(f);
    }
}

enum status env_uv_file_size(struct env_file *f, uint64_t *out)
{
    struct stat st;
    enum status s = env_uv_seldom_open(f);
    if (s != ST_OK) {
        return s;
    }
    if (fstat(f->fd, &st) != 0) {
        return env_uv_disk_counted(f->u, status_from_errno(errno));
    }
    *out = (uint64_t)st.st_size;
    return ST_OK;
}

/* ---- reading ---- */

static ssize_t pread_again(int fd, void *out, size_t len, uint64_t offset)
{
    ssize_t n;
    do {
        n = pread(fd, out, len, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* Both readers: -1 with errno, else bytes read, short only at the end. */
static ssize_t read_cached(struct env_file *f, uint64_t offset, uint8_t *out,
                           size_t len)
{
    size_t got = 0;
    while (got < len) {
        ssize_t n = pread_again(f->fd, out + got, len - got, offset + got);
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        got += (size_t)n;
    }
    return (ssize_t)got;
}

static ssize_t read_medium(struct env_file *f, uint64_t offset, uint8_t *out,
                           size_t len)
{
    struct disk *d = &f->u->disk;
    size_t got = 0;
    if (f->ahead) {
        return env_uv_ahead_read(f, offset, out, len);
    }
    if (d->bounce == NULL) {
        d->bounce = aligned_alloc(MEDIUM_ALIGN, MEDIUM_CHUNK);
        assert(d->bounce != NULL);
    }
    while (got < len) {
        uint64_t start = (offset + got) / MEDIUM_ALIGN * MEDIUM_ALIGN;
        size_t skip = (size_t)(offset + got - start);
        size_t want = skip + (len - got) + MEDIUM_ALIGN - 1;
        want = want / MEDIUM_ALIGN * MEDIUM_ALIGN;
        want = want < MEDIUM_CHUNK ? want : MEDIUM_CHUNK;
        ssize_t n = pread_again(f->medium_fd, d->bounce, want, start);
        if (n < 0) {
            return -1;
        }
        if ((size_t)n <= skip) {
            break;
        }
        size_t take = (size_t)n - skip;
        take = take < len - got ? take : len - got;
        memcpy(out + got, d->bounce + skip, take);
        got += take;
        if ((size_t)n % MEDIUM_ALIGN != 0) {
            break; /* only the end of a file is not aligned */
        }
    }
    return (ssize_t)got;
}

enum status env_uv_file_read(struct env_file *f, uint64_t offset, void *out,
                             size_t len, size_t *got)
{
    enum status s = env_uv_seldom_open(f);
    if (s != ST_OK) {
        return s;
    }
    env_uv_seldom_used(f);
    ssize_t n = f->medium_fd >= 0 ? read_medium(f, offset, out, len)
                                  : read_cached(f, offset, out, len);
    if (n < 0 && f->medium_fd >= 0 && errno == EINVAL) {
        /* Some file systems open with O_DIRECT and then refuse to read. */
        medium_missing(f->u, f->name);
        env_uv_ahead_forget(f->u->disk.ahead, f);
        (void)close(f->medium_fd);
        f->medium_fd = -1;
        n = read_cached(f, offset, out, len);
    }
    if (n < 0) {
        return env_uv_disk_counted(f->u, status_from_errno(errno));
    }
    *got = (size_t)n;
    return ST_OK;
}

/* ---- writing ---- */

enum status env_uv_file_sync_now(struct env_file *f)
{
    assert(TAILQ_EMPTY(&f->ops));
    if (f->sync_failed) {
        return ST_IO;
    }
    count_add(&f->u->counters.disk_syncs, 1);
    uint64_t began = uv_hrtime();
    enum status s = env_uv_disk_counted(f->u, env_uv_fdatasync(f->fd));
    if (s != ST_OK) {
        env_uv_sync_failed(f);
        return s;
    }
    metric_add_us(&f->u->disk.sync_times,
                  (int64_t)(uv_hrtime() - began) / 1000);
    return ST_OK;
}

enum status env_uv_file_write_now(struct env_file *f, uint64_t offset,
                                  struct slice data)
{
    assert(TAILQ_EMPTY(&f->ops)); /* it would overtake them */
    if (f->sync_failed) {
        return ST_IO;
    }
    count_add(&f->u->counters.disk_writes, 1);
    count_add(&f->u->counters.disk_bytes, data.len);
    enum status s =
        env_uv_disk_counted(f->u, env_uv_pwrite(f->fd, offset, data));
    return s == ST_OK ? env_uv_file_sync_now(f) : s;
}

static enum status write_zeros(int fd, uint64_t from, uint64_t to)
{
    size_t chunk = MIB(1);
    uint8_t *zeros = xcalloc(1, chunk);
    enum status s = ST_OK;
    while (from < to && s == ST_OK) {
        size_t n = to - from < chunk ? (size_t)(to - from) : chunk;
        s = env_uv_pwrite(fd, from, slice_make(zeros, n));
        from += n;
    }
    free(zeros);
    return s;
}

/* fallocate() first: a disk that is too full says so before anything is
 * written; where it is not supported, the zeros find out. */
enum status env_uv_file_allocate(struct env_file *f, uint64_t size)
{
    uint64_t old;
    enum status s = env_uv_file_size(f, &old);
    if (s != ST_OK || old >= size) {
        return s;
    }
    if (f->sync_failed) {
        return ST_IO;
    }
    if (fallocate(f->fd, 0, (off_t)old, (off_t)(size - old)) != 0 &&
        errno != EOPNOTSUPP && errno != EINTR) {
        s = status_from_errno(errno);
    }
    if (s == ST_OK) {
        s = write_zeros(f->fd, old, size);
    }
    if (s == ST_OK) {
        return env_uv_file_sync_now(f);
    }
    if (ftruncate(f->fd, (off_t)old) != 0) {
        s = ST_IO;
    }
    return env_uv_disk_counted(f->u, s);
}

static enum status put_temp(int dir, const char *temp, struct slice contents)
{
    int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return status_from_errno(errno);
    }
    enum status s = env_uv_pwrite(fd, 0, contents);
    if (s == ST_OK && fsync(fd) != 0) {
        s = ST_IO;
    }
    if (close(fd) != 0 && s == ST_OK) {
        s = ST_IO;
    }
    return s;
}

enum status env_uv_file_put(struct env *e, const char *name,
                            struct slice contents)
{
    struct env_uv *u = env_uv_of(e);
    int dir = env_uv_dir_of(u, name);
    struct buf temp = {0};
    const char *slash = strchr(name, '/');
    size_t folder = slash == NULL ? 0 : (size_t)(slash - name) + 1;
    buf_printf(&temp, "%.*s" TEMP_PREFIX "%s", (int)folder, name,
               name + folder);
    enum status s = put_temp(dir, buf_cstr(&temp), contents);
    if (s == ST_OK) {
        s = env_uv_rename(dir, buf_cstr(&temp), name);
    } else {
        (void)unlinkat(dir, buf_cstr(&temp), 0);
    }
    buf_free(&temp);
    return env_uv_disk_counted(u, s);
}

/* ---- folders ---- */

static bool is_file(int fd, const struct dirent *d)
{
    struct stat st;
    if (d->d_name[0] == '.' || strcmp(d->d_name, ENV_UV_LOCK_NAME) == 0) {
        return false;
    }
    if (d->d_type != DT_UNKNOWN) {
        return d->d_type == DT_REG;
    }
    return fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st.st_mode);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
    char **list;
    size_t count, cap;
};

static void names_add(struct names *n, const char *name)
{
    if (n->count == n->cap) {
        n->cap = n->cap == 0 ? 64 : 2 * n->cap;
        n->list = xrealloc(n->list, n->cap * sizeof(*n->list));
    }
    n->list[n->count++] = xstrdup(name);
}

static enum status names_read(int fd, struct names *out)
{
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        enum status s = status_from_errno(errno);
        (void)close(fd);
        return s;
    }
    struct dirent *d;
    errno = 0;
    while ((d = readdir(dir)) != NULL) {
        if (is_file(dirfd(dir), d)) {
            names_add(out, d->d_name);
        }
        errno = 0;
    }
    enum status s = errno == 0 ? ST_OK : status_from_errno(errno);
    (void)closedir(dir);
    return s;
}

enum status env_uv_dir_list(struct env *e, const char *folder,
                            void (*fn)(void *ctx, const char *name), void *ctx)
{
    struct env_uv *u = env_uv_of(e);
    bool top = folder[0] == '\0';
    int dir = env_uv_dir_of(u, top ? "top" : folder);
    struct names names = {0};
    int fd =
        openat(dir, top ? "." : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return env_uv_disk_counted(u, status_from_errno(errno));
    }
    enum status s = names_read(fd, &names);
    if (names.count > 0) {
        qsort(names.list, names.count, sizeof(*names.list), by_name);
    }
    for (size_t i = 0; i < names.count; i++) {
        if (s == ST_OK) {
            fn(ctx, names.list[i]);
        }
        free(names.list[i]);
    }
    free(names.list);
    return env_uv_disk_counted(u, s);
}

enum status env_uv_dir_make(struct env *e, const char *folder)
{
    struct env_uv *u = env_uv_of(e);
    int dir = env_uv_dir_of(u, folder);
    if (mkdirat(dir, folder, 0700) != 0 && errno != EEXIST) {
        return env_uv_disk_counted(u, status_from_errno(errno));
    }
    return env_uv_disk_counted(u, env_uv_sync_folder(dir, folder));
}

enum status env_uv_disk_left(struct env *e, uint64_t *out)
{
    struct env_uv *u = env_uv_of(e);
    struct statvfs st;
    assert(u->disk.dir_fd >= 0);
    if (fstatvfs(u->disk.dir_fd, &st) != 0) {
        return env_uv_disk_counted(u, status_from_errno(errno));
    }
    *out = (uint64_t)st.f_bavail * (uint64_t)st.f_frsize;
    return ST_OK;
}
