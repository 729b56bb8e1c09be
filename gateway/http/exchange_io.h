/*
 * One request on its way through libmicrohttpd: its callbacks, as called on
 * the library's threads, and the job that a worker does for it.
 */
#ifndef GATEWAY_HTTP_EXCHANGE_IO_H
#define GATEWAY_HTTP_EXCHANGE_IO_H

#include <stdatomic.h>

#include <microhttpd.h>

#include "gateway/http/conns.h"
#include "gateway/http/pool_io.h"
#include "gateway/http/server_io.h"

/* What all exchanges of a server share. */
struct http_hub {
    const struct http_server_options *options;
    struct http_pool *pool;
    struct http_conns *conns;
    atomic_size_t body_bytes; /* of request bodies in memory */
    atomic_bool stopping;
};

/* A listener's part; closures of the callbacks. */
struct http_port {
    struct http_hub *hub;
    bool secure;
    struct http_tls *tls; /* NULL unless secure */
};

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t http_now_ms(void);

/* MHD_OPTION_URI_LOG_CALLBACK, the answer callback, ..._NOTIFY_COMPLETED;
 * closure: struct http_port. */
void *http_exchange_begin(void *port, const char *uri,
                          struct MHD_Connection *connection);
enum MHD_Result http_exchange_answer(void *port, struct MHD_Connection *c,
                                     const char *url, const char *method,
                                     const char *version, const char *data,
                                     size_t *size, void **exchange);
void http_exchange_end(void *port, struct MHD_Connection *c, void **exchange,
                       enum MHD_RequestTerminationCode why);
/* MHD_OPTION_UNESCAPE_CALLBACK: leaves the text as it is; we decode. */
size_t http_exchange_unescape(void *port, struct MHD_Connection *c, char *text);
/* struct http_pool_options.run. */
void http_exchange_run(void *hub, void *exchange);

#endif
