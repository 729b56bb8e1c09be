#include "storage/beacon_table.h"

#include "storage/bugs.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct tracked {
    struct beacon_peer peer;
    int64_t lease_end_us;
    uint8_t full; /* enum disk_room of it, by its newest echo */
};

struct row {
    uint32_t tablet;
    uint64_t epoch; /* 0: nothing is echoed or leased */
    struct beacon_primary primary;
    int64_t last_echo_us; /* to any other primary, in any epoch */
    struct tracked tracked[LIMIT_REPLICAS * 2];
    uint32_t tracked_count;
};

struct beacon_table {
    pthread_mutex_t lock;
    int64_t start_us;
    unsigned bugs;
    struct row *rows; /* in order of tablet */
    uint32_t count;
    enum disk_room full; /* this process's disk */
};

struct beacon_table *beacon_table_new(int64_t start_us, unsigned bugs)
{
    struct beacon_table *t = xcalloc(1, sizeof(*t));
    int error = pthread_mutex_init(&t->lock, NULL);
    assert(error == 0);
    t->start_us = start_us;
    t->bugs = bugs;
    return t;
}

void beacon_table_free(struct beacon_table *t)
{
    if (t == NULL) {
        return;
    }
    (void)pthread_mutex_destroy(&t->lock);
    free(t->rows);
    free(t);
}

static void lock(struct beacon_table *t)
{
    int error = pthread_mutex_lock(&t->lock);
    assert(error == 0);
}

static void unlock(struct beacon_table *t)
{
    int error = pthread_mutex_unlock(&t->lock);
    assert(error == 0);
}

