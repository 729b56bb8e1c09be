/*
 * A primary's dialogue with each of its peers (R10, R11, R12 d, R17).
 *
 *   ASKING    the peer's names are asked for, from the end downwards, until
 *             one agrees with ours: the common prefix (R13)
 *   CUTTING   what the peer has beyond it is cut there
 *   STREAMING what it lacks is sent, and whatever comes after
 *   SNAPSHOT  a learner lacks more than is kept here, in memory or in the log:
 *             it fetches a snapshot and comes back with MISMATCH
 *
 * Messages may be lost, late or doubled: a dialogue has a number, and answers
 * to an older one are ignored. On one connection nothing is lost, so a dialogue
 * is begun anew when another one opens; but a peer may not have been able to
 * answer, as while it fetches a snapshot, so a step that is not answered is
 * repeated, under the same number: the answer to the first asking counts
 * whenever it comes, and a round trip may take as long as it likes. A member or
 * shadow that makes no progress for `stall` is reported, a learner begun anew.
 * A learner that has all becomes a shadow: commits and leases wait for it from
 * then on, and the coordinator is asked to add it; once asked, only a new epoch
 * ends that (R10). An ADD in vain costs everybody an epoch, so none is sent for
 * whom the map shows as down or disabled: who is cut off from the coordinator
 * alone stays a learner in step.
 *
 * Only the process that the coordinator has accepted answers for a replica
 * (R5): a clone of its disk, or a process that has restarted and has no part
 * in this epoch (R4), may be at the other end of the connection.
 */
#include "storage/replica_impl.h"

#include <stdio.h>
#include <string.h>

static struct peer *find_peer(struct replica_core *r, struct replica id)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        if (replica_equal(r->peers[i].id, id)) {
            return &r->peers[i];
        }
    }
    return NULL;
}

static void ask_tail(struct replica_core *r, struct peer *p, int64_t now_us,
                     struct effects *fx)
{
    p->spoke_us = now_us;
    fx_send(fx, p->id, MSG_TAIL_ASK)->u.tail_ask = (struct msg_tail_ask){
        .tablet = r->tablet,
        .epoch = r->config.epoch,
        .dialogue = p->dialogue,
        .before = p->ask_before,
        .config = wire_copy_tablet_config(&fx->arena, &r->config),
    };
}

static void begin_dialogue(struct replica_core *r, struct peer *p,
                           int64_t now_us, struct effects *fx)
{
    p->phase = PEER_ASKING;
    p->dialogue = ++r->dialogues;
    p->ask_before = UINT64_MAX;
    p->asked_us = now_us;
    ask_tail(r, p, now_us, fx);
}

static int64_t within(int64_t low, int64_t us, int64_t high)
{
    return us < low ? low : us > high ? high : us;
}

/* A step was answered: the next one is given twice as long as it took. Who
 * took longer than `stall` was not far away but unable to answer (R11). */
static void learn_patience(const struct replica_core *r, struct peer *p,
                           int64_t now_us)
{
    p->patience_us =
        within(ASK_AGAIN_US, 2 * (now_us - p->asked_us), 2 * r->host->stall_us);
    p->asked_us = now_us;
}

/* Tells the lease table whom a lease needs (R9). */
static void track(struct replica_core *r, struct effects *fx)
{
    struct beacon_peer peers[PEERS_MAX];
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];
        peers[i] = (struct beacon_peer){p->id, p->incarnation,
                                        p->kind != PEER_LEARNER};
    }
    beacon_table_track(r->host->beacons, r->tablet, r->config.epoch, peers,
                       r->peer_count);
    fx_add(fx, FX_KICK);
}

/* What the newest map says of ID's process; NULL if it has another store
 * there. */
static const struct node_info *info_of(const struct replica_core *r,
                                       struct replica id)
{
    const struct msg_map *m = r->host->map;
    for (uint32_t i = 0; m != NULL && i < m->nodes_count; i++) {
        const struct node_info *n = &m->nodes[i];
        if (n->role == ROLE_STORAGE && n->node == id.node &&
            id128_equal(n->store, id.store)) {
            return n;
        }
    }
    return NULL;
}

