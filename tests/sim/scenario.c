/*
 * The words of scenarios, one row of a table each.
 */
#include "tests/sim/scenario.h"

#include "tests/sim/rot.h"
#include "tests/sim/workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARGS_MAX 4
#define NAMES_MAX 8

struct script {
    struct cluster *c;
    const char *args[ARGS_MAX];
    int count;
    struct {
        char name[16];
        struct member *member;
    } names[NAMES_MAX];
    int name_count;
    uint64_t marked_epoch;
    uint64_t marked_starts[CLUSTER_MEMBERS];
    struct {
        char name[16];
        struct sim_disk_image *image;
    } saved[2];
};

static bool failed(struct script *s, const char *what)
{
    sim_cluster_fail(s->c, "scenario: %s %s", what,
                     s->count > 0 ? s->args[0] : "");
    return false;
}

/* Argument I as a member; NULL and the failure noted if it is nobody. */
static struct member *who(struct script *s, int i)
{
    for (int n = 0; n < s->name_count && i < s->count; n++) {
        if (strcmp(s->names[n].name, s->args[i]) == 0) {
            return s->names[n].member;
        }
    }
    struct member *m = i < s->count ? sim_cluster_find(s->c, s->args[i]) : NULL;
    if (m == NULL) {
        sim_cluster_fail(s->c, "scenario: nobody is %s",
                         i < s->count ? s->args[i] : "(missing)");
    }
    return m;
}

static int64_t number(const struct script *s, int i, int64_t otherwise)
{
    return i < s->count ? strtoll(s->args[i], NULL, 10) : otherwise;
}

/* Calls FN for the member that argument 0 names, or all that store data. */
static bool each(struct script *s,
                 void (*fn)(struct script *s, struct member *m))
{
    bool clients = s->count > 0 && strcmp(s->args[0], "clients") == 0;
    if (s->count == 0 || (strcmp(s->args[0], "all") != 0 && !clients)) {
        struct member *m = who(s, 0);
        if (m != NULL) {
            fn(s, m);
        }
        return m != NULL;
    }
    for (unsigned i = 0; i < s->c->member_count; i++) {
        if ((s->c->members[i].kind == MEMBER_CLIENT) == clients) {
            fn(s, &s->c->members[i]);
        }
    }
    return true;
}

/* ---- time and names ---- */

static bool word_let(struct script *s)
{
    struct member *m = who(s, 1);
    if (m == NULL || s->name_count == NAMES_MAX) {
        return m == NULL ? false : failed(s, "too many names at");
    }
    (void)snprintf(s->names[s->name_count].name, sizeof(s->names[0].name), "%s",
                   s->args[0]);
    s->names[s->name_count++].member = m;
    world_trace(s->c->w, "%s is %s", s->args[0], m->name);
    return true;
}

static bool word_wait(struct script *s)
{
    world_run_for(s->c->w, number(s, 0, 0) * SIM_MS);
    return true;
}

/* ---- processes ---- */

static void do_kill(struct script *s, struct member *m)
{
    member_kill(m, number(s, 1, 300) * SIM_MS);
}

static bool word_kill(struct script *s)
{
    return each(s, do_kill);
}

static void do_stop(struct script *s, struct member *m)
{
    (void)s;
    member_kill(m, -1);
}

static bool word_stop(struct script *s)
{
    return each(s, do_stop);
}

static void do_start(struct script *s, struct member *m)
{
    (void)s;
    member_start(m);
}

static bool word_start(struct script *s)
{
    return each(s, do_start);
}

static void do_power_off(struct script *s, struct member *m)
{
    int64_t ms = number(s, 1, -1);
    member_power_off(m, ms < 0 ? -1 : ms * SIM_MS);
}

static bool word_power_off(struct script *s)
{
    return each(s, do_power_off);
}

static bool word_pause(struct script *s)
{
    struct member *m = who(s, 0);
    if (m != NULL) {
        sim_host_pause(m->host);
    }
    return m != NULL;
}

static bool word_resume(struct script *s)
{
    struct member *m = who(s, 0);
    if (m != NULL) {
        sim_host_resume(m->host);
    }
    return m != NULL;
}

static void do_preempt(struct script *s, struct member *m)
{
    sim_host_preempt(m->host, (uint32_t)number(s, 1, 0),
                     number(s, 2, 1) * SIM_MS);
}

