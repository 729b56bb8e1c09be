/*
 * The coordinator: keeper of the cluster's map (R1, R20). An object over a
 * struct env, so that it runs on libuv and in the simulation alike; several
 * live in one test process. Everything here is called, and calls back, on the
 * env's loop.
 *
 * Inside: a pure core (core.h) that turns events into a new map and answers,
 * the durable register (register.h), and the shell (coordinator.c) that holds
 * connections, makes each map durable BEFORE anybody hears of it, and pushes
 * it. coordinator.c opens with the course of one change.
 *
 * What storage nodes may rely on, beyond replication.md:
 * - A node registers by HEARTBEAT; the answer has ST_OK, or a status and a
 *   text why it may take no part: ST_WRONG_NODE (the store belongs to another
 *   node id), ST_IN_USE (the node id is alive with another store), ST_DENIED
 *   (start counter not above the last one seen, R5), ST_TOO_MANY.
 * - All that is known of a restarted or new process is in a later epoch of
 *   each of its tablets (R4, R11): the map shows it.
 * - `learners` lists every replica that should catch up, also those whose
 *   node is down now (its state in the map says so): the primary tries again
 *   when the node is up. A replica in `eligible` may be a learner too; it
 *   never installs a snapshot while it is in `eligible` (R8, R17).
 * - CHANGE: sent by the primary of that very epoch, HANDOVER also by its
 *   subject, LEAVE also by a member that is not primary. Answer ST_OK: a new
 *   epoch is in force (with or without what was asked for: look at the map);
 *   ST_STALE_EPOCH: yours is not the newest; ST_DEGRADED: not done and no new
 *   epoch made, because I would fall below min_insync while both sides
 *   heartbeat (R11); ST_DENIED, ST_INVALID, ST_NOT_FOUND.
 */
#ifndef COORDINATOR_COORDINATOR_H
#define COORDINATOR_COORDINATOR_H

#include "common/env.h"
#include "common/hello.h"
#include "common/status.h"

struct coordinator;

/* Microseconds. The table of times is at the end of replication.md. */
struct coordinator_times {
    int64_t detect_us;      /* no heartbeat for this long: down */
    int64_t stall_us;       /* R11, R18 */
    int64_t lease_us;       /* stretched for both clocks (R8 b) */
    int64_t settle_us;      /* R21: how long the others are waited for */
    int64_t damp_us;        /* R11: first wait before a slow one returns */
    int64_t damp_max_us;    /* R11: its bound, doubling */
    int64_t rereplicate_us; /* R25: then a replica is made elsewhere */
    int64_t balance_us;     /* R25: whole for this long: even out the
                               primaries, one a second; 0: never */
    int64_t tick_us;        /* how often time is looked at */
    int64_t mark_us;        /* idle time before the register's second copy */
};

/* Strings are borrowed for the object's life. */
struct coordinator_options {
    uint32_t node;      /* of this coordinator, not 0 */
    const char *name;   /* "coordinator-1" */
    const char *listen; /* "host:port" */
    /* Where /status is, for people who list the processes; may be NULL. */
    const char *status_address;
    /* For a fresh cluster, ignored later: replicas of a tablet, number of
     * tablets (R25), storage nodes to wait for before they are placed
     * (0: as many as replicas). */
    unsigned replicas, tablets, initial_nodes;
    struct id128 cluster; /* refuse a register of another; zero: any */
    struct coordinator_times times;
    unsigned bugs; /* bugs.def; only with PENN_BUGS */
    /* The env's idea of who we are; coordinator_new() fills all of it (the
     * cluster id comes from the register). May be NULL. */
    struct hello_self *self;
    /* Going on would be wrong (R18, R20): the register cannot be written, or
     * a node shows a newer epoch than the map. Said once; the object does
     * nothing any more, the caller stops the process. */
    void (*on_fatal)(void *ctx, enum status why, const char *text);
    void *ctx;
};

/* 3 replicas, 64 tablets, the times of replication.md; the rest zero. */
struct coordinator_options coordinator_defaults(void);

/* Recovers from the env's disk or, where there is nothing, makes a cluster;
 * then makes its new term durable (R22). Blocking. ST_CONFIG, ST_CORRUPT,
 * ST_VERSION, ST_WRONG_CLUSTER, ST_WRONG_NODE, ST_IO..., with one line of
 * text. */
enum status coordinator_new(struct env *env,
                            const struct coordinator_options *o,
                            struct coordinator **out,
                            struct err *err) MUST_CHECK;
/* Listens and begins to act. */
enum status coordinator_start(struct coordinator *c,
                              struct err *err) MUST_CHECK;
/* Stops acting and closes all connections; STOPPED is called when no disk
 * operation is under way any more (perhaps at once). */
void coordinator_stop(struct coordinator *c, void (*stopped)(void *ctx),
                      void *ctx);
/* Frees memory only: after STOPPED, or when the env itself is gone (a
 * simulated crash). NULL is allowed. */
void coordinator_free(struct coordinator *c);

/* The map as all may know it (durable). Lives until the loop goes on. */
const struct msg_map *coordinator_map(const struct coordinator *c);
/* True once tablets have been placed. */
bool coordinator_ready(const struct coordinator *c);

/* Reasons why the cluster is not whole, one line each, e.g. "tablet 7: 1 of 3
 * in sync; writes refused until storage-2 returns"; empty when it is. */
void coordinator_degraded(const struct coordinator *c, struct buf *out);

/* Events since the start, for metrics and tests. */
struct coordinator_stats {
    uint64_t term, version;
    uint64_t heartbeats, heartbeats_refused, heartbeats_stalled;
    uint64_t deaths;    /* storage nodes declared down */
    uint64_t probes;    /* connections made to see whether one is dead */
    uint64_t elections; /* epochs with another primary than before */
    uint64_t epochs;    /* configurations made */
    uint64_t changes, changes_refused;
    uint64_t maps_pushed;
    uint64_t register_writes;
    unsigned nodes_up, nodes_down; /* storage */
    unsigned tablets, tablets_degraded, tablets_headless;
};
void coordinator_get_stats(const struct coordinator *c,
                           struct coordinator_stats *out);

#endif
