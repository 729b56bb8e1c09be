/*
 * Emptying the log's kept segments of the values that are still live in them,
 * so that they can be used again (shard_collect.c).
 */
#ifndef STORAGE_SHARD_COLLECT_H
#define STORAGE_SHARD_COLLECT_H

struct collector;
struct shard;
struct tablet;

void collect_init(struct shard *s);
/* Nothing is begun any more. */
void collect_stop(struct shard *s);
/* After the log was closed. */
void collect_free(struct shard *s);
/* A checkpoint was written: gives segments back, or begins to empty some. */
void collect_consider(struct shard *s);
/* The same in the next turn: the disk is full. From within anything. */
void collect_soon(struct shard *s);
/* More of the log is on disk. */
void collect_on_synced(struct shard *s);
/* T has another state now, or is about to be without one. */
void collect_on_state(struct shard *s, const struct tablet *t);

#endif
