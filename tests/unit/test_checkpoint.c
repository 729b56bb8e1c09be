/*
 * Checkpoints on a simulated disk: what was written comes back with the same
 * digest; damage at any byte is found; a crash or an error at any step leaves
 * the old one or the new one, whole.
 */
#include "storage/checkpoint_private.h"
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define FOLDER "shard-00"

struct bench {
    struct world *w;
    struct sim_host *h;
    struct env *e;
    struct state *s;
    struct checkpoint_writer *writer;
    struct checkpoint_ids ids;
    uint64_t position; /* of the next entry in a log; 0: there is none */
    bool done;
    enum status status;
    char file[CHECKPOINT_NAME_MAX];
};

static void power(struct bench *b)
{
    b->e = sim_env_new(b->h, NULL);
    ck_assert_int_eq(b->e->ops->dir_make(b->e, FOLDER), ST_OK);
}

static struct bench *bench_new(uint64_t seed)
{
    struct bench *b = xcalloc(1, sizeof(*b));
    b->w = world_new(seed);
    b->h = sim_host_new(b->w, "a");
    b->s = state_new();
    b->ids = (struct checkpoint_ids){{{1}}, {{2}}, 3, 7};
    power(b);
    return b;
}

static void bench_free(struct bench *b)
{
    state_free(b->s);
    world_free(b->w);
    free(b);
}

/* COUNT entries more, with values of LEN bytes. */
static void entries(struct bench *b, uint32_t count, size_t len)
{
    static uint8_t value[KIB(300)];
    for (uint32_t i = 0; i < count; i++) {
        struct name name = {1, state_applied(b->s).seq + 1};
        struct buf p = {0};
        struct applied out;
        struct id128 client = {{9}};
        char row[16];
        struct mutation m = {.kind = MUTATION_PUT};
        struct command c = {.kind = COMMAND_INTRODUCE, .client = client};
        if (name.seq > 1) {
            snprintf(row, sizeof(row), "r%u", (unsigned)(name.seq % 97));
            memset(value, (int)name.seq, len);
            m.row = slice_of(row);
            m.value = slice_make(value, len);
            c = (struct command){.kind = COMMAND_BATCH,
                                 .client = client,
                                 .session = 1,
                                 .number = name.seq,
                                 .oldest_open = name.seq,
                                 .partition = slice_of("p"),
                                 .mutations = &m,
                                 .mutations_count = 1};
        }
        wire_encode_command(&p, &c);
        state_apply(b->s, name, buf_slice(&p), b->position, &out);
        b->position += b->position == 0 ? 0 : p.len;
        ck_assert_uint_eq(out.r.status, ST_OK);
        buf_free(&p);
    }
}

static void on_done(void *ctx, enum status s, const char *file)
{
    struct bench *b = ctx;
    ck_assert(!b->done);
    b->done = true;
    b->writer = NULL;
    b->status = s;
    snprintf(b->file, sizeof(b->file), "%s", file);
}

static struct checkpoint_job job_of(struct bench *b)
{
    return (struct checkpoint_job){.env = b->e,
                                   .folder = FOLDER,
                                   .ids = b->ids,
                                   .config = slice_of("configuration"),
                                   .done = on_done,
                                   .ctx = b};
}

static void begin(struct bench *b)
{
    struct checkpoint_job j = job_of(b);
    b->done = false;
    b->writer = checkpoint_write_take(&j, state_snapshot(b->s));
}

static enum status write_one(struct bench *b)
{
    begin(b);
    world_run_for(b->w, 60 * SIM_S);
    ck_assert(b->done);
    return b->status;
}

static struct err why;

static enum status load(struct bench *b, struct state **out,
                        struct checkpoint_info *info)
{
    struct buf config = {0};
    why.text[0] = '\0';
    enum status s =
        checkpoint_load(b->e, FOLDER, &b->ids, out, &config, info, &why);
    if (s == ST_OK) {
        ck_assert(slice_equal(buf_slice(&config), slice_of("configuration")));
    } else {
        ck_assert_uint_eq(config.len, 0);
    }
    buf_free(&config);
    return s;
}

static void same(const struct state *a, const struct state *b)
{
    struct id128 x = state_digest(a), y = state_digest(b);
    ck_assert(id128_equal(x, y));
    ck_assert(name_equal(state_applied(a), state_applied(b)));
}

