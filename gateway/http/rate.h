/*
 * How often something may be tried: token buckets by key (an address, an
 * account), in a table of fixed size. Pure; not thread-safe.
 */
#ifndef GATEWAY_HTTP_RATE_H
#define GATEWAY_HTTP_RATE_H

#include "common/buf.h"

struct http_rate;

/* BURST tries at once, then one each INTERVAL_MS. */
struct http_rate *http_rate_new(unsigned burst, int64_t interval_ms);
void http_rate_free(struct http_rate *r);

/* Takes one try for KEY; false if there is none left. */
bool http_rate_take(struct http_rate *r, struct slice key, int64_t now_ms);
/* Gives a try back: it was a good one. */
void http_rate_give(struct http_rate *r, struct slice key, int64_t now_ms);

#endif
