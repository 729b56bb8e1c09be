/*
 * A secondary or learner (R6, R12 d, R17).
 *
 * The matched place says up to where this log is known to be the primary's:
 * 0 on entering an epoch, raised by each PREPARE that names what stands here
 * or what is appended because its predecessor stands at the end. What is
 * acknowledged is the name at min(matched, synced), never more. A cut comes
 * only in a dialogue, never below matched and never below what is committed
 * (I5), and is on disk before it is answered.
 *
 * Everything here tolerates messages that are lost, late or doubled within
 * the epoch: a gap is answered by MISMATCH, what is repeated changes nothing.
 */
#include "storage/replica_impl.h"

#define MISMATCH_AGAIN_US 50000

/* Before the log says that a snapshot was installed, it counts for nothing: a
 * restart would condemn what the log had before. */
static struct name acknowledgeable(const struct replica_core *r)
{
    struct name n = r->matched;
    if (r->synced_ordinal < r->reset_ordinal) {
        return (struct name){0, 0};
    }
    if (r->tail.synced_seq < n.seq && !HAS_BUG(r->host, ack_before_sync)) {
        bool known = log_name(r, r->tail.synced_seq, &n);
        assert(known);
    }
    return n;
}

/* Sends PREPARED if it says more than the last, or if AGAIN. */
static void acknowledge(struct replica_core *r, bool again, struct effects *fx)
{
    struct name n = acknowledgeable(r);
    if (n.seq > r->acked.seq || (again && n.seq > 0)) {
        r->acked = n;
        fx_send(fx, r->config.primary, MSG_PREPARED)->u.prepared =
            (struct msg_prepared){r->tablet, r->config.epoch, n};
    }
}

/* Up to matched only (R6), and up to what is on this disk: a learner is not
 * waited for, and a checkpoint must not run ahead of the log. */
static void raise_committed(struct replica_core *r, uint64_t told,
                            int64_t now_us, struct effects *fx)
{
    r->told_commit = told > r->told_commit ? told : r->told_commit;
    uint64_t c = r->told_commit;
    c = c < r->matched.seq ? c : r->matched.seq;
    c = c < r->tail.synced_seq ? c : r->tail.synced_seq;
    if (c > r->committed) {
        r->committed = c;
    }
    replica_apply_committed(r, now_us, fx);
}

static void answer_cut(struct replica_core *r, struct effects *fx)
{
    r->cut_waits = false;
    fx_send(fx, r->config.primary, MSG_CUT_DONE)->u.cut_done =
        (struct msg_cut_done){r->tablet, r->config.epoch, r->cut_dialogue,
                              log_last(r)};
}

void follow_on_synced(struct replica_core *r, int64_t now_us,
                      struct effects *fx)
{
    if (r->cut_waits && r->synced_ordinal >= r->cut_ordinal) {
        answer_cut(r, fx);
    }
    acknowledge(r, false, fx);
    raise_committed(r, 0, now_us, fx);
}

/* ---- PREPARE ---- */

bool follow_holds(const struct replica_core *r, struct name n)
{
    struct name have;
    if (n.seq <= r->committed) {
        return true; /* committed entries are the same everywhere */
    }
    return log_name(r, n.seq, &have) && name_equal(have, n);
}

static void mismatch(struct replica_core *r, int64_t now_us, struct effects *fx)
{
    if (r->mismatch_us != 0 && now_us - r->mismatch_us < MISMATCH_AGAIN_US) {
        return;
    }
    r->mismatch_us = now_us;
    fx_send(fx, r->config.primary, MSG_MISMATCH)->u.mismatch =
        (struct msg_mismatch){r->tablet, r->config.epoch, log_last(r),
                              r->committed};
}

void follow_on_blobs(struct replica_core *r, int64_t now_us, struct effects *fx)
{
    if (r->phase == PHASE_FOLLOWING && !r->cut_waits && !r->fetching) {
        r->mismatch_us = 0;
        mismatch(r, now_us, fx);
    }
}

