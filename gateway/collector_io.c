/*
 * See the header. A run has a deadline of its own, half an interval; what it
 * does not reach is left to the next, which goes through the accounts in the
 * same order, but meets only what is new.
 */
#include "gateway/collector_io.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include <sodium.h>

struct collector {
    struct cloud *cloud;
    int interval_ms;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t stopped;
    bool stop;
    _Atomic int64_t cut_ms; /* struct cloud_op */
};

static void run(struct collector *c)
{
    struct cloud_op op = cloud_op_make(c->cloud, c->interval_ms / 2);
    op.cut_ms = &c->cut_ms;
    uint64_t removed = 0;
    enum status st = cloud_collect(&op, &removed);
    if (st != ST_OK)
        log_debug(cloud_log(c->cloud), "collector", "incomplete",
                  "status=%s removed=%llu", status_name(st),
                  (unsigned long long)removed);
}

/* Waits MS; true if the collector is to stop. */
static bool wait_stop(struct collector *c, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000l;
    if (until.tv_nsec >= 1000000000l) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000l;
    }
    pthread_mutex_lock(&c->lock);
    while (!c->stop &&
           pthread_cond_timedwait(&c->stopped, &c->lock, &until) != ETIMEDOUT)
        ;
    bool stop = c->stop;
    pthread_mutex_unlock(&c->lock);
    return stop;
}

static void *collect_forever(void *arg)
{
    struct collector *c = arg;
    int ms = (int)randombytes_uniform((uint32_t)c->interval_ms);
    while (!wait_stop(c, ms)) {
        run(c);
        ms = c->interval_ms;
    }
    return NULL;
}

enum status collector_start(struct cloud *cloud, int interval_ms,
                            struct collector **out, struct err *err)
{
    struct collector *c = xcalloc(1, sizeof *c);
    c->cloud = cloud;
    c->interval_ms = interval_ms;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->stopped, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&c->thread, NULL, collect_forever, c) != 0) {
        pthread_cond_destroy(&c->stopped);
        pthread_mutex_destroy(&c->lock);
        free(c);
        return err_set(err, ST_NO_MEMORY, "cannot start a thread");
    }
    *out = c;
    return ST_OK;
}

void collector_cut(struct collector *c)
{
    if (c == NULL)
        return;
    atomic_store(&c->cut_ms, 1); /* long past */
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_signal(&c->stopped);
    pthread_mutex_unlock(&c->lock);
}

void collector_stop(struct collector *c)
{
    if (c == NULL)
        return;
    collector_cut(c);
    pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->stopped);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
