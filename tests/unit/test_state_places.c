/*
 * Values that stay on disk: where the state says they are, that nothing but
 * that differs from a state that keeps them in memory, and that who keeps
 * account of places is told of each that comes and goes.
 */
#include "storage/key.h"
#include "storage/state.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE (LIMIT_VALUE_INLINE + 1)
#define PLACES_MAX 4096

/* Two states with one history: OF_LOG has its large values on disk. */
struct fixture {
    struct state *of_log, *in_memory;
    struct buf log; /* all payloads; a position is an offset + 1 */
    uint64_t seq, session, number;
    struct mutation mutations[256];
    struct condition conditions[4];
    struct command c;
    struct applied last;
    struct arena values;
    /* What the hook's calls leave. */
    struct place live[PLACES_MAX];
    size_t live_count;
};

static struct fixture f;

static void on_place(void *ctx, const struct place *p, int delta)
{
    (void)ctx;
    if (delta == 1) {
        ck_assert_uint_lt(f.live_count, PLACES_MAX);
        f.live[f.live_count++] = *p;
        return;
    }
    ck_assert_int_eq(delta, -1);
    for (size_t i = 0; i < f.live_count; i++) {
        if (place_equal(&f.live[i], p)) {
            f.live[i] = f.live[--f.live_count];
            return;
        }
    }
    ck_abort_msg("a place ceased that had not begun");
}

/* Lives as long as the test. */
static struct slice value(size_t len, uint8_t with)
{
    uint8_t *to = arena_alloc(&f.values, len);
    memset(to, with, len);
    return slice_make(to, len);
}

static void begin(enum command_kind kind)
{
    memset(f.mutations, 0, sizeof(f.mutations));
    memset(f.conditions, 0, sizeof(f.conditions));
    f.c = (struct command){.kind = (uint8_t)kind,
                           .client = {{7}},
                           .session = f.session,
                           .number = f.number,
                           .oldest_open = f.number,
                           .partition = slice_of("p"),
                           .conditions = f.conditions,
                           .mutations = f.mutations};
}

static struct mutation *add(enum mutation_kind kind, const char *column)
{
    struct mutation *m = &f.mutations[f.c.mutations_count++];
    m->kind = (uint8_t)kind;
    m->row = slice_of("r");
    m->column = slice_of(column);
    return m;
}

static void put(const char *column, struct slice v)
{
    add(MUTATION_PUT, column)->value = v;
}

/* Applies it to both, and compares all that can be seen of them. */
static enum status commit(void)
{
    struct applied other;
    struct buf payload = {0};
    struct state_counts a, b;
    struct name name = {1, ++f.seq};
    wire_encode_command(&payload, &f.c);
    buf_put_slice(&f.log, buf_slice(&payload));
    state_apply(f.of_log, name, buf_slice(&payload),
                f.log.len - payload.len + 1, &f.last);
    state_apply(f.in_memory, name, buf_slice(&payload), 0, &other);
    buf_free(&payload);
    ck_assert_uint_eq(f.last.r.status, other.r.status);
    ck_assert_uint_eq(f.last.r.failed, other.r.failed);
    struct id128 x = state_digest(f.of_log), y = state_digest(f.in_memory);
    ck_assert(id128_equal(x, y));
    state_count(f.of_log, &a);
    state_count(f.in_memory, &b);
    ck_assert_uint_eq(a.bytes, b.bytes);
    ck_assert_uint_eq(a.cells, b.cells);
    ck_assert_uint_eq(b.placed, 0);
    f.number += f.c.kind == COMMAND_BATCH;
    return (enum status)f.last.r.status;
}

static void setup(void)
{
    memset(&f, 0, sizeof(f));
    f.of_log = state_new();
    f.in_memory = state_new();
    state_on_place(f.of_log, on_place, NULL);
    begin(COMMAND_INTRODUCE);
    ck_assert_int_eq(commit(), ST_OK);
    f.session = f.last.r.session;
    f.number = 1;
}

static void teardown(void)
{
    state_free(f.of_log);
    state_free(f.in_memory);
    buf_free(&f.log);
    arena_free(&f.values);
    ck_assert_uint_eq(f.live_count, 0); /* all ceased with it */
}

static struct slice key_of(const char *column)
{
    static struct key k;
    key_encode(&k, slice_of("p"), slice_of("r"), slice_of(column));
    return key_slice(&k);
}

