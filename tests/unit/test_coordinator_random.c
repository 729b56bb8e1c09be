/*
 * The coordinator's core under random sequences of everything that can happen
 * to it, with a model of the data beside it: what each replica has on disk and
 * what was committed. After each event, besides the rig's checks:
 *
 *   - a new primary has everything that was ever committed (I2);
 *   - so has every member of I and of E that can vouch for its log;
 *   - what was saved loads, and is the same again;
 *   - once faults end, every tablet is whole again within 70 s, unless
 *     a member of I lost its disk for good.
 *
 * RANDOM_SEEDS=N runs more, RANDOM_SEED=S one; a failure names its seed.
 */
#include "tests/unit/coordinator_rig.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS 400
#define NODES 5

struct model {
    struct rig r;
    uint64_t seed, random;
    unsigned tablets;
    struct name committed[RIG_TABLETS];
    bool lost; /* a disk is gone: a tablet may stay without primary */
};

static struct model m;

static uint64_t draw(uint64_t below)
{
    m.random ^= m.random << 13;
    m.random ^= m.random >> 7;
    m.random ^= m.random << 17;
    return (m.random >> 11) % below;
}

#define CHECK(what)                                                            \
    do {                                                                       \
        if (!(what)) {                                                         \
            ck_abort_msg("seed %llu: %s", (unsigned long long)m.seed, #what);  \
        }                                                                      \
    } while (0)

/* ---- the model ---- */

static struct tablet_report *report_of(struct replica who, uint32_t tablet)
{
    struct rig_node *n = &m.r.nodes[who.node - 1];
    if (!id128_equal(n->peer.store, who.store)) {
        return NULL; /* that disk is gone */
    }
    return rig_report(&m.r, who.node - 1, tablet);
}

static bool in_role(struct replica who, uint32_t tablet)
{
    const struct tablet_report *w = report_of(who, tablet);
    return w != NULL && m.r.nodes[who.node - 1].runs &&
           w->epoch == rig_config(&m.r, tablet)->epoch &&
           w->role != REPLICA_NONE && (w->flags & REPORT_DAMAGED) == 0;
}

/* The primary appends; if all of I are there they have it, and at min_insync
 * it is committed (R7, R12 d). */
static void write_entry(uint32_t tablet)
{
    const struct configuration *k = rig_config(&m.r, tablet);
    struct tablet_report *p = report_of(k->primary, tablet);
    if (!in_role(k->primary, tablet) || p->role != REPLICA_PRIMARY) {
        return;
    }
    p->last = (struct name){k->epoch, p->last.seq + 1};
    for (uint32_t i = 0; i < k->in_sync.count; i++) {
        if (!in_role(k->in_sync.at[i], tablet)) {
            return;
        }
    }
    for (uint32_t i = 0; i < k->in_sync.count; i++) {
        report_of(k->in_sync.at[i], tablet)->last = p->last;
    }
    if (k->in_sync.count >= m.r.core->min_insync) {
        m.committed[tablet - 1] = p->last;
        p->committed = p->last;
    }
}

static void check_holder(struct replica who, uint32_t tablet, bool primary)
{
    const struct tablet_report *w = report_of(who, tablet);
    if (w == NULL || (w->flags & REPORT_DAMAGED) != 0) {
        CHECK(!primary);
        return;
    }
    CHECK(name_compare(w->last, m.committed[tablet - 1]) >= 0);
}

static void check_data(void)
{
    for (uint32_t t = 1; t <= m.tablets; t++) {
        const struct configuration *k = rig_config(&m.r, t);
        const struct configuration *old = &m.r.before[t - 1];
        if (m.r.before_count == 0 || k->epoch == old->epoch) {
            continue;
        }
        /* One that is dead without our knowing it will never act (R4). */
        const struct rig_node *p = &m.r.nodes[k->primary.node - 1];
        bool elected =
            !incarnation_equal(k->primary_incarnation,
                               old->primary_incarnation) &&
            p->runs &&
            incarnation_equal(p->peer.incarnation, k->primary_incarnation);
        for (uint32_t i = 0; i < k->in_sync.count; i++) {
            check_holder(k->in_sync.at[i], t,
                         elected &&
                             replica_equal(k->primary, k->in_sync.at[i]));
        }
        for (uint32_t i = 0; i < k->eligible.count; i++) {
            check_holder(k->eligible.at[i], t, false);
        }
    }
}

/* ---- what can happen ---- */

static void reload(void)
{
    struct buf saved = {0}, again = {0};
    struct err err;
    core_save(m.r.core, &saved);
    m.r.o.version = core_version(m.r.core);
    m.r.o.term++;
    m.r.o.now_us = m.r.now_us;
    core_free(m.r.core);
    m.r.core = core_new(&m.r.o);
    CHECK(core_load(m.r.core, buf_slice(&saved), &err) == ST_OK);
    core_save(m.r.core, &again);
    CHECK(slice_equal(buf_slice(&saved), buf_slice(&again)));
    buf_free(&saved);
    buf_free(&again);
}

static void catch_up(struct replica learner, uint32_t tablet)
{
    const struct configuration *k = rig_config(&m.r, tablet);
    struct tablet_report *l = report_of(learner, tablet);
    const struct tablet_report *p = report_of(k->primary, tablet);
    if (l != NULL && p != NULL && m.r.nodes[learner.node - 1].runs) {
        l->last = p->last;
        l->flags = REPORT_RECOVERED;
    }
}

static void ask_change(unsigned node, uint32_t tablet)
{
    const struct configuration *k = rig_config(&m.r, tablet);
    struct replica who = rig_replica(&m.r, (unsigned)draw(NODES));
    enum change_kind kind = (enum change_kind)(1 + draw(4));
    if (draw(4) != 0) {
        node = k->primary.node - 1;
    }
    if (!m.r.nodes[node].runs || m.r.nodes[node].mute) {
        return;
    }
    if (kind == CHANGE_ADD) {
        /* A primary asks only for what is in step with it. */
        if (k->learners.count == 0 || !in_role(k->primary, tablet) ||
            k->primary.node != node + 1) {
            return;
        }
        who = k->learners.at[draw(k->learners.count)];
        if (!in_role(who, tablet)) {
            return;
        }
        catch_up(who, tablet);
    } else if (kind == CHANGE_LEAVE) {
        who = rig_replica(&m.r, node);
    }
    (void)rig_change(&m.r, node, tablet, kind, who);
}

static void lose_power(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        rig_kill(&m.r, i);
    }
    rig_run(&m.r, (int64_t)draw(3 * RIG_S));
}

