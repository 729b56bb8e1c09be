/*
 * The state machine: R23 line by line, batches, pages, and determinism.
 * Entries go in as their encoded payloads, as on every replica.
 */
#include "storage/state.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A state with one client, whose numbers are given by hand. */
struct fixture {
    struct state *s;
    struct applied last;
    uint64_t session, number, oldest;
    struct command c; /* being built */
    struct condition conditions[64];
    struct mutation mutations[64];
};

static struct id128 client_id(uint32_t n)
{
    struct id128 id = {{0xc1}};
    memcpy(id.b + 4, &n, sizeof(n));
    return id;
}

static enum status apply_to(struct state *s, const struct command *c,
                            struct applied *out)
{
    struct buf b = {0};
    struct name name = {3, state_applied(s).seq + 1};
    wire_encode_command(&b, c);
    state_apply(s, name, buf_slice(&b), 0, out);
    buf_free(&b);
    return (enum status)out->r.status;
}

static void begin(struct fixture *f)
{
    memset(&f->c, 0, sizeof(f->c));
    f->c.kind = COMMAND_BATCH;
    f->c.client = client_id(1);
    f->c.session = f->session;
    f->c.partition = slice_of("p");
    f->c.conditions = f->conditions;
    f->c.mutations = f->mutations;
    memset(f->conditions, 0, sizeof(f->conditions));
    memset(f->mutations, 0, sizeof(f->mutations));
}

static struct condition *condition(struct fixture *f, uint8_t kind,
                                   const char *row, const char *column)
{
    struct condition *k = &f->conditions[f->c.conditions_count++];
    k->kind = kind;
    k->row = slice_of(row);
    k->column = slice_of(column);
    return k;
}

static struct mutation *mutation(struct fixture *f, uint8_t kind,
                                 const char *row, const char *column,
                                 const char *value)
{
    struct mutation *m = &f->mutations[f->c.mutations_count++];
    m->kind = kind;
    m->row = slice_of(row);
    m->column = slice_of(column);
    m->value = slice_of(value);
    return m;
}

static enum status commit(struct fixture *f)
{
    f->number++;
    f->c.number = f->number;
    f->c.oldest_open = f->number;
    f->oldest = f->number;
    return apply_to(f->s, &f->c, &f->last);
}

static void put(struct fixture *f, const char *row, const char *column,
                const char *value)
{
    begin(f);
    mutation(f, MUTATION_PUT, row, column, value);
    ck_assert_int_eq(commit(f), ST_OK);
}

static enum status introduce(struct state *s, uint32_t n, struct applied *out)
{
    struct command c = {.kind = COMMAND_INTRODUCE, .client = client_id(n)};
    return apply_to(s, &c, out);
}

static void setup(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->s = state_new();
    ck_assert_int_eq(introduce(f->s, 1, &f->last), ST_OK);
    f->session = f->last.r.session;
    ck_assert_uint_eq(f->session, state_applied(f->s).seq);
}

static const char *get(struct state *s, const char *row, const char *column)
{
    static char text[64];
    struct cell_value v;
    if (!state_get(s, slice_of("p"), slice_of(row), slice_of(column), &v)) {
        return "-";
    }
    snprintf(text, sizeof(text), "%.*s", (int)v.bytes.len,
             (const char *)v.bytes.data);
    return text;
}

/* ---- R23 ---- */

/* One entry each, in order, of the client of the fixture: kind, session
 * given relative to the right one, number, oldest open; what it must give;
 * how often the counter was incremented afterwards. */
static const struct {
    const char *what;
    uint8_t kind;
    int session;
    uint64_t number, oldest;
    enum status want;
    const char *count;
} r23[] = {
    {"first", COMMAND_BATCH, 0, 1, 1, ST_OK, "1"},
    {"retried", COMMAND_BATCH, 0, 1, 1, ST_OK, "1"},
    {"settled: its result", COMMAND_SETTLE, 0, 1, 1, ST_OK, "1"},
    {"other session", COMMAND_BATCH, 1, 2, 1, ST_UNKNOWN_CLIENT, "1"},
    {"older session", COMMAND_BATCH, -1, 2, 1, ST_UNKNOWN_CLIENT, "1"},
    {"out of order", COMMAND_BATCH, 0, 4, 1, ST_OK, "2"},
    {"the one before", COMMAND_BATCH, 0, 3, 1, ST_OK, "3"},
    {"last of the window", COMMAND_BATCH, 0, 256, 1, ST_OK, "4"},
    {"beyond the window", COMMAND_BATCH, 0, 257, 1, ST_BUSY, "4"},
    {"busy is not stored", COMMAND_BATCH, 0, 257, 2, ST_OK, "5"},
    {"settle beyond", COMMAND_SETTLE, 0, 258, 2, ST_BUSY, "5"},
    {"below oldest open", COMMAND_BATCH, 0, 1, 2, ST_SUPERSEDED, "5"},
    {"oldest never shrinks", COMMAND_BATCH, 0, 1, 1, ST_SUPERSEDED, "5"},
    {"settle below", COMMAND_SETTLE, 0, 1, 1, ST_SUPERSEDED, "5"},
    {"settle unknown: void", COMMAND_SETTLE, 0, 5, 2, ST_VOID, "5"},
    {"void for ever", COMMAND_BATCH, 0, 5, 2, ST_VOID, "5"},
    {"void again", COMMAND_SETTLE, 0, 5, 2, ST_VOID, "5"},
    {"refused raises oldest", COMMAND_BATCH, 0, 3, 6, ST_SUPERSEDED, "5"},
    {"so this is gone", COMMAND_BATCH, 0, 5, 1, ST_SUPERSEDED, "5"},
    {"and this is within", COMMAND_BATCH, 0, 261, 1, ST_OK, "6"},
    {"number 0", COMMAND_BATCH, 0, 0, 6, ST_INVALID, "6"},
    {"oldest 0", COMMAND_BATCH, 0, 7, 0, ST_INVALID, "6"},
    {"too great", COMMAND_BATCH, 0, UINT64_MAX, 6, ST_INVALID, "6"},
};

