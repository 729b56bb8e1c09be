/*
 * Looking through the blob log (R19): a bit that flips anywhere in a file is
 * found if anything depends on it; what is damaged beside the values is mended
 * by moving them, and no value is lost by that.
 */
#include "storage/blobs_scrub.h"

#include "storage/blobs_private.h"
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define COUNT 6
#define FILE1 "shard-00/blobs-000001.log"

static struct world *world;
static struct sim_host *host;
static struct env *env;
static struct blobs *blobs;
static struct blob_ref refs[COUNT];
static unsigned told; /* damaged values */
static bool waits;
static enum status got;

static void on_failed(void *ctx, enum status why)
{
    ck_abort_msg("%s", status_name(why));
}

static void on_damaged(void *ctx, const struct blob_ref *ref)
{
    told++;
}

static void on_done(void *ctx, enum status s)
{
    ck_assert_int_eq(s, ST_OK);
}

static struct blob_bytes *bytes_of(uint32_t i)
{
    struct blob_bytes *b = blob_bytes_new(KIB(17) + i * 1000);
    memset(blob_bytes_data(b), (int)(i * 41 + 3), b->len);
    return b;
}

static void put(uint32_t i)
{
    struct blob_bytes *b = bytes_of(i);
    struct blob_sink sink = {.on_done = on_done};
    struct blob_in *in;
    refs[i] = (struct blob_ref){
        .id = {{(uint8_t)(i + 1)}}, .len = b->len, .seed = 77 + i};
    refs[i].digest =
        blob_digest(refs[i].seed, slice_make(blob_bytes_data(b), b->len));
    ck_assert_int_eq(blobs_begin(blobs, &refs[i], &sink, &in), ST_OK);
    blobs_put(in, b);
    blob_bytes_unref(b);
    world_run_for(world, 50 * SIM_MS);
}

static void open_blobs(bool referred)
{
    struct err err = {""};
    struct blobs_report report;
    struct blobs_options o = {.store = {{5}},
                              .key = {11, 22},
                              .folder = "shard-00",
                              .on_failed = on_failed,
                              .on_damaged = on_damaged};
    env = sim_env_new(host, NULL);
    ck_assert_int_eq(env->ops->dir_make(env, "shard-00"), ST_OK);
    ck_assert_msg(blobs_open(env, &o, &report, &blobs, &err) == ST_OK, "%s",
                  err.text);
    for (uint32_t i = 0; referred && i < COUNT; i++) {
        ck_assert(blobs_refer(blobs, &refs[i]));
    }
    blobs_settle(blobs);
}

static void restart(void)
{
    world_run_for(world, SIM_S);
    sim_host_kill(host);
    blobs_close(blobs);
    open_blobs(true);
}

/* One file with all of them, sealed. */
static void begin(void)
{
    told = 0;
    world = world_new(9);
    host = sim_host_new(world, "a");
    open_blobs(false);
    for (uint32_t i = 0; i < COUNT; i++) {
        put(i);
        ck_assert(blobs_refer(blobs, &refs[i]));
    }
    restart();
}

static void end(void)
{
    blobs_close(blobs);
    world_free(world);
}

/* ---- a pass ---- */

static void on_read(struct env_io *io, enum status s)
{
    (void)io;
    waits = false;
    got = s;
}

static bool waiting(void *ctx)
{
    (void)ctx;
    return waits;
}

/* What is found; the last of it in *OUT. */
static unsigned pass(struct blobs_damage *out)
{
    struct env_io io = {.done = on_read};
    struct blobs_scrub *v = blobs_scrub_new(blobs);
    unsigned found = 0;
    for (;;) {
        waits = true;
        if (blobs_scrub_ask(v, &io) == 0) {
            break;
        }
        ck_assert(world_run_while(world, waiting, NULL, SIM_S));
        found += blobs_scrub_take(v, got, out) == ST_CORRUPT;
    }
    blobs_scrub_free(v);
    return found;
}

static void on_bytes(void *ctx, enum status s, struct blob_bytes *b)
{
    struct blob_bytes **to = ctx;
    waits = false;
    got = s;
    *to = b;
}

static void check_value(uint32_t i)
{
    struct blob_bytes *have = NULL, *want = bytes_of(i);
    waits = true;
    ck_assert_int_eq(blobs_read(blobs, &refs[i], on_bytes, &have), ST_OK);
    ck_assert(world_run_while(world, waiting, NULL, SIM_S));
    ck_assert_int_eq(got, ST_OK);
    ck_assert_mem_eq(blob_bytes_data(have), blob_bytes_data(want), want->len);
    blob_bytes_unref(have);
    blob_bytes_unref(want);
}

static uint64_t offset_of(uint32_t i)
{
    const struct blob *x = blob_find(blobs, &refs[i].id);
    ck_assert(x != NULL && x->file != NULL);
    return x->offset;
}

/* The part that AT of the file belongs to; NULL: nothing depends on it. */
static const char *part_of(uint64_t at)
{
    if (at < 48) {
        return "header";
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        uint64_t begin = offset_of(i), end = begin + BLOB_HEAD + refs[i].len;
        if (at >= begin && at < end) {
            return at - begin < BLOB_HEAD ? "head" : "value";
        }
    }
    uint64_t index = blob_find(blobs, &refs[0].id)->file->end;
    bool entry = at >= index && at < index + COUNT * BLOB_INDEX_ENTRY;
    bool trailer = at >= index + BLOB_ALIGN - 32;
    return entry || trailer ? "index" : NULL;
}

START_TEST(all_is_sound)
{
    struct blobs_damage d;
    ck_assert_uint_eq(pass(&d), 0);
    struct blobs_stats st;
    blobs_get_stats(blobs, &st);
    ck_assert_uint_eq(st.files, 1);
}
END_TEST

