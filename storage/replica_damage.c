/*
 * A replica that cannot vouch for its data (R16).
 *
 * Recovery finds it so, or the running process does: a value that does not
 * read as what its digest says, a state that differs from the others' (R19) or
 * from itself. From then on it serves nothing. A primary gives its part up
 * within the epoch, as if it had restarted (R4): what was pending is unknown,
 * and the coordinator, which hears of the damage by the next heartbeat, makes
 * another undamaged member primary. Who is member of I goes on following, for
 * its log is as good as before and commits wait for it, until the coordinator
 * takes it out, if enough others are whole; as a learner it begins from
 * nothing and is filled by R17.
 *
 * One that is all there is of its tablet does not give it up: nobody could
 * take over. What is damaged is refused one by one where it shows (the digest
 * of a value), and everything else is still the only copy there is.
 *
 * A state can be wrong in the checkpoints, too, where their checksums are
 * right. So the finding is noted in the log and outlives a restart; and the
 * RESET with which a replica begins from nothing names the newest checkpoint
 * that there was, which is void with all before it, unless a RESET follows
 * that speaks of one that was made since.
 *
 *   RESET   name {0, 0}, seq S        from nothing; checkpoints below seq S
 *                                     are void
 *           name {0, NOTE}            condemned; a later RESET ends that. To
 *                                     older versions it is a RESET whose
 *                                     checkpoint is missing: damage as well
 *           another name              to the checkpoint of that name, which
 *                                     is void no more
 */
#include "storage/replica_impl.h"

#define NOTE UINT64_MAX

/* ---- replay ---- */

static bool is_all_there_is(const struct replica_core *r)
{
    const struct tablet_config *c =
        r->phase == PHASE_ENTERING ? &r->staged : &r->config;
    return c->in_sync_count == 1 && c->eligible_count == 0 &&
           replica_equal(c->in_sync[0], r->host->self);
}

/* A snapshot installed since may end with the very seq of what was void, or
 * below it: its file took the place of that one, or was left as the newest,
 * before the RESET to it was written. */
static bool is_installed(const struct replica_core *r, struct name to)
{
    if (r->voided == NULL || to.seq == 0) {
        return false;
    }
    struct name have = state_applied(r->voided);
    return have.seq > to.seq || name_equal(have, to);
}

enum status damage_replay_reset(struct replica_core *r,
                                const struct wal_record *record)
{
    struct name to = record->name, base = r->tail.base;
    if (!replica_resets(record)) {
        r->condemned = true;
        return ST_OK;
    }
    if (is_installed(r, to)) {
        state_free(r->state);
        r->state = r->voided;
        r->voided = NULL;
        base = state_applied(r->state);
    }
    if (to.seq > base.seq) {
        return ST_CORRUPT; /* the checkpoint it speaks of is missing */
    }
    if (to.seq == 0 && base.seq > 0 && base.seq < record->seq) {
        assert(r->voided == NULL);
        r->voided = r->state;
        r->state = state_new();
        base = (struct name){0, 0};
    }
    log_reset(r, base);
    r->loose = (struct name){0, 0};
    r->committed = base.seq;
    r->condemned = false;
    return ST_OK;
}

bool replica_resets(const struct wal_record *record)
{
    return record->kind == WAL_RESET && record->name.seq != NOTE;
}

void replica_lost_values(struct replica_core *r, int64_t count)
{
    bool stays = is_all_there_is(r);
    log_error(r->host->log, "replica", "values-lost",
              "tablet=%" PRIu32 " count=%" PRId64 " outcome=%s", r->tablet,
              count, stays ? "stays-being-the-only-one" : "to-be-rebuilt");
    r->damaged = r->damaged || !stays;
}

/* ---- running ---- */

static struct effect *append_reset(struct replica_core *r, struct name to,
                                   struct effects *fx)
{
    struct effect *x = fx_add(fx, FX_APPEND);
    x->ordinal = r->next_ordinal++;
    x->record =
        (struct wal_record){.kind = WAL_RESET, .tablet = r->tablet, .name = to};
    return x;
}

static void give_up_part(struct replica_core *r, struct effects *fx)
{
    int64_t echo = beacon_table_leave(r->host->beacons, r->tablet);
    r->last_echo_us = echo > r->last_echo_us ? echo : r->last_echo_us;
    r->reads_allowed = false;
    r->role = REPLICA_NONE;
    r->compare = (struct compare){0};
    replica_set_phase(r, PHASE_IDLE);
    lead_end(r, fx);
}

void damage_condemn(struct replica_core *r, const char *what,
                    struct effects *fx)
{
    bool stays = is_all_there_is(r);
    if (r->damaged) {
        return;
    }
    fx_add(fx, FX_CONDEMNED);
    log_error(r->host->log, "replica", "condemned",
              "tablet=%" PRIu32 " epoch=%" PRIu64 " role=%s applied=%" PRIu64
              " outcome=%s reason=\"%s\"",
              r->tablet, r->config.epoch, replica_role_name((uint8_t)r->role),
              state_applied(r->state).seq,
              stays ? "stays-being-the-only-one" : "to-be-rebuilt", what);
    if (stays) {
        return;
    }
    r->damaged = true;
    (void)append_reset(r, (struct name){0, NOTE}, fx);
    if (r->role == REPLICA_PRIMARY && r->phase != PHASE_ENTERING) {
        give_up_part(r, fx);
    }
}

void damage_wipe(struct replica_core *r, struct effects *fx)
{
    log_warn(r->host->log, "replica", "damaged-replica-rebuilt",
             "tablet=%" PRIu32 " epoch=%" PRIu64, r->tablet, r->config.epoch);
    state_free(r->state);
    r->state = state_new();
    log_reset(r, (struct name){0, 0});
    r->committed = 0;
    r->logged_commit = 0;
    r->damaged = false;
    (void)append_reset(r, (struct name){0, 0}, fx);
    fx_add(fx, FX_INSTALLED);
}

void damage_renew(struct replica_core *r, struct effects *fx)
{
    assert(log_last(r).seq == 0 && state_applied(r->state).seq == 0);
    (void)append_reset(r, (struct name){0, 0}, fx);
}
