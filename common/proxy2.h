/*
 * PROXY protocol, version 2 (HAProxy's proxy-protocol.txt, 2.2): the first
 * bytes on a connection from our balancer to a gateway, which tell the
 * client's address. Binary; LOCAL and PROXY with TCP over IPv4 or IPv6.
 */
#ifndef COMMON_PROXY2_H
#define COMMON_PROXY2_H

#include <sys/socket.h>

#include "common/buf.h"
#include "common/limits.h"
#include "common/status.h"

/* Appends the header for a client at FROM that connected to TO; two families
 * become IPv6 (mapped), an unknown one LOCAL. */
void proxy2_encode(struct buf *out, const struct sockaddr *from,
                   const struct sockaddr *to);

struct proxy2 {
    size_t length;                /* bytes of the header */
    bool local;                   /* LOCAL or unspecified: no addresses */
    struct sockaddr_storage from; /* the client */
    struct sockaddr_storage to;
};

/* Reads a header at the start of BYTES, from a peer that may be hostile.
 * ST_MORE: a good beginning, read more (never beyond LIMIT_PROXY2_READ);
 * ST_INVALID: none, or not TCP. */
enum status proxy2_decode(struct slice bytes, struct proxy2 *out) MUST_CHECK;

#endif
