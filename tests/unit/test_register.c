/*
 * The generation register on the simulated disk: what it keeps, torn tails at
 * every byte, single and double damage at every place, and a crash at every
 * step of the disk.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/register.h"
#include "tests/sim/sim_env.h"

#define NODE 3
#define TABLETS 4

static const struct id128 cluster = {{0xc1}};

static struct world *w;
static struct sim_host *host;
static struct env *env;

static void setup(void)
{
    w = world_new(7);
    host = sim_host_new(w, "c");
    env = sim_env_new(host, NULL);
}

static void teardown(void)
{
    world_free(w);
}

/* A value that is recognised by its version. */
static struct generation value_of(uint64_t version, char text[64])
{
    (void)snprintf(text, 64, "the map of version %llu, and so on",
                   (unsigned long long)version);
    return (struct generation){.promised = version + 100,
                               .accepted = version + 90,
                               .version = version,
                               .state = slice_of(text)};
}

static void check_value(const struct generation *v)
{
    char text[64];
    struct generation want = value_of(v->version, text);
    ck_assert_uint_eq(v->promised, want.promised);
    ck_assert_uint_eq(v->accepted, want.accepted);
    ck_assert(slice_equal(v->state, want.state));
}

static struct generation_register *create(uint64_t version)
{
    char text[64];
    struct err err;
    struct register_identity id = {
        .node = NODE, .tablets = TABLETS, .cluster = cluster};
    struct generation v = value_of(version, text);
    struct generation_register *r;
    ck_assert_int_eq(register_create(env, &id, &v, &r, &err), ST_OK);
    return r;
}

static void write_now(struct generation_register *r, uint64_t version)
{
    char text[64];
    struct err err;
    struct generation v = value_of(version, text);
    ck_assert_int_eq(register_write_now(r, &v, &err), ST_OK);
}

/* Opens; the version found, or 0 with *STATUS. */
static uint64_t open_version(enum status *status)
{
    struct generation_register *r = NULL;
    struct err err = {""};
    uint64_t version = 0;
    *status = register_open(env, NODE, cluster, &r, &err);
    if (*status == ST_OK) {
        check_value(register_value(r));
        version = register_value(r)->version;
    } else {
        ck_assert_str_ne(err.text, "");
    }
    register_close(r);
    return version;
}

static void image(struct buf *out)
{
    buf_clear(out);
    ck_assert(sim_disk_read(host, REGISTER_FILE, out));
}

static void put_image(const struct buf *b)
{
    sim_disk_write(host, REGISTER_FILE, buf_slice(b));
}

/* Where the records of two images differ: first and last byte. */
static void difference(const struct buf *a, const struct buf *b, size_t *first,
                       size_t *last)
{
    ck_assert_uint_eq(a->len, b->len);
    *first = a->len;
    *last = 0;
    for (size_t i = 0; i < a->len; i++) {
        if (a->data[i] != b->data[i]) {
            *first = *first < i ? *first : i;
            *last = i;
        }
    }
    ck_assert_uint_lt(*first, *last);
}

/* ---- keeping ---- */

START_TEST(keeps_the_newest_value)
{
    enum status s;
    ck_assert_uint_eq(open_version(&s), 0);
    ck_assert_int_eq(s, ST_NOT_FOUND);
    struct generation_register *r = create(1);
    for (uint64_t v = 1; v <= 20; v++) {
        register_close(r);
        struct err err;
        ck_assert_int_eq(
            register_open(env, NODE, (struct id128){{0}}, &r, &err), ST_OK);
        check_value(register_value(r));
        ck_assert_uint_eq(register_value(r)->version, v);
        ck_assert_str_eq(register_complaint(r), "");
        ck_assert(id128_equal(register_cluster(r), cluster));
        write_now(r, v + 1);
    }
    register_close(r);
}
END_TEST

