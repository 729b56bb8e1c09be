/*
 * A shard's life: recovery, stepping, effects, time.
 *
 * Recovery (R16, phase one): each tablet's newest valid checkpoint, then the
 * log's records in order. A replica whose chain of names breaks is condemned,
 * and so is every one that the log's damage may touch. Nothing is reported
 * before the log is synced.
 *
 * Stepping: an event goes into a replica, its effects are carried out in
 * order before the next event. Appending gives each record a place in the
 * log; the places queue up in log order, and when the log reports a position
 * synced, each tablet hears of its newest ordinal before it, once.
 */
#include "storage/shard_collect.h"
#include "storage/shard_damage.h"
#include "storage/shard_impl.h"
#include "storage/shard_repair.h"
#include "storage/shard_scrub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_LIMIT_DEFAULT MIB(64)
/* Entries kept in memory behind the commit: of all tablets, and of each. They
 * spare learners' catching up the log, and everything else the caches. */
#define TAILS_BYTES MIB(1)
#define TAIL_BYTES_LEAST KIB(8)
#define TAIL_BYTES_MOST KIB(256)

/* ---- tablets ---- */

static uint32_t place_of(const struct shard *s, uint32_t id)
{
    uint32_t low = 0, high = s->tablet_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (s->tablets[mid]->id < id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct tablet *shard_tablet(const struct shard *s, uint32_t id)
{
    uint32_t i = place_of(s, id);
    return i < s->tablet_count && s->tablets[i]->id == id ? s->tablets[i]
                                                          : NULL;
}

void shard_on_place(void *ctx, const struct place *p, int delta)
{
    struct tablet *t = ctx;
    if (t->shard->wal != NULL && p->tag == VALUE_LOG &&
        !wal_value_live(t->shard->wal, t->id, p->position,
                        delta * (int64_t)p->len)) {
        t->missing += delta;
    }
    shard_blobs_on_place(t, p, delta);
}

void shard_hook_state(struct shard *s, struct tablet *t)
{
    (void)s;
    state_on_change(replica_state(t->core), requests_on_changed, t);
    state_on_place(replica_state(t->core), shard_on_place, t);
}

static uint64_t tail_bytes(uint32_t tablets)
{
    uint64_t share = TAILS_BYTES / tablets;
    share = share < TAIL_BYTES_LEAST ? TAIL_BYTES_LEAST : share;
    return share < TAIL_BYTES_MOST ? share : TAIL_BYTES_MOST;
}

struct tablet *shard_add_tablet(struct shard *s, uint32_t id,
                                struct state *state)
{
    uint32_t i = place_of(s, id);
    struct tablet *t = xcalloc(1, sizeof(*t));
    t->id = id;
    t->shard = s;
    t->next_us = INT64_MAX;
    t->checkpoint = state_applied(state);
    t->checkpoint_us = env_now_us(s->env);
    t->core = replica_new(&s->host, id, state);
    s->tablets =
        xrealloc(s->tablets, (s->tablet_count + 1) * sizeof(*s->tablets));
    memmove(&s->tablets[i + 1], &s->tablets[i],
            (s->tablet_count - i) * sizeof(*s->tablets));
    s->tablets[i] = t;
    s->tablet_count++;
    s->host.tail_bytes_max = tail_bytes(s->tablet_count);
    return t;
}

/* ---- effects ---- */

static void push_placed(struct shard *s, struct placed p)
{
    if (s->placed_count == s->placed_cap) {
        uint32_t cap = s->placed_cap == 0 ? 256 : s->placed_cap * 2;
        struct placed *ring = xcalloc(cap, sizeof(*ring));
        for (uint32_t i = 0; i < s->placed_count; i++) {
            ring[i] = s->placed[(s->placed_head + i) & (s->placed_cap - 1)];
        }
        free(s->placed);
        s->placed = ring;
        s->placed_cap = cap;
        s->placed_head = 0;
    }
    uint32_t at = (s->placed_head + s->placed_count) & (s->placed_cap - 1);
    s->placed[at] = p;
    s->placed_count++;
}

static void note_reset(struct tablet *t, const struct wal_record *r)
{
    if (replica_resets(r)) {
        t->void_position = t->void_seq != 0 ? t->void_position : r->position;
        t->void_next = r->position;
        t->void_seq = r->name.seq == 0 ? r->seq : 0;
        t->void_end = t->void_seq != 0 ? r->end : 0;
        t->void_clock = wal_value_clock(t->shard->wal);
        shard_blobs_on_void(t);
    }
}

/* The values of the state that T has begun anew without take room that the
 * snapshot which it needs may need. */
static void release_void(struct tablet *t)
{
    struct wal *w = t->shard->wal;
    if (t->void_end != 0 && t->void_end <= wal_synced(w)) {
        t->void_end = 0;
        t->void_position = t->void_next;
        wal_value_checkpointed(w, t->id, t->void_clock);
        shard_blobs_release_void(t);
        wal_kept_release(w, values_oldest(t->shard));
    }
}

static void do_append(struct shard *s, struct tablet *t, struct effect *x)
{
    if (replica_resets(&x->record) && x->record.name.seq == 0) {
        uint64_t newest = t->checkpoint.seq;
        if (t->writer != NULL && t->writing.seq > newest) {
            newest = t->writing.seq;
        }
        x->record.seq = newest + 1;
    }
    uint64_t end = wal_append(s->wal, &x->record);
    note_reset(t, &x->record);
    replica_placed(t->core, x->ordinal, x->record.position);
    push_placed(s, (struct placed){end, x->ordinal, t});
}

static void do_send(struct shard *s, const struct effect *x)
{
    buf_clear(&s->out);
    wire_put(&s->out, &x->msg);
    (void)links_send(s->links, x->to.node, x->to.store, buf_slice(&s->out));
}

static void do_effect(struct shard *s, struct tablet *t, struct effect *x)
{
    switch (x->kind) {
    case FX_APPEND:
        do_append(s, t, x);
        return;
    case FX_SEND:
        do_send(s, x);
        return;
    case FX_REPLY:
        requests_reply(s, x->cookie, x->status, &x->result);
        return;
    case FX_CHANGE:
        cluster_ask_change(s, &x->change);
        return;
    case FX_FETCH:
        catchup_fetch(s, t, x->to, x->epoch);
        return;
    case FX_KICK:
        s->o.kick(s->o.ctx);
        return;
    case FX_WANT_MAP:
        cluster_want_map(s);
        return;
    case FX_INSTALLED:
        collect_on_state(s, t);
        shard_hook_state(s, t);
        return;
    case FX_CONDEMNED:
        s->stats.condemned++;
        cluster_tell(s);
        return;
    case FX_COMPARED:
        s->stats.compared++;
        s->stats.differing += x->differing;
        return;
    case FX_DISPUTED:
        scrub_walk_now(s, t);
        return;
    }
}

static void arm(struct shard *s, int64_t at_us)
{
    if (at_us >= s->tick_us) {
        return;
    }
    int64_t now = env_now_us(s->env);
    s->tick_us = at_us;
    env_timer_start(s->env, &s->tick, at_us > now ? at_us - now : 0);
}

void shard_step(struct shard *s, struct tablet *t, struct event *e)
{
    assert(!s->stepping);
    if (s->fatal) {
        return;
    }
    s->stepping = true;
    enum replica_role before = replica_role_of(t->core);
    uint64_t epoch = replica_config(t->core)->epoch;
    e->now_us = env_now_us(s->env);
    effects_clear(&s->fx);
    replica_step(t->core, e, &s->fx);
    for (uint32_t i = 0; i < s->fx.count; i++) {
        do_effect(s, t, &s->fx.items[i]);
    }
    s->stepping = false;
    shard_note_step(t, &s->fx);
    t->next_us = replica_next_us(t->core);
    arm(s, t->next_us);
    if (before == REPLICA_PRIMARY &&
        replica_role_of(t->core) != REPLICA_PRIMARY) {
        requests_on_role(s, t);
    }
    if (replica_role_of(t->core) != REPLICA_LEARNER) {
        catchup_abort(t);
    }
    if (replica_config(t->core)->epoch != epoch) {
        s->figures.epochs++;
        forward_on_epoch(s, t);
        shard_blobs_on_epoch(t);
    }
    requests_after_step(s);
}

static void on_tick(struct env_timer *timer)
{
    struct shard *s = timer->data;
    int64_t now = env_now_us(s->env), next = INT64_MAX;
    s->tick_us = INT64_MAX;
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct tablet *t = s->tablets[i];
        if (t->next_us <= now) {
            struct event e = {.kind = EVENT_TICK};
            shard_step(s, t, &e);
        }
        next = t->next_us < next ? t->next_us : next;
    }
    arm(s, next);
}

/* ---- the log ---- */

static void on_synced(void *ctx, uint64_t position)
{
    struct shard *s = ctx;
    uint32_t count = 0;
    while (count < s->placed_count) {
        const struct placed *p =
            &s->placed[(s->placed_head + count) & (s->placed_cap - 1)];
        if (p->end > position) {
            break;
        }
        p->tablet->synced = p->ordinal; /* the newest one stays */
        count++;
    }
    s->placed_head = (s->placed_head + count) & (s->placed_cap - 1);
    s->placed_count -= count;
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct tablet *t = s->tablets[i];
        if (t->synced != 0) {
            struct event e = {.kind = EVENT_SYNCED, .u.ordinal = t->synced};
            t->synced = 0;
            shard_step(s, t, &e);
        }
        catchup_begin_writing(t);
        release_void(t);
    }
    if (s->host.full) {
        shard_tell_full(s); /* how much of the reserve is left */
    }
    collect_on_synced(s);
    repair_on_synced(s);
    checkpoint_on_synced(s);
}

