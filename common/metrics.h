/*
 * Counters, gauges and histograms of one daemon, in Prometheus' text format.
 * A daemon has one table, from which it also makes the ids:
 *
 *   METRIC(CONNS, COUNTER, "penn_balancer_connections_total", "",
 *          "connections accepted")
 *   METRIC(FAIL_SMTP, COUNTER, "penn_balancer_failed_total",
 *          "service=\"smtp\"", "connections that found no gateway")
 *
 * Rows of one name stand together and differ in their labels. Updates are
 * relaxed atomics, from any thread; a registry is a struct, not a global.
 */
#ifndef COMMON_METRICS_H
#define COMMON_METRICS_H

#include "common/buf.h"

enum metric_type {
    METRIC_COUNTER,
    METRIC_GAUGE,
    METRIC_HISTOGRAM, /* of times: buckets from 50 us to 10 s */
    METRIC_SIZES,     /* histogram of numbers: powers of 4, from 1 to 4^14 */
};

/* A row: enum metric_type by its last word. */
struct metric_def {
    const char *name; /* penn_<daemon>_..., unit last: _total, _bytes,
                         _seconds */
    enum metric_type type;
    const char *labels; /* inside the braces; "" for none */
    const char *help;
};

/* A histogram that one thread counts in by itself, for code that knows no
 * registry: zeros at first. */
#define METRIC_BUCKETS 18
struct metric_histogram {
    uint64_t buckets[METRIC_BUCKETS]; /* each alone, not summed */
    uint64_t sum;
};
void metric_add_us(struct metric_histogram *h, int64_t us);
void metric_add_size(struct metric_histogram *h, uint64_t n);

struct metrics;

/* DEFS is borrowed; at most LIMIT_METRICS rows, asserted to be well formed. */
struct metrics *metrics_new(const struct metric_def *defs, size_t count);
void metrics_free(struct metrics *m);

/* ID is the row's index. M may be NULL: then nothing is counted. */
void metrics_add(struct metrics *m, size_t id, uint64_t n);  /* counter */
void metrics_set(struct metrics *m, size_t id, int64_t v);   /* gauge */
void metrics_move(struct metrics *m, size_t id, int64_t by); /* gauge */
void metrics_observe_us(struct metrics *m, size_t id, int64_t us);
/* Makes a histogram's row say what H says; rows that are written so have no
 * other writer. */
void metrics_copy(struct metrics *m, size_t id,
                  const struct metric_histogram *h);

/* Series with one label whose values come and go, as of tablets: families
 * with one number for each KEY. */
struct metric_families {
    const char *label;             /* "tablet" */
    const struct metric_def *defs; /* counters and gauges; labels "" */
    size_t count;
};
/* Replaces all that was published before: ROWS keys, and for each of them
 * f->count values, one row after the other; copied. F is borrowed for ever
 * and always the same. Does nothing while the text is being made: for what is
 * published again and again. */
void metrics_publish(struct metrics *m, const struct metric_families *f,
                     const uint32_t *keys, const int64_t *values, size_t rows);

/* A counter's or gauge's value, a histogram's count. */
int64_t metrics_get(const struct metrics *m, size_t id);

/* Appends the text. */
void metrics_render(struct metrics *m, struct buf *out);

#endif
