/*
 * Where replicas are (R25): the first placement, the learners that bring a
 * tablet back to `replicas` copies, and how long a slow one stays out (R11).
 *
 * Learners. A member that leaves I stays on as a learner, also while its node
 * is down: the list is how its return is remembered, and its copy is nearly
 * whole. Not on the list are: a store that is gone for good (its node came
 * with another one), a disabled node, a damped replica, and one that is down
 * for longer than rereplicate_after when another node can take its place.
 * Where members and learners are fewer than `replicas`, the node with the
 * fewest replicas is added; one more while the primary cannot reach a member
 * that may not be removed yet (R11).
 *
 * Balance. A node that returned has no primaries. When everything has been
 * whole for balance_us, one primary a second moves from the fullest node to the
 * emptiest, until none has two more than another.
 *
 * First placement is round robin over the nodes in order of their ids: members
 * of tablet t are t, t + 1, ... and its primary is t, all modulo the number
 * of nodes; so replicas and primaries differ by at most one between nodes.
 * Tablets are empty then: all members are in sync by being so.
 */
#include "coordinator/core_parts.h"

#include <assert.h>
#include <stdlib.h>

/* ---- load ---- */

void core_count_load(struct core *c, const struct configuration *config,
                     int sign)
{
    const struct replica_set *sets[] = {&config->in_sync, &config->learners};
    for (size_t s = 0; s < 2; s++) {
        for (uint32_t i = 0; i < sets[s]->count; i++) {
            struct node *n = core_node(c, sets[s]->at[i].node);
            if (n != NULL) {
                n->replicas += (unsigned)sign;
            }
        }
    }
    struct node *n = core_node(c, config->primary.node);
    if (n != NULL) {
        n->primaries += (unsigned)sign;
    }
}

/* ---- damping (R11) ---- */

static struct damp *find_damp(struct tablet *t, struct replica who)
{
    struct damp *oldest = &t->damps[0];
    for (size_t i = 0; i < LIMIT_REPLICAS; i++) {
        if (replica_equal(t->damps[i].who, who)) {
            return &t->damps[i];
        }
        if (t->damps[i].since_us < oldest->since_us) {
            oldest = &t->damps[i];
        }
    }
    *oldest = (struct damp){.who = who};
    return oldest;
}

/* Twice as long as the last time, unless that was long ago. */
void core_damp(struct core *c, struct tablet *t, struct replica who)
{
    struct damp *d = find_damp(t, who);
    bool again = d->wait_us > 0 &&
                 c->now_us - d->since_us < d->wait_us + c->times.damp_max_us;
    int64_t wait_us = again ? 2 * d->wait_us : c->times.damp_us;
    d->wait_us =
        wait_us < c->times.damp_max_us ? wait_us : c->times.damp_max_us;
    d->since_us = c->now_us;
}

/* How often it was slow is kept in mind. */
void core_undamp(struct core *c, struct replica who)
{
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        for (size_t j = 0; j < LIMIT_REPLICAS; j++) {
            struct damp *d = &c->tablets[i].damps[j];
            if (d->wait_us > 0 && replica_equal(d->who, who) &&
                d->since_us > c->now_us - d->wait_us) {
                d->since_us = c->now_us - d->wait_us;
            }
        }
    }
}

bool core_damped(struct core *c, const struct tablet *t, struct replica who)
{
    for (size_t i = 0; i < LIMIT_REPLICAS; i++) {
        const struct damp *d = &t->damps[i];
        const struct node *n = core_node(c, who.node);
        if (d->wait_us > 0 && replica_equal(d->who, who)) {
            int64_t since_us = n != NULL && n->slow_us > d->since_us
                                   ? n->slow_us
                                   : d->since_us;
            return c->now_us - since_us < d->wait_us;
        }
    }
    return false;
}

/* ---- learners ---- */

/* A storage node that can take a replica. */
static bool node_takes(const struct node *n)
{
    return n->id != 0 && n->role == ROLE_STORAGE && n->live == LIVE_UP &&
           n->said == NODE_UP && n->admin == NODE_UP && !n->stalled && !n->full;
}

static bool set_has_node(const struct replica_set *s, uint32_t node)
{
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->at[i].node == node) {
            return true;
        }
    }
    return false;
}

static bool left_for_good(const struct node *n, const struct tablet *t)
{
    return n->slots != NULL && n->slots[t->config.tablet - 1].left;
}

static struct node *find_spare(struct core *c, struct tablet *t,
                               const struct draft *d)
{
    struct node *best = NULL;
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        struct node *n = &c->nodes[i];
        if (!node_takes(n) || set_has_node(&d->in_sync, n->id) ||
            set_has_node(&d->learners, n->id) || left_for_good(n, t) ||
            core_damped(c, t, node_replica(n))) {
            continue;
        }
        if (best == NULL || n->replicas < best->replicas ||
            (n->replicas == best->replicas && n->id < best->id)) {
            best = n;
        }
    }
    return best;
}

