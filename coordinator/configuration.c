/*
 * The algebra of configurations. In the words of replication.md:
 *
 *   epoch' = epoch + 1                                              (R1)
 *   I' is a part of I, plus one shadow that the primary asked for;
 *      or, where I is lost, a part of E                             (R2, R8 b)
 *   E' = (E + I) - I' where |I'| < min_insync, else empty           (R8 a)
 *
 * E' in one line, because R8 (a) is about every change that leaves I' below
 * min_insync: those who leave I now hold every committed entry, for they had
 * to acknowledge it; those who were in E already still do, because nothing
 * committed since (E is only kept while I is below min_insync). Leaving one
 * out of E is always safe: E is only a permission. So a replica known to be
 * damaged is left out, and so is one too many.
 */
#include "coordinator/configuration.h"

#include <assert.h>

#include "common/tablet_check.h"

bool set_has(const struct replica_set *s, struct replica r)
{
    for (uint32_t i = 0; i < s->count; i++) {
        if (replica_equal(s->at[i], r)) {
            return true;
        }
    }
    return false;
}

bool set_add(struct replica_set *s, struct replica r)
{
    if (set_has(s, r)) {
        return true;
    }
    if (s->count == LIMIT_REPLICAS) {
        return false;
    }
    s->at[s->count++] = r;
    return true;
}

void set_remove(struct replica_set *s, struct replica r)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        if (!replica_equal(s->at[i], r)) {
            s->at[kept++] = s->at[i];
        }
    }
    s->count = kept;
}

bool set_within(const struct replica_set *a, const struct replica_set *b)
{
    for (uint32_t i = 0; i < a->count; i++) {
        if (!set_has(b, a->at[i])) {
            return false;
        }
    }
    return true;
}

bool set_equal(const struct replica_set *a, const struct replica_set *b)
{
    return a->count == b->count && set_within(a, b);
}

/* Ranges of equal size; the last one ends at the last hash. */
static uint64_t range_start(uint32_t index, uint32_t tablets)
{
    return (uint64_t)(((unsigned __int128)index << 64) / tablets);
}

void configuration_first(uint32_t tablet, uint32_t tablets,
                         const struct replica_set *in_sync,
                         struct configuration *out)
{
    assert(tablet >= 1 && tablet <= tablets && in_sync->count > 0);
    *out = (struct configuration){
        .tablet = tablet,
        .hash_first = range_start(tablet - 1, tablets),
        .hash_last =
            tablet == tablets ? UINT64_MAX : range_start(tablet, tablets) - 1,
        .epoch = 1,
        .in_sync = *in_sync,
    };
}

static void check_draft(const struct configuration *old, const struct draft *d)
{
    assert(d->in_sync.count > 0);
    assert(set_has(&d->in_sync, d->primary));
    for (uint32_t i = 0; i < d->in_sync.count; i++) {
        struct replica r = d->in_sync.at[i];
        assert(r.node != 0);
        assert(!set_has(&d->learners, r));
        switch (d->door) { /* R2 */
        case DOOR_SHUT:
            assert(set_has(&old->in_sync, r));
            break;
        case DOOR_SHADOW:
            assert(set_has(&old->in_sync, r) ||
                   (replica_equal(r, d->added) && set_has(&old->learners, r)));
            break;
        case DOOR_ELIGIBLE:
            assert(set_has(&old->eligible, r));
            break;
        }
    }
}

static void leave_to(struct replica_set *eligible,
                     const struct replica_set *from, const struct draft *d)
{
    for (uint32_t i = 0; i < from->count; i++) {
        struct replica r = from->at[i];
        if (!set_has(&d->in_sync, r) && !set_has(&d->forfeit, r)) {
            (void)set_add(eligible, r);
        }
    }
}

void configuration_next(const struct configuration *old, const struct draft *d,
                        unsigned min_insync, struct configuration *out)
{
    check_draft(old, d);
    struct configuration next = {
        .tablet = old->tablet,
        .hash_first = old->hash_first,
        .hash_last = old->hash_last,
        .epoch = old->epoch + 1, /* R1 */
        .primary = d->primary,
        .primary_incarnation = d->primary_incarnation,
        .in_sync = d->in_sync,
        .learners = d->learners,
    };
    if (next.in_sync.count < min_insync) { /* R8 (a) */
        leave_to(&next.eligible, &old->in_sync, d);
        leave_to(&next.eligible, &old->eligible, d);
    }
    *out = next;
}

bool configuration_differs(const struct configuration *old,
                           const struct draft *d)
{
    return !replica_equal(old->primary, d->primary) ||
           !incarnation_equal(old->primary_incarnation,
                              d->primary_incarnation) ||
           !set_equal(&old->in_sync, &d->in_sync) ||
           !set_equal(&old->learners, &d->learners);
}

struct tablet_config configuration_record(struct configuration *c)
{
    return (struct tablet_config){
        .tablet = c->tablet,
        .hash_first = c->hash_first,
        .hash_last = c->hash_last,
        .epoch = c->epoch,
        .primary = c->primary,
        .primary_incarnation = c->primary_incarnation,
        .in_sync = c->in_sync.at,
        .in_sync_count = c->in_sync.count,
        .eligible = c->eligible.at,
        .eligible_count = c->eligible.count,
        .learners = c->learners.at,
        .learners_count = c->learners.count,
    };
}

static void set_from(const struct replica *items, uint32_t count,
                     struct replica_set *out)
{
    for (uint32_t i = 0; i < count; i++) {
        bool room = set_add(out, items[i]);
        assert(room); /* tablet_check_config() */
    }
}

enum status configuration_from(const struct tablet_config *t,
                               struct configuration *out)
{
    /* One that we made has a primary. */
    if (tablet_check_config(t) != ST_OK || t->primary.node == 0) {
        return ST_INVALID;
    }
    struct configuration c = {
        .tablet = t->tablet,
        .hash_first = t->hash_first,
        .hash_last = t->hash_last,
        .epoch = t->epoch,
        .primary = t->primary,
        .primary_incarnation = t->primary_incarnation,
    };
    set_from(t->in_sync, t->in_sync_count, &c.in_sync);
    set_from(t->eligible, t->eligible_count, &c.eligible);
    set_from(t->learners, t->learners_count, &c.learners);
    *out = c;
    return ST_OK;
}
