/*
 * What the simulated clients do, and what they may conclude from the answers.
 *
 * Keys are numbered: first the registers (put, cput, delete, get, watch), then
 * counters (increment, get), then boxes: a partition each, where one batch
 * appends an element (add) and increments a count, as a mailbox does. Every
 * value is unique, so a read says which write it saw.
 */
#ifndef TESTS_SIM_WORKLOAD_H
#define TESTS_SIM_WORKLOAD_H

#include "tests/sim/cluster.h"

struct workload_options {
    unsigned registers, counters, boxes; /* numbers of keys */
    unsigned workers;                    /* of one client */
    int64_t think_us;                    /* on average between two operations */
    int64_t timeout_us;                  /* longest deadline of an operation */
    uint32_t settle_ppm; /* unknown outcomes that are settled, not given up */
    uint32_t value_max;  /* bytes that values are padded to, at most */
};

struct workload;

struct workload *workload_new(struct cluster *c,
                              const struct workload_options *o);
void workload_free(struct workload *w);

/* A client process, for the cluster's programs. */
void *workload_client_new(struct workload *w, struct member *m);
void workload_client_free(void *client);

/* No new operations from now on (or again). */
void workload_pause(struct workload *w, bool paused);
/* No operation is under way. */
bool workload_idle(const struct workload *w);

/* Reads everything once with the first client, which must be idle; true when
 * it has all been read. For the end, when the cluster is whole. */
void workload_audit_begin(struct workload *w);
bool workload_audit_done(const struct workload *w);

/* The verdict on all that was asked, answered and found by the last audit;
 * false: WHY says what is wrong. */
bool workload_check(struct workload *w, struct buf *why);

struct workload_stats {
    uint64_t asked, ok, refused, unknown, settled, undecided;
};
void workload_get_stats(const struct workload *w, struct workload_stats *out);
/* Writes answered well so far, without deletes: a full disk takes those. */
uint64_t workload_stored(const struct workload *w);
uint64_t workload_reads(const struct workload *w); /* the same of reads */
/* Longest time between two writes that were answered well (P3, P4), since
 * the last call. */
int64_t workload_longest_gap(struct workload *w);

#endif
