/*
 * The blocking shell of the client: a thread with a libuv loop, on which the
 * core and its env live. A caller puts an order on its own stack into the
 * queue, wakes the loop and waits; the loop's thread starts the operation,
 * copies its answer to where the caller wants it and signals. The deadline is
 * the core's, so that a caller never leaves an operation behind.
 *
 *   lock guards queue, closing, and the copy of the map; the loop's thread
 *   alone touches loop, env and core. An order's fields belong to the caller
 *   before it is queued and after it is done, else to the loop's thread.
 */
#include "kv/kv_io.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <uv.h>

#include "common/env_uv_io.h"

enum order_kind { ORDER_OP, ORDER_ABANDON, ORDER_STATS };

struct order {
    struct order *next;
    enum order_kind kind;
    struct kv_op *op;
    kv_take_fn *take;
    void *ctx;
    struct kv_pending pending;
    struct kv_stats *stats;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

struct kv {
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t wake;
    struct env *env;
    struct kv_core *core;
    struct hello_self self;
    char name[LIMIT_NAME + 1];

    pthread_mutex_t lock;
    pthread_cond_t ready; /* a first map came */
    struct order *head, **tail;
    bool closing;
    struct arena map_arena;
    struct msg_map *map;
};

/* ---- the loop's thread ---- */

static void finish_order(struct order *o)
{
    pthread_mutex_lock(&o->lock);
    o->done = true;
    pthread_cond_signal(&o->cond);
    pthread_mutex_unlock(&o->lock);
}

static void on_done(struct kv_op *op)
{
    struct order *o = op->data;
    if (o->take != NULL) {
        o->take(op, o->ctx);
    }
    op->answer = NULL;
    finish_order(o);
}

static void start_order(struct kv *kv, struct order *o)
{
    switch (o->kind) {
    case ORDER_OP:
        o->op->done = on_done;
        o->op->data = o;
        kv_core_start(kv->core, o->op);
        break;
    case ORDER_ABANDON:
        kv_core_abandon(kv->core, &o->pending);
        finish_order(o);
        break;
    case ORDER_STATS:
        kv_core_get_stats(kv->core, o->stats);
        finish_order(o);
        break;
    }
}

static void on_env_closed(void *ctx)
{
    struct kv *kv = ctx;
    uv_close((uv_handle_t *)&kv->wake, NULL);
}

static void on_wake(uv_async_t *wake)
{
    struct kv *kv = wake->data;
    pthread_mutex_lock(&kv->lock);
    struct order *o = kv->head;
    kv->head = NULL;
    kv->tail = &kv->head;
    bool closing = kv->closing;
    pthread_mutex_unlock(&kv->lock);
    while (o != NULL) {
        /* A finished order is its caller's again. */
        struct order *next = o->next;
        start_order(kv, o);
        o = next;
    }
    if (closing && kv->core != NULL) {
        kv_core_free(kv->core);
        kv->core = NULL;
        env_uv_close(kv->env, on_env_closed, kv);
    }
}

static void on_map(void *ctx)
{
    struct kv *kv = ctx;
    struct arena arena = {0};
    struct msg_map *m = wire_copy_map(&arena, kv_core_map(kv->core));
    kv->self.cluster = m->cluster;
    pthread_mutex_lock(&kv->lock);
    struct arena old = kv->map_arena;
    kv->map_arena = arena;
    kv->map = m;
    pthread_cond_broadcast(&kv->ready);
    pthread_mutex_unlock(&kv->lock);
    arena_free(&old);
}

static void *run_loop(void *arg)
{
    struct kv *kv = arg;
    uv_run(&kv->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* ---- open and close ---- */

/* Signals are for the process's own threads. */
static int start_thread(struct kv *kv)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&kv->thread, NULL, run_loop, kv);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return error;
}

static void init_sync(struct kv *kv)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&kv->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&kv->ready, &attr);
    pthread_condattr_destroy(&attr);
    kv->tail = &kv->head;
}

static enum status open_env(struct kv *kv, const struct kv_options *o,
                            struct err *err)
{
    struct cluster_key key;
    enum status s = key_load(o->key_file, &key, err);
    if (s != ST_OK) {
        return s;
    }
    kv->self.node = o->node;
    kv->self.role = o->role;
    kv->self.name = kv->name;
    struct env_uv_options e = {
        .loop = &kv->loop,
        .log = o->log,
        .key = &key,
        .self = &kv->self,
    };
    s = env_uv_open(&e, &kv->env, err);
    key_wipe(&key);
    return s;
}