/* The process that the coordinator accepted for ID. The map that brought this
 * epoch has it, for a new process gets a new epoch (R11). Counter 0, which no
 * process has, if there is none. */
static struct incarnation accepted(const struct replica_core *r,
                                   struct replica id)
{
    const struct node_info *n = info_of(r, id);
    return n != NULL ? n->incarnation : (struct incarnation){0};
}

/* The coordinator would not add ID: it does not hear of it, or is told to do
 * without it. */
static bool unwelcome(const struct replica_core *r, struct replica id)
{
    const struct node_info *n = info_of(r, id);
    return n != NULL && (n->state == NODE_DOWN || n->state == NODE_DISABLED);
}

static void add_peers(struct replica_core *r, const struct replica *ids,
                      uint32_t count, enum peer_kind kind)
{
    for (uint32_t i = 0; i < count; i++) {
        if (replica_equal(ids[i], r->host->self) ||
            find_peer(r, ids[i]) != NULL) {
            continue;
        }
        assert(r->peer_count < PEERS_MAX);
        r->peers[r->peer_count++] = (struct peer){
            .id = ids[i], .incarnation = accepted(r, ids[i]), .kind = kind};
    }
}

/* The coordinator answers every ADD with an epoch (R10), so one that it does
 * not grant must not be asked for again at once: each would cost everybody
 * another epoch. OLD is P in the epoch before. */
static void remember_refusal(struct peer *p, const struct peer *old,
                             int64_t now_us)
{
    p->refusals = old->refusals;
    p->not_before_us = old->not_before_us;
    if (old->kind == PEER_SHADOW && old->change_asked) {
        int64_t wait = REFUSED_ADD_US << (p->refusals < 6 ? p->refusals : 6);
        p->refusals++;
        p->not_before_us = now_us + wait;
    }
}

void peers_begin(struct replica_core *r, int64_t now_us, struct effects *fx)
{
    const struct tablet_config *c = &r->config;
    assert(replica_in(c->in_sync, c->in_sync_count, r->host->self)); /* R2 */
    struct peer old[PEERS_MAX];
    uint32_t old_count = r->peer_count;
    memcpy(old, r->peers, sizeof(old));
    r->peer_count = 0;
    add_peers(r, c->in_sync, c->in_sync_count, PEER_MEMBER);
    add_peers(r, c->learners, c->learners_count, PEER_LEARNER);
    for (uint32_t i = 0; i < old_count; i++) {
        struct peer *p = find_peer(r, old[i].id);
        if (p != NULL && p->kind == PEER_LEARNER) {
            remember_refusal(p, &old[i], now_us);
        }
    }
    track(r, fx);
    for (uint32_t i = 0; i < r->peer_count; i++) {
        r->peers[i].progress_us = now_us;
        r->peers[i].patience_us = ASK_AGAIN_US;
        begin_dialogue(r, &r->peers[i], now_us, fx);
    }
}

/* ---- requests to the coordinator (R10, R11) ---- */

static void ask_change(struct replica_core *r, struct peer *p,
                       enum change_kind kind, const char *reason,
                       int64_t now_us, struct effects *fx)
{
    if (p->change_asked && now_us - p->change_us < REPEAT_CHANGE_US) {
        return;
    }
    if (!p->change_asked) {
        log_info(r->host->log, "replica", "change-asked",
                 "tablet=%" PRIu32 " epoch=%" PRIu64 " kind=%s node=%" PRIu32
                 " reason=\"%s\"",
                 r->tablet, r->config.epoch,
                 kind == CHANGE_ADD      ? "add"
                 : kind == CHANGE_REMOVE ? "remove"
                                         : "leave",
                 p->id.node, reason);
    }
    p->change_asked = true;
    p->change_us = now_us;
    struct effect *x = fx_add(fx, FX_CHANGE);
    x->change = (struct msg_change){
        .tablet = r->tablet,
        .epoch = r->config.epoch,
        .kind = (uint8_t)kind,
        .subject = p->id,
        .reason = slice_of(reason), /* literals only */
    };
}

