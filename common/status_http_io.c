/*
 * The status port. One thread of libmicrohttpd accepts, reads and answers;
 * for /healthz and /status it asks the daemon's loop and waits:
 *
 *   server thread                      loop's thread
 *   asked++, uv_async_send()   --->    on_async: render, answered = asked
 *   wait (at most ASK_MS)      <---    broadcast
 *
 * A question that is not answered in ASK_MS makes this and the following
 * answers 503 at once, until the loop comes back: a hung daemon never holds
 * up /metrics, which needs no loop.
 */
#include "common/status_http_io.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <microhttpd.h>

#include "common/address_io.h"
#include "common/process_io.h"

#define ASK_MS 1000
#define IDLE_S 10
#define STACK_SIZE KIB(256)
#define CONN_MEMORY KIB(8)
#define TEXT_PLAIN "text/plain; charset=utf-8"

struct status_http {
    struct MHD_Daemon *mhd;
    struct log const *log;
    struct metrics *metrics;
    void (*render)(void *ctx, struct buf *out);
    void *ctx;
    struct address address;
    uint16_t port;
    atomic_bool ready;
    uv_async_t async;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool looping; /* the loop has run */
    bool stopping;
    uint64_t asked, answered;
    struct timespec overdue; /* when the oldest question is */
    struct buf json;
};

struct answer {
    unsigned code;
    const char *type;
    struct buf body;
};

/* ---- loop's thread ---- */

static void on_async(uv_async_t *async)
{
    struct status_http *s = async->data;
    pthread_mutex_lock(&s->lock);
    s->looping = true;
    if (s->answered != s->asked) {
        buf_clear(&s->json);
        s->render(s->ctx, &s->json);
        s->answered = s->asked;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- server's thread ---- */

/* With the lock held: has the loop answer WANT; false if it does not. */
static bool wait_for(struct status_http *s, uint64_t want)
{
    while (s->answered < want && !s->stopping) {
        if (pthread_cond_timedwait(&s->changed, &s->lock, &s->overdue) != 0) {
            return s->answered >= want;
        }
    }
    return s->answered >= want;
}

/* Asks the loop; appends its JSON to OUT (may be NULL). ST_TIMEOUT: it hangs;
 * ST_STOPPING; ST_UNREACHABLE: it does not run yet. */
static enum status ask(struct status_http *s, struct buf *out)
{
    enum status status = ST_OK;
    pthread_mutex_lock(&s->lock);
    if (!s->looping) {
        status = ST_UNREACHABLE;
    } else {
        if (s->asked == s->answered) {
            (void)clock_gettime(CLOCK_MONOTONIC, &s->overdue);
            s->overdue.tv_sec += ASK_MS / 1000;
        }
        uint64_t want = ++s->asked;
        (void)uv_async_send(&s->async);
        if (!wait_for(s, want)) {
            status = s->stopping ? ST_STOPPING : ST_TIMEOUT;
        } else if (out != NULL) {
            buf_put_slice(out, buf_slice(&s->json));
        }
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

static void answer_health(struct status_http *s, struct answer *a)
{
    a->type = TEXT_PLAIN;
    if (ask(s, NULL) == ST_TIMEOUT) {
        a->code = MHD_HTTP_SERVICE_UNAVAILABLE;
        buf_put_text(&a->body, "loop does not answer\n");
        return;
    }
    buf_put_text(&a->body, "ok\n");
}

static void answer_ready(struct status_http *s, struct answer *a)
{
    a->type = TEXT_PLAIN;
    if (!atomic_load(&s->ready)) {
        a->code = MHD_HTTP_SERVICE_UNAVAILABLE;
        buf_put_text(&a->body, "not ready\n");
        return;
    }
    buf_put_text(&a->body, "ready\n");
}

static void answer_metrics(struct status_http *s, struct answer *a)
{
    a->type = "text/plain; version=0.0.4; charset=utf-8";
    if (s->metrics != NULL) {
        metrics_render(s->metrics, &a->body);
    }
    process_metrics(&a->body);
}

static void answer_status(struct status_http *s, struct answer *a)
{
    a->type = "application/json";
    enum status status = ask(s, &a->body);
    if (status == ST_OK) {
        return;
    }
    const char *state = status == ST_UNREACHABLE ? "starting"
                        : status == ST_STOPPING  ? "stopping"
                                                 : "hung";
    a->code = status == ST_TIMEOUT ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK;
    buf_printf(&a->body, "{\"state\":\"%s\"}", state);
}

static const struct {
    const char *path;
    void (*answer)(struct status_http *s, struct answer *a);
} routes[] = {
    {"/healthz", answer_health},
    {"/readyz", answer_ready},
    {"/metrics", answer_metrics},
    {"/status", answer_status},
};

static const char *header(struct MHD_Connection *c, const char *name)
{
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

/* An address literal, localhost, or the configured name: nothing that a
 * foreign page could make a browser send by rebinding its own name. */
static bool host_allowed(const struct status_http *s, const char *value)
{
    char host[LIMIT_ADDRESS + 1];
    unsigned char address[16];
    bool brackets = value[0] == '[';
    const char *at = brackets ? value + 1 : value;
    size_t len = strcspn(at, brackets ? "]" : ":");
    if (len == 0 || len >= sizeof(host)) {
        return false;
    }
    memcpy(host, at, len);
    host[len] = '\0';
    return inet_pton(brackets ? AF_INET6 : AF_INET, host, address) == 1 ||
           strcasecmp(host, "localhost") == 0 ||
           strcasecmp(host, s->address.host) == 0;
}

/* Why this request is refused; 0 if it is not. */
static unsigned refuse(const struct status_http *s, struct MHD_Connection *c,
                       const char *method)
{
    const char *host = header(c, MHD_HTTP_HEADER_HOST);
    const char *length = header(c, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        return MHD_HTTP_METHOD_NOT_ALLOWED;
    }
    if (header(c, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL ||
        (length != NULL && strcmp(length, "0") != 0)) {
        return MHD_HTTP_BAD_REQUEST;
    }
    if (host != NULL && !host_allowed(s, host)) {
        return MHD_HTTP_FORBIDDEN;
    }
    return 0;
}

static enum MHD_Result send_answer(struct MHD_Connection *c, struct answer *a)
{
    if (a->body.full) {
        buf_free(&a->body);
        a->code = MHD_HTTP_INTERNAL_SERVER_ERROR;
        a->type = TEXT_PLAIN;
        buf_clear(&a->body);
        buf_put_text(&a->body, "answer is too large\n");
    }
    struct MHD_Response *r = MHD_create_response_from_buffer(
        a->body.len, a->body.data, MHD_RESPMEM_MUST_COPY);
    buf_free(&a->body);
    if (r == NULL) {
        return MHD_NO;
    }
    (void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, a->type);
    (void)MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    (void)MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (a->code == MHD_HTTP_METHOD_NOT_ALLOWED) {
        (void)MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    }
    enum MHD_Result result = MHD_queue_response(c, a->code, r);
    MHD_destroy_response(r);
    return result;
}

static void make_answer(struct status_http *s, const char *url,
                        struct answer *a)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (strcmp(routes[i].path, url) == 0) {
            routes[i].answer(s, a);
            return;
        }
    }
    a->code = MHD_HTTP_NOT_FOUND;
    buf_put_text(&a->body, "not found\n");
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c,
                                  const char *url, const char *method,
                                  const char *version, const char *upload,
                                  size_t *upload_size, void **request)
{
    struct status_http *s = cls;
    struct answer a = {MHD_HTTP_OK, TEXT_PLAIN, {.max = LIMIT_STATUS_BODY}};
    unsigned refused = refuse(s, c, method);
    if (refused != 0) {
        a.code = refused;
        buf_put_text(&a.body, "refused\n");
        return send_answer(c, &a);
    }
    if (*request == NULL) {
        *request = s; /* headers only; the next call is the request */
        return MHD_YES;
    }
    make_answer(s, url, &a);
    return send_answer(c, &a);
}

static void on_mhd_log(void *ctx, const char *format, va_list ap)
{
    struct status_http *s = ctx;
    struct err text;
    (void)vsnprintf(text.text, sizeof(text.text), format, ap);
    log_debug(s->log, "status", "library", "text=%s",
              log_quote(slice_of(text.text)));
}

/* ---- start and stop ---- */

static enum status start_server(struct status_http *s, int fd, struct err *err)
{
    s->mhd = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_ERROR_LOG, 0,
        NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, s,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)LIMIT_STATUS_CONNS, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONN_MEMORY, MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_SIZE,
        MHD_OPTION_END);
    if (s->mhd == NULL) {
        return err_set(err, ST_IO, "cannot start the status server");
    }
    return ST_OK;
}

static void init_lock(struct status_http *s)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&s->lock, NULL);
}

