/*
 * Answers, and the one table of headers that protect whoever reads them.
 *
 * Three policies. Our own pages run our own files and nothing else. A mail's
 * HTML is shown in a frame that is sandboxed twice, by the frame's attribute
 * and by this header: it runs nothing, has no origin, loads nothing but what
 * its own text holds. An attachment is only ever saved.
 */
#include "gateway/http/response.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#define CSP_APP                                                                \
    "default-src 'none'; script-src 'self'; style-src 'self'; "                \
    "img-src 'self' data:; connect-src 'self'; font-src 'self'; "              \
    "manifest-src 'self'; frame-src 'self'; form-action 'self'; "              \
    "base-uri 'none'; frame-ancestors 'none'"
#define CSP_MAIL                                                               \
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "           \
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'; "            \
    "sandbox allow-popups allow-popups-to-escape-sandbox"
#define CSP_ATTACHMENT                                                         \
    "default-src 'none'; frame-ancestors 'none'; form-action 'none'; "         \
    "base-uri 'none'; sandbox"

#define APP (1u << HTTP_POLICY_APP)
#define MAIL (1u << HTTP_POLICY_MAIL)
#define ATTACHMENT (1u << HTTP_POLICY_ATTACHMENT)
#define ALL (APP | MAIL | ATTACHMENT)

static const struct {
    unsigned policies;
    bool only_secure;
    const char *name, *value;
} security[] = {
    {APP, false, "Content-Security-Policy", CSP_APP},
    {MAIL, false, "Content-Security-Policy", CSP_MAIL},
    {ATTACHMENT, false, "Content-Security-Policy", CSP_ATTACHMENT},
    {APP | ATTACHMENT, false, "X-Frame-Options", "DENY"},
    {MAIL, false, "X-Frame-Options", "SAMEORIGIN"},
    {ALL, false, "X-Content-Type-Options", "nosniff"},
    {ALL, false, "Referrer-Policy", "no-referrer"},
    {ALL, false, "X-DNS-Prefetch-Control", "off"},
    {ALL, false, "Cross-Origin-Opener-Policy", "same-origin"},
    {ALL, false, "Cross-Origin-Resource-Policy", "same-origin"},
    {ALL, false, "Permissions-Policy",
     "camera=(), geolocation=(), microphone=(), payment=(), usb=()"},
    {ALL, true, "Strict-Transport-Security", "max-age=31536000"},
};

void http_response_security(const struct http_response *r, bool secure,
                            void (*put)(void *ctx, const char *name,
                                        const char *value),
                            void *ctx)
{
    for (size_t i = 0; i < sizeof(security) / sizeof(security[0]); i++) {
        if ((security[i].policies & (1u << r->policy)) == 0)
            continue;
        if (security[i].only_secure && !secure)
            continue;
        put(ctx, security[i].name, security[i].value);
    }
}

void http_response_header(struct http_response *r, const char *name,
                          const char *value)
{
    assert(r->headers_count < HTTP_RESPONSE_HEADERS);
    for (const char *p = value; *p != '\0'; p++)
        assert((unsigned char)*p >= ' ' && *p != 0x7f);
    r->headers[r->headers_count].name = name;
    r->headers[r->headers_count].value =
        arena_copy(&r->arena, value, strlen(value) + 1);
    r->headers_count++;
}

void http_response_error(struct http_response *r, enum http_error e,
                         const char *message)
{
    r->status = http_error_status(e);
    r->policy = HTTP_POLICY_APP;
    r->content_type = "application/json";
    r->headers_count = 0;
    r->fixed = (struct slice){NULL, 0};
    buf_clear(&r->body);
    cJSON *root = cJSON_CreateObject();
    cJSON *error = cJSON_AddObjectToObject(root, "error");
    cJSON_AddStringToObject(error, "code", http_error_code(e));
    cJSON_AddStringToObject(error, "message",
                            message != NULL ? message : http_error_message(e));
    char *text = cJSON_PrintUnformatted(root);
    buf_put_text(&r->body, text == NULL ? "{}" : text);
    cJSON_free(text);
    cJSON_Delete(root);
    if (r->status == 503)
        http_response_header(r, "Retry-After", "1");
    if (r->status == 429)
        http_response_header(r, "Retry-After", "30");
    http_response_header(r, "Cache-Control", "no-store");
}

/* RFC 5987 attr-char. */
static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

const char *http_disposition(struct http_response *r, const char *name)
{
    struct buf b = {.max = KIB(8)};
    buf_put_text(&b, "attachment; filename=\"");
    for (const char *p = name; *p != '\0'; p++)
        buf_put_u8(&b, (uint8_t)(is_plain(*p) || *p == ' ' ? *p : '_'));
    buf_put_text(&b, "\"; filename*=UTF-8''");
    for (const char *p = name; *p != '\0'; p++) {
        if (is_plain(*p))
            buf_put_u8(&b, (uint8_t)*p);
        else
            buf_printf(&b, "%%%02X", (unsigned char)*p);
    }
    const char *out = "attachment";
    if (!b.full)
        out = arena_copy(&r->arena, buf_cstr(&b), b.len + 1);
    buf_free(&b);
    return out;
}

void http_response_free(struct http_response *r)
{
    buf_free(&r->body);
    arena_free(&r->arena);
}