/* ---- tests ---- */

static const struct {
    uint32_t entries;
    size_t len;
} sizes[] = {{0, 0}, {1, 0}, {2, 10}, {300, 50}, {60, KIB(200)}, {7000, 80}};

START_TEST(round_trip)
{
    struct bench *b = bench_new(1);
    struct state *copy;
    struct checkpoint_info info;
    ck_assert_int_eq(load(b, &copy, &info), ST_NOT_FOUND);
    entries(b, sizes[_i].entries, sizes[_i].len);
    ck_assert_int_eq(write_one(b), ST_OK);
    ck_assert_int_eq(load(b, &copy, &info), ST_OK);
    ck_assert_str_eq(info.file, b->file);
    ck_assert(!info.older);
    ck_assert_uint_eq(info.newest_seq, sizes[_i].entries);
    same(copy, b->s);
    state_free(copy);
    bench_free(b);
}
END_TEST

/* The writer writes the state of its beginning, however the state goes on. */
START_TEST(snapshot_stays)
{
    struct bench *b = bench_new(2);
    struct state *copy;
    struct checkpoint_info info;
    entries(b, 60, KIB(100));
    struct id128 digest = state_digest(b->s);
    begin(b);
    while (!b->done) {
        entries(b, 1, 100);
        world_run_for(b->w, SIM_MS);
    }
    ck_assert_int_eq(b->status, ST_OK);
    ck_assert_int_eq(load(b, &copy, &info), ST_OK);
    struct id128 got = state_digest(copy);
    ck_assert(id128_equal(got, digest));
    ck_assert_uint_eq(info.applied.seq, 60);
    state_free(copy);
    bench_free(b);
}
END_TEST

static void count_file(void *ctx, const char *name)
{
    (void)name;
    (*(int *)ctx)++;
}

static int file_count(struct bench *b)
{
    int count = 0;
    ck_assert_int_eq(b->e->ops->dir_list(b->e, FOLDER, count_file, &count),
                     ST_OK);
    return count;
}

START_TEST(old_ones_go)
{
    struct bench *b = bench_new(3);
    struct checkpoint_job j;
    uint32_t tablets[4];
    size_t count;
    for (uint32_t i = 0; i < 5; i++) {
        entries(b, 10, 20);
        ck_assert_int_eq(write_one(b), ST_OK);
        ck_assert_int_eq(write_one(b), ST_OK); /* the same seq again */
        ck_assert_int_eq(file_count(b), i == 0 ? 1 : 2);
    }
    b->ids.tablet = 4;
    ck_assert_int_eq(write_one(b), ST_OK);
    ck_assert_int_eq(checkpoint_list(b->e, FOLDER, tablets, 4, &count), ST_OK);
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(tablets[0], 4);
    ck_assert_uint_eq(tablets[1], 7);
    ck_assert_int_eq(checkpoint_list(b->e, FOLDER, tablets, 1, &count),
                     ST_TOO_MANY);
    /* a state that was replaced by an earlier one takes its file along */
    state_free(b->s);
    b->s = state_new();
    b->ids.tablet = 7;
    entries(b, 2, 20);
    ck_assert_int_eq(write_one(b), ST_OK);
    ck_assert_int_eq(file_count(b), 2);
    j = job_of(b);
    b->done = false;
    (void)checkpoint_remove(&j);
    world_run_for(b->w, SIM_S);
    ck_assert(b->done);
    ck_assert_int_eq(file_count(b), 1);
    bench_free(b);
}
END_TEST

/* The newest file is of a state that was replaced by one that ends before it:
 * as long as it may come back the new one does not count. */
START_TEST(a_greater_one_must_go)
{
    uint32_t n = 0;
    enum status s;
    do {
        struct bench *b = bench_new(500 + n);
        entries(b, 10, 20);
        ck_assert_int_eq(write_one(b), ST_OK);
        state_free(b->s);
        b->s = state_new();
        entries(b, 2, 20);
        sim_disk_fail_sync(b->h, ++n);
        s = write_one(b);
        ck_assert(s == ST_OK || s == ST_IO);
        sim_disk_fail_sync(b->h, 0);
        ck_assert_int_eq(write_one(b), ST_OK);
        ck_assert_int_eq(file_count(b), 1);
        bench_free(b);
    } while (s != ST_OK);
    /* The temporary, its contents, the folder with the new name, and without
     * the other one. */
    ck_assert_uint_eq(n, 5);
}
END_TEST

