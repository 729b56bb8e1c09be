/*
 * What a tablet's next configuration should be, seen from what is known now.
 *
 *   1. Who is primary (core_elect.c)? Nobody: nothing changes, the tablet is
 *      headless and looked at again at every heartbeat and tick.
 *   2. Who enters I: the shadow that the primary asked for (R10), or the fit
 *      members of E when I is lost (R8 b). Nobody else, ever (R2).
 *   3. Who leaves I, in this order:
 *      - whose node is gone: always, also below min_insync (R8 a), for the
 *        primary could not even serve reads while it waited for it;
 *      - who cannot vouch for its log, if enough others can (R16);
 *      - while I stays at or above min_insync: the restarted (R11), the
 *        disabled, the one reported by the primary (R11), the one whose disk
 *        is full, if enough others have room.
 *      The primary never leaves.
 *   4. Who learns: core_place.c.
 *   5. If that differs from what is, or an epoch is due (R11, R15), the next
 *      epoch is made; else nothing happens, however often it is looked at.
 */
#include "coordinator/core_parts.h"

#include "coordinator/bugs.h"

#include <assert.h>
#include <stdio.h>

struct plan {
    struct tablet *t;
    struct wish wish;
    struct draft d;
    bool elected; /* another primary, or the same one again */
};

static bool same(struct replica a, struct replica b)
{
    return replica_equal(a, b);
}

/* ---- who leaves ---- */

static void drop_gone(struct core *c, struct plan *p)
{
    struct replica_set before = p->d.in_sync;
    for (uint32_t i = 0; i < before.count; i++) {
        struct replica r = before.at[i];
        if (!same(r, p->d.primary) && member_state(c, p->t, r) == MEMBER_GONE) {
            const struct node *n = core_node(c, r.node);
            if (n != NULL && n->stalled && id128_equal(n->store, r.store)) {
                core_damp(c, p->t, r); /* it was slow, not dead (R18) */
            }
            set_remove(&p->d.in_sync, r);
        }
    }
}

static void drop_bad(struct core *c, struct plan *p)
{
    struct replica_set good = {0};
    for (uint32_t i = 0; i < p->d.in_sync.count; i++) {
        struct replica r = p->d.in_sync.at[i];
        if (!same(r, p->d.primary) &&
            member_state_bad(member_state(c, p->t, r))) {
            (void)set_add(&p->d.forfeit, r);
        } else {
            (void)set_add(&good, r);
        }
    }
    if (good.count >= c->min_insync) {
        p->d.in_sync = good;
        return;
    }
    /* Two are damaged, in different places perhaps: with a primary that
     * vouches for all of its own, one after the other is filled anew. */
    bool whole = member_state(c, p->t, p->d.primary) == MEMBER_RUNNING;
    for (uint32_t i = 0;
         whole && i < p->d.forfeit.count && p->d.in_sync.count > c->min_insync;
         i++) {
        set_remove(&p->d.in_sync, p->d.forfeit.at[i]);
    }
    /* One with which the primary cannot go on would stop the tablet for ever:
     * rather below min_insync until somebody is filled. */
    if (p->wish.kind == WISH_REMOVE && !p->elected &&
        core_is_dead_weight(c, p->t, p->wish.who)) {
        set_remove(&p->d.in_sync, p->wish.who);
    }
}

static bool wanted_out(const struct core *c, const struct plan *p,
                       struct replica r)
{
    if (p->wish.kind == WISH_REMOVE && same(r, p->wish.who)) {
        return true;
    }
    return p->wish.kind == WISH_ADD && same(r, p->t->wanted_out) &&
           c->now_us < p->t->wanted_until_us;
}

/* R11. With another primary than before the restarted are known by what they
 * report; with the same one they may just not have entered its epoch yet, and
 * only the one that caused this step is meant. Where all have restarted (R21)
 * all stay. */
static bool restarted(struct core *c, const struct plan *p, struct replica r)
{
    if (!p->elected) {
        return same(r, c->restarted);
    }
    enum member_state s = member_state(c, p->t, r);
    return member_state(c, p->t, p->d.primary) == MEMBER_RUNNING &&
           (s == MEMBER_FRESH || s == MEMBER_RECOVERING);
}