static bool word_preempt(struct script *s)
{
    return each(s, do_preempt);
}

/* ---- network ---- */

static bool both(struct script *s, struct member **a, struct member **b)
{
    *a = who(s, 0);
    *b = *a != NULL ? who(s, 1) : NULL;
    return *b != NULL;
}

static bool word_cut(struct script *s)
{
    struct member *a, *b;
    if (!both(s, &a, &b)) {
        return false;
    }
    sim_net_cut(a->host, b->host);
    return true;
}

static bool word_oneway(struct script *s)
{
    struct member *a, *b;
    if (!both(s, &a, &b)) {
        return false;
    }
    sim_net_cut_oneway(a->host, b->host);
    return true;
}

static bool word_heal(struct script *s)
{
    struct member *a, *b;
    if (s->count == 0) {
        sim_net_heal_all(s->c->w);
        return true;
    }
    if (!both(s, &a, &b)) {
        return false;
    }
    sim_net_heal(a->host, b->host);
    return true;
}

static bool word_isolate(struct script *s)
{
    struct member *m = who(s, 0);
    if (m != NULL) {
        sim_net_isolate(m->host);
    }
    return m != NULL;
}

static bool word_reset(struct script *s)
{
    struct member *a = who(s, 0), *b = s->count > 1 ? who(s, 1) : NULL;
    if (a != NULL) {
        sim_net_reset(a->host, b != NULL ? b->host : NULL);
    }
    return a != NULL;
}

static bool word_latency(struct script *s)
{
    struct member *a, *b;
    if (!both(s, &a, &b)) {
        return false;
    }
    sim_net_latency(a->host, b->host, number(s, 2, 1) * SIM_MS);
    return true;
}

static bool word_lossy(struct script *s)
{
    uint32_t ppm = (uint32_t)number(s, 0, 0);
    struct sim_net_faults f = {.reset_ppm = ppm / 10,
                               .spike_ppm = ppm,
                               .loss_ppm = ppm,
                               .duplicate_ppm = ppm,
                               .reorder_ppm = ppm,
                               .late_close_ppm = ppm > 0 ? 200000 : 0};
    sim_net_set_faults(s->c->w, &f);
    return true;
}

/* ---- disks ---- */

static bool word_slow_disk(struct script *s)
{
    struct member *m = who(s, 0);
    if (m != NULL) {
        sim_disk_slow(m->host, number(s, 1, 100) * SIM_MS);
    }
    return m != NULL;
}

static bool word_hang_disk(struct script *s)
{
    struct member *m = who(s, 0);
    if (m != NULL) {
        sim_disk_hang(m->host, true);
    }
    return m != NULL;
}

static void do_full_disk(struct script *s, struct member *m)
{
    sim_disk_limit(m->host,
                   sim_disk_used(m->host) + (uint64_t)number(s, 1, 0) + 1);
}

static bool word_full_disk(struct script *s)
{
    return each(s, do_full_disk);
}

static void do_free_disk(struct script *s, struct member *m)
{
    (void)s;
    sim_disk_limit(m->host, 0);
    sim_disk_slow(m->host, 0);
    sim_disk_hang(m->host, false);
}

static bool word_free_disk(struct script *s)
{
    return each(s, do_free_disk);
}

static bool word_fail_sync(struct script *s)
{
    struct member *m = who(s, 0);
    if (m != NULL) {
        sim_disk_fail_sync(m->host, (uint32_t)number(s, 1, 1));
    }
    return m != NULL;
}

static bool word_fail_write(struct script *s)
{
    struct member *m = who(s, 0);
    if (m != NULL) {
        sim_disk_fail_write(m->host, (uint32_t)number(s, 1, 1));
    }
    return m != NULL;
}

static bool word_fail_at_step(struct script *s)
{
    struct member *m = who(s, 0);
    if (m != NULL) {
        sim_host_fail_at_step(m->host, (uint32_t)number(s, 1, 1), false);
    }
    return m != NULL;
}

static bool word_lose_power_at_step(struct script *s)
{
    struct member *m = who(s, 0);
    if (m != NULL) {
        sim_host_fail_at_step(m->host, (uint32_t)number(s, 1, 1), true);
    }
    return m != NULL;
}

static struct member *stopped(struct script *s)
{
    struct member *m = who(s, 0);
    if (m != NULL && sim_host_running(m->host)) {
        (void)failed(s, "still running:");
        return NULL;
    }
    return m;
}