static void on_prepare(struct replica_core *r, const struct msg_prepare *m,
                       int64_t now_us, struct effects *fx)
{
    bool again = false;
    if (r->cut_waits || r->fetching) {
        return; /* the dialogue is not over */
    }
    if (follow_holds(r, m->entry)) {
        again = m->entry.seq <= r->matched.seq || m->only_match;
        if (m->entry.seq > r->matched.seq) {
            r->matched = m->entry;
        }
    } else if (!m->only_match && name_equal(m->previous, log_last(r)) &&
               m->entry.seq == m->previous.seq + 1 &&
               m->entry.epoch >= m->previous.epoch &&
               m->entry.epoch <= r->config.epoch) {
        log_append(r, m->entry, m->payload, fx);
        r->matched = m->entry;
    } else {
        mismatch(r, now_us, fx);
        return;
    }
    r->mismatch_us = 0;
    acknowledge(r, again, fx);
    raise_committed(r, m->committed, now_us, fx);
}

/* ---- the dialogue of R12 (d) ---- */

void follow_answer_tail(struct replica_core *r, struct effects *fx)
{
    bool more;
    struct run *runs = arena_alloc(&fx->arena, LIMIT_RUNS * sizeof(*runs));
    struct wire_msg *m = fx_send(fx, r->config.primary, MSG_TAIL);
    m->u.tail = (struct msg_tail){
        .tablet = r->tablet,
        .epoch = r->config.epoch,
        .dialogue = r->ask.dialogue,
        .last = log_last(r),
        .base = r->tail.base,
        .committed = r->committed,
        .runs = runs,
    };
    m->u.tail.runs_count = log_runs(r, r->ask.before, runs, LIMIT_RUNS, &more);
    m->u.tail.more = more;
}

static void on_cut(struct replica_core *r, const struct msg_cut *m,
                   struct effects *fx)
{
    struct name have, last = log_last(r);
    if (m->name.seq < r->matched.seq || m->name.seq > last.seq || r->fetching) {
        return; /* late: what it spoke of is over */
    }
    if (m->name.seq < r->committed) {
        log_error(r->host->log, "replica", "cut-refused",
                  "tablet=%" PRIu32 " epoch=%" PRIu64 " to=%" PRIu64
                  " committed=%" PRIu64,
                  r->tablet, r->config.epoch, m->name.seq, r->committed);
        return; /* I5 */
    }
    if (!log_name(r, m->name.seq, &have) || !name_equal(have, m->name)) {
        return;
    }
    r->cut_dialogue = m->dialogue;
    if (m->name.seq < last.seq) {
        if (r->host->on_cut != NULL) {
            struct name committed = {0, r->committed};
            r->host->on_cut(r->host->ctx, r->tablet, m->name, committed);
        }
        log_cut(r, m->name);
        struct effect *x = fx_add(fx, FX_APPEND);
        x->ordinal = r->next_ordinal++;
        x->record = (struct wal_record){
            .kind = WAL_CUT, .tablet = r->tablet, .name = m->name};
        r->cut_ordinal = x->ordinal;
        r->cut_waits = true;
    } else if (!r->cut_waits) {
        answer_cut(r, fx);
    }
}

/* A connection of ours to the primary has opened. What was answered before had
 * no way to it and is lost: so answered the first question of a primary that
 * has just started, whose own connection opens before ours does. It would ask
 * again, but later; and an answer that comes twice changes nothing. */
void follow_on_up(struct replica_core *r, struct replica peer,
                  struct effects *fx)
{
    if (!replica_equal(peer, r->config.primary) || r->fetching) {
        return;
    }
    if (r->ask.epoch == r->config.epoch && r->acked.seq == 0) {
        follow_answer_tail(r, fx);
    }
    acknowledge(r, true, fx);
}

