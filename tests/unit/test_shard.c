/*
 * When a shard's log lets go of what (R16): one shard on a simulated disk, its
 * replicas secondaries of a primary that is played by hand.
 */
#include "storage/key.h"
#include "storage/shard_blobs.h"
#include "storage/shard_damage.h"
#include "storage/shard_impl.h"
#include "storage/shard_repair.h"
#include "storage/wal_private.h"
#include "storage/wal_scrub.h"
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT KIB(64)
#define LIMIT (4 * SEGMENT)
#define PRIMARY 2

struct bench {
    struct world *w;
    struct env *e;
    struct store store;
    struct beacon_table *beacons;
    struct shard *s;
    uint64_t epoch;
};

static struct bench b;

static void on_kick(void *ctx)
{
    (void)ctx;
}

static void on_fatal(void *ctx, enum status why, const char *text)
{
    (void)ctx;
    ck_abort_msg("%s: %s", status_name(why), text);
}

static void bench_open(void)
{
    struct err err = {""};
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
    ck_assert_int_eq(store_open(b.e, 1, (struct id128){{9}}, &b.store, &err),
                     ST_OK);
    b.beacons = beacon_table_new(env_now_us(b.e), 0);
    enum status s = shard_open(&o, &b.store, b.beacons, &b.s, &err);
    ck_assert_msg(s == ST_OK, "%s", err.text);
    b.s->links = links_new(&l);
    b.epoch++;
}

static void bench_close(void)
{
    world_run_for(b.w, 1000 * SIM_MS);
    shard_free(b.s);
    beacon_table_free(b.beacons);
}

static void begin(void)
{
    memset(&b, 0, sizeof(b));
    b.w = world_new(7);
    b.e = sim_env_new(sim_host_new(b.w, "a"), NULL);
    bench_open();
}

static void end(void)
{
    bench_close();
    world_free(b.w);
}

static struct replica primary(void)
{
    return (struct replica){PRIMARY, {{PRIMARY}}};
}

/* Tablet ID enters this epoch, as a member of I or as a learner. */
static struct tablet *enter(uint32_t id, bool member)
{
    struct replica members[] = {primary(), b.s->host.self};
    struct tablet_config c = {.tablet = id,
                              .hash_last = UINT64_MAX,
                              .epoch = b.epoch,
                              .primary = primary(),
                              .primary_incarnation = {1, PRIMARY},
                              .in_sync = members,
                              .in_sync_count = member ? 2 : 1,
                              .learners = &members[1],
                              .learners_count = member ? 0 : 1};
    struct tablet *t = shard_tablet(b.s, id);
    if (t == NULL) {
        t = shard_add_tablet(b.s, id, state_new());
        replica_recovered(t->core, false);
        shard_hook_state(b.s, t);
    }
    struct event e = {.kind = EVENT_CONFIG, .u.config = &c};
    shard_step(b.s, t, &e);
    world_run_for(b.w, 50 * SIM_MS);
    ck_assert_int_eq(replica_role_of(t->core),
                     member ? REPLICA_SECONDARY : REPLICA_LEARNER);
    return t;
}

static struct tablet *follow(uint32_t id)
{
    return enter(id, true);
}

static void tell(struct tablet *t, struct wire_msg *m)
{
    struct event e = {.kind = EVENT_MESSAGE};
    e.u.message.from = primary();
    e.u.message.incarnation = (struct incarnation){1, PRIMARY};
    e.u.message.m = m;
    shard_step(b.s, t, &e);
}

static void prepare_one(struct tablet *t, struct slice payload)
{
    struct wire_msg m = {.type = MSG_PREPARE};
    struct tablet_report r;
    replica_report(t->core, &r);
    m.u.prepare = (struct msg_prepare){
        .tablet = t->id,
        .epoch = b.epoch,
        .entry = {b.epoch, r.last.seq + 1},
        .previous = r.last,
        .committed = r.last.seq,
        .payload = payload,
    };
    tell(t, &m);
    world_run_for(b.w, 30 * SIM_MS);
}

/* COUNT entries of 4 KiB, which apply to nothing; all but the last are
 * committed. */
static void prepare(struct tablet *t, unsigned count)
{
    static uint8_t junk[KIB(4)];
    for (unsigned i = 0; i < count; i++) {
        prepare_one(t, slice_make(junk, sizeof(junk)));
    }
}

static void prepare_command(struct tablet *t, struct command *c)
{
    struct buf payload = {0};
    c->client = (struct id128){{5}};
    wire_encode_command(&payload, c);
    prepare_one(t, buf_slice(&payload));
    buf_free(&payload);
}

