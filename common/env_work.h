/*
 * A piece of work beside the loop, for start-up (env.h, work()).
 */
#ifndef COMMON_ENV_WORK_H
#define COMMON_ENV_WORK_H

#include "common/env.h"

/* Embedded by its user and zeroed before first use. */
struct env_work {
    void (*fn)(struct env_work *w);
    void *data;            /* the user's */
    struct env_work *next; /* the env's, and ... */
    unsigned state;
};

/* The two operations of envs with one thread. */
static inline void env_work_now(struct env *e, struct env_work *w)
{
    (void)e;
    w->fn(w);
}
static inline void env_work_done(struct env *e, struct env_work *w)
{
    (void)e;
    (void)w;
}

#endif