static void find_file(void *ctx, const char *name, uint64_t size)
{
    struct buf *out = ctx;
    (void)size;
    if (strstr(name, ".ckpt") != NULL) {
        buf_clear(out);
        buf_put_text(out, name);
    }
}

/* Every byte: one flipped bit, found, with its place. */
START_TEST(bit_flips)
{
    struct bench *b = bench_new(4);
    struct buf name = {0}, file = {0};
    entries(b, 40, 20);
    ck_assert_int_eq(write_one(b), ST_OK);
    sim_disk_each(b->h, find_file, &name);
    const char *path = buf_cstr(&name);
    ck_assert(sim_disk_read(b->h, path, &file));
    ck_assert_uint_gt(file.len, 1500);
    for (size_t at = 0; at < file.len; at++) {
        for (unsigned bit = (unsigned)_i; bit < 8; bit += 4) {
            struct state *copy;
            struct checkpoint_info info;
            ck_assert(sim_disk_flip_bit(b->h, path, at, bit));
            enum status s = load(b, &copy, &info);
            ck_assert_msg(s == ST_CORRUPT, "bit %u at %zu: %s", bit, at,
                          status_name(s));
            ck_assert_ptr_nonnull(strstr(why.text, ".ckpt"));
            ck_assert(sim_disk_flip_bit(b->h, path, at, bit));
        }
    }
    for (size_t at = 0; at < file.len; at += 7) {
        struct state *copy;
        struct checkpoint_info info;
        sim_disk_write(b->h, path, slice_make(file.data, at));
        ck_assert_int_eq(load(b, &copy, &info), ST_CORRUPT);
    }
    buf_free(&name);
    buf_free(&file);
    bench_free(b);
}
END_TEST

/* The newest is damaged: the one before it is taken, and what is lost is
 * told. */
START_TEST(falls_back)
{
    struct bench *b = bench_new(5);
    struct buf name = {0};
    struct state *copy;
    struct checkpoint_info info;
    entries(b, 10, 20);
    ck_assert_int_eq(write_one(b), ST_OK);
    struct id128 digest = state_digest(b->s);
    entries(b, 10, 20);
    ck_assert_int_eq(write_one(b), ST_OK);
    char path[200];
    snprintf(path, sizeof(path), FOLDER "/%s", b->file);
    ck_assert(sim_disk_flip_bit(b->h, path, 300, 1));
    ck_assert_int_eq(load(b, &copy, &info), ST_OK);
    ck_assert(info.older);
    ck_assert_uint_eq(info.applied.seq, 10);
    ck_assert_uint_eq(info.newest_seq, 20);
    ck_assert_ptr_nonnull(strstr(why.text, b->file));
    struct id128 got = state_digest(copy);
    ck_assert(id128_equal(got, digest));
    state_free(copy);
    buf_free(&name);
    bench_free(b);
}
END_TEST

START_TEST(foreign)
{
    struct bench *b = bench_new(6);
    struct state *copy;
    struct checkpoint_info info;
    entries(b, 10, 20);
    ck_assert_int_eq(write_one(b), ST_OK);
    b->ids.store.b[0]++;
    ck_assert_int_eq(load(b, &copy, &info), ST_CORRUPT);
    b->ids.store.b[0]--;
    b->ids.node++;
    ck_assert_int_eq(load(b, &copy, &info), ST_CORRUPT);
    bench_free(b);
}
END_TEST

