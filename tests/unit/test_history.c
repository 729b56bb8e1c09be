/*
 * The checker of histories is checked: with histories whose verdict is known,
 * and against a slow one that tries all orders.
 */
#include "tests/sim/history.h"
#include "tests/sim/sim_world.h"

#include <check.h>
#include <stdlib.h>

/* ---- histories written by hand: "asked" and "answered" lines ---- */

struct line {
    int op; /* 1.. asks OP; negative answers it; 0 ends */
    enum history_kind kind;
    int64_t argument, expected; /* of an answer: OUTCOME, value */
};

#define ASK(n, kind, arg)                                                      \
    {                                                                          \
        n, HISTORY_##kind, arg, 0                                              \
    }
#define ASK_CPUT(n, old, new)                                                  \
    {                                                                          \
        n, HISTORY_CPUT, new, old                                              \
    }
#define ANSWER(n, what, value)                                                 \
    {                                                                          \
        -(n), HISTORY_GET, HISTORY_##what, value                               \
    }

static const struct {
    const char *what;
    enum history_verdict verdict;
    struct line lines[12];
} table[] = {
    {"empty", HISTORY_GOOD, {{0}}},
    {"read own write",
     HISTORY_GOOD,
     {ASK(1, PUT, 5), ANSWER(1, OK, 0), ASK(2, GET, 0), ANSWER(2, OK, 5)}},
    {"lost write",
     HISTORY_BAD,
     {ASK(1, PUT, 5), ANSWER(1, OK, 0), ASK(2, GET, 0),
      ANSWER(2, OK, HISTORY_ABSENT)}},
    {"stale read",
     HISTORY_BAD,
     {ASK(1, PUT, 5), ANSWER(1, OK, 0), ASK(2, PUT, 6), ANSWER(2, OK, 0),
      ASK(3, GET, 0), ANSWER(3, OK, 5)}},
    {"concurrent read sees old",
     HISTORY_GOOD,
     {ASK(1, PUT, 5), ANSWER(1, OK, 0), ASK(2, PUT, 6), ASK(3, GET, 0),
      ANSWER(3, OK, 5), ANSWER(2, OK, 0)}},
    {"reads go back in time",
     HISTORY_BAD,
     {ASK(1, PUT, 5), ANSWER(1, OK, 0), ASK(2, PUT, 6), ASK(3, GET, 0),
      ANSWER(3, OK, 6), ASK(4, GET, 0), ANSWER(4, OK, 5), ANSWER(2, OK, 0)}},
    {"unknown write appears late",
     HISTORY_GOOD,
     {ASK(1, PUT, 5), ANSWER(1, UNKNOWN, 0), ASK(2, GET, 0),
      ANSWER(2, OK, HISTORY_ABSENT), ASK(3, GET, 0), ANSWER(3, OK, 5)}},
    {"unknown write disappears again",
     HISTORY_BAD,
     {ASK(1, PUT, 5), ANSWER(1, UNKNOWN, 0), ASK(2, GET, 0), ANSWER(2, OK, 5),
      ASK(3, GET, 0), ANSWER(3, OK, HISTORY_ABSENT)}},
    {"unknown write seen before it was asked",
     HISTORY_BAD,
     {ASK(2, GET, 0), ANSWER(2, OK, 5), ASK(1, PUT, 5), ANSWER(1, UNKNOWN, 0)}},
    {"refused write seen",
     HISTORY_BAD,
     {ASK(1, PUT, 5), ANSWER(1, REFUSED, 0), ASK(2, GET, 0), ANSWER(2, OK, 5)}},
    {"unanswered write seen",
     HISTORY_GOOD,
     {ASK(1, PUT, 5), ASK(2, GET, 0), ANSWER(2, OK, 5)}},
    {"two winners of one cput",
     HISTORY_BAD,
     {ASK_CPUT(1, HISTORY_ABSENT, 5), ASK_CPUT(2, HISTORY_ABSENT, 6),
      ANSWER(1, OK, 0), ANSWER(2, OK, 0)}},
    {"one winner",
     HISTORY_GOOD,
     {ASK_CPUT(1, HISTORY_ABSENT, 5), ASK_CPUT(2, HISTORY_ABSENT, 6),
      ANSWER(1, CONFLICT, 0), ANSWER(2, OK, 0)}},
    {"no winner",
     HISTORY_BAD,
     {ASK_CPUT(1, HISTORY_ABSENT, 5), ASK_CPUT(2, HISTORY_ABSENT, 6),
      ANSWER(1, CONFLICT, 0), ANSWER(2, CONFLICT, 0)}},
    {"an unknown winner explains the conflict",
     HISTORY_GOOD,
     {ASK_CPUT(1, HISTORY_ABSENT, 5), ANSWER(1, UNKNOWN, 0),
      ASK_CPUT(2, HISTORY_ABSENT, 6), ANSWER(2, CONFLICT, 0)}},
    {"delete",
     HISTORY_GOOD,
     {ASK(1, PUT, 5), ANSWER(1, OK, 0), ASK(2, DELETE, 0), ANSWER(2, OK, 0),
      ASK(3, GET, 0), ANSWER(3, OK, HISTORY_ABSENT)}},
    {"deleted comes back",
     HISTORY_BAD,
     {ASK(1, PUT, 5), ANSWER(1, OK, 0), ASK(2, DELETE, 0), ANSWER(2, OK, 0),
      ASK(3, GET, 0), ANSWER(3, OK, 5)}},
    {"increments",
     HISTORY_GOOD,
     {ASK(1, INCREMENT, 1), ASK(2, INCREMENT, 1), ANSWER(1, OK, 2),
      ANSWER(2, OK, 1), ASK(3, GET, 0), ANSWER(3, OK, 2)}},
    {"increment done twice",
     HISTORY_BAD,
     {ASK(1, INCREMENT, 1), ANSWER(1, OK, 1), ASK(2, INCREMENT, 1),
      ANSWER(2, OK, 3)}},
    {"two increments give the same",
     HISTORY_BAD,
     {ASK(1, INCREMENT, 1), ASK(2, INCREMENT, 1), ANSWER(1, OK, 1),
      ANSWER(2, OK, 1)}},
    {"an unknown increment counts once",
     HISTORY_BAD,
     {ASK(1, INCREMENT, 1), ANSWER(1, UNKNOWN, 0), ASK(2, INCREMENT, 1),
      ANSWER(2, OK, 3)}},
};

