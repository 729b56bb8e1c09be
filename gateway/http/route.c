/*
 * Matching of paths, segment by segment. A dozen rows are searched in order;
 * the first that fits the path and the method wins.
 */
#include "gateway/http/route.h"

#include <string.h>

const struct http_route http_routes[] = {
#define HTTP_ROUTE(m, pattern, auth, guard, body, handler)                     \
    {HTTP_##m,           pattern, HTTP_AUTH_##auth, HTTP_GUARD_##guard, body,  \
     http_api_##handler, #handler},
#include "gateway/http/routes.def"
#undef HTTP_ROUTE
};
const size_t http_routes_count = sizeof(http_routes) / sizeof(http_routes[0]);

/* True if PATH fits PATTERN; the segments at "{}" go to PARAMS, decoded. A
 * segment that does not decode, or is empty, fits nothing. */
static bool path_fits(struct arena *a, const char *pattern, const char *path,
                      const char *params[HTTP_PARAMS])
{
    size_t n = 0;
    while (*pattern != '\0' || *path != '\0') {
        if (*pattern != '/' || *path != '/')
            return false;
        pattern++;
        path++;
        size_t pattern_len = strcspn(pattern, "/");
        size_t path_len = strcspn(path, "/");
        if (pattern_len == 2 && memcmp(pattern, "{}", 2) == 0) {
            params[n] = http_decode(a, path, path_len, false);
            if (path_len == 0 || params[n] == NULL)
                return false;
            n++;
        } else if (pattern_len != path_len ||
                   memcmp(pattern, path, path_len) != 0) {
            return false;
        }
        pattern += pattern_len;
        path += path_len;
    }
    return true;
}

static bool method_fits(enum http_method wanted, enum http_method is)
{
    return wanted == is || (wanted == HTTP_GET && is == HTTP_HEAD);
}

static void allow_method(struct buf *allow, enum http_method m)
{
    buf_printf(allow, "%s%s", allow->len > 0 ? ", " : "", http_method_name(m));
    if (m == HTTP_GET)
        buf_put_text(allow, ", HEAD");
}

enum http_error http_route_find(struct http_request *r,
                                const struct http_route **out,
                                struct buf *allow)
{
    enum http_error why = HTTP_ERROR_NOT_FOUND;
    for (size_t i = 0; i < http_routes_count; i++) {
        const struct http_route *row = &http_routes[i];
        const char *params[HTTP_PARAMS] = {NULL};
        if (!path_fits(&r->arena, row->pattern, r->path, params))
            continue;
        if (!method_fits(row->method, r->method)) {
            why = HTTP_ERROR_METHOD;
            allow_method(allow, row->method);
            continue;
        }
        memcpy(r->params, params, sizeof(params));
        *out = row;
        return HTTP_ERROR_NONE;
    }
    return why;
}
