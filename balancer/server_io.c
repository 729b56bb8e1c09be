/*
 * Listeners, limits, the list of relays, and draining: on SIGTERM nobody new
 * is accepted (a supervisor or another balancer takes over the port), those
 * who are here may finish.
 */
#include "balancer/server_io.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/address_io.h"
#include "balancer/metrics.h"
#include "balancer/relay_io.h"
#include "balancer/resolver_io.h"

#define BACKLOG 1024
#define SPARE_DESCRIPTORS 128 /* listeners, coordinators, status, library */

/* ---- relays ---- */

void server_remember(struct server *s, struct relay *r)
{
    r->next = s->relays;
    if (r->next != NULL) {
        r->next->prev = r;
    }
    s->relays = r;
}

/* What one address may have: less, the fuller the house, so that a few
 * hundred addresses that hold all they can leave room for everybody else. */
static uint32_t address_limit(const struct server *s)
{
    static const struct {
        unsigned percent; /* of max_connections taken */
        uint32_t most;
    } steps[] = {{95, 8}, {87, 32}, {75, 128}};
    uint32_t most = (uint32_t)s->config->max_per_address;
    uint64_t taken = (uint64_t)s->relay_count * 100 / s->relay_max;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (taken >= steps[i].percent) {
            return most < steps[i].most ? most : steps[i].most;
        }
    }
    return most;
}

bool server_admit(struct server *s, struct relay *r)
{
    if (s->relay_count >= s->relay_max) {
        metrics_add(s->metrics, M_OVER_LIMIT, 1);
        return false;
    }
    if (!peers_enter(s->peers, r->peer, address_limit(s))) {
        metrics_add(s->metrics, M_OVER_ADDRESS_LIMIT, 1);
        return false;
    }
    r->admitted = true;
    s->relay_count++;
    metrics_set(s->metrics, M_OPEN, s->relay_count);
    return true;
}

static void finish_drain(struct server *s)
{
    if (s->drained != NULL) {
        void (*drained)(void *ctx) = s->drained;
        s->drained = NULL;
        (void)uv_timer_stop(&s->drain);
        drained(s->ctx);
    }
}

void server_forget(struct server *s, struct relay *r)
{
    if (r->prev != NULL) {
        r->prev->next = r->next;
    } else {
        s->relays = r->next;
    }
    if (r->next != NULL) {
        r->next->prev = r->prev;
    }
    if (r->admitted) {
        peers_leave(s->peers, r->peer);
        s->relay_count--;
        metrics_set(s->metrics, M_OPEN, s->relay_count);
    }
    if (s->draining && s->relays == NULL) {
        finish_drain(s);
    }
}

/* ---- listening ---- */

static void on_connection(uv_stream_t *listener, int status)
{
    struct server *s = listener->data;
    if (status < 0) {
        log_warn(s->log, "server", "accept-failed", "error=%s",
                 uv_err_name(status));
        return;
    }
    for (unsigned i = 0; i < SERVICE_COUNT; i++) {
        if (listener == (uv_stream_t *)&s->listeners[i]) {
            relay_accept(s, (enum balancer_service)i, listener);
        }
    }
}

static enum status listen_for(struct server *s, enum balancer_service service,
                              const char *address, struct err *err)
{
    int fd;
    if (address[0] == '\0') {
        return ST_OK;
    }
    enum status status = address_listen(address, &fd, err);
    if (status != ST_OK) {
        return status;
    }
    uv_tcp_t *tcp = &s->listeners[service];
    int error = uv_tcp_init(s->loop, tcp);
    assert(error == 0);
    s->listening[service] = true;
    tcp->data = s;
    error = uv_tcp_open(tcp, fd);
    if (error != 0) {
        (void)close(fd);
    } else {
        error = uv_listen((uv_stream_t *)tcp, BACKLOG, on_connection);
    }
    if (error != 0) {
        return err_set(err, ST_IO, "%s: %s", address, uv_strerror(error));
    }
    log_info(s->log, "server", "listening", "service=%s address=%s",
             service_name(service), address);
    return ST_OK;
}

static void stop_listening(struct server *s)
{
    for (unsigned i = 0; i < SERVICE_COUNT; i++) {
        if (s->listening[i]) {
            s->listening[i] = false;
            uv_close((uv_handle_t *)&s->listeners[i], NULL);
        }
    }
}

uint16_t server_port(const struct server *s, enum balancer_service service)
{
    uv_os_fd_t fd;
    if (!s->listening[service] ||
        uv_fileno((const uv_handle_t *)&s->listeners[service], &fd) != 0) {
        return 0;
    }
    return address_bound_port(fd);
}

/* Two descriptors a client: no more clients than those allow. */
static uint32_t relay_limit(const struct server *s)
{
    struct rlimit limit;
    uint64_t most = (uint64_t)s->config->max_connections;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur < 2 * most + SPARE_DESCRIPTORS) {
        most = limit.rlim_cur > SPARE_DESCRIPTORS + 2
                   ? (limit.rlim_cur - SPARE_DESCRIPTORS) / 2
                   : 1;
        log_warn(s->log, "server", "fewer-connections",
                 "max_connections=%llu descriptors=%llu",
                 (unsigned long long)most, (unsigned long long)limit.rlim_cur);
    }
    return (uint32_t)most;
}

