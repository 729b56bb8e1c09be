/*
 * What handlers work on, and the course of one call: who is it, may he, then
 * the handler. Blocks on the store; runs on workers' threads, many at once.
 */
#ifndef GATEWAY_HTTP_APP_H
#define GATEWAY_HTTP_APP_H

#include "cloud/session.h"
#include "gateway/http/events_io.h"
#include "gateway/http/response.h"
#include "gateway/http/route.h"

#define HTTP_COOKIE "penncloud_session"

struct http_app;

struct http_app_options {
    struct cloud *cloud;        /* borrowed */
    const struct log *log;      /* borrowed */
    struct http_events *events; /* borrowed */
    int timeout_ms;             /* of one call's work in the store */
    bool signup;                /* people may make their own accounts */
    unsigned login_burst; /* failed logins at once, of one address or name */
    int64_t login_interval_ms; /* then one each */
};

struct http_app *http_app_new(const struct http_app_options *o);
void http_app_free(struct http_app *a);
const struct http_app_options *http_app_options(const struct http_app *a);

/* One call as its handler sees it. */
struct http_call {
    struct http_app *app;
    struct http_request *req;
    struct http_response *res;
    struct cloud_op op;
    const char *cookie;     /* the session's, if the route needs one */
    struct session session; /* likewise */
    struct account account;
};

/* Does all of ROUTE's call and fills RES. */
void http_app_run(struct http_app *a, const struct http_route *route,
                  struct http_request *req, struct http_response *res);

/* Makers of accounts are bounded by address, far more generously: a hall full
 * of people may be behind one. */
bool http_app_may_sign_up(struct http_app *a, const struct http_request *r);

/* Login attempts: false if this address, or this name, has failed too often.
 * A success gives the try back. */
bool http_app_may_try(struct http_app *a, const struct http_request *r,
                      const char *username);
void http_app_succeeded(struct http_app *a, const struct http_request *r,
                        const char *username);

/* Takes SIZE bytes of the memory that messages may use while calls read them
 * and clients take them; given back by http_app_release() when the answer has
 * gone. False: too much is under way. */
bool http_call_reserve(struct http_call *c, uint64_t size);
void http_app_release(struct http_app *a, uint64_t size);

/* Refuses with E; MESSAGE may be NULL. */
void http_call_refuse(struct http_call *c, enum http_error e,
                      const char *message);
/* Refuses with what store status S means to the client, and logs it if it is
 * our trouble. */
void http_call_fail(struct http_call *c, enum status s);

#endif
