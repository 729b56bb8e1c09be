/*
 * Random faults. Each has a beginning, an end, and a duration between them;
 * several may be on at once. What would lose data by right is not done: a
 * disk is wiped or damaged only while every tablet is whole, and no other
 * until it is whole again. What rotted may lie unseen until it is read: a disk
 * counts as rotten until the scrub has looked through all of it and found
 * nothing more, and so many are never rotten that no replica of a tablet would
 * be left that is not. Once the scrub finds nothing, all values must be right.
 */
#include "tests/sim/scenario.h"
#include "tests/sim/workload.h"

#define FAULTS_MAX 4
#define TICK_US (20 * SIM_MS)

struct nemesis;

struct fault {
    const struct fault_kind *kind; /* NULL: free */
    struct member *a, *b;
    int64_t until;
};

/* A disk that rotted, and how far its scrub is. */
struct rotten {
    struct member *m; /* NULL: none */
    /* Since then it has found nothing, as passes go. */
    uint64_t passes, damage, repaired;
    bool marked;
};

struct nemesis {
    struct cluster *c;
    struct sim_rng rng;
    struct fault faults[FAULTS_MAX];
    bool damaged; /* a replica's data is gone until all is whole */
    struct rotten rotten[LIMIT_REPLICAS];
};

struct fault_kind {
    const char *name;
    unsigned weight;
    int64_t least_us, most_us;
    /* False: not possible now. */
    bool (*begin)(struct nemesis *n, struct fault *f);
    void (*end)(struct nemesis *n, struct fault *f);
};

static int64_t some_ms(struct nemesis *n, int64_t first, int64_t last)
{
    return sim_rng_range(&n->rng, first, last) * SIM_MS;
}

static struct member *cluster_storage(struct nemesis *n, unsigned i)
{
    return sim_cluster_member(n->c, MEMBER_STORAGE, i);
}

static struct member *any_storage(struct nemesis *n)
{
    return sim_cluster_member(
        n->c, MEMBER_STORAGE,
        (unsigned)sim_rng_below(&n->rng, n->c->o.storages));
}

static struct member *any_coordinator(struct nemesis *n)
{
    return sim_cluster_member(
        n->c, MEMBER_COORDINATOR,
        (unsigned)sim_rng_below(&n->rng, n->c->o.coordinators));
}

/* Servers mostly, and among them more often the primary. */
static struct member *victim(struct nemesis *n)
{
    uint64_t what = sim_rng_below(&n->rng, 10);
    struct member *m = what < 3   ? sim_cluster_find(n->c, "primary")
                       : what < 4 ? any_coordinator(n)
                                  : NULL;
    return m != NULL ? m : any_storage(n);
}

static struct member *any_member(struct nemesis *n)
{
    return &n->c->members[sim_rng_below(&n->rng, n->c->member_count)];
}

/* ---- processes ---- */

static bool begin_kill(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    member_kill(f->a, some_ms(n, 1, 3000));
    return true;
}

static bool begin_power(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    member_power_off(f->a, some_ms(n, 100, 4000));
    return true;
}

static bool begin_power_all(struct nemesis *n, struct fault *f)
{
    (void)f;
    for (unsigned i = 0; i < n->c->member_count; i++) {
        struct member *m = &n->c->members[i];
        if (m->kind != MEMBER_CLIENT) {
            member_power_off(m, some_ms(n, 100, 4000));
        }
    }
    return true;
}

/* All disks are slow for a while, then the power goes: what was acknowledged
 * too early is on none. */
static bool begin_slow_then_dark(struct nemesis *n, struct fault *f)
{
    (void)f;
    int64_t slow = some_ms(n, 20, 400);
    for (unsigned i = 0; i < n->c->o.storages; i++) {
        sim_disk_slow(cluster_storage(n, i)->host, slow);
    }
    return true;
}

