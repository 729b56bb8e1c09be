#include "storage/key.h"

#include <assert.h>
#include <string.h>

#define ESCAPED 0xff
#define END_OF_PART 0x01

struct slice key_slice(const struct key *k)
{
    return slice_make(k->bytes, k->len);
}

static void put_raw(struct key *k, struct slice s)
{
    assert(s.len <= LIMIT_KEY_PART);
    if (s.len > 0) {
        memcpy(k->bytes + k->len, s.data, s.len);
        k->len += s.len;
    }
}

static void put_part(struct key *k, struct slice s)
{
    assert(s.len <= LIMIT_KEY_PART);
    if (s.len > 0 && memchr(s.data, 0, s.len) == NULL) {
        put_raw(k, s);
        return;
    }
    for (size_t i = 0; i < s.len; i++) {
        k->bytes[k->len++] = s.data[i];
        if (s.data[i] == 0) {
            k->bytes[k->len++] = ESCAPED;
        }
    }
}

static void put_end(struct key *k)
{
    k->bytes[k->len++] = 0;
    k->bytes[k->len++] = END_OF_PART;
}

void key_partition(struct key *k, struct slice partition)
{
    uint64_t hash = partition_hash(partition);
    for (int i = 0; i < 8; i++) {
        k->bytes[i] = (uint8_t)(hash >> (56 - 8 * i));
    }
    k->len = 8;
    put_part(k, partition);
    put_end(k);
}

void key_rows(struct key *k, struct slice partition, struct slice row)
{
    key_partition(k, partition);
    put_part(k, row);
}

void key_encode(struct key *k, struct slice partition, struct slice row,
                struct slice column)
{
    key_rows(k, partition, row);
    put_end(k);
    put_raw(k, column);
}

void key_within(struct key *k, size_t partition, struct slice row,
                struct slice column)
{
    assert(partition <= k->len);
    k->len = partition;
    put_part(k, row);
    put_end(k);
    put_raw(k, column);
}

bool key_behind(struct key *k)
{
    while (k->len > 0) {
        if (++k->bytes[k->len - 1] != 0) {
            return true;
        }
        k->len--;
    }
    return false;
}

/* One part off the front of *S. */
static bool take_part(struct slice *s, struct arena *a, struct slice *out)
{
    size_t len = 0, zeros = 0, i = 0;
    for (;; i++) {
        if (i + 1 >= s->len) {
            return false;
        }
        if (s->data[i] == 0) {
            if (s->data[i + 1] == END_OF_PART) {
                break;
            }
            if (s->data[++i] != ESCAPED) {
                return false;
            }
            zeros++;
        }
        len++;
    }
    *out = slice_make(s->data, len);
    if (zeros > 0) {
        uint8_t *copy = arena_alloc(a, len);
        for (size_t from = 0, to = 0; from < i; from++, to++) {
            copy[to] = s->data[from];
            from += s->data[from] == 0;
        }
        out->data = copy;
    }
    *s = slice_make(s->data + i + 2, s->len - i - 2);
    return len <= LIMIT_KEY_PART;
}

bool key_decode(struct slice s, struct arena *a, struct key_parts *out)
{
    struct key_parts p;
    if (s.len < 8) {
        return false;
    }
    s = slice_make(s.data + 8, s.len - 8);
    if (!take_part(&s, a, &p.partition) || !take_part(&s, a, &p.row) ||
        s.len > LIMIT_KEY_PART) {
        return false;
    }
    p.column = s;
    *out = p;
    return true;
}
