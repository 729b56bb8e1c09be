/*
 * penn-coordinatord over libuv: one loop, one thread (coordinator.h).
 */
#ifndef COORDINATOR_COORDINATORD_IO_H
#define COORDINATOR_COORDINATORD_IO_H

#include "common/daemon.h"

extern const struct daemon_spec coordinatord_spec;

#endif
