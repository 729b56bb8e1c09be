/*
 * A store has more files than its process may have descriptors (ENV_SELDOM): it
 * starts, and each value can be read, of segments of the log that are kept and
 * of the blob log's files.
 */
#include "common/env_uv_io.h"
#include "storage/blobs.h"
#include "storage/wal.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DESCRIPTORS 128
#define FILES 300u
#define SEGMENT KIB(32)
#define VALUE 20000u /* one a segment */

static uv_loop_t loop;
static struct env *env;
static char dir[64];
static struct log quiet = {
    .daemon = "test", .node = "test", .level = LOG_LEVEL_PANIC, .fd = -1};

static void open_env(void)
{
    struct env_uv_options o = {.loop = &loop, .log = &quiet, .data_dir = dir};
    struct err err = {""};
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_msg(env_uv_open(&o, &env, &err) == ST_OK, "%s", err.text);
    ck_assert_int_eq(env->ops->dir_make(env, "shard-00"), ST_OK);
}

static void close_env(void)
{
    env_uv_close(env, NULL, NULL);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static void setup(void)
{
    struct rlimit few = {DESCRIPTORS, DESCRIPTORS};
    snprintf(dir, sizeof(dir), "/tmp/unit_descriptors.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    open_env();
}

static void teardown(void)
{
    close_env();
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", "--", dir, (char *)NULL);
        _exit(127);
    }
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

static unsigned descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned count = 0;
    ck_assert_ptr_nonnull(d);
    while (readdir(d) != NULL) {
        count++;
    }
    (void)closedir(d);
    return count - 3; /* this one, and two names that are no files */
}

static unsigned files(const char *prefix)
{
    char path[100];
    const struct dirent *e;
    snprintf(path, sizeof(path), "%s/shard-00", dir);
    DIR *d = opendir(path);
    unsigned count = 0;
    ck_assert_ptr_nonnull(d);
    while ((e = readdir(d)) != NULL) {
        count += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    }
    (void)closedir(d);
    return count;
}

static void fill(uint8_t *out, uint32_t i)
{
    for (uint32_t k = 0; k < VALUE; k++) {
        out[k] = (uint8_t)(i * 131 + k * 7 + (k >> 8));
    }
}

static unsigned done;
static enum status last;

static void on_done(struct env_io *io, enum status s)
{
    (void)io;
    last = s == ST_OK ? last : s;
    done++;
}

static void run_until(unsigned count)
{
    while (done < count) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(last, ST_OK);
}

/* ---- files ---- */

/* More fetches at once than there may be descriptors. */
START_TEST(seldom_files)
{
    static struct env_file *f[FILES];
    static struct env_io io[FILES];
    static uint8_t got[FILES][4];
    unsigned before = descriptors();
    char name[32];
    for (uint32_t i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "f%u", i);
        ck_assert_int_eq(env->ops->file_put(env, name, slice_make(&i, 4)),
                         ST_OK);
        ck_assert_int_eq(env->ops->file_open(env, name, ENV_SELDOM, &f[i]),
                         ST_OK);
    }
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < FILES; i++) {
            io[i] = (struct env_io){.done = on_done};
            env->ops->file_fetch(f[i], 0, got[i], 4, &io[i]);
        }
        run_until((round + 1) * FILES);
        for (uint32_t i = 0; i < FILES; i++) {
            ck_assert_mem_eq(got[i], &i, 4);
        }
        ck_assert_uint_le(descriptors(), before + 40);
    }
    for (uint32_t i = 0; i < FILES; i++) {
        uint32_t x = 0;
        size_t n;
        ck_assert_int_eq(env->ops->file_read(f[i], 0, &x, 4, &n), ST_OK);
        ck_assert_uint_eq(x, i);
        env->ops->file_close(f[i]);
    }
    ck_assert_uint_eq(descriptors(), before);
}
END_TEST

/* A name that went is an error, and no other file's bytes; a file may be
 * closed while it is read. */
