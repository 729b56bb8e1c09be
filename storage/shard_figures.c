/*
 * How the shard fares, for /metrics: what is counted where it happens
 * (s->figures, the log's own stats), and what is looked up when it is asked
 * for, once a second. Nothing here decides anything.
 */
#include "storage/shard_repair.h"

/* The same epoch's primary could read and cannot any more. */
void shard_note_lease(struct tablet *t, bool serving)
{
    uint64_t epoch = replica_config(t->core)->epoch;
    if (t->leased && !serving && t->leased_epoch == epoch &&
        replica_role_of(t->core) == REPLICA_PRIMARY) {
        t->shard->figures.lease_losses++;
    }
    t->leased = serving;
    t->leased_epoch = epoch;
}

static void add_tablet(struct tablet *t, int64_t now,
                       struct storage_figures *out)
{
    struct replica_figures r;
    replica_figures(t->core, &r);
    out->held += r.held;
    out->uncommitted += r.uncommitted;
    int64_t age = now - t->checkpoint_us;
    if (age > out->checkpoint_age_us) {
        out->checkpoint_age_us = age;
    }
}

void shard_figures(struct shard *s, struct storage_figures *out)
{
    int64_t now = env_now_us(s->env);
    struct wal_stats w;
    wal_get_stats(s->wal, &w);
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        struct tablet *t = s->tablets[i];
        shard_note_lease(t, replica_serving(t->core, now));
    }
    *out = s->figures;
    out->group_records = w.group_records;
    out->group_bytes = w.group_bytes;
    out->payload_bytes = w.payload;
    out->log_queued = w.queued;
    out->log_written = w.bytes;
    out->log_moved = w.moved;
    out->log_collected = w.collected;
    out->log_kept = w.kept_bytes;
    out->log_kept_live = w.kept_live;
    out->log_values = w.live;
    struct value_cache_stats cache;
    value_cache_get_stats(s->cache, &cache);
    out->cache_hits = cache.hits;
    out->cache_misses = cache.misses;
    out->cache_bytes = cache.bytes;
    out->values_fetching = s->values_bytes;
    out->repairs = repair_count(s);
    shard_blobs_figures(s, out);
    for (uint32_t i = 0; i < s->tablet_count; i++) {
        add_tablet(s->tablets[i], now, out);
    }
    for (const struct client *c = s->clients; c != NULL; c = c->next) {
        out->requests += c->request_count;
    }
}

bool shard_kept(const struct shard *s, size_t i, struct wal_kept *out)
{
    bool there = i < wal_kept_count(s->wal);
    if (there) {
        wal_kept_get(s->wal, i, out);
    }
    return there;
}

static void tablet_figures(const struct shard *s, const struct tablet *t,
                           struct tablet_figures *out)
{
    struct state_counts counts;
    struct replica_figures r;
    uint64_t end = wal_end(s->wal), needed = end;
    state_count(replica_state(t->core), &counts);
    replica_figures(t->core, &r);
    *out = (struct tablet_figures){
        .tablet = t->id,
        .epoch = replica_config(t->core)->epoch,
        .cells = counts.cells,
        .bytes = counts.bytes,
        .memory = counts.memory,
        .checkpoint_bytes = t->checkpoint_bytes,
        .lag = r.uncommitted,
        .in_sync = r.in_sync,
        .role = (uint8_t)replica_role_of(t->core),
    };
    (void)wal_needs(s->wal, t->id, &needed);
    out->log_from = needed;
    out->log_bytes = end - needed;
}

uint32_t shard_tablet_figures(struct shard *s, struct tablet_figures *out,
                              uint32_t max)
{
    uint32_t count = s->tablet_count < max ? s->tablet_count : max;
    for (uint32_t i = 0; i < count; i++) {
        tablet_figures(s, s->tablets[i], &out[i]);
    }
    return count;
}