static void free_kv(struct kv *kv)
{
    pthread_mutex_destroy(&kv->lock);
    pthread_cond_destroy(&kv->ready);
    arena_free(&kv->map_arena);
    free(kv);
}

static void close_loop(struct kv *kv)
{
    uv_run(&kv->loop, UV_RUN_DEFAULT);
    int error = uv_loop_close(&kv->loop);
    assert(error == 0);
    free_kv(kv);
}

enum status kv_open(const struct kv_options *o, struct kv **out,
                    struct err *err)
{
    if (o->coordinators == NULL || o->coordinators[0] == NULL) {
        return err_set(err, ST_CONFIG, "no coordinator's address is given");
    }
    struct kv *kv = xcalloc(1, sizeof(*kv));
    init_sync(kv);
    strncpy(kv->name, o->name, LIMIT_NAME);
    if (uv_loop_init(&kv->loop) != 0) {
        free_kv(kv);
        return err_set(err, ST_NO_MEMORY, "cannot make an event loop");
    }
    int error = uv_async_init(&kv->loop, &kv->wake, on_wake);
    assert(error == 0);
    kv->wake.data = kv;
    enum status s = open_env(kv, o, err);
    if (s != ST_OK) {
        uv_close((uv_handle_t *)&kv->wake, NULL);
        close_loop(kv);
        return s;
    }
    struct kv_core_options c = {.coordinators = o->coordinators};
    kv->core = kv_core_new(kv->env, &c);
    kv_core_on_map(kv->core, on_map, kv);
    if (start_thread(kv) != 0) {
        kv->closing = true;
        uv_async_send(&kv->wake);
        close_loop(kv);
        return err_set(err, ST_NO_MEMORY, "cannot start a thread");
    }
    *out = kv;
    return ST_OK;
}

void kv_close(struct kv *kv)
{
    if (kv == NULL) {
        return;
    }
    pthread_mutex_lock(&kv->lock);
    kv->closing = true;
    uv_async_send(&kv->wake);
    pthread_mutex_unlock(&kv->lock);
    int error = pthread_join(kv->thread, NULL);
    assert(error == 0);
    close_loop(kv);
}

/* ---- callers ---- */

/* Hands O over and waits until it is done; false if the client is closing. */
static bool place_order(struct kv *kv, struct order *o)
{
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->cond, NULL);
    pthread_mutex_lock(&kv->lock);
    bool open = !kv->closing;
    if (open) {
        *kv->tail = o;
        kv->tail = &o->next;
        uv_async_send(&kv->wake);
    }
    pthread_mutex_unlock(&kv->lock);
    if (open) {
        pthread_mutex_lock(&o->lock);
        while (!o->done) {
            pthread_cond_wait(&o->cond, &o->lock);
        }
        pthread_mutex_unlock(&o->lock);
    }
    pthread_cond_destroy(&o->cond);
    pthread_mutex_destroy(&o->lock);
    return open;
}

enum status kv_run_op(struct kv *kv, struct kv_op *op, kv_take_fn *take,
                      void *ctx)
{
    struct order o = {.kind = ORDER_OP, .op = op, .take = take, .ctx = ctx};
    return place_order(kv, &o) ? op->status : ST_STOPPING;
}

void kv_abandon(struct kv *kv, const struct kv_result *result)
{
    struct order o = {.kind = ORDER_ABANDON, .pending = result->pending};
    (void)place_order(kv, &o);
}

void kv_get_stats(struct kv *kv, struct kv_stats *out)
{
    struct kv_stats stats = {0};
    struct order o = {.kind = ORDER_STATS, .stats = &stats};
    (void)place_order(kv, &o);
    *out = stats;
}

enum status kv_wait_ready(struct kv *kv, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    int error = 0;
    pthread_mutex_lock(&kv->lock);
    while (kv->map == NULL && error == 0) {
        error = pthread_cond_timedwait(&kv->ready, &kv->lock, &until);
    }
    enum status s = kv->map != NULL ? ST_OK : ST_TIMEOUT;
    pthread_mutex_unlock(&kv->lock);
    return s;
}

const struct msg_map *kv_map(struct kv *kv, struct arena *arena)
{
    pthread_mutex_lock(&kv->lock);
    struct msg_map *m = kv->map != NULL ? wire_copy_map(arena, kv->map) : NULL;
    pthread_mutex_unlock(&kv->lock);
    return m;
}
