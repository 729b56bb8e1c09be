/*
 * One replica core driven by hand: events go in as literals, what it appends
 * is kept as a log of records, what it sends can be looked at, and it can be
 * restarted from any checkpoint and what of its log was synced.
 */
#ifndef TESTS_UNIT_REPLICA_RIG_H
#define TESTS_UNIT_REPLICA_RIG_H

#include "storage/replica.h"

#define RIG_RECORDS 2048
#define RIG_NODES 10

#define NAME(e, s)                                                             \
    (struct name)                                                              \
    {                                                                          \
        e, s                                                                   \
    }
#define NONE NAME(0, 0)

struct rig {
    struct log log;
    struct replica_host host;
    struct replica_core *core;
    struct effects fx;
    struct wal_record records[RIG_RECORDS]; /* payloads are copies */
    uint64_t ordinals[RIG_RECORDS];
    uint32_t count, synced;
    int64_t now_us;
    uint32_t cuts;
    struct msg_map map; /* accepts all nodes' first processes */
    struct node_info nodes[RIG_NODES];
    /* The process that speaks for a node in messages. */
    struct incarnation speaks[RIG_NODES];
    enum status replayed; /* the first that was not ST_OK */
};

/* Sets of nodes are strings of digits: "123". */
struct replica rig_node(uint32_t node);

/* This replica is node 1, its state ends at BASE. */
void rig_start(struct rig *g, struct name base);
/* Another process: STATE ends at BASE, the synced records are replayed. */
void rig_restart(struct rig *g, struct name base);
void rig_stop(struct rig *g);

void rig_step(struct rig *g, struct event *e);
/* All that was appended is on disk. */
void rig_sync(struct rig *g);
void rig_config(struct rig *g, uint64_t epoch, uint32_t primary,
                const char *in_sync, const char *learners);
/* The same, and durable at once. */
void rig_enter(struct rig *g, uint64_t epoch, uint32_t primary,
               const char *in_sync, const char *learners);
void rig_message(struct rig *g, uint32_t from, struct wire_msg *m);
void rig_prepare(struct rig *g, uint32_t from, uint64_t epoch,
                 struct name entry, struct name previous);
/* Prepares entries FIRST .. LAST, all named by EPOCH. */
void rig_fill(struct rig *g, uint32_t from, uint64_t epoch, uint64_t first,
              uint64_t last);
void rig_committed(struct rig *g, uint32_t from, uint64_t epoch, uint64_t seq);
/* The log is (1,1) (1,2) (1,3) (2,4) (2,5), entered anew in epoch 3 with node
 * 2 as primary. */
void rig_log_of_five(struct rig *g);
void rig_cut(struct rig *g, uint32_t from, uint64_t epoch, struct name to);
void rig_acked(struct rig *g, uint32_t from, uint64_t epoch, struct name name);
void rig_command(struct rig *g, void *cookie);
void rig_tick(struct rig *g);
void rig_snapshot(struct rig *g, uint64_t epoch, struct name name);
/* Answers this primary's TAIL_ASK to node TO as a log that ends at LAST and
 * has one epoch only. */
void rig_tail(struct rig *g, uint32_t to, uint64_t epoch, struct name last,
              uint64_t committed);

/* What the last step did. */
uint32_t rig_sent(const struct rig *g, enum msg_type type);
uint32_t rig_effects(const struct rig *g, enum effect_kind kind);
const struct effect *rig_effect(const struct rig *g, enum effect_kind kind);
/* The last message of TYPE; asserts that there is one. */
const struct wire_msg *rig_message_sent(const struct rig *g,
                                        enum msg_type type);
struct tablet_report rig_report(const struct rig *g);

#endif
