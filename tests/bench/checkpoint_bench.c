/*
 * What a tablet's state costs at rest, and how long its checkpoint takes to be
 * written and loaded: cells of 16 + 256 bytes, all in one partition or each in
 * one of its own; and what applying an entry costs that puts one. Values above
 * LIMIT_VALUE_INLINE have places, in a log that there is none of. Each case is
 * a process of its own, so that its memory is the state's alone.
 *
 * bench_checkpoint FOLDER [cells [length of values]]
 */
#include "common/env_uv_io.h"
#include "storage/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEY 16 /* bytes of partition, row and column together */
#define CLIENTS 100

struct bench {
    const char *folder;
    uint32_t cells, value;
    bool apart; /* each cell in a partition of its own */
    uv_loop_t loop;
    struct env *env;
    struct state *state;
};

static struct log quiet = {
    .daemon = "bench", .node = "bench", .level = LOG_LEVEL_WARN, .fd = 2};

static void fail(const char *what)
{
    fprintf(stderr, "bench_checkpoint: %s\n", what);
    exit(1);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct clock {
    double wall, cpu;
};

static struct clock clock_now(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (struct clock){
        now_s(), (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
                     (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6};
}

static void told(const char *what, struct clock from)
{
    struct clock now = clock_now();
    printf("  %s in %.3f s, %.3f s of the processor's\n", what,
           now.wall - from.wall, now.cpu - from.cpu);
}

static double resident(void)
{
    unsigned long all = 0, rss = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%lu %lu", &all, &rss) != 2) {
        fail("/proc/self/statm cannot be read");
    }
    fclose(f);
    return (double)rss * (double)sysconf(_SC_PAGESIZE);
}

/* ---- the cells ---- */

struct one {
    uint64_t hash;
    uint32_t number;
};

static int by_hash(const void *a, const void *b)
{
    const struct one *x = a, *y = b;
    return (x->hash > y->hash) - (x->hash < y->hash);
}

static void text_of(uint32_t number, char text[KEY + 1])
{
    snprintf(text, KEY + 1, "%0*" PRIu32, KEY, number);
}

/* In the tree's order. */
static struct one *numbers(const struct bench *b)
{
    struct one *all = xcalloc(b->cells, sizeof(*all));
    char text[KEY + 1];
    for (uint32_t i = 0; i < b->cells; i++) {
        text_of(i, text);
        all[i].number = i;
        all[i].hash = b->apart ? partition_hash(slice_make(text, KEY)) : i;
    }
    qsort(all, b->cells, sizeof(*all), by_hash);
    return all;
}

static struct cell cell_of(const struct bench *b, const char *text,
                           const uint8_t *value)
{
    struct cell c = {.value = slice_make(value, b->value)};
    c.partition = slice_make(text, b->apart ? KEY : 1);
    c.row = slice_make(text + c.partition.len, KEY - c.partition.len);
    return c;
}

static void introduce_clients(struct state *s)
{
    for (uint32_t i = 1; i <= CLIENTS; i++) {
        struct command c = {.kind = COMMAND_INTRODUCE};
        struct applied out;
        struct buf b = {0};
        memcpy(c.client.b, &i, sizeof(i));
        wire_encode_command(&b, &c);
        state_apply(s, (struct name){1, i}, buf_slice(&b), 0, &out);
        buf_free(&b);
    }
}

/* Where the log could have value NUMBER. */
static struct place place_of(const struct bench *b, uint32_t number)
{
    struct place p = {.tag = VALUE_INLINE};
    if (b->value > LIMIT_VALUE_INLINE) {
        p.tag = VALUE_LOG;
        p.position = (uint64_t)(number + 1) * (b->value + 256);
        p.len = b->value;
        p.digest.b[0] = (uint8_t)number;
    }
    return p;
}

static void fill(struct bench *b)
{
    struct one *all = numbers(b);
    uint8_t *value = xcalloc(1, b->value);
    char text[KEY + 1];
    b->state = state_new();
    struct clock from = clock_now();
    for (uint32_t i = 0; i < b->cells; i++) {
        text_of(all[i].number, text);
        memcpy(value, text, b->value < KEY ? b->value : KEY);
        struct cell c = cell_of(b, text, value);
        struct place p = place_of(b, i);
        if (state_load_cell(b->state, &c, &p) != ST_OK) {
            fail("a cell was refused");
        }
    }
    told("filled", from);
    introduce_clients(b->state);
    free(value);
    free(all);
}

/* ---- the file ---- */

static const struct checkpoint_ids ids = {{{1}}, {{2}}, 3, 7};

static void open_env(struct bench *b)
{
    struct err err = {""};
    struct env_uv_options o = {
        .loop = &b->loop, .log = &quiet, .data_dir = b->folder};
    if (uv_loop_init(&b->loop) != 0 ||
        env_uv_open(&o, &b->env, &err) != ST_OK) {
        fail(err.text);
    }
}

static void on_written(void *ctx, enum status s, const char *file)
{
    bool *done = ctx;
    *done = true;
    if (s != ST_OK) {
        fail(status_text(s));
    }
}

static void write_it(struct bench *b)
{
    bool done = false;
    struct checkpoint_job j = {.env = b->env,
                               .folder = "",
                               .ids = ids,
                               .config = slice_of(""),
                               .done = on_written,
                               .ctx = &done};
    fill(b);
    struct clock from = clock_now();
    (void)checkpoint_write_take(&j, state_snapshot(b->state));
    while (!done) {
        uv_run(&b->loop, UV_RUN_ONCE);
    }
    told("written", from);
}

static void tell_memory(const struct bench *b, double before)
{
    struct state_counts n;
    state_count(b->state, &n);
    double payload = (double)n.cells * (KEY + b->value);
    printf("  overhead, bytes a cell: RSS %.1f, account %.1f, of it clients "
           "%.2f\n",
           (resident() - before - payload) / (double)n.cells,
           ((double)n.memory - payload) / (double)n.cells,
           (double)n.clients_memory / (double)n.cells);
}

/* An entry a cell, in no order. */
static void apply_it(struct bench *b)
{
    uint8_t *value = xcalloc(1, b->value);
    char text[KEY + 1];
    struct buf p = {0};
    double before = resident();
    b->state = state_new();
    introduce_clients(b->state);
    struct clock from = clock_now();
    for (uint32_t i = 0; i < b->cells; i++) {
        text_of((uint32_t)(i * UINT64_C(7919) % b->cells), text);
        struct cell k = cell_of(b, text, value);
        struct mutation m = {
            .kind = MUTATION_PUT, .row = k.row, .value = k.value};
        struct command c = {.kind = COMMAND_BATCH,
                            .client = {{1}},
                            .session = 1,
                            .number = i + 1,
                            .oldest_open = i + 1,
                            .partition = k.partition,
                            .mutations = &m,
                            .mutations_count = 1};
        struct applied out;
        buf_clear(&p);
        wire_encode_command(&p, &c);
        state_apply(b->state, (struct name){1, CLIENTS + 1 + i}, buf_slice(&p),
                    (i + 1) * (uint64_t)(b->value + 512), &out);
        if (out.r.status != ST_OK) {
            fail("an entry failed");
        }
    }
    told("applied", from);
    tell_memory(b, before);
    buf_free(&p);
    free(value);
}

static void load_it(struct bench *b)
{
    struct buf config = {0};
    struct checkpoint_info info;
    struct err err = {""};
    double before = resident();
    struct clock from = clock_now();
    if (checkpoint_load(b->env, "", &ids, &b->state, &config, &info, &err) !=
        ST_OK) {
        fail(err.text);
    }
    told("loaded", from);
    tell_memory(b, before);
}

static void in_process(struct bench *b, void (*fn)(struct bench *))
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        open_env(b);
        fn(b);
        fflush(stdout);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        fail("a case failed");
    }
}

int main(int argc, char **argv)
{
    struct bench b = {.cells = 1000000, .value = 256};
    if (argc < 2) {
        fail("usage: bench_checkpoint FOLDER [cells [length of values]]");
    }
    b.folder = argv[1];
    b.cells = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : b.cells;
    b.value = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : b.value;
    for (int apart = 0; apart < 2; apart++) {
        b.apart = apart == 1;
        printf("%" PRIu32 " cells of %d+%" PRIu32 ", %s\n", b.cells, KEY,
               b.value, b.apart ? "partitions of one" : "one partition");
        in_process(&b, write_it);
        in_process(&b, load_it);
        in_process(&b, apply_it);
    }
    return 0;
}
