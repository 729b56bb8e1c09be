/*
 * The collector (storage/shard_collect.c): one shard on a simulated disk, sole
 * primary of some tablets, with few cells that are written again and again.
 * The log stays small, writers hardly wait, and whenever the process dies
 * every value that was acknowledged is there and right.
 */
#include "storage/key.h"
#include "storage/replica_impl.h"
#include "storage/shard_collect.h"
#include "storage/shard_impl.h"
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT KIB(128)
#define LIMIT (4 * SEGMENT)
#define TABLETS 3
#define KEYS 60
#define LEN_MAX KIB(16)

/* What a cell has: bytes that follow from N; 0: nothing. */
struct written {
    uint32_t n, len;
};

struct bench {
    struct world *w;
    struct sim_host *h;
    struct env *e;
    struct store store;
    struct beacon_table *beacons;
    struct shard *s;
    struct err err;
    uint64_t session[TABLETS + 1], number[TABLETS + 1], random;
    struct written sure[TABLETS + 1][KEYS]; /* acknowledged ... */
    struct written last[TABLETS + 1][KEYS]; /* ... and asked for */
    uint32_t n;
    int64_t longest_us; /* that a command took */
    bool full_seen;
};

static struct bench b;

static uint64_t below(uint64_t n)
{
    b.random = b.random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (b.random >> 33) % n;
}

static void fill(uint8_t *out, struct written v)
{
    for (uint32_t i = 0; i < v.len; i++) {
        out[i] = (uint8_t)(v.n * 131 + i * 7 + (i >> 8));
    }
}

/* ---- the shard ---- */

static void on_kick(void *ctx)
{
    (void)ctx;
}

static void on_fatal(void *ctx, enum status why, const char *text)
{
    (void)ctx;
    ck_abort_msg("%s: %s", status_name(why), text);
}

static void configure(uint32_t id)
{
    struct replica self = b.s->host.self;
    struct tablet *t = shard_tablet(b.s, id);
    if (t == NULL) {
        t = shard_add_tablet(b.s, id, state_new());
        replica_recovered(t->core, false);
        shard_hook_state(b.s, t);
    }
    struct tablet_config c = {.tablet = id,
                              .hash_last = UINT64_MAX,
                              .epoch = replica_config(t->core)->epoch + 1,
                              .primary = self,
                              .primary_incarnation = b.store.incarnation,
                              .in_sync = &self,
                              .in_sync_count = 1};
    struct event e = {.kind = EVENT_CONFIG, .u.config = &c};
    shard_step(b.s, t, &e);
}

static void run(int64_t us)
{
    world_run_for(b.w, us);
}

/* Sends C; returns the seq of its entry, 0 if it was refused. */
static uint64_t command(uint32_t tablet, const struct command *c)
{
    struct tablet *t = shard_tablet(b.s, tablet);
    struct request *q = xcalloc(1, sizeof(*q));
    struct buf bytes = {0};
    q->kind = REQUEST_COMMAND;
    q->tablet = t;
    wire_encode_command(&bytes, c);
    struct event e = {.kind = EVENT_COMMAND};
    e.u.command.payload = buf_slice(&bytes);
    e.u.command.cookie = q;
    e.u.command.need = state_need(c);
    uint64_t before = log_last(t->core).seq;
    shard_step(b.s, t, &e);
    uint64_t after = log_last(t->core).seq;
    buf_free(&bytes);
    return after > before ? after : 0;
}

static uint64_t committed(uint32_t tablet)
{
    struct tablet_report r;
    replica_report(shard_tablet(b.s, tablet)->core, &r);
    return r.committed.seq;
}

static void await(uint32_t tablet, uint64_t seq)
{
    int64_t since = world_now(b.w);
    while (committed(tablet) < seq) {
        run(100);
        ck_assert_int_lt(world_now(b.w) - since, 10 * SIM_S);
    }
    int64_t took = world_now(b.w) - since;
    b.longest_us = took > b.longest_us ? took : b.longest_us;
}

static void introduce(uint32_t tablet)
{
    struct command c = {.kind = COMMAND_INTRODUCE, .client = {{1}}};
    uint64_t seq = 0;
    while (seq == 0) { /* until it is open */
        run(10 * SIM_MS);
        seq = command(tablet, &c);
    }
    await(tablet, seq);
    b.session[tablet] = seq;
    b.number[tablet] = 0;
}

