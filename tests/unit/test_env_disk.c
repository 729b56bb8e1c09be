/*
 * The real env's disk. Devices stand in for failing disks: a file that is a
 * link to /dev/full has no space, one that is a link to /dev/null takes writes
 * but cannot be synced. The C library's fdatasync() is replaced, so that what
 * is told can be compared with what was asked of the system, and disks can be
 * as quick, slow or broken as a test wants.
 */
#include "common/env_uv_io.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static enum { DISK_REAL, DISK_QUICK, DISK_SLOW, DISK_BROKEN } disk;
static atomic_uint syncs; /* that were asked of the system */

int fdatasync(int fd)
{
    syncs++;
    switch (disk) {
    case DISK_QUICK:
        return 0;
    case DISK_SLOW:
        (void)poll(NULL, 0, 10);
        return 0;
    case DISK_BROKEN:
        errno = EIO;
        return -1;
    case DISK_REAL:
        break;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* Files of this size take as long to sync as a test wants. */
#define HELD_SIZE 12345
static atomic_bool held;

int fsync(int fd)
{
    struct stat st;
    while (held && fstat(fd, &st) == 0 && st.st_size == HELD_SIZE) {
        (void)poll(NULL, 0, 1);
    }
    return (int)syscall(SYS_fsync, fd);
}

static uv_loop_t loop;
static struct env *env;
static char dir[64];
static struct log quiet = {
    .daemon = "test", .node = "test", .level = LOG_LEVEL_PANIC, .fd = -1};

static enum status open_env(struct env **out, struct err *err)
{
    struct env_uv_options o = {.loop = &loop, .log = &quiet, .data_dir = dir};
    return env_uv_open(&o, out, err);
}

static void setup(void)
{
    struct err err = {""};
    snprintf(dir, sizeof(dir), "/tmp/unit_disk.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_msg(open_env(&env, &err) == ST_OK, "%s", err.text);
}

static void remove_all(const char *path)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", "--", path, (char *)NULL);
        _exit(127);
    }
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

static void close_env(void)
{
    env_uv_close(env, NULL, NULL);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    env = NULL;
}

static void teardown(void)
{
    if (env != NULL) {
        close_env();
    }
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    remove_all(dir);
}

/* What operations gave, in the order in which they were done. */
static struct {
    int order[64];
    enum status status[64];
    unsigned count;
    bool in_call;
} done;

struct op {
    struct env_io io;
    int number;
};

static void on_done(struct env_io *io, enum status s)
{
    ck_assert(!done.in_call);
    done.order[done.count] = ((struct op *)(void *)io)->number;
    done.status[done.count++] = s;
}

static struct op ops[64];

static struct env_io *op(int number)
{
    ops[number] = (struct op){.io = {.done = on_done}, .number = number};
    return &ops[number].io;
}

static void run_until(unsigned count)
{
    while (done.count < count) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static struct env_file *file(const char *name, unsigned flags)
{
    struct env_file *f;
    ck_assert_int_eq(env->ops->file_open(env, name, flags, &f), ST_OK);
    return f;
}

static void expect_contents(const char *name, const char *want)
{
    char got[256] = "";
    size_t n;
    struct env_file *f = file(name, ENV_READONLY);
    ck_assert_int_eq(env->ops->file_read(f, 0, got, sizeof(got) - 1, &n),
                     ST_OK);
    got[n] = '\0';
    ck_assert_str_eq(got, want);
    env->ops->file_close(f);
}

static void expect_absent(const char *name)
{
    struct env_file *f;
    ck_assert_int_eq(env->ops->file_open(env, name, ENV_READONLY, &f),
                     ST_NOT_FOUND);
}

START_TEST(open_flags)
{
    struct env_file *f;
    uint64_t size;
    expect_absent("a");
    f = file("a", ENV_CREATE | ENV_EXCL);
    ck_assert_int_eq(env->ops->file_size(f, &size), ST_OK);
    ck_assert_uint_eq(size, 0);
    env->ops->file_close(f);
    ck_assert_int_eq(env->ops->file_open(env, "a", ENV_CREATE | ENV_EXCL, &f),
                     ST_EXISTS);
    env->ops->file_close(file("a", ENV_CREATE));
    f = file("a", ENV_READONLY);
    ck_assert_int_ne(env->ops->file_write_now(f, 0, slice_of("x")), ST_OK);
    env->ops->file_close(f);
    struct stat st;
    char path[100];
    snprintf(path, sizeof(path), "%s/a", dir);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
}
END_TEST

/* All offsets and lengths around the alignment of O_DIRECT. */
START_TEST(reads)
{
    static const unsigned flags[] = {0, ENV_MEDIUM, ENV_MEDIUM | ENV_AHEAD};
    static const size_t at[] = {0, 1, 511, 4095, 4096, 4097, 8000, 1048575};
    static const size_t len[] = {1, 2, 4095, 4096, 4097, 12000, 3000000};
    size_t size = 2500001;
    uint8_t *data = malloc(size), *got = malloc(3000000);
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(i * 2654435761u >> 24);
    }
    struct env_file *f = file("a", ENV_CREATE | flags[_i]);
    ck_assert_int_eq(env->ops->file_write_now(f, 0, slice_make(data, size)),
                     ST_OK);
    ck_assert_int_eq(env->ops->file_sync_now(f), ST_OK);
    env->ops->file_close(f);
    f = file("a", ENV_READONLY | flags[_i]);
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        for (size_t k = 0; k < sizeof(len) / sizeof(len[0]); k++) {
            size_t want = len[k] < size - at[i] ? len[k] : size - at[i], n;
            ck_assert_int_eq(env->ops->file_read(f, at[i], got, len[k], &n),
                             ST_OK);
            ck_assert_uint_eq(n, want);
            ck_assert_mem_eq(got, data + at[i], want);
        }
    }
    size_t n = 7;
    ck_assert_int_eq(env->ops->file_read(f, size, got, 10, &n), ST_OK);
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(env->ops->file_read(f, size + 5000, got, 10, &n), ST_OK);
    ck_assert_uint_eq(n, 0);
    env->ops->file_close(f);
    free(data);
    free(got);
}
END_TEST

/* What the page cache has is read at once, the rest by threads; either is told
 * from the loop. */
START_TEST(fetches)
{
    static uint8_t data[300000], got[40][5000];
    struct env_file *f = file("a", ENV_CREATE);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 2654435761u >> 24);
    }
    ck_assert_int_eq(
        env->ops->file_write_now(f, 0, slice_make(data, sizeof(data))), ST_OK);
    if (_i == 1) {
        char path[100];
        snprintf(path, sizeof(path), "%s/a", dir);
        int fd = open(path, O_RDONLY);
        ck_assert_int_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
        ck_assert_int_eq(close(fd), 0);
    }
    for (int i = 0; i < 40; i++) {
        uint64_t at = i < 38 ? (uint64_t)i * 7001 : sizeof(data) - 4999;
        done.in_call = true;
        env->ops->file_fetch(f, at, got[i], i == 39 ? 4999 : 5000, op(i));
        done.in_call = false;
    }
    env->ops->file_close(f); /* that ends none of them */
    run_until(40);
    for (unsigned i = 0; i < 40; i++) {
        int n = done.order[i];
        ck_assert_int_eq(done.status[i], n == 38 ? ST_CORRUPT : ST_OK);
        if (n < 38) {
            ck_assert_mem_eq(got[n], data + n * 7001, 5000);
        }
    }
    ck_assert_mem_eq(got[39], data + sizeof(data) - 4999, 4999);
}
END_TEST