static void hurt(unsigned i)
{
    struct tablet_report *w =
        rig_report(&m.r, i, 1 + (uint32_t)draw(m.tablets));
    /* Found at the next start (R16). */
    if (draw(6) == 0 && w->epoch > 0 && !m.r.nodes[i].runs) {
        w->flags |= REPORT_DAMAGED;
        w->last.seq -= w->last.seq > 0 ? draw(w->last.seq) : 0;
        m.lost = true;
    }
}

static void happen(void)
{
    unsigned i = (unsigned)draw(NODES);
    struct rig_node *n = &m.r.nodes[i];
    switch (draw(20)) {
    case 0:
        rig_die(&m.r, i);
        break;
    case 1:
        rig_kill(&m.r, i);
        break;
    case 2:
    case 3:
    case 4:
        rig_start(&m.r, i);
        break;
    case 5:
        n->mute = draw(2) == 0;
        break;
    case 6:
        n->sync_ms = draw(3) == 0 ? 1500 : 0;
        break;
    case 7:
        if (draw(8) == 0 && !n->runs) {
            rig_wipe(&m.r, i);
            m.lost = true;
        }
        break;
    case 8:
        hurt(i);
        break;
    case 9:
        if (draw(4) == 0) {
            reload();
        }
        break;
    case 10:
        (void)rig_node_set(&m.r, i + 1, draw(3) == 0 ? NODE_DISABLED : NODE_UP);
        break;
    case 11:
        if (draw(8) == 0) {
            lose_power();
        }
        break;
    case 12:
    case 13:
        rig_run(&m.r, (int64_t)draw(2 * RIG_S));
        break;
    case 14:
        rig_run(&m.r, (int64_t)draw(100) == 0 ? 70 * RIG_S : 40 * RIG_MS);
        break;
    default:
        ask_change(i, 1 + (uint32_t)draw(m.tablets));
    }
}