static void bench_open(void)
{
    struct storage_node_options o = {
        .env = b.e,
        .node = 1,
        .name = "storage-1",
        .log_limit = LIMIT,
        .segment_size = SEGMENT,
        .kick = on_kick,
        .on_fatal = on_fatal,
    };
    struct links_options l = {.env = b.e, .lane = LANE_REQUEST};
    ck_assert_int_eq(store_open(b.e, 1, (struct id128){{9}}, &b.store, &b.err),
                     ST_OK);
    b.beacons = beacon_table_new(env_now_us(b.e), 0);
    enum status s = shard_open(&o, &b.store, b.beacons, &b.s, &b.err);
    ck_assert_msg(s == ST_OK, "%s", b.err.text);
    b.s->links = links_new(&l);
    b.s->host.min_insync = 1;
    for (uint32_t i = 1; i <= TABLETS; i++) {
        configure(i);
    }
    for (uint32_t i = 1; i <= TABLETS; i++) {
        introduce(i);
    }
}

static void bench_close(void)
{
    shard_free(b.s);
    beacon_table_free(b.beacons);
}

static void begin_seed(uint64_t seed)
{
    memset(&b, 0, sizeof(b));
    b.random = seed * 77 + 3;
    b.w = world_new(seed);
    b.h = sim_host_new(b.w, "a");
    b.e = sim_env_new(b.h, NULL);
    bench_open();
}

static void end(void)
{
    sim_host_kill(b.h); /* so that nothing is waited for */
    bench_close();
    world_free(b.w);
}

static void crash(bool power)
{
    if (power) {
        sim_host_power_off(b.h);
    } else {
        sim_host_kill(b.h);
    }
    bench_close();
    if (power) {
        sim_host_power_on(b.h);
    }
    b.e = sim_env_new(b.h, NULL);
    bench_open();
}

/* ---- cells ---- */

static void row_of(uint32_t key, char out[8])
{
    snprintf(out, 8, "%04u", key % 10000);
}

/* Its entry's seq; 0: refused. */
static uint64_t mutate(uint32_t tablet, struct mutation *m)
{
    struct command c = {.kind = COMMAND_BATCH,
                        .client = {{1}},
                        .session = b.session[tablet],
                        .number = b.number[tablet] + 1,
                        .oldest_open = b.number[tablet] + 1,
                        .partition = slice_of("p"),
                        .mutations = m,
                        .mutations_count = 1};
    uint64_t seq = command(tablet, &c);
    b.number[tablet] += seq != 0;
    return seq;
}

/* False: the disk is full. WAIT: until it is acknowledged. */
static bool put(uint32_t tablet, uint32_t key, uint32_t len, bool wait)
{
    static uint8_t bytes[LEN_MAX];
    char row[8];
    struct written v = {++b.n, len};
    row_of(key, row);
    fill(bytes, v);
    struct mutation m = {.kind = MUTATION_PUT,
                         .row = slice_of(row),
                         .column = slice_of("c"),
                         .value = slice_make(bytes, len)};
    uint64_t seq = mutate(tablet, &m);
    int64_t since = world_now(b.w);
    while (seq == 0) { /* a segment is being made */
        if (wal_is_full(b.s->wal)) {
            return false;
        }
        run(SIM_MS);
        seq = mutate(tablet, &m);
    }
    int64_t took = world_now(b.w) - since;
    b.longest_us = took > b.longest_us ? took : b.longest_us;
    wait = wait || b.last[tablet][key].n != b.sure[tablet][key].n;
    b.last[tablet][key] = v; /* one at most is not sure */
    if (wait) {
        await(tablet, seq);
        b.sure[tablet][key] = v;
    }
    return true;
}

static bool remove_cell(uint32_t tablet, uint32_t key)
{
    char row[8];
    row_of(key, row);
    struct mutation m = {
        .kind = MUTATION_DELETE, .row = slice_of(row), .column = slice_of("c")};
    uint64_t seq = mutate(tablet, &m);
    if (seq != 0) {
        await(tablet, seq);
        b.sure[tablet][key] = b.last[tablet][key] = (struct written){0};
    }
    return seq != 0;
}

