/*
 * The server's parts put together: acceptor, book of connections, workers,
 * and one libmicrohttpd daemon for each listener (plain, TLS), which gets its
 * sockets from the acceptor and has none of its own.
 *
 * How it stops: no new connections; requests under way get their answer and
 * "Connection: close"; event streams end (http_events_stop() is called by the
 * owner before this, as they belong to the app); when no request is left, or
 * after a while, the daemons close what is open. The library aborts if it is
 * stopped while a connection is suspended, so the workers end first.
 */
#include "gateway/http/server_io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gnutls/gnutls.h>
#include <microhttpd.h>

#include "common/address_io.h"
#include "gateway/http/accept_io.h"
#include "gateway/http/exchange_io.h"
#include "gateway/http/tls_io.h"

#define PARSER_THREADS 2

struct http_server {
    struct http_server_options options;
    struct http_hub hub;
    struct http_port ports[HTTP_LISTENERS];
    struct MHD_Daemon *daemons[HTTP_LISTENERS];
    struct http_tls *tls;
    struct http_acceptor *acceptor;
    uint16_t port, tls_port;
};

static void on_connection(void *port, struct MHD_Connection *c, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct http_port *p = port;
    if (what != MHD_CONNECTION_NOTIFY_CLOSED) {
        *context = p;
        return;
    }
    int fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)
                 ->connect_fd;
    http_conns_remove(p->hub->conns, fd);
}

static void on_library_log(void *port, const char *format, va_list args)
{
    struct http_port *p = port;
    char text[256];
    vsnprintf(text, sizeof(text), format, args);
    text[strcspn(text, "\n")] = '\0';
    log_debug(p->hub->options->log, "http", "library", "text=%s",
              log_quote(slice_of(text)));
}

static void hand_over(void *ctx, unsigned listener, int fd,
                      const struct sockaddr_storage *from)
{
    struct http_server *s = ctx;
    socklen_t len = from->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                : sizeof(struct sockaddr_in);
    /* On failure the library has closed FD; the book may have it no more. */
    if (MHD_add_connection(s->daemons[listener], fd, (const void *)from, len) !=
        MHD_YES)
        http_conns_remove(s->hub.conns, fd);
}

/* The values of STRICT are the library's own: at -1 it refuses white space
 * before a header's colon, which at 0 it lets pass. */
static struct MHD_Daemon *start_daemon(struct http_port *p, unsigned flags,
                                       struct MHD_OptionItem *more)
{
    flags |= MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_NO_LISTEN_SOCKET |
             MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG;
    return MHD_start_daemon(
        flags, 0, NULL, NULL, http_exchange_answer, p,
        MHD_OPTION_EXTERNAL_LOGGER, on_library_log, p,
        MHD_OPTION_THREAD_POOL_SIZE, (unsigned)PARSER_THREADS,
        MHD_OPTION_CONNECTION_LIMIT,
        p->hub->options->max_connections + (unsigned)PARSER_THREADS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)LIMIT_HTTP_HEAD,
        MHD_OPTION_CONNECTION_TIMEOUT, 300u, MHD_OPTION_STRICT_FOR_CLIENT, -1,
        MHD_OPTION_URI_LOG_CALLBACK, http_exchange_begin, p,
        MHD_OPTION_UNESCAPE_CALLBACK, http_exchange_unescape, p,
        MHD_OPTION_NOTIFY_COMPLETED, http_exchange_end, p,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, p, MHD_OPTION_ARRAY, more,
        MHD_OPTION_END);
}

static enum status start_plain(struct http_server *s)
{
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    s->daemons[0] = start_daemon(&s->ports[0], 0, none);
    return s->daemons[0] == NULL ? ST_NO_MEMORY : ST_OK;
}

static enum status start_tls(struct http_server *s, struct err *err)
{
    enum status status =
        http_tls_load(s->options.certificate, s->options.key, &s->tls, err);
    if (status != ST_OK)
        return status;
    s->ports[1].tls = s->tls;
    struct MHD_OptionItem items[] = {
        {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)http_tls_choose},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)HTTP_TLS_PRIORITIES},
        {MHD_OPTION_END, 0, NULL},
    };
    s->daemons[1] = start_daemon(&s->ports[1], MHD_USE_TLS, items);
    return s->daemons[1] == NULL ? err_set(err, ST_NO_MEMORY, "https: %s",
                                           status_text(ST_NO_MEMORY))
                                 : ST_OK;
}

