/*
 * penn-gatewayd's life. It serves as soon as it listens; it is ready, and the
 * balancer is told so by its heartbeats, while the store answers.
 *
 * Stopping: heartbeats say "draining", so that the balancer sends nobody more;
 * then the servers finish what is under way, on a thread, as that blocks.
 */
#include "gateway/gateway_io.h"

#include <stdlib.h>

#include "common/env_uv_io.h"
#include "common/watch.h"
#include "gateway/front.h"
#include "gateway/metrics.h"
#include "gateway/probe_io.h"

#define SERVICES 4
#define MEASURE_MS 200

struct gatewayd {
    struct daemon *daemon;
    struct hello_self self;
    struct kv *kv;
    struct front *front;
    struct env *env;
    struct watch *watch;
    struct probe *probe;
    uv_timer_t measure;
    uv_work_t stopper;
    struct service services[SERVICES];
    uint32_t services_count;
    uint32_t clients; /* for the heartbeats */
    bool measuring, stopping, answers;
};

/* ---- the coordinator ---- */

static void on_map(void *ctx, const struct msg_map *map)
{
    struct gatewayd *g = ctx;
    g->self.cluster = map->cluster;
}

static enum status open_env(struct gatewayd *g, struct err *err)
{
    struct daemon *d = g->daemon;
    const struct gateway_config *c = d->config.own;
    struct cluster_key key;
    enum status s = key_load(d->config.cluster.key_file, &key, err);
    if (s != ST_OK)
        return s;
    g->self = (struct hello_self){.node = (uint32_t)c->node,
                                  .role = ROLE_GATEWAY,
                                  .name = d->config.name};
    struct env_uv_options o = {
        .loop = d->loop, .log = &d->log, .key = &key, .self = &g->self};
    s = env_uv_open(&o, &g->env, err);
    key_wipe(&key);
    if (s != ST_OK)
        return s;
    /* Drawn at each start; with no store there is no counter to keep. */
    g->self.incarnation.counter = (uint64_t)env_wall_ms(g->env);
    env_random(g->env, &g->self.incarnation.random,
               sizeof(g->self.incarnation.random));
    return ST_OK;
}

static void announce(struct gatewayd *g)
{
    const struct gateway_config *c = g->daemon->config.own;
    const char *const rows[SERVICES][2] = {{"http", c->http_listen},
                                           {"https", c->https_listen},
                                           {"smtp", c->smtp_listen},
                                           {"status", c->status_listen}};
    for (size_t i = 0; i < SERVICES; i++) {
        if (rows[i][1][0] != '\0')
            g->services[g->services_count++] =
                (struct service){slice_of(rows[i][0]), slice_of(rows[i][1])};
    }
}

static void start_watch(struct gatewayd *g)
{
    struct daemon *d = g->daemon;
    announce(g);
    struct watch_options o = {
        .env = g->env,
        .coordinators =
            (const char *const *)d->config.cluster.coordinators.items,
        .self = {.node = g->self.node,
                 .role = ROLE_GATEWAY,
                 .incarnation = g->self.incarnation,
                 .name = slice_of(d->config.name),
                 .services = g->services,
                 .services_count = g->services_count},
        .connections = &g->clients,
        .on_map = on_map,
        .ctx = g,
    };
    g->watch = watch_start(&o);
}

/* ---- ready or not ---- */

static void on_store(void *ctx, bool answers)
{
    struct gatewayd *g = ctx;
    g->answers = answers;
    metrics_set(g->daemon->metrics, GATEWAY_STORE_READY, answers);
    if (g->stopping)
        return;
    watch_set_state(g->watch, answers ? NODE_UP : NODE_STARTING);
    if (answers) {
        daemon_ready(g->daemon);
    } else {
        log_warn(&g->daemon->log, "gateway", "store-silent",
                 "action=\"not ready until it answers\"");
        daemon_not_ready(g->daemon);
    }
}

static void on_measure(uv_timer_t *t)
{
    struct gatewayd *g = t->data;
    if (g->stopping)
        return;
    g->clients = front_clients(g->front);
    front_measure(g->front, g->daemon->metrics);
}

/* ---- life ---- */

