/*
 * Reading ahead, for the files that recovery reads from the medium and from
 * front to end (ENV_AHEAD): the disk brings the next piece while the last one
 * is looked at. The page cache, which does that for others, is not asked (R16).
 *
 * There are two pieces: one whose bytes are given out, and the one behind it,
 * which a thread reads. A first read brings no more than was asked for: many
 * only look at a header. Who goes on behind it gets pieces that grow to a
 * mebibyte. One file is read at a time; another one's first read begins anew.
 * A piece that could not be read is an error when its bytes are asked for, not
 * before. Thread and pieces go when the loop begins to run.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/env_uv_impl.h"

#define ALIGN KIB(4)
#define PIECE_FIRST KIB(128)
#define PIECE_MOST MIB(1)

struct piece {
    uint8_t *bytes; /* PIECE_MOST, aligned */
    uint64_t start;
    size_t want, len; /* LEN < WANT: the file ends there */
    int error;
};

struct ahead {
    const struct env_file *file; /* whose pieces they are; NULL: nobody's */
    struct piece now, next;
    bool ordered; /* NEXT was asked for and not yet taken */
    bool alone;   /* there is no thread to be had */
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows, and of NEXT while it is BUSY */
    pthread_cond_t changed;
    int fd;
    bool busy, stop;
};

static void lock(struct ahead *a)
{
    int error = pthread_mutex_lock(&a->lock);
    assert(error == 0);
}

static void unlock(struct ahead *a)
{
    int error = pthread_mutex_unlock(&a->lock);
    assert(error == 0);
}

static void piece_read(struct piece *p, int fd)
{
    ssize_t n;
    do {
        n = pread(fd, p->bytes, p->want, (off_t)p->start);
    } while (n < 0 && errno == EINTR);
    p->error = n < 0 ? errno : 0;
    p->len = n < 0 ? 0 : (size_t)n;
}

/* ---- the thread ---- */

static void *run(void *arg)
{
    struct ahead *a = arg;
    lock(a);
    while (!a->stop) {
        if (!a->busy) {
            (void)pthread_cond_wait(&a->changed, &a->lock);
            continue;
        }
        unlock(a);
        piece_read(&a->next, a->fd);
        lock(a);
        a->busy = false;
        (void)pthread_cond_broadcast(&a->changed);
    }
    unlock(a);
    return NULL;
}

static void wait_idle(struct ahead *a)
{
    lock(a);
    while (a->busy) {
        (void)pthread_cond_wait(&a->changed, &a->lock);
    }
    unlock(a);
}

/* Asks for the piece behind NOW, if there is one. */
static void order(struct ahead *a, int fd)
{
    if (a->now.len < a->now.want || a->alone) {
        return;
    }
    a->next.start = a->now.start + a->now.len;
    a->next.want =
        2 * a->now.want < PIECE_FIRST ? PIECE_FIRST : 2 * a->now.want;
    a->next.want = a->next.want < PIECE_MOST ? a->next.want : PIECE_MOST;
    a->ordered = true;
    lock(a);
    a->fd = fd;
    a->busy = true;
    (void)pthread_cond_broadcast(&a->changed);
    unlock(a);
}

/* ---- life ---- */

static struct ahead *ahead_new(void)
{
    struct ahead *a = xcalloc(1, sizeof(*a));
    a->now.bytes = aligned_alloc(ALIGN, PIECE_MOST);
    a->next.bytes = aligned_alloc(ALIGN, PIECE_MOST);
    assert(a->now.bytes != NULL && a->next.bytes != NULL);
    int error = pthread_mutex_init(&a->lock, NULL);
    assert(error == 0);
    error = pthread_cond_init(&a->changed, NULL);
    assert(error == 0);
    a->alone = pthread_create(&a->thread, NULL, run, a) != 0;
    return a;
}

void env_uv_ahead_free(struct ahead *a)
{
    if (a == NULL) {
        return;
    }
    lock(a);
    a->stop = true;
    (void)pthread_cond_broadcast(&a->changed);
    unlock(a);
    if (!a->alone) {
        (void)pthread_join(a->thread, NULL);
    }
    (void)pthread_cond_destroy(&a->changed);
    (void)pthread_mutex_destroy(&a->lock);
    free(a->now.bytes);
    free(a->next.bytes);
    free(a);
}

void env_uv_ahead_forget(struct ahead *a, const struct env_file *f)
{
    if (a != NULL && a->file == f) {
        wait_idle(a); /* its descriptor is closed next */
        a->file = NULL;
        a->ordered = false;
        a->now.len = a->now.want = 0;
    }
}

void env_uv_ahead_turn(struct env_uv *u)
{
    struct disk *d = &u->disk;
    if (d->ahead != NULL && d->ahead->file == NULL) {
        env_uv_ahead_free(d->ahead);
        d->ahead = NULL;
    }
}

/* ---- reading ---- */

static bool piece_has(const struct piece *p, uint64_t at)
{
    return at >= p->start && at - p->start < p->len;
}

/* Makes NOW the piece that begins at or before AT: the one that was ordered, or
 * one that is read here. LEN: what is asked for from AT on. */
static void turn_to(struct ahead *a, const struct env_file *f, uint64_t at,
                    size_t len)
{
    bool behind = a->now.want > 0 && at == a->now.start + a->now.len;
    if (a->ordered) {
        wait_idle(a);
        a->ordered = false;
        if (at >= a->next.start && at < a->next.start + a->next.want) {
            struct piece old = a->now;
            a->now = a->next;
            a->next = old;
            order(a, f->medium_fd);
            return;
        }
    }
    uint64_t skip = at % ALIGN;
    uint64_t want = (skip + len + ALIGN - 1) / ALIGN * ALIGN;
    want = behind && want < PIECE_FIRST ? PIECE_FIRST : want;
    a->now.start = at - skip;
    a->now.want = want < PIECE_MOST ? (size_t)want : PIECE_MOST;
    piece_read(&a->now, f->medium_fd);
    if (behind) {
        order(a, f->medium_fd);
    }
}

ssize_t env_uv_ahead_read(struct env_file *f, uint64_t offset, uint8_t *out,
                          size_t len)
{
    struct disk *d = &f->u->disk;
    size_t got = 0;
    if (d->ahead == NULL) {
        d->ahead = ahead_new();
    }
    struct ahead *a = d->ahead;
    if (a->file != f) {
        env_uv_ahead_forget(a, a->file);
        a->file = f;
    }
    while (got < len) {
        uint64_t at = offset + got;
        if (!piece_has(&a->now, at)) {
            turn_to(a, f, at, len - got);
            if (a->now.error != 0) {
                errno = a->now.error;
                return -1;
            }
            if (!piece_has(&a->now, at)) {
                break; /* the file's end */
            }
        }
        size_t skip = (size_t)(at - a->now.start);
        size_t take = a->now.len - skip;
        take = take < len - got ? take : len - got;
        memcpy(out + got, a->now.bytes + skip, take);
        got += take;
    }
    return (ssize_t)got;
}
