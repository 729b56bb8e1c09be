#include "tests/unit/coordinator_rig.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Check writes to a pipe at each assertion; this one only when it fails. */
#define MUST(what)                                                             \
    do {                                                                       \
        if (!(what)) {                                                         \
            ck_abort_msg("%s", #what);                                         \
        }                                                                      \
    } while (0)

/* ---- what must hold ---- */

/* Written anew from replication.md: reachable and able to vouch. */
static bool there_undamaged(const struct rig *r, uint32_t tablet,
                            struct replica m)
{
    const struct node *n = core_node_const(r->core, m.node);
    if (n == NULL || !id128_equal(n->store, m.store) || n->live != LIVE_UP ||
        n->slots == NULL) {
        return false;
    }
    const struct slot *s = &n->slots[tablet - 1];
    return n->beats > 0 && s->beat == n->beats && !s->left &&
           (s->report.flags & REPORT_DAMAGED) == 0 &&
           (s->report.flags & REPORT_RECOVERED) != 0 &&
           name_compare(s->report.last,
                        r->core->tablets[tablet - 1].committed) >= 0;
}

static void check_entering(const struct rig *r, const struct configuration *old,
                           const struct configuration *new, struct replica m)
{
    if (set_has(&old->in_sync, m)) {
        return;
    }
    const struct core_event *ev = r->event;
    bool shadow =
        ev->kind == CORE_CHANGE && ev->u.change->kind == CHANGE_ADD &&
        ev->u.change->tablet == old->tablet &&
        ev->u.change->epoch == old->epoch &&
        replica_equal(ev->u.change->subject, m) &&
        replica_equal(old->primary,
                      (struct replica){ev->peer->node, ev->peer->store}) &&
        incarnation_equal(old->primary_incarnation, ev->peer->incarnation);
    if (shadow) {
        return;
    }
    /* R8 (b) is the only other door. */
    MUST(set_has(&old->eligible, m));
    for (uint32_t i = 0; i < old->in_sync.count; i++) {
        ck_assert_msg(!there_undamaged(r, old->tablet, old->in_sync.at[i]),
                      "R8b: node %u is there", old->in_sync.at[i].node);
    }
}

static void check_eligible(const struct rig *r, const struct configuration *old,
                           const struct configuration *new)
{
    if (new->in_sync.count >= r->core->min_insync) {
        MUST(new->eligible.count == 0);
        return;
    }
    for (uint32_t i = 0; i < new->eligible.count; i++) {
        struct replica m = new->eligible.at[i];
        MUST(set_has(&old->eligible, m) || set_has(&old->in_sync, m));
        MUST(!set_has(&new->in_sync, m));
    }
}

static void check_config(const struct rig *r, const struct configuration *old,
                         const struct configuration *new)
{
    MUST(new->in_sync.count >= 1);
    MUST(set_has(&new->in_sync, new->primary));
    if (new->epoch == old->epoch) {
        MUST(memcmp(old, new, sizeof(*old)) == 0);
        return;
    }
    MUST(new->epoch == old->epoch + 1); /* R1 */
    MUST(new->hash_first == old->hash_first);
    MUST(new->hash_last == old->hash_last);
    MUST(r->fx.map && r->fx.durable);
    for (uint32_t i = 0; i < new->in_sync.count; i++) {
        MUST(!set_has(&new->learners, new->in_sync.at[i]));
        check_entering(r, old, new, new->in_sync.at[i]);
    }
    check_eligible(r, old, new);
    MUST(new->in_sync.count + new->learners.count <= LIMIT_REPLICAS);
    /* R4: the primary's incarnation is the one registered. */
    const struct node *n = core_node_const(r->core, new->primary.node);
    MUST(n != NULL);
    MUST(incarnation_equal(n->incarnation, new->primary_incarnation));
    MUST(id128_equal(n->store, new->primary.store));
}

static void check_all(const struct rig *r)
{
    struct core *c = r->core;
    for (uint32_t i = 0; i < r->before_count; i++) {
        check_config(r, &r->before[i], &c->tablets[i].config);
    }
    MUST(c->version <= r->version_before + 1);
    /* Loads are counted, not guessed. */
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        unsigned primaries = 0;
        for (uint32_t t = 0; t < c->tablet_count; t++) {
            primaries += c->nodes[i].role == ROLE_STORAGE &&
                         c->tablets[t].config.primary.node == c->nodes[i].id;
        }
        MUST(c->nodes[i].primaries == primaries);
    }
}

/* ---- answers ---- */

static enum status wire_status(uint16_t number)
{
    enum status s;
    MUST(status_from_wire(number, &s));
    return s;
}

