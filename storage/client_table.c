/*
 * A hash table of clients, which are also in a list by when they were heard:
 * hearing one moves it to the list's end. The numbers of a client that may
 * have results lie in a window of 256, so they are kept in a ring by number;
 * a ring is as large as the window in use has been.
 *
 * Every command changes the table, so it is changed in place, and whoever
 * needs it as it was takes an encoded copy (state_snapshot()).
 */
#include "storage/client_table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define BUCKETS_MIN 16u
#define SLOTS_MIN 4u
/* Bytes of a client and of a result, encoded (state_clients.c). */
#define CLIENT_BYTES 44u
#define RESULT_BYTES 18u
#define VALUE_BYTES 10u

static uint64_t size_of(const struct stored *s)
{
    return RESULT_BYTES + (uint64_t)s->count * VALUE_BYTES;
}

/* ---- the hash table ---- */

static struct client **bucket_of(const struct client_table *t, struct id128 id)
{
    uint64_t h = XXH3_64bits(id.b, sizeof(id.b));
    return &t->buckets[h & (t->bucket_count - 1)];
}

static void grow(struct client_table *t)
{
    struct client_table old = *t;
    t->bucket_count = old.bucket_count == 0 ? BUCKETS_MIN : 2 * t->bucket_count;
    t->buckets = xcalloc(t->bucket_count, sizeof(*t->buckets));
    t->memory += (t->bucket_count - old.bucket_count) * sizeof(*t->buckets);
    for (struct client *c = t->oldest; c != NULL; c = c->newer) {
        struct client **b = bucket_of(t, c->id);
        c->chain = *b;
        *b = c;
    }
    free(old.buckets);
}

struct client *client_table_find(const struct client_table *t, struct id128 id)
{
    if (t->count == 0) {
        return NULL;
    }
    struct client *c = *bucket_of(t, id);
    while (c != NULL && !id128_equal(c->id, id)) {
        c = c->chain;
    }
    return c;
}

/* ---- the list ---- */

static void append(struct client_table *t, struct client *c)
{
    assert(t->newest == NULL || t->newest->heard < c->heard);
    c->older = t->newest;
    c->newer = NULL;
    if (t->newest != NULL) {
        t->newest->newer = c;
    } else {
        t->oldest = c;
    }
    t->newest = c;
}

static void take_out(struct client_table *t, struct client *c)
{
    if (c->older != NULL) {
        c->older->newer = c->newer;
    } else {
        t->oldest = c->newer;
    }
    if (c->newer != NULL) {
        c->newer->older = c->older;
    } else {
        t->newest = c->older;
    }
}

void client_table_hear(struct client_table *t, struct client *c, uint64_t heard)
{
    take_out(t, c);
    c->heard = heard;
    append(t, c);
}

/* ---- results ---- */

static void forget(struct client_table *t, struct stored *s)
{
    t->bytes -= size_of(s);
    t->memory -= s->count * sizeof(*s->values);
    free(s->values);
    *s = (struct stored){0};
}

static void forget_all(struct client_table *t, struct client *c)
{
    for (uint32_t i = 0; i < c->cap; i++) {
        if (c->slots[i].number != 0) {
            forget(t, &c->slots[i]);
        }
    }
}

void client_table_advance(struct client_table *t, struct client *c,
                          uint64_t oldest_open)
{
    uint64_t old = c->oldest_open;
    assert(oldest_open >= old);
    c->oldest_open = oldest_open;
    if (oldest_open - old >= c->cap) {
        forget_all(t, c);
        return;
    }
    for (uint64_t n = old; n < oldest_open; n++) {
        struct stored *s = &c->slots[n & (c->cap - 1)];
        if (s->number != 0) {
            assert(s->number == n);
            forget(t, s);
        }
    }
}

const struct stored *client_result(const struct client *c, uint64_t number)
{
    if (c->cap == 0) {
        return NULL;
    }
    const struct stored *s = &c->slots[number & (c->cap - 1)];
    return s->number == number ? s : NULL;
}

/* So that numbers up to LAST have slots of their own. */
static void widen(struct client_table *t, struct client *c, uint64_t last)
{
    uint32_t cap = c->cap == 0 ? SLOTS_MIN : c->cap;
    while (last - c->oldest_open >= cap) {
        cap *= 2;
    }
    if (cap == c->cap) {
        return;
    }
    assert(cap <= LIMIT_CLIENT_WINDOW);
    struct stored *wide = xcalloc(cap, sizeof(*wide));
    for (uint32_t i = 0; i < c->cap; i++) {
        if (c->slots[i].number != 0) {
            wide[c->slots[i].number & (cap - 1)] = c->slots[i];
        }
    }
    t->memory += (cap - c->cap) * sizeof(*wide);
    free(c->slots);
    c->slots = wide;
    c->cap = cap;
}

void client_table_store_result(struct client_table *t, struct client *c,
                               uint64_t number, const struct result *r)
{
    assert(number >= c->oldest_open && number != 0 &&
           number - c->oldest_open < LIMIT_CLIENT_WINDOW);
    assert(r->values_count <= LIMIT_RESULT_VALUES);
    widen(t, c, number);
    struct stored *s = &c->slots[number & (c->cap - 1)];
    if (s->number != 0) {
        forget(t, s);
    }
    *s = (struct stored){.number = number,
                         .status = r->status,
                         .failed = r->failed,
                         .more = r->more,
                         .count = (uint8_t)r->values_count};
    if (s->count > 0) {
        s->values = xmalloc(s->count * sizeof(*s->values));
        memcpy(s->values, r->values, s->count * sizeof(*s->values));
    }
    t->bytes += size_of(s);
    t->memory += s->count * sizeof(*s->values);
}

/* ---- clients ---- */

struct client *client_table_add(struct client_table *t, struct id128 id,
                                uint64_t session, uint64_t heard)
{
    assert(client_table_find(t, id) == NULL);
    if (t->count >= t->bucket_count) {
        grow(t);
    }
    struct client *c = xcalloc(1, sizeof(*c));
    c->id = id;
    c->session = session;
    c->oldest_open = 1;
    c->heard = heard;
    append(t, c);
    struct client **b = bucket_of(t, id);
    c->chain = *b;
    *b = c;
    t->count++;
    t->bytes += CLIENT_BYTES;
    t->memory += sizeof(*c);
    return c;
}

void client_table_remove(struct client_table *t, struct client *c)
{
    struct client **at = bucket_of(t, c->id);
    while (*at != c) {
        at = &(*at)->chain;
    }
    *at = c->chain;
    take_out(t, c);
    forget_all(t, c);
    t->count--;
    t->bytes -= CLIENT_BYTES;
    t->memory -= sizeof(*c) + c->cap * sizeof(*c->slots);
    free(c->slots);
    free(c);
}

void client_table_fini(struct client_table *t)
{
    while (t->oldest != NULL) {
        client_table_remove(t, t->oldest);
    }
    t->memory -= t->bucket_count * sizeof(*t->buckets);
    assert(t->bytes == 0 && t->memory == 0 && t->count == 0);
    free(t->buckets);
    *t = (struct client_table){0};
}
