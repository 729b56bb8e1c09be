/*
 * The table of routes (routes.def) and how a request finds its row.
 */
#ifndef GATEWAY_HTTP_ROUTE_H
#define GATEWAY_HTTP_ROUTE_H

#include "gateway/http/request.h"

struct http_call;

enum http_auth { HTTP_AUTH_NONE, HTTP_AUTH_SESSION };
enum http_guard { HTTP_GUARD_NONE, HTTP_GUARD_ORIGIN, HTTP_GUARD_TOKEN };

/* A handler runs on a worker's thread and may block on the store. It fills
 * the call's response, with an error where it must. */
typedef void http_handler(struct http_call *c);

struct http_route {
    enum http_method method;
    const char *pattern;
    enum http_auth auth;
    enum http_guard guard;
    uint64_t body_max;
    http_handler *handler;
    const char *name; /* of the handler: for metrics and logs */
};

extern const struct http_route http_routes[];
extern const size_t http_routes_count;

/* Finds R's route and fills R->params. HTTP_ERROR_NOT_FOUND: no pattern fits
 * the path; HTTP_ERROR_METHOD: only under other methods, which ALLOW then
 * names ("GET, HEAD, POST"). */
enum http_error http_route_find(struct http_request *r,
                                const struct http_route **out,
                                struct buf *allow);

#define HTTP_ROUTE(method, pattern, auth, guard, body, handler)                \
    http_handler http_api_##handler;
#include "gateway/http/routes.def"
#undef HTTP_ROUTE

#endif