static enum status open_store(struct gatewayd *g, struct err *err)
{
    struct daemon *d = g->daemon;
    struct kv_options o = {
        .coordinators =
            (const char *const *)d->config.cluster.coordinators.items,
        .key_file = d->config.cluster.key_file,
        .role = ROLE_GATEWAY,
        .node = g->self.node,
        .name = d->config.name,
        .log = &d->log,
    };
    return kv_open(&o, &g->kv, err);
}

static enum status start_front(struct gatewayd *g, struct err *err)
{
    struct front_options o = {.kv = g->kv,
                              .config = &g->daemon->config,
                              .log = &g->daemon->log,
                              .metrics = g->daemon->metrics};
    return front_start(&o, &g->front, err);
}

static enum status start_probe(struct gatewayd *g, struct err *err)
{
    struct probe_options o = {g->kv, g->daemon->loop, on_store, g};
    enum status s = probe_start(&o, &g->probe);
    if (s != ST_OK)
        return err_set(err, s, "gateway: %s", status_text(s));
    (void)uv_timer_init(g->daemon->loop, &g->measure);
    g->measure.data = g;
    g->measuring = true;
    (void)uv_timer_start(&g->measure, on_measure, 0, MEASURE_MS);
    return ST_OK;
}

static void finish(struct daemon *d)
{
    struct gatewayd *g = d->state;
    probe_stop(g->probe);
    front_stop(g->front);
    watch_stop(g->watch);
    if (g->kv != NULL)
        kv_close(g->kv);
    if (g->measuring)
        uv_close((uv_handle_t *)&g->measure, NULL);
    if (g->env != NULL)
        env_uv_close(g->env, NULL, NULL);
    g->probe = NULL;
    g->front = NULL;
    g->watch = NULL;
    g->kv = NULL;
    g->env = NULL;
}

static enum status start(struct daemon *d, struct err *err)
{
    struct gatewayd *g = xcalloc(1, sizeof(*g));
    d->state = g;
    g->daemon = d;
    enum status s = open_env(g, err);
    if (s == ST_OK)
        s = open_store(g, err);
    if (s == ST_OK)
        s = start_front(g, err);
    if (s == ST_OK) {
        start_watch(g);
        s = start_probe(g, err);
    }
    if (s != ST_OK)
        finish(d);
    return s;
}

static void reload(struct daemon *d, const struct config *next)
{
    struct gatewayd *g = d->state;
    struct err err;
    if (!g->stopping && front_reload(g->front, &err) != ST_OK)
        log_error(&d->log, "gateway", "certificate-kept", "reason=%s",
                  log_quote(slice_of(err.text)));
}

static void stop_front(uv_work_t *w)
{
    struct gatewayd *g = w->data;
    front_stop(g->front);
}

static void on_front_stopped(uv_work_t *w, int failed)
{
    struct gatewayd *g = w->data;
    g->front = NULL;
    daemon_stopped(g->daemon);
}

static void stop(struct daemon *d)
{
    struct gatewayd *g = d->state;
    g->stopping = true;
    watch_set_state(g->watch, NODE_DRAINING);
    g->stopper.data = g;
    if (uv_queue_work(d->loop, &g->stopper, stop_front, on_front_stopped) != 0)
        daemon_stopped(d);
}

static void release(struct daemon *d)
{
    free(d->state);
}

static void add_coordinator(void *ctx, const char *address, bool answering)
{
    cJSON *item = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(item, "address", address);
    (void)cJSON_AddBoolToObject(item, "connected", answering);
    (void)cJSON_AddItemToArray(ctx, item);
}

static void status(struct daemon *d, cJSON *out)
{
    struct gatewayd *g = d->state;
    (void)cJSON_AddBoolToObject(out, "store_answers", g->answers);
    (void)cJSON_AddNumberToObject(out, "connections", g->clients);
    cJSON *services = cJSON_AddObjectToObject(out, "services");
    for (uint32_t i = 0; i < g->services_count; i++)
        (void)cJSON_AddStringToObject(
            services, (const char *)g->services[i].name.data,
            (const char *)g->services[i].address.data);
    watch_each(g->watch, add_coordinator,
               cJSON_AddArrayToObject(out, "coordinators"));
}

const struct daemon_spec gatewayd_spec = {
    .program = "penn-gatewayd",
    .config = &gateway_config_spec,
    .metrics = gateway_metrics,
    .metric_count = GATEWAY_METRIC_COUNT,
    .low_ports = true,
    .start = start,
    .reload = reload,
    .stop = stop,
    .finish = finish,
    .release = release,
    .status = status,
};