static void ask_removal(struct replica_core *r, struct peer *p,
                        const char *reason, int64_t now_us, struct effects *fx)
{
    if (HAS_BUG(r->host, drop_before_durable)) {
        p->kind = PEER_LEARNER;
        track(r, fx);
        lead_advance(r, now_us, fx);
    }
    ask_change(r, p, CHANGE_REMOVE, reason, now_us, fx);
}

/* R10: from R12 (d) on; all prepared, or under steady load all committed. One
 * that has no room for more would only be in the way. */
static void consider_admission(struct replica_core *r, struct peer *p,
                               int64_t now_us, struct effects *fx)
{
    if (p->kind != PEER_LEARNER || !p->joined || r->phase == PHASE_GATHERING ||
        now_us < p->not_before_us || unwelcome(r, p->id)) {
        return;
    }
    bool level = p->acked >= log_last(r).seq ||
                 (r->phase == PHASE_OPEN && p->acked >= r->committed);
    bool leased = beacon_table_peer_end(r->host->beacons, r->tablet,
                                        r->config.epoch, p->id) > now_us;
    bool heard = r->host->coordinator_us != 0 &&
                 now_us - r->host->coordinator_us < COORDINATOR_FRESH_US;
    bool full = beacon_table_peer_full(r->host->beacons, r->tablet,
                                       r->config.epoch, p->id);
    if (level && leased && heard && !full) {
        p->kind = PEER_SHADOW;
        p->progress_us = now_us;
        track(r, fx);
        ask_change(r, p, CHANGE_ADD, "caught up", now_us, fx);
    }
}

/* ---- streaming ---- */

/* Nobody waits for a learner; one whose disk is full is left alone. */
static bool rests(const struct replica_core *r, const struct peer *p)
{
    return p->kind == PEER_LEARNER &&
           beacon_table_peer_full(r->host->beacons, r->tablet, r->config.epoch,
                                  p->id);
}

/* Whether what follows SEQ can be sent to P: from memory, or to a learner, for
 * whom nobody waits, from the log, which has it as long as its name is known
 * (R17). A member of I holds all that is committed, and the rest is in memory.
 */
static bool keeps(const struct replica_core *r, const struct peer *p,
                  uint64_t seq)
{
    bool in_log = p->kind == PEER_LEARNER && !p->unreadable &&
                  r->host->read != NULL && seq >= r->tail.base.seq;
    return seq + 1 >= r->tail.payload_from || in_log;
}

/* False: it cannot be had. */
static bool payload_of(struct replica_core *r, struct peer *p,
                       const struct entry *e, struct effects *fx,
                       struct slice *out)
{
    if (e->payload != NULL || e->len == 0) {
        *out = slice_make(e->payload, e->len);
        return true;
    }
    if (!keeps(r, p, e->name.seq - 1)) {
        return false;
    }
    enum status st = r->host->read(r->host->ctx, r->tablet, e->position,
                                   e->name, &fx->arena, out);
    if (st != ST_OK) {
        log_error(r->host->log, "replica", "entry-unreadable",
                  "tablet=%" PRIu32 " seq=%" PRIu64 " position=%" PRIu64
                  " status=%s action=send_snapshot",
                  r->tablet, e->name.seq, e->position, status_name(st));
        p->unreadable = true;
    }
    return st == ST_OK;
}

