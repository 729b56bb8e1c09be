/*
 * "host:port" as it stands in the configuration and in the map: host is a
 * name, an IPv4 address, an IPv6 address in brackets, or "*" for every
 * address of this host (to listen on only). Pure: nothing is resolved here.
 * Port 0 lets the kernel choose (tests; the configuration refuses it).
 */
#ifndef COMMON_ADDRESS_H
#define COMMON_ADDRESS_H

#include "common/limits.h"
#include "common/status.h"

struct address {
    char host[LIMIT_ADDRESS + 1]; /* without brackets */
    uint16_t port;
};

/* ST_INVALID: not "host:port", port above 65535, host too long or with
 * characters that no name has. */
enum status address_parse(const char *text, struct address *out) MUST_CHECK;

/* True for 127/8, ::1 and "localhost". */
bool address_is_loopback(const struct address *a);

#endif
