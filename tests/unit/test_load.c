/*
 * Work beside the loop, and a checkpoint that is loaded with it: on real
 * threads, which is what this is for (tests/run.py runs it under the thread
 * sanitizer).
 */
#include "common/env_uv_io.h"
#include "common/env_work.h"
#include "storage/checkpoint.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKS 200
#define CELLS 30000

static uv_loop_t loop;
static struct env *env;
static char dir[64];
static struct log quiet = {
    .daemon = "test", .node = "test", .level = LOG_LEVEL_PANIC, .fd = -1};

static void setup(void)
{
    struct err err = {""};
    struct env_uv_options o = {.loop = &loop, .log = &quiet, .data_dir = dir};
    snprintf(dir, sizeof(dir), "/tmp/unit_load.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_msg(env_uv_open(&o, &env, &err) == ST_OK, "%s", err.text);
}

static void teardown(void)
{
    env_uv_close(env, NULL, NULL);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", "--", dir, (char *)NULL);
        _exit(127);
    }
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

/* ---- work ---- */

struct piece {
    struct env_work work;
    uint32_t number, done;
    uint64_t sum;
};

static void add_up(struct env_work *w)
{
    struct piece *p = w->data;
    p->done++;
    for (uint64_t i = 0; i < 1000 * (1 + p->number % 7); i++) {
        p->sum += i * p->number;
    }
}

/* Each is done once, whenever it is waited for, and may be asked for again. */
START_TEST(each_once)
{
    static struct piece pieces[WORKS];
    memset(pieces, 0, sizeof(pieces));
    for (uint32_t round = 1; round <= 3; round++) {
        for (uint32_t i = 0; i < WORKS; i++) {
            struct piece *p = &pieces[i];
            p->number = i;
            p->work.fn = add_up;
            p->work.data = p;
            env->ops->work(env, &p->work);
        }
        for (uint32_t k = 0; k < WORKS; k++) {
            uint32_t i = round == 2 ? WORKS - 1 - k : k * 7 % WORKS;
            env->ops->work_wait(env, &pieces[i].work);
            ck_assert_uint_eq(pieces[i].done, round);
        }
        if (round == 2) { /* the threads go, and come again */
            (void)uv_run(&loop, UV_RUN_NOWAIT);
        }
    }
    for (uint32_t i = 0; i < WORKS; i++) {
        uint64_t n = 1000 * (1 + i % 7);
        ck_assert_uint_eq(pieces[i].sum, 3 * (n * (n - 1) / 2) * i);
    }
}
END_TEST

/* ---- loading ---- */

static const struct checkpoint_ids ids = {{{1}}, {{2}}, 3, 7};

struct written {
    bool done;
    enum status status;
    char file[CHECKPOINT_NAME_MAX];
};

static void on_written(void *ctx, enum status s, const char *file)
{
    struct written *w = ctx;
    w->done = true;
    w->status = s;
    strcpy(w->file, file);
}

/* In the tree's order: all in one partition. */
static struct state *state_of(uint32_t cells)
{
    static uint8_t value[300];
    struct state *s = state_new();
    for (uint32_t i = 0; i < cells; i++) {
        char row[16];
        snprintf(row, sizeof(row), "%08u", i);
        memset(value, (int)(i % 251), sizeof(value));
        struct cell c = {slice_of("partition"), slice_of(row), slice_of("c"),
                         slice_make(value, i % sizeof(value))};
        ck_assert_int_eq(state_load_cell(s, &c, NULL), ST_OK);
    }
    state_load_done(s, (struct name){1, cells});
    return s;
}

static struct written write_state(struct state *s)
{
    struct written w = {.done = false};
    struct checkpoint_job j = {.env = env,
                               .folder = "",
                               .ids = ids,
                               .config = slice_of("configuration"),
                               .done = on_written,
                               .ctx = &w};
    (void)checkpoint_write_take(&j, state_snapshot(s));
    while (!w.done) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(w.status, ST_OK);
    return w;
}

static enum status load(struct state **out, struct err *err)
{
    struct buf config = {0};
    struct checkpoint_info info;
    enum status s = checkpoint_load(env, "", &ids, out, &config, &info, err);
    if (s == ST_OK) {
        ck_assert_uint_eq(info.cells, CELLS);
        ck_assert(slice_equal(buf_slice(&config), slice_of("configuration")));
    }
    buf_free(&config);
    return s;
}

START_TEST(loads)
{
    struct state *s = state_of(CELLS), *copy;
    struct err err = {""};
    struct id128 digest = state_digest(s);
    struct state_counts before, after;
    (void)write_state(s);
    state_count(s, &before);
    state_free(s);
    for (int i = 0; i < 3; i++) {
        ck_assert_msg(load(&copy, &err) == ST_OK, "%s", err.text);
        struct id128 got = state_digest(copy);
        ck_assert(id128_equal(got, digest));
        state_count(copy, &after);
        ck_assert_uint_eq(after.cells, before.cells);
        ck_assert_uint_eq(after.bytes, before.bytes);
        ck_assert_uint_le(after.memory, before.memory);
        state_free(copy);
    }
}
END_TEST

/* Wherever a byte is wrong, it is found, and the first one is told of. */
START_TEST(finds_damage)
{
    struct state *s = state_of(CELLS), *copy;
    struct written w = write_state(s);
    struct env_file *f;
    uint64_t size;
    state_free(s);
    ck_assert_int_eq(env->ops->file_open(env, w.file, 0, &f), ST_OK);
    ck_assert_int_eq(env->ops->file_size(f, &size), ST_OK);
    for (uint64_t at = 150; at < size; at += size / 40) {
        uint8_t byte, bad;
        size_t got;
        struct err err = {""};
        ck_assert_int_eq(env->ops->file_read(f, at, &byte, 1, &got), ST_OK);
        bad = byte ^ 4;
        ck_assert_int_eq(env->ops->file_write_now(f, at, slice_make(&bad, 1)),
                         ST_OK);
        ck_assert_int_eq(load(&copy, &err), ST_CORRUPT);
        const char *place = strstr(err.text, ": at ");
        ck_assert_msg(place != NULL, "%s", err.text);
        ck_assert_uint_le(strtoull(place + 5, NULL, 10), at);
        ck_assert_int_eq(env->ops->file_write_now(f, at, slice_make(&byte, 1)),
                         ST_OK);
    }
    struct err err = {""};
    ck_assert_int_eq(load(&copy, &err), ST_OK);
    state_free(copy);
    env->ops->file_close(f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("load");
    TCase *c = tcase_create("load");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, each_once);
    tcase_add_test(c, loads);
    tcase_add_test(c, finds_damage);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
