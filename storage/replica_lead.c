/*
 * A primary: taking commands, committing, answering (R6, R7, R12).
 *
 * Gathering: (c) the gate is a stretched lease after this replica's last echo
 * to another primary; (d) runs beside it, peer by peer (replica_peers.c): it
 * touches only logs, and what (c) protects, commits and reads, comes after
 * both. (e) When the gate is past and all of I has acknowledged what the log
 * held at the start, everything is committed, or, below min_insync, nothing
 * is and the tablet is read-only. Commands that come before (f) are held.
 *
 * An answer is owed for each command with a cookie: its result when its entry
 * is applied, or "unknown" when another epoch takes the primary's part away.
 * None is taken unless it is sure to find room on this disk, and no peer that
 * must have it says that its own is full: so what was taken can end.
 */
#include "storage/replica_impl.h"

#include <stdlib.h>
#include <string.h>

/* ---- owed answers ---- */

static void push_pending(struct replica_core *r, uint64_t seq, void *cookie)
{
    if (r->pending_count == r->pending_cap) {
        uint32_t cap = r->pending_cap == 0 ? 64 : r->pending_cap * 2;
        struct pending *ring = xcalloc(cap, sizeof(*ring));
        for (uint32_t i = 0; i < r->pending_count; i++) {
            ring[i] = r->pending[(r->pending_head + i) & (r->pending_cap - 1)];
        }
        free(r->pending);
        r->pending = ring;
        r->pending_cap = cap;
        r->pending_head = 0;
    }
    uint32_t at = (r->pending_head + r->pending_count) & (r->pending_cap - 1);
    r->pending[at] = (struct pending){seq, cookie};
    r->pending_count++;
}

static struct pending pop_pending(struct replica_core *r)
{
    struct pending p = r->pending[r->pending_head];
    r->pending_head = (r->pending_head + 1) & (r->pending_cap - 1);
    r->pending_count--;
    return p;
}

static void free_held(const struct replica_core *r, struct held *h)
{
    log_tell_blobs(r, buf_slice(&h->payload), -1);
    buf_free(&h->payload);
}

bool replica_take_cookie(struct replica_core *r, void **cookie)
{
    if (r->pending_count > 0) {
        *cookie = pop_pending(r).cookie;
        return true;
    }
    if (r->held_count > 0) {
        struct held *h = &r->held[--r->held_count];
        free_held(r, h);
        *cookie = h->cookie;
        return true;
    }
    return false;
}

static void reply(struct effects *fx, void *cookie, enum status s)
{
    struct effect *x = fx_add(fx, FX_REPLY);
    x->cookie = cookie;
    x->status = s;
}

void lead_on_applied(struct replica_core *r, uint64_t seq,
                     const struct applied *result, struct effects *fx)
{
    while (r->pending_count > 0 && r->pending[r->pending_head].seq <= seq) {
        struct pending p = pop_pending(r);
        assert(p.seq == seq);
        struct effect *x = fx_add(fx, FX_REPLY);
        x->cookie = p.cookie;
        x->status = ST_OK;
        x->result.r = result->r;
        memcpy(x->result.values, result->values,
               result->r.values_count * sizeof(result->values[0]));
    }
}

static void drop_held(struct replica_core *r, enum status why,
                      struct effects *fx)
{
    for (uint32_t i = 0; i < r->held_count; i++) {
        free_held(r, &r->held[i]);
        reply(fx, r->held[i].cookie, why);
    }
    r->held_count = 0;
    r->held_bytes = 0;
}

void lead_end(struct replica_core *r, struct effects *fx)
{
    /* R7: a deposed primary never says "refused" of what was pending. */
    while (r->pending_count > 0) {
        reply(fx, pop_pending(r).cookie, ST_UNKNOWN_OUTCOME);
    }
    drop_held(r, ST_NOT_PRIMARY, fx);
    r->peer_count = 0;
    r->tell_us = 0;
}

/* ---- commands ---- */

/* What settles an unknown outcome (R23) is small, and while nothing is
 * written it is what clients wait for: it takes of the reserve. So does what
 * deletes, as far as this disk and the others' have it: else a full disk could
 * never be emptied. */
