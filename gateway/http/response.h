/*
 * An answer being made: status, headers, body. The headers that protect the
 * browser are not the handlers' business: http_response_headers() adds them
 * to every answer, errors too.
 */
#ifndef GATEWAY_HTTP_RESPONSE_H
#define GATEWAY_HTTP_RESPONSE_H

#include "common/buf.h"
#include "common/limits.h"
#include "gateway/http/errors.h"

/* What the browser may do with the body. */
enum http_policy {
    HTTP_POLICY_APP,        /* our own pages and JSON */
    HTTP_POLICY_MAIL,       /* a mail's HTML, in a sandboxed frame of ours */
    HTTP_POLICY_ATTACHMENT, /* somebody's bytes: to be saved, never shown */
};

#define HTTP_RESPONSE_HEADERS 8

struct http_response {
    struct arena arena;
    int status; /* 0: nobody has answered yet */
    enum http_policy policy;
    const char *content_type;
    struct {
        const char *name, *value; /* in the arena, or static */
    } headers[HTTP_RESPONSE_HEADERS];
    size_t headers_count;
    struct buf body;
    struct slice fixed; /* a body that outlives the answer, if not empty */
    struct http_stream *stream; /* taken: the body is this event stream */
    uint64_t reserved;          /* bytes of http_call_reserve() */
    bool close;                 /* the connection ends with this answer */
};

/* Adds a header; VALUE is copied and must hold no control character, which is
 * asserted. */
void http_response_header(struct http_response *r, const char *name,
                          const char *value);

/* Makes R the answer to refusal E, whatever it was before; MESSAGE instead of
 * the table's text where not NULL. */
void http_response_error(struct http_response *r, enum http_error e,
                         const char *message);

/* Calls PUT for each security header that goes with R. SECURE: over TLS. */
void http_response_security(const struct http_response *r, bool secure,
                            void (*put)(void *ctx, const char *name,
                                        const char *value),
                            void *ctx);

/* Content-Disposition for a file of that name, any UTF-8 (RFC 6266): with a
 * harmless ASCII name and the true one encoded. In R's arena. */
const char *http_disposition(struct http_response *r, const char *name);

void http_response_free(struct http_response *r);

#endif