/* The NUMBER-th put of a value which stays in the log. */
static void prepare_value(struct tablet *t, uint32_t number)
{
    static uint8_t value[KIB(3)];
    char column[16];
    (void)snprintf(column, sizeof(column), "c%04" PRIu32, number);
    struct mutation m = {.kind = MUTATION_PUT,
                         .row = slice_of("r"),
                         .column = slice_of(column),
                         .value = slice_make(value, sizeof(value))};
    struct command put = {.kind = COMMAND_BATCH,
                          .session = 1,
                          .number = number,
                          .oldest_open = number,
                          .partition = slice_of("p"),
                          .mutations = &m,
                          .mutations_count = 1};
    prepare_command(t, &put);
}

/* An entry that puts a value which stays in the log; it is the second of T. */
static void prepare_put(struct tablet *t)
{
    struct command introduce = {.kind = COMMAND_INTRODUCE};
    prepare_command(t, &introduce);
    prepare_value(t, 1);
}

static void commit(struct tablet *t)
{
    struct wire_msg m = {.type = MSG_COMMITTED};
    m.u.committed = (struct msg_committed){t->id, b.epoch, UINT64_MAX};
    tell(t, &m);
}

static void fill(struct tablet *t, unsigned count)
{
    prepare(t, count);
    commit(t);
    world_run_for(b.w, 200 * SIM_MS);
}

static bool damaged(uint32_t id)
{
    return replica_is_damaged(shard_tablet(b.s, id)->core);
}

/* Its checkpoint has all there is, but the log has a note of that commit. */
START_TEST(an_idle_tablet_does_not_keep_the_log)
{
    uint32_t id;
    uint64_t position;
    struct tablet *idle = follow(1);
    prepare(idle, 5);
    commit(idle);
    checkpoint_begin_take(b.s, idle, state_snapshot(replica_state(idle->core)));
    world_run_for(b.w, 1000 * SIM_MS);
    ck_assert_uint_eq(idle->checkpoint.seq, 5);
    ck_assert(wal_oldest_tablet(b.s->wal, &id, &position));
    ck_assert_uint_eq(id, 1); /* that note */
    fill(follow(2), 300);
    ck_assert_uint_le(wal_size(b.s->wal), LIMIT + 2 * SEGMENT);
}
END_TEST

START_TEST(a_tablet_idle_since_the_start_does_not_keep_the_log)
{
    struct tablet *idle = follow(1);
    prepare(idle, 5);
    commit(idle);
    checkpoint_begin_take(b.s, idle, state_snapshot(replica_state(idle->core)));
    bench_close();
    bench_open();
    ck_assert_uint_eq(shard_tablet(b.s, 1)->checkpoint.seq, 5);
    fill(follow(2), 300);
    ck_assert_uint_le(wal_size(b.s->wal), LIMIT + 2 * SEGMENT);
}
END_TEST

/* So that what checkpoints cost for each byte written does not grow with the
 * data. */
START_TEST(much_data_much_log)
{
    static uint8_t value[KIB(64)];
    uint64_t most = 0, data = 64 * sizeof(value);
    struct state *state = state_new();
    for (uint32_t i = 0; i < 64; i++) {
        char row[8];
        snprintf(row, sizeof(row), "%03u", i);
        struct cell cell = {.partition = slice_of("p"),
                            .row = slice_of(row),
                            .value = slice_make(value, sizeof(value))};
        ck_assert_int_eq(state_load_cell(state, &cell, NULL), ST_OK);
    }
    (void)shard_add_tablet(b.s, 1, state);
    struct tablet *t = follow(2);
    for (int i = 0; i < 20; i++) {
        fill(t, 30);
        uint64_t size = wal_size(b.s->wal);
        most = size > most ? size : most;
    }
    ck_assert_uint_gt(most, data / 4 - KIB(150)); /* what a round writes */
    ck_assert_uint_le(most, data / 4 + 2 * SEGMENT);
}
END_TEST

/* The log is far below its limit, but there is no room for more of it: what
 * checkpoints let go of is used again, before anybody makes room. */
