/*
 * The daemon around a coordinator: its options, its env over libuv, its
 * metrics and its part of /status. It is ready as soon as it listens: a fresh
 * cluster's storage processes must be able to register before there is a
 * tablet.
 */
#include "coordinator/coordinatord_io.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/env_uv_io.h"
#include "coordinator/config.h"
#include "coordinator/coordinator.h"
#include "coordinator/status.h"

#define REFRESH_MS 1000

enum metric_id {
#define METRIC(id, type, name, labels, help) M_##id,
#include "coordinator/metrics.def"
#undef METRIC
};

static const struct metric_def metric_defs[] = {
#define METRIC(id, type, name, labels, help)                                   \
    {name, METRIC_##type, labels, help},
#include "coordinator/metrics.def"
#undef METRIC
};

struct coordinatord {
    struct daemon *daemon;
    struct cluster_key key;
    struct hello_self self;
    struct env *env;
    struct coordinator *coordinator;
    uv_timer_t refresh;
    bool refresh_made;
};

/* ---- metrics ---- */

static void count_to(struct metrics *m, size_t id, uint64_t total)
{
    int64_t had = metrics_get(m, id);
    if (had >= 0 && total > (uint64_t)had) {
        metrics_add(m, id, total - (uint64_t)had);
    }
}

static void on_refresh(uv_timer_t *t)
{
    struct coordinatord *s = t->data;
    struct metrics *m = s->daemon->metrics;
    struct coordinator_stats st;
    struct env_uv_stats net;
    coordinator_get_stats(s->coordinator, &st);
    env_uv_get_stats(s->env, &net);
    count_to(m, M_HEARTBEATS, st.heartbeats);
    count_to(m, M_REFUSED, st.heartbeats_refused);
    count_to(m, M_STALLED, st.heartbeats_stalled);
    count_to(m, M_DEATHS, st.deaths);
    count_to(m, M_PROBES, st.probes);
    count_to(m, M_ELECTIONS, st.elections);
    count_to(m, M_EPOCHS, st.epochs);
    count_to(m, M_CHANGES, st.changes);
    count_to(m, M_CHANGES_REFUSED, st.changes_refused);
    count_to(m, M_MAPS, st.maps_pushed);
    count_to(m, M_WRITES, st.register_writes);
    count_to(m, M_HANDSHAKE_FAILURES, net.handshake_failures);
    metrics_set(m, M_TERM, (int64_t)st.term);
    metrics_set(m, M_VERSION, (int64_t)st.version);
    metrics_set(m, M_NODES_UP, st.nodes_up);
    metrics_set(m, M_NODES_DOWN, st.nodes_down);
    metrics_set(m, M_TABLETS, st.tablets);
    metrics_set(m, M_DEGRADED, st.tablets_degraded);
    metrics_set(m, M_HEADLESS, st.tablets_headless);
    metrics_set(m, M_CONNECTIONS, (int64_t)net.conns_open);
}

static void status(struct daemon *d, cJSON *out)
{
    struct coordinatord *s = d->state;
    if (s != NULL && s->coordinator != NULL) {
        coordinator_status(s->coordinator, out);
    }
}

/* ---- life ---- */

static void on_fatal(void *ctx, enum status why, const char *text)
{
    struct coordinatord *s = ctx;
    daemon_fatal(s->daemon, why, text);
}

static void on_closed(void *ctx)
{
    struct coordinatord *s = ctx;
    daemon_stopped(s->daemon);
}

static void close_all(struct coordinatord *s, void (*closed)(void *ctx))
{
    coordinator_free(s->coordinator);
    s->coordinator = NULL;
    if (s->refresh_made) {
        uv_close((uv_handle_t *)&s->refresh, NULL);
    }
    if (s->env != NULL) {
        env_uv_close(s->env, closed, s);
    } else if (closed != NULL) {
        closed(s);
    }
    key_wipe(&s->key);
}

static enum status start_coordinator(struct coordinatord *s, struct err *err)
{
    const struct config *c = &s->daemon->config;
    const struct coordinator_config *own = c->own;
    struct coordinator_options o = coordinator_defaults();
    o.node = (uint32_t)own->node;
    o.name = c->name;
    o.listen = own->listen;
    o.status_address = own->status_listen;
    o.replicas = (unsigned)c->cluster.replicas;
    o.tablets = (unsigned)c->cluster.tablets;
    o.initial_nodes = (unsigned)own->initial_nodes;
    o.times.detect_us = own->detect_after * 1000;
    o.times.rereplicate_us = own->rereplicate_after * 1000;
    o.times.balance_us = own->balance_after * 1000;
    o.self = &s->self;
    o.on_fatal = on_fatal;
    o.ctx = s;
    enum status st = coordinator_new(s->env, &o, &s->coordinator, err);
    if (st == ST_CONFIG) {
        return st;
    }
    return st == ST_OK ? coordinator_start(s->coordinator, err)
                       : err_within(err, st, own->data_dir);
}

static void on_stopped(void *ctx)
{
    close_all(ctx, on_closed);
}

static void stop(struct daemon *d)
{
    struct coordinatord *s = d->state;
    coordinator_stop(s->coordinator, on_stopped, s);
}

static void finish(struct daemon *d)
{
    free(d->state);
    d->state = NULL;
}

static void abandon(struct coordinatord *s)
{
    close_all(s, NULL);
    (void)uv_run(s->daemon->loop, UV_RUN_NOWAIT);
    free(s);
}

static enum status start(struct daemon *d, struct err *err)
{
    struct coordinatord *s = xcalloc(1, sizeof(*s));
    const struct coordinator_config *own = d->config.own;
    s->daemon = d;
    s->self = (struct hello_self){.node = (uint32_t)own->node,
                                  .role = ROLE_COORDINATOR,
                                  .name = d->config.name};
    struct env_uv_options o = {
        .loop = d->loop,
        .log = &d->log,
        .data_dir = own->data_dir,
        .key = &s->key,
        .self = &s->self,
        .accept_roles = ROLES_ALL,
    };
    enum status st = key_load(d->config.cluster.key_file, &s->key, err);
    if (st == ST_OK) {
        st = env_uv_open(&o, &s->env, err);
    }
    if (st == ST_OK) {
        st = start_coordinator(s, err);
    }
    if (st != ST_OK) {
        abandon(s);
        return st;
    }
    d->state = s;
    (void)uv_timer_init(d->loop, &s->refresh);
    s->refresh.data = s;
    s->refresh_made = true;
    (void)uv_timer_start(&s->refresh, on_refresh, REFRESH_MS, REFRESH_MS);
    daemon_ready(d);
    return ST_OK;
}

const struct daemon_spec coordinatord_spec = {
    .program = "penn-coordinatord",
    .config = &coordinator_config_spec,
    .metrics = metric_defs,
    .metric_count = sizeof(metric_defs) / sizeof(metric_defs[0]),
    .start = start,
    .stop = stop,
    .finish = finish,
    .status = status,
};
