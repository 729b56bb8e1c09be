/*
 * What the tree costs: nanoseconds a put, get, step, removal, of cells in
 * random and in key order, and bytes of memory beyond keys and values,
 * measured as the process's resident set. Each case runs in a process of its
 * own, so that none inherits another's heap.
 *
 * bench_tree [largest number of cells]
 */
#include "storage/tree.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEY 16

enum order { RANDOM, SEQUENTIAL, APPEND };

static const char *const order_name[] = {"random", "sequential", "append"};

struct bench {
    enum order order;
    uint32_t cells;
    uint32_t value;
    struct tree *tree;
    uint8_t bytes[4096];
    uint64_t sum; /* of what was read, so that reading happens */
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t resident(void)
{
    unsigned long all = 0, rss = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%lu %lu", &all, &rss) != 2) {
        perror("/proc/self/statm");
        exit(1);
    }
    fclose(f);
    return (uint64_t)rss * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t mix(uint64_t v)
{
    v += 0x9e3779b97f4a7c15u;
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
    v = (v ^ v >> 27) * 0x94d049bb133111ebu;
    return v ^ v >> 31;
}

/* The key of number I. */
static struct slice key_of(const struct bench *b, uint64_t i, uint8_t out[KEY])
{
    uint64_t first = b->order == RANDOM ? mix(i) : 0, second = i;
    for (int k = 0; k < 8; k++) {
        out[k] = (uint8_t)(first >> (56 - 8 * k));
        out[8 + k] = (uint8_t)(second >> (56 - 8 * k));
    }
    return slice_make(out, KEY);
}

static struct tree_value value_of(struct bench *b, uint32_t len, uint64_t i)
{
    struct tree_value v = {.bytes = slice_make(b->bytes, len)};
    memcpy(b->bytes, &i, sizeof(i));
    return v;
}

static void load(struct bench *b)
{
    uint8_t key[KEY];
    for (uint32_t i = 0; i < b->cells; i++) {
        struct tree_value v = value_of(b, b->value, i);
        struct slice k = key_of(b, i, key);
        if (b->order != APPEND) {
            tree_put(b->tree, k, &v);
        } else if (!tree_append(b->tree, k, &v)) {
            abort();
        }
    }
}

/* A number that was loaded, all in turn, in no order. */
static uint64_t some(const struct bench *b, uint32_t i)
{
    return b->order == RANDOM ? (i * UINT64_C(7919)) % b->cells : i;
}

static void get(struct bench *b)
{
    uint8_t key[KEY];
    struct tree_value v;
    for (uint32_t i = 0; i < b->cells; i++) {
        if (!tree_get(b->tree, key_of(b, some(b, i), key), &v)) {
            abort();
        }
        b->sum += v.bytes.data[0];
    }
}

static void replace(struct bench *b, uint32_t len)
{
    uint8_t key[KEY];
    for (uint32_t i = 0; i < b->cells; i++) {
        struct tree_value v = value_of(b, len, i + 1);
        tree_put(b->tree, key_of(b, some(b, i), key), &v);
    }
}

static void replace_same(struct bench *b)
{
    replace(b, b->value);
}

static void replace_other(struct bench *b)
{
    replace(b, b->value + 8);
}

static void scan(struct bench *b)
{
    struct tree_iter it;
    for (tree_first(b->tree, &it); tree_valid(&it); tree_next(&it)) {
        b->sum += tree_iter_value(&it).bytes.data[0] + tree_iter_key(&it).len;
    }
}

static void scan_back(struct bench *b)
{
    struct tree_iter it;
    for (tree_last(b->tree, &it); tree_valid(&it); tree_prev(&it)) {
        b->sum += tree_iter_value(&it).bytes.data[0] + tree_iter_key(&it).len;
    }
}

/* Puts that meet a clone: each path is copied once. */
static void replace_cloned(struct bench *b)
{
    struct tree *c = tree_clone(b->tree);
    replace(b, b->value + 8);
    tree_free(c);
}

static void take_out(struct bench *b)
{
    uint8_t key[KEY];
    for (uint32_t i = 0; i < b->cells; i++) {
        if (!tree_remove(b->tree, key_of(b, some(b, i), key))) {
            abort();
        }
    }
}

/* Small numbers of cells are gone through often. */
static void timed(struct bench *b, const char *what, void (*fn)(struct bench *),
                  bool again)
{
    uint32_t times = again ? 1000000 / b->cells : 1;
    uint64_t from = now_ns();
    for (uint32_t i = 0; i < times; i++) {
        fn(b);
    }
    double ns = (double)(now_ns() - from) / times / b->cells;
    printf("  %s %.0f", what, ns);
}

static void run(struct bench *b)
{
    b->tree = tree_new();
    uint64_t before = resident();
    uint64_t payload = (uint64_t)b->cells * (KEY + b->value);
    printf("%8" PRIu32 " of %d+%-3" PRIu32 " %-10s ns:", b->cells, KEY,
           b->value, order_name[b->order]);
    timed(b, "put", load, false);
    uint64_t after = resident();
    double all = (double)tree_memory(b->tree);
    timed(b, "get", get, true);
    timed(b, "next", scan, true);
    timed(b, "prev", scan_back, true);
    timed(b, "replace", replace_same, true);
    timed(b, "resize", replace_other, false);
    timed(b, "cloned", replace_cloned, false);
    timed(b, "remove", take_out, false);
    printf("; overhead B/cell: account %.1f",
           (all - (double)payload) / b->cells);
    if (b->cells >= 100000) {
        printf(" RSS %.1f",
               ((double)(after - before) - (double)payload) / b->cells);
    }
    printf("%s\n", b->sum == 1 ? "." : "");
    tree_free(b->tree);
}

int main(int argc, char **argv)
{
    uint32_t most = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
    static const uint32_t values[] = {256, 32};
    for (uint32_t cells = 10000; cells <= most; cells *= 10) {
        for (unsigned i = 0; i < 6; i++) {
            fflush(stdout);
            pid_t child = fork();
            if (child == 0) {
                struct bench b = {.order = (enum order)(i % 3),
                                  .cells = cells,
                                  .value = values[i / 3]};
                run(&b);
                fflush(stdout);
                _exit(0);
            }
            int status = 0;
            if (child < 0 || waitpid(child, &status, 0) != child ||
                status != 0) {
                fprintf(stderr, "bench_tree: a case failed\n");
                return 1;
            }
        }
    }
    return 0;
}