START_TEST(a_full_disk_is_relieved_by_checkpoints)
{
    struct sim_host *h = sim_env_host(b.e);
    struct tablet *t = follow(1);
    fill(t, 20);
    /* Enough for a checkpoint, not for a segment. */
    sim_disk_limit(h, sim_disk_used(h) + SEGMENT / 2);
    uint64_t checkpoints = b.s->stats.checkpoints;
    for (int i = 0; i < 5; i++) {
        uint64_t end = wal_end(b.s->wal);
        fill(t, 10);
        world_run_for(b.w, 100 * SIM_MS);
        ck_assert(!wal_is_full(b.s->wal));
        ck_assert_uint_ge(wal_end(b.s->wal), end + 10 * KIB(4));
        ck_assert_uint_lt(wal_size(b.s->wal), LIMIT);
    }
    ck_assert_uint_gt(b.s->stats.checkpoints, checkpoints);
    /* Nothing to let go of, nothing to do. */
    checkpoints = b.s->stats.checkpoints;
    world_run_for(b.w, 10 * SIM_S);
    ck_assert_uint_eq(b.s->stats.checkpoints, checkpoints);
}
END_TEST

static void need_snapshot(struct tablet *t)
{
    struct wire_msg m = {.type = MSG_SNAPSHOT_NEEDED};
    m.u.snapshot_needed = (struct msg_snapshot_needed){t->id, b.epoch};
    tell(t, &m);
}

/* A page of a snapshot of much that ends with SEQ, with values of LEN. */
static void give_part(struct tablet *t, uint64_t seq, uint32_t count,
                      size_t len, bool more)
{
    static uint8_t value[KIB(20)];
    struct cell cells[600];
    char rows[600][16];
    struct state *empty = state_new();
    struct state_snapshot *none = state_snapshot(empty);
    struct env_peer from = {.node = PRIMARY, .store = {{PRIMARY}}};
    struct wire_msg m = {.type = MSG_TABLET_PAGE,
                         .request = b.epoch << 16 | t->id};
    struct buf clients = {0};
    state_snapshot_clients(none, &clients);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(rows[i], sizeof(rows[i]), "%04" PRIu32, i);
        cells[i] = (struct cell){.partition = slice_of("p"),
                                 .row = slice_of(rows[i]),
                                 .value = slice_make(value, len)};
    }
    m.u.tablet_page = (struct msg_tablet_page){.snapshot = 1,
                                               .name = {1, seq},
                                               .more = more,
                                               .cells = cells,
                                               .cells_count = count,
                                               .clients = buf_slice(&clients)};
    catchup_on_page(b.s, &from, &m);
    buf_free(&clients);
    state_snapshot_free(none);
    state_free(empty);
}

/* The only page of one. */
static void give_page(struct tablet *t)
{
    give_part(t, 700, 600, KIB(1), false);
    world_run_for(b.w, 900 * SIM_MS);
}

/* A snapshot that found no room is not read again at once, for nothing. */
START_TEST(a_full_disk_gives_snapshots_a_rest)
{
    struct sim_host *h = sim_env_host(b.e);
    struct links_options l = {.env = b.e, .lane = LANE_BULK};
    struct tablet *t = enter(1, false);
    int64_t rests[3], failed = 0;
    b.s->bulk = links_new(&l);
    sim_disk_limit(h, sim_disk_used(h) + KIB(200));
    for (int i = 0; i < 3; i++) {
        need_snapshot(t);
        ck_assert(t->fetch != NULL);
        while (catchup_rests(t)) {
            need_snapshot(t); /* the primary asks again and again */
            world_run_for(b.w, 100 * SIM_MS);
        }
        rests[i] = world_now(b.w) - failed;
        failed = world_now(b.w);
        give_page(t);
        ck_assert_uint_eq(t->checkpoint.seq, 0);
    }
    ck_assert_int_ge(rests[1], SIM_S);
    ck_assert_int_ge(rests[2], 2 * SIM_S);
    /* There is room: it succeeds, and the next one waits for nothing. */
    sim_disk_limit(h, 0);
    need_snapshot(t);
    while (catchup_rests(t)) {
        world_run_for(b.w, 100 * SIM_MS);
    }
    give_page(t);
    ck_assert_uint_eq(t->checkpoint.seq, 700);
    ck_assert_uint_eq(b.s->stats.snapshots_installed, 1);
}
END_TEST

START_TEST(damage_outlives_restarts)
{
    struct tablet *t = follow(1);
    fill(t, 5);
    struct wal_record gap = {.kind = WAL_ENTRY,
                             .tablet = 1,
                             .name = {b.epoch, 20},
                             .previous = {b.epoch, 19}};
    (void)wal_append(b.s->wal, &gap);
    for (int i = 0; i < 3; i++) {
        bench_close();
        bench_open();
        ck_assert(damaged(1));
        (void)follow(1);
        fill(follow(2), 150); /* much more than the log's limit */
        ck_assert(damaged(1));
        ck_assert(!damaged(2));
    }
}
END_TEST

