/*
 * A ring of jobs under one lock. No priorities: what comes first runs first,
 * and who finds the ring full is told so at once instead of waiting in vain.
 */
#include "gateway/http/pool_io.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/buf.h"

struct http_pool {
    struct http_pool_options options;
    pthread_mutex_t lock;
    pthread_cond_t work;
    void **ring;
    size_t first, queued, running;
    bool stopping;
    pthread_t *threads;
    unsigned started;
};

static void *worker(void *arg)
{
    struct http_pool *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->queued == 0 && !p->stopping)
            pthread_cond_wait(&p->work, &p->lock);
        if (p->queued == 0)
            break;
        void *job = p->ring[p->first];
        p->first = (p->first + 1) % p->options.queue_max;
        p->queued--;
        p->running++;
        pthread_mutex_unlock(&p->lock);
        p->options.run(p->options.ctx, job);
        pthread_mutex_lock(&p->lock);
        p->running--;
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

enum status http_pool_start(const struct http_pool_options *o,
                            struct http_pool **out)
{
    assert(o->threads > 0 && o->queue_max > 0);
    struct http_pool *p = xcalloc(1, sizeof(*p));
    p->options = *o;
    p->ring = xcalloc(o->queue_max, sizeof(*p->ring));
    p->threads = xcalloc(o->threads, sizeof(*p->threads));
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    while (p->started < o->threads) {
        if (pthread_create(&p->threads[p->started], NULL, worker, p) != 0) {
            http_pool_stop(p);
            return ST_NO_MEMORY;
        }
        p->started++;
    }
    *out = p;
    return ST_OK;
}

enum status http_pool_submit(struct http_pool *p, void *job)
{
    enum status s = ST_BUSY;
    pthread_mutex_lock(&p->lock);
    if (p->queued < p->options.queue_max && !p->stopping) {
        p->ring[(p->first + p->queued) % p->options.queue_max] = job;
        p->queued++;
        s = ST_OK;
        pthread_cond_signal(&p->work);
    }
    pthread_mutex_unlock(&p->lock);
    return s;
}

size_t http_pool_load(struct http_pool *p)
{
    pthread_mutex_lock(&p->lock);
    size_t n = p->queued + p->running;
    pthread_mutex_unlock(&p->lock);
    return n;
}

void http_pool_stop(struct http_pool *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->started; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p->threads);
    free(p->ring);
    free(p);
}