static struct history *written(const struct line *lines)
{
    struct history *h = history_new();
    uint32_t ids[16];
    for (; lines->op != 0; lines++) {
        if (lines->op > 0) {
            struct history_ask ask = {.kind = lines->kind,
                                      .argument = lines->argument,
                                      .expected = lines->expected};
            ids[lines->op] = history_invoke(h, &ask);
        } else {
            history_return(h, ids[-lines->op],
                           (enum history_outcome)lines->argument,
                           lines->expected, 0);
        }
    }
    return h;
}

START_TEST(test_table)
{
    struct history *h = written(table[_i].lines);
    struct buf why = {0};
    ck_assert_msg(history_check(h, &why) == table[_i].verdict, "%s: %s",
                  table[_i].what, buf_cstr(&why));
    ck_assert_uint_eq(why.len > 0, table[_i].verdict == HISTORY_BAD);
    buf_free(&why);
    history_free(h);
}
END_TEST

START_TEST(test_sums)
{
    static const struct line lines[] = {ASK(1, INCREMENT, 1),
                                        ANSWER(1, OK, 1),
                                        ASK(2, INCREMENT, 10),
                                        ANSWER(2, UNKNOWN, 0),
                                        ASK(3, INCREMENT, 100),
                                        ANSWER(3, REFUSED, 0),
                                        {0}};
    struct history *h = written(lines);
    int64_t certain, most;
    history_sum(h, 0, &certain, &most);
    ck_assert_int_eq(certain, 1);
    ck_assert_int_eq(most, 11);
    history_free(h);
}
END_TEST

/* ---- random small histories against trying all orders ---- */

#define OPS 6

struct small {
    struct history_ask ask[OPS];
    enum history_outcome outcome[OPS];
    int64_t value[OPS];
    int asked[OPS], answered[OPS];
};

