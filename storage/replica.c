/*
 * Life of a replica, dispatch of events, phases, what it reports.
 *
 * A step does one event. Entries' payloads that effects point at stay until
 * the next step begins: only then is the kept tail trimmed.
 */
#include "storage/replica_impl.h"

#include <stdlib.h>
#include <string.h>

/* ---- effects ---- */

void effects_clear(struct effects *fx)
{
    fx->count = 0;
    arena_free(&fx->arena);
}

void effects_free(struct effects *fx)
{
    effects_clear(fx);
    free(fx->items);
    *fx = (struct effects){0};
}

struct effect *fx_add(struct effects *fx, enum effect_kind kind)
{
    if (fx->count == fx->cap) {
        fx->cap = fx->cap == 0 ? 16 : fx->cap * 2;
        fx->items = xrealloc(fx->items, fx->cap * sizeof(*fx->items));
    }
    struct effect *x = &fx->items[fx->count++];
    memset(x, 0, offsetof(struct effect, record));
    x->kind = kind;
    return x;
}

struct wire_msg *fx_send(struct effects *fx, struct replica to,
                         enum msg_type type)
{
    struct effect *x = fx_add(fx, FX_SEND);
    x->to = to;
    x->msg.type = type;
    x->msg.request = 0;
    return &x->msg;
}

/* ---- phases ---- */

static const char *const phase_names[] = {
    [PHASE_IDLE] = "idle",           [PHASE_ENTERING] = "entering",
    [PHASE_FOLLOWING] = "following", [PHASE_GATHERING] = "gathering",
    [PHASE_OPEN] = "open",           [PHASE_READONLY] = "readonly",
};

/* Allowed moves, a bit for each target phase. */
#define TO(p) (1u << (p))
static const unsigned moves[] = {
    [PHASE_IDLE] = TO(PHASE_ENTERING),
    [PHASE_ENTERING] = TO(PHASE_IDLE) | TO(PHASE_FOLLOWING) |
                       TO(PHASE_GATHERING) | TO(PHASE_ENTERING),
    [PHASE_FOLLOWING] = TO(PHASE_ENTERING),
    /* To idle: found damaged. */
    [PHASE_GATHERING] = TO(PHASE_ENTERING) | TO(PHASE_OPEN) |
                        TO(PHASE_READONLY) | TO(PHASE_IDLE),
    [PHASE_OPEN] = TO(PHASE_ENTERING) | TO(PHASE_IDLE),
    [PHASE_READONLY] = TO(PHASE_ENTERING) | TO(PHASE_IDLE),
};

void replica_set_phase(struct replica_core *r, enum phase phase)
{
    assert(moves[r->phase] & TO(phase));
    log_debug(r->host->log, "replica", "phase",
              "tablet=%" PRIu32 " epoch=%" PRIu64 " from=%s to=%s", r->tablet,
              r->config.epoch, phase_names[r->phase], phase_names[phase]);
    r->phase = phase;
}

const char *replica_phase_name(const struct replica_core *r)
{
    return phase_names[r->phase];
}

bool replica_in(const struct replica *list, uint32_t count, struct replica x)
{
    for (uint32_t i = 0; i < count; i++) {
        if (replica_equal(list[i], x)) {
            return true;
        }
    }
    return false;
}

/* ---- life ---- */

struct replica_core *replica_new(const struct replica_host *host,
                                 uint32_t tablet, struct state *state)
{
    struct replica_core *r = xcalloc(1, sizeof(*r));
    r->host = host;
    r->tablet = tablet;
    r->state = state;
    r->next_ordinal = 1;
    r->gate_us = INT64_MAX;
    log_reset(r, state_applied(state));
    r->committed = r->tail.base.seq;
    r->logged_commit = r->committed;
    r->last_echo_us = beacon_table_leave(host->beacons, tablet);
    return r;
}

void replica_free(struct replica_core *r)
{
    if (r == NULL) {
        return;
    }
    log_reset(r, r->tail.base);
    free(r->tail.ring);
    for (uint32_t i = 0; i < r->held_count; i++) {
        buf_free(&r->held[i].payload);
    }
    free(r->held);
    free(r->pending);
    arena_free(&r->config_arena);
    arena_free(&r->staged_arena);
    state_free(r->state);
    state_free(r->voided);
    free(r);
}

/* ---- recovery ---- */

void replica_replay_config(struct replica_core *r,
                           const struct tablet_config *config)
{
    if (config->epoch > r->config.epoch) {
        struct arena fresh = {0};
        r->config = wire_copy_tablet_config(&fresh, config);
        arena_free(&r->config_arena);
        r->config_arena = fresh;
    }
}