static struct cell_value found(const char *column)
{
    struct cell_value v;
    ck_assert(state_get(f.of_log, slice_of("p"), slice_of("r"),
                        slice_of(column), &v));
    return v;
}

/* The bytes at P, which are asserted to be what it vouches for. */
static struct slice read_place(const struct place *p, const char *column)
{
    ck_assert_int_eq(p->tag, VALUE_LOG);
    ck_assert_uint_le(p->position - 1 + p->len, f.log.len);
    struct slice s = slice_make(f.log.data + p->position - 1, p->len);
    ck_assert(place_verify(p, key_of(column), s));
    return s;
}

struct counted {
    size_t count;
};

static void check_live(void *ctx, struct slice key, const struct place *p)
{
    struct counted *c = ctx;
    struct slice s = slice_make(f.log.data + p->position - 1, p->len);
    ck_assert(place_verify(p, key, s));
    for (size_t i = 0; i < f.live_count; i++) {
        if (place_equal(&f.live[i], p)) {
            c->count++;
            return;
        }
    }
    ck_abort_msg("a cell's place was not told");
}

/* The account has the places that the cells have, no more. */
static void account_is_right(void)
{
    struct counted c = {0};
    struct state_walk *w = state_walk_new(f.of_log);
    while (state_walk_on(w, 3, check_live, &c)) {
    }
    state_walk_free(w);
    ck_assert_uint_eq(c.count, f.live_count);
}

/* ---- where ---- */

static const struct {
    size_t len;
    uint8_t tag;
} sizes[] = {
    {0, VALUE_INLINE},
    {LIMIT_VALUE_INLINE, VALUE_INLINE},
    {LARGE, VALUE_LOG},
    {LIMIT_VALUE_LOGGED, VALUE_LOG},
    {LIMIT_VALUE_LOGGED * 2, VALUE_LOG},
};

START_TEST(size_says_where)
{
    struct slice v = value(sizes[_i].len, 'v');
    begin(COMMAND_BATCH);
    put("before", value(100, 'x'));
    put("c", v);
    ck_assert_int_eq(commit(), ST_OK);
    struct cell_value at = found("c");
    ck_assert_int_eq(at.place.tag, sizes[_i].tag);
    if (at.place.tag == VALUE_INLINE) {
        ck_assert(slice_equal(at.bytes, v));
    } else {
        ck_assert(slice_equal(read_place(&at.place, "c"), v));
    }
    ck_assert(cell_value_is(&at, key_of("c"), v));
    account_is_right();
}
END_TEST

START_TEST(what_is_put_together_stays_in_memory)
{
    begin(COMMAND_BATCH);
    add(MUTATION_INCREMENT, "n")->delta = 1;
    struct mutation *m = add(MUTATION_PUT, "c");
    m->value = value(LARGE, 'v');
    m->flags = MUTATION_SUFFIX;
    ck_assert_int_eq(commit(), ST_OK);
    struct cell_value at = found("c");
    ck_assert_int_eq(at.place.tag, VALUE_INLINE);
    ck_assert_uint_eq(at.bytes.len, LARGE + 16);
}
END_TEST

START_TEST(numbers_are_none_on_disk)
{
    begin(COMMAND_BATCH);
    put("n", value(LARGE, '1'));
    ck_assert_int_eq(commit(), ST_OK);
    begin(COMMAND_BATCH);
    add(MUTATION_INCREMENT, "n")->delta = 1;
    ck_assert_int_eq(commit(), ST_INVALID);
}
END_TEST

/* ---- conditions ---- */

static const struct {
    size_t len;
    uint8_t with;
    enum status expected;
} comparisons[] = {
    {LARGE, 'v', ST_OK},           {LARGE, 'w', ST_CONFLICT},
    {LARGE + 1, 'v', ST_CONFLICT}, {LARGE - 1, 'v', ST_CONFLICT},
    {0, 'v', ST_CONFLICT},
};

