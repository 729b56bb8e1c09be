/*
 * Who is there. A process registers by its first heartbeat and says what it
 * has by every later one (R5, R20). For a storage node the registration is
 * durable before it is acted upon or answered; the others (gateways,
 * balancers, consoles) hold nothing that must survive us, so they live in the
 * map only and come back with their next heartbeat after a restart.
 *
 * The decision is a table over seven facts; see registration_rows.
 */
#include "coordinator/core_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define REFUSAL_LOG_US 10000000
#define LAST_WORDS_US 300000

/* ---- the decision ---- */

/* A row fits if all of MUST hold and none of MUST_NOT. */
static const struct {
    unsigned must, must_not;
    enum registration outcome;
} registration_rows[] = {
    /* Identity is the store: it belongs to one node id for ever. */
    {FACT_FOREIGN, 0, REGISTER_OTHER_NODE},
    {0, FACT_FOREIGN | FACT_KNOWN | FACT_ROOM, REGISTER_FULL},
    {FACT_ROOM | FACT_ABOVE, FACT_FOREIGN | FACT_KNOWN, REGISTER_NEW_NODE},
    {FACT_ROOM, FACT_FOREIGN | FACT_KNOWN | FACT_ABOVE, REGISTER_COUNTER},
    {FACT_KNOWN | FACT_STORE | FACT_INCARNATION, FACT_FOREIGN, REGISTER_SAME},
    {FACT_KNOWN | FACT_STORE | FACT_ABOVE, FACT_FOREIGN | FACT_INCARNATION,
     REGISTER_RESTARTED},
    /* A clone, or a disk from a backup (R5). */
    {FACT_KNOWN | FACT_STORE, FACT_FOREIGN | FACT_INCARNATION | FACT_ABOVE,
     REGISTER_COUNTER},
    {FACT_KNOWN | FACT_ALIVE, FACT_FOREIGN | FACT_STORE, REGISTER_ALIVE},
    {FACT_KNOWN | FACT_ABOVE, FACT_FOREIGN | FACT_STORE | FACT_ALIVE,
     REGISTER_NEW_STORE},
    {FACT_KNOWN, FACT_FOREIGN | FACT_STORE | FACT_ALIVE | FACT_ABOVE,
     REGISTER_COUNTER},
};

enum registration registration_decide(unsigned facts, unsigned *rows)
{
    enum registration outcome = REGISTER_FULL;
    *rows = 0;
    for (size_t i = 0;
         i < sizeof(registration_rows) / sizeof(registration_rows[0]); i++) {
        if ((facts & registration_rows[i].must) == registration_rows[i].must &&
            (facts & registration_rows[i].must_not) == 0) {
            outcome = registration_rows[i].outcome;
            ++*rows;
        }
    }
    return outcome;
}

static struct store_seen *find_store(struct core *c, struct id128 store)
{
    for (uint32_t i = 0; i < c->store_count; i++) {
        if (id128_equal(c->stores[i].store, store)) {
            return &c->stores[i];
        }
    }
    return NULL;
}

/* A place in the table: a free one, or that of a process without a store
 * that is down (it would come back by its next heartbeat). */
static struct node *find_room(struct core *c)
{
    struct node *old = NULL;
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        struct node *n = &c->nodes[i];
        if (n->id == 0) {
            return n;
        }
        if (n->role != ROLE_STORAGE && n->live == LIVE_DOWN) {
            old = n;
        }
    }
    return old;
}