/* The log may begin before the checkpoint's base, with entries that were cut
 * and replaced before the checkpoint was made. Those beyond the base follow
 * from nothing that is kept: they are loose, and a CUT to the base or below
 * it, or a RESET, must come. */
static bool is_loose(const struct replica_core *r,
                     const struct wal_record *record)
{
    if (r->loose.seq != 0) {
        return true;
    }
    return r->tail.count == 0 && !name_equal(record->previous, r->tail.base);
}

static enum status replay_entry(struct replica_core *r,
                                const struct wal_record *record)
{
    if (record->name.seq <= r->tail.base.seq) {
        return ST_OK; /* the checkpoint has it */
    }
    bool loose = is_loose(r, record);
    struct name last = loose ? r->loose : log_last(r);
    if (loose && last.seq == 0) {
        last = record->previous; /* the first one */
    }
    if (!name_equal(record->previous, last) ||
        record->name.seq != last.seq + 1 || record->name.epoch < last.epoch) {
        return ST_CORRUPT;
    }
    if (loose) {
        r->loose = record->name;
        return ST_OK;
    }
    struct entry *e = log_push(r, record->name, record->payload);
    e->position = record->position;
    r->tail.synced_seq = record->name.seq; /* nothing leaves before it is */
    return ST_OK;
}

static enum status replay_epoch(struct replica_core *r,
                                const struct wal_record *record)
{
    struct arena a = {0};
    struct cursor c = cursor_of(record->payload);
    struct tablet_config config;
    wire_decode_tablet_config(&c, &a, &config);
    if (!c.bad) {
        if (config.epoch > r->config.epoch) {
            r->epoch_position = record->position;
        }
        replica_replay_config(r, &config);
    }
    arena_free(&a);
    return c.bad ? ST_CORRUPT : ST_OK;
}

static enum status replay_cut(struct replica_core *r, struct name to)
{
    struct name base = r->tail.base, have;
    if (to.seq < base.seq || (to.seq == base.seq && r->tail.count == 0)) {
        /* Older than the checkpoint: all that came before is gone. */
        r->loose = (struct name){0, 0};
        log_cut(r, base);
        return ST_OK;
    }
    if (r->loose.seq != 0) {
        bool known = to.seq <= r->loose.seq && to.epoch <= r->loose.epoch;
        r->loose = to;
        return known ? ST_OK : ST_CORRUPT;
    }
    if (!log_name(r, to.seq, &have) || !name_equal(have, to)) {
        return ST_CORRUPT;
    }
    log_cut(r, to);
    return ST_OK;
}

enum status replica_replay(struct replica_core *r,
                           const struct wal_record *record)
{
    switch (record->kind) {
    case WAL_ENTRY:
        return replay_entry(r, record);
    case WAL_EPOCH:
        return replay_epoch(r, record);
    case WAL_COMMIT:
        if (record->seq > r->committed) {
            r->committed = record->seq;
        }
        return ST_OK;
    case WAL_CUT:
        return replay_cut(r, record->name);
    case WAL_RESET:
        return damage_replay_reset(r, record);
    case WAL_DROP:
    case WAL_MARK:
    case WAL_VALUE: /* only places name it */
        return ST_OK;
    }
    return ST_CORRUPT;
}

void replica_recovered(struct replica_core *r, bool damaged)
{
    struct effects none = {0};
    struct name last = log_last(r);
    r->damaged = damaged || r->loose.seq != 0 || r->condemned;
    if (r->committed > last.seq && !damaged) {
        /* A committed seq is only ever noted of entries that this log held:
         * it lost its tail (R16). */
        log_error(r->host->log, "replica", "tail-lost",
                  "tablet=%" PRIu32 " last=%" PRIu64 " committed=%" PRIu64,
                  r->tablet, last.seq, r->committed);
        r->damaged = true;
    }
    if (r->committed > last.seq) {
        r->committed = last.seq;
    }
    state_free(r->voided);
    r->voided = NULL;
    r->tail.synced_seq = last.seq;
    r->logged_commit = r->committed;
    replica_apply_committed(r, 0, &none);
    assert(none.count == 0);
    effects_free(&none);
    log_trim_payloads(r);
    r->recovered = true;
}

/* ---- applying (R7: in seq order, up to what is known committed) ---- */

/* Where E's payload is in the log. What is applied is on this disk: but for a
 * deliberate bug its record has a position. */
