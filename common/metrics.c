/*
 * The registry of metrics: an array of slots beside the table of rows. Each
 * slot is written with relaxed atomics; a reader sees each number whole, but
 * not all numbers of one instant, which is all that Prometheus asks for.
 */
#include "common/metrics.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/limits.h"

/* Upper bounds of a histogram's buckets in microseconds, and as text in
 * seconds. The last bucket, +Inf, has none. */
static const struct {
    int64_t us;
    const char *seconds;
} bounds[] = {
    {100, "0.0001"},  {250, "0.00025"}, {500, "0.0005"},  {1000, "0.001"},
    {2500, "0.0025"}, {5000, "0.005"},  {10000, "0.01"},  {25000, "0.025"},
    {50000, "0.05"},  {100000, "0.1"},  {250000, "0.25"}, {500000, "0.5"},
    {1000000, "1"},   {2500000, "2.5"}, {5000000, "5"},   {10000000, "10"},
};

#define BOUND_COUNT (sizeof(bounds) / sizeof(bounds[0]))

struct histogram {
    _Atomic uint64_t buckets[BOUND_COUNT + 1]; /* each alone, not summed */
    _Atomic uint64_t sum_us;
};

struct metrics {
    const struct metric_def *defs;
    size_t count;
    _Atomic int64_t *values;
    struct histogram **histograms; /* NULL where the row is none */
};

static const char *const type_names[] = {
    [METRIC_COUNTER] = "counter",
    [METRIC_GAUGE] = "gauge",
    [METRIC_HISTOGRAM] = "histogram",
};

static bool name_valid(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return len > 0 && name[len] == '\0';
}

/* Rows of one name stand together and agree in type. */
static void check_rows(const struct metric_def *defs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert(name_valid(defs[i].name));
        assert(defs[i].labels != NULL && defs[i].help != NULL);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(defs[i].name, defs[j].name) == 0) {
                assert(strcmp(defs[i].name, defs[i - 1].name) == 0);
                assert(defs[i].type == defs[j].type);
                assert(strcmp(defs[i].labels, defs[j].labels) != 0);
            }
        }
    }
}

struct metrics *metrics_new(const struct metric_def *defs, size_t count)
{
    assert(count <= LIMIT_METRICS);
    check_rows(defs, count);
    struct metrics *m = xcalloc(1, sizeof(*m));
    m->defs = defs;
    m->count = count;
    m->values = xcalloc(count, sizeof(*m->values));
    m->histograms = xcalloc(count, sizeof(struct histogram *));
    for (size_t i = 0; i < count; i++) {
        if (defs[i].type == METRIC_HISTOGRAM) {
            m->histograms[i] = xcalloc(1, sizeof(struct histogram));
        }
    }
    return m;
}

void metrics_free(struct metrics *m)
{
    if (m == NULL) {
        return;
    }
    for (size_t i = 0; i < m->count; i++) {
        free(m->histograms[i]);
    }
    free(m->histograms);
    free(m->values);
    free(m);
}

static void check_id(const struct metrics *m, size_t id, enum metric_type type)
{
    assert(id < m->count);
    assert(m->defs[id].type == type);
}

void metrics_add(struct metrics *m, size_t id, uint64_t n)
{
    if (m != NULL) {
        check_id(m, id, METRIC_COUNTER);
        atomic_fetch_add_explicit(&m->values[id], (int64_t)n,
                                  memory_order_relaxed);
    }
}

void metrics_set(struct metrics *m, size_t id, int64_t v)
{
    if (m != NULL) {
        check_id(m, id, METRIC_GAUGE);
        atomic_store_explicit(&m->values[id], v, memory_order_relaxed);
    }
}

void metrics_move(struct metrics *m, size_t id, int64_t by)
{
    if (m != NULL) {
        check_id(m, id, METRIC_GAUGE);
        atomic_fetch_add_explicit(&m->values[id], by, memory_order_relaxed);
    }
}

void metrics_observe_us(struct metrics *m, size_t id, int64_t us)
{
    if (m == NULL) {
        return;
    }
    check_id(m, id, METRIC_HISTOGRAM);
    struct histogram *h = m->histograms[id];
    size_t i = 0;
    while (i < BOUND_COUNT && us > bounds[i].us) {
        i++;
    }
    atomic_fetch_add_explicit(&h->buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_us, (uint64_t)(us > 0 ? us : 0),
                              memory_order_relaxed);
}

int64_t metrics_get(const struct metrics *m, size_t id)
{
    assert(id < m->count);
    const struct histogram *h = m->histograms[id];
    if (h == NULL) {
        return atomic_load_explicit(&m->values[id], memory_order_relaxed);
    }
    uint64_t sum = 0;
    for (size_t i = 0; i <= BOUND_COUNT; i++) {
        sum += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
    }
    return (int64_t)sum;
}

static void render_histogram(const struct metric_def *d,
                             const struct histogram *h, struct buf *out)
{
    const char *comma = d->labels[0] != '\0' ? "," : "";
    uint64_t sum = 0;
    for (size_t i = 0; i <= BOUND_COUNT; i++) {
        sum += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
        buf_printf(out, "%s_bucket{%s%sle=\"%s\"} %llu\n", d->name, d->labels,
                   comma, i < BOUND_COUNT ? bounds[i].seconds : "+Inf",
                   (unsigned long long)sum);
    }
    uint64_t us = atomic_load_explicit(&h->sum_us, memory_order_relaxed);
    const char *open = d->labels[0] != '\0' ? "{" : "";
    const char *close = d->labels[0] != '\0' ? "}" : "";
    buf_printf(out, "%s_sum%s%s%s %llu.%06llu\n", d->name, open, d->labels,
               close, (unsigned long long)(us / 1000000),
               (unsigned long long)(us % 1000000));
    buf_printf(out, "%s_count%s%s%s %llu\n", d->name, open, d->labels, close,
               (unsigned long long)sum);
}

static void render_row(const struct metrics *m, size_t i, struct buf *out)
{
    const struct metric_def *d = &m->defs[i];
    if (i == 0 || strcmp(d->name, m->defs[i - 1].name) != 0) {
        buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", d->name, d->help,
                   d->name, type_names[d->type]);
    }
    if (m->histograms[i] != NULL) {
        render_histogram(d, m->histograms[i], out);
        return;
    }
    long long v = metrics_get(m, i);
    if (d->labels[0] != '\0') {
        buf_printf(out, "%s{%s} %lld\n", d->name, d->labels, v);
    } else {
        buf_printf(out, "%s %lld\n", d->name, v);
    }
}

void metrics_render(const struct metrics *m, struct buf *out)
{
    for (size_t i = 0; i < m->count; i++) {
        render_row(m, i, out);
    }
}