/* Condemned while it runs: noted, and the checkpoint that has the same state
 * is void once the replica begins anew. */
START_TEST(a_condemned_one_is_not_saved_by_a_restart)
{
    struct tablet *t = follow(1);
    prepare(t, 5);
    commit(t);
    checkpoint_begin_take(b.s, t, state_snapshot(replica_state(t->core)));
    world_run_for(b.w, 1000 * SIM_MS);
    ck_assert_uint_eq(t->checkpoint.seq, 5);
    shard_condemn(b.s, t, "a test");
    struct storage_stats st;
    shard_stats(b.s, &st);
    ck_assert_uint_eq(st.condemned, 1);
    ck_assert_uint_eq(st.damaged, 1);
    bench_close();
    bench_open();
    ck_assert(damaged(1));
    (void)enter(1, false);
    ck_assert(!damaged(1));
    bench_close();
    bench_open();
    ck_assert(!damaged(1));
    ck_assert_uint_eq(
        state_applied(replica_state(shard_tablet(b.s, 1)->core)).seq, 0);
}
END_TEST

static void open_bulk(void)
{
    struct links_options l = {.env = b.e, .lane = LANE_BULK};
    b.s->bulk = links_new(&l);
}

static uint64_t applied(const struct tablet *t)
{
    return state_applied(replica_state(t->core)).seq;
}

static void checkpoint_now(struct tablet *t)
{
    checkpoint_begin_take(b.s, t, state_snapshot(replica_state(t->core)));
    world_run_for(b.w, 1000 * SIM_MS);
    ck_assert_uint_eq(t->checkpoint.seq, applied(t));
}

/* T has a checkpoint of all its five entries, was condemned, and has begun
 * anew. */
static struct tablet *wiped(void)
{
    struct tablet *t = follow(1);
    prepare(t, 5);
    commit(t);
    checkpoint_now(t);
    shard_condemn(b.s, t, "a test");
    b.epoch++;
    (void)enter(1, false);
    ck_assert(!damaged(1));
    ck_assert_uint_eq(applied(t), 0);
    return t;
}

/* Nothing was written since its checkpoint, so the snapshot that rebuilds it
 * ends with the very seq of what is void. */
START_TEST(a_rebuilt_one_is_whole_after_a_restart)
{
    struct tablet *t = wiped();
    open_bulk();
    need_snapshot(t);
    give_part(t, 5, 20, _i == 0 ? KIB(1) : KIB(2), false);
    world_run_for(b.w, 900 * SIM_MS);
    ck_assert_uint_eq(b.s->stats.snapshots_installed, 1);
    struct state_counts n;
    for (int i = 0; i < 2; i++) {
        bench_close();
        bench_open();
        ck_assert(!damaged(1));
        state_count(replica_state(shard_tablet(b.s, 1)->core), &n);
        ck_assert_uint_eq(n.cells, 20);
        ck_assert_int_eq(n.placed > 0, _i == 1);
    }
}
END_TEST

/* Until it is rebuilt the log keeps what says that its checkpoint is void,
 * however many epochs pass. */
START_TEST(what_is_void_stays_void)
{
    (void)wiped();
    fill(follow(2), 40);
    b.epoch++;
    (void)enter(1, false);
    fill(follow(2), 150); /* much more than the log's limit */
    bench_close();
    bench_open();
    ck_assert_uint_eq(applied(shard_tablet(b.s, 1)), 0);
    ck_assert(!damaged(1));
    fill(follow(2), 150);
    bench_close();
    bench_open();
    ck_assert_uint_eq(applied(shard_tablet(b.s, 1)), 0);
}
END_TEST

/* What was put into the log for a snapshot that did not come to its end is
 * nobody's: the disk does not fill with it. */
START_TEST(given_up_snapshots_leave_nothing)
{
    struct tablet *t = wiped();
    struct wal_stats st;
    open_bulk();
    for (int i = 0; i < 20; i++) {
        need_snapshot(t);
        ck_assert(t->fetch != NULL);
        give_part(t, 700, 600, KIB(2), true);
        world_run_for(b.w, 900 * SIM_MS);
        give_part(t, 701, 600, KIB(2), true); /* which is another one */
        world_run_for(b.w, 900 * SIM_MS);
    }
    wal_release(b.s->wal, 1, UINT64_MAX);
    world_run_for(b.w, SIM_S);
    wal_kept_release(b.s->wal, UINT64_MAX);
    wal_get_stats(b.s->wal, &st);
    ck_assert_uint_gt(st.moved, MIB(1));
    ck_assert_uint_le(st.kept_bytes, 3 * SEGMENT);
}
END_TEST

