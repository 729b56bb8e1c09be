/*
 * bench_fill: writes many cells to our own store, as fast as batches go, for
 * what is measured of a store that has them.
 *
 *   bench_fill KEYFILE COORDINATOR CELLS [VALUE_SIZE]
 *
 * A cell's key has 16 bytes: partition "p:0042", row "cell:0123", column "v";
 * 250 cells a partition, so that they spread over all tablets.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kv/kv.h"

#define THREADS 8
#define BATCH 250u
#define TIMEOUT_MS 60000

struct fill {
    struct kv *kv;
    uint32_t cells, value_size;
    _Atomic uint32_t next; /* partition */
    _Atomic bool failed;
};

static enum status write_partition(struct fill *f, uint32_t partition,
                                   struct slice value)
{
    char name[24], row[24];
    (void)snprintf(name, sizeof(name), "p:%04u", (unsigned)partition);
    struct kv_batch *b = kv_batch_new(slice_of(name));
    for (uint32_t i = 0; i < BATCH; i++) {
        if (partition * BATCH + i < f->cells) {
            (void)snprintf(row, sizeof(row), "cell:%04u", (unsigned)i);
            (void)kv_batch_put(b, row, "v", value);
        }
    }
    enum status s = kv_run(f->kv, b, TIMEOUT_MS, NULL);
    kv_batch_free(b);
    return s;
}

static void *work(void *arg)
{
    struct fill *f = arg;
    uint32_t partitions = (f->cells + BATCH - 1) / BATCH, p;
    uint8_t *bytes = xmalloc(f->value_size);
    memset(bytes, 'x', f->value_size);
    while (!f->failed && (p = f->next++) < partitions) {
        enum status s = write_partition(f, p, slice_make(bytes, f->value_size));
        if (s != ST_OK) {
            (void)fprintf(stderr, "bench_fill: %s\n", status_text(s));
            f->failed = true;
        }
    }
    free(bytes);
    return NULL;
}

static bool open_kv(struct fill *f, char **argv, struct log *log)
{
    const char *coordinators[] = {argv[2], NULL};
    struct kv_options o = {.coordinators = coordinators,
                           .key_file = argv[1],
                           .role = ROLE_CLIENT,
                           .name = "fill",
                           .log = log};
    struct err err = {""};
    log_init_stderr(log, "bench_fill", "fill");
    log_set_level(log, LOG_LEVEL_WARN);
    if (kv_open(&o, &f->kv, &err) != ST_OK) {
        (void)fprintf(stderr, "bench_fill: %s\n", err.text);
        return false;
    }
    return kv_wait_ready(f->kv, TIMEOUT_MS) == ST_OK;
}

int main(int argc, char **argv)
{
    static struct fill f;
    struct log log;
    pthread_t threads[THREADS];
    if (argc < 4) {
        (void)fprintf(stderr, "usage: bench_fill KEYFILE COORDINATOR CELLS "
                              "[VALUE_SIZE]\n");
        return 2;
    }
    f.cells = (uint32_t)strtoul(argv[3], NULL, 10);
    f.value_size = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 256;
    if (!open_kv(&f, argv, &log)) {
        return 1;
    }
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, work, &f) != 0) {
            return 1;
        }
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    kv_close(f.kv);
    return f.failed ? 1 : 0;
}
