/*
 * What must hold at every instant, looked at after every event on the host
 * where it was: at most one replica of a tablet serves (I1), replicas that
 * have applied the same seq have the same state (I4), what is applied at a seq
 * is the same entry everywhere and for ever (which is most of I2), no replica
 * cuts what it knows to be committed (I5), and a replica's applied seq never
 * goes back while its process lives.
 */
#include "tests/sim/cluster.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What the first replica had that applied (tablet, name.seq). */
struct fact {
    uint32_t tablet; /* + 1; 0: free */
    struct name name;
    struct id128 digest;
    struct member *by;
};

struct checks {
    struct cluster *c;
    struct fact *facts;
    size_t mask, count;
};

static void tap(void *ctx, struct sim_host *from, struct sim_host *to,
                const struct wire_msg *m);

struct checks *checks_new(struct cluster *c)
{
    struct checks *k = xcalloc(1, sizeof(*k));
    k->c = c;
    k->mask = 4095;
    k->facts = xcalloc(k->mask + 1, sizeof(*k->facts));
    sim_net_tap(c->w, tap, k);
    return k;
}

void checks_free(struct checks *k)
{
    if (k != NULL) {
        free(k->facts);
        free(k);
    }
}

uint64_t checks_applied(const struct checks *k)
{
    return k->count;
}

static struct fact *fact_slot(struct checks *k, uint32_t tablet, uint64_t seq)
{
    uint64_t hash = (seq * 31 + tablet) * UINT64_C(0x9e3779b97f4a7c15);
    size_t i = (size_t)(hash >> 20) & k->mask;
    while (k->facts[i].tablet != 0 &&
           (k->facts[i].tablet != tablet + 1 || k->facts[i].name.seq != seq)) {
        i = (i + 1) & k->mask;
    }
    return &k->facts[i];
}

static void facts_grow(struct checks *k)
{
    struct fact *old = k->facts;
    size_t size = k->mask + 1;
    k->mask = 2 * size - 1;
    k->facts = xcalloc(k->mask + 1, sizeof(*k->facts));
    for (size_t i = 0; i < size; i++) {
        if (old[i].tablet != 0) {
            *fact_slot(k, old[i].tablet - 1, old[i].name.seq) = old[i];
        }
    }
    free(old);
}

static void check_applied(struct checks *k, struct member *m, uint32_t tablet,
                          struct name name, struct id128 digest)
{
    if (k->count >= k->mask / 2) {
        facts_grow(k);
    }
    struct fact *f = fact_slot(k, tablet, name.seq);
    if (m->rotten) {
        return;
    }
    if (f->tablet == 0) {
        *f = (struct fact){tablet + 1, name, digest, m};
        k->count++;
        return;
    }
    if (!name_equal(f->name, name)) {
        sim_cluster_fail(
            k->c,
            "I2: tablet %u seq %" PRIu64 ": %s applied the entry of "
            "epoch %" PRIu64 ", %s that of epoch %" PRIu64,
            tablet, name.seq, f->by->name, f->name.epoch, m->name, name.epoch);
    } else if (!id128_equal(f->digest, digest)) {
        sim_cluster_fail(k->c,
                         "I4: tablet %u: %s and %s differ after seq %" PRIu64,
                         tablet, f->by->name, m->name, name.seq);
    }
}

static void check_tablet(struct checks *k, struct member *m, uint32_t tablet)
{
    struct name name;
    struct id128 digest;
    if (!storage_node_digest(member_object(m), tablet, &name, &digest)) {
        m->applied[tablet] = (struct name){0};
        return;
    }
    if (name.seq != m->applied[tablet].seq) {
        check_applied(k, m, tablet, name, digest);
        m->applied[tablet] = name;
    }
}

/* ---- what was shown to others (R1, R3) ---- */

static struct member *member_of_host(struct cluster *c, struct sim_host *h)
{
    for (unsigned i = 0; i < c->member_count; i++) {
        if (c->members[i].host == h) {
            return &c->members[i];
        }
    }
    return NULL;
}

static void shown(struct member *m, uint32_t tablet, uint64_t epoch)
{
    if (tablet < CLUSTER_TABLETS && epoch > m->shown[tablet]) {
        m->shown[tablet] = epoch;
    }
}