/* A snapshot's checkpoint that was not installed is beyond the state: what
 * that has yet to apply stays in the log. */
START_TEST(a_value_to_be_applied_stays)
{
    struct tablet *t = enter(1, false);
    struct wal_stats st;
    uint64_t position;
    prepare_put(t);
    ck_assert_uint_eq(applied(t), 1);
    t->checkpoint = (struct name){b.epoch, 700};
    t->checkpoint_epoch = b.epoch;
    fill(follow(2), 150);
    ck_assert(wal_needs(b.s->wal, 1, &position));
    commit(t);
    world_run_for(b.w, SIM_S);
    ck_assert_uint_eq(applied(t), 2);
    wal_get_stats(b.s->wal, &st);
    ck_assert_uint_eq(st.nowhere, 0);
}
END_TEST

/* The checkpoint names a value that is nowhere: as when the newest one is
 * lost, and the one before names what was moved since. */
START_TEST(a_lost_value_is_repaired)
{
    struct tablet *t = follow(1);
    struct cell_value v;
    struct key k;
    prepare_put(t);
    commit(t);
    world_run_for(b.w, SIM_S);
    ck_assert(state_get(replica_state(t->core), slice_of("p"), slice_of("r"),
                        slice_of("c0001"), &v));
    ck_assert_uint_eq(v.place.tag, VALUE_LOG);
    struct place nowhere = v.place;
    nowhere.position += UINT64_C(1) << 40;
    key_encode(&k, slice_of("p"), slice_of("r"), slice_of("c0001"));
    ck_assert(
        state_move(replica_state(t->core), key_slice(&k), &v.place, &nowhere));
    checkpoint_now(t);
    bench_close();
    bench_open();
    ck_assert(!damaged(1));
    ck_assert_uint_eq(repair_count(b.s), 1);
}
END_TEST

/* What a replica had before it begins anew takes no room, however long it
 * waits for its snapshot. */
START_TEST(what_is_void_takes_no_room)
{
    struct tablet *t = follow(1);
    prepare_put(t);
    commit(t);
    checkpoint_now(t);
    fill(follow(2), 150);
    ck_assert_uint_eq(wal_kept_count(b.s->wal), 1);
    shard_condemn(b.s, t, "a test");
    world_run_for(b.w, SIM_S);
    ck_assert_uint_eq(wal_kept_count(b.s->wal), 1);
    if (_i == 1) {
        bench_close();
        bench_open();
        ck_assert_uint_eq(wal_kept_count(b.s->wal), 1);
    }
    b.epoch++;
    t = enter(1, false);
    ck_assert(!damaged(1));
    world_run_for(b.w, SIM_S);
    ck_assert_uint_eq(wal_kept_count(b.s->wal), 0);
    bench_close();
    bench_open();
    ck_assert(!damaged(1));
    ck_assert_uint_eq(wal_kept_count(b.s->wal), 0);
}
END_TEST

static uint64_t blobs_live(void)
{
    struct blobs_stats st;
    blobs_get_stats(b.s->blobs->blobs, &st);
    return st.live_bytes;
}

static uint64_t cells_of(uint32_t id)
{
    struct state_counts n;
    state_count(replica_state(shard_tablet(b.s, id)->core), &n);
    return n.cells;
}

/* The file of a snapshot that was not installed is what a restart takes: the
 * blobs that it names stay, until another has taken its place. */
START_TEST(blobs_of_a_file_stay)
{
    struct tablet *t = enter(1, false);
    open_bulk();
    need_snapshot(t);
    give_part(t, 700, 20, KIB(20), false);
    b.epoch++;
    (void)enter(1, false); /* it comes too late */
    world_run_for(b.w, SIM_S);
    ck_assert_uint_eq(t->checkpoint.seq, 700);
    ck_assert_uint_eq(applied(t), 0);
    uint64_t live = blobs_live();
    ck_assert_uint_ge(live, 20 * KIB(20));
    if (_i == 0) {
        fill(follow(2), 300); /* the log asks all what they need */
        ck_assert_uint_eq(blobs_live(), live);
        bench_close();
        bench_open();
        ck_assert(!damaged(1));
        ck_assert_uint_eq(cells_of(1), 20);
        return;
    }
    need_snapshot(t);
    give_part(t, 750, 20, KIB(20), false);
    world_run_for(b.w, SIM_S);
    ck_assert_uint_eq(applied(t), 750);
    ck_assert_uint_le(blobs_live(), live);
    bench_close();
    bench_open();
    ck_assert(!damaged(1));
    ck_assert_uint_eq(cells_of(1), 20);
}
END_TEST

