/*
 * Asking a storage node whether a process is still there: the fast path of
 * failure detection. All on the env's loop.
 */
#ifndef COORDINATOR_PROBE_H
#define COORDINATOR_PROBE_H

#include "common/env.h"
#include "coordinator/core.h"

struct probes;

/* FOUND_GONE: nobody listens at the node's address, or another process; the
 * probe began at SINCE_US. */
struct probes *probes_new(struct env *env,
                          void (*found_gone)(void *ctx, uint32_t node,
                                             struct incarnation incarnation,
                                             int64_t since_us),
                          void *ctx);
/* One probe a process at a time; more are dropped. */
void probes_start(struct probes *p, const struct core_probe *what);
/* Closes what is open; nothing is called any more. */
void probes_stop(struct probes *p);
/* Frees memory only. NULL is allowed. */
void probes_free(struct probes *p);

#endif
