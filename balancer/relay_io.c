/*
 * A relay: one client, one gateway, bytes both ways.
 *
 * The course. A client is accepted and counted; gateways are tried, the best
 * first (core.h), until one accepts, each at most once, so that a gateway
 * that has just died costs a client nothing but a moment. It is told the
 * client's address (PROXY v2) and then gets what the client says, byte by
 * byte, and the client what it says. A gateway that resets the connection
 * before either has said anything did not accept either: its kernel did, when
 * it was already dying. If none accepts, the client is told so in its own
 * protocol.
 *
 * Nothing is read that cannot be passed on: a side that is LIMIT_BALANCER_QUEUE
 * behind stops the reading of the other. Reads go through one buffer of the
 * server; what the other side takes at once is never copied.
 *
 * Ends. The end of data from one side is passed to the other behind all data,
 * and the relay goes on until both have ended: half-closed connections work.
 * A side that breaks (reset) still has what it sent before delivered. A side
 * that takes no more data is still read, because its last words (an error,
 * then a close) are what the other needs to hear; what the other meanwhile
 * sends is read and dropped, because closing over unread data would reset the
 * connection and could take those words with it.
 *
 * Deadlines: connect_timeout for each gateway; then idle_timeout without a
 * byte, or LINGER_MS once a side is dead. The timer is not moved by every
 * byte; when it fires, it looks at the time of the last one.
 */
#include "balancer/relay_io.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/proxy2.h"
#include "balancer/metrics.h"
#include "balancer/resolver_io.h"

#define LINGER_MS 5000
#define KEEPALIVE_S 60

/* A write under way; its bytes follow. */
struct chunk {
    uv_write_t req;
    struct relay_side *side;
    char bytes[];
};

static const uint8_t moves[] = {
    /* to: a bit a state */
    [RELAY_CHOOSING] =
        1 << RELAY_CONNECTING | 1 << RELAY_REFUSING | 1 << RELAY_CLOSING,
    [RELAY_CONNECTING] =
        1 << RELAY_CHOOSING | 1 << RELAY_PASSING | 1 << RELAY_CLOSING,
    [RELAY_PASSING] = 1 << RELAY_CHOOSING | 1 << RELAY_CLOSING,
    [RELAY_REFUSING] = 1 << RELAY_CLOSING,
    [RELAY_CLOSING] = 0,
};

static void move(struct relay *r, enum relay_state to)
{
    assert((moves[r->state] >> to & 1) != 0);
    r->state = to;
}

static void try_next(struct relay *r);
static void attempt_failed(struct relay *r, const char *why);

static struct relay_side *other_of(const struct relay_side *side)
{
    struct relay *r = side->relay;
    return side == &r->client ? &r->gateway : &r->client;
}

static bool finished(const struct relay_side *side)
{
    return side->ended && (side->shut || side->dead);
}

static void count(const struct relay *r, enum balancer_metric id, uint64_t n)
{
    metrics_add(r->server->metrics, id, n);
}

/* ---- closing ---- */

/* A handle of R is closed. */
static void release(struct relay *r)
{
    if (--r->open_handles > 0) {
        return;
    }
    server_forget(r->server, r);
    free(r);
}

static void on_timer_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void on_tcp_closed(uv_handle_t *handle)
{
    struct relay_side *side = handle->data;
    release(side->relay);
}

void relay_close(struct relay *r)
{
    if (r->state == RELAY_CLOSING) {
        return;
    }
    move(r, RELAY_CLOSING);
    if (r->counted) {
        balancer_closed(&r->server->balancer, r->place, r->service);
        r->counted = false;
    }
    uv_close((uv_handle_t *)&r->timer, on_timer_closed);
    uv_close((uv_handle_t *)&r->client.tcp, on_tcp_closed);
    /* It is closing already after a failed attempt. */
    if (r->gateway.made && !uv_is_closing((uv_handle_t *)&r->gateway.tcp)) {
        uv_close((uv_handle_t *)&r->gateway.tcp, on_tcp_closed);
    }
}

static void close_if_finished(struct relay *r)
{
    if (finished(&r->client) && finished(&r->gateway)) {
        relay_close(r);
    }
}

