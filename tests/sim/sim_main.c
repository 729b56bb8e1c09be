/*
 * sim: runs the simulated cluster with many seeds.
 *
 *   sim [--seed S] [--runs N] [--scenario NAME|all] [--bug NAME|all] [--trace]
 *       [--logs] [--seconds N] [--twice] [--keep-going] [--list]
 *
 * A run is: the cluster is made and becomes whole, clients work, faults happen
 * (random ones, or a scenario's), all is mended, the cluster must become whole
 * again, everything is read and compared with what was promised; some runs
 * then take the power from all and read once more. Exit status 0: nothing
 * found. 1: a seed failed; its number, what was wrong, the last events and the
 * command that shows it again are printed. With --bug a failure is what is
 * wanted: 0 if some seed of the N caught it.
 */
#include "tests/sim/bugs.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct sim_options {
    struct run_options run;
    uint64_t seed, runs;
    bool trace, twice, all, all_bugs, keep_going;
    const char *bug;
};

/* For the handler: an assertion of the code under test ends the process, and
 * must still say which seed it was. */
static char replay[256];

static void on_abort(int sig)
{
    (void)sig;
    (void)!write(2, replay, strlen(replay));
    (void)signal(SIGABRT, SIG_DFL);
}

static void say_replay(const struct sim_options *o, uint64_t seed, char *out,
                       size_t size)
{
    const struct scenario *s = o->run.scenario;
    (void)snprintf(
        out, size, "seed %llu failed; again: sim --seed %llu%s%s%s%s --trace\n",
        (unsigned long long)seed, (unsigned long long)seed,
        s != NULL ? " --scenario " : "", s != NULL ? s->name : "",
        o->bug != NULL ? " --bug " : "", o->bug != NULL ? o->bug : "");
}

/* The last lines of a trace. */
#define RING 120
struct ring {
    char *lines[RING];
    size_t next;
};

static void ring_line(void *ctx, int64_t time_us, const char *line)
{
    struct ring *r = ctx;
    char text[600];
    (void)snprintf(text, sizeof(text), "%10.6f %s", (double)time_us / 1e6,
                   line);
    free(r->lines[r->next % RING]);
    r->lines[r->next++ % RING] = xstrdup(text);
}

static void print_line(void *ctx, int64_t time_us, const char *line)
{
    (void)ctx;
    (void)printf("%10.6f %s\n", (double)time_us / 1e6, line);
}

static void print_last(const struct sim_options *o, uint64_t seed)
{
    struct ring r = {.next = 0};
    struct run_options again = o->run;
    struct run_result result = {.seed = seed};
    again.trace = ring_line;
    again.trace_ctx = &r;
    run_once(&again, &result);
    for (size_t i = 0; i < RING; i++) {
        char **line = &r.lines[(r.next + i) % RING];
        if (*line != NULL) {
            (void)printf("%s\n", *line);
        }
        free(*line);
    }
    buf_free(&result.why);
}

/* One seed; true if nothing was found. */
static bool one(const struct sim_options *o, uint64_t seed,
                struct run_result *sum)
{
    struct run_result r = {.seed = seed};
    say_replay(o, seed, replay, sizeof(replay));
    run_once(&o->run, &r);
    if (o->twice && r.good) {
        struct run_result again = {.seed = seed};
        run_once(&o->run, &again);
        if (again.hash != r.hash) {
            r.good = false;
            buf_printf(&r.why, "two runs of one seed differ: %llx, %llx",
                       (unsigned long long)r.hash,
                       (unsigned long long)again.hash);
        }
        buf_free(&again.why);
    }
    run_add(sum, &r);
    if (!r.good && o->keep_going) {
        (void)printf("seed %llu: %.160s\n", (unsigned long long)seed,
                     buf_cstr(&r.why));
    } else if (!r.good && o->bug == NULL) {
        if (!o->trace) {
            print_last(o, seed);
        }
        (void)printf("%s%s\n", replay, buf_cstr(&r.why));
    } else if (!r.good) {
        (void)printf("bug %s is caught by seed %llu: %.300s\n", o->bug,
                     (unsigned long long)seed, buf_cstr(&r.why));
    }
    buf_free(&r.why);
    return r.good;
}

static double seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* All seeds; true if it ended as it should. */
static bool many(const struct sim_options *o)
{
    struct run_result sum = {0};
    double start = seconds();
    bool good = true;
    uint64_t i = 0;
    while (i < o->runs && (good || o->keep_going)) {
        good = one(o, o->seed + i++, &sum) && good;
    }
    const char *name =
        o->run.scenario != NULL ? o->run.scenario->name : "random faults";
    (void)printf("%s: %llu seeds in %.1f s, %llu events, %llu frames, "
                 "%.0f virtual s; %llu operations, %llu unknown, %llu settled, "
                 "%llu undecided, %llu applied\n",
                 name, (unsigned long long)i, seconds() - start,
                 (unsigned long long)sum.events, (unsigned long long)sum.frames,
                 (double)sum.virtual_us / 1e6,
                 (unsigned long long)sum.work.asked,
                 (unsigned long long)sum.work.unknown,
                 (unsigned long long)sum.work.settled,
                 (unsigned long long)sum.work.undecided,
                 (unsigned long long)sum.applied);
    (void)fflush(stdout);
    if (o->bug != NULL && good) {
        (void)printf("bug %s is NOT caught\n", o->bug);
    }
    return o->bug != NULL ? !good : good;
}

