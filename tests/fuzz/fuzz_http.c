/*
 * What the HTTP side decides about texts from outside: targets, headers,
 * cookies, queries, routes, lists of addresses, base64. The input is lines; the
 * first is the request's target, the others are headers and whatever else.
 */
#include <stdlib.h>
#include <string.h>

#include "cloud/compose.h"
#include "cloud/text.h"
#include "gateway/http/json.h"
#include "tests/fuzz/fuzz.h"

static void take_line(struct http_request *r, char *line)
{
    char *colon = strchr(line, ':');
    if (colon == NULL)
        return;
    *colon = '\0';
    http_request_header(r, line, colon + 1 + (colon[1] == ' '));
    *colon = ':';
}

static void try_texts(const char *line)
{
    struct arena arena = {0};
    struct compose_mailboxes list = {NULL, 0};
    struct buf bytes = {.max = KIB(64)};
    if (compose_parse_mailboxes(line, 20, &arena, &list) == ST_OK) {
        for (size_t i = 0; i < list.count; i++) {
            if (list.items[i].address[0] == '\0')
                abort();
        }
    }
    if (list.count > 20)
        abort();
    if (http_base64_decode(line, &bytes) && bytes.len > strlen(line))
        abort();
    buf_free(&bytes);
    arena_free(&arena);
}

static void judge(struct http_request *r)
{
    const struct http_route *route = NULL;
    struct buf allow = {.max = KIB(1)};
    const char *value = http_request_query(r, "limit");
    if (value != NULL && text_is_unsafe(slice_of(value)))
        abort();
    (void)http_request_cookie(r, "penncloud_session");
    (void)http_request_own_origin(r);
    if (http_request_check(r) != HTTP_ERROR_NONE) {
        buf_free(&allow);
        return;
    }
    (void)http_request_length(r);
    enum http_error e = http_route_find(r, &route, &allow);
    if ((e == HTTP_ERROR_NONE) != (route != NULL))
        abort();
    for (size_t i = 0; route != NULL && i < HTTP_PARAMS; i++) {
        if (r->params[i] != NULL && text_is_unsafe(slice_of(r->params[i])))
            abort();
    }
    buf_free(&allow);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_request r = {.method = HTTP_GET};
    char *text = malloc(size + 1), *line = text;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    for (bool first = true; line != NULL; first = false) {
        char *end = strchr(line, '\n');
        if (end != NULL)
            *end = '\0';
        if (first)
            http_request_target(&r, line);
        else
            take_line(&r, line);
        try_texts(line);
        line = end == NULL ? NULL : end + 1;
    }
    judge(&r);
    http_request_free(&r);
    free(text);
    return 0;
}
