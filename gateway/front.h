/*
 * A gateway's servers on a given store: cloud, events, HTTP, SMTP. Apart from
 * the daemon (gateway_io.c), so that tests run the same on a store of theirs.
 */
#ifndef GATEWAY_FRONT_H
#define GATEWAY_FRONT_H

#include "common/metrics.h"
#include "gateway/config.h"
#include "kv/kv.h"

struct front;

struct front_options {
    struct kv *kv;               /* borrowed, outlives the front */
    const struct config *config; /* borrowed; own is a gateway_config */
    const struct log *log;       /* borrowed */
    struct metrics *metrics;     /* borrowed; may be NULL */
    size_t hash_memory;          /* 0; tests: cheaper passwords */
};

/* Starts all; nothing stays on failure. Takes no notice of whether the store
 * answers. */
enum status front_start(const struct front_options *o, struct front **out,
                        struct err *err) MUST_CHECK;
/* Ends all within about 10 s, what is acknowledged is done. Blocks. */
void front_stop(struct front *f);

/* Any thread, until front_stop(). */
uint16_t front_http_port(const struct front *f);
uint16_t front_smtp_port(const struct front *f); /* 0: none */
struct cloud *front_cloud(const struct front *f);
uint32_t front_clients(struct front *f);
/* Sets the gauges. */
void front_measure(struct front *f, struct metrics *m);
/* Reads certificates anew. */
enum status front_reload(struct front *f, struct err *err) MUST_CHECK;

#endif