/* The model again, written for plainness. */
static bool explains(const struct small *s, unsigned left, int64_t state)
{
    bool certain_left = false;
    for (int i = 0; i < OPS; i++) {
        certain_left = certain_left || ((left >> i & 1u) != 0 &&
                                        (s->outcome[i] == HISTORY_OK ||
                                         s->outcome[i] == HISTORY_CONFLICT));
    }
    if (!certain_left) {
        return true;
    }
    for (int i = 0; i < OPS; i++) {
        bool next = (left >> i & 1u) != 0 && s->outcome[i] != HISTORY_REFUSED;
        for (int j = 0; j < OPS; j++) {
            /* J was answered before I was asked, and has not come. */
            next = next && !(j != i && (left >> j & 1u) != 0 &&
                             (s->outcome[j] == HISTORY_OK ||
                              s->outcome[j] == HISTORY_CONFLICT) &&
                             s->answered[j] < s->asked[i]);
        }
        int64_t after = state;
        bool sure = s->outcome[i] != HISTORY_UNKNOWN;
        const struct history_ask *a = &s->ask[i];
        if (a->kind == HISTORY_GET) {
            next = next && (!sure || s->value[i] == state);
        } else if (a->kind == HISTORY_PUT) {
            after = a->argument;
        } else if (a->kind == HISTORY_DELETE) {
            after = HISTORY_ABSENT;
        } else if (a->kind == HISTORY_CPUT) {
            bool fits = state == a->expected;
            next = next && (!sure || fits == (s->outcome[i] == HISTORY_OK));
            after = fits ? a->argument : state;
        }
        if (next && explains(s, left & ~(1u << i), after)) {
            return true;
        }
    }
    return false;
}

static int64_t some_value(struct sim_rng *r)
{
    return sim_rng_below(r, 3) == 0 ? HISTORY_ABSENT
                                    : (int64_t)sim_rng_below(r, 3);
}

static void small_make(struct small *s, struct sim_rng *r, struct history *h)
{
    bool open[OPS] = {false};
    uint32_t ids[OPS];
    int begun = 0, ended = 0;
    for (int t = 1; ended < OPS; t++) {
        int i = (int)sim_rng_below(r, OPS);
        if (begun < OPS && sim_rng_below(r, 2) == 0) {
            i = begun++;
            s->ask[i] = (struct history_ask){
                .kind = (enum history_kind)sim_rng_below(r, 4),
                .argument = (int64_t)sim_rng_below(r, 3),
                .expected = some_value(r)};
            ids[i] = history_invoke(h, &s->ask[i]);
            s->asked[i] = t;
            open[i] = true;
        } else if (open[i]) {
            open[i] = false;
            ended++;
            uint64_t how = sim_rng_below(r, 10);
            s->outcome[i] = how == 0   ? HISTORY_REFUSED
                            : how <= 2 ? HISTORY_UNKNOWN
                            : how <= 4 && s->ask[i].kind == HISTORY_CPUT
                                ? HISTORY_CONFLICT
                                : HISTORY_OK;
            s->value[i] = some_value(r);
            s->answered[i] = t;
            history_return(h, ids[i], s->outcome[i], s->value[i], 0);
        }
    }
}

START_TEST(test_against_all_orders)
{
    struct sim_rng r;
    int good = 0, bad = 0;
    sim_rng_init(&r, (uint64_t)_i);
    for (int round = 0; round < 2000; round++) {
        struct small s;
        struct history *h = history_new();
        small_make(&s, &r, h);
        bool expected = explains(&s, (1u << OPS) - 1, HISTORY_ABSENT);
        ck_assert_int_eq(history_check_key(h, 0),
                         expected ? HISTORY_GOOD : HISTORY_BAD);
        good += expected;
        bad += !expected;
        history_free(h);
    }
    ck_assert_int_gt(good, 100);
    ck_assert_int_gt(bad, 100);
}
END_TEST

/* Long and honest: many clients, one register, effects at random instants. */
START_TEST(test_long)
{
    struct sim_rng r;
    struct history *h = history_new();
    int64_t state = HISTORY_ABSENT;
    uint32_t ids[8];
    int stage[8] = {0};
    struct history_ask asks[8];
    int64_t values[8];
    sim_rng_init(&r, 5);
    for (int64_t t = 0; t < 30000; t++) {
        uint64_t c = sim_rng_below(&r, 8);
        if (stage[c] == 0) {
            asks[c] = (struct history_ask){
                .kind = (enum history_kind)sim_rng_below(&r, 2), .argument = t};
            ids[c] = history_invoke(h, &asks[c]);
        } else if (stage[c] == 1) {
            values[c] = state;
            state = asks[c].kind == HISTORY_PUT ? asks[c].argument : state;
        } else {
            history_return(h, ids[c],
                           sim_rng_below(&r, 100) == 0 ? HISTORY_UNKNOWN
                                                       : HISTORY_OK,
                           values[c], t);
        }
        stage[c] = (stage[c] + 1) % 3;
    }
    ck_assert_int_eq(history_check(h, NULL), HISTORY_GOOD);
    history_free(h);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("history");
    TCase *t = tcase_create("history");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_table, 0,
                        (int)(sizeof(table) / sizeof(table[0])));
    tcase_add_test(t, test_sums);
    tcase_add_loop_test(t, test_against_all_orders, 0, 5);
    tcase_add_test(t, test_long);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
