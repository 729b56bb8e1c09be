/*
 * A process of which somebody says that its connections were reset is called:
 *
 *   it answers with the same incarnation   no change (a mere reset)
 *   it answers with another                gone
 *   nobody listens, PROBE_TRIES times      gone
 *   no answer at all                       no change: silence will tell
 *
 * One refusal is not enough, because a process that has run out of
 * descriptors refuses too; a dead one refuses again 10 ms later.
 */
#include "coordinator/probe.h"

#include <stdlib.h>
#include <string.h>

#define PROBE_TRIES 3
#define PROBE_GAP_US 10000

struct probe {
    struct probes *all;
    bool active;
    struct core_probe what;
    int64_t since_us;
    unsigned tries;
    struct env_conn *conn;
    struct env_timer timer;
};

struct probes {
    struct env *env;
    void (*found_gone)(void *ctx, uint32_t node, struct incarnation incarnation,
                       int64_t since_us);
    void *ctx;
    struct probe all[LIMIT_NODES];
};

static void end(struct probe *p, bool gone)
{
    struct probes *all = p->all;
    p->active = false;
    env_timer_stop(all->env, &p->timer);
    if (p->conn != NULL) {
        all->env->ops->close(p->conn);
        p->conn = NULL;
    }
    if (gone) {
        all->found_gone(all->ctx, p->what.node, p->what.incarnation,
                        p->since_us);
    }
}

static void on_open(void *ctx, struct env_conn *c, const struct env_peer *peer)
{
    struct probe *p = ctx;
    end(p, peer->node != p->what.node ||
               !incarnation_equal(peer->incarnation, p->what.incarnation));
}

static void on_message(void *ctx, struct env_conn *c, const struct wire_msg *m)
{
}

static void on_close(void *ctx, struct env_conn *c, enum status why)
{
    struct probe *p = ctx;
    p->conn = NULL;
    if (why == ST_UNREACHABLE && p->tries >= PROBE_TRIES) {
        end(p, true);
    } else if (p->tries >= PROBE_TRIES) {
        end(p, false);
    } else {
        env_timer_start(p->all->env, &p->timer, PROBE_GAP_US);
    }
}

static const struct env_conn_events probe_events = {on_open, on_message,
                                                    on_close};

static void call(struct probe *p)
{
    p->tries++;
    p->conn = p->all->env->ops->connect(p->all->env, p->what.address,
                                        LANE_REQUEST, &probe_events, p);
}

static void on_timer(struct env_timer *t)
{
    call(t->data);
}

struct probes *probes_new(struct env *env,
                          void (*found_gone)(void *ctx, uint32_t node,
                                             struct incarnation incarnation,
                                             int64_t since_us),
                          void *ctx)
{
    struct probes *all = xcalloc(1, sizeof(*all));
    all->env = env;
    all->found_gone = found_gone;
    all->ctx = ctx;
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        all->all[i].all = all;
        all->all[i].timer.fn = on_timer;
        all->all[i].timer.data = &all->all[i];
    }
    return all;
}

static struct probe *find_free(struct probes *all,
                               const struct core_probe *what)
{
    struct probe *found = NULL;
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        struct probe *p = &all->all[i];
        if (!p->active) {
            found = found == NULL ? p : found;
        } else if (p->what.node == what->node &&
                   incarnation_equal(p->what.incarnation, what->incarnation)) {
            return NULL;
        }
    }
    return found;
}

void probes_start(struct probes *all, const struct core_probe *what)
{
    struct probe *p = find_free(all, what);
    if (p != NULL) {
        p->active = true;
        p->what = *what;
        p->tries = 0;
        p->since_us = env_now_us(all->env);
        call(p);
    }
}

void probes_stop(struct probes *all)
{
    for (size_t i = 0; i < LIMIT_NODES; i++) {
        if (all->all[i].active) {
            end(&all->all[i], false);
        }
    }
}

void probes_free(struct probes *all)
{
    free(all);
}
