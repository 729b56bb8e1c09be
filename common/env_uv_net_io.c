/*
 * Connections of the libuv env: making, accepting, ending. What they carry is
 * env_uv_conn_io.c.
 *
 * A connection lives as long as something refers to it: its handle until
 * libuv has closed it, the resolver, the list of failures that are still to
 * be told, the list of those with bytes to seal. Its user's knowledge of it
 * ends earlier, with on_close or env close().
 *
 * An incoming connection is a stranger until its hello is through. There may
 * be so many of them, and so many from one address; when more come, the
 * oldest goes: an honest handshake takes milliseconds, so who waits longest
 * is the one to doubt.
 */
#include <assert.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/address.h"
#include "common/env_uv_impl.h"

#define BACKLOG 511
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

static struct env_conn *
conn_new(struct env_uv *u, const struct env_conn_events *events, void *ctx)
{
    struct env_conn *c = xcalloc(1, sizeof(*c));
    c->u = u;
    c->events = events;
    c->ctx = ctx;
    c->deadline = (struct env_timer){.fn = on_deadline, .data = c};
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
    buf_free(&c->out);
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
        env_uv_conn_flush(c); /* what the kernel takes at once still goes */
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
    struct env_conn *c = conn_new(u, events, ctx);
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

/* ---- accepting ---- */

/* Bytes of C's peer's address without its port. */
static struct slice peer_ip(const struct env_conn *c)
{
    const struct sockaddr_storage *sa = &c->to[0];
    if (sa->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)sa;
        return slice_make(&in->sin6_addr, sizeof(in->sin6_addr));
    }
    const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
    return slice_make(&in->sin_addr, sizeof(in->sin_addr));
}

/* Makes room for one more stranger from C's address. */
static void limit_strangers(struct env_conn *c)
{
    struct net *n = &c->u->net;
    struct env_conn *oldest = NULL, *x;
    unsigned same = 0;
    TAILQ_FOREACH(x, &n->strangers, stranger)
    {
        if (slice_equal(peer_ip(x), peer_ip(c))) {
            oldest = oldest == NULL ? x : oldest;
            same++;
        }
    }
    if (same < LIMIT_CONNS_UNPROVEN_ONE) {
        oldest = n->stranger_count < LIMIT_CONNS_UNPROVEN
                     ? NULL
                     : TAILQ_FIRST(&n->strangers);
    }
    if (oldest != NULL) {
        count_add(&c->u->counters.refused, 1);
        env_uv_conn_fail(oldest, ST_TOO_MANY);
    }
}

static void learn_peer(struct env_conn *c)
{
    int len = sizeof(c->to[0]);
    (void)uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&c->to[0], &len);
    if (uv_ip_name((const struct sockaddr *)&c->to[0], c->address,
                   sizeof(c->address)) != 0) {
        (void)snprintf(c->address, sizeof(c->address), "?");
    }
}

static void on_incoming(uv_stream_t *server, int status)
{
    struct listener *l = server->data;
    struct env_uv *u = l->u;
    if (status < 0) {
        if (env_uv_may_log(u)) {
            log_warn(u->env.log, "net", "accept-failed", "why=%s",
                     uv_strerror(status));
        }
        return;
    }
    struct env_conn *c = conn_new(u, l->events, l->ctx);
    c->incoming = true;
    c->state = CONN_CONNECTING;
    (void)uv_tcp_init(u->loop, &c->tcp);
    c->tcp.data = c;
    c->tcp_live = true;
    c->refs++;
    if (uv_accept(server, (uv_stream_t *)&c->tcp) != 0 ||
        u->net.conn_count > LIMIT_CONNS) {
        count_add(&u->counters.refused, 1);
        env_uv_conn_fail(c, ST_TOO_MANY);
        return;
    }
    count_add(&u->counters.accepted, 1);
    learn_peer(c);
    limit_strangers(c);
    TAILQ_INSERT_TAIL(&u->net.strangers, c, stranger);
    u->net.stranger_count++;
    count_add(&u->counters.conns_unproven, 1);
    c->is_stranger = true;
    env_uv_conn_start(c);
}