void shard_fatal(struct shard *s, enum status why, const char *text)
{
    if (s->fatal) {
        return;
    }
    s->fatal = true; /* from here on nothing is acknowledged */
    log_write(s->env->log, LOG_LEVEL_FATAL, "shard", "stopping",
              "status=%s reason=\"%s\"", status_name(why), text);
    s->o.on_fatal(s->o.ctx, why, text);
}

static void on_full(void *ctx, bool full)
{
    (void)full;
    shard_tell_full(ctx);
}

/* R17: mostly from the page cache, where it is since it was written. */
static enum status read_entry(void *ctx, uint32_t tablet, uint64_t position,
                              struct name name, struct arena *arena,
                              struct slice *out)
{
    struct shard *s = ctx;
    struct wal_record record;
    struct buf b = {0};
    enum status st = wal_read(s->wal, position, &record, &b);
    if (st == ST_OK && (record.kind != WAL_ENTRY || record.tablet != tablet ||
                        !name_equal(record.name, name))) {
        st = ST_CORRUPT;
    }
    if (st == ST_OK) {
        size_t len = record.payload.len;
        *out = slice_make(arena_copy(arena, record.payload.data, len), len);
    }
    buf_free(&b);
    return st;
}

static void on_cut(void *ctx, uint32_t tablet, struct name to,
                   struct name committed)
{
    struct shard *s = ctx;
    if (s->o.on_cut != NULL) {
        s->o.on_cut(s->o.ctx, tablet, to, committed);
    }
}

