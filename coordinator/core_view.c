/*
 * What people are shown: the reports of all replicas (REPORTS), the reasons
 * why the cluster is not whole, and what is counted.
 */
#include "coordinator/core_parts.h"

#include <inttypes.h>

/* ---- REPORTS ---- */

/* Tablets of all nodes in one answer: twice what there can be, and no more
 * than a frame takes, for a faulty node may report tablets that it has not. */
#define REPORTED_MOST (2 * LIMIT_TABLETS * LIMIT_REPLICAS)
_Static_assert(REPORTED_MOST * 64 + LIMIT_NODES * KIB(4) < LIMIT_FRAME,
               "an answer fits a frame");

/* LEFT counts down how many tablets there is room for. */
static struct node_report report_of(struct core *c, const struct node *n,
                                    struct arena *a, uint32_t *left)
{
    const struct msg_map *map = core_map(c);
    struct node_report r = {.connections = n->connections};
    int64_t age_us = c->now_us - n->heard_us;
    r.heartbeat_age_ms = (uint32_t)(age_us / 1000);
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        if (map->nodes[i].node == n->id && map->nodes[i].role == n->role) {
            r.node = map->nodes[i];
        }
    }
    if (n->slots != NULL) {
        r.tablets = arena_alloc(a, c->tablet_count * sizeof(*r.tablets));
        for (uint32_t i = 0; i < c->tablet_count; i++) {
            bool told = n->beats > 0 && n->slots[i].beat == n->beats;
            if (told && *left > 0) {
                --*left;
                r.tablets[r.tablets_count++] = n->slots[i].report;
            }
        }
    }
    return r;
}

/* This process: the map does not have it, people want to see it. */
static struct node_report own_report(const struct core *c, struct arena *a)
{
    struct node_info n = {.node = c->o.node,
                          .role = ROLE_COORDINATOR,
                          .state = NODE_UP,
                          .name = slice_of(c->o.name)};
    if (c->o.status_address != NULL) {
        n.services = arena_alloc(a, sizeof(*n.services));
        n.services[n.services_count++] =
            (struct service){slice_of("status"), slice_of(c->o.status_address)};
    }
    return (struct node_report){.node = n};
}

void core_on_reports_ask(struct core *c, const struct core_event *ev,
                         struct core_effects *fx)
{
    struct arena a = {0};
    struct msg_reports m = {.term = c->term, .version = c->published};
    uint32_t left = REPORTED_MOST;
    m.nodes = arena_alloc(&a, LIMIT_NODES * sizeof(*m.nodes));
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        const struct node *n = &c->nodes[i];
        /* What is not durable yet is nobody's business (R1). */
        if (n->id != 0 && n->registered <= c->published &&
            (ev->u.reports_of == 0 || ev->u.reports_of == n->id)) {
            m.nodes[m.nodes_count++] = report_of(c, n, &a, &left);
        }
    }
    if (c->o.name != NULL && ev->u.reports_of == 0 &&
        m.nodes_count < LIMIT_NODES) {
        m.nodes[m.nodes_count++] = own_report(c, &a);
    }
    size_t at = fx->frames.len;
    wire_put_reports(&fx->frames, ev->request, &m);
    core_answer(fx, ev, 0, at);
    arena_free(&a);
}

/* ---- what is not as it should be ---- */

static void put_names(const struct core *c, const struct replica_set *set,
                      const char *between, struct buf *out)
{
    for (uint32_t i = 0; i < set->count; i++) {
        const struct node *n = core_node_const(c, set->at[i].node);
        buf_printf(out, "%s%s", i == 0 ? "" : between,
                   n == NULL ? "an unknown node" : n->name);
    }
}

/* The members of T's I whose disk is full: writes cannot do without them. */
static struct replica_set full_members(const struct core *c,
                                       const struct tablet *t)
{
    struct replica_set full = {0};
    for (uint32_t i = 0; i < t->config.in_sync.count; i++) {
        struct replica r = t->config.in_sync.at[i];
        const struct node *n = core_node_const(c, r.node);
        if (n != NULL && n->full && id128_equal(n->store, r.store)) {
            (void)set_add(&full, r);
        }
    }
    return full;
}

static const char *name_of(const struct core *c, struct replica r)
{
    const struct node *n = core_node_const(c, r.node);
    return n == NULL ? "?" : n->name;
}

