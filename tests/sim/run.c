#include "tests/sim/run.h"

#include <string.h>

#define WHOLE_US (60 * SIM_S)
#define DRAIN_US (40 * SIM_S)

/* What a seed decides besides the faults. */
static struct cluster_options draw_cluster(const struct run_options *o,
                                           struct sim_rng *r, uint64_t seed)
{
    struct cluster_options c = {.seed = seed,
                                .storages = 3,
                                .coordinators = 1,
                                .clients = 2,
                                .replicas = 3,
                                .tablets = 1,
                                .bugs = o->bugs,
                                .coordinator_bugs = o->coordinator_bugs,
                                .sim_bugs = o->sim_bugs,
                                .log_level = LOG_LEVEL_DEBUG,
                                .log_fd = o->logs ? 2 : -1};
    if (o->scenario != NULL) {
        c.storages = o->scenario->storages != 0 ? o->scenario->storages : 3;
        c.replicas = o->scenario->replicas != 0 ? o->scenario->replicas : 3;
    } else {
        static const unsigned storages[] = {3, 3, 3, 4, 5, 2};
        c.storages = storages[sim_rng_below(r, 6)];
        c.replicas = c.storages < 3 ? c.storages : 3;
    }
    c.tablets = (unsigned)sim_rng_range(r, 1, 3);
    if (o->scenario != NULL && o->scenario->tablets != 0) {
        c.tablets = o->scenario->tablets;
    }
    c.clients = (unsigned)sim_rng_range(r, 1, 3);
    /* Small logs, so that checkpoints, recycling and snapshots happen. */
    c.segment_size = KIB(64) << sim_rng_below(r, 3);
    c.log_limit = c.segment_size * (uint64_t)sim_rng_range(r, 3, 8);
    return c;
}

static struct workload_options draw_workload(struct sim_rng *r)
{
    /* Above 1 KiB they leave memory, above 16 KiB the log, too. */
    static const uint32_t value_max[] = {200, 200, 3000, 9000, 40000, 400000};
    return (struct workload_options){
        .registers = (unsigned)sim_rng_range(r, 1, 6),
        .counters = (unsigned)sim_rng_range(r, 0, 2),
        .boxes = (unsigned)sim_rng_range(r, 0, 3),
        .workers = (unsigned)sim_rng_range(r, 1, 4),
        .think_us = sim_rng_range(r, 5, 60) * SIM_MS,
        .timeout_us = sim_rng_range(r, 300, 6000) * SIM_MS,
        .settle_ppm = 900000,
        .value_max = value_max[sim_rng_below(r, 6)],
    };
}

static bool still_busy(void *ctx)
{
    struct cluster *c = ctx;
    return !sim_cluster_failed(c) && !workload_idle(c->workload);
}

static bool still_auditing(void *ctx)
{
    struct cluster *c = ctx;
    return !sim_cluster_failed(c) && !workload_audit_done(c->workload);
}

static bool still_different(void *ctx)
{
    struct cluster *c = ctx;
    struct buf why = {0};
    bool equal = checks_equal(c->checks, &why);
    buf_free(&why);
    return !sim_cluster_failed(c) && !equal;
}

static bool whole_again(struct cluster *c, const char *when)
{
    if (sim_cluster_await_whole(c, WHOLE_US)) {
        return true;
    }
    struct buf why = {0};
    (void)sim_cluster_whole(c, &why);
    sim_cluster_fail(c, "%s: not whole: %s", when, buf_cstr(&why));
    buf_free(&why);
    return false;
}

