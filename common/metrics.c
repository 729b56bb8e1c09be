/*
 * The registry of metrics: an array of slots beside the table of rows. Each
 * slot is written with relaxed atomics; a reader sees each number whole, but
 * not all numbers of one instant, which is all that Prometheus asks for. What
 * is published under a label is replaced as a whole, under a lock; a publisher
 * never waits for a reader, but leaves it with what was published before.
 */
#include "common/metrics.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/limits.h"

/* Upper bounds of the buckets: of times in microseconds, and as text in
 * seconds; of numbers. The last bucket, +Inf, has none. */
static const struct {
    int64_t us;
    const char *seconds;
} bounds[] = {
    {50, "0.00005"},  {100, "0.0001"},  {250, "0.00025"}, {500, "0.0005"},
    {1000, "0.001"},  {2500, "0.0025"}, {5000, "0.005"},  {10000, "0.01"},
    {25000, "0.025"}, {50000, "0.05"},  {100000, "0.1"},  {250000, "0.25"},
    {500000, "0.5"},  {1000000, "1"},   {2500000, "2.5"}, {5000000, "5"},
    {10000000, "10"},
};
#define BOUND_COUNT (sizeof(bounds) / sizeof(bounds[0]))
#define SIZE_BOUNDS 15
_Static_assert(METRIC_BUCKETS == BOUND_COUNT + 1, "a bucket for each bound");
_Static_assert(METRIC_BUCKETS > SIZE_BOUNDS, "a bucket for each bound");

struct shared_histogram {
    _Atomic uint64_t buckets[METRIC_BUCKETS];
    _Atomic uint64_t sum;
};

struct metrics {
    const struct metric_def *defs;
    size_t count;
    _Atomic int64_t *values;
    struct shared_histogram **histograms; /* NULL where the row is none */

    /* What was published last; under the lock. */
    pthread_mutex_t lock;
    const struct metric_families *families;
    uint32_t *keys;
    int64_t *numbers;
    size_t rows;
};

static const char *const type_names[] = {
    [METRIC_COUNTER] = "counter",
    [METRIC_GAUGE] = "gauge",
    [METRIC_HISTOGRAM] = "histogram",
    [METRIC_SIZES] = "histogram",
};

static size_t bucket_of_us(int64_t us)
{
    size_t i = 0;
    while (i < BOUND_COUNT && us > bounds[i].us) {
        i++;
    }
    return i;
}

void metric_add_us(struct metric_histogram *h, int64_t us)
{
    h->buckets[bucket_of_us(us)]++;
    h->sum += (uint64_t)(us > 0 ? us : 0);
}

void metric_add_size(struct metric_histogram *h, uint64_t n)
{
    size_t i = 0;
    while (i < SIZE_BOUNDS && n > UINT64_C(1) << (2 * i)) {
        i++;
    }
    h->buckets[i]++;
    h->sum += n;
}

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

static bool is_histogram(enum metric_type t)
{
    return t == METRIC_HISTOGRAM || t == METRIC_SIZES;
}

struct metrics *metrics_new(const struct metric_def *defs, size_t count)
{
    assert(count <= LIMIT_METRICS);
    check_rows(defs, count);
    struct metrics *m = xcalloc(1, sizeof(*m));
    m->defs = defs;
    m->count = count;
    m->values = xcalloc(count, sizeof(*m->values));
    m->histograms = xcalloc(count, sizeof(struct shared_histogram *));
    for (size_t i = 0; i < count; i++) {
        if (is_histogram(defs[i].type)) {
            m->histograms[i] = xcalloc(1, sizeof(struct shared_histogram));
        }
    }
    int error = pthread_mutex_init(&m->lock, NULL);
    assert(error == 0);
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
    (void)pthread_mutex_destroy(&m->lock);
    free(m->keys);
    free(m->numbers);
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
    struct shared_histogram *h = m->histograms[id];
    atomic_fetch_add_explicit(&h->buckets[bucket_of_us(us)], 1,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum, (uint64_t)(us > 0 ? us : 0),
                              memory_order_relaxed);
}

void metrics_copy(struct metrics *m, size_t id,
                  const struct metric_histogram *h)
{
    if (m == NULL) {
        return;
    }
    assert(id < m->count && is_histogram(m->defs[id].type));
    struct shared_histogram *to = m->histograms[id];
    for (size_t i = 0; i < METRIC_BUCKETS; i++) {
        atomic_store_explicit(&to->buckets[i], h->buckets[i],
                              memory_order_relaxed);
    }
    atomic_store_explicit(&to->sum, h->sum, memory_order_relaxed);
}

