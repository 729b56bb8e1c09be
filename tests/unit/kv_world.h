/*
 * A scripted cluster over kv_fake.h: two coordinators that push the map and
 * three storage hosts that write down what they are asked, and answer as the
 * test says.
 */
#ifndef TESTS_UNIT_KV_WORLD_H
#define TESTS_UNIT_KV_WORLD_H

#include "kv/core.h"
#include "kv_fake.h"

#define WORLD_TABLETS 4
#define WORLD_NODES 3 /* storage nodes 1..3; coordinators are 11, 12 */

/* A request that a storage host got. */
struct seen {
    struct fake_host *host;
    struct fake_conn *conn;
    uint64_t request;
    enum msg_type type;
    uint32_t tablet;
    int64_t at_us;
    uint8_t kind; /* COMMAND: enum command_kind, and its R23 fields */
    uint64_t session, number, oldest_open;
    uint32_t wait_ms;
};

/* What storage hosts do with requests, INTRODUCE and PING excepted. */
enum world_mode {
    WORLD_SILENT, /* write them down only */
    WORLD_OK,     /* answer well */
    WORLD_ERROR,  /* refuse with world.error */
};

struct world {
    struct fake fake;
    struct kv_core *core;
    struct fake_host *coordinators[2], *nodes[WORLD_NODES + 1];
    uint64_t term, version;
    uint32_t primary[WORLD_TABLETS]; /* node; 0: nobody */
    uint64_t epoch[WORLD_TABLETS];
    enum world_mode mode;
    enum status error;
    const char *error_address;
    uint64_t error_epoch;
    struct slice value;            /* that puts carry */
    bool hold_introduce;           /* INTRODUCE is written down, not answered */
    bool mute_coordinators;        /* they take no MAP_WATCH */
    enum status coordinator_error; /* not OK: their answer to everything */
    uint64_t session;              /* last one given */
    uint32_t asks;                 /* MAP_WATCH that came */
    uint32_t pings;
    struct seen seen[4096];
    uint32_t seen_count;
    /* Coordinators' connections that watch the map. */
    struct fake_conn *watchers[64];
    uint32_t watchers_count;
};

/* Starts with all tablets at node 1, WORLD_OK, and a core that knows
 * COORDINATORS (1 or 2) of them; runs until the map is known. */
void world_init(struct world *w, int coordinators);
void world_fini(struct world *w);
void world_run(struct world *w, int64_t ms);
/* Makes PRIMARY the primary of TABLET in a newer map, and pushes it. */
void world_move(struct world *w, uint32_t tablet, uint32_t primary);
void world_push(struct world *w);

/* Number of requests seen of TYPE, and KIND if not 0. */
uint32_t world_count(const struct world *w, enum msg_type type, uint8_t kind);
/* The Nth of them, negative: from the end; aborts if there is none. */
struct seen *world_seen(struct world *w, enum msg_type type, uint8_t kind,
                        int n);
void world_result(struct seen *s, enum status status, uint64_t session);
void world_error(struct seen *s, enum status status, const char *address,
                 uint64_t epoch);

/* A partition that lies in TABLET, the Nth such. */
const char *world_partition(uint32_t tablet, int n);

/* An operation and its end. */
struct job {
    struct kv_op op;
    struct command command;
    struct mutation mutation;
    bool done;
    int64_t done_us;
    enum msg_type answer;
    struct world *world;
};
void job_put(struct world *w, struct job *j, uint32_t tablet, int64_t ms);
void job_get(struct world *w, struct job *j, uint32_t tablet, int64_t ms);
void job_settle(struct world *w, struct job *j, const struct job *of,
                int64_t ms);
void job_call(struct world *w, struct job *j, uint32_t node,
              const struct buf *frame, int64_t ms);

#endif
