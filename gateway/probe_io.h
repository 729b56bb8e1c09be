/*
 * Does the store answer? A thread asks every second; whoever has a loop hears
 * of changes on it.
 */
#ifndef GATEWAY_PROBE_IO_H
#define GATEWAY_PROBE_IO_H

#include <uv.h>

#include "kv/kv.h"

struct probe;

struct probe_options {
    struct kv *kv; /* borrowed */
    uv_loop_t *loop;
    /* On the loop: each time the answer changes; it begins as no. */
    void (*changed)(void *ctx, bool answers);
    void *ctx;
};

enum status probe_start(const struct probe_options *o,
                        struct probe **out) MUST_CHECK;
/* On the loop's thread. Joins the thread, which may wait for the store for up
 * to two seconds; the memory goes when the loop has run once more. */
void probe_stop(struct probe *p);

#endif
