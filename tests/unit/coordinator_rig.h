/*
 * A coordinator's core with fake storage nodes around it, for unit tests. The
 * nodes follow the map as real ones do, unless a test says otherwise. After
 * every step the rig checks what must hold of any new configuration, written
 * down here a second time and independently of coordinator/configuration.c.
 */
#ifndef TESTS_UNIT_COORDINATOR_RIG_H
#define TESTS_UNIT_COORDINATOR_RIG_H

#include "coordinator/core_parts.h"

#define RIG_NODES 6
#define RIG_TABLETS 8
#define RIG_MS INT64_C(1000)
#define RIG_S INT64_C(1000000)

struct rig_node {
    struct env_peer peer;
    uint64_t conn;
    bool runs;           /* sends heartbeats */
    bool mute;           /* ... but they do not arrive */
    bool silent_reports; /* ... without any report */
    uint32_t sync_ms, event_ms;
    uint8_t state;
    struct tablet_report reports[RIG_TABLETS]; /* epoch 0: has none */
};

struct rig {
    struct core *core;
    struct core_effects fx;
    struct core_options o;
    int64_t now_us;
    struct rig_node nodes[RIG_NODES]; /* node i has id i + 1 */
    /* Of the last step. */
    const struct core_event *event;
    struct configuration before[RIG_TABLETS];
    uint32_t before_count;
    uint64_t version_before;
    bool auto_publish; /* default: every map is published at once */
    /* Last answers seen. */
    enum status ack_status;    /* HEARTBEAT_ACK or ACK */
    enum status change_status; /* CHANGE_ACK */
    uint64_t change_epoch;
    uint64_t answer_after;
    uint32_t lease_count;
    struct tablet_epoch leases[RIG_TABLETS];
    uint32_t report_nodes; /* nodes in REPORTS */
    uint32_t coordinators; /* among them, fully described */
};

/* N nodes are waited for; TABLETS <= RIG_TABLETS. */
void rig_init(struct rig *r, unsigned replicas, unsigned nodes,
              unsigned tablets);
void rig_fini(struct rig *r);

/* One event; checks; publishes. */
void rig_step(struct rig *r, struct core_event *ev);
/* Node I (from 0) starts: new incarnation; its replicas have no role. */
void rig_start(struct rig *r, unsigned i);
/* Node I loses its disk: a new store. */
void rig_wipe(struct rig *r, unsigned i);
/* Its process ends; the coordinator is not told. */
void rig_kill(struct rig *r, unsigned i);
/* The connection's end, and what the probe finds. */
void rig_reset(struct rig *r, unsigned i);
void rig_gone(struct rig *r, unsigned i);
/* Kill, reset, probe: dead at once. */
void rig_die(struct rig *r, unsigned i);
void rig_beat(struct rig *r, unsigned i);
/* Lets time pass: ticks, and heartbeats of all that run. */
void rig_run(struct rig *r, int64_t us);
/* All replicas enter the roles that the map gives them, as real ones do. */
void rig_follow(struct rig *r);
/* N nodes up, tablets placed, all in their roles. */
void rig_settle(struct rig *r, unsigned nodes);

struct replica rig_replica(const struct rig *r, unsigned i);
const struct configuration *rig_config(const struct rig *r, uint32_t tablet);
struct tablet_report *rig_report(struct rig *r, unsigned i, uint32_t tablet);
enum status rig_change(struct rig *r, unsigned from, uint32_t tablet,
                       enum change_kind kind, struct replica subject);
enum status rig_node_set(struct rig *r, uint32_t node, enum node_state state);
/* "1,2" for a set's nodes, in the order of their ids. */
const char *rig_ids(const struct replica_set *s, char out[64]);

/* What the tests of the core share: one rig, and what its tablets must be. */
#define RIG_ASSERT_SET(set, tablet, ids)                                       \
    do {                                                                       \
        char text_[64];                                                        \
        ck_assert_str_eq(rig_ids(&rig_config(&r, tablet)->set, text_), ids);   \
    } while (0)
#define ASSERT_IN_SYNC(tablet, ids) RIG_ASSERT_SET(in_sync, tablet, ids)
#define ASSERT_ELIGIBLE(tablet, ids) RIG_ASSERT_SET(eligible, tablet, ids)
#define ASSERT_LEARNERS(tablet, ids) RIG_ASSERT_SET(learners, tablet, ids)
#define ASSERT_PRIMARY(tablet, id)                                             \
    ck_assert_uint_eq(rig_config(&r, tablet)->primary.node, id)
#define ASSERT_EPOCH(tablet, number)                                           \
    ck_assert_uint_eq(rig_config(&r, tablet)->epoch, number)

/* Three nodes, one tablet whose primary is node 1, settled in epoch 1. */
void rig_one_tablet(struct rig *r);

#endif
