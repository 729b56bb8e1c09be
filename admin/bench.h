/*
 * Load on the store: N clients with one request in flight each, over one
 * loop. bench.c is options and report, bench_io.c the running.
 */
#ifndef ADMIN_BENCH_H
#define ADMIN_BENCH_H

#include "admin/ctl.h"
#include "admin/histogram.h"

enum bench_op { BENCH_PUT, BENCH_GET, BENCH_CPUT };

struct bench_options {
    enum bench_op op;
    uint32_t clients;
    uint32_t value_size;
    uint32_t keys;
    uint32_t seconds;
    bool prepared;    /* a get's keys are there already */
    const char *disk; /* directory, or NULL */
    int timeout_ms;   /* of one request */
};

struct bench_result {
    double seconds;
    uint64_t operations; /* answered well */
    uint64_t refused;    /* definitely without effect */
    uint64_t unknown;
    struct kv_stats stats;
    double sealing_seconds; /* spent here on sealing and opening */
    struct histogram latency_us;
    /* Of the disk: empty without one. */
    double disk_seconds;
    struct histogram sync_us;
};

/* Runs it. On failure *ERR says why. */
enum status bench_run(const struct bench_options *o, const struct config *c,
                      struct log *log, struct bench_result *out,
                      struct err *err) MUST_CHECK;

/* Writes and syncs blocks of SIZE bytes in a file of its own in DIR, one
 * after the other for about a second. */
enum status bench_disk(const char *dir, uint32_t size, struct histogram *out,
                       double *seconds, struct err *err) MUST_CHECK;

#endif