static unsigned registration_facts(struct core *c, const struct node_info *info)
{
    const struct node *n = core_find(c, info->role, info->node);
    unsigned facts = find_room(c) != NULL ? FACT_ROOM : 0;
    if (n != NULL) {
        facts |= FACT_KNOWN;
        facts |= id128_equal(n->store, info->store) ? FACT_STORE : 0;
        facts |= incarnation_equal(n->incarnation, info->incarnation)
                     ? FACT_INCARNATION
                     : 0;
        facts |= n->live != LIVE_DOWN ? FACT_ALIVE : 0;
    }
    if (info->role != ROLE_STORAGE) {
        /* Without a store there is no counter: the old one must be gone. */
        return facts | ((facts & FACT_ALIVE) == 0 ? FACT_ABOVE : 0);
    }
    const struct store_seen *seen = find_store(c, info->store);
    if (seen == NULL || info->incarnation.counter > seen->incarnation.counter) {
        facts |= FACT_ABOVE;
    }
    if (seen != NULL && seen->node != info->node) {
        facts |= FACT_FOREIGN;
    }
    return facts;
}

/* ---- what is kept of a node ---- */

static bool text_set(char *to, size_t most, struct slice from)
{
    size_t len = from.len < most ? from.len : most;
    if (strlen(to) == len && (len == 0 || memcmp(to, from.data, len) == 0)) {
        return false;
    }
    if (len > 0) {
        memcpy(to, from.data, len);
    }
    to[len] = '\0';
    return true;
}

/* What it announces; true if that is new. */
static bool take_info(struct node *n, const struct node_info *info)
{
    bool changed = text_set(n->name, LIMIT_NAME, info->name);
    uint8_t said = info->state == NODE_STARTING ? NODE_STARTING : NODE_UP;
    changed |= n->said != said || n->service_count != info->services_count;
    n->said = said;
    n->service_count = info->services_count;
    for (uint32_t i = 0; i < info->services_count; i++) {
        changed |=
            text_set(n->services[i].name, LIMIT_NAME, info->services[i].name);
        changed |= text_set(n->services[i].address, LIMIT_ADDRESS,
                            info->services[i].address);
    }
    return changed;
}

static bool store_in_use(const struct core *c, struct id128 store)
{
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        if (c->nodes[i].id != 0 && id128_equal(c->nodes[i].store, store)) {
            return true;
        }
    }
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        const struct configuration *k = &c->tablets[i].config;
        const struct replica_set *sets[] = {&k->in_sync, &k->eligible,
                                            &k->learners};
        for (size_t s = 0; s < 3; s++) {
            for (uint32_t m = 0; m < sets[s]->count; m++) {
                if (id128_equal(sets[s]->at[m].store, store)) {
                    return true;
                }
            }
        }
    }
    return false;
}

/* Remembers the store's start counter (R5). Full: the oldest store that has
 * no part in anything is forgotten; there is one, for LIMIT_NODES nodes'
 * configurations name fewer. */
static void take_store(struct core *c, const struct node_info *info)
{
    struct store_seen *s = find_store(c, info->store);
    if (s == NULL && c->store_count == LIMIT_STORES) {
        uint32_t i = 0;
        while (i < LIMIT_STORES - 1 && store_in_use(c, c->stores[i].store)) {
            i++;
        }
        memmove(&c->stores[i], &c->stores[i + 1],
                (LIMIT_STORES - 1 - i) * sizeof(c->stores[0]));
        c->store_count--;
    }
    if (s == NULL) {
        s = &c->stores[c->store_count++];
    }
    *s = (struct store_seen){.node = info->node,
                             .store = info->store,
                             .incarnation = info->incarnation};
}

/* R11: a new epoch for every tablet in which the restarted process has a
 * part. */
static void force_epochs(struct core *c, struct replica r)
{
    c->restarted = r;
    for (uint32_t i = 0; i < c->tablet_count; i++) {
        struct tablet *t = &c->tablets[i];
        if (set_has(&t->config.in_sync, r) || set_has(&t->config.learners, r)) {
            t->forced = t->review = true;
        }
    }
}

static void take_process(struct core *c, struct node *n,
                         const struct node_info *info, struct core_effects *fx)
{
    bool storage = info->role == ROLE_STORAGE;
    core_touch(c, fx, storage);
    n->id = info->node;
    n->role = info->role;
    n->admin = n->admin == 0 ? NODE_UP : n->admin;
    n->store = info->store;
    n->incarnation = info->incarnation;
    n->registered = c->version;
    n->full = false;
    n->slow_us = c->now_us - 2 * c->times.damp_max_us;
    n->gone_conn = 0;
    if (storage) {
        take_store(c, info);
        core_undamp(c, node_replica(n));
    }
    free(n->slots);
    n->slots = NULL;
}