static void on_failed(void *ctx, enum status why)
{
    shard_fatal(ctx, why, "the log could not be written (R18)");
}

/* ---- recovery ---- */

static enum status on_replay(void *ctx, const struct wal_record *record)
{
    struct shard *s = ctx;
    struct tablet *t = shard_tablet(s, record->tablet);
    if (t == NULL) {
        t = shard_add_tablet(s, record->tablet, state_new());
    }
    /* An epoch counts whatever else is lost (R3); a replica that was filled
     * anew needs nothing that stood before. */
    if (t->condemned && record->kind != WAL_EPOCH &&
        record->kind != WAL_RESET) {
        return ST_OK;
    }
    if (replica_replay(t->core, record) != ST_OK) {
        log_error(s->env->log, "shard", "chain-broken",
                  "tablet=%" PRIu32 " position=%" PRIu64 " kind=%d", t->id,
                  record->position, (int)record->kind);
        t->condemned = true;
    } else if (replica_resets(record) || record->kind == WAL_ENTRY) {
        t->condemned = t->condemned && !replica_resets(record);
        bool void_now = replica_resets(record) && record->seq > t->known;
        t->known = void_now ? 0 : t->known;
        t->proven = record->end;
        note_reset(t, record);
    }
    if (state_applied(replica_state(t->core)).seq >= t->void_seq) {
        t->void_seq = t->void_end = 0; /* a checkpoint was made since */
    }
    return ST_OK;
}

/* What a damaged range held of which tablet is not known. An entry behind it
 * that follows the last one before it shows that nothing is missing between;
 * without one the tablet's end may have been in there (R16). */
static bool damage_touches(const struct tablet *t, const struct wal_report *r)
{
    for (uint32_t i = 0; i < r->damage_count; i++) {
        if (r->damage[i].to > t->proven) {
            return true;
        }
    }
    return false;
}

