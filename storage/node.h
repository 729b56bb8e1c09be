/*
 * A storage process: one shard, its beacons, its part in the cluster. Over
 * two envs, one for each of its loops, so that it runs on libuv and in the
 * simulation alike. All functions are called on the shard's loop except where
 * marked.
 */
#ifndef STORAGE_NODE_H
#define STORAGE_NODE_H

#include "common/env.h"
#include "common/metrics.h"

struct storage_node;
struct state;

struct storage_node_options {
    struct env *env;        /* the shard's: network and disk */
    struct env *beacon_env; /* the beacons': network */
    uint32_t node;
    const char *name;      /* "storage-1" */
    const char *listen;    /* "host:port" */
    const char *advertise; /* what others connect to */
    const char *beacon_listen, *beacon_advertise;
    const char *status_address;      /* announced in the map; may be "" */
    const char *data_dir;            /* for messages; may be NULL */
    const char *const *coordinators; /* ends with NULL */
    uint64_t log_limit;      /* bytes of log before checkpoints; 0: default */
    uint64_t segment_size;   /* 0: default */
    uint64_t blob_file_size; /* 0: default */
    uint32_t blob_piece;     /* bytes in one message, and in one write, about;
                              * 0: LIMIT_BLOB_PIECE */
    uint64_t value_cache;    /* bytes of values read lately; 0: none */
    /* A tablet's replicas are compared once in it, and a pass of the scrub is
     * begun; 0: neither. */
    int64_t scrub_interval_us;
    uint64_t scrub_rate; /* bytes/s that a pass reads; 0: no passes */
    unsigned bugs;       /* storage/bugs.def; only with PENN_BUGS */
    /* Makes storage_node_on_kick() be called on the beacons' loop soon; from
     * the shard's loop. */
    void (*kick)(void *ctx);
    /* The process must end: its disk failed (R18), or it has no right to
     * take part. Called once, on the shard's loop. */
    void (*on_fatal)(void *ctx, enum status why, const char *text);
    /* I5's witness in the simulation; may be NULL. */
    void (*on_cut)(void *ctx, uint32_t tablet, struct name to,
                   struct name committed);
    void *ctx;
    /* This start's identity is written here once the data directory is open,
     * before anything is sent: the envs' HELLO is made of it. */
    void (*on_identity)(void *ctx, struct id128 cluster, struct id128 store,
                        struct incarnation incarnation);
};

/* Opens the data directory, recovers (R16), listens and joins. Blocks while
 * it recovers. ERR has one line. */
enum status storage_node_start(const struct storage_node_options *o,
                               struct storage_node **out,
                               struct err *err) MUST_CHECK;
/* Frees at once, as a crash would; the envs stay. */
void storage_node_free(struct storage_node *n);
/* Finishes what is acknowledged, writes the last mark; DONE comes on the
 * loop, then storage_node_free() is due. */
void storage_node_stop(struct storage_node *n, void (*done)(void *ctx),
                       void *ctx);
/* On the beacons' loop. */
void storage_node_on_kick(struct storage_node *n);

/* ---- for checkers, status and metrics ---- */

/* True if TABLET's replica here would serve at this instant (I1). */
bool storage_node_serving(struct storage_node *n, uint32_t tablet);
/* What TABLET's replica has applied, and its digest (I4). */
bool storage_node_digest(struct storage_node *n, uint32_t tablet,
                         struct name *applied, struct id128 *digest);
/* TABLET's state; NULL if it is not here. The caller only looks at it. */
const struct state *storage_node_state(struct storage_node *n, uint32_t tablet);
uint32_t storage_node_tablets(struct storage_node *n, struct tablet_report *out,
                              uint32_t max);
/* Reads all values here that are not in memory; returns how many are not what
 * their places say. Blocks: for checkers. */
uint64_t storage_node_bad_values(struct storage_node *n);
bool storage_node_ready(const struct storage_node *n);
/* The node as JSON for /status, appended to OUT. */
void storage_node_status(struct storage_node *n, struct buf *out);

struct storage_stats {
    uint64_t commands, reads, forwarded, scans, watches, replies_unknown;
    uint64_t groups, records, log_bytes, log_size, checkpoints;
    uint64_t snapshots_sent, snapshots_installed;
    int64_t pending_sync_us;
    uint32_t tablets, primaries, open, readonly, damaged;
    uint64_t condemned; /* times that damage was found while running */
    uint64_t compared, differing; /* R19: comparisons, replicas that differed */
    uint64_t scrubbed_bytes, scrub_passes, scrub_damage;
    bool disk_full;
    uint64_t cells, bytes;
};
void storage_node_stats(struct storage_node *n, struct storage_stats *out);

/* How the engine fares: see metrics.def for what each one is. */
struct storage_figures {
    struct metric_histogram group_records, group_bytes, checkpoint_us;
    uint64_t payload_bytes, checkpoint_bytes;
    uint64_t log_written, log_moved, log_collected; /* bytes */
    uint64_t collections;
    uint64_t log_kept, log_kept_live, log_values; /* bytes, now */
    uint64_t catchup_sent, catchup_received; /* bytes of snapshots' cells */
    uint64_t epochs, lease_losses;
    uint64_t values_damaged, values_repaired;
    uint64_t repairs; /* now: values that are being repaired */
    uint64_t blob_files_damaged;
    uint64_t cache_hits, cache_misses, cache_bytes;
    uint64_t blob_written; /* bytes, by the collection too */
    uint64_t blob_moved, blob_orphans, blobs_damaged;
    uint64_t blob_files, blob_live, blob_dead;        /* now; bytes */
    uint64_t values_fetching;                         /* bytes of memory, now */
    uint64_t log_queued, requests, held, uncommitted; /* now */
    int64_t checkpoint_age_us; /* of the oldest tablet's */
};
void storage_node_figures(struct storage_node *n, struct storage_figures *out);

struct tablet_figures {
    uint32_t tablet;
    uint64_t epoch, cells, bytes, memory;
    uint64_t checkpoint_bytes; /* its newest file */
    uint64_t log_from;         /* oldest position it needs, or the end */
    uint64_t log_bytes;        /* from there on */
    uint64_t lag;              /* entries in the log beyond the commit */
    uint32_t in_sync;
    uint8_t role; /* enum replica_role */
};
/* All tablets here, at most MAX; returns how many. */
uint32_t storage_node_tablet_figures(struct storage_node *n,
                                     struct tablet_figures *out, uint32_t max);

#endif
