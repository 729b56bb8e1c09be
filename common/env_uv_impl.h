/*
 * What the files of the libuv env share; nobody else includes it. The design
 * stands at the head of env_uv_io.c.
 */
#ifndef COMMON_ENV_UV_IMPL_H
#define COMMON_ENV_UV_IMPL_H

#include <stdatomic.h>

#include "common/env_uv_disk.h"
#include "common/env_uv_io.h"
#include "common/env_uv_net.h"

/* Counters are written on the loop's thread alone and read on any. */
struct counters {
    _Atomic uint64_t conns_open, conns_unproven, accepted, connected, refused;
    _Atomic uint64_t handshake_failures, denied, invalid;
    _Atomic uint64_t bytes_in, bytes_out, frames_in, frames_out, sealing_ns;
    _Atomic uint64_t disk_writes, disk_syncs, disk_syncs_here, disk_errors,
        disk_bytes;
};
static inline void count_add(_Atomic uint64_t *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* ---- timers (env_uv_timer_io.c): a heap over one uv timer ---- */

struct timer_slot {
    int64_t at_us;
    uint64_t turn; /* equal times fire in the order of their starting */
    struct env_timer *t;
};
struct timers {
    uv_timer_t handle;
    struct timer_slot *heap;
    size_t count, cap;
    uint64_t turns;
    bool firing;
    /* Without a delay; NULL: stopped. Of the first soon_due the loop has looked
     * for input since. */
    struct env_timer **soon;
    size_t soon_count, soon_cap, soon_due;
};

struct helpers; /* env_uv_work_io.c */

/* ---- the env ---- */

struct env_uv {
    struct env env; /* first: struct env * is struct env_uv * */
    uv_loop_t *loop;
    bool closing;
    unsigned holds; /* handles, connections, operations: gone at 0 */
    void (*closed)(void *ctx);
    void *closed_ctx;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    uint64_t turn_ms; /* libuv's time when the loop last began to work */
    struct metric_histogram turn_times;
    struct timers timers;
    struct net net;
    struct disk disk;
    struct counters counters;
    struct helpers *helpers; /* NULL: there was no work lately */
};

static inline struct env_uv *env_uv_of(struct env *e)
{
    return (struct env_uv *)(void *)e;
}

/* Something begins or ends that the env must outlive. Ending the last one
 * of a closing env frees it. */
void env_uv_hold(struct env_uv *u);
void env_uv_release(struct env_uv *u);

/* ---- work beside the loop (env_uv_work_io.c) ---- */

void env_uv_work(struct env *e, struct env_work *w);
void env_uv_work_wait(struct env *e, struct env_work *w);
/* The loop runs: all was waited for. */
void env_uv_work_turn(struct env_uv *u);
void env_uv_work_free(struct helpers *h);

void env_uv_timers_init(struct env_uv *u);
void env_uv_timers_fini(struct env_uv *u);
void env_uv_timer_start(struct env *e, struct env_timer *t, int64_t delay_us);
void env_uv_timer_stop(struct env *e, struct env_timer *t);
/* For timers without a delay, before and after the loop looks for input: true
 * if there are some, and it must not wait; true if some were fired. */
bool env_uv_timers_before_wait(struct env_uv *u);
bool env_uv_timers_after_wait(struct env_uv *u);

#endif