static bool is_value(uint32_t tablet, const char *row, struct written v)
{
    static uint8_t want[LEN_MAX], got[LEN_MAX];
    struct cell_value have;
    bool there = state_get(replica_state(shard_tablet(b.s, tablet)->core),
                           slice_of("p"), slice_of(row), slice_of("c"), &have);
    if (!there || v.n == 0) {
        return !there && v.n == 0;
    }
    fill(want, v);
    if (have.place.tag == VALUE_INLINE) {
        return slice_equal(have.bytes, slice_make(want, v.len));
    }
    ck_assert_int_eq(have.place.tag, VALUE_LOG);
    return have.place.len == v.len &&
           wal_value_read_now(b.s->wal, have.place.position, v.len, got) ==
               ST_OK &&
           memcmp(got, want, v.len) == 0;
}

/* Every cell has what was acknowledged last, or what was asked for since. */
static void check_cells(void)
{
    char row[8];
    for (uint32_t i = 1; i <= TABLETS; i++) {
        for (uint32_t k = 0; k < KEYS; k++) {
            row_of(k, row);
            bool last = is_value(i, row, b.last[i][k]);
            ck_assert(last || is_value(i, row, b.sure[i][k]));
            b.sure[i][k] = last ? b.last[i][k] : b.sure[i][k];
            b.last[i][k] = b.sure[i][k];
        }
    }
}

/* A cell names nothing that a power loss could still take: a checkpoint may be
 * taken at any moment. */
static void check_synced(uint32_t tablet)
{
    char row[8];
    struct cell_value v;
    for (uint32_t k = 0; k < KEYS; k++) {
        row_of(k, row);
        if (state_get(replica_state(shard_tablet(b.s, tablet)->core),
                      slice_of("p"), slice_of(row), slice_of("c"), &v) &&
            v.place.tag == VALUE_LOG) {
            ck_assert_uint_le(v.place.position + v.place.len,
                              wal_synced(b.s->wal));
        }
    }
}

static uint64_t live_bytes(void)
{
    uint64_t bytes = 0;
    for (uint32_t i = 1; i <= TABLETS; i++) {
        for (uint32_t k = 0; k < KEYS; k++) {
            bytes += b.last[i][k].len;
        }
    }
    return bytes;
}

static struct storage_figures figures(void)
{
    struct storage_figures f;
    shard_figures(b.s, &f);
    return f;
}

/* Few keys are written often, many now and then: so each segment has some of
 * these when all others in it are dead. */
static bool put_any(uint32_t from, bool wait)
{
    uint32_t key = (uint32_t)below(below(10) == 0 ? KEYS : 5);
    uint32_t tablet = from + (uint32_t)below(TABLETS + 1 - from);
    return put(tablet, key, (uint32_t)(1025 + below(LEN_MAX - 1025)), wait);
}

/* ---- tests ---- */

/* Some megabytes of cells, a hundred times over, some of which never change:
 * they must be moved out of the way. */
START_TEST(bounded)
{
    begin_seed((uint64_t)_i);
    uint64_t most = 0, payload = 0;
    for (uint32_t i = 1; i <= TABLETS; i++) {
        for (uint32_t k = 0; k < KEYS; k++) {
            ck_assert(
                put(i, k, (uint32_t)(2048 + below(LEN_MAX - 2048)), true));
        }
    }
    b.longest_us = 0;
    for (int n = 0; n < 4000; n++) {
        (void)put_any(1, true);
        check_synced(1 + (uint32_t)n % TABLETS);
        uint64_t used = sim_disk_used(b.h);
        most = used > most ? used : most;
    }
    run(5 * SIM_S);
    check_cells();
    struct storage_figures f = figures();
    payload = f.payload_bytes;
    ck_assert_uint_gt(f.collections, 3);
    ck_assert_uint_gt(f.log_moved, 0);
    ck_assert_uint_gt(f.log_collected, 10 * SEGMENT);
    /* The log's own, spare segments, and what SLACK allows. */
    uint64_t constant = LIMIT + 12 * SEGMENT;
    ck_assert_uint_lt(most, 3 * live_bytes() + constant);
    ck_assert_uint_lt(f.log_written + f.checkpoint_bytes, 3 * payload);
    ck_assert_int_lt(b.longest_us, 200 * SIM_MS);
    end();
}
END_TEST

