/*
 * penn-gatewayd: SMTP and HTTP servers on top of the store, as one daemon.
 */
#ifndef GATEWAY_GATEWAY_IO_H
#define GATEWAY_GATEWAY_IO_H

#include "common/daemon.h"

extern const struct daemon_spec gatewayd_spec;

#endif