/* ---- R17 ---- */

static void on_snapshot_needed(struct replica_core *r, struct effects *fx)
{
    /* A member of I never installs a snapshot: it leaves I first. Nor does
     * one of E: its log may be all that is left (R8). */
    bool eligible =
        replica_in(r->config.eligible, r->config.eligible_count, r->host->self);
    if (r->role != REPLICA_LEARNER || eligible || r->fetching) {
        return;
    }
    r->fetching = true;
    struct effect *x = fx_add(fx, FX_FETCH);
    x->to = r->config.primary;
    x->epoch = r->config.epoch;
}

static bool fetches_in(const struct replica_core *r, uint64_t epoch)
{
    return r->phase == PHASE_FOLLOWING && r->role == REPLICA_LEARNER &&
           r->fetching && r->config.epoch == epoch;
}

/* Not of an epoch that is over (quality 11), nor one asked for by a message
 * that came late: what is matched is acknowledged, and the primary may count
 * on it (R10). */
bool replica_installs(const struct replica_core *r, struct name name,
                      uint64_t epoch)
{
    return fetches_in(r, epoch) && name.seq >= r->committed &&
           name.seq >= r->matched.seq;
}

void follow_install(struct replica_core *r, const struct event *e,
                    struct effects *fx)
{
    struct name name = e->u.snapshot.name;
    if (e->u.snapshot.state == NULL ||
        !replica_installs(r, name, e->u.snapshot.epoch)) {
        state_free(e->u.snapshot.state);
        if (fetches_in(r, e->u.snapshot.epoch)) {
            r->fetching = false;
            mismatch(r, e->now_us, fx);
        }
        return;
    }
    assert(name_equal(state_applied(e->u.snapshot.state), name));
    state_free(r->state);
    r->state = e->u.snapshot.state;
    log_reset(r, name);
    r->committed = name.seq;
    r->logged_commit = name.seq;
    r->matched = (struct name){0, 0};
    r->fetching = false;
    r->damaged = false;
    struct effect *x = fx_add(fx, FX_APPEND);
    x->ordinal = r->next_ordinal++;
    r->reset_ordinal = x->ordinal;
    x->record = (struct wal_record){
        .kind = WAL_RESET, .tablet = r->tablet, .name = name};
    fx_add(fx, FX_INSTALLED);
    r->mismatch_us = 0;
    mismatch(r, e->now_us, fx); /* says where it stands now */
}

/* ---- dispatch ---- */

void follow_on_message(struct replica_core *r, const struct event *e,
                       struct effects *fx)
{
    const struct wire_msg *m = e->u.message.m;
    bool primary = replica_equal(e->u.message.from, r->config.primary) &&
                   incarnation_equal(e->u.message.incarnation,
                                     r->config.primary_incarnation);
    if (!primary && !HAS_BUG(r->host, no_epoch_check)) {
        return; /* R4: only the epoch's one primary speaks */
    }
    switch ((int)m->type) {
    case MSG_PREPARE:
        on_prepare(r, &m->u.prepare, e->now_us, fx);
        return;
    case MSG_COMMITTED:
        raise_committed(r, m->u.committed.committed, e->now_us, fx);
        return;
    case MSG_TAIL_ASK:
        r->ask = m->u.tail_ask;
        r->ask.config = (struct tablet_config){0};
        if (!r->fetching) {
            follow_answer_tail(r, fx);
        }
        return;
    case MSG_CUT:
        on_cut(r, &m->u.cut, fx);
        return;
    case MSG_SNAPSHOT_NEEDED:
        on_snapshot_needed(r, fx);
        return;
    case MSG_DIGEST_WANT:
        compare_on_ask(r, &m->u.digest_want, fx);
        return;
    case MSG_DIGEST_WRONG:
        damage_condemn(r, "state differs from the others'", fx);
        return;
    default:
        return;
    }
}
