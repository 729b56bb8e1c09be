/*
 * Connections of the libuv env: making, accepting, ending. What they carry is
 * env_uv_conn_io.c.
 *
 * A connection lives as long as something refers to it: its handle until
 * libuv has closed it, the resolver, the list of failures that are still to
 * be told, the list of those with bytes to seal. Its user's knowledge of it
 * ends earlier, with on_close or env close().
 */
#include <assert.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/address.h"
#include "common/env_uv_impl.h"

#define RATE_LINES 10
#define RATE_US 10000000

static const bool moves[CONN_STATES][CONN_STATES] = {
    [CONN_RESOLVING] =
        {[CONN_CONNECTING] = true, [CONN_FAILED] = true, [CONN_CLOSED] = true},
    [CONN_CONNECTING] =
        {[CONN_SHAKING] = true, [CONN_FAILED] = true, [CONN_CLOSED] = true},
    [CONN_SHAKING] =
        {[CONN_HELLO] = true, [CONN_FAILED] = true, [CONN_CLOSED] = true},
    [CONN_HELLO] =
        {[CONN_OPEN] = true, [CONN_FAILED] = true, [CONN_CLOSED] = true},
    [CONN_OPEN] = {[CONN_FAILED] = true, [CONN_CLOSED] = true},
    [CONN_FAILED] = {[CONN_CLOSED] = true},
};

void env_uv_conn_move(struct env_conn *c, enum conn_state to)
{
    assert(moves[c->state][to]);
    struct counters *k = &c->u->counters;
    if (to == CONN_OPEN) {
        count_add(&k->conns_open, 1);
    } else if (c->state == CONN_OPEN) {
        count_add(&k->conns_open, UINT64_MAX); /* one less */
    }
    c->state = to;
}

bool env_uv_may_log(struct env_uv *u)
{
    struct log_rate *r = &u->net.rate;
    int64_t now = env_now_us(&u->env);
    if (r->since_us == 0 || now - r->since_us >= RATE_US) {
        if (r->dropped > 0) {
            log_warn(u->env.log, "net", "lines-left-out", "count=%u",
                     r->dropped);
        }
        *r = (struct log_rate){.since_us = now};
    }
    if (r->lines >= RATE_LINES) {
        r->dropped++;
        return false;
    }
    r->lines++;
    return true;
}

/* ---- life ---- */

static void on_deadline(struct env_timer *t)
{
    struct env_conn *c = t->data;
    if (c->incoming) {
        count_add(&c->u->counters.handshake_failures, 1);
    }
    env_uv_conn_fail(c, ST_UNREACHABLE);
}

struct env_conn *env_uv_conn_new(struct env_uv *u,
                                 const struct env_conn_events *events,
                                 void *ctx)
{
    struct env_conn *c = xcalloc(1, sizeof(*c));
    c->u = u;
    c->events = events;
    c->ctx = ctx;
    c->deadline = (struct env_timer){.fn = on_deadline, .data = c};
    STAILQ_INIT(&c->pieces);
    TAILQ_INSERT_TAIL(&u->net.conns, c, all);
    u->net.conn_count++;
    env_uv_hold(u);
    return c;
}

void env_uv_conn_unref(struct env_conn *c)
{
    struct env_uv *u = c->u;
    assert(c->refs > 0);
    c->refs--;
    if (c->refs > 0) {
        return;
    }
    assert(c->state == CONN_CLOSED && !c->tcp_live);
    TAILQ_REMOVE(&u->net.conns, c, all);
    u->net.conn_count--;
    seal_free(c->seal);
    buf_free(&c->in);
    env_uv_conn_drop_out(c);
    free(c);
    env_uv_release(u);
}

void env_uv_conn_known(struct env_conn *c)
{
    struct net *n = &c->u->net;
    if (c->is_stranger) {
        TAILQ_REMOVE(&n->strangers, c, stranger);
        n->stranger_count--;
        count_add(&c->u->counters.conns_unproven, UINT64_MAX);
        c->is_stranger = false;
    }
}

static void on_tcp_closed(uv_handle_t *h);

static void close_tcp(struct env_conn *c)
{
    if (c->tcp_live) {
        c->tcp_live = false;
        uv_close((uv_handle_t *)&c->tcp, on_tcp_closed);
    }
}

