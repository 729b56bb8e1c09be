/* See replica_rig.h. */
#include "tests/unit/replica_rig.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define TABLET 7

struct replica rig_node(uint32_t node)
{
    return (struct replica){node, {{(uint8_t)node, 0xaa}}};
}

static void on_cut(void *ctx, uint32_t tablet, struct name to,
                   struct name committed)
{
    struct rig *g = ctx;
    ck_assert_uint_eq(tablet, TABLET);
    ck_assert_uint_ge(to.seq, committed.seq); /* I5 */
    g->cuts++;
}

static struct state *state_at(struct name base)
{
    struct state *s = state_new();
    if (base.seq > 0) {
        state_load_done(s, base);
    }
    return s;
}

static void host_init(struct rig *g, uint64_t counter)
{
    beacon_table_free(g->host.beacons);
    g->host = (struct replica_host){
        .self = rig_node(1),
        .incarnation = {counter, 77},
        .beacons = beacon_table_new(g->now_us, 0),
        .log = &g->log,
        .map = &g->map,
        .min_insync = 2,
        .coordinator_us = g->now_us,
        .stall_us = 1000000,
        .tail_bytes_max = MIB(1),
        .on_cut = on_cut,
        .ctx = g,
    };
}

static void map_init(struct rig *g)
{
    for (uint32_t i = 0; i < RIG_NODES; i++) {
        g->speaks[i] = (struct incarnation){1, i};
        g->nodes[i] = (struct node_info){.node = i,
                                         .role = ROLE_STORAGE,
                                         .store = rig_node(i).store,
                                         .incarnation = g->speaks[i]};
    }
    g->map.nodes = g->nodes;
    g->map.nodes_count = RIG_NODES;
}

void rig_start(struct rig *g, struct name base)
{
    memset(g, 0, sizeof(*g));
    log_init_stderr(&g->log, "test", "1");
    log_set_level(&g->log, LOG_LEVEL_FATAL);
    g->now_us = 10000000;
    map_init(g);
    host_init(g, 1);
    g->core = replica_new(&g->host, TABLET, state_at(base));
    replica_recovered(g->core, false);
}

void rig_restart(struct rig *g, struct name base)
{
    uint64_t counter = g->host.incarnation.counter + 1;
    replica_free(g->core);
    g->now_us += 1000000;
    host_init(g, counter);
    g->core = replica_new(&g->host, TABLET, state_at(base));
    g->replayed = ST_OK;
    while (g->count > g->synced) { /* the rest never came to the disk */
        free((void *)(uintptr_t)g->records[--g->count].payload.data);
    }
    for (uint32_t i = 0; i < g->count; i++) {
        g->ordinals[i] = 0;
        enum status s = replica_replay(g->core, &g->records[i]);
        g->replayed = g->replayed == ST_OK ? s : g->replayed;
    }
    replica_recovered(g->core, g->replayed != ST_OK);
}

void rig_stop(struct rig *g)
{
    for (uint32_t i = 0; i < g->count; i++) {
        free((void *)(uintptr_t)g->records[i].payload.data);
    }
    replica_free(g->core);
    effects_free(&g->fx);
    beacon_table_free(g->host.beacons);
}

static void keep_record(struct rig *g, const struct effect *x)
{
    ck_assert_uint_lt(g->count, RIG_RECORDS);
    struct wal_record *r = &g->records[g->count];
    uint8_t *copy = malloc(x->record.payload.len + 1);
    *r = x->record;
    if (r->payload.len > 0) {
        memcpy(copy, r->payload.data, r->payload.len);
    }
    r->payload.data = copy;
    r->position = 1000 + 100 * (uint64_t)g->count;
    g->ordinals[g->count++] = x->ordinal;
    replica_placed(g->core, x->ordinal, r->position);
}

void rig_step(struct rig *g, struct event *e)
{
    e->now_us = g->now_us;
    effects_clear(&g->fx);
    replica_step(g->core, e, &g->fx);
    for (uint32_t i = 0; i < g->fx.count; i++) {
        if (g->fx.items[i].kind == FX_APPEND) {
            keep_record(g, &g->fx.items[i]);
        }
    }
}

void rig_sync(struct rig *g)
{
    struct event e = {.kind = EVENT_SYNCED};
    effects_clear(&g->fx);
    if (g->synced < g->count) {
        e.u.ordinal = g->ordinals[g->count - 1];
        g->synced = g->count;
        rig_step(g, &e);
    }
}

static uint32_t nodes_of(const char *digits, struct replica *out)
{
    uint32_t count = 0;
    for (; *digits != '\0'; digits++) {
        out[count++] = rig_node((uint32_t)(*digits - '0'));
    }
    return count;
}

void rig_config(struct rig *g, uint64_t epoch, uint32_t primary,
                const char *in_sync, const char *learners)
{
    struct replica i[8], l[8];
    struct tablet_config c = {
        .tablet = TABLET,
        .hash_last = UINT64_MAX,
        .epoch = epoch,
        .primary = rig_node(primary),
        .in_sync = i,
        .in_sync_count = nodes_of(in_sync, i),
        .learners = l,
        .learners_count = nodes_of(learners, l),
    };
    c.primary_incarnation =
        primary == 1 ? g->host.incarnation : (struct incarnation){1, primary};
    struct event e = {.kind = EVENT_CONFIG, .u.config = &c};
    rig_step(g, &e);
}

void rig_enter(struct rig *g, uint64_t epoch, uint32_t primary,
               const char *in_sync, const char *learners)
{
    rig_config(g, epoch, primary, in_sync, learners);
    rig_sync(g);
    ck_assert_uint_eq(replica_config(g->core)->epoch, epoch);
}

