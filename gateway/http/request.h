/*
 * One HTTP request as our handlers see it, and everything that is decided
 * about it before a handler runs. Pure: the shell (server_io.c) copies in
 * what the library parsed, this decides.
 */
#ifndef GATEWAY_HTTP_REQUEST_H
#define GATEWAY_HTTP_REQUEST_H

#include "common/buf.h"
#include "common/limits.h"
#include "gateway/http/errors.h"

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_PATCH,
    HTTP_DELETE,
    HTTP_OTHER,
};

#define HTTP_PARAMS 2

/* Strings live in ARENA; a header that was not sent is NULL. */
struct http_request {
    struct arena arena;
    enum http_method method;
    char *target;      /* as on the request line, up to the limit */
    bool target_cut;   /* it was longer than the limit */
    const char *path;  /* of TARGET, still encoded */
    const char *query; /* of TARGET, still encoded; "" if none */
    const char *params[HTTP_PARAMS]; /* of the route, decoded */
    const char *host, *origin, *cookie, *csrf, *agent, *accept, *none_match,
        *length, *coding, *site;
    unsigned hosts, lengths, codings; /* how often each was sent */
    bool secure;                      /* came over TLS */
    char address[64];                 /* the client's, as text */
    uint8_t network[16];              /* likewise: IPv4 address, IPv6 /64 */
    struct buf body;
};

/* Copies TARGET (the request line's) into R and splits it. */
void http_request_target(struct http_request *r, const char *target);

/* Takes one header; NAME in any case. Unknown ones are dropped. */
void http_request_header(struct http_request *r, const char *name,
                         const char *value);

enum http_method http_method_parse(const char *name);
const char *http_method_name(enum http_method m);

/* What every request must fulfil, whatever it asks for: a target of bearable
 * length, one way to know the body's length (RFC 9112 6.3), one sane Host.
 * HTTP_ERROR_NONE if all is well. */
enum http_error http_request_check(const struct http_request *r);

/* Length that the request declares for its body; 0 if none or chunked.
 * Only after http_request_check(). */
uint64_t http_request_length(const struct http_request *r);
bool http_request_has_body(const struct http_request *r);

/* True if Origin is absent or our own, which is: its host and port are those
 * of Host (RFC 6454), and Sec-Fetch-Site, where sent, is not cross-site. */
bool http_request_own_origin(const struct http_request *r);

/* Value of cookie NAME, copied to the arena; NULL if absent or sent twice
 * with different values. */
const char *http_request_cookie(struct http_request *r, const char *name);

/* Decoded value of query argument NAME in the arena; NULL if absent or not
 * decodable. */
const char *http_request_query(struct http_request *r, const char *name);

/* Decodes %XX in LEN bytes of TEXT into the arena. NULL: bad escape, NUL,
 * control character, or not UTF-8. */
char *http_decode(struct arena *a, const char *text, size_t len,
                  bool plus_is_space);

void http_request_free(struct http_request *r);

#endif