/* The env may close over them. */
START_TEST(close_with_fetches)
{
    static uint8_t got[20][8192];
    struct env_file *f = file("a", ENV_CREATE);
    ck_assert_int_eq(env->ops->file_allocate(f, 20 * 8192), ST_OK);
    for (int i = 0; i < 20; i++) {
        env->ops->file_fetch(f, (uint64_t)i * 8192, got[i], 8192, op(i));
    }
    close_env();
    ck_assert_uint_eq(done.count, 20);
}
END_TEST

/* Two files by turns, from front to end in pieces of all sizes, some of which
 * are read twice; the first is closed while more of it is on its way. */
START_TEST(reads_ahead)
{
    static const char *const names[] = {"a", "b"};
    static const size_t size[] = {3333333, 5 * 1048576};
    static uint8_t data[2][5 * 1048576], got[700000];
    struct env_file *f[2];
    size_t at[2] = {0, 0};
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < size[k]; i++) {
            data[k][i] = (uint8_t)((i + 77 * (size_t)k) * 2654435761u >> 22);
        }
        f[k] = file(names[k], ENV_CREATE);
        ck_assert_int_eq(
            env->ops->file_write_now(f[k], 0, slice_make(data[k], size[k])),
            ST_OK);
        env->ops->file_close(f[k]);
        f[k] = file(names[k], ENV_READONLY | ENV_MEDIUM | ENV_AHEAD);
    }
    for (size_t i = 0; at[0] < size[0] || at[1] < size[1]; i++) {
        size_t k = i / 9 % 2, n = 0;
        size_t len = i % 5 == 0 ? 16 : 1000 + i * 7919 % (sizeof(got) - 1000);
        size_t left = size[k] - at[k];
        ck_assert_int_eq(env->ops->file_read(f[k], at[k], got, len, &n), ST_OK);
        ck_assert_uint_eq(n, len < left ? len : left);
        ck_assert_mem_eq(got, data[k] + at[k], n);
        at[k] += i % 7 == 3 ? 0 : n;
    }
    size_t n = 7;
    ck_assert_int_eq(env->ops->file_read(f[0], size[0], got, 10, &n), ST_OK);
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(env->ops->file_read(f[1], 8192, got, 600000, &n), ST_OK);
    ck_assert_int_eq(env->ops->file_read(f[1], 608192, got, 600000, &n), ST_OK);
    ck_assert_mem_eq(got, data[1] + 608192, n);
    env->ops->file_close(f[1]);
    ck_assert_int_eq(env->ops->file_read(f[0], 1, got, 10, &n), ST_OK);
    ck_assert_mem_eq(got, data[0] + 1, n);
    env->ops->file_close(f[0]);
}
END_TEST

