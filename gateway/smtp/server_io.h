/*
 * The SMTP server: listens, accepts, runs a thread a session around the pure
 * core (smtp/session.h).
 */
#ifndef GATEWAY_SMTP_SERVER_IO_H
#define GATEWAY_SMTP_SERVER_IO_H

#include "cloud/cloud.h"

struct smtp_server;

struct smtp_server_options {
    struct cloud *cloud;      /* borrowed */
    const struct log *log;    /* borrowed */
    const char *hostname;     /* in the greeting and Received fields; copied */
    const char *listen;       /* "host:port" for arriving mail; copied */
    bool proxy;               /* connections begin with a PROXY v2 header */
    unsigned max_sessions;    /* 0: 8000 */
    unsigned max_per_address; /* sessions of one client address; 0: 50 */
    size_t spool_max;         /* bytes of messages under way in memory; 0:
                                 256 MiB. Beyond it 452 4.3.1 */
    int store_timeout_ms;     /* settling one message; 0: 300000 */
    /* Times, in milliseconds; 0: RFC 5321 4.5.3.2. Tests set them lower. */
    int greeting_timeout_ms; /* first command; 120000 */
    int command_timeout_ms;  /* 300000 */
    int data_timeout_ms;     /* one read of DATA; 180000 */
    unsigned data_rate_min;  /* bytes a second over a message, after the first
                                30 s; 0: 100 */
    int unknown_delay_ms;    /* before "no such user"; grows with each; 1000 */
};

/* Listens and starts; after ST_OK connections are served. */
enum status smtp_server_start(const struct smtp_server_options *o,
                              struct smtp_server **out,
                              struct err *err) MUST_CHECK;
/* Port that it listens on (for tests that ask for port 0). */
uint16_t smtp_server_port(const struct smtp_server *s);
/* Sessions now, for the balancer and /metrics. */
struct smtp_server_stats {
    unsigned sessions;
    uint64_t accepted, refused;            /* connections */
    uint64_t messages, deferred, rejected; /* after DATA: 250, 4xx, 5xx */
    uint64_t bytes;                        /* of messages taken */
    uint64_t spool_bytes;                  /* in memory now */
};
void smtp_server_get_stats(const struct smtp_server *s,
                           struct smtp_server_stats *out);
/* Stops accepting; sessions in which a message is being stored finish it, the
 * others get 421. Returns when all threads have ended, at most about 10 s;
 * frees S. */
void smtp_server_stop(struct smtp_server *s);

#endif