static enum status room_for(struct replica_core *r, uint64_t bytes,
                            enum need need)
{
    const struct replica_host *h = r->host;
    enum disk_room least = need == NEED_FREES ? DISK_SPENT : DISK_FULL;
    if (need != NEED_SETTLES &&
        beacon_table_lacks_room(h->beacons, r->tablet, r->config.epoch,
                                least)) {
        return ST_NO_SPACE;
    }
    return h->room == NULL ? ST_OK : h->room(h->ctx, bytes, need);
}

static void append_command(struct replica_core *r, struct slice payload,
                           void *cookie, struct effects *fx)
{
    struct name n = {r->config.epoch, log_last(r).seq + 1};
    assert(r->role == REPLICA_PRIMARY && r->phase == PHASE_OPEN); /* I1 */
    log_append(r, n, payload, fx);
    push_pending(r, n.seq, cookie);
}

static void hold(struct replica_core *r, const struct event *e,
                 struct effects *fx)
{
    size_t len = e->u.command.payload.len;
    if (r->held_count == HELD_MAX || r->held_bytes + len > UNCOMMITTED_MAX) {
        reply(fx, e->u.command.cookie, ST_BUSY);
        return;
    }
    if (r->held_count == r->held_cap) {
        r->held_cap = r->held_cap == 0 ? 16 : r->held_cap * 2;
        r->held = xrealloc(r->held, r->held_cap * sizeof(*r->held));
    }
    struct held *h = &r->held[r->held_count++];
    *h =
        (struct held){.cookie = e->u.command.cookie, .need = e->u.command.need};
    buf_put_slice(&h->payload, e->u.command.payload);
    log_tell_blobs(r, e->u.command.payload, 1);
    r->held_bytes += len;
}

static void take_command(struct replica_core *r, const struct event *e,
                         struct effects *fx)
{
    struct slice payload = e->u.command.payload;
    enum status s =
        room_for(r, payload.len + WAL_RECORD_OVERHEAD, e->u.command.need);
    if (r->tail.payload_bytes > UNCOMMITTED_MAX &&
        log_last(r).seq > r->committed + LIMIT_CLIENT_WINDOW) {
        s = ST_BUSY;
    }
    if (s != ST_OK) {
        reply(fx, e->u.command.cookie, s);
        return;
    }
    append_command(r, payload, e->u.command.cookie, fx);
    peers_pump(r, e->now_us, fx);
}

void lead_on_command(struct replica_core *r, const struct event *e,
                     struct effects *fx)
{
    if (r->role != REPLICA_PRIMARY) {
        reply(fx, e->u.command.cookie, ST_NOT_PRIMARY);
        return;
    }
    switch (r->phase) {
    case PHASE_OPEN:
        take_command(r, e, fx);
        return;
    case PHASE_GATHERING:
    case PHASE_ENTERING:
        hold(r, e, fx);
        return;
    case PHASE_READONLY:
        reply(fx, e->u.command.cookie, ST_DEGRADED);
        return;
    case PHASE_IDLE:
    case PHASE_FOLLOWING:
        reply(fx, e->u.command.cookie, ST_NOT_PRIMARY);
        return;
    }
}

/* ---- opening and committing ---- */

void lead_begin(struct replica_core *r, int64_t now_us, struct effects *fx)
{
    r->start_seq = log_last(r).seq;
    r->gate_us = r->last_echo_us + LEASE_STRETCHED_US;
    if (HAS_BUG(r->host, no_lease_wait)) {
        r->gate_us = now_us;
    }
    r->tell_us = 0;
    peers_begin(r, now_us, fx);
    lead_advance(r, now_us, fx);
}

static uint64_t acknowledged_by_all(const struct replica_core *r)
{
    uint64_t seq = r->tail.synced_seq;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];
        if (p->kind != PEER_LEARNER && p->acked < seq) {
            seq = p->acked;
        }
    }
    return seq;
}

static bool all_joined(const struct replica_core *r)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        if (r->peers[i].kind != PEER_LEARNER && !r->peers[i].joined) {
            return false;
        }
    }
    return true;
}