static void take_answer(struct rig *r, const struct core_answer *a)
{
    struct arena arena = {0};
    struct wire_msg m;
    enum status s =
        wire_decode(slice_make(r->fx.frames.data + a->at, a->len), &arena, &m);
    MUST(s == ST_OK);
    r->answer_after = a->after;
    if (m.type == MSG_HEARTBEAT_ACK) {
        r->ack_status = wire_status(m.u.heartbeat_ack.status);
        r->lease_count = m.u.heartbeat_ack.leases_count;
        MUST(r->lease_count <= RIG_TABLETS);
        for (uint32_t i = 0; i < r->lease_count; i++) {
            r->leases[i] = m.u.heartbeat_ack.leases[i];
        }
    } else if (m.type == MSG_CHANGE_ACK) {
        r->change_status = wire_status(m.u.change_ack.status);
        r->change_epoch = m.u.change_ack.epoch;
    } else if (m.type == MSG_ACK) {
        r->ack_status = wire_status(m.u.ack.status);
    } else {
        MUST(m.type == MSG_REPORTS);
        r->report_nodes = m.u.reports.nodes_count;
        r->coordinators = 0;
        for (uint32_t i = 0; i < r->report_nodes; i++) {
            const struct node_info *n = &m.u.reports.nodes[i].node;
            r->coordinators += n->role == ROLE_COORDINATOR && n->node != 0 &&
                               n->name.len > 0 && n->state == NODE_UP &&
                               n->services_count == 1;
        }
    }
    arena_free(&arena);
}

void rig_step(struct rig *r, struct core_event *ev)
{
    struct core *c = r->core;
    ev->now_us = r->now_us;
    r->event = ev;
    r->before_count = c->tablet_count;
    r->version_before = c->version;
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        r->before[i] = c->tablets[i].config;
    }
    core_effects_clear(&r->fx);
    core_step(c, ev, &r->fx);
    check_all(r);
    for (size_t i = 0; i < r->fx.answer_count; i++) {
        take_answer(r, &r->fx.answers[i]);
    }
    if (r->auto_publish && c->version > c->published) {
        struct core_effects none = {0};
        struct core_event p = {.kind = CORE_PUBLISHED,
                               .now_us = r->now_us,
                               .u.version = c->version};
        core_step(c, &p, &none);
        MUST(!none.map);
        core_effects_free(&none);
    }
}

/* ---- making ---- */

void rig_init(struct rig *r, unsigned replicas, unsigned nodes,
              unsigned tablets)
{
    memset(r, 0, sizeof(*r));
    MUST(tablets <= RIG_TABLETS);
    r->now_us = 1000 * RIG_S;
    r->auto_publish = true;
    r->o = (struct core_options){
        .replicas = replicas,
        .tablets = tablets,
        .initial_nodes = nodes,
        .times = coordinator_defaults().times,
        .cluster = {{7}},
        .term = 1,
        .version = 1,
        .now_us = r->now_us,
    };
    r->core = core_new(&r->o);
    for (unsigned i = 0; i < RIG_NODES; i++) {
        struct rig_node *n = &r->nodes[i];
        n->peer.node = i + 1;
        n->peer.role = ROLE_STORAGE;
        n->peer.store.b[0] = (uint8_t)(i + 1);
        n->conn = 100 * (i + 1);
        n->state = NODE_UP;
        (void)snprintf(n->peer.name, sizeof(n->peer.name), "storage-%u", i + 1);
    }
}

void rig_fini(struct rig *r)
{
    core_free(r->core);
    core_effects_free(&r->fx);
}

void rig_start(struct rig *r, unsigned i)
{
    struct rig_node *n = &r->nodes[i];
    n->runs = true;
    n->conn++;
    n->peer.incarnation.counter++;
    n->peer.incarnation.random = n->peer.incarnation.counter * 77 + i;
    for (uint32_t t = 0; t < RIG_TABLETS; t++) {
        n->reports[t].role = REPLICA_NONE;
        n->reports[t].flags &= REPORT_DAMAGED | REPORT_RECOVERED;
    }
    rig_beat(r, i);
}

void rig_wipe(struct rig *r, unsigned i)
{
    struct rig_node *n = &r->nodes[i];
    n->peer.store.b[1]++;
    n->peer.incarnation.counter = 0;
    memset(n->reports, 0, sizeof(n->reports));
}

void rig_kill(struct rig *r, unsigned i)
{
    r->nodes[i].runs = false;
}

void rig_reset(struct rig *r, unsigned i)
{
    struct core_event ev = {.kind = CORE_RESET, .conn = r->nodes[i].conn};
    rig_step(r, &ev);
}

void rig_gone(struct rig *r, unsigned i)
{
    struct core_event ev = {
        .kind = CORE_GONE,
        .u.node = {.node = i + 1,
                   .incarnation = r->nodes[i].peer.incarnation,
                   .since_us = r->now_us},
    };
    rig_step(r, &ev);
}

void rig_die(struct rig *r, unsigned i)
{
    rig_kill(r, i);
    rig_reset(r, i);
    rig_gone(r, i);
}

