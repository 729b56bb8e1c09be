/*
 * penn-balancerd's life. It is ready when it listens and a coordinator has
 * told it the map; from then on it serves by the last map it has, also while
 * all coordinators are away.
 */
#include "balancer/balancerd_io.h"

#include <stdlib.h>

#include "common/env_uv_io.h"
#include "common/watch.h"
#include "balancer/metrics.h"
#include "balancer/server_io.h"

struct balancerd {
    struct daemon *daemon;
    struct server server;
    struct hello_self self;
    struct env *env;
    struct watch *watch;
    struct service services[SERVICE_COUNT + 1]; /* what we announce */
};

static void on_map(void *ctx, const struct msg_map *map)
{
    struct balancerd *b = ctx;
    server_take_map(&b->server, map);
    b->self.cluster = map->cluster;
    daemon_ready(b->daemon);
    watch_set_state(b->watch, NODE_UP);
}

static enum status open_env(struct balancerd *b, struct err *err)
{
    struct daemon *d = b->daemon;
    const struct balancer_config *c = d->config.own;
    struct cluster_key key;
    enum status s = key_load(d->config.cluster.key_file, &key, err);
    if (s != ST_OK) {
        return s;
    }
    b->self = (struct hello_self){.node = (uint32_t)c->node,
                                  .role = ROLE_BALANCER,
                                  .name = d->config.name};
    struct env_uv_options o = {
        .loop = d->loop, .log = &d->log, .key = &key, .self = &b->self};
    s = env_uv_open(&o, &b->env, err);
    key_wipe(&key);
    return s;
}

/* A number drawn at each start; with no store there is no counter to keep. */
static void draw_incarnation(struct balancerd *b)
{
    struct incarnation *i = &b->self.incarnation;
    i->counter = (uint64_t)env_wall_ms(b->env);
    env_random(b->env, &i->random, sizeof(i->random));
}

static uint32_t announce(struct balancerd *b)
{
    const struct balancer_config *c = b->daemon->config.own;
    const char *const rows[][2] = {
        {"http", c->http_listen},
        {"https", c->https_listen},
        {"smtp", c->smtp_listen},
        {"submission", c->submission_listen},
        {"submissions", c->submissions_listen},
        {"status", c->status_listen},
    };
    uint32_t count = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i][1][0] != '\0') {
            b->services[count++] =
                (struct service){slice_of(rows[i][0]), slice_of(rows[i][1])};
        }
    }
    return count;
}

static void start_watch(struct balancerd *b)
{
    struct daemon *d = b->daemon;
    struct watch_options o = {
        .env = b->env,
        .coordinators =
            (const char *const *)d->config.cluster.coordinators.items,
        .self = {.node = b->self.node,
                 .role = ROLE_BALANCER,
                 .incarnation = b->self.incarnation,
                 .name = slice_of(d->config.name),
                 .services = b->services,
                 .services_count = announce(b)},
        .connections = &b->server.relay_count,
        .on_map = on_map,
        .ctx = b,
    };
    b->watch = watch_start(&o);
}

static enum status start(struct daemon *d, struct err *err)
{
    struct balancerd *b = xcalloc(1, sizeof(*b));
    uint64_t seed;
    d->state = b;
    b->daemon = d;
    enum status s = open_env(b, err);
    if (s != ST_OK) {
        return s;
    }
    draw_incarnation(b);
    env_random(b->env, &seed, sizeof(seed));
    b->server = (struct server){.loop = d->loop,
                                .log = &d->log,
                                .metrics = d->metrics,
                                .config = d->config.own};
    s = server_start(&b->server, seed, err);
    if (s != ST_OK) {
        env_uv_close(b->env, NULL, NULL);
        return s;
    }
    start_watch(b);
    return ST_OK;
}

static void on_drained(void *ctx)
{
    struct balancerd *b = ctx;
    daemon_stopped(b->daemon);
}

static void stop(struct daemon *d)
{
    struct balancerd *b = d->state;
    watch_set_state(b->watch, NODE_DRAINING);
    server_drain(&b->server, on_drained, b);
}

static void finish(struct daemon *d)
{
    struct balancerd *b = d->state;
    server_stop(&b->server);
    watch_stop(b->watch);
    env_uv_close(b->env, NULL, NULL);
}

static void release(struct daemon *d)
{
    struct balancerd *b = d->state;
    server_fini(&b->server);
    free(b);
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
    struct balancerd *b = d->state;
    server_status(&b->server, out);
    watch_each(b->watch, add_coordinator,
               cJSON_AddArrayToObject(out, "coordinators"));
}

const struct daemon_spec balancerd_spec = {
    .program = "penn-balancerd",
    .config = &balancer_config_spec,
    .metrics = balancer_metrics,
    .metric_count = M_COUNT,
    .low_ports = true,
    .start = start,
    .stop = stop,
    .finish = finish,
    .release = release,
    .status = status,
};