/* ---- deadlines ---- */

static uint64_t patience_ms(const struct relay *r)
{
    return r->client.dead || r->gateway.dead
               ? LINGER_MS
               : (uint64_t)r->server->config->idle_timeout;
}

static void on_idle_timer(uv_timer_t *timer)
{
    struct relay *r = timer->data;
    uint64_t now = uv_now(r->server->loop);
    uint64_t end = r->active_ms + patience_ms(r);
    if (now < end) {
        (void)uv_timer_start(timer, on_idle_timer, end - now, 0);
        return;
    }
    count(r, M_IDLE_CLOSED, 1);
    relay_close(r);
}

static void arm_idle(struct relay *r)
{
    (void)uv_timer_start(&r->timer, on_idle_timer, patience_ms(r), 0);
}

static void note_activity(struct relay *r)
{
    r->active_ms = uv_now(r->server->loop);
}

/* ---- passing bytes ---- */

/* SIDE takes no more data. */
static void mark_dead(struct relay_side *side)
{
    if (!side->dead) {
        side->dead = true;
        arm_idle(side->relay);
    }
}

static void on_shut(uv_shutdown_t *req, int status)
{
    struct relay_side *side = req->data;
    if (side->relay->state == RELAY_CLOSING) {
        return;
    }
    side->shut = true;
    note_activity(side->relay);
    if (status < 0) {
        mark_dead(side);
    }
    close_if_finished(side->relay);
}

/* Ends the data that go to SIDE, behind what is queued. */
static void begin_shutdown(struct relay_side *side)
{
    if (side->shutting || side->dead) {
        return;
    }
    side->shutting = true;
    side->shutdown.data = side;
    if (uv_shutdown(&side->shutdown, (uv_stream_t *)&side->tcp, on_shut) != 0) {
        mark_dead(side);
    }
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    struct relay_side *side = handle->data;
    *out = uv_buf_init((char *)side->relay->server->scratch,
                       LIMIT_BALANCER_BUFFER);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void resume(struct relay_side *side)
{
    if (side->made && !side->ended &&
        uv_read_start((uv_stream_t *)&side->tcp, on_alloc, on_read) != 0) {
        side->ended = true;
    }
    side->paused = false;
}

static size_t queued(const struct relay_side *side)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&side->tcp);
}

static void on_written(uv_write_t *req, int status)
{
    struct chunk *chunk = req->data;
    struct relay_side *side = chunk->side, *other = other_of(side);
    free(chunk);
    if (side->relay->state != RELAY_PASSING &&
        side->relay->state != RELAY_REFUSING) {
        return; /* its handle is being closed */
    }
    if (status < 0) {
        mark_dead(side);
    } else {
        note_activity(side->relay);
    }
    if (other->paused &&
        (side->dead || queued(side) <= LIMIT_BALANCER_QUEUE / 2)) {
        resume(other);
    }
    close_if_finished(side->relay);
}

static void queue_write(struct relay_side *side, const void *data, size_t len)
{
    struct chunk *chunk = xmalloc(sizeof(*chunk) + len);
    chunk->side = side;
    chunk->req.data = chunk;
    memcpy(chunk->bytes, data, len);
    uv_buf_t b = uv_buf_init(chunk->bytes, (unsigned)len);
    if (uv_write(&chunk->req, (uv_stream_t *)&side->tcp, &b, 1, on_written) !=
        0) {
        free(chunk);
        mark_dead(side);
    }
}

/* Passes LEN bytes to SIDE: at once as far as it takes them, the rest queued
 * behind what waits already. */
static void pass(struct relay_side *side, const char *data, size_t len)
{
    size_t done = 0;
    if (queued(side) == 0) {
        uv_buf_t b = uv_buf_init((char *)data, (unsigned)len);
        int n = uv_try_write((uv_stream_t *)&side->tcp, &b, 1);
        if (n < 0 && n != UV_EAGAIN) {
            mark_dead(side);
            return;
        }
        done = n > 0 ? (size_t)n : 0;
    }
    if (done < len) {
        queue_write(side, data + done, len - done);
    }
    struct relay_side *other = other_of(side);
    if (!side->dead && queued(side) > LIMIT_BALANCER_QUEUE) {
        (void)uv_read_stop((uv_stream_t *)&other->tcp);
        other->paused = true;
    }
}