/* A bug may be caught by an assertion of the code itself, which ends the
 * process: so it runs in one of its own. */
static bool hunt(const struct sim_options *o)
{
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        _exit(many(o) ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        return false;
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) {
        (void)printf("bug %s is caught by an assertion\n", o->bug);
        return true;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool hunt_all(const struct sim_options *o)
{
    unsigned missed = 0, count = 0;
    for (const struct bug *b = bugs; b->name != NULL; b++) {
        struct sim_options one_bug = *o;
        one_bug.bug = b->name;
        bug_set(b, &one_bug.run);
        one_bug.run.scenario = bug_scenario(b);
        missed += !hunt(&one_bug);
        count++;
    }
    (void)printf("%u of %u bugs caught\n", count - missed, count);
    return missed == 0;
}

/* ---- arguments ---- */

static void list(void)
{
    for (const struct scenario *s = scenarios; s->name != NULL; s++) {
        (void)printf("scenario %-32s %s\n", s->name, s->about);
    }
    for (const struct bug *b = bugs; b->name != NULL; b++) {
        (void)printf("bug %-37s %s\n", b->name, b->about);
    }
}

static int usage(void)
{
    (void)fprintf(stderr, "usage: sim [--seed S] [--runs N] "
                          "[--scenario NAME|all] [--bug NAME|all] [--trace] "
                          "[--logs] [--seconds N] [--twice] [--keep-going] "
                          "[--list]\n");
    return 2;
}

enum option_code {
    OPT_SEED = 1,
    OPT_RUNS,
    OPT_SCENARIO,
    OPT_BUG,
    OPT_TRACE,
    OPT_LOGS,
    OPT_SECONDS,
    OPT_TWICE,
    OPT_KEEP_GOING,
    OPT_LIST
};

static const struct option long_options[] = {
    {"seed", required_argument, NULL, OPT_SEED},
    {"runs", required_argument, NULL, OPT_RUNS},
    {"scenario", required_argument, NULL, OPT_SCENARIO},
    {"bug", required_argument, NULL, OPT_BUG},
    {"trace", no_argument, NULL, OPT_TRACE},
    {"logs", no_argument, NULL, OPT_LOGS},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"twice", no_argument, NULL, OPT_TWICE},
    {"keep-going", no_argument, NULL, OPT_KEEP_GOING},
    {"list", no_argument, NULL, OPT_LIST},
    {NULL, 0, NULL, 0},
};

static bool take_bug(struct sim_options *o, const char *name)
{
    const struct bug *b = bug_find(name);
    o->bug = name;
    o->all_bugs = strcmp(name, "all") == 0;
    if (b != NULL) {
        bug_set(b, &o->run);
        o->run.scenario =
            o->run.scenario != NULL ? o->run.scenario : bug_scenario(b);
    }
    return b != NULL || o->all_bugs;
}

/* False: usage. */
static bool take_option(struct sim_options *o, int option)
{
    switch (option) {
    case OPT_SEED:
        o->seed = strtoull(optarg, NULL, 10);
        return true;
    case OPT_RUNS:
        o->runs = strtoull(optarg, NULL, 10);
        return true;
    case OPT_SCENARIO:
        o->all = strcmp(optarg, "all") == 0;
        o->run.scenario = o->all ? NULL : scenario_find(optarg);
        return o->all || o->run.scenario != NULL;
    case OPT_BUG:
        return take_bug(o, optarg);
    case OPT_TRACE:
        o->trace = true;
        o->run.trace = print_line;
        return true;
    case OPT_LOGS:
        o->run.logs = true;
        return true;
    case OPT_SECONDS:
        o->run.duration_us = strtoll(optarg, NULL, 10) * SIM_S;
        return true;
    case OPT_TWICE:
        o->twice = true;
        return true;
    case OPT_KEEP_GOING:
        o->keep_going = true;
        return true;
    default:
        return false;
    }
}

int main(int argc, char **argv)
{
    struct sim_options o = {.seed = 1, .runs = 1};
    int option;
    o.run.duration_us = 10 * SIM_S;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == OPT_LIST) {
            list();
            return 0;
        }
        if (!take_option(&o, option)) {
            return usage();
        }
    }
    (void)signal(SIGABRT, on_abort);
    bool good = true;
    if (o.all_bugs) {
        return hunt_all(&o) ? 0 : 1;
    }
    if (!o.all) {
        good = o.bug != NULL && !o.keep_going ? hunt(&o) : many(&o);
    }
    for (const struct scenario *s = scenarios; o.all && s->name != NULL; s++) {
        o.run.scenario = s;
        good = many(&o) && good;
    }
    return good ? 0 : 1;
}