/* Each write covers the one before: the last must win. */
START_TEST(writes_in_order)
{
    static uint8_t data[32][200000];
    struct env_file *f = file("a", ENV_CREATE), *g = file("b", ENV_CREATE);
    for (int i = 0; i < 32; i++) {
        memset(data[i], i, sizeof(data[i]));
        done.in_call = true;
        /* Large and small in turn, so that a later one would overtake. */
        env->ops->file_write(f, 0,
                             slice_make(data[i], i % 2 ? 10 : sizeof(data[i])),
                             i % 5 == 0, op(i));
        done.in_call = false;
    }
    env->ops->file_write(g, 0, slice_of("b"), true, op(40));
    run_until(33);
    int last = -1;
    for (unsigned i = 0; i < 33; i++) {
        ck_assert_int_eq(done.status[i], ST_OK);
        if (done.order[i] != 40) {
            ck_assert_int_eq(done.order[i], last + 1);
            last = done.order[i];
        }
    }
    uint8_t got[20];
    size_t n;
    ck_assert_int_eq(env->ops->file_read(f, 0, got, sizeof(got), &n), ST_OK);
    ck_assert_uint_eq(got[9], 31);
    ck_assert_uint_eq(got[10], 30);
    env->ops->file_close(f);
    env->ops->file_close(g);
    struct env_uv_stats st;
    env_uv_get_stats(env, &st);
    ck_assert_uint_eq(st.disk_writes, 33);
    ck_assert_uint_eq(st.disk_syncs, 8);
}
END_TEST

static uint64_t synced_here(void)
{
    struct env_uv_stats st;
    env_uv_get_stats(env, &st);
    return st.disk_syncs_here;
}

/* One synced write: it is on disk when it is told of, and not told of from
 * within the call. */
static void write_synced(struct env_file *f)
{
    unsigned before = syncs;
    done.count = 0;
    done.in_call = true;
    env->ops->file_write(f, 0, slice_of("x"), true, op(0));
    done.in_call = false;
    run_until(1);
    ck_assert_int_eq(done.status[0], ST_OK);
    ck_assert_uint_eq(syncs, before + 1);
}

/* On a quick disk small synced writes need no thread in the end. */
static struct env_file *quick_file(void)
{
    disk = DISK_QUICK;
    struct env_file *f = file("quick", ENV_CREATE);
    for (int i = 0; i < 4000 && synced_here() < 3; i++) {
        write_synced(f);
    }
    ck_assert_uint_eq(synced_here(), 3);
    return f;
}

/* They are told of from the loop all the same, and the env may close over
 * them. */
