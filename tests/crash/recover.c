/*
 * One crash, seen from after it.
 *
 * The disk as it may be is put on a simulated host, and the product opens it:
 * the data directory, its checkpoints, its log (R16), as penn-storaged does.
 * What must hold then:
 *
 *   nothing is reported as damage: power losses tear, they do not damage
 *   the store is the same, its start counter above all that were ever used
 *   each tablet's epoch is at least what others were told (R3)
 *   it holds each entry that others were told it has (R6)
 *   its state is what the process had after the same entry, to the digest: a
 *     batch is there wholly or not at all
 *   what is not applied yet is entries that there were, with their bytes
 *
 * Recovery once more, after a crash within it, finds the same. And life goes
 * on from there: new entries are taken, and after another crash all of it is
 * there again, nothing of what was cut before is.
 */
#include "tests/crash/recover.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "coordinator/register.h"
#include "storage/replica_impl.h"
#include "storage/shard_blobs.h"
#include "storage/shard_impl.h"
#include "tests/sim/sim_env.h"

#define SEGMENT KIB(512) /* as record_storaged.c */
#define LIVE_US (200 * SIM_MS)
#define NEW_ENTRIES 3

/* What a recovery found, for comparing. */
struct found {
    uint64_t counter;
    bool there[LEDGER_TABLETS];
    struct name last[LEDGER_TABLETS], applied[LEDGER_TABLETS];
    struct id128 digest[LEDGER_TABLETS];
    uint64_t epoch[LEDGER_TABLETS];
};

struct rig {
    const struct crash_point *p;
    struct world *w;
    struct sim_host *h;
    struct env *env;
    /* The process. */
    struct store store;
    struct beacon_table *beacons;
    struct shard *shard;
    struct generation_register *reg;
    enum status status;
    struct err err;
};

static bool fails(struct err *why, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool fails(struct err *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why->text, sizeof(why->text), format, args);
    va_end(args);
    return false;
}

/* ---- the process ---- */

static void on_kick(void *ctx)
{
    (void)ctx;
}

static void on_fatal(void *ctx, enum status why, const char *text)
{
    struct rig *g = ctx;
    g->status = err_set(&g->err, why, "fatal: %s", text);
}

static void open_shard(struct rig *g)
{
    struct storage_node_options o = {.env = g->env,
                                     .node = g->store.node,
                                     .name = "storage",
                                     .segment_size = SEGMENT,
                                     .log_limit = 2 * SEGMENT,
                                     .bugs = g->p->bugs,
                                     .kick = on_kick,
                                     .on_fatal = on_fatal,
                                     .ctx = g};
    struct links_options l = {.env = g->env, .lane = LANE_REQUEST};
    g->beacons = beacon_table_new(env_now_us(g->env), 0);
    g->status = shard_open(&o, &g->store, g->beacons, &g->shard, &g->err);
    if (g->status == ST_OK) {
        g->shard->links = links_new(&l);
        g->status = store_set_logged(g->env, &g->store, &g->err);
    }
}

static void *storage_begin(struct sim_host *h, void *ctx)
{
    static const struct id128 any;
    struct rig *g = ctx;
    g->env = sim_env_new(h, NULL);
    g->env->log->fd = g->p->log_fd;
    g->env->log->level = g->p->log_fd < 0 ? LOG_LEVEL_FATAL : LOG_LEVEL_DEBUG;
    g->shard = NULL;
    g->beacons = NULL;
    struct store had = {.node = 1};
    g->status = store_read(g->env, &had, &g->err);
    if (g->status == ST_OK || g->status == ST_NOT_FOUND) {
        g->status = store_open(g->env, had.node, any, &g->store, &g->err);
    }
    if (g->status == ST_OK) {
        open_shard(g);
    }
    return g;
}

static void storage_end(void *object)
{
    struct rig *g = object;
    shard_free(g->shard);
    beacon_table_free(g->beacons);
    g->shard = NULL;
    g->beacons = NULL;
}

static void *register_begin(struct sim_host *h, void *ctx)
{
    static const struct id128 any;
    struct rig *g = ctx;
    g->env = sim_env_new(h, NULL);
    g->env->log->fd = g->p->log_fd;
    g->env->log->level = g->p->log_fd < 0 ? LOG_LEVEL_FATAL : LOG_LEVEL_DEBUG;
    g->reg = NULL;
    g->status = register_open(g->env, 1, any, &g->reg, &g->err);
    return g;
}

