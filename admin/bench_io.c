/*
 * The running of a load: one loop with one core of the store's client, and on
 * it N clients. Each has one request in flight, and starts its next when that
 * is answered; latency is from start to answer, queueing and retries in it.
 *
 * The course: wait for the map; write the keys that get and cput need; run;
 * when the time is over no client starts another, and the last answers are
 * waited for but not counted. A key's partition is its own, so that keys
 * spread over all tablets. A cput has one key a client: it expects what the
 * client itself put there last.
 */
#include "admin/bench.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <uv.h>

#include "common/env_uv_io.h"
#include "kv/core.h"

enum phase { PHASE_CONNECT, PHASE_PREPARE, PHASE_RUN, PHASE_END };

struct bench;

struct bench_client {
    struct bench *b;
    struct kv_op op;
    struct command command;
    struct condition condition;
    struct mutation mutation;
    char partition[32];
    uint8_t *values[2]; /* put now and put last, by turns */
    unsigned turn;
    bool certain; /* the last value is surely there */
    uint64_t count;
    int64_t started_us;
};

struct bench {
    const struct bench_options *o;
    struct bench_result *r;
    uv_loop_t loop;
    struct env *env;
    struct kv_core *core;
    struct hello_self self;
    struct env_timer timer;
    enum phase phase;
    struct bench_client *clients;
    uint32_t busy;     /* clients with a request in flight */
    uint32_t prepared; /* keys begun in PHASE_PREPARE */
    uint64_t random;
    int64_t began_us;
    enum status status;
    struct err *err;
};

static void next(struct bench_client *k);
static void begin(struct bench *b, enum phase phase);

static uint64_t draw(struct bench *b)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return b->random;
}

/* ---- one request ---- */

static uint32_t keys_to_prepare(const struct bench *b)
{
    switch (b->o->op) {
    case BENCH_PUT:
        return 0;
    case BENCH_GET:
        return b->o->prepared ? 0 : b->o->keys;
    case BENCH_CPUT:
        return b->o->clients;
    }
    return 0;
}

static void fill_get(struct bench_client *k)
{
    k->op.kind = KV_OP_GET;
    k->op.bulk = k->b->o->value_size > KIB(16);
    k->op.in.get.partition = slice_of(k->partition);
    k->op.in.get.row = slice_of("bench");
    k->op.in.get.column = slice_of("value");
}

/* A value that differs from the client's last one in its first bytes. */
static struct slice new_value(struct bench_client *k)
{
    uint32_t size = k->b->o->value_size;
    char head[24];
    k->turn ^= 1;
    (void)snprintf(head, sizeof(head), "%" PRIu64 " ", ++k->count);
    size_t n = strlen(head) < size ? strlen(head) : size;
    memcpy(k->values[k->turn], head, n);
    return slice_make(k->values[k->turn], size);
}

static void fill_command(struct bench_client *k, bool conditional)
{
    struct slice last = slice_make(k->values[k->turn], k->b->o->value_size);
    k->mutation = (struct mutation){
        .kind = MUTATION_PUT,
        .row = slice_of("bench"),
        .column = slice_of("value"),
        .value = new_value(k),
    };
    k->condition = (struct condition){
        .kind = CONDITION_EQUALS,
        .row = slice_of("bench"),
        .column = slice_of("value"),
        .value = last,
    };
    k->command = (struct command){
        .kind = COMMAND_BATCH,
        .partition = slice_of(k->partition),
        .conditions = &k->condition,
        .conditions_count = conditional ? 1 : 0,
        .mutations = &k->mutation,
        .mutations_count = 1,
    };
    k->op.kind = KV_OP_COMMAND;
    k->op.give_up = true;
    k->op.in.command = &k->command;
}

static void choose_key(struct bench_client *k)
{
    struct bench *b = k->b;
    bool own = b->o->op == BENCH_CPUT;
    uint64_t key = own                         ? (uint64_t)(k - b->clients)
                   : b->phase == PHASE_PREPARE ? b->prepared
                                               : draw(b) % b->o->keys;
    (void)snprintf(k->partition, sizeof(k->partition), "bench:%s%" PRIu64,
                   own ? "c" : "", key);
}

/* ---- answers ---- */

