/*
 * Values that were read from the disk lately, so that what is read again need
 * not be. A place is never used for another value, so nothing here grows
 * stale; what is asked for least recently goes when the room is used up.
 * Belongs to one loop.
 */
#ifndef STORAGE_VALUE_CACHE_H
#define STORAGE_VALUE_CACHE_H

#include "storage/place.h"

struct value_cache;

/* ROOM bytes, what keeps account of them included; 0: it keeps nothing. */
struct value_cache *value_cache_new(uint64_t room);
void value_cache_free(struct value_cache *c); /* NULL is fine */

/* Whether the value at P is there; counts for nothing. */
bool value_cache_has(struct value_cache *c, const struct place *p);
/* The value at P, until the next put; counts a hit or a miss. */
bool value_cache_get(struct value_cache *c, const struct place *p,
                     struct slice *out);
/* BYTES are the value at P (the caller has verified them). Copied, or not kept
 * where they would take more than an eighth of the room. */
void value_cache_put(struct value_cache *c, const struct place *p,
                     struct slice bytes);

struct value_cache_stats {
    uint64_t hits, misses;
    uint64_t bytes; /* now */
};
void value_cache_get_stats(const struct value_cache *c,
                           struct value_cache_stats *out);

#endif
