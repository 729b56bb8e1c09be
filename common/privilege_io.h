/*
 * What a daemon gives up before it does anything else: root, core dumps, the
 * way back, file modes for others.
 */
#ifndef COMMON_PRIVILEGE_IO_H
#define COMMON_PRIVILEGE_IO_H

#include "common/log.h"
#include "common/status.h"

struct privileges {
    const char *user; /* to become if we are root; "" stays */
    bool low_ports;   /* keeps CAP_NET_BIND_SERVICE */
};

/* Called with one thread. ST_CONFIG: no such user; ST_DENIED. */
enum status privileges_drop(const struct privileges *p, const struct log *log,
                            struct err *err) MUST_CHECK;

#endif