static void register_end(void *object)
{
    struct rig *g = object;
    register_forget(g->reg);
    g->reg = NULL;
}

static const struct sim_program programs[] = {
    {register_begin, register_end},
    {storage_begin, storage_end},
};

static void rig_init(struct rig *g, const struct crash_point *p)
{
    *g = (struct rig){.p = p};
    g->w = world_new(p->choice.seed);
    g->h = sim_host_new(g->w, "disk");
    crash_disk_show(p->disk, &p->choice, g->h);
}

static void rig_start(struct rig *g)
{
    g->status = ST_STOPPING;
    g->err = (struct err){""};
    (void)sim_host_start(g->h, &programs[g->p->storage], g);
}

/* ---- storage ---- */

static void note_damage(void *ctx, struct shard *s)
{
    bool *damaged = ctx;
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        *damaged = *damaged || replica_is_damaged(s->tablets[i]->core);
    }
}

static void take_found(const struct rig *g, struct found *f)
{
    memset(f, 0, sizeof(*f));
    f->counter = g->store.incarnation.counter;
    for (uint32_t i = 0; i < g->shard->tablet_count; i++) {
        const struct tablet *t = g->shard->tablets[i];
        assert(t->id < LEDGER_TABLETS);
        f->there[t->id] = true;
        f->last[t->id] = log_last(t->core);
        f->applied[t->id] = state_applied(replica_state(t->core));
        f->digest[t->id] = state_digest(replica_state(t->core));
        f->epoch[t->id] = replica_config(t->core)->epoch;
    }
}

static bool check_store(const struct rig *g, struct err *why)
{
    const struct trace_identity *id = ledger_identity(g->p->ledger);
    if (id->counter == 0) {
        return true;
    }
    if (!id128_equal(id->store, g->store.id)) {
        return fails(why, "another store id");
    }
    if (g->store.incarnation.counter <= id->counter) {
        return fails(why, "start counter %llu was used before",
                     (unsigned long long)g->store.incarnation.counter);
    }
    return true;
}

/* Entries behind the state: there were such, and these are their bytes. */
static bool check_entries(const struct rig *g, const struct tablet *t,
                          struct err *why)
{
    uint64_t seq = state_applied(replica_state(t->core)).seq;
    for (seq++; seq <= log_last(t->core).seq; seq++) {
        const struct entry *e = log_entry(t->core, seq);
        uint64_t hash;
        if (e == NULL || e->payload == NULL) {
            return fails(why, "tablet %u: entry %llu is not kept",
                         (unsigned)t->id, (unsigned long long)seq);
        }
        if (!ledger_entry(g->p->ledger, t->id, e->name, &hash) ||
            hash != XXH3_64bits(e->payload, e->len)) {
            return fails(why, "tablet %u: entry (%llu, %llu) never was",
                         (unsigned)t->id, (unsigned long long)e->name.epoch,
                         (unsigned long long)e->name.seq);
        }
    }
    return true;
}

static bool check_state(const struct rig *g, const struct tablet *t,
                        struct crash_figures *figures, struct err *why)
{
    struct name at = state_applied(replica_state(t->core));
    struct id128 should;
    struct state_counts n;
    state_count(replica_state(t->core), &n);
    if (at.seq == 0) {
        return n.cells == 0 ||
               fails(why, "tablet %u: cells from nowhere", (unsigned)t->id);
    }
    if (!ledger_state(g->p->ledger, t->id, at, &should)) {
        figures->unknown_states++;
        return true;
    }
    return id128_equal(should, state_digest(replica_state(t->core))) ||
           fails(why, "tablet %u: the state at (%llu, %llu) is another",
                 (unsigned)t->id, (unsigned long long)at.epoch,
                 (unsigned long long)at.seq);
}

struct placed_values {
    const struct rig *g;
    uint8_t *bytes;
    uint64_t count, bad;
    enum status status; /* of the last bad one */
};

static void check_value_at(void *ctx, struct slice key, const struct place *p)
{
    struct placed_values *v = ctx;
    enum status st = ST_OK;
    v->count++;
    if (p->tag == VALUE_BLOB) { /* here; its bytes are checked when read */
        struct blob_ref ref = {
            .id = p->blob, .len = p->len, .digest = p->digest};
        v->bad += !blobs_has(v->g->shard->blobs->blobs, &ref);
        v->status = ST_GONE;
        return;
    }
    st = wal_value_read_now(v->g->shard->wal, p->position, p->len, v->bytes);
    if (st == ST_OK && !place_verify(p, key, slice_make(v->bytes, p->len))) {
        st = ST_CORRUPT;
    }
    if (st != ST_OK) {
        v->bad++;
        v->status = st;
    }
}