void rig_beat(struct rig *r, unsigned i)
{
    struct rig_node *n = &r->nodes[i];
    struct service rpc = {slice_of("rpc"), slice_of("127.0.0.1:1")};
    struct tablet_report reports[RIG_TABLETS];
    struct msg_heartbeat m = {
        .node = {.node = n->peer.node,
                 .role = ROLE_STORAGE,
                 .state = n->state,
                 .store = n->peer.store,
                 .incarnation = n->peer.incarnation,
                 .name = slice_of(n->peer.name),
                 .services = &rpc,
                 .services_count = 1},
        .stamp_us = r->now_us,
        .oldest_sync_ms = n->sync_ms,
        .oldest_event_ms = n->event_ms,
        .tablets = reports,
    };
    for (uint32_t t = 0; t < RIG_TABLETS && !n->silent_reports; t++) {
        if (n->reports[t].epoch > 0) {
            reports[m.tablets_count] = n->reports[t];
            reports[m.tablets_count++].tablet = t + 1;
        }
    }
    struct core_event ev = {.kind = CORE_HEARTBEAT,
                            .conn = n->conn,
                            .peer = &n->peer,
                            .u.heartbeat = &m};
    if (!n->mute) {
        rig_step(r, &ev);
    }
}

void rig_run(struct rig *r, int64_t us)
{
    int64_t end_us = r->now_us + us;
    while (r->now_us < end_us) {
        r->now_us += r->o.times.tick_us;
        struct core_event ev = {.kind = CORE_TICK};
        rig_step(r, &ev);
        for (unsigned i = 0; i < RIG_NODES; i++) {
            /* Each at its own moment of the 100 ms. */
            int64_t turn = r->now_us / r->o.times.tick_us;
            if (r->nodes[i].runs && turn % 5 == (int64_t)(i % 5)) {
                rig_beat(r, i);
            }
        }
    }
}

static uint8_t role_in(const struct configuration *k, struct replica self,
                       struct incarnation incarnation)
{
    if (replica_equal(k->primary, self) &&
        incarnation_equal(k->primary_incarnation, incarnation)) {
        return REPLICA_PRIMARY;
    }
    if (set_has(&k->in_sync, self)) {
        return REPLICA_SECONDARY;
    }
    return set_has(&k->learners, self) ? REPLICA_LEARNER : REPLICA_NONE;
}

void rig_follow(struct rig *r)
{
    for (unsigned i = 0; i < RIG_NODES; i++) {
        struct rig_node *n = &r->nodes[i];
        struct replica self = rig_replica(r, i);
        for (uint32_t t = 0; t < r->core->tablet_count && n->runs; t++) {
            const struct configuration *k = &r->core->tablets[t].config;
            struct tablet_report *w = &n->reports[t];
            uint8_t role = role_in(k, self, n->peer.incarnation);
            /* R4: no role in an epoch that was durable at its start. */
            if (k->epoch > w->epoch && role != REPLICA_NONE) {
                w->role = role;
                w->epoch = k->epoch;
                w->flags |= REPORT_RECOVERED;
            }
        }
    }
}

void rig_settle(struct rig *r, unsigned nodes)
{
    for (unsigned i = 0; i < nodes; i++) {
        rig_start(r, i);
    }
    MUST(core_placed(r->core));
    rig_follow(r);
    rig_run(r, RIG_S);
}

/* ---- asking ---- */

struct replica rig_replica(const struct rig *r, unsigned i)
{
    return (struct replica){r->nodes[i].peer.node, r->nodes[i].peer.store};
}

const struct configuration *rig_config(const struct rig *r, uint32_t tablet)
{
    return &r->core->tablets[tablet - 1].config;
}

struct tablet_report *rig_report(struct rig *r, unsigned i, uint32_t tablet)
{
    return &r->nodes[i].reports[tablet - 1];
}

enum status rig_change(struct rig *r, unsigned from, uint32_t tablet,
                       enum change_kind kind, struct replica subject)
{
    struct msg_change m = {
        .tablet = tablet,
        .epoch =
            tablet <= r->core->tablet_count ? rig_config(r, tablet)->epoch : 1,
        .kind = (uint8_t)kind,
        .subject = subject,
        .reason = slice_of("test"),
    };
    struct core_event ev = {.kind = CORE_CHANGE,
                            .conn = r->nodes[from].conn,
                            .peer = &r->nodes[from].peer,
                            .u.change = &m};
    rig_step(r, &ev);
    return r->change_status;
}

enum status rig_node_set(struct rig *r, uint32_t node, enum node_state state)
{
    struct msg_node_set m = {.node = node, .state = (uint8_t)state};
    struct env_peer operator= {.role = ROLE_CLIENT};
    struct core_event ev = {.kind = CORE_NODE_SET,
                            .conn = 1,
                            .peer = &operator,
                            .u.node_set = & m };
    rig_step(r, &ev);
    return r->ack_status;
}

const char *rig_ids(const struct replica_set *s, char out[64])
{
    size_t at = 0;
    out[0] = '\0';
    for (uint32_t id = 1; id <= RIG_NODES; id++) {
        for (uint32_t i = 0; i < s->count; i++) {
            if (s->at[i].node == id) {
                at += (size_t)snprintf(out + at, 64 - at, at > 0 ? ",%u" : "%u",
                                       id);
            }
        }
    }
    return out;
}

void rig_one_tablet(struct rig *r)
{
    rig_init(r, 3, 3, 1);
    rig_settle(r, 3);
    MUST(rig_config(r, 1)->primary.node == 1);
    MUST(rig_config(r, 1)->epoch == 1);
}