/* PAYLOAD NULL: only for P to match the name. */
static void send_entry(struct replica_core *r, struct peer *p,
                       const struct entry *e, const struct slice *payload,
                       struct effects *fx)
{
    struct name previous = {0, 0};
    (void)log_name(r, e->name.seq - 1, &previous);
    fx_send(fx, p->id, MSG_PREPARE)->u.prepare = (struct msg_prepare){
        .tablet = r->tablet,
        .epoch = r->config.epoch,
        .entry = e->name,
        .previous = previous,
        .committed = r->committed,
        .only_match = payload == NULL,
        .payload = payload == NULL ? slice_make(NULL, 0) : *payload,
    };
    p->told = r->committed;
}

static uint64_t entry_bytes(const struct entry *e)
{
    return e == NULL ? 0 : e->len + 128u;
}

/* P has acknowledged up to SEQ. Names that are forgotten make the count too
 * great until nothing is under way. */
static void landed(struct replica_core *r, struct peer *p, uint64_t seq)
{
    uint64_t from = p->acked > p->common.seq ? p->acked : p->common.seq;
    for (uint64_t s = from + 1; s <= seq && s < p->next; s++) {
        uint64_t bytes = entry_bytes(log_entry(r, s));
        p->flying -= bytes < p->flying ? bytes : p->flying;
    }
    p->acked = seq;
    if (p->next <= p->acked + 1) {
        p->next = p->acked + 1;
        p->flying = 0;
    }
}

static void pump(struct replica_core *r, struct peer *p, int64_t now_us,
                 struct effects *fx)
{
    uint64_t last = log_last(r).seq;
    if (p->phase != PEER_STREAMING || rests(r, p)) {
        return;
    }
    if (p->acked + 1 >= p->next && p->next <= last) {
        p->progress_us = now_us; /* nothing was owed until now */
    }
    while (p->next <= last &&
           p->flying <
               (p->next < r->tail.payload_from ? LOG_WINDOW : PEER_WINDOW)) {
        const struct entry *e = log_entry(r, p->next);
        struct slice payload;
        if (e == NULL || !payload_of(r, p, e, fx, &payload)) {
            begin_dialogue(r, p, now_us, fx); /* fell behind what is kept */
            return;
        }
        send_entry(r, p, e, &payload, fx);
        p->told_us = now_us;
        p->flying += entry_bytes(e);
        p->next++;
    }
}

void peers_pump(struct replica_core *r, int64_t now_us, struct effects *fx)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        pump(r, &r->peers[i], now_us, fx);
    }
}

/* ---- the dialogue ---- */

/* Greatest seq at which one of RUNS names what our log names; 0 if none. */
static uint64_t common_in_runs(const struct replica_core *r,
                               const struct msg_tail *m)
{
    uint64_t last = log_last(r).seq;
    for (uint32_t i = 0; i < m->runs_count; i++) {
        const struct run *run = &m->runs[i];
        uint64_t s = run->last < last ? run->last : last;
        for (; s >= run->first && s > 0; s--) {
            struct name ours;
            if (!log_name(r, s, &ours)) {
                break; /* below our base: committed, see the floor */
            }
            if (ours.epoch == run->epoch) {
                return s;
            }
            if (ours.epoch < run->epoch) {
                break; /* epochs never rise downwards */
            }
        }
    }
    struct name ours;
    if (m->base.seq > 0 && log_name(r, m->base.seq, &ours) &&
        name_equal(ours, m->base)) {
        return m->base.seq;
    }
    return 0;
}