/* The disk's N-th step is the last one: power or process goes. */
START_TEST(crash_at_each_step)
{
    bool finished = false;
    for (uint32_t n = 1; !finished; n++) {
        struct bench *b = bench_new(100 + n);
        struct state *copy;
        struct checkpoint_info info;
        entries(b, 20, 2000);
        struct state_snapshot *p = state_snapshot(b->s);
        struct id128 old = state_snapshot_digest(p);
        state_snapshot_free(p);
        ck_assert_int_eq(write_one(b), ST_OK);
        entries(b, 60, KIB(60));
        sim_host_fail_at_step(b->h, n, _i == 0);
        begin(b);
        world_run_for(b->w, 10 * SIM_S);
        finished = b->done;
        if (finished) {
            ck_assert_int_eq(b->status, ST_OK);
        } else {
            checkpoint_cancel(b->writer);
            sim_host_power_on(b->h);
            power(b);
        }
        sim_host_fail_at_step(b->h, 0, false);
        ck_assert_int_eq(load(b, &copy, &info), ST_OK);
        ck_assert(!info.older);
        struct id128 got = state_digest(copy), now = state_digest(b->s);
        ck_assert(id128_equal(got, now) ||
                  (!finished && id128_equal(got, old)));
        state_free(copy);
        /* and what the crash left is in nobody's way */
        entries(b, 1, 10);
        ck_assert_int_eq(write_one(b), ST_OK);
        ck_assert_int_le(file_count(b), 2);
        ck_assert_int_eq(load(b, &copy, &info), ST_OK);
        same(copy, b->s);
        state_free(copy);
        bench_free(b);
        ck_assert_uint_lt(n, 200);
    }
}
END_TEST

/* Errors are told; the old one stays, and the next attempt is good. */
START_TEST(errors)
{
    int failures = 0;
    for (uint32_t n = 1; n < 12; n++) {
        struct bench *b = bench_new(300 + n);
        struct state *copy;
        struct checkpoint_info info;
        entries(b, 20, 2000);
        ck_assert_int_eq(write_one(b), ST_OK);
        entries(b, 60, KIB(60));
        switch (_i) {
        case 0:
            sim_disk_fail_write(b->h, n);
            break;
        case 1:
            sim_disk_fail_sync(b->h, n);
            break;
        default:
            sim_disk_limit(b->h, sim_disk_used(b->h) + n * KIB(300));
        }
        enum status s = write_one(b);
        ck_assert(s == ST_OK || s == (_i == 2 ? ST_NO_SPACE : ST_IO));
        failures += s != ST_OK;
        if (s == ST_NO_SPACE) { /* what was written is given back */
            ck_assert_int_eq(file_count(b), 1);
        }
        ck_assert_int_eq(load(b, &copy, &info), ST_OK);
        /* a folder's sync that fails leaves both names possible */
        ck_assert_uint_eq(
            info.applied.seq,
            s == ST_OK || (_i == 1 && info.applied.seq == 80) ? 80 : 20);
        state_free(copy);
        sim_disk_fail_write(b->h, 0);
        sim_disk_fail_sync(b->h, 0);
        sim_disk_limit(b->h, 0);
        ck_assert_int_eq(write_one(b), ST_OK);
        ck_assert_int_eq(file_count(b), 2);
        bench_free(b);
    }
    ck_assert_int_gt(failures, 0);
}
END_TEST

/* ---- values on disk ---- */

struct seen {
    struct place places[100];
    size_t count;
};

static void see(void *ctx, struct slice key, const struct place *p)
{
    struct seen *s = ctx;
    (void)key;
    ck_assert_uint_lt(s->count, 100);
    s->places[s->count++] = *p;
}

static struct seen places_of(const struct state *s)
{
    struct seen seen = {.count = 0};
    struct state_walk *w = state_walk_new(s);
    ck_assert(!state_walk_on(w, SIZE_MAX, see, &seen));
    state_walk_free(w);
    return seen;
}

START_TEST(places_come_back)
{
    struct bench *b = bench_new(9);
    struct buf name = {0}, file = {0};
    struct state *copy;
    struct checkpoint_info info;
    b->position = 12345;
    entries(b, 40, 5000);
    entries(b, 20, 20);
    ck_assert_int_eq(write_one(b), ST_OK);
    sim_disk_each(b->h, find_file, &name);
    ck_assert(sim_disk_read(b->h, buf_cstr(&name), &file));
    ck_assert_uint_lt(file.len, KIB(10)); /* not their bytes */
    ck_assert_int_eq(load(b, &copy, &info), ST_OK);
    same(b->s, copy);
    struct seen had = places_of(b->s), has = places_of(copy);
    ck_assert_uint_gt(had.count, 20);
    ck_assert_uint_eq(had.count, has.count);
    for (size_t i = 0; i < had.count; i++) {
        ck_assert(place_equal(&had.places[i], &has.places[i]));
    }
    state_free(copy);
    buf_free(&name);
    buf_free(&file);
    bench_free(b);
}
END_TEST