static void on_closed(uv_handle_t *handle)
{
    struct status_http *s = handle->data;
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    buf_free(&s->json);
    free(s);
}

enum status status_http_start(const struct status_http_options *o,
                              struct status_http **out, struct err *err)
{
    int fd;
    enum status status = address_listen(o->address, &fd, err);
    if (status != ST_OK) {
        return status;
    }
    struct status_http *s = xcalloc(1, sizeof(*s));
    s->log = o->log;
    s->metrics = o->metrics;
    s->render = o->render;
    s->ctx = o->ctx;
    s->json.max = LIMIT_STATUS_BODY;
    status = address_parse(o->address, &s->address);
    assert(status == ST_OK);
    s->port = address_bound_port(fd);
    init_lock(s);
    int error = uv_async_init(o->loop, &s->async, on_async);
    assert(error == 0);
    s->async.data = s;
    (void)uv_async_send(&s->async); /* learns when the loop first runs */
    status = start_server(s, fd, err);
    if (status != ST_OK) {
        (void)close(fd);
        uv_close((uv_handle_t *)&s->async, on_closed);
        return status;
    }
    *out = s;
    return ST_OK;
}

void status_http_set_ready(struct status_http *s, bool ready)
{
    atomic_store(&s->ready, ready);
}

uint16_t status_http_port(const struct status_http *s)
{
    return s->port;
}

void status_http_stop(struct status_http *s)
{
    if (s == NULL) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    MHD_stop_daemon(s->mhd);
    uv_close((uv_handle_t *)&s->async, on_closed);
}
