/*
 * What is decided about a request before any handler runs. All of it is
 * hostile: nothing is taken from the request but through a check here.
 *
 * Framing: libmicrohttpd lets a request through that gives its length in two
 * ways, which two programs in a row may read differently; so both, or two
 * lengths, or any coding but "chunked", are refused.
 *
 * Origin: browsers send it with every POST, and a page cannot forge it. A
 * program that sends none cannot be used to forge a request either, as it
 * brings no cookies of somebody else.
 */
#include "gateway/http/request.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "cloud/text.h"

static const char *const method_names[] = {
    [HTTP_GET] = "GET",       [HTTP_HEAD] = "HEAD",   [HTTP_POST] = "POST",
    [HTTP_PUT] = "PUT",       [HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE",
    [HTTP_OTHER] = "(other)",
};

enum http_method http_method_parse(const char *name)
{
    for (int m = HTTP_GET; m < HTTP_OTHER; m++) {
        if (strcmp(method_names[m], name) == 0)
            return (enum http_method)m;
    }
    return HTTP_OTHER;
}

const char *http_method_name(enum http_method m)
{
    return method_names[m];
}

static char *copy_text(struct arena *a, const char *text, size_t len)
{
    char *copy = arena_alloc(a, len + 1);
    if (len > 0)
        memcpy(copy, text, len);
    return copy;
}

void http_request_target(struct http_request *r, const char *target)
{
    size_t len = strnlen(target, LIMIT_HTTP_TARGET + 1);
    r->target_cut = len > LIMIT_HTTP_TARGET;
    if (r->target_cut)
        len = LIMIT_HTTP_TARGET;
    r->target = copy_text(&r->arena, target, len);
    const char *mark = strchr(r->target, '?');
    if (mark == NULL) {
        r->path = r->target;
        r->query = "";
        return;
    }
    r->path = copy_text(&r->arena, r->target, (size_t)(mark - r->target));
    r->query = mark + 1;
}

struct header_row {
    const char *name;
    size_t value; /* offset of the field in struct http_request */
    size_t count; /* offset of its counter, or 0 */
};

#define FIELD(name) offsetof(struct http_request, name)

static const struct header_row header_rows[] = {
    {"Host", FIELD(host), FIELD(hosts)},
    {"Origin", FIELD(origin), 0},
    {"Cookie", FIELD(cookie), 0},
    {"X-CSRF-Token", FIELD(csrf), 0},
    {"User-Agent", FIELD(agent), 0},
    {"Accept", FIELD(accept), 0},
    {"If-None-Match", FIELD(none_match), 0},
    {"Sec-Fetch-Site", FIELD(site), 0},
    {"Content-Length", FIELD(length), FIELD(lengths)},
    {"Transfer-Encoding", FIELD(coding), FIELD(codings)},
};

void http_request_header(struct http_request *r, const char *name,
                         const char *value)
{
    for (size_t i = 0; i < sizeof(header_rows) / sizeof(header_rows[0]); i++) {
        const struct header_row *row = &header_rows[i];
        if (strcasecmp(row->name, name) != 0)
            continue;
        const char **field = (const char **)(void *)((char *)r + row->value);
        *field = copy_text(&r->arena, value, strlen(value));
        if (row->count != 0)
            ++*(unsigned *)(void *)((char *)r + row->count);
    }
}

/* RFC 3986 host and port, without what nobody needs in a Host: user, path,
 * percent signs. */
static bool host_is_sane(const char *host)
{
    size_t len = strlen(host);
    if (len == 0 || len > 255 + 6)
        return false;
    return strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789-._:[]") == len;
}

static bool all_digits(const char *text)
{
    size_t len = strlen(text);
    return len > 0 && len <= 15 && strspn(text, "0123456789") == len;
}

enum http_error http_request_check(const struct http_request *r)
{
    if (r->target_cut)
        return HTTP_ERROR_URI_TOO_LONG;
    if (r->target == NULL || r->target[0] != '/')
        return HTTP_ERROR_BAD_REQUEST;
    if (r->lengths + r->codings > 1)
        return HTTP_ERROR_AMBIGUOUS_LENGTH;
    if (r->lengths == 1 && !all_digits(r->length))
        return HTTP_ERROR_AMBIGUOUS_LENGTH;
    if (r->codings == 1 && strcasecmp(r->coding, "chunked") != 0)
        return HTTP_ERROR_AMBIGUOUS_LENGTH;
    if (r->hosts != 1 || !host_is_sane(r->host))
        return HTTP_ERROR_BAD_HOST;
    return HTTP_ERROR_NONE;
}

uint64_t http_request_length(const struct http_request *r)
{
    uint64_t n = 0;
    for (const char *p = r->length == NULL ? "" : r->length; *p != '\0'; p++)
        n = n * 10 + (uint64_t)(*p - '0');
    return n;
}

bool http_request_has_body(const struct http_request *r)
{
    return r->codings > 0 ||
           (r->lengths > 0 && strspn(r->length, "0") != strlen(r->length));
}

bool http_request_own_origin(const struct http_request *r)
{
    if (r->site != NULL && strcmp(r->site, "cross-site") == 0)
        return false;
    if (r->origin == NULL)
        return true;
    const char *scheme = r->secure ? "https://" : "http://";
    size_t len = strlen(scheme);
    return r->host != NULL && strncmp(r->origin, scheme, len) == 0 &&
           strcasecmp(r->origin + len, r->host) == 0;
}

const char *http_request_cookie(struct http_request *r, const char *name)
{
    size_t name_len = strlen(name);
    const char *found = NULL;
    const char *p = r->cookie == NULL ? "" : r->cookie;
    while (*p != '\0') {
        p += strspn(p, " \t;");
        size_t len = strcspn(p, ";");
        if (len > name_len && strncmp(p, name, name_len) == 0 &&
            p[name_len] == '=') {
            const char *value =
                copy_text(&r->arena, p + name_len + 1, len - name_len - 1);
            if (found != NULL && strcmp(found, value) != 0)
                return NULL;
            found = value;
        }
        p += len;
    }
    return found;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool text_is_clean(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return false;
    }
    return text_utf8_valid(slice_make(text, len));
}

char *http_decode(struct arena *a, const char *text, size_t len,
                  bool plus_is_space)
{
    char *out = arena_alloc(a, len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '+' && plus_is_space)
            c = ' ';
        if (c == '%') {
            int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
            if (low < 0)
                return NULL;
            c = (char)(high * 16 + low);
            i += 2;
        }
        out[n++] = c;
    }
    return text_is_clean(out, n) ? out : NULL;
}

const char *http_request_query(struct http_request *r, const char *name)
{
    size_t name_len = strlen(name);
    for (const char *p = r->query; p != NULL && *p != '\0';) {
        size_t len = strcspn(p, "&");
        if (len > name_len && strncmp(p, name, name_len) == 0 &&
            p[name_len] == '=') {
            return http_decode(&r->arena, p + name_len + 1, len - name_len - 1,
                               true);
        }
        p += len + (p[len] == '&');
    }
    return NULL;
}

void http_request_free(struct http_request *r)
{
    buf_free(&r->body);
    arena_free(&r->arena);
}
