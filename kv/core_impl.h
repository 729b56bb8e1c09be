/*
 * Inside of the client's core: what its files share. core.c starts and ends
 * operations, route.c keeps the map, conn.c the connections, link.c the one
 * to a coordinator, session.c numbers (R23), encode.c frames, send.c
 * transmissions and what their answers mean (R24). Nobody outside kv/ includes
 * this.
 *
 * Only kv_op_finish() calls done(); it is called from the env's callbacks
 * and never from kv_op_advance(), so walking the rings while advancing is
 * safe.
 */
#ifndef KV_CORE_IMPL_H
#define KV_CORE_IMPL_H

#include "kv/core.h"
#include "kv/ring.h"

/* Times, in microseconds. */
#define KV_ASK_US 200000          /* without an answer: ask for the map (R24) */
#define KV_BULK_PATIENCE 4        /* so many asks before a large one again */
#define KV_ASK_GAP_US 50000       /* least time between two asks */
#define KV_BACKOFF_US 50000       /* most time between two tries (R24) */
#define KV_LAST_US 50000          /* before a deadline: too late to begin */
#define KV_LINK_BACKOFF_US 250000 /* the same, to coordinators */
#define KV_OPEN_US 1000000        /* a connection that does not open */
#define KV_SILENCE_US 500000      /* silent connection: ping it ... */
#define KV_DEAD_US 1500000        /* ... and open it anew */
#define KV_WATCH_TURN_MS 10000    /* one WATCH request waits at most this */
#define KV_WATCH_GRACE_US 1000000 /* and is late after this much more */
#define KV_WATCH_RETRY_US 1000000 /* when a connection has its fill of them */
#define KV_LINK_TRUST_US 1000000  /* no newer map for so long: ask another */
#define KV_BULK_SIZE (16 * 1024)  /* frames above go on the bulk lane */

/* Of LIMIT_CONN_REQUESTS on a connection; the rest is for re-sends. */
#define KV_CONN_REQUESTS 512
#define KV_CONN_WATCHES 384
_Static_assert(KV_CONN_REQUESTS + KV_CONN_WATCHES <= LIMIT_CONN_REQUESTS,
               "requests and watches leave room for re-sends");

#define KV_SLOT_BITS 24
_Static_assert(LIMIT_CLIENT_OPS < (1 << KV_SLOT_BITS) - 1,
               "request ids tell operations apart");
/* The request ids of what is no operation. */
#define KV_REQUEST_LINK ((1ull << KV_SLOT_BITS) - 1)

enum op_state {
    OP_NEW = 0,
    OP_PARKED,  /* no map, or nobody is primary: waits for a newer map */
    OP_QUEUED,  /* waits for a session or for room in its window */
    OP_WAITING, /* waits for its connection */
    OP_SENT,    /* waits for an answer */
    OP_BACKOFF, /* was refused: its timer sends it again */
    OP_ENDING,  /* its end was known at the start: its timer tells */
};

enum conn_state {
    CONN_IDLE = 0, /* nobody needs it */
    CONN_OPENING,
    CONN_OPEN,
    CONN_BACKOFF, /* lost or refused: its timer opens it again */
};

struct kv_conn {
    struct kv_core *core;
    struct kv_ring all;
    char address[LIMIT_ADDRESS + 1];
    enum lane lane;
    enum conn_state state;
    struct env_conn *env_conn;
    struct kv_ring waiting, pending; /* WAITING, SENT */
    uint32_t sent;    /* number of those pending, watches not counted ... */
    uint32_t watches; /* ... and of the watches among them */
    struct env_timer timer;
    bool watched; /* OPEN: the timer looks out for silence */
    bool asked;   /* the link's: an answer or a PONG is due */
    bool pinged;
    int64_t heard_us; /* last sign of life, or beginning of expecting one */
    uint8_t failures; /* in a row */
};

/* R23's side of the client, of one tablet. */
struct kv_session {
    uint64_t session;               /* 0: not introduced */
    uint64_t next;                  /* number to be taken next */
    uint64_t oldest;                /* oldest open, or next if none is */
    bool open[LIMIT_CLIENT_WINDOW]; /* of number % LIMIT_CLIENT_WINDOW */
    struct kv_ring queue;           /* operations without a number yet */
    bool introducing;
    struct kv_op introduce;
};

struct kv_tablet {
    struct kv_core *core;
    uint32_t id;
    uint64_t hash_first, hash_last;
    uint64_t epoch;
    struct slice address; /* of the primary, in the map; empty: nobody */
    bool changed;         /* by the map just taken */
    /* Where a NOT_PRIMARY of HINT_EPOCH sent us; "": nowhere. */
    char hint[LIMIT_ADDRESS + 1];
    uint64_t hint_epoch;
    struct kv_session session;
};

/* The connection to a coordinator. */
struct kv_link {
    char **addresses;
    uint32_t count, at;
    char hint[LIMIT_ADDRESS + 1]; /* the active one, as another said */
    struct kv_conn *conn;
    struct env_timer timer; /* turns to the next address */
    uint8_t failures;       /* turns since the last newer map */
    int64_t asked_us;       /* last ask */
    int64_t since_us;       /* first ask since the last newer map; 0: none */
};

struct kv_core {
    struct env *env;
    struct id128 client;
    bool stopping;
    struct kv_stats stats;

    struct kv_ring ops;
    struct kv_op **slots; /* by slot; NULL: free */
    uint32_t *free_slots;
    uint32_t slots_count, free_count;
    uint64_t requests; /* counter in request ids */