/* A block of CELLS without tags, from one with them. */
static void untag(struct slice contents, struct buf *out)
{
    struct arena a = {0};
    struct cursor c = cursor_of(contents);
    uint32_t count = cursor_u32(&c);
    buf_put_u32(out, count);
    for (; count > 0; count--) {
        struct cell cell;
        ck_assert_uint_eq(cursor_u8(&c), VALUE_INLINE);
        wire_decode_cell(&c, &a, &cell);
        wire_encode_cell(out, &cell);
    }
    ck_assert(!c.bad && cursor_left(&c) == 0);
    arena_free(&a);
}

/* FILE, of format 3 and without places, as one of FORMAT. */
static void as_format(struct slice file, uint32_t format, struct buf *out)
{
    struct cursor c = cursor_of(file);
    struct buf block = {0};
    uint32_t config = 0;
    memcpy(&config, file.data + 20, 4);
    (void)cursor_bytes(&c, 72);
    uint64_t seed = cursor_u64(&c);
    (void)cursor_bytes(&c, config + 8);
    buf_put(out, file.data, CHECKPOINT_HEAD + config);
    memcpy(out->data + 8, &format, 4);
    buf_put_u64(out, XXH3_64bits(out->data, out->len));
    while (cursor_left(&c) > 0) {
        uint32_t kind = cursor_u32(&c), len = cursor_u32(&c);
        (void)cursor_u64(&c);
        struct slice contents = cursor_bytes(&c, len);
        buf_clear(&block);
        if (kind == CHECKPOINT_CELLS) {
            untag(contents, &block);
        } else {
            buf_put_slice(&block, contents);
        }
        uint64_t sum = checkpoint_sum(kind, buf_slice(&block), out->len, seed);
        buf_put_u32(out, kind);
        buf_put_u32(out, (uint32_t)block.len);
        buf_put_u64(out, sum);
        buf_put_slice(out, buf_slice(&block));
    }
    ck_assert(!c.bad);
    buf_free(&block);
}

static const struct {
    uint32_t format;
    enum status expected;
} formats[] = {{1, ST_VERSION}, {2, ST_OK}, {4, ST_VERSION}};

START_TEST(other_formats)
{
    struct bench *b = bench_new(10);
    struct buf name = {0}, file = {0}, other = {0};
    struct state *copy;
    struct checkpoint_info info;
    entries(b, 60, 3000);
    ck_assert_int_eq(write_one(b), ST_OK);
    sim_disk_each(b->h, find_file, &name);
    ck_assert(sim_disk_read(b->h, buf_cstr(&name), &file));
    as_format(buf_slice(&file), formats[_i].format, &other);
    sim_disk_write(b->h, buf_cstr(&name), buf_slice(&other));
    enum status s = load(b, &copy, &info);
    ck_assert_msg(s == formats[_i].expected, "%s", why.text);
    if (s == ST_OK) { /* and what is written next is of today's */
        same(b->s, copy);
        state_free(b->s);
        b->s = copy;
        entries(b, 1, 3000);
        ck_assert_int_eq(write_one(b), ST_OK);
        ck_assert_int_eq(load(b, &copy, &info), ST_OK);
        same(b->s, copy);
        state_free(copy);
    }
    buf_free(&name);
    buf_free(&file);
    buf_free(&other);
    bench_free(b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("checkpoint");
    TCase *c = tcase_create("checkpoint");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, round_trip, 0, sizeof(sizes) / sizeof(sizes[0]));
    tcase_add_test(c, snapshot_stays);
    tcase_add_test(c, old_ones_go);
    tcase_add_test(c, a_greater_one_must_go);
    tcase_add_loop_test(c, bit_flips, 0, 4);
    tcase_add_test(c, falls_back);
    tcase_add_test(c, foreign);
    tcase_add_loop_test(c, crash_at_each_step, 0, 2);
    tcase_add_loop_test(c, errors, 0, 3);
    tcase_add_test(c, places_come_back);
    tcase_add_loop_test(c, other_formats, 0,
                        sizeof(formats) / sizeof(formats[0]));
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