static const char *reason_of(const struct core *c, const struct tablet *t,
                             struct replica r)
{
    const struct node *n = core_node_const(c, r.node);
    switch (member_state(c, t, r)) {
    case MEMBER_GONE:
        return n != NULL && n->live == LIVE_UP ? "has another, empty store"
                                               : "is down";
    case MEMBER_UNHEARD:
    case MEMBER_RECOVERING:
        return "is starting";
    case MEMBER_DAMAGED:
        return "is up, but its copy is damaged";
    case MEMBER_SHORT:
        return "is up, but has less than it acknowledged";
    case MEMBER_BEHIND:
    case MEMBER_FRESH:
    case MEMBER_RUNNING:
        break;
    }
    return "is up";
}

/* Why none of those who could be primary is: I, then E (R8 b). */
static void put_reasons(const struct core *c, const struct tablet *t,
                        struct buf *out)
{
    const struct replica_set *sets[] = {&t->config.in_sync,
                                        &t->config.eligible};
    const char *between = " (";
    for (size_t k = 0; k < 2; k++) {
        for (uint32_t i = 0; i < sets[k]->count; i++) {
            buf_printf(out, "%s%s %s", between, name_of(c, sets[k]->at[i]),
                       reason_of(c, t, sets[k]->at[i]));
            between = "; ";
        }
    }
    buf_put_text(out, ")");
}

/* One line for T if it is not whole. */
static void describe_tablet(const struct core *c, const struct tablet *t,
                            struct buf *out)
{
    const struct configuration *k = &t->config;
    struct replica_set full = full_members(c, t);
    if (t->headless) {
        buf_printf(out, "tablet %" PRIu32 ": no primary; unavailable until ",
                   k->tablet);
        put_names(c, &k->in_sync, " or ", out);
        buf_put_text(out, " returns undamaged");
        put_reasons(c, t, out);
        buf_put_text(out, "\n");
    } else if (t->wanted_out.node != 0 && c->now_us < t->wanted_until_us) {
        buf_printf(out,
                   "tablet %" PRIu32 ": %s and %s do not reach each other; "
                   "writes wait until they do\n",
                   k->tablet, name_of(c, k->primary),
                   name_of(c, t->wanted_out));
    } else if (full.count > 0) {
        buf_printf(out, "tablet %" PRIu32 ": disk full on ", k->tablet);
        put_names(c, &full, " and ", out);
        buf_put_text(out, "; writes refused until there is room\n");
    } else if (k->in_sync.count < c->replicas) {
        bool writes = k->in_sync.count >= c->min_insync;
        buf_printf(out, "tablet %" PRIu32 ": %" PRIu32 " of %u in sync%s",
                   k->tablet, k->in_sync.count, c->replicas,
                   writes ? "" : "; writes refused");
        if (k->learners.count > 0) {
            buf_put_text(out, writes ? "; whole again when " : " until ");
            put_names(c, &k->learners, " or ", out);
            buf_put_text(out, writes ? " has caught up" : " returns");
        }
        buf_put_text(out, "\n");
    }
}

void core_degraded(const struct core *c, struct buf *out)
{
    if (c->tablet_count == 0) {
        unsigned known = 0;
        for (size_t i = 0; i < LIMIT_NODES; i++) {
            known += c->nodes[i].id != 0 && c->nodes[i].role == ROLE_STORAGE &&
                     c->nodes[i].live == LIVE_UP;
        }
        buf_printf(out, "no tablets yet: %u of %u storage nodes are there\n",
                   known, c->o.initial_nodes);
    }
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        describe_tablet(c, &c->tablets[i], out);
    }
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        const struct node *n = &c->nodes[i];
        if (n->id != 0 && n->role == ROLE_STORAGE && n->stalled) {
            buf_printf(out,
                       "%s: its disk or a shard of it stands still; its "
                       "heartbeats do not count\n",
                       n->name);
        }
        if (n->id != 0 && n->role == ROLE_STORAGE && n->full &&
            n->live == LIVE_UP) {
            buf_printf(out, "%s: disk full; it takes no writes\n", n->name);
        }
    }
}

void core_get_stats(const struct core *c, struct coordinator_stats *out)
{
    *out = c->stats;
    out->term = c->term;
    out->version = c->published;
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        const struct node *n = &c->nodes[i];
        if (n->id != 0 && n->role == ROLE_STORAGE) {
            out->nodes_up += n->live != LIVE_DOWN;
            out->nodes_down += n->live == LIVE_DOWN;
        }
    }
    out->tablets = c->tablet_count;
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        out->tablets_degraded +=
            c->tablets[i].headless ||
            c->tablets[i].config.in_sync.count < c->replicas;
        out->tablets_headless += c->tablets[i].headless;
    }
}
