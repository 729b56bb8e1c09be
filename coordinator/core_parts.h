/*
 * The functions by which one of the core's files calls another, by the file
 * they are in. Nobody else includes this but tests.
 */
#ifndef COORDINATOR_CORE_PARTS_H
#define COORDINATOR_CORE_PARTS_H

#include "coordinator/core_state.h"

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
enum member_state member_state(const struct core *c, const struct tablet *t,
                               struct replica r);
/* R said last that it has ROLE in the present epoch. */
bool core_reports_role(struct core *c, const struct tablet *t, struct replica r,
                       enum replica_role role);
/* R, of I, cannot vouch for its log and may have lost what would let it follow
 * (R12 d), and the primary runs and vouches for all of its own. */
bool core_is_dead_weight(struct core *c, const struct tablet *t,
                         struct replica r);
bool member_state_fit(enum member_state s);
bool member_state_bad(enum member_state s); /* damaged or short */

/* Enough of SET, members of T, have room on their disks to go on without
 * those that have none. */
bool core_has_room(struct core *c, const struct tablet *t,
                   const struct replica_set *set);

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
/* WHO has restarted: it was not slow but dead, and may return at once. */
void core_undamp(struct core *c, struct replica who);
bool core_damped(struct core *c, const struct tablet *t, struct replica who);
/* Moves one primary from where most are to where fewest are, if all has been
 * whole for long enough. */
void core_balance(struct core *c, struct core_effects *fx);
/* A first configuration or a next one takes effect: load is counted. */
void core_count_load(struct core *c, const struct configuration *config,
                     int sign);

/* ---- core_view.c ---- */

void core_on_reports_ask(struct core *c, const struct core_event *ev,
                         struct core_effects *fx);

#endif
