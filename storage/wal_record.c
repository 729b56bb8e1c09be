/*
 * One record of the log. Little endian, 8-byte aligned:
 *    0 u32 check of the head     8 u64 check of the whole
 *    4 u32 payload length       16 u8 kind, 3 bytes zero, u32 tablet
 *   24 u64 start counter        32 u64 mark
 *   40 name (epoch, seq)        56 previous name
 *   72 u64 seq                  80 payload, zeros up to a multiple of 8
 * Both checks are XXH3-64 (the first cut to 32 bits), seeded by the store's
 * random key and the record's position: what is found elsewhere than it was
 * written, in another store or inside a user's value is no record (R16). The
 * head has a check of its own so that looking for a record at every 8-byte
 * boundary does not hash megabytes for each that looks like one.
 */
#include "storage/wal_private.h"

#include "storage/wal_witness.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

uint64_t wal_record_size(size_t len)
{
    return WAL_RECORD_HEAD + ((uint64_t)len + 7) / 8 * 8;
}

static uint64_t place_seed(const uint64_t key[2], uint64_t position)
{
    uint64_t place[3] = {key[0], key[1], position};
    return XXH3_64bits(place, sizeof(place));
}

static void store_le(uint8_t *to, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        to[i] = (uint8_t)(v >> (8 * i));
    }
}

/* Length, and everything from the kind on. */
static uint64_t head_check(const uint8_t *head, uint64_t seed)
{
    uint8_t covered[4 + WAL_RECORD_HEAD - 16];
    memcpy(covered, head + 4, 4);
    memcpy(covered + 4, head + 16, WAL_RECORD_HEAD - 16);
    return XXH3_64bits_withSeed(covered, sizeof(covered), seed);
}

static uint64_t whole_check(uint64_t head, struct slice payload)
{
    return XXH3_64bits_withSeed(payload.data, payload.len, head);
}

void wal_record_encode(struct buf *out, const uint64_t key[2],
                       uint64_t position, const struct wal_stamp *stamp,
                       const struct wal_record *r)
{
    static const uint8_t zeros[8];
    size_t start = out->len;
    assert(position % 8 == 0);
    buf_put_u32(out, 0);
    buf_put_u32(out, (uint32_t)r->payload.len);
    buf_put_u64(out, 0);
    buf_put_u32(out, (uint32_t)r->kind);
    buf_put_u32(out, r->tablet);
    buf_put_u64(out, stamp->counter);
    buf_put_u64(out, stamp->mark);
    buf_put_u64(out, r->name.epoch);
    buf_put_u64(out, r->name.seq);
    buf_put_u64(out, r->previous.epoch);
    buf_put_u64(out, r->previous.seq);
    buf_put_u64(out, r->seq);
    assert(out->len - start == WAL_RECORD_HEAD);
    buf_put_slice(out, r->payload);
    buf_put(out, zeros, (8 - r->payload.len % 8) % 8);
    uint8_t *head = out->data + start;
    uint64_t check = head_check(head, place_seed(key, position));
    store_le(head, check, 4);
    store_le(head + 8, whole_check(check, r->payload), 8);
}

_Static_assert(WAL_KINDS == WAL_VALUE + 1, "every kind has a name");

const char *wal_kind_name(int kind)
{
    static const char *const names[WAL_KINDS] = {
        [WAL_ENTRY] = "entry", [WAL_EPOCH] = "epoch", [WAL_COMMIT] = "commit",
        [WAL_CUT] = "cut",     [WAL_RESET] = "reset", [WAL_DROP] = "drop",
        [WAL_MARK] = "mark",   [WAL_SEAL] = "seal",   [WAL_VALUE] = "value",
    };
    return kind > 0 && kind < WAL_KINDS ? names[kind] : "unknown";
}

bool wal_kind_is_own(int kind)
{
    return kind == WAL_MARK || kind == WAL_SEAL;
}

static bool kind_valid(uint32_t kind)
{
    return kind >= WAL_ENTRY && kind <= WAL_VALUE;
}

/* The cheap tests first: this is asked at every boundary. */
static bool head_valid(struct slice bytes, const uint64_t key[2],
                       uint64_t position, uint64_t *check)
{
    if (bytes.len < WAL_RECORD_HEAD) {
        return false;
    }
    struct cursor c = cursor_of(slice_make(bytes.data, WAL_RECORD_HEAD));
    uint32_t stored = cursor_u32(&c);
    uint32_t len = cursor_u32(&c);
    (void)cursor_u64(&c);
    uint32_t kind = cursor_u32(&c);
    if (!kind_valid(kind) || len > WAL_PAYLOAD_MAX) {
        return false;
    }
    *check = head_check(bytes.data, place_seed(key, position));
    return (uint32_t)*check == stored;
}

bool wal_record_head(struct slice bytes, const uint64_t key[2],
                     uint64_t position, uint64_t *size)
{
    uint64_t check;
    if (!head_valid(bytes, key, position, &check)) {
        return false;
    }
    struct cursor c = cursor_of(slice_make(bytes.data + 4, 4));
    *size = wal_record_size(cursor_u32(&c));
    return true;
}

bool wal_record_decode(struct slice bytes, const uint64_t key[2],
                       uint64_t position, struct wal_stamp *stamp,
                       struct wal_record *r)
{
    uint64_t check;
    if (!head_valid(bytes, key, position, &check)) {
        return false;
    }
    struct cursor c = cursor_of(bytes);
    (void)cursor_u32(&c);
    uint32_t len = cursor_u32(&c);
    uint64_t whole = cursor_u64(&c);
    struct wal_record x = {.kind = (enum wal_kind)cursor_u32(&c)};
    struct wal_stamp s;
    x.tablet = cursor_u32(&c);
    s.counter = cursor_u64(&c);
    s.mark = cursor_u64(&c);
    x.name.epoch = cursor_u64(&c);
    x.name.seq = cursor_u64(&c);
    x.previous.epoch = cursor_u64(&c);
    x.previous.seq = cursor_u64(&c);
    x.seq = cursor_u64(&c);
    x.payload = cursor_bytes(&c, len);
    if (c.bad || whole_check(check, x.payload) != whole) {
        return false;
    }
    x.position = position;
    x.end = position + wal_record_size(len);
    *stamp = s;
    *r = x;
    return true;
}