static void end_slow_then_dark(struct nemesis *n, struct fault *f)
{
    (void)f;
    for (unsigned i = 0; i < n->c->o.storages; i++) {
        struct member *m = cluster_storage(n, i);
        sim_disk_slow(m->host, 0);
        member_power_off(m, some_ms(n, 100, 2000));
    }
}

static bool begin_kill_client(struct nemesis *n, struct fault *f)
{
    f->a = sim_cluster_member(
        n->c, MEMBER_CLIENT, (unsigned)sim_rng_below(&n->rng, n->c->o.clients));
    member_kill(f->a, some_ms(n, 1, 500));
    return true;
}

static bool begin_die_at_step(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    sim_host_fail_at_step(f->a->host, (uint32_t)sim_rng_range(&n->rng, 1, 40),
                          sim_rng_chance(&n->rng, 500000));
    return true;
}

static bool begin_pause(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    sim_host_pause(f->a->host);
    return true;
}

static void end_pause(struct nemesis *n, struct fault *f)
{
    (void)n;
    sim_host_resume(f->a->host);
}

static bool begin_preempt(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    sim_host_preempt(f->a->host, 2000, some_ms(n, 20, 1500));
    return true;
}

static void end_preempt(struct nemesis *n, struct fault *f)
{
    (void)n;
    sim_host_preempt(f->a->host, 0, 1);
}

/* ---- network ---- */

static bool begin_cut(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    f->b = any_member(n);
    sim_net_cut(f->a->host, f->b->host);
    return f->a != f->b;
}

static bool begin_oneway(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    f->b = any_member(n);
    if (sim_rng_chance(&n->rng, 500000)) {
        struct member *m = f->a;
        f->a = f->b;
        f->b = m;
    }
    sim_net_cut_oneway(f->a->host, f->b->host);
    return f->a != f->b;
}

static bool begin_isolate(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    sim_net_isolate(f->a->host);
    if (sim_rng_chance(&n->rng, 300000)) {
        f->b = any_member(n); /* but for one */
        sim_net_heal(f->a->host, f->b->host);
    }
    return true;
}

static void end_cut(struct nemesis *n, struct fault *f)
{
    (void)n;
    sim_net_heal(f->a->host, f->b->host);
}

/* The links come back one after another. */
static void end_isolate(struct nemesis *n, struct fault *f)
{
    unsigned count = n->c->member_count;
    unsigned first = (unsigned)sim_rng_below(&n->rng, count);
    for (unsigned i = 0; i < count; i++) {
        struct member *m = &n->c->members[(first + i) % count];
        sim_net_heal(f->a->host, m->host);
        if (sim_rng_chance(&n->rng, 500000)) {
            world_run_for(n->c->w, some_ms(n, 1, 300));
        }
    }
}

static bool begin_lag(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    f->b = any_member(n);
    sim_net_latency(f->a->host, f->b->host, some_ms(n, 5, 250));
    if (sim_rng_chance(&n->rng, 500000)) {
        sim_net_latency(f->b->host, f->a->host, some_ms(n, 5, 250));
    }
    return f->a != f->b;
}

static void end_lag(struct nemesis *n, struct fault *f)
{
    (void)n;
    sim_net_latency(f->a->host, f->b->host, 100);
    sim_net_latency(f->b->host, f->a->host, 100);
}

static bool begin_reset(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    sim_net_reset(f->a->host, NULL);
    return true;
}

static bool begin_disturb(struct nemesis *n, struct fault *f)
{
    (void)f;
    uint32_t ppm = (uint32_t)sim_rng_range(&n->rng, 100, 10000);
    bool lossy = sim_rng_chance(&n->rng, 300000);
    struct sim_net_faults faults = {.reset_ppm = ppm / 10,
                                    .spike_ppm = ppm,
                                    .loss_ppm = lossy ? ppm : 0,
                                    .duplicate_ppm = lossy ? ppm : 0,
                                    .reorder_ppm = lossy ? ppm : 0,
                                    .late_close_ppm = 300000};
    sim_net_set_faults(n->c->w, &faults);
    return true;
}

