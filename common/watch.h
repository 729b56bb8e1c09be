/*
 * Hears of maps from the coordinators and tells them that we live. Runs over
 * an env (common/env.h), so it is the same in tests.
 */
#ifndef COMMON_WATCH_H
#define COMMON_WATCH_H

#include "common/env.h"

struct watch;

struct watch_options {
    struct env *env;
    const char *const *coordinators; /* "host:port", ends with NULL */
    struct node_info self;           /* borrowed; state is ignored */
    const uint32_t *connections;     /* clients now, for the heartbeats */
    /* A map came, not necessarily a newer one; it lives for the call. */
    void (*on_map)(void *ctx, const struct msg_map *map);
    void *ctx;
};

struct watch *watch_start(const struct watch_options *o);
/* Before the env is closed. */
void watch_stop(struct watch *w);

/* For the heartbeats. */
void watch_set_state(struct watch *w, enum node_state state);

/* Calls FN for each coordinator: is it connected and answering? */
void watch_each(const struct watch *w,
                void (*fn)(void *ctx, const char *address, bool answering),
                void *ctx);

#endif