static void refuse(struct core *c, enum status status, struct core_effects *fx,
                   const struct node_info *info, const char *text)
{
    (void)err_set(&c->ack.text, status, "node %u: %s", info->node, text);
    c->ack.status = status;
    c->stats.heartbeats_refused++;
    if (c->refused_node == info->node &&
        c->now_us - c->refused_us < REFUSAL_LOG_US) {
        return; /* it comes back ten times a second */
    }
    c->refused_node = info->node;
    c->refused_us = c->now_us;
    core_note(fx, LOG_LEVEL_ERROR, "node-refused",
              "node=%u name=%s status=%s text=\"%s\"", info->node,
              log_quote(info->name), status_name(status), text);
}

/* Gives the node, or NULL if it was refused. */
static struct node *register_node(struct core *c, const struct node_info *info,
                                  struct core_effects *fx)
{
    unsigned rows;
    struct node *n = core_find(c, info->role, info->node);
    enum registration r =
        registration_decide(registration_facts(c, info), &rows);
    assert(rows == 1);
    switch (r) {
    case REGISTER_SAME:
        return n;
    case REGISTER_NEW_NODE:
        n = find_room(c);
        free(n->slots);
        *n = (struct node){0};
        break;
    case REGISTER_NEW_STORE:
    case REGISTER_RESTARTED:
        break;
    case REGISTER_OTHER_NODE:
        refuse(c, ST_WRONG_NODE, fx, info,
               "its store belongs to another node id");
        return NULL;
    case REGISTER_ALIVE:
        refuse(c, ST_IN_USE, fx, info,
               "the id belongs to another process that may be alive");
        return NULL;
    case REGISTER_COUNTER:
        refuse(c, ST_DENIED, fx, info,
               "its start counter is not above the last one seen: a cloned "
               "or rolled-back disk, or its predecessor is alive");
        return NULL;
    case REGISTER_FULL:
        refuse(c, ST_TOO_MANY, fx, info, "there is room for no more nodes");
        return NULL;
    }
    take_process(c, n, info, fx);
    if (r == REGISTER_RESTARTED && info->role == ROLE_STORAGE) {
        force_epochs(c, node_replica(n));
    }
    core_review_all(c);
    core_note(fx, LOG_LEVEL_INFO, "node-registered",
              "node=%u name=%s role=%s start=%llu", n->id,
              log_quote(info->name), role_name(n->role),
              (unsigned long long)n->incarnation.counter);
    return n;
}

/* What goes into the map, the log and JSON is plain text. */
static bool text_plain(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] <= ' ' || s.data[i] > '~' || s.data[i] == '"') {
            return false;
        }
    }
    return s.len > 0;
}

static bool info_valid(const struct node_info *info)
{
    bool good = info->node != 0 && text_plain(info->name) &&
                (info->role != ROLE_STORAGE || !id128_is_zero(info->store));
    for (uint32_t i = 0; i < info->services_count; i++) {
        good = good && text_plain(info->services[i].name) &&
               text_plain(info->services[i].address);
    }
    return good;
}

/* ---- what it says of its tablets ---- */

