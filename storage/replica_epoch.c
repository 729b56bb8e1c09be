/*
 * Entering a configuration (R3, R4, R12 a-c).
 *
 * A newer configuration is staged: from that instant nothing of the older
 * epoch leaves this replica, no acknowledgement and no echo, and it serves
 * nothing. Its record goes to the log; once that is on disk the replica takes
 * the part that the configuration gives it. A still newer one may be staged
 * over it meanwhile. A crash in between leaves the older epoch on disk, and a
 * restarted process plays no part in an epoch that was durable at its start
 * (R4), which is why the config of the log alone never gives a role.
 */
#include "storage/replica_impl.h"

#include "common/tablet_check.h"

/* Its ordinal. */
static uint64_t append_config(struct replica_core *r,
                              const struct tablet_config *c, struct effects *fx)
{
    struct buf bytes = {0};
    wire_encode_tablet_config(&bytes, c);
    struct effect *x = fx_add(fx, FX_APPEND);
    x->ordinal = r->next_ordinal++;
    x->record = (struct wal_record){
        .kind = WAL_EPOCH,
        .tablet = r->tablet,
        .seq = c->epoch,
        .payload = slice_make(arena_copy(&fx->arena, bytes.data, bytes.len),
                              bytes.len),
    };
    buf_free(&bytes);
    return x->ordinal;
}

void epoch_renew(struct replica_core *r, bool voids, struct effects *fx)
{
    /* A RESET makes all void that stands before it in the log. */
    bool empty = log_last(r).seq == 0 && state_applied(r->state).seq == 0;
    if (r->renew_ordinal != 0 || r->phase == PHASE_ENTERING ||
        (voids && !empty)) {
        return;
    }
    if (voids) {
        damage_renew(r, fx);
    }
    r->renew_ordinal = append_config(r, &r->config, fx);
}

/* If it has entered another epoch since, that record is the later one. */
void epoch_on_renewed(struct replica_core *r)
{
    if (r->renew_ordinal != 0 && r->synced_ordinal >= r->renew_ordinal) {
        r->renew_ordinal = 0;
        if (r->renew_position > r->epoch_position) {
            r->epoch_position = r->renew_position;
        }
    }
}

enum status epoch_on_config(struct replica_core *r,
                            const struct tablet_config *c, struct effects *fx)
{
    enum status st = tablet_check_config(c);
    if (st != ST_OK || c->tablet != r->tablet) {
        return ST_INVALID;
    }
    if (c->epoch <= r->config.epoch || c->epoch <= r->staged.epoch) {
        return ST_OK;
    }
    struct arena fresh = {0};
    r->staged = wire_copy_tablet_config(&fresh, c);
    arena_free(&r->staged_arena);
    r->staged_arena = fresh;

    int64_t echo = beacon_table_leave(r->host->beacons, r->tablet);
    r->last_echo_us = echo > r->last_echo_us ? echo : r->last_echo_us;
    r->ask_waits = false;
    replica_set_phase(r, PHASE_ENTERING);

    r->staged_ordinal = append_config(r, &r->staged, fx);
    return ST_OK;
}

static enum replica_role role_in(const struct replica_core *r,
                                 const struct tablet_config *c)
{
    struct replica self = r->host->self;
    if (replica_equal(c->primary, self)) {
        /* R4: never for another incarnation's epoch. */
        if (!incarnation_equal(c->primary_incarnation, r->host->incarnation)) {
            return REPLICA_NONE;
        }
        return r->damaged ? REPLICA_NONE : REPLICA_PRIMARY;
    }
    if (c->primary.node == 0) {
        return REPLICA_NONE;
    }
    if (replica_in(c->in_sync, c->in_sync_count, self)) {
        return REPLICA_SECONDARY;
    }
    if (replica_in(c->learners, c->learners_count, self)) {
        return REPLICA_LEARNER;
    }
    return REPLICA_NONE;
}

static void forget_following(struct replica_core *r)
{
    r->matched = (struct name){0, 0}; /* R6: 0 on entering an epoch */
    r->acked = (struct name){0, 0};
    r->told_commit = 0;
    r->mismatch_us = 0;
    r->cut_waits = false;
    r->fetching = false;
}

static void take_role(struct replica_core *r, enum replica_role role,
                      int64_t now_us, struct effects *fx)
{
    const struct tablet_config *c = &r->config;
    r->role = role;
    if (role != REPLICA_NONE) {
        struct beacon_primary p = {c->primary, c->primary_incarnation,
                                   role == REPLICA_PRIMARY};
        beacon_table_enter(r->host->beacons, r->tablet, c->epoch, &p);
    }
    if (role == REPLICA_NONE) {
        replica_set_phase(r, PHASE_IDLE);
    } else if (role == REPLICA_PRIMARY) {
        replica_set_phase(r, PHASE_GATHERING);
        lead_begin(r, now_us, fx);
    } else {
        replica_set_phase(r, PHASE_FOLLOWING);
        bool eligible =
            replica_in(c->eligible, c->eligible_count, r->host->self);
        if (role == REPLICA_LEARNER && r->damaged && !eligible) {
            damage_wipe(r, fx);
        }
        if (r->ask_waits) {
            follow_answer_tail(r, fx);
        }
    }
    r->ask_waits = false;
}

void epoch_on_synced(struct replica_core *r, int64_t now_us, struct effects *fx)
{
    if (r->synced_ordinal < r->staged_ordinal &&
        !HAS_BUG(r->host, epoch_not_durable)) {
        return;
    }
    bool led = r->role == REPLICA_PRIMARY;
    assert(r->staged.epoch > r->config.epoch); /* R1 */
    arena_free(&r->config_arena);
    r->config = r->staged;
    r->config_arena = r->staged_arena;
    r->epoch_position = r->staged_position;
    r->staged = (struct tablet_config){0};
    r->staged_arena = (struct arena){0};
    r->coord_lease_us = 0;
    r->reads_allowed = false;
    r->pinned_seq = 0;
    r->compare = (struct compare){0};
    forget_following(r);

    enum replica_role role = role_in(r, &r->config);
    if (led && role != REPLICA_PRIMARY) {
        lead_end(r, fx);
    }
    log_info(r->host->log, "replica", "epoch-entered",
             "tablet=%" PRIu32 " epoch=%" PRIu64 " role=%s primary=%" PRIu32
             " in_sync=%" PRIu32 " last=%" PRIu64 ".%" PRIu64
             " committed=%" PRIu64,
             r->tablet, r->config.epoch, replica_role_name((uint8_t)role),
             r->config.primary.node, r->config.in_sync_count, log_last(r).epoch,
             log_last(r).seq, r->committed);
    take_role(r, role, now_us, fx);
}