static void on_end(struct relay_side *side, bool broken)
{
    struct relay *r = side->relay;
    /* A reset that a write has met already reads as a plain end. */
    bool reset = broken || side->dead;
    if (reset && side == &r->gateway && r->state == RELAY_PASSING &&
        !r->spoken && !r->client.ended) {
        (void)uv_read_stop((uv_stream_t *)&r->client.tcp);
        attempt_failed(r, "reset");
        return;
    }
    side->ended = true;
    note_activity(r);
    (void)uv_read_stop((uv_stream_t *)&side->tcp);
    if (broken) {
        mark_dead(side);
    }
    begin_shutdown(other_of(side));
    close_if_finished(r);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct relay_side *side = stream->data, *other = other_of(side);
    struct relay *r = side->relay;
    if (n < 0) {
        on_end(side, n != UV_EOF);
    } else if (n > 0 && !other->dead && !other->shutting) {
        note_activity(r);
        r->spoken = true;
        count(r, side == &r->client ? M_BYTES_IN : M_BYTES_OUT, (uint64_t)n);
        pass(other, buf->base, (size_t)n);
    }
}

/* ---- finding a gateway ---- */

static void set_options(uv_tcp_t *tcp)
{
    (void)uv_tcp_nodelay(tcp, 1);
    (void)uv_tcp_keepalive(tcp, 1, KEEPALIVE_S);
}

static void log_unserved(struct server *s, enum balancer_service service)
{
    int64_t now_us = (int64_t)uv_now(s->loop) * 1000;
    s->unserved++;
    if (s->unserved_log_us == 0 || now_us - s->unserved_log_us >= 1000000) {
        log_error(s->log, "relay", "unserved", "service=%s clients=%llu",
                  service_name(service), (unsigned long long)s->unserved);
        s->unserved_log_us = now_us;
        s->unserved = 0;
    }
}

/* No gateway: tells the client and waits for it to leave. */
static void refuse(struct relay *r)
{
    const char *text = service_refusal(r->service);
    count(r, M_UNSERVED + (enum balancer_metric)r->service, 1);
    log_unserved(r->server, r->service);
    if (text[0] == '\0') {
        relay_close(r);
        return;
    }
    move(r, RELAY_REFUSING);
    r->gateway.ended = r->gateway.dead = true;
    note_activity(r);
    arm_idle(r);
    resume(&r->client);
    pass(&r->client, text, strlen(text));
    begin_shutdown(&r->client);
    close_if_finished(r);
}

static void start_passing(struct relay *r)
{
    move(r, RELAY_PASSING);
    note_activity(r);
    arm_idle(r);
    set_options(&r->gateway.tcp);
    metrics_observe_us(r->server->metrics, M_CONNECT,
                       (int64_t)(uv_now(r->server->loop) - r->accepted_ms) *
                           1000);
    if (r->server->config->proxy_protocol) {
        struct buf head = {.max = LIMIT_PROXY2};
        proxy2_encode(&head, (const struct sockaddr *)&r->from,
                      (const struct sockaddr *)&r->to);
        assert(!head.full);
        queue_write(&r->gateway, head.data, head.len);
        buf_free(&head);
    }
    resume(&r->client);
    resume(&r->gateway);
}

/* The handle of a failed attempt is closed: the next. */
static void on_attempt_closed(uv_handle_t *handle)
{
    struct relay_side *side = handle->data;
    struct relay *r = side->relay;
    *side = (struct relay_side){.relay = r};
    if (r->state != RELAY_CLOSING) {
        try_next(r);
    }
    release(r);
}

/* The chosen gateway does not accept. */
static void pass_over(struct relay *r, const char *why)
{
    struct server *s = r->server;
    const struct gateway *g = &s->balancer.gateways[r->place];
    count(r, M_GATEWAY_REFUSED, 1);
    log_warn(s->log, "relay", "gateway-refused", "gateway=%s service=%s why=%s",
             log_quote(slice_of(g->name)), service_name(r->service), why);
    balancer_refused(&s->balancer, r->place, r->service,
                     (int64_t)uv_now(s->loop) * 1000);
    r->counted = false;
}