static bool should_leave(struct core *c, const struct plan *p, struct replica r)
{
    return core_node(c, r.node)->admin == NODE_DISABLED ||
           wanted_out(c, p, r) || restarted(c, p, r);
}

/* Of a set of which enough have room: those that have none. */
static bool in_the_way(const struct core *c, struct replica r, bool room)
{
    const struct node *n = core_node_const(c, r.node);
    return room && n != NULL && n->full;
}

static void drop_others(struct core *c, struct plan *p)
{
    struct replica_set before = p->d.in_sync;
    bool room = core_has_room(c, p->t, &before);
    for (uint32_t i = 0; i < before.count; i++) {
        struct replica r = before.at[i];
        if (p->d.in_sync.count > c->min_insync && !same(r, p->d.primary) &&
            (should_leave(c, p, r) || in_the_way(c, r, room))) {
            if (in_the_way(c, r, room) ||
                (p->wish.kind != WISH_NOTHING && wanted_out(c, p, r))) {
                core_damp(c, p->t, r);
            }
            set_remove(&p->d.in_sync, r);
        }
    }
}

/* ---- who enters ---- */

static void enter_eligible(struct core *c, struct plan *p)
{
    const struct replica_set *e = &p->t->config.eligible;
    p->d.door = DOOR_ELIGIBLE;
    p->d.in_sync = (struct replica_set){0};
    for (uint32_t i = 0; i < e->count; i++) {
        if (member_state_fit(member_state(c, p->t, e->at[i]))) {
            (void)set_add(&p->d.in_sync, e->at[i]);
        }
    }
    /* A lost member that is there but damaged does not become eligible. */
    const struct replica_set *lost = &p->t->config.in_sync;
    for (uint32_t i = 0; i < lost->count; i++) {
        if (member_state_bad(member_state(c, p->t, lost->at[i]))) {
            (void)set_add(&p->d.forfeit, lost->at[i]);
        }
    }
}

/* Whoever of E cannot vouch for its log can never be elected, and while it is
 * in E it can never be filled anew (R17). With a primary that vouches for its
 * own, E does without it. */
static bool forfeit_bad_eligible(struct core *c, struct plan *p)
{
    const struct replica_set *e = &p->t->config.eligible;
    bool any = false;
    if (member_state(c, p->t, p->d.primary) != MEMBER_RUNNING) {
        return false;
    }
    for (uint32_t i = 0; i < e->count; i++) {
        if (member_state(c, p->t, e->at[i]) == MEMBER_DAMAGED) {
            (void)set_add(&p->d.forfeit, e->at[i]);
            any = true;
        }
    }
    return any;
}

/* A learner begins anew when it enters an epoch: one that finds itself damaged
 * in the present one needs another. (While it is in E it keeps what it has.) */
static bool learner_needs_epoch(struct core *c, const struct plan *p)
{
    const struct tablet *t = p->t;
    for (uint32_t i = 0; i < t->config.learners.count; i++) {
        struct replica r = t->config.learners.at[i];
        if (member_state(c, t, r) == MEMBER_DAMAGED &&
            core_reports_role(c, t, r, REPLICA_LEARNER) &&
            !set_has(&t->config.eligible, r)) {
            return true;
        }
    }
    return false;
}

static void enter_shadow(struct plan *p)
{
    if (p->wish.kind == WISH_ADD && set_add(&p->d.in_sync, p->wish.who)) {
        p->d.door = DOOR_SHADOW;
        p->d.added = p->wish.who;
    }
}

/* ---- the whole ---- */

