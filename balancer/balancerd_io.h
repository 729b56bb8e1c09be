/*
 * penn-balancerd: the front door (server_io.h) and its view of the cluster
 * (watch.h) on one loop.
 */
#ifndef BALANCER_BALANCERD_IO_H
#define BALANCER_BALANCERD_IO_H

#include "common/daemon.h"

extern const struct daemon_spec balancerd_spec;

#endif
