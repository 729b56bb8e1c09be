/*
 * A daemon's status port, by libmicrohttpd on a thread of its own:
 *   GET /healthz   200 if the daemon's loop answers within a second
 *   GET /readyz    200 when ready, 503 while starting or draining
 *   GET /metrics   Prometheus text
 *   GET /status    JSON, rendered on the daemon's loop when it is asked for
 * GET and HEAD only, no bodies, and Host must be an address, localhost or the
 * configured name (a web page that rebinds its own name gets nothing).
 *
 * The server posts a question to the loop and waits, so the render function
 * needs no locks. Before the loop first runs, /healthz is 200 and /status
 * says "starting".
 */
#ifndef COMMON_STATUS_HTTP_IO_H
#define COMMON_STATUS_HTTP_IO_H

#include <uv.h>

#include "common/log.h"
#include "common/metrics.h"
#include "common/status.h"

struct status_http;

struct status_http_options {
    const char *address; /* "host:port" */
    uv_loop_t *loop;
    const struct log *log;
    struct metrics *metrics;
    /* Appends a JSON object; on the loop's thread. */
    void (*render)(void *ctx, struct buf *out);
    void *ctx;
};

/* Listens and serves. Called on the loop's thread. */
enum status status_http_start(const struct status_http_options *o,
                              struct status_http **out,
                              struct err *err) MUST_CHECK;
/* For /readyz; any thread. */
void status_http_set_ready(struct status_http *s, bool ready);
/* The port it listens on (of use where it was asked for 0). */
uint16_t status_http_port(const struct status_http *s);
/* Ends the server; on the loop's thread. The loop must run once more for the
 * memory to go. NULL is allowed. */
void status_http_stop(struct status_http *s);

#endif
