/*
 * Latencies in buckets that grow with them: a value is known to within 1.6 %.
 * Pure, of fixed size, zero-initialised is empty.
 */
#ifndef ADMIN_HISTOGRAM_H
#define ADMIN_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 64 /* buckets in each power of two */
#define HISTOGRAM_BUCKETS (HISTOGRAM_STEPS * 59)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count, max;
};

void histogram_add(struct histogram *h, uint64_t value);
/* Smallest value that FRACTION (0..1) of all are not above, rounded up to its
 * bucket's end but not beyond the greatest; 0 if empty. */
uint64_t histogram_quantile(const struct histogram *h, double fraction);

#endif
