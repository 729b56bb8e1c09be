/*
 * Explaining a log: what the witness hears is what was written, the lines say
 * it; and logs that no process of ours would write, with every checksum right,
 * are told of and recovered from without a crash.
 */
#include "storage/inspect.h"
#include "storage/shard.h"
#include "tests/sim/sim_env.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT KIB(64)
#define SEEDS 300
#define RECORDS 60

struct bench {
    struct world *w;
    struct sim_host *h;
    struct env *e;
    struct store store;
    struct wal *wal;
    struct wal_report report;
    struct err err;
    struct inspect p;
    struct buf out;
    uint64_t seed;
};

static void on_note(void *ctx, bool noted, uint64_t begin, uint64_t known)
{
    struct bench *b = ctx;
    b->p.noted = noted;
    b->p.note_begin = begin;
    b->p.note_known = known;
}

static void on_segment(void *ctx, const struct wal_found *f)
{
    struct bench *b = ctx;
    inspect_add_segment(&b->p, f);
}

static void on_record(void *ctx, const struct wal_record *r, uint64_t counter,
                      uint64_t mark)
{
    struct bench *b = ctx;
    ck_assert_uint_le(mark, r->position);
    inspect_add_record(&b->p, r);
    inspect_print_record(&b->p, r, counter, mark, &b->out);
}

static void on_damage(void *ctx, uint64_t from, uint64_t to)
{
    struct bench *b = ctx;
    inspect_add_damage(&b->p, from, to);
}

/* The process starts (again); WATCH: with a witness. */
static void bench_open(struct bench *b, bool watch)
{
    struct wal_witness witness = {on_note, on_segment, on_record, on_damage, b};
    b->e = sim_env_new(b->h, NULL);
    ck_assert_int_eq(
        store_open(b->e, 1, (struct id128){{9}}, &b->store, &b->err), ST_OK);
    struct wal_options o = {
        .cluster = b->store.cluster,
        .node = b->store.node,
        .store = b->store.id,
        .key = {b->store.record_key[0], b->store.record_key[1]},
        .start_counter = b->store.incarnation.counter,
        .segment_size = SEGMENT,
        .folder = b->p.folder,
        .witness = watch ? &witness : NULL,
    };
    enum status s = wal_open(b->e, &o, NULL, &b->p.log, &b->wal, &b->err);
    ck_assert_msg(s == ST_OK, "%s", b->err.text);
}

static void bench_close(struct bench *b)
{
    world_run_for(b->w, 2000 * SIM_MS);
    wal_close(b->wal);
    b->wal = NULL;
}

static struct bench *bench_new(uint64_t seed)
{
    struct bench *b = xcalloc(1, sizeof(*b));
    b->seed = seed;
    b->w = world_new(seed);
    b->h = sim_host_new(b->w, "a");
    b->p.tablets = xcalloc(LIMIT_TABLETS, sizeof(*b->p.tablets));
    b->p.dir = "/a";
    store_shard_folder(0, b->p.folder);
    bench_open(b, false);
    return b;
}

static void bench_free(struct bench *b)
{
    world_free(b->w);
    inspect_free(&b->p);
    buf_free(&b->out);
    free(b);
}

static uint64_t draw(struct bench *b, uint64_t below)
{
    b->seed = b->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (b->seed >> 33) % below;
}

static void append(struct bench *b, enum wal_kind kind, uint32_t tablet,
                   uint64_t seq)
{
    struct wal_record r = {.kind = kind,
                           .tablet = tablet,
                           .name = {1, seq},
                           .previous = {seq > 1, seq - 1},
                           .seq = seq,
                           .payload = slice_of(kind == WAL_ENTRY ? "x" : "")};
    (void)wal_append(b->wal, &r);
}

static void expect_text(struct bench *b, const char *text)
{
    const char *got = buf_cstr(&b->out);
    ck_assert_msg(strstr(got, text) != NULL, "%s not in %s", text, got);
}

START_TEST(counts)
{
    struct bench *b = bench_new(1);
    for (uint64_t seq = 1; seq <= 5; seq++) {
        append(b, WAL_ENTRY, 7, seq);
        append(b, WAL_ENTRY, 9, seq);
    }
    append(b, WAL_COMMIT, 7, 4);
    append(b, WAL_ENTRY, LIMIT_TABLETS, 1);
    bench_close(b);
    bench_open(b, true);
    expect_text(b, "kind=entry start=1 mark=");
    expect_text(b, " tablet=7 name=1.5 previous=1.4 payload=1\n");
    expect_text(b, " kind=commit start=1 ");
    ck_assert(b->p.noted);
    ck_assert_uint_eq(b->p.segment_count, 2);
    const struct inspect_segment *s = &b->p.segments[0];
    ck_assert(s->f.live && s->f.has_header);
    ck_assert(!b->p.segments[1].f.live);
    ck_assert_uint_eq(s->records[WAL_ENTRY], 11);
    ck_assert_uint_eq(s->records[WAL_COMMIT], 1);
    ck_assert_uint_eq(s->last, b->p.log.end);
    ck_assert_uint_eq(b->p.tablets[7].entries, 5);
    ck_assert_uint_eq(b->p.tablets[7].first.seq, 1);
    ck_assert_uint_eq(b->p.tablets[7].last.seq, 5);
    ck_assert_uint_eq(b->p.tablets[7].committed, 4);
    ck_assert_uint_eq(b->p.tablets[9].records, 5);
    ck_assert_uint_eq(b->p.strange_records, 1);
    inspect_print_log(&b->p, &b->out);
    expect_text(b, "log folder=shard-00 segments=2 note=whole begin=");
    expect_text(b, "segment file=wal-000001.log state=live header=whole");
    expect_text(b, " entry=11 commit=1 mark=");
    expect_text(b, "state=spare header=none");
    expect_text(b, " torn=no\n");
    inspect_print_tablets(&b->p, &b->out);
    expect_text(b, "tablet id=9 checkpoint=(none) log_records=5 log_entries=5 "
                   "log_first=1.1 log_last=1.5 recovers=(unknown)\n");
    expect_text(b, "strange records=1 ");
    bench_close(b);
    bench_free(b);
}
END_TEST

