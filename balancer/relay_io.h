/*
 * One client's connection, passed on to a gateway.
 */
#ifndef BALANCER_RELAY_IO_H
#define BALANCER_RELAY_IO_H

#include "balancer/server_io.h"

enum relay_state {
    RELAY_CHOOSING,   /* between gateways */
    RELAY_CONNECTING, /* to a gateway */
    RELAY_PASSING,    /* bytes, both ways */
    RELAY_REFUSING,   /* telling the client that there is no gateway */
    RELAY_CLOSING,    /* handles are being closed */
};

/* One of the two connections. A side is finished when nothing more comes
 * from it and nothing more goes to it. */
struct relay_side {
    uv_tcp_t tcp;
    uv_shutdown_t shutdown;
    struct relay *relay;
    bool made;     /* tcp is initialised */
    bool paused;   /* not read, because the other takes no more */
    bool ended;    /* its end of data was read, or it is broken */
    bool shutting; /* we have begun to end the data that go to it */
    bool shut;     /* and that is done */
    bool dead;     /* it takes no more data */
};

struct relay {
    struct relay *next, *prev; /* in the server's list */
    struct server *server;
    enum balancer_service service;
    enum relay_state state;
    struct relay_side client, gateway;
    struct sockaddr_storage from, to; /* client's and our address */
    struct peer_key peer;
    bool admitted; /* counted by the server */
    bool counted;  /* at the gateway's place */
    bool spoken;   /* a byte was passed, either way */
    unsigned place;
    uint64_t tried; /* a bit a place */
    uv_connect_t connect;
    uv_timer_t timer;
    uint64_t accepted_ms, active_ms; /* uv_now() */
    unsigned open_handles;
};

/* Accepts a client from LISTENER and serves it until it ends; tells the
 * server when it is gone. */
void relay_accept(struct server *s, enum balancer_service service,
                  uv_stream_t *listener);
/* Closes it now, whatever is under way. */
void relay_close(struct relay *r);

#endif