static bool wants_tls(const struct http_server *s)
{
    return s->options.listen_tls != NULL && s->options.listen_tls[0] != '\0';
}

static enum status start_acceptor(struct http_server *s, struct err *err)
{
    struct http_acceptor_options o = {
        .listeners = {-1, -1},
        .proxy = s->options.proxy,
        .head_timeout_ms = s->options.head_timeout_ms,
        .conns = s->hub.conns,
        .log = s->options.log,
        .hand_over = hand_over,
        .ctx = s,
    };
    enum status status =
        address_listen(s->options.listen, &o.listeners[0], err);
    if (status != ST_OK)
        return status;
    s->port = address_bound_port(o.listeners[0]);
    if (wants_tls(s)) {
        status = address_listen(s->options.listen_tls, &o.listeners[1], err);
        if (status != ST_OK) {
            close(o.listeners[0]);
            return status;
        }
        s->tls_port = address_bound_port(o.listeners[1]);
    }
    status = http_acceptor_start(&o, &s->acceptor);
    return status == ST_OK ? ST_OK : err_set(err, status, "http: cannot start");
}

static void set_defaults(struct http_server_options *o)
{
    if (o->workers == 0)
        o->workers = 16;
    if (o->max_connections == 0)
        o->max_connections = LIMIT_HTTP_CONNS;
    if (o->max_per_address == 0)
        o->max_per_address = LIMIT_HTTP_ADDRESS;
    if (o->head_timeout_ms == 0)
        o->head_timeout_ms = 10000;
    if (o->idle_timeout_ms == 0)
        o->idle_timeout_ms = 60000;
    if (o->body_timeout_ms == 0)
        o->body_timeout_ms = 15000;
}

static void init_hub(struct http_server *s)
{
    s->hub.options = &s->options;
    s->hub.conns =
        http_conns_new(s->options.max_connections, s->options.max_per_address);
    for (int i = 0; i < HTTP_LISTENERS; i++)
        s->ports[i] = (struct http_port){&s->hub, i == 1, NULL};
}

enum status http_server_start(const struct http_server_options *o,
                              struct http_server **out, struct err *err)
{
    struct http_server *s = xcalloc(1, sizeof(*s));
    s->options = *o;
    set_defaults(&s->options);
    init_hub(s);
    struct http_pool_options pool = {s->options.workers, LIMIT_HTTP_QUEUE,
                                     http_exchange_run, &s->hub};
    enum status status = http_pool_start(&pool, &s->hub.pool);
    if (status == ST_OK)
        status = start_plain(s);
    if (status != ST_OK)
        status = err_set(err, status, "http: %s", status_text(status));
    if (status == ST_OK && wants_tls(s))
        status = start_tls(s, err);
    if (status == ST_OK)
        status = start_acceptor(s, err);
    if (status == ST_OK)
        *out = s;
    else
        http_server_stop(s);
    return status;
}

uint16_t http_server_port(const struct http_server *s)
{
    return s->port;
}

uint16_t http_server_tls_port(const struct http_server *s)
{
    return s->tls_port;
}

unsigned http_server_connections(struct http_server *s)
{
    return (unsigned)http_conns_count(s->hub.conns);
}

enum status http_server_reload(struct http_server *s, struct err *err)
{
    if (s->tls == NULL)
        return ST_OK;
    return http_tls_reload(s->tls, s->options.certificate, s->options.key, err);
}

void http_server_stop(struct http_server *s)
{
    if (s == NULL)
        return;
    atomic_store(&s->hub.stopping, true);
    http_acceptor_stop(s->acceptor);
    http_pool_stop(s->hub.pool);
    for (int i = 0; i < HTTP_LISTENERS; i++) {
        if (s->daemons[i] != NULL)
            MHD_stop_daemon(s->daemons[i]);
    }
    http_tls_free(s->tls);
    http_conns_free(s->hub.conns);
    free(s);
}