/* May R, of the old configuration, go on as a learner? */
static bool may_learn(struct core *c, struct tablet *t, const struct draft *d,
                      struct replica r)
{
    const struct node *n = core_node(c, r.node);
    if (set_has(&d->in_sync, r) || n == NULL ||
        !id128_equal(n->store, r.store) || n->admin == NODE_DISABLED ||
        left_for_good(n, t) || core_damped(c, t, r)) {
        return false;
    }
    bool long_gone = n->live == LIVE_DOWN &&
                     c->now_us - n->down_us > c->times.rereplicate_us;
    return !long_gone || find_spare(c, t, d) == NULL;
}

static void keep_learners(struct core *c, struct tablet *t, struct draft *d,
                          const struct replica_set *from)
{
    for (uint32_t i = 0; i < from->count; i++) {
        if (d->in_sync.count + d->learners.count < LIMIT_REPLICAS &&
            may_learn(c, t, d, from->at[i])) {
            (void)set_add(&d->learners, from->at[i]);
        }
    }
}

void core_choose_learners(struct core *c, struct tablet *t, struct draft *d)
{
    d->learners = (struct replica_set){0};
    keep_learners(c, t, d, &t->config.learners);
    keep_learners(c, t, d, &t->config.in_sync);
    unsigned wanted = c->replicas;
    if (t->wanted_out.node != 0 && c->now_us < t->wanted_until_us) {
        wanted++;
    }
    while (d->in_sync.count + d->learners.count < wanted &&
           d->in_sync.count + d->learners.count < LIMIT_REPLICAS) {
        const struct node *spare = find_spare(c, t, d);
        if (spare == NULL) {
            break;
        }
        (void)set_add(&d->learners, node_replica(spare));
    }
}

/* ---- balance ---- */

static bool all_whole(const struct core *c)
{
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        const struct tablet *t = &c->tablets[i];
        if (t->headless || t->watch || t->forced ||
            t->config.in_sync.count < c->replicas) {
            return false;
        }
    }
    return c->tablet_count > 0;
}

/* May N lead T instead of its primary, at once? */
static bool could_lead(struct core *c, const struct tablet *t,
                       const struct node *n)
{
    enum member_state s = member_state(c, t, node_replica(n));
    return set_has(&t->config.in_sync, node_replica(n)) && node_takes(n) &&
           (s == MEMBER_RUNNING || s == MEMBER_BEHIND);
}

/* The move that evens out most: from the fullest to the emptiest that could
 * lead one of its tablets. */
static struct tablet *find_move(struct core *c, struct replica *to)
{
    struct tablet *best = NULL;
    unsigned best_gain = 1; /* a difference of one is even */
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        struct tablet *t = &c->tablets[i];
        const struct node *from = core_node(c, t->config.primary.node);
        for (uint32_t k = 0; k < t->config.in_sync.count; k++) {
            const struct node *n = core_node(c, t->config.in_sync.at[k].node);
            if (n != NULL && from->primaries > n->primaries + best_gain &&
                could_lead(c, t, n)) {
                best_gain = from->primaries - n->primaries;
                best = t;
                *to = node_replica(n);
            }
        }
    }
    return best;
}

void core_balance(struct core *c, struct core_effects *fx)
{
    struct replica to = {0};
    if (c->times.balance_us == 0 ||
        c->now_us - c->disturbed_us < c->times.balance_us || !all_whole(c)) {
        return;
    }
    struct tablet *t = find_move(c, &to);
    if (t != NULL) {
        c->balancing = true;
        (void)core_review(c, t, (struct wish){.kind = WISH_PRIMARY, .who = to},
                          fx);
        c->balancing = false;
    }
}

/* ---- first placement ---- */

static int by_id(const void *a, const void *b)
{
    const struct node *const *x = a, *const *y = b;
    return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

static void place_tablet(struct core *c, uint32_t index,
                         struct node *const *nodes, size_t count)
{
    struct tablet *t = &c->tablets[index];
    struct replica_set in_sync = {0};
    for (size_t i = 0; i < c->replicas; i++) {
        (void)set_add(&in_sync, node_replica(nodes[(index + i) % count]));
    }
    const struct node *primary = nodes[index % count];
    configuration_first(index + 1, c->tablet_count, &in_sync, &t->config);
    t->config.primary = node_replica(primary);
    t->config.primary_incarnation = primary->incarnation;
    t->changed = c->version;
    t->changed_us = t->lease_us = c->now_us;
    core_count_load(c, &t->config, 1);
    c->stats.epochs++;
}

void core_place(struct core *c, struct core_effects *fx)
{
    struct node *nodes[LIMIT_NODES];
    size_t count = 0;
    for (size_t i = 0; c->tablet_count == 0 && i < LIMIT_NODES; i++) {
        if (node_takes(&c->nodes[i])) {
            nodes[count++] = &c->nodes[i];
        }
    }
    if (c->tablet_count > 0 || count < c->o.initial_nodes) {
        return;
    }
    qsort(nodes, count, sizeof(nodes[0]), by_id);
    core_touch(c, fx, true);
    c->replicas = c->o.replicas;
    c->min_insync = c->replicas / 2 + 1; /* R8 */
    c->tablet_count = c->o.tablets;
    c->tablets = xcalloc(c->tablet_count, sizeof(*c->tablets));
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        place_tablet(c, i, nodes, count);
    }
    core_note(fx, LOG_LEVEL_INFO, "placed",
              "tablets=%u replicas=%u min_insync=%u nodes=%zu", c->tablet_count,
              c->replicas, c->min_insync, count);
}