START_TEST(client_table)
{
    struct fixture f;
    setup(&f);
    for (size_t i = 0; i < sizeof(r23) / sizeof(r23[0]); i++) {
        begin(&f);
        mutation(&f, MUTATION_INCREMENT, "r", "count", "")->delta = 1;
        f.c.kind = r23[i].kind;
        f.c.session += (uint64_t)(int64_t)r23[i].session;
        f.c.number = r23[i].number;
        f.c.oldest_open = r23[i].oldest;
        enum status s = apply_to(f.s, &f.c, &f.last);
        ck_assert_msg(s == r23[i].want, "%s: %s", r23[i].what, status_name(s));
        ck_assert_msg(strcmp(get(f.s, "r", "count"), r23[i].count) == 0,
                      "%s: count %s", r23[i].what, get(f.s, "r", "count"));
        if (s == ST_OK) {
            ck_assert_uint_eq(f.last.r.values_count, 1);
        }
    }
    state_free(f.s);
}
END_TEST

/* The very result comes again: value, refusal, index. */
START_TEST(stored_results)
{
    struct fixture f;
    setup(&f);
    for (int round = 0; round < 3; round++) {
        struct applied again;
        begin(&f);
        mutation(&f, MUTATION_INCREMENT, "r", "n", "")->delta = 5;
        f.c.number = f.c.oldest_open = 1;
        ck_assert(state_stored_result(f.s, &f.c, &again) == (round > 0));
        ck_assert_int_eq(apply_to(f.s, &f.c, &f.last), ST_OK);
        ck_assert_int_eq(f.last.values[0].value, 5);
        begin(&f);
        condition(&f, CONDITION_EXISTS, "r", "n");
        condition(&f, CONDITION_ABSENT, "r", "n");
        f.c.number = 2;
        f.c.oldest_open = 1;
        ck_assert(state_stored_result(f.s, &f.c, &again) == (round > 0));
        ck_assert_int_eq(apply_to(f.s, &f.c, &f.last), ST_CONFLICT);
        ck_assert_uint_eq(f.last.r.failed, 1);
        if (round > 0) {
            ck_assert_uint_eq(again.r.status, ST_CONFLICT);
            ck_assert_uint_eq(again.r.failed, 1);
        }
    }
    f.c.session--;
    ck_assert(state_stored_result(f.s, &f.c, &f.last));
    ck_assert_uint_eq(f.last.r.status, ST_UNKNOWN_CLIENT);
    f.c.session += 2; /* its introduction may be under way */
    ck_assert(!state_stored_result(f.s, &f.c, &f.last));
    state_free(f.s);
}
END_TEST

/* A new session of the same client forgets the old one's numbers. */
START_TEST(new_session)
{
    struct fixture f;
    setup(&f);
    begin(&f);
    mutation(&f, MUTATION_INCREMENT, "r", "n", "")->delta = 1;
    ck_assert_int_eq(commit(&f), ST_OK);
    struct command old = f.c;
    ck_assert_int_eq(introduce(f.s, 1, &f.last), ST_OK);
    uint64_t session = f.last.r.session;
    ck_assert_uint_gt(session, f.session);
    ck_assert_int_eq(apply_to(f.s, &old, &f.last), ST_UNKNOWN_CLIENT);
    old.session = session;
    ck_assert_int_eq(apply_to(f.s, &old, &f.last), ST_OK);
    ck_assert_str_eq(get(f.s, "r", "n"), "2");
    state_free(f.s);
}
END_TEST