START_TEST(equals_compares_without_reading)
{
    begin(COMMAND_BATCH);
    put("c", value(LARGE, 'v'));
    ck_assert_int_eq(commit(), ST_OK);
    begin(COMMAND_BATCH);
    f.conditions[0] = (struct condition){
        .kind = CONDITION_EQUALS,
        .row = slice_of("r"),
        .column = slice_of("c"),
        .value = value(comparisons[_i].len, comparisons[_i].with),
    };
    f.c.conditions_count = 1;
    put("c", value(LARGE, 'n'));
    ck_assert_int_eq(commit(), comparisons[_i].expected);
    struct cell_value at = found("c");
    uint8_t now = comparisons[_i].expected == ST_OK ? 'n' : 'v';
    ck_assert(slice_equal(read_place(&at.place, "c"), value(LARGE, now)));
    account_is_right();
}
END_TEST

/* ---- coming and going ---- */

START_TEST(replaced_and_deleted_ones_cease)
{
    begin(COMMAND_BATCH);
    put("a", value(LARGE, 'a'));
    put("b", value(LARGE, 'b'));
    put("d1", value(LARGE, 'd'));
    put("d2", value(LARGE, 'd'));
    ck_assert_int_eq(commit(), ST_OK);
    ck_assert_uint_eq(f.live_count, 4);
    begin(COMMAND_BATCH);
    put("a", value(LARGE, 'A')); /* large by large */
    put("b", value(1, 'B'));     /* large by small */
    ck_assert_int_eq(commit(), ST_OK);
    ck_assert_uint_eq(f.live_count, 3);
    begin(COMMAND_BATCH);
    add(MUTATION_DELETE_PREFIX, "d");
    add(MUTATION_DELETE, "nothing");
    ck_assert_int_eq(commit(), ST_OK);
    ck_assert_uint_eq(f.live_count, 1);
    account_is_right();
    begin(COMMAND_BATCH);
    add(MUTATION_DELETE, "a");
    ck_assert_int_eq(commit(), ST_OK);
    ck_assert_uint_eq(f.live_count, 0);
}
END_TEST

START_TEST(undone_ones_live_again)
{
    char names[40][16];
    uint8_t small[1000];
    memset(small, 's', sizeof(small));
    begin(COMMAND_BATCH);
    for (int i = 0; i < 20; i++) {
        snprintf(names[i], sizeof(names[i]), "c%02d", i);
        put(names[i], value(LARGE + (size_t)i % 3, (uint8_t)i));
    }
    /* small ones fill the notes: beyond 64 KiB of them a clone is gone back
     * to instead */
    for (int i = 20; i < 40; i++) {
        snprintf(names[i], sizeof(names[i]), "s%02d", i);
        put(names[i], slice_make(small, sizeof(small)));
    }
    put("n", slice_of("no number"));
    ck_assert_int_eq(commit(), ST_OK);
    struct place before[PLACES_MAX];
    size_t count = f.live_count;
    memcpy(before, f.live, count * sizeof(*before));
    ck_assert_uint_eq(count, 20);
    begin(COMMAND_BATCH);
    for (int round = 0; round < _i; round++) {
        put("c03", value(LARGE, (uint8_t)('A' + round)));
        add(MUTATION_DELETE, "c04");
        put("new", value(LARGE, 'n'));
        for (int i = 20; i < 40; i++) {
            put(names[i], slice_make(small, sizeof(small)));
        }
        add(MUTATION_DELETE_PREFIX, "c1");
    }
    add(MUTATION_INCREMENT, "n")->delta = 1;
    ck_assert_int_eq(commit(), ST_INVALID);
    ck_assert_uint_eq(f.live_count, count);
    account_is_right();
    for (size_t i = 0; i < count; i++) {
        bool there = false;
        for (size_t j = 0; j < count; j++) {
            there = there || place_equal(&before[i], &f.live[j]);
        }
        ck_assert(there);
    }
}
END_TEST

/* ---- moving ---- */

START_TEST(moves_only_what_is_where_it_was)
{
    begin(COMMAND_BATCH);
    put("c", value(LARGE, 'v'));
    ck_assert_int_eq(commit(), ST_OK);
    struct place from = found("c").place, to = from;
    struct id128 digest = state_digest(f.of_log);
    to.position = f.log.len + 1;
    buf_put_slice(&f.log, value(LARGE, 'v'));
    struct slice key = key_of("c");
    ck_assert(state_move(f.of_log, key, &from, &to));
    ck_assert(!state_move(f.of_log, key, &from, &to));
    struct id128 now = state_digest(f.of_log);
    ck_assert(id128_equal(digest, now));
    account_is_right();
    struct place at = found("c").place;
    ck_assert(place_equal(&at, &to));
    begin(COMMAND_BATCH);
    put("c", value(LARGE, 'w')); /* as long, and other bytes */
    ck_assert_int_eq(commit(), ST_OK);
    ck_assert(!state_move(f.of_log, key_of("c"), &to, &from));
    ck_assert(!state_move(f.of_log, key_of("none"), &to, &from));
    account_is_right();
}
END_TEST

