/*
 * Sending much: as the env's send_take() and send_lent(), for any env; one that
 * has no such thing, as the simulated one, is given a copy.
 */
#ifndef COMMON_ENV_SEND_H
#define COMMON_ENV_SEND_H

#include "common/env.h"

static inline void env_send_take(struct env *e, struct env_conn *c,
                                 struct buf *frames)
{
    if (e->ops->send_take != NULL) {
        e->ops->send_take(c, frames);
    } else {
        e->ops->send(c, buf_slice(frames));
        buf_free(frames);
    }
}
static inline void env_send_lent(struct env *e, struct env_conn *c,
                                 struct slice start,
                                 const struct env_lent *rest)
{
    struct buf all = {0};
    if (e->ops->send_lent != NULL) {
        e->ops->send_lent(c, start, rest);
        return;
    }
    buf_put_slice(&all, start);
    buf_put_slice(&all, rest->bytes);
    e->ops->send(c, buf_slice(&all));
    buf_free(&all);
    rest->done(rest->ctx);
}

#endif
