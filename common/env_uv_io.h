/*
 * The real env (common/env.h) over a libuv loop of its caller: clock,
 * random, timers, sealed connections, disk. env_uv_io.c opens with the
 * design. One env belongs to one loop and one thread; a process may have
 * several, a data directory belongs to one env at a time.
 */
#ifndef COMMON_ENV_UV_IO_H
#define COMMON_ENV_UV_IO_H

#include <uv.h>

#include "common/env.h"
#include "common/hello.h"
#include "common/key.h"
#include "common/metrics.h"

struct env_uv_options {
    uv_loop_t *loop; /* the caller's; runs on the caller's thread */
    struct log *log; /* the caller's, outlives the env */
    /* Directory that the disk operations work in, made if it is missing and
     * locked for as long as the env is open. NULL: no disk. */
    const char *data_dir;
    /* Copied. NULL: no network. */
    const struct cluster_key *key;
    /* The caller's, outlives the env; read at each handshake, so that
     * cluster id, term, incarnation may change between two callbacks. NULL
     * only without a key. */
    const struct hello_self *self;
    uint32_t accept_roles; /* ROLE_BITs of roles that may connect to us */
};

/* ST_IN_USE: another process has the data directory; others from the file
 * system. Ignores SIGPIPE in the process. */
enum status env_uv_open(const struct env_uv_options *o, struct env **out,
                        struct err *err) MUST_CHECK;

/* Closes everything: timers never fire, connections close without on_close.
 * Disk operations under way are finished and their done() called; none may
 * be asked for any more. Then CLOSED (may be NULL) is called from the loop,
 * and E is gone. The loop must be run until then. */
void env_uv_close(struct env *e, void (*closed)(void *ctx), void *ctx);

/* Counters since the start, except CONNS_OPEN and CONNS_UNPROVEN: now. */
struct env_uv_stats {
    uint64_t conns_open;     /* past the hello */
    uint64_t conns_unproven; /* incoming, before the hello */
    uint64_t accepted, connected;
    uint64_t refused; /* incoming, over a limit */
    uint64_t handshake_failures;
    uint64_t denied;  /* closed for a message its role may not send */
    uint64_t invalid; /* closed for a frame that is none */
    uint64_t bytes_in, bytes_out;
    uint64_t frames_in, frames_out;
    uint64_t sealing_us; /* spent on sealing and opening */
    uint64_t disk_writes, disk_syncs, disk_syncs_here, disk_errors, disk_bytes;
};
/* May be called on any thread while E is open. */
void env_uv_get_stats(const struct env *e, struct env_uv_stats *out);

/* The same, on the loop's thread only. */
struct env_uv_figures {
    struct metric_histogram
        sync_us; /* what each fdatasync that succeeded took */
    /* What the loop did between two looks at its input, to a millisecond: so
     * long everybody else waited. */
    struct metric_histogram turn_us;
    uint64_t queued_max; /* now, of the connection with most unsent bytes */
};
void env_uv_get_figures(const struct env *e, struct env_uv_figures *out);

#endif
