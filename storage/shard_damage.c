/*
 * Damage that a running process finds: a value whose bytes do not have its
 * digest, a state that differs from the others' or from itself (R16, R19).
 * Here it is said and counted; what the replica does then is
 * replica_damage.c's.
 */
#include "storage/shard_damage.h"

#include "storage/shard_impl.h"
#include "storage/shard_repair.h"

void shard_condemn(struct shard *s, struct tablet *t, const char *what)
{
    struct event e = {.kind = EVENT_CONDEMN, .u.damage = what};
    assert(!s->stepping);
    shard_step(s, t, &e);
}

struct missing {
    struct tablet *tablet;
    bool repaired; /* all so far */
};

static void check_cell(void *ctx, struct slice key, const struct place *p)
{
    struct missing *x = ctx;
    if (p->tag == VALUE_LOG && x->repaired &&
        !wal_value_has(x->tablet->shard->wal, p->position)) {
        x->repaired = repair_cell(x->tablet, key, p, "start");
    }
}

void shard_repair_missing(struct shard *s, struct tablet *t)
{
    struct missing x = {t, t->missing <= LIMIT_REPAIRS};
    log_error(s->env->log, "shard", "values-missing",
              "tablet=%" PRIu32 " count=%" PRId64, t->id, t->missing);
    if (x.repaired) {
        struct state_walk *w = state_walk_new(replica_state(t->core));
        (void)state_walk_on(w, SIZE_MAX, check_cell, &x);
        state_walk_free(w);
    }
    if (!x.repaired) {
        replica_lost_values(t->core, t->missing);
    }
}