/* What the state only has the places of stands there. */
static bool check_values(const struct rig *g, const struct tablet *t,
                         struct crash_figures *figures, struct err *why)
{
    struct state_walk *walk = state_walk_new(replica_state(t->core));
    struct placed_values v = {.g = g, .bytes = xmalloc(LIMIT_VALUE)};
    while (state_walk_on(walk, 1000, check_value_at, &v)) {
    }
    state_walk_free(walk);
    free(v.bytes);
    figures->values += v.count;
    return v.bad == 0 ||
           fails(why, "tablet %u: %llu of %llu values on disk: %s",
                 (unsigned)t->id, (unsigned long long)v.bad,
                 (unsigned long long)v.count, status_name(v.status));
}

static bool holds(const struct tablet *t, struct name name)
{
    struct name had;
    if (name.seq > log_last(t->core).seq) {
        return false;
    }
    /* Below what it knows by name the state's digest vouches for it. */
    return !log_name(t->core, name.seq, &had) || name_equal(had, name);
}

static bool check_promise(const struct rig *g, uint32_t id, struct err *why)
{
    const struct promised *p = ledger_promised(g->p->ledger, id);
    const struct tablet *t = shard_tablet(g->shard, id);
    if (p->epoch == 0 && p->name.seq == 0) {
        return true;
    }
    if (t == NULL) {
        return fails(why, "tablet %u: gone", (unsigned)id);
    }
    if (replica_config(t->core)->epoch < p->epoch) {
        return fails(why, "tablet %u: epoch %llu was told, %llu is there (R3)",
                     (unsigned)id, (unsigned long long)p->epoch,
                     (unsigned long long)replica_config(t->core)->epoch);
    }
    return holds(t, p->name) ||
           fails(why,
                 "tablet %u: (%llu, %llu) was acknowledged, the log ends at "
                 "(%llu, %llu)",
                 (unsigned)id, (unsigned long long)p->name.epoch,
                 (unsigned long long)p->name.seq,
                 (unsigned long long)log_last(t->core).epoch,
                 (unsigned long long)log_last(t->core).seq);
}

static bool check_shard(const struct rig *g, struct crash_figures *figures,
                        struct err *why)
{
    bool damaged = false;
    if (g->status != ST_OK) {
        return fails(why, "recovery: %s: %s", status_name(g->status),
                     g->err.text);
    }
    note_damage(&damaged, g->shard);
    if (damaged) {
        return fails(why, "a torn log is reported as damage");
    }
    bool good = check_store(g, why);
    for (uint32_t id = 0; id < LEDGER_TABLETS && good; id++) {
        good = check_promise(g, id, why);
    }
    for (uint32_t i = 0; i < g->shard->tablet_count && good; i++) {
        const struct tablet *t = g->shard->tablets[i];
        good = check_entries(g, t, why) && check_state(g, t, figures, why) &&
               check_values(g, t, figures, why);
    }
    figures->recoveries++;
    return good;
}

static bool same_found(const struct found *a, const struct found *b,
                       struct err *why)
{
    for (unsigned i = 0; i < LEDGER_TABLETS; i++) {
        if (a->there[i] != b->there[i] || !name_equal(a->last[i], b->last[i]) ||
            !name_equal(a->applied[i], b->applied[i]) ||
            !id128_equal(a->digest[i], b->digest[i]) ||
            a->epoch[i] != b->epoch[i]) {
            return fails(why,
                         "tablet %u: (%llu, %llu) at first, then (%llu, %llu)",
                         i, (unsigned long long)a->last[i].epoch,
                         (unsigned long long)a->last[i].seq,
                         (unsigned long long)b->last[i].epoch,
                         (unsigned long long)b->last[i].seq);
        }
    }
    return true;
}

/* ---- recovery that crashes ---- */

