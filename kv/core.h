/*
 * The client of the store without sockets, threads or clock (R23, R24): it
 * keeps the map, finds a tablet's primary, keeps a connection to each node,
 * takes numbers in sessions and re-sends until an answer or the deadline. It
 * runs over any struct env: kv.h's blocking shell and callback.h on libuv,
 * the simulation on its own. Single-threaded: everything here is called, and
 * calls back, on the env's loop.
 *
 * What a transmission may have done decides what an operation may say. Each
 * transmission (copy) of a command has a request id of its own. An ERROR of
 * NOT_PRIMARY, STALE_EPOCH, BUSY, DEGRADED, STOPPING, NO_SPACE, TOO_MANY,
 * INVALID, TOO_LARGE, DENIED, UNSUPPORTED, NOT_FOUND or WRONG_NODE is the
 * server's promise that this copy is in no log and never will be; any other
 * ERROR, a closed connection or silence leaves it loose. At its deadline a
 * command without a loose copy is refused definitely; with one its outcome is
 * unknown.
 */
#ifndef KV_CORE_H
#define KV_CORE_H

#include "common/env.h"
#include "kv/kv.h"

struct kv_core;
struct kv_tablet;
struct kv_conn;

struct kv_core_options {
    const char *const *coordinators; /* "host:port", ends with NULL; copied */
};

enum kv_op_kind {
    KV_OP_GET = 1,   /* in.get; answer VALUE */
    KV_OP_SCAN,      /* in.scan; answer CELLS */
    KV_OP_WATCH,     /* in.watch; answer CHANGED */
    KV_OP_COMMAND,   /* in.command: a BATCH or NOTHING; result */
    KV_OP_SETTLE,    /* in.settle; result */
    KV_OP_CALL,      /* in.call; answer whatever came */
    KV_OP_INTRODUCE, /* the core's own */
};

#define KV_OP_COPIES 6

/* Ring of list members; the core's own use. */
struct kv_ring {
    struct kv_ring *prev, *next;
};

/* An operation, embedded by its user: zeroed, the first part filled, then
 * given to kv_core_start(). It and all it refers to stay in place until
 * done() is called, which is the last the core knows of it. */
struct kv_op {
    enum kv_op_kind kind;
    int64_t timeout_us; /* from kv_core_start() */
    void (*done)(struct kv_op *op);
    void *data; /* the user's */
    union {
        /* tablet, forwarded and (WATCH) wait_ms are filled by the core; a
         * WATCH waits for timeout_us. */
        struct msg_get get;
        struct msg_scan scan;
        struct msg_watch watch;
        /* kind, partition, conditions, mutations; the core adds the rest. */
        const struct command *command;
        struct kv_pending settle;
        /* NODE 0: the coordinator. FRAME: one encoded frame, which may be
         * sent more than once. */
        struct {
            uint32_t node;
            const struct buf *frame;
        } call;
    } in;
    bool bulk;    /* the answer will be large: use the bulk connection */
    bool give_up; /* COMMAND: an unknown outcome is abandoned at once */

    /* Set when done() is called. STATUS as kv.h says of the blocking calls;
     * ANSWER, where there is one, lives until done() returns. */
    enum status status;
    struct kv_result result;
    const struct wire_msg *answer;

    /* The core's own. */
    struct {
        struct kv_core *core;
        uint32_t slot; /* low part of its request ids */
        uint8_t state; /* enum op_state */
        uint8_t tries; /* backoff's exponent */
        uint8_t quiet; /* checks without an answer since it was sent */
        uint64_t session, number;
        struct kv_tablet *tablet; /* NULL: not routed yet, or a CALL */
        struct kv_conn *conn;     /* where it waits or was last sent */
        struct kv_ring all, place;
        struct env_timer timer;
        int64_t deadline_us;
        int64_t sent_us;
        uint32_t sent;    /* copies sent in this session, ever */
        uint32_t loose;   /* of them, those that may have an effect */
        uint16_t refused; /* enum status: last refusal, or 0 */
        uint32_t copies_count;
        struct {
            uint64_t request;
            struct kv_conn *conn;
        } copies[KV_OP_COPIES]; /* loose ones that may be answered yet */
    } p;
};

/* Makes a client with an id of its own (R23), which connects to a
 * coordinator at once. */
struct kv_core *kv_core_new(struct env *env, const struct kv_core_options *o);
/* Ends all operations: done() comes for each, with ST_STOPPING or, where it
 * may have had an effect, ST_UNKNOWN_OUTCOME. None may be started then. */
void kv_core_free(struct kv_core *c);

/* Starts OP; done() never comes before this returns. */
void kv_core_start(struct kv_core *c, struct kv_op *op);
/* Ends OP as if its deadline had come; done() comes before this returns. */
void kv_core_cancel(struct kv_op *op);
/* Closes the number of an unknown outcome without knowing it. */
void kv_core_abandon(struct kv_core *c, const struct kv_pending *p);

/* SCAN as a message; slices are borrowed. */
void kv_scan_to_message(const struct kv_scan *scan, struct msg_scan *out);

/* The newest map known; NULL: none yet. Lives until the next event. */
const struct msg_map *kv_core_map(const struct kv_core *c);
/* FN hears of each newer map. */
void kv_core_on_map(struct kv_core *c, void (*fn)(void *ctx), void *ctx);
struct id128 kv_core_client(const struct kv_core *c);
void kv_core_get_stats(const struct kv_core *c, struct kv_stats *out);

#endif
