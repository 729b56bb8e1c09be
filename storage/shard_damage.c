/*
 * Damage that a running process finds: a value whose bytes do not have its
 * digest, a state that differs from the others' or from itself (R16, R19).
 * Here it is said and counted; what the replica does then is
 * replica_damage.c's.
 */
#include "storage/shard_damage.h"

#include "storage/shard_impl.h"

void shard_condemn(struct shard *s, struct tablet *t, const char *what)
{
    struct event e = {.kind = EVENT_CONDEMN, .u.damage = what};
    assert(!s->stepping);
    shard_step(s, t, &e);
}