static void start_streaming(struct replica_core *r, struct peer *p,
                            int64_t now_us, struct effects *fx)
{
    if (!keeps(r, p, p->common.seq)) {
        if (p->kind == PEER_LEARNER) {
            p->phase = PEER_SNAPSHOT;
            p->spoke_us = now_us;
            if (rests(r, p)) {
                return;
            }
            fx_send(fx, p->id, MSG_SNAPSHOT_NEEDED)->u.snapshot_needed =
                (struct msg_snapshot_needed){r->tablet, r->config.epoch};
        } else {
            /* A member of I holds all that is committed, and what is not is
             * kept here: this one lost something (R16). */
            log_error(r->host->log, "replica", "member-lacks-committed",
                      "tablet=%" PRIu32 " node=%" PRIu32 " common=%" PRIu64,
                      r->tablet, p->id.node, p->common.seq);
            ask_removal(r, p, "lacks committed entries", now_us, fx);
        }
        return;
    }
    p->phase = PEER_STREAMING;
    p->joined = true;
    p->next = p->common.seq + 1;
    p->flying = 0;
    p->spoke_us = now_us;
    const struct entry *e = log_entry(r, p->common.seq);
    struct entry base = {.name = p->common};
    if (p->common.seq > 0) {
        /* Lets the peer raise its matched place and acknowledge. */
        send_entry(r, p, e != NULL ? e : &base, NULL, fx);
    }
    pump(r, p, now_us, fx);
    lead_advance(r, now_us, fx);
}

static void send_cut(struct replica_core *r, struct peer *p, int64_t now_us,
                     struct effects *fx)
{
    p->spoke_us = now_us;
    fx_send(fx, p->id, MSG_CUT)->u.cut =
        (struct msg_cut){r->tablet, r->config.epoch, p->dialogue, p->common};
}

/* A peer knows more committed than this log holds: this replica must not
 * lead (R14), nor may it have anyone removed. It counts as damaged. */
static void step_back(struct replica_core *r, struct peer *p,
                      uint64_t committed, int64_t now_us, struct effects *fx)
{
    log_error(r->host->log, "replica", "peer-ahead",
              "tablet=%" PRIu32 " node=%" PRIu32 " committed=%" PRIu64
              " last=%" PRIu64,
              r->tablet, p->id.node, committed, log_last(r).seq);
    r->damaged = true;
    struct peer self = {.id = r->host->self};
    ask_change(r, &self, CHANGE_LEAVE, "lacks committed entries", now_us, fx);
}

/* False for runs that are not all below what was asked for: of an earlier
 * question of this dialogue, or of a peer that would be asked without end. */
static bool goes_down(const struct peer *p, const struct msg_tail *m)
{
    uint64_t above = p->ask_before;
    for (uint32_t i = 0; i < m->runs_count; i++) {
        const struct run *run = &m->runs[i];
        if (run->first > run->last || run->last >= above) {
            return false;
        }
        above = run->first;
    }
    return true;
}

static void on_tail(struct replica_core *r, struct peer *p,
                    const struct msg_tail *m, int64_t now_us,
                    struct effects *fx)
{
    if (p->phase != PEER_ASKING || m->dialogue != p->dialogue ||
        !goes_down(p, m)) {
        return;
    }
    learn_patience(r, p, now_us);
    uint64_t floor = m->committed < r->committed ? m->committed : r->committed;
    uint64_t common = common_in_runs(r, m);
    if (common == 0 && m->more && m->runs_count > 0) {
        p->ask_before = m->runs[m->runs_count - 1].first;
        ask_tail(r, p, now_us, fx);
        return;
    }
    if (common < floor) {
        common = floor; /* committed entries are the same everywhere (I2) */
    }
    if (HAS_BUG(r->host, cut_to_committed)) {
        common = floor;
    }
    if (m->committed > log_last(r).seq) {
        step_back(r, p, m->committed, now_us, fx);
        return;
    }
    p->common = (struct name){0, common};
    if (!log_name(r, common, &p->common)) {
        /* Below our base; only a learner can be that far behind. */
        p->common.seq = common;
        start_streaming(r, p, now_us, fx);
        return;
    }
    bool fetches = p->kind == PEER_LEARNER && !keeps(r, p, common);
    if (m->last.seq > common && !fetches) {
        p->phase = PEER_CUTTING;
        send_cut(r, p, now_us, fx);
        return;
    }
    start_streaming(r, p, now_us, fx);
}