/* Of one that no file has, they go at once, so that a small disk does not fill
 * with what comes again. */
START_TEST(blobs_of_no_file_go)
{
    struct tablet *t = _i == 0 ? wiped() : enter(1, false);
    struct sim_host *h = sim_env_host(b.e);
    open_bulk();
    for (int i = 0; i < 3; i++) {
        need_snapshot(t);
        while (catchup_rests(t)) {
            world_run_for(b.w, 100 * SIM_MS);
        }
        give_part(t, 700, 20, KIB(20), false);
        for (int ms = 0; ms < 1000 && !t->installing; ms++) {
            world_run_for(b.w, SIM_MS / 10);
        }
        ck_assert(t->installing);
        ck_assert_uint_ge(blobs_live(), 20 * KIB(20));
        sim_disk_limit(h, sim_disk_used(h)); /* no room for the file */
        world_run_for(b.w, SIM_S);
        ck_assert(t->fetch == NULL);
        ck_assert_uint_eq(t->checkpoint.seq, _i == 0 ? 5 : 0);
        ck_assert_uint_eq(blobs_live(), 0);
        sim_disk_limit(h, 0);
    }
}
END_TEST

/* Of what is void they go, too: the snapshot that comes needs the room. */
START_TEST(blobs_of_what_is_void_go)
{
    struct tablet *t = enter(1, false);
    open_bulk();
    need_snapshot(t);
    give_part(t, 700, 20, KIB(20), false);
    world_run_for(b.w, SIM_S);
    ck_assert_uint_eq(applied(t), 700);
    shard_condemn(b.s, t, "a test");
    world_run_for(b.w, SIM_S);
    ck_assert_uint_ge(blobs_live(), 20 * KIB(20));
    b.epoch++;
    (void)enter(1, false);
    world_run_for(b.w, SIM_S);
    ck_assert_uint_eq(applied(t), 0);
    ck_assert_uint_eq(blobs_live(), 0);
    bench_close();
    bench_open();
    ck_assert(!damaged(1));
    ck_assert_uint_eq(applied(shard_tablet(b.s, 1)), 0);
}
END_TEST

/* A primary that has applied less sends what is behind this replica: its file
 * would take the place of one that the log goes on from. */
START_TEST(an_older_snapshot_is_not_written)
{
    struct tablet *t = follow(1);
    prepare(t, 20);
    commit(t);
    checkpoint_now(t);
    fill(t, 5);
    ck_assert_uint_eq(applied(t), 25);
    b.epoch++;
    (void)enter(1, false);
    open_bulk();
    need_snapshot(t);
    give_part(t, 10, 20, KIB(1), _i == 1);
    world_run_for(b.w, SIM_S);
    ck_assert(t->fetch == NULL);
    ck_assert_uint_eq(t->checkpoint.seq, 20);
    bench_close();
    bench_open();
    ck_assert(!damaged(1));
    ck_assert_uint_eq(applied(shard_tablet(b.s, 1)), 25);
}
END_TEST

/* However long a learner waits for its snapshot, the others get on. */
START_TEST(a_waiting_learner_does_not_keep_the_log)
{
    struct tablet *t;
    if (_i == 0) {
        t = wiped(); /* its checkpoint is void */
    } else {
        t = follow(1);
        fill(t, 20);
        b.epoch++;
        (void)enter(1, false);
    }
    uint64_t before = applied(t);
    open_bulk();
    need_snapshot(t);
    ck_assert(t->fetch != NULL);
    for (int i = 0; i < 3; i++) {
        fill(follow(2), 150);
        ck_assert_uint_le(wal_size(b.s->wal), LIMIT + 2 * SEGMENT);
    }
    ck_assert(t->fetch != NULL);
    bench_close();
    bench_open();
    ck_assert(!damaged(1));
    ck_assert_uint_eq(applied(shard_tablet(b.s, 1)), before);
    ck_assert_uint_eq(replica_config(shard_tablet(b.s, 1)->core)->epoch,
                      b.epoch - 1); /* R3 */
    fill(follow(2), 300);
    bench_close();
    bench_open();
    ck_assert(!damaged(1));
    ck_assert_uint_eq(applied(shard_tablet(b.s, 1)), before);
}
END_TEST