static uint64_t payload_position(const struct entry *e)
{
    return e->position == 0 ? 0 : e->position + WAL_RECORD_HEAD;
}

void replica_apply_committed(struct replica_core *r, int64_t now_us,
                             struct effects *fx)
{
    struct name last = log_last(r);
    uint64_t to = r->committed;
    if (HAS_BUG(r->host, apply_before_commit)) {
        to = last.seq;
    }
    assert(r->committed <= last.seq);
    while (state_applied(r->state).seq < to) {
        uint64_t seq = state_applied(r->state).seq + 1;
        const struct entry *e = log_entry(r, seq);
        struct applied result;
        assert(e != NULL && (e->payload != NULL || e->len == 0));
#ifdef PENN_BUGS
        if (HAS_BUG(r->host, forget_requests)) {
            state_forget_requests(r->state);
        }
#endif
        state_apply(r->state, e->name, slice_make(e->payload, e->len),
                    payload_position(e), &result);
        lead_on_applied(r, seq, &result, fx);
        if (seq == r->compare.seq) {
            compare_on_applied(r, fx);
        }
    }
    if (now_us != 0 && r->committed > r->logged_commit &&
        r->log_commit_us == 0) {
        r->log_commit_us = next_multiple(now_us, LOG_COMMIT_US);
    }
}

/* Notes the committed seq in the log once writing has paused, so that a
 * restart may serve what it knows (R12 e). */
static void note_commit(struct replica_core *r, int64_t now_us,
                        struct effects *fx)
{
    if (r->log_commit_us == 0 || now_us < r->log_commit_us) {
        return;
    }
    r->log_commit_us = 0;
    if (r->committed == r->logged_commit) {
        return;
    }
    r->logged_commit = r->committed;
    struct effect *x = fx_add(fx, FX_APPEND);
    x->ordinal = r->next_ordinal++;
    x->record = (struct wal_record){
        .kind = WAL_COMMIT, .tablet = r->tablet, .seq = r->committed};
}

/* ---- events ---- */

static void on_synced(struct replica_core *r, const struct event *e,
                      struct effects *fx)
{
    if (e->u.ordinal <= r->synced_ordinal) {
        return;
    }
    r->synced_ordinal = e->u.ordinal;
    log_on_synced(r);
    epoch_on_renewed(r);
    if (r->phase == PHASE_ENTERING) {
        epoch_on_synced(r, e->now_us, fx);
    }
    if (r->phase == PHASE_FOLLOWING) {
        follow_on_synced(r, e->now_us, fx);
    } else if (r->role == REPLICA_PRIMARY) {
        lead_advance(r, e->now_us, fx);
    }
}

/* Epoch and tablet of a message between replicas; false if it is none. */
static bool message_epoch(const struct wire_msg *m, uint64_t *epoch)
{
    switch ((int)m->type) {
#define CASE(NAME, msg)                                                        \
    case MSG_##NAME:                                                           \
        *epoch = m->u.msg.epoch;                                               \
        return true;
        CASE(PREPARE, prepare)
        CASE(COMMITTED, committed)
        CASE(PREPARED, prepared)
        CASE(MISMATCH, mismatch)
        CASE(TAIL_ASK, tail_ask)
        CASE(TAIL, tail)
        CASE(CUT, cut)
        CASE(CUT_DONE, cut_done)
        CASE(SNAPSHOT_NEEDED, snapshot_needed)
        CASE(DIGEST_WANT, digest_want)
        CASE(DIGEST_AT, digest_at)
        CASE(DIGEST_WRONG, digest_wrong)
#undef CASE
    default:
        return false;
    }
}

/* A peer's configuration is entered only if it can be one and makes the very
 * process that sends it primary: no other has a reason to send it, and none
 * makes us primary but the coordinator (R1, R12). False: refused. */
static bool take_config_of_peer(struct replica_core *r, const struct event *e,
                                struct effects *fx)
{
    const struct tablet_config *c = &e->u.message.m->u.tail_ask.config;
    enum status st = ST_DENIED;
    if (replica_equal(c->primary, e->u.message.from) &&
        incarnation_equal(c->primary_incarnation, e->u.message.incarnation)) {
        st = epoch_on_config(r, c, fx);
    }
    if (st != ST_OK) {
        log_warn(r->host->log, "replica", "configuration-refused",
                 "tablet=%" PRIu32 " epoch=%" PRIu64 " from=%" PRIu32
                 " status=%s",
                 r->tablet, c->epoch, e->u.message.from.node, status_name(st));
    }
    return st == ST_OK;
}