static bool check_again(const struct crash_point *p, uint64_t steps,
                        const struct found *first,
                        struct crash_figures *figures, struct err *why)
{
    struct rig g;
    struct found then;
    struct sim_rng rng;
    sim_rng_init(&rng, p->choice.seed ^ 77);
    rig_init(&g, p);
    sim_host_fail_at_step(g.h, 1 + (uint32_t)sim_rng_below(&rng, steps), true);
    rig_start(&g);
    world_run_for(g.w, SIM_MS);
    bool died = !sim_host_running(g.h);
    if (!died) { /* the world draws otherwise: it had fewer steps */
        sim_host_power_off(g.h);
        world_run_for(g.w, SIM_MS);
    }
    sim_host_fail_at_step(g.h, 0, false);
    sim_host_power_on(g.h);
    rig_start(&g);
    bool good = check_shard(&g, figures, why);
    if (good) {
        take_found(&g, &then);
        good = same_found(first, &then, why);
    }
    world_free(g.w);
    if (!good) {
        char text[sizeof(why->text)];
        (void)snprintf(text, sizeof(text), "%s", why->text);
        (void)fails(why, "after a crash in recovery: %.180s", text);
    }
    return good;
}

/* ---- life after it ---- */

static void configure(struct rig *g, struct tablet *t)
{
    struct replica self = g->shard->host.self;
    struct tablet_config c = {.tablet = t->id,
                              .hash_last = UINT64_MAX,
                              .epoch = replica_config(t->core)->epoch + 1,
                              .primary = self,
                              .primary_incarnation = g->store.incarnation,
                              .in_sync = &self,
                              .in_sync_count = 1};
    struct event e = {.kind = EVENT_CONFIG, .u.config = &c};
    shard_step(g->shard, t, &e);
}

/* The client is gone when it is answered. */
static void command(struct rig *g, struct tablet *t, const struct command *c)
{
    struct request *q = xcalloc(1, sizeof(*q));
    struct buf b = {0};
    q->kind = REQUEST_COMMAND;
    q->tablet = t;
    wire_encode_command(&b, c);
    struct event e = {.kind = EVENT_COMMAND};
    e.u.command.payload = buf_slice(&b);
    e.u.command.cookie = q;
    shard_step(g->shard, t, &e);
    buf_free(&b);
}

static void introduce(struct rig *g, struct tablet *t)
{
    struct command c = {.kind = COMMAND_INTRODUCE, .client = {{1}}};
    command(g, t, &c);
}

/* The N-th; an introduction's entry is the session (R23). */
static void put(struct rig *g, struct tablet *t, uint64_t session, unsigned n)
{
    /* In the tree, in the log, in the blob log. */
    static const size_t sizes[NEW_ENTRIES] = {100, 4000, 40000};
    static const uint8_t bytes[40000] = {7};
    struct mutation m = {.kind = MUTATION_PUT,
                         .row = slice_of("after"),
                         .column = slice_of("crash"),
                         .value = slice_make(bytes, sizes[n])};
    struct command c = {.kind = COMMAND_BATCH,
                        .client = {{1}},
                        .session = session,
                        .number = n + 1,
                        .oldest_open = n + 1,
                        .partition = slice_of("life"),
                        .mutations = &m,
                        .mutations_count = 1};
    command(g, t, &c);
}

static bool all_committed(const struct rig *g, struct err *why)
{
    for (uint32_t i = 0; i < g->shard->tablet_count; i++) {
        struct tablet_report r;
        replica_report(g->shard->tablets[i]->core, &r);
        if ((r.flags & REPORT_OPEN) == 0 || r.committed.seq != r.last.seq) {
            return fails(why,
                         "tablet %u: does not open: last %llu, committed "
                         "%llu",
                         (unsigned)r.tablet, (unsigned long long)r.last.seq,
                         (unsigned long long)r.committed.seq);
        }
    }
    return g->status == ST_OK || fails(why, "%s", g->err.text);
}

/* What was applied before must be so or be in the log; ends are the same. */
static bool came_back(const struct rig *g, const struct found *before,
                      struct crash_figures *figures, struct err *why)
{
    struct found now;
    if (g->status != ST_OK) {
        return fails(why, "second recovery: %s", g->err.text);
    }
    bool damaged = false;
    note_damage(&damaged, g->shard);
    take_found(g, &now);
    for (unsigned i = 0; i < LEDGER_TABLETS && !damaged; i++) {
        bool applied = name_equal(now.applied[i], before->applied[i]);
        if (!name_equal(now.last[i], before->last[i]) ||
            now.epoch[i] != before->epoch[i] ||
            (applied && !id128_equal(now.digest[i], before->digest[i]))) {
            return fails(why,
                         "second recovery: tablet %u ends at %llu, not "
                         "%llu",
                         i, (unsigned long long)now.last[i].seq,
                         (unsigned long long)before->last[i].seq);
        }
    }
    bool good = true;
    for (uint32_t i = 0; i < g->shard->tablet_count && good; i++) {
        good = check_values(g, g->shard->tablets[i], figures, why);
    }
    if (damaged) {
        return fails(why, "second recovery: damage");
    }
    return good;
}