/* Nobody works: all replicas become equal, all that was promised is there. */
static void audit(struct cluster *c, const char *when)
{
    struct buf why = {0};
    workload_pause(c->workload, true);
    if (!world_run_while(c->w, still_busy, c, DRAIN_US)) {
        sim_cluster_fail(c, "%s: operations do not end", when);
    } else {
        workload_audit_begin(c->workload);
        if (!world_run_while(c->w, still_auditing, c, DRAIN_US)) {
            sim_cluster_fail(c, "%s: the audit does not end", when);
        }
    }
    if (!sim_cluster_failed(c) &&
        !world_run_while(c->w, still_different, c, 5 * SIM_S)) {
        (void)checks_equal(c->checks, &why);
        sim_cluster_fail(c, "%s: replicas are not equal: %s", when,
                         buf_cstr(&why));
    }
    if (!sim_cluster_failed(c) && !checks_values(c->checks, &why)) {
        sim_cluster_fail(c, "%s: %s", when, buf_cstr(&why));
    }
    if (!sim_cluster_failed(c) && !workload_check(c->workload, &why)) {
        sim_cluster_fail(c, "%s: %s", when, buf_cstr(&why));
        buf_put_slice(&c->failure, buf_slice(&why));
    }
    buf_free(&why);
}

static void all_lose_power(struct cluster *c, struct sim_rng *r)
{
    for (unsigned i = 0; i < c->member_count; i++) {
        struct member *m = &c->members[i];
        if (m->kind != MEMBER_CLIENT) {
            member_power_off(m, sim_rng_range(r, 10, 3000) * SIM_MS);
        }
    }
}

static void play(struct cluster *c, const struct run_options *o,
                 struct sim_rng *r)
{
    sim_cluster_want(c, MEMBER_COORDINATOR, true);
    sim_cluster_want(c, MEMBER_STORAGE, true);
    if (!whole_again(c, "at the beginning")) {
        return;
    }
    sim_cluster_want(c, MEMBER_CLIENT, true);
    world_run_for(c->w, sim_rng_range(r, 100, 1500) * SIM_MS);
    if (o->scenario != NULL) {
        (void)scenario_run(c, o->scenario->script);
        nemesis_mend(c);
    } else {
        nemesis_run(c, world_now(c->w) + o->duration_us);
    }
    if (sim_cluster_failed(c) || !whole_again(c, "after the faults")) {
        return;
    }
    world_run_for(c->w, 500 * SIM_MS);
    audit(c, "in the end");
    if (!sim_cluster_failed(c) && sim_rng_chance(r, 250000)) {
        all_lose_power(c, r);
        if (whole_again(c, "after the power came back")) {
            audit(c, "after the power came back");
        }
    }
}

void run_once(const struct run_options *o, struct run_result *r)
{
    struct sim_rng rng;
    sim_rng_init(&rng, r->seed ^ UINT64_C(0x72756e));
    struct cluster_options co = draw_cluster(o, &rng, r->seed);
    struct workload_options wo = draw_workload(&rng);
    struct cluster *c = sim_cluster_new(&co);
    world_trace_to(c->w, o->trace, o->trace_ctx);
    struct workload *w = workload_new(c, &wo);
    play(c, o, &rng);
    if (!sim_cluster_failed(c) && sim_net_denied(c->w) > 0) {
        sim_cluster_fail(c, "a message went where its sender's role may not");
    }
    workload_get_stats(w, &r->work);
    r->good = !sim_cluster_failed(c);
    buf_put_slice(&r->why, buf_slice(&c->failure));
    r->hash = world_hash(c->w);
    r->events = world_events(c->w);
    r->frames = sim_net_frames(c->w);
    r->virtual_us = world_now(c->w);
    r->applied = checks_applied(c->checks);
    sim_cluster_free(c);
    workload_free(w);
}

void run_add(struct run_result *sum, const struct run_result *r)
{
    sum->events += r->events;
    sum->frames += r->frames;
    sum->applied += r->applied;
    sum->virtual_us += r->virtual_us;
    sum->work.asked += r->work.asked;
    sum->work.ok += r->work.ok;
    sum->work.refused += r->work.refused;
    sum->work.unknown += r->work.unknown;
    sum->work.settled += r->work.settled;
    sum->work.undecided += r->work.undecided;
}
