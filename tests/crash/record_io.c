#include <config.h> /* _GNU_SOURCE: O_DIRECTORY, fallocate */

#include "tests/crash/record_io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/env.h"
#include "tests/crash/fault_io.h"

#define FDS 65536

static struct {
    int fd;
    const char *dir;
    const char *plant;
    pthread_mutex_t lock;   /* of the trace's order */
    pthread_rwlock_t calls; /* held by who is within a call */
    uint8_t kinds[FDS];     /* of descriptors: 0, or 1 + flags */
    uint32_t last_id;
    sem_t die; /* or read the faults anew */
} rec = {.fd = -1,
         .lock = PTHREAD_MUTEX_INITIALIZER,
         .calls = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP};

ssize_t __real_pwrite(int fd, const void *data, size_t len, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t offset);
ssize_t __real_pread(int fd, void *to, size_t len, off_t offset);
ssize_t __wrap_pread(int fd, void *to, size_t len, off_t offset);
ssize_t __real_preadv2(int fd, const struct iovec *v, int count, off_t offset,
                       int flags);
ssize_t __wrap_preadv2(int fd, const struct iovec *v, int count, off_t offset,
                       int flags);
void __real_exit(int code) __attribute__((noreturn));
void __wrap_exit(int code) __attribute__((noreturn));
void __real__exit(int code) __attribute__((noreturn));
void __wrap__exit(int code) __attribute__((noreturn));
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __real_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
int __real_renameat(int a, const char *from, int b, const char *to);
int __wrap_renameat(int a, const char *from, int b, const char *to);
int __real_unlinkat(int dir, const char *name, int flags);
int __wrap_unlinkat(int dir, const char *name, int flags);
int __real_mkdirat(int dir, const char *name, mode_t mode);
int __wrap_mkdirat(int dir, const char *name, mode_t mode);
int __real_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size);
int __real_fallocate(int fd, int mode, off_t from, off_t len);
int __wrap_fallocate(int fd, int mode, off_t from, off_t len);

/* ---- writing the trace ---- */

static void put(struct trace_head h, const void *data, size_t len)
{
    h.magic = TRACE_MAGIC;
    h.len = len;
    struct iovec v[2] = {{&h, sizeof(h)}, {(void *)(uintptr_t)data, len}};
    ssize_t n = writev(rec.fd, v, len > 0 ? 2 : 1);
    if (n != (ssize_t)(sizeof(h) + len)) {
        abort(); /* the test is worth nothing */
    }
}

static void put_locked(struct trace_head h, const void *data, size_t len)
{
    (void)pthread_mutex_lock(&rec.lock);
    put(h, data, len);
    (void)pthread_mutex_unlock(&rec.lock);
}

void record_note(enum trace_kind kind, const void *data, size_t len)
{
    if (rec.fd >= 0) {
        put_locked((struct trace_head){.kind = kind}, data, len);
    }
}

static uint32_t next_id(void)
{
    return __atomic_add_fetch(&rec.last_id, 1, __ATOMIC_RELAXED);
}

static volatile sig_atomic_t dying;

static void die(void)
{
    (void)pthread_rwlock_wrlock(&rec.calls);
    (void)pthread_mutex_lock(&rec.lock);
    (void)kill(getpid(), SIGKILL);
    for (;;) {
        (void)pause();
    }
}

static void *reaper(void *arg)
{
    (void)arg;
    while (!dying) {
        if (sem_wait(&rec.die) == 0 && !dying) {
            fault_read();
        }
    }
    die();
    return NULL;
}

static void on_signal(int number)
{
    dying = dying || number == SIGUSR1;
    (void)sem_post(&rec.die);
}

void record_begin(void)
{
    const char *path = getenv("PENN_CRASH_TRACE");
    const char *plant = getenv("PENN_CRASH_PLANT");
    char name[4096];
    pthread_t thread;
    rec.dir = getenv("PENN_CRASH_DIR");
    rec.plant = plant == NULL ? "" : plant;
    if (path == NULL || rec.dir == NULL) {
        fprintf(stderr, "PENN_CRASH_TRACE and PENN_CRASH_DIR are not set\n");
        exit(2);
    }
    for (unsigned i = 0; rec.fd < 0 && i < 64; i++) {
        (void)snprintf(name, sizeof(name), "%s.%u", path, i);
        rec.fd =
            __real_open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    /* The daemon's signals are not the reaper's to take, and its own is
     * nobody else's. */
    sigset_t all, had;
    (void)sem_init(&rec.die, 0, 0);
    (void)sigfillset(&all);
    (void)sigdelset(&all, SIGUSR1);
    (void)sigdelset(&all, SIGUSR2);
    (void)pthread_sigmask(SIG_SETMASK, &all, &had);
    bool good = rec.fd >= 0 && pthread_create(&thread, NULL, reaper, NULL) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &had, NULL);
    if (!good || signal(SIGUSR1, on_signal) == SIG_ERR ||
        signal(SIGUSR2, on_signal) == SIG_ERR) {
        perror(path);
        exit(2);
    }
    fault_on_kill(die);
    fault_read();
    put_locked((struct trace_head){.kind = TRACE_START}, NULL, 0);
}

