/*
 * The network's part of the libuv env, within it: env_uv_net_io.c makes and
 * ends connections, env_uv_listen_io.c accepts them, env_uv_conn_io.c moves
 * their bytes.
 */
#ifndef COMMON_ENV_UV_NET_H
#define COMMON_ENV_UV_NET_H

#include <sys/queue.h>

#include "common/env_uv_io.h"
#include "common/seal.h"

struct env_uv;

enum conn_state {
    CONN_RESOLVING,
    CONN_CONNECTING,
    CONN_SHAKING, /* the seal's handshake */
    CONN_HELLO,   /* sealed; waits for the peer's HELLO */
    CONN_OPEN,
    CONN_FAILED, /* its user is still to hear on_close */
    CONN_CLOSED,
    CONN_STATES
};

#define DIAL_ADDRESSES 4
#define ENV_UV_READ_BUFFER KIB(256)

/* A large part of what is to be sent, in memory of its own or of others. */
struct out_piece {
    struct slice left;
    struct buf own;
    struct env_lent lent; /* its done() is NULL if it is OWN */
    STAILQ_ENTRY(out_piece) link;
};
STAILQ_HEAD(piece_list, out_piece);

struct env_conn {
    struct env_uv *u;
    uv_tcp_t tcp;
    bool tcp_live; /* initialised, uv_close() not yet called */
    bool incoming;
    bool dirty;  /* in u->dirty */
    bool paused; /* has read its part of this turn */
    enum conn_state state;
    enum lane lane;
    enum status why; /* of CONN_FAILED */
    unsigned refs;   /* handle, resolver, lists: freed at 0 */
    const struct env_conn_events *events;
    void *ctx, *data;
    struct seal *seal;
    struct buf in; /* opened bytes that are no whole frame yet */
    /* Not yet sealed: PIECES, then OUT from OUT_AT on. */
    struct piece_list pieces;
    struct buf out;
    size_t out_at;
    size_t pieces_len; /* bytes in PIECES */
    size_t in_flight;  /* bytes that libuv has */
    size_t read;       /* in turn READ_TURN */
    uint64_t read_turn;
    struct env_timer deadline;
    struct env_peer peer;
    char address[LIMIT_ADDRESS + 1]; /* for logs; incoming: without port */
    /* Outgoing: where to try. */
    uv_getaddrinfo_t resolve;
    uv_connect_t connect;
    struct sockaddr_storage to[DIAL_ADDRESSES];
    unsigned to_count, to_next;
    uint16_t port;
    TAILQ_ENTRY(env_conn) all, stranger, failing_link;
    STAILQ_ENTRY(env_conn) dirty_link;
    bool is_stranger; /* in u->strangers */
};

struct listener {
    struct env_uv *u;
    uv_tcp_t tcp;
    const struct env_conn_events *events;
    void *ctx;
    SLIST_ENTRY(listener) link;
};

/* Lines that strangers can provoke: a few in a while. */
struct log_rate {
    int64_t since_us;
    unsigned lines, dropped;
};

TAILQ_HEAD(conn_list, env_conn);
STAILQ_HEAD(dirty_list, env_conn);

struct net {
    bool on;
    struct cluster_key key;
    const struct hello_self *self;
    uint32_t accept_roles;
    SLIST_HEAD(, listener) listeners;
    struct conn_list conns, strangers, failing; /* oldest first */
    struct dirty_list dirty;
    unsigned conn_count, stranger_count;
    uint64_t turn;     /* their number */
    bool paused;       /* some of CONNS are */
    uint8_t *read_buf; /* one for all: used within one callback */
    struct buf sealed; /* likewise; empty between, but keeps its memory */
    struct log_rate rate;
};

void env_uv_net_init(struct env_uv *u, const struct env_uv_options *o);
/* Closes all; what is left goes with the holds. */
void env_uv_net_fini(struct env_uv *u);
/* Frees memory once nothing holds the env. */
void env_uv_net_free(struct env_uv *u);
/* True while on_close is owed or bytes wait to be sealed. */
bool env_uv_net_pending(const struct env_uv *u);
/* Once before and once after the loop waits: tells of failures, writes. */
void env_uv_net_turn(struct env_uv *u);
/* Writes what is queued, as far as a turn does. */
void env_uv_net_flush(struct net *n);
struct env_conn *env_uv_connect(struct env *e, const char *address,
                                enum lane lane,
                                const struct env_conn_events *events,
                                void *ctx);
enum status env_uv_listen(struct env *e, const char *address,
                          const struct env_conn_events *events, void *ctx,
                          struct err *err);
void env_uv_listen_fini(struct env_uv *u);
/* A connection without a handle; referred to by nobody yet. */
struct env_conn *env_uv_conn_new(struct env_uv *u,
                                 const struct env_conn_events *events,
                                 void *ctx);
void env_uv_conn_close(struct env_conn *c);
/* Ends C for reason WHY; its user hears of it in the next turn. */
void env_uv_conn_fail(struct env_conn *c, enum status why);
void env_uv_conn_unref(struct env_conn *c);
void env_uv_conn_move(struct env_conn *c, enum conn_state to);
/* C has shown who it is: it counts as a stranger no more. */
void env_uv_conn_known(struct env_conn *c);
/* May a line that strangers can provoke be written now? */
bool env_uv_may_log(struct env_uv *u);

/* TCP stands: handshake and reading begin. */
void env_uv_conn_start(struct env_conn *c);
void env_uv_conn_send(struct env_conn *c, struct slice frames);
void env_uv_conn_send_take(struct env_conn *c, struct buf *frames);
void env_uv_conn_send_lent(struct env_conn *c, struct slice start,
                           const struct env_lent *rest);
/* Those that were paused read on. */
void env_uv_conns_go_on(struct net *n);
/* Gives back what will not be sent any more. */
void env_uv_conn_drop_out(struct env_conn *c);
size_t env_uv_conn_queued(const struct env_conn *c);
/* Seals what is queued and gives it to libuv, in portions; the connection is
 * dirty again if there is more than one turn's. */
void env_uv_conn_flush(struct env_conn *c);
/* The connection ends: as much as the kernel takes now. */
void env_uv_conn_flush_last(struct env_conn *c);

#endif