START_TEST(refuses_what_is_anothers)
{
    struct err err;
    struct generation_register *r = create(1);
    register_close(r);
    r = NULL;
    ck_assert_int_eq(register_open(env, NODE + 1, cluster, &r, &err),
                     ST_WRONG_NODE);
    ck_assert_ptr_nonnull(strstr(err.text, "node 3"));
    ck_assert_int_eq(register_open(env, NODE, (struct id128){{9}}, &r, &err),
                     ST_WRONG_CLUSTER);
    ck_assert_ptr_null(strchr(err.text, '\n'));
    ck_assert_ptr_null(r);
}
END_TEST

static void done(void *ctx, enum status status)
{
    *(enum status *)ctx = status;
}

START_TEST(writes_beside_the_loop)
{
    char text[64];
    enum status s = ST_BUSY;
    struct generation_register *r = create(1);
    struct generation v = value_of(2, text);
    register_write(r, &v, done, &s);
    ck_assert_int_eq(s, ST_BUSY);
    ck_assert_uint_eq(register_value(r)->version, 1);
    world_run_for(w, SIM_S);
    ck_assert_int_eq(s, ST_OK);
    ck_assert_uint_eq(register_value(r)->version, 2);
    check_value(register_value(r));
    sim_disk_fail_sync(host, 1);
    v = value_of(3, text);
    register_write(r, &v, done, &s);
    world_run_for(w, SIM_S);
    ck_assert_int_eq(s, ST_IO);
    ck_assert_uint_eq(register_value(r)->version, 2);
    register_close(r);
}
END_TEST

START_TEST(a_full_disk_stops_no_change)
{
    struct generation_register *r = create(1);
    sim_disk_limit(host, sim_disk_used(host));
    for (uint64_t v = 2; v < 30; v++) {
        write_now(r, v);
    }
    register_close(r);
}
END_TEST

/* ---- tears ---- */

/* Each prefix of the newest record over what was there before. */
START_TEST(torn_at_every_byte)
{
    struct buf before = {0}, after = {0}, torn = {0};
    size_t first, last;
    enum status s;
    struct generation_register *r = create(1);
    for (uint64_t v = 2; v <= 4 + (uint64_t)_i; v++) {
        write_now(r, v);
    }
    uint64_t newest = register_value(r)->version;
    image(&before);
    write_now(r, newest + 1);
    image(&after);
    register_close(r);
    difference(&before, &after, &first, &last);
    for (size_t cut = first; cut <= last + 1; cut++) {
        buf_clear(&torn);
        buf_put(&torn, after.data, cut);
        buf_put(&torn, before.data + cut, before.len - cut);
        put_image(&torn);
        uint64_t found = open_version(&s);
        ck_assert_int_eq(s, ST_OK);
        ck_assert_uint_eq(found, cut <= last ? newest : newest + 1);
        /* And the suffix alone, as sectors go to disk in any order. */
        buf_clear(&torn);
        buf_put(&torn, before.data, cut);
        buf_put(&torn, after.data + cut, after.len - cut);
        put_image(&torn);
        found = open_version(&s);
        ck_assert_int_eq(s, ST_OK);
        ck_assert_uint_eq(found, cut > first ? newest : newest + 1);
    }
    buf_free(&before);
    buf_free(&after);
    buf_free(&torn);
}
END_TEST

/* ---- damage ---- */

/* A register whose newest value stands in two places, as at rest. */
static uint64_t at_rest(struct buf *out, unsigned writes)
{
    struct generation_register *r = create(1);
    for (uint64_t v = 2; v < 2 + writes; v++) {
        write_now(r, v);
    }
    uint64_t newest = register_value(r)->version;
    write_now(r, newest);
    register_close(r);
    image(out);
    return newest;
}

static uint64_t slot_size(const struct buf *b)
{
    return (b->len - 2 * REGISTER_BLOCK) / REGISTER_SLOTS;
}

START_TEST(every_single_flipped_bit_is_mended)
{
    struct buf good = {0};
    enum status s;
    uint64_t newest = at_rest(&good, (unsigned)_i);
    for (size_t i = 0; i < good.len; i++) {
        /* Beyond the records there is nothing but zeros. */
        size_t in_block = i < 2 * REGISTER_BLOCK
                              ? i % REGISTER_BLOCK
                              : (i - 2 * REGISTER_BLOCK) % slot_size(&good);
        if (in_block >= 128) {
            continue;
        }
        put_image(&good);
        sim_disk_flip_bit(host, REGISTER_FILE, i, (unsigned)(i % 8));
        ck_assert_uint_eq(open_version(&s), newest);
        ck_assert_int_eq(s, ST_OK);
    }
    buf_free(&good);
}
END_TEST