static bool plants(const char *what)
{
    return strcmp(rec.plant, what) == 0;
}

/* ---- descriptors ---- */

static bool traced(int fd)
{
    return rec.fd >= 0 && fd >= 0 && fd < FDS && rec.kinds[fd] != 0;
}

static bool is_folder(int fd)
{
    return traced(fd) && ((rec.kinds[fd] - 1u) & TRACE_FOLDER) != 0;
}

static void forget(int fd)
{
    if (fd >= 0 && fd < FDS) {
        rec.kinds[fd] = 0;
        fault_name(fd, "");
    }
}

static mode_t mode_of(int flags, va_list args)
{
    return (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
}

int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    (void)pthread_mutex_lock(&rec.lock);
    int fd = __real_open(path, flags, mode);
    forget(fd);
    if (fd >= 0 && fd < FDS && rec.fd >= 0 && strcmp(path, rec.dir) == 0) {
        fault_name(fd, ".");
        rec.kinds[fd] = 1 + TRACE_FOLDER;
        put((struct trace_head){.kind = TRACE_OPEN,
                                .fd = fd,
                                .of = TRACE_ROOT,
                                .flags = TRACE_FOLDER},
            ".", 1);
    }
    (void)pthread_mutex_unlock(&rec.lock);
    return fd;
}

int __wrap_openat(int dir, const char *path, int flags, ...)
{
    va_list args;
    struct stat st;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    if (fault_path("open", dir, path)) {
        return -1;
    }
    (void)pthread_rwlock_rdlock(&rec.calls);
    (void)pthread_mutex_lock(&rec.lock);
    bool known = is_folder(dir),
         there = !known || fstatat(dir, path, &st, 0) == 0;
    int fd = __real_openat(dir, path, flags, mode);
    forget(fd);
    if (fd >= 0 && fd < FDS && known && fstat(fd, &st) == 0) {
        struct trace_head h = {.kind = TRACE_OPEN, .fd = fd, .of = dir};
        h.flags |= there ? 0 : TRACE_CREATED;
        h.flags |= S_ISDIR(st.st_mode) ? TRACE_FOLDER : 0;
        h.flags |= (flags & O_TRUNC) != 0 ? TRACE_EMPTIED : 0;
        rec.kinds[fd] = (uint8_t)(1 + h.flags);
        fault_name(fd, path);
        put(h, path, strlen(path));
    }
    (void)pthread_mutex_unlock(&rec.lock);
    (void)pthread_rwlock_unlock(&rec.calls);
    return fd;
}

/* ---- contents ---- */

static bool all_zeros(const uint8_t *p, size_t len)
{
    return len > 0 && p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t offset)
{
    if (!traced(fd)) {
        return __real_pwrite(fd, data, len, offset);
    }
    if (fault_fd("pwrite", fd)) {
        return -1;
    }
    len = fault_half(fd, len);
    size_t told = len;
    if (plants("short-write") && len > 1024 && !all_zeros(data, len)) {
        len = len / 2;
    }
    (void)pthread_rwlock_rdlock(&rec.calls);
    uint32_t id = next_id();
    put_locked((struct trace_head){.kind = TRACE_WRITE,
                                   .fd = fd,
                                   .id = id,
                                   .offset = (uint64_t)offset,
                                   .size = len},
               data, all_zeros(data, len) ? 0 : len);
    ssize_t n = __real_pwrite(fd, data, len, offset);
    int e = errno;
    put_locked((struct trace_head){.kind = TRACE_WRITTEN,
                                   .id = id,
                                   .size = n < 0 ? 0 : (uint64_t)n},
               NULL, 0);
    (void)pthread_rwlock_unlock(&rec.calls);
    errno = e;
    return n == (ssize_t)len ? (ssize_t)told : n;
}

ssize_t __wrap_pread(int fd, void *to, size_t len, off_t offset)
{
    return fault_fd("pread", fd) ? -1 : __real_pread(fd, to, len, offset);
}

ssize_t __wrap_preadv2(int fd, const struct iovec *v, int count, off_t offset,
                       int flags)
{
    return fault_fd("pread", fd) ? -1
                                 : __real_preadv2(fd, v, count, offset, flags);
}

static bool is_root(int fd)
{
    struct stat a, b;
    return is_folder(fd) && fstat(fd, &a) == 0 && stat(rec.dir, &b) == 0 &&
           a.st_ino == b.st_ino;
}

static bool leaves_out(int fd, bool data)
{
    return (plants("no-root-sync") && is_root(fd)) ||
           (plants("no-shard-sync") && is_folder(fd) && !is_root(fd)) ||
           (plants("no-sync") && data) ||
           (plants("no-publish-sync") && !data && !is_folder(fd));
}