/* Until it is checkpointed the next start meets the same damage. */
static bool needs_damaged(const struct shard *s, const struct tablet *t,
                          const struct wal_report *r)
{
    uint64_t position;
    return r->damage_count > 0 && wal_needs(s->wal, t->id, &position) &&
           position < r->damage[r->damage_count - 1].to;
}

static struct checkpoint_ids ids_of(const struct shard *s, uint32_t tablet)
{
    return (struct checkpoint_ids){s->store->cluster, s->store->id,
                                   s->store->node, tablet};
}

static enum status load_one(struct shard *s, uint32_t id, struct err *err)
{
    struct state *state = NULL;
    struct buf config = {0};
    struct checkpoint_info info;
    struct checkpoint_ids ids = ids_of(s, id);
    enum status st =
        checkpoint_load(s->env, s->folder, &ids, &state, &config, &info, err);
    bool damaged = st == ST_CORRUPT;
    if (st == ST_OK && info.older) {
        log_error(s->env->log, "shard", "checkpoint-damaged",
                  "tablet=%" PRIu32 " detail=%s", id,
                  log_quote(slice_of(err->text)));
    }
    if (damaged) {
        log_error(s->env->log, "shard", "checkpoints-lost",
                  "tablet=%" PRIu32 " detail=%s", id,
                  log_quote(slice_of(err->text)));
        state = state_new();
    } else if (st != ST_OK) {
        buf_free(&config);
        return st == ST_NOT_FOUND ? ST_OK : st;
    }
    struct tablet *t = shard_add_tablet(s, id, state);
    t->condemned = damaged;
    t->known = info.newest_seq;
    struct arena a = {0};
    struct cursor c = cursor_of(buf_slice(&config));
    struct tablet_config cfg;
    wire_decode_tablet_config(&c, &a, &cfg);
    if (!damaged && !c.bad) {
        replica_replay_config(t->core, &cfg);
        t->checkpoint_epoch = cfg.epoch;
        t->checkpoint_bytes = checkpoint_file_bytes(s, info.file);
    }
    arena_free(&a);
    buf_free(&config);
    return ST_OK;
}

static enum status load_checkpoints(struct shard *s, struct err *err)
{
    uint32_t *ids = xcalloc(LIMIT_TABLETS, sizeof(*ids));
    size_t count = 0;
    int64_t began = env_now_us(s->env);
    enum status st =
        checkpoint_list(s->env, s->folder, ids, LIMIT_TABLETS, &count);
    if (st != ST_OK) {
        err_set(err, st, "%s: cannot be listed: %s", s->folder,
                status_text(st));
    }
    for (size_t i = 0; i < count && st == ST_OK; i++) {
        st = load_one(s, ids[i], err);
    }
    free(ids);
    if (count > 0 && st == ST_OK) {
        log_info(s->env->log, "shard", "checkpoints-loaded",
                 "tablets=%zu ms=%" PRId64, count,
                 (env_now_us(s->env) - began) / 1000);
    }
    return st;
}

/* The log can be told what its segments hold: all that checkpoints name. */
static void on_found(void *ctx, struct wal *w)
{
    struct shard *s = ctx;
    s->wal = w;
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        shard_hook_state(s, s->tablets[i]);
    }
}

static enum status open_log(struct shard *s, struct err *err)
{
    struct wal_options w = {
        .cluster = s->store->cluster,
        .node = s->store->node,
        .store = s->store->id,
        .key = {s->store->record_key[0], s->store->record_key[1]},
        .start_counter = s->store->incarnation.counter,
        .segment_size = s->o.segment_size,
        .bugs = s->o.bugs,
        .folder = s->folder,
        .on_found = on_found,
        .on_synced = on_synced,
        .on_failed = on_failed,
        .on_full = on_full,
        .is_busy = shard_is_busy,
        .ctx = s,
    };
    struct wal_report report = {0};
    enum status st = wal_open(s->env, &w, on_replay, &report, &s->wal, err);
    if (st != ST_OK) {
        s->wal = NULL; /* found, and gone again */
        return st;
    }
    log_info(s->env->log, "shard", "log-recovered",
             "records=%" PRIu64 " begin=%" PRIu64 " end=%" PRIu64
             " torn=%d damaged=%" PRIu32 " buffered=%d",
             report.records, report.begin, report.end, (int)report.torn,
             report.damage_count, (int)report.buffered);
    for (uint32_t i = 0; i < report.damage_count; i++) {
        log_error(s->env->log, "shard", "log-damaged",
                  "from=%" PRIu64 " to=%" PRIu64, report.damage[i].from,
                  report.damage[i].to);
    }
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct tablet *t = s->tablets[i];
        struct tablet_report had;
        replica_report(t->core, &had);
        bool less = had.last.seq < t->known;
        bool whole = shard_blobs_whole(s, t);
        shard_hook_state(s, t);
        replica_recovered(t->core, t->condemned || less || !whole ||
                                       damage_touches(t, &report));
        t->checkpoint_wanted = needs_damaged(s, t, &report);
        t->writing_clock = t->void_clock = wal_value_clock(s->wal);
        t->named_clock = t->named_before = t->writing_clock;
        release_void(t);
        if (t->missing > 0 && !replica_is_damaged(t->core)) {
            shard_repair_missing(s, t);
        }
    }
    shard_blobs_settle(s);
    return ST_OK;
}