static void fail(struct bench *b, enum status s, const char *what)
{
    if (b->status == ST_OK) {
        b->status = err_set(b->err, s, "%s: %s", what, status_text(s));
    }
    b->phase = PHASE_END;
}

static void count_answer(struct bench_client *k)
{
    struct bench *b = k->b;
    struct bench_result *r = b->r;
    int64_t took = env_now_us(b->env) - k->started_us;
    if (k->op.status == ST_OK) {
        r->operations++;
        histogram_add(&r->latency_us, (uint64_t)took);
    } else if (k->op.status == ST_UNKNOWN_OUTCOME) {
        r->unknown++;
    } else {
        r->refused++;
    }
}

static void on_done(struct kv_op *op)
{
    struct bench_client *k = op->data;
    struct bench *b = k->b;
    b->busy--;
    k->certain = op->status == ST_OK;
    if (b->phase == PHASE_PREPARE && op->status != ST_OK) {
        fail(b, op->status, "writing the keys");
    }
    if (b->phase == PHASE_RUN) {
        count_answer(k);
    }
    next(k);
}

/* ---- phases ---- */

static void on_env_closed(void *ctx)
{
    struct bench *b = ctx;
    uv_stop(&b->loop);
}

static void close_all(struct bench *b)
{
    struct env_uv_stats net;
    env_uv_get_stats(b->env, &net);
    b->r->sealing_seconds = (double)net.sealing_us / 1e6;
    kv_core_get_stats(b->core, &b->r->stats);
    kv_core_free(b->core);
    b->core = NULL;
    env_timer_stop(b->env, &b->timer);
    env_uv_close(b->env, on_env_closed, b);
}

static void next(struct bench_client *k)
{
    struct bench *b = k->b;
    bool prepare = b->phase == PHASE_PREPARE;
    if (b->phase == PHASE_END ||
        (prepare && b->prepared == keys_to_prepare(b))) {
        if (b->busy == 0 && prepare) {
            begin(b, PHASE_RUN);
        } else if (b->busy == 0 && b->core != NULL) {
            /* From the loop, not from within the core. */
            env_timer_start(b->env, &b->timer, 0);
        }
        return;
    }
    choose_key(k);
    b->prepared += prepare ? 1 : 0;
    memset(&k->op, 0, sizeof(k->op));
    if (!prepare && b->o->op == BENCH_GET) {
        fill_get(k);
    } else {
        fill_command(k, k->certain && b->o->op == BENCH_CPUT);
    }
    k->op.timeout_us = (int64_t)b->o->timeout_ms * 1000;
    k->op.done = on_done;
    k->op.data = k;
    k->started_us = env_now_us(b->env);
    b->busy++;
    kv_core_start(b->core, &k->op);
}

static void begin(struct bench *b, enum phase phase)
{
    b->phase = phase;
    if (phase == PHASE_RUN) {
        b->began_us = env_now_us(b->env);
        env_timer_start(b->env, &b->timer, b->o->seconds * 1000000ll);
    }
    for (uint32_t i = 0; i < b->o->clients && b->phase == phase; i++) {
        next(&b->clients[i]);
    }
}

static void on_timer(struct env_timer *t)
{
    struct bench *b = t->data;
    switch (b->phase) {
    case PHASE_CONNECT:
        fail(b, ST_UNREACHABLE, "no coordinator answers");
        close_all(b);
        break;
    case PHASE_RUN:
        b->r->seconds = (double)(env_now_us(b->env) - b->began_us) / 1e6;
        b->phase = PHASE_END;
        break;
    case PHASE_PREPARE:
    case PHASE_END:
        close_all(b);
        break;
    }
}

static void on_map(void *ctx)
{
    struct bench *b = ctx;
    b->self.cluster = kv_core_map(b->core)->cluster;
    if (b->phase == PHASE_CONNECT) {
        env_timer_stop(b->env, &b->timer);
        begin(b, keys_to_prepare(b) > 0 ? PHASE_PREPARE : PHASE_RUN);
    }
}

/* ---- the whole ---- */

static enum status open_env(struct bench *b, const struct config *c,
                            struct log *log)
{
    struct cluster_key key;
    enum status s = key_load(c->cluster.key_file, &key, b->err);
    if (s != ST_OK) {
        return s;
    }
    b->self = (struct hello_self){.role = ROLE_CLIENT, .name = "pennctl"};
    struct env_uv_options e = {
        .loop = &b->loop,
        .log = log,
        .key = &key,
        .self = &b->self,
    };
    s = env_uv_open(&e, &b->env, b->err);
    key_wipe(&key);
    return s;
}