/* What both ways of ending have in common. */
static void end(struct env_conn *c, enum conn_state to)
{
    env_uv_conn_move(c, to);
    env_timer_stop(&c->u->env, &c->deadline);
    env_uv_conn_known(c);
    env_uv_conn_drop_out(c);
    close_tcp(c);
    (void)uv_cancel((uv_req_t *)&c->resolve);
}

void env_uv_conn_fail(struct env_conn *c, enum status why)
{
    if (c->state >= CONN_FAILED) {
        return;
    }
    bool told = !c->incoming || c->state == CONN_OPEN;
    c->why = why;
    c->refs++; /* for this call, or for the list */
    end(c, told ? CONN_FAILED : CONN_CLOSED);
    if (told) {
        TAILQ_INSERT_TAIL(&c->u->net.failing, c, failing_link);
    } else {
        env_uv_conn_unref(c);
    }
}

void env_uv_conn_close(struct env_conn *c)
{
    if (c->state == CONN_CLOSED) {
        return;
    }
    if (c->state == CONN_FAILED) {
        TAILQ_REMOVE(&c->u->net.failing, c, failing_link);
        env_uv_conn_move(c, CONN_CLOSED);
        env_uv_conn_unref(c);
        return;
    }
    c->refs++;
    if (c->state == CONN_OPEN) {
        env_uv_conn_flush_last(c);
    }
    if (c->state == CONN_FAILED) { /* the flush found it broken */
        env_uv_conn_close(c);
    } else if (c->state != CONN_CLOSED) {
        end(c, CONN_CLOSED);
    }
    env_uv_conn_unref(c);
}

/* ---- connecting ---- */

static void dial(struct env_conn *c);

static void on_tcp_closed(uv_handle_t *h)
{
    struct env_conn *c = h->data;
    if (c->state == CONN_CONNECTING) {
        dial(c);
    }
    env_uv_conn_unref(c);
}

static void on_connected(uv_connect_t *req, int r)
{
    struct env_conn *c = req->data;
    if (c->state != CONN_CONNECTING) {
        return;
    }
    if (r < 0) {
        close_tcp(c); /* on_tcp_closed() tries the next address */
        return;
    }
    count_add(&c->u->counters.connected, 1);
    env_uv_conn_start(c);
}

/* Tries the next address. */
static void dial(struct env_conn *c)
{
    if (c->to_next == c->to_count) {
        env_uv_conn_fail(c, ST_UNREACHABLE);
        return;
    }
    struct sockaddr *to = (struct sockaddr *)&c->to[c->to_next++];
    int r = uv_tcp_init(c->u->loop, &c->tcp);
    assert(r == 0); /* makes no socket yet */
    c->tcp.data = c;
    c->connect.data = c;
    c->tcp_live = true;
    c->refs++;
    r = uv_tcp_connect(&c->connect, &c->tcp, to, on_connected);
    if (r < 0) {
        close_tcp(c);
    }
}

static void keep_address(struct env_conn *c, const struct sockaddr *sa)
{
    struct sockaddr_storage *to;
    if (c->to_count == DIAL_ADDRESSES) {
        return;
    }
    to = &c->to[c->to_count];
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)to;
        memcpy(in, sa, sizeof(*in));
        in->sin_port = htons(c->port);
    } else if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 *in = (struct sockaddr_in6 *)to;
        memcpy(in, sa, sizeof(*in));
        in->sin6_port = htons(c->port);
    } else {
        return;
    }
    c->to_count++;
}

static void on_resolved(uv_getaddrinfo_t *req, int r, struct addrinfo *found)
{
    struct env_conn *c = req->data;
    if (c->state == CONN_RESOLVING) {
        for (const struct addrinfo *a = found; a != NULL; a = a->ai_next) {
            keep_address(c, a->ai_addr);
        }
        if (r < 0 && env_uv_may_log(c->u)) {
            log_warn(c->u->env.log, "net", "unknown-host", "address=%s why=%s",
                     log_quote(slice_of(c->address)), uv_strerror(r));
        }
        env_uv_conn_move(c, CONN_CONNECTING);
        dial(c);
    }
    uv_freeaddrinfo(found);
    env_uv_conn_unref(c);
}

/* Numbers need no resolver: its threads may all be waiting for a disk. */
static bool numeric(const char *host, struct sockaddr_storage *out)
{
    return uv_ip4_addr(host, 0, (struct sockaddr_in *)out) == 0 ||
           uv_ip6_addr(host, 0, (struct sockaddr_in6 *)out) == 0;
}