/* One that was asked for and found no room is tried again. */
START_TEST(a_wanted_checkpoint_is_not_forgotten)
{
    struct sim_host *h = sim_env_host(b.e);
    struct tablet *t = follow(1);
    fill(t, 5);
    sim_disk_limit(h, sim_disk_used(h));
    t->checkpoint_wanted = true;
    checkpoint_consider(b.s);
    world_run_for(b.w, 3 * SIM_S);
    ck_assert_uint_eq(b.s->stats.checkpoints, 0);
    sim_disk_limit(h, 0);
    world_run_for(b.w, 3 * SIM_S);
    ck_assert_uint_eq(b.s->stats.checkpoints, 1);
    ck_assert(!t->checkpoint_wanted);
}
END_TEST

static void on_piece(struct env_io *io, enum status st)
{
    *(enum status *)io->data = st;
}

/* One sector does not read: only what is there counts as damaged, and nothing
 * if there was just no memory. */
START_TEST(one_bad_sector_is_one)
{
    uint64_t from = 0, to = 0, bad;
    enum status read = ST_OK, st = ST_OK;
    struct env_io io = {.done = on_piece, .data = &read};
    fill(follow(1), 24); /* not half of the limit: it stays when all rests */
    struct wal_scrub *u = wal_scrub_new(b.s->wal);
    bad = 3 * SEGMENT / 2;
    unsigned found = 0, pieces = 0;
    uint64_t at = 0;
    for (size_t n; (n = wal_scrub_ask(u, &io)) > 0 && pieces < 1000; pieces++) {
        world_run_for(b.w, SIM_S);
        at = wal_scrub_position(u);
        if (_i == 0 && at <= bad && bad < at + n) {
            read = ST_IO;
        }
        read = _i == 1 ? ST_NO_MEMORY : read;
        st = wal_scrub_take(u, read, &from, &to);
        found += st == ST_CORRUPT;
        if (st == ST_CORRUPT) {
            ck_assert(from <= bad && bad < to);
            ck_assert_uint_le(to - from, 3 * KIB(8));
        }
    }
    ck_assert_uint_lt(pieces, 1000);
    ck_assert_uint_eq(found, _i == 0 ? 1 : 0);
    ck_assert(_i == 1 || at > bad);
    wal_scrub_free(u);
}
END_TEST

/* A tablet whose primary is this process, alone. */
static struct tablet *lead(uint32_t id)
{
    struct replica self = b.s->host.self;
    struct tablet_config c = {.tablet = id,
                              .hash_last = UINT64_MAX,
                              .epoch = b.epoch,
                              .primary = self,
                              .primary_incarnation = b.s->host.incarnation,
                              .in_sync = &self,
                              .in_sync_count = 1};
    struct tablet *t = shard_add_tablet(b.s, id, state_new());
    b.s->host.min_insync = 1;
    replica_recovered(t->core, false);
    struct event e = {.kind = EVENT_CONFIG, .u.config = &c};
    shard_step(b.s, t, &e);
    world_run_for(b.w, 500 * SIM_MS);
    ck_assert(replica_is_open(t->core));
    return t;
}

static void command(struct tablet *t)
{
    struct client c = {.shard = b.s};
    struct buf payload = {0};
    struct command nothing = {.kind = COMMAND_NOTHING};
    struct event e = {.kind = EVENT_COMMAND};
    wire_encode_command(&payload, &nothing);
    e.u.command.payload = buf_slice(&payload);
    e.u.command.cookie = requests_new(&c, t, REQUEST_COMMAND, 1);
    shard_step(b.s, t, &e);
    requests_drop_client(&c); /* owed to nobody */
    buf_free(&payload);
}

static void prepare_now(struct tablet *t)
{
    struct wire_msg m = {.type = MSG_PREPARE};
    struct tablet_report r;
    replica_report(t->core, &r);
    m.u.prepare = (struct msg_prepare){.tablet = t->id,
                                       .epoch = b.epoch,
                                       .entry = {b.epoch, r.last.seq + 1},
                                       .previous = r.last};
    tell(t, &m);
}

/* One primary's group holds up nobody; where several take commands each waits
 * for the others' syncs. */
