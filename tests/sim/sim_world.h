/*
 * The simulated world: one seed, one virtual time, one queue of events. All
 * that happens in a run follows from the seed: two runs of one seed have the
 * same hash (world_hash). Everything runs on the calling thread.
 */
#ifndef TESTS_SIM_SIM_WORLD_H
#define TESTS_SIM_SIM_WORLD_H

#include "common/env.h"

struct world;
struct sim_host;

#define SIM_HOSTS 32
#define SIM_MS INT64_C(1000)
#define SIM_S INT64_C(1000000)

/* A generator of its own for each purpose, so that a change in one place
 * does not change what others draw. xoshiro256**, seeded by splitmix64. */
struct sim_rng {
    uint64_t s[4];
};
void sim_rng_init(struct sim_rng *r, uint64_t seed);
uint64_t sim_rng_next(struct sim_rng *r);
/* 0 .. N-1; N > 0. */
uint64_t sim_rng_below(struct sim_rng *r, uint64_t n);
/* FIRST .. LAST, both included. */
int64_t sim_rng_range(struct sim_rng *r, int64_t first, int64_t last);
/* True PPM times in a million. */
bool sim_rng_chance(struct sim_rng *r, uint32_t ppm);
void sim_rng_fill(struct sim_rng *r, void *out, size_t len);

struct world *world_new(uint64_t seed);
/* Kills what still runs (objects are freed) and frees all hosts. */
void world_free(struct world *w);

/* Deliberate bugs of the env: bits of sim_bugs.def. */
enum sim_bug {
#define BUG(name, text) SIM_BUG_##name,
#include "tests/sim/sim_bugs.def"
#undef BUG
};
void world_set_bugs(struct world *w, unsigned bugs);
bool world_has_bug(const struct world *w, enum sim_bug bug);

/* True time in microseconds, from 0; hosts' clocks differ from it. */
int64_t world_now(const struct world *w);
uint64_t world_events(const struct world *w);
/* Running hash of all that happened. */
uint64_t world_hash(const struct world *w);
/* The generator for the test's own decisions (faults, workload). */
struct sim_rng *world_rng(struct world *w);

/* Runs the next event; false if there is none. */
bool world_step(struct world *w);
void world_run_until(struct world *w, int64_t time_us);
void world_run_for(struct world *w, int64_t duration_us);
/* Runs until DONE says so; false if it did not within DURATION_US. */
bool world_run_while(struct world *w, bool (*going_on)(void *ctx), void *ctx,
                     int64_t duration_us);
/* Ends the innermost world_run_*() after the event at hand. */
void world_stop(struct world *w);

/* Calls FN once, DELAY_US from now, outside all hosts. */
void world_at(struct world *w, int64_t delay_us, void (*fn)(void *ctx),
              void *ctx);
/* Calls FN after every event that ran in a host, H: for invariants. */
void world_observe(struct world *w, void (*fn)(void *ctx, struct sim_host *h),
                   void *ctx);

/* Trace: lines of text, only formatted when somebody listens. */
void world_trace_to(struct world *w,
                    void (*fn)(void *ctx, int64_t time_us, const char *line),
                    void *ctx);
bool world_traced(const struct world *w);
void world_trace(struct world *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Mixes VALUE into the hash: what a test wants to be deterministic too. */
void world_note(struct world *w, uint64_t value);

#endif