    struct arena map_arena;
    struct msg_map *map;
    struct kv_tablet **tablets; /* by hash_first */
    uint32_t tablets_count;
    void (*on_map)(void *ctx);
    void *on_map_ctx;

    struct kv_ring conns;
    struct kv_link link;
    struct buf frame; /* being encoded */
};

/* ---- core.c ---- */

/* Moves OP from state to state, out of where it waited. */
void kv_op_move(struct kv_op *op, enum op_state to);
/* The same into OP_WAITING or OP_SENT on N. */
void kv_op_move_to(struct kv_op *op, struct kv_conn *n, enum op_state to);
/* Ends OP; done() is called. ANSWER may be NULL. */
void kv_op_finish(struct kv_op *op, enum status status,
                  const struct wire_msg *answer);
/* Ends OP whose time is over; REASON is for what surely had no effect. */
void kv_op_expire(struct kv_op *op, enum status reason);
/* Fires OP's timer after DELAY_US or at its deadline, if that is sooner. */
void kv_op_arm(struct kv_op *op, int64_t delay_us);
/* Operation that request REQUEST belongs to, or NULL; *COPY tells which. */
struct kv_op *kv_op_of_request(struct kv_core *c, uint64_t request,
                               uint32_t *copy);
uint64_t kv_request_id(struct kv_core *c, const struct kv_op *op);
/* Time from now on, jittered, for the TRIES'th try. */
int64_t kv_backoff_us(struct kv_core *c, unsigned tries, int64_t most_us);

/* ---- route.c ---- */

/* Takes M if it is newer, and re-sends what it moves. */
void kv_map_take(struct kv_core *c, const struct msg_map *m);
void kv_map_free(struct kv_core *c);
struct kv_tablet *kv_tablet_of_hash(struct kv_core *c, uint64_t hash);
struct kv_tablet *kv_tablet_of_id(struct kv_core *c, uint32_t id);
/* Sets OP's tablet if it needs one; false if it is not known. */
bool kv_route_tablet(struct kv_op *op);
/* Connection to send OP on; NULL if nobody is known to be right. */
struct kv_conn *kv_route_conn(struct kv_op *op);
/* Takes E's (NOT_PRIMARY) word for where T's primary is; true if that is
 * news. */
bool kv_route_hint(struct kv_tablet *t, const struct msg_error *e);
/* Nothing is where ADDRESS was said to be. */
void kv_route_forget(struct kv_core *c, const char *address);
/* An address announced by a node of the map, of its service "rpc". */
bool kv_route_known(const struct kv_core *c, const char *address);

/* ---- conn.c ---- */

/* The connection to ADDRESS, made if need be (CONN_IDLE). */
struct kv_conn *kv_conn_get(struct kv_core *c, struct slice address,
                            enum lane lane);
/* Somebody needs it: opens it if it is idle. */
void kv_conn_need(struct kv_conn *n);
/* Sends what is in core->frame. */
void kv_conn_send(struct kv_conn *n);
/* True if another request, or another watch, may be sent. */
bool kv_conn_room(const struct kv_conn *n, const struct kv_op *op);
/* Sends WAITING operations while there is room. */
void kv_conn_pump(struct kv_conn *n);
/* Looks out for silence from now on. */
void kv_conn_watch(struct kv_conn *n);
/* Cuts it and opens it anew if it is needed. */
void kv_conn_reset(struct kv_conn *n, enum status why);
/* Frees it if nobody needs it; never from its own callbacks. */
void kv_conn_free_idle(struct kv_conn *n);
/* Frees those that nobody needs and the map no longer names; the link's,
 * from whose callback it is called, is needed. */
void kv_conn_sweep(struct kv_core *c);
void kv_conn_free(struct kv_conn *n);

/* ---- link.c ---- */

void kv_link_init(struct kv_core *c, const char *const *addresses);
void kv_link_fini(struct kv_core *c);
void kv_link_on_open(struct kv_core *c);
void kv_link_on_lost(struct kv_core *c);
/* Somebody said that the active coordinator is at HINT (may be empty). */
void kv_link_move(struct kv_core *c, struct slice hint);
/* A newer map came. */
void kv_link_on_map(struct kv_core *c);
/* Asks for a newer map, unless that was done just now. */
void kv_link_ask(struct kv_core *c);

/* ---- session.c ---- */

void kv_session_init(struct kv_tablet *t);
/* Takes a number for OP; false: OP is queued instead. */
bool kv_session_take(struct kv_op *op);
/* Number NUMBER of session SESSION is open no longer. */
void kv_session_close(struct kv_tablet *t, uint64_t session, uint64_t number);
/* The tablet does not know SESSION any more. */
void kv_session_lost(struct kv_tablet *t, uint64_t session);
/* Gives numbers to queued operations while there are any. */
void kv_session_pump(struct kv_tablet *t);
/* The answer to the latest INTRODUCE. */
void kv_session_begin(struct kv_tablet *t, uint64_t session);

/* ---- send.c ---- */

/* Brings OP as far as it gets: tablet, number, connection, sent. */
void kv_op_advance(struct kv_op *op);
/* Sends OP on its open connection. */
void kv_op_transmit(struct kv_op *op);
/* Refused or lost: tries again a little later. */
void kv_op_back_off(struct kv_op *op);
/* Answer M to copy COPY of OP. */
void kv_op_on_answer(struct kv_op *op, uint32_t copy, const struct wire_msg *m);

/* ---- encode.c ---- */

/* What OP asks, encoded into c->frame. */
void kv_op_encode(struct kv_op *op, uint64_t request);
/* Checks sizes against the limits, and chooses the lane by them. */
enum status kv_op_check(struct kv_op *op) MUST_CHECK;

#endif