enum status shard_open(const struct storage_node_options *o,
                       struct store *store, struct beacon_table *beacons,
                       struct shard **out, struct err *err)
{
    struct shard *s = xcalloc(1, sizeof(*s));
    s->o = *o;
    s->env = o->env;
    s->store = store;
    s->log_limit = o->log_limit == 0 ? LOG_LIMIT_DEFAULT : o->log_limit;
    s->tick_us = INT64_MAX;
    s->tick.fn = on_tick;
    s->tick.data = s;
    checkpoint_init(s);
    collect_init(s);
    repair_init(s);
    catchup_init(s);
    s->host = (struct replica_host){
        .self = {store->node, store->id},
        .incarnation = store->incarnation,
        .beacons = beacons,
        .log = o->env->log,
        .min_insync = LIMIT_REPLICAS, /* until the map says */
        .stall_us = 1000000,
        .tail_bytes_max = TAIL_BYTES_MOST,
        .bugs = o->bugs,
        .room = shard_room,
        .read = read_entry,
        .on_cut = on_cut,
        .ctx = s,
    };
    store_shard_folder(0, s->folder);
    requests_init(s);
    cluster_init(s);
    enum status st = load_checkpoints(s, err);
    if (st == ST_OK) {
        st = shard_blobs_open(s, err);
    }
    if (st == ST_OK) {
        st = open_log(s, err);
    }
    if (st != ST_OK) {
        shard_free(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

enum status shard_start(struct shard *s, struct beacon *beacon, struct err *err)
{
    enum status st =
        s->env->ops->listen(s->env, s->o.listen, &shard_client_events, s, err);
    if (st == ST_OK) {
        s->beacon = beacon;
        cluster_start(s);
        scrub_start(s);
        checkpoint_watch_rest(s);
    }
    return st;
}

static void on_log_stopped(void *ctx, enum status why)
{
    struct shard *s = ctx;
    if (why != ST_OK) {
        log_error(s->env->log, "shard", "stop-unclean", "status=%s",
                  status_name(why));
    }
    s->log_stopped = true;
    shard_at_rest(s);
}

void shard_at_rest(struct shard *s)
{
    if (s->log_stopped && !checkpoint_running(s) && s->scrub == NULL) {
        s->log_stopped = false;
        s->stopped(s->stopped_ctx);
    }
}

/* What was acknowledged is on disk already; the rest is answered by nobody
 * and settled by the next primary. */
void shard_stop(struct shard *s, void (*done)(void *ctx), void *ctx)
{
    s->stopped = done;
    s->stopped_ctx = ctx;
    s->stopping = true;
    scrub_stop(s);
    cluster_free(s);
    shard_close_clients(s);
    s->fatal = true;
    env_timer_stop(s->env, &s->tick);
    checkpoint_stop(s);
    catchup_stop(s);
    collect_stop(s);
    repair_stop(s);
    wal_stop(s->wal, on_log_stopped, s);
}

void shard_free(struct shard *s)
{
    if (s == NULL) {
        return;
    }
    env_timer_stop(s->env, &s->tick);
    scrub_free(s);
    repair_free(s);
    checkpoint_stop(s);
    catchup_stop(s);
    cluster_free(s);
    shard_close_clients(s);
    requests_free_all(s);
    catchup_free_all(s);
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct tablet *t = s->tablets[i];
        if (t->writer != NULL) {
            checkpoint_cancel(t->writer);
        }
        state_on_place(replica_state(t->core), NULL, NULL);
        replica_free(t->core);
        shard_blobs_free_tablet(t);
        free(t);
    }
    shard_blobs_free(s);
    wal_close(s->wal);
    collect_free(s);
    values_free_all(s);
    free(s->tablets);
    free(s->placed);
    effects_free(&s->fx);
    buf_free(&s->out);
    buf_free(&s->payload);
    free(s);
}

int64_t shard_pending_us(const struct shard *s)
{
    int64_t log = wal_pending_age_us(s->wal), blobs = shard_blobs_pending_us(s);
    return log > blobs ? log : blobs;
}

/* ---- for checkers and status ---- */

bool shard_serving(struct shard *s, uint32_t tablet)
{
    const struct tablet *t = shard_tablet(s, tablet);
    return t != NULL && !s->fatal &&
           replica_serving(t->core, env_now_us(s->env));
}

bool shard_digest(struct shard *s, uint32_t tablet, struct name *applied,
                  struct id128 *digest)
{
    const struct tablet *t = shard_tablet(s, tablet);
    if (t == NULL) {
        return false;
    }
    *applied = state_applied(replica_state(t->core));
    *digest = state_digest(replica_state(t->core));
    return true;
}

const struct state *shard_state(struct shard *s, uint32_t tablet)
{
    const struct tablet *t = shard_tablet(s, tablet);
    return t == NULL ? NULL : replica_state(t->core);
}

uint32_t shard_reports(struct shard *s, struct tablet_report *out, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->tablet_count && count < max; i++) {
        replica_report(s->tablets[i]->core, &out[count++]);
    }
    return count;
}

bool shard_ready(const struct shard *s)
{
    return s->announced && s->map != NULL && !s->fatal && !s->stopping;
}

void shard_stats(struct shard *s, struct storage_stats *out)
{
    struct wal_stats w;
    wal_get_stats(s->wal, &w);
    *out = s->stats;
    out->groups = w.groups;
    out->records = w.records;
    out->log_bytes = w.bytes;
    out->log_size = wal_size(s->wal);
    out->pending_sync_us = shard_pending_us(s);
    out->tablets = s->tablet_count;
    out->disk_full = s->host.full;
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct tablet_report r;
        replica_report(s->tablets[i]->core, &r);
        out->primaries += r.role == REPLICA_PRIMARY;
        out->open += (r.flags & REPORT_OPEN) != 0;
        out->readonly += (r.flags & REPORT_READONLY) != 0;
        out->damaged += (r.flags & REPORT_DAMAGED) != 0;
        out->cells += r.cells;
        out->bytes += r.bytes;
    }
}

