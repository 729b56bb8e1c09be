/*
 * The course of a request:
 *
 *   request line   begin(): the exchange is made, the head's deadline set
 *   end of head    answer(): checks; a refusal or a file is ready at once
 *   body           answer(): collected up to the route's limit
 *   end of body    answer(): suspended, queued for a worker
 *   (worker)       run(): the handler; resumed
 *   resumed        answer(): the answer is queued
 *   answer taken   end(): freed; the connection waits for the next request
 *
 * The library parses what it suspends no further, so between suspending and
 * resuming the exchange is the worker's alone.
 *
 * The library ends the connection after an answer that comes before the end of
 * the body, under the hands of a client that is still sending. So a refused
 * request's body is read and dropped first; but a large one is not worth that.
 *
 * Deadlines (conns.h) end connections in every phase but that of the worker;
 * a client that drips bytes moves none of them.
 */
#include "gateway/http/exchange_io.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/metrics.h"

enum stage {
    STAGE_HEAD,  /* nothing but the target is known */
    STAGE_BODY,  /* the body is collected */
    STAGE_DROP,  /* the answer is ready, the body is dropped */
    STAGE_WORK,  /* a worker has it */
    STAGE_READY, /* the answer is ready */
};

struct exchange {
    struct http_hub *hub;
    struct MHD_Connection *conn;
    int fd;
    enum stage stage;
    uint64_t dropped; /* bytes of the body */
    int64_t began_ms;
    const struct http_route *route;
    struct http_request req;
    struct http_response res;
};

int64_t http_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void set_deadline(struct exchange *x, int64_t in_ms)
{
    http_conns_deadline(x->hub->conns, x->fd,
                        in_ms == 0 ? 0 : http_now_ms() + in_ms);
}

void *http_exchange_begin(void *port, const char *uri,
                          struct MHD_Connection *connection)
{
    const struct http_port *p = port;
    struct exchange *x = xcalloc(1, sizeof(*x));
    x->hub = p->hub;
    x->conn = connection;
    x->began_ms = http_now_ms();
    x->fd =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)
            ->connect_fd;
    x->req.secure = p->secure;
    http_request_target(&x->req, uri);
    set_deadline(x, x->hub->options->head_timeout_ms);
    return x;
}

size_t http_exchange_unescape(void *port, struct MHD_Connection *c, char *text)
{
    return strlen(text);
}

static enum MHD_Result take_header(void *cls, enum MHD_ValueKind kind,
                                   const char *name, const char *value)
{
    if (value != NULL)
        http_request_header(cls, name, value);
    return MHD_YES;
}

static void take_address(struct exchange *x)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info == NULL || info->client_addr == NULL)
        return;
    struct http_address network = http_address_of(info->client_addr);
    memcpy(x->req.network, network.b, sizeof(network.b));
    http_address_text(info->client_addr, x->req.address,
                      sizeof(x->req.address));
}

/* ---- answers ---- */

static void put_header(void *response, const char *name, const char *value)
{
    /* Refuses only what http_response_header() has asserted not to be. */
    (void)MHD_add_response_header(response, name, value);
}

static struct MHD_Response *make_response(struct exchange *x)
{
    struct http_response *r = &x->res;
    if (r->stream != NULL)
        return http_stream_response(&r->stream);
    if (r->fixed.len > 0 || r->body.len == 0)
        return MHD_create_response_from_buffer(r->fixed.len,
                                               (void *)(uintptr_t)r->fixed.data,
                                               MHD_RESPMEM_PERSISTENT);
    struct MHD_Response *made = MHD_create_response_from_buffer(
        r->body.len, r->body.data, MHD_RESPMEM_MUST_FREE);
    if (made != NULL)
        memset(&r->body, 0, sizeof(r->body));
    return made;
}

static enum MHD_Result queue_answer(struct exchange *x)
{
    struct http_response *r = &x->res;
    bool stream = r->stream != NULL;
    int64_t size = (int64_t)(r->fixed.len + r->body.len);
    if (stream)
        http_stream_bind(r->stream, x->conn, x->fd);
    struct MHD_Response *made = make_response(x);
    if (made == NULL)
        return MHD_NO;
    http_response_security(r, x->req.secure, put_header, made);
    if (r->content_type != NULL)
        put_header(made, "Content-Type", r->content_type);
    for (size_t i = 0; i < r->headers_count; i++)
        put_header(made, r->headers[i].name, r->headers[i].value);
    if (r->close || atomic_load(&x->hub->stopping))
        put_header(made, "Connection", "close");
    set_deadline(x, stream ? 0 : 30000 + size / 8);
    enum MHD_Result ok = MHD_queue_response(x->conn, (unsigned)r->status, made);
    MHD_destroy_response(made);
    return ok;
}

/* ---- the head ---- */

static void refuse(struct exchange *x, enum http_error e)
{
    http_response_error(&x->res, e, NULL);
    x->stage = STAGE_DROP;
}

static void find_route(struct exchange *x)
{
    struct buf allow = {.max = 256};
    enum http_error e = HTTP_ERROR_NOT_FOUND;
    if (strncmp(x->req.path, "/api", 4) == 0 &&
        (x->req.path[4] == '/' || x->req.path[4] == '\0'))
        e = http_route_find(&x->req, &x->route, &allow);
    else
        e = http_static_find(x->hub->options->files, &x->req, &x->res);
    if (e == HTTP_ERROR_METHOD && allow.len == 0)
        buf_put_text(&allow, "GET, HEAD");
    if (e != HTTP_ERROR_NONE)
        refuse(x, e);
    if (e == HTTP_ERROR_METHOD)
        http_response_header(&x->res, "Allow", buf_cstr(&allow));
    buf_free(&allow);
}

