#include "storage/links.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/env_send.h"

#define REOPEN_US 50000 /* R11: longer than this counts as down */
#define RETRY_US 20000  /* while that runs */
#define RETRY_LATE_US 100000
#define DOUBT_US 1000000 /* a connection is not doubted more often */

struct link {
    struct links *owner;
    struct link_target target;
    struct env_conn *conn; /* NULL between attempts */
    bool open;
    bool was_up, down_told;
    struct env_peer peer; /* as last heard */
    int64_t lost_us;      /* since when it is not open */
    int64_t opened_us;
    struct env_timer timer;
};

struct links {
    struct links_options o;
    struct link *links[LIMIT_NODES];
    uint32_t count;
};

static void try_open(struct link *k);

static void tell_down(struct link *k)
{
    if (!k->down_told) {
        k->down_told = true;
        k->peer.node = k->target.node;
        k->owner->o.on_down(k->owner->o.ctx, &k->peer);
    }
}

static void on_timer(struct env_timer *t)
{
    struct link *k = t->data;
    if (!k->open && env_now_us(k->owner->o.env) - k->lost_us >= REOPEN_US) {
        tell_down(k);
    }
    if (k->conn == NULL) {
        try_open(k);
    } else if (!k->open) {
        env_timer_start(k->owner->o.env, &k->timer, RETRY_LATE_US);
    }
}

static void on_open(void *ctx, struct env_conn *c, const struct env_peer *p)
{
    struct link *k = ctx;
    assert(c == k->conn);
    if (p->role != ROLE_STORAGE || p->node != k->target.node) {
        log_error(k->owner->o.env->log, "links", "wrong-peer",
                  "address=%s expected=%" PRIu32 " node=%" PRIu32,
                  k->target.address, k->target.node, p->node);
        k->owner->o.env->ops->close(c);
        k->conn = NULL;
        env_timer_start(k->owner->o.env, &k->timer, RETRY_LATE_US);
        return;
    }
    if (k->was_up && !incarnation_equal(k->peer.incarnation, p->incarnation)) {
        tell_down(k);
    }
    env_timer_stop(k->owner->o.env, &k->timer);
    k->peer = *p;
    k->open = true;
    k->opened_us = env_now_us(k->owner->o.env);
    k->was_up = true;
    k->down_told = false;
    k->owner->o.on_up(k->owner->o.ctx, &k->peer);
}

static void on_message(void *ctx, struct env_conn *c, const struct wire_msg *m)
{
    struct link *k = ctx;
    (void)c;
    k->owner->o.on_message(k->owner->o.ctx, &k->peer, m);
}

static void on_close(void *ctx, struct env_conn *c, enum status why)
{
    struct link *k = ctx;
    (void)c;
    (void)why;
    k->conn = NULL;
    int64_t now = env_now_us(k->owner->o.env);
    if (k->open) {
        k->open = false;
        k->lost_us = now;
        env_timer_start(k->owner->o.env, &k->timer, 0);
        return;
    }
    bool late = now - k->lost_us >= REOPEN_US;
    env_timer_start(k->owner->o.env, &k->timer,
                    late ? RETRY_LATE_US : RETRY_US);
    if (late) {
        tell_down(k);
    }
}

static const struct env_conn_events events = {on_open, on_message, on_close};

static void try_open(struct link *k)
{
    struct env *e = k->owner->o.env;
    k->conn =
        e->ops->connect(e, k->target.address, k->owner->o.lane, &events, k);
    /* A peer that does not answer is told of, too. */
    env_timer_start(e, &k->timer, REOPEN_US);
}

struct links *links_new(const struct links_options *o)
{
    struct links *l = xcalloc(1, sizeof(*l));
    l->o = *o;
    return l;
}

static void free_link(struct link *k)
{
    env_timer_stop(k->owner->o.env, &k->timer);
    if (k->conn != NULL) {
        k->owner->o.env->ops->close(k->conn);
    }
    free(k);
}

void links_free(struct links *l)
{
    if (l == NULL) {
        return;
    }
    for (uint32_t i = 0; i < l->count; i++) {
        free_link(l->links[i]);
    }
    free(l);
}

static bool wanted(const struct link *k, const struct link_target *targets,
                   uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (targets[i].node == k->target.node &&
            strcmp(targets[i].address, k->target.address) == 0) {
            return true;
        }
    }
    return false;
}

static struct link *find(const struct links *l, uint32_t node)
{
    for (uint32_t i = 0; i < l->count; i++) {
        if (l->links[i]->target.node == node) {
            return l->links[i];
        }
    }
    return NULL;
}

void links_set(struct links *l, const struct link_target *targets,
               uint32_t count)
{
    for (uint32_t i = 0; i < l->count;) {
        if (wanted(l->links[i], targets, count)) {
            i++;
        } else {
            free_link(l->links[i]);
            l->links[i] = l->links[--l->count];
        }
    }
    for (uint32_t i = 0; i < count && l->count < LIMIT_NODES; i++) {
        if (find(l, targets[i].node) != NULL) {
            continue;
        }
        struct link *k = xcalloc(1, sizeof(*k));
        k->owner = l;
        k->target = targets[i];
        k->timer.fn = on_timer;
        k->timer.data = k;
        k->lost_us = env_now_us(l->o.env);
        l->links[l->count++] = k;
        try_open(k);
    }
}

/* The caller knows another store there than the one that said HELLO (R5). It
 * may have been wiped and started again without this idle connection hearing
 * of its end, and nothing would ever be sent that found out: ask again who is
 * there, but not too often, as the caller may be the one who is behind. */
static void reopen(struct link *k)
{
    struct env *e = k->owner->o.env;
    int64_t now = env_now_us(e);
    if (now - k->opened_us < DOUBT_US) {
        return;
    }
    e->ops->close(k->conn);
    k->conn = NULL;
    k->open = false;
    k->lost_us = now;
    env_timer_start(e, &k->timer, 0);
}

/* The open link to that store, or NULL. */
static struct link *link_to(struct links *l, uint32_t node, struct id128 store)
{
    struct link *k = find(l, node);
    if (k == NULL || !k->open) {
        return NULL;
    }
    if (!id128_equal(k->peer.store, store)) {
        reopen(k);
        return NULL;
    }
    return k;
}

bool links_send(struct links *l, uint32_t node, struct id128 store,
                struct slice frames)
{
    struct link *k = link_to(l, node, store);
    if (k != NULL) {
        l->o.env->ops->send(k->conn, frames);
    }
    return k != NULL;
}

bool links_send_lent(struct links *l, struct replica to, struct slice start,
                     const struct env_lent *rest)
{
    struct link *k = link_to(l, to.node, to.store);
    if (k != NULL) {
        env_send_lent(l->o.env, k->conn, start, rest);
    }
    return k != NULL;
}

void links_hint(struct links *l, uint32_t node)
{
    struct link *k = l == NULL ? NULL : find(l, node);
    if (k != NULL && k->conn == NULL) {
        try_open(k);
    }
}

const struct env_peer *links_peer(const struct links *l, uint32_t node)
{
    struct link *k = find(l, node);
    return k != NULL && k->open ? &k->peer : NULL;
}