static void make_clients(struct bench *b)
{
    b->clients = xcalloc(b->o->clients, sizeof(*b->clients));
    for (uint32_t i = 0; i < b->o->clients; i++) {
        struct bench_client *k = &b->clients[i];
        k->b = b;
        for (int j = 0; j < 2; j++) {
            k->values[j] = xmalloc(b->o->value_size);
            memset(k->values[j], 'x', b->o->value_size);
        }
    }
}

static void free_clients(struct bench *b)
{
    for (uint32_t i = 0; i < b->o->clients; i++) {
        free(b->clients[i].values[0]);
        free(b->clients[i].values[1]);
    }
    free(b->clients);
}

static void run_loop(struct bench *b, const struct config *c)
{
    struct kv_core_options o = {
        .coordinators = (const char *const *)c->cluster.coordinators.items,
    };
    env_random(b->env, &b->random, sizeof(b->random));
    b->random |= 1;
    b->timer.fn = on_timer;
    b->timer.data = b;
    b->core = kv_core_new(b->env, &o);
    kv_core_on_map(b->core, on_map, b);
    env_timer_start(b->env, &b->timer, b->o->timeout_ms * 1000ll);
    uv_run(&b->loop, UV_RUN_DEFAULT);
}

enum status bench_run(const struct bench_options *o, const struct config *c,
                      struct log *log, struct bench_result *out,
                      struct err *err)
{
    struct bench b = {.o = o, .r = out, .err = err};
    /* Frames of large values come and go: getting their memory anew from the
     * system each time would be half of what the load costs. */
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
    if (o->disk != NULL) {
        enum status s = bench_disk(o->disk, o->value_size, &out->sync_us,
                                   &out->disk_seconds, err);
        if (s != ST_OK) {
            return s;
        }
    }
    if (c->cluster.coordinators.count == 0) {
        return err_set(err, ST_CONFIG, "no coordinator's address is given");
    }
    if (uv_loop_init(&b.loop) != 0) {
        return err_set(err, ST_NO_MEMORY, "cannot make an event loop");
    }
    b.status = open_env(&b, c, log);
    if (b.status == ST_OK) {
        make_clients(&b);
        run_loop(&b, c);
        free_clients(&b);
    }
    /* What env_uv_close() left to be closed. */
    uv_run(&b.loop, UV_RUN_DEFAULT);
    int error = uv_loop_close(&b.loop);
    assert(error == 0);
    return b.status;
}

/* ---- the disk alone ---- */

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Writes one block after the other over a file of 8 MiB, and syncs each. */
static bool sync_blocks(int fd, uint32_t size, struct histogram *out,
                        double *seconds)
{
    uint8_t *block = xmalloc(size);
    memset(block, 'x', size);
    bool good = posix_fallocate(fd, 0, MIB(8)) == 0 && fsync(fd) == 0;
    int64_t began = now_us(), at = began;
    off_t offset = 0;
    while (good && at - began < 1000000) {
        good = pwrite(fd, block, size, offset) == (ssize_t)size &&
               fdatasync(fd) == 0;
        int64_t now = now_us();
        histogram_add(out, (uint64_t)(now - at));
        at = now;
        offset = (offset + size) % (off_t)MIB(4);
    }
    *seconds = (double)(at - began) / 1e6;
    free(block);
    return good;
}

enum status bench_disk(const char *dir, uint32_t size, struct histogram *out,
                       double *seconds, struct err *err)
{
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/pennctl-bench.XXXXXX", dir);
    if (n < 0 || (size_t)n >= sizeof(path)) {
        return err_set(err, ST_INVALID, "%s: too long a name", dir);
    }
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        return err_set(err, status_from_errno(errno), "%s: %s", path,
                       strerror(errno));
    }
    (void)unlink(path);
    bool good = sync_blocks(fd, size, out, seconds);
    int error = errno;
    (void)close(fd);
    if (!good) {
        return err_set(err, ST_IO, "%s: %s", dir, strerror(error));
    }
    return ST_OK;
}