/* R3: a message of an older epoch is refused with ours; one of a newer epoch
 * makes us fetch that configuration first. */
static void on_message(struct replica_core *r, const struct event *e,
                       struct effects *fx)
{
    const struct wire_msg *m = e->u.message.m;
    uint64_t epoch;
    if (m->type == MSG_STALE) {
        if (m->u.stale.epoch > r->config.epoch &&
            m->u.stale.epoch > r->staged.epoch) {
            fx_add(fx, FX_WANT_MAP)->epoch = m->u.stale.epoch;
        }
        return;
    }
    if (!message_epoch(m, &epoch)) {
        return;
    }
    uint64_t ours =
        r->phase == PHASE_ENTERING ? r->staged.epoch : r->config.epoch;
    if (m->type == MSG_TAIL_ASK && epoch > ours &&
        m->u.tail_ask.config.epoch == epoch) {
        if (!take_config_of_peer(r, e, fx)) {
            return;
        }
        ours = epoch;
    }
    if (epoch > ours) {
        fx_add(fx, FX_WANT_MAP)->epoch = epoch;
        return;
    }
    if (epoch < ours && !HAS_BUG(r->host, no_epoch_check)) {
        if (r->phase != PHASE_ENTERING) { /* R3: answers only what is durable */
            fx_send(fx, e->u.message.from, MSG_STALE)->u.stale =
                (struct msg_stale){r->tablet, ours};
        }
        return;
    }
    if (r->phase == PHASE_ENTERING) {
        if (m->type == MSG_TAIL_ASK) {
            r->ask = m->u.tail_ask;
            r->ask.config = (struct tablet_config){0};
            r->ask_waits = true;
        }
        return;
    }
    if (r->role == REPLICA_PRIMARY) {
        peers_on_message(r, e, fx);
    } else if (r->phase == PHASE_FOLLOWING) {
        follow_on_message(r, e, fx);
    }
}

static void on_tick(struct replica_core *r, int64_t now_us, struct effects *fx)
{
    r->ticked_us = now_us;
    note_commit(r, now_us, fx);
    if (r->role == REPLICA_PRIMARY && r->phase != PHASE_ENTERING) {
        lead_on_tick(r, now_us, fx);
    }
}

static void on_updown(struct replica_core *r, const struct event *e,
                      struct effects *fx)
{
    if (r->phase == PHASE_FOLLOWING && e->kind == EVENT_PEER_UP) {
        follow_on_up(r, e->u.peer, fx);
    } else if (r->role == REPLICA_PRIMARY && r->phase != PHASE_ENTERING) {
        peers_on_updown(r, e, fx);
    }
}

static void dispatch(struct replica_core *r, const struct event *e,
                     struct effects *fx)
{
    switch (e->kind) {
    case EVENT_CONFIG:
        if (epoch_on_config(r, e->u.config, fx) != ST_OK) {
            log_error(r->host->log, "replica", "configuration-refused",
                      "tablet=%" PRIu32 " epoch=%" PRIu64, r->tablet,
                      e->u.config->epoch);
        }
        if (HAS_BUG(r->host, epoch_not_durable) && r->phase == PHASE_ENTERING) {
            epoch_on_synced(r, e->now_us, fx);
        }
        return;
    case EVENT_SYNCED:
        on_synced(r, e, fx);
        return;
    case EVENT_MESSAGE:
        on_message(r, e, fx);
        return;
    case EVENT_COMMAND:
        lead_on_command(r, e, fx);
        return;
    case EVENT_PEER_UP:
    case EVENT_PEER_DOWN:
        on_updown(r, e, fx);
        return;
    case EVENT_SNAPSHOT:
        follow_install(r, e, fx);
        return;
    case EVENT_PINNED:
        r->pinned_seq = e->u.pinned.seq;
        return;
    case EVENT_COORD_LEASE:
        if (e->u.coord_lease.epoch == r->config.epoch &&
            e->u.coord_lease.end_us > r->coord_lease_us) {
            r->coord_lease_us = e->u.coord_lease.end_us;
        }
        return;
    case EVENT_BLOB:
        if (r->role == REPLICA_PRIMARY && r->phase != PHASE_ENTERING) {
            peers_on_blob(r, e);
        }
        return;
    case EVENT_BLOBS_HERE:
        follow_on_blobs(r, e->now_us, fx);
        return;
    case EVENT_TICK:
        on_tick(r, e->now_us, fx);
        return;
    case EVENT_CONDEMN:
        damage_condemn(r, e->u.damage, fx);
        return;
    case EVENT_COMPARE:
        compare_begin(r, e->now_us, fx);
        return;
    case EVENT_WALKED:
        compare_on_walked(r, e->u.sound, fx);
        return;
    case EVENT_RENEW:
        epoch_renew(r, e->u.voids, fx);
        return;
    }
}