static enum status one(struct state *s, uint32_t client, uint64_t session,
                       struct applied *out)
{
    struct command c = {.kind = COMMAND_BATCH,
                        .client = client_id(client),
                        .session = session,
                        .number = 1,
                        .oldest_open = 2};
    return apply_to(s, &c, out); /* SUPERSEDED if it is known: heard */
}

/* The least recently heard makes room; refused entries count as heard,
 * another session's do not. */
START_TEST(eviction)
{
    struct state *s = state_new();
    struct state_counts n;
    struct applied out;
    static uint64_t session[LIMIT_CLIENTS + 2];
    for (uint32_t i = 0; i < LIMIT_CLIENTS; i++) {
        ck_assert_int_eq(introduce(s, i, &out), ST_OK);
        session[i] = out.r.session;
    }
    ck_assert_int_eq(one(s, 0, session[0], &out), ST_SUPERSEDED);
    ck_assert_int_eq(one(s, 1, session[1] + 1, &out), ST_UNKNOWN_CLIENT);
    ck_assert_int_eq(introduce(s, LIMIT_CLIENTS, &out), ST_OK);
    state_count(s, &n);
    ck_assert_uint_eq(n.clients, LIMIT_CLIENTS);
    ck_assert_int_eq(one(s, 0, session[0], &out), ST_SUPERSEDED);
    ck_assert_int_eq(one(s, 1, session[1], &out), ST_UNKNOWN_CLIENT);
    ck_assert_int_eq(one(s, 2, session[2], &out), ST_SUPERSEDED);
    state_free(s);
}
END_TEST

/* However full, the encoded table fits into its limit. */
START_TEST(table_bytes)
{
    struct state *s = state_new();
    struct applied out;
    struct mutation m[LIMIT_RESULT_VALUES];
    struct buf b = {0};
    memset(m, 0, sizeof(m));
    for (size_t i = 0; i < LIMIT_RESULT_VALUES; i++) {
        m[i].kind = MUTATION_INCREMENT;
        m[i].delta = 1;
    }
    for (uint32_t i = 0; i < 160; i++) {
        ck_assert_int_eq(introduce(s, i, &out), ST_OK);
        struct command c = {.kind = COMMAND_BATCH,
                            .client = client_id(i),
                            .session = out.r.session,
                            .oldest_open = 1,
                            .mutations = m,
                            .mutations_count = LIMIT_RESULT_VALUES};
        for (uint64_t n = 1; n <= LIMIT_CLIENT_WINDOW; n++) {
            c.number = n;
            ck_assert_int_eq(apply_to(s, &c, &out), ST_OK);
        }
    }
    struct state_counts counts;
    state_count(s, &counts);
    ck_assert_uint_lt(counts.clients, 160);
    ck_assert_uint_gt(counts.clients, 100);
    struct state_snapshot *p = state_snapshot(s);
    state_snapshot_clients(p, &b);
    ck_assert_uint_le(b.len, LIMIT_CLIENT_TABLE);
    state_snapshot_free(p);
    buf_free(&b);
    state_free(s);
}
END_TEST

/* ---- batches ---- */

/* Rows "r" with a=1, b=x, n=10, and "s" with a=2 before each. */
static const struct {
    uint8_t kind;
    const char *row, *column, *value;
    enum status want;
} conditions[] = {
    {CONDITION_ABSENT, "r", "zz", "", ST_OK},
    {CONDITION_ABSENT, "r", "a", "", ST_CONFLICT},
    {CONDITION_EXISTS, "r", "a", "", ST_OK},
    {CONDITION_EXISTS, "r", "aa", "", ST_CONFLICT},
    {CONDITION_EQUALS, "r", "a", "1", ST_OK},
    {CONDITION_EQUALS, "r", "a", "12", ST_CONFLICT},
    {CONDITION_EQUALS, "r", "zz", "", ST_CONFLICT},
    {CONDITION_NONE_BELOW, "r", "c", "", ST_OK},
    {CONDITION_NONE_BELOW, "r", "a", "", ST_CONFLICT},
    {CONDITION_NONE_BELOW, "q", "", "", ST_OK},
    {CONDITION_NONE_BELOW, "s", "", "", ST_CONFLICT},
    {0, "r", "a", "", ST_INVALID},
    {9, "r", "a", "", ST_INVALID},
};

static void fill(struct fixture *f)
{
    setup(f);
    put(f, "r", "a", "1");
    put(f, "r", "b", "x");
    put(f, "r", "n", "10");
    put(f, "s", "a", "2");
}

