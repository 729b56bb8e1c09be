/*
 * One run of one seed: sim_main.c tells its course.
 */
#ifndef TESTS_SIM_RUN_H
#define TESTS_SIM_RUN_H

#include "tests/sim/scenario.h"
#include "tests/sim/workload.h"

struct run_options {
    const struct scenario *scenario;           /* NULL: random faults */
    int64_t duration_us;                       /* of random faults */
    unsigned bugs, coordinator_bugs, sim_bugs; /* bits of each bugs.def */
    bool logs; /* the nodes' logs to standard error */
    void (*trace)(void *ctx, int64_t time_us, const char *line);
    void *trace_ctx;
};

struct run_result {
    uint64_t seed;
    bool good;
    struct buf why;
    uint64_t hash, events, frames, applied;
    int64_t virtual_us;
    struct workload_stats work;
};

void run_once(const struct run_options *o, struct run_result *r);
/* Adds R's figures to SUM. */
void run_add(struct run_result *sum, const struct run_result *r);

#endif
