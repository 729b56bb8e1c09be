/*
 * In what state a replica is, and who becomes primary (R14, R21, R8 b).
 *
 * An election looks at the members of I. Fit are those that are up, have
 * recovered, can vouch for their log, and whose last entry is not below a
 * committed name that anybody has shown. Every member of I holds every
 * committed entry, so whoever is fit is safe; the rule about names catches
 * disks that lost something.
 *
 *   fit, running   fit, restarted   not yet known   outcome
 *   some           any              any             elect a running one, by
 *                                                   R14 (R11 takes restarted
 *                                                   ones out of I first)
 *   none           some             none            elect (R21: all are back)
 *   none           some             some            wait up to settle_us for
 *                                                   the rest, then elect (R21)
 *   none           none             up, unclear     wait: it will say
 *   none           none             gone or bad     I is lost: look at E
 *
 * Not lost but to be relieved is a primary that the operator has disabled, and
 * one whose disk is full while enough others have room: then another that is
 * running takes over, if there is one.
 *
 * "Not yet known" counts members that are down as well: after a power loss
 * they are on their way back. E is looked at in the same way; before one of
 * its members is elected the coordinator's own leases must have run out.
 */
#include "coordinator/core_parts.h"

#include "coordinator/bugs.h"

#include <assert.h>
#include <string.h>

static const struct slot *find_slot(const struct node *n,
                                    const struct tablet *t)
{
    if (n->slots == NULL) {
        return NULL;
    }
    return &n->slots[t->config.tablet - 1];
}

enum member_state member_state(const struct core *c, const struct tablet *t,
                               struct replica r)
{
    const struct node *n = core_node_const(c, r.node);
    if (n == NULL || !id128_equal(n->store, r.store) || n->live == LIVE_DOWN) {
        return MEMBER_GONE;
    }
    if (n->live == LIVE_UNHEARD) {
        return MEMBER_UNHEARD;
    }
    const struct slot *s = find_slot(n, t);
    if (s != NULL && s->left) {
        return MEMBER_DAMAGED;
    }
    if (s == NULL || n->beats == 0 || s->beat != n->beats) {
        return MEMBER_RECOVERING;
    }
    if ((s->report.flags & REPORT_DAMAGED) != 0) {
        return MEMBER_DAMAGED;
    }
    if ((s->report.flags & REPORT_RECOVERED) == 0) {
        return MEMBER_RECOVERING;
    }
    bool has_all = name_compare(s->report.last, t->committed) >= 0; /* R14 */
    if (s->report.role == REPLICA_NONE) {
        return has_all ? MEMBER_FRESH : MEMBER_SHORT;
    }
    return has_all ? MEMBER_RUNNING : MEMBER_BEHIND;
}

bool core_reports_role(struct core *c, const struct tablet *t, struct replica r,
                       enum replica_role role)
{
    const struct node *n = core_node(c, r.node);
    const struct slot *s = n == NULL ? NULL : find_slot(n, t);
    return s != NULL && s->report.epoch == t->config.epoch &&
           s->report.role == role;
}

bool core_is_dead_weight(struct core *c, const struct tablet *t,
                         struct replica r)
{
    return member_state_bad(member_state(c, t, r)) &&
           !replica_equal(r, t->config.primary) &&
           member_state(c, t, t->config.primary) == MEMBER_RUNNING;
}

bool member_state_fit(enum member_state s)
{
    return s == MEMBER_FRESH || s == MEMBER_RUNNING;
}

bool member_state_bad(enum member_state s)
{
    return s == MEMBER_DAMAGED || s == MEMBER_SHORT;
}

bool core_has_room(struct core *c, const struct tablet *t,
                   const struct replica_set *set)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < set->count; i++) {
        enum member_state s = member_state(c, t, set->at[i]);
        bool runs = s == MEMBER_RUNNING || s == MEMBER_BEHIND;
        count += runs && !core_node(c, set->at[i].node)->full;
    }
    return count >= c->min_insync;
}

/* ---- counting a set ---- */

struct tally {
    unsigned running, fresh;
    unsigned unclear; /* up, or presumed so, and will say */
    unsigned gone;
    bool found; /* BEST is the one to elect */
    struct replica best;
};

static bool node_disabled(const struct node *n)
{
    return n->admin == NODE_DISABLED;
}

static struct name last_name(struct core *c, const struct tablet *t,
                             struct replica r)
{
    return find_slot(core_node(c, r.node), t)->report.last;
}

/* R14, after the operator's word and room on the disk: is A the better
 * primary? */
static bool better(struct core *c, const struct tablet *t, struct replica a,
                   struct replica b)
{
    const struct node *na = core_node(c, a.node), *nb = core_node(c, b.node);
    if (node_disabled(na) != node_disabled(nb)) {
        return node_disabled(nb);
    }
    bool a_runs = member_state(c, t, a) == MEMBER_RUNNING;
    if (a_runs != (member_state(c, t, b) == MEMBER_RUNNING)) {
        return a_runs;
    }
    if (na->full != nb->full) {
        return nb->full;
    }
    int order = name_compare(last_name(c, t, a), last_name(c, t, b));
    if (order != 0) {
        return order > 0;
    }
    if (na->primaries != nb->primaries) {
        return na->primaries < nb->primaries;
    }
    return a.node < b.node;
}

