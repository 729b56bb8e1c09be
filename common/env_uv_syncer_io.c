/*
 * One thread of the libuv env that waits for syncs. libuv's own threads share
 * a lock, which the loop holds while it wakes one of them, and their queue
 * with reads of any length: either can cost a sync more than the disk does.
 * Here an operation is handed over by one semaphore and back by one uv_async,
 * and always meets the same, warm thread.
 *
 * One operation at a time: a second one goes to libuv's threads. What a thread
 * has is the thread's until it set `done`. The thread begins with the first
 * operation, and ends, as the handle does, when a closing env has none left.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/env_uv_impl.h"

struct syncer {
    struct env_uv *u;
    uv_async_t async;
    pthread_t thread;
    sem_t todo;
    struct disk_op *op; /* NULL: idle */
    _Atomic bool done;  /* OP is the loop's again */
    bool stop;          /* told by TODO */
    void (*perform)(struct disk_op *op);
    void (*finish)(struct disk_op *op);
};

static void await(sem_t *s)
{
    while (sem_wait(s) != 0) {
        assert(errno == EINTR);
    }
}

static void *run(void *arg)
{
    struct syncer *s = arg;
    for (;;) {
        await(&s->todo);
        if (s->stop) {
            return NULL;
        }
        s->perform(s->op);
        atomic_store_explicit(&s->done, true, memory_order_release);
        int r = uv_async_send(&s->async);
        assert(r == 0);
    }
}

static void on_async(uv_async_t *async)
{
    struct syncer *s = async->data;
    if (atomic_exchange_explicit(&s->done, false, memory_order_acquire)) {
        struct disk_op *op = s->op;
        s->op = NULL;
        s->finish(op);
    }
}

static void on_closed(uv_handle_t *h)
{
    struct syncer *s = h->data;
    struct env_uv *u = s->u;
    free(s);
    env_uv_release(u);
}

static void wake(struct syncer *s)
{
    int r = sem_post(&s->todo);
    assert(r == 0);
}

/* NULL: no thread is to be had. */
static struct syncer *syncer_new(struct env_uv *u)
{
    struct syncer *s = xcalloc(1, sizeof(*s));
    s->u = u;
    int r = sem_init(&s->todo, 0, 0);
    assert(r == 0);
    s->async.data = s;
    if (uv_async_init(u->loop, &s->async, on_async) != 0) {
        free(s);
        return NULL;
    }
    env_uv_hold(u);
    if (pthread_create(&s->thread, NULL, run, s) != 0) {
        (void)sem_destroy(&s->todo);
        uv_close((uv_handle_t *)&s->async, on_closed);
        return NULL;
    }
    return s;
}

bool env_uv_syncer_take(struct env_uv *u, struct disk_op *op,
                        void (*perform)(struct disk_op *op),
                        void (*finish)(struct disk_op *op))
{
    struct disk *d = &u->disk;
    if (d->syncer == NULL && !u->closing) {
        d->syncer = syncer_new(u);
    }
    struct syncer *s = d->syncer;
    if (s == NULL || s->op != NULL) {
        return false;
    }
    s->op = op;
    s->perform = perform;
    s->finish = finish;
    wake(s);
    return true;
}

void env_uv_syncer_fini(struct env_uv *u)
{
    struct syncer *s = u->disk.syncer;
    if (s == NULL) {
        return;
    }
    assert(s->op == NULL);
    u->disk.syncer = NULL;
    s->stop = true;
    wake(s);
    int r = pthread_join(s->thread, NULL);
    assert(r == 0);
    (void)sem_destroy(&s->todo);
    uv_close((uv_handle_t *)&s->async, on_closed);
}
