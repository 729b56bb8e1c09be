/*
 * Requests for another configuration: of a primary (R10, R11, R15), of a
 * replica that cannot go on (R16), of an operator. All are compare-and-set on
 * the epoch: of two that collide the second is told that its epoch is stale.
 *
 *   kind      who may ask           what, and the answer
 *   ADD       primary               new epoch, with the subject in I if it is
 *                                   a fit learner, else without: OK
 *   REMOVE    primary               a member, and I stays at min_insync or it
 *                                   is gone: new epoch without it: OK
 *                                   a member, but I would shrink below while
 *                                   both heartbeat: no epoch: DEGRADED; a
 *                                   learner is brought in, and the epoch that
 *                                   adds it drops the subject
 *                                   a learner (shadow): new epoch without it
 *   HANDOVER  primary, or subject   new epoch; the subject is primary if it
 *                                   can be: OK
 *   LEAVE     subject               never primary again in this incarnation;
 *                                   out of I if enough others are whole: OK,
 *                                   else DEGRADED
 */
#include "coordinator/core_parts.h"

#include <string.h>

/* A report of an unreachable member is good for this many stalls. */
#define WANTED_OUT_STALLS 3

static bool from_process(const struct node *n, const struct env_peer *p)
{
    return n != NULL && id128_equal(n->store, p->store) &&
           incarnation_equal(n->incarnation, p->incarnation);
}

static bool is_primary(const struct tablet *t, const struct node *n)
{
    return replica_equal(t->config.primary, node_replica(n)) &&
           incarnation_equal(t->config.primary_incarnation, n->incarnation);
}

/* A learner that its primary says is in step, and has room. Its last heartbeat
 * may be older than that, so that what it lacked there does not count. */
static bool may_join(struct core *c, struct tablet *t, struct replica r)
{
    enum member_state s = member_state(c, t, r);
    struct node *n = core_node(c, r.node);
    if (!set_has(&t->config.learners, r) || s == MEMBER_GONE ||
        s == MEMBER_DAMAGED || n->admin != NODE_UP || n->full ||
        core_damped(c, t, r) || t->config.in_sync.count + 1 >= LIMIT_REPLICAS) {
        return false;
    }
    if (s == MEMBER_SHORT) {
        node_slot(c, n, t)->report.role = REPLICA_LEARNER;
    }
    return true;
}

static enum status change_add(struct core *c, struct tablet *t,
                              struct replica subject, struct core_effects *fx)
{
    struct wish w = {.kind = WISH_ADD, .who = subject};
    if (set_has(&t->config.in_sync, subject)) {
        return ST_INVALID;
    }
    t->forced = true; /* with or without: only a new epoch ends it (R10) */
    if (!may_join(c, t, subject)) {
        w.kind = WISH_NOTHING;
    }
    return core_review(c, t, w, fx) ? ST_OK : ST_DEGRADED;
}

static enum status change_remove(struct core *c, struct tablet *t,
                                 struct replica subject,
                                 struct core_effects *fx)
{
    struct wish w = {.kind = WISH_REMOVE, .who = subject};
    if (replica_equal(subject, t->config.primary)) {
        return ST_INVALID;
    }
    if (set_has(&t->config.learners, subject)) {
        core_damp(c, t, subject);
    } else if (!set_has(&t->config.in_sync, subject)) {
        return ST_NOT_FOUND;
    } else if (t->config.in_sync.count <= c->min_insync &&
               member_state(c, t, subject) != MEMBER_GONE &&
               !core_is_dead_weight(c, t, subject)) {
        t->wanted_out = subject;
        t->wanted_until_us = c->now_us + WANTED_OUT_STALLS * c->times.stall_us;
        t->review = true;
        return ST_DEGRADED;
    }
    return core_review(c, t, w, fx) ? ST_OK : ST_DEGRADED;
}

static enum status change_handover(struct core *c, struct tablet *t,
                                   struct replica subject,
                                   struct core_effects *fx)
{
    struct wish w = {.kind = WISH_PRIMARY, .who = subject};
    if (!set_has(&t->config.in_sync, subject)) {
        return ST_INVALID;
    }
    return core_review(c, t, w, fx) ? ST_OK : ST_DEGRADED;
}

static enum status change_leave(struct core *c, struct tablet *t,
                                struct node *n, struct core_effects *fx)
{
    node_slot(c, n, t)->left = true;
    (void)core_review(c, t, (struct wish){.kind = WISH_NOTHING}, fx);
    return set_has(&t->config.in_sync, node_replica(n)) ? ST_DEGRADED : ST_OK;
}

