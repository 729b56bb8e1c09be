/*
 * Listening sockets from configured addresses. Blocks while a name is
 * resolved: for start-up.
 */
#ifndef COMMON_ADDRESS_IO_H
#define COMMON_ADDRESS_IO_H

#include <netdb.h>

#include "common/address.h"
#include "common/status.h"

/* Resolves TEXT ("host:port") for TCP with AI_* FLAGS; the caller frees with
 * freeaddrinfo(). ST_INVALID, or ST_NOT_FOUND. */
enum status address_resolve(const char *text, int flags, struct addrinfo **out,
                            struct err *err) MUST_CHECK;

/* A non-blocking, listening, close-on-exec TCP socket on TEXT; "*" is every
 * address of both families. The caller closes it. ST_IN_USE, ST_DENIED (a
 * low port without the right), ST_INVALID, ST_NOT_FOUND, ST_IO. */
enum status address_listen(const char *text, int *out,
                           struct err *err) MUST_CHECK;

/* The port of a bound socket. */
uint16_t address_bound_port(int fd);

#endif
