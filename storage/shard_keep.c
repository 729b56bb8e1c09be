/*
 * Values that a learner's snapshot brings and that are too large for the log
 * (R17): they go to the blob log under names of this replica's own, for names
 * say nothing to others and are in no digest. A checkpoint that has them is
 * written when all are synced.
 */
#include "storage/shard_blobs.h"

#include <stdlib.h>
#include <string.h>

#define KEPT_BYTES MIB(16) /* on their way to the disk */

struct kept_blob {
    struct kept_blobs *all;
    struct blob_in *in;
    uint32_t len;
    TAILQ_ENTRY(kept_blob) link;
};

void kept_blobs_init(struct kept_blobs *x, struct shard *s,
                     void (*on_change)(void *ctx, enum status s), void *ctx)
{
    *x = (struct kept_blobs){.k = s->blobs, .on_change = on_change, .ctx = ctx};
    TAILQ_INIT(&x->list);
}

static void forget(struct kept_blob *b)
{
    TAILQ_REMOVE(&b->all->list, b, link);
    b->all->count--;
    b->all->bytes -= b->len;
    blobs_drop(b->in);
    free(b);
}

void kept_blobs_drop(struct kept_blobs *x)
{
    while (!TAILQ_EMPTY(&x->list)) {
        forget(TAILQ_FIRST(&x->list));
    }
}

static void on_done(void *ctx, enum status s)
{
    struct kept_blob *b = ctx;
    struct kept_blobs *x = b->all;
    b->in = NULL;
    forget(b);
    if (s != ST_OK || x->count == 0) {
        x->on_change(x->ctx, s);
    }
}

enum status kept_blobs_put(struct kept_blobs *x, struct slice key,
                           struct slice value, struct place *out)
{
    struct blob_ref r = {.len = (uint32_t)value.len, .seed = place_seed(key)};
    if (x->bytes + value.len > KEPT_BYTES && x->count > 0) {
        return ST_BUSY;
    }
    struct kept_blob *b = xcalloc(1, sizeof(*b));
    struct blob_sink sink = {.on_done = on_done, .ctx = b};
    env_random(x->k->s->env, r.id.b, sizeof(r.id.b));
    r.digest = blob_digest(r.seed, value);
    enum status s = blobs_begin(x->k->blobs, &r, &sink, &b->in);
    if (s != ST_OK) {
        free(b);
        return s;
    }
    b->all = x;
    b->len = r.len;
    TAILQ_INSERT_TAIL(&x->list, b, link);
    x->count++;
    x->bytes += r.len;
    struct blob_bytes *bytes = blob_bytes_new(r.len);
    memcpy(blob_bytes_data(bytes), value.data, value.len);
    blobs_put(b->in, bytes);
    blob_bytes_unref(bytes);
    *out = (struct place){
        .tag = VALUE_BLOB, .blob = r.id, .len = r.len, .digest = r.digest};
    return ST_OK;
}
