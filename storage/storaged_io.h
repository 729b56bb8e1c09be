/*
 * penn-storaged over libuv: the shard's loop is the process's, the beacons
 * have a thread and a loop of their own (R9).
 */
#ifndef STORAGE_STORAGED_IO_H
#define STORAGE_STORAGED_IO_H

#include "common/daemon.h"

extern const struct daemon_spec storaged_spec;

#endif