static bool word_wipe(struct script *s)
{
    struct member *m = stopped(s);
    if (m != NULL) {
        member_wipe(m);
    }
    return m != NULL;
}

static bool word_save_disk(struct script *s)
{
    struct member *m = who(s, 0);
    int slot = s->saved[0].image != NULL;
    if (m != NULL) {
        sim_disk_image_free(s->saved[slot].image);
        s->saved[slot].image = sim_disk_save(m->host);
        (void)snprintf(s->saved[slot].name, sizeof(s->saved[slot].name), "%s",
                       s->args[1]);
    }
    return m != NULL;
}

static bool word_restore_disk(struct script *s)
{
    struct member *m = stopped(s);
    for (int i = 0; i < 2 && m != NULL; i++) {
        if (strcmp(s->saved[i].name, s->args[1]) == 0) {
            sim_disk_restore(m->host, s->saved[i].image);
            checks_forget(m);
            return true;
        }
    }
    return m != NULL && failed(s, "no such copy of");
}

struct rot {
    struct script *s;
    struct sim_host *host;
    uint64_t left; /* bytes before the place */
    bool done;
};

static void rot_file(void *ctx, const char *name, uint64_t size)
{
    struct rot *r = ctx;
    if (!r->done && r->left < size) {
        r->done =
            sim_disk_flip_bit(r->host, name, r->left, (unsigned)r->left % 8);
        world_trace(r->s->c->w, "a bit of %s flips at %llu", name,
                    (unsigned long long)r->left);
    }
    r->left -= r->done ? 0 : size;
}

static bool word_rot(struct script *s)
{
    struct member *m = stopped(s);
    uint64_t used = m != NULL ? sim_disk_used(m->host) : 0;
    if (used > 0) {
        struct rot r = {s, m->host, sim_rng_below(world_rng(s->c->w), used),
                        false};
        sim_disk_each(m->host, rot_file, &r);
    }
    return m != NULL;
}

/* Flips a bit of each of some bytes that are not zero, in log files. */
static void rot_log_file(void *ctx, const char *name, uint64_t size)
{
    struct rot *r = ctx;
    struct buf b = {0};
    if (strstr(name, "/wal-") == NULL || !sim_disk_read(r->host, name, &b)) {
        return;
    }
    uint64_t used = b.len;
    while (used > 0 && b.data[used - 1] == 0) {
        used--;
    }
    for (int i = 0; i < 3 && used > 0; i++) {
        uint64_t at = sim_rng_below(world_rng(r->s->c->w), used);
        if (b.data[at] != 0) {
            (void)sim_disk_flip_bit(r->host, name, at, (unsigned)at % 8);
            world_trace(r->s->c->w, "a bit of %s flips at %llu", name,
                        (unsigned long long)at);
        }
    }
    buf_free(&b);
}

static bool word_rot_log(struct script *s)
{
    struct member *m = stopped(s);
    if (m != NULL) {
        struct rot r = {s, m->host, 0, false};
        sim_disk_each(m->host, rot_log_file, &r);
        checks_forget(m);
    }
    return m != NULL;
}

static bool word_rot_value(struct script *s)
{
    struct member *m = who(s, 0);
    return m != NULL && (rot_value(m) || failed(s, "nothing to rot:"));
}

static bool word_rot_digest(struct script *s)
{
    struct member *m = who(s, 0);
    return m != NULL && (rot_digest(m) || failed(s, "nothing to rot:"));
}

static bool word_rot_files(struct script *s)
{
    struct member *m = who(s, 0);
    if (m != NULL) {
        rot_files(m);
    }
    return m != NULL;
}

struct finding {
    struct script *s;
    struct member *m;
    uint64_t passes, condemned;
};

static bool not_condemned(void *ctx)
{
    struct finding *f = ctx;
    struct storage_stats st;
    rot_found(f->m, &st);
    return !sim_cluster_failed(f->s->c) && st.condemned < f->condemned;
}

static bool not_scrubbed(void *ctx)
{
    struct finding *f = ctx;
    struct storage_stats st;
    rot_found(f->m, &st);
    return !sim_cluster_failed(f->s->c) &&
           (st.scrub_passes < f->passes ||
            storage_node_bad_values(member_object(f->m)) > 0);
}