START_TEST(every_zeroed_or_swapped_block_is_mended)
{
    struct buf good = {0}, bad = {0};
    enum status s;
    uint64_t newest = at_rest(&good, 6);
    size_t blocks = good.len / REGISTER_BLOCK;
    for (size_t i = 0; i < blocks; i++) {
        buf_clear(&bad);
        buf_put_slice(&bad, buf_slice(&good));
        memset(bad.data + i * REGISTER_BLOCK, 0, REGISTER_BLOCK);
        put_image(&bad);
        ck_assert_uint_eq(open_version(&s), newest);
        if (i == 0 || i + 1 == blocks) {
            continue;
        }
        /* The header's block with another; a record with an empty one. */
        buf_clear(&bad);
        buf_put_slice(&bad, buf_slice(&good));
        memcpy(bad.data, good.data + i * REGISTER_BLOCK, REGISTER_BLOCK);
        memcpy(bad.data + i * REGISTER_BLOCK, good.data, REGISTER_BLOCK);
        put_image(&bad);
        ck_assert_uint_eq(open_version(&s), newest);
    }
    buf_free(&good);
    buf_free(&bad);
}
END_TEST

/* Records moved to each other's places are not taken for records. */
START_TEST(swapped_records_are_refused)
{
    struct buf good = {0}, bad = {0};
    enum status s;
    (void)at_rest(&good, 6);
    size_t size = slot_size(&good);
    uint8_t *one, *two;
    buf_put_slice(&bad, buf_slice(&good));
    one = bad.data + 2 * REGISTER_BLOCK;
    two = one + size;
    uint8_t *keep = xmalloc(size);
    memcpy(keep, one, size);
    memcpy(one, two, size);
    memcpy(two, keep, size);
    free(keep);
    put_image(&bad);
    ck_assert_uint_eq(open_version(&s), 0);
    ck_assert_int_eq(s, ST_CORRUPT);
    buf_free(&good);
    buf_free(&bad);
}
END_TEST

/* Both copies of the newest value: something that was announced may be lost,
 * so an older one is never taken in its place. */
START_TEST(both_copies_damaged_is_refused)
{
    struct buf good = {0};
    enum status s;
    for (unsigned writes = 0; writes < 8; writes++) {
        uint64_t newest = at_rest(&good, writes);
        uint64_t copies[2] = {newest, newest + 1}; /* their sequences */
        for (unsigned part = 0; part < 2; part++) {
            put_image(&good);
            for (size_t k = 0; k < 2; k++) {
                uint64_t at = 2 * REGISTER_BLOCK +
                              copies[k] % REGISTER_SLOTS * slot_size(&good);
                at += part == 0 ? 3 : 40; /* its header; its payload */
                ck_assert(sim_disk_flip_bit(host, REGISTER_FILE, at, 2));
            }
            ck_assert_uint_eq(open_version(&s), 0);
            ck_assert_int_eq(s, ST_CORRUPT);
        }
    }
    buf_free(&good);
}
END_TEST

START_TEST(header_lost_or_of_another_format_is_refused)
{
    struct buf good = {0};
    enum status s;
    (void)at_rest(&good, 3);
    for (unsigned k = 0; k < 2; k++) {
        ck_assert(
            sim_disk_flip_bit(host, REGISTER_FILE, k * REGISTER_BLOCK, 1));
    }
    ck_assert_uint_eq(open_version(&s), 0);
    ck_assert_int_eq(s, ST_CORRUPT);
    put_image(&good);
    ck_assert(sim_disk_truncate(host, REGISTER_FILE, 0));
    ck_assert_uint_eq(open_version(&s), 0);
    ck_assert_int_eq(s, ST_CORRUPT);
    buf_free(&good);
}
END_TEST