/* R20: somebody knows more than our map: it is an old copy. */
static bool check_newer(struct core *c, const struct msg_heartbeat *m,
                        struct core_effects *fx)
{
    if (m->term > c->term) {
        core_fatal(fx, ST_CORRUPT,
                   "node %u has seen term %llu, ours is %llu: this register "
                   "is an old copy, or another coordinator is active",
                   m->node.node, (unsigned long long)m->term,
                   (unsigned long long)c->term);
        return true;
    }
    for (uint32_t i = 0; i < m->tablets_count; i++) {
        const struct tablet_report *r = &m->tablets[i];
        const struct tablet *t = core_tablet(c, r->tablet);
        uint64_t ours = t == NULL ? 0 : t->config.epoch;
        if (r->epoch > ours && (t != NULL || c->tablet_count == 0)) {
            core_fatal(fx, ST_CORRUPT,
                       "node %u has tablet %u in epoch %llu, our map in %llu: "
                       "this register is an old copy",
                       m->node.node, r->tablet, (unsigned long long)r->epoch,
                       (unsigned long long)ours);
            return true;
        }
    }
    return false;
}

/* A process without a role, in the very epoch in force for a while: it
 * restarted and we no longer knew (R4). Once for each process. */
static void nudge(struct core *c, struct node *n, struct tablet *t,
                  struct slot *s)
{
    struct replica r = node_replica(n);
    if (s->report.role != REPLICA_NONE || s->nudged || t->headless ||
        (s->report.flags & REPORT_RECOVERED) == 0 ||
        s->report.epoch != t->config.epoch ||
        (!set_has(&t->config.in_sync, r) && !set_has(&t->config.learners, r)) ||
        t->changed > c->published ||
        c->now_us < t->changed_us + c->times.stall_us) {
        return;
    }
    s->nudged = true;
    t->forced = t->review = true;
}

struct slot *node_slot(struct core *c, struct node *n, const struct tablet *t)
{
    if (n->slots == NULL) {
        n->slots = xcalloc(c->tablet_count, sizeof(*n->slots));
    }
    return &n->slots[t->config.tablet - 1];
}

static void take_report(struct core *c, struct node *n,
                        const struct tablet_report *r)
{
    struct tablet *t = core_tablet(c, r->tablet);
    if (t == NULL) {
        return; /* not of this map (R26 gives its space back) */
    }
    struct slot *s = node_slot(c, n, t);
    bool known = s->beat == n->beats;
    if (t->watch || !known || s->report.flags != r->flags ||
        s->report.role != r->role) {
        t->review = true;
    }
    s->beat = n->beats + 1;
    s->report = *r;
    if ((r->flags & REPORT_DAMAGED) == 0 &&
        name_compare(r->committed, t->committed) > 0) {
        t->committed = r->committed; /* R14 */
    }
    nudge(c, n, t, s);
}

/* All its replicas are on one disk. */
static void note_disk(struct core *c, struct node *n,
                      const struct msg_heartbeat *m, struct core_effects *fx)
{
    bool full =
        m->tablets_count > 0 && (m->tablets[0].flags & REPORT_FULL) != 0;
    if (full) {
        n->slow_us = c->now_us; /* out of I, it returns as a slow one does */
    }
    if (full != n->full) {
        n->full = full;
        core_review_all(c);
        core_note(fx, full ? LOG_LEVEL_WARN : LOG_LEVEL_INFO,
                  full ? "node-full" : "node-has-room", "node=%u name=%s",
                  n->id, n->name);
    }
}

static void take_reports(struct core *c, struct node *n,
                         const struct msg_heartbeat *m, struct core_effects *fx)
{
    for (uint32_t i = 0; i < m->tablets_count; i++) {
        take_report(c, n, &m->tablets[i]);
    }
    note_disk(c, n, m, fx);
    n->beats++;
}

/* R18: a heartbeat never vouches for a dead disk or a stuck shard. */
static bool heartbeat_counts(struct core *c, struct node *n,
                             const struct msg_heartbeat *m,
                             struct core_effects *fx)
{
    int64_t worst_us = 1000 * (int64_t)(m->oldest_sync_ms > m->oldest_event_ms
                                            ? m->oldest_sync_ms
                                            : m->oldest_event_ms);
    bool stalled = worst_us > c->times.stall_us;
    if (1000 * (int64_t)m->oldest_sync_ms >= c->times.stall_us / 2 || stalled) {
        n->slow_us = c->now_us;
    }
    if (stalled != n->stalled) {
        n->stalled = stalled;
        core_note(fx, stalled ? LOG_LEVEL_WARN : LOG_LEVEL_INFO,
                  stalled ? "node-stalled" : "node-moves-again",
                  "node=%u name=%s sync_ms=%u event_ms=%u", n->id, n->name,
                  m->oldest_sync_ms, m->oldest_event_ms);
    }
    c->stats.heartbeats_stalled += stalled;
    return !stalled;
}