static void resolve(struct env_conn *c, const char *host)
{
    struct sockaddr_storage sa;
    memset(&sa, 0, sizeof(sa));
    if (numeric(host, &sa)) {
        keep_address(c, (const struct sockaddr *)&sa);
        env_uv_conn_move(c, CONN_CONNECTING);
        dial(c);
        return;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    c->resolve.data = c;
    int r = uv_getaddrinfo(c->u->loop, &c->resolve, on_resolved, host, NULL,
                           &hints);
    if (r == 0) {
        c->refs++;
    } else {
        env_uv_conn_fail(c, ST_UNREACHABLE);
    }
}

struct env_conn *env_uv_connect(struct env *e, const char *address,
                                enum lane lane,
                                const struct env_conn_events *events, void *ctx)
{
    struct env_uv *u = env_uv_of(e);
    assert(u->net.on && !u->closing);
    struct address a;
    struct env_conn *c = env_uv_conn_new(u, events, ctx);
    c->lane = lane;
    (void)snprintf(c->address, sizeof(c->address), "%s", address);
    env_timer_start(e, &c->deadline, LIMIT_CONNECT_MS * (int64_t)1000);
    if (address_parse(address, &a) != ST_OK) {
        env_uv_conn_fail(c, ST_INVALID);
        return c;
    }
    c->port = a.port;
    resolve(c, a.host);
    return c;
}

/* ---- turns ---- */

bool env_uv_net_pending(const struct env_uv *u)
{
    return !TAILQ_EMPTY(&u->net.failing) || !STAILQ_EMPTY(&u->net.dirty);
}

/* As many as there are now: what fails meanwhile waits for the next turn, so
 * that who reconnects at once cannot keep the loop here. */
static void tell_failures(struct net *n)
{
    struct env_conn *c;
    unsigned count = 0;
    TAILQ_FOREACH(c, &n->failing, failing_link)
    {
        count++;
    }
    for (; count > 0 && (c = TAILQ_FIRST(&n->failing)) != NULL; count--) {
        TAILQ_REMOVE(&n->failing, c, failing_link);
        env_uv_conn_move(c, CONN_CLOSED);
        c->events->on_close(c->ctx, c, c->why);
        env_uv_conn_unref(c);
    }
}

void env_uv_net_flush(struct net *n)
{
    struct env_conn *c;
    struct dirty_list now = STAILQ_HEAD_INITIALIZER(now);
    STAILQ_CONCAT(&now, &n->dirty); /* what has more is dirty again */
    while ((c = STAILQ_FIRST(&now)) != NULL) {
        STAILQ_REMOVE_HEAD(&now, dirty_link);
        c->dirty = false;
        env_uv_conn_flush(c);
        env_uv_conn_unref(c);
    }
}

void env_uv_net_turn(struct env_uv *u)
{
    struct net *n = &u->net;
    if (u->closing) {
        return;
    }
    n->turn++;
    tell_failures(n);
    env_uv_conns_go_on(n);
    env_uv_net_flush(n);
}

/* ---- init and fini ---- */

void env_uv_net_init(struct env_uv *u, const struct env_uv_options *o)
{
    struct net *n = &u->net;
    SLIST_INIT(&n->listeners);
    TAILQ_INIT(&n->conns);
    TAILQ_INIT(&n->strangers);
    TAILQ_INIT(&n->failing);
    STAILQ_INIT(&n->dirty);
    if (o->key == NULL) {
        return;
    }
    assert(o->self != NULL);
    n->on = true;
    n->key = *o->key;
    n->self = o->self;
    n->accept_roles = o->accept_roles;
    n->read_buf = xmalloc(ENV_UV_READ_BUFFER);
}

void env_uv_net_fini(struct env_uv *u)
{
    struct net *n = &u->net;
    struct env_conn *c, *next;
    for (c = TAILQ_FIRST(&n->conns); c != NULL; c = next) {
        next = TAILQ_NEXT(c, all);
        env_uv_conn_close(c);
    }
    while ((c = STAILQ_FIRST(&n->dirty)) != NULL) {
        STAILQ_REMOVE_HEAD(&n->dirty, dirty_link);
        c->dirty = false;
        env_uv_conn_unref(c);
    }
    env_uv_listen_fini(u);
}

void env_uv_net_free(struct env_uv *u)
{
    key_wipe(&u->net.key);
    free(u->net.read_buf);
    buf_free(&u->net.sealed);
}