START_TEST(cut_off_file_is_mended_or_refused)
{
    struct buf good = {0};
    enum status s;
    uint64_t newest = at_rest(&good, 5);
    for (size_t len = good.len; len > 0; len -= REGISTER_BLOCK) {
        put_image(&good);
        ck_assert(sim_disk_truncate(host, REGISTER_FILE, len));
        uint64_t found = open_version(&s);
        ck_assert(found == newest || (found == 0 && s == ST_CORRUPT));
    }
    buf_free(&good);
}
END_TEST

/* ---- crashes ---- */

static bool waiting(void *ctx)
{
    return *(enum status *)ctx == ST_BUSY && sim_env_alive(env);
}

/* Beside the loop; ST_STOPPING if the host died before it was done. */
static enum status write_async(struct generation_register *r,
                               const struct generation *v)
{
    static enum status s;
    s = ST_BUSY;
    register_write(r, v, done, &s);
    (void)world_run_while(w, waiting, &s, 10 * SIM_S);
    return s == ST_BUSY ? ST_STOPPING : s;
}

/* Makes and writes until the host dies; the newest version that was said to
 * be durable. */
static uint64_t run_until_crash(uint64_t from, uint64_t *tried)
{
    struct err err;
    char text[64];
    uint64_t durable = 0;
    struct generation_register *r = NULL;
    struct register_identity id = {
        .node = NODE, .tablets = TABLETS, .cluster = cluster};
    struct generation v = value_of(from, text);
    enum status s = register_open(env, NODE, cluster, &r, &err);
    if (s == ST_NOT_FOUND) {
        *tried = from;
        s = register_create(env, &id, &v, &r, &err);
        durable = s == ST_OK ? from : 0;
    } else if (s == ST_OK) {
        durable = register_value(r)->version;
        check_value(register_value(r));
    }
    for (uint64_t next = durable + 1; s == ST_OK && next < from + 12; next++) {
        v = value_of(next, text);
        *tried = next;
        s = next % 3 == 0 ? register_write_now(r, &v, &err)
                          : write_async(r, &v);
        durable = s == ST_OK ? next : durable;
    }
    if (sim_env_alive(env)) {
        register_close(r);
    } else {
        register_forget(r);
    }
    return durable;
}

START_TEST(crash_at_every_step)
{
    bool power = _i == 1;
    for (uint32_t n = 1; n < 40; n++) {
        for (uint64_t seed = 1; seed <= 4; seed++) {
            world_free(w);
            w = world_new(seed * 1000 + n);
            host = sim_host_new(w, "c");
            env = sim_env_new(host, NULL);
            uint64_t tried = 0, found;
            enum status s;
            sim_host_fail_at_step(host, n, power);
            uint64_t durable = run_until_crash(1, &tried);
            bool died = !sim_env_alive(env);
            world_run_for(w, SIM_S);
            if (!died) {
                continue; /* it ran to the end: n is past all steps */
            }
            env = sim_env_new(host, NULL);
            found = open_version(&s);
            if (durable == 0) {
                ck_assert(s == ST_NOT_FOUND || found == 1);
            } else {
                ck_assert_int_eq(s, ST_OK);
                ck_assert_uint_ge(found, durable);
                ck_assert_uint_le(found, tried);
            }
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("register");
    TCase *t = tcase_create("register");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, keeps_the_newest_value);
    tcase_add_test(t, refuses_what_is_anothers);
    tcase_add_test(t, writes_beside_the_loop);
    tcase_add_test(t, a_full_disk_stops_no_change);
    tcase_add_loop_test(t, torn_at_every_byte, 0, 4);
    tcase_add_loop_test(t, every_single_flipped_bit_is_mended, 0, 6);
    tcase_add_test(t, every_zeroed_or_swapped_block_is_mended);
    tcase_add_test(t, swapped_records_are_refused);
    tcase_add_test(t, both_copies_damaged_is_refused);
    tcase_add_test(t, header_lost_or_of_another_format_is_refused);
    tcase_add_test(t, cut_off_file_is_mended_or_refused);
    tcase_add_loop_test(t, crash_at_every_step, 0, 2);
    suite_add_tcase(s, t);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
