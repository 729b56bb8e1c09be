/*
 * The gate and the hash: see the header. A run is a plain blocking call
 * without the lock. The line is not strictly first come, first served: a
 * condition variable wakes any one, and each waits at most to its deadline.
 */
#include "cloud/password.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

_Static_assert(PASSWORD_HASH_SIZE == crypto_pwhash_STRBYTES, "libsodium's");

void password_gate_init(struct password_gate *g, unsigned running_max,
                        unsigned waiting_max, size_t memory)
{
    *g = (struct password_gate){.running_max = running_max,
                                .waiting_max = waiting_max,
                                .memory = memory};
    pthread_mutex_init(&g->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&g->left, &attr);
    pthread_condattr_destroy(&attr);
    /* A well-formed string with the same cost: verifying against it takes the
     * same time, and nobody knows a password for it. */
    int n = snprintf(g->nobody, sizeof g->nobody,
                     "$argon2id$v=19$m=%zu,t=%d,p=1$"
                     "cGVubmNsb3VkLW5vYm9keQ$"
                     "bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm8",
                     memory / 1024, PASSWORD_PASSES);
    assert(n > 0 && (size_t)n < sizeof g->nobody);
}

void password_gate_fini(struct password_gate *g)
{
    assert(g->running == 0 && g->waiting == 0);
    pthread_cond_destroy(&g->left);
    pthread_mutex_destroy(&g->lock);
}

/* The monotonic instant that is as far away as DEADLINE_MS of
 * CLOCK_BOOTTIME: condition variables know no CLOCK_BOOTTIME. */
static struct timespec wake_time(int64_t deadline_ms)
{
    struct timespec boot, mono;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    clock_gettime(CLOCK_MONOTONIC, &mono);
    int64_t left = deadline_ms - (boot.tv_sec * 1000 + boot.tv_nsec / 1000000);
    if (left < 0)
        left = 0;
    mono.tv_sec += left / 1000;
    mono.tv_nsec += left % 1000 * 1000000;
    if (mono.tv_nsec >= 1000000000) {
        mono.tv_sec++;
        mono.tv_nsec -= 1000000000;
    }
    return mono;
}

static enum status enter(struct password_gate *g, int64_t deadline_ms)
{
    struct timespec until = wake_time(deadline_ms);
    enum status st = ST_OK;
    pthread_mutex_lock(&g->lock);
    if (g->running >= g->running_max && g->waiting >= g->waiting_max) {
        st = ST_TOO_MANY;
        goto out;
    }
    g->waiting++;
    while (g->running >= g->running_max && st == ST_OK) {
        if (pthread_cond_timedwait(&g->left, &g->lock, &until) != 0)
            st = ST_TIMEOUT;
    }
    g->waiting--;
    /* One that times out may have taken the wake-up of another. */
    if (st != ST_OK)
        pthread_cond_signal(&g->left);
    else
        g->running++;
out:
    pthread_mutex_unlock(&g->lock);
    return st;
}

static void leave(struct password_gate *g)
{
    pthread_mutex_lock(&g->lock);
    assert(g->running > 0);
    g->running--;
    pthread_cond_signal(&g->left);
    pthread_mutex_unlock(&g->lock);
}

enum status password_hash(struct password_gate *g, struct slice password,
                          int64_t deadline_ms, char out[PASSWORD_HASH_SIZE])
{
    enum status st = enter(g, deadline_ms);
    if (st != ST_OK)
        return st;
    char hash[PASSWORD_HASH_SIZE];
    if (crypto_pwhash_str_alg(hash, (const char *)password.data, password.len,
                              PASSWORD_PASSES, g->memory,
                              crypto_pwhash_ALG_ARGON2ID13) != 0)
        st = ST_NO_MEMORY;
    leave(g);
    if (st == ST_OK)
        memcpy(out, hash, sizeof hash);
    return st;
}

enum status password_verify(struct password_gate *g, const char *stored,
                            struct slice password, int64_t deadline_ms)
{
    enum status st = enter(g, deadline_ms);
    if (st != ST_OK)
        return st;
    int wrong =
        crypto_pwhash_str_verify(stored != NULL ? stored : g->nobody,
                                 (const char *)password.data, password.len);
    leave(g);
    return wrong != 0 || stored == NULL ? ST_UNAUTHENTICATED : ST_OK;
}
