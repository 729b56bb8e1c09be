/*
 * The book of open HTTP connections: how many there are in all and from each
 * address, and until when each may stay as it is. Thread-safe; touches no
 * socket, and the caller brings the time.
 *
 * A connection always is in one phase (waiting for a head, for a body, for
 * its answer to be taken), each with a deadline that dripping bytes do not
 * move. While a handler works on it, it has none: the handler has its own.
 */
#ifndef GATEWAY_HTTP_CONNS_H
#define GATEWAY_HTTP_CONNS_H

#include <sys/socket.h>

#include "common/status.h"

#include <stddef.h>

/* What counts as one address: an IPv4 address, or an IPv6 /64. */
struct http_address {
    uint8_t b[16];
};
struct http_address http_address_of(const struct sockaddr *sa);

/* Writes "192.0.2.1" or "2001:db8::1", at most SIZE bytes with the NUL. */
void http_address_text(const struct sockaddr *sa, char *out, size_t size);

struct http_conns;

struct http_conns *http_conns_new(size_t max, size_t max_per_address);
void http_conns_free(struct http_conns *c);

/* Enters FD with its deadline in ms. ST_BUSY: too many in all. */
enum status http_conns_add(struct http_conns *c, int fd,
                           int64_t deadline_ms) MUST_CHECK;
/* Says where FD comes from, once. ST_TOO_MANY: too many from there; FD then
 * stays entered without an address. */
enum status http_conns_address(struct http_conns *c, int fd,
                               struct http_address a) MUST_CHECK;
/* 0: none. Unknown descriptors are ignored. */
void http_conns_deadline(struct http_conns *c, int fd, int64_t deadline_ms);
void http_conns_remove(struct http_conns *c, int fd);

size_t http_conns_count(struct http_conns *c);
/* Calls FN for each descriptor whose deadline is at or before NOW_MS, which
 * it then loses. FN runs under the book's lock: until it returns, the
 * descriptor is not removed, so it cannot be closed and used anew. Returns how
 * many there were. */
size_t http_conns_expire(struct http_conns *c, int64_t now_ms,
                         void (*fn)(int fd));

#endif