/* First row that is not below TABLET. */
static uint32_t place_of(const struct beacon_table *t, uint32_t tablet)
{
    uint32_t low = 0, high = t->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (t->rows[mid].tablet < tablet) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static struct row *find(struct beacon_table *t, uint32_t tablet)
{
    uint32_t i = place_of(t, tablet);
    return i < t->count && t->rows[i].tablet == tablet ? &t->rows[i] : NULL;
}

static struct row *find_or_add(struct beacon_table *t, uint32_t tablet)
{
    uint32_t i = place_of(t, tablet);
    if (i < t->count && t->rows[i].tablet == tablet) {
        return &t->rows[i];
    }
    t->rows = xrealloc(t->rows, (t->count + 1) * sizeof(*t->rows));
    memmove(&t->rows[i + 1], &t->rows[i], (t->count - i) * sizeof(*t->rows));
    t->count++;
    t->rows[i] = (struct row){.tablet = tablet, .last_echo_us = t->start_us};
    return &t->rows[i];
}

static bool holds(const struct replica *list, uint32_t count, struct replica r)
{
    for (uint32_t i = 0; i < count; i++) {
        if (replica_equal(list[i], r)) {
            return true;
        }
    }
    return false;
}

int64_t beacon_table_leave(struct beacon_table *t, uint32_t tablet)
{
    lock(t);
    struct row *r = find_or_add(t, tablet);
    r->epoch = 0;
    r->tracked_count = 0;
    int64_t last = r->last_echo_us;
    unlock(t);
    return last;
}

void beacon_table_enter(struct beacon_table *t, uint32_t tablet, uint64_t epoch,
                        const struct beacon_primary *primary)
{
    lock(t);
    struct row *r = find_or_add(t, tablet);
    r->epoch = epoch;
    r->primary = *primary;
    r->tracked_count = 0;
    unlock(t);
}

static bool is_process(const struct tracked *t, struct replica replica,
                       struct incarnation incarnation)
{
    return incarnation.counter != 0 &&
           replica_equal(t->peer.replica, replica) &&
           incarnation_equal(t->peer.incarnation, incarnation);
}

void beacon_table_track(struct beacon_table *t, uint32_t tablet, uint64_t epoch,
                        const struct beacon_peer *peers, uint32_t count)
{
    assert(count <= LIMIT_REPLICAS * 2);
    lock(t);
    struct row *r = find(t, tablet);
    if (r != NULL && r->epoch == epoch && r->primary.self) {
        struct tracked now[LIMIT_REPLICAS * 2];
        for (uint32_t i = 0; i < count; i++) {
            now[i] = (struct tracked){.peer = peers[i]};
            for (uint32_t k = 0; k < r->tracked_count; k++) {
                if (is_process(&r->tracked[k], peers[i].replica,
                               peers[i].incarnation)) {
                    now[i].lease_end_us = r->tracked[k].lease_end_us;
                    now[i].full = r->tracked[k].full;
                }
            }
        }
        memcpy(r->tracked, now, count * sizeof(now[0]));
        r->tracked_count = count;
    }
    unlock(t);
}

int64_t beacon_table_lease_end(struct beacon_table *t, uint32_t tablet,
                               uint64_t epoch)
{
    int64_t end = 0;
    lock(t);
    struct row *r = find(t, tablet);
    if (r != NULL && r->epoch == epoch && r->primary.self) {
        end = INT64_MAX;
        for (uint32_t i = 0; i < r->tracked_count; i++) {
            if (r->tracked[i].peer.needed && r->tracked[i].lease_end_us < end) {
                end = r->tracked[i].lease_end_us;
            }
        }
    }
    unlock(t);
    return end;
}

int64_t beacon_table_peer_end(struct beacon_table *t, uint32_t tablet,
                              uint64_t epoch, struct replica peer)
{
    int64_t end = 0;
    lock(t);
    struct row *r = find(t, tablet);
    if (r != NULL && r->epoch == epoch && r->primary.self) {
        for (uint32_t i = 0; i < r->tracked_count; i++) {
            if (replica_equal(r->tracked[i].peer.replica, peer)) {
                end = r->tracked[i].lease_end_us;
            }
        }
    }
    unlock(t);
    return end;
}

/* ---- disks ---- */

void beacon_table_set_full(struct beacon_table *t, enum disk_room room)
{
    lock(t);
    t->full = room;
    unlock(t);
}

enum disk_room beacon_table_full(struct beacon_table *t)
{
    lock(t);
    enum disk_room full = t->full;
    unlock(t);
    return full;
}

bool beacon_table_peer_full(struct beacon_table *t, uint32_t tablet,
                            uint64_t epoch, struct replica peer)
{
    bool full = false;
    lock(t);
    struct row *r = find(t, tablet);
    if (r != NULL && r->epoch == epoch) {
        for (uint32_t i = 0; i < r->tracked_count; i++) {
            full = full || (r->tracked[i].full != DISK_HAS_ROOM &&
                            replica_equal(r->tracked[i].peer.replica, peer));
        }
    }
    unlock(t);
    return full;
}

bool beacon_table_lacks_room(struct beacon_table *t, uint32_t tablet,
                             uint64_t epoch, enum disk_room least)
{
    bool lacks = false;
    lock(t);
    struct row *r = find(t, tablet);
    if (r != NULL && r->epoch == epoch) {
        for (uint32_t i = 0; i < r->tracked_count; i++) {
            lacks = lacks ||
                    (r->tracked[i].peer.needed && r->tracked[i].full >= least);
        }
    }
    unlock(t);
    return lacks;
}

/* ---- the beacon thread's side ---- */

uint32_t beacon_table_targets(struct beacon_table *t, struct replica *out,
                              uint32_t max)
{
    uint32_t count = 0;
    lock(t);
    for (uint32_t i = 0; i < t->count; i++) {
        const struct row *r = &t->rows[i];
        for (uint32_t k = 0; k < r->tracked_count && count < max; k++) {
            if (!holds(out, count, r->tracked[k].peer.replica)) {
                out[count++] = r->tracked[k].peer.replica;
            }
        }
    }
    unlock(t);
    return count;
}

uint32_t beacon_table_on_beacon(struct beacon_table *t, struct replica peer,
                                struct incarnation incarnation, int64_t now_us,
                                struct tablet_epoch *out)
{
    uint32_t count = 0;
    lock(t);
    for (uint32_t i = 0; i < t->count && count < LIMIT_TABLETS; i++) {
        struct row *r = &t->rows[i];
        if (r->epoch != 0 && !r->primary.self &&
            replica_equal(r->primary.replica, peer) &&
            incarnation_equal(r->primary.incarnation, incarnation)) {
            out[count++] = (struct tablet_epoch){r->tablet, r->epoch};
            r->last_echo_us = now_us;
        }
    }
    unlock(t);
    return count;
}

void beacon_table_on_echo(struct beacon_table *t, struct replica peer,
                          struct incarnation incarnation,
                          const struct msg_echo *echo, int64_t now_us)
{
    int64_t from = HAS_BUG(t, lease_from_receipt) ? now_us : echo->stamp_us;
    /* A stamp that this clock has not reached is none of ours. */
    if (echo->stamp_us > now_us) {
        return;
    }
    lock(t);
    for (uint32_t i = 0; i < echo->tablets_count; i++) {
        struct row *r = find(t, echo->tablets[i].tablet);
        if (r == NULL || !r->primary.self ||
            r->epoch != echo->tablets[i].epoch) {
            continue;
        }
        for (uint32_t k = 0; k < r->tracked_count; k++) {
            struct tracked *p = &r->tracked[k];
            /* Its end never moves backwards (R9). */
            if (is_process(p, peer, incarnation) &&
                from + LEASE_US > p->lease_end_us) {
                p->lease_end_us = from + LEASE_US;
                p->full = echo->full;
            }
        }
    }
    unlock(t);
}