START_TEST(verdicts)
{
    struct inspect p = {.store_status = ST_OK};
    struct inspect_checkpoint c = {.tablet = 3, .status = ST_CORRUPT};
    struct buf out = {0};
    ck_assert(inspect_print_verdict(&p, &out));
    p.copy_status[1] = ST_CORRUPT;
    ck_assert(!inspect_print_verdict(&p, &out));
    p.copy_status[1] = ST_OK;
    p.log.torn = true;
    ck_assert(inspect_print_verdict(&p, &out));
    p.checkpoints = &c;
    p.checkpoint_count = 1;
    ck_assert(!inspect_print_verdict(&p, &out));
    p.checkpoint_count = 0;
    p.recovery_status = ST_VERSION;
    ck_assert(!inspect_print_verdict(&p, &out));
    p.recovery_status = ST_OK;
    p.damage_count = 1;
    buf_clear(&out);
    ck_assert(!inspect_print_verdict(&p, &out));
    ck_assert_str_eq(buf_cstr(&out),
                     "verdict whole=no starts=yes damaged_ranges=1 "
                     "damaged_checkpoints=0 condemned_tablets=0 "
                     "damaged_values=0 damaged_blob_files=0 torn=yes\n");
    buf_free(&out);
}
END_TEST

START_TEST(logged_lines)
{
    struct buf out = {0};
    inspect_print_line(
        slice_of("time=1 level=error daemon=d node=n module=wal event=x a=1"),
        &out);
    inspect_print_line(slice_of("short"), &out);
    ck_assert_str_eq(buf_cstr(&out), "start-would-log module=wal event=x a=1\n"
                                     "start-would-log short\n");
    buf_free(&out);
}
END_TEST

/* Numbers near each other, so that some follow, and a few at the edges. */
static uint64_t number(struct bench *b, uint64_t last)
{
    switch (draw(b, 12)) {
    case 0:
        return UINT64_MAX - draw(b, 2);
    case 1:
        return draw(b, 3);
    case 2:
        return UINT64_MAX / 2 + draw(b, 3);
    default:
        return last + (draw(b, 4) != 0);
    }
}

static void append_any(struct bench *b, uint64_t last[4])
{
    uint8_t junk[64];
    uint32_t tablet = (uint32_t)draw(b, 4);
    for (size_t i = 0; i < sizeof(junk); i++) {
        junk[i] = (uint8_t)draw(b, 256);
    }
    uint64_t seq = number(b, last[tablet]);
    struct wal_record r = {
        .kind = (enum wal_kind)(1 + draw(b, WAL_MARK)),
        .tablet = draw(b, 20) == 0 ? (uint32_t)draw(b, UINT32_MAX) : tablet,
        .name = {draw(b, 20) == 0 ? number(b, 1) : 1, seq},
        .previous = {seq > 1, seq - 1},
        .seq = number(b, last[tablet]),
        .payload = slice_make(junk, draw(b, sizeof(junk)))};
    last[tablet] = seq;
    (void)wal_append(b->wal, &r);
}

START_TEST(forged)
{
    struct bench *b = bench_new((uint64_t)_i + 1);
    uint64_t last[4] = {0};
    for (int i = 0; i < RECORDS; i++) {
        append_any(b, last);
    }
    bench_close(b);
    bench_open(b, true);
    inspect_print_log(&b->p, &b->out);
    ck_assert_uint_ge(b->p.log.records, RECORDS);
    bench_close(b);
    struct storage_node_options o = {
        .env = b->e, .node = 1, .name = "a", .segment_size = SEGMENT};
    struct beacon_table *beacons = beacon_table_new(env_now_us(b->e), 0);
    struct shard *s = NULL;
    ck_assert_int_eq(shard_open(&o, &b->store, beacons, &s, &b->err), ST_OK);
    struct tablet_report r[8];
    ck_assert_uint_ge(shard_reports(s, r, 8), 1);
    shard_release(s);
    world_run_for(b->w, 1000 * SIM_MS);
    shard_free(s);
    beacon_table_free(beacons);
    bench_free(b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("inspect");
    TCase *tc = tcase_create("inspect");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, counts);
    tcase_add_test(tc, verdicts);
    tcase_add_test(tc, logged_lines);
    tcase_add_loop_test(tc, forged, 0, SEEDS);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