/* ---- what is acknowledged (R3, R6) ---- */

/* A replica's matched place begins at 0 in each epoch and is raised by that
 * epoch's PREPAREs alone: what it acknowledges is at or below one of them. */
static void note_prepare(struct member *to, const struct msg_prepare *m)
{
    if (to == NULL || m->tablet >= CLUSTER_TABLETS) {
        return;
    }
    struct asked *a = &to->asked[m->tablet];
    if (m->epoch > a->epoch) {
        *a = (struct asked){m->epoch, m->entry.seq};
    } else if (m->epoch == a->epoch && m->entry.seq > a->seq) {
        a->seq = m->entry.seq;
    }
}

static bool is_learner(const struct member *m, uint32_t tablet)
{
    struct tablet_report all[CLUSTER_TABLETS];
    void *node = member_object(m);
    uint32_t count =
        node == NULL ? 0 : storage_node_tablets(node, all, CLUSTER_TABLETS);
    for (uint32_t i = 0; i < count; i++) {
        if (all[i].tablet == tablet && all[i].role == REPLICA_SECONDARY) {
            return false;
        }
    }
    return true;
}

static void check_prepared(struct checks *k, struct member *by,
                           const struct msg_prepared *m)
{
    if (m->tablet >= CLUSTER_TABLETS) {
        return;
    }
    const struct asked *a = &by->asked[m->tablet];
    bool asked =
        m->epoch < a->epoch || (m->epoch == a->epoch && m->name.seq <= a->seq);
    /* What a learner has may have come in a snapshot. */
    if (!asked && !is_learner(by, m->tablet)) {
        sim_cluster_fail(k->c,
                         "R6: %s acknowledges %" PRIu64 ".%" PRIu64
                         " of tablet %u in epoch %" PRIu64
                         ", but was asked for seq %" PRIu64
                         " at most, in epoch %" PRIu64,
                         by->name, m->name.epoch, m->name.seq, m->tablet,
                         m->epoch, a->seq, a->epoch);
    }
}

static void tap(void *ctx, struct sim_host *from, struct sim_host *to,
                const struct wire_msg *m)
{
    struct checks *k = ctx;
    struct member *by = member_of_host(k->c, from);
    if (m->type == MSG_PREPARE) {
        note_prepare(member_of_host(k->c, to), &m->u.prepare);
    } else if (m->type == MSG_PREPARED) {
        check_prepared(k, by, &m->u.prepared);
    }
    switch ((int)m->type) {
#define SHOWS(NAME, msg)                                                       \
    case MSG_##NAME:                                                           \
        shown(by, m->u.msg.tablet, m->u.msg.epoch);                            \
        break;
        SHOWS(PREPARE, prepare)
        SHOWS(PREPARED, prepared)
        SHOWS(TAIL, tail)
        SHOWS(CUT_DONE, cut_done)
#undef SHOWS
    case MSG_ECHO:
        for (uint32_t i = 0; i < m->u.echo.tablets_count; i++) {
            shown(by, m->u.echo.tablets[i].tablet, m->u.echo.tablets[i].epoch);
        }
        break;
    case MSG_MAP:
        for (uint32_t i = 0; i < m->u.map.tablets_count; i++) {
            shown(by, m->u.map.tablets[i].tablet, m->u.map.tablets[i].epoch);
        }
        break;
    default:
        break;
    }
}

static void check_shown(struct checks *k, struct member *m, uint32_t tablet,
                        uint64_t epoch)
{
    if (tablet < CLUSTER_TABLETS && epoch < m->shown[tablet]) {
        sim_cluster_fail(k->c,
                         "%s: %s starts with epoch %" PRIu64
                         " of tablet %u, but has shown %" PRIu64,
                         m->kind == MEMBER_STORAGE ? "R3" : "R1", m->name,
                         epoch, tablet, m->shown[tablet]);
    }
}

