/*
 * Repairing single values whose bytes on this disk are damaged (R16): what has
 * the same digest is fetched from another replica and written anew. Design:
 * shard_repair.c.
 */
#ifndef STORAGE_SHARD_REPAIR_H
#define STORAGE_SHARD_REPAIR_H

#include "storage/shard_impl.h"

/* Marks request ids on the bulk lane that ask for a value. */
#define REPAIR_BIT (UINT64_C(1) << 62)

void repair_init(struct shard *s);
/* Nothing more is asked for, written or told. */
void repair_stop(struct shard *s);
/* Before log and blob log are closed. */
void repair_free(struct shard *s);

/* The value of T's cell with the encoded KEY is at P, and damaged; BY, a
 * literal, says who found it. True: it is being repaired (now or already).
 * False: there is nobody who could have it, or too many of T's values are
 * damaged: T is to be condemned by the caller. */
bool repair_cell(struct tablet *t, struct slice key, const struct place *p,
                 const char *by);
/* Damaged: REF's blob; the log's bytes from FROM up to TO. Which cells have
 * values there is searched for beside all else. */
void repair_blob(struct shard *s, const struct blob_ref *ref, const char *by);
void repair_range(struct shard *s, uint64_t from, uint64_t to, const char *by);

/* True if REF's blob, of a cell of T, is being repaired. */
bool repair_has_blob(const struct tablet *t, const struct blob_ref *ref);
/* True if some value of V's, a page of T, is being repaired: it need not be
 * read before. */
bool repair_under_way(const struct tablet *t, const struct values *v);
uint64_t repair_count(const struct shard *s);

/* M, with REPAIR_BIT, came from P. */
void repair_on_answer(struct shard *s, const struct env_peer *p,
                      const struct wire_msg *m);
/* More of the log is on disk. */
void repair_on_synced(struct shard *s);

#endif