START_TEST(quick_disk)
{
    struct env_file *f = quick_file();
    done.count = 0;
    env->ops->file_write(f, 0, slice_of("y"), true, op(0));
    env->ops->file_write(f, 0, slice_of("z"), true, op(1));
    env->ops->file_close(f);
    close_env();
    ck_assert_uint_eq(done.count, 2);
    ck_assert_int_eq(done.status[0], ST_OK);
}
END_TEST

/* Whole, wherever the last piece ends. */
START_TEST(write_in_pieces)
{
    static const size_t sizes[] = {1, KIB(16), KIB(16) + 1, KIB(100)};
    static uint8_t bytes[KIB(100)], got[KIB(101)];
    struct env_file *f = file("pieces", ENV_CREATE);
    size_t n, size = sizes[_i];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    }
    struct env_io *io = op(0);
    io->pieces = true;
    env->ops->file_write(f, 3, slice_make(bytes, size), true, io);
    run_until(1);
    ck_assert_int_eq(done.status[0], ST_OK);
    ck_assert_int_eq(env->ops->file_read(f, 3, got, sizeof(got), &n), ST_OK);
    ck_assert_uint_eq(n, size);
    ck_assert_mem_eq(got, bytes, size);
    env->ops->file_close(f);
}
END_TEST

/* Who has other things to wait for is not held up. */
START_TEST(quick_beside)
{
    struct env_file *f = quick_file();
    done.count = 0;
    struct env_io *io = op(0);
    io->beside = true;
    env->ops->file_write(f, 0, slice_of("y"), true, io);
    run_until(1);
    ck_assert_int_eq(done.status[0], ST_OK);
    ck_assert_uint_eq(synced_here(), 3);
    write_synced(f);
    ck_assert_uint_eq(synced_here(), 4);
    env->ops->file_close(f);
}
END_TEST

/* Nor do they overtake what was asked before, which a thread does. */
START_TEST(quick_in_order)
{
    static uint8_t large[MIB(4)];
    struct env_file *f = quick_file();
    char got[4] = "";
    size_t n;
    done.count = 0;
    env->ops->file_write(f, 0, slice_make(large, sizeof(large)), false, op(0));
    env->ops->file_write(f, 0, slice_of("one"), true, op(1));
    env->ops->file_write(f, 0, slice_of("two"), false, op(2));
    env->ops->file_write(f, 2, slice_of("!"), true, op(3));
    run_until(4);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(done.order[i], i);
        ck_assert_int_eq(done.status[i], ST_OK);
    }
    ck_assert_int_eq(env->ops->file_read(f, 0, got, 3, &n), ST_OK);
    ck_assert_str_eq(got, "tw!");
    env->ops->file_close(f);
}
END_TEST

/* After one slow sync some are left to the threads. */
START_TEST(quick_no_more)
{
    struct env_file *f = quick_file();
    disk = DISK_SLOW;
    write_synced(f);
    disk = DISK_QUICK;
    uint64_t here = synced_here();
    int threads = -1; /* the slower that one was, the more */
    for (; threads < 4000 && synced_here() == here; threads++) {
        write_synced(f);
    }
    ck_assert_int_ge(threads, 16);
    ck_assert_uint_eq(synced_here(), here + 1);
    env->ops->file_close(f);
}
END_TEST

/* After many slow ones, all. */
START_TEST(quick_never_more)
{
    struct env_file *f = quick_file();
    disk = DISK_SLOW;
    for (int i = 0; i < 100; i++) {
        write_synced(f);
    }
    disk = DISK_QUICK;
    uint64_t here = synced_here();
    for (int i = 0; i < 25; i++) {
        write_synced(f);
    }
    ck_assert_uint_eq(synced_here(), here);
    env->ops->file_close(f);
}
END_TEST

/* R18 */
START_TEST(quick_and_broken)
{
    struct env_file *f = quick_file();
    disk = DISK_BROKEN;
    unsigned before = syncs;
    done.count = 0;
    env->ops->file_write(f, 0, slice_of("x"), true, op(0));
    ck_assert_uint_eq(synced_here(), 4);
    env->ops->file_write(f, 0, slice_of("x"), true, op(1));
    disk = DISK_QUICK;
    env->ops->file_write(f, 0, slice_of("x"), false, op(2));
    run_until(3);
    env->ops->file_write(f, 0, slice_of("x"), true, op(3));
    run_until(4);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(done.status[i], ST_IO);
    }
    ck_assert_uint_eq(syncs, before + 1);
    env->ops->file_close(f);
}
END_TEST

