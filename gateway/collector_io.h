/*
 * The thread that calls cloud_collect() now and then. Several gateways may
 * do so at once; each begins at a random moment of its interval.
 */
#ifndef GATEWAY_COLLECTOR_IO_H
#define GATEWAY_COLLECTOR_IO_H

#include "cloud/cloud.h"

struct collector;

#define COLLECTOR_INTERVAL_MS (15 * 60 * 1000)

/* CLOUD is borrowed and outlives the collector. */
enum status collector_start(struct cloud *cloud, int interval_ms,
                            struct collector **out, struct err *err) MUST_CHECK;
/* Cuts short what is under way, and does not wait. C may be NULL. */
void collector_cut(struct collector *c);
/* As that, and joins and frees C. */
void collector_stop(struct collector *c);

#endif
