/*
 * Which blobs there are: a hash table by name, and for each file the list of
 * what stands in it. Names are random, so their first bytes are hash enough;
 * one who makes up names to collide is one of our own peers.
 */
#include "storage/blobs_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 256u

static size_t bucket_of(const struct id128 *id, size_t count)
{
    uint64_t h;
    memcpy(&h, id->b, sizeof(h));
    return (size_t)h & (count - 1);
}

struct blob *blob_find(const struct blobs *b, const struct id128 *id)
{
    if (b->bucket_count == 0) {
        return NULL;
    }
    struct blob *x = b->buckets[bucket_of(id, b->bucket_count)];
    while (x != NULL && !id128_equal(x->ref.id, *id)) {
        x = x->next_in_bucket;
    }
    return x;
}

static void grow(struct blobs *b)
{
    size_t count = b->bucket_count == 0 ? BUCKETS_MIN : 2 * b->bucket_count;
    struct blob **buckets = xcalloc(count, sizeof(*buckets));
    for (size_t i = 0; i < b->bucket_count; i++) {
        struct blob *x = b->buckets[i];
        while (x != NULL) {
            struct blob *next = x->next_in_bucket;
            size_t to = bucket_of(&x->ref.id, count);
            x->next_in_bucket = buckets[to];
            buckets[to] = x;
            x = next;
        }
    }
    free(b->buckets);
    b->buckets = buckets;
    b->bucket_count = count;
}

struct blob *blob_add(struct blobs *b, const struct blob_ref *ref)
{
    assert(blob_find(b, &ref->id) == NULL);
    if (b->count >= b->bucket_count) {
        grow(b);
    }
    struct blob *x = xcalloc(1, sizeof(*x));
    x->ref = *ref;
    size_t to = bucket_of(&ref->id, b->bucket_count);
    x->next_in_bucket = b->buckets[to];
    b->buckets[to] = x;
    b->count++;
    return x;
}

void blob_remove(struct blobs *b, struct blob *blob)
{
    assert(blob->file == NULL && !blob->loose);
    struct blob **at = &b->buckets[bucket_of(&blob->ref.id, b->bucket_count)];
    while (*at != blob) {
        at = &(*at)->next_in_bucket;
    }
    *at = blob->next_in_bucket;
    b->count--;
    free(blob);
}

void blob_index_free(struct blobs *b)
{
    for (size_t i = 0; i < b->bucket_count; i++) {
        while (b->buckets[i] != NULL) {
            struct blob *next = b->buckets[i]->next_in_bucket;
            free(b->buckets[i]);
            b->buckets[i] = next;
        }
    }
    free(b->buckets);
}

void blob_place(struct blobs *b, struct blob *blob, struct blob_file *f,
                uint64_t offset)
{
    assert(blob->file == NULL);
    blob->file = f;
    blob->offset = offset;
    f->live += blob_record_size(blob->ref.len);
    TAILQ_INSERT_TAIL(&f->blobs, blob, of_file);
    b->stats.blobs++;
}

void blob_unplace(struct blobs *b, struct blob *blob)
{
    struct blob_file *f = blob->file;
    assert(f != NULL);
    f->live -= blob_record_size(blob->ref.len);
    TAILQ_REMOVE(&f->blobs, blob, of_file);
    blob->file = NULL;
    b->stats.blobs--;
}