static struct tally count_set(struct core *c, const struct tablet *t,
                              const struct replica_set *set)
{
    struct tally tally = {0};
    for (uint32_t i = 0; i < set->count; i++) {
        switch (member_state(c, t, set->at[i])) {
        case MEMBER_GONE:
            tally.gone++;
            continue;
        case MEMBER_UNHEARD:
        case MEMBER_RECOVERING:
        case MEMBER_BEHIND:
            tally.unclear++;
            continue;
        case MEMBER_DAMAGED:
        case MEMBER_SHORT:
            continue;
        case MEMBER_FRESH:
            tally.fresh++;
            break;
        case MEMBER_RUNNING:
            tally.running++;
            break;
        }
        if (!tally.found || better(c, t, set->at[i], tally.best)) {
            tally.found = true;
            tally.best = set->at[i];
        }
    }
    return tally;
}

/* R21: with only restarted ones, the others are waited for a while. */
static bool settled(struct core *c, struct tablet *t, const struct tally *tally)
{
    if (tally->running > 0 || tally->unclear + tally->gone == 0) {
        return true;
    }
    if (t->settle_us == 0) {
        t->settle_us = c->now_us + c->times.settle_us;
    }
    return c->now_us >= t->settle_us;
}

/* ---- the present primary ---- */

enum standing { STANDING_GOOD, STANDING_PLANNED, STANDING_LOST };

static enum standing primary_standing(struct core *c, const struct tablet *t)
{
    struct replica p = t->config.primary;
    const struct node *n = core_node(c, p.node);
    switch (member_state(c, t, p)) {
    case MEMBER_GONE:
    case MEMBER_DAMAGED:
    case MEMBER_SHORT:
        return STANDING_LOST;
    case MEMBER_UNHEARD:
    case MEMBER_RECOVERING:
    case MEMBER_BEHIND:
    case MEMBER_FRESH:
    case MEMBER_RUNNING:
        break;
    }
    if (!incarnation_equal(n->incarnation, t->config.primary_incarnation)) {
        return STANDING_LOST; /* R4 */
    }
    bool relieved = node_disabled(n) ||
                    (n->full && core_has_room(c, t, &t->config.in_sync));
    return relieved ? STANDING_PLANNED : STANDING_GOOD;
}

/* R8 (b): I is lost; a member of E, after our own leases have run out. */
static enum verdict elect_eligible(struct core *c, struct tablet *t,
                                   struct replica *out)
{
    struct tally tally = count_set(c, t, &t->config.eligible);
    /* After a power loss the members of I may be on their way as well. */
    tally.gone += count_set(c, t, &t->config.in_sync).gone;
    if (!tally.found || !settled(c, t, &tally)) {
        return VERDICT_WAIT;
    }
    t->withheld = true;
    if (c->now_us < t->lease_us + c->times.lease_us) {
        return VERDICT_WAIT;
    }
    *out = tally.best;
    return VERDICT_ELECT_ELIGIBLE;
}

/* R15: the primary has released its epoch, so the one it names need only be
 * there; a heartbeat that is older than the last commit does not count
 * against it. */
static bool may_take_over(struct core *c, const struct tablet *t,
                          struct replica wish)
{
    enum member_state s = member_state(c, t, wish);
    return set_has(&t->config.in_sync, wish) &&
           (member_state_fit(s) || s == MEMBER_BEHIND);
}

enum verdict core_elect(struct core *c, struct tablet *t, struct replica wish,
                        struct replica *out)
{
    t->withheld = false;
    if (wish.node != 0 && may_take_over(c, t, wish)) {
        *out = wish;
        return VERDICT_ELECT;
    }
    enum standing standing = primary_standing(c, t);
    if (standing == STANDING_GOOD && wish.node == 0) {
        return VERDICT_KEEP;
    }
    struct tally tally = count_set(c, t, &t->config.in_sync);
    if (standing != STANDING_LOST) {
        /* Only for another that is running; else the primary stays. */
        const struct node *best = core_node(c, tally.best.node);
        bool other = tally.found && !node_disabled(best) && !best->full &&
                     member_state(c, t, tally.best) == MEMBER_RUNNING;
        *out = tally.best;
        return other ? VERDICT_ELECT : VERDICT_KEEP;
    }
    if (tally.found) {
        *out = tally.best;
        return settled(c, t, &tally) ? VERDICT_ELECT : VERDICT_WAIT;
    }
    if (HAS_BUG(&c->o, promote_outsider)) {
        tally = count_set(c, t, &t->config.learners);
        *out = tally.best;
        return tally.found ? VERDICT_ELECT : VERDICT_WAIT;
    }
    return tally.unclear > 0 ? VERDICT_WAIT : elect_eligible(c, t, out);
}