void metrics_publish(struct metrics *m, const struct metric_families *f,
                     const uint32_t *keys, const int64_t *values, size_t rows)
{
    if (m == NULL || pthread_mutex_trylock(&m->lock) != 0) {
        return;
    }
    if (m->families == NULL) {
        check_rows(f->defs, f->count);
    }
    assert(m->families == NULL || m->families == f);
    m->families = f;
    if (rows > 0) {
        m->keys = xrealloc(m->keys, rows * sizeof(*keys));
        m->numbers = xrealloc(m->numbers, rows * f->count * sizeof(*values));
        memcpy(m->keys, keys, rows * sizeof(*keys));
        memcpy(m->numbers, values, rows * f->count * sizeof(*values));
    }
    m->rows = rows;
    (void)pthread_mutex_unlock(&m->lock);
}

int64_t metrics_get(const struct metrics *m, size_t id)
{
    assert(id < m->count);
    const struct shared_histogram *h = m->histograms[id];
    if (h == NULL) {
        return atomic_load_explicit(&m->values[id], memory_order_relaxed);
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < METRIC_BUCKETS; i++) {
        sum += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
    }
    return (int64_t)sum;
}

static void render_bucket(const struct metric_def *d, const char *bound,
                          uint64_t sum, struct buf *out)
{
    buf_printf(out, "%s_bucket{%s%sle=\"%s\"} %llu\n", d->name, d->labels,
               d->labels[0] != '\0' ? "," : "", bound, (unsigned long long)sum);
}

static void render_sum(const struct metric_def *d, unsigned long long sum,
                       struct buf *out)
{
    if (d->type == METRIC_SIZES) {
        buf_printf(out, " %llu\n", sum);
    } else {
        buf_printf(out, " %llu.%06llu\n", sum / 1000000, sum % 1000000);
    }
}

static void render_histogram(const struct metric_def *d,
                             const struct shared_histogram *h, struct buf *out)
{
    bool times = d->type == METRIC_HISTOGRAM;
    size_t last = times ? BOUND_COUNT : SIZE_BOUNDS;
    uint64_t sum = 0;
    for (size_t i = 0; i <= last; i++) {
        char number[24];
        (void)snprintf(number, sizeof(number), "%llu", 1ULL << (2 * i));
        sum += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
        render_bucket(d,
                      i == last ? "+Inf"
                      : times   ? bounds[i].seconds
                                : number,
                      sum, out);
    }
    const char *open = d->labels[0] != '\0' ? "{" : "";
    const char *close = d->labels[0] != '\0' ? "}" : "";
    buf_printf(out, "%s_sum%s%s%s", d->name, open, d->labels, close);
    render_sum(d, atomic_load_explicit(&h->sum, memory_order_relaxed), out);
    buf_printf(out, "%s_count%s%s%s %llu\n", d->name, open, d->labels, close,
               (unsigned long long)sum);
}

static void render_head(const struct metric_def *d, struct buf *out)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", d->name, d->help, d->name,
               type_names[d->type]);
}

static void render_families(const struct metrics *m, struct buf *out)
{
    const struct metric_families *f = m->families;
    for (size_t i = 0; f != NULL && m->rows > 0 && i < f->count; i++) {
        render_head(&f->defs[i], out);
        for (size_t k = 0; k < m->rows; k++) {
            buf_printf(out, "%s{%s=\"%lu\"} %lld\n", f->defs[i].name, f->label,
                       (unsigned long)m->keys[k],
                       (long long)m->numbers[k * f->count + i]);
        }
    }
}

static void render_row(const struct metrics *m, size_t i, struct buf *out)
{
    const struct metric_def *d = &m->defs[i];
    if (i == 0 || strcmp(d->name, m->defs[i - 1].name) != 0) {
        render_head(d, out);
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

void metrics_render(struct metrics *m, struct buf *out)
{
    for (size_t i = 0; i < m->count; i++) {
        render_row(m, i, out);
    }
    (void)pthread_mutex_lock(&m->lock);
    render_families(m, out);
    (void)pthread_mutex_unlock(&m->lock);
}