static void on_cut_done(struct replica_core *r, struct peer *p,
                        const struct msg_cut_done *m, int64_t now_us,
                        struct effects *fx)
{
    if (p->phase == PEER_CUTTING && m->dialogue == p->dialogue &&
        name_equal(m->last, p->common)) {
        learn_patience(r, p, now_us);
        start_streaming(r, p, now_us, fx);
    }
}

static void on_prepared(struct replica_core *r, struct peer *p,
                        const struct msg_prepared *m, int64_t now_us,
                        struct effects *fx)
{
    struct name ours;
    if (m->name.seq > log_last(r).seq) {
        return;
    }
    /* R6: counted only if this log has that name; below the base all is
     * committed and the same. */
    if (m->name.seq > r->tail.base.seq &&
        (!log_name(r, m->name.seq, &ours) || !name_equal(ours, m->name))) {
        return;
    }
    if (m->name.seq > p->acked) {
        landed(r, p, m->name.seq);
        p->progress_us = now_us;
    }
    consider_admission(r, p, now_us, fx);
    pump(r, p, now_us, fx);
    lead_advance(r, now_us, fx);
}

static void on_mismatch(struct replica_core *r, struct peer *p, int64_t now_us,
                        struct effects *fx)
{
    if (p->phase == PEER_STREAMING || p->phase == PEER_SNAPSHOT) {
        begin_dialogue(r, p, now_us, fx);
    } else if (p->phase == PEER_ASKING &&
               now_us - p->spoke_us >= ASK_AGAIN_US) {
        ask_tail(r, p, now_us, fx); /* it may not have answered until now */
    }
}

void peers_on_message(struct replica_core *r, const struct event *e,
                      struct effects *fx)
{
    const struct wire_msg *m = e->u.message.m;
    struct peer *p = find_peer(r, e->u.message.from);
    if (p == NULL || p->incarnation.counter == 0 ||
        !incarnation_equal(p->incarnation, e->u.message.incarnation)) {
        return; /* R5 */
    }
    switch ((int)m->type) {
    case MSG_PREPARED:
        on_prepared(r, p, &m->u.prepared, e->now_us, fx);
        return;
    case MSG_MISMATCH:
        on_mismatch(r, p, e->now_us, fx);
        return;
    case MSG_TAIL:
        on_tail(r, p, &m->u.tail, e->now_us, fx);
        return;
    case MSG_CUT_DONE:
        on_cut_done(r, p, &m->u.cut_done, e->now_us, fx);
        return;
    case MSG_DIGEST_AT:
        compare_on_digest(r, p, &m->u.digest_at);
        return;
    default:
        return;
    }
}

void peers_on_updown(struct replica_core *r, const struct event *e,
                     struct effects *fx)
{
    struct peer *p = find_peer(r, e->u.peer);
    if (p == NULL) {
        return;
    }
    if (e->kind == EVENT_PEER_UP) {
        p->patience_us = ASK_AGAIN_US;
        begin_dialogue(r, p, e->now_us, fx);
    } else if (p->kind != PEER_LEARNER) {
        ask_removal(r, p, "connection lost", e->now_us, fx);
    }
}

/* ---- blobs (R6) ---- */

/* R11: bulk bytes are progress. */
void peers_on_blob(struct replica_core *r, const struct event *e)
{
    struct peer *p = find_peer(r, e->u.peer);
    if (p != NULL) {
        p->progress_us = e->now_us;
    }
}

static uint32_t list_streams(const struct replica_core *r, bool learners,
                             struct replica *out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];
        if (p->phase == PEER_STREAMING &&
            (p->kind == PEER_LEARNER) == learners && !rests(r, p)) {
            out[count++] = p->id;
        }
    }
    return count;
}

uint32_t replica_streams(const struct replica_core *r,
                         struct replica out[REPLICA_PEERS_MAX],
                         uint32_t *waited)
{
    *waited = 0;
    if (r->role != REPLICA_PRIMARY || r->phase == PHASE_ENTERING) {
        return 0;
    }
    *waited = list_streams(r, false, out);
    return *waited + list_streams(r, true, out + *waited);
}

