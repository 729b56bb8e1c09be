/*
 * Simulated hosts and processes, each process with one struct env or several
 * (one a thread). A host has a clock, a disk that outlives its processes, and
 * at most one process at a time.
 *
 * A process is killed at once, also from inside one of its own callbacks: from
 * then on all its env's functions do nothing (opening fails with ST_STOPPING),
 * no callback comes any more, and its memory is given back through the
 * program's free function when the event at hand has ended.
 *
 * For a unit test of one module no program is needed:
 *     struct world *w = world_new(seed);
 *     struct sim_host *h = sim_host_new(w, "a");
 *     struct env *e = sim_env_new(h, NULL);
 *     ... world_run_for(w, 10 * SIM_MS); ... free the module's objects ...
 *     world_free(w);
 * sim_host_power_off(h) and another sim_env_new() show what a crash leaves;
 * the module's objects are freed after the power went, which harms no disk.
 */
#ifndef TESTS_SIM_SIM_ENV_H
#define TESTS_SIM_SIM_ENV_H

#include "common/hello.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_net.h"
#include "tests/sim/sim_world.h"

/* What runs on a host. */
struct sim_program {
    /* Makes the process' object over envs from sim_env_new(); NULL: it could
     * not start, the host has no process then. */
    void *(*start)(struct sim_host *h, void *ctx);
    /* Frees OBJECT without any effect on disk or peers; its envs are dead. */
    void (*free)(void *object);
};

struct sim_host *sim_host_new(struct world *w, const char *name);
const char *sim_host_name(const struct sim_host *h);
struct world *sim_host_world(struct sim_host *h);
struct sim_host *sim_host_find(struct world *w, const char *name);

/* Starts a process, powers the host on if need be; asserts that none runs.
 * False if the program could not start. */
bool sim_host_start(struct sim_host *h, const struct sim_program *p, void *ctx);
/* The running process' object; NULL if none. */
void *sim_host_object(const struct sim_host *h);
bool sim_host_running(const struct sim_host *h);

/* kill -9: connections break, the page cache stays. No-op if none runs. */
void sim_host_kill(struct sim_host *h);
/* The plug is pulled: unsynced data goes, in part or wholly; peers hear
 * nothing. The host answers nothing until it is powered on or started. */
void sim_host_power_off(struct sim_host *h);
void sim_host_power_on(struct sim_host *h);
bool sim_host_powered(const struct sim_host *h);
/* Kills (or powers off) the host before its N-th further step on disk. */
void sim_host_fail_at_step(struct sim_host *h, uint32_t n, bool power);
/* Steps on disk so far: create, write, sync, rename, unlink, sync of a
 * directory each count one. */
uint64_t sim_host_steps(const struct sim_host *h);

/* SIGSTOP and SIGCONT: no event runs in between, messages wait, timers come
 * late. A killed process is not paused any more. */
void sim_host_pause(struct sim_host *h);
void sim_host_resume(struct sim_host *h);
bool sim_host_paused(const struct sim_host *h);
/* Stops a process at any reading of its clock, also in the middle of its
 * handling an event: with CHANCE_PPM, for up to LONGEST_US. What it does after
 * the reading happens after the stop. 0: not at all. */
void sim_host_preempt(struct sim_host *h, uint32_t chance_ppm,
                      int64_t longest_us);
/* True while H stands in the middle of an event: its memory is already what
 * it will be when it goes on. */
bool sim_host_busy(const struct sim_host *h);

/* Clock: parts per million against true time (at most 10,000 either way;
 * drawn at random when the host is made), and steps of the wall clock. */
void sim_host_set_drift(struct sim_host *h, int32_t ppm);
void sim_host_step_wall(struct sim_host *h, int64_t by_ms);

/* A new env of the host's process; without a process one begins that has no
 * program. SELF is what peers read in the HELLO (its lane is ignored; NULL: a
 * client with the host's name). Freed with the process. */
struct env *sim_env_new(struct sim_host *h, const struct env_peer *self);
/* What the HELLO is made of and checked against; changes count for
 * connections made later. Its name is borrowed. */
struct hello_self *sim_env_self(struct env *e);
struct sim_host *sim_env_host(struct env *e);
/* True while the process that E belongs to lives. */
bool sim_env_alive(const struct env *e);
/* Runs FN on TO's loop (another thread of the same process, or the same),
 * after a moment, in the order of posting to TO: what uv_async is in the
 * daemons. Dropped if the process dies. */
void sim_env_post(struct env *to, void (*fn)(void *ctx), void *ctx);

#endif