/* ---- life ---- */

enum status server_start(struct server *s, uint64_t seed, struct err *err)
{
    const char *addresses[SERVICE_COUNT] = {
        [SERVICE_HTTP] = s->config->http_listen,
        [SERVICE_SMTP] = s->config->smtp_listen,
        [SERVICE_SUBMISSION] = s->config->submission_listen,
        [SERVICE_SUBMISSIONS] = s->config->submissions_listen,
        [SERVICE_HTTPS] = s->config->https_listen,
    };
    s->peers = peers_new(seed);
    s->resolver = resolver_new(s->loop);
    s->scratch = xmalloc(LIMIT_BALANCER_BUFFER);
    s->relay_max = relay_limit(s);
    int error = uv_timer_init(s->loop, &s->drain);
    assert(error == 0);
    s->drain.data = s;
    for (unsigned i = 0; i < SERVICE_COUNT; i++) {
        enum status status =
            listen_for(s, (enum balancer_service)i, addresses[i], err);
        if (status != ST_OK) {
            server_stop(s);
            return status;
        }
    }
    return ST_OK;
}

void server_take_map(struct server *s, const struct msg_map *map)
{
    struct sockaddr_storage unused;
    if (!balancer_take_map(&s->balancer, map)) {
        return;
    }
    metrics_add(s->metrics, M_MAPS, 1);
    for (unsigned i = 0; i < BALANCER_GATEWAYS; i++) {
        const struct gateway *g = &s->balancer.gateways[i];
        for (unsigned j = 0; g->listed && j < SERVICE_COUNT; j++) {
            if (g->address[j][0] != '\0') { /* names are looked up early */
                enum status st =
                    resolver_find(s->resolver, g->address[j], &unused);
                (void)st;
            }
        }
    }
}

static void close_relays(struct server *s)
{
    struct relay *next;
    for (struct relay *r = s->relays; r != NULL; r = next) {
        next = r->next;
        relay_close(r);
    }
}

static void on_drain_timeout(uv_timer_t *timer)
{
    struct server *s = timer->data;
    log_warn(s->log, "server", "drain-timeout", "connections=%u",
             s->relay_count);
    finish_drain(s);
}

void server_drain(struct server *s, void (*drained)(void *ctx), void *ctx)
{
    stop_listening(s);
    s->draining = true;
    s->drained = drained;
    s->ctx = ctx;
    log_info(s->log, "server", "draining", "connections=%u", s->relay_count);
    if (s->relays == NULL) {
        finish_drain(s);
        return;
    }
    (void)uv_timer_start(&s->drain, on_drain_timeout,
                         (uint64_t)s->config->drain_timeout, 0);
}

void server_stop(struct server *s)
{
    stop_listening(s);
    close_relays(s);
    s->drained = NULL;
    if (!uv_is_closing((uv_handle_t *)&s->drain)) {
        uv_close((uv_handle_t *)&s->drain, NULL);
    }
    resolver_free(s->resolver);
    s->resolver = NULL;
}

void server_fini(struct server *s)
{
    assert(s->relays == NULL);
    peers_free(s->peers);
    free(s->scratch);
}

/* ---- status ---- */

static void add_gateway(const struct gateway *g, cJSON *list)
{
    cJSON *item = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(item, "node", g->node);
    (void)cJSON_AddStringToObject(item, "name", g->name);
    (void)cJSON_AddStringToObject(
        item, "state", g->listed ? node_state_name(g->state) : "gone");
    (void)cJSON_AddNumberToObject(item, "connections", g->total);
    (void)cJSON_AddNumberToObject(item, "chosen", (double)g->chosen);
    (void)cJSON_AddNumberToObject(item, "refused", (double)g->refused);
    cJSON *services = cJSON_AddObjectToObject(item, "services");
    for (unsigned i = 0; i < SERVICE_COUNT; i++) {
        if (g->address[i][0] != '\0') {
            cJSON *one = cJSON_AddObjectToObject(
                services, service_name((enum balancer_service)i));
            (void)cJSON_AddStringToObject(one, "address", g->address[i]);
            (void)cJSON_AddNumberToObject(one, "connections", g->conns[i]);
        }
    }
    (void)cJSON_AddItemToArray(list, item);
}

void server_status(const struct server *s, cJSON *out)
{
    (void)cJSON_AddNumberToObject(out, "connections", s->relay_count);
    (void)cJSON_AddNumberToObject(out, "connections_max", s->relay_max);
    (void)cJSON_AddNumberToObject(out, "addresses",
                                  (double)peers_count(s->peers));
    (void)cJSON_AddBoolToObject(out, "draining", s->draining);
    (void)cJSON_AddNumberToObject(out, "map_term", (double)s->balancer.term);
    (void)cJSON_AddNumberToObject(out, "map_version",
                                  (double)s->balancer.version);
    cJSON *list = cJSON_AddArrayToObject(out, "gateways");
    for (unsigned i = 0; i < BALANCER_GATEWAYS; i++) {
        const struct gateway *g = &s->balancer.gateways[i];
        if (g->node != 0 && (g->listed || g->total > 0)) {
            add_gateway(g, list);
        }
    }
}