START_TEST(conditions_table)
{
    for (size_t i = 0; i < sizeof(conditions) / sizeof(conditions[0]); i++) {
        struct fixture f;
        fill(&f);
        begin(&f);
        condition(&f, CONDITION_EXISTS, "r", "a");
        condition(&f, conditions[i].kind, conditions[i].row,
                  conditions[i].column)
            ->value = slice_of(conditions[i].value);
        mutation(&f, MUTATION_PUT, "r", "done", "yes");
        ck_assert_msg(commit(&f) == conditions[i].want, "row %zu: %s", i,
                      status_name((enum status)f.last.r.status));
        ck_assert_str_eq(get(f.s, "r", "done"),
                         conditions[i].want == ST_OK ? "yes" : "-");
        if (conditions[i].want == ST_CONFLICT) {
            ck_assert_uint_eq(f.last.r.failed, 1);
        }
        state_free(f.s);
    }
}
END_TEST

static const struct {
    const char *start; /* NULL: absent */
    int64_t delta, bound;
    bool bounded;
    enum status want;
    const char *after;
} increments[] = {
    {NULL, 5, 0, false, ST_OK, "5"},
    {NULL, -5, 0, false, ST_OK, "-5"},
    {"10", 5, 15, true, ST_OK, "15"},
    {"10", 5, 14, true, ST_BOUND, "10"},
    {"10", -5, 5, true, ST_OK, "5"},
    {"10", -5, 6, true, ST_BOUND, "10"},
    {"10", -5, 100, true, ST_BOUND, "10"},
    {"20", 0, 15, true, ST_OK, "20"},
    {"9223372036854775806", 1, 0, false, ST_OK, "9223372036854775807"},
    {"9223372036854775807", 1, 0, false, ST_BOUND, "9223372036854775807"},
    {"-9223372036854775808", -1, 0, false, ST_BOUND, "-9223372036854775808"},
    {"-9223372036854775808", 1, 0, false, ST_OK, "-9223372036854775807"},
    {"9223372036854775808", -1, 0, false, ST_INVALID, "9223372036854775808"},
    {"x", 1, 0, false, ST_INVALID, "x"},
    {"", 1, 0, false, ST_INVALID, ""},
    {"-", 1, 0, false, ST_INVALID, "-"},
    {"1 ", 1, 0, false, ST_INVALID, "1 "},
};

/* Each as the second of three mutations: all or nothing. */
START_TEST(increments_table)
{
    for (size_t i = 0; i < sizeof(increments) / sizeof(increments[0]); i++) {
        struct fixture f;
        setup(&f);
        if (increments[i].start != NULL) {
            put(&f, "r", "n", increments[i].start);
        }
        struct state_snapshot *before = state_snapshot(f.s);
        begin(&f);
        mutation(&f, MUTATION_PUT, "r", "first", "yes");
        struct mutation *m = mutation(&f, MUTATION_INCREMENT, "r", "n", "");
        m->delta = increments[i].delta;
        m->bound = increments[i].bound;
        m->flags = increments[i].bounded ? MUTATION_BOUND : 0;
        mutation(&f, MUTATION_DELETE, "r", "first", "");
        mutation(&f, MUTATION_PUT, "r", "last", "yes");
        ck_assert_msg(commit(&f) == increments[i].want, "row %zu: %s", i,
                      status_name((enum status)f.last.r.status));
        ck_assert_str_eq(get(f.s, "r", "n"), increments[i].after);
        bool ok = increments[i].want == ST_OK;
        ck_assert_str_eq(get(f.s, "r", "first"), "-");
        ck_assert_str_eq(get(f.s, "r", "last"), ok ? "yes" : "-");
        ck_assert_uint_eq(f.last.r.values_count, ok);
        if (!ok) {
            struct state_counts n;
            ck_assert_uint_eq(f.last.r.failed, 1);
            state_count(f.s, &n);
            ck_assert_uint_eq(n.cells, state_snapshot_cells(before));
        }
        state_snapshot_free(before);
        state_free(f.s);
    }
}
END_TEST

START_TEST(adding)
{
    struct fixture f;
    setup(&f);
    begin(&f);
    mutation(&f, MUTATION_ADD, "box", "in/", "hello")->counter =
        slice_of("in#next");
    struct mutation *m = mutation(&f, MUTATION_PUT, "msg", "place", "in/");
    m->flags = MUTATION_SUFFIX;
    m->suffix_of = 0;
    mutation(&f, MUTATION_ADD, "box", "in/", "again")->counter =
        slice_of("in#next");
    ck_assert_int_eq(commit(&f), ST_OK);
    ck_assert_str_eq(get(f.s, "box", "in/0000000000000001"), "hello");
    ck_assert_str_eq(get(f.s, "box", "in/0000000000000002"), "again");
    ck_assert_str_eq(get(f.s, "msg", "place"), "in/0000000000000001");
    ck_assert_str_eq(get(f.s, "box", "in#next"), "2");
    ck_assert_uint_eq(f.last.r.values_count, 2);
    ck_assert_int_eq(f.last.values[1].value, 2);
    ck_assert_uint_eq(f.last.values[1].mutation, 2);
    put(&f, "box", "in#next", "1"); /* set back: never overwrites */
    begin(&f);
    mutation(&f, MUTATION_ADD, "box", "in/", "third")->counter =
        slice_of("in#next");
    ck_assert_int_eq(commit(&f), ST_EXISTS);
    ck_assert_str_eq(get(f.s, "box", "in#next"), "1");
    ck_assert_str_eq(get(f.s, "box", "in/0000000000000002"), "again");
    state_free(f.s);
}
END_TEST

