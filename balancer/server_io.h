/*
 * The front door: listeners, limits, all relays, and how it closes. One loop,
 * one thread.
 */
#ifndef BALANCER_SERVER_IO_H
#define BALANCER_SERVER_IO_H

#include <uv.h>

#include <cjson/cJSON.h>

#include "balancer/config.h"
#include "balancer/core.h"
#include "balancer/peers.h"
#include "common/log.h"
#include "common/metrics.h"

struct relay;
struct resolver;

struct server {
    uv_loop_t *loop;
    const struct log *log;
    struct metrics *metrics;
    const struct balancer_config *config;
    struct balancer balancer;
    struct resolver *resolver;
    struct peers *peers;
    uv_tcp_t listeners[SERVICE_COUNT];
    bool listening[SERVICE_COUNT];
    struct relay *relays; /* a list */
    uint32_t relay_count, relay_max;
    uint8_t *scratch; /* LIMIT_BALANCER_BUFFER: what was just read */
    uv_timer_t drain;
    int64_t unserved_log_us; /* when that was last logged, at most once a */
    uint64_t unserved;       /* second, and how often it was since */
    bool draining;
    void (*drained)(void *ctx);
    void *ctx;
};

/* Zeroed, then loop, log, metrics, config (borrowed) set by the caller; SEED
 * is random. Listens on all configured addresses. On failure all is being
 * closed again. */
enum status server_start(struct server *s, uint64_t seed,
                         struct err *err) MUST_CHECK;
void server_take_map(struct server *s, const struct msg_map *map);
/* Stops accepting; calls DRAINED, on the loop, when the last client has left
 * or drain_timeout is over. Called once. */
void server_drain(struct server *s, void (*drained)(void *ctx), void *ctx);
/* Closes whatever is open; the memory of S may go when the loop has closed
 * its handles. */
void server_stop(struct server *s);
void server_fini(struct server *s);

/* Adds members to /status. */
void server_status(const struct server *s, cJSON *out);

/* Port that SERVICE is listened for on; 0: it is not. */
uint16_t server_port(const struct server *s, enum balancer_service service);

/* For the relays. */

/* R is in the list until server_forget(). */
void server_remember(struct server *s, struct relay *r);
/* Counts R against max_connections and its address against max_per_address;
 * false if one is passed. */
bool server_admit(struct server *s, struct relay *r) MUST_CHECK;
/* A relay is gone: it no longer counts. */
void server_forget(struct server *s, struct relay *r);

#endif
