/*
 * Leases and reads (R9, R12 e). A read is answered from applied state while
 * the lease from every other member of I and every shadow member holds, and,
 * while I is below min_insync, the coordinator's too. The caller fetches the
 * value first and asks then: the lease is checked after the value.
 */
#include "storage/replica_impl.h"

bool read_below_min(const struct replica_core *r)
{
    return r->config.in_sync_count < r->host->min_insync;
}

bool replica_serving(const struct replica_core *r, int64_t now_us)
{
    if (r->role != REPLICA_PRIMARY || r->phase == PHASE_ENTERING ||
        !r->reads_allowed) {
        return false;
    }
    if (HAS_BUG(r->host, read_without_lease)) {
        return true;
    }
    if (read_below_min(r) && now_us >= r->coord_lease_us) {
        return false;
    }
    return now_us <
           beacon_table_lease_end(r->host->beacons, r->tablet, r->config.epoch);
}

enum status replica_may_read(const struct replica_core *r, int64_t now_us)
{
    if (replica_serving(r, now_us)) {
        return ST_OK;
    }
    if (r->role == REPLICA_PRIMARY) {
        return ST_BUSY;
    }
    /* An epoch is being entered: wait for what it says. */
    return r->phase == PHASE_ENTERING ? ST_BUSY : ST_NOT_PRIMARY;
}