START_TEST(malformed)
{
    struct fixture f;
    struct applied out;
    fill(&f);
    struct id128 digest = state_digest(f.s);
    for (size_t i = 0; i < 6; i++) {
        begin(&f);
        f.c.number = f.c.oldest_open = 99;
        struct mutation *m = mutation(&f, MUTATION_PUT, "r", "a", "no");
        switch (i) {
        case 0:
            m->kind = 77;
            break;
        case 1:
            m->flags = MUTATION_BOUND;
            break;
        case 2:
            m->flags = MUTATION_SUFFIX; /* of itself */
            break;
        case 3:
            f.c.kind = 9;
            break;
        case 4:
            m = mutation(&f, MUTATION_PUT, "r", "b", "no");
            m->flags = MUTATION_SUFFIX; /* of a put */
            break;
        default:
            for (int k = 0; k <= LIMIT_RESULT_VALUES; k++) {
                mutation(&f, MUTATION_INCREMENT, "r", "n", "");
            }
        }
        enum status want = i == 5 ? ST_TOO_LARGE : ST_INVALID;
        ck_assert_int_eq(state_check_command(&f.c), want);
        ck_assert_int_eq(apply_to(f.s, &f.c, &out), want);
        struct name name = {3, state_applied(f.s).seq + 1};
        state_apply(f.s, name, slice_of("rubbish"), 0, &out);
        ck_assert_uint_eq(out.r.status, ST_INVALID);
    }
    struct id128 after = state_digest(f.s);
    ck_assert(id128_equal(digest, after));
    state_free(f.s);
}
END_TEST

static uint32_t heard;

static void on_change(void *ctx, struct slice p, struct slice row,
                      struct slice column)
{
    ck_assert(slice_equal(p, slice_of("p")));
    ck_assert(slice_equal(row, slice_of("many")));
    ck_assert(slice_starts_with(column, slice_of(ctx)));
    heard++;
}

START_TEST(delete_prefix)
{
    struct fixture f;
    char column[16], want[8];
    setup(&f);
    put(&f, "many", "aa", "before");
    put(&f, "many", "c", "behind");
    put(&f, "many2", "b1", "another row");
    for (int i = 0; i < 2500; i++) {
        snprintf(column, sizeof(column), "b%05d", i);
        put(&f, "many", column, "x");
    }
    state_on_change(f.s, on_change, "b");
    for (int round = 0; round < 3; round++) {
        heard = 0;
        begin(&f);
        mutation(&f, MUTATION_DELETE_PREFIX, "many", "b", "");
        ck_assert_int_eq(commit(&f), ST_OK);
        ck_assert_uint_eq(f.last.r.more, round < 2);
        ck_assert_uint_eq(heard, round < 2 ? 1000 : 500);
    }
    snprintf(want, sizeof(want), "%s", get(f.s, "many", "c"));
    ck_assert_str_eq(want, "behind");
    ck_assert_str_eq(get(f.s, "many", "aa"), "before");
    state_on_change(f.s, NULL, NULL);
    begin(&f);
    mutation(&f, MUTATION_DELETE_ROWS, "man", "", "");
    ck_assert_int_eq(commit(&f), ST_OK);
    struct state_counts n;
    state_count(f.s, &n);
    ck_assert_uint_eq(n.cells, 0);
    ck_assert_uint_eq(n.bytes, 0);
    state_free(f.s);
}
END_TEST

/* ---- pages ---- */

/* Cells (p, row, column) of the fixture below; parts may hold NULs. */
static struct slice part(uint32_t i, char out[8])
{
    static const char *const alphabet[] = {"a", "b", "ab", "\0", "\1", "\xff"};
    static const size_t lens[] = {1, 1, 2, 1, 1, 1};
    size_t len = 0;
    for (; i > 0; i /= 7) {
        if (i % 7 > 0) {
            memcpy(out + len, alphabet[i % 7 - 1], lens[i % 7 - 1]);
            len += lens[i % 7 - 1];
        }
    }
    return slice_make(out, len);
}

struct known {
    char row[16], column[8];
    size_t row_len, column_len;
};

static int known_compare(const void *a, const void *b)
{
    const struct known *x = a, *y = b;
    int c = slice_compare(slice_make(x->row, x->row_len),
                          slice_make(y->row, y->row_len));
    return c != 0 ? c
                  : slice_compare(slice_make(x->column, x->column_len),
                                  slice_make(y->column, y->column_len));
}

