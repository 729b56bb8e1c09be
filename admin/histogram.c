/*
 * Values below HISTOGRAM_STEPS have a bucket each; above, each power of two
 * is divided into HISTOGRAM_STEPS buckets.
 */
#include "admin/histogram.h"

#include <stddef.h>

#define STEP_BITS 6
_Static_assert(HISTOGRAM_STEPS == 1 << STEP_BITS, "a power of two");

/* The shift that brings V below 2 * HISTOGRAM_STEPS. */
static unsigned shift_of(uint64_t v)
{
    unsigned top = 63u - (unsigned)__builtin_clzll(v | 1);
    return top > STEP_BITS ? top - STEP_BITS : 0;
}

static size_t bucket_of(uint64_t v)
{
    unsigned shift = shift_of(v);
    return (size_t)shift * HISTOGRAM_STEPS + (size_t)(v >> shift);
}

static uint64_t end_of(size_t bucket)
{
    if (bucket < 2 * HISTOGRAM_STEPS) {
        return bucket;
    }
    unsigned shift = (unsigned)(bucket / HISTOGRAM_STEPS) - 1;
    uint64_t first = bucket - (size_t)shift * HISTOGRAM_STEPS;
    return ((first + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, uint64_t value)
{
    size_t b = bucket_of(value);
    if (b >= HISTOGRAM_BUCKETS) {
        b = HISTOGRAM_BUCKETS - 1;
    }
    h->counts[b]++;
    h->count++;
    if (value > h->max) {
        h->max = value;
    }
}

uint64_t histogram_quantile(const struct histogram *h, double fraction)
{
    double exact = fraction * (double)h->count;
    uint64_t rank = (uint64_t)exact;
    uint64_t seen = 0;
    if ((double)rank < exact) {
        rank++;
    }
    if (rank == 0) {
        rank = 1;
    }
    for (size_t b = 0; b < HISTOGRAM_BUCKETS; b++) {
        seen += h->counts[b];
        if (seen >= rank) {
            uint64_t end = end_of(b);
            return end < h->max ? end : h->max;
        }
    }
    return h->max;
}