/* Each byte that is not a value's, and some of those. */
START_TEST(a_flip_anywhere)
{
    struct buf whole = {0};
    struct blobs_damage d = {NULL, 0, 0, 0};
    ck_assert(sim_disk_read(host, FILE1, &whole));
    uint64_t at = 0;
    for (int i = 0; i < _i; i++) { /* one of these in each test */
        const char *in = part_of(at);
        bool value = in != NULL && strcmp(in, "value") == 0;
        at += value ? 4001 : 97;
        at = at < whole.len ? at : at - whole.len + 1;
    }
    const char *part = part_of(at);
    ck_assert(sim_disk_flip_bit(host, FILE1, at, (unsigned)_i % 8));
    unsigned found = pass(&d);
    ck_assert_msg(found == (part != NULL), "at %llu, %s: %u",
                  (unsigned long long)at, part == NULL ? "" : part, found);
    if (part != NULL) {
        ck_assert_msg(strcmp(d.part, part) == 0, "at %llu: %s, not %s",
                      (unsigned long long)at, d.part, part);
        ck_assert(d.file == 1 && d.from <= at && at < d.to);
        ck_assert_uint_eq(told, strcmp(part, "value") == 0);
    }
    world_run_for(world, 5 * SIM_S);
    if (told == 0) { /* mended by itself */
        ck_assert_uint_eq(pass(&d), 0);
        struct blobs_file f;
        restart();
        ck_assert(blobs_file_get(blobs, 0, &f));
        ck_assert_uint_eq(f.number, part == NULL ? 1 : 2);
        ck_assert(f.header_whole && f.live == COUNT && f.bad_heads == 0);
        for (uint32_t i = 0; i < COUNT; i++) {
            check_value(i);
        }
    } else {
        ck_assert_uint_eq(pass(&d), 0); /* told, but nothing new */
        ck_assert_uint_eq(told, 2);
    }
    buf_free(&whole);
}
END_TEST

/* In use, not sealed, and growing. */
START_TEST(the_file_that_is_written)
{
    struct blobs_damage d;
    for (uint32_t i = 0; i < COUNT; i++) {
        blobs_unrefer(blobs, &refs[i]);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        put(i);
        ck_assert(blobs_refer(blobs, &refs[i]));
        ck_assert_uint_eq(pass(&d), 0);
    }
    ck_assert(sim_disk_flip_bit(host, "shard-00/blobs-000002.log",
                                offset_of(0) + 20, 1));
    ck_assert_uint_eq(pass(&d), 1);
    ck_assert_str_eq(d.part, "head");
    world_run_for(world, 5 * SIM_S);
    ck_assert_uint_eq(pass(&d), 0);
    restart();
    for (uint32_t i = 0; i < COUNT; i++) {
        check_value(i);
    }
}
END_TEST

/* Blobs that die, and files that go, between two pieces. */
START_TEST(while_it_changes)
{
    struct blobs_damage d;
    struct env_io io = {.done = on_read};
    struct blobs_scrub *v = blobs_scrub_new(blobs);
    unsigned pieces = 0;
    for (waits = true; blobs_scrub_ask(v, &io) > 0; waits = true) {
        if (pieces < COUNT) {
            blobs_unrefer(blobs, &refs[pieces]);
        }
        ck_assert(world_run_while(world, waiting, NULL, SIM_S));
        ck_assert_int_eq(blobs_scrub_take(v, got, &d), ST_OK);
        pieces++;
    }
    ck_assert_uint_ge(pieces, 3);
    blobs_scrub_free(v);
}
END_TEST

/* Records of earlier versions follow each other at multiples of 512 bytes: such
 * a file is walked once, gets its index, and its values are as they were. */
START_TEST(earlier_places)
{
    struct buf file = {0};
    ck_assert(sim_disk_read(host, FILE1, &file));
    file.len = BLOB_ALIGN;
    for (uint32_t i = 0; i < COUNT; i++) {
        struct blob_bytes *x = bytes_of(i);
        uint8_t head[BLOB_HEAD];
        size_t end = file.len + blob_record_size(x->len);
        blob_head_encode(blobs, 1, file.len, &refs[i], head);
        buf_put(&file, head, sizeof(head));
        buf_put(&file, blob_bytes_data(x), x->len);
        memset(buf_reserve(&file, end - file.len), 0, end - file.len);
        file.len = end;
        blob_bytes_unref(x);
    }
    ck_assert_uint_ne(file.len % BLOB_BLOCK, 0);
    world_run_for(world, SIM_S);
    sim_host_kill(host);
    blobs_close(blobs);
    sim_disk_write(host, FILE1, buf_slice(&file));
    open_blobs(true);
    for (int round = 0; round < 2; round++) {
        struct blobs_file f;
        ck_assert(blobs_file_get(blobs, 0, &f));
        ck_assert_uint_eq(f.blobs, COUNT);
        ck_assert_int_eq(f.indexed, round == 1);
        for (uint32_t i = 0; i < COUNT; i++) {
            static uint8_t room[KIB(40)];
            struct blob_bytes *x = bytes_of(i);
            ck_assert_int_eq(blobs_read_now(blobs, &refs[i], room), ST_OK);
            ck_assert_mem_eq(room, blob_bytes_data(x), x->len);
            blob_bytes_unref(x);
        }
        restart();
    }
    buf_free(&file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blobs_scrub");
    TCase *c = tcase_create("blobs_scrub");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, earlier_places);
    tcase_add_test(c, all_is_sound);
    tcase_add_loop_test(c, a_flip_anywhere, 0, 320);
    tcase_add_test(c, the_file_that_is_written);
    tcase_add_test(c, while_it_changes);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