static bool known_fits(const struct known *k, const struct msg_scan *q)
{
    struct slice row = slice_make(k->row, k->row_len);
    return (q->row_exact ? slice_equal(row, q->row_prefix)
                         : slice_starts_with(row, q->row_prefix)) &&
           slice_starts_with(slice_make(k->column, k->column_len),
                             q->column_prefix);
}

/* Scans all pages of Q and compares with the sorted list. */
static void scan_same(struct state *s, const struct known *known, size_t count,
                      struct msg_scan q)
{
    size_t at = 0;
    struct arena a = {0};
    for (;;) {
        struct msg_cells out;
        struct place *places;
        state_scan(s, &q, &a, &out, &places);
        for (uint32_t i = 0; i < out.cells_count; i++, at++) {
            const struct known *k;
            do {
                ck_assert_uint_lt(at, count);
                k = &known[q.reverse ? count - 1 - at : at];
                at += !known_fits(k, &q);
            } while (!known_fits(k, &q));
            ck_assert(
                slice_equal(out.cells[i].row, slice_make(k->row, k->row_len)));
            ck_assert(slice_equal(out.cells[i].column,
                                  slice_make(k->column, k->column_len)));
        }
        if (!out.more) {
            break;
        }
        ck_assert_uint_eq(out.cells_count, q.limit);
        q.has_after = 1;
        q.after_row = out.cells[out.cells_count - 1].row;
        q.after_column = out.cells[out.cells_count - 1].column;
    }
    for (; at < count; at++) {
        ck_assert(!known_fits(&known[q.reverse ? count - 1 - at : at], &q));
    }
    arena_free(&a);
}

START_TEST(scanning)
{
    enum { PARTS = 343, CELLS = 600 };
    static struct known known[CELLS];
    struct fixture f;
    char text[8];
    size_t count = 0;
    setup(&f);
    for (uint32_t i = 0; i < CELLS; i++) {
        struct known k;
        struct slice row = part(i * 131 % PARTS, k.row);
        struct slice column = part(i * 57 % PARTS, k.column);
        struct cell_value v;
        k.row_len = row.len;
        k.column_len = column.len;
        if (state_get(f.s, slice_of("p"), row, column, &v)) {
            continue;
        }
        begin(&f);
        mutation(&f, MUTATION_PUT, "", "", "v")->row = row;
        f.mutations[0].column = column;
        ck_assert_int_eq(commit(&f), ST_OK);
        known[count++] = k;
    }
    qsort(known, count, sizeof(known[0]), known_compare);
    for (uint32_t i = 0; i < PARTS; i++) {
        struct msg_scan q = {.partition = slice_of("p"),
                             .row_prefix = part(i, text),
                             .row_exact = i % 2,
                             .limit = 1 + i % 9};
        static const char *const columns[] = {"", "a", "b", "\xff", "ab"};
        for (size_t c = 0; c < 5; c++) {
            q.column_prefix = slice_of(columns[c]);
            q.reverse = 0;
            scan_same(f.s, known, count, q);
            q.reverse = 1;
            scan_same(f.s, known, count, q);
        }
    }
    state_free(f.s);
}
END_TEST

/* ---- determinism, snapshots ---- */

static void random_entry(struct fixture *f, uint32_t r)
{
    static char row[16], column[16];
    snprintf(row, sizeof(row), "r%u", r % 7);
    snprintf(column, sizeof(column), "c%u", r / 7 % 40);
    begin(f);
    mutation(f, r % 11 == 0 ? MUTATION_DELETE : MUTATION_PUT, row, column,
             column);
    if (r % 3 == 0) {
        mutation(f, MUTATION_INCREMENT, row, "n", "")->delta = r % 5;
    }
    if (r % 5 == 0) {
        struct mutation *m = mutation(f, MUTATION_INCREMENT, "t", "n", "");
        m->delta = 1;
        m->flags = MUTATION_BOUND;
        m->bound = 50;
    }
    f->c.number = ++f->number;
    f->c.oldest_open = f->number > 20 ? f->number - 20 : 1;
    f->c.session += r % 50 == 0;
    (void)apply_to(f->s, &f->c, &f->last);
}

/* Loads all of P into a new state, by pages, as R17 does. */
static struct state *copy_of(const struct state_snapshot *p)
{
    struct state *s = state_new();
    struct arena a = {0};
    struct msg_scan_tablet ask = {0};
    for (;;) {
        struct msg_tablet_page page;
        struct place *places;
        state_snapshot_page(p, &ask, &a, &page, &places);
        for (uint32_t i = 0; i < page.cells_count; i++) {
            ck_assert_int_eq(state_load_cell(s, &page.cells[i], &places[i]),
                             ST_OK);
            ask.has_after = 1;
            ask.after_partition = page.cells[i].partition;
            ask.after_row = page.cells[i].row;
            ask.after_column = page.cells[i].column;
        }
        if (!page.more) {
            ck_assert_int_eq(state_load_clients(s, page.clients, page.name.seq),
                             ST_OK);
            state_load_done(s, page.name);
            break;
        }
        ck_assert_uint_eq(page.clients.len, 0);
    }
    if (ask.has_after) {
        struct cell again = {ask.after_partition, ask.after_row,
                             ask.after_column, slice_of("")};
        ck_assert_int_eq(state_load_cell(s, &again, NULL), ST_CORRUPT);
    }
    arena_free(&a);
    return s;
}