/* As primaries do when all goes well. */
static void heal(void)
{
    for (uint32_t t = 1; t <= m.tablets; t++) {
        const struct configuration *k = rig_config(&m.r, t);
        for (uint32_t i = 0; i < k->learners.count; i++) {
            struct replica who = k->learners.at[i];
            if (in_role(k->primary, t) && in_role(who, t)) {
                catch_up(who, t);
                (void)rig_change(&m.r, k->primary.node - 1, t, CHANGE_ADD, who);
                rig_follow(&m.r);
                break;
            }
        }
    }
}

static void check_whole_again(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        struct rig_node *n = &m.r.nodes[i];
        n->mute = false;
        n->sync_ms = 0;
        (void)rig_node_set(&m.r, i + 1, NODE_UP);
        rig_start(&m.r, i); /* who asked to leave returns by a restart */
    }
    for (int s = 0; s < 300; s++) { /* the longest damping is over */
        rig_follow(&m.r);
        heal();
        rig_run(&m.r, s < 100 ? 100 * RIG_MS : 300 * RIG_MS);
    }
    for (uint32_t t = 1; t <= m.tablets; t++) {
        CHECK(rig_config(&m.r, t)->in_sync.count >= m.r.core->replicas);
        CHECK(!m.r.core->tablets[t - 1].headless);
    }
}

static void run_seed(uint64_t seed)
{
    m = (struct model){.seed = seed, .random = seed * 0x9e3779b97f4a7c15u + 1};
    unsigned replicas = 1 + (unsigned)draw(4);
    m.tablets = 1 + (unsigned)draw(4);
    rig_init(&m.r, replicas, replicas + (unsigned)draw(NODES - replicas + 1),
             m.tablets);
    m.r.o.times.damp_max_us = 20 * RIG_S;
    m.r.o.times.balance_us = draw(2) == 0 ? 0 : RIG_S;
    m.r.core->times = m.r.o.times;
    rig_settle(&m.r, NODES);
    for (int e = 0; e < EVENTS; e++) {
        happen();
        CHECK(m.r.fx.fatal == ST_OK);
        check_data();
        if (draw(3) != 0) {
            rig_follow(&m.r);
        }
        write_entry(1 + (uint32_t)draw(m.tablets));
    }
    if (!m.lost && seed % 16 == 0) {
        check_whole_again();
    }
    rig_fini(&m.r);
}

static uint64_t number_from(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text == NULL ? fallback : strtoull(text, NULL, 10);
}

START_TEST(nothing_committed_is_ever_lost)
{
    uint64_t one = number_from("RANDOM_SEED", 0);
    if (one != 0) {
        run_seed(one);
        return;
    }
    uint64_t count = number_from("RANDOM_SEEDS", 200);
    for (uint64_t seed = 1; seed <= count; seed++) {
        run_seed(seed);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("coordinator_random");
    TCase *t = tcase_create("random");
    tcase_set_timeout(t, number_from("RANDOM_SEEDS", 0) > 0 ? 3600 : 60);
    tcase_add_test(t, nothing_committed_is_ever_lost);
    suite_add_tcase(s, t);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