void core_on_heartbeat(struct core *c, const struct core_event *ev,
                       struct core_effects *fx)
{
    const struct msg_heartbeat *m = ev->u.heartbeat;
    c->stats.heartbeats++;
    c->ack.status = ST_OK;
    c->ack.text.text[0] = '\0';
    if (!info_valid(&m->node)) {
        refuse(c, ST_INVALID, fx, &m->node,
               "no node id, no store id, or a name that is not plain");
        return;
    }
    struct node *n = register_node(c, &m->node, fx);
    if (n == NULL || (n->role == ROLE_STORAGE && check_newer(c, m, fx))) {
        return;
    }
    if (n->gone_conn != 0 && n->gone_conn == ev->conn &&
        c->now_us < n->down_us + LAST_WORDS_US) {
        return; /* sent before it died, read after we knew */
    }
    n->conn = ev->conn;
    n->connections = m->connections;
    if (take_info(n, &m->node)) {
        core_touch(c, fx, false);
        core_review_all(c);
    }
    if (heartbeat_counts(c, n, m, fx)) {
        n->heard_us = c->now_us;
        core_mark_up(c, n, fx);
    }
    if (n->role == ROLE_STORAGE) {
        take_reports(c, n, m, fx);
    }
}

/* ---- the answer ---- */

/* R9: below min_insync a primary reads under our lease too. */
static uint32_t give_leases(struct core *c, const struct node *n,
                            const struct msg_heartbeat *m,
                            struct tablet_epoch *out)
{
    uint32_t count = 0;
    struct replica r = node_replica(n);
    for (uint32_t i = 0; i < m->tablets_count; i++) {
        struct tablet *t = core_tablet(c, m->tablets[i].tablet);
        if (t == NULL || t->config.in_sync.count >= c->min_insync ||
            !replica_equal(t->config.primary, r) || t->withheld ||
            !incarnation_equal(t->config.primary_incarnation, n->incarnation) ||
            m->tablets[i].epoch != t->config.epoch ||
            t->changed > c->published) {
            continue;
        }
        t->lease_us = c->now_us;
        out[count++] = (struct tablet_epoch){.tablet = t->config.tablet,
                                             .epoch = t->config.epoch};
    }
    return count;
}

void core_ack_heartbeat(struct core *c, const struct core_event *ev,
                        struct core_effects *fx)
{
    const struct msg_heartbeat *m = ev->u.heartbeat;
    const struct node *n = core_find(c, m->node.role, m->node.node);
    struct arena a = {0};
    struct msg_heartbeat_ack ack = {
        .stamp_us = m->stamp_us,
        .status = (uint16_t)c->ack.status,
        .text = slice_of(c->ack.text.text),
        .term = c->term,
        .map_version = c->published,
    };
    ack.text.len = ack.text.len < 256 ? ack.text.len : 256;
    uint64_t after = 0;
    if (c->ack.status == ST_OK && n != NULL) {
        after = n->registered; /* durable before it is answered (R5) */
        if (n->role == ROLE_STORAGE && n->live == LIVE_UP && !n->stalled &&
            m->tablets_count > 0) {
            ack.leases =
                arena_alloc(&a, m->tablets_count * sizeof(*ack.leases));
            ack.leases_count = give_leases(c, n, m, ack.leases);
        }
    }
    size_t at = fx->frames.len;
    wire_put_heartbeat_ack(&fx->frames, ev->request, &ack);
    core_answer(fx, ev, after, at);
    arena_free(&a);
}