static void end_disturb(struct nemesis *n, struct fault *f)
{
    static const struct sim_net_faults none;
    (void)f;
    sim_net_set_faults(n->c->w, &none);
}

/* ---- disks ---- */

static bool begin_slow(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    sim_disk_slow(f->a->host, some_ms(n, 5, 2500));
    return true;
}

static void end_slow(struct nemesis *n, struct fault *f)
{
    (void)n;
    sim_disk_slow(f->a->host, 0);
}

static bool begin_hang(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    sim_disk_hang(f->a->host, true);
    return true;
}

static void end_hang(struct nemesis *n, struct fault *f)
{
    (void)n;
    sim_disk_hang(f->a->host, false);
}

static bool begin_fail_sync(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    if (sim_rng_chance(&n->rng, 700000)) {
        sim_disk_fail_sync(f->a->host, (uint32_t)sim_rng_range(&n->rng, 1, 20));
    } else {
        sim_disk_fail_write(f->a->host,
                            (uint32_t)sim_rng_range(&n->rng, 1, 20));
    }
    return true;
}

static void end_fail_sync(struct nemesis *n, struct fault *f)
{
    (void)n;
    sim_disk_fail_sync(f->a->host, 0);
    sim_disk_fail_write(f->a->host, 0);
}

static bool begin_full(struct nemesis *n, struct fault *f)
{
    f->a = victim(n);
    sim_disk_limit(f->a->host, sim_disk_used(f->a->host) + 1 +
                                   sim_rng_below(&n->rng, 20000));
    return true;
}

static void end_full(struct nemesis *n, struct fault *f)
{
    (void)n;
    sim_disk_limit(f->a->host, 0);
}

/* Whether all that A has may be lost. */
static bool may_lose(const struct nemesis *n, const struct member *a)
{
    unsigned others = 0;
    for (size_t i = 0; i < LIMIT_REPLICAS; i++) {
        const struct member *m = n->rotten[i].m;
        others += m != NULL && m != a;
    }
    return !n->damaged && others + 1 < n->c->o.replicas &&
           sim_cluster_whole(n->c, NULL);
}

static struct rotten *rotten_of(struct nemesis *n, const struct member *m)
{
    for (size_t i = 0; i < LIMIT_REPLICAS; i++) {
        if (n->rotten[i].m == m) {
            return &n->rotten[i];
        }
    }
    return NULL;
}

static void note_rot(struct nemesis *n, struct member *m)
{
    struct rotten *r = rotten_of(n, m);
    r = r != NULL ? r : rotten_of(n, NULL);
    *r = (struct rotten){.m = m};
}

/* R is sound again when a whole pass, begun after the last finding, has ended
 * without one. */
static void look_after(struct nemesis *n, struct rotten *r)
{
    struct storage_stats st;
    struct storage_figures f;
    struct storage_node *node =
        sim_host_running(r->m->host) ? member_object(r->m) : NULL;
    if (node == NULL) {
        r->marked = false;
        return;
    }
    storage_node_stats(node, &st);
    storage_node_figures(node, &f);
    if (!r->marked || f.repairs > 0 || st.damaged > 0 ||
        st.scrub_passes < r->passes || st.scrub_damage != r->damage ||
        f.values_repaired != r->repaired) {
        *r = (struct rotten){r->m, st.scrub_passes, st.scrub_damage,
                             f.values_repaired, true};
    } else if (st.scrub_passes >= r->passes + 2) {
        uint64_t bad = storage_node_bad_values(node);
        world_trace(n->c->w, "%s is sound again", r->m->name);
        if (bad > 0) {
            sim_cluster_fail(n->c,
                             "R19: the scrub of %s found nothing, but "
                             "%llu values are damaged",
                             r->m->name, (unsigned long long)bad);
        }
        r->m = NULL;
    }
}

