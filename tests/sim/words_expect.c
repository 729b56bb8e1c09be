/*
 * The words of scenarios that wait for something or demand it.
 */
#include "tests/sim/words.h"

#include "tests/sim/workload.h"

static bool word_await_whole(struct script *s)
{
    if (sim_cluster_await_whole(s->c, script_number(s, 0, 30000) * SIM_MS)) {
        return true;
    }
    struct buf why = {0};
    if (!sim_cluster_failed(s->c)) {
        (void)sim_cluster_whole(s->c, &why);
        sim_cluster_fail(s->c, "scenario: not whole: %s", buf_cstr(&why));
    }
    buf_free(&why);
    return false;
}

/* A condition of a cluster to be waited for. */
struct goal {
    struct script *s;
    struct member *m;
    uint64_t acked;
};

static bool no_write_yet(void *ctx)
{
    struct goal *g = ctx;
    return workload_stored(g->s->c->workload) == g->acked;
}

static bool word_await_writes(struct script *s)
{
    struct goal g = {s, NULL, workload_stored(s->c->workload)};
    return world_run_while(s->c->w, no_write_yet, &g,
                           script_number(s, 0, 3000) * SIM_MS) ||
           sim_cluster_failed(s->c) || script_failed(s, "no write within");
}

static bool no_read_yet(void *ctx)
{
    struct goal *g = ctx;
    return workload_reads(g->s->c->workload) == g->acked;
}

static bool word_await_reads(struct script *s)
{
    struct goal g = {s, NULL, workload_reads(s->c->workload)};
    return world_run_while(s->c->w, no_read_yet, &g,
                           script_number(s, 0, 3000) * SIM_MS) ||
           sim_cluster_failed(s->c) || script_failed(s, "no read within");
}

static bool word_expect_forwarded(struct script *s)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < s->c->member_count; i++) {
        struct member *m = &s->c->members[i];
        if (m->kind == MEMBER_STORAGE && sim_host_running(m->host)) {
            struct storage_stats stats;
            storage_node_stats(sim_host_object(m->host), &stats);
            sum += stats.forwarded;
        }
    }
    return sum > 0 || script_failed(s, "no read was sent on");
}

static bool word_expect_no_writes(struct script *s)
{
    struct goal g = {s, NULL, workload_stored(s->c->workload)};
    /* What was answered already may still be on its way. */
    world_run_for(s->c->w, 1500 * SIM_MS);
    g.acked = workload_stored(s->c->workload);
    world_run_for(s->c->w, script_number(s, 0, 3000) * SIM_MS);
    return no_write_yet(&g) || script_failed(s, "a write within");
}

#define PAUSE_US (2 * SIM_S)

static bool word_await_no_writes(struct script *s)
{
    int64_t end = world_now(s->c->w) + script_number(s, 0, 60000) * SIM_MS;
    while (world_now(s->c->w) < end && !sim_cluster_failed(s->c)) {
        struct goal g = {s, NULL, workload_stored(s->c->workload)};
        world_run_for(s->c->w, PAUSE_US);
        if (no_write_yet(&g)) {
            return true;
        }
    }
    return sim_cluster_failed(s->c) || script_failed(s, "still writes after");
}

static bool still_in_sync(void *ctx)
{
    struct goal *g = ctx;
    const struct msg_map *map = sim_cluster_map(g->s->c);
    bool in = map == NULL || map->tablets_count == 0;
    for (uint32_t i = 0; !in && i < map->tablets[0].in_sync_count; i++) {
        in = map->tablets[0].in_sync[i].node == g->m->node;
    }
    return in;
}

static bool word_await_out(struct script *s)
{
    struct goal g = {s, script_who(s, 0), 0};
    return g.m != NULL &&
           (world_run_while(s->c->w, still_in_sync, &g,
                            script_number(s, 1, 3000) * SIM_MS) ||
            sim_cluster_failed(s->c) || script_failed(s, "still in sync:"));
}