void checks_started(struct checks *k, struct member *m)
{
    if (m->forgets) {
        memset(m->shown, 0, sizeof(m->shown));
        m->forgets = false;
    }
    if (m->kind == MEMBER_STORAGE) {
        struct tablet_report reports[CLUSTER_TABLETS] = {0};
        uint32_t count =
            storage_node_tablets(member_object(m), reports, CLUSTER_TABLETS);
        for (uint32_t i = 0; i < count; i++) {
            check_shown(k, m, reports[i].tablet, reports[i].epoch);
        }
    } else if (m->kind == MEMBER_COORDINATOR) {
        const struct msg_map *map = coordinator_map(member_object(m));
        for (uint32_t i = 0; map != NULL && i < map->tablets_count; i++) {
            check_shown(k, m, map->tablets[i].tablet, map->tablets[i].epoch);
        }
    }
}

void checks_forget(struct member *m)
{
    /* Not yet: what it sent before is still on its way. */
    m->forgets = true;
}

/* I1. A process in the middle of an event looks at its clock again before it
 * serves anything more. */
static void check_serving(struct checks *k, struct member *m, uint32_t tablet)
{
    if (sim_host_busy(m->host) ||
        !storage_node_serving(member_object(m), tablet)) {
        return;
    }
    for (unsigned i = 0; i < k->c->member_count; i++) {
        struct member *o = &k->c->members[i];
        if (o != m && o->kind == MEMBER_STORAGE && member_object(o) != NULL &&
            !sim_host_busy(o->host) &&
            storage_node_serving(member_object(o), tablet)) {
            sim_cluster_fail(k->c, "I1: %s and %s both serve tablet %u",
                             m->name, o->name, tablet);
        }
    }
}

void checks_observe(struct checks *k, struct sim_host *h)
{
    struct member *m = member_of_host(k->c, h);
    if (m == NULL || m->kind != MEMBER_STORAGE || member_object(m) == NULL) {
        return;
    }
    for (uint32_t t = 0; t <= k->c->o.tablets && t < CLUSTER_TABLETS; t++) {
        check_tablet(k, m, t);
        check_serving(k, m, t);
    }
}

void checks_cut(struct checks *k, struct member *m, uint32_t tablet,
                struct name to, struct name committed)
{
    world_trace(k->c->w,
                "%s cuts tablet %u to %" PRIu64 ".%" PRIu64
                ", committed %" PRIu64 ".%" PRIu64,
                m->name, tablet, to.epoch, to.seq, committed.epoch,
                committed.seq);
    if (to.seq < committed.seq) {
        sim_cluster_fail(k->c,
                         "I5: %s cuts tablet %u to seq %" PRIu64
                         " although %" PRIu64 " is committed",
                         m->name, tablet, to.seq, committed.seq);
    }
}

bool checks_values(struct checks *k, struct buf *why)
{
    for (unsigned i = 0; i < k->c->member_count; i++) {
        struct member *m = &k->c->members[i];
        if (m->kind != MEMBER_STORAGE || member_object(m) == NULL ||
            sim_disk_was_damaged(m->host)) {
            continue;
        }
        uint64_t bad = storage_node_bad_values(member_object(m));
        if (bad > 0) {
            buf_printf(why, "%s: %" PRIu64 " values are not what they were\n",
                       m->name, bad);
            return false;
        }
    }
    return true;
}

bool checks_equal(struct checks *k, struct buf *why)
{
    const struct msg_map *map = sim_cluster_map(k->c);
    if (map == NULL) {
        buf_put_text(why, "no map\n");
        return false;
    }
    for (uint32_t i = 0; i < map->tablets_count; i++) {
        const struct tablet_config *t = &map->tablets[i];
        struct name first = {0};
        for (unsigned j = 0; j < k->c->member_count; j++) {
            struct member *m = &k->c->members[j];
            bool member = false;
            for (uint32_t r = 0; r < t->in_sync_count; r++) {
                member =
                    member || (m->node != 0 && t->in_sync[r].node == m->node);
            }
            struct name name = {0};
            struct id128 digest;
            if (!member) {
                continue;
            }
            if (member_object(m) == NULL ||
                !storage_node_digest(member_object(m), t->tablet, &name,
                                     &digest) ||
                (first.seq != 0 && !name_equal(first, name))) {
                buf_printf(why,
                           "tablet %u: %s has applied %" PRIu64 ".%" PRIu64
                           ", another %" PRIu64 ".%" PRIu64 "\n",
                           t->tablet, m->name, name.epoch, name.seq,
                           first.epoch, first.seq);
                return false;
            }
            first = name;
        }
    }
    return true;
}
