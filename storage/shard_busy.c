/*
 * Whether the log's next sync may hold up the loop, if the disk is quick.
 *
 * It may where nobody else would get on meanwhile: with one client, or one
 * primary whose clients all wait for this very group, two wakings of a thread
 * are dearer than the disk. It may not while
 *   - entries of primaries here are on this disk and others' acknowledgements
 *     are due: handling them answers clients;
 *   - this process leads and follows at once: then several primaries take
 *     commands, each at its own pace, and each one's PREPAREs and
 *     acknowledgements would wait for the others' syncs.
 */
#include "storage/shard_impl.h"

void shard_note_step(struct tablet *t, const struct effects *fx)
{
    struct shard *s = t->shard;
    uint64_t awaited = replica_awaited(t->core);
    s->awaited += awaited - t->awaited;
    t->awaited = awaited;
    for (uint32_t i = 0; i < fx->count; i++) {
        const struct effect *x = &fx->items[i];
        if (x->kind == FX_APPEND && x->record.kind == WAL_ENTRY) {
            bool leads = replica_role_of(t->core) == REPLICA_PRIMARY;
            s->leads = s->leads || leads;
            s->follows = s->follows || !leads;
        }
    }
}

bool shard_is_busy(void *ctx)
{
    struct shard *s = ctx;
    bool both = s->leads && s->follows;
    s->leads = s->follows = false;
    return both || s->awaited > 0;
}
