/*
 * crash: replays a trace to many places and looks at what a power loss there
 * may leave.
 *
 *   crash [options] storage|coordinator TRACE [TRACE OF ANOTHER]...
 *     --points N      that many places (300)
 *     --seed S        of all choices (1)
 *     --part I/N      only every N-th of them, from the I-th on
 *     --only P,K      one place and one choice, as a failure names them
 *     --same-as DIR   only checks that the trace ends with what DIR has
 *     --bugs MASK     of the recovery: storage/bugs.def
 *     --verbose       the recovery's own lines
 *
 * Exit: 0 all holds, 1 something does not, 2 usage, 3 the trace is not the
 * truth.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/crash/recover.h"

#define OTHERS 8

struct crash_run {
    uint64_t points, seed, part, parts;
    uint64_t only_place, only_choice;
    bool only, verbose, storage;
    unsigned bugs;
    const char *same_as;
    struct trace trace;
    struct crash_disk *disk;
    struct ledger *ledger;
    uint64_t *chosen; /* places, ascending */
    struct crash_figures figures;
    uint64_t checked, failed;
};

/* ---- which places ---- */

struct places {
    uint64_t *at, count;
};

/* What is rare, and where order matters most. */
static bool is_rare(const struct trace_record *r)
{
    switch (r->h.kind) {
    case TRACE_RENAME:
    case TRACE_UNLINK:
    case TRACE_MKDIR:
    case TRACE_RESIZE:
    case TRACE_IDENTITY:
    case TRACE_TOLD:
        return true;
    case TRACE_OPEN:
        return (r->h.flags & (TRACE_CREATED | TRACE_EMPTIED)) != 0;
    default:
        return false;
    }
}

/* The first time that somebody hears of an epoch. */
static bool is_news(const struct trace_record *r, uint64_t *epochs)
{
    struct trace_promise p;
    if (r->h.kind != TRACE_PROMISE) {
        return false;
    }
    trace_get(r, &p, sizeof(p));
    if (p.tablet >= LEDGER_TABLETS || p.epoch <= epochs[p.tablet]) {
        return false;
    }
    epochs[p.tablet] = p.epoch;
    return true;
}

/* RARE, and just after somebody was TOLD something. */
static void gather(const struct trace *t, struct places *rare,
                   struct places *told)
{
    uint64_t epochs[LEDGER_TABLETS] = {0};
    rare->at = xcalloc(t->count, sizeof(*rare->at));
    told->at = xcalloc(t->count, sizeof(*told->at));
    for (uint64_t i = 0; i < t->count; i++) {
        bool news = is_news(&t->at[i], epochs);
        if (is_rare(&t->at[i]) || news) {
            rare->at[rare->count++] = i;
        }
        if (news || t->at[i].h.kind == TRACE_PROMISE) {
            told->at[told->count++] = i;
        }
    }
}

