/*
 * Socket addresses of gateways. Addresses in the map are mostly numbers and
 * known at once; names are looked up in libuv's pool, kept, and looked up
 * again when they are older than a minute, so that a connection never waits
 * for a name server.
 */
#ifndef BALANCER_RESOLVER_IO_H
#define BALANCER_RESOLVER_IO_H

#include <uv.h>

#include "common/status.h"

struct resolver;

struct resolver *resolver_new(uv_loop_t *loop);
/* The loop must run until lookups under way have ended. */
void resolver_free(struct resolver *r);

/* Address of TEXT ("host:port"). ST_OK; ST_BUSY: it is being looked up;
 * ST_NOT_FOUND: the last lookup failed (another may be under way). */
enum status resolver_find(struct resolver *r, const char *text,
                          struct sockaddr_storage *out) MUST_CHECK;

#endif
