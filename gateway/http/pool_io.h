/*
 * Workers: threads that run jobs which may block, from a queue with a bound.
 */
#ifndef GATEWAY_HTTP_POOL_IO_H
#define GATEWAY_HTTP_POOL_IO_H

#include <stddef.h>

#include "common/status.h"

struct http_pool;

struct http_pool_options {
    unsigned threads;
    size_t queue_max; /* jobs that may wait */
    /* Runs one job, on any of the threads, many at once. */
    void (*run)(void *ctx, void *job);
    void *ctx;
};

/* ST_NO_MEMORY: threads could not be started. */
enum status http_pool_start(const struct http_pool_options *o,
                            struct http_pool **out) MUST_CHECK;
/* ST_BUSY: the queue is full; the job was not taken. Any thread. */
enum status http_pool_submit(struct http_pool *p, void *job) MUST_CHECK;
/* Jobs that wait or run. */
size_t http_pool_load(struct http_pool *p);
/* Runs what is queued, ends the threads, frees. NULL is allowed. */
void http_pool_stop(struct http_pool *p);

#endif
