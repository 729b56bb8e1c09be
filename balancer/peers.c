/*
 * Open addressing with linear probing; a deletion moves later entries of the
 * chain back, so there are no tombstones. At most half full.
 */
#include "balancer/peers.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

struct entry {
    struct peer_key key;
    uint32_t count; /* 0: free */
};

struct peers {
    struct entry *entries;
    size_t size, used; /* size: a power of two */
    uint64_t seed;
};

struct peer_key peer_key_of(const struct sockaddr *address)
{
    struct peer_key key = {{0}};
    if (address->sa_family == AF_INET) {
        struct sockaddr_in four;
        memcpy(&four, address, sizeof(four));
        memset(key.b + 10, 0xff, 2);
        memcpy(key.b + 12, &four.sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, address, sizeof(six));
        bool mapped = IN6_IS_ADDR_V4MAPPED(&six.sin6_addr);
        memcpy(key.b, &six.sin6_addr, mapped ? 16 : 8);
    }
    return key;
}

struct peers *peers_new(uint64_t seed)
{
    struct peers *p = xcalloc(1, sizeof(*p));
    p->seed = seed;
    p->size = 64;
    p->entries = xcalloc(p->size, sizeof(*p->entries));
    return p;
}

void peers_free(struct peers *p)
{
    if (p != NULL) {
        free(p->entries);
        free(p);
    }
}

static size_t home_of(const struct peers *p, const struct peer_key *key)
{
    return XXH3_64bits_withSeed(key->b, sizeof(key->b), p->seed) &
           (p->size - 1);
}

/* KEY's entry, or the free one where it would stand. */
static struct entry *locate(const struct peers *p, const struct peer_key *key)
{
    size_t i = home_of(p, key);
    while (p->entries[i].count != 0 &&
           memcmp(p->entries[i].key.b, key->b, sizeof(key->b)) != 0) {
        i = (i + 1) & (p->size - 1);
    }
    return &p->entries[i];
}

static void grow(struct peers *p)
{
    struct entry *old = p->entries;
    size_t old_size = p->size;
    p->size *= 2;
    p->entries = xcalloc(p->size, sizeof(*p->entries));
    for (size_t i = 0; i < old_size; i++) {
        if (old[i].count != 0) {
            *locate(p, &old[i].key) = old[i];
        }
    }
    free(old);
}

bool peers_enter(struct peers *p, struct peer_key key, uint32_t limit)
{
    struct entry *e = locate(p, &key);
    if (e->count >= limit) {
        return false;
    }
    if (e->count == 0) {
        if (2 * (p->used + 1) > p->size) {
            grow(p);
            e = locate(p, &key);
        }
        e->key = key;
        p->used++;
    }
    e->count++;
    return true;
}

/* Frees entry I and closes the gap: an entry behind it moves into the gap
 * unless its home lies after the gap. */
static void erase(struct peers *p, size_t gap)
{
    size_t mask = p->size - 1, i = gap;
    for (;;) {
        p->entries[gap].count = 0;
        for (;;) {
            i = (i + 1) & mask;
            if (p->entries[i].count == 0) {
                return;
            }
            size_t home = home_of(p, &p->entries[i].key);
            if (((i - home) & mask) >= ((i - gap) & mask)) {
                break;
            }
        }
        p->entries[gap] = p->entries[i];
        gap = i;
    }
}

void peers_leave(struct peers *p, struct peer_key key)
{
    struct entry *e = locate(p, &key);
    assert(e->count > 0);
    if (--e->count == 0) {
        e->count = 1; /* still part of the chain while it is closed */
        erase(p, (size_t)(e - p->entries));
        p->used--;
    }
}

size_t peers_count(const struct peers *p)
{
    return p->used;
}
