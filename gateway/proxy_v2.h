/*
 * The PROXY protocol, version 2, as the balancer and others put it before a
 * connection's own bytes. Pure. Only listeners that are told to trust their
 * peers expect it; there it is required.
 */
#ifndef GATEWAY_PROXY_V2_H
#define GATEWAY_PROXY_V2_H

#include <netinet/in.h>

#include "common/buf.h"
#include "common/status.h"

#define PROXY_V2_FIXED 16 /* signature, version, family, length */
#define PROXY_V2_MAX 1024 /* whole header that we accept */

struct proxy_v2 {
    bool local; /* LOCAL, or a family without addresses: use the socket's */
    /* AF_INET or AF_INET6, when not local. */
    struct sockaddr_storage source, destination;
};

/* Parses the header at the start of DATA. ST_OK: *OUT, and *USED bytes belong
 * to the header; ST_MORE: fine so far, *USED bytes are needed in all before
 * it can go on; ST_INVALID: not a header, the connection must be closed. */
enum status proxy_v2_parse(struct slice data, struct proxy_v2 *out,
                           size_t *used) MUST_CHECK;

/* "192.0.2.1" or "2001:db8::1", without port; "?" for another family. An
 * IPv4 address mapped into IPv6 is shown as IPv4. */
void proxy_v2_format_host(const struct sockaddr_storage *sa, char out[64]);

#endif