static bool still_primary(void *ctx)
{
    struct goal *g = ctx;
    struct member *p = sim_cluster_find(g->s->c, "primary");
    return p == NULL || p == g->m;
}

static bool word_await_moved(struct script *s)
{
    struct goal g = {s, script_who(s, 0), 0};
    return g.m != NULL &&
           (world_run_while(s->c->w, still_primary, &g,
                            script_number(s, 1, 3000) * SIM_MS) ||
            script_failed(s, "still primary:"));
}

static bool still_running(void *ctx)
{
    struct goal *g = ctx;
    return sim_host_running(g->m->host);
}

static bool word_await_down(struct script *s)
{
    struct goal g = {s, script_who(s, 0), 0};
    return g.m != NULL &&
           (world_run_while(s->c->w, still_running, &g,
                            script_number(s, 1, 3000) * SIM_MS) ||
            script_failed(s, "still runs:"));
}

static uint64_t epoch_now(struct script *s)
{
    const struct msg_map *map = sim_cluster_map(s->c);
    return map != NULL && map->tablets_count > 0 ? map->tablets[0].epoch : 0;
}

static bool word_mark(struct script *s)
{
    s->marked_epoch = epoch_now(s);
    (void)workload_longest_gap(s->c->workload);
    for (unsigned i = 0; i < s->c->member_count; i++) {
        s->marked_starts[i] = s->c->members[i].starts;
    }
    return true;
}

static bool word_expect_epochs(struct script *s)
{
    uint64_t made = epoch_now(s) - s->marked_epoch;
    if (made < (uint64_t)script_number(s, 0, 1)) {
        return true;
    }
    sim_cluster_fail(s->c, "scenario: %llu epochs since the mark",
                     (unsigned long long)made);
    return false;
}

/* A primary's last entry is committed: nothing that was taken hangs. */
static bool word_expect_committed(struct script *s)
{
    for (unsigned i = 0; i < s->c->o.storages; i++) {
        struct member *m = sim_cluster_member(s->c, MEMBER_STORAGE, i);
        struct tablet_report r[CLUSTER_TABLETS];
        uint32_t count = 0;
        if (sim_host_running(m->host)) {
            count = storage_node_tablets(member_object(m), r, CLUSTER_TABLETS);
        }
        for (uint32_t k = 0; k < count; k++) {
            if (r[k].role == REPLICA_PRIMARY &&
                !name_equal(r[k].last, r[k].committed)) {
                return script_failed(s, "not all committed");
            }
        }
    }
    return true;
}

static bool word_expect_gap(struct script *s)
{
    int64_t gap = workload_longest_gap(s->c->workload);
    if (gap <= script_number(s, 0, 0) * SIM_MS) {
        return true;
    }
    sim_cluster_fail(s->c, "scenario: no write for %lld ms",
                     (long long)(gap / SIM_MS));
    return false;
}

static bool word_expect_starts(struct script *s)
{
    struct member *m = script_who(s, 0);
    return m != NULL && (m->starts - s->marked_starts[m - s->c->members] <=
                             (uint64_t)script_number(s, 1, 0) ||
                         script_failed(s, "restarted too often:"));
}

const struct word words_expect[] = {
    {"await_whole", 1, word_await_whole},
    {"await_writes", 1, word_await_writes},
    {"await_reads", 1, word_await_reads},
    {"expect_forwarded", 0, word_expect_forwarded},
    {"await_moved", 2, word_await_moved},
    {"await_out", 2, word_await_out},
    {"await_down", 2, word_await_down},
    {"await_no_writes", 1, word_await_no_writes},
    {"expect_no_writes", 1, word_expect_no_writes},
    {"mark", 0, word_mark},
    {"expect_epochs", 1, word_expect_epochs},
    {"expect_committed", 0, word_expect_committed},
    {"expect_gap", 1, word_expect_gap},
    {"expect_starts", 2, word_expect_starts},
    {NULL, 0, NULL},
};
