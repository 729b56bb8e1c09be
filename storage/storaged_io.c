#include "storage/storaged_io.h"

#include "common/env_uv_io.h"
#include "storage/config.h"
#include "storage/node.h"

#include <assert.h>
#include <malloc.h>
#include <stdlib.h>

#define REFRESH_MS 1000

enum metric_id {
#define METRIC(id, type, name, labels, help) M_##id,
#include "storage/metrics.def"
#undef METRIC
};

static const struct metric_def metric_defs[] = {
#define METRIC(id, type, name, labels, help)                                   \
    {name, METRIC_##type, labels, help},
#include "storage/metrics.def"
#undef METRIC
};

static const struct metric_def tablet_defs[] = {
#define METRIC(field, type, name, help) {name, METRIC_##type, "", help},
#include "storage/tablet_metrics.def"
#undef METRIC
};

#define TABLET_METRICS (sizeof(tablet_defs) / sizeof(tablet_defs[0]))

static const struct metric_families tablet_families = {"tablet", tablet_defs,
                                                       TABLET_METRICS};

struct storaged {
    struct daemon *daemon;
    struct cluster_key key;
    struct hello_self self, beacon_self;
    struct env *env, *beacon_env;
    uv_loop_t beacon_loop;
    uv_thread_t beacon_thread;
    uv_async_t beacon_kick, beacon_stop;
    bool beacon_loop_made, beacon_runs;
    struct storage_node *node;
    uv_timer_t refresh;
    bool refresh_made, ready;
};

/* ---- beacons' thread ---- */

static void on_kick(uv_async_t *a)
{
    struct storaged *s = a->data;
    storage_node_on_kick(s->node);
}

static void on_stop(uv_async_t *a)
{
    uv_stop(a->loop);
}

static void run_beacons(void *arg)
{
    struct storaged *s = arg;
    (void)uv_run(&s->beacon_loop, UV_RUN_DEFAULT);
}

static enum status make_beacon_loop(struct storaged *s, struct err *err)
{
    if (uv_loop_init(&s->beacon_loop) != 0 ||
        uv_async_init(&s->beacon_loop, &s->beacon_kick, on_kick) != 0 ||
        uv_async_init(&s->beacon_loop, &s->beacon_stop, on_stop) != 0) {
        return err_set(err, ST_NO_MEMORY, "beacons: no event loop");
    }
    s->beacon_loop_made = true;
    s->beacon_kick.data = s;
    s->beacon_stop.data = s;
    struct env_uv_options o = {.loop = &s->beacon_loop,
                               .log = &s->daemon->log,
                               .key = &s->key,
                               .self = &s->beacon_self,
                               .accept_roles = ROLE_BIT(ROLE_STORAGE)};
    return env_uv_open(&o, &s->beacon_env, err);
}

static enum status start_beacons(struct storaged *s, struct err *err)
{
    if (uv_thread_create(&s->beacon_thread, run_beacons, s) != 0) {
        return err_set(err, ST_NO_MEMORY, "beacons: no thread");
    }
    s->beacon_runs = true;
    return ST_OK;
}

static void join_beacons(struct storaged *s)
{
    if (s->beacon_runs) {
        (void)uv_async_send(&s->beacon_stop);
        (void)uv_thread_join(&s->beacon_thread);
        s->beacon_runs = false;
    }
}

/* After the node is gone; on this thread, the other has ended. */
static void close_beacons(struct storaged *s)
{
    if (!s->beacon_loop_made) {
        return;
    }
    if (s->beacon_env != NULL) {
        env_uv_close(s->beacon_env, NULL, NULL);
    }
    uv_close((uv_handle_t *)&s->beacon_kick, NULL);
    uv_close((uv_handle_t *)&s->beacon_stop, NULL);
    (void)uv_run(&s->beacon_loop, UV_RUN_DEFAULT);
    int busy = uv_loop_close(&s->beacon_loop);
    assert(busy == 0);
}

/* ---- what the node asks for ---- */

static void kick(void *ctx)
{
    struct storaged *s = ctx;
    (void)uv_async_send(&s->beacon_kick);
}

static void on_fatal(void *ctx, enum status why, const char *text)
{
    struct storaged *s = ctx;
    daemon_fatal(s->daemon, why, text);
}

/* The beacons' copy is not touched once their thread runs: it may say "not
 * known yet" of the cluster until the next start. */
static void on_identity(void *ctx, struct id128 cluster, struct id128 store,
                        struct incarnation incarnation)
{
    struct storaged *s = ctx;
    s->self.cluster = cluster;
    s->self.store = store;
    s->self.incarnation = incarnation;
    if (!s->beacon_runs) {
        s->beacon_self = s->self;
    }
}

/* ---- metrics ---- */

static void count_to(struct metrics *m, size_t id, uint64_t total)
{
    int64_t had = metrics_get(m, id);
    if (had >= 0 && total > (uint64_t)had) {
        metrics_add(m, id, total - (uint64_t)had);
    }
}

static void refresh(struct storaged *s)
{
    struct metrics *m = s->daemon->metrics;
    struct storage_stats st;
    struct env_uv_stats net;
    storage_node_stats(s->node, &st);
    env_uv_get_stats(s->env, &net);
    count_to(m, M_COMMANDS, st.commands);
    count_to(m, M_CONDEMNED, st.condemned);
    count_to(m, M_COMPARED, st.compared);
    count_to(m, M_DIFFERING, st.differing);
    count_to(m, M_SCRUBBED, st.scrubbed_bytes);
    count_to(m, M_SCRUB_PASSES, st.scrub_passes);
    count_to(m, M_SCRUB_DAMAGE, st.scrub_damage);
    count_to(m, M_READS, st.reads);
    count_to(m, M_FORWARDED, st.forwarded);
    count_to(m, M_SCANS, st.scans);
    count_to(m, M_UNKNOWN, st.replies_unknown);
    count_to(m, M_GROUPS, st.groups);
    count_to(m, M_RECORDS, st.records);
    count_to(m, M_LOG_WRITTEN, st.log_bytes);
    count_to(m, M_SYNCS, net.disk_syncs);
    count_to(m, M_SYNCS_HERE, net.disk_syncs_here);
    count_to(m, M_CHECKPOINTS, st.checkpoints);
    count_to(m, M_SNAPSHOTS_SENT, st.snapshots_sent);
    count_to(m, M_SNAPSHOTS_INSTALLED, st.snapshots_installed);
    count_to(m, M_HANDSHAKE_FAILURES, net.handshake_failures);
    count_to(m, M_SEALING, net.sealing_us);
    metrics_set(m, M_LOG_SIZE, (int64_t)st.log_size);
    metrics_set(m, M_PENDING_SYNC, st.pending_sync_us);
    metrics_set(m, M_TABLETS, st.tablets);
    metrics_set(m, M_PRIMARIES, st.primaries);
    metrics_set(m, M_OPEN, st.open);
    metrics_set(m, M_READONLY, st.readonly);
    metrics_set(m, M_DAMAGED, st.damaged);
    metrics_set(m, M_DISK_FULL, st.disk_full);
    metrics_set(m, M_CELLS, (int64_t)st.cells);
    metrics_set(m, M_BYTES, (int64_t)st.bytes);
    metrics_set(m, M_CONNECTIONS, (int64_t)net.conns_open);
}

static void refresh_log(struct metrics *m, const struct storage_figures *f)
{
    uint64_t written = f->log_written + f->checkpoint_bytes;
    count_to(m, M_PAYLOAD, f->payload_bytes);
    count_to(m, M_CHECKPOINT_WRITTEN, f->checkpoint_bytes);
    count_to(m, M_LOG_MOVED, f->log_moved);
    count_to(m, M_LOG_COLLECTIONS, f->collections);
    count_to(m, M_LOG_COLLECTED, f->log_collected);
    metrics_set(m, M_LOG_KEPT, (int64_t)f->log_kept);
    metrics_set(m, M_LOG_KEPT_LIVE, (int64_t)f->log_kept_live);
    metrics_set(m, M_LOG_VALUES, (int64_t)f->log_values);
    if (f->payload_bytes > 0) {
        metrics_set(m, M_WRITE_AMPLIFICATION,
                    (int64_t)(written * 100 / f->payload_bytes));
    }
}

static void refresh_figures(struct storaged *s)
{
    struct metrics *m = s->daemon->metrics;
    struct storage_figures f;
    struct env_uv_figures u;
    storage_node_figures(s->node, &f);
    env_uv_get_figures(s->env, &u);
    metrics_copy(m, M_SYNC_TIME, &u.sync_us);
    metrics_copy(m, M_TURN_TIME, &u.turn_us);
    metrics_copy(m, M_GROUP_RECORDS, &f.group_records);
    metrics_copy(m, M_GROUP_BYTES, &f.group_bytes);
    metrics_copy(m, M_CHECKPOINT_TIME, &f.checkpoint_us);
    refresh_log(m, &f);
    count_to(m, M_EPOCHS, f.epochs);
    count_to(m, M_LEASE_LOSSES, f.lease_losses);
    count_to(m, M_CACHE_HITS, f.cache_hits);
    count_to(m, M_CACHE_MISSES, f.cache_misses);
    count_to(m, M_VALUES_DAMAGED, f.values_damaged);
    count_to(m, M_VALUES_REPAIRED, f.values_repaired);
    metrics_set(m, M_REPAIRS, (int64_t)f.repairs);
    count_to(m, M_BLOB_FILES_DAMAGED, f.blob_files_damaged);
    count_to(m, M_BLOB_WRITTEN, f.blob_written);
    count_to(m, M_BLOB_MOVED, f.blob_moved);
    count_to(m, M_BLOB_ORPHANS, f.blob_orphans);
    count_to(m, M_BLOBS_DAMAGED, f.blobs_damaged);
    metrics_set(m, M_BLOB_FILES, (int64_t)f.blob_files);
    metrics_set(m, M_BLOB_LIVE, (int64_t)f.blob_live);
    metrics_set(m, M_BLOB_DEAD, (int64_t)f.blob_dead);
    metrics_set(m, M_CACHE_BYTES, (int64_t)f.cache_bytes);
    metrics_set(m, M_VALUES_FETCHING, (int64_t)f.values_fetching);
    count_to(m, M_CATCHUP_SENT, f.catchup_sent);
    count_to(m, M_CATCHUP_RECEIVED, f.catchup_received);
    metrics_set(m, M_CHECKPOINT_AGE, f.checkpoint_age_us / 1000000);
    metrics_set(m, M_LOG_QUEUED, (int64_t)f.log_queued);
    metrics_set(m, M_REQUESTS, (int64_t)f.requests);
    metrics_set(m, M_HELD, (int64_t)f.held);
    metrics_set(m, M_UNCOMMITTED, (int64_t)f.uncommitted);
    metrics_set(m, M_QUEUED_MAX, (int64_t)u.queued_max);
}

static void refresh_tablets(struct storaged *s)
{
    struct tablet_figures *t = xcalloc(LIMIT_TABLETS, sizeof(*t));
    uint32_t *keys = xcalloc(LIMIT_TABLETS, sizeof(*keys));
    uint32_t count = storage_node_tablet_figures(s->node, t, LIMIT_TABLETS);
    int64_t *values =
        xcalloc(count == 0 ? 1 : count, TABLET_METRICS * sizeof(*values));
    int64_t *to = values;
    for (uint32_t i = 0; i < count; i++) {
        keys[i] = t[i].tablet;
#define METRIC(field, type, name, help) *to++ = (int64_t)t[i].field;
#include "storage/tablet_metrics.def"
#undef METRIC
    }
    metrics_publish(s->daemon->metrics, &tablet_families, keys, values, count);
    free(values);
    free(keys);
    free(t);
}

static void on_refresh(uv_timer_t *t)
{
    struct storaged *s = t->data;
    bool ready = storage_node_ready(s->node);
    refresh(s);
    refresh_figures(s);
    if (ready) {
        refresh_tablets(s);
    }
    if (ready && !s->ready) {
        daemon_ready(s->daemon);
        (void)uv_timer_start(t, on_refresh, REFRESH_MS, REFRESH_MS);
    }
    s->ready = ready;
}

/* ---- life ---- */

static const char *or_else(const char *value, const char *fallback)
{
    return value[0] != '\0' ? value : fallback;
}

static enum status start_node(struct storaged *s, struct err *err)
{
    const struct config *c = &s->daemon->config;
    const struct storage_config *own = c->own;
    struct storage_node_options o = {
        .env = s->env,
        .beacon_env = s->beacon_env,
        .node = (uint32_t)own->node,
        .name = c->name,
        .listen = own->listen,
        .advertise = or_else(own->advertise, own->listen),
        .beacon_listen = own->beacon_listen,
        .beacon_advertise = or_else(own->beacon_advertise, own->beacon_listen),
        .status_address = own->status_listen,
        .data_dir = own->data_dir,
        .coordinators = (const char *const *)c->cluster.coordinators.items,
        .log_limit = own->log_limit,
        .segment_size = own->segment_size,
        .value_cache = own->value_cache,
        .scrub_interval_us = own->scrub_interval * 1000,
        .scrub_rate = own->scrub_rate,
        .kick = kick,
        .on_fatal = on_fatal,
        .on_identity = on_identity,
        .ctx = s,
    };
    return storage_node_start(&o, &s->node, err);
}

static void finish(struct daemon *d)
{
    struct storaged *s = d->state;
    if (s == NULL) {
        return;
    }
    d->state = NULL;
    free(s);
}

static void on_closed(void *ctx)
{
    struct storaged *s = ctx;
    daemon_stopped(s->daemon);
}

static void close_all(struct storaged *s, void (*closed)(void *ctx))
{
    join_beacons(s);
    storage_node_free(s->node);
    s->node = NULL;
    close_beacons(s);
    if (s->refresh_made) {
        uv_close((uv_handle_t *)&s->refresh, NULL);
    }
    if (s->env != NULL) {
        env_uv_close(s->env, closed, s);
    } else if (closed != NULL) {
        closed(s);
    }
}

static enum status start(struct daemon *d, struct err *err)
{
    /* What one thread takes another gives back, as recovery's do: with a heap
     * for each the room would be lost to all others. The thresholds are what
     * they come to by themselves once a segment of the log was read. */
    (void)mallopt(M_ARENA_MAX, 1);
    (void)mallopt(M_MMAP_THRESHOLD, 16 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 32 << 20);
    struct storaged *s = xcalloc(1, sizeof(*s));
    const struct storage_config *own = d->config.own;
    s->daemon = d;
    s->self = (struct hello_self){.node = (uint32_t)own->node,
                                  .role = ROLE_STORAGE,
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
        st = make_beacon_loop(s, err);
    }
    if (st == ST_OK) {
        st = start_node(s, err);
    }
    if (st == ST_OK) {
        st = start_beacons(s, err);
    }
    if (st != ST_OK) {
        close_all(s, NULL);
        (void)uv_run(d->loop, UV_RUN_NOWAIT);
        free(s);
        return st;
    }
    d->state = s;
    (void)uv_timer_init(d->loop, &s->refresh);
    s->refresh.data = s;
    s->refresh_made = true;
    (void)uv_timer_start(&s->refresh, on_refresh, 20, 20);
    return ST_OK;
}

static void on_node_stopped(void *ctx)
{
    close_all(ctx, on_closed);
}

static void stop(struct daemon *d)
{
    struct storaged *s = d->state;
    storage_node_stop(s->node, on_node_stopped, s);
}

static void status(struct daemon *d, cJSON *out)
{
    struct storaged *s = d->state;
    if (s == NULL || s->node == NULL) {
        return;
    }
    struct buf text = {0};
    storage_node_status(s->node, &text);
    cJSON *json = cJSON_ParseWithLength((const char *)text.data, text.len);
    buf_free(&text);
    assert(json != NULL);
    (void)cJSON_AddItemToObject(out, "storage", json);
}

const struct daemon_spec storaged_spec = {
    .program = "penn-storaged",
    .config = &storage_config_spec,
    .usage = "or:    penn-storaged --inspect directory [-v]\n"
             "  explains a data directory and changes nothing in it\n"
             "  -v       also each record of the log\n",
    .metrics = metric_defs,
    .metric_count = sizeof(metric_defs) / sizeof(metric_defs[0]),
    .start = start,
    .stop = stop,
    .finish = finish,
    .status = status,
};
