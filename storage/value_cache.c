/*
 * A hash table of chains, and a list in order of last use. The table doubles
 * when there are more values than chains; its own size is part of the room.
 */
#include "storage/value_cache.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <xxhash.h>

#define CHAINS_MIN 64u
#define SHARE_MOST 8      /* of the room, for one value: the eighth part */
#define HEAP_OVERHEAD 16u /* the allocator's, for each value */

struct entry {
    struct entry *next; /* in its chain */
    TAILQ_ENTRY(entry) link;
    struct place place;
    uint8_t bytes[];
};

TAILQ_HEAD(entries, entry);

struct value_cache {
    uint64_t room;
    struct entry **chains;
    size_t chains_count; /* a power of two */
    size_t count;
    struct entries used; /* the latest first */
    struct value_cache_stats stats;
};

static uint64_t cost_of(const struct place *p)
{
    return sizeof(struct entry) + p->len + HEAP_OVERHEAD;
}

static struct entry **chain_of(struct value_cache *c, const struct place *p)
{
    uint64_t h = p->tag == VALUE_LOG
                     ? XXH3_64bits(&p->position, sizeof(p->position))
                     : XXH3_64bits(p->blob.b, sizeof(p->blob.b));
    return &c->chains[h & (c->chains_count - 1)];
}

struct value_cache *value_cache_new(uint64_t room)
{
    struct value_cache *c = xcalloc(1, sizeof(*c));
    c->room = room;
    c->chains_count = CHAINS_MIN;
    c->chains = xcalloc(c->chains_count, sizeof(struct entry *));
    TAILQ_INIT(&c->used);
    c->stats.bytes = CHAINS_MIN * sizeof(struct entry *);
    return c;
}

void value_cache_free(struct value_cache *c)
{
    if (c == NULL) {
        return;
    }
    while (!TAILQ_EMPTY(&c->used)) {
        struct entry *e = TAILQ_FIRST(&c->used);
        TAILQ_REMOVE(&c->used, e, link);
        free(e);
    }
    free(c->chains);
    free(c);
}

static struct entry *find(struct value_cache *c, const struct place *p)
{
    struct entry *e = *chain_of(c, p);
    while (e != NULL && !place_equal(&e->place, p)) {
        e = e->next;
    }
    return e;
}

bool value_cache_has(struct value_cache *c, const struct place *p)
{
    return find(c, p) != NULL;
}

bool value_cache_get(struct value_cache *c, const struct place *p,
                     struct slice *out)
{
    struct entry *e = find(c, p);
    if (e == NULL) {
        c->stats.misses++;
        return false;
    }
    c->stats.hits++;
    TAILQ_REMOVE(&c->used, e, link);
    TAILQ_INSERT_HEAD(&c->used, e, link);
    *out = slice_make(e->bytes, e->place.len);
    return true;
}

static void drop(struct value_cache *c, struct entry *e)
{
    struct entry **at = chain_of(c, &e->place);
    while (*at != e) {
        at = &(*at)->next;
    }
    *at = e->next;
    TAILQ_REMOVE(&c->used, e, link);
    c->stats.bytes -= cost_of(&e->place);
    c->count--;
    free(e);
}

static void chain(struct value_cache *c, struct entry *e)
{
    struct entry **first = chain_of(c, &e->place);
    e->next = *first;
    *first = e;
}

static void grow(struct value_cache *c)
{
    struct entry *e;
    free(c->chains);
    c->stats.bytes += c->chains_count * sizeof(struct entry *);
    c->chains_count *= 2;
    c->chains = xcalloc(c->chains_count, sizeof(struct entry *));
    TAILQ_FOREACH(e, &c->used, link)
    {
        chain(c, e);
    }
}

void value_cache_put(struct value_cache *c, const struct place *p,
                     struct slice bytes)
{
    if (cost_of(p) > c->room / SHARE_MOST || bytes.len != p->len ||
        find(c, p) != NULL) {
        return;
    }
    struct entry *e = xmalloc(sizeof(*e) + bytes.len);
    e->place = *p;
    memcpy(e->bytes, bytes.data, bytes.len);
    chain(c, e);
    TAILQ_INSERT_HEAD(&c->used, e, link);
    c->stats.bytes += cost_of(p);
    c->count++;
    if (c->count > c->chains_count) {
        grow(c);
    }
    while (c->stats.bytes > c->room && c->count > 1) {
        drop(c, TAILQ_LAST(&c->used, entries));
    }
}

void value_cache_get_stats(const struct value_cache *c,
                           struct value_cache_stats *out)
{
    *out = c->stats;
}