/* A snapshot keeps the places that it was taken with. */
START_TEST(snapshots_keep_theirs)
{
    struct arena a = {0};
    struct msg_scan_tablet ask = {0};
    struct msg_tablet_page page;
    struct place *places;
    begin(COMMAND_BATCH);
    put("c", value(LARGE, 'v'));
    ck_assert_int_eq(commit(), ST_OK);
    struct place was = found("c").place;
    struct state_snapshot *p = state_snapshot(f.of_log);
    begin(COMMAND_BATCH);
    add(MUTATION_DELETE, "c");
    ck_assert_int_eq(commit(), ST_OK);
    state_snapshot_page(p, &ask, &a, &page, &places);
    ck_assert_uint_eq(page.cells_count, 1);
    ck_assert_uint_eq(page.cells[0].value.len, 0);
    ck_assert(place_equal(&places[0], &was));
    state_snapshot_free(p);
    arena_free(&a);
    ck_assert_uint_eq(f.live_count, 0);
}
END_TEST

/* Pages have the cells that they had when all was in memory. */
START_TEST(pages_count_what_is_on_disk)
{
    struct arena a = {0};
    struct msg_scan ask = {.partition = slice_of("p")};
    struct msg_cells x, y;
    struct place *of_x, *of_y;
    char column[16];
    for (int i = 0; i < 50; i++) {
        snprintf(column, sizeof(column), "c%02d", i);
        begin(COMMAND_BATCH);
        put(column, value(LIMIT_VALUE_LOGGED * 2, (uint8_t)i));
        ck_assert_int_eq(commit(), ST_OK);
    }
    state_scan(f.of_log, &ask, &a, &x, &of_x);
    state_scan(f.in_memory, &ask, &a, &y, &of_y);
    ck_assert_uint_eq(x.cells_count, y.cells_count);
    ck_assert_uint_eq(x.more, 1);
    ck_assert_uint_eq(y.more, 1);
    for (uint32_t i = 0; i < x.cells_count; i++) {
        ck_assert_int_eq(of_x[i].tag, VALUE_LOG);
        ck_assert_int_eq(of_y[i].tag, VALUE_INLINE);
        ck_assert_uint_eq(of_x[i].len, y.cells[i].value.len);
    }
    arena_free(&a);
}
END_TEST

/* ---- any history ---- */

static uint64_t random_state;

static uint32_t any(uint32_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1;
    return (uint32_t)(random_state >> 33) % below;
}

START_TEST(any_history_gives_the_same)
{
    static const char *const columns[] = {"a", "b", "c1", "c2", "c3", "n"};
    random_state = (uint64_t)_i * 77 + 1;
    for (int i = 0; i < 300; i++) {
        begin(COMMAND_BATCH);
        for (uint32_t m = any(5) + 1; m > 0; m--) {
            const char *column = columns[any(6)];
            switch (any(6)) {
            case 0:
                add(MUTATION_DELETE, column);
                break;
            case 1:
                add(MUTATION_DELETE_PREFIX, "c");
                break;
            case 2:
                add(MUTATION_INCREMENT, "n")->delta = 1;
                break;
            default:
                put(column, value(any(3) == 0 ? any(100) : LARGE + any(9),
                                  (uint8_t)any(256)));
            }
        }
        (void)commit();
        account_is_right();
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("state_places");
    TCase *t = tcase_create("state_places");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, size_says_where, 0, 5);
    tcase_add_test(t, what_is_put_together_stays_in_memory);
    tcase_add_test(t, numbers_are_none_on_disk);
    tcase_add_loop_test(t, equals_compares_without_reading, 0, 5);
    tcase_add_test(t, replaced_and_deleted_ones_cease);
    tcase_add_loop_test(t, undone_ones_live_again, 1, 8);
    tcase_add_test(t, moves_only_what_is_where_it_was);
    tcase_add_test(t, snapshots_keep_theirs);
    tcase_add_test(t, pages_count_what_is_on_disk);
    tcase_add_loop_test(t, any_history_gives_the_same, 0, 10);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
