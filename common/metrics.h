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

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/* A row: enum metric_type by its last word. */
struct metric_def {
    const char *name; /* penn_<daemon>_..., unit last: _total, _bytes,
                         _seconds */
    enum metric_type type;
    const char *labels; /* inside the braces; "" for none */
    const char *help;
};

struct metrics;

/* DEFS is borrowed; at most LIMIT_METRICS rows, asserted to be well formed. */
struct metrics *metrics_new(const struct metric_def *defs, size_t count);
void metrics_free(struct metrics *m);

/* ID is the row's index. M may be NULL: then nothing is counted. */
void metrics_add(struct metrics *m, size_t id, uint64_t n);  /* counter */
void metrics_set(struct metrics *m, size_t id, int64_t v);   /* gauge */
void metrics_move(struct metrics *m, size_t id, int64_t by); /* gauge */
/* Histogram of times: buckets from 100 us to 10 s. */
void metrics_observe_us(struct metrics *m, size_t id, int64_t us);

/* A counter's or gauge's value, a histogram's count. */
int64_t metrics_get(const struct metrics *m, size_t id);

/* Appends the text. */
void metrics_render(const struct metrics *m, struct buf *out);

#endif