static bool same_digest(const struct state *a, const struct state *b)
{
    struct id128 x = state_digest(a), y = state_digest(b);
    return id128_equal(x, y);
}

/* Cell by cell, client tables aside. */
static void same_cells(const struct state_snapshot *p,
                       const struct state_snapshot *q)
{
    struct msg_scan_tablet ask = {0};
    struct msg_tablet_page x = {.more = 1}, y;
    struct arena a = {0};
    ck_assert_uint_eq(state_snapshot_cells(p), state_snapshot_cells(q));
    while (x.more) {
        struct place *of_x, *of_y;
        state_snapshot_page(p, &ask, &a, &x, &of_x);
        state_snapshot_page(q, &ask, &a, &y, &of_y);
        ck_assert_uint_eq(x.cells_count, y.cells_count);
        for (uint32_t i = 0; i < x.cells_count; i++) {
            const struct cell *c = &x.cells[i];
            ck_assert(slice_equal(c->row, y.cells[i].row));
            ck_assert(slice_equal(c->column, y.cells[i].column));
            ck_assert(slice_equal(c->value, y.cells[i].value));
            ask.has_after = 1;
            ask.after_partition = c->partition;
            ask.after_row = c->row;
            ask.after_column = c->column;
        }
    }
    arena_free(&a);
}

/* A batch that fails at its end leaves no trace of what it did before, however
 * large what it changed was. */
START_TEST(undoing)
{
    static char bytes[300000];
    static const int sizes[] = {8, 3000, 20000, (int)sizeof(bytes) - 1};
    struct fixture f;
    char row[2][16];
    struct state_counts n, m;
    setup(&f);
    memset(bytes, 'v', sizeof(bytes) - 1);
    for (int i = 0; i < 40; i++) {
        snprintf(row[0], sizeof(row[0]), "r%02d", i);
        put(&f, row[0], "c", bytes + sizeof(bytes) - 1 - sizes[_i]);
        put(&f, "s", row[0], "small");
    }
    put(&f, "r", "n", "7");
    struct state_snapshot *before = state_snapshot(f.s);
    state_count(f.s, &n);
    begin(&f);
    for (int i = 0; i < 2; i++) {
        snprintf(row[i], sizeof(row[i]), "r%02d", i);
        mutation(&f, MUTATION_PUT, row[i], "c", "replaced");
        mutation(&f, MUTATION_PUT, row[i], "d", "new");
        mutation(&f, MUTATION_PUT, row[i], "c", "replaced again");
        mutation(&f, MUTATION_DELETE, row[i], "d", "");
        mutation(&f, MUTATION_DELETE_PREFIX, "s", row[i], "");
        mutation(&f, MUTATION_PUT, "s", row[i], "back");
    }
    mutation(&f, MUTATION_DELETE_ROWS, "r1", "", "");
    mutation(&f, MUTATION_ADD, "r", "list:", "v")->counter = slice_of("n");
    mutation(&f, MUTATION_INCREMENT, "s", "r30", ""); /* no number */
    ck_assert_int_eq(commit(&f), ST_INVALID);
    struct state_snapshot *after = state_snapshot(f.s);
    struct state *loaded = copy_of(after);
    same_cells(before, after);
    ck_assert(same_digest(f.s, loaded));
    state_count(f.s, &m);
    ck_assert_uint_eq(n.bytes, m.bytes);
    f.c.mutations_count--; /* now it succeeds */
    ck_assert_int_eq(commit(&f), ST_OK);
    ck_assert_str_eq(get(f.s, "r00", "c"), "replaced again");
    state_count(f.s, &m);
    ck_assert_uint_eq(m.cells, n.cells - 10 + 1);
    state_free(loaded);
    state_snapshot_free(before);
    state_snapshot_free(after);
    state_free(f.s);
}
END_TEST