static void look_after_all(struct nemesis *n)
{
    for (size_t i = 0; i < LIMIT_REPLICAS; i++) {
        if (n->rotten[i].m != NULL) {
            look_after(n, &n->rotten[i]);
        }
    }
}

static bool begin_wipe(struct nemesis *n, struct fault *f)
{
    f->a = any_storage(n);
    if (!may_lose(n, f->a)) {
        return false;
    }
    member_kill(f->a, some_ms(n, 1, 1500));
    member_wipe(f->a);
    struct rotten *r = rotten_of(n, f->a);
    if (r != NULL) {
        r->m = NULL; /* another disk */
    }
    n->damaged = true;
    return true;
}

struct rot {
    struct nemesis *n;
    struct sim_host *host;
    uint64_t left; /* bytes before the place */
};

static void rot_file(void *ctx, const char *name, uint64_t size)
{
    struct rot *r = ctx;
    if (r->left < size) {
        static const uint8_t zeros[4096];
        bool block =
            sim_rng_chance(&r->n->rng, 300000) && size > r->left + 4096;
        if (block) {
            (void)sim_disk_overwrite(r->host, name, r->left,
                                     slice_make(zeros, sizeof(zeros)));
        } else {
            (void)sim_disk_flip_bit(r->host, name, r->left,
                                    (unsigned)sim_rng_below(&r->n->rng, 8));
        }
        world_trace(r->n->c->w, "%s of %s rots at %llu",
                    block ? "a block" : "a bit", name,
                    (unsigned long long)r->left);
        r->left = UINT64_MAX;
    }
    r->left -= r->left == UINT64_MAX ? 0 : size;
}

/* Bits flip and blocks are zeroed on the disk of a node that is down. */
static bool begin_rot(struct nemesis *n, struct fault *f)
{
    f->a = any_storage(n);
    if (!may_lose(n, f->a)) {
        return false;
    }
    member_kill(f->a, some_ms(n, 1, 1500));
    note_rot(n, f->a);
    uint64_t used = sim_disk_used(f->a->host);
    for (uint64_t i = sim_rng_below(&n->rng, 4) + 1; i > 0 && used > 0; i--) {
        struct rot r = {n, f->a->host, sim_rng_below(&n->rng, used)};
        sim_disk_each(f->a->host, rot_file, &r);
    }
    checks_forget(f->a);
    n->damaged = true;
    return true;
}

static bool begin_wall(struct nemesis *n, struct fault *f)
{
    f->a = any_member(n);
    sim_host_step_wall(f->a->host, sim_rng_range(&n->rng, -3600000, 3600000));
    return true;
}

/* ---- the table ---- */

#define MS(a, b) (a) * SIM_MS, (b)*SIM_MS

