/*
 * Parts are started from the store upwards and stopped downwards. Stopping
 * takes as long as the slowest client that still gets its answer; SMTP and
 * HTTP are stopped side by side.
 */
#include "gateway/front.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "cloud/cloud.h"
#include "gateway/collector_io.h"
#include "gateway/http/server_io.h"
#include "gateway/metrics.h"
#include "gateway/smtp/server_io.h"

struct front {
    struct front_options options;
    char hostname[272];
    struct cloud *cloud;
    struct http_static *files;
    struct http_events *events;
    struct http_app *app;
    struct http_server *http;
    struct smtp_server *smtp;
    struct collector *collector;
};

static const struct gateway_config *own(const struct front *f)
{
    return f->options.config->own;
}

static enum status start_cloud(struct front *f, struct err *err)
{
    const struct gateway_config *g = own(f);
    struct cloud_options o = {
        .kv = f->options.kv,
        .log = f->options.log,
        .domains =
            (const char *const *)f->options.config->cluster.domains.items,
        .postmaster = g->postmaster[0] == '\0' ? NULL : g->postmaster,
        .quota_bytes = (int64_t)g->quota,
        .hash_parallel = (unsigned)g->hash_parallel,
        .session_idle_ms = g->session_idle,
        .session_end_ms = g->session_end,
        .hash_memory = f->options.hash_memory,
    };
    return cloud_open(&o, &f->cloud, err);
}

static enum status start_http(struct front *f, struct err *err)
{
    const struct gateway_config *g = own(f);
    enum status s = http_static_load(g->web_dir, &f->files, err);
    if (s != ST_OK)
        return s;
    f->events = http_events_new(f->cloud, f->options.log);
    struct http_app_options app = {
        .cloud = f->cloud,
        .log = f->options.log,
        .events = f->events,
        .timeout_ms = (int)g->request_timeout,
        .signup = g->signup,
        .login_burst = (unsigned)g->login_burst,
        .login_interval_ms = g->login_interval,
    };
    f->app = http_app_new(&app);
    struct http_server_options http = {
        .app = f->app,
        .files = f->files,
        .log = f->options.log,
        .metrics = f->options.metrics,
        .listen = g->http_listen,
        .listen_tls = g->https_listen,
        .certificate = g->certificate,
        .key = g->private_key,
        .proxy = g->proxy_protocol,
        .workers = (unsigned)g->http_workers,
        .max_connections = (unsigned)g->http_max_connections,
        .max_per_address = (unsigned)g->http_max_per_address,
    };
    return http_server_start(&http, &f->http, err);
}

static enum status start_smtp(struct front *f, struct err *err)
{
    const struct gateway_config *g = own(f);
    if (g->smtp_listen[0] == '\0')
        return ST_OK;
    if (g->hostname[0] != '\0')
        snprintf(f->hostname, sizeof(f->hostname), "%s", g->hostname);
    else
        snprintf(f->hostname, sizeof(f->hostname), "mail.%s",
                 cloud_main_domain(f->cloud));
    struct smtp_server_options smtp = {
        .cloud = f->cloud,
        .log = f->options.log,
        .hostname = f->hostname,
        .listen = g->smtp_listen,
        .proxy = g->proxy_protocol,
        .max_sessions = (unsigned)g->smtp_max_sessions,
        .max_per_address = (unsigned)g->smtp_max_per_address,
    };
    return smtp_server_start(&smtp, &f->smtp, err);
}

enum status front_start(const struct front_options *o, struct front **out,
                        struct err *err)
{
    struct front *f = xcalloc(1, sizeof(*f));
    f->options = *o;
    enum status s = start_cloud(f, err);
    if (s == ST_OK)
        s = start_http(f, err);
    if (s == ST_OK)
        s = start_smtp(f, err);
    if (s == ST_OK)
        s = collector_start(f->cloud, COLLECTOR_INTERVAL_MS, &f->collector,
                            err);
    if (s == ST_OK)
        *out = f;
    else
        front_stop(f);
    return s;
}

static void *stop_smtp(void *arg)
{
    smtp_server_stop(arg);
    return NULL;
}

static void stop_servers(struct front *f)
{
    pthread_t thread;
    bool aside = f->smtp != NULL &&
                 pthread_create(&thread, NULL, stop_smtp, f->smtp) == 0;
    if (f->events != NULL)
        http_events_stop(f->events);
    http_server_stop(f->http);
    if (aside)
        pthread_join(thread, NULL);
    else if (f->smtp != NULL)
        smtp_server_stop(f->smtp);
}

void front_stop(struct front *f)
{
    if (f == NULL)
        return;
    collector_cut(f->collector);
    stop_servers(f);
    collector_stop(f->collector);
    http_events_free(f->events);
    http_app_free(f->app);
    http_static_free(f->files);
    if (f->cloud != NULL)
        cloud_close(f->cloud);
    free(f);
}

uint16_t front_http_port(const struct front *f)
{
    return http_server_port(f->http);
}

uint16_t front_smtp_port(const struct front *f)
{
    return f->smtp == NULL ? 0 : smtp_server_port(f->smtp);
}

struct cloud *front_cloud(const struct front *f)
{
    return f->cloud;
}

static struct smtp_server_stats smtp_stats(struct front *f)
{
    struct smtp_server_stats st = {0};
    if (f->smtp != NULL)
        smtp_server_get_stats(f->smtp, &st);
    return st;
}

uint32_t front_clients(struct front *f)
{
    return http_server_connections(f->http) + smtp_stats(f).sessions;
}

void front_measure(struct front *f, struct metrics *m)
{
    struct smtp_server_stats smtp = smtp_stats(f);
    struct kv_stats kv;
    kv_get_stats(f->options.kv, &kv);
    metrics_set(m, GATEWAY_HTTP_CONNS, http_server_connections(f->http));
    metrics_set(m, GATEWAY_HTTP_STREAMS, http_events_count(f->events));
    metrics_set(m, GATEWAY_SMTP_SESSIONS, smtp.sessions);
    metrics_set(m, GATEWAY_SMTP_MESSAGES, (int64_t)smtp.messages);
    metrics_set(m, GATEWAY_SMTP_DEFERRED, (int64_t)smtp.deferred);
    metrics_set(m, GATEWAY_SMTP_REJECTED, (int64_t)smtp.rejected);
    metrics_set(m, GATEWAY_SMTP_REFUSED, (int64_t)smtp.refused);
    metrics_set(m, GATEWAY_KV_REQUESTS, (int64_t)kv.requests);
    metrics_set(m, GATEWAY_KV_RETRIES, (int64_t)kv.retries);
    metrics_set(m, GATEWAY_KV_UNKNOWN, (int64_t)kv.unknown);
    metrics_set(m, GATEWAY_KV_SETTLED, (int64_t)kv.settled);
}

enum status front_reload(struct front *f, struct err *err)
{
    return http_server_reload(f->http, err);
}