START_TEST(seldom_names)
{
    struct env_file *f;
    struct env_io io = {.done = on_done};
    uint8_t got[2];
    size_t n;
    ck_assert_int_eq(env->ops->file_open(env, "no", ENV_SELDOM, &f), ST_OK);
    ck_assert_int_eq(env->ops->file_read(f, 0, got, 2, &n), ST_NOT_FOUND);
    env->ops->file_fetch(f, 0, got, 2, &io);
    while (done == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(last, ST_NOT_FOUND);
    env->ops->file_close(f);
    last = ST_OK;
    ck_assert_int_eq(env->ops->file_put(env, "a", slice_of("ab")), ST_OK);
    ck_assert_int_eq(env->ops->file_open(env, "a", ENV_SELDOM, &f), ST_OK);
    io = (struct env_io){.done = on_done};
    env->ops->file_fetch(f, 0, got, 2, &io);
    env->ops->file_close(f);
    run_until(2);
    ck_assert_mem_eq(got, "ab", 2);
}
END_TEST

/* ---- the log ---- */

static struct wal *wal;
static uint64_t at[FILES];
static uint64_t synced;

static void on_synced(void *ctx, uint64_t position)
{
    (void)ctx;
    synced = position;
}

static void on_failed(void *ctx, enum status why)
{
    (void)ctx;
    ck_abort_msg("%s", status_name(why));
}

static void on_found(void *ctx, struct wal *w)
{
    (void)ctx;
    for (uint32_t i = 0; i < FILES && at[i] != 0; i++) {
        ck_assert(wal_value_live(w, 1, at[i], VALUE));
    }
}

static enum status on_replay(void *ctx, const struct wal_record *r)
{
    (void)ctx;
    (void)r;
    return ST_OK;
}

static void open_log(uint64_t counter)
{
    struct wal_options o = {.node = 3,
                            .key = {11, 22},
                            .start_counter = counter,
                            .segment_size = SEGMENT,
                            .folder = "shard-00",
                            .on_found = on_found,
                            .on_synced = on_synced,
                            .on_failed = on_failed};
    struct wal_report report;
    struct err err = {""};
    ck_assert_msg(wal_open(env, &o, on_replay, &report, &wal, &err) == ST_OK,
                  "%s", err.text);
    ck_assert_uint_eq(report.damage_count, 0);
}

static void read_log(void)
{
    static struct env_io io[FILES];
    static uint8_t got[FILES][VALUE], want[VALUE];
    unsigned before = done;
    for (uint32_t i = 0; i < FILES; i++) {
        io[i] = (struct env_io){.done = on_done};
        wal_value_read(wal, at[i], VALUE, got[i], &io[i]);
    }
    run_until(before + FILES);
    for (uint32_t i = 0; i < FILES; i++) {
        fill(want, i);
        ck_assert_mem_eq(got[i], want, VALUE);
    }
}

static void append(uint32_t i, bool keep)
{
    static uint8_t value[VALUE];
    struct wal_record r = {.kind = WAL_ENTRY,
                           .tablet = 1,
                           .name = {1, i + 1},
                           .previous = {i > 0, i},
                           .payload = slice_make(value, VALUE)};
    fill(value, i);
    while (wal_room(wal, VALUE) != ST_OK) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    uint64_t end = wal_append(wal, &r);
    if (keep) {
        at[i] = r.position + WAL_RECORD_HEAD;
        ck_assert(wal_value_live(wal, 1, at[i], VALUE));
    }
    while (synced < end) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void on_stopped(void *ctx, enum status s)
{
    ck_assert_int_eq(s, ST_OK);
    *(bool *)ctx = true;
}

/* Ends the log cleanly, and begins with what it left. */
static void reopen_log(uint64_t counter)
{
    bool stopped = false;
    wal_stop(wal, on_stopped, &stopped);
    while (!stopped) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    wal_close(wal);
    close_env();
    open_env();
    open_log(counter);
    ck_assert_uint_lt(descriptors(), DESCRIPTORS / 2);
}

/* Live segments first, then kept ones, each also as a start finds them; and at
 * last all are given back, but for those that are written next. */
START_TEST(log_segments)
{
    open_log(1);
    for (uint32_t i = 0; i < FILES; i++) {
        append(i, true);
    }
    read_log();
    ck_assert_uint_ge(files("wal-0"), FILES);
    ck_assert_uint_lt(descriptors(), DESCRIPTORS / 2);
    reopen_log(2);
    ck_assert_uint_eq(wal_kept_count(wal), 0);
    read_log();
    wal_release(wal, 1, UINT64_MAX);
    ck_assert_uint_ge(wal_kept_count(wal), FILES - 1);
    read_log();
    append(0, false); /* its segment's header says what is not needed */
    append(1, false);
    reopen_log(3);
    ck_assert_uint_ge(wal_kept_count(wal), FILES - 1);
    read_log();
    wal_release(wal, 1, UINT64_MAX);
    wal_value_forget(wal, 1);
    wal_kept_release(wal, UINT64_MAX);
    while (files("wal-0") > 8) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    for (uint32_t i = 0; i < 20; i++) { /* in segments that are used again */
        append(i, false);
        wal_release(wal, 1, UINT64_MAX);
    }
    struct wal_stats stats;
    wal_get_stats(wal, &stats);
    ck_assert_uint_gt(stats.segments_reused, 5);
    wal_close(wal);
}
END_TEST

/* ---- the blob log ---- */

static struct blobs *blobs;
static struct blob_ref refs[FILES];

static void open_blobs(uint64_t file_size)
{
    struct blobs_options o = {.key = {11, 22},
                              .file_size = file_size,
                              .folder = "shard-00",
                              .on_failed = on_failed};
    struct blobs_report report;
    struct err err = {""};
    ck_assert_msg(blobs_open(env, &o, &report, &blobs, &err) == ST_OK, "%s",
                  err.text);
    for (uint32_t i = 0; i < FILES; i++) {
        ck_assert(refs[i].len == 0 || blobs_refer(blobs, &refs[i]));
    }
}

static void on_put(void *ctx, enum status s)
{
    ck_assert_int_eq(s, ST_OK);
    *(bool *)ctx = true;
}

static void put_blob(uint32_t i)
{
    bool put = false;
    struct blob_sink sink = {.on_done = on_put, .ctx = &put};
    struct blob_in *in;
    struct blob_bytes *bytes = blob_bytes_new(VALUE);
    fill(blob_bytes_data(bytes), i);
    refs[i].len = VALUE;
    memcpy(refs[i].id.b, &(uint32_t){i + 1}, 4);
    refs[i].digest = blob_digest(0, slice_make(blob_bytes_data(bytes), VALUE));
    ck_assert_int_eq(blobs_begin(blobs, &refs[i], &sink, &in), ST_OK);
    blobs_put(in, bytes);
    blob_bytes_unref(bytes);
    while (!put) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert(blobs_refer(blobs, &refs[i]));
}

static void read_blobs(void)
{
    static struct env_io io[FILES];
    static uint8_t got[FILES][VALUE], want[VALUE];
    unsigned before = done;
    for (uint32_t i = 0; i < FILES; i++) {
        io[i] = (struct env_io){.done = on_done};
        blobs_fetch(blobs, &refs[i], got[i], &io[i]);
    }
    run_until(before + FILES);
    for (uint32_t i = 0; i < FILES; i++) {
        fill(want, i);
        ck_assert_mem_eq(got[i], want, VALUE);
    }
}

START_TEST(blob_files)
{
    open_blobs(KIB(24));
    blobs_settle(blobs);
    for (uint32_t i = 0; i < FILES; i++) {
        put_blob(i);
    }
    ck_assert_uint_ge(files("blobs-"), FILES);
    read_blobs();
    blobs_close(blobs);
    close_env();
    open_env();
    open_blobs(KIB(24));
    blobs_settle(blobs);
    ck_assert_uint_lt(descriptors(), DESCRIPTORS / 2);
    read_blobs();
    blobs_close(blobs);
}
END_TEST

/* Files that are mostly dead cannot be read while there are no descriptors:
 * that says nothing against them, and they are collected later. */
START_TEST(collection_waits_for_descriptors)
{
    static int taken[DESCRIPTORS];
    struct blobs_stats stats;
    unsigned count = 0;
    open_blobs(KIB(90));
    blobs_settle(blobs);
    for (uint32_t i = 0; i < 12; i++) {
        put_blob(i);
    }
    ck_assert_uint_eq(files("blobs-"), 3);
    blobs_close(blobs);
    close_env();
    for (uint32_t i = 0; i < 12; i++) {
        refs[i].len = i % 4 == 0 ? refs[i].len : 0; /* one of each file's */
    }
    open_env();
    open_blobs(KIB(90));
    while ((taken[count] = dup(0)) >= 0) {
        count++;
    }
    blobs_settle(blobs);
    uint64_t until = uv_now(&loop) + 300;
    while (uv_now(&loop) < until) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    while (count > 0) {
        (void)close(taken[--count]);
    }
    ck_assert_uint_eq(files("blobs-"), 3);
    do {
        uv_run(&loop, UV_RUN_ONCE);
        blobs_get_stats(blobs, &stats);
    } while (stats.moved < 3 || stats.files > 2);
    ck_assert_uint_eq(stats.damaged, 0);
    blobs_close(blobs);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("descriptors");
    TCase *t = tcase_create("descriptors");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, seldom_files);
    tcase_add_test(t, seldom_names);
    tcase_add_test(t, log_segments);
    tcase_add_test(t, blob_files);
    tcase_add_test(t, collection_waits_for_descriptors);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