START_TEST(who_leads_and_follows_is_busy)
{
    struct tablet *follower = follow(1), *leader = lead(2);
    (void)shard_is_busy(b.s);
    ck_assert(!shard_is_busy(b.s));
    command(leader);
    ck_assert(!shard_is_busy(b.s));
    prepare_now(follower);
    ck_assert(!shard_is_busy(b.s));
    world_run_for(b.w, 50 * SIM_MS);
    command(leader);
    prepare_now(follower);
    ck_assert(shard_is_busy(b.s));
    ck_assert(!shard_is_busy(b.s)); /* of the next group */
}
END_TEST

/* Many tablets share what one may keep in memory. */
START_TEST(many_tablets_keep_short_tails)
{
    (void)shard_add_tablet(b.s, 1, state_new());
    ck_assert_uint_eq(b.s->host.tail_bytes_max, KIB(256));
    for (uint32_t id = 2; id <= 64; id++) {
        (void)shard_add_tablet(b.s, id, state_new());
    }
    ck_assert_uint_eq(b.s->host.tail_bytes_max, KIB(16));
    for (uint32_t id = 65; id <= 300; id++) {
        (void)shard_add_tablet(b.s, id, state_new());
    }
    ck_assert_uint_eq(b.s->host.tail_bytes_max, KIB(8));
}
END_TEST

/* Segments that hold live values are gone when it starts: these are fetched
 * from others one by one, unless they are too many. */
START_TEST(values_of_a_lost_segment)
{
    uint32_t values = _i == 0 ? 40 : 300;
    struct tablet *t = follow(1);
    prepare_put(t);
    for (uint32_t i = 2; i <= values; i++) {
        prepare_value(t, i);
    }
    prepare(t, 40);
    commit(t);
    checkpoint_begin_take(b.s, t, state_snapshot(replica_state(t->core)));
    world_run_for(b.w, 1000 * SIM_MS);
    fill(t, 20);
    struct wal *w = b.s->wal;
    char names[32][WAL_FILE_MAX];
    uint64_t lost = 0;
    uint32_t count = 0;
    for (; count < w->kept.count; count++) {
        wal_file_name(w, w->kept.at[count].slot, names[count]);
        lost += w->kept.at[count].live / KIB(3);
    }
    ck_assert_uint_ge(lost, 10);
    ck_assert_int_eq(lost > LIMIT_REPAIRS, _i == 1);
    bench_close();
    for (uint32_t i = 0; i < count; i++) {
        ck_assert(sim_disk_remove(sim_env_host(b.e), names[i]));
    }
    bench_open();
    ck_assert_int_eq(damaged(1), _i == 1);
    ck_assert_uint_eq(repair_count(b.s), _i == 0 ? lost : 0);
    ck_assert_uint_eq(b.s->figures.values_damaged, _i == 0 ? lost : 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shard");
    TCase *c = tcase_create("log");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, an_idle_tablet_does_not_keep_the_log);
    tcase_add_test(c, a_tablet_idle_since_the_start_does_not_keep_the_log);
    tcase_add_test(c, much_data_much_log);
    tcase_add_test(c, a_full_disk_is_relieved_by_checkpoints);
    tcase_add_test(c, a_full_disk_gives_snapshots_a_rest);
    tcase_add_test(c, damage_outlives_restarts);
    tcase_add_loop_test(c, values_of_a_lost_segment, 0, 2);
    tcase_add_test(c, a_condemned_one_is_not_saved_by_a_restart);
    tcase_add_loop_test(c, a_rebuilt_one_is_whole_after_a_restart, 0, 2);
    tcase_add_test(c, what_is_void_stays_void);
    tcase_add_test(c, given_up_snapshots_leave_nothing);
    tcase_add_test(c, a_value_to_be_applied_stays);
    tcase_add_test(c, a_lost_value_is_repaired);
    tcase_add_loop_test(c, what_is_void_takes_no_room, 0, 2);
    tcase_add_loop_test(c, one_bad_sector_is_one, 0, 2);
    tcase_add_loop_test(c, blobs_of_a_file_stay, 0, 2);
    tcase_add_loop_test(c, blobs_of_no_file_go, 0, 2);
    tcase_add_test(c, blobs_of_what_is_void_go);
    tcase_add_loop_test(c, an_older_snapshot_is_not_written, 0, 2);
    tcase_add_loop_test(c, a_waiting_learner_does_not_keep_the_log, 0, 2);
    tcase_add_test(c, a_wanted_checkpoint_is_not_forgotten);
    tcase_add_test(c, who_leads_and_follows_is_busy);
    tcase_add_test(c, many_tablets_keep_short_tails);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
