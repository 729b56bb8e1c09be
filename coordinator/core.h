/*
 * The coordinator's logic, pure: events in, effects out. No clock, no
 * sockets, no disk, no random; the same events make the same effects.
 *
 *   core.c          the step, the map, loading and saving
 *   core_nodes.c    who is there: registration by heartbeat (R5, R20)
 *   core_detect.c   who is gone (R18, R20)
 *   core_elect.c    what state a replica is in; elections (R14, R21, R8 b)
 *   core_review.c   what a tablet's next configuration should be
 *   core_change.c   requests for another one (R10, R11, R15)
 *   core_place.c    first placement, learners, damping (R11, R25)
 *   core_view.c     what people are shown
 *   configuration.c the only maker of configurations (R1, R2, R8)
 *
 * A step changes the core's own map at once. The shell makes a map durable
 * before anybody hears of it (R1): an answer carries the version of the map
 * that must be published before it may be sent, and the core is told by
 * CORE_PUBLISHED which version that is.
 */
#ifndef COORDINATOR_CORE_H
#define COORDINATOR_CORE_H

#include "common/env.h"
#include "coordinator/coordinator.h"

struct core;

struct core_options {
    unsigned replicas, tablets, initial_nodes;
    unsigned bugs; /* bugs.def */
    struct coordinator_times times;
    struct id128 cluster;
    uint64_t term;    /* of this start (R22) */
    uint64_t version; /* of the map as it is on disk */
    int64_t now_us;
    /* Of this process, for REPORTS; its name NULL: it is not among them. The
     * texts live as long as the core; status_address may be NULL. */
    uint32_t node;
    const char *name, *status_address;
};

enum core_event_kind {
    CORE_HEARTBEAT,
    CORE_CHANGE,
    CORE_NODE_SET,
    CORE_REPORTS_ASK,
    CORE_RESET,     /* the connection CONN has ended */
    CORE_SUSPECT,   /* a peer lost NODE and cannot reach it again */
    CORE_GONE,      /* we could not reach NODE either, or found another */
    CORE_PUBLISHED, /* all may know the map of this version */
    CORE_TICK,
};

/* An event; what it points at lives during the step. */
struct core_event {
    enum core_event_kind kind;
    int64_t now_us;
    uint64_t conn;    /* whom to answer; 0: nobody */
    uint64_t request; /* request id of the answer */
    const struct env_peer *peer;
    union {
        const struct msg_heartbeat *heartbeat;
        const struct msg_change *change;
        const struct msg_node_set *node_set;
        struct {
            uint32_t node;
            struct incarnation incarnation;
            int64_t since_us; /* GONE: when we began to look */
        } node;
        uint32_t reports_of; /* 0: all nodes */
        uint64_t version;
    } u;
};

/* A frame for a connection, once the map AFTER is published. */
struct core_answer {
    uint64_t conn, after;
    size_t at, len; /* in effects.frames */
};

/* Connect to ADDRESS and see whether INCARNATION of NODE is still there. */
struct core_probe {
    uint32_t node;
    struct incarnation incarnation;
    char address[LIMIT_ADDRESS + 1];
};

/* A line for the log. */
struct core_note {
    enum log_level level;
    const char *event;
    char text[400];
};

#define CORE_NOTES 64       /* of one step; more are dropped ... */
#define CORE_NOTES_DEBUG 48 /* ... those of debug level earlier */

struct core_effects {
    bool map;     /* the map has changed */
    bool durable; /* ... in what must be on disk before it is published */
    struct buf frames;
    struct core_answer *answers;
    size_t answer_count, answer_room;
    struct core_probe probes[LIMIT_NODES];
    size_t probe_count;
    struct core_note notes[CORE_NOTES];
    size_t note_count;
    enum status fatal; /* not ST_OK: stop, and say TEXT */
    struct err fatal_text;
};

/* Empties E and keeps its memory. */
void core_effects_clear(struct core_effects *e);
void core_effects_free(struct core_effects *e);

struct core *core_new(const struct core_options *o);
void core_free(struct core *c);

/* Takes over what core_save() once wrote; on a new core. ST_CORRUPT, with a
 * line of text, for what no core can have written. */
enum status core_load(struct core *c, struct slice state,
                      struct err *err) MUST_CHECK;
/* Appends all that must be durable, an encoded REC(register_state). */
void core_save(struct core *c, struct buf *out);

/* One event. FX was cleared by the caller. */
void core_step(struct core *c, const struct core_event *ev,
               struct core_effects *fx);

uint64_t core_version(const struct core *c);
/* The map; lives until the next step. */
const struct msg_map *core_map(struct core *c);

/* True once tablets have been placed. */
bool core_placed(const struct core *c);
/* Lines for people; see coordinator_degraded(). */
void core_degraded(const struct core *c, struct buf *out);
/* Fills what the core counts. */
void core_get_stats(const struct core *c, struct coordinator_stats *out);

#endif