void shard_status(struct shard *s, struct buf *out)
{
    struct storage_stats st;
    shard_stats(s, &st);
    buf_printf(
        out,
        "{\"node\":%" PRIu32 ",\"name\":\"%s\",\"ready\":%s,"
        "\"start_counter\":%" PRIu64 ",\"map_version\":%" PRIu64
        ",\"tablets\":%" PRIu32 ",\"primaries\":%" PRIu32 ",\"open\":%" PRIu32
        ",\"readonly\":%" PRIu32 ",\"damaged\":%" PRIu32
        ",\"disk_full\":%s,\"cells\":%" PRIu64 ",\"bytes\":%" PRIu64
        ",\"log_bytes\":%" PRIu64 ",",
        s->store->node, s->o.name, shard_ready(s) ? "true" : "false",
        s->store->incarnation.counter, s->map == NULL ? 0 : s->map->version,
        st.tablets, st.primaries, st.open, st.readonly, st.damaged,
        st.disk_full ? "true" : "false", st.cells, st.bytes, st.log_size);
    buf_put_text(out, "\"replicas\":[");
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct tablet_report r;
        replica_report(s->tablets[i]->core, &r);
        buf_printf(out,
                   "%s{\"tablet\":%" PRIu32 ",\"epoch\":%" PRIu64
                   ",\"role\":\"%s\",\"phase\":\"%s\",\"last\":%" PRIu64
                   ",\"committed\":%" PRIu64 ",\"damaged\":%s}",
                   i == 0 ? "" : ",", r.tablet, r.epoch,
                   replica_role_name(r.role),
                   replica_phase_name(s->tablets[i]->core), r.last.seq,
                   r.committed.seq,
                   (r.flags & REPORT_DAMAGED) != 0 ? "true" : "false");
    }
    buf_put_text(out, "]}");
}