static void on_listener_closed(uv_handle_t *h)
{
    struct listener *l = h->data;
    struct env_uv *u = l->u;
    free(l);
    env_uv_release(u);
}

/* An IPv6 socket serves both families, where the host has IPv6 at all. */
static int any_family(void)
{
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return AF_INET;
    }
    (void)close(fd);
    return AF_INET6;
}

/* "host:port" to listen on; "*" is every address of this host. */
static enum status listen_address(const char *address,
                                  struct sockaddr_storage *out, struct err *err)
{
    struct address a;
    struct addrinfo *found = NULL;
    char port[8];
    if (address_parse(address, &a) != ST_OK) {
        return err_set(err, ST_INVALID, "%s is not host:port", address);
    }
    (void)snprintf(port, sizeof(port), "%u", (unsigned)a.port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE};
    bool any = strcmp(a.host, "*") == 0;
    int r = getaddrinfo(any ? NULL : a.host, port, &hints, &found);
    if (r != 0) {
        return err_set(err, ST_UNREACHABLE, "cannot resolve %s: %s", address,
                       gai_strerror(r));
    }
    const struct addrinfo *pick = found;
    for (const struct addrinfo *x = found; any && x != NULL; x = x->ai_next) {
        pick = x->ai_family == any_family() ? x : pick;
    }
    memcpy(out, pick->ai_addr, pick->ai_addrlen);
    freeaddrinfo(found);
    return ST_OK;
}

enum status env_uv_listen(struct env *e, const char *address,
                          const struct env_conn_events *events, void *ctx,
                          struct err *err)
{
    struct env_uv *u = env_uv_of(e);
    struct sockaddr_storage sa;
    assert(u->net.on && !u->closing);
    memset(&sa, 0, sizeof(sa));
    enum status s = listen_address(address, &sa, err);
    if (s != ST_OK) {
        return s;
    }
    struct listener *l = xcalloc(1, sizeof(*l));
    *l = (struct listener){.u = u, .events = events, .ctx = ctx};
    (void)uv_tcp_init(u->loop, &l->tcp);
    l->tcp.data = l;
    env_uv_hold(u);
    int r = uv_tcp_bind(&l->tcp, (const struct sockaddr *)&sa, 0);
    if (r == 0) {
        r = uv_listen((uv_stream_t *)&l->tcp, BACKLOG, on_incoming);
    }
    if (r < 0) {
        uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
        return err_set(err, status_from_errno(-r), "cannot listen on %s: %s",
                       address, uv_strerror(r));
    }
    SLIST_INSERT_HEAD(&u->net.listeners, l, link);
    return ST_OK;
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

void env_uv_net_turn(struct env_uv *u)
{
    struct net *n = &u->net;
    if (u->closing) {
        return;
    }
    tell_failures(n);
    struct env_conn *c;
    while (!u->closing && (c = STAILQ_FIRST(&n->dirty)) != NULL) {
        STAILQ_REMOVE_HEAD(&n->dirty, dirty_link);
        c->dirty = false;
        env_uv_conn_flush(c);
        env_uv_conn_unref(c);
    }
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
    struct listener *l;
    for (c = TAILQ_FIRST(&n->conns); c != NULL; c = next) {
        next = TAILQ_NEXT(c, all);
        env_uv_conn_close(c);
    }
    while ((c = STAILQ_FIRST(&n->dirty)) != NULL) {
        STAILQ_REMOVE_HEAD(&n->dirty, dirty_link);
        c->dirty = false;
        env_uv_conn_unref(c);
    }
    while ((l = SLIST_FIRST(&n->listeners)) != NULL) {
        SLIST_REMOVE_HEAD(&n->listeners, link);
        uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
    }
}

void env_uv_net_free(struct env_uv *u)
{
    key_wipe(&u->net.key);
    free(u->net.read_buf);
}