/* What is written at once is on disk when that returns. */
START_TEST(written_now)
{
    struct env_file *f = file("a", ENV_CREATE);
    unsigned before = syncs;
    ck_assert_int_eq(env->ops->file_write_now(f, 0, slice_of("x")), ST_OK);
    ck_assert_uint_eq(syncs, before + 1);
    disk = DISK_BROKEN;
    ck_assert_int_eq(env->ops->file_write_now(f, 0, slice_of("y")), ST_IO);
    disk = DISK_REAL;
    ck_assert_int_eq(env->ops->file_write_now(f, 0, slice_of("z")), ST_IO);
    ck_assert_int_eq(env->ops->file_sync_now(f), ST_IO);
    ck_assert_uint_eq(syncs, before + 2);
    env->ops->file_close(f);
}
END_TEST

/* Whole blocks past the page cache and others through it, in one file: what is
 * read is what was written last. */
START_TEST(direct_writes)
{
    struct env_file *f = file("a", ENV_CREATE | ENV_DIRECT);
    uint8_t *block = aligned_alloc(KIB(4), KIB(16)), *got = malloc(KIB(20));
    memset(block, 'b', KIB(16));
    env->ops->file_write(f, 0, slice_make(block, KIB(16)), false, op(0));
    env->ops->file_write(f, 100, slice_of("small"), false, op(1));
    env->ops->file_write(f, KIB(4), slice_make(block + 1, KIB(4)), true, op(2));
    env->ops->file_write(f, KIB(16), slice_make(block, KIB(4)), true, op(3));
    env->ops->file_write(f, KIB(16) + 1, slice_of("x"), true, op(4));
    run_until(5);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(done.status[i], ST_OK);
        ck_assert_int_eq(done.order[i], i);
    }
    env->ops->file_close(f);
    memset(block, 'b', KIB(16));
    for (unsigned how = 0; how < 2; how++) {
        size_t n;
        f = file("a", ENV_READONLY | (how == 0 ? 0 : ENV_MEDIUM));
        ck_assert_int_eq(env->ops->file_read(f, 0, got, KIB(20), &n), ST_OK);
        ck_assert_uint_eq(n, KIB(20));
        ck_assert_mem_eq(got, block, 100);
        ck_assert_mem_eq(got + 100, "small", 5);
        ck_assert_mem_eq(got + 105, block, KIB(16) - 105);
        ck_assert_mem_eq(got + KIB(16), "bx", 2);
        ck_assert_mem_eq(got + KIB(16) + 2, block, KIB(4) - 2);
        env->ops->file_close(f);
    }
    free(block);
    free(got);
}
END_TEST

/* Publishing waits for the writes of the file it publishes; so does the
 * removal that follows. */
START_TEST(publish_and_remove)
{
    static uint8_t data[1000000];
    struct env_file *f = file("new", ENV_CREATE);
    ck_assert_int_eq(env->ops->file_put(env, "old", slice_of("old")), ST_OK);
    for (int i = 0; i < 30; i++) {
        env->ops->file_write(f, 0, slice_make(data, sizeof(data)), true, op(i));
    }
    env->ops->file_publish(env, "new", "old", op(30));
    env->ops->file_remove(env, "old", op(31));
    env->ops->file_remove(env, "none", op(32));
    env->ops->file_publish(env, "none", "old", op(33));
    run_until(34);
    int last = -1;
    for (int i = 0; i < 34; i++) {
        bool none = done.order[i] >= 32;
        ck_assert_int_eq(done.status[i], none ? ST_NOT_FOUND : ST_OK);
        if (done.order[i] != 32) { /* of no name that another one has */
            ck_assert_int_gt(done.order[i], last);
            last = done.order[i];
        }
    }
    expect_absent("new");
    expect_absent("old");
    env->ops->file_close(f);
}
END_TEST