static bool word_await_condemned(struct script *s)
{
    struct finding f = {s, who(s, 0), 0, 1};
    return f.m != NULL &&
           (world_run_while(s->c->w, not_condemned, &f,
                            number(s, 1, 20000) * SIM_MS) ||
            sim_cluster_failed(s->c) || failed(s, "its damage was not found:"));
}

static bool not_mended(void *ctx)
{
    struct finding *f = ctx;
    struct storage_stats st;
    rot_found(f->m, &st);
    return not_condemned(f) || st.damaged > 0;
}

/* Condemned, and filled by the others: it is as they are. */
static bool word_await_mended(struct script *s)
{
    struct finding f = {s, who(s, 0), 0, 1};
    if (f.m == NULL || (!world_run_while(s->c->w, not_mended, &f,
                                         number(s, 1, 60000) * SIM_MS) &&
                        !sim_cluster_failed(s->c))) {
        return failed(s, "its damage was not mended:");
    }
    f.m->rotten = false;
    return true;
}

/* Two passes: what is there now was looked at as a whole. */
static bool word_await_scrubbed(struct script *s)
{
    struct finding f = {.s = s, .m = who(s, 0)};
    struct storage_stats st;
    if (f.m == NULL) {
        return false;
    }
    rot_found(f.m, &st);
    f.passes = st.scrub_passes + 2;
    return world_run_while(s->c->w, not_scrubbed, &f,
                           number(s, 1, 60000) * SIM_MS) ||
           sim_cluster_failed(s->c) || failed(s, "its scrub does not end:");
}

static bool word_quiet(struct script *s)
{
    workload_pause(s->c->workload, true);
    return true;
}

static bool word_busy(struct script *s)
{
    workload_pause(s->c->workload, false);
    return true;
}

static void do_step_wall(struct script *s, struct member *m)
{
    sim_host_step_wall(m->host, number(s, 1, 0));
}

static bool word_step_wall(struct script *s)
{
    return each(s, do_step_wall);
}

/* ---- what is to come ---- */

static bool word_await_whole(struct script *s)
{
    if (sim_cluster_await_whole(s->c, number(s, 0, 30000) * SIM_MS)) {
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
                           number(s, 0, 3000) * SIM_MS) ||
           sim_cluster_failed(s->c) || failed(s, "no write within");
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
                           number(s, 0, 3000) * SIM_MS) ||
           sim_cluster_failed(s->c) || failed(s, "no read within");
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
    return sum > 0 || failed(s, "no read was sent on");
}

static bool word_expect_no_writes(struct script *s)
{
    struct goal g = {s, NULL, workload_stored(s->c->workload)};
    /* What was answered already may still be on its way. */
    world_run_for(s->c->w, 1500 * SIM_MS);
    g.acked = workload_stored(s->c->workload);
    world_run_for(s->c->w, number(s, 0, 3000) * SIM_MS);
    return no_write_yet(&g) || failed(s, "a write within");
}

#define PAUSE_US (2 * SIM_S)

static bool word_await_no_writes(struct script *s)
{
    int64_t end = world_now(s->c->w) + number(s, 0, 60000) * SIM_MS;
    while (world_now(s->c->w) < end && !sim_cluster_failed(s->c)) {
        struct goal g = {s, NULL, workload_stored(s->c->workload)};
        world_run_for(s->c->w, PAUSE_US);
        if (no_write_yet(&g)) {
            return true;
        }
    }
    return sim_cluster_failed(s->c) || failed(s, "still writes after");
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
    struct goal g = {s, who(s, 0), 0};
    return g.m != NULL &&
           (world_run_while(s->c->w, still_in_sync, &g,
                            number(s, 1, 3000) * SIM_MS) ||
            sim_cluster_failed(s->c) || failed(s, "still in sync:"));
}

static bool still_primary(void *ctx)
{
    struct goal *g = ctx;
    struct member *p = sim_cluster_find(g->s->c, "primary");
    return p == NULL || p == g->m;
}

static bool word_await_moved(struct script *s)
{
    struct goal g = {s, who(s, 0), 0};
    return g.m != NULL && (world_run_while(s->c->w, still_primary, &g,
                                           number(s, 1, 3000) * SIM_MS) ||
                           failed(s, "still primary:"));
}

static bool still_running(void *ctx)
{
    struct goal *g = ctx;
    return sim_host_running(g->m->host);
}