static void attempt_failed(struct relay *r, const char *why)
{
    pass_over(r, why);
    (void)uv_timer_stop(&r->timer);
    move(r, RELAY_CHOOSING);
    uv_close((uv_handle_t *)&r->gateway.tcp, on_attempt_closed);
}

static void on_connected(uv_connect_t *req, int status)
{
    struct relay *r = req->data;
    if (r->state != RELAY_CONNECTING || status == UV_ECANCELED) {
        return; /* given up meanwhile */
    }
    if (status < 0) {
        attempt_failed(r, uv_err_name(status));
    } else {
        start_passing(r);
    }
}

static void on_connect_timer(uv_timer_t *timer)
{
    attempt_failed(timer->data, "timeout");
}

static void connect_to(struct relay *r, const struct sockaddr *address)
{
    struct relay_side *g = &r->gateway;
    int error = uv_tcp_init(r->server->loop, &g->tcp);
    assert(error == 0);
    g->tcp.data = g;
    g->made = true;
    r->open_handles++;
    move(r, RELAY_CONNECTING);
    r->connect.data = r;
    error = uv_tcp_connect(&r->connect, &g->tcp, address, on_connected);
    if (error != 0) {
        attempt_failed(r, uv_err_name(error));
        return;
    }
    (void)uv_timer_start(&r->timer, on_connect_timer,
                         (uint64_t)r->server->config->connect_timeout, 0);
}

/* Goes on with the best gateway that was not tried yet, or refuses. */
static void try_next(struct relay *r)
{
    struct server *s = r->server;
    int64_t now_us = (int64_t)uv_now(s->loop) * 1000;
    while (balancer_choose(&s->balancer, r->service, r->tried, now_us,
                           &r->place)) {
        const struct gateway *g = &s->balancer.gateways[r->place];
        struct sockaddr_storage address = {0};
        r->counted = true;
        r->tried |= (uint64_t)1 << r->place;
        enum status st =
            resolver_find(s->resolver, g->address[r->service], &address);
        if (st == ST_OK) {
            connect_to(r, (const struct sockaddr *)&address);
            return;
        }
        pass_over(r, "no_address");
    }
    refuse(r);
}

/* ---- accepting ---- */

/* Who is at the other end, and where they meant to go. */
static bool read_names(struct relay *r)
{
    int size = sizeof(r->from);
    if (uv_tcp_getpeername(&r->client.tcp, (struct sockaddr *)&r->from,
                           &size) != 0) {
        return false;
    }
    size = sizeof(r->to);
    return uv_tcp_getsockname(&r->client.tcp, (struct sockaddr *)&r->to,
                              &size) == 0;
}

static struct relay *make(struct server *s, enum balancer_service service)
{
    struct relay *r = xcalloc(1, sizeof(*r));
    r->server = s;
    r->service = service;
    r->client.relay = r->gateway.relay = r;
    int error = uv_tcp_init(s->loop, &r->client.tcp);
    assert(error == 0);
    r->client.tcp.data = &r->client;
    r->client.made = true;
    error = uv_timer_init(s->loop, &r->timer);
    assert(error == 0);
    r->timer.data = r;
    r->open_handles = 2;
    r->accepted_ms = r->active_ms = uv_now(s->loop);
    return r;
}

void relay_accept(struct server *s, enum balancer_service service,
                  uv_stream_t *listener)
{
    struct relay *r = make(s, service);
    server_remember(s, r);
    if (uv_accept(listener, (uv_stream_t *)&r->client.tcp) != 0 ||
        !read_names(r)) {
        relay_close(r); /* it has left already */
        return;
    }
    count(r, M_ACCEPTED + (enum balancer_metric)service, 1);
    r->peer = peer_key_of((const struct sockaddr *)&r->from);
    if (!server_admit(s, r)) {
        relay_close(r);
        return;
    }
    set_options(&r->client.tcp);
    try_next(r);
}
