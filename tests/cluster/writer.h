/*
 * One thread of the writer: it writes values that never come twice into
 * partitions that nobody else writes, and keeps a ledger of what the cluster
 * answered. As it is alone there, the cluster has no choice what to answer: a
 * compare-and-set must succeed, a counter must stand one higher, a read must
 * give the last value. What is unknown is settled (R23) before it goes on;
 * where the session is lost it looks, and either value will do.
 */
#ifndef CLUSTER_WRITER_H
#define CLUSTER_WRITER_H

#include <pthread.h>
#include <stdatomic.h>

#include "kv/kv.h"

#define WRITER_KEYS 48 /* of each kind, a partition each */

/* What one cell must hold: the number of the write, 0 for nothing. */
struct cell_model {
    uint64_t number;
    bool large;
};

/* The cell whose last write's outcome is not known yet. */
struct doubt {
    enum { DOUBT_NONE, DOUBT_PUT, DOUBT_COUNTER, DOUBT_LIST } kind;
    unsigned key;
};

struct writer_stats {
    uint64_t acknowledged, unknown, settled, voided, lost, refused, reads;
    uint64_t violations;
    int64_t longest_us; /* between two acknowledged writes, since a mark */
    int64_t last_us;    /* of the last one */
};

struct writer {
    pthread_t thread;
    pthread_mutex_t lock; /* of stats */
    struct kv *kv;
    unsigned id;
    uint64_t run;  /* random: values of different runs differ */
    uint64_t seed; /* of the choice of operations */
    size_t value_size;
    int timeout_ms;
    atomic_bool stop;
    pthread_cond_t changed; /* of hold and held, under the lock */
    bool hold, held;
    uint64_t number; /* of the last write tried */
    struct cell_model puts[WRITER_KEYS];
    int64_t counters[WRITER_KEYS];
    uint64_t added[WRITER_KEYS]; /* cells of lists */
    struct doubt doubt;
    struct writer_stats stats;
};

/* CLOCK_MONOTONIC, microseconds. */
int64_t writer_now_us(void);
/* Writes until W->stop; the thread's function. */
void *writer_run(void *w);
/* Reads all that W ever wrote; adds to its violations. Only while it rests.
 * Of a cell in doubt it is enough that it can be read. */
void writer_verify(struct writer *w);
/* Waits until W rests between two operations, or between two tries to settle
 * one, which may be in vain for as long as nothing can be written; it goes on
 * at writer_go(). */
void writer_hold(struct writer *w);
void writer_go(struct writer *w);
void writer_get_stats(struct writer *w, struct writer_stats *out);
/* Begins a new measurement of the longest gap. */
void writer_mark(struct writer *w);

#endif