/* Of the rig that has just recovered. */
static bool check_life(struct rig *g, struct crash_figures *figures,
                       struct err *why)
{
    struct found before;
    struct shard *s = g->shard;
    uint64_t sessions[LEDGER_TABLETS];
    s->host.min_insync = 1;
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        configure(g, s->tablets[i]);
    }
    world_run_for(g->w, 3 * LIVE_US);
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        introduce(g, s->tablets[i]);
        sessions[i] = log_last(s->tablets[i]->core).seq;
    }
    for (unsigned n = 0; n < NEW_ENTRIES; n++) {
        for (uint32_t i = 0; i < s->tablet_count; i++) {
            put(g, s->tablets[i], sessions[i], n);
        }
        world_run_for(g->w, LIVE_US);
    }
    if (!all_committed(g, why)) {
        return false;
    }
    take_found(g, &before);
    sim_host_power_off(g->h);
    world_run_for(g->w, SIM_MS);
    sim_host_power_on(g->h);
    rig_start(g);
    return came_back(g, &before, figures, why);
}

static bool check_storage(const struct crash_point *p,
                          struct crash_figures *figures, struct err *why)
{
    struct rig g;
    struct found found;
    rig_init(&g, p);
    uint64_t began = sim_host_steps(g.h);
    rig_start(&g);
    uint64_t steps = sim_host_steps(g.h) - began;
    figures->steps += steps;
    bool good = check_shard(&g, figures, why);
    if (good) {
        take_found(&g, &found);
        good = !p->goes_on || check_life(&g, figures, why);
    }
    world_free(g.w);
    if (good && p->again && steps > 0) {
        good = check_again(p, steps, &found, figures, why);
    }
    return good;
}

/* ---- the coordinator's register ---- */

static bool check_epochs(const struct rig *g, const struct generation *v,
                         struct err *why)
{
    struct arena a = {0};
    struct cursor c = cursor_of(v->state);
    struct register_state state;
    uint64_t had[LEDGER_TABLETS] = {0};
    bool good = true;
    wire_decode_register_state(&c, &a, &state);
    for (uint32_t i = 0; i < state.tablets_count && !c.bad; i++) {
        assert(state.tablets[i].tablet < LEDGER_TABLETS);
        had[state.tablets[i].tablet] = state.tablets[i].epoch;
    }
    for (uint32_t i = 0; i < LEDGER_TABLETS && good; i++) {
        uint64_t told = ledger_promised(g->p->ledger, i)->epoch;
        good = had[i] >= told ||
               fails(why,
                     "tablet %u: epoch %llu was told, the register has "
                     "%llu (R1)",
                     (unsigned)i, (unsigned long long)told,
                     (unsigned long long)had[i]);
    }
    arena_free(&a);
    return good;
}

static bool check_value(const struct rig *g, struct err *why)
{
    uint64_t term = ledger_term(g->p->ledger);
    if (g->status == ST_NOT_FOUND && term == 0) {
        return true;
    }
    if (g->status != ST_OK) {
        return fails(why, "the register: %s: %s", status_name(g->status),
                     g->err.text);
    }
    const struct generation *v = register_value(g->reg);
    struct trace_value t = {v->promised, v->accepted, v->version,
                            XXH3_64bits(v->state.data, v->state.len)};
    if (!ledger_value(g->p->ledger, &t)) {
        return fails(why, "the register holds what it never was given");
    }
    if (v->promised < term) {
        return fails(why, "term %llu was told, the register has %llu (R22)",
                     (unsigned long long)term, (unsigned long long)v->promised);
    }
    return check_epochs(g, v, why);
}

static bool check_register(const struct crash_point *p,
                           struct crash_figures *figures, struct err *why)
{
    struct rig g;
    rig_init(&g, p);
    rig_start(&g);
    bool good = check_value(&g, why);
    figures->recoveries++;
    world_free(g.w);
    return good;
}

bool crash_check(const struct crash_point *p, struct crash_figures *figures,
                 struct err *why)
{
    return p->storage ? check_storage(p, figures, why)
                      : check_register(p, figures, why);
}