/* A large file that takes long to sync holds up no others. */
START_TEST(publishing_overlaps)
{
    static uint8_t data[HELD_SIZE];
    const struct env_ops *o = env->ops;
    ck_assert_int_eq(o->file_put(env, "large", slice_make(data, sizeof(data))),
                     ST_OK);
    ck_assert_int_eq(o->file_put(env, "small", slice_of("small")), ST_OK);
    ck_assert_int_eq(o->file_put(env, "old", slice_of("old")), ST_OK);
    held = true;
    o->file_publish(env, "large", "a", op(0));
    o->file_remove(env, "a", op(1)); /* waits for that one */
    o->file_publish(env, "small", "b", op(2));
    o->file_remove(env, "old", op(3));
    run_until(2);
    ck_assert_int_eq(done.order[0] + done.order[1], 2 + 3);
    expect_contents("b", "small");
    held = false;
    run_until(4);
    ck_assert_int_eq(done.order[2], 0);
    ck_assert_int_eq(done.order[3], 1);
    expect_absent("a");
    expect_absent("large");
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(done.status[i], ST_OK);
    }
}
END_TEST

START_TEST(publish_replaces)
{
    ck_assert_int_eq(env->ops->dir_make(env, "tablets"), ST_OK);
    ck_assert_int_eq(env->ops->dir_make(env, "tablets"), ST_OK);
    ck_assert_int_eq(env->ops->file_put(env, "new", slice_of("new")), ST_OK);
    ck_assert_int_eq(env->ops->file_put(env, "tablets/1", slice_of("older")),
                     ST_OK);
    env->ops->file_publish(env, "new", "tablets/1", op(0));
    run_until(1);
    ck_assert_int_eq(done.status[0], ST_OK);
    expect_contents("tablets/1", "new");
    expect_absent("new");
}
END_TEST

START_TEST(put_replaces)
{
    ck_assert_int_eq(env->ops->file_put(env, "a", slice_of("one")), ST_OK);
    expect_contents("a", "one");
    ck_assert_int_eq(env->ops->file_put(env, "a", slice_of("second")), ST_OK);
    expect_contents("a", "second");
    ck_assert_int_eq(env->ops->file_put(env, "a", slice_of("")), ST_OK);
    expect_contents("a", "");
    ck_assert_int_eq(env->ops->file_put(env, "no/a", slice_of("x")),
                     ST_NOT_FOUND);
}
END_TEST

static char listed[256];

static void on_name(void *ctx, const char *name)
{
    size_t len = strlen(listed);
    snprintf(listed + len, sizeof(listed) - len, "%s ", name);
}

START_TEST(listing)
{
    ck_assert_int_eq(env->ops->dir_make(env, "sub"), ST_OK);
    ck_assert_int_eq(env->ops->file_put(env, "b", slice_of("")), ST_OK);
    ck_assert_int_eq(env->ops->file_put(env, "a", slice_of("")), ST_OK);
    ck_assert_int_eq(env->ops->file_put(env, "sub/z", slice_of("")), ST_OK);
    ck_assert_int_eq(env->ops->dir_list(env, "", on_name, NULL), ST_OK);
    ck_assert_str_eq(listed, "a b ");
    listed[0] = '\0';
    ck_assert_int_eq(env->ops->dir_list(env, "sub", on_name, NULL), ST_OK);
    ck_assert_str_eq(listed, "z ");
    ck_assert_int_eq(env->ops->dir_list(env, "none", on_name, NULL),
                     ST_NOT_FOUND);
}
END_TEST

START_TEST(allocation)
{
    struct env_file *f = file("a", ENV_CREATE);
    struct stat st;
    uint64_t size;
    char path[100];
    ck_assert_int_eq(env->ops->file_write_now(f, 0, slice_of("keep")), ST_OK);
    ck_assert_int_eq(env->ops->file_allocate(f, 3000001), ST_OK);
    ck_assert_int_eq(env->ops->file_size(f, &size), ST_OK);
    ck_assert_uint_eq(size, 3000001);
    snprintf(path, sizeof(path), "%s/a", dir);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_ge(st.st_blocks * 512, 3000001); /* no holes */
    char got[8] = "";
    size_t n;
    ck_assert_int_eq(env->ops->file_read(f, 0, got, 6, &n), ST_OK);
    ck_assert_mem_eq(got, "keep\0\0", 6);
    ck_assert_int_eq(env->ops->file_allocate(f, 10), ST_OK); /* never less */
    ck_assert_int_eq(env->ops->file_size(f, &size), ST_OK);
    ck_assert_uint_eq(size, 3000001);
    env->ops->file_close(f);
    ck_assert_int_eq(env->ops->disk_free(env, &size), ST_OK);
    ck_assert_uint_gt(size, 0);
}
END_TEST

