/*
 * The background scrub of a shard (R16, R19).
 */
#ifndef STORAGE_SHARD_SCRUB_H
#define STORAGE_SHARD_SCRUB_H

#include "storage/state_verify.h"

struct shard;
struct tablet;

/* Times between comparisons of a tablet's replicas and the least between two
 * passes over files and memory, and the bytes/s of the latter, are in the
 * node's options; 0: none of them. */
void scrub_start(struct shard *s);
/* shard_at_rest() follows when what is under way beside the loop has ended. */
void scrub_stop(struct shard *s);
/* At once; S is gone then, the env not before that has ended. */
void scrub_free(struct shard *s);
/* FX_DISPUTED: walks T's state at once, then EVENT_WALKED. Within a step. */
void scrub_walk_now(struct shard *s, struct tablet *t);

#endif
