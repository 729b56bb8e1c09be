/*
 * JSON in and out of handlers, with the checks that every body and every text
 * in it must pass.
 */
#ifndef GATEWAY_HTTP_JSON_H
#define GATEWAY_HTTP_JSON_H

#include <cjson/cJSON.h>

#include "gateway/http/app.h"

/* The request's body as an object that the caller deletes; NULL: the call has
 * been refused (no JSON, not an object, not UTF-8, a NUL in a text). */
cJSON *http_json_body(struct http_call *c);

/* Text member NAME, of at most MAX bytes and without control characters,
 * which lives as long as O. NULL: the call has been refused. FALLBACK stands
 * in for an absent member; NULL: it must be there. */
const char *http_json_text(struct http_call *c, const cJSON *o,
                           const char *name, size_t max, const char *fallback);

/* Answers with V, which is taken. */
void http_json_reply(struct http_call *c, int status, cJSON *v);

/* Refuses because of field NAME; WHY completes the sentence. */
void http_json_refuse(struct http_call *c, const char *name, const char *why);

/* Adds time MS since 1970 as ISO 8601 in UTC; null if it is 0. */
void http_json_add_time(cJSON *o, const char *name, int64_t ms);

/* True if TEXT has no control character (tab and line feed are some). */
bool http_text_is_line(const char *text);

/* Appends BYTES in base64. */
void http_base64_encode(struct slice bytes, struct buf *out);
/* Appends what TEXT stands for; false: it is not base64, or OUT is full. */
bool http_base64_decode(const char *text, struct buf *out);

#endif