static bool word_await_down(struct script *s)
{
    struct goal g = {s, who(s, 0), 0};
    return g.m != NULL && (world_run_while(s->c->w, still_running, &g,
                                           number(s, 1, 3000) * SIM_MS) ||
                           failed(s, "still runs:"));
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
    if (made < (uint64_t)number(s, 0, 1)) {
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
                return failed(s, "not all committed");
            }
        }
    }
    return true;
}

static bool word_expect_gap(struct script *s)
{
    int64_t gap = workload_longest_gap(s->c->workload);
    if (gap <= number(s, 0, 0) * SIM_MS) {
        return true;
    }
    sim_cluster_fail(s->c, "scenario: no write for %lld ms",
                     (long long)(gap / SIM_MS));
    return false;
}

static bool word_expect_starts(struct script *s)
{
    struct member *m = who(s, 0);
    return m != NULL && (m->starts - s->marked_starts[m - s->c->members] <=
                             (uint64_t)number(s, 1, 0) ||
                         failed(s, "restarted too often:"));
}

/* ---- the table ---- */

static const struct {
    const char *name;
    int args_min;
    bool (*fn)(struct script *s);
} words[] = {
    {"let", 2, word_let},
    {"wait", 1, word_wait},
    {"kill", 1, word_kill},
    {"stop", 1, word_stop},
    {"start", 1, word_start},
    {"power_off", 1, word_power_off},
    {"pause", 1, word_pause},
    {"resume", 1, word_resume},
    {"preempt", 3, word_preempt},
    {"cut", 2, word_cut},
    {"oneway", 2, word_oneway},
    {"heal", 0, word_heal},
    {"isolate", 1, word_isolate},
    {"reset", 1, word_reset},
    {"latency", 3, word_latency},
    {"lossy", 1, word_lossy},
    {"slow_disk", 2, word_slow_disk},
    {"hang_disk", 1, word_hang_disk},
    {"full_disk", 1, word_full_disk},
    {"free_disk", 1, word_free_disk},
    {"fail_sync", 2, word_fail_sync},
    {"fail_write", 2, word_fail_write},
    {"fail_at_step", 2, word_fail_at_step},
    {"lose_power_at_step", 2, word_lose_power_at_step},
    {"wipe", 1, word_wipe},
    {"save_disk", 2, word_save_disk},
    {"restore_disk", 2, word_restore_disk},
    {"rot", 1, word_rot},
    {"rot_log", 1, word_rot_log},
    {"rot_value", 1, word_rot_value},
    {"rot_digest", 1, word_rot_digest},
    {"rot_files", 1, word_rot_files},
    {"await_condemned", 2, word_await_condemned},
    {"await_mended", 2, word_await_mended},
    {"await_scrubbed", 2, word_await_scrubbed},
    {"quiet", 0, word_quiet},
    {"busy", 0, word_busy},
    {"step_wall", 2, word_step_wall},
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
};

static bool run_command(struct script *s, char *text)
{
    char *save = NULL;
    const char *name = strtok_r(text, " \n", &save);
    if (name == NULL) {
        return true;
    }
    s->count = 0;
    char *arg;
    while ((arg = strtok_r(NULL, " \n", &save)) != NULL &&
           s->count < ARGS_MAX) {
        s->args[s->count++] = arg;
    }
    world_trace(s->c->w, "scenario: %s %s %s", name,
                s->count > 0 ? s->args[0] : "", s->count > 1 ? s->args[1] : "");
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(words[i].name, name) == 0 && s->count >= words[i].args_min) {
            return words[i].fn(s) && !sim_cluster_failed(s->c);
        }
    }
    sim_cluster_fail(s->c, "scenario: what is \"%s\" with %d arguments?", name,
                     s->count);
    return false;
}

bool scenario_run(struct cluster *c, const char *script)
{
    struct script s = {.c = c};
    bool good = true;
    while (*script != '\0' && good) {
        char text[256];
        size_t n = strcspn(script, ";");
        (void)snprintf(text, sizeof(text), "%.*s", (int)n, script);
        good = run_command(&s, text);
        script += n + (script[n] == ';');
    }
    sim_disk_image_free(s.saved[0].image);
    sim_disk_image_free(s.saved[1].image);
    return good;
}

const struct scenario *scenario_find(const char *name)
{
    const struct scenario *s = scenarios;
    while (s->name != NULL && strcmp(s->name, name) != 0) {
        s++;
    }
    return s->name != NULL ? s : NULL;
}
