/*
 * Work beside the loop while a process starts: recovery is bound by the
 * processor, and has most of the machine for itself. A few threads take pieces
 * from a queue in the order in which they came; who waits for one does what
 * nobody has begun meanwhile, so there need not be any thread at all. Nobody is
 * woken for nothing: waking costs as much as a small piece does. They go when
 * the loop begins to run.
 */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/env_uv_impl.h"
#include "common/env_work.h"

#define HELPERS_MOST 3

enum work_state { WORK_IDLE, WORK_QUEUED, WORK_RUNNING, WORK_DONE };

struct helpers {
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t queued, done;
    struct env_work *first, **last; /* queued */
    struct env_work *awaited;       /* by the loop's thread, which sleeps */
    pthread_t threads[HELPERS_MOST];
    unsigned count, idle;
    bool stop;
};

static void lock(struct helpers *h)
{
    int error = pthread_mutex_lock(&h->lock);
    assert(error == 0);
}

static void unlock(struct helpers *h)
{
    int error = pthread_mutex_unlock(&h->lock);
    assert(error == 0);
}

/* With the lock held, which is given up meanwhile. */
static void perform_first(struct helpers *h)
{
    struct env_work *w = h->first;
    h->first = w->next;
    if (h->first == NULL) {
        h->last = &h->first;
    }
    w->state = WORK_RUNNING;
    unlock(h);
    w->fn(w);
    lock(h);
    w->state = WORK_DONE;
    if (h->awaited == w) {
        (void)pthread_cond_signal(&h->done);
    }
}

static void *run(void *arg)
{
    struct helpers *h = arg;
    lock(h);
    while (!h->stop) {
        if (h->first != NULL) {
            perform_first(h);
        } else {
            h->idle++;
            (void)pthread_cond_wait(&h->queued, &h->lock);
            h->idle--;
        }
    }
    unlock(h);
    return NULL;
}

static struct helpers *helpers_new(void)
{
    struct helpers *h = xcalloc(1, sizeof(*h));
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    h->last = &h->first;
    int error = pthread_mutex_init(&h->lock, NULL);
    assert(error == 0);
    error = pthread_cond_init(&h->queued, NULL);
    assert(error == 0);
    error = pthread_cond_init(&h->done, NULL);
    assert(error == 0);
    while (h->count < HELPERS_MOST && (long)h->count + 1 < cores &&
           pthread_create(&h->threads[h->count], NULL, run, h) == 0) {
        h->count++;
    }
    return h;
}

void env_uv_work_free(struct helpers *h)
{
    if (h == NULL) {
        return;
    }
    lock(h);
    assert(h->first == NULL);
    h->stop = true;
    (void)pthread_cond_broadcast(&h->queued);
    unlock(h);
    for (unsigned i = 0; i < h->count; i++) {
        (void)pthread_join(h->threads[i], NULL);
    }
    (void)pthread_cond_destroy(&h->queued);
    (void)pthread_cond_destroy(&h->done);
    (void)pthread_mutex_destroy(&h->lock);
    free(h);
}

void env_uv_work_turn(struct env_uv *u)
{
    env_uv_work_free(u->helpers);
    u->helpers = NULL;
}

void env_uv_work(struct env *e, struct env_work *w)
{
    struct env_uv *u = env_uv_of(e);
    if (u->helpers == NULL) {
        u->helpers = helpers_new();
    }
    struct helpers *h = u->helpers;
    lock(h);
    assert(w->state == WORK_IDLE || w->state == WORK_DONE);
    w->state = WORK_QUEUED;
    w->next = NULL;
    *h->last = w;
    h->last = &w->next;
    if (h->idle > 0) {
        (void)pthread_cond_signal(&h->queued);
    }
    unlock(h);
}

void env_uv_work_wait(struct env *e, struct env_work *w)
{
    struct helpers *h = env_uv_of(e)->helpers;
    assert(h != NULL);
    lock(h);
    while (w->state != WORK_DONE) {
        if (h->first != NULL) {
            perform_first(h);
            continue;
        }
        h->awaited = w;
        (void)pthread_cond_wait(&h->done, &h->lock);
        h->awaited = NULL;
    }
    unlock(h);
}
