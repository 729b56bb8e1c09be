/*
 * A place's bytes, little endian:
 *   LOG:  u64 position, u32 length, digest (16)
 *   BLOB: blob's name (16), u32 length, digest (16)
 */
#include "storage/place.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

#define LOG_BYTES 28
#define BLOB_BYTES 36

_Static_assert(LOG_BYTES <= PLACE_MAX && BLOB_BYTES <= PLACE_MAX,
               "every place fits");

static uint8_t *put_number(uint8_t *to, uint64_t n, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        to[i] = (uint8_t)(n >> (8 * i));
    }
    return to + bytes;
}

uint64_t place_seed(struct slice key)
{
    return XXH3_128bits(key.data, key.len).low64;
}

struct id128 place_digest(struct slice key, struct slice value)
{
    struct id128 d;
    XXH128_hash_t v =
        XXH3_128bits_withSeed(value.data, value.len, place_seed(key));
    put_number(put_number(d.b, v.low64, 8), v.high64, 8);
    return d;
}

struct slice place_encode(const struct place *p, uint8_t room[PLACE_MAX])
{
    uint8_t *to = room;
    assert(p->tag == VALUE_LOG || p->tag == VALUE_BLOB);
    if (p->tag == VALUE_LOG) {
        to = put_number(to, p->position, 8);
    } else {
        memcpy(to, p->blob.b, sizeof(p->blob.b));
        to += sizeof(p->blob.b);
    }
    to = put_number(to, p->len, 4);
    memcpy(to, p->digest.b, sizeof(p->digest.b));
    return slice_make(room, (size_t)(to - room) + sizeof(p->digest.b));
}

enum status place_decode(uint8_t tag, struct slice bytes, struct place *out)
{
    struct place p = {.tag = tag};
    struct cursor c = cursor_of(bytes);
    if (tag == VALUE_LOG) {
        p.position = cursor_u64(&c);
    } else if (tag == VALUE_BLOB) {
        p.blob = cursor_id128(&c);
    } else {
        return ST_CORRUPT;
    }
    p.len = cursor_u32(&c);
    p.digest = cursor_id128(&c);
    if (c.bad || cursor_left(&c) != 0 || p.len <= LIMIT_VALUE_INLINE ||
        p.len > LIMIT_VALUE) {
        return ST_CORRUPT;
    }
    *out = p;
    return ST_OK;
}

bool place_equal(const struct place *a, const struct place *b)
{
    return a->tag == b->tag && a->position == b->position &&
           id128_equal(a->blob, b->blob) && a->len == b->len &&
           id128_equal(a->digest, b->digest);
}

bool place_verify(const struct place *p, struct slice key, struct slice bytes)
{
    return bytes.len == p->len &&
           id128_equal(place_digest(key, bytes), p->digest);
}
