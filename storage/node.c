#include "storage/node.h"

#include "storage/beacon.h"
#include "storage/shard.h"

#include <stdlib.h>

struct storage_node {
    struct storage_node_options o;
    struct store store;
    struct beacon_table *table;
    struct beacon *beacon;
    struct shard *shard;
};

/* All that reads the data directory; what is wrong there says which. */
static enum status recover(struct storage_node *n, struct err *err)
{
    static const struct id128 any;
    const struct storage_node_options *o = &n->o;
    enum status st = store_open(o->env, o->node, any, &n->store, err);
    if (st == ST_OK && n->store.shards != 1) {
        st = err_set(err, ST_UNSUPPORTED,
                     "data directory has %u shards, this version runs 1",
                     (unsigned)n->store.shards);
    }
    if (st == ST_OK) {
        o->on_identity(o->ctx, n->store.cluster, n->store.id,
                       n->store.incarnation);
        n->table = beacon_table_new(env_now_us(o->env), o->bugs);
        st = shard_open(o, &n->store, n->table, &n->shard, err);
    }
    if (st == ST_OK) {
        st = store_set_logged(o->env, &n->store, err);
    }
    if (st != ST_OK && o->data_dir != NULL) {
        err_within(err, st, o->data_dir);
    }
    return st;
}

enum status storage_node_start(const struct storage_node_options *o,
                               struct storage_node **out, struct err *err)
{
    struct storage_node *n = xcalloc(1, sizeof(*n));
    n->o = *o;
    enum status st = recover(n, err);
    if (st == ST_OK) {
        st = beacon_start(o->beacon_env, o->beacon_listen, n->table, &n->beacon,
                          err);
    }
    if (st == ST_OK) {
        st = shard_start(n->shard, n->beacon, err);
    }
    if (st != ST_OK) {
        storage_node_free(n);
        return st;
    }
    *out = n;
    return ST_OK;
}

void storage_node_free(struct storage_node *n)
{
    if (n == NULL) {
        return;
    }
    shard_free(n->shard);
    beacon_stop(n->beacon);
    beacon_table_free(n->table);
    free(n);
}

void storage_node_stop(struct storage_node *n, void (*done)(void *ctx),
                       void *ctx)
{
    shard_stop(n->shard, done, ctx);
}

void storage_node_on_kick(struct storage_node *n)
{
    beacon_kick(n->beacon);
}

bool storage_node_serving(struct storage_node *n, uint32_t tablet)
{
    return shard_serving(n->shard, tablet);
}

bool storage_node_digest(struct storage_node *n, uint32_t tablet,
                         struct name *applied, struct id128 *digest)
{
    return shard_digest(n->shard, tablet, applied, digest);
}

const struct state *storage_node_state(struct storage_node *n, uint32_t tablet)
{
    return shard_state(n->shard, tablet);
}

uint32_t storage_node_tablets(struct storage_node *n, struct tablet_report *out,
                              uint32_t max)
{
    return shard_reports(n->shard, out, max);
}

static void on_value(void *ctx, const struct verified_value *v)
{
    (void)ctx; /* it is counted */
    (void)v;
}

uint64_t storage_node_bad_values(struct storage_node *n)
{
    struct tablet_report *r = xcalloc(LIMIT_TABLETS, sizeof(*r));
    uint32_t count = shard_reports(n->shard, r, LIMIT_TABLETS);
    uint64_t bad = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct shard_values_found found;
        shard_verify_values(n->shard, r[i].tablet, on_value, NULL, &found);
        bad += found.damaged;
    }
    free(r);
    return bad;
}

bool storage_node_ready(const struct storage_node *n)
{
    return shard_ready(n->shard);
}

void storage_node_status(struct storage_node *n, struct buf *out)
{
    shard_status(n->shard, out);
}

void storage_node_stats(struct storage_node *n, struct storage_stats *out)
{
    shard_stats(n->shard, out);
}

void storage_node_figures(struct storage_node *n, struct storage_figures *out)
{
    shard_figures(n->shard, out);
}

uint32_t storage_node_tablet_figures(struct storage_node *n,
                                     struct tablet_figures *out, uint32_t max)
{
    return shard_tablet_figures(n->shard, out, max);
}