static enum status decide(struct core *c, const struct core_event *ev,
                          struct tablet *t, struct core_effects *fx)
{
    const struct msg_change *m = ev->u.change;
    struct node *n = core_node(c, ev->peer->node);
    if (t == NULL) {
        return ST_NOT_FOUND;
    }
    if (!from_process(n, ev->peer)) {
        return ST_DENIED;
    }
    if (m->epoch < t->config.epoch) {
        return ST_STALE_EPOCH;
    }
    if (m->epoch > t->config.epoch) { /* R20 */
        core_fatal(fx, ST_CORRUPT,
                   "node %u has tablet %u in epoch %llu, our map in %llu: this "
                   "register is an old copy",
                   n->id, m->tablet, (unsigned long long)m->epoch,
                   (unsigned long long)t->config.epoch);
        return ST_CORRUPT;
    }
    bool own = replica_equal(m->subject, node_replica(n));
    switch (m->kind) {
    case CHANGE_ADD:
        return is_primary(t, n) ? change_add(c, t, m->subject, fx)
                                : ST_NOT_PRIMARY;
    case CHANGE_REMOVE:
        return is_primary(t, n) ? change_remove(c, t, m->subject, fx)
                                : ST_NOT_PRIMARY;
    case CHANGE_HANDOVER:
        return is_primary(t, n) || own ? change_handover(c, t, m->subject, fx)
                                       : ST_NOT_PRIMARY;
    case CHANGE_LEAVE:
        return own ? change_leave(c, t, n, fx) : ST_INVALID;
    default: /* a number from the wire */
        return ST_INVALID;
    }
}

void core_on_change(struct core *c, const struct core_event *ev,
                    struct core_effects *fx)
{
    static const char *const kinds[] = {"?", "add", "remove", "handover",
                                        "leave"};
    const struct msg_change *m = ev->u.change;
    struct tablet *t = core_tablet(c, m->tablet);
    enum status status = decide(c, ev, t, fx);
    c->stats.changes++;
    c->stats.changes_refused += status != ST_OK;
    struct msg_change_ack ack = {
        .tablet = m->tablet,
        .status = (uint16_t)status,
        .epoch = t == NULL ? 0 : t->config.epoch,
    };
    core_note(fx, status == ST_OK ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, "change",
              "tablet=%u kind=%s from=%u subject=%u epoch=%llu status=%s "
              "now=%llu reason=%s",
              m->tablet, kinds[m->kind <= CHANGE_LEAVE ? m->kind : 0],
              ev->peer->node, m->subject.node, (unsigned long long)m->epoch,
              status_name(status), (unsigned long long)ack.epoch,
              log_quote(m->reason));
    size_t at = fx->frames.len;
    wire_put_change_ack(&fx->frames, ev->request, &ack);
    core_answer(fx, ev, t == NULL ? 0 : t->changed, at); /* R1 */
}

/* ---- the operator ---- */

/* Could all its tablets have another primary? Gives the first that could
 * not, or 0. */
static uint32_t stuck_tablet(struct core *c, const struct node *n)
{
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        const struct tablet *t = &c->tablets[i];
        bool other = !is_primary(t, n);
        for (uint32_t k = 0; !other && k < t->config.in_sync.count; k++) {
            struct replica r = t->config.in_sync.at[k];
            enum member_state s = member_state(c, t, r);
            other = r.node != n->id &&
                    (s == MEMBER_RUNNING || s == MEMBER_BEHIND) &&
                    core_node(c, r.node)->admin == NODE_UP;
        }
        if (!other) {
            return t->config.tablet;
        }
    }
    return 0;
}

static enum status set_node(struct core *c, const struct msg_node_set *m,
                            struct core_effects *fx, struct err *text)
{
    struct node *n = core_node(c, m->node);
    if (n == NULL || n->role != ROLE_STORAGE) {
        return err_set(text, ST_NOT_FOUND,
                       "node %u is no storage node of "
                       "this cluster",
                       m->node);
    }
    if (m->state == NODE_DRAINING) {
        return err_set(text, ST_UNSUPPORTED,
                       "draining is not supported by this version: use "
                       "disable, which hands the primaries over");
    }
    if (m->state != NODE_UP && m->state != NODE_DISABLED) {
        return err_set(text, ST_INVALID, "%u is no state to set", m->state);
    }
    uint32_t stuck = m->state == NODE_DISABLED && n->live != LIVE_DOWN
                         ? stuck_tablet(c, n)
                         : 0;
    if (stuck != 0) {
        return err_set(text, ST_DEGRADED,
                       "tablet %u has no other replica in sync that could "
                       "take over from node %u",
                       stuck, n->id);
    }
    if (n->admin != m->state) {
        n->admin = m->state;
        core_touch(c, fx, true);
        core_review_all(c);
        core_note(fx, LOG_LEVEL_INFO, "node-set", "node=%u name=%s state=%s",
                  n->id, n->name, node_state_name(m->state));
    }
    return ST_OK;
}

void core_on_node_set(struct core *c, const struct core_event *ev,
                      struct core_effects *fx)
{
    struct err text = {""};
    enum status status = set_node(c, ev->u.node_set, fx, &text);
    struct msg_ack ack = {.status = (uint16_t)status,
                          .text = slice_of(text.text)};
    ack.text.len = ack.text.len < 256 ? ack.text.len : 256;
    size_t at = fx->frames.len;
    wire_put_ack(&fx->frames, ev->request, &ack);
    core_answer(fx, ev, c->version, at);
}