static const struct fault_kind kinds[] = {
    {"kill", 20, MS(100, 2000), begin_kill, NULL},
    {"power", 10, MS(100, 2000), begin_power, NULL},
    {"power all", 2, MS(3000, 6000), begin_power_all, NULL},
    {"kill client", 3, MS(100, 500), begin_kill_client, NULL},
    {"die at step", 8, MS(100, 2000), begin_die_at_step, NULL},
    {"pause", 12, MS(50, 3000), begin_pause, end_pause},
    {"preempt", 6, MS(500, 4000), begin_preempt, end_preempt},
    {"cut", 12, MS(50, 6000), begin_cut, end_cut},
    {"oneway", 10, MS(50, 6000), begin_oneway, end_cut},
    {"isolate", 10, MS(50, 5000), begin_isolate, end_isolate},
    {"lag", 8, MS(100, 4000), begin_lag, end_lag},
    {"slow, then dark", 3, MS(300, 2500), begin_slow_then_dark,
     end_slow_then_dark},
    {"reset", 5, MS(10, 100), begin_reset, NULL},
    {"disturb", 8, MS(500, 5000), begin_disturb, end_disturb},
    {"slow disk", 4, MS(500, 5000), begin_slow, end_slow},
    {"hung disk", 4, MS(500, 5000), begin_hang, end_hang},
    {"failing disk", 4, MS(500, 3000), begin_fail_sync, end_fail_sync},
    {"full disk", 3, MS(1000, 6000), begin_full, end_full},
    {"wiped disk", 4, MS(1000, 3000), begin_wipe, NULL},
    {"rotten disk", 4, MS(1000, 3000), begin_rot, NULL},
    {"wall clock", 1, MS(10, 20), begin_wall, NULL},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const struct fault_kind *any_kind(struct nemesis *n)
{
    unsigned sum = 0;
    for (size_t i = 0; i < KINDS; i++) {
        sum += kinds[i].weight;
    }
    uint64_t at = sim_rng_below(&n->rng, sum);
    size_t i = 0;
    while (at >= kinds[i].weight) {
        at -= kinds[i++].weight;
    }
    return &kinds[i];
}

static void fault_begin(struct nemesis *n, struct fault *f)
{
    const struct fault_kind *kind = any_kind(n);
    *f = (struct fault){0};
    f->kind = kind;
    if (!kind->begin(n, f)) {
        f->kind = NULL;
        return;
    }
    f->until = world_now(n->c->w) +
               sim_rng_range(&n->rng, kind->least_us, kind->most_us);
    world_trace(n->c->w, "fault begins: %s %s %s", kind->name,
                f->a != NULL ? f->a->name : "", f->b != NULL ? f->b->name : "");
}

static void fault_end(struct nemesis *n, struct fault *f)
{
    world_trace(n->c->w, "fault ends: %s", f->kind->name);
    if (f->kind->end != NULL) {
        f->kind->end(n, f);
    }
    f->kind = NULL;
}

void nemesis_mend(struct cluster *c)
{
    static const struct sim_net_faults none;
    sim_net_set_faults(c->w, &none);
    sim_net_heal_all(c->w);
    for (unsigned i = 0; i < c->member_count; i++) {
        struct member *m = &c->members[i];
        sim_host_preempt(m->host, 0, 1);
        sim_host_fail_at_step(m->host, 0, false);
        sim_host_resume(m->host);
        sim_disk_slow(m->host, 0);
        sim_disk_hang(m->host, false);
        sim_disk_fail_sync(m->host, 0);
        sim_disk_fail_write(m->host, 0);
        sim_disk_limit(m->host, 0);
        member_start(m);
    }
}

void nemesis_run(struct cluster *c, int64_t end_us)
{
    struct nemesis n = {.c = c};
    sim_rng_init(&n.rng, sim_rng_next(world_rng(c->w)));
    /* Calm seeds show single faults, stormy ones their meeting. */
    uint32_t chance = (uint32_t)sim_rng_range(&n.rng, 2000, 60000);
    size_t most = (size_t)sim_rng_range(&n.rng, 1, FAULTS_MAX);
    while (world_now(c->w) < end_us && !sim_cluster_failed(c)) {
        world_run_for(c->w, TICK_US);
        n.damaged = n.damaged && !sim_cluster_whole(c, NULL);
        look_after_all(&n);
        for (size_t i = 0; i < most; i++) {
            struct fault *f = &n.faults[i];
            if (f->kind != NULL && world_now(c->w) >= f->until) {
                fault_end(&n, f);
            } else if (f->kind == NULL && sim_rng_chance(&n.rng, chance)) {
                fault_begin(&n, f);
            }
        }
    }
    for (size_t i = 0; i < FAULTS_MAX && !sim_cluster_failed(c); i++) {
        if (n.faults[i].kind != NULL) {
            fault_end(&n, &n.faults[i]);
        }
    }
    nemesis_mend(c);
}