/* ---- failures ---- */

static struct env_file *device(const char *name, const char *target)
{
    char path[100];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    ck_assert_int_eq(symlink(target, path), 0);
    return file(name, 0);
}

START_TEST(full_disk)
{
    struct env_file *f = device("full", "/dev/full");
    ck_assert_int_eq(env->ops->file_write_now(f, 0, slice_of("x")),
                     ST_NO_SPACE);
    env->ops->file_write(f, 0, slice_of("x"), true, op(0));
    env->ops->file_write(f, 0, slice_of("x"), false, op(1));
    run_until(2);
    /* No sync was tried after the failed write: the file is not condemned. */
    ck_assert_int_eq(done.status[0], ST_NO_SPACE);
    ck_assert_int_eq(done.status[1], ST_NO_SPACE);
    env->ops->file_close(f);
}
END_TEST

/* A write that the system does in part and then refuses is a failure. */
START_TEST(short_write)
{
    static uint8_t data[3000];
    struct rlimit small = {.rlim_cur = 1000, .rlim_max = RLIM_INFINITY};
    struct env_file *f = file("a", ENV_CREATE);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    ck_assert_int_eq(
        env->ops->file_write_now(f, 0, slice_make(data, sizeof(data))), ST_IO);
    env->ops->file_write(f, 0, slice_make(data, sizeof(data)), false, op(0));
    run_until(1);
    ck_assert_int_eq(done.status[0], ST_IO);
    ck_assert_int_eq(
        env->ops->file_put(env, "b", slice_make(data, sizeof(data))), ST_IO);
    expect_absent("b");
    uint64_t size;
    ck_assert_int_eq(env->ops->file_allocate(f, 5000), ST_IO);
    ck_assert_int_eq(env->ops->file_size(f, &size), ST_OK);
    ck_assert_uint_eq(size, 1000); /* as before */
    small.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    ck_assert_int_eq(
        env->ops->file_write_now(f, 0, slice_make(data, sizeof(data))), ST_OK);
    env->ops->file_close(f);
}
END_TEST

/* R18: after a failed sync nothing more is tried on that file. */
START_TEST(failed_sync_is_for_ever)
{
    struct env_file *f = device("null", "/dev/null");
    env->ops->file_write(f, 0, slice_of("x"), false, op(0));
    env->ops->file_write(f, 0, slice_of("x"), true, op(1));
    env->ops->file_write(f, 0, slice_of("x"), false, op(2));
    env->ops->file_write(f, 0, slice_of("x"), true, op(3));
    run_until(4);
    ck_assert_int_eq(done.status[0], ST_OK);
    ck_assert_int_eq(done.status[1], ST_IO);
    ck_assert_int_eq(done.status[2], ST_IO);
    ck_assert_int_eq(done.status[3], ST_IO);
    ck_assert_int_eq(env->ops->file_write_now(f, 0, slice_of("x")), ST_IO);
    ck_assert_int_eq(env->ops->file_sync_now(f), ST_IO);
    env->ops->file_close(f);
    f = device("null2", "/dev/null");
    /* What was written at once is on disk when that returns, or it fails. */
    ck_assert_int_eq(env->ops->file_write_now(f, 0, slice_of("x")), ST_IO);
    ck_assert_int_eq(env->ops->file_sync_now(f), ST_IO);
    ck_assert_int_eq(env->ops->file_write_now(f, 0, slice_of("x")), ST_IO);
    env->ops->file_close(f);
}
END_TEST

START_TEST(directory_vanishes)
{
    struct env_file *f;
    remove_all(dir);
    ck_assert_int_eq(env->ops->file_put(env, "a", slice_of("x")), ST_NOT_FOUND);
    ck_assert_int_eq(env->ops->file_open(env, "a", ENV_CREATE, &f),
                     ST_NOT_FOUND);
    env->ops->file_remove(env, "a", op(0));
    run_until(1);
    ck_assert_int_eq(done.status[0], ST_NOT_FOUND);
}
END_TEST

START_TEST(locked)
{
    struct env *other = NULL;
    struct err err = {""};
    char pid[32];
    ck_assert_int_eq(open_env(&other, &err), ST_IN_USE);
    snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
    ck_assert_ptr_nonnull(strstr(err.text, dir));
    ck_assert_ptr_nonnull(strstr(err.text, pid));
    close_env();
    ck_assert_msg(open_env(&env, &err) == ST_OK, "%s", err.text);
}
END_TEST

