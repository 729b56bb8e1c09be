/*
 * What a test does to the simulated network.
 */
#include "tests/sim/sim_pipe.h"

#include <string.h>

/* Segments that waited come again after a retransmission delay. */
static void wake_dirs(struct world *w)
{
    for (struct sim_pipe *p = w->pipes; p != NULL; p = p->next) {
        for (unsigned i = 0; i < 2; i++) {
            struct sim_dir *d = &p->dir[i];
            if (d->waiting && d->head != NULL && pipe_path_open(d)) {
                d->waiting = false;
                event_schedule(
                    w, &d->pump,
                    w->now + sim_rng_range(&w->rng, 1 * SIM_MS, 400 * SIM_MS));
            }
        }
    }
}

void net_host_on(struct sim_host *h)
{
    wake_dirs(h->w);
}

void sim_net_cut_oneway(struct sim_host *a, struct sim_host *b)
{
    if (a != b && !a->w->cut[a->index][b->index]) {
        TRACE(a->w, "cut %s -> %s", a->name, b->name);
        a->w->cut[a->index][b->index] = true;
    }
}

void sim_net_cut(struct sim_host *a, struct sim_host *b)
{
    sim_net_cut_oneway(a, b);
    sim_net_cut_oneway(b, a);
}

void sim_net_heal(struct sim_host *a, struct sim_host *b)
{
    TRACE(a->w, "heal %s - %s", a->name, b->name);
    a->w->cut[a->index][b->index] = false;
    a->w->cut[b->index][a->index] = false;
    wake_dirs(a->w);
}

void sim_net_heal_all(struct world *w)
{
    TRACE(w, "heal all");
    memset(w->cut, 0, sizeof(w->cut));
    wake_dirs(w);
}

void sim_net_isolate(struct sim_host *h)
{
    for (size_t i = 0; i < h->w->host_count; i++) {
        sim_net_cut(h, h->w->hosts[i]);
    }
}

bool sim_net_is_cut(const struct sim_host *a, const struct sim_host *b)
{
    return a->w->cut[a->index][b->index];
}

void sim_net_reset(struct sim_host *a, struct sim_host *b)
{
    for (struct sim_pipe *p = a->w->pipes; p != NULL; p = p->next) {
        bool theirs = (p->host[0] == a && (b == NULL || p->host[1] == b)) ||
                      (p->host[1] == a && (b == NULL || p->host[0] == b));
        if (theirs && (p->end[0] != NULL || p->end[1] != NULL)) {
            pipe_reset(p);
        }
    }
}

void sim_net_latency(struct sim_host *a, struct sim_host *b, int64_t base_us)
{
    a->w->latency_us[a->index][b->index] = base_us;
}

void sim_net_set_faults(struct world *w, const struct sim_net_faults *f)
{
    w->net = *f;
}

void sim_net_tap(struct world *w,
                 void (*fn)(void *ctx, struct sim_host *from,
                            struct sim_host *to, const struct wire_msg *m),
                 void *ctx)
{
    w->tap = fn;
    w->tap_ctx = ctx;
}

uint64_t sim_net_frames(const struct world *w)
{
    return w->frames;
}

uint64_t sim_net_denied(const struct world *w)
{
    return w->denied;
}