/* Decides as much as the head tells. Afterwards the stage is BODY, or DROP
 * with a ready answer. */
static void judge_head(struct exchange *x)
{
    enum http_error e = http_request_check(&x->req);
    if (e != HTTP_ERROR_NONE) {
        refuse(x, e);
        x->res.close = true;
        return;
    }
    x->stage = STAGE_DROP;
    find_route(x);
    if (x->route == NULL)
        return;
    if (http_request_length(&x->req) > x->route->body_max) {
        refuse(x, HTTP_ERROR_TOO_LARGE);
        return;
    }
    x->stage = STAGE_BODY;
    x->req.body.max = x->route->body_max;
}

static enum MHD_Result on_head(struct exchange *x, const char *method)
{
    x->req.method = http_method_parse(method);
    take_address(x);
    MHD_get_connection_values(x->conn, MHD_HEADER_KIND, take_header, &x->req);
    judge_head(x);
    metrics_add(x->hub->options->metrics, GATEWAY_HTTP_REQUESTS, 1);
    uint64_t length = http_request_length(&x->req);
    set_deadline(x, x->hub->options->body_timeout_ms + (int64_t)(length / 16));
    /* An answer at this point ends the connection. */
    if (x->stage == STAGE_DROP && (x->res.close || length > LIMIT_HTTP_DROP)) {
        x->res.close = true;
        return queue_answer(x);
    }
    return MHD_YES;
}

/* ---- the body ---- */

static void take_body(struct exchange *x, const char *data, size_t size)
{
    struct http_hub *h = x->hub;
    buf_put(&x->req.body, data, size);
    if (x->req.body.full) {
        refuse(x, HTTP_ERROR_TOO_LARGE);
        return;
    }
    size_t all = atomic_fetch_add(&h->body_bytes, size) + size;
    if (all > LIMIT_HTTP_BODIES)
        refuse(x, HTTP_ERROR_BUSY);
}

static enum MHD_Result drop_body(struct exchange *x, size_t size)
{
    x->dropped += size;
    return x->dropped > LIMIT_HTTP_COMPOSE ? MHD_NO : MHD_YES;
}

static enum MHD_Result submit(struct exchange *x)
{
    x->stage = STAGE_WORK;
    set_deadline(x, 0);
    MHD_suspend_connection(x->conn);
    if (http_pool_submit(x->hub->pool, x) == ST_OK)
        return MHD_YES;
    metrics_add(x->hub->options->metrics, GATEWAY_HTTP_REFUSED, 1);
    http_response_error(&x->res, HTTP_ERROR_BUSY, NULL);
    x->stage = STAGE_READY;
    MHD_resume_connection(x->conn);
    return MHD_YES;
}

void http_exchange_run(void *hub, void *exchange)
{
    struct exchange *x = exchange;
    http_app_run(x->hub->options->app, x->route, &x->req, &x->res);
    x->stage = STAGE_READY;
    MHD_resume_connection(x->conn);
}

enum MHD_Result http_exchange_answer(void *port, struct MHD_Connection *c,
                                     const char *url, const char *method,
                                     const char *version, const char *data,
                                     size_t *size, void **exchange)
{
    struct exchange *x = *exchange;
    size_t got = *size;
    *size = 0;
    switch (x->stage) {
    case STAGE_HEAD:
        *size = got;
        return on_head(x, method);
    case STAGE_BODY:
        if (got == 0)
            return submit(x);
        take_body(x, data, got);
        return MHD_YES;
    case STAGE_DROP:
        return got == 0 ? queue_answer(x) : drop_body(x, got);
    case STAGE_READY:
        return queue_answer(x);
    case STAGE_WORK:
        break;
    }
    return MHD_YES;
}

/* ---- the end ---- */

static void count(const struct exchange *x)
{
    struct metrics *m = x->hub->options->metrics;
    int64_t took_ms = http_now_ms() - x->began_ms;
    if (x->res.status >= 500)
        metrics_add(m, GATEWAY_HTTP_SERVER_ERRORS, 1);
    else if (x->res.status >= 400)
        metrics_add(m, GATEWAY_HTTP_CLIENT_ERRORS, 1);
    if (x->route == NULL)
        return;
    metrics_observe_us(m, GATEWAY_HTTP_SECONDS, took_ms * 1000);
    log_debug(x->hub->options->log, "http", "request",
              "route=%s method=%s status=%d ms=%lld", x->route->name,
              http_method_name(x->req.method), x->res.status,
              (long long)took_ms);
}

void http_exchange_end(void *port, struct MHD_Connection *c, void **exchange,
                       enum MHD_RequestTerminationCode why)
{
    struct exchange *x = *exchange;
    if (x == NULL)
        return;
    count(x);
    atomic_fetch_sub(&x->hub->body_bytes, x->req.body.len);
    set_deadline(x, x->hub->options->idle_timeout_ms);
    http_app_release(x->hub->options->app, x->res.reserved);
    http_stream_drop(&x->res.stream);
    http_request_free(&x->req);
    http_response_free(&x->res);
    free(x);
    *exchange = NULL;
}
