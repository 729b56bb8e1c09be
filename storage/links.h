/*
 * A process's connections to the other storage nodes, one a node, kept open:
 * replication goes over one set, beacons over another with a loop of its own.
 *
 * A connection that closes is opened again at once. One that could not be
 * reopened within 50 ms, or that reopens to another incarnation, is reported
 * as down (R11); every opening is reported as up.
 */
#ifndef STORAGE_LINKS_H
#define STORAGE_LINKS_H

#include "common/env.h"

struct links;

struct link_target {
    uint32_t node;
    char address[LIMIT_ADDRESS + 1];
};

struct links_options {
    struct env *env;
    enum lane lane;
    void (*on_up)(void *ctx, const struct env_peer *p);
    /* P as it was when last up; never called for what was never up, except
     * with an incarnation of zeros once 50 ms have passed. */
    void (*on_down)(void *ctx, const struct env_peer *p);
    void (*on_message)(void *ctx, const struct env_peer *p,
                       const struct wire_msg *m);
    void *ctx;
};

struct links *links_new(const struct links_options *o);
void links_free(struct links *l);
/* The nodes to be connected to, from now on; at most LIMIT_NODES. */
void links_set(struct links *l, const struct link_target *targets,
               uint32_t count);
/* Sends to NODE if the store there is STORE; false if it is not connected. */
bool links_send(struct links *l, uint32_t node, struct id128 store,
                struct slice frames);
/* The same of one frame, START and REST (env_send_lent()); where it is false
 * REST is not taken. */
bool links_send_lent(struct links *l, struct replica to, struct slice start,
                     const struct env_lent *rest);
/* NODE has just been heard of, as it connects to us: one that was not there is
 * tried again at once. L may be NULL. */
void links_hint(struct links *l, uint32_t node);
/* The peer of NODE, or NULL if it is not connected. */
const struct env_peer *links_peer(const struct links *l, uint32_t node);

#endif