START_TEST(determinism)
{
    struct fixture f, g;
    uint32_t r = (uint32_t)_i + 1;
    setup(&f);
    setup(&g);
    for (int i = 0; i < 3000; i++) {
        r = r * 1103515245 + 12345;
        random_entry(&f, r >> 8);
        /* one entry apart */
        ck_assert(same_digest(f.s, g.s) ==
                  (f.last.r.status == ST_UNKNOWN_CLIENT));
        random_entry(&g, r >> 8);
        ck_assert(same_digest(f.s, g.s));
        ck_assert_mem_eq(f.last.values, g.last.values, sizeof(f.last.values));
        if (i % 300 == 0) {
            struct state_snapshot *p = state_snapshot(f.s);
            struct id128 d = state_snapshot_digest(p);
            for (int k = 0; k < 50; k++) {
                random_entry(&f, r + (uint32_t)k);
                random_entry(&g, r + (uint32_t)k);
            }
            struct id128 d2 = state_snapshot_digest(p);
            ck_assert(id128_equal(d, d2));
            struct state *copy = copy_of(p);
            struct id128 d3 = state_digest(copy);
            ck_assert(id128_equal(d, d3));
            ck_assert_uint_eq(state_applied(copy).seq,
                              state_snapshot_name(p).seq);
            state_snapshot_free(p);
            state_free(copy);
        }
    }
    /* A copy goes on as the original does, retries included. */
    struct state_snapshot *p = state_snapshot(f.s);
    struct state *copy = copy_of(p);
    state_snapshot_free(p);
    f.c.number -= 10;
    (void)apply_to(f.s, &f.c, &f.last);
    (void)apply_to(copy, &f.c, &g.last);
    ck_assert(same_digest(f.s, copy));
    ck_assert_uint_eq(f.last.r.status, g.last.r.status);
    state_free(copy);
    state_free(f.s);
    state_free(g.s);
}
END_TEST

/* Pages of the tablet end at their limits, and the client table comes last,
 * alone if it is large. */
START_TEST(large_pages)
{
    struct fixture f;
    static uint8_t big[KIB(300)];
    char row[16];
    setup(&f);
    for (int i = 0; i < 20; i++) {
        snprintf(row, sizeof(row), "%d", i);
        begin(&f);
        mutation(&f, MUTATION_PUT, row, "c", "")->value =
            slice_make(big, sizeof(big));
        ck_assert_int_eq(commit(&f), ST_OK);
    }
    struct state_snapshot *p = state_snapshot(f.s);
    struct arena a = {0};
    struct msg_tablet_page page;
    struct place *places;
    struct msg_scan_tablet ask = {0};
    state_snapshot_page(p, &ask, &a, &page, &places);
    ck_assert_uint_eq(page.cells_count, 4);
    ck_assert(page.more);
    struct state *copy = copy_of(p);
    ck_assert(same_digest(copy, f.s));
    struct msg_scan q = {.partition = slice_of("p")};
    struct msg_cells out;
    state_scan(f.s, &q, &a, &out, &places);
    ck_assert_uint_eq(out.cells_count, 4);
    ck_assert(out.more);
    arena_free(&a);
    state_snapshot_free(p);
    state_free(copy);
    state_free(f.s);
}
END_TEST

/* Whatever bytes are loaded, they are refused or taken, never trusted. */
START_TEST(bad_tables)
{
    struct fixture f;
    struct buf b = {0};
    int refused = 0;
    fill(&f);
    struct state_snapshot *p = state_snapshot(f.s);
    state_snapshot_clients(p, &b);
    for (size_t i = 0; i < b.len; i++) {
        struct state *s = state_new();
        ck_assert_int_eq(
            state_load_clients(s, slice_make(b.data, i), UINT64_MAX),
            ST_CORRUPT);
        state_free(s);
        s = state_new();
        b.data[i] ^= 0x80;
        refused += state_load_clients(s, buf_slice(&b), UINT64_MAX) != ST_OK;
        b.data[i] ^= 0x80;
        state_free(s);
    }
    ck_assert_int_gt(refused, 10);
    /* Nobody was heard after what the state ends with: the next entry would
     * be heard before him. */
    uint64_t seq = state_applied(f.s).seq;
    struct state *s = state_new();
    ck_assert_int_eq(state_load_clients(s, buf_slice(&b), seq - 1), ST_CORRUPT);
    state_free(s);
    s = state_new();
    ck_assert_int_eq(state_load_clients(s, buf_slice(&b), seq), ST_OK);
    state_free(s);
    buf_free(&b);
    state_snapshot_free(p);
    state_free(f.s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("state");
    TCase *c = tcase_create("state");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, client_table);
    tcase_add_test(c, stored_results);
    tcase_add_test(c, new_session);
    tcase_add_test(c, eviction);
    tcase_add_test(c, table_bytes);
    tcase_add_test(c, conditions_table);
    tcase_add_test(c, increments_table);
    tcase_add_test(c, adding);
    tcase_add_test(c, malformed);
    tcase_add_test(c, delete_prefix);
    tcase_add_test(c, scanning);
    tcase_add_loop_test(c, undoing, 0, 4);
    tcase_add_loop_test(c, determinism, 0, 3);
    tcase_add_test(c, large_pages);
    tcase_add_test(c, bad_tables);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
