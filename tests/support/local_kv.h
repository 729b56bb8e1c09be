/*
 * kv/kv.h without processes: batches go straight into the real state machine
 * of one tablet (storage/state.h), in this process. For tests of what stands
 * on the store; link it instead of the client's shell (kv/batch.c still
 * comes from libkv.a).
 *
 * Faults: any call can be made to fail in the ways a cluster fails. Numbers,
 * sessions and settling are the state machine's own (R23), so what a settled
 * or forgotten request does here is what it does there.
 */
#ifndef TESTS_SUPPORT_LOCAL_KV_H
#define TESTS_SUPPORT_LOCAL_KV_H

#include "kv/kv.h"

enum local_kv_fault {
    LOCAL_NONE = 0,
    LOCAL_UNREACHABLE,    /* refused, surely no effect */
    LOCAL_LOST_DONE,      /* done, the answer is lost */
    LOCAL_LOST_NOT_DONE,  /* the request is lost, the caller cannot know */
    LOCAL_LATE,           /* as lost, but arrives before the next run */
    LOCAL_FORGOTTEN_DONE, /* done, answer lost, and our session too */
    LOCAL_FORGOTTEN_NOT_DONE,
    LOCAL_FAULTS,
    LOCAL_STOPPED = 100, /* ST_STOPPING: with a COUNT without end, our own
                            death at that call */
    LOCAL_FULL,          /* runs, which alone count, are ST_NO_SPACE ... */
    LOCAL_FULL_RESERVE,  /* ... but for those that free room */
};

struct kv *local_kv_open(void);
/* kv_close() frees it. */

/* Call number AT from now on (0: the next; reads, runs and settles count)
 * fails as KIND says; the next COUNT - 1 calls too. A read fails with
 * ST_TIMEOUT (ST_STOPPING) whatever the kind, a settle with ST_UNKNOWN_OUTCOME.
 */
void local_kv_fail(struct kv *kv, unsigned at, unsigned count,
                   enum local_kv_fault kind);
/* Only calls in partitions that begin with PREFIX fail (NULL: all). */
void local_kv_fail_only(struct kv *kv, const char *prefix);
/* True if a fault of the last local_kv_fail() has come to pass. */
bool local_kv_failed(struct kv *kv);
/* Number of cells, for leak tests. */
uint64_t local_kv_cells(struct kv *kv);

#endif
