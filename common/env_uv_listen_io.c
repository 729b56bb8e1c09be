/*
 * Incoming connections of the libuv env.
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
    struct env_conn *c = env_uv_conn_new(u, l->events, l->ctx);
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

void env_uv_listen_fini(struct env_uv *u)
{
    struct listener *l;
    while ((l = SLIST_FIRST(&u->net.listeners)) != NULL) {
        SLIST_REMOVE_HEAD(&u->net.listeners, link);
        uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
    }
}
