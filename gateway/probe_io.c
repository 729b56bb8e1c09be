/*
 * A map alone does not mean that the store answers, so one cell is read, which
 * need not exist. Three failures in a row make a no, one answer makes a yes:
 * a failover must not take all gateways out of the balancer's hands at once.
 */
#include "gateway/probe_io.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define ASK_MS 2000
#define FAILURES 3

struct probe {
    struct probe_options options;
    uv_async_t async;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping; /* under the lock */
    atomic_bool answers;
    bool told; /* the loop's */
};

static bool ask(struct probe *p)
{
    struct buf value = {.max = KIB(64)};
    enum status s = kv_wait_ready(p->options.kv, ASK_MS);
    if (s == ST_OK)
        s = kv_get(p->options.kv, kv_key_of("probe", "probe", "probe"), ASK_MS,
                   &value);
    buf_free(&value);
    return s == ST_OK || s == ST_NOT_FOUND;
}

/* False: it is time to end. */
static bool pause_second(struct probe *p)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    pthread_mutex_lock(&p->lock);
    while (!p->stopping &&
           pthread_cond_timedwait(&p->wake, &p->lock, &until) == 0)
        ;
    bool go_on = !p->stopping;
    pthread_mutex_unlock(&p->lock);
    return go_on;
}

static void *run(void *arg)
{
    struct probe *p = arg;
    int failures = FAILURES;
    do {
        failures = ask(p) ? 0 : failures + 1;
        if (failures > 0 && failures < FAILURES)
            continue;
        atomic_store(&p->answers, failures == 0);
        (void)uv_async_send(&p->async);
    } while (pause_second(p));
    return NULL;
}

static void on_async(uv_async_t *a)
{
    struct probe *p = a->data;
    bool answers = atomic_load(&p->answers);
    if (answers == p->told)
        return;
    p->told = answers;
    p->options.changed(p->options.ctx, answers);
}

static void on_closed(uv_handle_t *h)
{
    struct probe *p = h->data;
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

enum status probe_start(const struct probe_options *o, struct probe **out)
{
    struct probe *p = xcalloc(1, sizeof(*p));
    pthread_condattr_t attr;
    p->options = *o;
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (uv_async_init(o->loop, &p->async, on_async) != 0) {
        free(p);
        return ST_NO_MEMORY;
    }
    p->async.data = p;
    if (pthread_create(&p->thread, NULL, run, p) != 0) {
        uv_close((uv_handle_t *)&p->async, on_closed);
        return ST_NO_MEMORY;
    }
    *out = p;
    return ST_OK;
}

void probe_stop(struct probe *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    uv_close((uv_handle_t *)&p->async, on_closed);
}
