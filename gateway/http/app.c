/*
 * The order of the checks matters: the session first, so that nobody learns
 * what exists without one; then the guard against forged requests; then the
 * handler. All work of one call in the store shares one deadline.
 */
#include "gateway/http/app.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/http/rate.h"

#define SIGN_UPS 20 /* for each login that may fail */

struct http_app {
    struct http_app_options options;
    pthread_mutex_t lock; /* of the three below */
    struct http_rate *by_address, *by_name, *sign_ups;
    atomic_uint_fast64_t reserved;
};

struct http_app *http_app_new(const struct http_app_options *o)
{
    struct http_app *a = xcalloc(1, sizeof(*a));
    a->options = *o;
    pthread_mutex_init(&a->lock, NULL);
    a->by_address = http_rate_new(o->login_burst * 4, o->login_interval_ms);
    a->by_name = http_rate_new(o->login_burst, o->login_interval_ms);
    a->sign_ups =
        http_rate_new(o->login_burst * SIGN_UPS,
                      (o->login_interval_ms + SIGN_UPS - 1) / SIGN_UPS);
    return a;
}

void http_app_free(struct http_app *a)
{
    if (a == NULL)
        return;
    http_rate_free(a->by_address);
    http_rate_free(a->by_name);
    http_rate_free(a->sign_ups);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

const struct http_app_options *http_app_options(const struct http_app *a)
{
    return &a->options;
}

static int64_t monotonic_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Who counts as one: an IPv4 address, an IPv6 network. */
static struct slice network_of(const struct http_request *r)
{
    return slice_make(r->network, sizeof(r->network));
}

bool http_app_may_sign_up(struct http_app *a, const struct http_request *r)
{
    pthread_mutex_lock(&a->lock);
    bool ok = http_rate_take(a->sign_ups, network_of(r), monotonic_ms());
    pthread_mutex_unlock(&a->lock);
    return ok;
}

bool http_app_may_try(struct http_app *a, const struct http_request *r,
                      const char *username)
{
    int64_t now = monotonic_ms();
    pthread_mutex_lock(&a->lock);
    bool ok = http_rate_take(a->by_address, network_of(r), now);
    if (ok && !http_rate_take(a->by_name, slice_of(username), now)) {
        http_rate_give(a->by_address, network_of(r), now);
        ok = false;
    }
    pthread_mutex_unlock(&a->lock);
    return ok;
}

void http_app_succeeded(struct http_app *a, const struct http_request *r,
                        const char *username)
{
    int64_t now = monotonic_ms();
    pthread_mutex_lock(&a->lock);
    http_rate_give(a->by_address, network_of(r), now);
    http_rate_give(a->by_name, slice_of(username), now);
    pthread_mutex_unlock(&a->lock);
}

bool http_call_reserve(struct http_call *c, uint64_t size)
{
    struct http_app *a = c->app;
    uint64_t all = atomic_fetch_add(&a->reserved, size) + size;
    if (all > LIMIT_HTTP_ANSWERS) {
        atomic_fetch_sub(&a->reserved, size);
        return false;
    }
    c->res->reserved += size;
    return true;
}

void http_app_release(struct http_app *a, uint64_t size)
{
    atomic_fetch_sub(&a->reserved, size);
}

void http_call_refuse(struct http_call *c, enum http_error e,
                      const char *message)
{
    http_response_error(c->res, e, message);
}

void http_call_fail(struct http_call *c, enum status s)
{
    enum http_error e = http_error_of(s);
    if (http_error_status(e) >= 500 && s != ST_BOUND)
        log_warn(c->app->options.log, "http", "call-failed",
                 "path=%s status=%s", log_quote(slice_of(c->req->path)),
                 status_name(s));
    http_response_error(c->res, e, NULL);
}

/* True if the call comes with a live session, else answers it. */
static bool check_session(struct http_call *c)
{
    c->cookie = http_request_cookie(c->req, HTTP_COOKIE);
    if (c->cookie == NULL) {
        http_call_refuse(c, HTTP_ERROR_UNAUTHENTICATED, NULL);
        return false;
    }
    enum status s =
        session_look_up(&c->op, slice_of(c->cookie), &c->session, &c->account);
    if (s == ST_OK)
        return true;
    http_call_fail(c, s);
    return false;
}

static bool check_guard(struct http_call *c, enum http_guard guard)
{
    if (guard != HTTP_GUARD_NONE && !http_request_own_origin(c->req)) {
        http_call_refuse(c, HTTP_ERROR_BAD_ORIGIN, NULL);
        return false;
    }
    if (guard == HTTP_GUARD_TOKEN &&
        (c->req->csrf == NULL || c->cookie == NULL ||
         !session_csrf_matches(slice_of(c->cookie), slice_of(c->req->csrf)))) {
        http_call_refuse(c, HTTP_ERROR_BAD_CSRF, NULL);
        return false;
    }
    return true;
}

void http_app_run(struct http_app *a, const struct http_route *route,
                  struct http_request *req, struct http_response *res)
{
    struct http_call c = {.app = a, .req = req, .res = res};
    c.op = cloud_op_make(a->options.cloud, a->options.timeout_ms);
    res->content_type = "application/json";
    if (route->auth == HTTP_AUTH_SESSION && !check_session(&c))
        return;
    if (!check_guard(&c, route->guard))
        return;
    route->handler(&c);
    if (res->status == 0)
        res->status = 200;
    if (res->status < 400 && res->headers_count < HTTP_RESPONSE_HEADERS)
        http_response_header(res, "Cache-Control", "no-store");
}
