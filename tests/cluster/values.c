/*
 * Writes many values, or reads them all back and compares each byte.
 *
 *   cluster_values KEYFILE COORDINATOR put|read FIRST END SIZE VERSION
 *
 * Value I of a version is made of its number alone, so nobody has to remember
 * what was written. VALUES_A_BATCH of them are one partition's and are written
 * by one command; partitions are spread over all tablets. Every eighth
 * partition is read as a scan, the others value by value. One line of JSON at
 * the end; exit status 0 if every value was written, or is right.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/wire.h"
#include "kv/kv.h"

#define VALUES_A_BATCH 16
#define THREADS 8
#define TIMEOUT_MS 60000

struct work {
    struct kv *kv;
    bool put;
    uint64_t first, end, version;
    size_t size;
    uint64_t next; /* batch; atomic */
    uint64_t done, wrong, failed;
};

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void value_of(const struct work *w, uint64_t number, uint8_t *out)
{
    uint64_t seed = mix(number * 2654435761u + w->version);
    for (size_t i = 0; i < w->size; i += 8) {
        uint64_t word = mix(seed + i);
        size_t left = w->size - i;
        memcpy(out + i, &word, left < 8 ? left : 8);
    }
}

static struct kv_key key_of(uint64_t number, char partition[32],
                            char column[32])
{
    (void)snprintf(partition, 32, "values-%" PRIu64, number / VALUES_A_BATCH);
    (void)snprintf(column, 32, "c%02" PRIu64, number % VALUES_A_BATCH);
    return kv_key_of(partition, "r", column);
}

static void add(uint64_t *to, uint64_t n)
{
    (void)__atomic_add_fetch(to, n, __ATOMIC_RELAXED);
}

static void note(struct work *w, uint64_t number, enum status s, bool right)
{
    if (s == ST_OK && right) {
        add(&w->done, 1);
        return;
    }
    add(s == ST_OK ? &w->wrong : &w->failed, 1);
    fprintf(stderr, "values: VIOLATION value %" PRIu64 ": %s\n", number,
            s == ST_OK ? "other bytes" : status_name(s));
}

static void put_batch(struct work *w, uint64_t first, uint64_t end,
                      uint8_t *room)
{
    char partition[32], column[32];
    struct kv_key k = key_of(first, partition, column);
    struct kv_batch *b = kv_batch_new(k.partition);
    for (uint64_t i = first; i < end; i++) {
        (void)key_of(i, partition, column);
        value_of(w, i, room);
        (void)kv_batch_put(b, "r", column, slice_make(room, w->size));
    }
    enum status s;
    do { /* puts of the same bytes: again is no harm */
        s = kv_run(w->kv, b, TIMEOUT_MS, NULL);
    } while (s == ST_UNKNOWN_OUTCOME);
    for (uint64_t i = first; i < end; i++) {
        note(w, i, s, true);
    }
    kv_batch_free(b);
}

static void scan_batch(struct work *w, uint64_t first, uint64_t end,
                       uint8_t *room)
{
    char partition[32], column[32];
    struct arena a = {0};
    struct cell *cells = NULL;
    size_t count = 0;
    bool more = false;
    struct kv_scan scan = {.partition =
                               key_of(first, partition, column).partition};
    enum status s =
        kv_scan_page(w->kv, &scan, TIMEOUT_MS, &a, &cells, &count, &more);
    for (uint64_t i = first; i < end; i++) {
        bool there = s == ST_OK && i - first < count;
        value_of(w, i, room);
        note(w, i, s,
             there && slice_equal(cells[i - first].value,
                                  slice_make(room, w->size)));
    }
    arena_free(&a);
}

static void read_batch(struct work *w, uint64_t first, uint64_t end,
                       uint8_t *room)
{
    char partition[32], column[32];
    struct buf found = {0};
    for (uint64_t i = first; i < end; i++) {
        buf_clear(&found);
        enum status s =
            kv_get(w->kv, key_of(i, partition, column), TIMEOUT_MS, &found);
        value_of(w, i, room);
        note(w, i, s,
             slice_equal(buf_slice(&found), slice_make(room, w->size)));
    }
    buf_free(&found);
}

static void *run(void *arg)
{
    struct work *w = arg;
    uint8_t *room = xmalloc(w->size);
    for (;;) {
        uint64_t batch = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
        uint64_t first = w->first + batch * VALUES_A_BATCH;
        uint64_t end = first + VALUES_A_BATCH;
        end = end < w->end ? end : w->end;
        if (first >= w->end) {
            break;
        }
        if (w->put) {
            put_batch(w, first, end, room);
        } else if (batch % 8 == 0 && w->size < KIB(60)) {
            scan_batch(w, first, end, room);
        } else {
            read_batch(w, first, end, room);
        }
    }
    free(room);
    return NULL;
}

static bool open_kv(struct work *w, char **argv, struct log *log)
{
    const char *coordinators[] = {argv[2], NULL};
    struct kv_options o = {.coordinators = coordinators,
                           .key_file = argv[1],
                           .role = ROLE_CLIENT,
                           .name = "values",
                           .log = log};
    struct err err = {""};
    log_init_stderr(log, "cluster_values", "values");
    log_set_level(log, LOG_LEVEL_WARN);
    if (kv_open(&o, &w->kv, &err) != ST_OK) {
        fprintf(stderr, "values: %s\n", err.text);
        return false;
    }
    return kv_wait_ready(w->kv, TIMEOUT_MS) == ST_OK;
}

int main(int argc, char **argv)
{
    struct log log;
    struct work w = {.next = 0};
    pthread_t threads[THREADS];
    if (argc != 8) {
        fprintf(stderr, "usage: cluster_values KEYFILE COORDINATOR put|read "
                        "FIRST END SIZE VERSION\n");
        return 2;
    }
    w.put = strcmp(argv[3], "put") == 0;
    w.first = strtoull(argv[4], NULL, 10); /* of a batch */
    w.end = strtoull(argv[5], NULL, 10);
    w.size = strtoull(argv[6], NULL, 10);
    w.version = strtoull(argv[7], NULL, 10);
    if (w.first % VALUES_A_BATCH != 0 || w.end < w.first || w.size == 0 ||
        w.size > LIMIT_VALUE || !open_kv(&w, argv, &log)) {
        return 2;
    }
    for (unsigned i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, run, &w) != 0) {
            abort();
        }
    }
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    printf("{\"done\": %" PRIu64 ", \"wrong\": %" PRIu64
           ", \"failed\": %" PRIu64 "}\n",
           w.done, w.wrong, w.failed);
    kv_close(w.kv);
    return w.done == w.end - w.first && w.wrong + w.failed == 0 ? 0 : 1;
}