void rig_message(struct rig *g, uint32_t from, struct wire_msg *m)
{
    struct event e = {.kind = EVENT_MESSAGE};
    e.u.message.from = rig_node(from);
    e.u.message.incarnation = g->speaks[from];
    e.u.message.m = m;
    rig_step(g, &e);
}

void rig_prepare(struct rig *g, uint32_t from, uint64_t epoch,
                 struct name entry, struct name previous)
{
    struct wire_msg m = {.type = MSG_PREPARE};
    m.u.prepare.tablet = TABLET;
    m.u.prepare.epoch = epoch;
    m.u.prepare.entry = entry;
    m.u.prepare.previous = previous;
    rig_message(g, from, &m);
}

void rig_fill(struct rig *g, uint32_t from, uint64_t epoch, uint64_t first,
              uint64_t last)
{
    struct name previous = rig_report(g).last;
    for (uint64_t s = first; s <= last; s++) {
        rig_prepare(g, from, epoch, (struct name){epoch, s}, previous);
        previous = (struct name){epoch, s};
    }
    rig_sync(g);
}

void rig_committed(struct rig *g, uint32_t from, uint64_t epoch, uint64_t seq)
{
    struct wire_msg m = {.type = MSG_COMMITTED};
    m.u.committed = (struct msg_committed){TABLET, epoch, seq};
    rig_message(g, from, &m);
}

void rig_log_of_five(struct rig *g)
{
    rig_enter(g, 1, 2, "123", "");
    rig_fill(g, 2, 1, 1, 3);
    rig_enter(g, 2, 2, "123", "");
    rig_prepare(g, 2, 2, NAME(1, 3), NAME(1, 2));
    rig_fill(g, 2, 2, 4, 5);
    rig_committed(g, 2, 2, 2);
    rig_enter(g, 3, 2, "123", "");
}

void rig_cut(struct rig *g, uint32_t from, uint64_t epoch, struct name to)
{
    struct wire_msg m = {.type = MSG_CUT};
    m.u.cut = (struct msg_cut){TABLET, epoch, 1, to};
    rig_message(g, from, &m);
}

void rig_acked(struct rig *g, uint32_t from, uint64_t epoch, struct name name)
{
    struct wire_msg m = {.type = MSG_PREPARED};
    m.u.prepared = (struct msg_prepared){TABLET, epoch, name};
    rig_message(g, from, &m);
}

void rig_command(struct rig *g, void *cookie)
{
    struct event e = {.kind = EVENT_COMMAND};
    e.u.command.cookie = cookie;
    rig_step(g, &e);
}

void rig_tick(struct rig *g)
{
    struct event e = {.kind = EVENT_TICK};
    rig_step(g, &e);
}

void rig_snapshot(struct rig *g, uint64_t epoch, struct name name)
{
    struct event e = {.kind = EVENT_SNAPSHOT};
    e.u.snapshot.state = state_at(name);
    e.u.snapshot.name = name;
    e.u.snapshot.epoch = epoch;
    rig_step(g, &e);
}

/* A message to node TO of the last step. */
static const struct wire_msg *sent_to(const struct rig *g, uint32_t to,
                                      enum msg_type type)
{
    const struct wire_msg *found = NULL;
    for (uint32_t i = 0; i < g->fx.count; i++) {
        const struct effect *x = &g->fx.items[i];
        if (x->kind == FX_SEND && x->msg.type == type && x->to.node == to) {
            found = &x->msg;
        }
    }
    return found;
}

void rig_tail(struct rig *g, uint32_t to, uint64_t epoch, struct name last,
              uint64_t committed)
{
    struct event up = {.kind = EVENT_PEER_UP, .u.peer = rig_node(to)};
    rig_step(g, &up); /* it asks again, under a new number */
    const struct wire_msg *ask = sent_to(g, to, MSG_TAIL_ASK);
    ck_assert_ptr_nonnull(ask);
    struct run run = {last.epoch, 1, last.seq};
    struct wire_msg m = {.type = MSG_TAIL};
    m.u.tail = (struct msg_tail){.tablet = TABLET,
                                 .epoch = epoch,
                                 .dialogue = ask->u.tail_ask.dialogue,
                                 .last = last,
                                 .committed = committed,
                                 .runs = &run,
                                 .runs_count = last.seq > 0};
    rig_message(g, to, &m);
}

uint32_t rig_sent(const struct rig *g, enum msg_type type)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < g->fx.count; i++) {
        const struct effect *x = &g->fx.items[i];
        count += x->kind == FX_SEND && x->msg.type == type;
    }
    return count;
}

uint32_t rig_effects(const struct rig *g, enum effect_kind kind)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < g->fx.count; i++) {
        count += g->fx.items[i].kind == kind;
    }
    return count;
}

const struct effect *rig_effect(const struct rig *g, enum effect_kind kind)
{
    const struct effect *found = NULL;
    for (uint32_t i = 0; i < g->fx.count; i++) {
        if (g->fx.items[i].kind == kind) {
            found = &g->fx.items[i];
        }
    }
    ck_assert_ptr_nonnull(found);
    return found;
}

const struct wire_msg *rig_message_sent(const struct rig *g, enum msg_type type)
{
    const struct wire_msg *found = NULL;
    for (uint32_t i = 0; i < g->fx.count; i++) {
        const struct effect *x = &g->fx.items[i];
        if (x->kind == FX_SEND && x->msg.type == type) {
            found = &x->msg;
        }
    }
    ck_assert_ptr_nonnull(found);
    return found;
}

struct tablet_report rig_report(const struct rig *g)
{
    struct tablet_report r;
    replica_report(g->core, &r);
    return r;
}
