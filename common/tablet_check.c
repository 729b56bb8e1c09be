#include "common/tablet_check.h"

static bool holds(const struct replica *list, uint32_t count, struct replica r)
{
    for (uint32_t i = 0; i < count; i++) {
        if (replica_equal(list[i], r)) {
            return true;
        }
    }
    return false;
}

/* A set: nobody twice, nobody without a number. */
static bool is_set(const struct replica *list, uint32_t count)
{
    if (count > LIMIT_REPLICAS) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (list[i].node == 0 || holds(list, i, list[i])) {
            return false;
        }
    }
    return true;
}

static bool sets_are_good(const struct tablet_config *t)
{
    if (!is_set(t->in_sync, t->in_sync_count) ||
        !is_set(t->eligible, t->eligible_count) ||
        !is_set(t->learners, t->learners_count) || t->in_sync_count == 0) {
        return false;
    }
    for (uint32_t i = 0; i < t->in_sync_count; i++) {
        if (holds(t->eligible, t->eligible_count, t->in_sync[i]) ||
            holds(t->learners, t->learners_count, t->in_sync[i])) {
            return false;
        }
    }
    return true;
}

enum status tablet_check_config(const struct tablet_config *t)
{
    bool good = t->tablet != 0 && t->tablet <= LIMIT_TABLETS && t->epoch != 0 &&
                t->epoch <= LIMIT_EPOCH && t->hash_first <= t->hash_last &&
                sets_are_good(t) &&
                (t->primary.node == 0 ||
                 holds(t->in_sync, t->in_sync_count, t->primary));
    return good ? ST_OK : ST_INVALID;
}

enum status tablet_check_map(const struct msg_map *m)
{
    bool none = m->tablets_count == 0;
    if (m->replicas >= LIMIT_REPLICAS || (m->replicas == 0 && !none) ||
        (m->replicas != 0 && m->min_insync != m->replicas / 2 + 1)) {
        return ST_INVALID;
    }
    for (uint32_t i = 0; i < m->tablets_count; i++) {
        const struct tablet_config *t = &m->tablets[i];
        if (tablet_check_config(t) != ST_OK ||
            (i > 0 && t->tablet <= m->tablets[i - 1].tablet)) {
            return ST_INVALID;
        }
    }
    return ST_OK;
}