static void open_up(struct replica_core *r, int64_t now_us, struct effects *fx)
{
    if (read_below_min(r)) {
        replica_set_phase(r, PHASE_READONLY);
        /* R12 (e): reads only if nothing here may be news to a client. */
        r->reads_allowed = log_last(r).seq == r->committed ||
                           r->served_epoch + 1 == r->config.epoch;
        drop_held(r, ST_DEGRADED, fx);
    } else {
        replica_set_phase(r, PHASE_OPEN);
        r->reads_allowed = true;
    }
    if (r->reads_allowed) {
        r->served_epoch = r->config.epoch;
    }
    log_info(r->host->log, "replica", "opened",
             "tablet=%" PRIu32 " epoch=%" PRIu64 " phase=%s reads=%d",
             r->tablet, r->config.epoch, replica_phase_name(r),
             (int)r->reads_allowed);
    (void)now_us;
}

static void commit_to(struct replica_core *r, uint64_t seq, int64_t now_us,
                      struct effects *fx)
{
    assert(r->config.in_sync_count >= r->host->min_insync); /* R7 */
    assert(seq <= log_last(r).seq && seq <= r->tail.synced_seq);
    r->committed = seq;
    replica_apply_committed(r, now_us, fx);
    if (r->tell_us == 0) {
        r->tell_us = next_multiple(now_us + TELL_COMMIT_US - 1, TELL_COMMIT_US);
    }
}

static void admit_held(struct replica_core *r, int64_t now_us,
                       struct effects *fx)
{
    uint64_t bytes = 0; /* not in the log yet: effects come after the step */
    for (uint32_t i = 0; i < r->held_count; i++) {
        struct held *h = &r->held[i];
        uint64_t more = h->payload.len + WAL_RECORD_OVERHEAD;
        enum status s = room_for(r, bytes + more, h->need);
        if (s == ST_OK) {
            append_command(r, buf_slice(&h->payload), h->cookie, fx);
            bytes += more;
        } else {
            reply(fx, h->cookie, s);
        }
        free_held(r, h);
    }
    r->held_count = 0;
    r->held_bytes = 0;
    peers_pump(r, now_us, fx);
}

void lead_advance(struct replica_core *r, int64_t now_us, struct effects *fx)
{
    uint64_t seq = acknowledged_by_all(r);
    if (r->phase == PHASE_GATHERING && now_us >= r->gate_us && all_joined(r) &&
        seq >= r->start_seq) {
        open_up(r, now_us, fx);
    }
    if (r->phase != PHASE_OPEN) {
        return;
    }
    if (seq > r->committed) {
        commit_to(r, seq, now_us, fx);
    }
    if (r->held_count > 0) {
        admit_held(r, now_us, fx);
    }
}

/* ---- time ---- */

/* R6: who streams is told what is committed, unless a PREPARE followed; while
 * there is one every few milliseconds they all carry it. Who does not stream
 * now hears of it when he does again. */
static void tell_committed(struct replica_core *r, int64_t now_us,
                           struct effects *fx)
{
    r->tell_us = 0;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];
        if (p->phase != PEER_STREAMING || p->told >= r->committed) {
            continue;
        }
        if (now_us - p->told_us < TELL_COMMIT_US) {
            r->tell_us = next_multiple(now_us, TELL_COMMIT_US);
            continue;
        }
        p->told = r->committed;
        p->told_us = now_us;
        fx_send(fx, p->id, MSG_COMMITTED)->u.committed =
            (struct msg_committed){r->tablet, r->config.epoch, r->committed};
    }
}

void lead_on_tick(struct replica_core *r, int64_t now_us, struct effects *fx)
{
    if (r->phase == PHASE_GATHERING) {
        lead_advance(r, now_us, fx);
    }
    peers_on_tick(r, now_us, fx);
    if (r->tell_us != 0 && now_us >= r->tell_us) {
        tell_committed(r, now_us, fx);
    }
}

int64_t lead_next_us(const struct replica_core *r)
{
    int64_t next = peers_next_us(r);
    /* Once past, the gate is no reason to be called: what is still missing
     * comes as an event. */
    if (r->phase == PHASE_GATHERING && r->ticked_us < r->gate_us &&
        r->gate_us < next && all_joined(r)) {
        next = r->gate_us;
    }
    if (r->tell_us != 0 && r->tell_us < next) {
        next = r->tell_us;
    }
    return next;
}
