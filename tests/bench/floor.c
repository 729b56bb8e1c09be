/*
 * bench_floor: the disk's own limit, for a store that has each record on
 * three files before it answers.
 *
 *   bench_floor DIR [--clients N] [--value-size N] [--files N] [--seconds N]
 *
 * A group is the records of N clients. Each file has a thread, which appends
 * the group with one write and one fdatasync; the next group begins when all
 * threads are done (lock step). There is no network, no protocol, no memory
 * of what was written: no store with one log a node can be faster on this
 * disk with that many clients. The files are written once before, and over
 * and over then, so that the file system has no blocks to find.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "admin/histogram.h"

#define FILES_MAX 16
#define FILE_LEAST (8 << 20)
#define GROUPS_LEAST 2 /* in a file */
#define PIECE (1u << 20)

struct floor {
    const char *dir;
    uint32_t clients, value_size, files, seconds;
    size_t group; /* bytes */
    off_t file_size;
    uint8_t *data;
    pthread_barrier_t barrier;
    bool over; /* written by the first file's thread, between barriers */
    double took;
    uint64_t groups;
    struct histogram latency_us;
};

struct worker {
    struct floor *f;
    uint32_t index;
    int fd;
    pthread_t thread;
};

static int64_t now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void give_up(const char *what)
{
    (void)fprintf(stderr, "bench_floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void write_all(int fd, const uint8_t *data, size_t len, off_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, at);
        if (n <= 0) {
            give_up("pwrite");
        }
        data += n;
        len -= (size_t)n;
        at += n;
    }
}

/* An unlinked file, all of whose blocks are written. */
static int make_file(const struct floor *f)
{
    char path[4096];
    uint8_t *piece = calloc(1, PIECE);
    int n = snprintf(path, sizeof(path), "%s/floor.XXXXXX", f->dir);
    if (piece == NULL || n < 0 || (size_t)n >= sizeof(path)) {
        give_up("name");
    }
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        give_up(path);
    }
    (void)unlink(path);
    for (off_t at = 0; at < f->file_size; at += PIECE) {
        write_all(fd, piece, PIECE, at);
    }
    if (fsync(fd) != 0) {
        give_up("fsync");
    }
    free(piece);
    return fd;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct floor *f = w->f;
    int64_t began = now_us(), last = began;
    off_t at = 0;
    (void)pthread_barrier_wait(&f->barrier);
    while (!f->over) {
        write_all(w->fd, f->data, f->group, at);
        if (fdatasync(w->fd) != 0) {
            give_up("fdatasync");
        }
        at += (off_t)f->group;
        at = at + (off_t)f->group > f->file_size ? 0 : at;
        (void)pthread_barrier_wait(&f->barrier);
        if (w->index == 0) {
            int64_t now = now_us();
            histogram_add(&f->latency_us, (uint64_t)(now - last));
            last = now;
            f->groups++;
            f->took = (double)(now - began) / 1e6;
            f->over = now - began >= f->seconds * 1000000ll;
        }
        (void)pthread_barrier_wait(&f->barrier);
    }
    return NULL;
}

static void run(struct floor *f)
{
    struct worker workers[FILES_MAX];
    f->group = (size_t)f->clients * f->value_size;
    f->file_size = (off_t)f->group * GROUPS_LEAST;
    f->file_size = f->file_size < FILE_LEAST ? FILE_LEAST : f->file_size;
    f->data = malloc(f->group);
    if (f->data == NULL) {
        give_up("group");
    }
    memset(f->data, 'x', f->group);
    for (uint32_t i = 0; i < f->files; i++) {
        workers[i] = (struct worker){.f = f, .index = i, .fd = make_file(f)};
    }
    if (pthread_barrier_init(&f->barrier, NULL, f->files) != 0) {
        give_up("barrier");
    }
    for (uint32_t i = 0; i < f->files; i++) {
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) {
            give_up("thread");
        }
    }
    for (uint32_t i = 0; i < f->files; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        (void)close(workers[i].fd);
    }
    (void)pthread_barrier_destroy(&f->barrier);
    free(f->data);
}

static bool parse(struct floor *f, int argc, char **argv)
{
    if (argc < 2 || argc % 2 != 0) {
        return false;
    }
    f->dir = argv[1];
    for (int i = 2; i < argc; i += 2) {
        uint32_t v = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--clients") == 0) {
            f->clients = v;
        } else if (strcmp(argv[i], "--value-size") == 0) {
            f->value_size = v;
        } else if (strcmp(argv[i], "--files") == 0) {
            f->files = v;
        } else if (strcmp(argv[i], "--seconds") == 0) {
            f->seconds = v;
        } else {
            return false;
        }
    }
    return f->clients > 0 && f->value_size > 0 && f->files > 0 &&
           f->files <= FILES_MAX;
}

int main(int argc, char **argv)
{
    static struct floor f = {
        .clients = 1, .value_size = 256, .files = 3, .seconds = 1};
    if (!parse(&f, argc, argv)) {
        (void)fprintf(stderr,
                      "usage: bench_floor DIR [--clients N] [--value-size N] "
                      "[--files N] [--seconds N]\n");
        return 2;
    }
    run(&f);
    uint64_t records = f.groups * f.clients;
    (void)printf("{\"seconds\": %.6f, \"operations\": %llu, "
                 "\"operations_per_s\": %.1f, \"groups\": %llu, "
                 "\"latency_ms\": {\"p50\": %.3f, \"p99\": %.3f, "
                 "\"p999\": %.3f, \"max\": %.3f}}\n",
                 f.took, (unsigned long long)records, (double)records / f.took,
                 (unsigned long long)f.groups,
                 (double)histogram_quantile(&f.latency_us, 0.5) / 1e3,
                 (double)histogram_quantile(&f.latency_us, 0.99) / 1e3,
                 (double)histogram_quantile(&f.latency_us, 0.999) / 1e3,
                 (double)f.latency_us.max / 1e3);
    return 0;
}