static int sync_it(int fd, int (*call)(int fd), bool data)
{
    if (!traced(fd)) {
        return call(fd);
    }
    if (leaves_out(fd, data)) {
        return 0;
    }
    if (fault_fd(data ? "fdatasync" : "fsync", fd)) {
        return -1;
    }
    (void)pthread_rwlock_rdlock(&rec.calls);
    uint32_t id = next_id();
    put_locked((struct trace_head){.kind = TRACE_SYNC, .fd = fd, .id = id},
               NULL, 0);
    int n = call(fd);
    int e = errno;
    put_locked(
        (struct trace_head){.kind = TRACE_SYNCED, .id = id, .size = n == 0},
        NULL, 0);
    (void)pthread_rwlock_unlock(&rec.calls);
    errno = e;
    return n;
}

int __wrap_fdatasync(int fd)
{
    return sync_it(fd, __real_fdatasync, true);
}

int __wrap_fsync(int fd)
{
    return sync_it(fd, __real_fsync, false);
}

/* ---- the end: no call is under way then ---- */

void __wrap_exit(int code)
{
    (void)pthread_rwlock_wrlock(&rec.calls);
    __real_exit(code);
}

void __wrap__exit(int code)
{
    (void)pthread_rwlock_wrlock(&rec.calls);
    __real__exit(code);
}

/* ---- names and sizes: at one instant, as the trace has them ---- */

static void begin_call(void)
{
    (void)pthread_rwlock_rdlock(&rec.calls);
    (void)pthread_mutex_lock(&rec.lock);
}

static void end_call(void)
{
    int e = errno;
    (void)pthread_mutex_unlock(&rec.lock);
    (void)pthread_rwlock_unlock(&rec.calls);
    errno = e;
}

int __wrap_renameat(int a, const char *from, int b, const char *to)
{
    char both[1024];
    if (fault_path("rename", a, to)) {
        return -1;
    }
    begin_call();
    int n = __real_renameat(a, from, b, to);
    if (n == 0 && is_folder(a)) {
        int len = snprintf(both, sizeof(both), "%s%c%s", from, 0, to);
        assert(a == b && len > 0 && (size_t)len < sizeof(both));
        put((struct trace_head){.kind = TRACE_RENAME, .of = a}, both,
            (size_t)len);
    }
    end_call();
    return n;
}

int __wrap_unlinkat(int dir, const char *name, int flags)
{
    if (fault_path("unlink", dir, name)) {
        return -1;
    }
    begin_call();
    int n = __real_unlinkat(dir, name, flags);
    if (n == 0 && is_folder(dir)) {
        put((struct trace_head){.kind = TRACE_UNLINK, .of = dir}, name,
            strlen(name));
    }
    end_call();
    return n;
}

int __wrap_mkdirat(int dir, const char *name, mode_t mode)
{
    if (fault_path("mkdir", dir, name)) {
        return -1;
    }
    begin_call();
    int n = __real_mkdirat(dir, name, mode);
    if (n == 0 && is_folder(dir)) {
        put((struct trace_head){.kind = TRACE_MKDIR, .of = dir}, name,
            strlen(name));
    }
    end_call();
    return n;
}

static void put_size(int fd)
{
    struct stat st;
    if (traced(fd) && fstat(fd, &st) == 0) {
        put((struct trace_head){.kind = TRACE_RESIZE,
                                .fd = fd,
                                .size = (uint64_t)st.st_size},
            NULL, 0);
    }
}

int __wrap_ftruncate(int fd, off_t size)
{
    if (fault_fd("ftruncate", fd)) {
        return -1;
    }
    begin_call();
    int n = __real_ftruncate(fd, size);
    put_size(fd);
    end_call();
    return n;
}

int __wrap_fallocate(int fd, int mode, off_t from, off_t len)
{
    if (fault_fd("fallocate", fd)) {
        return -1;
    }
    begin_call();
    int n = __real_fallocate(fd, mode, from, len);
    put_size(fd);
    end_call();
    return n;
}

/* ---- what is said ---- */

/* One table for all envs of the process, which have one in common. */
static struct {
    struct env_ops ops;
    const struct env_ops *real;
    void (*heard)(const struct wire_msg *m);
} tap;

static void tapped_send(struct env_conn *c, struct slice frames)
{
    struct slice rest = frames;
    while (rest.len >= WIRE_HEADER) {
        struct wire_header h;
        struct wire_msg m;
        struct arena arena = {0};
        enum status st = wire_read_header(rest.data, &h);
        assert(st == ST_OK && rest.len >= WIRE_HEADER + h.length);
        st = wire_decode(slice_make(rest.data, WIRE_HEADER + h.length), &arena,
                         &m);
        assert(st == ST_OK);
        tap.heard(&m);
        arena_free(&arena);
        rest = slice_make(rest.data + WIRE_HEADER + h.length,
                          rest.len - WIRE_HEADER - h.length);
    }
    tap.real->send(c, frames);
}

void record_tap(struct env *e, void (*heard)(const struct wire_msg *m))
{
    assert(tap.real == NULL || tap.real == e->ops);
    tap.real = e->ops;
    tap.ops = *e->ops;
    tap.ops.send = tapped_send;
    tap.heard = heard;
    e->ops = &tap.ops;
}