/* False: there can be no primary now. */
static bool plan_primary(struct core *c, struct plan *p)
{
    struct replica chosen = {0};
    struct replica wish = {0};
    if (p->wish.kind == WISH_PRIMARY) {
        wish = p->wish.who;
    }
    switch (core_elect(c, p->t, wish, &chosen)) {
    case VERDICT_WAIT:
        return false;
    case VERDICT_KEEP:
        return true;
    case VERDICT_ELECT:
        break;
    case VERDICT_ELECT_ELIGIBLE:
        enter_eligible(c, p);
        break;
    }
    if (HAS_BUG(&c->o, promote_outsider) &&
        set_has(&p->t->config.learners, chosen)) {
        p->d.door = DOOR_SHADOW;
        p->d.added = chosen;
        (void)set_add(&p->d.in_sync, chosen);
    }
    p->elected = true;
    p->d.primary = chosen;
    p->d.primary_incarnation = core_node(c, chosen.node)->incarnation;
    return true;
}

static void describe(const struct replica_set *s, char *out, size_t room)
{
    size_t at = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < s->count && at < room; i++) {
        at += (size_t)snprintf(out + at, room - at, i > 0 ? ",%u" : "%u",
                               s->at[i].node);
    }
}

static void apply(struct core *c, struct plan *p, struct core_effects *fx)
{
    struct tablet *t = p->t;
    struct configuration next;
    configuration_next(&t->config, &p->d, c->min_insync, &next);
    if (!same(t->config.primary, next.primary) ||
        !incarnation_equal(t->config.primary_incarnation,
                           next.primary_incarnation)) {
        c->stats.elections++;
    }
    core_count_load(c, &t->config, -1);
    core_count_load(c, &next, 1);
    t->config = next;
    core_touch(c, fx, true); /* R1 */
    t->changed = c->version;
    t->changed_us = c->now_us;
    c->disturbed_us = c->balancing ? c->disturbed_us : c->now_us;
    t->forced = false;
    t->settle_us = 0;
    t->withheld = false;
    t->wanted_out = (struct replica){0};
    c->stats.epochs++;
    char in_sync[64], eligible[64], learners[64];
    describe(&next.in_sync, in_sync, sizeof(in_sync));
    describe(&next.eligible, eligible, sizeof(eligible));
    describe(&next.learners, learners, sizeof(learners));
    core_note(fx, LOG_LEVEL_DEBUG, "epoch",
              "tablet=%u epoch=%llu primary=%u in_sync=%s eligible=%s "
              "learners=%s",
              next.tablet, (unsigned long long)next.epoch, next.primary.node,
              in_sync, eligible, learners);
}

bool core_review(struct core *c, struct tablet *t, struct wish w,
                 struct core_effects *fx)
{
    struct plan p = {.t = t, .wish = w};
    p.d.primary = t->config.primary;
    p.d.primary_incarnation = t->config.primary_incarnation;
    p.d.in_sync = t->config.in_sync;
    t->review = false;
    t->headless = t->watch = !plan_primary(c, &p);
    if (t->headless) {
        return false;
    }
    if (p.d.door != DOOR_ELIGIBLE) {
        enter_shadow(&p);
        drop_gone(c, &p);
        drop_bad(c, &p);
        t->forced = forfeit_bad_eligible(c, &p) || learner_needs_epoch(c, &p) ||
                    t->forced;
        drop_others(c, &p);
    }
    core_choose_learners(c, t, &p.d);
    /* A handover that must wait for a heartbeat (core_elect.c). */
    const struct node *primary = core_node(c, p.d.primary.node);
    t->watch =
        primary != NULL && (primary->admin == NODE_DISABLED || primary->full);
    if (!t->forced && w.kind == WISH_NOTHING &&
        !configuration_differs(&t->config, &p.d)) {
        return false;
    }
    apply(c, &p, fx);
    return true;
}

void core_review_flagged(struct core *c, struct core_effects *fx)
{
    uint64_t epochs = c->stats.epochs, elections = c->stats.elections;
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        if (c->tablets[i].review) {
            (void)core_review(c, &c->tablets[i],
                              (struct wish){.kind = WISH_NOTHING}, fx);
        }
    }
    if (c->stats.epochs > epochs) {
        core_note(fx, LOG_LEVEL_INFO, "epochs",
                  "tablets=%llu elections=%llu version=%llu",
                  (unsigned long long)(c->stats.epochs - epochs),
                  (unsigned long long)(c->stats.elections - elections),
                  (unsigned long long)c->version);
    }
}