/* ---- time ---- */

/* True if the peer owes something: a step of the dialogue, or acks. */
static bool owes(const struct replica_core *r, const struct peer *p)
{
    return p->phase != PEER_STREAMING || p->acked < log_last(r).seq;
}

/* Sends the step again that is not answered for too long. Entries that are
 * not acknowledged are not sent again themselves: where the peer's log ends is
 * asked for. */
static void repeat_step(struct replica_core *r, struct peer *p, int64_t now_us,
                        struct effects *fx)
{
    int64_t since = p->spoke_us, patience = p->patience_us;
    if (p->phase == PEER_SNAPSHOT && patience < r->host->stall_us) {
        patience = r->host->stall_us;
    } else if (p->phase == PEER_STREAMING) {
        patience = 2 * patience;
        since = p->progress_us > since ? p->progress_us : since;
    }
    if (now_us - since < patience) {
        return;
    }
    p->patience_us = within(0, 2 * p->patience_us, ASK_AGAIN_MOST_US);
    switch (p->phase) {
    case PEER_ASKING:
        ask_tail(r, p, now_us, fx);
        return;
    case PEER_CUTTING:
        send_cut(r, p, now_us, fx);
        return;
    case PEER_STREAMING:
    case PEER_SNAPSHOT:
        begin_dialogue(r, p, now_us, fx);
        return;
    }
}

/* Without the lease of a member nobody reads (R9), and where nothing is
 * written no acknowledgement is owed that would show it: so one that gives
 * none for `stall` is reported like one that owes (R11). Counted from when it
 * is seen, not from the lease's end: who stood still sees all leases over. */
static void watch_lease(struct replica_core *r, struct peer *p, int64_t now_us,
                        struct effects *fx)
{
    int64_t end = beacon_table_peer_end(r->host->beacons, r->tablet,
                                        r->config.epoch, p->id);
    if (p->kind == PEER_LEARNER || end > now_us) {
        p->unleased_us = 0;
    } else if (p->unleased_us == 0) {
        p->unleased_us = now_us;
    } else if (now_us - p->unleased_us >= r->host->stall_us) {
        ask_removal(r, p, "no lease", now_us, fx);
    }
}

static void tick_peer(struct replica_core *r, struct peer *p, int64_t now_us,
                      struct effects *fx)
{
    if (!owes(r, p)) {
        consider_admission(r, p, now_us, fx);
    } else if (p->kind != PEER_LEARNER &&
               now_us - p->progress_us >= r->host->stall_us) {
        ask_removal(r, p, "stalled", now_us, fx); /* R11 */
    }
    watch_lease(r, p, now_us, fx);
    if (p->kind == PEER_SHADOW) {
        ask_change(r, p, CHANGE_ADD, "caught up", now_us, fx);
    }
    if (owes(r, p)) {
        repeat_step(r, p, now_us, fx);
    }
}

void peers_on_tick(struct replica_core *r, int64_t now_us, struct effects *fx)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        tick_peer(r, &r->peers[i], now_us, fx);
    }
}

/* Who streams and gets on need not be looked at. */
static int64_t peer_next_us(const struct replica_core *r, const struct peer *p)
{
    int64_t since = r->ticked_us;
    if (p->kind == PEER_MEMBER && p->phase == PEER_STREAMING &&
        !p->change_asked) {
        if (!owes(r, p)) {
            return INT64_MAX;
        }
        since = p->progress_us > since ? p->progress_us : since;
    }
    return next_multiple(since, PEER_TICK_US);
}

int64_t peers_next_us(const struct replica_core *r)
{
    int64_t next = r->peer_count > 0
                       ? next_multiple(r->ticked_us, LEASE_TICK_US)
                       : INT64_MAX;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        int64_t peer = peer_next_us(r, &r->peers[i]);
        next = peer < next ? peer : next;
    }
    return next;
}
