/*
 * The HTTP server: accepts connections, parses with libmicrohttpd, runs
 * handlers on workers (app.h), serves the web interface's files.
 */
#ifndef GATEWAY_HTTP_SERVER_IO_H
#define GATEWAY_HTTP_SERVER_IO_H

#include "common/metrics.h"
#include "gateway/http/app.h"
#include "gateway/http/static_io.h"

struct http_server;

struct http_server_options {
    struct http_app *app;            /* borrowed */
    const struct http_static *files; /* borrowed */
    const struct log *log;           /* borrowed */
    struct metrics *metrics;         /* borrowed; may be NULL */
    const char *listen;              /* "host:port" */
    const char *listen_tls;          /* likewise; "" or NULL: none */
    const char *certificate, *key;   /* PEM files, for TLS */
    bool proxy;                      /* connections begin with PROXY v2 */
    unsigned workers;                /* threads for handlers; 0: 16 */
    unsigned max_connections;        /* 0: LIMIT_HTTP_CONNS */
    unsigned max_per_address;        /* 0: 256 */
    int head_timeout_ms;             /* accept or first byte to the end of
                                        the head; 0: 10 s */
    int idle_timeout_ms;             /* between requests; 0: 60 s */
    int body_timeout_ms;             /* besides 16 KiB/s; 0: 15 s */
};

/* Listens and serves. */
enum status http_server_start(const struct http_server_options *o,
                              struct http_server **out,
                              struct err *err) MUST_CHECK;
/* Port it listens on (for tests that ask for port 0). */
uint16_t http_server_port(const struct http_server *s);
uint16_t http_server_tls_port(const struct http_server *s);
unsigned http_server_connections(struct http_server *s);
/* Reads certificate and key anew for connections from now on; on failure the
 * old ones stay. */
enum status http_server_reload(struct http_server *s,
                               struct err *err) MUST_CHECK;
/* Stops accepting, lets requests under way finish, ends event streams, frees.
 * Returns within about 8 s. NULL is allowed. */
void http_server_stop(struct http_server *s);

#endif