void replica_step(struct replica_core *r, const struct event *e,
                  struct effects *fx)
{
    assert(r->recovered);
    log_trim_payloads(r);
    dispatch(r, e, fx);
    compare_settle(r, e->now_us, fx);
}

int64_t replica_next_us(const struct replica_core *r)
{
    int64_t next = r->log_commit_us == 0 ? INT64_MAX : r->log_commit_us;
    if (r->role == REPLICA_PRIMARY && r->phase != PHASE_ENTERING) {
        int64_t lead = lead_next_us(r);
        next = lead < next ? lead : next;
    }
    return next;
}

/* ---- what others ask ---- */

bool replica_has_entry(const struct replica_core *r, struct name name)
{
    return follow_holds(r, name);
}

struct state *replica_state(const struct replica_core *r)
{
    return r->state;
}

const struct tablet_config *replica_config(const struct replica_core *r)
{
    return &r->config;
}

enum replica_role replica_role_of(const struct replica_core *r)
{
    return r->role;
}

bool replica_is_open(const struct replica_core *r)
{
    return r->phase == PHASE_OPEN;
}

bool replica_is_damaged(const struct replica_core *r)
{
    return r->damaged;
}

void replica_report(const struct replica_core *r, struct tablet_report *out)
{
    struct state_counts counts;
    state_count(r->state, &counts);
    *out = (struct tablet_report){
        .tablet = r->tablet,
        .epoch = r->config.epoch,
        .role = (uint8_t)r->role,
        .last = log_last(r),
        .cells = counts.cells,
        .bytes = counts.bytes,
    };
    (void)log_name(r, r->committed, &out->committed);
    /* R16: only what is on disk is vouched for. */
    (void)log_name(r, r->tail.synced_seq, &out->last);
    unsigned flags = REPORT_RECOVERED;
    flags |= r->phase == PHASE_OPEN ? REPORT_OPEN : 0;
    flags |= r->phase == PHASE_READONLY ? REPORT_READONLY : 0;
    flags |= r->damaged ? REPORT_DAMAGED : 0;
    flags |= r->host->full ? REPORT_FULL : 0;
    out->flags = (uint8_t)flags;
}

void replica_figures(const struct replica_core *r, struct replica_figures *out)
{
    uint64_t last = log_last(r).seq;
    *out = (struct replica_figures){
        .held = r->held_count,
        .uncommitted = last > r->committed ? last - r->committed : 0,
        .in_sync = r->config.in_sync_count,
    };
}

uint64_t replica_awaited(const struct replica_core *r)
{
    bool waits = r->phase == PHASE_OPEN && r->tail.synced_seq > r->committed;
    return waits ? r->tail.synced_seq - r->committed : 0;
}

void replica_placed(struct replica_core *r, uint64_t ordinal, uint64_t position)
{
    if (r->phase == PHASE_ENTERING && ordinal == r->staged_ordinal) {
        r->staged_position = position;
        return;
    }
    if (r->renew_ordinal != 0 && ordinal == r->renew_ordinal) {
        r->renew_position = position;
        return;
    }
    /* Records are placed in the order of their ordinals: the newest entries
     * are the ones without a place. */
    for (uint64_t seq = log_last(r).seq; seq > r->tail.base.seq; seq--) {
        struct entry *e = log_entry(r, seq);
        if (e->ordinal == ordinal) {
            e->position = position;
            return;
        }
        if (e->ordinal < ordinal) {
            return;
        }
    }
}

uint64_t replica_checkpointed(struct replica_core *r, struct name name,
                              uint64_t epoch)
{
    uint64_t position = UINT64_MAX;
    uint64_t applied = state_applied(r->state).seq;
    /* The checkpoint may be of a snapshot that was not installed, and beyond
     * this state: what will be applied yet finds its values in the log. */
    uint64_t has = name.seq < applied ? name.seq : applied;
    log_forget_names(r, has);
    const struct entry *e = log_entry(r, has + 1);
    if (e != NULL) {
        position = e->position;
    }
    if (r->config.epoch > epoch && r->epoch_position < position) {
        position = r->epoch_position;
    }
    if (r->phase == PHASE_ENTERING && r->staged_position < position) {
        position = r->staged_position;
    }
    return position;
}
