/*
 * A shard: one loop with its log and its tablets. It recovers them from disk,
 * feeds their replicas with events, carries out the effects, and answers
 * clients. Several files, by reason to change:
 *   shard.c             life, recovery, stepping replicas, effects, time
 *   shard_net.c         incoming connections, which message goes where
 *   shard_requests.c    clients' requests: writes, what waits, watches
 *   shard_room.c        a full disk: who is told, what is taken all the same
 *   shard_reads.c       reads: looking up, answering (R9)
 *   shard_values.c      fetching values that are not in memory
 *   shard_forward.c     reads that a secondary sends on to the primary (R9)
 *   shard_catchup.c     snapshots, served and fetched (R17)
 *   shard_checkpoint.c  when to checkpoint, what the log may forget
 *   shard_collect.c     emptying segments that the log keeps for few values
 *   shard_cluster.c     heartbeats, the map, links to the other nodes
 *   shard_damage.c      a running replica that cannot vouch for its data (R16)
 *   shard_repair.c      damaged values, fetched from other replicas (R16)
 *   shard_scrub.c       looking through memory and files, in the background
 *   shard_figures.c     how it fares, for metrics
 *   shard_verify.c      reading all values, for inspecting
 */
#ifndef STORAGE_SHARD_H
#define STORAGE_SHARD_H

#include "storage/beacon.h"
#include "storage/node.h"
#include "storage/store.h"

struct shard;

/* STORE and BEACONS are the node's and outlive the shard. */
enum status shard_open(const struct storage_node_options *o,
                       struct store *store, struct beacon_table *beacons,
                       struct shard **out, struct err *err) MUST_CHECK;
/* Begins to listen and to send heartbeats. BEACON gets the targets. */
enum status shard_start(struct shard *s, struct beacon *beacon,
                        struct err *err) MUST_CHECK;
void shard_stop(struct shard *s, void (*done)(void *ctx), void *ctx);
void shard_free(struct shard *s);

/* Lets the log go of all that the checkpoints have, as a running shard does
 * in time; for inspecting one that will not be started. */
void shard_release(struct shard *s);

/* The I-th segment that the log keeps for values alone; false if none. */
struct wal_kept;
bool shard_kept(const struct shard *s, size_t i, struct wal_kept *out);

/* The I-th file of the blob log; false if none. Blocks. */
struct blobs_file;
bool shard_blob_file(const struct shard *s, size_t i, struct blobs_file *out);

/* Reads all of TABLET's values that are not in memory, and tells FN of each:
 * WHY is ST_OK, or it is not what it was, or why it cannot be read. Blocks: for
 * inspecting. */
struct place;
struct shard_values_found {
    uint64_t count, bytes, damaged;
};
struct verified_value {
    uint32_t tablet;
    struct slice key; /* encoded */
    const struct place *place;
    uint64_t file, offset; /* of a blob's record; 0: there is none */
    enum status why;
};
void shard_verify_values(struct shard *s, uint32_t tablet,
                         void (*fn)(void *ctx, const struct verified_value *v),
                         void *ctx, struct shard_values_found *out);

bool shard_serving(struct shard *s, uint32_t tablet);
bool shard_digest(struct shard *s, uint32_t tablet, struct name *applied,
                  struct id128 *digest);
const struct state *shard_state(struct shard *s, uint32_t tablet);
uint32_t shard_reports(struct shard *s, struct tablet_report *out,
                       uint32_t max);
bool shard_ready(const struct shard *s);
void shard_status(struct shard *s, struct buf *out);
void shard_stats(struct shard *s, struct storage_stats *out);
void shard_figures(struct shard *s, struct storage_figures *out);
uint32_t shard_tablet_figures(struct shard *s, struct tablet_figures *out,
                              uint32_t max);

#endif
