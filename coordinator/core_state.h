/*
 * What the core's own files share: its state, and the functions by which one
 * reason to change calls another. Nobody else includes this but tests.
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
    } ack;                 /* of the heartbeat of this step */
    uint32_t refused_node; /* last refusal that was logged, and when */
    int64_t refused_us;
    struct arena map_arena;
    struct msg_map *map; /* core_map()'s */
    struct coordinator_stats stats;
};

/* ---- core.c ---- */

/* The map has changed; DURABLY: in what must be on disk first. */
void core_touch(struct core *c, struct core_effects *fx, bool durably);
void core_note(struct core_effects *fx, enum log_level level, const char *event,
               const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The frame appended to fx->frames since AT goes to EV's sender. */
void core_answer(struct core_effects *fx, const struct core_event *ev,
                 uint64_t after, size_t at);
void core_fatal(struct core_effects *fx, enum status why, const char *format,
                ...) __attribute__((format(printf, 3, 4)));
/* Node ids are unique among processes of one role. NULL: no such node. */
struct node *core_find(struct core *c, uint8_t role, uint32_t id);
/* The storage node of that id. */
struct node *core_node(struct core *c, uint32_t id);
const struct node *core_node_const(const struct core *c, uint32_t id);
struct tablet *core_tablet(struct core *c, uint32_t id);
struct replica node_replica(const struct node *n);
/* What the map says of it. */
enum node_state core_node_state(const struct node *n);
void core_review_all(struct core *c);

/* ---- core_nodes.c ---- */

void core_on_heartbeat(struct core *c, const struct core_event *ev,
                       struct core_effects *fx);
/* What N says of T, whether it has said anything or not. */
struct slot *node_slot(struct core *c, struct node *n, const struct tablet *t);
/* The answer, when all that the heartbeat causes is decided. */
void core_ack_heartbeat(struct core *c, const struct core_event *ev,
                        struct core_effects *fx);

/* Registration (R5), as a decision table. */
enum registration {
    REGISTER_SAME,      /* known, as before */
    REGISTER_RESTARTED, /* same store, new incarnation */
    REGISTER_NEW_NODE,
    REGISTER_NEW_STORE,  /* another store under the same node id */
    REGISTER_OTHER_NODE, /* refused: ST_WRONG_NODE */
    REGISTER_ALIVE,      /* refused: ST_IN_USE */
    REGISTER_COUNTER,    /* refused: ST_DENIED */
    REGISTER_FULL,       /* refused: ST_TOO_MANY */
};
enum registration_fact {
    FACT_KNOWN = 1,       /* the node id is in the table */
    FACT_STORE = 2,       /* ... with the same store */
    FACT_INCARNATION = 4, /* ... and the same incarnation */
    FACT_ABOVE = 8,       /* start counter above the last of that store */
    FACT_FOREIGN = 16,    /* that store belongs to another node id */
    FACT_ALIVE = 32,      /* who had the node id may be alive */
    FACT_ROOM = 64,       /* the table has a place */
};
/* Decides; *ROWS says how many rows fit: always one (tested). */
enum registration registration_decide(unsigned facts, unsigned *rows);

/* ---- core_detect.c ---- */

void core_mark_up(struct core *c, struct node *n, struct core_effects *fx);
void core_mark_down(struct core *c, struct node *n, const char *why,
                    struct core_effects *fx);
void core_on_reset(struct core *c, const struct core_event *ev,
                   struct core_effects *fx);
void core_on_suspect(struct core *c, const struct core_event *ev,
                     struct core_effects *fx);
void core_on_gone(struct core *c, const struct core_event *ev,
                  struct core_effects *fx);
void core_on_tick(struct core *c, struct core_effects *fx);
/* Nobody is declared dead yet (R20). */
bool core_in_grace(const struct core *c);

/* ---- core_elect.c ---- */

enum member_state {
    MEMBER_GONE,       /* its node is down, or has another store */
    MEMBER_UNHEARD,    /* since our start */
    MEMBER_RECOVERING, /* up, cannot say yet what it has (R16) */
    MEMBER_DAMAGED,    /* cannot vouch for its log, or asked to leave */
    MEMBER_SHORT,      /* restarted with less than was committed (R14) */
    MEMBER_BEHIND,     /* running; its last heartbeat is older than a
                          committed name that another one showed */
    MEMBER_FRESH,      /* fit; restarted since its epoch was made */
    MEMBER_RUNNING,    /* fit */
};
enum member_state member_state(struct core *c, const struct tablet *t,
                               struct replica r);
bool member_state_fit(enum member_state s);
bool member_state_bad(enum member_state s); /* damaged or short */

enum verdict {
    VERDICT_KEEP,           /* the primary stays */
    VERDICT_ELECT,          /* *OUT is the next one, of I */
    VERDICT_ELECT_ELIGIBLE, /* ... of E (R8 b) */
    VERDICT_WAIT,           /* nobody yet; look again */
};
/* Who shall be primary of T now. WISH (node 0: none) is preferred (R15). */
enum verdict core_elect(struct core *c, struct tablet *t, struct replica wish,
                        struct replica *out);

/* ---- core_review.c ---- */

enum wish_kind { WISH_NOTHING, WISH_ADD, WISH_REMOVE, WISH_PRIMARY };
struct wish {
    enum wish_kind kind;
    struct replica who;
};
/* Brings T's configuration up to date; true if that made a new epoch. */
bool core_review(struct core *c, struct tablet *t, struct wish w,
                 struct core_effects *fx);
/* Reviews every tablet that has its flag set. */
void core_review_flagged(struct core *c, struct core_effects *fx);

/* ---- core_change.c ---- */

void core_on_change(struct core *c, const struct core_event *ev,
                    struct core_effects *fx);
void core_on_node_set(struct core *c, const struct core_event *ev,
                      struct core_effects *fx);

/* ---- core_place.c ---- */

/* Places all tablets, once enough storage nodes are there. */
void core_place(struct core *c, struct core_effects *fx);
/* Fills d->learners from the old configuration and what D keeps. */
void core_choose_learners(struct core *c, struct tablet *t, struct draft *d);
void core_damp(struct core *c, struct tablet *t, struct replica who);
bool core_damped(struct core *c, const struct tablet *t, struct replica who);
/* A first configuration or a next one takes effect: load is counted. */
void core_count_load(struct core *c, const struct configuration *config,
                     int sign);

/* ---- core_view.c ---- */

void core_on_reports_ask(struct core *c, const struct core_event *ev,
                         struct core_effects *fx);

#endif