START_TEST(bad_directory)
{
    struct env *other = NULL;
    struct err err = {""};
    char keep[sizeof(dir)];
    memcpy(keep, dir, sizeof(dir));
    ck_assert_int_eq(env->ops->file_put(env, "plain", slice_of("")), ST_OK);
    snprintf(dir, sizeof(dir), "%.40s/plain", keep);
    ck_assert_int_eq(open_env(&other, &err), ST_IO);
    ck_assert_ptr_nonnull(strstr(err.text, dir));
    snprintf(dir, sizeof(dir), "%.40s/plain/below", keep);
    ck_assert_int_eq(open_env(&other, &err), ST_IO);
    memcpy(dir, keep, sizeof(dir));
}
END_TEST

/* Closing finishes what is under way and says so. */
START_TEST(close_with_operations)
{
    static uint8_t data[5000000];
    struct env_file *f = file("a", ENV_CREATE), *g = file("b", ENV_CREATE);
    memset(data, 'x', sizeof(data));
    for (int i = 0; i < 4; i++) {
        env->ops->file_write(f, (uint64_t)i * sizeof(data),
                             slice_make(data, sizeof(data)), i == 3, op(i));
    }
    env->ops->file_write(g, 0, slice_of("x"), true, op(4));
    env->ops->file_remove(env, "b", op(5));
    env->ops->file_close(f); /* closed by its user, g by the env */
    close_env();
    ck_assert_uint_eq(done.count, 6);
    for (unsigned i = 0; i < 6; i++) {
        ck_assert_int_eq(done.status[i], ST_OK);
    }
    struct err err = {""};
    ck_assert_msg(open_env(&env, &err) == ST_OK, "%s", err.text);
    uint64_t size;
    f = file("a", 0);
    ck_assert_int_eq(env->ops->file_size(f, &size), ST_OK);
    ck_assert_uint_eq(size, 4 * sizeof(data));
    env->ops->file_close(f);
    expect_absent("b");
}
END_TEST

static struct env_file *theirs[3];

static void close_theirs(struct env_io *io, enum status s)
{
    (void)io;
    ck_assert_int_eq(s, ST_OK);
    for (int i = 0; i < 3; i++) {
        env->ops->file_close(theirs[i]);
    }
}

/* Whoever waits for an operation under way still has its files. */
START_TEST(close_in_a_callback)
{
    static struct env_io io = {.done = close_theirs};
    for (int i = 0; i < 3; i++) {
        theirs[i] = file((const char *const[]){"a", "b", "c"}[i], ENV_CREATE);
    }
    env->ops->file_write(theirs[1], 0, slice_of("x"), true, &io);
    close_env();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("env_disk");
    TCase *t = tcase_create("disk");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, open_flags);
    tcase_add_loop_test(t, reads, 0, 3);
    tcase_add_test(t, reads_ahead);
    tcase_add_loop_test(t, fetches, 0, 2);
    tcase_add_test(t, close_with_fetches);
    tcase_add_test(t, writes_in_order);
    tcase_add_test(t, quick_disk);
    tcase_add_test(t, quick_in_order);
    tcase_add_test(t, quick_no_more);
    tcase_add_loop_test(t, write_in_pieces, 0, 4);
    tcase_add_test(t, quick_beside);
    tcase_add_test(t, quick_never_more);
    tcase_add_test(t, quick_and_broken);
    tcase_add_test(t, written_now);
    tcase_add_test(t, direct_writes);
    tcase_add_test(t, publish_and_remove);
    tcase_add_test(t, publishing_overlaps);
    tcase_add_test(t, publish_replaces);
    tcase_add_test(t, put_replaces);
    tcase_add_test(t, listing);
    tcase_add_test(t, allocation);
    tcase_add_test(t, full_disk);
    tcase_add_test(t, short_write);
    tcase_add_test(t, failed_sync_is_for_ever);
    tcase_add_test(t, directory_vanishes);
    tcase_add_test(t, locked);
    tcase_add_test(t, bad_directory);
    tcase_add_test(t, close_with_operations);
    tcase_add_test(t, close_in_a_callback);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
