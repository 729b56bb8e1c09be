/*
 * The core's state; the functions on it are in core_parts.h. Nobody else
 * includes this but tests.
 */
#ifndef COORDINATOR_CORE_STATE_H
#define COORDINATOR_CORE_STATE_H

#include "coordinator/configuration.h"
#include "coordinator/core.h"

enum liveness {
    LIVE_UNHEARD, /* since our start; presumed there (R20) */
    LIVE_UP,
    LIVE_DOWN,
};

/* What a storage node said of one tablet. */
struct slot {
    uint64_t beat; /* node->beats of the heartbeat that had it */
    bool left;     /* asked to LEAVE; until its next incarnation */
    bool nudged;   /* was given an epoch because it had no role */
    struct tablet_report report;
};

struct node {
    uint32_t id; /* 0: free */
    /* Durable for storage nodes. */
    uint8_t role;
    uint8_t admin; /* NODE_UP or NODE_DISABLED: the operator's word */
    struct id128 store;
    struct incarnation incarnation;
    char name[LIMIT_NAME + 1];
    uint32_t service_count;
    struct {
        char name[LIMIT_NAME + 1], address[LIMIT_ADDRESS + 1];
    } services[LIMIT_SERVICES];
    /* Rebuilt from heartbeats. */
    enum liveness live;
    uint8_t said;        /* NODE_UP or NODE_STARTING, by its heartbeat */
    bool stalled;        /* its heartbeats do not count now (R18) */
    bool full;           /* its disk is */
    uint64_t conn;       /* of its last heartbeat */
    uint64_t gone_conn;  /* that one died with the process */
    uint64_t registered; /* map version that first has INCARNATION */
    int64_t heard_us;    /* last heartbeat that counted */
    int64_t down_us;     /* since when it is down */
    int64_t slow_us;     /* last sign of slow syncs (R11) */
    uint32_t connections;
    uint64_t beats;               /* heartbeats of this process */
    unsigned primaries, replicas; /* in configurations: load */
    struct slot *slots;           /* one a tablet; NULL without tablets */
};

/* A member removed for being slow (R11). */
struct damp {
    struct replica who; /* node 0: free */
    int64_t since_us, wait_us;
};

struct tablet {
    struct configuration config;
    uint64_t changed; /* map version that first has CONFIG */
    int64_t changed_us;
    bool review;       /* look at it at the end of this step */
    bool forced;       /* needs a new epoch even if nothing else changes */
    bool watch;        /* unsettled: look at it at each heartbeat and tick */
    bool headless;     /* has no primary that could serve */
    int64_t settle_us; /* R21: then fewer than all will do; 0: not waiting */
    bool withheld;     /* R8 (b): no answers of R9 */
    int64_t lease_us;  /* when the last answer of R9 was given */
    struct name committed; /* greatest committed name shown (R14) */
    /* R11: reported, but I may not shrink; valid until ... */
    struct replica wanted_out;
    int64_t wanted_until_us;
    struct damp damps[LIMIT_REPLICAS];
};

struct core {
    struct core_options o;
    struct coordinator_times times; /* = o.times */
    struct id128 cluster;
    uint64_t term, version, published;
    unsigned replicas, min_insync; /* 0 until placed */
    int64_t now_us, start_us, last_tick_us, last_sweep_us;
    struct node nodes[LIMIT_NODES];
    struct store_seen stores[LIMIT_STORES];
    uint32_t store_count;
    uint32_t tablet_count;
    struct tablet *tablets;   /* by id - 1 */
    struct replica restarted; /* R11, during one step */
    struct {
        enum status status;
        struct err text;
    } ack; /* of the heartbeat of this step */
    /* R25: when an epoch was last made for another reason than balance. */
    int64_t disturbed_us;
    bool balancing;        /* during one review */
    uint32_t refused_node; /* last refusal that was logged, and when */
    int64_t refused_us;
    struct arena map_arena;
    struct msg_map *map; /* core_map()'s */
    struct coordinator_stats stats;
};

#endif
