/*
 * A table of 4,096 buckets, found by the key's hash. A bucket belongs to one
 * key at a time; a full one (whose key has tried nothing lately) is anybody's.
 * If all four places of a key are taken by others, it shares the one that has
 * most left: under a flood of keys the limit is stricter, never laxer.
 *
 * The hash has a random start, so that nobody can aim at another's bucket.
 */
#include "gateway/http/rate.h"

#include <stdlib.h>

#include <sodium.h>
#include <xxhash.h>

#define BUCKETS 4096u
#define WAYS 4u

struct bucket {
    uint64_t key;  /* 0: nobody's */
    int64_t at_ms; /* when TOKENS was true */
    unsigned tokens;
};

struct http_rate {
    unsigned burst;
    int64_t interval_ms;
    uint64_t seed;
    struct bucket buckets[BUCKETS];
};

struct http_rate *http_rate_new(unsigned burst, int64_t interval_ms)
{
    struct http_rate *r = xcalloc(1, sizeof(*r));
    r->burst = burst;
    r->interval_ms = interval_ms;
    randombytes_buf(&r->seed, sizeof(r->seed));
    return r;
}

void http_rate_free(struct http_rate *r)
{
    free(r);
}

static void refill(const struct http_rate *r, struct bucket *b, int64_t now_ms)
{
    int64_t grown = (now_ms - b->at_ms) / r->interval_ms;
    if (grown <= 0)
        return;
    if (grown >= (int64_t)(r->burst - b->tokens)) {
        b->tokens = r->burst;
        b->at_ms = now_ms;
        return;
    }
    b->tokens += (unsigned)grown;
    b->at_ms += grown * r->interval_ms;
}

static struct bucket *find(struct http_rate *r, struct slice key,
                           int64_t now_ms)
{
    uint64_t hash = XXH3_64bits_withSeed(key.data, key.len, r->seed) | 1;
    struct bucket *set = &r->buckets[(hash >> 8) % (BUCKETS / WAYS) * WAYS];
    struct bucket *best = &set[0];
    for (unsigned i = 0; i < WAYS; i++) {
        struct bucket *b = &set[i];
        if (b->key == 0)
            *b = (struct bucket){0, now_ms, r->burst};
        refill(r, b, now_ms);
        if (b->key == hash)
            return b;
        if (b->tokens > best->tokens)
            best = b;
    }
    best->key = hash;
    return best;
}

bool http_rate_take(struct http_rate *r, struct slice key, int64_t now_ms)
{
    struct bucket *b = find(r, key, now_ms);
    if (b->tokens == 0)
        return false;
    if (b->tokens == r->burst)
        b->at_ms = now_ms;
    b->tokens--;
    return true;
}

void http_rate_give(struct http_rate *r, struct slice key, int64_t now_ms)
{
    struct bucket *b = find(r, key, now_ms);
    if (b->tokens < r->burst)
        b->tokens++;
}
