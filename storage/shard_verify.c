/*
 * Reading all values that are not in memory, one after the other, and
 * comparing each with its digest: for inspecting a shard that will not be
 * started. It blocks.
 */
#include "storage/shard_blobs.h"

#include <stdlib.h>

struct verifying {
    struct shard *s;
    struct shard_values_found *found;
    void (*fn)(void *ctx, const struct verified_value *v);
    void *ctx;
    uint8_t *room;
    uint32_t tablet;
};

static enum status read_now(const struct verifying *x, const struct place *p)
{
    if (p->tag == VALUE_LOG) {
        return wal_value_read_now(x->s->wal, p->position, p->len, x->room);
    }
    struct blob_ref ref = blob_of_place(p);
    return blobs_read_now(x->s->blobs->blobs, &ref, x->room);
}

static void verify(void *ctx, struct slice key, const struct place *p)
{
    struct verifying *x = ctx;
    enum status st = read_now(x, p);
    if (st == ST_OK && !place_verify(p, key, slice_make(x->room, p->len))) {
        st = ST_CORRUPT;
    }
    x->found->count++;
    x->found->bytes += p->len;
    x->found->damaged += st != ST_OK;
    struct verified_value v = {x->tablet, key, p, 0, 0, st};
    struct blob_ref ref = blob_of_place(p);
    (void)(p->tag == VALUE_BLOB &&
           blobs_where(x->s->blobs->blobs, &ref, &v.file, &v.offset));
    x->fn(x->ctx, &v);
}

void shard_verify_values(struct shard *s, uint32_t tablet,
                         void (*fn)(void *ctx, const struct verified_value *v),
                         void *ctx, struct shard_values_found *out)
{
    const struct tablet *t = shard_tablet(s, tablet);
    *out = (struct shard_values_found){0};
    if (t == NULL) {
        return;
    }
    struct verifying x = {s, out, fn, ctx, xmalloc(LIMIT_VALUE), tablet};
    struct state_walk *w = state_walk_new(replica_state(t->core));
    (void)state_walk_on(w, SIZE_MAX, verify, &x);
    state_walk_free(w);
    free(x.room);
}