/* Dies at any time, also with the power. */
START_TEST(crashes)
{
    begin_seed(100 + (uint64_t)_i);
    uint64_t rounds = 0, moved = 0;
    for (int life = 0; life < 8; life++) {
        uint64_t count = 50 + below(400);
        for (uint64_t n = 0; n < count; n++) {
            (void)put_any(1, below(2) == 0);
        }
        run((int64_t)below(50 * SIM_MS));
        struct storage_figures f = figures();
        rounds += f.collections;
        moved += f.log_moved;
        crash(below(2) == 0);
        check_cells();
    }
    ck_assert_uint_gt(rounds, 0);
    end();
}
END_TEST

/* A value that has rotten is not copied: its replica is no good any more. */
START_TEST(rotten)
{
    char name[64];
    struct cell_value have;
    begin_seed(7);
    ck_assert(put(1, 1, 3000, true));
    (void)state_get(replica_state(shard_tablet(b.s, 1)->core), slice_of("p"),
                    slice_of("0001"), slice_of("c"), &have);
    snprintf(name, sizeof(name), "shard-00/wal-%06u.log", 1);
    struct buf file = {0};
    run(SIM_S);
    ck_assert(sim_disk_read(b.h, name, &file));
    uint8_t want[16];
    memcpy(want, file.data + have.place.position, sizeof(want));
    buf_free(&file);
    uint8_t bad[4] = {1, 2, 3, 4};
    ck_assert(sim_disk_overwrite(b.h, name, have.place.position + 100,
                                 slice_make(bad, sizeof(bad))));
    for (int n = 0; n < 1500; n++) {
        (void)put_any(2, true);
    }
    struct storage_figures f = figures();
    ck_assert_uint_gt(f.values_damaged, 0);
    ck_assert_uint_gt(f.log_collected, 0);
    /* All there is of its tablet: it goes on with what is left. */
    ck_assert(put(1, 2, 3000, true));
    end();
}
END_TEST

/* The disk fills up, and cells that are overwritten make room again: nobody
 * but the collector can. */
START_TEST(full_disk)
{
    begin_seed(20 + (uint64_t)_i);
    for (uint32_t i = 1; i <= TABLETS; i++) {
        for (uint32_t k = 0; k < KEYS; k++) {
            ck_assert(put(i, k, (uint32_t)(4096 + below(4096)), true));
        }
    }
    sim_disk_limit(b.h, sim_disk_used(b.h) + 10 * SEGMENT);
    uint32_t taken = 0, lately = 0;
    for (int n = 0; n < 3000; n++) {
        if (put_any(1, true)) {
            taken++;
            lately += n >= 2500;
        } else {
            run(50 * SIM_MS);
        }
    }
    run(3 * SIM_S);
    check_cells();
    ck_assert_uint_gt(taken, 700);
    ck_assert_uint_gt(lately, 100); /* and it goes on like that */
    ck_assert(!wal_is_full(b.s->wal));
    crash(true);
    check_cells();
    end();
}
END_TEST

/* Each cell once: nothing is dead. False when it has been refused for long. */
static bool put_new(uint32_t i, bool patient)
{
    for (int n = 0; n < 40; n++) {
        if (put(1 + i % TABLETS, i / TABLETS, LEN_MAX, true)) {
            return true;
        }
        run(patient ? 100 * SIM_MS : SIM_MS);
    }
    return false;
}

/* A disk that is full of what lives: deleting is taken, and gives back. */
START_TEST(deletes_empty_a_full_disk)
{
    uint32_t had = 0, again = 0;
    begin_seed(30 + (uint64_t)_i);
    sim_disk_limit(b.h, sim_disk_used(b.h) + 8 * SEGMENT);
    while (had < TABLETS * KEYS && put_new(had, true)) {
        had++;
    }
    ck_assert_uint_lt(had, TABLETS * KEYS); /* full */
    ck_assert_uint_gt(had, 10);
    for (uint32_t i = 0; i < had; i++) {
        ck_assert_msg(remove_cell(1 + i % TABLETS, i / TABLETS),
                      "refused: %u of %u", i, had);
    }
    while (again < had / 2 && put_new(again, true)) {
        again++;
    }
    ck_assert_uint_eq(again, had / 2);
    check_cells();
    crash(true);
    check_cells();
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("collect");
    TCase *c = tcase_create("collect");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, bounded, 0, 3);
    tcase_add_loop_test(c, crashes, 0, 20);
    tcase_add_test(c, rotten);
    tcase_add_loop_test(c, full_disk, 0, 3);
    tcase_add_loop_test(c, deletes_empty_a_full_disk, 0, 3);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