static int ascending(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

static uint64_t choose_one(const struct crash_run *r, uint64_t number,
                           const struct places *rare, const struct places *told,
                           struct sim_rng *rng)
{
    uint64_t at = sim_rng_below(rng, r->trace.count);
    if (number % 4 < 2 && rare->count > 0) {
        at = rare->at[sim_rng_below(rng, rare->count)];
        at += number % 4 == 0 ? sim_rng_below(rng, 6) : 0;
    } else if (number % 4 == 2 && told->count > 0) {
        at = told->at[sim_rng_below(rng, told->count)];
    }
    return at < r->trace.count ? at : r->trace.count - 1;
}

static void choose(struct crash_run *r)
{
    struct sim_rng rng;
    struct places rare = {0}, told = {0};
    sim_rng_init(&rng, r->seed);
    gather(&r->trace, &rare, &told);
    r->points = r->only ? 1 : r->points;
    r->chosen = xcalloc(r->points, sizeof(*r->chosen));
    for (uint64_t i = 0; i < r->points; i++) {
        r->chosen[i] =
            r->only ? r->only_place : choose_one(r, i, &rare, &told, &rng);
    }
    qsort(r->chosen, r->points, sizeof(*r->chosen), ascending);
    free(rare.at);
    free(told.at);
}

/* ---- one place ---- */

static void look(struct crash_run *r, uint64_t place, uint64_t number)
{
    struct crash_point p = {
        .disk = r->disk,
        .ledger = r->ledger,
        .choice = {.kind = (enum choice_kind)(number % CHOICE_KINDS)},
        .storage = r->storage,
        .bugs = r->bugs,
        .goes_on = number % 7 == 3,
        .again = number % 4 == 1,
        .log_fd = r->verbose ? 2 : -1,
    };
    struct err why = {""};
    p.choice.seed = r->seed * 1000003 + place * 31 + number;
    r->checked++;
    if (!crash_check(&p, &r->figures, &why)) {
        r->failed++;
        if (r->failed <= 10) {
            printf("FAILED --seed %llu --only %llu,%llu: %s\n",
                   (unsigned long long)r->seed, (unsigned long long)place,
                   (unsigned long long)number, why.text);
            (void)fflush(stdout);
        }
    }
}

static void replay(struct crash_run *r)
{
    uint64_t next = 0;
    for (uint64_t i = 0; i < r->trace.count; i++) {
        ledger_step(r->ledger, &r->trace.at[i]);
        (void)crash_disk_step(r->disk, &r->trace.at[i]);
        while (next < r->points && r->chosen[next] == i) {
            if (next % r->parts == r->part) {
                look(r, i, r->only ? r->only_choice : next);
            }
            next++;
        }
    }
}

/* ---- options ---- */

static int usage(void)
{
    fprintf(stderr,
            "usage: crash [--points N] [--seed S] [--part I/N] [--only P,K]\n"
            "    [--same-as DIR] [--bugs MASK] [--verbose]\n"
            "    storage|coordinator TRACE...\n");
    return 2;
}

static bool two(const char *text, char between, uint64_t *a, uint64_t *b)
{
    char *end;
    *a = strtoull(text, &end, 10);
    if (*end != between) {
        return false;
    }
    *b = strtoull(end + 1, &end, 10);
    return *end == '\0';
}

static bool take_option(struct crash_run *r, int c)
{
    switch (c) {
    case 'n':
        r->points = strtoull(optarg, NULL, 10);
        return r->points > 0;
    case 's':
        r->seed = strtoull(optarg, NULL, 10);
        return true;
    case 'p':
        return two(optarg, '/', &r->part, &r->parts) && r->parts > 0;
    case 'o':
        r->only = true;
        return two(optarg, ',', &r->only_place, &r->only_choice);
    case 'd':
        r->same_as = optarg;
        return true;
    case 'b':
        r->bugs = (unsigned)strtoul(optarg, NULL, 0);
        return true;
    case 'v':
        r->verbose = true;
        return true;
    default:
        return false;
    }
}

static bool take_options(struct crash_run *r, int argc, char **argv)
{
    static const struct option options[] = {
        {"points", 1, NULL, 'n'},  {"seed", 1, NULL, 's'},
        {"part", 1, NULL, 'p'},    {"only", 1, NULL, 'o'},
        {"same-as", 1, NULL, 'd'}, {"bugs", 1, NULL, 'b'},
        {"verbose", 0, NULL, 'v'}, {NULL, 0, NULL, 0}};
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (!take_option(r, c)) {
            return false;
        }
    }
    r->storage = optind < argc && strcmp(argv[optind], "storage") == 0;
    return optind + 1 < argc &&
           (r->storage || strcmp(argv[optind], "coordinator") == 0);
}

static bool learn(struct crash_run *r, int argc, char **argv)
{
    ledger_learn(r->ledger, &r->trace);
    for (int i = optind + 2; i < argc; i++) {
        struct trace other;
        if (!trace_load(&other, argv[i])) {
            return false;
        }
        ledger_learn(r->ledger, &other);
        trace_free(&other);
    }
    return true;
}

static int report(const struct crash_run *r)
{
    printf("  %llu crashes, %llu recoveries, %llu values read, %llu records, "
           "%llu states not known\n",
           (unsigned long long)r->checked,
           (unsigned long long)r->figures.recoveries,
           (unsigned long long)r->figures.values,
           (unsigned long long)r->trace.count,
           (unsigned long long)r->figures.unknown_states);
    printf("%llu passed, %llu failed\n",
           (unsigned long long)(r->checked - r->failed),
           (unsigned long long)r->failed);
    return r->failed > 0;
}

static int run(struct crash_run *r)
{
    if (r->same_as != NULL) {
        r->points = 0;
        replay(r);
        return crash_disk_equals(r->disk, r->same_as) ? 0 : 3;
    }
    choose(r);
    replay(r);
    free(r->chosen);
    return report(r);
}

int main(int argc, char **argv)
{
    struct crash_run r = {.points = 300, .seed = 1, .parts = 1};
    if (!take_options(&r, argc, argv)) {
        return usage();
    }
    if (!trace_load(&r.trace, argv[optind + 1])) {
        return 3;
    }
    r.disk = crash_disk_new();
    r.ledger = ledger_new();
    int code = learn(&r, argc, argv) ? run(&r) : 3;
    crash_disk_free(r.disk);
    ledger_free(r.ledger);
    trace_free(&r.trace);
    return code;
}
